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
mod failover;
mod faults;
mod fleet;
mod gateways;
mod operators;
mod relay;
mod scene;

use std::{
    env,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tollgate::database::embedded::{EmbeddedCluster, EmbeddedOptions};

use crate::{
    auditor::Verdict,
    faults::{DatabaseSide, Disk, inject},
    fleet::Database,
    harness::{
        postgres::TOLLGATE,
        process::{is_used, reachable_directory},
    },
    scene::Scene,
};

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

    let begun = Instant::now();
    let middle = begun + time / 2;
    let scene = Scene::start(servers, &database, directory.path(), &mut rng, middle).await;
    let side = DatabaseSide { cluster: &cluster, disk: disk.as_ref() };
    let moves_clocks = database.faketime.is_some();
    let injected = inject(&scene.fleet, side, moves_clocks, rng.fork(), begun + time).await;
    for (fault, times) in &injected {
        println!("  {times:>9}  {fault}");
    }
    let mut verdict = scene.judge(options).await;
    cluster.stop().await.unwrap();
    let left = is_used(directory.path()).then(|| "a process is left in its directory".to_owned());
    verdict.add("processes left", left.into_iter().collect());
    verdict
}

/// Debian's libfaketime, wherever this machine's architecture has it.
fn faketime() -> Option<PathBuf> {
    let architectures = Path::new("/usr/lib").read_dir().ok()?.flatten();
    let library = |entry: std::fs::DirEntry| entry.path().join("faketime/libfaketimeMT.so.1");
    architectures.map(library).find(|library| library.is_file())
}
