//! How little the database has to do with authorizing: its commits while many requests are
//! authorized, less those while none is.

use std::time::{Duration, Instant};

use sqlx::{Executor as _, PgConnection};
use tokio::task::JoinSet;
use tollgate::proto::authorize_response::Decision;

use crate::harness::{
    own_postgres::{ADMINISTRATOR, OwnPostgres},
    process::reachable_directory,
    server::TestServer,
    world::{World, authorize, request},
};

const DATABASE: &str = "tollgate";

const CLIENTS: usize = 32;
/// With the warm-up within what may be outstanding for one account. One account, because a lease is
/// renewed every so many seconds, however much is spent meanwhile: the busier, the rarer.
const AUTHORIZATIONS: usize = 16_000;
/// Before the count begins: key and account are known, the lease as large as spending asks.
const WARM_UP: usize = 3_200;
/// A session that has become idle hands in what it counted after ten seconds at the latest.
const UNTIL_COUNTED: Duration = Duration::from_secs(11);

/// Authorizes so many requests by many clients at once.
async fn authorize_many(world: &World, key: &str, count: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, asked) = (world.client.clone(), request(key, 100));
        tasks.spawn(async move {
            for _ in 0..count / CLIENTS {
                let decision = authorize(&client, &asked).await.unwrap();
                assert!(matches!(decision, Decision::Grant(_)), "{decision:?}");
            }
        });
    }
    tasks.join_all().await;
}

/// The transactions of the database so far; each statement of the hot path is one.
async fn commits(statistics: &mut PgConnection) -> i64 {
    tokio::time::sleep(UNTIL_COUNTED).await;
    let counted = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1";
    sqlx::query_scalar(counted).bind(DATABASE).fetch_one(statistics).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_authorizations_take_less_than_five_statements() {
    let directory = reachable_directory();
    // The first round of autovacuum in a new database is a hundred transactions.
    let postgres = OwnPostgres::make(directory.path(), "autovacuum = off").await;
    // From another database, so that what is asked here does not count.
    let mut statistics = postgres.administrator("postgres").await;
    statistics.execute("CREATE DATABASE tollgate").await.unwrap();
    let server = TestServer::start_on(postgres.options(ADMINISTRATOR, DATABASE)).await;
    let world = World::on(server).await;
    world.startup("acme", "100000").await;
    let key = world.key("acme").await;
    authorize_many(&world, &key, WARM_UP).await;

    let begun = Instant::now();
    let before = commits(&mut statistics).await;
    authorize_many(&world, &key, AUTHORIZATIONS).await;
    let busy = commits(&mut statistics).await - before;
    let took = begun.elapsed();

    // As long without a request: beats, and a look at the leases each second.
    let begun = Instant::now();
    let before = commits(&mut statistics).await;
    tokio::time::sleep(took.saturating_sub(UNTIL_COUNTED + begun.elapsed())).await;
    let idle = commits(&mut statistics).await - before;

    let thousands = i64::try_from(AUTHORIZATIONS / 1_000).unwrap();
    eprintln!(
        "{AUTHORIZATIONS} authorizations in {:?}: {busy} statements, {idle} without them",
        took.saturating_sub(2 * UNTIL_COUNTED)
    );
    assert!(idle > 0, "beats are counted");
    assert!(busy - idle < 5 * thousands, "{} for {thousands} thousand", busy - idle);
}
