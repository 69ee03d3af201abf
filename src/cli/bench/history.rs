//! Whether history costs anything: a database with many events and accounts beside an empty one, each
//! with a server of its own, measured in turns.
//!
//! The events are posted by the batch transaction itself, so that the books are right and the cost of
//! an event is seen as they grow. Then, of the database that has them: how much memory its server
//! takes once every key has been used, how long it takes to start, how long people wait for what they
//! look at, what looking costs the gateway, and how late calls are at half of the load it can carry.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::TimeDelta;

use super::{
    Scene,
    beside::{Read, Readers, Report},
    gateway::Gateway,
    limits::Limits,
    load::{Slice, closed_loop},
    machine,
    population::Population,
    progress,
    results::{self, Case, Results, Targets, ratio},
    stage::{Database, Server},
};
use crate::{
    cli::{
        client::Client,
        error::CliError,
        output::{Table, Value, decimal, text},
    },
    clock,
};

/// How far back the history goes: as long as a new database has partitions for.
const SPAN: TimeDelta = TimeDelta::days(50);
/// In how many parts it is posted, each measured.
const PARTS: u64 = 20;
/// Accounts that are measured, of either database.
const ACTIVE: usize = 1_000;
/// Calls on their way.
const IN_FLIGHT: usize = 64;
/// A server with so many keys may take 300 MiB, one with more of them 1 GiB.
const HUNDRED_THOUSAND_KEYS: usize = 100_000;
/// Seconds of the paced load.
const PACED: Duration = Duration::from_secs(20);

/// How large a history is, and how long its measurements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    pub(super) events: u64,
    pub(super) accounts: u64,
    /// Of each account.
    pub(super) keys: u64,
    pub(super) repetitions: u64,
    pub(super) calls: u64,
    pub(super) items: u64,
    pub(super) reads: u64,
    pub(super) paced: Duration,
}

impl Past {
    /// As it is measured in earnest.
    pub(super) const fn of(events: u64, accounts: u64, keys: u64) -> Self {
        let (repetitions, calls, items, reads) = (5, 10_000, 40_000, 200);
        Self { events, accounts, keys, repetitions, calls, items, reads, paced: PACED }
    }

    /// To see that it works.
    pub(super) const SMOKE: Self = Self {
        events: 20_000,
        accounts: 24,
        keys: 2,
        repetitions: 1,
        calls: 64,
        items: 64,
        reads: 3,
        paced: Duration::from_secs(1),
    };
}

/// What one event cost when so many were there.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) events: u64,
    pub(super) slice: Slice,
}

impl Part {
    /// What one of its events cost.
    pub(super) fn nanoseconds_each(&self) -> u64 {
        let each = self.slice.elapsed.as_nanos() / u128::from(self.slice.calls.max(1));
        u64::try_from(each).unwrap_or(u64::MAX)
    }
}

/// All that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tables: Vec<Table>,
    pub(super) parts: Vec<Part>,
}

/// One database with its server.
struct Side {
    server: Server,
    clients: Arc<[Client]>,
    population: Arc<Population>,
}

impl Side {
    async fn start(database: &Database, accounts: u64, keys: u64) -> Result<Self, CliError> {
        let server = Server::start(database).await?;
        let clients = server.connect(None).await?;
        let first = clients.first().ok_or_else(results::nothing)?;
        let population = Arc::new(Population::make(first, accounts, keys).await?);
        Ok(Self { server, clients, population })
    }

    /// The same accounts with a new server.
    async fn restart(self, database: &Database) -> Result<Self, CliError> {
        let Self { server, population, .. } = self;
        server.stop().await?;
        let server = Server::start(database).await?;
        let clients = server.connect(None).await?;
        Ok(Self { server, clients, population })
    }

    fn gateway(&self, active: usize) -> Gateway {
        Gateway::new(&self.clients, &self.population, active)
    }

    fn client(&self) -> Result<&Client, CliError> {
        self.clients.first().ok_or_else(results::nothing)
    }
}

/// Measures all of it in directories below `parent`, and removes them.
pub(super) async fn run(past: Past, parent: &Path) -> Result<Found, CliError> {
    let grown = Database::start(parent, "grown").await?;
    let found = with_grown(past, parent, &grown).await;
    grown.remove().await?;
    found
}

async fn with_grown(past: Past, parent: &Path, database: &Database) -> Result<Found, CliError> {
    let side = Side::start(database, past.accounts, past.keys).await?;
    let parts = grow(past, database, &side).await?;
    let side = side.restart(database).await?;
    let empty = Database::start(parent, "empty").await?;
    let tables = compare_and_read(past, &empty, &side, &parts).await;
    empty.remove().await?;
    let tables = tables?;
    side.server.stop().await?;
    Ok(Found { tables, parts })
}

/// Posts the history in parts.
async fn grow(past: Past, database: &Database, side: &Side) -> Result<Vec<Part>, CliError> {
    let mut limits = Limits::connect(&database.options()).await?;
    limits.like(&side.gateway(1).sample().await?.recorded).await?;
    let (end, step) = (clock::now(), SPAN / i32::try_from(PARTS).unwrap_or(1));
    let (bar, mut events, mut parts) = (progress(PARTS), 0, Vec::new());
    for part in (1..=PARTS).rev() {
        let from = end - step * i32::try_from(part).unwrap_or(1);
        let share = past.events / PARTS;
        let slice = limits.fill(&side.population, share, (from, from + step)).await?;
        events += slice.calls;
        parts.push(Part { events, slice });
        bar.inc(1);
    }
    bar.finish_and_clear();
    // What is measured afterwards is what history costs, not what its making left to do.
    limits.catch_up().await?;
    Ok(parts)
}

async fn compare_and_read(
    past: Past,
    empty: &Database,
    grown: &Side,
    parts: &[Part],
) -> Result<Vec<Table>, CliError> {
    let mut targets = Targets::default();
    let accounts = usize::try_from(past.accounts).unwrap_or(usize::MAX);
    let ready = u64::try_from(grown.server.ready_after.as_millis()).ok();
    targets.at_most("seconds until a server is ready", accounts, ready, Some(1_000), "2");
    let before = grown.server.memory();
    targets.at_most("MiB resident before a key was used", accounts, before, Some(1_024), "300");
    // Every key, so that all are in memory that fit there.
    let keys = grown.population.count();
    grown.gateway(keys).touch_all().await?;
    let bound = if keys > HUNDRED_THOUSAND_KEYS { "1024" } else { "300" };
    let keys = format!("{keys} keys were used");
    for (name, memory) in [
        ("MiB resident once", grown.server.memory()),
        ("MiB resident at the most until", grown.server.peak_memory()),
    ] {
        targets.at_most(&format!("{name} {keys}"), accounts, memory, Some(1_024), bound);
    }

    let few = past.accounts.min(ACTIVE as u64);
    let other = Side::start(empty, few, 1).await?;
    let (without, with) = compare(past, &other, grown).await?;
    other.server.stop().await?;
    for (case, name) in CASES {
        let (one, other) = (with.per_second(case), without.per_second(case));
        targets.at_least(&format!("{name} of the empty database's"), ACTIVE, one, other, "0.9");
    }
    let read = read(past, grown, &mut targets).await?;
    let mut asked = Read::default();
    let disturbed = disturb(past, grown, &mut asked, &mut targets).await?;
    mixed(past, grown, &disturbed, &mut asked, &mut targets).await?;

    let client = grown.client()?;
    Ok(vec![
        targets.table(),
        compared(&without, &with),
        grown_table(parts),
        read,
        asked.table(),
        machine(client, &grown.server, None).await?,
    ])
}

const CASES: [(Case, &str); 4] = [
    (case(Scene::Authorize, IN_FLIGHT), "Authorize"),
    (case(Scene::Record, IN_FLIGHT), "RecordUsage"),
    (case(Scene::RecordStream, 0), "RecordUsageStream"),
    (case(Scene::Cycle, IN_FLIGHT), "whole cycle"),
];

const fn case(scene: Scene, in_flight: usize) -> Case {
    Case { scene, in_flight, accounts: ACTIVE }
}

/// The same load on both, in turns; first one side begins, then the other.
async fn compare(past: Past, empty: &Side, grown: &Side) -> Result<(Results, Results), CliError> {
    let (mut without, mut with) = (Results::default(), Results::default());
    for side in [empty, grown] {
        side.gateway(ACTIVE).touch().await?;
    }
    let bar = progress(past.repetitions);
    for repetition in 0..past.repetitions {
        let (first, second) = if repetition % 2 == 0 { (empty, grown) } else { (grown, empty) };
        for side in [first, second] {
            let results = if std::ptr::eq(side, empty) { &mut without } else { &mut with };
            let gateway = side.gateway(ACTIVE);
            let (slice, granted) = gateway.authorize(IN_FLIGHT, past.calls).await?;
            results.add(case(Scene::Authorize, IN_FLIGHT), slice);
            let slice = gateway.record(IN_FLIGHT, granted).await?;
            results.add(case(Scene::Record, IN_FLIGHT), slice);
            let (_, granted) = gateway.authorize_stream(past.items).await?;
            results.add(case(Scene::RecordStream, 0), gateway.record_stream(granted).await?);
            let slice = gateway.cycle(IN_FLIGHT, past.calls).await?;
            results.add(case(Scene::Cycle, IN_FLIGHT), slice);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((without, with))
}

/// What somebody waits for a page, a balance, a month, of accounts at random and of the largest.
async fn read(past: Past, side: &Side, targets: &mut Targets) -> Result<Table, CliError> {
    let columns = ["report", "account", "p50_us", "p99_us", "max_us"];
    let mut table = Table::list("reads", &columns);
    for report in Report::OF_ONE_ACCOUNT {
        for (whose, spread) in [("any", true), ("largest", false)] {
            let (client, population) = (side.client()?.clone(), Arc::clone(&side.population));
            let (slice, _) = closed_loop(1, past.reads, move |number| {
                let (client, population) = (client.clone(), Arc::clone(&population));
                async move {
                    let number = if spread { 1 + 7_919 * number } else { 0 };
                    let place = usize::try_from(number).unwrap_or(0);
                    let account = population.customer(place)?.account.to_string();
                    Ok(report.ask(&client, &account).await?)
                }
            })
            .await?;
            let p99 = slice.latencies.value_at_quantile(0.99);
            table.push(vec![
                text(report.name()),
                text(whose),
                Value::Count(slice.latencies.value_at_quantile(0.5)),
                Value::Count(p99),
                Value::Count(slice.latencies.max()),
            ]);
            let name = format!("{}, {whose} account, p99 in ms", report.name());
            targets.at_most(&name, side.population.count(), Some(p99), Some(1_000), "50");
        }
    }
    Ok(table)
}

/// The whole cycle alone and beside people who look at summaries, in turns; returns the cycle alone.
async fn disturb(
    past: Past,
    side: &Side,
    asked: &mut Read,
    targets: &mut Targets,
) -> Result<Results, CliError> {
    let (mut alone, mut beside) = (Results::default(), Results::default());
    let (gateway, cycle) = (side.gateway(ACTIVE), case(Scene::Cycle, IN_FLIGHT));
    for _ in 0..past.repetitions {
        alone.add(cycle, gateway.cycle(IN_FLIGHT, past.calls).await?);
        let readers = Readers::start(&Report::SUMMARIES, side.client()?, &side.population)?;
        let slice = gateway.cycle(IN_FLIGHT, past.calls).await;
        asked.add(readers.stop().await?);
        beside.add(cycle, slice?);
    }
    let (one, other) = (beside.per_second(cycle), alone.per_second(cycle));
    targets.at_least("whole cycle beside summaries of itself alone", ACTIVE, one, other, "0.9");
    Ok(alone)
}

/// Half of what can be carried, while everything is read that reads much.
async fn mixed(
    past: Past,
    side: &Side,
    alone: &Results,
    asked: &mut Read,
    targets: &mut Targets,
) -> Result<(), CliError> {
    let rate = alone.per_second(case(Scene::Cycle, IN_FLIGHT)).unwrap_or(0) / 2;
    let gateway = side.gateway(ACTIVE);
    for (reports, when) in [(&[][..], "alone"), (&Report::HEAVY[..], "beside reports")] {
        let readers = Readers::start(reports, side.client()?, &side.population)?;
        let times = gateway.paced(rate, past.paced).await;
        asked.add(readers.stop().await?);
        let (authorized, recorded) = times?;
        for (name, times, bound) in
            [("Authorize", authorized, "2"), ("RecordUsage", recorded, "20")]
        {
            let name = format!("{name} p99 in ms at {rate} cycles/s, {when}");
            let p99 = times.value_at_quantile(0.99);
            targets.at_most(&name, ACTIVE, Some(p99), Some(1_000), bound);
        }
    }
    Ok(())
}

fn compared(without: &Results, with: &Results) -> Table {
    let columns = ["scene", "in_flight", "empty_per_second", "grown_per_second", "of_empty"];
    let mut table = Table::list("compared", &columns);
    for (case, name) in CASES {
        let (Some(one), Some(other)) = (without.per_second(case), with.per_second(case)) else {
            continue;
        };
        table.push(vec![
            text(name),
            Value::Count(case.in_flight as u64),
            Value::Count(one),
            Value::Count(other),
            decimal(ratio(other, one).unwrap_or_default().to_string()),
        ]);
    }
    table
}

fn grown_table(parts: &[Part]) -> Table {
    let mut table = Table::list("posted_as_it_grew", &["events", "per_second", "ns_each"]);
    for part in parts {
        table.push(vec![
            Value::Count(part.events),
            Value::Count(part.slice.per_second()),
            Value::Count(part.nanoseconds_each()),
        ]);
    }
    table
}
