//! Which process a session is.

use sqlx::PgConnection;

/// The process that a session is, where the server runs.
pub(super) async fn process_of(connection: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await
}
