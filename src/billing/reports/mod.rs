//! Finance's reports of a billing period, over the whole company: revenue by model, tax by
//! sub-code, and the roll-forward of deferred revenue. Each reads one snapshot. Sums may exceed
//! what one account can hold, hence decimals and no `Amount`.

mod deferred;
mod store;

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;

pub use self::deferred::{Column, Deferred, RollForward, column};
use crate::{
    database::reports::ReportPool,
    ledger::{chart::Line, error::LedgerError, store::snapshot},
};

/// How long a statement may take, in seconds: a person waits for it.
const LIMIT_SECONDS: u32 = 60;

/// What one model earned in a period, in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRevenue {
    /// The model that was charged.
    pub model: String,
    /// The currency of the amounts.
    pub currency: String,
    /// How many events.
    pub requests: i64,
    /// Their charges.
    pub charged: Decimal,
    /// What was taken back in the period, of events of any period.
    pub reversed: Decimal,
}

/// Revenue by model, and what the ledger says of all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevenueReport {
    /// By currency and model.
    pub models: Vec<ModelRevenue>,
    /// By currency: what usage and its reversals moved on 4000.
    pub ledger: BTreeMap<String, Decimal>,
}

impl RevenueReport {
    /// Whether the events and the ledger have the same revenue in every currency.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let mut rest = self.ledger.clone();
        for model in &self.models {
            *rest.entry(model.currency.clone()).or_default() -= model.charged - model.reversed;
        }
        rest.values().all(Decimal::is_zero)
    }
}

/// Revenue by model in the period that begins on this day.
///
/// # Errors
/// The database failed or took too long, or too many reports are being read.
pub async fn revenue(
    reports: &ReportPool,
    period: NaiveDate,
) -> Result<RevenueReport, LedgerError> {
    let mut snapshot = snapshot(reports, LIMIT_SECONDS).await?;
    let rows = store::earned(&mut snapshot, period).await.map_err(bounded)?;
    let mut report = RevenueReport::default();
    for moved in store::moved(&mut snapshot, period).await.map_err(bounded)? {
        let sign = match (moved.kind.as_str(), moved.credit.as_str(), moved.debit.as_str()) {
            (kind, "4000", _) if kind.starts_with("usage_") => Decimal::ONE,
            ("reversal", _, "4000") => Decimal::NEGATIVE_ONE,
            _ => continue,
        };
        *report.ledger.entry(moved.currency).or_default() += sign * moved.within;
    }
    let models = rows.into_iter().map(|row| ModelRevenue {
        model: row.model,
        currency: row.currency,
        requests: row.requests,
        charged: row.charged,
        reversed: row.reversed,
    });
    report.models = models.collect();
    Ok(report)
}

/// The tax on one sub-code, such as `2100.DE-19`, in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaxLine {
    /// What was owed before the period.
    pub opening: Decimal,
    /// What came to be owed in it.
    pub charged: Decimal,
    /// What was taken back or paid in it.
    pub reduced: Decimal,
}

/// Tax by sub-code and currency in the period that begins on this day.
///
/// # Errors
/// The database failed or took too long, or too many reports are being read.
pub async fn taxes(
    reports: &ReportPool,
    period: NaiveDate,
) -> Result<BTreeMap<(String, String), TaxLine>, LedgerError> {
    let mut snapshot = snapshot(reports, LIMIT_SECONDS).await?;
    let mut lines = BTreeMap::<_, TaxLine>::new();
    for moved in store::moved(&mut snapshot, period).await.map_err(bounded)? {
        if moved.credit.starts_with(Line::TaxPayable.code()) {
            let line = lines.entry((moved.credit.clone(), moved.currency.clone())).or_default();
            line.opening += moved.before;
            line.charged += moved.within;
        }
        if moved.debit.starts_with(Line::TaxPayable.code()) {
            let line = lines.entry((moved.debit, moved.currency)).or_default();
            line.opening -= moved.before;
            line.reduced += moved.within;
        }
    }
    Ok(lines)
}

/// The roll-forwards of paid (2000) and promotional (2010) credits in the period that begins on this
/// day, by currency.
///
/// # Errors
/// The database failed or took too long, or too many reports are being read.
pub async fn deferred_revenue(
    reports: &ReportPool,
    period: NaiveDate,
) -> Result<BTreeMap<(Deferred, String), RollForward>, LedgerError> {
    let mut snapshot = snapshot(reports, LIMIT_SECONDS).await?;
    let mut rolls = BTreeMap::<_, RollForward>::new();
    for moved in store::moved(&mut snapshot, period).await.map_err(bounded)? {
        let kind = deferred::kind(&moved.kind)?;
        for deferred in [Deferred::Paid, Deferred::Promotional] {
            let code = deferred.line().code();
            let sign = match (moved.credit == code, moved.debit == code) {
                (true, _) => Decimal::ONE,
                (_, true) => Decimal::NEGATIVE_ONE,
                _ => continue,
            };
            let roll = rolls.entry((deferred, moved.currency.clone())).or_default();
            roll.enter(column(kind), sign * moved.before, sign * moved.within);
        }
    }
    Ok(rolls)
}

fn bounded(error: sqlx::Error) -> LedgerError {
    LedgerError::bounded(error, "report", LIMIT_SECONDS)
}
