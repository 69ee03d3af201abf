//! What can go wrong at the command line, how it is told, and the exit code it ends with.
//!
//! Every message says what is wrong, which field or flag is at fault and what to do. The exit
//! codes follow `sysexits.h`: 64 for a wrong call, 69 for a server that is away, 77 for a caller
//! who may not, 1 for everything else.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The command was called wrongly (`EX_USAGE`).
const EXIT_USAGE: u8 = 64;
/// No server answers, or it cannot work at the moment (`EX_UNAVAILABLE`).
const EXIT_UNAVAILABLE: u8 = 69;
/// The caller is not known or may not (`EX_NOPERM`).
const EXIT_PERMISSION: u8 = 77;
/// Everything else.
const EXIT_FAILURE: u8 = 1;

/// Why a command did not do what it was asked to.
#[derive(Debug, Error)]
pub enum CliError {
    /// A flag or an argument that cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers at the endpoint.
    #[error("no server answers at {endpoint}: {cause}")]
    Unreachable {
        /// The endpoint that was tried.
        endpoint: String,
        /// What the connection attempt said.
        cause: String,
    },
    /// The server's answer was an error.
    #[error("{}", said(.0))]
    Refused(Box<Status>),
    /// A file that cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: String,
        /// What the operating system said.
        cause: io::Error,
    },
    /// Our own output could not be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// The command ran and its result is bad news, or an answer could not be understood.
    #[error("{0}")]
    Failed(String),
    /// The bad news has been printed already.
    #[error("")]
    Told,
}

impl CliError {
    /// A wrong call, in a sentence with its remedy.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// A failure, in a sentence with its remedy.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// A file that cannot be read or written.
    #[must_use]
    pub fn file(path: &std::path::Path, cause: io::Error) -> Self {
        Self::File { path: path.display().to_string(), cause }
    }

    /// What the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        // A reader that has seen enough (`| head`) is no failure.
        if self.is_closed_pipe() {
            return ExitCode::SUCCESS;
        }
        ExitCode::from(match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Unreachable { .. } => EXIT_UNAVAILABLE,
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument => EXIT_USAGE,
                Code::Unavailable => EXIT_UNAVAILABLE,
                Code::PermissionDenied | Code::Unauthenticated => EXIT_PERMISSION,
                _ => EXIT_FAILURE,
            },
            Self::File { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
                EXIT_PERMISSION
            }
            Self::File { .. } | Self::Output(_) | Self::Failed(_) | Self::Told => EXIT_FAILURE,
        })
    }

    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Tells it: the problem in the first line, then the field, the reason and what to do.
    pub fn explain(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_closed_pipe() || matches!(self, Self::Told) {
            return Ok(());
        }
        writeln!(out, "\u{1b}[1;31merror:\u{1b}[0m {}", plain(&self.to_string()))?;
        match self {
            Self::Unreachable { .. } => {
                writeln!(out, "  start one:     tollgate serve")?;
                writeln!(out, "  or name it:    --endpoint URL, or TOLLGATE_ENDPOINT")
            }
            Self::Refused(status) => explain_status(status, out),
            Self::Usage(_) => writeln!(out, "  help:   add --help to the command"),
            Self::File { .. } | Self::Output(_) | Self::Failed(_) | Self::Told => Ok(()),
        }
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// What the server says, or at least what kind of answer it is.
fn said(status: &Status) -> &str {
    if status.message().is_empty() { status.code().description() } else { status.message() }
}

fn explain_status(status: &Status, out: &mut dyn Write) -> io::Result<()> {
    let details = status.get_error_details();
    if let Some(bad_request) = details.bad_request() {
        for violation in &bad_request.field_violations {
            writeln!(out, "  field:  {}", plain(&violation.field))?;
            let said = violation.description.trim();
            if !said.is_empty() && said != status.message() {
                writeln!(out, "          {}", plain(said))?;
            }
        }
    }
    match details.error_info() {
        Some(info) => writeln!(out, "  reason: {}", plain(&info.reason))?,
        None => writeln!(out, "  status: {:?}", status.code())?,
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        writeln!(out, "  retry:  after {} ms", delay.as_millis())?;
    }
    match status.code() {
        Code::Unauthenticated => {
            writeln!(out, "  token:  pass --token or TOLLGATE_TOKEN, or name the server's data")?;
            writeln!(out, "          directory with --data-dir, where operator.jwt lies")
        }
        Code::PermissionDenied => {
            writeln!(out, "  token:  use one of a role that may; `tollgate token` makes them")
        }
        Code::Unimplemented => {
            writeln!(out, "  server: it does not know this call; is it of the same version?")
        }
        _ => Ok(()),
    }
}

/// Control characters of a text from elsewhere must not reach the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn told(error: &CliError) -> String {
        let mut out = Vec::new();
        error.explain(&mut out).unwrap();
        anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string()
    }

    #[test]
    fn a_status_is_told_with_its_field_its_reason_and_when_to_try_again() {
        let mut details = ErrorDetails::new();
        details.set_error_info("HANDLE_MALFORMED", "tollgate", []);
        details.add_bad_request_violation("handle", "must begin with a letter");
        details.set_retry_info(Some(std::time::Duration::from_millis(250)));
        let message = "the handle \"7\" cannot be used; begin it with a letter";
        let status = Status::with_error_details(Code::InvalidArgument, message, details);

        let error = CliError::from(status);
        let text = told(&error);
        assert!(
            text.starts_with("error: the handle \"7\" cannot be used; begin it with a letter\n")
        );
        assert!(text.contains("  field:  handle\n          must begin with a letter\n"), "{text}");
        assert!(text.contains("  reason: HANDLE_MALFORMED\n"), "{text}");
        assert!(text.contains("  retry:  after 250 ms\n"), "{text}");
        assert_eq!(error.exit_code(), ExitCode::from(64));
    }

    #[test]
    fn each_kind_of_failure_has_the_exit_code_that_scripts_know() {
        let unreachable =
            CliError::Unreachable { endpoint: "http://x".into(), cause: "refused".into() };
        assert_eq!(unreachable.exit_code(), ExitCode::from(69));
        assert!(told(&unreachable).contains("tollgate serve"));
        let code = |code| CliError::from(Status::new(code, "")).exit_code();
        assert_eq!(code(Code::Unavailable), ExitCode::from(69));
        assert_eq!(code(Code::PermissionDenied), ExitCode::from(77));
        assert_eq!(code(Code::Unauthenticated), ExitCode::from(77));
        assert_eq!(code(Code::NotFound), ExitCode::from(1));
        assert_eq!(CliError::usage("").exit_code(), ExitCode::from(64));
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure_and_nothing_is_said() {
        let error = CliError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(error.exit_code(), ExitCode::SUCCESS);
        assert_eq!(told(&error), "");
    }

    #[test]
    fn what_a_server_says_cannot_move_the_cursor() {
        let error = CliError::from(Status::new(Code::NotFound, "no \u{1b}[2Jaccount"));
        assert!(!told(&error).contains('\u{1b}'));
        let mut raw = Vec::new();
        error.explain(&mut raw).unwrap();
        assert!(!String::from_utf8(raw).unwrap().contains("\u{1b}[2J"));
    }
}
