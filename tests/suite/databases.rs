//! The tests' own databases: each has one, and what went wrong with it is told apart.

use std::collections::BTreeSet;

use sqlx::{ConnectOptions as _, Connection as _, Executor as _, postgres::PgConnectOptions};
use tollgate::database::{self, failure::DatabaseFailure};

use crate::harness::postgres::{fresh_database, url_of};

#[tokio::test]
async fn every_test_has_a_migrated_database_of_its_own() {
    let (first, second) = tokio::join!(fresh_database(), fresh_database());
    assert_ne!(first.get_database(), second.get_database());
    let mut connection = first.connect().await.unwrap();
    connection.execute("CREATE TABLE only_here ()").await.unwrap();
    let applied: i64 = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations WHERE success")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(applied > 0, "no migration ran");
    let from_url: PgConnectOptions = url_of(&second).parse().unwrap();
    let found: Option<String> = sqlx::query_scalar("SELECT to_regclass('only_here')::text")
        .fetch_one(&mut from_url.connect().await.unwrap())
        .await
        .unwrap();
    assert_eq!(found, None);
}

/// As when a caller hangs up at the wrong moment.
#[tokio::test]
async fn a_connection_whose_begin_was_given_up_does_not_come_back_with_a_transaction_open() {
    let pool = database::pool::single(fresh_database().await, "test");
    pool.execute("CREATE TABLE written (number integer)").await.unwrap();
    let mut given_up = 0;
    for tries in 0..5_000 {
        if tries >= 50 && given_up > 0 {
            break;
        }
        let mut connection = pool.acquire().await.unwrap();
        let mut begin = std::pin::pin!(connection.begin());
        // Now and then it is answered at once, on a busy machine many times in a row.
        given_up += u32::from(futures_util::poll!(&mut begin).is_pending());
    }
    assert!(given_up > 0, "each was answered at once");
    pool.execute("INSERT INTO written VALUES (1)").await.unwrap();
    // Another session sees what is committed.
    let mut other = pool.connect_options().connect().await.unwrap();
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM written").fetch_one(&mut other).await.unwrap();
    assert_eq!(count, 1, "what was answered was not committed");
}

#[tokio::test]
async fn a_connection_without_one_comes_back() {
    let pool = database::pool::single(fresh_database().await, "test");
    let mut sessions = BTreeSet::new();
    for _ in 0..200 {
        let of: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&pool).await.unwrap();
        sessions.insert(of);
        let mut transaction = pool.begin().await.unwrap();
        transaction.execute("SELECT 1").await.unwrap();
        transaction.commit().await.unwrap();
    }
    assert_eq!(sessions.len(), 1, "sessions of one connection");
}

#[tokio::test]
async fn a_session_that_the_database_ended_says_nothing_about_the_statement() {
    let database = fresh_database().await;
    // Of a class that is a defect where a statement answers it.
    let mut open = database.connect().await.unwrap();
    let defect = open.execute("SELECT 1 / 0").await.unwrap_err();
    assert!(matches!(defect.into(), DatabaseFailure::Broken(_)));
    let fatal = database.database("not there").connect().await.unwrap_err();
    assert!(matches!(fatal.into(), DatabaseFailure::Away(_)));
}
