//! The SQL of closing a month.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::{FromRow, PgConnection, PgPool};

use super::RECORDED_EARLIER;
use crate::{
    billing::{
        assembly::{Funding, UsageSum},
        document::Days,
        error::BillingError,
    },
    ids::{AccountId, CauseId, ModelId, PriceVersionId},
    metering::quantities::TokenClass,
    money::Amount,
};

/// Taken by whoever closes a month; the number only has to differ from other locks'.
const CLOSING_LOCK: i64 = 0x0063_6c6f_7369_6e67;

pub(super) async fn now(connection: &mut PgConnection) -> Result<DateTime<Utc>, BillingError> {
    Ok(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(connection).await?)
}

pub(super) async fn now_of(pool: &PgPool) -> Result<DateTime<Utc>, BillingError> {
    now(&mut *pool.acquire().await?).await
}

/// Becomes the one session that closes, until it ends.
pub(super) async fn take_turn(connection: &mut PgConnection) -> Result<bool, BillingError> {
    let query = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(CLOSING_LOCK);
    Ok(query.fetch_one(connection).await?)
}

/// A closing and how far it is.
#[derive(Debug, FromRow)]
pub(super) struct Run {
    pub(super) period: NaiveDate,
    pub(super) issue_date: NaiveDate,
    pub(super) after: Option<AccountId>,
    pub(super) accounts: i64,
    pub(super) documents: i64,
    pub(super) finished: bool,
}

/// The run of a month, begun today unless it was begun before.
pub(super) async fn begin_run(
    connection: &mut PgConnection,
    period: NaiveDate,
    today: NaiveDate,
) -> Result<Run, BillingError> {
    sqlx::query(
        "INSERT INTO billing_runs (period, issue_date) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    )
    .bind(period)
    .bind(today)
    .execute(&mut *connection)
    .await?;
    let statement = "
        SELECT period, issue_date, after, accounts, documents, finished_at IS NOT NULL AS finished
        FROM billing_runs
        WHERE period = $1";
    Ok(sqlx::query_as(statement).bind(period).fetch_one(connection).await?)
}

pub(super) async fn open_accounts(
    connection: &mut PgConnection,
    period: NaiveDate,
    after: Option<AccountId>,
    limit: u32,
) -> Result<Vec<AccountId>, BillingError> {
    let statement = "
        SELECT account_id
        FROM account_funds
        WHERE open_period <= $1 AND ($2::uuid IS NULL OR account_id > $2)
        ORDER BY account_id
        LIMIT $3";
    let query = sqlx::query_scalar(statement).bind(period).bind(after).bind(i64::from(limit));
    Ok(query.fetch_all(connection).await?)
}

pub(super) async fn count_open(
    connection: &mut PgConnection,
    period: NaiveDate,
    after: Option<AccountId>,
) -> Result<i64, BillingError> {
    let statement = "
        SELECT count(*)
        FROM account_funds
        WHERE open_period <= $1 AND ($2::uuid IS NULL OR account_id > $2)";
    Ok(sqlx::query_scalar(statement).bind(period).bind(after).fetch_one(connection).await?)
}

pub(super) async fn advance_run(
    connection: &mut PgConnection,
    period: NaiveDate,
    account: AccountId,
    documents: i64,
) -> Result<(), BillingError> {
    let statement = "
        UPDATE billing_runs
        SET after = $2, accounts = accounts + 1, documents = documents + $3
        WHERE period = $1";
    let query = sqlx::query(statement).bind(period).bind(account).bind(documents);
    query.execute(connection).await?;
    Ok(())
}

pub(super) async fn finish_run(
    connection: &mut PgConnection,
    period: NaiveDate,
) -> Result<(), BillingError> {
    let statement = "UPDATE billing_runs SET finished_at = clock_timestamp() WHERE period = $1";
    sqlx::query(statement).bind(period).execute(connection).await?;
    Ok(())
}

/// From here on usage belongs to `period` at the earliest.
pub(super) async fn move_open_period(
    connection: &mut PgConnection,
    account: AccountId,
    period: NaiveDate,
) -> Result<(), BillingError> {
    sqlx::query("UPDATE account_funds SET open_period = $2 WHERE account_id = $1")
        .bind(account)
        .bind(period)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn mark_closed(
    connection: &mut PgConnection,
    account: AccountId,
    period: NaiveDate,
    document: Option<CauseId>,
    closed_at_posting: i64,
) -> Result<(), BillingError> {
    let statement = "
        INSERT INTO closed_periods (account_id, period, document_id, closed_at_posting)
        VALUES ($1, $2, $3, $4)";
    sqlx::query(statement)
        .bind(account)
        .bind(period)
        .bind(document)
        .bind(closed_at_posting)
        .execute(connection)
        .await?;
    Ok(())
}

#[derive(FromRow)]
struct UsageRow {
    period: NaiveDate,
    model_id: ModelId,
    model: String,
    price_version: PriceVersionId,
    tier_above: i64,
    cache_hit: bool,
    month: NaiveDate,
    first_day: NaiveDate,
    last_day: NaiveDate,
    requests: Decimal,
    input: Decimal,
    output: Decimal,
    cache_read: Decimal,
    cache_write: Decimal,
    reasoning: Decimal,
    audio_input: Decimal,
    audio_output: Decimal,
    images: Decimal,
    charge: Amount,
}

impl From<UsageRow> for UsageSum {
    fn from(row: UsageRow) -> Self {
        Self {
            model_id: row.model_id,
            model: row.model,
            price_version: row.price_version,
            tier_above: row.tier_above,
            cache_hit: row.cache_hit,
            month: row.month,
            days: Days { first: row.first_day, last: row.last_day },
            requests: row.requests,
            tokens: [
                (TokenClass::Input, row.input),
                (TokenClass::Output, row.output),
                (TokenClass::CacheRead, row.cache_read),
                (TokenClass::CacheWrite, row.cache_write),
                (TokenClass::Reasoning, row.reasoning),
                (TokenClass::AudioInput, row.audio_input),
                (TokenClass::AudioOutput, row.audio_output),
            ],
            images: row.images,
            charge: row.charge,
        }
    }
}

// An event of a month was recorded after the month began, a clock's error aside: that keeps the
// partitions of earlier years out, whose events the primary key alone would all look at. What cost
// nothing (posting 0) has no line; what was reversed before the closing is not billed.
const USAGE: &str = "
    SELECT event.period, event.model_id, model.name AS model, event.price_version,
           event.tier_above, event.cache_hit,
           date_trunc('month', event.occurred_at AT TIME ZONE 'UTC')::date AS month,
           min((event.occurred_at AT TIME ZONE 'UTC')::date) AS first_day,
           max((event.occurred_at AT TIME ZONE 'UTC')::date) AS last_day,
           count(*)::numeric AS requests, sum(event.input) AS input, sum(event.output) AS output,
           sum(event.cache_read) AS cache_read, sum(event.cache_write) AS cache_write,
           sum(event.reasoning) AS reasoning, sum(event.audio_input) AS audio_input,
           sum(event.audio_output) AS audio_output, sum(event.images) AS images,
           sum(event.charge) AS charge
    FROM usage_events AS event
    JOIN models AS model USING (model_id)
    WHERE event.account_id = $1 AND event.period BETWEEN $2 AND $3 AND event.recorded_at >= $4
      AND event.posting > 0
      AND NOT EXISTS (
          SELECT FROM usage_reversals AS reversal
          WHERE reversal.account_id = event.account_id AND reversal.event_id = event.event_id
            AND ($5::bigint IS NULL OR reversal.posting <= $5))
    GROUP BY 1, 2, 3, 4, 5, 6, 7";

/// What an account used, by billing period.
pub(super) async fn usage(
    connection: &mut PgConnection,
    account: AccountId,
    from: NaiveDate,
    until: NaiveDate,
) -> Result<HashMap<NaiveDate, Vec<UsageSum>>, BillingError> {
    let mut usage: HashMap<NaiveDate, Vec<UsageSum>> = HashMap::new();
    for row in usage_rows(connection, account, from, until, None).await? {
        usage.entry(row.period).or_default().push(row.into());
    }
    Ok(usage)
}

/// What a closed month's document has to hold: the usage as it was when the month was closed.
pub(crate) async fn closed_usage(
    connection: &mut PgConnection,
    account: AccountId,
    period: NaiveDate,
    closed_at_posting: i64,
) -> Result<Vec<UsageSum>, BillingError> {
    let rows = usage_rows(connection, account, period, period, Some(closed_at_posting)).await?;
    Ok(rows.into_iter().map(UsageSum::from).collect())
}

async fn usage_rows(
    connection: &mut PgConnection,
    account: AccountId,
    from: NaiveDate,
    until: NaiveDate,
    closed_at_posting: Option<i64>,
) -> Result<Vec<UsageRow>, BillingError> {
    let begins = from.checked_sub_days(RECORDED_EARLIER).unwrap_or(from);
    let begins = begins.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc();
    // Planned with the moment known, which tells the planner how few partitions matter.
    let query = sqlx::query_as(USAGE).persistent(false);
    let query = query.bind(account).bind(from).bind(until).bind(begins).bind(closed_at_posting);
    Ok(query.fetch_all(connection).await?)
}

#[derive(FromRow)]
struct FundingRow {
    period: NaiveDate,
    unbilled: Amount,
    prepaid: Amount,
    promotional: Amount,
    promotional_moved: Decimal,
}

// A period's transfers were posted after the last month that was closed before the period began, so
// that older postings are not looked at. A reversal counts for the period of its event: one of a
// closed month is posted to the open one, where it moves promotional credits and nothing else.
const FUNDING: &str = "
    WITH moved AS (
        SELECT period,
               coalesce(sum(amount) FILTER (WHERE left(debit, 4) = '1100'), 0)
               - coalesce(sum(amount) FILTER (WHERE left(credit, 4) = '1100'), 0) AS unbilled,
               coalesce(sum(amount) FILTER (WHERE kind IN ('usage_credits', 'usage_overdrawn')), 0)
                   AS prepaid,
               coalesce(sum(amount) FILTER (WHERE kind = 'usage_promotional'), 0) AS promotional,
               coalesce(sum(amount) FILTER (WHERE kind = 'reversal' AND credit = '2010'), 0)
                   AS promotional_back
        FROM transfers
        WHERE account_id = $1 AND period BETWEEN $2 AND $3
          AND posting > coalesce((SELECT max(closed_at_posting) FROM closed_periods
                                  WHERE account_id = $1 AND closed_at < $4), 0)
        GROUP BY period
    ), returned AS (
        SELECT event.period, sum(to_credits + to_overdrawn) AS prepaid,
               sum(to_promotional) AS promotional
        FROM usage_reversals AS reversal
        JOIN usage_events AS event USING (account_id, event_id)
        WHERE reversal.account_id = $1 AND event.period BETWEEN $2 AND $3
        GROUP BY event.period
    )
    SELECT moved.period, moved.unbilled,
           moved.prepaid - coalesce(returned.prepaid, 0) AS prepaid,
           moved.promotional - coalesce(returned.promotional, 0) AS promotional,
           moved.promotional - moved.promotional_back AS promotional_moved
    FROM moved
    LEFT JOIN returned USING (period)";

/// Who paid for what an account used, by billing period.
pub(crate) async fn funding(
    connection: &mut PgConnection,
    account: AccountId,
    from: NaiveDate,
    until: NaiveDate,
) -> Result<HashMap<NaiveDate, Funding>, BillingError> {
    let begins = from.checked_sub_days(RECORDED_EARLIER).unwrap_or(from);
    let begins = begins.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc();
    let rows: Vec<FundingRow> = sqlx::query_as(FUNDING)
        .bind(account)
        .bind(from)
        .bind(until)
        .bind(begins)
        .fetch_all(connection)
        .await?;
    let funding = |row: FundingRow| {
        let FundingRow { period, unbilled, prepaid, promotional, promotional_moved } = row;
        (period, Funding { unbilled, prepaid, promotional, promotional_moved })
    };
    Ok(rows.into_iter().map(funding).collect())
}
