//! Why something about accounts and keys is refused.

use std::time::Duration;

use thiserror::Error;

use crate::{
    accounts::{account::AccountStatus, budgets::MAX_BUDGETS, directory::DirectoryError},
    database::failure::{DatabaseFailure, NUMBER_OUT_OF_RANGE, sqlstate},
    ids::{BudgetId, KeyId},
    money::{AMOUNT_LIMIT, Amount},
    problem::{Problem, ProblemKind},
};

/// A field whose value cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// As the contract spells it, such as `contract.address.country_code`.
    pub field: String,
    /// Stable, in capitals.
    pub reason: &'static str,
    /// The problem and the remedy.
    pub problem: String,
}

impl InvalidField {
    pub(crate) fn new(field: &str, reason: &'static str, problem: impl Into<String>) -> Self {
        Self { field: field.to_owned(), reason, problem: problem.into() }
    }
}

impl Problem for InvalidField {
    fn kind(&self) -> ProblemKind {
        ProblemKind::InvalidArgument
    }

    fn reason(&self) -> &'static str {
        self.reason
    }

    fn field(&self) -> Option<String> {
        Some(self.field.clone())
    }
}

/// A balance that keeps an account from being closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outstanding {
    /// The balance's name, as `GetBalance` has it.
    pub balance: &'static str,
    /// How much of it is left, in the account's currency.
    pub amount: Amount,
    /// What brings it to zero.
    pub remedy: &'static str,
}

/// Why something about accounts and keys is refused.
#[derive(Debug, Error)]
pub enum AccountError {
    /// A field of the request is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// No account has this id or handle, or it could not be looked up.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Another account has the handle.
    #[error("handle {0:?} is taken; choose another")]
    HandleTaken(String),
    /// Somebody changed the account since it was read.
    #[error(
        "the account is at version {actual} and no longer at {given}; read it again and apply the \
         change to what it is now"
    )]
    VersionChanged {
        /// The version the caller had read.
        given: i64,
        /// The version it has now.
        actual: i64,
    },
    /// The account's status does not allow it.
    #[error("the account is {status}, which does not allow it; {remedy}")]
    WrongStatus {
        /// What it is.
        status: AccountStatus,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The account cannot be closed yet.
    #[error("the account cannot be closed yet: {}", list(.0))]
    NotSettled(Vec<Outstanding>),
    /// No key has this id.
    #[error("there is no key {0}; list the account's keys to find its id")]
    UnknownKey(KeyId),
    /// The account has no budget of this id.
    #[error("the account has no budget {0}; list its budgets to find the id")]
    UnknownBudget(BudgetId),
    /// The account has as many budgets as it may have.
    #[error(
        "the account has {MAX_BUDGETS} budgets, which is the most; delete one that is not needed"
    )]
    TooManyBudgets,
    /// The key was revoked, which is for good.
    #[error("key {0} is revoked, which is for good; issue a new key instead")]
    KeyRevoked(KeyId),
    /// The key expired, which is for good.
    #[error("key {0} has expired, which is for good; issue a new key instead")]
    KeyExpired(KeyId),
    /// The key has a successor already.
    #[error("key {key} was rotated already and {successor} succeeded it; rotate that one")]
    KeyRotated {
        /// The old key.
        key: KeyId,
        /// Its successor.
        successor: KeyId,
    },
    /// The limit is within bounds, but not together with what the account has.
    #[error(
        "with that credit limit the account's funds would pass the largest amount, {AMOUNT_LIMIT}; \
         give a lower limit"
    )]
    FundsTooLarge,
    /// The operating system has no randomness to make a key of.
    #[error("the operating system has no randomness to make a key of")]
    Randomness(#[from] getrandom::Error),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
}

impl From<sqlx::Error> for AccountError {
    fn from(error: sqlx::Error) -> Self {
        if sqlstate(&error).as_deref() == Some(NUMBER_OUT_OF_RANGE) {
            return Self::FundsTooLarge;
        }
        Self::Database(error.into())
    }
}

fn list(outstanding: &[Outstanding]) -> String {
    let named: Vec<String> = outstanding
        .iter()
        .map(|left| format!("{} is {} ({})", left.balance, left.amount, left.remedy))
        .collect();
    named.join(", ")
}

impl Problem for AccountError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Invalid(invalid) => invalid.kind(),
            Self::Directory(error) => error.kind(),
            Self::HandleTaken(_) => ProblemKind::AlreadyExists,
            Self::VersionChanged { .. } => ProblemKind::Aborted,
            Self::WrongStatus { .. }
            | Self::NotSettled(_)
            | Self::FundsTooLarge
            | Self::TooManyBudgets
            | Self::KeyRevoked(_)
            | Self::KeyExpired(_)
            | Self::KeyRotated { .. } => ProblemKind::FailedPrecondition,
            Self::UnknownKey(_) | Self::UnknownBudget(_) => ProblemKind::NotFound,
            Self::Randomness(_) => ProblemKind::Internal,
            Self::Database(failure) => failure.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(invalid) => invalid.reason,
            Self::Directory(error) => error.reason(),
            Self::HandleTaken(_) => "HANDLE_TAKEN",
            Self::VersionChanged { .. } => "VERSION_CHANGED",
            Self::WrongStatus { status, .. } => match status {
                AccountStatus::Active => "ACCOUNT_ACTIVE",
                AccountStatus::Suspended => "ACCOUNT_SUSPENDED",
                AccountStatus::Closed => "ACCOUNT_CLOSED",
            },
            Self::NotSettled(_) => "ACCOUNT_NOT_SETTLED",
            Self::UnknownKey(_) => "UNKNOWN_KEY",
            Self::UnknownBudget(_) => "UNKNOWN_BUDGET",
            Self::TooManyBudgets => "TOO_MANY_BUDGETS",
            Self::KeyRevoked(_) => "KEY_REVOKED",
            Self::KeyExpired(_) => "KEY_EXPIRED",
            Self::KeyRotated { .. } => "KEY_ROTATED",
            Self::FundsTooLarge => "BALANCE_TOO_LARGE",
            Self::Randomness(_) => "NO_RANDOMNESS",
            Self::Database(failure) => failure.reason(),
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::Invalid(invalid) => invalid.field(),
            Self::Directory(error) => error.field(),
            Self::HandleTaken(_) => Some("handle".to_owned()),
            Self::FundsTooLarge => Some("contract.credit_limit".to_owned()),
            Self::VersionChanged { .. } => Some("version".to_owned()),
            Self::WrongStatus { .. } | Self::NotSettled(_) | Self::TooManyBudgets => {
                Some("account".to_owned())
            }
            Self::UnknownBudget(_) => Some("budget_id".to_owned()),
            Self::UnknownKey(_)
            | Self::KeyRevoked(_)
            | Self::KeyExpired(_)
            | Self::KeyRotated { .. } => Some("key_id".to_owned()),
            Self::Randomness(_) | Self::Database(_) => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Directory(error) => error.retry_after(),
            Self::Database(failure) => failure.retry_after(),
            _ => None,
        }
    }
}
