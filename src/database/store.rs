//! What is asked of Postgres about a session, or told it, by more than one part.

use sqlx::{PgConnection, PgPool, Row as _};

/// For this transaction, rows are found by their indexes, whatever the statistics say of the newest
/// partitions.
pub(crate) async fn find_by_index(connection: &mut PgConnection) -> sqlx::Result<()> {
    let set = "SELECT set_config(name, 'off', true)
               FROM unnest('{enable_seqscan,enable_hashjoin,enable_mergejoin}'::text[]) AS name";
    sqlx::query(set).execute(connection).await.map(drop)
}

/// Has Postgres note when the newest rows of a table were recorded, so that whoever looks for a moment
/// need not read them all. Nothing depends on it but time.
pub(crate) async fn summarize_newest_ranges(pool: &PgPool, tables: &[&str]) {
    let summarize =
        "SELECT summarize_newest_ranges(name::regclass) FROM unnest($1::text[]) AS name";
    if let Err(error) = sqlx::query(summarize).bind(tables).execute(pool).await {
        tracing::debug!(%error, "the newest rows have to be read to be found");
    }
}

/// Whether the session has a transaction open that began before this statement. An error says that it
/// has one which has failed.
///
/// A prepared statement would not do: the time of a statement is set anew with each of its messages, and
/// its own transaction begins with the first.
pub(super) async fn is_in_transaction(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::raw_sql("SELECT now() < statement_timestamp()").fetch_one(connection).await?.try_get(0)
}

/// The process that a session is, where the server runs.
pub(super) async fn process_of(connection: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await
}
