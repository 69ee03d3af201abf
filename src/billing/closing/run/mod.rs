//! A run over all accounts: who goes on where, what is done at once and what is passed over.

mod store;

use std::time::{Duration, Instant};

use chrono::NaiveDate;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use super::{Closing, closes_from, last_over};
use crate::{
    audit,
    billing::{
        error::BillingError,
        seller::{Seller, store as sellers},
    },
    ids::AccountId,
    problem::Problem as _,
    tasks::Tasks,
};

/// Accounts that one call closes when it does not say: some seconds.
pub const ACCOUNTS_PER_STEP: u32 = 200;
/// The most that one call may ask for.
pub const MAX_ACCOUNTS_PER_STEP: u32 = 1_000;
/// Accounts that are looked at together. Those without usage are closed in one transaction, which
/// holds their locks for some milliseconds.
const PAGE: u32 = 100;
/// When a call ends, however many accounts are left: before callers give up.
const STEP_TIME: Duration = Duration::from_secs(10);
/// How long the database may take to accept the run's session.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How often a server looks whether a month has to be closed.
const CHECK_INTERVAL: Duration = Duration::from_hours(1);
/// How long after its start a server looks first: what was queued elsewhere has been recorded.
const FIRST_CHECK: Duration = Duration::from_mins(1);

/// How far the closing of a month is.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Accounts that this step closed.
    pub closed: i64,
    /// Accounts that are left.
    pub remaining: i64,
    /// Accounts that this step could not close, and passed over.
    pub passed_over: Vec<PassedOver>,
    /// Every account that is left was passed over, by this step or one before: what keeps them has to
    /// be remedied. The next step tries them again.
    pub stalled: bool,
}

/// An account whose month could not be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Which.
    pub account: AccountId,
    /// Why, in a sentence.
    pub problem: String,
}

impl Closing {
    /// Closes the month of the next accounts, at most `most`. A run begins with the first step. An
    /// account that cannot be closed is passed over, so that it does not hold up the others.
    ///
    /// # Errors
    /// [`BillingError::PeriodNotOver`], [`BillingError::SellerNotSet`],
    /// [`BillingError::ClosingRuns`], and failures that pass, such as a database that is away; the
    /// accounts before it are closed.
    pub async fn step(&self, period: NaiveDate, most: u32) -> Result<Progress, BillingError> {
        // A session of its own: its lock ends with it, also when this call is dropped.
        let options = self.pool.connect_options();
        let connected = timeout(CONNECT_TIME, PgConnection::connect_with(&options)).await;
        let mut session = connected.map_err(|_| sqlx::Error::PoolTimedOut)??;
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
        let outcome = self.in_turn(session, &seller, period, most, now.date_naive()).await;
        // The session's end would give the turn back too, but only once the database has noticed it:
        // the next step may come before.
        let ended = store::end_turn(session).await;
        let progress = outcome?;
        ended.map(|()| progress)
    }

    async fn in_turn(
        &self,
        session: &mut PgConnection,
        seller: &Seller,
        period: NaiveDate,
        most: u32,
        today: NaiveDate,
    ) -> Result<Progress, BillingError> {
        let mut run = store::begin_run(session, period, today).await?;
        let (begun, mut left, before) = (Instant::now(), most, run.accounts);
        let (mut passed_over, mut stalled) = (Vec::new(), false);
        while !run.finished && !stalled && left > 0 && begun.elapsed() < STEP_TIME {
            let mut page = store::open_accounts(session, period, run.after, left.min(PAGE)).await?;
            if page.is_empty() {
                if store::count_open(session, period, None).await? == 0 {
                    store::finish_run(session, period).await?;
                    run.finished = true;
                } else {
                    // They were passed over, now or by an earlier step.
                    store::go_on_after(session, period, None).await?;
                    (run.after, stalled) = (None, true);
                }
                continue;
            }
            left = left.saturating_sub(u32::try_from(page.len()).unwrap_or(left));
            let idle = store::close_idle(session, period, &page).await?;
            run.accounts = run.accounts.saturating_add_unsigned(idle.len() as u64);
            page.retain(|account| !idle.contains(account));
            for account in page {
                self.close_next(session, seller, &mut run, account, &mut passed_over).await?;
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
            closed: run.accounts.saturating_sub(before),
            remaining,
            passed_over,
            stalled,
        })
    }

    /// Closes the run's next account, or notes why it cannot be closed.
    async fn close_next(
        &self,
        session: &mut PgConnection,
        seller: &Seller,
        run: &mut store::Run,
        account: AccountId,
        passed_over: &mut Vec<PassedOver>,
    ) -> Result<(), BillingError> {
        match self.close_in_run(session, seller, run, account).await {
            Ok(documents) => {
                run.accounts = run.accounts.saturating_add(1);
                run.documents = run.documents.saturating_add(documents);
            }
            // What passes is no fault of the account, and the others would meet it, too.
            Err(error) if error.retry_after().is_some() => return Err(error),
            Err(error) => {
                let problem = error.to_string();
                tracing::error!(
                    %account, error = &error as &dyn std::error::Error,
                    "an account's month cannot be closed"
                );
                store::go_on_after(session, run.period, Some(account)).await?;
                passed_over.push(PassedOver { account, problem });
            }
        }
        run.after = Some(account);
        Ok(())
    }

    /// Closes one account's month, in one transaction with the run's progress. How many documents it
    /// made.
    async fn close_in_run(
        &self,
        session: &mut PgConnection,
        seller: &Seller,
        run: &store::Run,
        account: AccountId,
    ) -> Result<i64, BillingError> {
        let mut transaction = session.begin().await?;
        let documents =
            self.close(&mut transaction, seller, account, run.period, run.issue_date).await?;
        let made = i64::try_from(documents.len()).unwrap_or(i64::MAX);
        store::advance_run(&mut transaction, run.period, account, made).await?;
        transaction.commit().await?;
        Ok(made)
    }

    /// Closes each month once it is over, until the server stops.
    pub fn keep(self, tasks: &Tasks) {
        let stopping = tasks.stopping();
        tasks.spawn("closing of months", async move {
            let keeping = Box::pin(async {
                tokio::time::sleep(FIRST_CHECK).await;
                loop {
                    self.look_after().await;
                    tokio::time::sleep(CHECK_INTERVAL).await;
                }
            });
            // An account whose closing is cut short stays open, and the run goes on later.
            stopping.run_until_cancelled(keeping).await;
        });
    }

    /// A step that nobody asked for, in the audit trail where it closed something.
    async fn step_by_itself(&self, period: NaiveDate) -> Result<Progress, BillingError> {
        let progress = self.step(period, ACCOUNTS_PER_STEP).await?;
        if progress.closed > 0 {
            let told = json!({
                "period": period.to_string(),
                "closed": progress.closed,
                "finished": progress.finished,
            });
            let entry = audit::Entry::of_server("closing of months", None, told);
            audit::store::insert(&mut *self.pool.acquire().await?, entry).await?;
        }
        Ok(progress)
    }

    async fn look_after(&self) {
        let over = match store::now_of(&self.pool).await {
            Ok(now) => last_over(now),
            Err(error) => return tell(&error),
        };
        let begun = Instant::now();
        loop {
            match self.step_by_itself(over).await {
                Ok(Progress { finished: true, accounts, documents, .. }) => {
                    let seconds = begun.elapsed().as_secs();
                    tracing::info!(period = %over, accounts, documents, seconds, "month closed");
                    return;
                }
                Ok(Progress { stalled: true, remaining, .. }) => {
                    tracing::error!(
                        period = %over, remaining,
                        "a month is closed but for accounts that cannot be; the next try is in an hour"
                    );
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
