//! Waiting until a change is effective on every server.
//!
//! Why a server that has heard barrier *n*, or a later one, has heard every change that was
//! committed before *n* was taken:
//!
//! 1. The caller's change is committed before the statement that takes *n* is sent, so its
//!    announcement was queued before that statement commits. The same holds for every number above
//!    *n*: it was taken later.
//! 2. Postgres queues announcements at commit, one transaction after the other, and delivers them
//!    in that order. So whoever hears a barrier of *n* or above was sent the change before it; or
//!    it began to listen between the two, and then it dropped everything after that, before it
//!    heard anything.
//! 3. The listener drops what a change made stale before it takes the next announcement.
//! 4. A row that was being read meanwhile is not kept (`accounts::shelf`), and a request that had
//!    read it before asks again (`authorization::current`).
//!
//! A server may also say *n* because a beat told it the number. The sequence shows a number as soon
//! as it is taken, committed or not; that is late enough, since the change was committed before,
//! and whatever the server reads after it dropped everything, it reads with the change.
//!
//! A server that says nothing may authorize until its last answered beat was sent +
//! [`limits::HEARTBEAT_TTL`]. The database knows of each beat from a moment that is not earlier; so
//! by the time that it judges the deadline to have passed, it has.

use std::time::Duration;

use thiserror::Error;

use super::store;
use crate::{
    authorization::{authorizer::Authorizer, limits},
    clock,
    problem::{Problem, ProblemKind},
};

/// A change is made, but whether all servers know of it is not.
#[derive(Debug, Error)]
#[error(
    "{what}, and this server knows; but not every server could be asked whether it does, so that \
     one may go on for {} seconds. Repeat the call to have it confirmed",
    limits::HEARTBEAT_TTL.as_secs()
)]
pub struct Unconfirmed {
    /// What was done, as the beginning of a sentence.
    what: &'static str,
    #[source]
    cause: Option<sqlx::Error>,
}

impl Problem for Unconfirmed {
    fn kind(&self) -> ProblemKind {
        ProblemKind::Unavailable
    }

    fn reason(&self) -> &'static str {
        "NOT_CONFIRMED_EVERYWHERE"
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(limits::CONFIRM_AGAIN)
    }
}

impl Authorizer {
    /// Returns once no server can act any more on what was in force before the caller's change,
    /// which must be committed: each has heard of it or may not authorize. `what` was done begins
    /// the sentence of the error.
    ///
    /// # Errors
    /// When the database cannot be asked, or a server that goes on beating does not acknowledge.
    pub async fn everywhere(&self, what: &'static str) -> Result<(), Unconfirmed> {
        match tokio::time::timeout(limits::EVERYWHERE_WAIT, self.all_have_heard()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Unconfirmed { what, cause: Some(error) }),
            Err(_) => Err(Unconfirmed { what, cause: None }),
        }
    }

    async fn all_have_heard(&self) -> sqlx::Result<()> {
        let number = store::barrier(&self.database).await?;
        let taken = clock::since_boot();
        let mut pause = limits::FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            let awaited = store::awaited(&self.database, number).await?;
            let waited = clock::since_boot().saturating_sub(taken);
            if awaited.is_empty() {
                tracing::debug!(barrier = number, ?waited, "effective everywhere");
                return Ok(());
            }
            if waited > limits::LATE_ACKNOWLEDGEMENT {
                tracing::debug!(barrier = number, ?waited, ?awaited, "waiting for servers");
            }
            pause = (pause * 2).min(limits::LONGEST_LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_confirmed_says_what_was_done_and_when_to_ask_again() {
        let problem = Unconfirmed { what: "the key is revoked", cause: None };
        let sentence = problem.to_string();
        assert!(sentence.starts_with("the key is revoked"), "{sentence}");
        assert!(sentence.contains("5 seconds. Repeat the call"), "{sentence}");
        assert_eq!(problem.retry_after(), Some(limits::CONFIRM_AGAIN));
    }
}
