//! Budgets: what an account, one of its projects or one of its keys may spend in a day, a week, a
//! month or in all.
//!
//! A hard budget refuses what would pass its limit; a soft one warns in the grant and is announced.
//! A request is held in every budget that concerns it, and its charge is counted in exactly those.
//! A budget counts from when it is set. Which period a request belongs to is decided when it is
//! authorized, by the database's clock; periods begin at midnight UTC.
//!
//! Setting the budget of a target again changes its limit and keeps what was spent. A rotated key
//! and its successor are one target.

pub mod period;
mod store;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use self::period::{BudgetPeriod, Period};
use crate::{
    accounts::{
        Changed,
        account::handle,
        change::Change,
        error::{AccountError, InvalidField},
        keys::record::KeyRecord,
        store::{announce, lock_funds},
    },
    clock,
    ids::{AccountId, BudgetId, KeyId},
    money::Amount,
};

pub(super) use self::store::of_account;

/// Budgets of one account: they are in memory with it, and each request looks through them for those
/// that concern it. Of one target there are eight at most, so that a request is in 24.
pub const MAX_BUDGETS: usize = 1_000;

/// Whose spending a budget limits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// All of the account's.
    Account,
    /// That of the keys of one project.
    Project(String),
    /// That of a key and of those that succeed it by rotation, named by the first of them.
    Key(KeyId),
}

impl Target {
    /// Whether a key's requests count in it.
    #[must_use]
    pub fn concerns(&self, lineage: KeyId, project: &str) -> bool {
        match self {
            Self::Account => true,
            Self::Project(name) => name == project,
            Self::Key(key) => *key == lineage,
        }
    }

    /// What it limits, in a denial's words.
    #[must_use]
    pub fn scope(&self, handle: &str) -> String {
        match self {
            Self::Account => format!("account {handle}"),
            Self::Project(name) => format!("project {name}"),
            Self::Key(_) => "key".to_owned(),
        }
    }
}

/// A budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its id.
    pub budget_id: BudgetId,
    /// Whose spending it limits.
    pub target: Target,
    /// How often it starts anew.
    pub period: Period,
    /// Whether it refuses what would pass the limit, or only warns.
    pub hard: bool,
    /// What may be spent in a period, in the account's currency.
    pub limit: Amount,
    /// When it was first set.
    pub created_at: DateTime<Utc>,
}

impl Budget {
    /// Its period at a moment.
    #[must_use]
    pub fn at(&self, moment: DateTime<Utc>) -> BudgetPeriod {
        BudgetPeriod { budget: self.budget_id, start: self.period.start(moment) }
    }
}

/// A budget and how it stands in one period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetStanding {
    /// The budget.
    pub budget: Budget,
    /// The first day of the period.
    pub period_start: NaiveDate,
    /// Charged to it.
    pub spent: Amount,
    /// Held by servers for outstanding and coming requests.
    pub leased: Amount,
    /// When its end was first met.
    pub reached_at: Option<DateTime<Utc>>,
}

impl BudgetStanding {
    /// What new requests can still reserve; nothing once the limit is passed.
    #[must_use]
    pub fn remaining(&self) -> Amount {
        self.budget.limit.minus_to_zero(self.spent).minus_to_zero(self.leased)
    }

    /// When it starts anew; `None` for a total.
    #[must_use]
    pub fn resets_at(&self) -> Option<DateTime<Utc>> {
        self.budget.period.end(self.period_start)
    }
}

/// What a budget is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetOrder {
    /// Whose spending it limits; a key is named by its id, whichever of its lineage.
    pub target: Target,
    /// How often it starts anew.
    pub period: Period,
    /// Whether it refuses or only warns.
    pub hard: bool,
    /// What may be spent in a period.
    pub limit: Amount,
}

/// An account's budgets as they stand now, in the order in which they were first set.
pub async fn standing(
    connection: &mut PgConnection,
    account: AccountId,
    after: Option<BudgetId>,
    limit: i64,
) -> Result<Vec<BudgetStanding>, AccountError> {
    Ok(store::standing(connection, account, after, limit).await?)
}

/// Sets the budget of a target: makes it, or changes the limit of the one that is there.
pub async fn set(
    connection: &mut PgConnection,
    account: AccountId,
    order: &BudgetOrder,
) -> Result<Changed<BudgetStanding>, AccountError> {
    if order.limit.is_negative() {
        return Err(InvalidField::new("limit.amount", "NEGATIVE", "is below zero").into());
    }
    if let Target::Project(name) = &order.target {
        handle("project", name)?;
    }
    // Posting and leasing hold the same lock: none of them sees half of the change.
    lock_funds(connection, account).await?;
    let target = match &order.target {
        Target::Key(key) => {
            let lineage = store::lineage(connection, account, *key).await?;
            Target::Key(lineage.ok_or(AccountError::UnknownKey(*key))?)
        }
        target => target.clone(),
    };
    let found = store::of_target(connection, account, &target, order).await?;
    let budget_id = if let Some(budget) = found {
        store::write_limit(connection, account, budget, order.limit).await?;
        budget
    } else {
        if store::of_account(&mut *connection, account).await?.len() >= MAX_BUDGETS {
            return Err(AccountError::TooManyBudgets);
        }
        let budget = Budget {
            budget_id: BudgetId::generate(),
            target,
            period: order.period,
            hard: order.hard,
            limit: order.limit,
            created_at: clock::now(),
        };
        store::insert(connection, account, &budget).await?;
        budget.budget_id
    };
    finish(connection, account, budget_id).await
}

/// Takes a budget away: it limits nothing from then on.
pub async fn delete(
    connection: &mut PgConnection,
    account: AccountId,
    budget: BudgetId,
) -> Result<Changed<()>, AccountError> {
    lock_funds(connection, account).await?;
    if !store::delete(connection, account, budget).await? {
        return Err(AccountError::UnknownBudget(budget));
    }
    announce(connection, &Change::Budgets(account)).await?;
    Ok(Changed { now: (), changes: vec![Change::Budgets(account)] })
}

async fn finish(
    connection: &mut PgConnection,
    account: AccountId,
    budget: BudgetId,
) -> Result<Changed<BudgetStanding>, AccountError> {
    announce(connection, &Change::Budgets(account)).await?;
    let now = store::one(connection, account, budget)
        .await?
        .ok_or(AccountError::UnknownBudget(budget))?;
    Ok(Changed { now, changes: vec![Change::Budgets(account)] })
}

/// The budgets that concern a key's requests, in the order in which they are checked: the key's,
/// its project's, the account's; the shortest period first.
pub fn concerning<'a>(
    budgets: &'a [Budget],
    key: &'a KeyRecord,
) -> impl Iterator<Item = &'a Budget> {
    budgets.iter().filter(|budget| budget.target.concerns(key.lineage, &key.project))
}
