//! Sends the renewals: those of many pools in one round trip, one after the other over one
//! connection. An account whose row somebody else holds for long gets a connection of its own to wait
//! for it: trying again and again, it would be late each time that the row changes hands.

use std::{collections::HashMap, slice, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use sqlx::{PgConnection, PgPool};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    lease::{PoolRenewal, PoolView, RenewedLease},
    leases::{Leases, RenewalQueue},
    limits,
    pool::PoolKey,
    slot::Slot,
    store,
};
use crate::clock;

/// The accounts that wait for their row.
type Line = mpsc::UnboundedSender<Arc<Slot>>;

impl Leases {
    /// Renews whatever is queued, until told to stop; then gives everything free back.
    pub(super) async fn run(
        &self,
        database: &PgPool,
        queue: RenewalQueue,
        stopping: CancellationToken,
    ) {
        // Bounded by the number of slots: each stands in line once at most.
        let (line, in_line) = mpsc::unbounded_channel();
        let waiting = UnboundedReceiverStream::new(in_line)
            .for_each_concurrent(limits::ROWS_WAITED_FOR, |slot| {
                self.renew_in_line(database, slot, &line)
            });
        let mut connection = None;
        // What still waits for its row is renewed with everything else below: should what was asked
        // for it take effect after that, its sequence number says that it is old.
        tokio::select! {
            () = self.renew_queued(database, &mut connection, queue, &line, stopping) => {}
            () = waiting => {}
        }
        let slots = self.all();
        for batch in slots.chunks(limits::RENEWAL_BATCH) {
            for slot in batch {
                slot.lock().give_back = true;
            }
            self.renew_all(database, &mut connection, batch, &line).await;
        }
        if connection.is_none() {
            connection = store::connect(database, limits::LEASE_LOCK_TIMEOUT).await;
        }
        let Some(mut connection) = connection else { return };
        if let Err(error) = self.sign_off(&mut connection).await {
            tracing::warn!(%error, "could not sign off; the leases are freed later");
        }
    }

    async fn renew_queued(
        &self,
        database: &PgPool,
        connection: &mut Option<PgConnection>,
        mut queue: RenewalQueue,
        line: &Line,
        stopping: CancellationToken,
    ) {
        let mut batch = Vec::with_capacity(limits::RENEWAL_BATCH);
        loop {
            tokio::select! {
                biased;
                received = queue.recv_many(&mut batch, limits::RENEWAL_BATCH) => {
                    if received == 0 { return }
                }
                () = stopping.cancelled() => return,
            }
            batch.retain(|slot| slot.lock().taken());
            self.renew_all(database, connection, &batch, line).await;
            batch.clear();
        }
    }

    /// Renews a batch. One locked account must not hold up the others: each is tried alone then, and
    /// those that are locked wait for their row elsewhere.
    async fn renew_all(
        &self,
        database: &PgPool,
        connection: &mut Option<PgConnection>,
        batch: &[Arc<Slot>],
        line: &Line,
    ) {
        let patience = limits::LEASE_LOCK_TIMEOUT;
        if self.renew_over(database, patience, connection, batch).await != Outcome::Locked {
            return;
        }
        let mut brief = None;
        for slot in batch {
            let (patience, alone) = (limits::LOCKED_LOOK, slice::from_ref(slot));
            if batch.len() == 1
                || self.renew_over(database, patience, &mut brief, alone).await == Outcome::Locked
            {
                slot.lock().stand_in_line();
                // Fails only once the line has been left for good.
                let _ = line.send(Arc::clone(slot));
            }
        }
    }

    async fn renew_in_line(&self, database: &PgPool, slot: Arc<Slot>, line: &Line) {
        let (patience, mut connection) = (limits::LEASE_WAIT, None);
        let alone = slice::from_ref(&slot);
        if self.renew_over(database, patience, &mut connection, alone).await == Outcome::Locked {
            let _ = line.send(slot);
            return;
        }
        let mut state = slot.lock();
        state.leave_line();
        // For what was asked for meanwhile.
        self.renew(&slot, &mut state);
    }

    /// Renews a batch over this connection, which is made if there is none, and given up if it is
    /// lost. It waits so long for a locked row.
    async fn renew_over(
        &self,
        database: &PgPool,
        patience: Duration,
        connection: &mut Option<PgConnection>,
        batch: &[Arc<Slot>],
    ) -> Outcome {
        if connection.is_none() {
            *connection = store::connect(database, patience).await;
        }
        let Some(open) = connection else {
            for slot in batch {
                // What it would have given back stays leased, and is told with the next renewal.
                self.begin(slot, clock::since_boot());
                slot.lock().lost();
                slot.round_ended.notify_waiters();
            }
            return Outcome::Lost;
        };
        let outcome = self.renew_batch(open, batch).await;
        if outcome == Outcome::Lost {
            *connection = None;
        }
        outcome
    }

    /// Renews a batch of pools. On a failure nothing changes in memory: those who wait are told, or
    /// wait on where only a lock was in the way.
    async fn renew_batch(&self, connection: &mut PgConnection, slots: &[Arc<Slot>]) -> Outcome {
        let at = clock::since_boot();
        let renewals: Vec<Vec<PoolRenewal>> =
            slots.iter().map(|slot| self.begin(slot, at)).collect();
        let asked = renewals.concat();
        let answer = if asked.is_empty() {
            Ok(Vec::new())
        } else {
            self.metrics.lease_renewals.inc();
            let renewing = store::renew_leases(connection, self.instance, &asked);
            store::patiently(renewing).await
        };
        let outcome = match &answer {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::of(error),
        };
        if outcome == Outcome::Locked {
            for (slot, renewals) in slots.iter().zip(&renewals) {
                slot.lock().restore(renewals);
            }
            return outcome;
        }
        let mut answers: HashMap<_, _> = answer
            .unwrap_or_default()
            .into_iter()
            .map(|lease| ((lease.account, lease.key), lease))
            .collect();
        let failed = outcome != Outcome::Done;
        for (slot, renewals) in slots.iter().zip(&renewals) {
            {
                let mut state = slot.lock();
                for asked in renewals {
                    if let Some(lease) = answers.remove(&(asked.account, asked.key)) {
                        self.announce(&lease);
                        state.end(asked, lease, clock::since_boot());
                    }
                }
                if failed {
                    state.lost();
                } else {
                    state.ended();
                }
            }
            slot.round_ended.notify_waiters();
        }
        outcome
    }

    /// Says that a budget has come to its end; the database has told whoever listens there.
    fn announce(&self, lease: &RenewedLease) {
        let (PoolKey::Budget(period), PoolView::Budget(view)) = (lease.key, &lease.view) else {
            return;
        };
        if lease.reached {
            let kind = if view.hard { "hard" } else { "soft" };
            self.metrics.budgets_reached.get_or_create(&[("kind", kind)]).inc();
            tracing::warn!(
                account = %lease.account,
                budget = %period.budget,
                period_start = %period.start,
                limit = %view.limit.normalize(),
                spent = %view.spent.normalize(),
                kind,
                "a budget has come to its end"
            );
        }
    }

    /// Leaves what is outstanding for others to settle, and on the list of what to look for once it
    /// has expired.
    async fn sign_off(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for slot in self.all() {
            let state = slot.lock();
            let outstanding = state.holdings.reservations();
            self.lapsed().extend(
                outstanding
                    .map(|(id, reservation)| reservation.grant.expired(id, reservation.amount)),
            );
        }
        self.write_lapsed(connection).await?;
        store::patiently(store::stop(connection, self.instance)).await
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
