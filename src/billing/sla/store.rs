//! The statement behind the availability of an account.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::{FromRow, PgConnection};

use crate::ids::AccountId;

/// How many requests of an interval ended in one way.
#[derive(Debug, FromRow)]
pub(super) struct Ended {
    pub(super) begins: DateTime<Utc>,
    pub(super) outcome: i16,
    pub(super) cache_hit: bool,
    pub(super) requests: i64,
    /// What they cost, less what was taken back.
    pub(super) charged: Decimal,
}

/// The month's first and last id come from the daily sums, so that the primary key finds the
/// month's events; what was recorded since the watermark is in no sum, and the index on
/// `recorded_at` finds it. Nothing is recorded a day before it occurred.
const ENDED: &str = r#"
    WITH watermark AS MATERIALIZED (
        SELECT recorded_before AS mark FROM usage_rollup_watermark
    ), bounds AS MATERIALIZED (
        SELECT min(first_event::text COLLATE "C")::uuid AS first_event,
               max(last_event::text COLLATE "C")::uuid AS last_event
        FROM usage_rollups
        JOIN models USING (model_id)
        WHERE account_id = $1 AND starts_with(models.name, 'Pro/')
          AND day >= $2 AND day < ($2 + interval '1 month')::date
    ), month AS (
        SELECT event.*
        FROM usage_events AS event
        WHERE account_id = $1
          AND event_id BETWEEN (SELECT first_event FROM bounds) AND (SELECT last_event FROM bounds)
          AND recorded_at < (SELECT mark FROM watermark)
        UNION ALL
        SELECT event.*
        FROM usage_events AS event
        WHERE account_id = $1
          AND recorded_at >= (SELECT mark FROM watermark)
          AND recorded_at >= ($2::timestamp AT TIME ZONE 'UTC') - interval '1 day'
    )
    SELECT date_bin('5 minutes', month.occurred_at, $2::timestamp AT TIME ZONE 'UTC') AS begins,
           month.outcome, month.cache_hit, count(*) AS requests,
           sum(CASE WHEN reversal.event_id IS NULL THEN month.charge ELSE 0 END) AS charged
    FROM month
    JOIN models USING (model_id)
    LEFT JOIN usage_reversals AS reversal USING (account_id, event_id)
    WHERE starts_with(models.name, 'Pro/')
      AND month.occurred_at >= $2::timestamp AT TIME ZONE 'UTC'
      AND month.occurred_at < ($2::timestamp + interval '1 month') AT TIME ZONE 'UTC'
      AND ($3::date IS NULL OR month.period <= $3)
    GROUP BY 1, 2, 3
    ORDER BY 1, 2, 3"#;

pub(super) async fn ended(
    connection: &mut PgConnection,
    account: AccountId,
    month: NaiveDate,
    closing: Option<NaiveDate>,
) -> sqlx::Result<Vec<Ended>> {
    let query = sqlx::query_as(ENDED).persistent(false).bind(account).bind(month).bind(closing);
    query.fetch_all(connection).await
}

const CURRENCY: &str = "SELECT currency FROM accounts WHERE account_id = $1";

pub(super) async fn currency(
    connection: &mut PgConnection,
    account: AccountId,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(CURRENCY).bind(account).fetch_optional(connection).await
}
