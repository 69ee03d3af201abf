//! Raising an authorization in mid-stream, as `authorization/extension.rs` does.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use tollgate::{
    authorization::{
        checks,
        grant::GrantClaims,
        holdings::{Reservation, Reserved},
        limits,
        slot_state::Shortage,
    },
    catalog::rating,
    money::Amount,
};

use super::{Answer, Held, Job, World, authorize::Goal};
use crate::database::{Failure, Reply, Statement};

/// An authorization to be raised.
pub struct Raise {
    pub claims: Arc<GrantClaims>,
    pub wanted: u64,
    pub reducible: bool,
    /// What is held for it here, once that is known.
    pub held: Option<Arc<Held>>,
}

impl World {
    /// The key is known and holds.
    pub fn decide_raise(&mut self, call: u64) {
        let number = self.server_of(call);
        let there = self.servers[number].database_time(self.queue.now());
        let Some(Goal::Raise(raise)) = self.pursuit(call).map(|pursuit| &pursuit.goal) else {
            return;
        };
        let claims = Arc::clone(&raise.claims);
        let id = claims.authorization_id;
        if there >= claims.expires_at {
            return self.respond(call, Answer::Refused);
        }
        let server = &mut self.servers[number];
        let held = server.slot(claims.account_id).holdings.reservation(id);
        match held.map(|held| Arc::clone(&held.grant)) {
            Some(held) => self.raise_held(call, held),
            None if claims.issuer == server.instance => self.respond(call, Answer::Refused),
            None => {
                let looking = Statement::HasEvent(claims.account_id, id);
                self.send(number, Job::Adopt { call }, looking, limits::ANSWER_PATIENCE);
            }
        }
    }

    /// Another server's grant: nothing is held for it here yet.
    pub fn adopted(&mut self, call: u64, reply: Result<Reply, Failure>) {
        let settled = match reply {
            Ok(Reply::HasEvent(settled)) => settled,
            _ => return self.respond(call, Answer::Unavailable),
        };
        if settled {
            return self.respond(call, Answer::Refused);
        }
        let Some(Goal::Raise(raise)) = self.pursuit(call).map(|pursuit| &pursuit.goal) else {
            return;
        };
        let claims = GrantClaims { reserved: Amount::ZERO, ..GrantClaims::clone(&raise.claims) };
        let versions = &self.database.versions;
        let version = versions.iter().find(|one| one.version == claims.price_version);
        let Some(version) = version.copied() else {
            return self.respond(call, Answer::Refused);
        };
        let claims = Arc::new(claims);
        self.raise_held(call, Arc::new(Held { claims, version, asked_output: 0, adopted: true }));
    }

    fn raise_held(&mut self, call: u64, held: Arc<Held>) {
        let Some(pursuit) = self.pursuit(call) else { return };
        let Goal::Raise(raise) = &mut pursuit.goal else { return };
        if raise.wanted <= held.claims.max_output_tokens {
            return self.respond(call, Answer::Refused);
        }
        pursuit.output = raise.wanted;
        pursuit.pools = held.claims.pools();
        raise.held = Some(held);
        self.raise(call);
    }

    pub fn raise(&mut self, call: u64) {
        loop {
            let number = self.server_of(call);
            let at = self.servers[number].boot(self.queue.now());
            let there = self.servers[number].database_time(self.queue.now());
            let Some(pursuit) = self.pursuit(call) else { return };
            let (output, renewed) = (pursuit.output, pursuit.renewed);
            let (deadline, pools) = (pursuit.deadline, pursuit.pools.clone());
            let Goal::Raise(raise) = &pursuit.goal else { return };
            let (reducible, Some(held)) = (raise.reducible, raise.held.clone()) else { return };
            let (before, margin) = (&held.claims, checks::input_margin());
            let price = held.version.price();
            let Ok(amount) = rating::ceiling(&price, before.input_tokens, output, margin) else {
                return self.respond(call, Answer::Refused);
            };
            let raised = self.raised(number, &held, output, amount);
            let rise = amount.minus_to_zero(before.reserved);
            if !self.still_allowed(number) {
                return self.respond(call, Answer::Unavailable);
            }
            if !self.still_current(call) {
                return self.decide(call);
            }
            let id = before.authorization_id;
            let claims = Arc::clone(&raised.claims);
            let reservation = Reservation {
                amount: claims.reserved,
                pools: pools.clone(),
                expires_at: claims.expires_at,
                covered_until: claims.covered_until(),
                request: None,
                grant: Arc::new(raised),
            };
            let slot = self.servers[number].slot(before.account_id);
            slot.touch(&pools, at);
            let is_held = match slot.holdings.extend(id, reservation.clone()) {
                Some(is_held) => is_held,
                None if held.adopted => {
                    matches!(slot.holdings.reserve(id, reservation, there), Reserved::Held)
                }
                None => return self.respond(call, Answer::Refused),
            };
            if is_held {
                self.granted(call, &claims);
                return self.respond(call, Answer::Granted(claims));
            }
            let free = slot.free(&pools);
            let shortage = slot.shortage(&pools, rise, at);
            if reducible && shortage.allows_less(renewed) {
                let all = before.reserved.saturating_add(free);
                let fits = rating::affordable_output(&price, before.input_tokens, margin, all);
                if let Ok(Some(fits)) = fits
                    && fits > before.max_output_tokens
                    && fits < output
                {
                    let Some(pursuit) = self.pursuit(call) else { return };
                    pursuit.output = fits;
                    continue;
                }
            }
            if matches!(shortage, Shortage::Final(_)) {
                return self.respond(call, Answer::Denied);
            }
            if at >= deadline {
                return self.respond(call, Answer::Unavailable);
            }
            let floor = if reducible { Amount::ZERO } else { rise };
            return self.wait(call, rise, floor, &shortage);
        }
    }

    fn raised(&self, number: usize, held: &Held, output: u64, amount: Amount) -> Held {
        let server = &self.servers[number];
        let before = &held.claims;
        let there = server.database_time(self.queue.now());
        let lifetime = TimeDelta::from_std(server.lifetime.authorization).unwrap_or_default();
        let expires = (there + lifetime).timestamp_millis();
        let claims = GrantClaims {
            issuer: server.instance,
            reserved: amount.max(before.reserved),
            max_output_tokens: output,
            expires_at: DateTime::from_timestamp_millis(expires).unwrap_or(there),
            grace_ms: server.lifetime.grace.as_millis() as u32,
            ..GrantClaims::clone(before)
        };
        Held {
            claims: Arc::new(claims),
            version: held.version,
            asked_output: held.asked_output,
            adopted: held.adopted,
        }
    }
}
