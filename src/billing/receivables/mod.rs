//! What customers owe: aging by days past due, and an account's statement. Both read one snapshot, and
//! both come to 1200 − 2050 of the ledger.

mod store;

use chrono::{DateTime, Days, NaiveDate, Utc};
use sqlx::FromRow;

use crate::{
    accounts, billing::error::BillingError, database::reports::ReportPool, ids::AccountId,
    ledger::store::snapshot, money::Currency,
};

/// How long a statement may take, in seconds: a person waits for it.
const LIMIT_SECONDS: u32 = 60;

/// What an account, or all accounts of a currency, owe on a day. Sums may exceed what one account can
/// hold, hence decimals.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Aging {
    /// Whose; `None` in a total.
    pub account_id: Option<AccountId>,
    /// The account's handle; empty in a total.
    pub handle: String,
    /// The currency of every amount.
    pub currency: String,
    /// Not due yet.
    pub current: rust_decimal::Decimal,
    /// 1 to 30 days past due.
    pub days_1_to_30: rust_decimal::Decimal,
    /// 31 to 60 days past due.
    pub days_31_to_60: rust_decimal::Decimal,
    /// 61 to 90 days past due.
    pub days_61_to_90: rust_decimal::Decimal,
    /// More than 90 days past due.
    pub days_over_90: rust_decimal::Decimal,
    /// Receipts that belong to no invoice.
    pub unapplied: rust_decimal::Decimal,
    /// What is owed after all: the buckets less `unapplied`.
    pub total: rust_decimal::Decimal,
}

/// What to age.
#[derive(Debug, Clone, Copy)]
pub struct AgingFilter {
    /// The day, at whose end it is counted; today where it is not said.
    pub as_of: Option<NaiveDate>,
    /// Only this account.
    pub account: Option<AccountId>,
    /// Only accounts after this one.
    pub after: Option<AccountId>,
    /// At most so many accounts.
    pub limit: i64,
}

/// Aging by account, and its totals by currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgingReport {
    /// The day.
    pub as_of: NaiveDate,
    /// In the order of their ids.
    pub accounts: Vec<Aging>,
    /// Of all accounts that the filter allows, whatever the page.
    pub totals: Vec<Aging>,
}

/// What is open of invoices on a day, by how long it is overdue.
///
/// # Errors
/// The database failed or took too long, or too many reports are being read.
pub async fn aging(
    reports: &ReportPool,
    filter: &AgingFilter,
) -> Result<AgingReport, BillingError> {
    let mut snapshot = snapshot(reports, LIMIT_SECONDS).await?;
    let as_of = match filter.as_of {
        Some(day) => day,
        None => crate::ledger::store::today(&mut snapshot).await?,
    };
    let accounts = store::aging(&mut snapshot, as_of, filter).await?;
    let totals = store::aging_totals(&mut snapshot, as_of, filter.account).await?;
    Ok(AgingReport { as_of, accounts, totals })
}

/// Something that changed what an account owes.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Entry {
    /// When it was posted.
    pub posted_at: DateTime<Utc>,
    /// `invoice`, `payment`, `withholding`, `credit_note`, `payment_return` or `write_off`.
    pub kind: String,
    /// The document's number, or the payment's reference.
    pub reference: String,
    /// Above zero what is owed more.
    pub amount: rust_decimal::Decimal,
}

/// An account's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Whose.
    pub account: AccountId,
    /// The currency of every amount.
    pub currency: Currency,
    /// The first day.
    pub from: NaiveDate,
    /// The last day.
    pub until: NaiveDate,
    /// What was owed before it; below zero where we owe.
    pub opening: rust_decimal::Decimal,
    /// Oldest first.
    pub entries: Vec<Entry>,
}

/// What changed an account's debt over a span of days, both included; this month where they are not
/// said.
///
/// # Errors
/// The database failed or took too long, or too many reports are being read.
pub async fn statement(
    reports: &ReportPool,
    account: AccountId,
    from: Option<NaiveDate>,
    until: Option<NaiveDate>,
) -> Result<Statement, BillingError> {
    let mut snapshot = snapshot(reports, LIMIT_SECONDS).await?;
    let today = crate::ledger::store::today(&mut snapshot).await?;
    let until = until.unwrap_or(today);
    let from = from.unwrap_or_else(|| chrono::Datelike::with_day(&until, 1).unwrap_or(until));
    let currency = accounts::read(&mut snapshot, account).await?.currency;
    let opening = store::owed_before(&mut snapshot, account, begin_of(from)).await?;
    let (begins, ends) = (begin_of(from), end_of(until));
    let entries = store::entries(&mut snapshot, account, begins, ends).await?;
    Ok(Statement { account, currency, from, until, opening, entries })
}

fn begin_of(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

fn end_of(day: NaiveDate) -> DateTime<Utc> {
    begin_of(day.checked_add_days(Days::new(1)).unwrap_or(day))
}
