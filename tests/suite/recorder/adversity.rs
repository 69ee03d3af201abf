//! Crowds, refusals, locks and losses.

use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
    time::Duration,
};

use rust_decimal::Decimal;
use rustix::process::{Pid, Signal};
use sqlx::ConnectOptions;
use tollgate::{
    database::embedded::{EmbeddedCluster, EmbeddedOptions},
    ids::{AccountId, AuthorizationId},
    problem::Problem,
};
use uuid::Uuid;

use super::{Books, PATIENCE, amount, insist, record_all, usage};
use crate::harness::postgres::{TOLLGATE, migrate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_events_of_fifty_accounts_with_duplicates_on_two_servers_add_up() {
    let books = Books::open().await;
    let mut accounts = Vec::new();
    for number in 0..50 {
        // Some run out in the middle; some pay later.
        accounts.push(books.account_with("0.1", "3", number % 3 == 0).await);
    }
    let (second, _) = books.another_server();
    let mut events = Vec::new();
    for number in 0..10_000_usize {
        // Charges with all twelve decimals.
        let charge = format!("0.0{:011}", number * 7_919 + 1);
        events.push(usage(accounts[number % 50], &charge));
    }
    let first_half = events[..6_000].to_vec();
    let second_half = events[4_000..].to_vec();
    let again: Vec<_> = events.iter().step_by(10).cloned().collect();
    let (one, two, three) = tokio::join!(
        record_all(&books.recorder, first_half),
        record_all(&second, second_half),
        record_all(&second, again),
    );
    let answers: Vec<_> = one.into_iter().chain(two).chain(three).map(Result::unwrap).collect();
    let first_time = answers.iter().filter(|answer| !answer.duplicate).count();
    assert_eq!(first_time, 10_000);

    let mut expected: HashMap<AccountId, Decimal> = HashMap::new();
    for event in &events {
        *expected.entry(event.account_id).or_default() += event.charge.decimal();
    }
    for account in accounts {
        assert_eq!(books.prove(account).await, expected[&account]);
        let [promotional, credits, overdrawn, unbilled] =
            books.balances(account).await.map(|one| Decimal::from_str(&one).unwrap());
        let left = promotional + credits - overdrawn - unbilled;
        assert_eq!(left, Decimal::new(31, 1) - expected[&account]);
    }
    books.stop().await;
}

#[tokio::test]
async fn an_event_that_the_database_refuses_does_not_fail_its_neighbours() {
    let books = Books::open().await;
    books.execute("ALTER TABLE usage_events ADD CONSTRAINT unlucky CHECK (input <> 666)").await;
    let account = books.account("100").await;
    let mut events: Vec<_> = (0..300).map(|_| usage(account, "0.01")).collect();
    for unlucky in [0, 150, 151, 299] {
        events[unlucky].fingerprint.quantities.input = 666;
    }
    let unlucky: HashSet<_> = [0, 150, 151, 299].map(|place: usize| events[place].event_id).into();
    for (event, answer) in events.clone().iter().zip(record_all(&books.recorder, events).await) {
        if unlucky.contains(&event.event_id) {
            assert_eq!(answer.unwrap_err().reason(), "USAGE_QUARANTINED");
        } else {
            assert!(!answer.unwrap().duplicate);
        }
    }
    let kept: Vec<Uuid> = books
        .ask("SELECT array_agg(event_id) FROM quarantined_usage WHERE account_id = $1", account)
        .await;
    assert_eq!(kept.into_iter().map(AuthorizationId).collect::<HashSet<_>>(), unlucky);
    assert_eq!(books.prove(account).await, Decimal::new(296, 2));
    books.stop().await;
}

#[tokio::test]
async fn a_lock_on_one_account_holds_up_no_other() {
    let books = Books::open().await;
    let held = books.account("10").await;
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(books.account("10").await);
    }
    let mut holder = books.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM account_funds WHERE account_id = $1 FOR UPDATE")
        .bind(held.0)
        .execute(&mut *holder)
        .await
        .unwrap();
    let waiting = books.recorder.submit(usage(held, "0.5")).unwrap();
    let waiting = tokio::spawn(waiting.answer());
    for _ in 0..20 {
        for account in &others {
            let answer = books.recorder.record(usage(*account, "0.01"));
            tokio::time::timeout(Duration::from_secs(1), answer).await.unwrap().unwrap();
        }
    }
    assert!(!waiting.is_finished());
    holder.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().charge, amount("0.5"));
    books.prove(held).await;
    books.stop().await;
}

#[tokio::test]
async fn a_lost_connection_loses_nothing_and_posts_nothing_twice() {
    let books = Books::open().await;
    let account = books.account("1000").await;
    let events: Vec<_> = (0..2_000).map(|_| usage(account, "0.01")).collect();
    let recording = {
        let (recorder, events) = (books.recorder.clone(), events.clone());
        tokio::spawn(async move {
            for chunk in events.chunks(50) {
                insist(&recorder, chunk.to_vec()).await;
            }
        })
    };
    let mut kills = 0;
    while !recording.is_finished() {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let killed: i64 = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name LIKE '%usage writer'",
        )
        .fetch_one(&books.pool)
        .await
        .unwrap();
        kills += killed;
    }
    recording.await.unwrap();
    assert!(kills > 0);
    assert_eq!(books.prove(account).await, Decimal::from(20));
    let settled: HashSet<_> = books.settled.lock().unwrap().iter().map(|one| one.1).collect();
    assert_eq!(settled, events.iter().map(|event| event.event_id).collect());
    books.stop().await;
}

#[tokio::test]
async fn a_failing_disk_is_waited_for_and_is_no_fault_of_the_usage() {
    let books = Books::open().await;
    let account = books.account("100").await;
    books
        .execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'could not write' USING ERRCODE = 'io_error'; END $$;
             CREATE TRIGGER disk BEFORE INSERT ON transfers
             FOR EACH STATEMENT EXECUTE FUNCTION fail()",
        )
        .await;
    let (recorder, events) = (books.recorder.clone(), vec![usage(account, "1")]);
    let recording = tokio::spawn(async move { insist(&recorder, events).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    books.execute("DROP TRIGGER disk ON transfers").await;
    recording.await.unwrap();
    assert_eq!(books.prove(account).await, Decimal::ONE);
    books.stop().await;
}

#[tokio::test]
async fn a_killed_postgres_is_waited_for_and_what_was_acknowledged_is_there_once() {
    let directory = tempfile::tempdir().unwrap();
    let cluster =
        EmbeddedCluster::start(EmbeddedOptions::new(directory.path(), TOLLGATE)).await.unwrap();
    let database = cluster.connect_options(tollgate::database::embedded::DATABASE);
    migrate(&mut database.connect().await.unwrap()).await;
    let books = Books::on(database).await;
    let account = books.account("1000").await;
    books.recorder.record(usage(account, "0.01")).await.unwrap();

    let events: Vec<_> = (0..500).map(|_| usage(account, "0.01")).collect();
    let recorder = books.recorder.clone();
    let recording = tokio::spawn(async move { insist(&recorder, events).await });
    let postmaster = cluster.postmaster_pid().unwrap();
    let pid = Pid::from_raw(i32::try_from(postmaster).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    recording.await.unwrap();
    // Those that were answered before it died did not have to wait for its return.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while sqlx::query("SELECT").execute(&books.pool).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "Postgres did not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(books.prove(account).await, Decimal::new(501, 2));
    books.stop().await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_writes_what_is_queued() {
    let books = Books::open().await;
    let account = books.account("100").await;
    let receipts: Vec<_> =
        (0..3_000).map(|_| books.recorder.submit(usage(account, "0.01")).unwrap()).collect();
    assert!(books.tasks.stop(PATIENCE).await);
    for receipt in receipts {
        receipt.answer().await.unwrap();
    }
    let refusal = books.recorder.record(usage(account, "0.01")).await.unwrap_err();
    assert_eq!(refusal.reason(), "SERVER_STOPPING");
    assert_eq!(books.prove(account).await, Decimal::from(30));
}

#[tokio::test]
async fn partitions_are_made_ahead_once_and_cannot_be_emptied() {
    let books = Books::open().await;
    let made: i32 = sqlx::query_scalar("SELECT ensure_usage_partitions(3)")
        .fetch_one(&books.pool)
        .await
        .unwrap();
    assert_eq!(made, 0);
    let made: i32 = sqlx::query_scalar("SELECT ensure_usage_partitions(5)")
        .fetch_one(&books.pool)
        .await
        .unwrap();
    assert_eq!(made, 4);
    let account = books.account("10").await;
    books.recorder.record(usage(account, "0.5")).await.unwrap();
    let partition: String = books
        .ask("SELECT tableoid::regclass::text FROM usage_events WHERE account_id = $1", account)
        .await;
    for sql in [
        format!("TRUNCATE {partition}"),
        format!("DELETE FROM {partition}"),
        format!("UPDATE {partition} SET charge = 0"),
        "TRUNCATE usage_events".to_owned(),
    ] {
        let refusal =
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&books.pool).await.unwrap_err();
        assert_eq!(refusal.as_database_error().unwrap().code().unwrap(), "23001");
    }
    books.stop().await;
}
