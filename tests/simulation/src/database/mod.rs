//! The database as the product's SQL has it: a funds row for each account, budgets with their
//! periods, leases with sequence numbers, events by account and id. Written from the migrations, in
//! whole numbers of 10^-12, without the product's arithmetic.
//!
//! A statement takes effect at one moment. In Postgres it does so between taking the account's row
//! lock and its commit; whoever needs the same row waits, so that nobody can tell the difference.

mod leases;
mod posting;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use tollgate::{
    accounts::budgets::{Budget, period::BudgetPeriod},
    authorization::{
        lease::{PoolRenewal, RenewedLease},
        pool::PoolKey,
    },
    ids::{AccountId, AuthorizationId, BudgetId, InstanceId, KeyId, PriceVersionId},
    metering::event::{Fingerprint, NewEvent, StoredEvent},
};

use crate::{
    catalog::Version,
    money::{Pico, pico},
    mutation::Mutation,
};

/// What a server sends.
#[derive(Debug, Clone)]
pub enum Statement {
    Register {
        instance: InstanceId,
        promises_for: std::time::Duration,
    },
    Beat {
        instance: InstanceId,
        heard: i64,
    },
    Barrier,
    Awaited(i64),
    /// With what was available when it was sent, for the mutation that needs it.
    Renew(InstanceId, Vec<PoolRenewal>, BTreeMap<(AccountId, PoolKey), Pico>),
    TakeForeign(InstanceId),
    KeepUnsettled(Vec<(AccountId, AuthorizationId)>),
    RemoveDead,
    Stop(InstanceId),
    Post(Batch),
    Stored(Vec<(AccountId, AuthorizationId)>),
    LoadKey(KeyId),
    HasEvent(AccountId, AuthorizationId),
    Revoke(KeyId),
    TopUp {
        account: AccountId,
        operation: u64,
        amount: Pico,
    },
    Refund {
        account: AccountId,
        operation: u64,
        amount: Pico,
    },
    SetLimit {
        account: AccountId,
        budget: BudgetId,
        limit: Pico,
    },
    Publish(Version),
}

/// A batch of usage.
#[derive(Debug, Clone)]
pub struct Batch {
    pub instance: InstanceId,
    pub skip_locked: bool,
    pub expect_duplicates: bool,
    pub events: Vec<NewEvent>,
    /// When it was sent, for the mutation that judges by it.
    pub sent_at: DateTime<Utc>,
    /// Accounts whose rows somebody else holds, as chance has it.
    pub contended: BTreeSet<AccountId>,
}

/// What the database answers.
#[derive(Debug, Clone)]
pub enum Reply {
    Done,
    /// `None` for a server that was removed.
    Beat(Option<Beat>),
    Barrier(i64),
    Awaited(usize),
    Renewed(Vec<RenewedLease>),
    Foreign(Vec<(AccountId, AuthorizationId, Pico)>),
    Posted(Posted),
    Stored(Vec<StoredEvent>),
    Key(Option<KeyRow>),
    HasEvent(bool),
    /// Whether there was enough.
    Refunded(bool),
    /// The last barrier.
    Registered(i64),
}

#[derive(Debug, Clone, Copy)]
pub struct Beat {
    pub at: DateTime<Utc>,
    pub barrier: i64,
}

#[derive(Debug, Clone, Default)]
pub struct Posted {
    pub busy: BTreeSet<AccountId>,
    pub inserted: BTreeMap<AuthorizationId, Pico>,
}

/// Why a statement was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A row lock was not to be had in time. Nothing happened.
    Locked,
    /// The batch has duplicates and nobody had looked for them. Nothing happened.
    Duplicates,
    /// The transaction was rolled back and may be tried again.
    Passing,
    /// Nobody knows whether anything happened.
    Away,
    /// It will never do.
    Refused,
}

/// What listening servers are told, in the order of the commits.
#[derive(Debug, Clone, Copy)]
pub enum Notice {
    Key(KeyId),
    Budgets(AccountId),
    Funds(AccountId),
    Prices,
    Barrier(i64),
    Recall(AccountId, InstanceId),
}

/// A key as a server loads it, with its account and that one's budgets.
#[derive(Debug, Clone)]
pub struct KeyRow {
    pub key: KeyId,
    pub account: AccountId,
    pub revoked: bool,
    pub budgets: Vec<Budget>,
}

#[derive(Debug, Clone, Default)]
pub struct Funds {
    pub promotional: Pico,
    pub credits: Pico,
    pub overdrawn: Pico,
    pub unbilled: Pico,
    pub net_30: bool,
    pub credit_limit: Pico,
    pub leased: Pico,
}

impl Funds {
    pub fn available(&self) -> Pico {
        self.promotional + self.credits - self.overdrawn
            + (self.credit_limit - self.unbilled).max(0)
            - self.leased
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct PeriodRow {
    pub spent: Pico,
    pub leased: Pico,
}

#[derive(Debug, Clone, Copy)]
pub struct LeaseRow {
    pub amount: Pico,
    pub sequence: i64,
}

#[derive(Debug, Clone)]
pub struct InstanceRow {
    pub heartbeat_at: DateTime<Utc>,
    pub stopped_at: Option<DateTime<Utc>>,
    pub promises_for: std::time::Duration,
    pub heard: i64,
}

/// A usage event as it is stored.
#[derive(Debug, Clone)]
pub struct EventRow {
    pub fingerprint: Fingerprint,
    pub price_version: PriceVersionId,
    pub charge: Pico,
    pub overrun: Pico,
    pub saving: Pico,
    pub authorized: Option<Pico>,
    pub recorded_at: DateTime<Utc>,
    pub budgets: Vec<BudgetPeriod>,
}

/// A row of the journal.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    pub account: AccountId,
    pub amount: Pico,
}

#[derive(Default)]
pub struct Database {
    pub funds: BTreeMap<AccountId, Funds>,
    pub budgets: BTreeMap<(AccountId, BudgetId), Budget>,
    pub periods: BTreeMap<(AccountId, BudgetPeriod), PeriodRow>,
    pub leases: BTreeMap<(AccountId, PoolKey, InstanceId), LeaseRow>,
    pub instances: BTreeMap<InstanceId, InstanceRow>,
    pub events: BTreeMap<(AccountId, AuthorizationId), EventRow>,
    pub transfers: Vec<Transfer>,
    pub foreign: BTreeMap<(InstanceId, AccountId, AuthorizationId), Pico>,
    pub unsettled: BTreeSet<(AccountId, AuthorizationId)>,
    pub keys: BTreeMap<KeyId, (AccountId, bool)>,
    pub top_ups: BTreeMap<u64, (AccountId, Pico)>,
    pub refunds: BTreeMap<u64, (AccountId, Pico)>,
    pub versions: Vec<Version>,
    pub barrier: i64,
    pub mutation: Option<Mutation>,
}

impl Database {
    pub fn broken(&self, rule: Mutation) -> bool {
        self.mutation == Some(rule)
    }

    /// A statement takes effect: what is answered, and what listeners are told.
    pub fn execute(
        &mut self,
        statement: Statement,
        now: DateTime<Utc>,
    ) -> (Result<Reply, Failure>, Vec<Notice>) {
        let mut notices = Vec::new();
        let reply = self.run(statement, now, &mut notices);
        if reply.is_err() {
            notices.clear();
        }
        (reply, notices)
    }

    fn run(
        &mut self,
        statement: Statement,
        now: DateTime<Utc>,
        notices: &mut Vec<Notice>,
    ) -> Result<Reply, Failure> {
        Ok(match statement {
            Statement::Register { instance, promises_for } => {
                let heard = self.barrier;
                let row = InstanceRow { heartbeat_at: now, stopped_at: None, promises_for, heard };
                self.instances.insert(instance, row);
                Reply::Registered(heard)
            }
            Statement::Beat { instance, heard } => Reply::Beat(self.beat(instance, heard, now)),
            Statement::Barrier => {
                self.barrier += 1;
                notices.push(Notice::Barrier(self.barrier));
                Reply::Barrier(self.barrier)
            }
            Statement::Awaited(number) => Reply::Awaited(self.awaited(number, now)),
            Statement::Renew(instance, asked, before) => {
                Reply::Renewed(self.renew(instance, asked, &before, now, notices)?)
            }
            Statement::TakeForeign(instance) => {
                let mine = |place: &(InstanceId, AccountId, AuthorizationId)| place.0 == instance;
                let taken = self.foreign.iter().filter(|(place, _)| mine(place));
                let taken = taken.map(|(place, charge)| (place.1, place.2, *charge)).collect();
                self.foreign.retain(|place, _| !mine(place));
                Reply::Foreign(taken)
            }
            Statement::KeepUnsettled(places) => {
                let events = &self.events;
                self.unsettled
                    .extend(places.into_iter().filter(|place| !events.contains_key(place)));
                Reply::Done
            }
            Statement::RemoveDead => {
                self.remove_dead(now);
                Reply::Done
            }
            Statement::Stop(instance) => {
                if let Some(row) = self.instances.get_mut(&instance) {
                    row.stopped_at = Some(now);
                }
                Reply::Done
            }
            Statement::Post(batch) => Reply::Posted(self.post(batch, now)?),
            Statement::Stored(places) => {
                Reply::Stored(places.iter().filter_map(|place| self.stored(place)).collect())
            }
            Statement::LoadKey(key) => Reply::Key(self.key_row(key)),
            Statement::HasEvent(account, id) => {
                Reply::HasEvent(self.events.contains_key(&(account, id)))
            }
            Statement::Revoke(key) => {
                if let Some(row) = self.keys.get_mut(&key) {
                    row.1 = true;
                }
                notices.push(Notice::Key(key));
                Reply::Done
            }
            Statement::TopUp { account, operation, amount } => {
                if self.top_ups.insert(operation, (account, amount)).is_none() {
                    let funds = self.funds.entry(account).or_default();
                    let cure = funds.overdrawn.min(amount);
                    funds.overdrawn -= cure;
                    funds.credits += amount - cure;
                    notices.push(Notice::Funds(account));
                }
                Reply::Done
            }
            Statement::Refund { account, operation, amount } => {
                let anyway = self.broken(Mutation::RefundOfLeased);
                let again = self.refunds.contains_key(&operation);
                let funds = self.funds.entry(account).or_default();
                let free = if anyway { Pico::MAX } else { funds.available() };
                let enough = amount <= free.min(funds.credits);
                if enough && !again {
                    funds.credits -= amount;
                    self.refunds.insert(operation, (account, amount));
                    notices.push(Notice::Funds(account));
                }
                Reply::Refunded(enough || again)
            }
            Statement::SetLimit { account, budget, limit } => {
                if let Some(row) = self.budgets.get_mut(&(account, budget)) {
                    row.limit = crate::money::amount(limit);
                    notices.push(Notice::Budgets(account));
                }
                Reply::Done
            }
            Statement::Publish(version) => {
                if self.versions.iter().all(|known| known.version != version.version) {
                    self.versions.push(version);
                }
                notices.push(Notice::Prices);
                Reply::Done
            }
        })
    }

    fn key_row(&self, key: KeyId) -> Option<KeyRow> {
        let (account, revoked) = *self.keys.get(&key)?;
        let budgets = self.budgets.iter().filter(|(place, _)| place.0 == account);
        let budgets = budgets.map(|(_, budget)| budget.clone()).collect();
        Some(KeyRow { key, account, revoked, budgets })
    }

    /// What is leased to a server of a pool.
    pub fn leased(&self, account: AccountId, pool: PoolKey, instance: InstanceId) -> Pico {
        self.leases.get(&(account, pool, instance)).map_or(0, |lease| lease.amount)
    }

    /// What no server holds of a pool.
    pub fn available(&self, account: AccountId, pool: PoolKey) -> Pico {
        match pool {
            PoolKey::Funds => self.funds.get(&account).map_or(0, Funds::available),
            PoolKey::Budget(period) => {
                let limit = self.budgets.get(&(account, period.budget));
                let limit = limit.map_or(0, |budget| pico(budget.limit));
                let row = self.periods.get(&(account, period)).copied().unwrap_or_default();
                limit - row.spent - row.leased
            }
        }
    }
}

/// The first day of a moment's day, for the mutation that counts usage when it is posted.
fn day_of(moment: DateTime<Utc>) -> NaiveDate {
    moment.date_naive()
}
