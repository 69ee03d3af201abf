//! What missed availability takes off the document of a month.
//!
//! A document's Pro lines are of the month of their work: of its own, and of earlier ones for usage
//! that was reported late. Each month's lines are credited by the availability of that month, from
//! all outcomes that are recorded when the document is made. An earlier document is not touched by
//! what was learned later; that is for a credit note. Accounts without Pro lines cost no query.

use std::collections::{BTreeMap, HashMap};

use chrono::{Datelike as _, NaiveDate};
use sqlx::PgConnection;

use super::{SlaReport, availability::BadInterval, is_covered, report_on};
use crate::{
    accounts::account::Account,
    billing::{
        assembly::{self, SlaCredit, UsageSum},
        document::{Line, TaxCategory},
        error::BillingError,
    },
    catalog::version::PricedModel,
    ids::{AccountId, PriceVersionId},
    ledger::error::LedgerError,
    money::{Amount, Currency},
};

/// The credit on the document that closing `period` makes of this usage; `None` where nothing was
/// missed, or nothing covered was used.
///
/// # Errors
/// [`BillingError::Inconsistent`] where the usage makes no lines, and failures of the database.
pub(crate) async fn on_usage(
    connection: &mut PgConnection,
    account: &Account,
    period: NaiveDate,
    usage: &[UsageSum],
    prices: &HashMap<PriceVersionId, PricedModel>,
) -> Result<Option<SlaCredit>, BillingError> {
    let covered: Vec<UsageSum> =
        usage.iter().filter(|sum| is_covered(&sum.model)).cloned().collect();
    if covered.is_empty() {
        return Ok(None);
    }
    let (currency, untaxed) = (account.currency, TaxCategory::OutsideScope);
    let lines = assembly::lines(period, &covered, prices, &untaxed, currency.minor_unit())?;
    Ok(on_lines(connection, account.account_id, currency, period, &lines).await?)
}

/// The credit on these lines of the document of `period`.
///
/// # Errors
/// Failures of the database, and what is stored there and cannot be.
pub(crate) async fn on_lines(
    connection: &mut PgConnection,
    account: AccountId,
    currency: Currency,
    period: NaiveDate,
    lines: &[Line],
) -> Result<Option<SlaCredit>, LedgerError> {
    let (mut amount, mut reasons, mut evidence) = (Amount::ZERO, Vec::new(), Vec::new());
    for (month, charges) in covered_charges(lines) {
        let report = report_on(connection, account, currency, month, Some(period)).await?;
        let credit = report.credit_on(charges);
        if credit.is_positive() {
            amount = amount.saturating_add(credit);
            reasons.push(reason(&report, charges));
            evidence.push(evidence_of(&report));
        }
    }
    let (reason, evidence) = (reasons.join("; "), evidence.join(" "));
    Ok(amount.is_positive().then_some(SlaCredit { amount, reason, evidence }))
}

/// The net of the covered lines, by the month of the work.
fn covered_charges(lines: &[Line]) -> BTreeMap<NaiveDate, Amount> {
    let mut charges = BTreeMap::<NaiveDate, Amount>::new();
    for line in lines.iter().filter(|line| is_covered(&line.model) && line.net.is_positive()) {
        let first = line.service_days.and_then(|days| days.first.with_day(1));
        if let Some(month) = first {
            let sum = charges.entry(month).or_default();
            *sum = sum.saturating_add(line.net);
        }
    }
    charges
}

fn reason(report: &SlaReport, charges: Amount) -> String {
    let SlaReport { availability_percent, credit_percent, currency, .. } = report;
    let (month, missed) = (report.month.format("%Y-%m"), report.missed_percent.unwrap_or_default());
    format!(
        "Pro availability of {availability_percent}% in {month}, below {missed:.1}%: \
         {credit_percent}% of {charges} {currency}"
    )
}

/// What the document says of it; the report lists the intervals one by one.
fn evidence_of(report: &SlaReport) -> String {
    let SlaReport { requests, failures, evidence, .. } = report;
    let begins = |bad: Option<&BadInterval>| {
        bad.map(|bad| bad.begins.format("%Y-%m-%d %H:%MZ").to_string()).unwrap_or_default()
    };
    format!(
        "{failures} of {requests} requests failed in {} intervals of five minutes, the first of which \
         began at {} and the last at {}; the service level report of {} lists them.",
        evidence.len(),
        begins(evidence.first()),
        begins(evidence.last()),
        report.month.format("%Y-%m"),
    )
}
