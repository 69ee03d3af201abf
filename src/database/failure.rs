//! What went wrong when a statement failed, judged by SQLSTATE and never by message text.

use std::time::Duration;

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use thiserror::Error;

use crate::problem::{Problem, ProblemKind};

/// When a caller may try again after the database was away or busy.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// SQLSTATE of a row that a unique index already holds.
pub const UNIQUE_VIOLATION: &str = "23505";
/// SQLSTATE of a number that its column cannot hold.
pub const NUMBER_OUT_OF_RANGE: &str = "22003";
/// SQLSTATE of a transaction that lost a deadlock; running it again helps.
pub const DEADLOCK_DETECTED: &str = "40P01";
/// SQLSTATE of a serializable transaction that must run again.
pub const SERIALIZATION_FAILURE: &str = "40001";
/// SQLSTATE of a lock that was not granted within `lock_timeout`.
pub const LOCK_NOT_AVAILABLE: &str = "55P03";
/// SQLSTATE of a statement that ran beyond `statement_timeout`, or was cancelled.
pub const QUERY_CANCELED: &str = "57014";

/// A statement or a connection failed.
#[derive(Debug, Error)]
pub enum DatabaseFailure {
    /// The database cannot be reached, is starting or stopping, has no connection free, or has
    /// ended the session.
    #[error("the database is away; try again in a moment")]
    Away(#[source] sqlx::Error),
    /// A lock or a statement took longer than it may, or lost a deadlock.
    #[error("the database is too busy with the same rows; try again in a moment")]
    Busy(#[source] sqlx::Error),
    /// As many reports are read as may be at once.
    #[error("too many reports are being read at once; try again in a moment")]
    ReportsBusy,
    /// Anything else: a defect of ours or a damaged database.
    #[error("a statement failed")]
    Broken(#[source] sqlx::Error),
}

impl From<sqlx::Error> for DatabaseFailure {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Away(error),
            _ => match sqlstate(&error).as_deref() {
                Some(
                    LOCK_NOT_AVAILABLE | QUERY_CANCELED | DEADLOCK_DETECTED | SERIALIZATION_FAILURE,
                ) => Self::Busy(error),
                Some(code) if is_away(code) || ends_session(&error) => Self::Away(error),
                _ => Self::Broken(error),
            },
        }
    }
}

impl Problem for DatabaseFailure {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Away(_) => ProblemKind::Unavailable,
            Self::Busy(_) => ProblemKind::Aborted,
            Self::ReportsBusy => ProblemKind::ResourceExhausted,
            Self::Broken(_) => ProblemKind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Away(_) => "DATABASE_AWAY",
            Self::Busy(_) => "DATABASE_BUSY",
            Self::ReportsBusy => "REPORTS_BUSY",
            Self::Broken(_) => "DATABASE_FAILURE",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Away(_) | Self::Busy(_) | Self::ReportsBusy => Some(RETRY_AFTER),
            Self::Broken(_) => None,
        }
    }
}

/// The SQLSTATE of an error that the database itself answered.
#[must_use]
pub fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// The unique index that a row would have violated.
#[must_use]
pub fn violated_unique_index(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().filter(|answer| answer.is_unique_violation())?.constraint()
}

/// Connection exceptions, too few resources, a failing disk, an administrator's shutdown, a read-only
/// standby.
fn is_away(code: &str) -> bool {
    code.starts_with("08")
        || code.starts_with("53")
        || code.starts_with("58")
        || matches!(code, "57P01" | "57P02" | "57P03" | "57P05" | "25006")
}

/// Whether the database ended the session with it. That says nothing about the statement: a full disk
/// ends sessions as an internal error.
fn ends_session(error: &sqlx::Error) -> bool {
    let answer = error.as_database_error().and_then(|answer| answer.try_downcast_ref());
    answer
        .map(PgDatabaseError::severity)
        .is_some_and(|severity| matches!(severity, PgSeverity::Fatal | PgSeverity::Panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_may_be_tried_again_and_a_defect_may_not() {
        let lost = DatabaseFailure::from(sqlx::Error::PoolTimedOut);
        assert_eq!(lost.kind(), ProblemKind::Unavailable);
        assert_eq!(lost.retry_after(), Some(RETRY_AFTER));
        let defect = DatabaseFailure::from(sqlx::Error::RowNotFound);
        assert_eq!(defect.kind(), ProblemKind::Internal);
        assert_eq!(defect.retry_after(), None);
    }
}
