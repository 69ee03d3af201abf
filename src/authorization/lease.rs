//! What a server asks the database about its leases, and what it is answered.

use rust_decimal::Decimal;

use super::pool::{PoolKey, Renewal};
use crate::{accounts::budgets::period::BudgetPeriod, ids::AccountId, money::Amount};

/// A pool's renewal, on its way to the database.
#[derive(Debug, Clone, Copy)]
pub struct PoolRenewal {
    /// Whose pool.
    pub account: AccountId,
    /// Which of its pools.
    pub key: PoolKey,
    /// What is asked of it.
    pub renewal: Renewal,
    /// The others may be asked for what they do not use.
    pub recall: bool,
}

/// What an account had when its lease was last renewed, for a denial that explains itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FundsView {
    /// Promotional credits and paid credits, less what is overdrawn.
    pub prepaid: Decimal,
    /// What a Net-30 account owes: unbilled and invoiced, less unapplied receipts.
    pub owed: Decimal,
    /// Whether usage beyond credits accrues to an invoice.
    pub net_30: bool,
    /// What it may owe.
    pub credit_limit: Decimal,
    /// Held by all servers together.
    pub leased: Decimal,
    /// What no server holds.
    pub available: Decimal,
}

/// How a period of a budget stood when its lease was last renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetView {
    /// Which budget and which of its periods.
    pub period: BudgetPeriod,
    /// Whether it refuses what would pass the limit.
    pub hard: bool,
    /// What may be spent in the period.
    pub limit: Decimal,
    /// What has been charged to it.
    pub spent: Decimal,
    /// Held by all servers together.
    pub leased: Decimal,
    /// What no server holds; below zero when the limit was lowered.
    pub available: Decimal,
}

/// How a pool stood when its lease was last renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolView {
    /// An account's funds.
    Funds(FundsView),
    /// A period of a budget.
    Budget(BudgetView),
}

impl Default for PoolView {
    fn default() -> Self {
        Self::Funds(FundsView::default())
    }
}

impl PoolView {
    /// What no server holds.
    #[must_use]
    pub const fn available(&self) -> Decimal {
        match self {
            Self::Funds(funds) => funds.available,
            Self::Budget(budget) => budget.available,
        }
    }
}

/// The database's answer for one lease.
#[derive(Debug, Clone)]
pub struct RenewedLease {
    /// Whose pool.
    pub account: AccountId,
    /// Which of its pools.
    pub key: PoolKey,
    /// The database has less than was to be kept, or a newer renewal: nothing was changed.
    pub lost: bool,
    /// What the lease goes on covering.
    pub base: Amount,
    /// What it covers beyond that.
    pub granted: Amount,
    /// The other servers were asked for what they do not use.
    pub recalled: bool,
    /// A budget's end was met for the first time in this period.
    pub reached: bool,
    /// How the pool stands now.
    pub view: PoolView,
}
