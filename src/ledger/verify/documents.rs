//! Every frozen document's lines computed again, from the events of its month.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::{Check, MAX_FINDINGS, store};
use crate::{
    billing::{
        assembly::lines,
        closing::closed_usage,
        document::{Document, TaxCategory},
        error::BillingError,
    },
    catalog::version::PricedModel,
    ids::{AccountId, PriceVersionId},
    ledger::error::LedgerError,
};

/// Recomputes the lines of every closed month, as the usage was when it was closed.
pub(super) async fn verify(
    snapshot: &mut PgConnection,
    account: Option<AccountId>,
    prices: &HashMap<PriceVersionId, PricedModel>,
) -> Result<Check, LedgerError> {
    let mut check = Check {
        name: "documents_recompute",
        description: "the lines of every closed month's document follow exactly from its events, \
                      each of which is in one document",
        examined: 0,
        violations: 0,
        findings: Vec::new(),
    };
    for closed in store::closed_periods(snapshot, account).await? {
        check.examined = check.examined.saturating_add(1);
        if let Some(difference) = difference(snapshot, &closed, prices).await? {
            check.violations = check.violations.saturating_add(1);
            if check.findings.len() < MAX_FINDINGS {
                let store::ClosedPeriod { account_id, period, .. } = closed;
                check.findings.push(format!("account {account_id}: {period} {difference}"));
            }
        }
    }
    Ok(check)
}

async fn difference(
    snapshot: &mut PgConnection,
    closed: &store::ClosedPeriod,
    prices: &HashMap<PriceVersionId, PricedModel>,
) -> Result<Option<String>, LedgerError> {
    let usage =
        closed_usage(snapshot, closed.account_id, closed.period, closed.closed_at_posting).await;
    let usage = match usage {
        Ok(usage) => usage,
        Err(BillingError::Database(failure)) => return Err(failure.into()),
        Err(error) => return Ok(Some(format!("cannot be read: {error}"))),
    };
    let Some(content) = &closed.content else {
        let events = usage.len();
        return Ok((events > 0).then(|| format!("has no document and {events} sums of usage")));
    };
    let document: Document = match serde_json::from_str(content) {
        Ok(document) => document,
        Err(error) => return Ok(Some(format!("has a document that cannot be read: {error}"))),
    };
    let tax = document.lines.first().map_or(TaxCategory::OutsideScope, |line| line.tax.clone());
    let decimals = document.currency.minor_unit();
    Ok(match lines(closed.period, &usage, prices, &tax, decimals) {
        Err(error) => Some(format!("does not recompute: {error}")),
        Ok(lines) if lines.len() != document.lines.len() => {
            let (has, should) = (document.lines.len(), lines.len());
            Some(format!("has {has} lines, and its events make {should}"))
        }
        Ok(lines) => {
            lines.iter().zip(&document.lines).find(|(is, has)| is != has).map(|(is, has)| {
                let (position, net, should) = (has.position, has.net, is.net);
                let (quantity, count) = (has.quantity, is.quantity);
                format!(
                    "line {position} says {quantity} for {net}, and its events make {count} for \
                     {should}"
                )
            })
        }
    })
}
