//! Where the calls of a server meet one of its writers: lanes behind a lock, and a bell.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    answers::ReturnAddress,
    error::MeteringError,
    lanes::{Batch, Lanes, Pending},
    limits::{ENOUGH_FOR_A_BATCH, MAX_BATCH},
};
use crate::ids::AccountId;

/// An event of a call that waits for its commit.
pub(super) type Call = Pending<ReturnAddress>;

/// The accounts of one writer.
#[derive(Debug, Default)]
pub(super) struct Shard {
    lanes: Mutex<Lanes<ReturnAddress>>,
    bell: Notify,
    /// The writer waits for more events. Changed and read under the lock of the lanes.
    gathers: AtomicBool,
    /// The writer has ended; nothing more is taken.
    closed: AtomicBool,
    /// The database has been away for a while; new usage is refused at once.
    away: AtomicBool,
    /// How many events wait in all shards of this server.
    depth: Gauge,
}

impl Shard {
    /// An empty shard that counts what waits in it.
    pub(super) fn new(depth: Gauge) -> Self {
        Self { depth, ..Self::default() }
    }

    /// Queues an event.
    pub(super) fn submit(&self, pending: Call) -> Result<(), MeteringError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(MeteringError::Unconfirmed);
        }
        let is_due = {
            let mut lanes = self.lanes();
            // Read under the lock: the writer closes under it, when nothing is left.
            if self.closed.load(Ordering::Relaxed) {
                return Err(MeteringError::Stopping);
            }
            lanes.push(pending).map_err(|_| MeteringError::QueueFull)?;
            !self.gathers.load(Ordering::Relaxed) || lanes.len() >= ENOUGH_FOR_A_BATCH
        };
        self.depth.inc();
        if is_due {
            self.bell.notify_one();
        }
        Ok(())
    }

    /// The next batch: whatever is queued, as soon as there is something. `None` when the server
    /// stops and nothing is left.
    pub(super) async fn next_batch(
        &self,
        stopping: &CancellationToken,
    ) -> Option<Batch<ReturnAddress>> {
        loop {
            let due = {
                let mut lanes = self.lanes();
                if let Some(batch) = lanes.take(MAX_BATCH, Instant::now()) {
                    self.depth.dec_by(many(&batch.events));
                    return Some(batch);
                }
                if lanes.is_empty() && stopping.is_cancelled() {
                    self.closed.store(true, Ordering::Relaxed);
                    return None;
                }
                lanes.next_due()
            };
            let rest = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.bell.notified() => {}
                () = rest => {}
                // Once cancelled it stays so: then only what rests is waited for.
                () = stopping.cancelled(), if !stopping.is_cancelled() => {}
            }
        }
    }

    /// Waits until then for more events, unless none waits or there are enough for a batch.
    pub(super) async fn gather(&self, until: Instant) {
        let rest = tokio::time::sleep_until(until);
        tokio::pin!(rest);
        while self.set_gathers(!rest.is_elapsed()) {
            tokio::select! {
                () = self.bell.notified() => {}
                () = &mut rest => {}
            }
        }
    }

    /// Whether the writer gathers, if it wants to.
    fn set_gathers(&self, wanted: bool) -> bool {
        let lanes = self.lanes();
        let gathers = wanted && (1..ENOUGH_FOR_A_BATCH).contains(&lanes.len());
        self.gathers.store(gathers, Ordering::Relaxed);
        gathers
    }

    /// Puts events back that can be posted at once.
    pub(super) fn put_back(&self, events: Vec<Call>) {
        let events = self.returned(events);
        self.lanes().put_back(events);
    }

    /// Puts events back whose accounts somebody else holds.
    pub(super) fn rest(&self, events: Vec<Call>) {
        let events = self.returned(events);
        self.lanes().rest(events, Instant::now());
    }

    fn returned(&self, mut events: Vec<Call>) -> Vec<Call> {
        self.depth.inc_by(many(&events));
        for pending in &mut events {
            pending.answer_to.waits_since = None;
        }
        events
    }

    /// These accounts were posted.
    pub(super) fn rested(&self, accounts: impl Iterator<Item = AccountId>) {
        self.lanes().rested(accounts);
    }

    /// A batch of so many events took so long.
    pub(super) fn posted(&self, events: usize, took: Duration) {
        self.lanes().posted(events, took);
    }

    /// Says whether the database is away.
    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<ReturnAddress>> {
        // Nothing that holds the lock can leave the lanes half changed.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn many(events: &[Call]) -> i64 {
    i64::try_from(events.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::metering::lanes::tests::event;

    const MOMENT: Duration = Duration::from_millis(500);

    fn submit(shard: &Shard, numbers: std::ops::Range<u128>) {
        for number in numbers {
            let event = event(number, number, crate::clock::now()).event;
            let (answer_to, _) = ReturnAddress::here();
            shard.submit(Pending { event, answer_to }).unwrap();
        }
    }

    /// Whether gathering, which may take a minute, has an end when so many events are there at first and
    /// so many more come a moment later.
    async fn ends(first: u128, more: u128) -> bool {
        let shard = Shard::default();
        submit(&shard, 0..first);
        let (gathered, ()) = tokio::join!(
            timeout(MOMENT, shard.gather(Instant::now() + Duration::from_mins(1))),
            async {
                sleep(MOMENT / 10).await;
                submit(&shard, first..first + more);
            }
        );
        gathered.is_ok()
    }

    #[tokio::test]
    async fn a_few_events_wait_for_more_and_no_others_do() {
        let enough = ENOUGH_FOR_A_BATCH as u128;
        assert!(ends(0, 0).await, "whoever comes after it is not waited for");
        assert!(ends(enough, 0).await);
        assert!(ends(1, enough - 1).await);
        assert!(!ends(1, enough - 2).await, "one is missing");
        let (shard, until) = (Shard::default(), Instant::now() + MOMENT);
        submit(&shard, 0..1);
        shard.gather(until).await;
        assert!(Instant::now() >= until);
    }
}
