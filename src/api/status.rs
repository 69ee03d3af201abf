//! From a domain's [`Problem`] to what a gRPC caller gets: a code, the sentence, and the
//! `google.rpc` details that programs read. This is the one table from kinds to codes.
//!
//! Every status carries an `ErrorInfo` (reason, domain `tollgate`); a field at fault adds a
//! `BadRequest`, a time to try again a `RetryInfo`. The cause of an internal error goes to the log
//! under the call's request id and nowhere else.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    problem::{Problem, ProblemKind},
    proto,
};

/// The domain of every `ErrorInfo` that Tollgate sends.
pub const ERROR_DOMAIN: &str = "tollgate";

/// What is told of an internal error instead of its cause.
const INTERNAL_MESSAGE: &str =
    "something failed on the server's side; its log has the cause under this call's x-request-id";

/// The gRPC status that explains a problem to the caller.
#[must_use]
pub fn to_status(problem: &impl Problem) -> Status {
    let message = match problem.kind() {
        ProblemKind::Internal => {
            tracing::error!(
                reason = problem.reason(),
                cause = with_sources(problem),
                "a call failed for an internal reason"
            );
            INTERNAL_MESSAGE.to_owned()
        }
        ProblemKind::Unavailable => {
            tracing::warn!(
                reason = problem.reason(),
                cause = with_sources(problem),
                "a call failed because something it needs is away"
            );
            problem.to_string()
        }
        _ => problem.to_string(),
    };
    let mut details = ErrorDetails::with_error_info(problem.reason(), ERROR_DOMAIN, HashMap::new());
    if let Some(field) = problem.field() {
        details.add_bad_request_violation(field, message.clone());
    }
    if let Some(delay) = problem.retry_after() {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(code_of(problem.kind()), message, details)
}

/// [`to_status`] in the shape that `map_err` takes.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
#[must_use]
pub fn refused<P: Problem>(problem: P) -> Status {
    to_status(&problem)
}

/// The same for one item of a stream or batch whose other items are not affected.
#[must_use]
pub fn item_error(problem: &impl Problem) -> proto::ItemError {
    proto::ItemError {
        code: code_of(problem.kind()) as i32,
        reason: problem.reason().to_owned(),
        field: problem.field().unwrap_or_default(),
        message: to_status(problem).message().to_owned(),
    }
}

const fn code_of(kind: ProblemKind) -> Code {
    match kind {
        ProblemKind::InvalidArgument => Code::InvalidArgument,
        ProblemKind::NotFound => Code::NotFound,
        ProblemKind::AlreadyExists => Code::AlreadyExists,
        ProblemKind::FailedPrecondition => Code::FailedPrecondition,
        ProblemKind::Aborted => Code::Aborted,
        ProblemKind::ResourceExhausted => Code::ResourceExhausted,
        ProblemKind::Unauthenticated => Code::Unauthenticated,
        ProblemKind::PermissionDenied => Code::PermissionDenied,
        ProblemKind::Unimplemented => Code::Unimplemented,
        ProblemKind::Unavailable => Code::Unavailable,
        ProblemKind::Internal => Code::Internal,
    }
}

/// The problem's sentence followed by those of its causes that it does not repeat itself.
fn with_sources(problem: &impl Problem) -> String {
    let mut text = problem.to_string();
    let mut source = problem.source();
    while let Some(cause) = source {
        let sentence = cause.to_string();
        if !text.contains(&sentence) {
            text.push_str(": ");
            text.push_str(&sentence);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Trouble {
        #[error("the name is empty; give it one to 200 characters")]
        NoName,
        #[error("the queue is full; try again in a moment")]
        QueueFull,
        #[error("a row would not decode")]
        Broken(#[source] std::fmt::Error),
    }

    impl Problem for Trouble {
        fn kind(&self) -> ProblemKind {
            match self {
                Self::NoName => ProblemKind::InvalidArgument,
                Self::QueueFull => ProblemKind::ResourceExhausted,
                Self::Broken(_) => ProblemKind::Internal,
            }
        }

        fn reason(&self) -> &'static str {
            match self {
                Self::NoName => "NAME_MISSING",
                Self::QueueFull => "QUEUE_FULL",
                Self::Broken(_) => "BROKEN",
            }
        }

        fn field(&self) -> Option<String> {
            matches!(self, Self::NoName).then(|| "name".to_owned())
        }

        fn retry_after(&self) -> Option<Duration> {
            matches!(self, Self::QueueFull).then_some(Duration::from_millis(250))
        }
    }

    #[test]
    fn a_bad_field_is_named_with_its_remedy() {
        let status = to_status(&Trouble::NoName);
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "NAME_MISSING");
        assert_eq!(details.error_info().unwrap().domain, ERROR_DOMAIN);
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, "name");
        assert!(violation.description.contains("give it one"));
    }

    #[test]
    fn a_full_queue_says_when_to_try_again() {
        let details = to_status(&Trouble::QueueFull).get_error_details();
        let delay = details.retry_info().unwrap().retry_delay;
        assert_eq!(delay, Some(Duration::from_millis(250)));
        assert!(details.bad_request().is_none());
    }

    #[test]
    fn the_cause_of_an_internal_error_is_not_shown() {
        let problem = Trouble::Broken(std::fmt::Error);
        let status = refused(problem);
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("decode"));
        assert!(with_sources(&Trouble::Broken(std::fmt::Error)).contains("formatting"));
    }
}
