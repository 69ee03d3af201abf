//! Keeps the leases: renews many pools in one round trip, gives back what is idle, lets lapsed
//! reservations go.
//!
//! | what | round trips | bound |
//! |---|---|---|
//! | a request on a leased pool | 0 | |
//! | first touch, sudden growth | 1, shared by all who wait meanwhile | [`limits::LEASE_WAIT`] |
//! | renewal before a lease runs dry | 1 for up to [`limits::RENEWAL_BATCH`] pools | |
//! | upkeep, every [`limits::LEASE_TICK`] | 2, and 1 per batch of drifted pools | |
//!
//! One task sends the renewals ([`renewing`](super::renewing)), those of an account one after the
//! other, so that they reach the database in the order of their sequence numbers.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tokio::sync::mpsc;

use super::{
    Held, admission::Admission, heartbeat::Heartbeat, lease::PoolRenewal, limits, pool::PoolKey,
    slot::Slot, slot_state::SlotState, store,
};
use crate::{
    accounts::{account::AccountRecord, directory::Directory},
    clock,
    ids::{AccountId, AuthorizationId, InstanceId},
    money::Amount,
    telemetry::metrics::AuthorizationMetrics,
};

/// How waiting for a renewal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// The database answered; look again.
    Renewed,
    /// It did not.
    Unavailable,
}

/// All leases of this server. What has given everything back and stays unused is forgotten.
#[derive(Debug)]
pub(super) struct Leases {
    pub(super) instance: InstanceId,
    slots: papaya::HashMap<AccountId, Arc<Slot>>,
    sequence: AtomicI64,
    queue: mpsc::UnboundedSender<Arc<Slot>>,
    /// Authorizations that are nobody's here any more and have not been written down yet. Bounded
    /// by what was outstanding: without the database nothing new is authorized.
    lapsed: Mutex<Vec<store::Expired>>,
    pub(super) metrics: AuthorizationMetrics,
}

/// The receiving end of the renewals, for the one task that sends them.
pub(super) type RenewalQueue = mpsc::UnboundedReceiver<Arc<Slot>>;

impl Leases {
    pub(super) fn new(instance: InstanceId, metrics: AuthorizationMetrics) -> (Self, RenewalQueue) {
        // Bounded by the number of slots: each is queued once at most.
        let (queue, receiver) = mpsc::unbounded_channel();
        let leases = Self {
            instance,
            slots: papaya::HashMap::new(),
            sequence: AtomicI64::new(0),
            queue,
            lapsed: Mutex::default(),
            metrics,
        };
        (leases, receiver)
    }

    pub(super) fn slot(&self, account: &AccountRecord) -> Arc<Slot> {
        let slots = self.slots.pin();
        if let Some(slot) = slots.get(&account.account_id) {
            return Arc::clone(slot);
        }
        let new = || Arc::new(Slot::new(account));
        Arc::clone(slots.get_or_insert_with(account.account_id, new))
    }

    pub(super) fn existing(&self, account: AccountId) -> Option<Arc<Slot>> {
        self.slots.pin().get(&account).map(Arc::clone)
    }

    pub(super) fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.pin().values().map(Arc::clone).collect()
    }

    /// Asks for a renewal in the background.
    pub(super) fn renew(&self, slot: &Arc<Slot>, state: &mut SlotState<Arc<Held>>) {
        if state.queue() {
            // Only fails when the server is past its drain.
            let _ = self.queue.send(Arc::clone(slot));
        }
    }

    /// Asks for at least `floor`, better `need`, in each of these pools, and waits until the database
    /// has answered.
    pub(super) async fn wait(
        &self,
        slot: &Arc<Slot>,
        pools: &[PoolKey],
        need: Amount,
        floor: Amount,
    ) -> Waited {
        self.metrics.lease_waits.inc();
        let round = {
            let mut state = slot.lock();
            if state.is_retired() {
                return Waited::Renewed;
            }
            state.wait_for(pools, need, floor);
            self.renew(slot, &mut state);
            state.next_round()
        };
        match tokio::time::timeout(limits::LEASE_WAIT, slot.answered(round)).await {
            Ok(true) => Waited::Renewed,
            _ => Waited::Unavailable,
        }
    }

    /// Gives back at once what is free of an account's lease and waits until the database knows.
    pub(super) async fn give_back(&self, account: AccountId) -> Waited {
        let Some(slot) = self.existing(account) else {
            return Waited::Renewed;
        };
        slot.lock().give_back = true;
        self.wait(&slot, &[], Amount::ZERO, Amount::ZERO).await
    }

    /// Funds changed: a remembered shortage no longer counts.
    pub(super) fn funds_changed(&self, account: AccountId) {
        if let Some(slot) = self.existing(account) {
            slot.lock().forget_shortages();
        }
    }

    /// Limits may have changed: what is free was leased under the old ones and is given back.
    pub(super) fn limits_changed(&self, account: AccountId) {
        if let Some(slot) = self.existing(account) {
            let mut state = slot.lock();
            state.forget_shortages();
            state.give_back = true;
            self.renew(&slot, &mut state);
        }
    }

    /// Another server needs what is not used here: it is given back at once.
    pub(super) fn recalled(&self, account: AccountId) {
        if let Some(slot) = self.existing(account) {
            self.metrics.recalls.inc();
            let mut state = slot.lock();
            state.recalled(clock::since_boot());
            self.renew(&slot, &mut state);
        }
    }

    pub(super) fn settle(&self, account: AccountId, id: AuthorizationId, charge: Amount) -> bool {
        self.existing(account).is_some_and(|slot| {
            let mut state = slot.lock();
            let Some(settled) = state.holdings.settle(id, charge) else { return false };
            state.touch(&settled.pools, clock::since_boot());
            state.settled(&settled.pools);
            true
        })
    }

    /// Begins a round for each pool of the account that needs one.
    pub(super) fn begin(&self, slot: &Slot, at: Duration) -> Vec<PoolRenewal> {
        let next = || self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        slot.lock().begin(slot.account, at, next)
    }

    pub(super) fn lapsed(&self) -> MutexGuard<'_, Vec<store::Expired>> {
        self.lapsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what has lapsed; what cannot be written now is tried again.
    pub(super) async fn write_lapsed(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let lapsed = self.lapsed().clone();
        if lapsed.is_empty() {
            return Ok(());
        }
        let unsettled = store::patiently(store::keep_unsettled(connection, &lapsed)).await?;
        // Others only add at the end.
        self.lapsed().drain(..lapsed.len());
        self.metrics.expired.inc_by(unsettled);
        tracing::info!(lapsed = lapsed.len(), unsettled, "authorizations lapsed");
        Ok(())
    }

    /// Lets lapsed reservations go and renews what should be renewed though nobody waits. How many
    /// reservations are outstanding.
    pub(super) async fn upkeep(
        &self,
        at: Duration,
        directory: &Directory,
        now: DateTime<Utc>,
    ) -> usize {
        let (mut leased, mut outstanding) = (0, 0);
        self.visit(|slot| {
            let mut state = slot.lock();
            for (id, reservation) in state.holdings.lapse(now) {
                self.lapsed().push(reservation.grant.expired(id, reservation.amount));
            }
            let held = state.holdings.pools().filter(|(_, pool)| pool.leased().is_positive());
            leased += i64::try_from(held.count()).unwrap_or(i64::MAX);
            outstanding += state.holdings.count();
            let mut needed = state.needs_upkeep(at);
            // Accounts without budgets, which most are, are not looked up.
            if state.holdings.pools().any(|(key, _)| key != PoolKey::Funds)
                && let Some(account) = directory.cached_account(slot.account)
            {
                needed |= state.prepare(&account.budgets, now, at);
            }
            if needed {
                self.renew(slot, &mut state);
            } else if state.retire(at) {
                self.slots.pin().remove(&slot.account);
            }
        })
        .await;
        self.metrics.leases.set(leased);
        self.metrics.outstanding.set(i64::try_from(outstanding).unwrap_or(i64::MAX));
        outstanding
    }

    /// Looks at each slot. After so many of them that nothing is noticed of it, it pauses: a server
    /// may have a hundred thousand, and calls want the processor.
    pub(super) async fn visit(&self, mut look: impl FnMut(&Arc<Slot>)) {
        for (part, slots) in self.all().chunks(limits::SLOTS_AT_ONCE).enumerate() {
            if part > 0 {
                tokio::time::sleep(limits::SLOTS_PAUSE).await;
            }
            slots.iter().for_each(&mut look);
        }
    }
}

/// Looks after the leases, each tick.
pub(super) struct Upkeep<'a> {
    pub(super) instance: InstanceId,
    pub(super) leases: &'a Leases,
    pub(super) heartbeat: &'a Heartbeat,
    pub(super) directory: &'a Directory,
    pub(super) admission: &'a Admission,
}

impl Upkeep<'_> {
    /// Lets lapsed reservations go, takes what others settled, renews what has drifted.
    pub(super) async fn look_over(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let settled = store::take_foreign_settlements(connection, self.instance);
        for (account, id, charge) in store::patiently(settled).await? {
            self.leases.settle(account, id, charge);
        }
        let now = self.heartbeat.database_now();
        let at = clock::since_boot();
        let outstanding = self.leases.upkeep(at, self.directory, now).await;
        self.admission.set_outstanding(outstanding);
        self.leases.write_lapsed(connection).await
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
