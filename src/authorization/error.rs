//! Why a call about an authorization has no answer. A denial is not among these: it is an answer.

use std::time::Duration;

use thiserror::Error;

use super::{grant::GrantError, limits};
use crate::{
    accounts::directory::DirectoryError,
    catalog::error::CatalogError,
    database::failure::DatabaseFailure,
    ids::AuthorizationId,
    problem::{Problem, ProblemKind},
};

/// When to ask again while the database is away.
const RETRY_SOON: Duration = Duration::from_millis(500);

/// Why a call about an authorization has no answer.
#[derive(Debug, Error)]
pub enum AuthorizationError {
    /// A field of the request is wrong.
    #[error("{problem}")]
    Invalid {
        /// The field, as the contract spells it.
        field: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The same request id with another content, while the first is outstanding.
    #[error(
        "request_id {0:?} is outstanding with another model or other token counts; give each \
         request an id of its own"
    )]
    RequestIdReused(String),
    /// The grant's token is not valid.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The authorization has expired.
    #[error("authorization {0} has expired and holds nothing any more; authorize the request anew")]
    Expired(AuthorizationId),
    /// The authorization has been settled or cancelled.
    #[error("authorization {0} is settled or cancelled; authorize the request anew")]
    NotOutstanding(AuthorizationId),
    /// Not more than the authorization has.
    #[error("authorization {id} already has {has} output tokens; ask for more than that")]
    NoRise {
        /// Which.
        id: AuthorizationId,
        /// What it has.
        has: u64,
    },
    /// This server has not been heard of by the database, or cannot reach it.
    #[error("the database does not answer; try again")]
    Unavailable,
    /// More is asked for than this server can do, and this account asks for more than its part.
    #[error(
        "this server is asked for more than it can do, and this account for more than its part; try \
         again later, or on another server"
    )]
    Busy,
    /// Too many reservations of all accounts wait for their usage.
    #[error(
        "this server has {} requests under way; record the usage of those that have ended, or ask \
         another server",
        limits::MAX_OUTSTANDING_IN_ALL
    )]
    TooManyOutstanding,
    /// Keys or accounts could not be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Prices could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A statement failed.
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
    /// There is no key that signs grants, or no randomness to make one.
    #[error("grants cannot be signed: {0}")]
    Signing(String),
}

impl From<sqlx::Error> for AuthorizationError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Problem for AuthorizationError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Invalid { .. } | Self::NoRise { .. } => ProblemKind::InvalidArgument,
            Self::RequestIdReused(_) => ProblemKind::AlreadyExists,
            Self::Grant(error) => error.kind(),
            Self::Expired(_) | Self::NotOutstanding(_) => ProblemKind::FailedPrecondition,
            Self::Unavailable => ProblemKind::Unavailable,
            Self::Busy | Self::TooManyOutstanding => ProblemKind::ResourceExhausted,
            Self::Directory(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::Database(failure) => failure.kind(),
            Self::Signing(_) => ProblemKind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "FIELD_INVALID",
            Self::RequestIdReused(_) => "REQUEST_ID_REUSED",
            Self::Grant(error) => error.reason(),
            Self::Expired(_) => "AUTHORIZATION_EXPIRED",
            Self::NotOutstanding(_) => "AUTHORIZATION_NOT_OUTSTANDING",
            Self::NoRise { .. } => "NO_RISE",
            Self::Unavailable => "DATABASE_UNAVAILABLE",
            Self::Busy => "SERVER_BUSY",
            Self::TooManyOutstanding => "TOO_MANY_OUTSTANDING",
            Self::Directory(error) => error.reason(),
            Self::Catalog(error) => error.reason(),
            Self::Database(failure) => failure.reason(),
            Self::Signing(_) => "SIGNING_FAILED",
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::Invalid { field, .. } => Some((*field).to_owned()),
            Self::RequestIdReused(_) => Some("request_id".to_owned()),
            Self::NoRise { .. } => Some("max_output_tokens".to_owned()),
            Self::Grant(error) => error.field(),
            Self::Expired(_) | Self::NotOutstanding(_) => Some("token".to_owned()),
            Self::Directory(error) => error.field(),
            Self::Catalog(error) => error.field(),
            Self::Unavailable
            | Self::Busy
            | Self::TooManyOutstanding
            | Self::Database(_)
            | Self::Signing(_) => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable => Some(RETRY_SOON),
            Self::Busy | Self::TooManyOutstanding => Some(limits::RETRY_WHEN_BUSY),
            Self::Directory(error) => error.retry_after(),
            Self::Catalog(error) => error.retry_after(),
            Self::Database(failure) => failure.retry_after(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_found_no_connection_may_be_sent_again() {
        let error = AuthorizationError::from(sqlx::Error::PoolTimedOut);
        assert_eq!((error.kind(), error.reason()), (ProblemKind::Unavailable, "DATABASE_AWAY"));
        assert!(error.retry_after().is_some());
    }
}
