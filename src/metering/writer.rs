//! The writer of a shard: takes what is queued while the last batch was committing, posts it in one
//! round trip, and answers. After a few events it waits some milliseconds for more.
//!
//! | what happens | what the writer does |
//! |---|---|
//! | somebody else holds an account's row | goes on without that account, which rests and is retried |
//! | a duplicate | looks for duplicates in this batch and the next few |
//! | a deadlock | the same batch again |
//! | the connection is lost | connects again and posts the batch again: what was committed unseen is met as a duplicate |
//! | the database refuses the batch for good | halves it until the lone event is found, which is quarantined |
//!
//! Nothing is answered OK before its commit was confirmed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use sqlx::{PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    answers::{Mail, ReturnAddress},
    error::MeteringError,
    event::{Recorded, StoredEvent},
    lanes::{Batch, Pending},
    limits::{
        AWAY_AFTER, BATCHES_APART, CONNECTION_PATIENCE, DUPLICATES_EXPECTED, MAX_PAUSE, MIN_PAUSE,
    },
    recorder::Settle,
    shard::{Call, Shard},
    store::{self, Mode, Posted},
};
use crate::{
    authorization::admission::Admission,
    database::failure::{
        DEADLOCK_DETECTED, DatabaseFailure, LOCK_NOT_AVAILABLE, QUERY_CANCELED,
        SERIALIZATION_FAILURE, UNIQUE_VIOLATION, sqlstate,
    },
    ids::{AccountId, AuthorizationId, InstanceId},
    money::Amount,
    telemetry::metrics::MeteringMetrics,
};

/// Why a batch was not posted.
#[derive(Debug)]
enum Setback {
    /// Somebody else holds a row or a table.
    Locked,
    /// It contains duplicates, and nobody had looked for them.
    Duplicates(sqlx::Error),
    /// The database took too long.
    TooSlow,
    /// The same again may do.
    Passing,
    /// The database is not there.
    Away,
    /// The database will not have it.
    Refused(sqlx::Error),
}

impl From<sqlx::Error> for Setback {
    fn from(error: sqlx::Error) -> Self {
        match sqlstate(&error).as_deref() {
            Some(LOCK_NOT_AVAILABLE) => return Self::Locked,
            Some(UNIQUE_VIOLATION) => return Self::Duplicates(error),
            Some(QUERY_CANCELED) => return Self::TooSlow,
            Some(DEADLOCK_DETECTED | SERIALIZATION_FAILURE) => return Self::Passing,
            _ => {}
        }
        match DatabaseFailure::from(error) {
            DatabaseFailure::Busy(_) | DatabaseFailure::ReportsBusy => Self::Passing,
            DatabaseFailure::Broken(error @ sqlx::Error::Protocol(_)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "out of step");
                Self::Away
            }
            DatabaseFailure::Broken(error) => Self::Refused(error),
            DatabaseFailure::Away(_) => Self::Away,
        }
    }
}

/// Posts the batches of one shard over a connection of its own.
pub(super) struct Writer {
    pub(super) instance: InstanceId,
    pub(super) options: PgConnectOptions,
    pub(super) shard: Arc<Shard>,
    pub(super) settle: Settle,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: MeteringMetrics,
    pub(super) link: Link,
}

/// The writer's connection and what it has met on it.
#[derive(Default)]
pub(super) struct Link {
    connection: Option<PgConnection>,
    /// So many more batches look for duplicates from the start.
    duplicates_expected: u32,
    lost_at: Option<Instant>,
    pause: Duration,
}

impl Writer {
    /// Writes until the server stops and nothing is left.
    pub(super) async fn run(mut self, stopping: CancellationToken) {
        while let Some(batch) = self.shard.next_batch(&stopping).await {
            if let Some(wait) = average_wait(&batch.events) {
                self.admission.usage_waited(wait);
            }
            let begun = Instant::now();
            self.write(batch).await;
            self.shard.gather(begun + BATCHES_APART).await;
        }
        if let Some(connection) = self.link.connection.take() {
            store::close(connection).await;
        }
    }

    /// Sees every event of a batch to its end: answered, quarantined or back in its lane.
    async fn write(&mut self, batch: Batch<ReturnAddress>) {
        let mut skip_locked = batch.skip_locked;
        let mut parts = vec![batch.events];
        while let Some(mut part) = parts.pop() {
            let setback = match self.post(&part, skip_locked).await {
                Ok(posted) => {
                    self.finish(part, posted).await;
                    continue;
                }
                Err(setback) => setback,
            };
            match setback {
                Setback::Locked if !skip_locked => skip_locked = true,
                Setback::Duplicates(_) => self.link.duplicates_expected = DUPLICATES_EXPECTED,
                Setback::Locked | Setback::Passing => self.pause().await,
                Setback::Away => self.lose().await,
                Setback::TooSlow => {
                    self.pause().await;
                    halve(&mut part, &mut parts);
                }
                Setback::Refused(error) if part.len() == 1 => {
                    if self.quarantine(&mut part, &error).await.is_ok() {
                        continue;
                    }
                    self.lose().await;
                }
                Setback::Refused(_) => halve(&mut part, &mut parts),
            }
            parts.push(part);
        }
    }

    /// One attempt at posting these events.
    async fn post(&mut self, part: &[Call], skip_locked: bool) -> Result<Posted, Setback> {
        let mode = Mode { skip_locked, expect_duplicates: self.link.duplicates_expected > 0 };
        let begun = Instant::now();
        let instance = self.instance;
        let connection = self.connected().await?;
        let events = part.iter().map(|pending| &*pending.event);
        let posting = store::post(connection, instance, mode, events);
        let posted = match timeout(CONNECTION_PATIENCE, posting).await {
            Ok(Ok(posted)) => posted,
            Ok(Err(error)) => {
                return Err(match Setback::from(error) {
                    // It was looked for duplicates: this is something else.
                    Setback::Duplicates(error) if mode.expect_duplicates => Setback::Refused(error),
                    setback => setback,
                });
            }
            Err(_) => return Err(Setback::Away),
        };
        self.link.duplicates_expected = self.link.duplicates_expected.saturating_sub(1);
        self.link.pause = Duration::ZERO;
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most a thousand events")]
        self.metrics.batch_size.observe(part.len() as f64);
        let took = begun.elapsed();
        self.metrics.batch_seconds.observe(took.as_secs_f64());
        self.shard.posted(part.len(), took);
        Ok(posted)
    }

    async fn connected(&mut self) -> Result<&mut PgConnection, Setback> {
        if self.link.connection.is_none() {
            let connected =
                timeout(CONNECTION_PATIENCE, store::connect_writer(&self.options)).await;
            match connected {
                Ok(Ok(connection)) => {
                    self.link.connection = Some(connection);
                    self.link.lost_at = None;
                    self.shard.set_away(false);
                }
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the usage writer cannot connect"
                    );
                    return Err(Setback::Away);
                }
                Err(_) => return Err(Setback::Away),
            }
        }
        self.link.connection.as_mut().ok_or(Setback::Away)
    }

    /// Gives the connection up and waits a little before the next.
    async fn lose(&mut self) {
        self.link.connection = None;
        let lost_at = *self.link.lost_at.get_or_insert_with(|| {
            tracing::warn!("the usage writer lost the database");
            Instant::now()
        });
        if lost_at.elapsed() >= AWAY_AFTER {
            self.shard.set_away(true);
        }
        self.pause().await;
    }

    async fn pause(&mut self) {
        self.link.pause = (self.link.pause * 2).clamp(MIN_PAUSE, MAX_PAUSE);
        sleep(self.link.pause).await;
    }

    /// Settles and answers what is committed; puts back what was left out.
    async fn finish(&mut self, part: Vec<Call>, posted: Posted) {
        let inserted: HashSet<AuthorizationId> = posted.inserted.into_iter().collect();
        let busy: HashSet<AccountId> = posted.busy.into_iter().collect();
        self.shard.rested(accounts_of(&part).filter(|account| !busy.contains(account)));
        let (mut held, mut repeated) = (Vec::new(), Vec::new());
        let mut mail = Mail::default();
        for pending in part {
            if inserted.contains(&pending.event.event_id) {
                let overrun = posted.overruns.get(&pending.event.event_id).copied();
                let (address, recorded) = self.recorded(pending, overrun.unwrap_or_default());
                mail.add(address, Ok(recorded));
            } else if busy.contains(&pending.event.account_id) {
                held.push(pending);
            } else {
                repeated.push(pending);
            }
        }
        drop(mail);
        if !held.is_empty() {
            self.shard.rest(held);
        }
        if !repeated.is_empty() {
            self.link.duplicates_expected = DUPLICATES_EXPECTED;
            self.answer_repeated(repeated).await;
        }
    }

    /// Settles what is committed; the answer and who waits for it.
    fn recorded(&self, pending: Call, overrun: Amount) -> (ReturnAddress, Recorded) {
        let event = *pending.event;
        (self.settle)(event.account_id, event.event_id, event.charge);
        self.count("recorded");
        if event.authorized.is_some() {
            self.admission.usage_recorded();
        }
        if overrun.is_positive() {
            self.metrics.overruns.inc();
        }
        let recorded = Recorded {
            account_id: event.account_id,
            event_id: event.event_id,
            outcome: event.fingerprint.outcome,
            price_version: event.price_version,
            currency: event.currency,
            charge: event.charge,
            overrun,
            saving: event.saving,
            duplicate: false,
        };
        (pending.answer_to, recorded)
    }

    /// Answers events that were recorded before, outside the transaction that found them: no lock
    /// is held for it.
    async fn answer_repeated(&mut self, repeated: Vec<Call>) {
        let Some(connection) = self.link.connection.as_mut() else {
            return self.shard.put_back(repeated);
        };
        let places = repeated.iter().map(Pending::place);
        let reading = store::stored_of_batch(connection, places);
        let found = match timeout(CONNECTION_PATIENCE, reading).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "replays not read");
                self.shard.put_back(repeated);
                return self.lose().await;
            }
            Err(_) => {
                self.shard.put_back(repeated);
                return self.lose().await;
            }
        };
        let mut found: HashMap<_, StoredEvent> =
            found.into_iter().map(|event| ((event.account_id, event.event_id), event)).collect();
        for pending in repeated {
            let Some(stored) = found.remove(&pending.place()) else {
                let damaged = MeteringError::Corrupt(pending.event.event_id);
                pending.answer_to.answer(Err(damaged));
                continue;
            };
            // It may have been our own, committed while the connection was lost.
            (self.settle)(stored.account_id, stored.event_id, stored.charge);
            let answer = stored.answer_to(&pending.event.fingerprint);
            self.count(if answer.is_ok() { "duplicate" } else { "conflict" });
            pending.answer_to.answer(answer);
        }
    }

    /// Keeps the lone event that the database refuses, and tells its caller.
    async fn quarantine(
        &mut self,
        part: &mut Vec<Call>,
        error: &sqlx::Error,
    ) -> Result<(), Setback> {
        let Some(pending) = part.first() else { return Ok(()) };
        let event = &pending.event;
        tracing::error!(
            account = %event.account_id,
            event = %event.event_id,
            error = error as &dyn std::error::Error,
            "the database refuses a usage event; it goes to quarantined_usage"
        );
        let connection = self.connected().await?;
        let text = error.to_string();
        let kept = store::quarantine(connection, &pending.event, &text);
        match timeout(CONNECTION_PATIENCE, kept).await {
            Err(_) => return Err(Setback::Away),
            Ok(Ok(())) => {}
            Ok(Err(error)) => match Setback::from(error) {
                Setback::Refused(error) => tracing::error!(
                    event = ?pending.event,
                    error = &error as &dyn std::error::Error,
                    "a refused usage event cannot be kept either"
                ),
                passing => return Err(passing),
            },
        }
        self.count("quarantined");
        for pending in part.drain(..) {
            let refused = MeteringError::Quarantined(pending.event.event_id);
            pending.answer_to.answer(Err(refused));
        }
        Ok(())
    }

    fn count(&self, result: &'static str) {
        self.metrics.events.get_or_create(&[("result", result)]).inc();
    }
}

/// How long the usage of grants has waited for its first batch until now: refusing grants helps against
/// no other. `None` where there is none, or each was put back.
fn average_wait(events: &[Call]) -> Option<Duration> {
    let now = std::time::Instant::now();
    let granted = events.iter().filter(|pending| pending.event.authorized.is_some());
    let since = granted.filter_map(|pending| pending.answer_to.waits_since);
    let (count, sum) =
        since.fold((0, Duration::ZERO), |(count, sum), since| (count + 1, sum + (now - since)));
    sum.checked_div(count)
}

/// Puts the second half aside, to be posted after the first.
fn halve(part: &mut Vec<Call>, parts: &mut Vec<Vec<Call>>) {
    let second = part.split_off(part.len().div_ceil(2));
    if !second.is_empty() {
        parts.push(second);
    }
}

/// The accounts of a part, which is sorted by them.
fn accounts_of(part: &[Call]) -> impl Iterator<Item = AccountId> {
    part.chunk_by(|one, next| one.event.account_id == next.event.account_id)
        .filter_map(|chunk| chunk.first())
        .map(|pending| pending.event.account_id)
}
