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
//! | since when; sums of usage with our cost, of transfers and reversals | 3 |
//! | availability, for each month of work on `Pro/` models | 1 |
//! | tax, taxed credits; postings, number and document where there was usage | 1, or 6, and 2 for our cost |
//! | mark closed, commit | 3 |
//!
//! The sum over the account's events costs the most and grows with them. Everything else is constant.
//! Accounts that used nothing are closed a hundred at a time, by three statements for all of them.
//!
//! A customer who leaves has a final invoice: the current month is closed for that account alone, by
//! the same transaction, before it is over.
//!
//! An account that cannot be closed, since its books contradict themselves, is passed over and named;
//! the run is not finished before it is closed, too.

mod run;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate, Utc};
use sqlx::{PgConnection, PgPool};

pub use run::{ACCOUNTS_PER_STEP, MAX_ACCOUNTS_PER_STEP, PassedOver, Progress};
pub(crate) use store::{closed_usage, funding, recorded_from};

use store::{Costs, Used};

use crate::{
    accounts::{
        self,
        account::{Account, AccountStatus},
    },
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
        store::{Cause, funds, lock, post, post_in},
    },
    money::{Amount, Currency},
};

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

    /// Closes an account's months up to `period`, in the caller's transaction. The documents it made,
    /// oldest first; none where those months are closed already.
    async fn close(
        &self,
        connection: &mut PgConnection,
        seller: &Seller,
        account: AccountId,
        period: NaiveDate,
        issue_date: NaiveDate,
    ) -> Result<Vec<CauseId>, BillingError> {
        let mut funds = lock(connection, account).await?;
        if funds.open_period > period {
            return Ok(Vec::new());
        }
        let account = accounts::read(connection, account).await?;
        let months = self
            .open_months(connection, &account, funds.open_period, period, Costs::Summed)
            .await?;
        store::move_open_period(connection, account.account_id, next(period)).await?;
        let mut made = Vec::new();
        for month in &months {
            let closed_at = funds.posting;
            let assembled = self.assembled(connection, &account, seller, month, issue_date).await?;
            let id = CauseId::generate();
            let cause =
                Cause { id, idempotency_key: "", description: "closing", period: month.period };
            let posting = Posting::closing(&assembled.parts);
            let posting = post(connection, &mut funds, posting, &cause).await?;
            for (currency, cost) in &month.costs {
                let posting = Posting::provider_cost(*cost);
                post_in(connection, &mut funds, *currency, posting, &cause).await?;
            }
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
                    documents::freeze(connection, document, &filing).await?;
                    made.push(id);
                    Some(id)
                }
                None => None,
            };
            store::mark_closed(connection, account.account_id, month.period, document, closed_at)
                .await?;
        }
        Ok(made)
    }

    /// Closes an account's months up to the current one before that is over, in the caller's
    /// transaction. The documents, oldest first.
    ///
    /// # Errors
    /// [`BillingError::NotSuspended`] and [`BillingError::StillAuthorized`] while more can be used,
    /// [`BillingError::NothingToBill`], [`BillingError::SellerNotSet`], and failures of the database.
    pub async fn finally(
        &self,
        connection: &mut PgConnection,
        account: AccountId,
    ) -> Result<Vec<CauseId>, BillingError> {
        let (seller, _) = sellers::seller(connection).await?.ok_or(BillingError::SellerNotSet)?;
        let funds = lock(connection, account).await?;
        let status = accounts::read(connection, account).await?.status;
        if status == AccountStatus::Active {
            return Err(BillingError::NotSuspended(funds.handle));
        }
        if funds.leased.is_positive() {
            return Err(BillingError::StillAuthorized {
                account: funds.handle,
                held: funds.leased,
            });
        }
        let today = funds.as_of.date_naive();
        let until = month_of(today).max(funds.open_period);
        let made = self.close(connection, &seller, account, until, today).await?;
        if made.is_empty() {
            return Err(BillingError::NothingToBill { account: funds.handle, period: until });
        }
        Ok(made)
    }

    /// What an account's document of a month would be if it were closed now.
    ///
    /// # Errors
    /// [`BillingError::NothingToBill`], [`BillingError::PeriodClosed`],
    /// [`BillingError::SellerNotSet`], and failures of the database.
    pub async fn preview(
        &self,
        snapshot: &mut PgConnection,
        account: AccountId,
        period: Option<NaiveDate>,
    ) -> Result<(NaiveDate, Document), BillingError> {
        let (seller, _) = sellers::seller(snapshot).await?.ok_or(BillingError::SellerNotSet)?;
        let funds = funds(snapshot, account).await?;
        let account = accounts::read(snapshot, account).await?;
        let until = period.unwrap_or(funds.period);
        if until < funds.open_period {
            return Err(BillingError::PeriodClosed { account: account.handle, period: until });
        }
        let months =
            self.open_months(snapshot, &account, funds.open_period, until, Costs::LeftOut).await?;
        for month in months {
            if period.is_some_and(|period| period != month.period) {
                continue;
            }
            let today = funds.as_of.date_naive();
            let assembled = self.assembled(snapshot, &account, &seller, &month, today).await?;
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
        costs: Costs,
    ) -> Result<Vec<OpenMonth>, BillingError> {
        let account = account.account_id;
        let (periods, begins) =
            ((from, until), store::recorded_from(connection, account, from).await?);
        let Used { mut usage, mut costs } =
            store::usage(connection, account, periods, begins, costs).await?;
        let mut funding = store::funding(connection, account, periods, begins).await?;
        let months: BTreeSet<NaiveDate> = usage
            .keys()
            .chain(funding.keys())
            .chain(costs.keys())
            .copied()
            .chain([until])
            .collect();
        let month = |period| OpenMonth {
            period,
            usage: usage.remove(&period).unwrap_or_default(),
            funding: funding.remove(&period).unwrap_or_default(),
            costs: costs.remove(&period).unwrap_or_default(),
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
}

/// An account's month before it is closed.
struct OpenMonth {
    period: NaiveDate,
    usage: Vec<UsageSum>,
    funding: Funding,
    costs: BTreeMap<Currency, Amount>,
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
    let this = month_of(now.date_naive());
    let before = |month: NaiveDate| month.checked_sub_months(Months::new(1)).unwrap_or(month);
    let last = before(this);
    if closes_from(last) <= now { last } else { before(last) }
}

fn month_of(day: NaiveDate) -> NaiveDate {
    day.with_day(1).unwrap_or(day)
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
