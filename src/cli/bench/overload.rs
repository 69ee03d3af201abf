//! More than it can carry, for a while: everybody asks three times as much as was served at the most;
//! then one customer alone floods while the others ask for little. Callers come when they come, however
//! late the answers are (an open loop); they wait before they ask again, as long as they are told to and
//! each a little differently, and give up after some seconds. The database is made slow, so that the
//! callers, who share the machine, are not what breaks first.

use std::{
    error::Error as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    gateway::Gateway,
    load::{histogram, note, paced, spread},
    machine,
    population::Population,
    results::{self, Targets},
    stage::{Database, Server, failed},
    store,
};
use crate::cli::{
    error::CliError,
    output::{Table, Value, text},
};

/// What is asked for, as often as could be served.
const TIMES: u64 = 3;
/// The others ask for this part of it while one floods.
const OTHERS: u64 = 4;
/// How long one attempt to authorize may take, and one request with all its attempts until it is granted.
const ATTEMPT: Duration = Duration::from_secs(2);
const REQUEST: Duration = Duration::from_secs(5);
/// How long one attempt to record may take: longer than a server lets usage wait for its commit.
const RECORD: Duration = Duration::from_secs(6);
/// When to ask again, unless it was said.
const RETRY: Duration = Duration::from_millis(500);
/// Calls on their way when it is measured what can be served.
const IN_FLIGHT: usize = 256;
/// Connections of those who ask for too much: a server takes 1,000 calls at once on each.
const CROWD: usize = 64;
/// How long right after an overload is looked whether all is well again.
const RECOVERY: Duration = Duration::from_secs(10);

/// How long it goes on, and how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flood {
    pub(super) accounts: u64,
    /// Calls that show what can be served.
    pub(super) calls: u64,
    pub(super) duration: Duration,
    pub(super) paced: Duration,
}

impl Flood {
    /// As it is measured in earnest.
    pub(super) const fn of(seconds: u64) -> Self {
        let duration = Duration::from_secs(seconds);
        Self { accounts: 1_000, calls: 20_000, duration, paced: Duration::from_secs(10) }
    }

    /// To see that it works.
    pub(super) const SMOKE: Self = Self {
        accounts: 12,
        calls: 64,
        duration: Duration::from_secs(1),
        paced: Duration::from_secs(1),
    };
}

/// What became of the requests of a phase.
#[derive(Debug)]
struct Tally {
    offered: u64,
    served: u64,
    /// Attempts that were refused for now, whose connection broke, and that had no answer in time.
    refused: u64,
    broken: u64,
    late: u64,
    /// Requests that were given up.
    given_up: u64,
    /// What of the machine's cores this side took meanwhile, in percent of one.
    client_cores: u64,
    /// From the attempt that was granted to when its usage was durable, of those served.
    times: Histogram<u64>,
}

type Shared = Arc<Mutex<Tally>>;

fn lock(tally: &Shared) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs all of it on a server of its own, and removes that.
pub(super) async fn run(flood: Flood, parent: &Path) -> Result<Vec<Table>, CliError> {
    let database = Database::start(parent, "overload").await?;
    let outcome = measure(flood, &database).await;
    database.remove().await?;
    outcome
}

async fn measure(flood: Flood, database: &Database) -> Result<Vec<Table>, CliError> {
    let server = Server::start(database).await?;
    let clients = server.connect(None).await?;
    let first = clients.first().ok_or_else(results::nothing)?.clone();
    let population = Arc::new(Population::make(&first, flood.accounts, 1).await?);
    // The one after them floods.
    let all = usize::try_from(flood.accounts.saturating_sub(1)).unwrap_or(usize::MAX);
    let everybody = Gateway::new(&clients, &population, all);
    // Gateways with as many connections as they have calls for: none of them waits in its own queue.
    let crowd = Gateway::new(&server.connect_over(CROWD).await?, &population, all);
    let flooding = crowd.of(all);
    // The others' gateway has connections of its own, as another machine would.
    let others = Gateway::new(&server.connect(None).await?, &population, all);
    everybody.touch_all().await?;
    store::slow_down(&database.options()).await.map_err(failed)?;
    let capacity = everybody.cycle(IN_FLIGHT, flood.calls).await?.per_second();
    let few = (capacity / OTHERS).max(1);

    let quiet = server.peak_memory();
    everybody.begin();
    let alone = offer(&others, few, flood.paced).await?;
    everybody.begin();
    let crowded = offer(&crowd, capacity * TIMES, flood.duration).await?;
    let (most, recovery) = ((capacity * 3 / 4).max(1), flood.duration.min(RECOVERY));
    everybody.begin();
    let after_crowd = offer(&everybody, most, recovery).await?;
    let flood_rate = capacity * TIMES - few;
    everybody.begin();
    let (flooded, beside) = tokio::try_join!(
        offer(&flooding, flood_rate, flood.duration),
        offer(&others, few, flood.duration)
    )?;
    everybody.begin();
    let after_flood = offer(&everybody, most, recovery).await?;
    let loaded = server.peak_memory();

    let mut targets = Targets::default();
    let per_second = |tally: &Tally, duration: Duration| tally.served / duration.as_secs().max(1);
    let mut rate = |name: &str, rate: u64, of: u64, bound: &str| {
        targets.at_least(name, all, Some(rate), Some(of), bound);
    };
    rate(
        "served while all ask for three times as much",
        per_second(&crowded, flood.duration),
        capacity,
        "0.5",
    );
    let mut part = |name: &str, tally: &Tally, bound: &str| {
        rate(name, tally.served, tally.offered, bound);
    };
    part("served right after it of what was asked", &after_crowd, "0.99");
    part("others served while one floods of what they asked", &beside, "0.99");
    part("served right after it of what was asked", &after_flood, "0.99");
    let p99 = |tally: &Tally| Some(tally.times.value_at_quantile(0.99));
    targets.at_most("p99 in ms of what was served of all", all, p99(&crowded), Some(1_000), "5000");
    targets.at_most("p99 in ms of others while one floods", all, p99(&beside), Some(1_000), "2000");
    targets.at_most("MiB resident at the most", all, loaded, Some(1_024), "512");

    let phases = [
        ("a quarter, alone", few, flood.paced, alone),
        ("three times as much, from all", capacity * TIMES, flood.duration, crowded),
        ("three quarters, right after it", most, recovery, after_crowd),
        ("a flood from one", flood_rate, flood.duration, flooded),
        ("a quarter, from the others meanwhile", few, flood.duration, beside),
        ("three quarters, right after it", most, recovery, after_flood),
    ];
    let mut tables = vec![targets.table(), table(&phases)];
    tables.push(Table::record(
        "before_and_after",
        vec![
            ("cycles_per_second", Value::Count(capacity)),
            ("peak_memory_before_kib", quiet.map_or(Value::Nothing, Value::Count)),
        ],
    ));
    tables.push(machine(&first, &server, None).await?);
    drop((everybody, crowd, others, flooding, clients, first));
    server.stop().await?;
    Ok(tables)
}

type Phase = (&'static str, u64, Duration, Tally);

fn table(phases: &[Phase]) -> Table {
    let columns = [
        "phase",
        "meant_per_second",
        "offered_per_second",
        "served_per_second",
        "refused",
        "broken",
        "late",
        "given_up",
        "p50_ms",
        "p99_ms",
        "client_cores_percent",
    ];
    let mut table = Table::list("overload", &columns);
    for (name, meant, duration, tally) in phases {
        let seconds = duration.as_secs().max(1);
        let milliseconds = |quantile| Value::Count(tally.times.value_at_quantile(quantile) / 1_000);
        table.push(vec![
            text(*name),
            Value::Count(*meant),
            Value::Count(tally.offered / seconds),
            Value::Count(tally.served / seconds),
            Value::Count(tally.refused),
            Value::Count(tally.broken),
            Value::Count(tally.late),
            Value::Count(tally.given_up),
            milliseconds(0.5),
            milliseconds(0.99),
            Value::Count(tally.client_cores),
        ]);
    }
    table
}

/// So many requests a second for so long, each with all its attempts.
async fn offer(gateway: &Gateway, rate: u64, duration: Duration) -> Result<Tally, CliError> {
    let tally = Tally {
        offered: 0,
        served: 0,
        refused: 0,
        broken: 0,
        late: 0,
        given_up: 0,
        client_cores: 0,
        times: histogram()?,
    };
    let tally = Arc::new(Mutex::new(tally));
    let (begun, busy) = (Instant::now(), cpu_time());
    let outcomes = paced(rate, duration, |number, due| {
        let (gateway, tally) = (gateway.clone(), Arc::clone(&tally));
        async move { request(&gateway, number, due, &tally).await }
    });
    outcomes.await.into_iter().collect::<Result<(), CliError>>()?;
    let tally = Arc::into_inner(tally).and_then(|tally| tally.into_inner().ok());
    let mut tally = tally.ok_or_else(|| CliError::failed("a request is still under way"))?;
    let busy = cpu_time().saturating_sub(busy).as_micros() * 100;
    let percent = busy / begun.elapsed().as_micros().max(1);
    tally.client_cores = u64::try_from(percent).unwrap_or(u64::MAX);
    Ok(tally)
}

/// One request until it is served or given up; once it is granted, its usage is never given up. A
/// failure that no patience helps against ends the run.
async fn request(
    gateway: &Gateway,
    number: u64,
    due: Instant,
    tally: &Shared,
) -> Result<(), CliError> {
    lock(tally).offered += 1;
    let (mut token, mut granted_at) = (None, due);
    for attempt in 0_u64.. {
        if token.is_none() && attempt > 0 {
            granted_at = Instant::now();
        }
        let outcome = match &token {
            None => tokio::time::timeout(ATTEMPT, gateway.try_authorize(number)).await,
            Some(token) => {
                let recording = gateway.try_record(number, String::clone(token));
                tokio::time::timeout(RECORD, recording).await.map(|answer| answer.map(|()| None))
            }
        };
        let wait = match outcome {
            Ok(Ok(Some(granted))) => {
                token = Some(granted);
                continue;
            }
            Ok(Ok(None)) => {
                let mut tally = lock(tally);
                tally.served += 1;
                note(&mut tally.times, granted_at.elapsed());
                return Ok(());
            }
            Ok(Err(status)) if may_pass(&status) => {
                let broke = status.source().is_some();
                let mut tally = lock(tally);
                tally.refused += u64::from(!broke);
                tally.broken += u64::from(broke);
                drop(tally);
                let said = status.get_details_retry_info().and_then(|info| info.retry_delay);
                jittered(said.unwrap_or(RETRY), number, attempt)
            }
            Ok(Err(status)) => return Err(status.into()),
            Err(_) => {
                lock(tally).late += 1;
                jittered(RETRY, number, attempt)
            }
        };
        if token.is_none() && due.elapsed() + wait > REQUEST {
            lock(tally).given_up += 1;
            break;
        }
        tokio::time::sleep(wait).await;
    }
    Ok(())
}

/// What this process has used of all cores.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn may_pass(status: &Status) -> bool {
    let passing = [Code::ResourceExhausted, Code::Unavailable, Code::DeadlineExceeded];
    // What has a source did not come from the server: the connection broke.
    status.source().is_some() || passing.contains(&status.code())
}

/// Between half and three halves of it: whoever was refused together does not come back together.
fn jittered(wait: Duration, number: u64, attempt: u64) -> Duration {
    let parts = spread(number ^ attempt << 48) >> 22;
    wait / 2 + wait * u32::try_from(parts).unwrap_or(0) / 1_024
}
