//! Why billing refuses something.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use thiserror::Error;

use crate::{
    accounts::error::{AccountError, InvalidField},
    billing::settlement::SettlementError,
    catalog::error::CatalogError,
    database::failure::{DatabaseFailure, RETRY_AFTER},
    ledger::error::LedgerError,
    money::Amount,
    problem::{Problem, ProblemKind},
};

/// Why no document was made, or none could be read.
#[derive(Debug, Error)]
pub enum BillingError {
    /// A field of the request is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// Nobody has said who we are.
    #[error("the seller is not set, and documents need one; `tollgate seller set` sets it")]
    SellerNotSet,
    /// Asked who we are, before anybody has said so.
    #[error("the seller is not set yet; `tollgate seller set` sets it")]
    NoSeller,
    /// The month can still have usage that was authorized within it.
    #[error(
        "period {} can be closed from {} on: usage that was authorized in it may arrive until then",
        .period.format("%Y-%m"), .from.to_rfc3339()
    )]
    PeriodNotOver {
        /// The month.
        period: NaiveDate,
        /// From when on it can be closed.
        from: DateTime<Utc>,
    },
    /// Another closing is running.
    #[error("another closing is running; try again when it is done")]
    ClosingRuns,
    /// A final invoice is asked for an account that can go on working.
    #[error(
        "account {0} is not suspended, and can use more after its final invoice; suspend it first"
    )]
    NotSuspended(String),
    /// A final invoice is asked for while something is authorized.
    #[error(
        "{held} of account {account} is authorized and not settled; wait until it is recorded, \
         cancelled or lapsed"
    )]
    StillAuthorized {
        /// The account's handle.
        account: String,
        /// What servers hold of its funds, in its currency.
        held: Amount,
    },
    /// The account has nothing to bill.
    #[error("account {account} has no usage to bill in {}; give another period", .period.format("%Y-%m"))]
    NothingToBill {
        /// The account's handle.
        account: String,
        /// The month.
        period: NaiveDate,
    },
    /// The account's month is closed.
    #[error("{} of account {account} is closed; `tollgate invoice list` shows its document", .period.format("%Y-%m"))]
    PeriodClosed {
        /// The account's handle.
        account: String,
        /// The month.
        period: NaiveDate,
    },
    /// No such document, or not this tenant's.
    #[error("there is no document {0:?}; `tollgate invoice list` shows them")]
    UnknownDocument(String),
    /// Sums beyond the largest amount.
    #[error("the sums of the document are beyond the largest amount")]
    TooLarge,
    /// Usage, prices and transfers contradict each other.
    #[error("the books do not agree: {0}; run ledger verify")]
    Inconsistent(String),
    /// The payment, credit note or write-off does not fit.
    #[error(transparent)]
    Settlement(#[from] SettlementError),
    /// The books refuse it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The account could not be read.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A price could not be read.
    #[error(transparent)]
    Prices(#[from] CatalogError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
}

impl From<sqlx::Error> for BillingError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Problem for BillingError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Invalid(_) => ProblemKind::InvalidArgument,
            Self::SellerNotSet
            | Self::PeriodNotOver { .. }
            | Self::PeriodClosed { .. }
            | Self::NotSuspended(_)
            | Self::StillAuthorized { .. } => ProblemKind::FailedPrecondition,
            Self::ClosingRuns => ProblemKind::Aborted,
            Self::NoSeller | Self::NothingToBill { .. } | Self::UnknownDocument(_) => {
                ProblemKind::NotFound
            }
            Self::TooLarge | Self::Inconsistent(_) => ProblemKind::Internal,
            Self::Settlement(error) => error.kind(),
            Self::Ledger(error) => error.kind(),
            Self::Account(error) => error.kind(),
            Self::Prices(error) => error.kind(),
            Self::Database(failure) => failure.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(invalid) => invalid.reason,
            Self::SellerNotSet | Self::NoSeller => "SELLER_NOT_SET",
            Self::PeriodNotOver { .. } => "PERIOD_NOT_OVER",
            Self::PeriodClosed { .. } => "PERIOD_CLOSED",
            Self::ClosingRuns => "CLOSING_RUNS",
            Self::NotSuspended(_) => "ACCOUNT_NOT_SUSPENDED",
            Self::StillAuthorized { .. } => "ACCOUNT_STILL_AUTHORIZED",
            Self::NothingToBill { .. } => "NOTHING_TO_BILL",
            Self::UnknownDocument(_) => "DOCUMENT_NOT_FOUND",
            Self::TooLarge => "DOCUMENT_TOO_LARGE",
            Self::Inconsistent(_) => "BOOKS_INCONSISTENT",
            Self::Settlement(error) => error.reason(),
            Self::Ledger(error) => error.reason(),
            Self::Account(error) => error.reason(),
            Self::Prices(error) => error.reason(),
            Self::Database(failure) => failure.reason(),
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::Invalid(invalid) => invalid.field(),
            Self::PeriodNotOver { .. } | Self::PeriodClosed { .. } | Self::NothingToBill { .. } => {
                Some("period".to_owned())
            }
            Self::NotSuspended(_) | Self::StillAuthorized { .. } => Some("account".to_owned()),
            Self::UnknownDocument(_) => Some("invoice".to_owned()),
            Self::Settlement(error) => error.field(),
            Self::Ledger(error) => error.field(),
            Self::Account(error) => error.field(),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::ClosingRuns => Some(RETRY_AFTER),
            Self::Ledger(error) => error.retry_after(),
            Self::Database(failure) => failure.retry_after(),
            _ => None,
        }
    }
}
