//! `tollgate bench`: how fast it is, as ratios to what the wire and the database allow, measured in
//! one run on one machine.
//!
//! The limits are measured beside the server, in turns, so that whatever else the machine does
//! strikes both: a bare tonic echo of the same messages for the wire, the batch transaction driven
//! directly and its rows inserted alone for the database, one `fdatasync` for the disk. Client,
//! server and Postgres share the machine's cores, as the echo's two sides do.
//!
//! | file | what |
//! |---|---|
//! | `stage` | a Postgres and a server for the run |
//! | `population` | accounts, keys, funds |
//! | `load` | so many calls at once, their number and their times |
//! | `gateway` | `Authorize` and `RecordUsage` in every way that the contract offers |
//! | `echo`, `limits` | what the wire, the database and the disk allow |
//! | `cpu` | who spends the processor's time |
//! | `results` | tables, ratios, targets |
//! | `history` | a database with a long history beside an empty one |
//! | `beside` | what people look at meanwhile |
//! | `overload` | more than it can carry |
//! | `chart` | drawings |

mod beside;
mod chart;
mod cpu;
mod echo;
mod gateway;
mod history;
mod limits;
mod load;
mod overload;
mod population;
mod results;
mod stage;
mod store;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::{
    cpu::Meter,
    echo::Echo,
    gateway::{CONNECTIONS, Gateway},
    history::Past,
    limits::{Limits, Way},
    overload::Flood,
    population::Population,
    results::{Case, Results, Scene, Targets},
    stage::{Database, Server},
};
use crate::{
    cli::{
        Session,
        client::Client,
        error::CliError,
        output::{Table, Value, text},
    },
    config::cores,
    metering::limits::WRITERS,
    proto::VerifyLedgerRequest,
};

const EXAMPLES: &str = "\
Starts a Postgres and a server of its own and removes them at the end, unless it is told to measure
one that runs. Give it a machine without other work.

Examples:
  tollgate bench --quick
  tollgate bench --output json > bench.json
  tollgate bench --scratch /var/tmp --chart bench.svg
  tollgate bench --history 20000000
  tollgate bench --overload 600
  tollgate bench --running --endpoint http://127.0.0.1:50051";
/// Accounts that are active, of all that there are.
const ACTIVE: [usize; 3] = [1, 100, 1_000];
/// Calls at once.
const IN_FLIGHT: [usize; 3] = [1, 64, 256];
/// More of them, for a chart of [`CHARTED`] accounts.
const BETWEEN: [usize; 4] = [4, 16, 128, 512];
const CHARTED: usize = 100;
/// How often the progress bar is drawn.
const DRAWS_PER_SECOND: u8 = 5;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct BenchArgs {
    /// Fewer accounts and shorter stretches: ends within a minute
    #[arg(long)]
    quick: bool,
    /// Measure the server at --endpoint, with accounts made there, instead of starting one
    #[arg(long)]
    running: bool,
    /// A few calls of each scene, to see that it works
    #[arg(long, hide = true, conflicts_with = "quick")]
    smoke: bool,
    /// Be the echo of another run
    #[arg(long, hide = true)]
    serve_echo: bool,
    /// Post so many events first and compare with an empty database, instead of the scenes
    #[arg(long, value_name = "EVENTS", conflicts_with_all = ["running", "quick"])]
    history: Option<u64>,
    /// Accounts that have a history
    #[arg(long, value_name = "ACCOUNTS", default_value_t = 100_000, requires = "history")]
    history_accounts: u64,
    /// Keys of each of them
    #[arg(long, value_name = "KEYS", default_value_t = 1, requires = "history",
          value_parser = clap::value_parser!(u64).range(1..))]
    history_keys: u64,
    /// Ask for three times as much as can be served, for so long, instead of the scenes
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["running", "quick", "history", "chart"])]
    overload: Option<u64>,
    /// Draw what was found
    #[arg(long, value_name = "SVG")]
    chart: Option<PathBuf>,
    /// Where the run's own Postgres keeps its data [default: the system's temporary directory]
    #[arg(long, value_name = "DIR", conflicts_with = "running")]
    scratch: Option<PathBuf>,
}

/// What a run that starts everything itself has beside the gateway's way in.
struct Own {
    limits: Limits,
    fdatasync: Duration,
    /// The server and Postgres.
    processes: Option<(u32, u32)>,
}

/// How long a run is.
#[derive(Debug, Clone, Copy)]
struct Extent {
    accounts: u64,
    repetitions: u64,
    /// Calls of one stretch, with one in flight and with many.
    calls_alone: u64,
    calls: u64,
    /// Items of one stretch over streams.
    items: u64,
}

impl Extent {
    const FULL: Self =
        Self { accounts: 10_000, repetitions: 3, calls_alone: 1_500, calls: 15_000, items: 40_000 };
    const SMOKE: Self = Self { accounts: 12, repetitions: 1, calls_alone: 4, calls: 64, items: 64 };
    const QUICK: Self =
        Self { accounts: 1_000, repetitions: 3, calls_alone: 60, calls: 1_500, items: 4_000 };

    /// An account may have 20,000 requests under way.
    fn items(self, accounts: usize) -> u64 {
        if accounts == 1 { self.items.min(15_000) } else { self.items }
    }
}

pub(super) async fn run(args: BenchArgs, session: &Session) -> Result<(), CliError> {
    if args.serve_echo {
        return echo::serve().await;
    }
    let extent = match (args.smoke, args.quick) {
        (true, _) => Extent::SMOKE,
        (false, true) => Extent::QUICK,
        (false, false) => Extent::FULL,
    };
    let parent = args.scratch.unwrap_or_else(std::env::temp_dir);
    let chart = args.chart.as_deref();
    let tables = if let Some(events) = args.history {
        let past = if args.smoke {
            Past::SMOKE
        } else {
            Past::of(events, args.history_accounts, args.history_keys)
        };
        let found = history::run(past, &parent).await?;
        chart.map_or(Ok(()), |chart| chart::history(chart, &found.parts))?;
        found.tables
    } else if let Some(seconds) = args.overload {
        let flood = if args.smoke { Flood::SMOKE } else { Flood::of(seconds) };
        overload::run(flood, &parent).await?
    } else if args.running {
        let clients = stage::connect(&session.global, CONNECTIONS).await?;
        let connect = |endpoint: String| {
            let global = crate::cli::Global { endpoint, ..session.global.clone() };
            async move { stage::connect(&global, CONNECTIONS).await }
        };
        measure(extent, clients, connect, None, chart).await?
    } else {
        let database = Database::start(&parent, "scenes").await?;
        let outcome = measure_own(extent, &database, chart).await;
        database.remove().await?;
        outcome?
    };
    session.output.show_all(&tables)
}

async fn measure_own(
    extent: Extent,
    database: &Database,
    chart: Option<&Path>,
) -> Result<Vec<Table>, CliError> {
    let server = Server::start(database).await?;
    let fdatasync = limits::fdatasync(database.directory())?;
    let own = Own {
        limits: Limits::connect(&database.options()).await?,
        fdatasync,
        processes: database.postmaster().map(|postmaster| (server.id(), postmaster)),
    };
    let clients = server.connect(None).await?;
    let client = clients.first().ok_or_else(results::nothing)?.clone();
    let connect = |endpoint: String| {
        let server = &server;
        async move { server.connect(Some(&endpoint)).await }
    };
    let mut tables = measure(extent, clients, connect, Some(own), chart).await?;
    tables.push(machine(&client, &server, Some(fdatasync)).await?);
    drop(client);
    server.stop().await?;
    Ok(tables)
}

/// Every scene under every load.
async fn measure<Connecting>(
    extent: Extent,
    clients: Arc<[Client]>,
    connect: impl Fn(String) -> Connecting,
    mut own: Option<Own>,
    chart: Option<&Path>,
) -> Result<Vec<Table>, CliError>
where
    Connecting: Future<Output = Result<Arc<[Client]>, CliError>>,
{
    let first = clients.first().ok_or_else(results::nothing)?;
    let population = Arc::new(Population::make(first, extent.accounts, 1).await?);
    let answers = Gateway::new(&clients, &population, 1).sample().await?;
    let echo = Echo::start(&answers)?;
    let bare = connect(echo.endpoint.clone()).await?;
    if let Some(Own { limits, .. }) = &mut own {
        limits.like(&answers.recorded).await?;
    }
    let processes = own.as_ref().and_then(|own| own.processes);
    let meter =
        processes.map(|(server, postmaster)| Meter::of(vec![server, echo.id()], postmaster));
    let mut results = Results::with(meter);
    let bar = progress(extent.repetitions * ACTIVE.len() as u64 * (IN_FLIGHT.len() as u64 + 1));
    for _ in 0..extent.repetitions {
        for accounts in ACTIVE {
            let gateway = Gateway::new(&clients, &population, accounts);
            let bare = Gateway::new(&bare, &population, accounts);
            // An account's first request waits for the database; those measured are not its first.
            gateway.touch().await?;
            let between = chart.filter(|_| accounts == CHARTED).map_or(&[][..], |_| &BETWEEN);
            for in_flight in IN_FLIGHT.into_iter().chain(between.iter().copied()) {
                calls(extent, &gateway, &bare, (in_flight, accounts), &mut results).await?;
                bar.inc(1);
            }
            streams(extent, &gateway, &bare, accounts, &mut results).await?;
            if let Some(Own { limits, .. }) = &mut own {
                written(extent, limits, &population, accounts, &mut results).await?;
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if let Some(chart) = chart {
        let mut loads = [&IN_FLIGHT[..], &BETWEEN].concat();
        loads.sort_unstable();
        chart::load(chart, &results, &loads, CHARTED)?;
    }
    let fdatasync = own.map(|own| own.fdatasync);
    Ok(vec![Targets::judge(&results, fdatasync).table(), results.table()])
}

/// One call after another in each of so many lanes.
async fn calls(
    extent: Extent,
    gateway: &Gateway,
    bare: &Gateway,
    (in_flight, accounts): (usize, usize),
    results: &mut Results,
) -> Result<(), CliError> {
    let calls = if in_flight == 1 { extent.calls_alone } else { extent.calls };
    results.begin();
    let mut add = |scene, slice| results.add(Case { scene, in_flight, accounts }, slice);
    let (slice, echoed) = bare.authorize(in_flight, calls).await?;
    add(Scene::EchoAuthorize, slice);
    let (slice, granted) = gateway.authorize(in_flight, calls).await?;
    add(Scene::Authorize, slice);
    add(Scene::EchoRecord, bare.record(in_flight, echoed).await?);
    add(Scene::Record, gateway.record(in_flight, granted).await?);
    add(Scene::Cycle, gateway.cycle(in_flight, calls).await?);
    Ok(())
}

/// Many at once, by streams and batches.
async fn streams(
    extent: Extent,
    gateway: &Gateway,
    bare: &Gateway,
    accounts: usize,
    results: &mut Results,
) -> Result<(), CliError> {
    let items = extent.items(accounts);
    let case = |scene| Case { scene, in_flight: 0, accounts };
    results.begin();
    results.add(case(Scene::EchoStream), bare.authorize_stream(items).await?.0);
    let (slice, granted) = gateway.authorize_stream(items).await?;
    results.add(case(Scene::AuthorizeStream), slice);
    results.add(case(Scene::RecordStream), gateway.record_stream(granted).await?);
    let (_, granted) = gateway.authorize_stream(items).await?;
    results.begin();
    results.add(case(Scene::RecordBatch), gateway.record_batches(granted).await?);
    Ok(())
}

/// The database without the server.
async fn written(
    extent: Extent,
    limits: &mut Limits,
    population: &Arc<Population>,
    accounts: usize,
    results: &mut Results,
) -> Result<(), CliError> {
    let events = usize::try_from(extent.items).unwrap_or(usize::MAX);
    results.begin();
    let mut add = |scene, slice| results.add(Case { scene, in_flight: 0, accounts }, slice);
    let slice = limits.write(Way::Posted, population, accounts, WRITERS, events).await?;
    add(Scene::Posted, slice);
    let slice = limits.write(Way::Posted, population, accounts, 1, events).await?;
    add(Scene::PostedByOne, slice);
    let slice = limits.write(Way::Inserted, population, accounts, WRITERS, events).await?;
    add(Scene::Inserted, slice);
    Ok(())
}

/// What it ran on, and whether the books are right after it: nothing where they could not be proved.
async fn machine(
    client: &Client,
    server: &Server,
    fdatasync: Option<Duration>,
) -> Result<Table, CliError> {
    let verified = client.ledger().verify_ledger(VerifyLedgerRequest::default()).await;
    // What was measured is told all the same.
    let (right, findings) = match verified {
        Ok(verified) => {
            let verified = verified.into_inner();
            let findings = verified.checks.iter().flat_map(|check| {
                check.findings.iter().map(|finding| format!("{}: {finding}", check.name))
            });
            (Value::Flag(verified.clean), findings.take(5).collect())
        }
        Err(status) => (Value::Nothing, vec![status.message().to_owned()]),
    };
    let count = |number: u128| Value::Count(u64::try_from(number).unwrap_or(u64::MAX));
    Ok(Table::record(
        "run",
        vec![
            ("version", text(env!("CARGO_PKG_VERSION"))),
            ("cores", Value::Count(cores() as u64)),
            ("fdatasync_us", fdatasync.map_or(Value::Nothing, |sync| count(sync.as_micros()))),
            ("server_ready_after_ms", count(server.ready_after.as_millis())),
            ("server_peak_memory_kib", server.peak_memory().map_or(Value::Nothing, Value::Count)),
            ("books_are_right", right),
            ("findings", Value::List(findings)),
        ],
    ))
}

/// Drawn on terminals alone.
fn progress(stretches: u64) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
    let bar = ProgressBar::with_draw_target(Some(stretches), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}  {eta} left") {
        bar.set_style(style);
    }
    bar
}
