//! The lease protocol when something stands in its way: a locked row, a silent database, a stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tollgate::proto::{
    DenialReason, ListUnsettledRequest, SuspendAccountRequest, authorize_response::Decision,
};
use tonic::Code;

use crate::harness::{
    postgres::fresh_database,
    server::TestServer,
    wire::Wire,
    world::{World, all_roles, authorize, request},
};

#[tokio::test]
async fn a_locked_account_does_not_hold_up_the_others() {
    let world = World::start().await;
    let account = world.startup("frozen", "1").await;
    world.startup("acme", "1").await;
    let (frozen, acme) = (world.key("frozen").await, world.key("acme").await);
    let pool = world.server.pool();
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM account_funds WHERE account_id = $1::uuid FOR UPDATE")
        .bind(&account)
        .execute(&mut *holder)
        .await
        .unwrap();

    let client = world.client.clone();
    let waiting = tokio::spawn(async move { authorize(&client, &request(&frozen, 10)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    world.granted(&request(&acme, 10)).await;
    assert!(begun.elapsed() < Duration::from_millis(1_500), "it took {:?}", begun.elapsed());

    // Who waits for the locked account itself is served as soon as it is free.
    holder.rollback().await.unwrap();
    waiting.await.unwrap().expect("it was answered when the lock was gone");
}

/// As when batches of usage take long: whoever asks for the row now and then finds it held each time.
#[tokio::test(flavor = "multi_thread")]
async fn between_two_who_hold_the_row_for_long_whoever_waits_for_it_is_served() {
    let world = World::start().await;
    let mut locked = Vec::new();
    for handle in ["one", "two", "three", "four"] {
        locked.push((world.startup(handle, "1").await, world.key(handle).await));
    }
    let over = Arc::new(AtomicBool::new(false));
    let mut holders = JoinSet::new();
    for (place, (account, _)) in (0..).zip(&locked) {
        let (pool, account, over) = (world.server.pool(), account.clone(), Arc::clone(&over));
        holders.spawn(async move {
            tokio::time::sleep(place * Duration::from_millis(400)).await;
            while !over.load(Ordering::Relaxed) {
                let mut holder = pool.begin().await.unwrap();
                let held = "SELECT FROM account_funds WHERE account_id = $1::uuid FOR UPDATE";
                sqlx::query(held).bind(&account).execute(&mut *holder).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1_600)).await;
                holder.commit().await.unwrap();
                // So long does whoever holds it need to come back.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut waiting = JoinSet::new();
    for (_, key) in &locked {
        let (client, key) = (world.client.clone(), key.clone());
        waiting.spawn(async move { authorize(&client, &request(&key, 10)).await.map(drop) });
    }
    let answers = waiting.join_all().await;
    over.store(true, Ordering::Relaxed);
    holders.join_all().await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test]
async fn a_request_that_waited_beyond_the_heartbeats_deadline_gets_no_grant() {
    let world = World::start().await;
    let account = world.startup("acme", "1").await;
    let key = world.key("acme").await;
    let pool = world.server.pool();
    sqlx::raw_sql("ALTER FUNCTION heartbeat RENAME TO silent").execute(&pool).await.unwrap();
    let silent = Instant::now();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM account_funds WHERE account_id = $1::uuid FOR UPDATE")
        .bind(&account)
        .execute(&mut *holder)
        .await
        .unwrap();
    let client = world.client.clone();
    let waiting = tokio::spawn(async move { authorize(&client, &request(&key, 10)).await });
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    assert!(silent.elapsed() > Duration::from_secs(5));
    holder.rollback().await.unwrap();
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}

#[tokio::test]
async fn what_a_server_leaves_behind_is_on_the_unsettled_list_once_it_has_expired() {
    let database = fresh_database().await;
    let world = World::on(TestServer::start_on(database.clone()).await).await;
    world.startup("acme", "1").await;
    let key = world.key("acme").await;
    let (lost, recorded) =
        (world.granted(&request(&key, 10)).await, world.granted(&request(&key, 20)).await);
    world.record(&recorded.token, 1_000, 20).await.unwrap();
    world.server.drain().await.unwrap();

    let server = TestServer::start_on(database).await;
    let client = all_roles(&server).await;
    let unsettled = || async {
        let answer = client.usage().list_unsettled(ListUnsettledRequest::default()).await.unwrap();
        let listed = answer.into_inner().authorizations;
        listed.into_iter().map(|one| one.authorization_id).collect::<Vec<_>>()
    };
    assert_eq!(unsettled().await, Vec::<String>::new(), "it may still be recorded in time");
    sqlx::raw_sql("UPDATE unsettled_authorizations SET expired_at = now() - interval '1 second'")
        .execute(&server.pool())
        .await
        .unwrap();
    assert_eq!(unsettled().await, [lost.authorization_id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_fall_silent_are_given_up_and_made_anew() {
    let database = fresh_database().await;
    let wire = Wire::to(database.clone()).await;
    let world = World::on(TestServer::start_on(wire.options.clone()).await).await;
    world.startup("acme", "100").await;
    let key = world.key("acme").await;
    let grant = world.granted(&request(&key, 10)).await;

    // As when a router forgets them: nothing arrives any more, and nobody says so.
    wire.silence();
    let deadline = Instant::now() + Duration::from_secs(40);
    tokio::time::sleep(Duration::from_secs(6)).await;
    while let Err(refused) = authorize(&world.client, &request(&key, 10)).await {
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(Instant::now() < deadline, "the server never came back");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    while let Err(refused) = world.record(&grant.token, 1_000, 10).await {
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(Instant::now() < deadline, "usage was never recorded");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    // It hears again of what others change.
    let other = TestServer::start_on(database).await;
    let suspend =
        SuspendAccountRequest { account: "acme".to_owned(), ..SuspendAccountRequest::default() };
    all_roles(&other).await.accounts().suspend_account(suspend).await.unwrap();
    let denial = loop {
        assert!(Instant::now() < deadline, "the server never heard of the suspension");
        match world.ask(&key, 10).await {
            Decision::Grant(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Decision::Denial(denial) => break denial,
        }
    };
    assert_eq!(denial.reason(), DenialReason::AccountSuspended);
}
