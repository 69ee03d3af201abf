//! Attempts at a change that were denied or failed. They are written behind the call, so that nobody
//! waits for them, and within bounds, so that whoever floods the server with them fills neither the
//! table nor memory: of each caller and minute the first [`PER_CALLER`] are written, of all callers
//! together [`PER_MINUTE`]; the others are counted, and each minute ends with one row for each
//! caller that says how many they were.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use tokio::sync::mpsc;

use super::{Entry, store};
use crate::tasks::Tasks;

/// Of one caller in a minute: more than a person's slips, fewer than a script's.
pub const PER_CALLER: i64 = 20;
/// Of all callers together in a minute: at most about a million rows a day, whoever comes.
pub const PER_MINUTE: i64 = 600;
/// Callers that are told apart in a minute; all that come after are counted as one.
const CALLERS: usize = 500;
/// Entries that wait to be written: a minute's worth.
const QUEUE: usize = 600;
/// How often counts are begun anew.
const MINUTE: Duration = Duration::from_mins(1);

/// Takes attempts down. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Attempts {
    counts: Arc<Mutex<Counts>>,
    sender: mpsc::Sender<Entry>,
}

/// Writes what [`Attempts`] took down.
#[derive(Debug)]
pub struct AttemptWriter {
    counts: Arc<Mutex<Counts>>,
    receiver: mpsc::Receiver<Entry>,
}

/// Both ends.
#[must_use]
pub fn channel() -> (Attempts, AttemptWriter) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let counts = Arc::new(Mutex::new(Counts::default()));
    (Attempts { counts: Arc::clone(&counts), sender }, AttemptWriter { counts, receiver })
}

impl Attempts {
    /// Takes an attempt down. `make` is asked for the whole of it only if it is to be written;
    /// `summary` is what its caller's row of suppressed attempts says of the last one.
    pub fn note(
        &self,
        caller: &str,
        summary: impl FnOnce() -> Entry,
        make: impl FnOnce() -> Entry,
    ) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if !counts.admits(caller) {
            counts.suppress(caller, summary);
            return;
        }
        drop(counts);
        // Where the queue is full the database is away, and the log has said so.
        if self.sender.try_send(make()).is_err() {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.suppress(caller, summary);
        }
    }
}

impl AttemptWriter {
    /// Writes until the server stops, and what is left then.
    pub fn keep(mut self, pool: PgPool, tasks: &Tasks) {
        let stopping = tasks.stopping();
        tasks.spawn("audit of attempts", async move {
            let mut minutes = tokio::time::interval(MINUTE);
            minutes.tick().await;
            loop {
                tokio::select! {
                    entry = self.receiver.recv() => match entry {
                        Some(entry) => write(&pool, entry).await,
                        None => break,
                    },
                    _ = minutes.tick() => self.end_minute(&pool).await,
                    () = stopping.cancelled() => break,
                }
            }
            while let Ok(entry) = self.receiver.try_recv() {
                write(&pool, entry).await;
            }
            self.end_minute(&pool).await;
        });
    }

    async fn end_minute(&self, pool: &PgPool) {
        let counts = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *counts)
        };
        for entry in counts.suppressed() {
            write(pool, entry).await;
        }
    }
}

async fn write(pool: &PgPool, entry: Entry) {
    let (rpc, actor, code) = (entry.rpc.clone(), entry.actor.clone(), entry.code.clone());
    let written = async { store::insert(&mut *pool.acquire().await?, entry).await };
    if let Err(error) = written.await {
        tracing::warn!(%error, rpc, actor, code, "an attempt is not in the audit trail");
    }
}

/// What came within a minute.
#[derive(Debug, Default)]
struct Counts {
    written: i64,
    callers: HashMap<String, Count>,
    /// Of callers beyond [`CALLERS`].
    others: Count,
}

#[derive(Debug, Default)]
struct Count {
    written: i64,
    suppressed: i64,
    last: Entry,
}

impl Counts {
    /// Whether one more is written.
    fn admits(&mut self, caller: &str) -> bool {
        if self.written >= PER_MINUTE || self.of(caller).written >= PER_CALLER {
            return false;
        }
        self.written += 1;
        self.of(caller).written += 1;
        true
    }

    fn suppress(&mut self, caller: &str, summary: impl FnOnce() -> Entry) {
        let count = self.of(caller);
        if count.suppressed == 0 {
            count.last = summary();
        }
        count.suppressed += 1;
    }

    fn of(&mut self, caller: &str) -> &mut Count {
        if !self.callers.contains_key(caller) && self.callers.len() >= CALLERS {
            return &mut self.others;
        }
        self.callers.entry(caller.to_owned()).or_default()
    }

    /// One entry for each caller of whom some were not written.
    fn suppressed(self) -> impl Iterator<Item = Entry> {
        let counts = self.callers.into_values().chain([self.others]);
        counts
            .filter(|count| count.suppressed > 0)
            .map(|count| Entry { suppressed: count.suppressed, ..count.last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(actor: &str) -> Entry {
        Entry { actor: actor.to_owned(), ..Entry::default() }
    }

    #[test]
    fn a_flood_of_one_caller_is_counted_and_another_is_still_written() {
        let mut counts = Counts::default();
        for _ in 0..1000 {
            if !counts.admits("mallory") {
                counts.suppress("mallory", || of("mallory"));
            }
        }
        assert!(counts.admits("alice"));
        let rows: Vec<_> = counts.suppressed().map(|row| (row.actor, row.suppressed)).collect();
        assert_eq!(rows, [("mallory".to_owned(), 1000 - PER_CALLER)]);
    }

    #[test]
    fn a_flood_of_many_callers_is_bounded_as_a_whole_and_none_is_lost_from_the_count() {
        let mut counts = Counts::default();
        let mut written = 0;
        for number in 0..5_000 {
            let caller = number.to_string();
            if counts.admits(&caller) {
                written += 1;
            } else {
                counts.suppress(&caller, || of(&caller));
            }
        }
        let rows: Vec<_> = counts.suppressed().collect();
        assert!(written <= PER_MINUTE && rows.len() <= CALLERS + 1, "{written} {}", rows.len());
        assert_eq!(written + rows.iter().map(|row| row.suppressed).sum::<i64>(), 5_000);
    }

    #[tokio::test]
    async fn while_nothing_can_be_written_the_queue_is_bounded_and_the_rest_is_counted() {
        let (attempts, writer) = channel();
        for number in 0..2 * QUEUE {
            let caller = (number / 10).to_string();
            attempts.note(&caller, || of(&caller), || of(&caller));
        }
        let counts = std::mem::take(&mut *writer.counts.lock().unwrap());
        let counted: i64 = counts.suppressed().map(|row| row.suppressed).sum();
        assert_eq!(usize::try_from(counted).unwrap() + writer.receiver.len(), 2 * QUEUE);
    }
}
