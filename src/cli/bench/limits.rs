//! What the machine allows, measured without the server: the batch transaction driven directly, the
//! same rows inserted alone, and one `fdatasync`.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

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
    ids::{AuthorizationId, InstanceId, ModelId, PriceVersionId},
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
                for batch in 0..batches {
                    let events = events_of(&population, sample, active, (number, writers), batch)?;
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
}

/// A batch of one writer, in the order in which it is posted.
fn events_of(
    population: &Population,
    sample: Sample,
    active: usize,
    (writer, writers): (usize, usize),
    batch: usize,
) -> Result<Vec<NewEvent>, CliError> {
    let occurred_at = clock::now();
    let mine = active.div_ceil(writers).max(1);
    let mut events: Vec<NewEvent> = (0..BATCH)
        .map(|number| {
            let place = ((batch * BATCH + number) % mine) * writers + writer;
            let customer = population.customer(place % active.max(1))?;
            Ok(NewEvent {
                account_id: customer.account,
                event_id: AuthorizationId::generate(),
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
                    request_id: format!("bench-{batch:08x}-{number:08}"),
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
