//! The tests' own databases: each has one, and what went wrong with it is told apart.

use sqlx::{ConnectOptions as _, Executor as _, postgres::PgConnectOptions};
use tollgate::database::failure::DatabaseFailure;

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
