//! The SQL of metering.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool, Row as _,
    postgres::{PgConnectOptions, PgRow},
};
use uuid::Uuid;

use super::{
    error::MeteringError,
    event::{Fingerprint, NewEvent, Outcome, StoredEvent},
    limits::{LOCK_TIMEOUT, STATEMENT_TIMEOUT},
    quantities::Quantities,
    rows::Rows,
};
use crate::{
    database::store::find_by_index,
    ids::{AccountId, AuthorizationId, InstanceId, KeyId, ModelId, PriceVersionId},
    money::{Amount, Currency},
};

/// What posting a batch answers: only what the writer cannot know.
#[derive(Debug, Default)]
pub(super) struct Posted {
    /// Accounts left out because somebody else holds them.
    pub busy: Vec<AccountId>,
    /// Events that were inserted. The others of accounts not left out were there before.
    pub inserted: Vec<AuthorizationId>,
    /// How far charges went beyond their authorizations, where they did.
    pub overruns: HashMap<AuthorizationId, Amount>,
}

/// How a batch is posted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    pub skip_locked: bool,
    pub expect_duplicates: bool,
}

const POST_USAGE: &str =
    "SELECT busy, inserted, overrun_events, overruns FROM post_usage($1, $2, $3, $4)";
const POST_NEW_USAGE: &str =
    "SELECT busy, inserted, overrun_events, overruns FROM post_new_usage($1, $2, $3, $4)";

/// A connection for a writer, which no pool shares: a pool would ping it on every release.
pub(super) async fn connect_writer(
    options: &PgConnectOptions,
) -> Result<PgConnection, sqlx::Error> {
    let milliseconds = |limit: Duration| limit.as_millis().to_string();
    options
        .clone()
        .application_name("tollgate usage writer")
        .options([
            ("lock_timeout", milliseconds(LOCK_TIMEOUT)),
            ("statement_timeout", milliseconds(STATEMENT_TIMEOUT)),
            ("idle_in_transaction_session_timeout", milliseconds(STATEMENT_TIMEOUT)),
            // Never OK before it is on the disk, whatever the server's own setting.
            ("synchronous_commit", "on".to_owned()),
        ])
        .connect()
        .await
}

/// Posts a batch, which is sorted by account and event, has each event once and one month of each
/// account. One statement, which commits itself.
pub(super) async fn post<'a>(
    connection: &mut PgConnection,
    instance: InstanceId,
    mode: Mode,
    batch: impl Iterator<Item = &'a NewEvent>,
) -> Result<Posted, sqlx::Error> {
    let statement = if mode.expect_duplicates { POST_USAGE } else { POST_NEW_USAGE };
    let Rows { accounts, events } = Rows::of(batch);
    let row = sqlx::query(statement)
        .bind(instance)
        .bind(mode.skip_locked)
        .bind(accounts)
        .bind(events)
        .fetch_one(connection)
        .await?;
    let busy: Option<Vec<Uuid>> = row.try_get("busy")?;
    let inserted: Option<Vec<Uuid>> = row.try_get("inserted")?;
    let overrun_events: Option<Vec<Uuid>> = row.try_get("overrun_events")?;
    let overruns: Option<Vec<Decimal>> = row.try_get("overruns")?;
    let overruns = overrun_events.into_iter().flatten().zip(overruns.into_iter().flatten());
    Ok(Posted {
        busy: busy.into_iter().flatten().map(AccountId).collect(),
        inserted: inserted.into_iter().flatten().map(AuthorizationId).collect(),
        overruns: overruns
            .map(|(event, overrun)| Ok((AuthorizationId(event), amount(overrun)?)))
            .collect::<Result<_, sqlx::Error>>()?,
    })
}

/// Makes a writer's connection wait for whoever holds a row, instead of going on without it.
pub(super) async fn wait_for_locks(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SET lock_timeout = 0").execute(connection).await?;
    Ok(())
}

const IS_BEHIND: &str = "
    SELECT least(usage.recorded_before, coalesce(seals.recorded_before, '-infinity'))
           < clock_timestamp() - interval '30 seconds'
    FROM usage_rollup_watermark AS usage, seal_watermark AS seals";

/// Whether rollups or seals have more than the last half minute before them.
pub(super) async fn is_behind(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(IS_BEHIND).fetch_one(connection).await
}

/// Which model a price is of.
pub(super) async fn model_of(
    connection: &mut PgConnection,
    price: PriceVersionId,
) -> Result<ModelId, sqlx::Error> {
    sqlx::query_scalar("SELECT model_id FROM price_versions WHERE price_version = $1")
        .bind(price.0)
        .fetch_one(connection)
        .await
        .map(ModelId)
}

/// A table like `usage_events`, with its key, constraints and index, and not partitioned.
pub(super) async fn make_bare_table(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("CREATE TABLE bare_usage_events (LIKE usage_events INCLUDING ALL)")
        .execute(connection)
        .await?;
    Ok(())
}

const INSERT_ALONE: &str = "
    INSERT INTO bare_usage_events (
        account_id, event_id, key_id, occurred_at, posting, price_version,
        input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images,
        tier_above, latency_ms, model_id, period, outcome, cache_hit, charge, saving,
        authorized, request_id, provider, served_model, region, fallback_from)
    SELECT ($1::uuid[])[slot], event_id, key_id, occurred_at,
           CASE WHEN charge > 0 THEN 1 ELSE 0 END, price_version,
           input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images,
           tier_above, latency_ms, model_id,
           date_trunc('month', occurred_at AT TIME ZONE 'UTC')::date, outcome, cache_hit, charge,
           saving, authorized, request_id, provider, served_model, region, fallback_from
    FROM unnest($2::usage_to_post[])";

/// Inserts the rows of a batch into the bare table, and posts nothing.
pub(super) async fn insert_alone<'a>(
    connection: &mut PgConnection,
    batch: impl Iterator<Item = &'a NewEvent>,
) -> Result<(), sqlx::Error> {
    let Rows { accounts, events } = Rows::of(batch);
    sqlx::query(INSERT_ALONE).bind(accounts).bind(events).execute(connection).await?;
    Ok(())
}

const STORED: &str = "
    SELECT event.account_id, event.event_id, event.key_id, model.name AS model, event.outcome,
           event.cache_hit, event.input, event.output, event.cache_read, event.cache_write,
           event.reasoning, event.audio_input, event.audio_output, event.images,
           event.price_version, event.charge, event.overrun, event.saving, account.currency
    FROM unnest($1::uuid[], $2::uuid[]) AS wanted (account_id, event_id)
    JOIN usage_events AS event USING (account_id, event_id)
    JOIN accounts AS account USING (account_id)
    JOIN models AS model USING (model_id)";

/// What is recorded under these ids.
pub(super) async fn stored<'c>(
    executor: impl sqlx::PgExecutor<'c>,
    wanted: impl Iterator<Item = (AccountId, AuthorizationId)>,
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    let (accounts, events): (Vec<Uuid>, Vec<Uuid>) =
        wanted.map(|(account, event)| (account.0, event.0)).unzip();
    let rows = sqlx::query(STORED).bind(accounts).bind(events).fetch_all(executor).await?;
    rows.iter().map(stored_event).collect()
}

/// The same of a whole batch. Of a month that has just begun the statistics may still say that it is
/// empty, and reading all of it for each batch that has a duplicate would hold up all others.
pub(super) async fn stored_of_batch(
    connection: &mut PgConnection,
    wanted: impl Iterator<Item = (AccountId, AuthorizationId)>,
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    find_by_index(&mut transaction).await?;
    let found = stored(&mut *transaction, wanted).await?;
    transaction.commit().await?;
    Ok(found)
}

fn stored_event(row: &PgRow) -> Result<StoredEvent, sqlx::Error> {
    Ok(StoredEvent {
        account_id: row.try_get("account_id")?,
        event_id: row.try_get("event_id")?,
        fingerprint: Fingerprint {
            key_id: row.try_get("key_id")?,
            model: row.try_get("model")?,
            quantities: quantities(row)?,
            outcome: outcome(row)?,
            cache_hit: row.try_get("cache_hit")?,
        },
        price_version: PriceVersionId(row.try_get("price_version")?),
        currency: currency(row)?,
        charge: amount(row.try_get("charge")?)?,
        overrun: amount(row.try_get("overrun")?)?,
        saving: amount(row.try_get("saving")?)?,
    })
}

/// The token classes of a row.
pub(super) fn quantities(row: &PgRow) -> Result<Quantities, sqlx::Error> {
    Ok(Quantities {
        input: count(row, "input")?,
        output: count(row, "output")?,
        cache_read: count(row, "cache_read")?,
        cache_write: count(row, "cache_write")?,
        reasoning: count(row, "reasoning")?,
        audio_input: count(row, "audio_input")?,
        audio_output: count(row, "audio_output")?,
        images: count(row, "images")?,
    })
}

/// A count that the schema keeps from being negative.
pub(super) fn count(row: &PgRow, column: &str) -> Result<u64, sqlx::Error> {
    let count: i64 = row.try_get(column)?;
    u64::try_from(count).map_err(unreadable)
}

/// An amount of a row.
pub(super) fn amount(value: Decimal) -> Result<Amount, sqlx::Error> {
    Amount::new(value).map_err(unreadable)
}

/// The outcome of a row.
pub(super) fn outcome(row: &PgRow) -> Result<Outcome, sqlx::Error> {
    let number: i16 = row.try_get("outcome")?;
    Outcome::of_number(number).ok_or_else(|| unreadable(format!("outcome {number}")))
}

/// The currency of a row.
pub(super) fn currency(row: &PgRow) -> Result<Currency, sqlx::Error> {
    row.try_get::<String, _>("currency")?.parse().map_err(unreadable)
}

fn unreadable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::Decode(cause.into())
}

/// Keeps an event that the database refuses, for an operator to look at.
pub(super) async fn quarantine(
    connection: &mut PgConnection,
    event: &NewEvent,
    error: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO quarantined_usage (quarantine_id, account_id, event_id, event, error)
         VALUES ($1, $2, $3, $4::text::jsonb, $5)
         ON CONFLICT (account_id, event_id) DO NOTHING",
    )
    .bind(Uuid::now_v7())
    .bind(event.account_id.0)
    .bind(event.event_id.0)
    // The one escape that jsonb does not take.
    .bind(evidence(event).to_string().replace("\\u0000", "\\ufffd"))
    .bind(error.replace('\0', "\u{fffd}"))
    .execute(connection)
    .await?;
    Ok(())
}

/// Everything that is needed to record the event by hand.
fn evidence(event: &NewEvent) -> Value {
    let used = &event.fingerprint;
    let authorized = event.authorized.map(|authorized| {
        json!({
            "issuer": authorized.issuer,
            "reserved": authorized.reserved.to_string(),
            "covered_until": authorized.covered_until,
        })
    });
    json!({
        "occurred_at": event.occurred_at,
        "key_id": used.key_id,
        "model_id": event.model_id,
        "model": used.model,
        "quantities": used.quantities,
        "outcome": used.outcome.name(),
        "cache_hit": used.cache_hit,
        "price_version": event.price_version,
        "currency": event.currency.code(),
        "charge": event.charge.to_string(),
        "saving": event.saving.to_string(),
        "tier_above": event.tier_above,
        "authorized": authorized,
        "budgets": event.budgets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "provider": event.served.provider,
        "served_model": event.served.served_model,
        "region": event.served.region,
        "fallback_from": event.served.fallback_from,
        "latency_ms": event.served.latency.map(|latency| latency.as_millis().to_string()),
        "request_id": event.detail.request_id,
        "end_user": event.detail.end_user,
        "labels": event.detail.labels,
        "provider_usage": event.detail.provider_usage.as_ref().map(|(_, json)| json),
    })
}

/// Makes the partitions that are missing, and says from when to when there are some.
pub(super) async fn ensure_partitions(
    pool: &PgPool,
    months_ahead: i32,
) -> Result<(DateTime<Utc>, DateTime<Utc>), MeteringError> {
    sqlx::query("SELECT ensure_usage_partitions($1)").bind(months_ahead).execute(pool).await?;
    let row = sqlx::query("SELECT opens, closes FROM usage_window()").fetch_one(pool).await?;
    Ok((row.try_get("opens")?, row.try_get("closes")?))
}

/// The first key of the rotation that a key belongs to, and its project; `None` if it never was this
/// account's.
pub(super) async fn key_scope(
    pool: &PgPool,
    account: AccountId,
    key: KeyId,
) -> Result<Option<(KeyId, String)>, sqlx::Error> {
    sqlx::query_as("SELECT lineage, project FROM api_keys WHERE key_id = $1 AND account_id = $2")
        .bind(key.0)
        .bind(account.0)
        .fetch_optional(pool)
        .await
}

/// Closes a connection that is no longer needed, politely.
pub(super) async fn close(connection: PgConnection) {
    // It is gone either way.
    drop(connection.close().await);
}
