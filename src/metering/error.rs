//! Why usage is not recorded, said so that whoever sent it can put it right.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use thiserror::Error;

use super::{
    dialect::UsageError,
    limits::{self, MAX_DETAIL, MAX_LABELS},
    quantities::QuantityError,
};
use crate::{
    accounts::directory::DirectoryError,
    authorization::grant::GrantError,
    catalog::{error::CatalogError, rating::RatingError},
    database::failure::{DatabaseFailure, RETRY_AFTER},
    ids::{AccountId, AuthorizationId, KeyId, PriceVersionId},
    problem::{Problem, ProblemKind},
};

/// Why usage could not be recorded or reported.
#[derive(Debug, Error)]
pub enum MeteringError {
    /// The grant token.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The provider's usage object.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// A count.
    #[error(transparent)]
    Quantities(#[from] QuantityError),
    /// A provider's usage object that could be charged and cannot be kept.
    #[error("the usage object cannot be kept: {0}; send what the provider sent")]
    UsageNotKept(&'static str),
    /// A text that is too long or has control characters.
    #[error("{field} may have at most {limit} characters, none of them control characters")]
    Text {
        /// The field.
        field: &'static str,
        /// The named bound.
        limit: usize,
    },
    /// Labels that Authorize would not have taken.
    #[error(
        "labels may be at most {MAX_LABELS}, each of at most {MAX_DETAIL} characters without \
         control characters"
    )]
    Labels,
    /// A latency that no request has.
    #[error("latency is more than a week; give the request's own time")]
    Latency,
    /// Not an id that carries its moment.
    #[error("{0} is not a UUIDv7; make the id of the moment the work was done")]
    NotVersionSeven(AuthorizationId),
    /// An id or a time outside what can be recorded.
    #[error(
        "{field} is of {}, and usage can be recorded from {} until {}",
        shown(.moment), shown(.opens), shown(.closes)
    )]
    OutsideWindow {
        /// The field.
        field: &'static str,
        /// What it says.
        moment: DateTime<Utc>,
        /// The oldest kept partition's beginning.
        opens: DateTime<Utc>,
        /// Five minutes from now.
        closes: DateTime<Utc>,
    },
    /// The authorization expired too long ago.
    #[error(
        "the authorization expired at {}, and its usage was accepted until {}; \
         record it as unauthorized usage if it was never recorded",
        shown(.expired), shown(.accepted_until)
    )]
    TooLate {
        /// When it expired.
        expired: DateTime<Utc>,
        /// Until when usage was accepted.
        accepted_until: DateTime<Utc>,
    },
    /// A grant of a price that this price book does not have.
    #[error("price version {0} is not in the price book; record the usage where it was authorized")]
    UnknownPriceVersion(PriceVersionId),
    /// A model that nobody has heard of.
    #[error("there is no model {0:?}; see ListModels for the names")]
    UnknownModel(String),
    /// A model that was not sold at that moment.
    #[error("{model} had no price for this account at {}; publish one first", shown(.at))]
    Unpriced {
        /// The model's name.
        model: String,
        /// When the work was done.
        at: DateTime<Utc>,
    },
    /// An account that nobody has heard of.
    #[error("there is no account {0}")]
    UnknownAccount(String),
    /// A key of another account, or of nobody.
    #[error("account {account} has no key {key}; give the id of the key the work was done under")]
    UnknownKey {
        /// The account.
        account: AccountId,
        /// The key.
        key: KeyId,
    },
    /// Not an outcome a caller may give.
    #[error("a cancellation is not recorded as usage; call CancelAuthorization instead")]
    CancelledOutcome,
    /// What it costs cannot be computed.
    #[error(transparent)]
    Rating(#[from] RatingError),
    /// The same id was recorded with other content.
    #[error(
        "usage {event} was recorded before with {field} {stored}, and now says {given}; \
         {}",
        if *.cancelled { "its authorization was cancelled: record it as unauthorized usage under \
                         a new id" }
        else { "send it as it was, or reverse it and record the right one under a new id" }
    )]
    Conflict {
        /// The event.
        event: AuthorizationId,
        /// The first field that differs, as the contract spells it.
        field: &'static str,
        /// What is recorded.
        stored: String,
        /// What was sent.
        given: String,
        /// Whether what is recorded is a cancellation.
        cancelled: bool,
    },
    /// Too much is waiting.
    #[error("too much usage is waiting to be written; send it again in a moment")]
    QueueFull,
    /// The database did not confirm in time. The usage may be recorded or not.
    #[error("the database has not confirmed this usage; send it again, which counts once")]
    Unconfirmed,
    /// The server is stopping.
    #[error("this server is stopping; send the usage to another one, or again in a moment")]
    Stopping,
    /// The database refuses the event whatever it is batched with.
    #[error(
        "the database refuses usage {0}; it is kept in quarantined_usage for an operator to look at"
    )]
    Quarantined(AuthorizationId),
    /// A time range that ends before it begins.
    #[error("until is not after from; give an earlier from or a later until")]
    EmptyRange,
    /// A row that the schema should not have let in.
    #[error("usage event {0} in the database cannot be read")]
    Corrupt(AuthorizationId),
    /// The account could not be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The price could not be read or made.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
}

impl From<sqlx::Error> for MeteringError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Problem for MeteringError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Grant(error) => error.kind(),
            Self::Usage(_)
            | Self::Quantities(_)
            | Self::UsageNotKept(_)
            | Self::Text { .. }
            | Self::Labels
            | Self::Latency
            | Self::NotVersionSeven(_)
            | Self::OutsideWindow { .. }
            | Self::CancelledOutcome
            | Self::EmptyRange
            | Self::Rating(_) => ProblemKind::InvalidArgument,
            Self::UnknownModel(_) | Self::UnknownAccount(_) | Self::UnknownKey { .. } => {
                ProblemKind::NotFound
            }
            Self::TooLate { .. } | Self::UnknownPriceVersion(_) | Self::Unpriced { .. } => {
                ProblemKind::FailedPrecondition
            }
            Self::Conflict { .. } => ProblemKind::AlreadyExists,
            Self::QueueFull => ProblemKind::ResourceExhausted,
            Self::Unconfirmed | Self::Stopping => ProblemKind::Unavailable,
            Self::Quarantined(_) | Self::Corrupt(_) => ProblemKind::Internal,
            Self::Directory(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::Database(failure) => failure.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Grant(error) => error.reason(),
            Self::Usage(_) => "PROVIDER_USAGE_UNREADABLE",
            Self::Quantities(_) | Self::Rating(_) => "QUANTITIES_OUT_OF_RANGE",
            Self::UsageNotKept(_) => "PROVIDER_USAGE_NOT_KEPT",
            Self::Text { .. } => "INVALID_TEXT",
            Self::Labels => "INVALID_LABELS",
            Self::Latency => "INVALID_LATENCY",
            Self::NotVersionSeven(_) => "EVENT_ID_NOT_UUIDV7",
            Self::OutsideWindow { .. } => "OUTSIDE_USAGE_WINDOW",
            Self::TooLate { .. } => "USAGE_TOO_LATE",
            Self::UnknownPriceVersion(_) => "PRICE_VERSION_NOT_FOUND",
            Self::UnknownModel(_) => "MODEL_NOT_FOUND",
            Self::Unpriced { .. } => "MODEL_UNPRICED",
            Self::UnknownAccount(_) => "ACCOUNT_NOT_FOUND",
            Self::UnknownKey { .. } => "KEY_NOT_FOUND",
            Self::CancelledOutcome => "CANCELLED_OUTCOME",
            Self::Conflict { .. } => "USAGE_CONFLICT",
            Self::QueueFull => "USAGE_QUEUE_FULL",
            Self::Unconfirmed => "USAGE_UNCONFIRMED",
            Self::Stopping => "SERVER_STOPPING",
            Self::Quarantined(_) => "USAGE_QUARANTINED",
            Self::EmptyRange => "EMPTY_RANGE",
            Self::Corrupt(_) => "USAGE_DAMAGED",
            Self::Directory(error) => error.reason(),
            Self::Catalog(error) => error.reason(),
            Self::Database(failure) => failure.reason(),
        }
    }

    fn field(&self) -> Option<String> {
        let field = match self {
            Self::Grant(error) => return error.field(),
            Self::Quantities(error) | Self::Rating(RatingError::Quantities(error)) => {
                return Some(format!("quantities.{}", error.field));
            }
            Self::Usage(_) | Self::UsageNotKept(_) => "provider_usage.json",
            Self::Text { field, .. }
            | Self::OutsideWindow { field, .. }
            | Self::Conflict { field, .. } => field,
            Self::Latency => "latency",
            Self::NotVersionSeven(_) => "unauthorized.event_id",
            Self::Labels | Self::TooLate { .. } | Self::UnknownPriceVersion(_) => "token",
            Self::UnknownModel(_) | Self::Unpriced { .. } => "unauthorized.model",
            Self::UnknownAccount(_) => "unauthorized.account",
            Self::UnknownKey { .. } => "unauthorized.key_id",
            Self::CancelledOutcome => "outcome",
            Self::EmptyRange => "until",
            _ => return None,
        };
        Some(field.to_owned())
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull => Some(limits::QUEUE_RETRY_AFTER),
            Self::Unconfirmed | Self::Stopping => Some(RETRY_AFTER),
            Self::Directory(error) => error.retry_after(),
            Self::Catalog(error) => error.retry_after(),
            Self::Database(failure) => failure.retry_after(),
            _ => None,
        }
    }
}

fn shown(moment: &DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}
