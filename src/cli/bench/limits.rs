//! What the machine allows, measured without the server: the batch transaction driven directly, the
//! same rows inserted alone, and one `fdatasync`.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinSet;

use super::{
    load::{Slice, histogram, joined, note},
    population::Population,
    stage::failed,
};
use crate::{
    cli::error::CliError,
    clock,
    ids::{AuthorizationId, InstanceId, ModelId, PriceVersionId, id_at},
    metering::{
        direct::DirectWriter,
        event::{Authorized, Detail, Fingerprint, NewEvent, Outcome, Served},
        limits::WRITERS,
        quantities::Quantities,
    },
    money::{Amount, Currency},
    proto::RecordUsageResponse,
};

/// Events of one batch, as the server takes under load.
const BATCH: usize = 500;
/// Accounts of one batch of a history.
const NEIGHBOURS: usize = 100;
/// How often is looked whether a server has caught up.
const LOOK: Duration = Duration::from_millis(500);
/// How often the disk is asked.
const SYNCS: usize = 201;

/// What is done with each batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Posted: events, transfers, balances.
    Posted,
    /// Inserted alone.
    Inserted,
}

/// The database's limits.
#[derive(Debug)]
pub(super) struct Limits {
    writers: Vec<DirectWriter>,
    sample: Sample,
}

/// What the events are like.
#[derive(Debug, Clone, Copy)]
struct Sample {
    instance: InstanceId,
    model_id: ModelId,
    price_version: PriceVersionId,
    charge: Amount,
}

impl Limits {
    /// As many writers as a server has.
    pub(super) async fn connect(options: &PgConnectOptions) -> Result<Self, CliError> {
        let instance = InstanceId::generate();
        let mut writers = Vec::with_capacity(WRITERS);
        for _ in 0..WRITERS {
            writers.push(DirectWriter::connect(options, instance).await.map_err(failed)?);
        }
        if let Some(writer) = writers.first_mut() {
            writer.make_bare_table().await.map_err(failed)?;
        }
        let sample = Sample {
            instance,
            model_id: ModelId(0),
            price_version: PriceVersionId(0),
            charge: Amount::ZERO,
        };
        Ok(Self { writers, sample })
    }

    /// Events are charged as this one was.
    pub(super) async fn like(&mut self, recorded: &RecordUsageResponse) -> Result<(), CliError> {
        let charged = recorded.charged.as_ref().map_or("0", |charged| &charged.amount);
        self.sample.charge = charged.parse().map_err(failed)?;
        self.sample.price_version = PriceVersionId(recorded.price_version);
        if let Some(writer) = self.writers.first_mut() {
            let model = writer.model_of(self.sample.price_version).await;
            self.sample.model_id = model.map_err(failed)?;
        }
        Ok(())
    }

    /// Writes so many events of the first `active` accounts with so many writers at most, each
    /// account by one of them.
    pub(super) async fn write(
        &mut self,
        way: Way,
        population: &Arc<Population>,
        active: usize,
        writers: usize,
        events: usize,
    ) -> Result<Slice, CliError> {
        let mut writing = JoinSet::new();
        let writers = writers.min(active).clamp(1, self.writers.len().max(1));
        let (begun, share) = (Instant::now(), events / writers);
        let batches = share.div_ceil(BATCH);
        let idle = self.writers.split_off(writers.min(self.writers.len()));
        for (number, mut writer) in self.writers.drain(..).enumerate() {
            let (population, sample) = (Arc::clone(population), self.sample);
            writing.spawn(async move {
                let mut latencies = histogram()?;
                let mine = active.div_ceil(writers).max(1);
                for batch in 0..batches {
                    let place = |event| ((batch * BATCH + event) % mine) * writers + number;
                    let places = (0..BATCH).map(|event| place(event) % active.max(1));
                    let events = events_of(&population, sample, places, None)?;
                    let sent = Instant::now();
                    match way {
                        Way::Posted => writer.post(&events).await.map_err(failed)?,
                        Way::Inserted => writer.insert(&events).await.map_err(failed)?,
                    }
                    note(&mut latencies, sent.elapsed());
                }
                Ok((writer, latencies))
            });
        }
        let mut latencies = histogram()?;
        while let Some(writer) = writing.join_next().await {
            let (writer, measured) = joined(writer)?;
            let _ = latencies.add(&measured);
            self.writers.push(writer);
        }
        let written = (writers * batches * BATCH) as u64;
        let slice = Slice::since(begun, written, latencies);
        self.writers.extend(idle);
        Ok(slice)
    }

    /// Waits until a server has done all that it does with events in the background.
    pub(super) async fn catch_up(&mut self) -> Result<(), CliError> {
        let Some(writer) = self.writers.first_mut() else { return Ok(()) };
        while writer.is_behind().await.map_err(failed)? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Posts so many events between two moments, in their order. A tenth is of the largest account,
    /// which is the first; the others take turns, in each batch [`NEIGHBOURS`] of them.
    pub(super) async fn fill(
        &mut self,
        population: &Arc<Population>,
        events: u64,
        (from, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Slice, CliError> {
        let writers = self.writers.len().max(1);
        let begun = Instant::now();
        let batches = usize::try_from(events).unwrap_or(usize::MAX).div_ceil(BATCH * writers);
        let pause = (until - from) / i32::try_from(batches.max(1)).unwrap_or(i32::MAX);
        let mine = population.count().checked_div(writers).unwrap_or(0).max(1);
        let mut writing = JoinSet::new();
        for (number, mut writer) in self.writers.drain(..).enumerate() {
            let (population, sample) = (Arc::clone(population), self.sample);
            writing.spawn(async move {
                for batch in 0..batches {
                    let first = batch * NEIGHBOURS;
                    let share = if number == 0 { BATCH * writers / 10 } else { 0 };
                    let places = (0..BATCH).map(|event| {
                        let turn = first + event % NEIGHBOURS;
                        if event < share { 0 } else { (turn % mine) * writers + number }
                    });
                    let moment = from + pause * i32::try_from(batch).unwrap_or(i32::MAX);
                    let events = events_of(&population, sample, places, Some(moment))?;
                    writer.post(&events).await.map_err(failed)?;
                }
                Ok(writer)
            });
        }
        while let Some(writer) = writing.join_next().await {
            self.writers.push(joined(writer)?);
        }
        Ok(Slice::since(begun, (batches * BATCH * writers) as u64, histogram()?))
    }
}

/// A batch of events of the customers at these places, of that moment or of now, in the order in which
/// it is posted.
fn events_of(
    population: &Population,
    sample: Sample,
    places: impl Iterator<Item = usize>,
    moment: Option<DateTime<Utc>>,
) -> Result<Vec<NewEvent>, CliError> {
    let occurred_at = moment.unwrap_or_else(clock::now);
    let id = || moment.map_or_else(AuthorizationId::generate, |at| AuthorizationId(id_at(at)));
    let mut events: Vec<NewEvent> = places
        .enumerate()
        .map(|(number, place)| {
            let customer = population.customer(place)?;
            Ok(NewEvent {
                account_id: customer.account,
                event_id: id(),
                occurred_at,
                fingerprint: Fingerprint {
                    key_id: customer.key,
                    model: String::new(),
                    quantities: Quantities {
                        input: 1_000,
                        cache_read: 200,
                        output: 310,
                        ..Quantities::default()
                    },
                    outcome: Outcome::Success,
                    cache_hit: false,
                },
                model_id: sample.model_id,
                price_version: sample.price_version,
                currency: Currency::USD,
                charge: sample.charge,
                saving: Amount::ZERO,
                tier_above: None,
                authorized: Some(Authorized {
                    issuer: sample.instance,
                    reserved: sample.charge,
                    covered_until: occurred_at + chrono::Duration::minutes(15),
                }),
                budgets: Vec::new(),
                served: Served {
                    provider: "openai".to_owned(),
                    served_model: "gpt-4o-2024-11-20".to_owned(),
                    region: "eu-central".to_owned(),
                    fallback_from: String::new(),
                    latency: Some(Duration::from_millis(1_250)),
                },
                detail: Detail {
                    request_id: format!("bench-{occurred_at:?}-{number:08}"),
                    ..Detail::default()
                },
            })
        })
        .collect::<Result<_, CliError>>()?;
    events.sort_unstable_by_key(|event| (event.account_id, event.event_id));
    Ok(events)
}

/// The median time of one `fdatasync` after 8 KiB were written, where the data is.
pub(super) fn fdatasync(directory: &Path) -> Result<Duration, CliError> {
    let path = directory.join("fdatasync");
    let told = |cause| CliError::file(&path, cause);
    let mut file = File::create(&path).map_err(told)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[0; 8192]).map_err(told)?;
        let begun = Instant::now();
        file.sync_data().map_err(told)?;
        times.push(begun.elapsed());
    }
    std::fs::remove_file(&path).map_err(told)?;
    times.sort_unstable();
    Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
}
