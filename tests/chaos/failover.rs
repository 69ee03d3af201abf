//! A primary with a synchronous standby loses its power in the middle of traffic, and the standby takes
//! its place. Servers are not told: they find the new one where the old one was.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastrand::Rng;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::{
    fleet::Database,
    harness::{
        own_postgres::{
            ADMINISTRATOR, OwnPostgres, as_its_user, can_copy_clusters, make_private, program, run,
        },
        process::reachable_directory,
    },
    relay::{Target, Weather},
    scene::Scene,
};

const STANDBY: &str = "standby";
const DATABASE: &str = "tollgate";
const SOCKET: &str = ".s.PGSQL.5432";
/// How long there is traffic before the primary dies, and after the standby has taken over.
const BEFORE: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(4);
/// How soon after the promotion recordings are acknowledged again, on a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// A standby of a primary, which from now on commits nothing that the standby has not on disk.
async fn synchronous_standby(primary: &OwnPostgres, directory: &Path) -> OwnPostgres {
    let cluster = directory.join(STANDBY);
    make_private(&cluster);
    let socket = primary.cluster().display();
    let source = format!("host={socket} user={ADMINISTRATOR} application_name={STANDBY}");
    run(as_its_user(program("pg_basebackup"))
        .args(["--dbname", &source, "--pgdata", cluster.to_str().unwrap()])
        .args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]));
    // Of the socket that is beside the primary's files.
    fs::remove_file(cluster.join(format!("{SOCKET}.lock"))).unwrap();
    let standby = OwnPostgres::of(&cluster).following().await;
    let mut administrator = primary.administrator("postgres").await;
    // After the copy was made: the standby, once promoted, waits for none of its own.
    let names = format!("ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'");
    administrator.execute(AssertSqlSafe(names)).await.unwrap();
    administrator.execute("SELECT pg_reload_conf()").await.unwrap();
    let synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    loop {
        let count = sqlx::query_scalar(synchronous).fetch_one(&mut administrator).await;
        if count.is_ok_and(|count: i64| count == 1) {
            return standby;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn socket(postgres: &OwnPostgres) -> PathBuf {
    postgres.cluster().join(SOCKET)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_takes_over_has_all_that_was_acknowledged() {
    if !can_copy_clusters() {
        return;
    }
    let directory = reachable_directory();
    let primary = OwnPostgres::make(directory.path(), "").await;
    primary.administrator("postgres").await.execute("CREATE DATABASE tollgate").await.unwrap();
    let standby = synchronous_standby(&primary, directory.path()).await;
    let database = Database {
        socket: socket(&primary),
        user: ADMINISTRATOR.to_owned(),
        name: DATABASE.to_owned(),
        faketime: None,
    };
    let mut rng = Rng::new();
    let now = Instant::now();
    let scene = Scene::start(2, &database, directory.path(), &mut rng, now).await;
    tokio::time::sleep(BEFORE).await;

    // What a proxy or a virtual address of one's own does in production.
    let each = |weather| scene.fleet.seats.iter().for_each(|seat| seat.outlet.set(weather));
    let killed = Instant::now();
    primary.kill();
    each(Weather::Cut);
    standby.promote().await;
    let promoted = Instant::now();
    scene.fleet.seats.iter().for_each(|seat| seat.outlet.lead_to(Target::Socket(socket(&standby))));
    each(Weather::Clear);
    let before = scene.acknowledged();
    while scene.acknowledged() == before {
        assert!(promoted.elapsed() < BACK_WITHIN, "nothing is recorded after the promotion");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "{before} recordings, then promoted within {} ms; the next after {} ms more",
        (promoted - killed).as_millis(),
        promoted.elapsed().as_millis()
    );
    tokio::time::sleep(AFTER).await;
    let verdict = scene.judge(standby.options(ADMINISTRATOR, DATABASE)).await;
    println!("{verdict}");
    assert_eq!(verdict.violations(), 0, "{verdict}");
}
