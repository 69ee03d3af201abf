//! Reading the books: transfers page by page, and the trial balance. Reports read one snapshot, hold
//! no locks and are bounded in time, so that none of them can hold up those who post.

mod store;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::FromRow;

use crate::{
    database::reports::ReportPool,
    ids::{AccountId, CauseId},
    ledger::{
        chart::{LedgerCode, Line, Side},
        error::LedgerError,
        store::snapshot,
    },
    money::{Amount, Currency},
};

/// How long a report may take, in seconds: a person waits for it.
const REPORT_LIMIT_SECONDS: u32 = 60;

/// Which transfers to list.
#[derive(Debug, Clone)]
pub struct TransferFilter {
    /// Whose.
    pub account: AccountId,
    /// Only those that debit or credit this code; a line stands for all its sub-codes.
    pub ledger_account: Option<LedgerCode>,
    /// Only those posted at or after this moment.
    pub from: Option<DateTime<Utc>>,
    /// Only those posted before this moment.
    pub until: Option<DateTime<Utc>>,
    /// Only those older than this posting and line: the last of the page before.
    pub before: Option<(i64, i16)>,
    /// How many at most.
    pub limit: i64,
}

/// A transfer as it stands in the books.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct PostedTransfer {
    /// Whose.
    pub account_id: AccountId,
    /// The account's posting, numbered without gaps.
    pub posting: i64,
    /// The line within the posting.
    pub line: i16,
    /// The code that is debited.
    pub debit: String,
    /// The code that is credited.
    pub credit: String,
    /// How much.
    pub amount: Amount,
    /// The amount's currency code.
    pub currency: String,
    /// What kind of business it is.
    pub kind: String,
    /// The first day of its billing period.
    pub period: NaiveDate,
    /// When it was posted.
    pub posted_at: DateTime<Utc>,
    /// What caused it; `None` for usage.
    pub cause_id: Option<CauseId>,
    /// The caller's key.
    pub idempotency_key: String,
    /// The caller's words.
    pub description: String,
}

/// Lists an account's transfers, newest first.
pub async fn list_transfers(
    reports: &ReportPool,
    filter: &TransferFilter,
) -> Result<Vec<PostedTransfer>, LedgerError> {
    let mut snapshot = snapshot(reports, REPORT_LIMIT_SECONDS).await?;
    let rows = store::transfers(&mut snapshot, filter).await;
    rows.map_err(|error| LedgerError::bounded(error, "list of transfers", REPORT_LIMIT_SECONDS))
}

/// One line of the chart, in one currency, its sub-codes rolled into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrialBalanceLine {
    /// The line.
    pub line: Line,
    /// The currency of its amounts.
    pub currency: Currency,
    /// The sum of all debits.
    pub debits: Amount,
    /// The sum of all credits.
    pub credits: Amount,
    /// The difference on the line's normal side; below zero when it is on the other.
    pub balance: Amount,
}

/// What all lines of one currency sum to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrialBalanceTotal {
    /// The currency.
    pub currency: Currency,
    /// The sum of all debits.
    pub debits: Amount,
    /// The sum of all credits, which is the same.
    pub credits: Amount,
}

/// Every line that anything was posted on, and the totals by currency.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrialBalance {
    /// By code, then currency.
    pub lines: Vec<TrialBalanceLine>,
    /// By currency.
    pub totals: Vec<TrialBalanceTotal>,
}

/// The trial balance of one account, or of the whole company.
pub async fn trial_balance(
    reports: &ReportPool,
    account: Option<AccountId>,
) -> Result<TrialBalance, LedgerError> {
    let mut snapshot = snapshot(reports, REPORT_LIMIT_SECONDS).await?;
    let rows = store::sums(&mut snapshot, account).await;
    let rows =
        rows.map_err(|error| LedgerError::bounded(error, "trial balance", REPORT_LIMIT_SECONDS))?;
    let mut report = TrialBalance::default();
    for row in rows {
        let line: Line = row.code.parse().map_err(|_| LedgerError::Stored(row.code))?;
        let currency = row.currency.parse().map_err(|_| LedgerError::Stored(row.currency))?;
        report.add(line, currency, row.debits, row.credits)?;
    }
    report.totals.sort_by_key(|total| total.currency);
    Ok(report)
}

impl TrialBalance {
    fn add(
        &mut self,
        line: Line,
        currency: Currency,
        debits: Amount,
        credits: Amount,
    ) -> Result<(), LedgerError> {
        let beyond =
            || LedgerError::Stored(format!("a sum on {} beyond every amount", line.code()));
        let balance = match line.kind().normal_side() {
            Side::Debit => debits.checked_sub(credits),
            Side::Credit => credits.checked_sub(debits),
        };
        let balance = balance.ok_or_else(beyond)?;
        self.lines.push(TrialBalanceLine { line, currency, debits, credits, balance });

        let found = self.totals.iter_mut().find(|total| total.currency == currency);
        if let Some(total) = found {
            total.debits = total.debits.checked_add(debits).ok_or_else(beyond)?;
            total.credits = total.credits.checked_add(credits).ok_or_else(beyond)?;
        } else {
            self.totals.push(TrialBalanceTotal { currency, debits, credits });
        }
        Ok(())
    }
}
