//! The service level of `Pro/` models: how available they were to an account in a month, what that
//! gives the customer back, and the evidence for it.
//!
//! [`availability`] says what counts and how it is computed. A month is that in which the requests
//! were made, in UTC, and the charges are those of the same requests: after the customer's
//! discount, less what was taken back, however they were paid. A closing has the invoice's own Pro
//! lines, and [`credit`] says what comes off those. Nothing is posted here.

pub mod availability;
pub mod credit;
mod store;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;

use self::availability::{Availability, BadInterval, Verdict, days_of, verdict};
use crate::{
    catalog::model::DEDICATED_PREFIX,
    database::reports::ReportPool,
    ids::AccountId,
    ledger::{error::LedgerError, store::snapshot},
    metering::event::Outcome,
    money::{Amount, Currency},
};

/// How long the statement may take, in seconds.
const LIMIT_SECONDS: u32 = 60;

/// Whether requests of the model of this name have a service level.
#[must_use]
pub fn is_covered(model: &str) -> bool {
    model.starts_with(DEDICATED_PREFIX)
}

/// How many requests ended in one way, and how that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How they ended.
    pub outcome: Outcome,
    /// Whether the gateway's own cache answered.
    pub cache_hit: bool,
    /// How they count.
    pub verdict: Verdict,
    /// How many.
    pub requests: u64,
}

/// An account's month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlaReport {
    /// Whose.
    pub account: AccountId,
    /// The first day of the month.
    pub month: NaiveDate,
    /// The currency of the amounts.
    pub currency: Currency,
    /// The availability in percent, cut to 6 decimals.
    pub availability_percent: Decimal,
    /// The threshold of the schedule that was missed, in percent; `None` where none was.
    pub missed_percent: Option<Decimal>,
    /// How much of the charges is credited, in percent.
    pub credit_percent: Decimal,
    /// What the month's Pro requests cost.
    pub charges: Amount,
    /// The credit on those, in minor units.
    pub credit: Amount,
    /// How many requests counted.
    pub requests: u64,
    /// How many of them failed.
    pub failures: u64,
    /// Every way in which requests ended, counted or not.
    pub outcomes: Vec<Ended>,
    /// The intervals with failures, the first one first.
    pub evidence: Vec<BadInterval>,
}

impl SlaReport {
    /// The credit on these charges: the net of the Pro lines on the month's invoice.
    #[must_use]
    pub fn credit_on(&self, charges: Amount) -> Amount {
        availability::credit(charges, self.credit_percent, self.currency.minor_unit())
    }
}

/// The service level of an account in the month that begins on this day.
///
/// # Errors
/// There is no such account; the database failed or took too long, or too many reports are being
/// read.
pub async fn report(
    reports: &ReportPool,
    account: AccountId,
    month: NaiveDate,
) -> Result<SlaReport, LedgerError> {
    let mut snapshot = snapshot(reports, LIMIT_SECONDS).await?;
    let currency = store::currency(&mut snapshot, account).await?;
    let currency = currency.ok_or(LedgerError::UnknownAccount(account))?;
    let currency: Currency = currency.parse().map_err(|_| LedgerError::Stored(currency))?;
    report_on(&mut snapshot, account, currency, month, None).await
}

/// The same on a connection of the caller's. With `closing`, from what had been recorded when that
/// period was closed, or is recorded now where it is still open: an event's period is never one that
/// was closed before it was recorded.
pub(crate) async fn report_on(
    connection: &mut PgConnection,
    account: AccountId,
    currency: Currency,
    month: NaiveDate,
    closing: Option<NaiveDate>,
) -> Result<SlaReport, LedgerError> {
    let rows = store::ended(connection, account, month, closing).await;
    let rows = rows.map_err(|error| LedgerError::bounded(error, "service level", LIMIT_SECONDS))?;

    let mut intervals = BTreeMap::<DateTime<Utc>, (u64, u64)>::new();
    let mut outcomes = BTreeMap::<(i16, bool), Ended>::new();
    let mut charges = Decimal::ZERO;
    for row in rows {
        let outcome = Outcome::of_number(row.outcome)
            .ok_or_else(|| LedgerError::Stored(format!("outcome {}", row.outcome)))?;
        let verdict = verdict(outcome, row.cache_hit);
        let ended = u64::try_from(row.requests).unwrap_or(0);
        let way = outcomes.entry((row.outcome, row.cache_hit));
        let way = way.or_insert(Ended { outcome, cache_hit: row.cache_hit, verdict, requests: 0 });
        way.requests = way.requests.saturating_add(ended);
        let (requests, failures) = intervals.entry(row.begins).or_default();
        match verdict {
            Verdict::Success => *requests = requests.saturating_add(ended),
            Verdict::Failure => {
                *requests = requests.saturating_add(ended);
                *failures = failures.saturating_add(ended);
            }
            Verdict::NotCounted => {}
        }
        charges = charges
            .checked_add(row.charged)
            .ok_or_else(|| LedgerError::Stored("charges beyond every amount".to_owned()))?;
    }
    let charges = Amount::new(charges).map_err(|error| LedgerError::Stored(error.to_string()))?;
    let total = |part: fn(&(u64, u64)) -> u64| intervals.values().map(part).sum();
    let (requests, failures) = (total(|counts| counts.0), total(|counts| counts.1));
    let bad = intervals.iter().filter(|(_, (_, failures))| *failures > 0);
    let evidence: Vec<BadInterval> = bad
        .map(|(begins, (requests, failures))| BadInterval {
            begins: *begins,
            requests: *requests,
            failures: *failures,
        })
        .collect();
    let availability = Availability::of(days_of(month), &evidence);
    let credit_percent = availability.credit_percent();
    Ok(SlaReport {
        account,
        month,
        currency,
        availability_percent: availability.percent(),
        missed_percent: availability.missed_percent(),
        credit_percent,
        charges,
        credit: availability::credit(charges, credit_percent, currency.minor_unit()),
        requests,
        failures,
        outcomes: outcomes.into_values().collect(),
        evidence,
    })
}
