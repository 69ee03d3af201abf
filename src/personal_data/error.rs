//! Why personal data are neither given out nor erased.

use std::time::Duration;

use thiserror::Error;

use crate::{
    accounts::error::{AccountError, InvalidField},
    database::failure::DatabaseFailure,
    problem::{Problem, ProblemKind},
};

/// Why personal data are neither given out nor erased.
#[derive(Debug, Error)]
pub enum PersonalDataError {
    /// A field of the request is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// The account could not be changed.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
}

impl From<sqlx::Error> for PersonalDataError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl PersonalDataError {
    fn inner(&self) -> &dyn Problem {
        match self {
            Self::Invalid(error) => error,
            Self::Account(error) => error,
            Self::Database(failure) => failure,
        }
    }
}

impl Problem for PersonalDataError {
    fn kind(&self) -> ProblemKind {
        self.inner().kind()
    }

    fn reason(&self) -> &'static str {
        self.inner().reason()
    }

    fn field(&self) -> Option<String> {
        self.inner().field()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.inner().retry_after()
    }
}
