//! The SQL of the reports.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    Grouping, Span, SummaryCursor, UnsettledAuthorization, UnsettledCursor, UsageEvent, UsageQuery,
    UsageSummary,
};
use crate::{
    ids::{AccountId, AuthorizationId, KeyId, PriceVersionId},
    metering::{
        event::Served,
        quantities::Quantities,
        store::{amount, count, currency, outcome, quantities},
    },
};

const LIST: &str = "
    SELECT event.account_id, event.event_id, event.key_id, model.name AS model, event.occurred_at,
           event.recorded_at, event.posting, event.price_version, event.input, event.output,
           event.cache_read, event.cache_write, event.reasoning, event.audio_input,
           event.audio_output, event.images, event.tier_above, event.latency_ms, event.period,
           event.outcome, event.cache_hit, event.charge, event.saving, event.overrun,
           event.provider, event.served_model, event.region, event.fallback_from,
           account.currency,
           EXISTS (SELECT FROM usage_reversals AS reversal
                   WHERE reversal.account_id = event.account_id
                     AND reversal.event_id = event.event_id) AS reversed
    FROM usage_events AS event
    JOIN models AS model USING (model_id)
    JOIN accounts AS account USING (account_id)
    WHERE event.account_id = $1
      AND event.event_id < $2
      AND ($3::uuid IS NULL OR event.key_id = $3)
      AND ($4::integer IS NULL OR event.model_id = $4)
      AND ($5::timestamptz IS NULL OR event.occurred_at >= $5)
      AND ($6::timestamptz IS NULL OR event.occurred_at < $6)
    ORDER BY event.event_id DESC
    LIMIT $7";

pub(super) async fn list(
    connection: &mut PgConnection,
    query: &UsageQuery,
    after: Option<AuthorizationId>,
    limit: i64,
) -> Result<Vec<UsageEvent>, sqlx::Error> {
    let rows = sqlx::query(LIST)
        .bind(query.account.0)
        .bind(after.map_or(Uuid::max(), |after| after.0))
        .bind(query.key_id.map(|key| key.0))
        .bind(query.model_id.map(|model| model.0))
        .bind(query.span.from)
        .bind(query.span.until)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(usage_event).collect()
}

fn usage_event(row: &PgRow) -> Result<UsageEvent, sqlx::Error> {
    let latency: Option<i32> = row.try_get("latency_ms")?;
    let latency = latency.and_then(|latency| u64::try_from(latency).ok());
    Ok(UsageEvent {
        event_id: row.try_get("event_id")?,
        account_id: row.try_get("account_id")?,
        key_id: row.try_get("key_id")?,
        model: row.try_get("model")?,
        served: Served {
            provider: row.try_get("provider")?,
            served_model: row.try_get("served_model")?,
            region: row.try_get("region")?,
            fallback_from: row.try_get("fallback_from")?,
            latency: latency.map(Duration::from_millis),
        },
        quantities: quantities(row)?,
        price_version: PriceVersionId(row.try_get("price_version")?),
        tier_above: count(row, "tier_above")?,
        currency: currency(row)?,
        charge: amount(row.try_get("charge")?)?,
        overrun: amount(row.try_get("overrun")?)?,
        saving: amount(row.try_get("saving")?)?,
        outcome: outcome(row)?,
        cache_hit: row.try_get("cache_hit")?,
        occurred_at: row.try_get("occurred_at")?,
        recorded_at: row.try_get("recorded_at")?,
        posting: row.try_get("posting")?,
        period: row.try_get("period")?,
        reversed: row.try_get("reversed")?,
    })
}

// Infinite until the first step: no time that this program can read.
const WATERMARK: &str = "
    SELECT CASE WHEN isfinite(recorded_before) THEN recorded_before END
    FROM usage_rollup_watermark";

// Three parts, none of which overlaps another. Daily sums whose first and last event lie in the span
// count as they are. Those that the span cuts, on its first and its last day, are taken apart: their
// events lie between their smallest and largest id, which the primary key finds, and before the
// watermark. What was recorded since is in no sum; the index on `recorded_at` finds it. Nothing is
// recorded a day before it occurred, whatever the clocks say: while a backlog is rolled up, that
// spares a summary of the last days the history before them.
//
// The events of cut days are summed before they are joined: the planner cannot know how many they
// are. One account's row is asked for by its id, so that it does not read all accounts for one. A
// name is looked up after the sums, once per group.
const SUMMARIZE: &str = r#"
    WITH cut AS (
        SELECT account_id, day, key_id, model_id, first_event, last_event
        FROM usage_rollups
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND day IN (($2::timestamptz AT TIME ZONE 'UTC')::date,
                      ($3::timestamptz AT TIME ZONE 'UTC')::date)
          AND (first_occurred < $2 OR last_occurred >= $3)
          AND ($2 IS NULL OR last_occurred >= $2)
          AND ($3 IS NULL OR first_occurred < $3)
    ), cut_days AS (
        SELECT account_id, day,
               min(first_event::text COLLATE "C")::uuid AS first_event,
               max(last_event::text COLLATE "C")::uuid AS last_event
        FROM cut
        GROUP BY account_id, day
    ), cut_groups AS MATERIALIZED (
        SELECT event.account_id, cut_days.day, event.key_id, event.model_id, count(*) AS requests,
               sum(event.input)::bigint AS input, sum(event.output)::bigint AS output,
               sum(event.cache_read)::bigint AS cache_read,
               sum(event.cache_write)::bigint AS cache_write,
               sum(event.reasoning)::bigint AS reasoning,
               sum(event.audio_input)::bigint AS audio_input,
               sum(event.audio_output)::bigint AS audio_output,
               sum(event.images)::bigint AS images,
               sum(event.charge) AS charge, sum(event.overrun) AS overrun,
               sum(event.saving) AS saving
        FROM cut_days
        JOIN usage_events AS event
          ON event.account_id = cut_days.account_id
         AND event.event_id BETWEEN cut_days.first_event AND cut_days.last_event
        WHERE (event.occurred_at AT TIME ZONE 'UTC')::date = cut_days.day
          AND event.recorded_at < $9::timestamptz
          AND ($2 IS NULL OR event.occurred_at >= $2)
          AND ($3 IS NULL OR event.occurred_at < $3)
        GROUP BY 1, 2, 3, 4
    ), used AS (
        SELECT account_id, day, key_id, model_id, requests, input, output, cache_read, cache_write,
               reasoning, audio_input, audio_output, images, charge, overrun, saving
        FROM usage_rollups
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND ($2::timestamptz IS NULL
               OR first_occurred >= $2 AND day >= ($2 AT TIME ZONE 'UTC')::date)
          AND ($3::timestamptz IS NULL
               OR last_occurred < $3 AND day <= ($3 AT TIME ZONE 'UTC')::date)
        UNION ALL
        SELECT cut_groups.*
        FROM cut_groups
        JOIN cut USING (account_id, day, key_id, model_id)
        UNION ALL
        SELECT account_id, (occurred_at AT TIME ZONE 'UTC')::date, key_id, model_id, 1, input, output,
               cache_read, cache_write, reasoning, audio_input, audio_output, images, charge, overrun,
               saving
        FROM usage_events
        WHERE ($9 IS NULL OR recorded_at >= $9)
          AND ($1::uuid IS NULL OR account_id = $1)
          AND ($2 IS NULL OR occurred_at >= $2 AND recorded_at >= $2 - interval '1 day')
          AND ($3 IS NULL OR occurred_at < $3)
    ), summed AS (
        SELECT CASE $4::text WHEN 'model' THEN used.model_id::text
                             WHEN 'key' THEN used.key_id::text
                             WHEN 'day' THEN used.day::text
                             ELSE used.account_id::text END AS place,
               account.currency,
               sum(used.requests)::bigint AS requests,
               sum(used.input)::bigint AS input, sum(used.output)::bigint AS output,
               sum(used.cache_read)::bigint AS cache_read,
               sum(used.cache_write)::bigint AS cache_write,
               sum(used.reasoning)::bigint AS reasoning,
               sum(used.audio_input)::bigint AS audio_input,
               sum(used.audio_output)::bigint AS audio_output,
               sum(used.images)::bigint AS images,
               sum(used.charge) AS charged, sum(used.overrun) AS overrun,
               sum(used.saving) AS saved
        FROM used
        JOIN accounts AS account USING (account_id)
        WHERE $1 IS NULL OR account.account_id = $1
        GROUP BY place, account.currency
    ), named AS (
        SELECT summed.*, coalesce(model.name, summed.place) AS name
        FROM summed
        LEFT JOIN models AS model ON $4 = 'model' AND model.model_id::text = summed.place
    )
    SELECT * FROM named
    WHERE $5::numeric IS NULL
       OR charged < $5
       OR (charged = $5 AND (name, currency) > ($6, $7))
    ORDER BY charged DESC, name, currency
    LIMIT $8"#;

pub(super) async fn summarize(
    connection: &mut PgConnection,
    account: Option<AccountId>,
    span: Span,
    grouping: Grouping,
    after: Option<SummaryCursor>,
    limit: i64,
) -> Result<Vec<UsageSummary>, sqlx::Error> {
    let after = after.map(|after| (after.charged, after.group, after.currency));
    let (charged, group, code) = match after {
        Some((charged, group, code)) => (Some(charged), group, code),
        None => (None::<Decimal>, String::new(), String::new()),
    };
    // A statement of its own, so that the planner sees how little was recorded since.
    let watermark: Option<DateTime<Utc>> =
        sqlx::query_scalar(WATERMARK).fetch_one(&mut *connection).await?;
    // Planned anew each time: one plan for a day and for ever would suit neither.
    let rows = sqlx::query(SUMMARIZE)
        .persistent(false)
        .bind(account.map(|account| account.0))
        .bind(span.from)
        .bind(span.until)
        .bind(match grouping {
            Grouping::Model => "model",
            Grouping::Key => "key",
            Grouping::Day => "day",
            Grouping::Account => "account",
        })
        .bind(charged)
        .bind(group)
        .bind(code)
        .bind(limit)
        .bind(watermark)
        .fetch_all(connection)
        .await?;
    rows.iter().map(usage_summary).collect()
}

fn usage_summary(row: &PgRow) -> Result<UsageSummary, sqlx::Error> {
    let quantities: Quantities = quantities(row)?;
    Ok(UsageSummary {
        group: row.try_get("name")?,
        currency: currency(row)?,
        requests: count(row, "requests")?,
        quantities,
        charged: row.try_get("charged")?,
        overrun: row.try_get("overrun")?,
        saved: row.try_get("saved")?,
    })
}

const UNSETTLED: &str = "
    SELECT left_over.account_id, left_over.authorization_id, left_over.key_id, left_over.model,
           left_over.reserved, left_over.authorized_at, left_over.expired_at, left_over.request_id,
           account.currency
    FROM unsettled_authorizations AS left_over
    JOIN accounts AS account USING (account_id)
    WHERE ($1::uuid IS NULL OR left_over.account_id = $1)
      AND (left_over.account_id, left_over.authorization_id) > ($2, $3)
      -- A server that stops writes down what it leaves behind, which may be settled yet.
      AND left_over.expired_at < now()
      AND NOT EXISTS (SELECT FROM usage_events AS event
                      WHERE event.account_id = left_over.account_id
                        AND event.event_id = left_over.authorization_id)
    ORDER BY left_over.account_id, left_over.authorization_id
    LIMIT $4";

pub(super) async fn unsettled(
    connection: &mut PgConnection,
    account: Option<AccountId>,
    after: Option<UnsettledCursor>,
    limit: i64,
) -> Result<Vec<UnsettledAuthorization>, sqlx::Error> {
    let (after_account, after_authorization) =
        after.map_or((Uuid::nil(), Uuid::nil()), |after| (after.account, after.authorization));
    let rows = sqlx::query(UNSETTLED)
        .bind(account.map(|account| account.0))
        .bind(after_account)
        .bind(after_authorization)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(unsettled_authorization).collect()
}

fn unsettled_authorization(row: &PgRow) -> Result<UnsettledAuthorization, sqlx::Error> {
    let at = |column: &str| row.try_get::<DateTime<Utc>, _>(column);
    Ok(UnsettledAuthorization {
        authorization_id: row.try_get::<AuthorizationId, _>("authorization_id")?,
        account_id: row.try_get("account_id")?,
        key_id: row.try_get::<KeyId, _>("key_id")?,
        model: row.try_get("model")?,
        currency: currency(row)?,
        reserved: amount(row.try_get("reserved")?)?,
        authorized_at: at("authorized_at")?,
        expired_at: at("expired_at")?,
        request_id: row.try_get("request_id")?,
    })
}

const LAST_USED: &str = "
    WITH watermark AS MATERIALIZED (
        SELECT recorded_before AS mark FROM usage_rollup_watermark
    )
    SELECT key_id, max(last) AS last
    FROM (
        SELECT key_id, last_occurred AS last
        FROM usage_rollups
        WHERE account_id = $1 AND key_id = ANY ($2)
        UNION ALL
        SELECT key_id, occurred_at
        FROM usage_events
        WHERE account_id = $1 AND key_id = ANY ($2)
          AND recorded_at >= (SELECT mark FROM watermark)
    ) AS used
    GROUP BY key_id";

pub(super) async fn last_used(
    connection: &mut PgConnection,
    account: AccountId,
    keys: &[KeyId],
) -> sqlx::Result<Vec<(KeyId, DateTime<Utc>)>> {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
    sqlx::query_as(LAST_USED).bind(account).bind(keys).fetch_all(connection).await
}
