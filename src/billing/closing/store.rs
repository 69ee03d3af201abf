//! The SQL of closing an account's month.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::{FromRow, PgConnection};

use super::RECORDED_EARLIER;
use crate::{
    billing::{
        assembly::{Funding, UsageSum},
        document::Days,
        error::BillingError,
    },
    ids::{AccountId, CauseId, ModelId, PriceVersionId},
    ledger::error::LedgerError,
    metering::quantities::TokenClass,
    money::{Amount, Currency},
};

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
        INSERT INTO closed_periods (account_id, period, document_id, closed_at_posting, costs_posted)
        VALUES ($1, $2, $3, $4, true)";
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
    billed: bool,
    cost_currency: Option<String>,
    cost: Option<Amount>,
}

/// What an account used, and what that cost ourselves where it is known, by billing period.
#[derive(Default)]
pub(super) struct Used {
    pub(super) usage: HashMap<NaiveDate, Vec<UsageSum>>,
    pub(super) costs: HashMap<NaiveDate, BTreeMap<Currency, Amount>>,
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

// The moment that `recorded_from` found keeps the partitions of earlier years out, whose events the
// primary key alone would all look at. What was free (posting 0) has no line, and what was reversed
// before the closing is not billed; both were served, and cost ourselves what they cost. An answer
// from the gateway's own cache cost nothing, and what images cost no price version says.
macro_rules! usage {
    ($costs:literal) => {
        concat!(
            "
    SELECT event.period, event.model_id, model.name AS model, price.price_version,
           event.tier_above, event.cache_hit,
           date_trunc('month', event.occurred_at AT TIME ZONE 'UTC')::date AS month, billed,
           min((event.occurred_at AT TIME ZONE 'UTC')::date) AS first_day,
           max((event.occurred_at AT TIME ZONE 'UTC')::date) AS last_day,
           count(*)::numeric AS requests, sum(event.input) AS input, sum(event.output) AS output,
           sum(event.cache_read) AS cache_read, sum(event.cache_write) AS cache_write,
           sum(event.reasoning) AS reasoning, sum(event.audio_input) AS audio_input,
           sum(event.audio_output) AS audio_output, sum(event.images) AS images, sum(event.charge) AS charge,
           ",
            $costs,
            "
    FROM (
        SELECT event.*, event.posting > 0 AND reversal.event_id IS NULL AS billed
        FROM usage_events AS event
        LEFT JOIN usage_reversals AS reversal
               ON reversal.account_id = event.account_id AND reversal.event_id = event.event_id
              AND ($5::bigint IS NULL OR reversal.posting <= $5)
        WHERE event.account_id = $1 AND event.period BETWEEN $2 AND $3 AND event.recorded_at >= $4
    ) AS event
    JOIN models AS model USING (model_id)
    JOIN price_versions AS price ON price.price_version = event.price_version
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
        )
    };
}

const USAGE: &str = usage!("NULL AS cost_currency, NULL::numeric AS cost");
const USAGE_WITH_COSTS: &str = usage!(
    "price.cost_currency,
     CASE WHEN NOT event.cache_hit THEN own_cost(
         price, sum(event.input) FILTER (WHERE event.images = 0),
         sum(event.output) FILTER (WHERE event.images = 0),
         sum(event.cache_read) FILTER (WHERE event.images = 0),
         sum(event.cache_write) FILTER (WHERE event.images = 0),
         sum(event.reasoning) FILTER (WHERE event.images = 0),
         sum(event.audio_input) FILTER (WHERE event.images = 0),
         sum(event.audio_output) FILTER (WHERE event.images = 0)) END AS cost"
);

/// Whether what usage cost ourselves is summed, too. A tenant may not see it, nor may the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Costs {
    Summed,
    LeftOut,
}

/// When the first event of a period can have been recorded: at its first moment, a clock's error
/// aside, or once the month before was closed early by a final invoice.
pub(crate) async fn recorded_from(
    connection: &mut PgConnection,
    account: AccountId,
    period: NaiveDate,
) -> Result<DateTime<Utc>, BillingError> {
    let begins = period.checked_sub_days(RECORDED_EARLIER).unwrap_or(period);
    let begins = begins.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc();
    let statement = "
        SELECT least($3, max(closed_at)) FROM closed_periods WHERE account_id = $1 AND period < $2";
    let query = sqlx::query_scalar(statement).bind(account).bind(period).bind(begins);
    Ok(query.fetch_one(connection).await?)
}

/// What an account used in these billing periods, recorded from `begins` on.
pub(super) async fn usage(
    connection: &mut PgConnection,
    account: AccountId,
    periods: (NaiveDate, NaiveDate),
    begins: DateTime<Utc>,
    costs: Costs,
) -> Result<Used, BillingError> {
    let statement = match costs {
        Costs::Summed => USAGE_WITH_COSTS,
        Costs::LeftOut => USAGE,
    };
    let mut used = Used::default();
    for mut row in usage_rows(connection, statement, account, periods, begins, None).await? {
        if let (Some(currency), Some(cost)) = (row.cost_currency.take(), row.cost) {
            let currency = currency.parse().map_err(|_| LedgerError::Stored(currency))?;
            let sum = used.costs.entry(row.period).or_default().entry(currency).or_default();
            *sum = sum.checked_add(cost).ok_or(BillingError::TooLarge)?;
        }
        if row.billed {
            used.usage.entry(row.period).or_default().push(row.into());
        }
    }
    Ok(used)
}

/// What a closed month's document has to hold: the usage as it was when the month was closed.
pub(crate) async fn closed_usage(
    connection: &mut PgConnection,
    account: AccountId,
    period: NaiveDate,
    closed_at_posting: i64,
) -> Result<Vec<UsageSum>, BillingError> {
    let begins = recorded_from(connection, account, period).await?;
    let periods = (period, period);
    let rows =
        usage_rows(connection, USAGE, account, periods, begins, Some(closed_at_posting)).await?;
    Ok(rows.into_iter().filter(|row| row.billed).map(UsageSum::from).collect())
}

async fn usage_rows(
    connection: &mut PgConnection,
    statement: &'static str,
    account: AccountId,
    (from, until): (NaiveDate, NaiveDate),
    begins: DateTime<Utc>,
    closed_at_posting: Option<i64>,
) -> Result<Vec<UsageRow>, BillingError> {
    // Planned with the moment known, which tells the planner how few partitions matter.
    let query = sqlx::query_as(statement).persistent(false);
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
                                  WHERE account_id = $1 AND closed_at <= $4), 0)
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

/// Who paid for what an account used in these billing periods, by period.
pub(crate) async fn funding(
    connection: &mut PgConnection,
    account: AccountId,
    (from, until): (NaiveDate, NaiveDate),
    begins: DateTime<Utc>,
) -> Result<HashMap<NaiveDate, Funding>, BillingError> {
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
