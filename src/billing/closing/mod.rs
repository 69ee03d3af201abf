//! Closing a month: each account's usage of it becomes a document, once.
//!
//! Closing an account's month is one transaction. It locks the account's row of funds, as posting
//! does, so that usage is posted either before it, to the month, or after it, to the next open one:
//! each event is in exactly one document. Under the lock it reads the month's usage, assembles,
//! posts, moves `open_period` on, numbers and freezes. A kill at any point leaves the account as it
//! was, or closed.
//!
//! A run over all accounts is a row: the issue date is fixed at its start, and accounts are taken in
//! the order of their ids, one runner at a time. So a run that was interrupted, wherever, ends with
//! the documents and numbers of one that was not. Months of an account that were never closed, as of
//! one that existed before, are closed with it, each with a document of its own.
//!
//! | per account | statements |
//! |---|---|
//! | lock and read account and funds | 3 |
//! | sums of usage, of transfers and of reversals | 3 |
//! | availability, for each month of work on `Pro/` models | 1 |
//! | tax, taxed credits; postings, number and document where there was usage | 1, or 6 |
//! | mark closed, commit | 3 |
//!
//! The sum over the account's events costs the most and grows with them. Everything else is constant.

mod store;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Days, Months, NaiveDate, Utc};
use sqlx::{Connection as _, PgConnection, PgPool};

pub(crate) use store::{closed_usage, funding};

use crate::{
    accounts::{self, account::Account},
    authorization::lifetime,
    billing::{
        assembly::{self, Assembled, Funding, Month, UsageSum, days_of},
        document::Document,
        documents::{self, Filing, store as filed},
        error::BillingError,
        seller::{Seller, store as sellers},
        sla::credit,
    },
    catalog::{book::PriceBook, version::PricedModel},
    ids::{AccountId, CauseId, PriceVersionId},
    ledger::{
        posting::Posting,
        store::{Cause, lock, post},
    },
    money::Amount,
    tasks::Tasks,
};

/// Accounts that one call closes when it does not say: some seconds.
pub const ACCOUNTS_PER_STEP: u32 = 200;
/// The most that one call may ask for.
pub const MAX_ACCOUNTS_PER_STEP: u32 = 1_000;
/// When a call ends, however many accounts are left: before callers give up.
const STEP_TIME: Duration = Duration::from_secs(10);
/// How often a server looks whether a month has to be closed.
const CHECK_INTERVAL: Duration = Duration::from_hours(1);
/// How long after its start a server looks first: what was queued elsewhere has been recorded.
const FIRST_CHECK: Duration = Duration::from_mins(1);

/// How far the closing of a month is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The month.
    pub period: NaiveDate,
    /// Of every document of this closing.
    pub issue_date: NaiveDate,
    /// Nothing is left to do.
    pub finished: bool,
    /// Accounts that were closed.
    pub accounts: i64,
    /// Documents that were frozen.
    pub documents: i64,
    /// Accounts that are left.
    pub remaining: i64,
}

/// Closes months.
#[derive(Debug, Clone)]
pub struct Closing {
    pool: PgPool,
    book: Arc<PriceBook>,
}

impl Closing {
    /// Closes months in the database behind this pool, at the prices of this book.
    #[must_use]
    pub const fn new(pool: PgPool, book: Arc<PriceBook>) -> Self {
        Self { pool, book }
    }

    /// Closes the month of the next accounts, at most `most`. A run begins with the first step.
    ///
    /// # Errors
    /// [`BillingError::PeriodNotOver`], [`BillingError::SellerNotSet`],
    /// [`BillingError::ClosingRuns`], and whatever an account's closing failed by; the accounts
    /// before it are closed.
    pub async fn step(&self, period: NaiveDate, most: u32) -> Result<Progress, BillingError> {
        // A session of its own: its lock ends with it, also when this call is dropped.
        let mut session = PgConnection::connect_with(self.pool.connect_options().as_ref()).await?;
        let outcome = self.step_on(&mut session, period, most).await;
        // A failed farewell changes nothing.
        let _ = session.close().await;
        outcome
    }

    async fn step_on(
        &self,
        session: &mut PgConnection,
        period: NaiveDate,
        most: u32,
    ) -> Result<Progress, BillingError> {
        let (seller, _) = sellers::seller(session).await?.ok_or(BillingError::SellerNotSet)?;
        let now = store::now(session).await?;
        let from = closes_from(period);
        if now < from {
            return Err(BillingError::PeriodNotOver { period, from });
        }
        if !store::take_turn(session).await? {
            return Err(BillingError::ClosingRuns);
        }
        let mut run = store::begin_run(session, period, now.date_naive()).await?;
        let begun = Instant::now();
        let mut left = most;
        while !run.finished && left > 0 && begun.elapsed() < STEP_TIME {
            let accounts = store::open_accounts(session, period, run.after, left.min(100)).await?;
            if accounts.is_empty() {
                store::finish_run(session, period).await?;
                run.finished = true;
            }
            for account in accounts {
                let closed = self.close(session, &seller, &run, account).await;
                run.documents += closed.inspect_err(|error| {
                    let error = error as &dyn std::error::Error;
                    tracing::warn!(%account, error, "an account's month was not closed");
                })?;
                (run.accounts, run.after) = (run.accounts + 1, Some(account));
                left = left.saturating_sub(1);
                if begun.elapsed() >= STEP_TIME {
                    break;
                }
            }
        }
        let remaining =
            if run.finished { 0 } else { store::count_open(session, period, run.after).await? };
        Ok(Progress {
            period,
            issue_date: run.issue_date,
            finished: run.finished,
            accounts: run.accounts,
            documents: run.documents,
            remaining,
        })
    }

    /// Closes one account's month, in one transaction. How many documents it made.
    async fn close(
        &self,
        session: &mut PgConnection,
        seller: &Seller,
        run: &store::Run,
        account: AccountId,
    ) -> Result<i64, BillingError> {
        let mut transaction = session.begin().await?;
        let mut funds = lock(&mut transaction, account).await?;
        let mut made = 0;
        if funds.open_period <= run.period {
            let account = accounts::read(&mut transaction, account).await?;
            let months =
                self.open_months(&mut transaction, &account, funds.open_period, run.period).await?;
            store::move_open_period(&mut transaction, account.account_id, next(run.period)).await?;
            for month in &months {
                let closed_at = funds.posting;
                let assembled = self
                    .assembled(&mut transaction, &account, seller, month, run.issue_date)
                    .await?;
                let id = CauseId::generate();
                let cause =
                    Cause { id, idempotency_key: "", description: "closing", period: month.period };
                let posting = Posting::closing(&assembled.parts);
                let posting = post(&mut transaction, &mut funds, posting, &cause).await?;
                let filing = Filing {
                    id,
                    period: month.period,
                    posting,
                    payment: None,
                    taxed_credits_sold: Amount::ZERO,
                    taxed_credits_used: assembled.taxed_credits_used,
                };
                let document = match assembled.document {
                    Some(document) => {
                        documents::freeze(&mut transaction, document, &filing).await?;
                        made += 1;
                        Some(id)
                    }
                    None => None,
                };
                let account = account.account_id;
                store::mark_closed(&mut transaction, account, month.period, document, closed_at)
                    .await?;
            }
        }
        store::advance_run(&mut transaction, run.period, account, made).await?;
        transaction.commit().await?;
        Ok(made)
    }

    /// What an account's document of a month would be if it were closed now.
    ///
    /// # Errors
    /// [`BillingError::NothingToBill`], [`BillingError::PeriodClosed`],
    /// [`BillingError::SellerNotSet`], and failures of the database.
    pub async fn preview(
        &self,
        account: AccountId,
        period: Option<NaiveDate>,
    ) -> Result<(NaiveDate, Document), BillingError> {
        // The same statements as a closing, rolled back: the lock is held for their time.
        let mut transaction = self.pool.begin().await?;
        let (seller, _) =
            sellers::seller(&mut transaction).await?.ok_or(BillingError::SellerNotSet)?;
        let funds = lock(&mut transaction, account).await?;
        let account = accounts::read(&mut transaction, account).await?;
        let until = period.unwrap_or(funds.period);
        if until < funds.open_period {
            return Err(BillingError::PeriodClosed { account: account.handle, period: until });
        }
        let months = self.open_months(&mut transaction, &account, funds.open_period, until).await?;
        for month in months {
            if period.is_some_and(|period| period != month.period) {
                continue;
            }
            let today = funds.as_of.date_naive();
            let assembled =
                self.assembled(&mut transaction, &account, &seller, &month, today).await?;
            if let Some(document) = assembled.document {
                return Ok((month.period, document));
            }
        }
        Err(BillingError::NothingToBill { account: account.handle, period: until })
    }

    /// The months of an account that are open up to one, which is always among them.
    async fn open_months(
        &self,
        connection: &mut PgConnection,
        account: &Account,
        from: NaiveDate,
        until: NaiveDate,
    ) -> Result<Vec<OpenMonth>, BillingError> {
        let account = account.account_id;
        let mut usage = store::usage(connection, account, from, until).await?;
        let mut funding = store::funding(connection, account, from, until).await?;
        let months: BTreeSet<NaiveDate> =
            usage.keys().chain(funding.keys()).copied().chain([until]).collect();
        let month = |period| OpenMonth {
            period,
            usage: usage.remove(&period).unwrap_or_default(),
            funding: funding.remove(&period).unwrap_or_default(),
        };
        Ok(months.into_iter().map(month).collect())
    }

    async fn assembled(
        &self,
        connection: &mut PgConnection,
        account: &Account,
        seller: &Seller,
        month: &OpenMonth,
        issue_date: NaiveDate,
    ) -> Result<Assembled, BillingError> {
        let last = days_of(month.period).last;
        let taxation = sellers::taxation(connection, &account.contract, last).await?;
        let (taxed_credits, prepayments) = if month.usage.is_empty() {
            (Amount::ZERO, Vec::new())
        } else {
            filed::taxed_credits(connection, account.account_id).await?
        };
        let prices = self.prices(&month.usage).await?;
        let sla = credit::on_usage(connection, account, month.period, &month.usage, &prices);
        let sla = sla.await?;
        assembly::assemble(&Month {
            period: month.period,
            issue_date,
            account,
            seller,
            taxation: &taxation,
            usage: &month.usage,
            prices: &prices,
            funding: month.funding,
            taxed_credits,
            prepayments: &prepayments,
            sla: sla.as_ref(),
        })
    }

    /// The versions that usage was charged by, and those they are discounted from.
    async fn prices(
        &self,
        usage: &[UsageSum],
    ) -> Result<HashMap<PriceVersionId, PricedModel>, BillingError> {
        let mut prices = HashMap::new();
        for sum in usage {
            let mut wanted = Some(sum.price_version);
            while let Some(version) = wanted.filter(|version| !prices.contains_key(version)) {
                let found = self.book.version_or_load(version).await?.ok_or_else(|| {
                    BillingError::Inconsistent(format!("price version {version} does not exist"))
                })?;
                wanted = found.derivation.map(|derivation| derivation.from);
                prices.insert(version, found.as_ref().clone());
            }
        }
        Ok(prices)
    }

    /// Closes each month once it is over, until the server stops.
    pub fn keep(self, tasks: &Tasks) {
        let stopping = tasks.stopping();
        tasks.spawn("closing of months", async move {
            let keeping = async {
                tokio::time::sleep(FIRST_CHECK).await;
                loop {
                    self.look_after().await;
                    tokio::time::sleep(CHECK_INTERVAL).await;
                }
            };
            // An account whose closing is cut short stays open, and the run goes on later.
            stopping.run_until_cancelled(keeping).await;
        });
    }

    async fn look_after(&self) {
        let over = match store::now_of(&self.pool).await {
            Ok(now) => last_over(now),
            Err(error) => return tell(&error),
        };
        let begun = Instant::now();
        loop {
            match self.step(over, ACCOUNTS_PER_STEP).await {
                Ok(progress) if progress.finished => {
                    let Progress { accounts, documents, .. } = progress;
                    let seconds = begun.elapsed().as_secs();
                    tracing::info!(period = %over, accounts, documents, seconds, "month closed");
                    return;
                }
                Ok(_) => {}
                // Whoever has no seller issues no documents here; another server may be at it.
                Err(BillingError::SellerNotSet | BillingError::ClosingRuns) => return,
                Err(error) => return tell(&error),
            }
        }
    }
}

/// The next round tries again.
fn tell(error: &BillingError) {
    tracing::warn!(error = error as &dyn std::error::Error, "a month was not closed");
}

/// An account's month before it is closed.
struct OpenMonth {
    period: NaiveDate,
    usage: Vec<UsageSum>,
    funding: Funding,
}

/// From when on a month can be closed: what was authorized in its last moment is settled, or never
/// will be within its authorization, whatever setting its server has.
#[must_use]
pub fn closes_from(period: NaiveDate) -> DateTime<Utc> {
    let end = next(period).and_hms_opt(0, 0, 0).unwrap_or_default().and_utc();
    end.checked_add_signed(
        chrono::Duration::from_std(lifetime::longest_promise()).unwrap_or_default(),
    )
    .unwrap_or(end)
}

/// The last month that can be closed.
#[must_use]
pub fn last_over(now: DateTime<Utc>) -> NaiveDate {
    let today = now.date_naive();
    let this = chrono::Datelike::with_day(&today, 1).unwrap_or(today);
    let before = |month: NaiveDate| month.checked_sub_months(Months::new(1)).unwrap_or(month);
    let last = before(this);
    if closes_from(last) <= now { last } else { before(last) }
}

fn next(period: NaiveDate) -> NaiveDate {
    period.checked_add_months(Months::new(1)).unwrap_or(period)
}

/// How much earlier than a month's first moment its first event can have been recorded: a gateway's
/// clock may be ahead, and the database's may have been set.
pub(super) const RECORDED_EARLIER: Days = Days::new(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_month_is_over_once_all_that_was_authorized_in_it_is_settled() {
        let october = NaiveDate::from_ymd_opt(2026, 10, 1).unwrap();
        assert_eq!(closes_from(october), at("2026-11-01T01:10:00Z"));
        assert_eq!(last_over(at("2026-11-01T01:09:59Z")).to_string(), "2026-09-01");
        assert_eq!(last_over(at("2026-11-01T01:10:00Z")), october);
        assert_eq!(last_over(at("2026-11-30T23:59:59Z")), october);
        assert_eq!(last_over(at("2027-01-31T00:00:00Z")).to_string(), "2026-12-01");
    }
}
