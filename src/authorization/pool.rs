//! One account's funds as this server sees them: a lease, what of it is free, and what is reserved.
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

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use chrono::{DateTime, Utc};
use rust_decimal::{Decimal, prelude::ToPrimitive as _};

use super::limits;
use crate::{
    ids::{AuthorizationId, KeyId},
    money::Amount,
};

/// A promise that is neither settled nor lapsed.
#[derive(Debug, Clone)]
pub struct Reservation<T> {
    /// What is held.
    pub amount: Amount,
    /// Until when the request it was made for may be served.
    pub expires_at: DateTime<Utc>,
    /// The last moment at which the database takes its usage as covered.
    pub covered_until: DateTime<Utc>,
    /// The key and request id it answers again, where the caller gave one.
    pub request: Option<(KeyId, String)>,
    /// What the caller was told.
    pub grant: T,
}

/// What a reservation was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved<T> {
    /// It is held.
    Held,
    /// The same request already holds one; this is what it was told.
    Again(T),
    /// Not enough is free.
    Short,
    /// Too many are outstanding.
    Full,
}

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

/// One account's lease on one server.
#[derive(Debug)]
pub struct Pool<T> {
    leased: Amount,
    free: Amount,
    outstanding: Amount,
    reservations: HashMap<AuthorizationId, Reservation<T>>,
    by_expiry: BTreeSet<(DateTime<Utc>, AuthorizationId)>,
    by_request: HashMap<(KeyId, String), AuthorizationId>,
    lapsed_until: Option<DateTime<Utc>>,
    waiting: Vec<(Amount, Amount)>,
    spending: Spending,
}

impl<T: Clone> Pool<T> {
    /// A pool without a lease.
    #[must_use]
    pub fn new() -> Self {
        Self {
            leased: Amount::ZERO,
            free: Amount::ZERO,
            outstanding: Amount::ZERO,
            reservations: HashMap::new(),
            by_expiry: BTreeSet::new(),
            by_request: HashMap::new(),
            lapsed_until: None,
            waiting: Vec::new(),
            spending: Spending::default(),
        }
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

    /// How many reservations there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.reservations.len()
    }

    /// The reservations themselves.
    pub fn reservations(&self) -> impl Iterator<Item = (AuthorizationId, &Reservation<T>)> {
        self.reservations.iter().map(|(id, reservation)| (*id, reservation))
    }

    /// One reservation.
    #[must_use]
    pub fn reservation(&self, id: AuthorizationId) -> Option<&Reservation<T>> {
        self.reservations.get(&id)
    }

    /// What the same request was told, while that is outstanding and has not expired.
    #[must_use]
    pub fn answered(&self, request: &(KeyId, String), now: DateTime<Utc>) -> Option<T> {
        let id = self.by_request.get(request)?;
        let reservation = self.reservations.get(id).filter(|held| now < held.expires_at)?;
        Some(reservation.grant.clone())
    }

    /// Holds an amount for a request, or for the same request answers what it was told.
    pub fn reserve(
        &mut self,
        id: AuthorizationId,
        reservation: Reservation<T>,
        now: DateTime<Utc>,
    ) -> Reserved<T> {
        let request = reservation.request.as_ref();
        if let Some(grant) = request.and_then(|request| self.answered(request, now)) {
            return Reserved::Again(grant);
        }
        if self.reservations.len() >= limits::MAX_OUTSTANDING {
            return Reserved::Full;
        }
        let Some(free) = less(self.free, reservation.amount) else {
            return Reserved::Short;
        };
        self.free = free;
        self.outstanding = more(self.outstanding, reservation.amount);
        self.by_expiry.insert((reservation.covered_until, id));
        if let Some(request) = reservation.request.clone() {
            self.by_request.insert(request, id);
        }
        self.reservations.insert(id, reservation);
        self.check();
        Reserved::Held
    }

    /// Raises a reservation to that of `raised` and moves its expiry. `None` when it is not
    /// outstanding here; otherwise whether enough was free.
    pub fn extend(&mut self, id: AuthorizationId, raised: Reservation<T>) -> Option<bool> {
        let reservation = self.reservations.get_mut(&id)?;
        let rise = raised.amount.minus_to_zero(reservation.amount);
        let Some(free) = less(self.free, rise) else {
            return Some(false);
        };
        self.free = free;
        self.outstanding = more(self.outstanding, rise);
        self.by_expiry.remove(&(reservation.covered_until, id));
        reservation.amount = more(reservation.amount, rise);
        reservation.expires_at = reservation.expires_at.max(raised.expires_at);
        reservation.covered_until = reservation.covered_until.max(raised.covered_until);
        reservation.grant = raised.grant;
        self.by_expiry.insert((reservation.covered_until, id));
        self.check();
        Some(true)
    }

    /// The usage was charged and is committed: what it did not need is free again. Nothing happens
    /// when the reservation has lapsed; the lease shrinks by the whole of it then.
    pub fn settle(&mut self, id: AuthorizationId, charge: Amount) -> Option<Reservation<T>> {
        let reservation = self.remove(id)?;
        self.free = more(self.free, reservation.amount.minus_to_zero(charge));
        self.check();
        Some(reservation)
    }

    /// Lets go of every reservation whose cover ended before this moment of the database's clock.
    /// What they held is not free: another server may have settled them meanwhile.
    pub fn lapse(&mut self, now: DateTime<Utc>) -> Vec<(AuthorizationId, Reservation<T>)> {
        let mut lapsed = Vec::new();
        while let Some((covered_until, id)) = self.by_expiry.first().copied() {
            if covered_until >= now {
                break;
            }
            self.lapsed_until =
                Some(self.lapsed_until.map_or(covered_until, |until| until.max(covered_until)));
            match self.remove(id) {
                Some(reservation) => lapsed.push((id, reservation)),
                None => {
                    self.by_expiry.pop_first();
                }
            }
        }
        self.check();
        lapsed
    }

    /// Notes that a request waits for `need`, and would be helped by `floor`.
    pub fn wait_for(&mut self, need: Amount, floor: Amount) {
        // Who needs nothing only waits for the round; its floor of nothing would make the database
        // lend whatever is there to nobody's help.
        if need.is_positive() {
            self.waiting.push((need, floor.min(need)));
        }
    }

    /// Counts what was reserved towards the recent spending.
    pub fn count_spending(&mut self, amount: Amount, at: Duration) {
        self.spending.add(amount, at);
    }

    /// Whether the lease should be renewed in the background, before it runs dry.
    #[must_use]
    pub fn runs_dry(&self, at: Duration) -> bool {
        let wanted = self.spending.over_horizon(at);
        self.free.decimal() * Decimal::TWO < wanted.decimal()
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
        let need =
            self.waiting.iter().fold(Amount::ZERO, |sum, (need, _)| sum.saturating_add(*need));
        let floor = self.waiting.iter().map(|(_, floor)| *floor).min().unwrap_or_default();
        self.waiting.clear();
        if give_back {
            self.free = Amount::ZERO;
        }
        let want = self.spending.over_horizon(at).minus_to_zero(self.free);
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

    fn remove(&mut self, id: AuthorizationId) -> Option<Reservation<T>> {
        let reservation = self.reservations.remove(&id)?;
        self.by_expiry.remove(&(reservation.covered_until, id));
        // The same request may hold another by now, made after this one had expired.
        if let Some(request) = &reservation.request
            && self.by_request.get(request) == Some(&id)
        {
            self.by_request.remove(request);
        }
        self.outstanding = self.outstanding.minus_to_zero(reservation.amount);
        Some(reservation)
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

impl<T: Clone> Default for Pool<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn more(amount: Amount, other: Amount) -> Amount {
    amount.saturating_add(other)
}

fn less(amount: Amount, other: Amount) -> Option<Amount> {
    amount.checked_sub(other).filter(|rest| !rest.is_negative())
}

/// Recent spending, as an average that forgets over [`limits::SPENDING_WINDOW`].
#[derive(Debug, Default)]
struct Spending {
    total: Decimal,
    at: Duration,
}

impl Spending {
    fn add(&mut self, amount: Amount, at: Duration) {
        self.total = self.faded(at).saturating_add(amount.decimal());
        self.at = self.at.max(at);
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
#[path = "pool_tests.rs"]
mod tests;
