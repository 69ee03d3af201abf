//! Calls that wait for a round of renewals.

use tollgate::{
    authorization::{limits, slot_state::Shortage},
    ids::AccountId,
    money::Amount,
};

use super::{Answer, Timer, World, authorize::Goal};

impl World {
    /// Waits for a round of renewals; first for what the others may give back.
    pub fn wait(&mut self, call: u64, need: Amount, floor: Amount, shortage: &Shortage) {
        if matches!(shortage, Shortage::Recalling) {
            let number = self.server_of(call);
            if let Some(pursuit) = self.pursuit(call) {
                pursuit.asleep = Some((need, floor));
            }
            return self.set(number, limits::RECALL_POLL, Timer::Retry { call });
        }
        self.wait_for_round(call, need, floor);
    }

    /// It has slept.
    pub fn pursue_again(&mut self, call: u64) {
        let Some(pursuit) = self.pursuit(call) else { return };
        if pursuit.prepared.is_some() {
            return self.reserve(call);
        }
        if let Some((need, floor)) = pursuit.asleep.take() {
            self.wait_for_round(call, need, floor);
        }
    }

    fn wait_for_round(&mut self, call: u64, need: Amount, floor: Amount) {
        let (server, wait) = (self.server_of(call), self.number());
        let Some(pursuit) = self.pursuit(call) else { return };
        let Some((_, row)) = &pursuit.customer else { return };
        let (account, pools) = (row.account, pursuit.pools.clone());
        let slot = self.servers[server].slot(account);
        slot.wait_for(&pools, need, floor);
        let round = slot.next_round();
        if let Some(pursuit) = self.pursuit(call) {
            pursuit.waiting = Some((account, round));
            pursuit.wait = wait;
        }
        self.set(server, limits::LEASE_WAIT, Timer::LeaseWait { call, number: wait });
        self.renew(server, account);
    }

    pub fn lease_wait_over(&mut self, call: u64, number: u64) {
        let Some(pursuit) = self.pursuit(call) else { return };
        if pursuit.waiting.is_some() && pursuit.wait == number {
            self.respond(call, Answer::Unavailable);
        }
    }

    /// Whoever waited for it looks again.
    pub fn round_ended(&mut self, number: usize, account: AccountId) {
        let waiting: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| call.at == self.servers[number].place())
            .filter(|(_, call)| {
                let pursuit = call.pursuit.as_ref();
                pursuit.and_then(|pursuit| pursuit.waiting).is_some_and(|of| of.0 == account)
            })
            .map(|(id, _)| *id)
            .collect();
        for call in waiting {
            let Some(Some((_, round))) = self.pursuit(call).map(|pursuit| pursuit.waiting) else {
                continue;
            };
            let Some(answered) = self.servers[number].slot(account).answered(round) else {
                continue;
            };
            let Some(pursuit) = self.pursuit(call) else { continue };
            pursuit.waiting = None;
            pursuit.renewed = true;
            let raises = matches!(pursuit.goal, Goal::Raise(_));
            match (answered, raises) {
                (false, _) => self.respond(call, Answer::Unavailable),
                (true, false) => self.reserve(call),
                (true, true) => self.raise(call),
            }
        }
    }
}
