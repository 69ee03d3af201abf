//! More than the server can do: who is refused then, and that nobody is any more afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio::task::JoinSet;
use tollgate::{cli::client::Client, proto::authorize_response::Decision};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::world::{World, authorize, record, request};

/// Requests that the greedy account has under way.
const GREEDY: usize = 32;
/// How long anything is waited for before the test gives up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two requests of the modest account: just under the least that everybody may ask for.
const MODEST_PACE: Duration = Duration::from_millis(1_100);

/// Each batch of usage takes longer than usage may wait for one.
const SLOW_BATCHES: &str = "
    CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM pg_sleep(0.9); RETURN NULL; END $$;
    CREATE TRIGGER slow AFTER INSERT ON usage_events
        FOR EACH STATEMENT EXECUTE FUNCTION be_slow();";

/// One request after the other, each authorized, then recorded, until `over`. Counts who was refused.
async fn requests(
    client: Client,
    key: String,
    pace: Duration,
    over: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
) {
    while !over.load(Ordering::Relaxed) {
        match authorize(&client, &request(&key, 100)).await {
            Ok(Decision::Grant(grant)) => {
                record(&client, &grant.token, 1_000, 100).await.unwrap();
            }
            Ok(Decision::Denial(denial)) => panic!("{denial:?}"),
            Err(status) => {
                busy(&status);
                refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        tokio::time::sleep(pace).await;
    }
}

/// A refusal says why and when to come back.
fn busy(status: &Status) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "SERVER_BUSY");
    assert!(details.retry_info().unwrap().retry_delay.unwrap() >= Duration::from_secs(1));
}

async fn execute(database: &PgPool, statements: &'static str) {
    sqlx::raw_sql(statements).execute(database).await.unwrap();
}

/// Whether `/metrics` says that load is shed.
async fn is_shedding(world: &World) -> bool {
    world.server.metrics().await.contains("tollgate_shedding_load 1")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_more_than_can_be_recorded_is_refused_and_who_asks_for_little_is_not() {
    let world = World::start().await;
    let database = world.server.pool();
    for account in ["greedy", "modest"] {
        world.startup(account, "100000").await;
    }
    let (greedy, modest) = (world.key("greedy").await, world.key("modest").await);
    let over = Arc::new(AtomicBool::new(false));
    let (greedy_refused, modest_refused) =
        (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let mut gateways = JoinSet::new();
    let mut gateway = |key: &str, pace, refused: &Arc<AtomicU64>| {
        let (over, refused) = (Arc::clone(&over), Arc::clone(refused));
        gateways.spawn(requests(world.client.clone(), key.to_owned(), pace, over, refused));
    };

    execute(&database, SLOW_BATCHES).await;
    gateway(&modest, MODEST_PACE, &modest_refused);
    for _ in 0..GREEDY {
        gateway(&greedy, Duration::ZERO, &greedy_refused);
    }
    let begun = Instant::now();
    while greedy_refused.load(Ordering::Relaxed) < 1_000 {
        assert!(begun.elapsed() < PATIENCE, "nobody is refused");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is_shedding(&world).await);

    // The database is quick again: within moments everybody gets what they ask for.
    execute(&database, "DROP TRIGGER slow ON usage_events").await;
    while is_shedding(&world).await {
        assert!(begun.elapsed() < 2 * PATIENCE, "load is shed though there is nothing in the way");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    over.store(true, Ordering::Relaxed);
    gateways.join_all().await;
    assert_eq!(modest_refused.load(Ordering::Relaxed), 0);
    for _ in 0..100 {
        let grant = world.granted(&request(&greedy, 100)).await;
        world.record(&grant.token, 1_000, 100).await.unwrap();
    }
    world.verify().await;
}
