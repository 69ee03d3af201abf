//! The SQL of erasing on request and by age. Each statement is a transaction of its own and takes a
//! bounded number of rows; none locks a row that recording usage needs.

use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use super::erasure::Subject;
use crate::{database::store::find_by_index, ids::AccountId};

/// Rows that a step looks at: some milliseconds of work.
const STEP_ROWS: i64 = 5_000;
/// Entries of the audit trail that a step looks at, each of which can hold a hundred kilobytes of JSON.
const STEP_ENTRIES: i32 = 200;

fn counted(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

// In the order of the primary key, whose partitions follow each other: no index is needed for end users,
// for which everybody who records would pay. An event's details lie in the partition of its id.
const DETAILS: &str = "
    WITH page AS MATERIALIZED (
        SELECT event_id, end_user
        FROM usage_details
        WHERE account_id = $1 AND event_id > $2 AND event_id < $3
        ORDER BY event_id
        LIMIT $4
    ), gone AS (
        DELETE FROM usage_details AS details
        USING page
        WHERE details.account_id = $1 AND details.event_id = page.event_id
          AND ($5::text IS NULL OR page.end_user = $5)
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) AS erased,
           (SELECT event_id FROM page ORDER BY event_id DESC LIMIT 1) AS last";

/// Details of usage after an event; how many, and which came last.
pub(super) async fn erase_details(
    pool: &PgPool,
    subject: &Subject,
    after: Uuid,
    until: Uuid,
) -> sqlx::Result<(u64, Option<Uuid>)> {
    let mut step = pool.begin().await?;
    find_by_index(&mut step).await?;
    let row = sqlx::query(DETAILS)
        .bind(subject.account)
        .bind(after)
        .bind(until)
        .bind(STEP_ROWS)
        .bind(subject.end_user.as_deref())
        .fetch_one(&mut *step)
        .await?;
    step.commit().await?;
    Ok((counted(row.try_get("erased")?), row.try_get("last")?))
}

// What is needed to record the event by hand stays. The database's own words may repeat a value.
const QUARANTINED: &str = "
    UPDATE quarantined_usage
    SET event = event - '{end_user,labels,provider_usage,request_id}'::text[], error = '[erased]'
    WHERE quarantine_id IN (
        SELECT quarantine_id
        FROM quarantined_usage
        WHERE account_id = $1 AND event ?| '{end_user,labels,provider_usage,request_id}'::text[]
          AND ($2::text IS NULL OR event ->> 'end_user' = $2)
        LIMIT $3)";

/// What is personal in usage that the database refused.
pub(super) async fn erase_quarantined(pool: &PgPool, subject: &Subject) -> sqlx::Result<u64> {
    let query = sqlx::query(QUARANTINED).bind(subject.account).bind(subject.end_user.as_deref());
    Ok(query.bind(STEP_ROWS).execute(pool).await?.rows_affected())
}

const UNSETTLED: &str = "
    UPDATE unsettled_authorizations
    SET request_id = ''
    WHERE (account_id, authorization_id) IN (
        SELECT account_id, authorization_id
        FROM unsettled_authorizations
        WHERE account_id = $1 AND request_id <> ''
        LIMIT $2)";

/// Request ids of authorizations without usage.
pub(super) async fn erase_unsettled(pool: &PgPool, account: AccountId) -> sqlx::Result<u64> {
    let query = sqlx::query(UNSETTLED).bind(account).bind(STEP_ROWS);
    Ok(query.execute(pool).await?.rows_affected())
}

const KEYS: &str = "
    UPDATE api_keys
    SET name = '[erased]',
        revoked_reason = CASE WHEN revoked_reason = '' THEN '' ELSE '[erased]' END
    WHERE key_id IN (
        SELECT key_id
        FROM api_keys
        WHERE account_id = $1 AND (name <> '[erased]' OR revoked_reason NOT IN ('', '[erased]'))
        LIMIT $2)";

/// Names of keys, and why they were revoked.
pub(super) async fn erase_keys(pool: &PgPool, account: AccountId) -> sqlx::Result<u64> {
    let query = sqlx::query(KEYS).bind(account).bind(STEP_ROWS);
    Ok(query.execute(pool).await?.rows_affected())
}

// An answer names its account by id. Its request's hash goes with it: a name can be found by trying.
const ANSWERS: &str = "
    WITH page AS MATERIALIZED (
        SELECT rpc, idempotency_key
        FROM idempotency_keys
        WHERE (rpc, idempotency_key) > ($2, $3)
        ORDER BY rpc, idempotency_key
        LIMIT $4
    ), gone AS (
        UPDATE idempotency_keys AS stored
        SET response = '', answer_erased = true,
            request_hash = sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
        FROM page
        WHERE stored.rpc = page.rpc AND stored.idempotency_key = page.idempotency_key
          AND NOT answer_erased
          AND position(convert_to($1::uuid::text, 'UTF8') IN response) > 0
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) AS erased, last.rpc, last.idempotency_key
    FROM (SELECT) AS one
    LEFT JOIN (SELECT rpc, idempotency_key FROM page
               ORDER BY rpc DESC, idempotency_key DESC LIMIT 1) AS last ON true";

/// Stored answers about an account after an RPC and a key; how many, and which came last.
pub(super) async fn erase_answers(
    pool: &PgPool,
    account: AccountId,
    rpc: &str,
    key: &str,
) -> sqlx::Result<(u64, Option<(String, String)>)> {
    let query = sqlx::query(ANSWERS).bind(account).bind(rpc).bind(key).bind(STEP_ROWS);
    let row = query.fetch_one(pool).await?;
    let last: (Option<String>, Option<String>) =
        (row.try_get("rpc")?, row.try_get("idempotency_key")?);
    Ok((counted(row.try_get("erased")?), last.0.zip(last.1)))
}

/// What is personal in the audit trail after an entry; how many, and which came last.
pub(super) async fn erase_audit_entries(
    pool: &PgPool,
    account: AccountId,
    after: i64,
) -> sqlx::Result<(u64, Option<i64>)> {
    let row = sqlx::query("SELECT erased, last FROM erase_audit_entries($1, $2, $3)")
        .bind(account)
        .bind(after)
        .bind(STEP_ENTRIES)
        .fetch_one(pool)
        .await?;
    Ok((counted(row.try_get("erased")?), row.try_get("last")?))
}

const NOTES: &str = "
    SELECT set_config('tollgate.changes', coalesce((
               SELECT string_agg(erase_fields(change)::text, ',' ORDER BY place)
               FROM jsonb_array_elements(noted_changes()) WITH ORDINALITY AS noted (change, place)
               WHERE NOT change ? 'omitted'), ''), true)";

/// Takes what is personal out of what this transaction has noted for its entry in the audit trail.
pub(super) async fn erase_notes(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query(NOTES).execute(connection).await.map(drop)
}

// One server at a time, and nobody waits. Accounts are taken by their ids; of each, what is older than
// it says or the server says, by the time in the event's id.
const EXPIRED: &str = "
    WITH page AS MATERIALIZED (
        SELECT account_id, coalesce(details_retention_days, $2) AS days
        FROM accounts
        WHERE account_id > $1
        ORDER BY account_id
        LIMIT $3
    ), expired AS MATERIALIZED (
        SELECT details.account_id, details.event_id
        FROM page
        CROSS JOIN LATERAL (
            SELECT account_id, event_id
            FROM usage_details
            WHERE account_id = page.account_id
              AND event_id < first_id_at(now() - make_interval(days => page.days))
            ORDER BY event_id
            LIMIT $4
        ) AS details
        LIMIT $4
    ), gone AS (
        DELETE FROM usage_details AS details
        USING expired
        WHERE details.account_id = expired.account_id AND details.event_id = expired.event_id
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) AS erased,
           (SELECT account_id FROM page ORDER BY account_id DESC LIMIT 1) AS last";
const EXPIRED_QUARANTINE: &str = "
    UPDATE quarantined_usage
    SET event = event - '{end_user,labels,provider_usage,request_id}'::text[], error = '[erased]'
    WHERE quarantine_id IN (
        SELECT quarantine_id
        FROM quarantined_usage
        LEFT JOIN accounts USING (account_id)
        WHERE event ?| '{end_user,labels,provider_usage,request_id}'::text[]
          AND quarantined_at < now()
                               - make_interval(days => coalesce(details_retention_days, $1))
        LIMIT $2)";
const LOCK: &str =
    "SELECT pg_try_advisory_xact_lock(hashtextextended('tollgate.details_retention', 0))";

/// What a step of a round did.
pub(super) struct Expired {
    /// Details that were erased.
    pub(super) erased: u64,
    /// Whether it took as many as it may, so that more may be left of the same accounts.
    pub(super) more: bool,
    /// The last account that it looked at; `None` where there is none after the one given.
    pub(super) last: Option<AccountId>,
}

/// Accounts that a step looks at: an index is asked once for each and month of usage.
const STEP_ACCOUNTS: i64 = 1_000;

/// Details past their time, of the accounts after one. `None` while another server is at it.
pub(super) async fn erase_expired(
    pool: &PgPool,
    after: AccountId,
    days: Option<i32>,
) -> sqlx::Result<Option<Expired>> {
    let mut step = pool.begin().await?;
    if !sqlx::query_scalar::<_, bool>(LOCK).fetch_one(&mut *step).await? {
        return Ok(None);
    }
    find_by_index(&mut step).await?;
    let query = sqlx::query(EXPIRED).bind(after).bind(days).bind(STEP_ACCOUNTS).bind(STEP_ROWS);
    let row = query.fetch_one(&mut *step).await?;
    step.commit().await?;
    let erased: i64 = row.try_get("erased")?;
    let last = row.try_get("last")?;
    Ok(Some(Expired { erased: counted(erased), more: erased >= STEP_ROWS, last }))
}

/// What is personal in refused usage past its time.
pub(super) async fn erase_expired_quarantine(
    pool: &PgPool,
    days: Option<i32>,
) -> sqlx::Result<u64> {
    let query = sqlx::query(EXPIRED_QUARANTINE).bind(days).bind(STEP_ROWS);
    Ok(query.execute(pool).await?.rows_affected())
}
