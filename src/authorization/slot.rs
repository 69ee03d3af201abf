//! One account on this server: its leases ([`slot_state`](super::slot_state)) behind a lock, and
//! whoever waits for a renewal.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{Held, admission::Share, slot_state::SlotState};
use crate::{accounts::account::AccountRecord, ids::AccountId, money::Currency};

/// One account on this server.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) account: AccountId,
    pub(super) currency: Currency,
    state: Mutex<SlotState<Arc<Held>>>,
    pub(super) share: Mutex<Share>,
    /// Tells whoever waits that a round of renewal has ended.
    pub(super) round_ended: Notify,
}

impl Slot {
    pub(super) fn new(account: &AccountRecord) -> Self {
        Self {
            account: account.account_id,
            currency: account.currency,
            state: Mutex::default(),
            share: Mutex::default(),
            round_ended: Notify::new(),
        }
    }

    /// Waits until this round has ended; whether the database has answered it.
    pub(super) async fn answered(&self, round: u64) -> bool {
        loop {
            // Begins to listen before it looks, so that no end is missed in between.
            let mut ended = pin!(self.round_ended.notified());
            ended.as_mut().enable();
            let answered = self.lock().answered(round);
            match answered {
                Some(answered) => return answered,
                None => ended.await,
            }
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SlotState<Arc<Held>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
