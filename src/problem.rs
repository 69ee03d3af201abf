//! What every error of the domain can tell: what kind it is, a reason a program can match, the
//! field at fault and when to try again. `api::status` is the one place that turns it into a gRPC
//! status; the domain itself knows nothing of gRPC.

use std::{error::Error, time::Duration};

/// What kind of problem it is; each maps to one gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request itself is wrong, whatever the state of the system.
    InvalidArgument,
    /// What it names does not exist.
    NotFound,
    /// It exists already, with different content.
    AlreadyExists,
    /// The state of the system does not allow it now.
    FailedPrecondition,
    /// Somebody else changed the same thing meanwhile; read again and retry.
    Aborted,
    /// A queue or a quota is full; retry later.
    ResourceExhausted,
    /// The caller is not known.
    Unauthenticated,
    /// The caller is known and may not.
    PermissionDenied,
    /// This server has no such call.
    Unimplemented,
    /// Something we need is away; retry later.
    Unavailable,
    /// Our fault. The cause is logged, not shown.
    Internal,
}

/// An error that can be explained to whoever caused it. Its `Display` names the problem and the
/// remedy in a sentence; its sources are for the log alone.
pub trait Problem: Error {
    /// What kind of problem it is.
    fn kind(&self) -> ProblemKind;
    /// The machine-readable reason in capitals, such as `HANDLE_TAKEN`; stable across releases.
    fn reason(&self) -> &'static str;
    /// The request's field at fault, as the contract spells it.
    fn field(&self) -> Option<String> {
        None
    }
    /// When trying again may help.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}
