//! Overdue invoices: reminders, suspension after a grace, release on payment.
//!
//! A reminder is a row that whoever writes to customers reads, and a line in the log; each step of
//! [`REMINDER_DAYS`] is noted once for an invoice, and a server that was away notes the last step alone.
//! Suspension needs a grace to be configured. An account that was suspended for it is released by the
//! payment or credit note that leaves nothing overdue, in the same transaction; one that a person
//! suspended stays so, and so does one whose debt was written off.

mod store;

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::json;
use sqlx::{FromRow, PgConnection, PgPool};

use crate::{
    accounts::{self, account::AccountStatus},
    audit,
    billing::error::BillingError,
    ids::{AccountId, CauseId},
    ledger::store::{lock, today},
    money::Amount,
    tasks::Tasks,
};

/// After how many days past due a reminder is due.
pub const REMINDER_DAYS: [i32; 4] = [1, 8, 15, 30];
/// How often a server looks.
const CHECK_INTERVAL: Duration = Duration::from_hours(1);
/// How long after its start a server looks first.
const FIRST_CHECK: Duration = Duration::from_mins(2);
/// How the reason of a suspension begins; a release looks for it.
const OVERDUE: &str = "overdue: ";

/// Something that an overdue invoice led to.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct DunningEvent {
    /// Its number, rising.
    pub dunning_event: i64,
    /// Whose.
    pub account_id: AccountId,
    /// The account's handle.
    pub handle: String,
    /// Where its mail goes.
    pub accounts_payable_email: String,
    /// The invoice's number.
    pub number: String,
    /// The invoice's currency.
    pub currency: String,
    /// `reminder`, `suspension` or `release`.
    pub kind: String,
    /// Of a reminder its step, else how long the invoice was overdue.
    pub days: i32,
    /// What was open of the invoice.
    pub open: Amount,
    /// When.
    pub noted_at: DateTime<Utc>,
}

/// Which events to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct DunningFilter {
    /// Only of this account.
    pub account: Option<AccountId>,
    /// Only those before this one.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

/// An invoice that is overdue.
#[derive(Debug, Clone, FromRow)]
struct Overdue {
    account_id: AccountId,
    document_id: CauseId,
    number: String,
    days: i32,
    open: Amount,
}

/// What one look led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    /// Reminders that were noted.
    pub reminders: usize,
    /// Accounts that were suspended.
    pub suspended: usize,
}

/// Looks after overdue invoices.
#[derive(Debug, Clone)]
pub struct Dunning {
    pool: PgPool,
    /// After how many days past due an account is suspended; never where it is not said.
    grace_days: Option<u16>,
}

impl Dunning {
    /// Looks after the invoices in the database behind this pool.
    #[must_use]
    pub const fn new(pool: PgPool, grace_days: Option<u16>) -> Self {
        Self { pool, grace_days }
    }

    /// Notes what is due on this day. Doing it again notes nothing more.
    ///
    /// # Errors
    /// Failures of the database; what was noted before stays.
    pub async fn step(&self, day: NaiveDate) -> Result<Round, BillingError> {
        let mut connection = self.pool.acquire().await?;
        let reminded = store::remind(&mut connection, day, &REMINDER_DAYS).await?;
        for Overdue { account_id, number, days, open, .. } in &reminded {
            tracing::info!(account = %account_id, number, days, %open, "an invoice is overdue");
        }
        let mut round = Round { reminders: reminded.len(), suspended: 0 };
        let Some(grace) = self.grace_days else { return Ok(round) };
        let beyond = store::accounts_beyond(&mut connection, day, grace).await?;
        drop(connection);
        for account in beyond {
            round.suspended += usize::from(self.suspend(account, day, grace).await?);
        }
        Ok(round)
    }

    async fn suspend(
        &self,
        account: AccountId,
        day: NaiveDate,
        grace: u16,
    ) -> Result<bool, BillingError> {
        let mut transaction = self.pool.begin().await?;
        lock(&mut transaction, account).await?;
        // Under the lock: a payment may have come meanwhile.
        let Some(worst) = store::longest_overdue(&mut transaction, account, day, grace).await?
        else {
            return Ok(false);
        };
        let Overdue { number, days, .. } = &worst;
        let reason = format!("{OVERDUE}{number} is {days} days past due");
        accounts::set_status(&mut transaction, account, AccountStatus::Suspended, &reason).await?;
        store::note(&mut transaction, &worst, "suspension").await?;
        let told = json!({ "reason": reason });
        let entry = audit::Entry::of_server("overdue invoices", Some(account), told);
        audit::store::insert(&mut transaction, entry).await?;
        transaction.commit().await?;
        tracing::warn!(%account, reason, "an account was suspended");
        Ok(true)
    }

    /// Looks every hour, until the server stops.
    pub fn keep(self, tasks: &Tasks) {
        let stopping = tasks.stopping();
        tasks.spawn("overdue invoices", async move {
            let keeping = async {
                tokio::time::sleep(FIRST_CHECK).await;
                loop {
                    if let Err(error) = self.look_after().await {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "overdue invoices were not looked after");
                    }
                    tokio::time::sleep(CHECK_INTERVAL).await;
                }
            };
            stopping.run_until_cancelled(keeping).await;
        });
    }

    async fn look_after(&self) -> Result<(), BillingError> {
        let day = today(&mut *self.pool.acquire().await?).await?;
        self.step(day).await?;
        Ok(())
    }
}

/// Lets an account's keys work again that was suspended for overdue invoices and has none any more.
/// The caller holds the lock of its funds, and has just settled something.
pub(super) async fn release(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<(), BillingError> {
    let day = today(connection).await?;
    if let Some(settled) = store::releasable(connection, account, day, OVERDUE).await? {
        accounts::set_status(connection, account, AccountStatus::Active, "").await?;
        store::note(connection, &settled, "release").await?;
        tracing::info!(%account, "nothing is overdue any more; the account works again");
    }
    Ok(())
}

/// What overdue invoices led to, newest first.
///
/// # Errors
/// Failures of the database.
pub async fn events(
    connection: &mut PgConnection,
    filter: &DunningFilter,
) -> Result<Vec<DunningEvent>, BillingError> {
    store::events(connection, filter).await
}
