//! What one account's requests hold on this server: each in every pool that concerns it, or in none.
//!
//! A pure state machine over the account's [`Pool`]s. A reservation holds the same amount in each of
//! its pools, and is settled in exactly those that it was made in.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::{
    limits,
    pool::{ByPool, Pool, PoolKey},
};
use crate::{
    ids::{AuthorizationId, KeyId},
    money::Amount,
};

/// A promise that is neither settled nor lapsed.
#[derive(Debug, Clone)]
pub struct Reservation<T> {
    /// What is held, in each pool.
    pub amount: Amount,
    /// Where it is held.
    pub pools: Vec<PoolKey>,
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
    /// Not enough is free in one of its pools.
    Short,
    /// Too many are outstanding.
    Full,
}

/// One account's pools and reservations on one server.
#[derive(Debug)]
pub struct Holdings<T> {
    pools: ByPool<Pool>,
    reservations: HashMap<AuthorizationId, Reservation<T>>,
    by_expiry: BTreeSet<(DateTime<Utc>, AuthorizationId)>,
    by_request: HashMap<(KeyId, String), AuthorizationId>,
}

impl<T: Clone> Holdings<T> {
    /// Nothing is leased and nothing held.
    #[must_use]
    pub fn new() -> Self {
        Self {
            pools: ByPool::with_capacity(1),
            reservations: HashMap::new(),
            by_expiry: BTreeSet::new(),
            by_request: HashMap::new(),
        }
    }

    /// A pool, as long as it has been touched.
    #[must_use]
    pub fn pool(&self, key: PoolKey) -> Option<&Pool> {
        self.pools.get(&key)
    }

    /// A pool, empty if it has not been touched.
    pub fn pool_mut(&mut self, key: PoolKey) -> &mut Pool {
        self.pools.entry(key).or_default()
    }

    /// All pools that have been touched.
    pub fn pools(&self) -> impl Iterator<Item = (PoolKey, &Pool)> {
        self.pools.iter().map(|(key, pool)| (*key, pool))
    }

    /// Forgets a pool that has nothing.
    pub fn forget(&mut self, key: PoolKey) {
        if self.pools.get(&key).is_some_and(Pool::is_empty) {
            self.pools.remove(&key);
        }
    }

    /// What can be reserved at once in a pool.
    #[must_use]
    pub fn free(&self, key: PoolKey) -> Amount {
        self.pools.get(&key).map_or(Amount::ZERO, Pool::free)
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
        if !self.hold(&reservation.pools, reservation.amount) {
            return Reserved::Short;
        }
        self.by_expiry.insert((reservation.covered_until, id));
        if let Some(request) = reservation.request.clone() {
            self.by_request.insert(request, id);
        }
        self.reservations.insert(id, reservation);
        Reserved::Held
    }

    /// Raises a reservation to that of `raised`, in the pools it was made in, and moves its expiry.
    /// `None` when it is not outstanding here; otherwise whether enough was free.
    pub fn extend(&mut self, id: AuthorizationId, raised: Reservation<T>) -> Option<bool> {
        let before = self.reservations.get(&id)?;
        let rise = raised.amount.minus_to_zero(before.amount);
        let pools = before.pools.clone();
        if !self.hold(&pools, rise) {
            return Some(false);
        }
        let reservation = self.reservations.get_mut(&id)?;
        self.by_expiry.remove(&(reservation.covered_until, id));
        reservation.amount = reservation.amount.saturating_add(rise);
        reservation.expires_at = reservation.expires_at.max(raised.expires_at);
        reservation.covered_until = reservation.covered_until.max(raised.covered_until);
        reservation.grant = raised.grant;
        self.by_expiry.insert((reservation.covered_until, id));
        Some(true)
    }

    /// The usage was charged and is committed: what it did not need is free again, in each of its
    /// pools. Nothing happens when the reservation has lapsed; the leases shrink by the whole of it
    /// then.
    pub fn settle(&mut self, id: AuthorizationId, charge: Amount) -> Option<Reservation<T>> {
        let reservation = self.remove(id)?;
        for key in &reservation.pools {
            self.pool_mut(*key).settle(reservation.amount, charge);
        }
        Some(reservation)
    }

    /// Lets go of every reservation whose cover ended before this moment of the database's clock.
    pub fn lapse(&mut self, now: DateTime<Utc>) -> Vec<(AuthorizationId, Reservation<T>)> {
        let mut lapsed = Vec::new();
        while let Some((covered_until, id)) = self.by_expiry.first().copied() {
            if covered_until >= now {
                break;
            }
            let Some(reservation) = self.remove(id) else {
                self.by_expiry.pop_first();
                continue;
            };
            for key in &reservation.pools {
                self.pool_mut(*key).lapse(reservation.amount, covered_until);
            }
            lapsed.push((id, reservation));
        }
        lapsed
    }

    /// From all of these pools or from none.
    fn hold(&mut self, pools: &[PoolKey], amount: Amount) -> bool {
        if pools.iter().any(|key| self.free(*key) < amount) {
            return false;
        }
        for key in pools {
            let held = self.pool_mut(*key).hold(amount);
            assert!(held, "{key:?} had {amount} a moment ago");
        }
        true
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
        if self.reservations.is_empty() {
            // Room for a few is a kilobyte, and a hundred thousand accounts seldom have one.
            self.reservations = HashMap::new();
            self.by_expiry = BTreeSet::new();
            self.by_request = HashMap::new();
        }
        Some(reservation)
    }
}

impl<T: Clone> Default for Holdings<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[path = "holdings_tests.rs"]
mod tests;
