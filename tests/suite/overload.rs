//! More than the server can do: who is refused then, and that nobody is any more afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::Utc;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tollgate::{
    api::convert::timestamp,
    authorization::limits::{ADMISSION_STEP, TOLERATED_STRAIN},
    cli::client::Client,
    ids::AuthorizationId,
    proto::{
        KeyLimits, Tier, UnauthorizedUsage, authorize_response::Decision,
        record_usage_request::Source,
    },
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::world::{MODEL, World, authorize, record, request, usage};

/// How long anything is waited for before the test gives up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two requests of the greedy account, and between two of the modest one: just under the least
/// that everybody may ask for.
const GREEDY_PACE: Duration = Duration::from_millis(20);
const MODEST_PACE: Duration = Duration::from_millis(1_100);

/// Each batch of usage takes so long that what comes meanwhile waits too long for the next.
const SLOW_BATCHES: &str = "
    CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM pg_sleep(1.8); RETURN NULL; END $$;
    CREATE TRIGGER slow AFTER INSERT ON usage_events
        FOR EACH STATEMENT EXECUTE FUNCTION be_slow();";

/// Requests, one every so often, whatever becomes of the last, until `over`.
async fn at_a_pace<Request: Future<Output = ()> + Send + 'static>(
    pace: Duration,
    over: Arc<AtomicBool>,
    mut request: impl FnMut() -> Request,
) {
    let mut under_way = JoinSet::new();
    while !over.load(Ordering::Relaxed) {
        under_way.spawn(request());
        tokio::time::sleep(pace).await;
    }
    under_way.join_all().await;
}

/// One request, authorized and then recorded. Counts it if it is refused.
async fn one(client: Client, key: String, refused: Arc<AtomicU64>) {
    match authorize(&client, &request(&key, 100)).await {
        Ok(Decision::Grant(grant)) => {
            record(&client, &grant.token, 1_000, 100).await.unwrap();
        }
        Ok(Decision::Denial(denial)) => panic!("{denial:?}"),
        Err(status) => {
            busy(&status);
            refused.fetch_add(1, Ordering::Relaxed);
        }
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
    execute(&database, SLOW_BATCHES).await;
    let mut gateways = JoinSet::new();
    for (pace, key, refused) in
        [(GREEDY_PACE, &greedy, &greedy_refused), (MODEST_PACE, &modest, &modest_refused)]
    {
        let (client, key, refused) = (world.client.clone(), key.clone(), Arc::clone(refused));
        gateways.spawn(at_a_pace(pace, Arc::clone(&over), move || {
            one(client.clone(), key.clone(), Arc::clone(&refused))
        }));
    }
    let begun = Instant::now();
    while greedy_refused.load(Ordering::Relaxed) < 100 {
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

/// Usage that nobody was granted.
async fn ungranted(client: Client, key_id: String) {
    let done = UnauthorizedUsage {
        event_id: AuthorizationId::generate().to_string(),
        account: "migrating".to_owned(),
        key_id,
        model: MODEL.to_owned(),
        occurred_at: Some(timestamp(Utc::now())),
    };
    let usage = usage(Source::Unauthorized(done), 1_000, 100);
    client.usage().record_usage(usage).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_no_grant_has_part_in_refuses_no_request_however_long_it_waits() {
    let world = World::start().await;
    for account in ["migrating", "modest"] {
        world.startup(account, "100000").await;
    }
    let (migrating, _) = world.issue("migrating", Tier::Standard, KeyLimits::default()).await;
    let modest = world.key("modest").await;
    execute(&world.server.pool(), SLOW_BATCHES).await;
    let over = Arc::new(AtomicBool::new(false));
    let (client, key_id) = (world.client.clone(), migrating.key_id);
    let migration = tokio::spawn(at_a_pace(GREEDY_PACE, Arc::clone(&over), move || {
        ungranted(client.clone(), key_id.clone())
    }));
    let begun = Instant::now();
    // Twice as long as a server is patient.
    while begun.elapsed() < 2 * ADMISSION_STEP * TOLERATED_STRAIN {
        world.granted(&request(&modest, 100)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!is_shedding(&world).await);
    over.store(true, Ordering::Relaxed);
    migration.await.unwrap();
    world.verify().await;
}
