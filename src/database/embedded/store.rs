//! What is asked of a fresh server before anybody else may use it.

use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};

/// SQLSTATE `duplicate_database`: another connection was quicker.
const DUPLICATE_DATABASE: &str = "42P04";

/// Makes the database `tollgate` where it is missing.
pub(super) async fn create_database(server: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let mut connection = server.connect().await?;
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'tollgate')")
            .fetch_one(&mut connection)
            .await?;
    if !exists {
        let created = sqlx::query("CREATE DATABASE tollgate").execute(&mut connection).await;
        match created {
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(DUPLICATE_DATABASE) => {}
            other => {
                other?;
            }
        }
    }
    connection.close().await
}
