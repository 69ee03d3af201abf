//! The rows of sellers and tax rates.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::{FromRow, PgConnection, types::Json};

use super::Seller;
use crate::{
    accounts::contract::Contract,
    billing::{
        error::BillingError,
        tax::{TaxRate, Taxation, jurisdictions_of},
    },
    ledger::chart::Jurisdiction,
};

pub(super) async fn insert_seller(
    connection: &mut PgConnection,
    seller: &Seller,
) -> Result<(), BillingError> {
    sqlx::query("INSERT INTO seller_versions (seller) VALUES ($1)")
        .bind(Json(seller))
        .execute(connection)
        .await?;
    Ok(())
}

/// We, as of now, and since when.
pub(crate) async fn seller(
    connection: &mut PgConnection,
) -> Result<Option<(Seller, DateTime<Utc>)>, BillingError> {
    let statement = "
        SELECT seller, set_at FROM seller_versions ORDER BY seller_version DESC LIMIT 1";
    let row: Option<(Json<Seller>, DateTime<Utc>)> =
        sqlx::query_as(statement).fetch_optional(connection).await?;
    Ok(row.map(|(Json(seller), set_at)| (seller, set_at)))
}

pub(super) async fn insert_tax_rate(
    connection: &mut PgConnection,
    rate: &TaxRate,
) -> Result<(), BillingError> {
    let statement = "
        INSERT INTO tax_rates (jurisdiction, effective_from, rate_percent, label, due_on_payment)
        VALUES ($1, $2, $3, $4, $5)";
    sqlx::query(statement)
        .bind(rate.jurisdiction.code())
        .bind(rate.effective_from)
        .bind(rate.rate_percent)
        .bind(&rate.label)
        .bind(rate.due_on_payment)
        .execute(connection)
        .await?;
    Ok(())
}

#[derive(FromRow)]
struct TaxRateRow {
    jurisdiction: String,
    effective_from: NaiveDate,
    rate_percent: Decimal,
    label: String,
    due_on_payment: bool,
}

impl TaxRateRow {
    fn rate(self) -> Result<TaxRate, BillingError> {
        Ok(TaxRate {
            jurisdiction: self.jurisdiction.parse().map_err(|_| {
                BillingError::Inconsistent(format!("{:?} is no jurisdiction", self.jurisdiction))
            })?,
            effective_from: self.effective_from,
            rate_percent: self.rate_percent.normalize(),
            label: self.label,
            due_on_payment: self.due_on_payment,
        })
    }
}

const LIST_TAX_RATES: &str = "
    SELECT jurisdiction, effective_from, rate_percent, label, due_on_payment
    FROM (SELECT DISTINCT ON (jurisdiction, effective_from) *
          FROM tax_rates
          WHERE $1::text IS NULL OR jurisdiction = $1
          ORDER BY jurisdiction, effective_from, tax_rate_version DESC) AS newest
    WHERE $2::text IS NULL OR (jurisdiction, -(effective_from - DATE '2000-01-01'))
                              > ($2, -($3 - DATE '2000-01-01'))
    ORDER BY jurisdiction, effective_from DESC
    LIMIT $4";

/// Entries by jurisdiction, the newest first, from after one of them.
pub(crate) async fn tax_rates(
    connection: &mut PgConnection,
    jurisdiction: Option<Jurisdiction>,
    after: Option<(String, NaiveDate)>,
    limit: i64,
) -> Result<Vec<TaxRate>, BillingError> {
    let (after_place, after_day) = after.unzip();
    let rows: Vec<TaxRateRow> = sqlx::query_as(LIST_TAX_RATES)
        .bind(jurisdiction.map(|place| place.to_string()))
        .bind(after_place)
        .bind(after_day)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(TaxRateRow::rate).collect()
}

// The narrowest jurisdiction that has an entry on the day counts, with its newest.
const TAX_RATE_ON: &str = "
    SELECT jurisdiction, effective_from, rate_percent, label, due_on_payment
    FROM unnest($1::text[]) WITH ORDINALITY AS place (jurisdiction, rank)
    JOIN tax_rates USING (jurisdiction)
    WHERE effective_from <= $2
    ORDER BY rank, effective_from DESC, tax_rate_version DESC
    LIMIT 1";

/// How a customer under this contract is taxed on a day.
pub(crate) async fn taxation(
    connection: &mut PgConnection,
    contract: &Contract,
    day: NaiveDate,
) -> Result<Taxation, BillingError> {
    let places: Vec<String> = jurisdictions_of(contract).iter().map(ToString::to_string).collect();
    let row: Option<TaxRateRow> =
        sqlx::query_as(TAX_RATE_ON).bind(places).bind(day).fetch_optional(connection).await?;
    let rate = row.map(TaxRateRow::rate).transpose()?;
    if let Some(rate) = &rate {
        let percent = contract.tax_rate_percent;
        if !percent.is_zero() && percent.normalize() != rate.rate_percent {
            tracing::warn!(
                jurisdiction = %rate.jurisdiction,
                entered = %rate.rate_percent,
                contract = %percent,
                "a contract's tax rate differs from its jurisdiction's; the contract's is charged"
            );
        }
    }
    Ok(Taxation::of(contract, rate.as_ref()))
}
