//! Finance's reports of a billing period, over the whole company: revenue and margin by model, tax
//! by jurisdiction, and the roll-forward of deferred revenue. Each reads one snapshot. Sums may
//! exceed what one account can hold, hence decimals and no `Amount`.

mod deferred;
mod revenue;
mod store;
mod tax;

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;

pub use self::{
    deferred::{Column, Deferred, RollForward, column},
    revenue::{Costed, ModelRevenue, RevenueReport, RevenueTotal, revenue},
    tax::{TaxLine, TaxSummary, TaxedSales, jurisdiction_of, taxes},
};
use crate::{
    database::reports::ReportPool,
    ledger::{error::LedgerError, store::snapshot},
};

/// How long a statement may take, in seconds: a person waits for it.
const LIMIT_SECONDS: u32 = 60;

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
    let lines = [Deferred::Paid.line(), Deferred::Promotional.line()];
    for moved in store::moved(&mut snapshot, period, &lines).await.map_err(bounded)? {
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
