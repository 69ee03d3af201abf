//! Customers: their contracts and their API keys.
//!
//! [`Accounts`] changes accounts, [`keys::Keys`] changes keys, both inside the caller's transaction;
//! [`directory::Directory`] answers the hot path from memory. Every change is announced to all
//! servers in its own transaction ([`change::Change`]), and whoever commits one hands it to
//! [`Directory::invalidate`](directory::Directory::invalidate) before answering.
//!
//! A closed account stays for ever, with its books; nothing here is ever deleted.

pub mod account;
pub mod budgets;
pub mod change;
pub mod contract;
pub mod directory;
pub mod error;
pub mod fields;
pub mod key;
pub mod keys;
mod shelf;
pub mod store;

use sqlx::{PgConnection, PgPool};

use crate::{
    accounts::{
        account::{Account, AccountStatus, AccountUpdate, NewAccount, REASON_LENGTH},
        change::Change,
        directory::DirectoryError,
        error::{AccountError, Outstanding},
        fields::text,
        store::Balances,
    },
    database::failure::violated_unique_index,
    ids::AccountId,
};

/// What a change did, and what must be dropped from memory once it is committed.
#[derive(Debug)]
pub struct Changed<T> {
    /// What was changed, as it is now.
    pub now: T,
    /// For [`Directory::invalidate`](directory::Directory::invalidate).
    pub changes: Vec<Change>,
}

/// Makes and changes accounts.
#[derive(Debug, Clone)]
pub struct Accounts {
    pool: PgPool,
}

impl Accounts {
    /// One account is read from this pool; lists and changes use the connection that they are given.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The account with this id.
    pub async fn get(&self, account: AccountId) -> Result<Account, AccountError> {
        store::account(&self.pool, account).await?.ok_or_else(|| unknown(account))
    }

    /// Accounts in the order in which they were made, at most `limit`, from after one of them.
    pub async fn list(
        &self,
        connection: &mut PgConnection,
        status: Option<AccountStatus>,
        after: Option<AccountId>,
        limit: i64,
    ) -> Result<Vec<Account>, AccountError> {
        Ok(store::accounts(connection, status, after, limit).await?)
    }

    /// Makes an account with its funds, which are empty.
    pub async fn create(
        &self,
        connection: &mut PgConnection,
        new: &NewAccount,
    ) -> Result<Changed<Account>, AccountError> {
        new.check()?;
        let account = AccountId::generate();
        store::insert(connection, account, new).await.map_err(|error| {
            if violated_unique_index(&error) == Some(store::HANDLE_INDEX) {
                AccountError::HandleTaken(new.handle.clone())
            } else {
                error.into()
            }
        })?;
        store::write_contract(connection, account, &new.display_name, &new.contract).await?;
        finish(connection, account, Vec::new()).await
    }

    /// Replaces the contract, and with it limit and tax of the account's funds, if nobody else
    /// changed the account since it was read.
    pub async fn update(
        &self,
        connection: &mut PgConnection,
        account: AccountId,
        update: &AccountUpdate,
    ) -> Result<Changed<Account>, AccountError> {
        let (current, _) = locked(connection, account).await?;
        update.check(current.currency)?;
        refuse_closed(&current)?;
        if current.version != update.version {
            return Err(AccountError::VersionChanged {
                given: update.version,
                actual: current.version,
            });
        }
        let display_name = if update.display_name.is_empty() {
            &current.display_name
        } else {
            &update.display_name
        };
        store::write_contract(connection, account, display_name, &update.contract).await?;
        finish(connection, account, Vec::new()).await
    }

    /// Denies every key of the account until it is resumed. Suspending a suspended account only
    /// replaces the reason.
    pub async fn suspend(
        &self,
        connection: &mut PgConnection,
        account: AccountId,
        reason: &str,
    ) -> Result<Changed<Account>, AccountError> {
        text("reason", reason, REASON_LENGTH)?;
        let (current, _) = locked(connection, account).await?;
        refuse_closed(&current)?;
        store::write_status(connection, account, AccountStatus::Suspended, reason).await?;
        finish(connection, account, Vec::new()).await
    }

    /// Lets a suspended account's keys work again. An active account stays as it is.
    pub async fn resume(
        &self,
        connection: &mut PgConnection,
        account: AccountId,
        reason: &str,
    ) -> Result<Changed<Account>, AccountError> {
        text("reason", reason, REASON_LENGTH)?;
        let (current, _) = locked(connection, account).await?;
        refuse_closed(&current)?;
        if current.status == AccountStatus::Active {
            return Ok(Changed { now: current, changes: Vec::new() });
        }
        store::write_status(connection, account, AccountStatus::Active, "").await?;
        tracing::info!(%account, was = current.status_reason, reason, "an account was resumed");
        finish(connection, account, Vec::new()).await
    }

    /// Closes an account whose balances are all nothing, revoking its keys, for good. A closed
    /// account stays as it is.
    pub async fn close(
        &self,
        connection: &mut PgConnection,
        account: AccountId,
        reason: &str,
    ) -> Result<Changed<Account>, AccountError> {
        text("reason", reason, REASON_LENGTH)?;
        let (current, balances) = locked(connection, account).await?;
        if current.status == AccountStatus::Closed {
            return Ok(Changed { now: current, changes: Vec::new() });
        }
        let disputed = store::disputed(connection, account).await?;
        let mut left = outstanding(&balances);
        left.push(Outstanding {
            balance: "disputed",
            amount: disputed,
            remedy: "record how the chargeback ended",
        });
        left.retain(|outstanding| !outstanding.amount.is_zero());
        if !left.is_empty() {
            return Err(AccountError::NotSettled(left));
        }
        store::withdraw_credit_limit(connection, account).await?;
        store::write_status(connection, account, AccountStatus::Closed, reason).await?;
        let revoked =
            keys::store::revoke_all(connection, account, "the account was closed").await?;
        finish(connection, account, revoked.into_iter().map(Change::Key).collect()).await
    }
}

/// The account with this id, as the caller's transaction sees it.
///
/// # Errors
/// There is none, or the database failed.
pub(crate) async fn read(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<Account, AccountError> {
    store::account(connection, account).await?.ok_or_else(|| unknown(account))
}

/// Erases what is personal on an account: names and addresses of people who are written to, and where
/// it is closed what invoices needed as well. `None` where there is nothing to erase.
///
/// # Errors
/// There is no such account, or the database failed.
pub(crate) async fn erase(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<Option<Changed<Account>>, AccountError> {
    let (current, _) = locked(connection, account).await?;
    let is_closed = current.status == AccountStatus::Closed;
    if !store::erase(connection, account, is_closed).await? {
        return Ok(None);
    }
    finish(connection, account, Vec::new()).await.map(Some)
}

/// Suspends an account, or lets it work again, for what the books found. The caller holds the lock of
/// its funds.
///
/// # Errors
/// There is no such account, or the database failed.
pub(crate) async fn set_status(
    connection: &mut PgConnection,
    account: AccountId,
    status: AccountStatus,
    reason: &str,
) -> Result<(), AccountError> {
    store::write_status(connection, account, status, reason).await?;
    finish(connection, account, Vec::new()).await?;
    Ok(())
}

/// Locks the account against every other change, and reads it.
async fn locked(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<(Account, Balances), AccountError> {
    let Some(_) = store::account(&mut *connection, account).await? else {
        return Err(unknown(account));
    };
    let balances = store::lock_funds(connection, account).await?;
    // Read again: only now can it no longer change.
    let current = store::account(connection, account).await?.ok_or_else(|| unknown(account))?;
    Ok((current, balances))
}

/// Announces what changed, and reads the account as it is now.
async fn finish(
    connection: &mut PgConnection,
    account: AccountId,
    mut changes: Vec<Change>,
) -> Result<Changed<Account>, AccountError> {
    changes.push(Change::Account(account));
    for change in &changes {
        store::announce(connection, change).await?;
    }
    let now = store::account(connection, account).await?.ok_or_else(|| unknown(account))?;
    Ok(Changed { now, changes })
}

fn refuse_closed(account: &Account) -> Result<(), AccountError> {
    if account.status == AccountStatus::Closed {
        return Err(AccountError::WrongStatus {
            status: AccountStatus::Closed,
            remedy: "closing is for good, so create a new account",
        });
    }
    Ok(())
}

fn unknown(account: AccountId) -> AccountError {
    DirectoryError::UnknownAccount(account.to_string()).into()
}

fn outstanding(balances: &Balances) -> Vec<Outstanding> {
    [
        (
            "leased",
            balances.leased,
            "wait until what is authorized is recorded, cancelled or lapsed",
        ),
        ("unbilled", balances.unbilled, "invoice it"),
        ("receivable", balances.receivable, "record its payment or write it off"),
        ("overdrawn", balances.overdrawn, "top up as much"),
        ("unapplied", balances.unapplied, "allocate or return the receipt"),
        ("credits", balances.credits, "refund them"),
        ("promotional", balances.promotional, "withdraw the grants"),
    ]
    .into_iter()
    .map(|(balance, amount, remedy)| Outstanding { balance, amount, remedy })
    .collect()
}
