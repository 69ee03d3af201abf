//! Servers and their leases: `heartbeat` and `last_barrier` (migration 0010), `renew_leases` and
//! `remove_dead_instances` (0011), and the query of `authorization/presence/store.rs`.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use tollgate::{
    authorization::{
        lease::{BudgetView, FundsView, PoolRenewal, PoolView, RenewedLease},
        limits::{DEADLINE_MARGIN, HEARTBEAT_TTL, LEASE_TICK},
        pool::PoolKey,
    },
    ids::{AccountId, InstanceId},
};

use super::{Beat, Database, Failure, LeaseRow, Notice};
use crate::{
    money::{Pico, amount, decimal, pico},
    mutation::Mutation,
};

impl Database {
    pub(super) fn beat(
        &mut self,
        instance: InstanceId,
        heard: i64,
        now: DateTime<Utc>,
    ) -> Option<Beat> {
        let row = self.instances.get_mut(&instance).filter(|row| row.stopped_at.is_none())?;
        row.heartbeat_at = now;
        row.heard = row.heard.max(heard);
        Some(Beat { at: now, barrier: self.barrier })
    }

    /// Servers that have not heard a barrier and may still authorize.
    pub(super) fn awaited(&self, number: i64, now: DateTime<Utc>) -> usize {
        let patience = HEARTBEAT_TTL + DEADLINE_MARGIN;
        let awaited = self.instances.values().filter(|row| {
            row.stopped_at.is_none() && row.heard < number && row.heartbeat_at + patience > now
        });
        awaited.count()
    }

    pub(super) fn renew(
        &mut self,
        instance: InstanceId,
        mut asked: Vec<PoolRenewal>,
        before: &BTreeMap<(AccountId, PoolKey), Pico>,
        now: DateTime<Utc>,
        notices: &mut Vec<Notice>,
    ) -> Result<Vec<RenewedLease>, Failure> {
        let known = self.instances.get(&instance).is_some_and(|row| row.stopped_at.is_none());
        if !known && !self.broken(Mutation::RemovedNotRefused) {
            return Err(Failure::Away);
        }
        asked.sort_by_key(|one| (one.account, one.key));
        let renew = |one: &PoolRenewal| self.renew_one(instance, one, before, now, notices);
        Ok(asked.iter().filter_map(renew).collect())
    }

    fn renew_one(
        &mut self,
        instance: InstanceId,
        asked: &PoolRenewal,
        before: &BTreeMap<(AccountId, PoolKey), Pico>,
        now: DateTime<Utc>,
        notices: &mut Vec<Notice>,
    ) -> Option<RenewedLease> {
        let (account, key, renewal) = (asked.account, asked.key, &asked.renewal);
        let hard = match key {
            PoolKey::Funds => true,
            PoolKey::Budget(period) => self.budgets.get(&(account, period.budget))?.hard,
        };
        let mut available = self.available(account, key);
        if self.broken(Mutation::GrantedWithoutLock) {
            available = before.get(&(account, key)).copied().unwrap_or(available);
        }
        let place = (account, key, instance);
        let lease = self.leases.get(&place).copied();
        let (old, last) = lease.map_or((0, 0), |lease| (lease.amount, lease.sequence));
        let in_order = renewal.sequence > last || self.broken(Mutation::OlderRenewalAccepted);
        let kept = pico(renewal.kept);
        let lost = kept > old || !in_order;
        let (mut base, mut granted, mut recalled) = (old, 0, false);
        if !lost {
            let ended = renewal.not_before.is_none_or(|moment| now > moment);
            if ended || self.broken(Mutation::ShrunkTooEarly) {
                base = kept;
            }
            let room = (available + old - base).max(0);
            let (need, want) = (pico(renewal.need), pico(renewal.want));
            granted = if !hard {
                need.max(want)
            } else if need <= room {
                need.max(want.min(room / 2))
            } else if pico(renewal.floor) <= room {
                room
            } else {
                0
            };
            let others = self.leased_in_all(account, key) > old;
            if base + granted == 0 && key != PoolKey::Funds {
                self.leases.remove(&place);
            } else {
                let row = LeaseRow { amount: base + granted, sequence: renewal.sequence };
                self.leases.insert(place, row);
            }
            *self.leased_of(account, key) += base + granted - old;
            if granted < need && asked.recall && others {
                recalled = true;
                notices.push(Notice::Recall(account, instance));
            }
        }
        Some(RenewedLease {
            account,
            key,
            lost,
            base: amount(base),
            granted: amount(granted),
            recalled,
            reached: false,
            view: self.view(account, key),
        })
    }

    fn view(&self, account: AccountId, key: PoolKey) -> PoolView {
        let available = decimal(self.available(account, key));
        let leased = decimal(self.leased_in_all(account, key));
        match key {
            PoolKey::Funds => {
                PoolView::Funds(FundsView { leased, available, ..FundsView::default() })
            }
            PoolKey::Budget(period) => {
                let budget = &self.budgets[&(account, period.budget)];
                let spent = self.periods.get(&(account, period)).map_or(0, |row| row.spent);
                let limit = budget.limit.decimal();
                let (hard, spent) = (budget.hard, decimal(spent));
                PoolView::Budget(BudgetView { period, hard, limit, spent, leased, available })
            }
        }
    }

    fn leased_in_all(&self, account: AccountId, key: PoolKey) -> Pico {
        match key {
            PoolKey::Funds => self.funds.get(&account).map_or(0, |funds| funds.leased),
            PoolKey::Budget(period) => {
                self.periods.get(&(account, period)).map_or(0, |row| row.leased)
            }
        }
    }

    fn leased_of(&mut self, account: AccountId, key: PoolKey) -> &mut Pico {
        match key {
            PoolKey::Funds => &mut self.funds.entry(account).or_default().leased,
            PoolKey::Budget(period) => {
                &mut self.periods.entry((account, period)).or_default().leased
            }
        }
    }

    /// Gives back the leases of servers that are dead and owe nothing any more.
    pub(super) fn remove_dead(&mut self, now: DateTime<Utc>) {
        if self.broken(Mutation::DeadNeverRemoved) {
            return;
        }
        let at_once = self.broken(Mutation::DeadRemovedAtOnce);
        let silence = HEARTBEAT_TTL + LEASE_TICK;
        let is_dead = |row: &super::InstanceRow| {
            let last = row.stopped_at.map_or(row.heartbeat_at, |at| at.max(row.heartbeat_at));
            let owes = TimeDelta::from_std(if at_once {
                std::time::Duration::ZERO
            } else {
                row.promises_for
            });
            last + owes.unwrap_or_default() + silence < now
        };
        let dead = self.instances.iter().filter(|(_, row)| is_dead(row));
        for instance in dead.map(|(id, _)| *id).collect::<Vec<_>>() {
            let places = self.leases.keys().filter(|place| place.2 == instance);
            for place in places.copied().collect::<Vec<_>>() {
                let freed = self.leases.remove(&place).map_or(0, |lease| lease.amount);
                *self.leased_of(place.0, place.1) -= freed;
            }
            self.instances.remove(&instance);
        }
        let instances = &self.instances;
        self.foreign.retain(|place, _| instances.contains_key(&place.0));
    }
}
