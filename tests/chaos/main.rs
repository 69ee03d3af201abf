//! What Tollgate promises, held under fire: real servers, a real Postgres and gateways that replay a
//! trace, while processes are killed and frozen, links cut, the disk is filled and clocks are moved. At
//! the end an independent auditor compares what clients were told with the books.
//!
//! The usual run is short. `scripts/chaos` runs it for as long as is wanted:
//!
//! | variable | what | usually |
//! |---|---|---|
//! | `TOLLGATE_CHAOS_SECONDS` | how long faults are injected | 20 |
//! | `TOLLGATE_CHAOS_SEED` | what goes wrong when, and what is asked for | a new one |
//! | `TOLLGATE_CHAOS_SERVERS` | servers on the database | 3 |
//!
//! A seed repeats the plan, not the run: processes and the network have a time of their own.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too, and tells what it did"
)]

#[path = "../suite/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the suite uses the rest")]
mod harness;

mod auditor;
mod faults;
mod fleet;
mod gateways;
mod operators;
mod relay;

use std::{
    env,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use fastrand::Rng;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;
use tollgate::{
    database::embedded::{EmbeddedCluster, EmbeddedOptions},
    identity::Role,
    proto::{AuthorizeRequest, VerifyLedgerRequest, authorize_response::Decision},
};
use uuid::Uuid;

use crate::{
    auditor::{Books, Verdict, Witness, judge, overlooked},
    faults::{DatabaseSide, Disk, inject},
    fleet::{Database, Fleet},
    gateways::{World, gateway},
    harness::{
        postgres::TOLLGATE, process::reachable_directory, server::token, shared_data,
        world::authorize,
    },
    operators::{operators, set_up},
};

const GATEWAYS: usize = 24;
/// Requests of the trace that are replayed.
const TRACE: usize = 2_000;
/// Its largest prompts and answers, so that no request costs more than a customer has.
const LARGEST: (u64, u64) = (6_000, 800);
/// Once everything works again, service must be back within so long.
const BACK_WITHIN: Duration = Duration::from_secs(30);

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; give a whole number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_holds_under_fire() {
    let seconds = variable("TOLLGATE_CHAOS_SECONDS").unwrap_or(20);
    let seed = variable("TOLLGATE_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..));
    let servers = variable("TOLLGATE_CHAOS_SERVERS").unwrap_or(3);
    println!("repeat with: scripts/chaos --seed {seed} --seconds {seconds} --servers {servers}");
    let verdict = run(seed, Duration::from_secs(seconds), servers).await;
    println!("{verdict}");
    assert_eq!(verdict.violations(), 0, "of seed {seed}:\n{verdict}");
}

async fn run(seed: u64, time: Duration, servers: usize) -> Verdict {
    let mut rng = Rng::with_seed(seed);
    let directory = reachable_directory();
    let mebibytes = if time < Duration::from_mins(5) { 768 } else { 4_096 };
    let disk = Disk::mount(&directory.path().join("disk"), mebibytes);
    if disk.is_none() {
        println!("the disk is not filled: mounting one of our own is not allowed here");
    }
    let faketime = faketime();
    if faketime.is_none() {
        println!("clocks are not moved: libfaketime is not installed");
    }
    let place = if disk.is_some() { "disk/postgres" } else { "postgres" };
    let cluster = EmbeddedOptions::new(directory.path().join(place), TOLLGATE);
    let cluster = EmbeddedCluster::start(cluster).await.unwrap();
    let options = cluster.connect_options("tollgate");
    let database = Database {
        socket: cluster.socket_dir().join(format!(".s.PGSQL.{}", options.get_port())),
        user: options.get_username().to_owned(),
        name: "tollgate".to_owned(),
        faketime,
    };

    let witness = Arc::new(Witness::default());
    let fleet = Fleet::start(servers, &database, directory.path(), &witness).await;
    let roles = token(&[Role::Gateway, Role::Operator, Role::Finance, Role::Auditor], None);
    let clients = fleet.connect(&roles).await;
    let world = set_up(clients, Arc::clone(&witness), trace(), &mut rng).await;
    let world = Arc::new(world);

    let middle = Instant::now() + time / 2;
    let deadline = middle + time / 2;
    let mut traffic = JoinSet::new();
    for _ in 0..GATEWAYS {
        traffic.spawn(gateway(Arc::clone(&world), rng.fork()));
    }
    traffic.spawn(operators(Arc::clone(&world), rng.fork(), middle));
    let side = DatabaseSide { cluster: &cluster, disk: disk.as_ref() };
    let injected = inject(&fleet, side, database.faketime.is_some(), rng.fork(), deadline).await;
    for (fault, times) in &injected {
        println!("  {times:>9}  {fault}");
    }

    let healed = Instant::now();
    let mut found = is_back(&world, &fleet).await;
    println!("  {:>9} ms until every server served again", healed.elapsed().as_millis());
    world.closing.store(true, Ordering::Release);
    while let Some(ended) = traffic.join_next().await {
        ended.unwrap();
    }
    found.extend(verify(&world).await);
    let (starts, by_themselves) = fleet.stop().await;
    println!("  {starts:>9} starts of servers, {by_themselves} ends of their own");

    let pool = PgPoolOptions::new().connect_with(options).await.unwrap();
    let books = Books::read(&pool).await.unwrap();
    pool.close().await;
    drop(world);
    let testimony = Arc::into_inner(witness).unwrap().into_testimony();
    let mut verdict = judge(&testimony, &books);
    verdict.add("tampering that the auditor overlooked", overlooked(&testimony, &books));
    verdict.add("service not back, or `ledger verify` not clean", found);
    cluster.stop().await.unwrap();
    verdict
}

/// Every server grants what is paid for.
async fn is_back(world: &World, fleet: &Fleet) -> Vec<String> {
    let mut found = Vec::new();
    let by = Instant::now() + BACK_WITHIN;
    let customer = &world.customers[2];
    for (number, server) in world.servers.iter().enumerate() {
        let _ = tokio::time::timeout(BACK_WITHIN, fleet.seats[number].wait_until_serving()).await;
        loop {
            let (_, key) = customer.key.lock().unwrap().clone();
            let request = AuthorizeRequest {
                api_key: key,
                model: world.models[0].clone(),
                request_id: Uuid::now_v7().to_string(),
                input_tokens: 1,
                max_output_tokens: Some(1),
                ..AuthorizeRequest::default()
            };
            let answer = authorize(server, &request).await;
            if matches!(answer, Ok(Decision::Grant(_))) {
                break;
            }
            if by < Instant::now() {
                found.push(format!("server {number} answers {answer:?}"));
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    found
}

/// What the product finds in its own books.
async fn verify(world: &World) -> Vec<String> {
    let request = VerifyLedgerRequest::default();
    let answer = world.servers[0].ledger().verify_ledger(request).await.unwrap().into_inner();
    let broken = answer.checks.into_iter().filter(|check| check.violations > 0);
    broken.map(|check| format!("{check:?}")).collect()
}

/// Prompt and answer sizes of a production trace, or, where it is not at hand, of none.
fn trace() -> Vec<(u64, u64)> {
    let (input, output) = LARGEST;
    let Some(text) = shared_data::read("azure-llm-2023-conversation.csv") else {
        return (1..=input).step_by(97).map(|tokens| (tokens, tokens % output)).collect();
    };
    let sizes = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split(',').skip(1);
        let mut next = || fields.next()?.trim().parse::<u64>().ok();
        Some((next()?.min(input), next()?.min(output)))
    });
    sizes.take(TRACE).collect()
}

/// Debian's libfaketime, wherever this machine's architecture has it.
fn faketime() -> Option<PathBuf> {
    let architectures = Path::new("/usr/lib").read_dir().ok()?.flatten();
    let library = |entry: std::fs::DirEntry| entry.path().join("faketime/libfaketimeMT.so.1");
    architectures.map(library).find(|library| library.is_file())
}
