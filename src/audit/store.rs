//! The rows of the audit trail. They are inserted and read, and nothing else.

use sqlx::{PgConnection, PgExecutor};

use super::{Entry, Filter, Recorded};

/// Writes an entry in the caller's transaction, with the rows that this changed until now.
///
/// # Errors
/// Failures of the database; then the caller's change must not be committed either.
pub async fn insert(connection: &mut PgConnection, entry: Entry) -> sqlx::Result<()> {
    let entry = entry.clean();
    sqlx::query(
        "INSERT INTO audit_entries (actor, token_id, roles, peer, request_id, rpc, target,
                account_ids, idempotency_key, code, reason, request, answer, changes, suppressed)
         SELECT $1, $2, $3, $4, $5, $6, $7,
                ARRAY(SELECT unnest($8::uuid[])
                      UNION
                      SELECT (coalesce(change -> 'after', change -> 'before') ->> 'account_id')::uuid
                        FROM jsonb_array_elements(noted.changes) AS change
                       WHERE coalesce(change -> 'after', change -> 'before') ->> 'account_id'
                             IS NOT NULL
                      UNION
                      SELECT account_id FROM accounts WHERE handle = $9),
                $10, $11, $12, $13, $14, noted.changes, $15
           FROM (SELECT noted_changes() AS changes) AS noted",
    )
    .bind(entry.actor)
    .bind(entry.token_id)
    .bind(entry.roles)
    .bind(entry.peer)
    .bind(entry.request_id)
    .bind(entry.rpc)
    .bind(entry.target)
    .bind(entry.account_ids)
    .bind(entry.handle)
    .bind(entry.idempotency_key)
    .bind(entry.code)
    .bind(entry.reason)
    .bind(entry.request)
    .bind(entry.answer)
    .bind(entry.suppressed)
    .execute(connection)
    .await?;
    Ok(())
}

/// The rows that a filter lets through, newest first.
///
/// # Errors
/// Failures of the database.
pub async fn list(executor: impl PgExecutor<'_>, filter: &Filter) -> sqlx::Result<Vec<Recorded>> {
    sqlx::query_as(
        "SELECT audit_entry, recorded_at, actor, token_id, roles, peer, request_id, rpc, target,
                account_ids, idempotency_key, code, reason, request, answer, changes, suppressed
           FROM audit_entries
          WHERE ($1::bigint IS NULL OR audit_entry < $1)
            AND ($2::uuid IS NULL OR account_ids @> ARRAY[$2])
            AND ($3::text IS NULL OR actor = $3)
            AND ($4::text IS NULL OR rpc = $4 OR split_part(rpc, '/', 3) = $4)
            AND ($5::text IS NULL OR code = $5)
            AND ($6::timestamptz IS NULL OR recorded_at >= $6)
            AND ($7::timestamptz IS NULL OR recorded_at < $7)
          ORDER BY audit_entry DESC
          LIMIT $8",
    )
    .bind(filter.before)
    .bind(filter.account)
    .bind(filter.actor.as_deref())
    .bind(filter.rpc.as_deref())
    .bind(filter.code.as_deref())
    .bind(filter.from)
    .bind(filter.until)
    .bind(filter.limit)
    .fetch_all(executor)
    .await
}
