//! The SQL of sealing: what was recorded in a span of time, and the blocks made of it.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, Row as _, ValueRef as _, postgres::PgRow};
use tokio_stream::StreamExt as _;
use uuid::Uuid;

use super::chain::{Block, Entry, Hash, Kind, RowKey, VERSION, row_digest};
use crate::ids::AccountId;

/// A span of time: from the first moment on, or from ever, until before the second.
#[derive(Debug, Clone, Copy)]
pub(in crate::ledger) struct Window {
    pub(in crate::ledger) from: Option<DateTime<Utc>>,
    pub(in crate::ledger) until: DateTime<Utc>,
}

/// How far sealing has come, and how far it may go.
#[derive(FromRow)]
pub(super) struct Mark {
    pub(super) recorded_before: Option<DateTime<Utc>>,
    pub(super) slice: f64,
    /// Nothing recorded before can appear any more.
    pub(super) settled: Option<DateTime<Utc>>,
    /// Nothing was recorded earlier; `None` once something is sealed.
    pub(super) first: Option<DateTime<Utc>>,
}

// Taken by one server at a time. What is settled was proved by `roll_up_usage`: transfers and documents
// are written, as usage is, under the lock of their account's row, which gives the transaction its id
// before it reads the clock.
const TAKE_MARK: &str = "
    SELECT recorded_before, slice,
           (SELECT nullif(settled, '-infinity') FROM usage_rollup_watermark) AS settled,
           CASE WHEN recorded_before IS NULL THEN (SELECT min(created_at) FROM accounts) END AS first
    FROM seal_watermark
    FOR UPDATE SKIP LOCKED";

/// `None` while another server is at it.
pub(super) async fn take_mark(connection: &mut PgConnection) -> sqlx::Result<Option<Mark>> {
    sqlx::query_as(TAKE_MARK).fetch_optional(connection).await
}

const MARK: &str = "SELECT recorded_before FROM seal_watermark";

/// Up to where all is sealed; the outer `None` where the row is gone.
pub(in crate::ledger) async fn mark(
    connection: &mut PgConnection,
) -> sqlx::Result<Option<Option<DateTime<Utc>>>> {
    sqlx::query_scalar(MARK).fetch_optional(connection).await
}

const MOVE_MARK: &str = "UPDATE seal_watermark SET recorded_before = $1, slice = $2";

pub(super) async fn move_mark(
    connection: &mut PgConnection,
    recorded_before: DateTime<Utc>,
    slice: f64,
) -> sqlx::Result<()> {
    let query = sqlx::query(MOVE_MARK).bind(recorded_before).bind(slice);
    query.execute(connection).await.map(drop)
}

// Columns in the order in which they are hashed: version 1 of the encoding. Never changed; a new
// column makes a new version.
const EVENTS: &str = "
    SELECT account_id, event_id, key_id, occurred_at, recorded_at, posting, price_version, input,
           output, cache_read, cache_write, reasoning, audio_input, audio_output, images,
           tier_above, latency_ms, model_id, period, outcome, cache_hit, charge, saving, authorized,
           overrun, provider, served_model, region, fallback_from, request_id
    FROM usage_events
    WHERE recorded_at >= coalesce($1, '-infinity') AND recorded_at < $2
      AND ($3::uuid IS NULL OR account_id = $3)
    LIMIT $4";
const DETAILS: &str = "
    SELECT account_id, event_id, details.salt, details.end_user, details.labels, details.dialect,
           details.provider_usage
    FROM usage_events
    JOIN usage_details AS details USING (account_id, event_id)
    WHERE recorded_at >= coalesce($1, '-infinity') AND recorded_at < $2
      AND ($3::uuid IS NULL OR account_id = $3)
      AND details.salt IS NOT NULL
    LIMIT $4";
const TRANSFERS: &str = "
    SELECT account_id, posting, line, debit, credit, amount, currency, kind, period, posted_at,
           cause_id, idempotency_key, description
    FROM transfers
    WHERE posted_at >= coalesce($1, '-infinity') AND posted_at < $2
      AND ($3::uuid IS NULL OR account_id = $3)
    LIMIT $4";
const DOCUMENTS: &str = "
    SELECT account_id, document_id, kind, series, year, sequence, number, period, currency, net, tax,
           gross, paid, due, taxed_credits_sold, taxed_credits_used, issue_date, due_date, posting,
           payment_id, content, frozen_at
    FROM billing_documents
    WHERE frozen_at >= coalesce($1, '-infinity') AND frozen_at < $2
      AND ($3::uuid IS NULL OR account_id = $3)
    LIMIT $4";

/// Everything recorded in a span, of one account or all, in no order; of a span that has so many rows
/// as the limit or more, not all of it.
pub(in crate::ledger) async fn rows(
    connection: &mut PgConnection,
    window: Window,
    account: Option<AccountId>,
    limit: Option<usize>,
) -> sqlx::Result<Vec<(AccountId, Entry)>> {
    let bound = limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let mut found = Vec::new();
    for (kind, statement) in [
        (Kind::Event, EVENTS),
        (Kind::Details, DETAILS),
        (Kind::Transfer, TRANSFERS),
        (Kind::Document, DOCUMENTS),
    ] {
        let query = sqlx::query(statement).persistent(false);
        let query = query.bind(window.from).bind(window.until).bind(account).bind(bound);
        let mut rows = query.fetch(&mut *connection);
        while let Some(row) = rows.next().await {
            let row = row?;
            let key = match kind {
                Kind::Transfer => RowKey::of_transfer(row.try_get(1)?, row.try_get(2)?),
                _ => RowKey::of_id(kind, row.try_get::<Uuid, _>(1)?),
            };
            found.push((row.try_get(0)?, Entry { row: key, digest: digest(kind, &row)? }));
        }
        if limit.is_some_and(|limit| found.len() >= limit) {
            break;
        }
    }
    Ok(found)
}

/// The values as Postgres sends them in its binary format, in which prepared statements answer.
fn digest(kind: Kind, row: &PgRow) -> sqlx::Result<Hash> {
    let mut values = Vec::with_capacity(row.len());
    for column in 0..row.len() {
        let value = row.try_get_raw(column)?;
        let is_null = value.is_null();
        values.push(if is_null {
            None
        } else {
            Some(value.as_bytes().map_err(sqlx::Error::Decode)?)
        });
    }
    let columns = u16::try_from(row.len()).unwrap_or(u16::MAX);
    Ok(row_digest(kind, columns, values.into_iter()))
}

/// The last block of a chain, or any.
#[derive(Debug, Clone, FromRow)]
pub(in crate::ledger) struct Head {
    pub(in crate::ledger) account_id: AccountId,
    pub(in crate::ledger) block: i64,
    pub(in crate::ledger) entries_total: i64,
    pub(in crate::ledger) hash: Vec<u8>,
}

const HEADS_OF: &str = "
    SELECT account_id, last.block, last.entries_total, last.hash
    FROM unnest($1::uuid[]) AS wanted (account_id)
    CROSS JOIN LATERAL (
        SELECT block, entries_total, hash FROM seals
        WHERE seals.account_id = wanted.account_id
        ORDER BY block DESC LIMIT 1
    ) AS last";

/// The heads of these accounts' chains, of those that have one.
pub(super) async fn heads_of(
    connection: &mut PgConnection,
    accounts: &[AccountId],
) -> sqlx::Result<Vec<Head>> {
    sqlx::query_as(HEADS_OF).bind(accounts).fetch_all(connection).await
}

// Chains whose account is gone are heads as well.
const HEADS: &str = "
    WITH RECURSIVE chains AS (
        (SELECT account_id FROM seals
         WHERE $1::uuid IS NULL OR account_id > $1 ORDER BY account_id LIMIT 1)
        UNION ALL
        SELECT (SELECT account_id FROM seals
                WHERE seals.account_id > chains.account_id ORDER BY account_id LIMIT 1)
        FROM chains
        WHERE account_id IS NOT NULL
    )
    SELECT account_id, last.block, last.entries_total, last.hash
    FROM (SELECT account_id FROM chains WHERE account_id IS NOT NULL LIMIT $2) AS page
    CROSS JOIN LATERAL (
        SELECT block, entries_total, hash FROM seals
        WHERE seals.account_id = page.account_id
        ORDER BY block DESC LIMIT 1
    ) AS last
    ORDER BY account_id";

/// The next heads after an account, by account.
pub(super) async fn heads(
    connection: &mut PgConnection,
    after: Option<AccountId>,
    limit: i64,
) -> sqlx::Result<Vec<Head>> {
    sqlx::query_as(HEADS).bind(after).bind(limit).fetch_all(connection).await
}

const BLOCKS_NAMED: &str = "
    SELECT seals.account_id, seals.block, entries_total, hash
    FROM unnest($1::uuid[], $2::bigint[]) AS wanted (account_id, block)
    JOIN seals ON seals.account_id = wanted.account_id AND seals.block = wanted.block";

/// These blocks, of those that exist.
pub(super) async fn blocks_named(
    connection: &mut PgConnection,
    accounts: &[AccountId],
    blocks: &[i64],
) -> sqlx::Result<Vec<Head>> {
    let query = sqlx::query_as(BLOCKS_NAMED).bind(accounts).bind(blocks);
    query.fetch_all(connection).await
}

const APPEND: &str = "
    INSERT INTO seals (account_id, block, version, recorded_until, entries_total, entries, previous,
                       hash)
    SELECT account_id, block, $1, $2, entries_total, entries, previous, hash
    FROM unnest($3::uuid[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bytea[], $8::bytea[])
         AS made (account_id, block, entries_total, entries, previous, hash)";

/// Adds the blocks of one turn.
pub(super) async fn append(
    connection: &mut PgConnection,
    recorded_until: DateTime<Utc>,
    blocks: &[Block<'_>],
) -> sqlx::Result<()> {
    let each = |part: fn(&Block<'_>) -> i64| blocks.iter().map(part).collect::<Vec<_>>();
    let query = sqlx::query(APPEND)
        .bind(VERSION)
        .bind(recorded_until)
        .bind(blocks.iter().map(|block| block.account).collect::<Vec<_>>())
        .bind(each(|block| block.number))
        .bind(each(|block| block.entries_total))
        .bind(blocks.iter().map(|block| block.entries).collect::<Vec<_>>())
        .bind(blocks.iter().map(|block| block.previous).collect::<Vec<_>>())
        .bind(blocks.iter().map(|block| block.hash().to_vec()).collect::<Vec<_>>());
    query.execute(connection).await.map(drop)
}

const TURNS: &str = "
    SELECT recorded_until, sum(octet_length(entries) / 49)::bigint
    FROM seals
    WHERE $1::uuid IS NULL OR account_id = $1
    GROUP BY recorded_until
    ORDER BY recorded_until";

/// When each turn's span ended, and how many entries it made.
pub(in crate::ledger) async fn turns(
    connection: &mut PgConnection,
    account: Option<AccountId>,
) -> sqlx::Result<Vec<(DateTime<Utc>, i64)>> {
    sqlx::query_as(TURNS).persistent(false).bind(account).fetch_all(connection).await
}

/// A block as it is stored.
#[derive(FromRow)]
pub(in crate::ledger) struct StoredBlock {
    pub(in crate::ledger) account_id: AccountId,
    pub(in crate::ledger) block: i64,
    pub(in crate::ledger) version: i16,
    pub(in crate::ledger) recorded_until: DateTime<Utc>,
    pub(in crate::ledger) entries_total: i64,
    pub(in crate::ledger) entries: Vec<u8>,
    pub(in crate::ledger) previous: Vec<u8>,
    pub(in crate::ledger) hash: Vec<u8>,
}

const BLOCKS: &str = "
    SELECT account_id, block, version, recorded_until, entries_total, entries, previous, hash
    FROM seals
    WHERE recorded_until > coalesce($1, '-infinity') AND recorded_until <= $2
      AND ($3::uuid IS NULL OR account_id = $3)
    ORDER BY account_id, block";

/// The blocks of the turns of a span.
pub(in crate::ledger) async fn blocks(
    connection: &mut PgConnection,
    window: Window,
    account: Option<AccountId>,
) -> sqlx::Result<Vec<StoredBlock>> {
    let query = sqlx::query_as(BLOCKS).persistent(false);
    query.bind(window.from).bind(window.until).bind(account).fetch_all(connection).await
}
