//! What the database holds, read past the product.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

#[expect(clippy::struct_field_names, reason = "the columns' names")]
#[derive(Debug, Clone, FromRow)]
pub(super) struct Event {
    pub(super) account_id: Uuid,
    pub(super) event_id: Uuid,
    pub(super) key_id: Uuid,
    pub(super) posting: i64,
    pub(super) price_version: i64,
    pub(super) input: i64,
    pub(super) output: i64,
    pub(super) other_tokens: i64,
    pub(super) charge: Decimal,
    pub(super) overrun: Decimal,
    pub(super) cancelled: bool,
    pub(super) budgeted: bool,
}

#[derive(Debug, Clone, FromRow)]
pub(super) struct Transfer {
    pub(super) account_id: Uuid,
    pub(super) posting: i64,
    pub(super) debit: String,
    pub(super) credit: String,
    pub(super) amount: Decimal,
    pub(super) kind: String,
}

#[derive(Debug, Clone, FromRow)]
pub(super) struct Funds {
    pub(super) account_id: Uuid,
    pub(super) promotional: Decimal,
    pub(super) credits: Decimal,
    pub(super) overdrawn: Decimal,
    pub(super) unbilled: Decimal,
    pub(super) receivable: Decimal,
    pub(super) leased: Decimal,
    pub(super) leases: Decimal,
}

#[derive(Debug, FromRow)]
struct Priced {
    price_version: i64,
    model: String,
    effective_from: DateTime<Utc>,
}

/// All that the auditor looks at.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    pub(super) events: Vec<Event>,
    /// In the order in which they were posted.
    pub(super) transfers: Vec<Transfer>,
    pub(super) funds: Vec<Funds>,
    /// Price version to model and first moment in microseconds.
    pub(super) prices: BTreeMap<i64, (String, i64)>,
    /// The numbers given out, by series and year.
    pub(super) numbers: Vec<(String, i32, i64)>,
    /// Usage that the database refused for good.
    pub(super) quarantined: i64,
}

impl Books {
    pub(crate) async fn read(pool: &PgPool) -> Result<Self, sqlx::Error> {
        let events = sqlx::query_as(
            "SELECT account_id, event_id, key_id, posting, price_version, input, output,
                    cache_read + cache_write + reasoning + audio_input + audio_output + images
                        AS other_tokens,
                    charge, overrun, outcome = 6 AS cancelled, budgets IS NOT NULL AS budgeted
             FROM usage_events",
        );
        let transfers = sqlx::query_as(
            "SELECT account_id, posting, debit, credit, amount, kind
             FROM transfers ORDER BY account_id, posting, line",
        );
        let funds = sqlx::query_as(
            "SELECT account_id, promotional, credits, overdrawn, unbilled, receivable, leased,
                    (SELECT coalesce(sum(amount), 0) FROM leases
                     WHERE leases.account_id = account_funds.account_id
                       AND budget_id = '00000000-0000-0000-0000-000000000000') AS leases
             FROM account_funds",
        );
        let prices = sqlx::query_as::<_, Priced>(
            "SELECT price_version, name AS model, effective_from
             FROM price_versions JOIN models USING (model_id)",
        );
        let numbers = sqlx::query_as(
            "SELECT series, year, sequence FROM billing_documents WHERE series IS NOT NULL
             ORDER BY series, year, sequence",
        );
        let quarantined = sqlx::query_scalar("SELECT count(*) FROM quarantined_usage");
        let prices = prices.fetch_all(pool).await?.into_iter();
        Ok(Self {
            events: events.fetch_all(pool).await?,
            transfers: transfers.fetch_all(pool).await?,
            funds: funds.fetch_all(pool).await?,
            prices: prices
                .map(|price| {
                    let from = price.effective_from.timestamp_micros();
                    (price.price_version, (price.model, from))
                })
                .collect(),
            numbers: numbers.fetch_all(pool).await?,
            quarantined: quarantined.fetch_one(pool).await?,
        })
    }
}
