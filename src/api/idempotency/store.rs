//! The rows behind [`super::begin`].

use sqlx::{PgConnection, Row as _};

/// What an earlier call under the same key left.
pub(super) struct Earlier {
    pub(super) request_hash: Vec<u8>,
    pub(super) response: Vec<u8>,
    pub(super) answer_erased: bool,
}

/// Takes the key for this transaction. While another transaction holds the same key this waits for
/// its end, so that of any number of concurrent calls one does the work and the rest see its answer.
/// Returns whether the key was free.
pub(super) async fn take(
    connection: &mut PgConnection,
    rpc: &str,
    key: &str,
    request_hash: &[u8; 32],
) -> sqlx::Result<bool> {
    let taken = sqlx::query(
        "INSERT INTO idempotency_keys (rpc, idempotency_key, request_hash, response)
         VALUES ($1, $2, $3, '')
         ON CONFLICT DO NOTHING",
    )
    .bind(rpc)
    .bind(key)
    .bind(request_hash.as_slice())
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// What is stored under the key.
pub(super) async fn earlier(
    connection: &mut PgConnection,
    rpc: &str,
    key: &str,
) -> sqlx::Result<Option<Earlier>> {
    let row = sqlx::query(
        "SELECT request_hash, response, answer_erased
           FROM idempotency_keys
          WHERE rpc = $1 AND idempotency_key = $2",
    )
    .bind(rpc)
    .bind(key)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Earlier {
            request_hash: row.try_get("request_hash")?,
            response: row.try_get("response")?,
            answer_erased: row.try_get("answer_erased")?,
        })
    })
    .transpose()
}

/// Stores the answer beside the effect, in the effect's own transaction.
pub(super) async fn answer(
    connection: &mut PgConnection,
    rpc: &str,
    key: &str,
    response: &[u8],
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE idempotency_keys SET response = $3 WHERE rpc = $1 AND idempotency_key = $2",
    )
    .bind(rpc)
    .bind(key)
    .bind(response)
    .execute(connection)
    .await?;
    Ok(())
}
