//! One account's leases on a server, round by round: what is asked of the database and when, what its
//! answers mean for those who wait, and when others are asked for what they do not use.
//!
//! A pure state machine over the account's [`Holdings`]. `leases` sends what [`SlotState::begin`] asks
//! for and brings the answers; [`slot`](super::slot) puts a lock around it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::{
    holdings::Holdings,
    lease::{PoolRenewal, PoolView, RenewedLease},
    limits,
    pool::{ByPool, Pool, PoolKey},
};
use crate::{
    accounts::budgets::{Budget, period::BudgetPeriod},
    ids::AccountId,
    money::Amount,
};

/// A round of renewal that has ended.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    number: u64,
    /// The database did not answer it.
    failed: bool,
}

/// What is remembered of a pool beside its arithmetic.
#[derive(Debug, Default)]
struct Standing {
    /// What the database said at the last renewal.
    view: PoolView,
    /// Until when (since boot) a shortage is answered from memory.
    short_until: Duration,
    /// Until when the others may still give back what they were asked for.
    recalling_until: Duration,
    /// From when the others may be asked again.
    recall_from: Duration,
    used_at: Duration,
    /// When the database last answered for it.
    answered_at: Duration,
}

/// One account's leases on a server. `T` is what is kept of each grant.
#[derive(Debug)]
pub struct SlotState<T> {
    /// What is leased and held.
    pub holdings: Holdings<T>,
    standings: ByPool<Standing>,
    started: u64,
    last: Round,
    turn: Turn,
    answer: Answer,
    /// The next round gives back what is free.
    pub give_back: bool,
    /// Until when nothing is leased ahead: another server has asked for what is not used.
    frugal_until: Duration,
}

/// Whether a slot waits to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Turn {
    #[default]
    None,
    Queued,
    /// In line for its account's row, which somebody else holds: nobody else renews it meanwhile.
    InLine,
    /// Never again: the slot is off the list, and the account has a new one or none.
    Retired,
}

/// What the database said to the last round of renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Answer {
    #[default]
    Known,
    /// The round has not ended: what it brings is waited for before the next.
    Awaited,
    /// It was lost: more may have been granted than is known here.
    Lost,
}

/// Why a request cannot be held now.
#[derive(Debug, Clone)]
pub enum Shortage {
    /// The database has not been asked yet, or others took what it gave.
    Unknown,
    /// The other servers have been asked for what they do not use.
    Recalling,
    /// A moment ago there was not as much in this pool, anywhere.
    Final(PoolView),
}

impl Shortage {
    /// Whether a request may make do with less. While the others may still give back, it waits for
    /// all that it asked for.
    #[must_use]
    pub const fn allows_less(&self, renewed: bool) -> bool {
        match self {
            Self::Unknown => renewed,
            Self::Recalling => false,
            Self::Final(_) => true,
        }
    }
}

impl<T: Clone> Default for SlotState<T> {
    fn default() -> Self {
        Self {
            holdings: Holdings::default(),
            standings: ByPool::with_capacity(1),
            started: 0,
            last: Round::default(),
            turn: Turn::default(),
            answer: Answer::default(),
            give_back: false,
            frugal_until: Duration::ZERO,
        }
    }
}

impl<T: Clone> SlotState<T> {
    fn standing(&mut self, key: PoolKey) -> &mut Standing {
        self.standings.entry(key).or_default()
    }

    /// Which round a request that begins to wait now waits for.
    #[must_use]
    pub const fn next_round(&self) -> u64 {
        self.started + 1
    }

    /// Whether the database has answered, once this round or a later one has ended.
    #[must_use]
    pub fn answered(&self, round: u64) -> Option<bool> {
        (self.last.number >= round).then_some(!self.last.failed)
    }

    /// These pools are used at this moment.
    pub fn touch(&mut self, pools: &[PoolKey], at: Duration) {
        for key in pools {
            let standing = self.standing(*key);
            standing.used_at = standing.used_at.max(at);
        }
    }

    /// What can be reserved at once in all of these pools.
    #[must_use]
    pub fn free(&self, pools: &[PoolKey]) -> Amount {
        pools.iter().map(|key| self.holdings.free(*key)).min().unwrap_or_default()
    }

    /// Why so much cannot be held in all of these pools.
    #[must_use]
    pub fn shortage(&self, pools: &[PoolKey], amount: Amount, at: Duration) -> Shortage {
        let mut shortage = Shortage::Unknown;
        for key in pools {
            let more = amount.minus_to_zero(self.holdings.free(*key));
            let Some(standing) = self.standings.get(key) else { continue };
            if !standing.has_nothing_left(at, more) {
                continue;
            }
            if at >= standing.recalling_until {
                return Shortage::Final(standing.view.clone());
            }
            shortage = Shortage::Recalling;
        }
        shortage
    }

    /// Counts what was reserved, and says whether a lease should be renewed in the background.
    pub fn spent(&mut self, pools: &[PoolKey], amount: Amount, at: Duration) -> bool {
        let frugal = at < self.frugal_until || self.answer == Answer::Awaited;
        let mut runs_dry = false;
        for key in pools {
            let pool = self.holdings.pool_mut(*key);
            pool.count_spending(amount, at);
            let dry = !frugal && pool.runs_dry(at);
            runs_dry |= dry && !self.standing(*key).has_nothing_left(at, amount);
        }
        runs_dry
    }

    /// The soft budgets among these pools whose limit is passed with what is reserved now.
    #[must_use]
    pub fn passed(&self, pools: &[PoolKey]) -> Vec<(BudgetPeriod, Decimal, Decimal)> {
        let used = |key: &PoolKey| {
            let PoolKey::Budget(period) = key else { return None };
            let view = self.standings.get(key).map(|standing| &standing.view)?;
            let PoolView::Budget(budget) = view else { return None };
            let used = budget.spent + budget.leased - self.holdings.free(*key).decimal();
            (!budget.hard && used > budget.limit).then_some((*period, budget.limit, used))
        };
        pools.iter().filter_map(used).collect()
    }

    /// Notes that a request waits for `need` in each of these pools, and would be helped by `floor`.
    pub fn wait_for(&mut self, pools: &[PoolKey], need: Amount, floor: Amount) {
        for key in pools {
            if self.holdings.free(*key) < need {
                self.holdings.pool_mut(*key).wait_for(need, floor);
            }
        }
    }

    /// A reservation in these pools was settled. A renewal between its commit and this moment counted
    /// it twice, as a charge and as reserved: what it found short may be there.
    pub fn settled(&mut self, pools: &[PoolKey]) {
        for key in pools {
            self.standing(*key).short_until = Duration::ZERO;
        }
    }

    /// The account's funds or limits changed: a remembered shortage no longer counts.
    pub fn forget_shortages(&mut self) {
        for (_, standing) in self.standings.iter_mut() {
            standing.short_until = Duration::ZERO;
            standing.recall_from = Duration::ZERO;
        }
    }

    /// Another server needs what is not used here.
    pub fn recalled(&mut self, at: Duration) {
        self.give_back = true;
        self.frugal_until = at + limits::FRUGAL;
    }

    /// Begins the renewal of every pool that needs one.
    pub fn begin(
        &mut self,
        account: AccountId,
        at: Duration,
        mut next_sequence: impl FnMut() -> i64,
    ) -> Vec<PoolRenewal> {
        // Awaited still: the round before was given up.
        let in_doubt = self.answer != Answer::Known;
        self.answer = Answer::Awaited;
        self.started += 1;
        let give_back = std::mem::take(&mut self.give_back);
        let frugal = at < self.frugal_until;
        let keys: Vec<PoolKey> = self.holdings.pools().map(|(key, _)| key).collect();
        let mut renewals = Vec::with_capacity(keys.len());
        for key in keys {
            let standing = self.standings.entry(key).or_default();
            let idle = standing.is_idle(at);
            let is_over = idle && !standing.was_answered_idle();
            let pool = self.holdings.pool_mut(key);
            let returns = (give_back || idle) && pool.free().is_positive();
            let runs_dry = !frugal && !idle && pool.runs_dry(at);
            let is_stale = in_doubt || pool.drift().is_positive();
            if !(returns || runs_dry || pool.is_awaited() || is_stale || is_over) {
                continue;
            }
            let mut renewal = pool.begin_renewal(next_sequence(), at, returns);
            if frugal || give_back {
                renewal.want = Amount::ZERO;
            }
            let recall = at >= standing.recall_from;
            renewals.push(PoolRenewal { account, key, renewal, recall });
        }
        renewals
    }

    /// The round is over, and the database has answered.
    pub const fn ended(&mut self) {
        self.answer = Answer::Known;
        self.last = Round { number: self.started, failed: false };
    }

    /// The round is over, and nobody knows whether the database has renewed anything.
    pub const fn lost(&mut self) {
        self.answer = Answer::Lost;
        self.last = Round { number: self.started, failed: true };
    }

    /// Notes that it waits to be renewed, unless it does already or never will.
    pub fn queue(&mut self) -> bool {
        let is_new = self.turn == Turn::None;
        if is_new {
            self.turn = Turn::Queued;
        }
        is_new
    }

    /// Whether it is to be renewed now that it comes out of the queue. If so it waits no longer: what is
    /// asked from now on, the coming round may not see.
    pub fn taken(&mut self) -> bool {
        if self.turn == Turn::Queued {
            self.turn = Turn::None;
        }
        self.turn != Turn::InLine
    }

    /// Its account's row is locked, and it waits for that, wherever else it waits.
    pub const fn stand_in_line(&mut self) {
        self.turn = Turn::InLine;
    }

    /// It had its row.
    pub const fn leave_line(&mut self) {
        self.turn = Turn::None;
    }

    /// Nothing was renewed and nothing has changed: those who waited wait on.
    pub fn restore(&mut self, renewals: &[PoolRenewal]) {
        // What a round before this one may have brought is still to be asked.
        self.answer = Answer::Lost;
        for PoolRenewal { key, renewal, .. } in renewals {
            self.give_back |= renewal.give_back;
            let pool = self.holdings.pool_mut(*key);
            let free = pool.free();
            if renewal.need.is_positive() {
                pool.wait_for(
                    renewal.need.saturating_add(free),
                    renewal.floor.saturating_add(free),
                );
            }
        }
    }

    /// The database has renewed one of the pools.
    pub fn end(&mut self, asked: &PoolRenewal, lease: RenewedLease, at: Duration) {
        let pool = self.holdings.pool_mut(asked.key);
        if lease.lost {
            tracing::warn!(account = %asked.account, pool = ?asked.key, "a lease is gone");
            pool.lose_lease();
        } else {
            pool.end_renewal(&asked.renewal, lease.base, lease.granted);
        }
        let standing = self.standing(asked.key);
        standing.view = lease.view;
        standing.answered_at = at;
        if lease.granted < asked.renewal.need {
            standing.short_until = at + limits::SHORTAGE_MEMORY;
            if lease.recalled {
                standing.recalling_until = at + limits::RECALL_WAIT;
                // Long enough for this one to have been in vain.
                standing.recall_from = standing.recalling_until + limits::SHORTAGE_MEMORY;
            }
        } else {
            standing.short_until = Duration::ZERO;
            standing.recalling_until = Duration::ZERO;
            standing.recall_from = Duration::ZERO;
        }
    }

    /// Whether pools should be renewed though nobody waits: idle ones, and quiet ones whose lease is
    /// larger than what they need. Pools of budgets that are over are forgotten.
    ///
    /// Each pool is renewed once more when it has become idle, whatever is known of it. A renewal that
    /// was given up long ago may have taken effect after the newer one that ended a budget's lease, and
    /// what it was granted nobody else would give back.
    pub fn needs_upkeep(&mut self, at: Duration) -> bool {
        let mut needed = false;
        let mut over = Vec::new();
        for (key, pool) in self.holdings.pools() {
            let never = Standing::default();
            let standing = self.standings.get(&key).unwrap_or(&never);
            let unused = at.saturating_sub(standing.used_at);
            let is_known = self.answer == Answer::Known && standing.was_answered_idle();
            let is_idle = standing.is_idle(at);
            if is_idle && is_known && key != PoolKey::Funds && pool.is_empty() {
                over.push(key);
            }
            let drift = pool.drift();
            let drifted = drift.is_positive()
                && (unused >= limits::QUIET_POOL
                    || drift.decimal() * Decimal::TWO > pool.leased().decimal());
            needed |= (is_idle && (!is_known || pool.free().is_positive())) || drifted;
        }
        for key in over {
            self.holdings.forget(key);
            self.standings.remove(&key);
        }
        needed
    }

    /// Marks the slot as gone if it has nothing and has not been used for long. Whoever still has it
    /// must take the account's slot anew, since two of them would write the same lease.
    pub fn retire(&mut self, at: Duration) -> bool {
        let is_over = self.turn == Turn::None
            && self.answer == Answer::Known
            && self.holdings.count() == 0
            && self.holdings.pools().all(|(_, pool)| pool.is_empty())
            && self.standings.values().all(|one| one.is_idle(at));
        if is_over {
            self.turn = Turn::Retired;
        }
        is_over
    }

    /// Whether the account's slot must be taken anew.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.turn == Turn::Retired
    }

    /// Makes the pools of the next period for budgets that are being spent from and are about to
    /// start anew, so that nobody has to wait for them; whether there are any.
    pub fn prepare(&mut self, budgets: &[Budget], now: DateTime<Utc>, at: Duration) -> bool {
        let mut prepared = false;
        for budget in budgets {
            let current = budget.at(now);
            let Some(end) = budget.period.end(current.start) else { continue };
            let is_near = (end - now).to_std().is_ok_and(|left| left <= limits::NEXT_PERIOD);
            let (key, next) = (PoolKey::Budget(current), PoolKey::Budget(budget.at(end)));
            let recently = |one: &Standing| at.saturating_sub(one.used_at) <= limits::NEXT_PERIOD;
            if !is_near
                || self.holdings.pool(next).is_some()
                || !self.standings.get(&key).is_some_and(recently)
            {
                continue;
            }
            let Some(successor) = self.holdings.pool(key).map(Pool::successor) else { continue };
            *self.holdings.pool_mut(next) = successor;
            self.touch(&[next], at);
            prepared = true;
        }
        prepared
    }
}

impl Standing {
    /// Nobody has used it for long.
    fn is_idle(&self, at: Duration) -> bool {
        at.saturating_sub(self.used_at) >= limits::IDLE_LEASE
    }

    /// The database has answered for it since it became idle.
    fn was_answered_idle(&self) -> bool {
        self.answered_at >= self.used_at.saturating_add(limits::IDLE_LEASE)
    }

    /// Whether the lease could not have grown by so much a moment ago.
    fn has_nothing_left(&self, at: Duration, more: Amount) -> bool {
        at < self.short_until && more.decimal() > self.view.available()
    }
}

#[cfg(test)]
#[path = "slot_state_tests.rs"]
mod tests;
