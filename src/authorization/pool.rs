//! One pool as this server sees it: a lease on an account's funds or on one period of a budget, what
//! of it is free, and what is reserved.
//!
//! A pure state machine: no clock, no database, no lock of its own. `free + outstanding ≤ leased`
//! holds after every step, where `leased` is what the database holds for this server at least. The
//! difference is what has been settled or has lapsed since the last renewal; until that renewal the
//! database believes that a little more is reserved than is, which is safe.
//!
//! | step | free | outstanding | what the next renewal keeps |
//! |---|---|---|---|
//! | reserve `h` | − h | + h | the same |
//! | settle `h` with charge `c` | + (h − c) | − h | less by `c` |
//! | lapse `h` | | − h | less by `h`, once the database's clock agrees |
//! | give back | − what is free | | less by that |
//! | renewal granted `g` | + g | | |
//!
//! Which requests hold what in which pools is kept by [`holdings`](super::holdings).

use std::time::Duration;

use chrono::{DateTime, Utc};
use litemap::LiteMap;
use rust_decimal::{Decimal, prelude::ToPrimitive as _};

use super::limits;
use crate::{accounts::budgets::period::BudgetPeriod, money::Amount};

/// Which pool of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolKey {
    /// One period of a budget.
    Budget(BudgetPeriod),
    /// What the account has.
    Funds,
}

/// Something for each pool of an account. Nearly all accounts have one pool or two, and a server has
/// room for a hundred thousand accounts: a node of a `BTreeMap` alone would be 2 kB.
pub type ByPool<V> = LiteMap<PoolKey, V>;

/// What a renewal asks of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// Rises with each renewal of this server.
    pub sequence: i64,
    /// What the lease must go on covering.
    pub kept: Amount,
    /// What waiting requests need in all.
    pub need: Amount,
    /// The least that helps any of them.
    pub floor: Amount,
    /// What would be good to have beyond.
    pub want: Amount,
    /// The lease must not shrink before the database's clock shows this: a lapsed reservation
    /// might still be settled until then.
    pub not_before: Option<DateTime<Utc>>,
    /// What was free is given back with it.
    pub give_back: bool,
}

/// One pool's lease on one server.
#[derive(Debug, Default)]
pub struct Pool {
    leased: Amount,
    free: Amount,
    outstanding: Amount,
    lapsed_until: Option<DateTime<Utc>>,
    waiting: Vec<(Amount, Amount)>,
    spending: Spending,
    burst: Burst,
}

impl Pool {
    /// The next period's pool, which will be spent from as this one is.
    #[must_use]
    pub fn successor(&self) -> Self {
        Self { spending: self.spending, ..Self::default() }
    }

    /// What can be reserved at once.
    #[must_use]
    pub const fn free(&self) -> Amount {
        self.free
    }

    /// What is reserved.
    #[must_use]
    pub const fn outstanding(&self) -> Amount {
        self.outstanding
    }

    /// Whether nothing is leased or reserved.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leased.is_zero() && self.outstanding.is_zero() && self.waiting.is_empty()
    }

    /// Moves an amount from what is free to what is reserved; whether there was as much.
    pub fn hold(&mut self, amount: Amount) -> bool {
        let Some(free) = less(self.free, amount) else { return false };
        self.free = free;
        self.outstanding = more(self.outstanding, amount);
        self.check();
        true
    }

    /// Usage was charged and is committed: what its reservation did not need is free again.
    pub fn settle(&mut self, held: Amount, charge: Amount) {
        self.outstanding = self.outstanding.minus_to_zero(held);
        self.free = more(self.free, held.minus_to_zero(charge));
        self.check();
    }

    /// Lets go of a reservation whose cover ended then. What it held is not free: another server may
    /// have settled it meanwhile.
    pub fn lapse(&mut self, held: Amount, covered_until: DateTime<Utc>) {
        self.outstanding = self.outstanding.minus_to_zero(held);
        self.lapsed_until =
            Some(self.lapsed_until.map_or(covered_until, |until| until.max(covered_until)));
        self.check();
    }

    /// Notes that a request waits for `need`, and would be helped by `floor`.
    pub fn wait_for(&mut self, need: Amount, floor: Amount) {
        // Who needs nothing only waits for the round; its floor of nothing would make the database
        // lend whatever is there to nobody's help.
        if need.is_positive() {
            self.waiting.push((need, floor.min(need)));
            self.burst.largest = self.burst.largest.max(need);
        }
    }

    /// Counts what was reserved towards the recent spending.
    pub fn count_spending(&mut self, amount: Amount, at: Duration) {
        self.spending.add(amount, at);
        self.burst.largest = self.burst.largest.max(amount);
        self.burst.total = more(self.burst.total, amount);
    }

    /// Whether a request waits for it.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the lease should be renewed in the background, before it runs dry.
    #[must_use]
    pub fn runs_dry(&self, at: Duration) -> bool {
        let wanted = self.ahead(at);
        self.free.decimal() * Decimal::TWO < wanted.decimal()
    }

    /// What should be free so that the requests to come need not wait: what a few seconds spend, at
    /// the rate of late or of this moment, whichever is higher.
    fn ahead(&self, at: Duration) -> Amount {
        self.spending.over_horizon(at).max(self.burst.over_horizon(at))
    }

    /// What has been settled or has lapsed and the database still believes reserved.
    #[must_use]
    pub fn drift(&self) -> Amount {
        self.leased.minus_to_zero(more(self.free, self.outstanding))
    }

    /// What the database holds for this server.
    #[must_use]
    pub const fn leased(&self) -> Amount {
        self.leased
    }

    /// Begins a renewal. With `give_back`, what is free is given back with it.
    pub fn begin_renewal(&mut self, sequence: i64, at: Duration, give_back: bool) -> Renewal {
        // Taken, not cleared: most accounts wait once and then for long not again.
        let waiting = std::mem::take(&mut self.waiting);
        let need = waiting.iter().fold(Amount::ZERO, |sum, (need, _)| sum.saturating_add(*need));
        let floor = waiting.iter().map(|(_, floor)| *floor).min().unwrap_or_default();
        if give_back {
            self.free = Amount::ZERO;
        }
        let want = self.ahead(at).minus_to_zero(self.free);
        self.burst = Burst { began_at: at, ..Burst::default() };
        Renewal {
            sequence,
            kept: more(self.free, self.outstanding),
            // What is free already serves the first of those who wait.
            need: need.minus_to_zero(self.free),
            floor: floor.minus_to_zero(self.free),
            want: if give_back { Amount::ZERO } else { want },
            not_before: self.lapsed_until,
            give_back,
        }
    }

    /// The database has renewed the lease to `base + granted`, where `base` is what was to be kept,
    /// or more when it was too early to shrink.
    pub fn end_renewal(&mut self, renewal: &Renewal, base: Amount, granted: Amount) {
        self.leased = more(base, granted);
        self.free = more(self.free, granted);
        if base <= renewal.kept && self.lapsed_until <= renewal.not_before {
            self.lapsed_until = None;
        }
        self.check();
    }

    /// The database no longer has this lease: nothing may be reserved from what was free.
    pub fn lose_lease(&mut self) {
        self.free = Amount::ZERO;
        self.leased = self.outstanding;
        self.lapsed_until = None;
    }

    fn check(&self) {
        assert!(
            more(self.free, self.outstanding) <= self.leased,
            "free {} + outstanding {} > leased {}",
            self.free,
            self.outstanding,
            self.leased
        );
    }
}

/// What has happened since the last renewal began: an average over many seconds would learn too late
/// that an account has woken up.
#[derive(Debug, Clone, Copy, Default)]
struct Burst {
    total: Amount,
    largest: Amount,
    began_at: Duration,
}

impl Burst {
    /// What [`limits::LEASE_HORIZON`] spends if it goes on like this, and at least what a few
    /// requests do.
    fn over_horizon(&self, at: Duration) -> Amount {
        let passed = at.saturating_sub(self.began_at).max(limits::SHORTEST_BURST);
        let times = limits::LEASE_HORIZON.as_millis() / passed.as_millis().max(1);
        let rate = self.total.decimal().saturating_mul(Decimal::from(times.to_u64().unwrap_or(0)));
        let few = self.largest.decimal().saturating_mul(limits::REQUESTS_AHEAD.into());
        Amount::new(rate.max(few)).unwrap_or_else(|_| Amount::largest())
    }
}

fn more(amount: Amount, other: Amount) -> Amount {
    amount.saturating_add(other)
}

fn less(amount: Amount, other: Amount) -> Option<Amount> {
    amount.checked_sub(other).filter(|rest| !rest.is_negative())
}

/// Recent spending, as an average that forgets over [`limits::SPENDING_WINDOW`].
#[derive(Debug, Clone, Copy, Default)]
struct Spending {
    total: Decimal,
    at: Duration,
}

impl Spending {
    fn add(&mut self, amount: Amount, at: Duration) {
        self.total = self.faded(at).saturating_add(amount.decimal());
        // By whole milliseconds, as it fades: what is cut off here would never fade.
        let passed = at.saturating_sub(self.at).as_millis().to_u64().unwrap_or(u64::MAX);
        self.at = self.at.saturating_add(Duration::from_millis(passed));
    }

    /// What will be spent within [`limits::LEASE_HORIZON`] if it goes on as it did.
    fn over_horizon(&self, at: Duration) -> Amount {
        let horizon = Decimal::from(limits::LEASE_HORIZON.as_millis().to_u64().unwrap_or(0));
        let window =
            Decimal::from(limits::SPENDING_WINDOW.as_millis().to_u64().unwrap_or(1).max(1));
        let expected = self.faded(at).saturating_mul(horizon) / window;
        Amount::new(expected.round_dp(crate::money::AMOUNT_DECIMALS))
            .unwrap_or_else(|_| Amount::largest())
    }

    fn faded(&self, at: Duration) -> Decimal {
        let window = limits::SPENDING_WINDOW.as_millis();
        let passed = at.saturating_sub(self.at).as_millis();
        if passed >= window {
            return Decimal::ZERO;
        }
        let left = Decimal::from((window - passed).to_u64().unwrap_or(0));
        let window = Decimal::from(window.to_u64().unwrap_or(1).max(1));
        (self.total * left / window).round_dp(crate::money::AMOUNT_DECIMALS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    fn want(pool: &mut Pool, at: Duration) -> Amount {
        pool.begin_renewal(1, at, false).want
    }

    #[test]
    fn the_first_request_leases_for_those_that_follow_it() {
        let mut pool = Pool::default();
        pool.wait_for(amount("0.5"), amount("0.5"));
        assert_eq!(want(&mut pool, Duration::from_hours(1)), amount("16"));
    }

    #[test]
    fn an_account_that_wakes_up_is_leased_for_at_the_rate_of_the_moment() {
        let mut pool = Pool::default();
        let woken = Duration::from_hours(1);
        want(&mut pool, woken);
        let at = woken + Duration::from_millis(200);
        for _ in 0..100 {
            pool.count_spending(amount("0.01"), at);
        }
        // 1 in 0.2 s is 20 in the 4 s of the horizon; over ten seconds it would look like 0.4.
        assert_eq!(want(&mut pool, at), amount("20"));
        // A moment later nothing has happened since, and the average of ten seconds counts.
        let later = want(&mut pool, at + Duration::from_secs(1));
        assert!(later.is_positive() && later < amount("1"), "{later}");
    }

    fn leased(units: &str) -> Pool {
        let mut pool = Pool::default();
        let renewal = pool.begin_renewal(1, Duration::ZERO, false);
        pool.end_renewal(&renewal, Amount::ZERO, amount(units));
        pool
    }

    #[test]
    fn a_lost_lease_leaves_what_is_reserved_and_nothing_to_reserve() {
        let mut pool = leased("10");
        assert!(pool.hold(amount("4")));
        pool.lose_lease();
        assert_eq!((pool.leased(), pool.free()), (amount("4"), Amount::ZERO));
    }

    #[test]
    #[should_panic(expected = "> leased")]
    fn a_lease_below_what_is_promised_stops_the_server() {
        let mut pool = leased("10");
        let renewal = pool.begin_renewal(2, Duration::ZERO, false);
        pool.end_renewal(&renewal, amount("9"), Amount::ZERO);
    }

    #[test]
    fn a_pool_runs_dry_when_less_than_half_of_what_is_coming_is_free() {
        let (mut pool, at) = (leased("16"), Duration::from_hours(1));
        // 32 requests like the largest are expected.
        pool.count_spending(amount("1"), at);
        assert!(!pool.runs_dry(at));
        assert!(pool.hold(amount("0.01")));
        assert!(pool.runs_dry(at));
    }

    #[test]
    fn spending_is_forgotten_evenly_over_the_window() {
        let (mut pool, at) = (Pool::default(), Duration::from_hours(1));
        pool.count_spending(amount("100"), at);
        want(&mut pool, at);
        // Half of it is left after half of ten seconds: 50, of which four tenths in four seconds.
        assert_eq!(want(&mut pool, at + Duration::from_secs(5)), amount("20"));
        assert_eq!(want(&mut pool, at + Duration::from_secs(10)), Amount::ZERO);
    }

    #[test]
    fn a_lapse_is_told_until_a_renewal_that_knew_of_it_has_shrunk_the_lease() {
        let cover = |second| DateTime::from_timestamp(second, 0);
        let mut pool = leased("10");
        assert!(pool.hold(amount("2")));
        pool.lapse(amount("1"), cover(60).unwrap());
        let known = pool.begin_renewal(2, Duration::ZERO, false);
        assert_eq!(known.not_before, cover(60));
        pool.lapse(amount("1"), cover(90).unwrap());
        pool.end_renewal(&known, known.kept, Amount::ZERO);
        let second = pool.begin_renewal(3, Duration::ZERO, false);
        assert_eq!(second.not_before, cover(90));
        pool.end_renewal(&second, second.kept, Amount::ZERO);
        assert_eq!(pool.begin_renewal(4, Duration::ZERO, false).not_before, None);
    }
}
