//! What this server has heard, and how the others know of it.
//!
//! A barrier is a number that is taken and announced after a change was committed; `everywhere`
//! waits until every server that may authorize has heard it. Here is the other side: this server
//! notes each barrier that its listener brings and says so with a beat of its own, at once. The
//! beat is also the second way: it brings the number of the last barrier, and a listener that does
//! not catch up with it is cut or has fallen silent, so that this server drops everything it holds
//! in memory, which is as good as having heard.
//!
//! | what | it takes |
//! |---|---|
//! | a listener that works | an announcement, a beat, a look: milliseconds |
//! | a listener that is cut | [`limits::HEARTBEAT_INTERVAL`] + [`limits::LISTENER_CATCHES_UP`] |
//! | a server that is cut off or frozen | until its heartbeat's deadline |

pub mod everywhere;
mod store;

use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{authorizer::Authorizer, limits, store as leases};
use crate::clock;

/// The last barrier that this server has heard.
#[derive(Debug)]
pub(super) struct Heard {
    number: watch::Sender<i64>,
    /// How often everything in memory was dropped because the listener had not caught up.
    missed: watch::Sender<u64>,
    /// There is something to say: the next beat goes at once.
    news: Notify,
}

impl Heard {
    /// A server that begins, with nothing in memory, has heard whatever was committed by then.
    pub(super) fn from(number: i64) -> Self {
        Self {
            number: watch::Sender::new(number),
            missed: watch::Sender::new(0),
            news: Notify::new(),
        }
    }

    fn number(&self) -> i64 {
        *self.number.borrow()
    }

    fn note(&self, number: i64) {
        let newer = self.number.send_if_modified(|heard| {
            let newer = number > *heard;
            *heard = (*heard).max(number);
            newer
        });
        if newer {
            self.news.notify_one();
        }
    }

    /// Whether the listener brings this barrier within a moment.
    async fn catches_up(&self, number: i64) -> bool {
        let mut heard = self.number.subscribe();
        let hearing = heard.wait_for(|heard| *heard >= number);
        matches!(tokio::time::timeout(limits::LISTENER_CATCHES_UP, hearing).await, Ok(Ok(_)))
    }
}

impl Authorizer {
    /// The listener heard a barrier, and has dropped whatever was announced before it.
    pub fn heard(&self, barrier: i64) {
        self.heard.note(barrier);
    }

    /// Changes each time that everything in memory was dropped because announcements were missed:
    /// who holds anything else that is announced reads it again.
    #[must_use]
    pub fn missed(&self) -> watch::Receiver<u64> {
        self.heard.missed.subscribe()
    }

    /// Beats until told to stop, or until this server was removed.
    pub(super) async fn beat_until(&self, database: &PgPool, stopping: CancellationToken) {
        let mut connection = None;
        let mut ticks = tokio::time::interval(limits::HEARTBEAT_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.heard.news.notified() => {}
                () = stopping.cancelled() => return,
            }
            if connection.is_none() {
                connection = leases::connect(database, limits::LEASE_LOCK_TIMEOUT).await;
            }
            let Some(open) = &mut connection else { continue };
            match self.beat(open).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::error!(
                        instance = %self.instance,
                        "this server was silent for so long that the others removed it; it drains \
                         and must be started again"
                    );
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the heartbeat was not answered");
                    connection = None;
                }
            }
        }
    }

    /// One beat; whether the database still knows this server.
    pub(super) async fn beat(&self, connection: &mut PgConnection) -> sqlx::Result<bool> {
        let sent = clock::since_boot();
        let beating = store::heartbeat(connection, self.instance, self.heard.number());
        let Some(beat) = leases::patiently(beating).await? else {
            self.heartbeat.removed();
            return Ok(false);
        };
        let received = clock::since_boot();
        self.catch_up(beat.barrier).await;
        self.heartbeat.count(beat.live_servers);
        self.heartbeat.answered(sent, received, beat.at);
        Ok(true)
    }

    /// What must be so before a beat's answer lets this server authorize for longer.
    ///
    /// Every change that barrier `last` stands for is dropped from memory. And a server whose
    /// deadline has passed drops everything, whatever `last` says: somebody may have stopped
    /// waiting for it after this beat read `last` and before the beat was committed. While the
    /// deadline has not passed nobody has, since what the database knows of a beat is never earlier
    /// than what this server knows of it.
    async fn catch_up(&self, last: i64) {
        let behind = last > self.heard.number() && !self.heard.catches_up(last).await;
        if behind {
            tracing::warn!(
                barrier = last,
                "the change listener has missed something; everything in memory is read again"
            );
        }
        if behind || !self.heartbeat.allows() {
            self.directory.invalidate_all();
            self.heard.missed.send_modify(|times| *times = times.wrapping_add(1));
            self.heard.note(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_older_barrier_changes_nothing_and_a_newer_one_is_said_at_once() {
        let heard = Heard::from(7);
        heard.note(6);
        assert_eq!(heard.number(), 7);
        let said = tokio::time::timeout(limits::LISTENER_CATCHES_UP, heard.news.notified()).await;
        assert!(said.is_err(), "there was nothing to say");
        heard.note(9);
        heard.note(8);
        assert_eq!(heard.number(), 9);
        heard.news.notified().await;
    }

    #[tokio::test]
    async fn a_listener_catches_up_or_has_missed_something() {
        let heard = Heard::from(1);
        assert!(!heard.catches_up(2).await);
        let (caught_up, ()) = tokio::join!(heard.catches_up(2), async { heard.note(3) });
        assert!(caught_up);
    }
}
