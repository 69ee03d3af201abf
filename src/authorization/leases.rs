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
//! One task sends all renewals over one connection, so that they reach the database in the order
//! of their sequence numbers.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sqlx::{PgConnection, PgPool};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Held,
    heartbeat::Heartbeat,
    limits,
    pool::{Pool, Renewal},
    store::{self, FundsView},
};
use crate::{
    clock,
    ids::{AccountId, AuthorizationId, InstanceId},
    money::Amount,
    telemetry::metrics::AuthorizationMetrics,
};

/// One account on this server: its pool and whoever waits for a renewal.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) account: AccountId,
    state: Mutex<SlotState>,
    /// The last round of renewal that ended, and whether the database answered it.
    rounds: watch::Sender<Round>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Round {
    number: u64,
    failed: bool,
}

#[derive(Debug)]
pub(super) struct SlotState {
    pub(super) pool: Pool<Arc<Held>>,
    /// What the account had at the last renewal.
    pub(super) funds: FundsView,
    /// Until when (since boot) a shortage is answered from memory.
    short_until: Duration,
    started: u64,
    queued: bool,
    give_back: bool,
    used_at: Duration,
}

impl Slot {
    fn new(account: AccountId) -> Self {
        Self {
            account,
            state: Mutex::new(SlotState {
                pool: Pool::new(),
                funds: FundsView::default(),
                short_until: Duration::ZERO,
                started: 0,
                queued: false,
                give_back: false,
                used_at: clock::since_boot(),
            }),
            rounds: watch::Sender::new(Round::default()),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotState {
    pub(super) fn touch(&mut self, at: Duration) {
        self.used_at = self.used_at.max(at);
    }

    /// Whether so much was not to be had a moment ago and nothing has changed since.
    pub(super) fn is_short(&self, at: Duration, amount: Amount) -> bool {
        let more = amount.minus_to_zero(self.pool.free());
        self.has_nothing_left(at, more)
    }

    /// Whether a lease could not have grown by so much a moment ago.
    pub(super) fn has_nothing_left(&self, at: Duration, more: Amount) -> bool {
        at < self.short_until && more.decimal() > self.funds.available
    }
}

/// How waiting for a renewal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// The database answered; look again.
    Renewed,
    /// It did not.
    Unavailable,
}

/// All leases of this server. A pool once touched is kept for the server's life, some hundred bytes
/// each: forgetting one while somebody holds it would make two of it, writing the same lease.
#[derive(Debug)]
pub(super) struct Leases {
    instance: InstanceId,
    slots: papaya::HashMap<AccountId, Arc<Slot>>,
    sequence: AtomicI64,
    queue: mpsc::UnboundedSender<Arc<Slot>>,
    /// Authorizations that are nobody's here any more and have not been written down yet. Bounded
    /// by what was outstanding: without the database nothing new is authorized.
    lapsed: Mutex<Vec<store::Expired>>,
    metrics: AuthorizationMetrics,
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

    pub(super) fn slot(&self, account: AccountId) -> Arc<Slot> {
        let slots = self.slots.pin();
        if let Some(slot) = slots.get(&account) {
            return Arc::clone(slot);
        }
        Arc::clone(slots.get_or_insert_with(account, || Arc::new(Slot::new(account))))
    }

    pub(super) fn existing(&self, account: AccountId) -> Option<Arc<Slot>> {
        self.slots.pin().get(&account).map(Arc::clone)
    }

    pub(super) fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.pin().values().map(Arc::clone).collect()
    }

    /// Asks for a renewal in the background.
    pub(super) fn renew(&self, slot: &Arc<Slot>, state: &mut SlotState) {
        if !state.queued {
            state.queued = true;
            // Only fails when the server is past its drain.
            let _ = self.queue.send(Arc::clone(slot));
        }
    }

    /// Asks for at least `floor`, better `need`, and waits until the database has answered.
    pub(super) async fn wait(&self, slot: &Arc<Slot>, need: Amount, floor: Amount) -> Waited {
        self.metrics.lease_waits.inc();
        let mut rounds = slot.rounds.subscribe();
        let ticket = {
            let mut state = slot.lock();
            state.pool.wait_for(need, floor);
            self.renew(slot, &mut state);
            state.started + 1
        };
        let ended = rounds.wait_for(|round| round.number >= ticket);
        match tokio::time::timeout(limits::LEASE_WAIT, ended).await {
            Ok(Ok(round)) if !round.failed => Waited::Renewed,
            _ => Waited::Unavailable,
        }
    }

    /// Gives back at once what is free of an account's lease and waits until the database knows.
    pub(super) async fn give_back(&self, account: AccountId) -> Waited {
        let Some(slot) = self.existing(account) else {
            return Waited::Renewed;
        };
        slot.lock().give_back = true;
        self.wait(&slot, Amount::ZERO, Amount::ZERO).await
    }

    /// Funds changed: a remembered shortage no longer counts.
    pub(super) fn funds_changed(&self, account: AccountId) {
        if let Some(slot) = self.existing(account) {
            slot.lock().short_until = Duration::ZERO;
        }
    }

    pub(super) fn settle(&self, account: AccountId, id: AuthorizationId, charge: Amount) -> bool {
        self.existing(account).is_some_and(|slot| {
            let mut state = slot.lock();
            state.touch(clock::since_boot());
            state.pool.settle(id, charge).is_some()
        })
    }

    /// Renews a batch of pools. On a failure nothing changes in memory: those who wait are told, or
    /// wait on where only a lock was in the way.
    async fn renew_batch(&self, connection: &mut PgConnection, slots: &[Arc<Slot>]) -> Outcome {
        let at = clock::since_boot();
        let renewals: Vec<(AccountId, Renewal)> =
            slots.iter().map(|slot| (slot.account, self.begin(slot, at))).collect();
        self.metrics.lease_renewals.inc();
        let renewing = store::renew_leases(connection, self.instance, &renewals);
        let answer = store::patiently(renewing).await;
        let outcome = match &answer {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::of(error),
        };
        if outcome == Outcome::Locked {
            // Each is tried alone next; whoever waits, waits for that.
            for (slot, (_, renewal)) in slots.iter().zip(&renewals) {
                let mut state = slot.lock();
                state.give_back |= renewal.give_back;
                state.pool.wait_for(renewal.need, renewal.floor);
                if slots.len() == 1 {
                    self.renew(slot, &mut state);
                }
            }
            return outcome;
        }
        let mut answers = answer.unwrap_or_default();
        answers.sort_unstable_by_key(|lease| lease.account);
        for (slot, (account, renewal)) in slots.iter().zip(&renewals) {
            let answer = answers
                .binary_search_by_key(account, |lease| lease.account)
                .ok()
                .and_then(|index| answers.get(index));
            end(slot, renewal, answer, outcome);
        }
        outcome
    }

    fn begin(&self, slot: &Slot, at: Duration) -> Renewal {
        let mut state = slot.lock();
        state.queued = false;
        state.started += 1;
        let idle = at.saturating_sub(state.used_at) >= limits::IDLE_LEASE;
        let give_back = std::mem::take(&mut state.give_back) || idle;
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        state.pool.begin_renewal(sequence, at, give_back)
    }

    /// Renews whatever is queued, until told to stop; then gives everything free back.
    pub(super) async fn run(
        &self,
        database: &PgPool,
        mut queue: RenewalQueue,
        stopping: CancellationToken,
    ) {
        let mut connection = None;
        let mut batch = Vec::with_capacity(limits::RENEWAL_BATCH);
        loop {
            tokio::select! {
                biased;
                received = queue.recv_many(&mut batch, limits::RENEWAL_BATCH) => {
                    if received == 0 { break }
                }
                () = stopping.cancelled() => break,
            }
            self.renew_all(database, &mut connection, &batch).await;
            batch.clear();
        }
        let slots = self.all();
        for batch in slots.chunks(limits::RENEWAL_BATCH) {
            for slot in batch {
                slot.lock().give_back = true;
            }
            self.renew_all(database, &mut connection, batch).await;
        }
        if connection.is_none() {
            connection = store::connect(database).await;
        }
        let Some(mut connection) = connection else { return };
        if let Err(error) = self.sign_off(&mut connection).await {
            tracing::warn!(%error, "could not sign off; the leases are freed later");
        }
    }

    /// Leaves what is outstanding for others to settle, and on the list of what to look for once it
    /// has expired.
    async fn sign_off(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for slot in self.all() {
            let state = slot.lock();
            let outstanding = state.pool.reservations();
            self.lapsed().extend(
                outstanding
                    .map(|(id, reservation)| reservation.grant.expired(id, reservation.amount)),
            );
        }
        self.write_lapsed(connection).await?;
        store::patiently(store::stop(connection, self.instance)).await
    }

    fn lapsed(&self) -> MutexGuard<'_, Vec<store::Expired>> {
        self.lapsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what has lapsed; what cannot be written now is tried again.
    async fn write_lapsed(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
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

    async fn renew_all(
        &self,
        database: &PgPool,
        connection: &mut Option<PgConnection>,
        batch: &[Arc<Slot>],
    ) {
        if connection.is_none() {
            *connection = store::connect(database).await;
        }
        let Some(open) = connection else {
            for slot in batch {
                let renewal = self.begin(slot, clock::since_boot());
                end(slot, &renewal, None, Outcome::Lost);
            }
            return;
        };
        let outcome = self.renew_batch(open, batch).await;
        let mut lost = outcome == Outcome::Lost;
        if outcome == Outcome::Locked && batch.len() > 1 {
            // One locked account must not hold up the others.
            for slot in batch {
                let alone = std::slice::from_ref(slot);
                lost |= self.renew_batch(open, alone).await == Outcome::Lost;
            }
        }
        if lost {
            *connection = None;
        }
    }

    /// Pools that should be renewed though nobody waits: idle ones, and quiet ones whose lease is
    /// larger than what they need.
    pub(super) fn upkeep(&self, at: Duration) {
        let (mut leased, mut outstanding) = (0, 0);
        for slot in self.all() {
            let mut state = slot.lock();
            leased += i64::from(state.pool.leased().is_positive());
            outstanding += i64::try_from(state.pool.count()).unwrap_or(i64::MAX);
            let unused = at.saturating_sub(state.used_at);
            let idle = unused >= limits::IDLE_LEASE && state.pool.free().is_positive();
            let drift = state.pool.drift();
            let drifted = drift.is_positive()
                && (unused >= limits::QUIET_POOL
                    || drift.decimal() * rust_decimal::Decimal::TWO
                        > state.pool.leased().decimal());
            if idle || drifted {
                self.renew(&slot, &mut state);
            }
        }
        self.metrics.leases.set(leased);
        self.metrics.outstanding.set(outstanding);
    }
}

/// How a renewal statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// A row lock was not to be had in time.
    Locked,
    /// Whether it took effect is not known.
    Lost,
}

impl Outcome {
    fn of(error: &sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        tracing::warn!(%error, "leases were not renewed");
        match code.as_deref() {
            Some("55P03" | "40P01" | "57014") => Self::Locked,
            _ => Self::Lost,
        }
    }
}

fn end(slot: &Slot, renewal: &Renewal, answer: Option<&store::RenewedLease>, outcome: Outcome) {
    let number = {
        let mut state = slot.lock();
        if let Some(lease) = answer {
            if lease.lost {
                tracing::warn!(account = %slot.account, "a lease is gone from the database");
                state.pool.lose_lease();
            } else {
                state.pool.end_renewal(renewal, lease.base, lease.granted);
            }
            state.funds = lease.funds;
            let short = lease.granted < renewal.need;
            let until = clock::since_boot() + limits::SHORTAGE_MEMORY;
            state.short_until = if short { until } else { Duration::ZERO };
        }
        state.started
    };
    let failed = outcome != Outcome::Done;
    slot.rounds.send_modify(|round| *round = Round { number, failed });
}

/// Looks after the leases, each tick.
pub(super) struct Upkeep<'a> {
    pub(super) instance: InstanceId,
    pub(super) leases: &'a Leases,
    pub(super) heartbeat: &'a Heartbeat,
}

impl Upkeep<'_> {
    /// Lets lapsed reservations go, takes what others settled, renews what has drifted.
    pub(super) async fn look_over(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let settled = store::take_foreign_settlements(connection, self.instance);
        for (account, id, charge) in store::patiently(settled).await? {
            self.leases.settle(account, id, charge);
        }
        let now = self.heartbeat.database_now();
        for slot in self.leases.all() {
            let lapsed = slot.lock().pool.lapse(now);
            self.leases.lapsed().extend(
                lapsed
                    .into_iter()
                    .map(|(id, reservation)| reservation.grant.expired(id, reservation.amount)),
            );
        }
        self.leases.upkeep(clock::since_boot());
        self.leases.write_lapsed(connection).await
    }
}
