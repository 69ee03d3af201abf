//! The rows of revoked tokens. They are kept after the token's end: who revoked what is history.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};

/// A token that somebody revoked.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct RevokedToken {
    /// Its `jti`.
    pub token_id: String,
    /// Why, in words; may be empty.
    pub reason: String,
    /// The subject of whoever revoked it.
    pub revoked_by: String,
    /// When it stopped to be believed.
    pub revoked_at: DateTime<Utc>,
    /// When it would have ended; unknown where nobody said.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Stores a revocation and returns what is stored: the first one stays as it was.
pub async fn insert(
    connection: &mut PgConnection,
    token_id: &str,
    reason: &str,
    revoked_by: &str,
    expires_at: Option<DateTime<Utc>>,
) -> sqlx::Result<RevokedToken> {
    sqlx::query_as(
        "INSERT INTO revoked_tokens AS kept (token_id, reason, revoked_by, expires_at)
         VALUES ($1, $2, $3, $4)
             ON CONFLICT (token_id) DO UPDATE SET token_id = kept.token_id
         RETURNING token_id, reason, revoked_by, revoked_at, expires_at",
    )
    .bind(token_id)
    .bind(reason)
    .bind(revoked_by)
    .bind(expires_at)
    .fetch_one(connection)
    .await
}

/// How many there are that have not expired.
pub async fn count_unexpired(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "SELECT count(*) FROM revoked_tokens WHERE expires_at IS NULL OR expires_at > now()",
    )
    .fetch_one(connection)
    .await
}

/// The ids of those that a clock slower than the database's by minutes may still take for valid.
pub(super) async fn unexpired(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT token_id
           FROM revoked_tokens
          WHERE expires_at IS NULL OR expires_at > now() - interval '10 minutes'",
    )
    .fetch_all(executor)
    .await
}

/// All of them in the order of their ids, from after one of them.
pub async fn list(
    executor: impl PgExecutor<'_>,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<RevokedToken>> {
    sqlx::query_as(
        "SELECT token_id, reason, revoked_by, revoked_at, expires_at
           FROM revoked_tokens
          WHERE $1::text IS NULL OR token_id > $1
          ORDER BY token_id
          LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(executor)
    .await
}
