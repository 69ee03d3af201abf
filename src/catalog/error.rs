//! What can go wrong with the price book, said so that whoever caused it can put it right.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use thiserror::Error;

use crate::{
    catalog::{price::PriceError, rating::RatingError},
    database::failure::DatabaseFailure,
    ids::PriceVersionId,
    money::Currency,
    problem::{Problem, ProblemKind},
};

/// Why the price book could not do what was asked.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// A field of the request cannot be taken.
    #[error("{field}: {problem}")]
    Field {
        /// The field's path, such as `prices[3].rates.input`.
        field: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// More records than one publication may have.
    #[error("{count} {what} in one call; publish at most {limit} at once")]
    TooMany {
        /// The field that holds them.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// The named bound.
        limit: usize,
    },
    /// The book has another price for the same model, currency, account and moment.
    #[error(
        "prices[{index}] ({model}): there is a different {differs} in {currency} from {} on, \
         price version {existing}; a price is never edited, publish the new one with a later \
         effective_from",
        moment(effective_from)
    )]
    PriceConflict {
        /// The record's place in the publication.
        index: usize,
        /// The model's name.
        model: String,
        /// The currency of both.
        currency: Currency,
        /// The moment from which both would hold.
        effective_from: DateTime<Utc>,
        /// The version that is there.
        existing: PriceVersionId,
        /// `price` or `cost`.
        differs: &'static str,
    },
    /// Somebody else published the same at the same time.
    #[error("prices were published by somebody else at the same time; try again")]
    Concurrent,
    /// Nobody has heard of this model.
    #[error("there is no model {name:?}; see ListModels for the names")]
    ModelNotFound {
        /// The request's field that names it.
        field: &'static str,
        /// The name, shortened.
        name: String,
    },
    /// The model is not sold at that moment.
    #[error("{model} has no price in {currency} at {}; publish one first", moment(at))]
    Unpriced {
        /// The model's name.
        model: String,
        /// The currency asked for.
        currency: Currency,
        /// The moment asked for.
        at: DateTime<Utc>,
    },
    /// Counts that no request can have.
    #[error(transparent)]
    Rating(#[from] RatingError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
    /// A row that the schema should not have let in.
    #[error("price version {version} in the database is not a price")]
    Corrupt {
        /// The row.
        version: PriceVersionId,
        /// What is wrong with it.
        source: PriceError,
    },
    /// A model's row that the schema should not have let in.
    #[error("model {0} in the database is not a model")]
    CorruptModel(String),
}

impl From<sqlx::Error> for CatalogError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Problem for CatalogError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Field { .. } | Self::TooMany { .. } | Self::Rating(_) => {
                ProblemKind::InvalidArgument
            }
            Self::PriceConflict { .. } => ProblemKind::AlreadyExists,
            Self::Concurrent => ProblemKind::Aborted,
            Self::ModelNotFound { .. } => ProblemKind::NotFound,
            Self::Unpriced { .. } => ProblemKind::FailedPrecondition,
            Self::Database(failure) => failure.kind(),
            Self::Corrupt { .. } | Self::CorruptModel(_) => ProblemKind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Field { .. } => "INVALID_FIELD",
            Self::TooMany { .. } => "TOO_MANY_RECORDS",
            Self::PriceConflict { .. } => "PRICE_CONFLICT",
            Self::Concurrent => "CONCURRENT_PUBLICATION",
            Self::ModelNotFound { .. } => "MODEL_NOT_FOUND",
            Self::Unpriced { .. } => "MODEL_UNPRICED",
            Self::Rating(_) => "QUANTITIES_OUT_OF_RANGE",
            Self::Database(failure) => failure.reason(),
            Self::Corrupt { .. } | Self::CorruptModel(_) => "PRICE_BOOK_DAMAGED",
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::Field { field, .. } => Some(field.clone()),
            Self::TooMany { what, .. } => Some((*what).to_owned()),
            Self::PriceConflict { index, .. } => Some(format!("prices[{index}]")),
            Self::ModelNotFound { field, .. } => Some((*field).to_owned()),
            Self::Unpriced { .. } => Some("model".to_owned()),
            Self::Rating(RatingError::Quantities(error)) => {
                Some(format!("quantities.{}", error.field))
            }
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Database(failure) => failure.retry_after(),
            _ => None,
        }
    }
}

fn moment(at: &DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
