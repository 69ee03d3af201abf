//! From what a client reports to what is committed, as `metering/{intake,recorder,writer}.rs` do it,
//! with the product's own lanes, rating and events.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tollgate::{
    authorization::grant::GrantClaims,
    catalog::rating,
    ids::AccountId,
    metering::{
        event::{Fingerprint, NewEvent, Outcome, Served},
        lanes::Pending,
        limits,
        quantities::Quantities,
    },
};

use super::{Answer, Job, Timer, World, server::Shard};
use crate::{
    database::{Batch, Failure, Posted, Reply, Statement},
    money::pico,
    mutation::Mutation,
};

impl World {
    /// `used` is nothing where the request is cancelled.
    pub fn record(&mut self, call: u64, claims: &Arc<GrantClaims>, used: Option<Quantities>) {
        let number = self.server_of(call);
        let at = self.servers[number].boot(self.queue.now());
        let event = match used {
            None => NewEvent::cancellation(GrantClaims::clone(claims)),
            Some(quantities) => {
                let priced = self.priced(number, claims);
                let rated = priced.map(|priced| rating::rate(&priced.price(), &quantities, false));
                let Some(Ok(rating)) = rated else { return self.respond(call, Answer::Refused) };
                let used = Fingerprint {
                    key_id: claims.key_id,
                    model: claims.model.clone(),
                    quantities,
                    outcome: Outcome::Success,
                    cache_hit: false,
                };
                let claims = GrantClaims::clone(claims);
                NewEvent::of_grant(claims, used, &rating, Served::default(), None)
            }
        };
        let (account, id, charge) = (event.account_id, event.event_id, event.charge);
        let shard = (account.0.as_u128() % 2) as usize;
        let server = &mut self.servers[number];
        if server.shards[shard].away {
            return self.respond(call, Answer::Unavailable);
        }
        let pending = Pending { event: Box::new(event), answer_to: call };
        if server.shards[shard].lanes.push(pending).is_err() {
            return self.respond(call, Answer::Unavailable);
        }
        if self.options.mutation == Some(Mutation::CancelledBeforeCommit) && used.is_none() {
            server.settle(account, id, charge, at);
        }
        self.set(number, limits::ANSWER_WAIT, Timer::AnswerWait { call });
        if self.is_broken(Mutation::AnsweredBeforeCommit) {
            let (charge, overrun) = (pico(charge), 0);
            let cancelled = used.is_none();
            self.respond(call, Answer::Recorded { charge, overrun, cancelled, duplicate: false });
        }
        self.ring(number, shard);
    }

    /// The authorized price, whatever was published since.
    fn priced(&self, number: usize, claims: &GrantClaims) -> Option<crate::catalog::Version> {
        let versions = &self.servers[number].versions;
        if self.is_broken(Mutation::PriceOfTheDay) {
            let authorized =
                self.database.versions.iter().find(|one| one.version == claims.price_version)?;
            return versions.iter().rev().find(|one| one.model == authorized.model).copied();
        }
        let here = versions.iter().find(|one| one.version == claims.price_version);
        let there =
            || self.database.versions.iter().find(|one| one.version == claims.price_version);
        here.or_else(there).copied()
    }

    pub fn unconfirmed(&mut self, call: u64) {
        self.respond(call, Answer::Unavailable);
    }

    /// There may be something to post.
    pub fn ring(&mut self, number: usize, shard: usize) {
        let (now, instant) = (self.queue.now(), self.instant());
        let one = &mut self.servers[number].shards[shard];
        if one.busy {
            return;
        }
        match one.lanes.take(limits::MAX_BATCH, instant) {
            Some(batch) => {
                one.busy = true;
                one.skip_locked = batch.skip_locked;
                one.parts = vec![batch.events];
                self.post_part(number, shard);
            }
            None => {
                if let Some(due) = one.lanes.next_due() {
                    let after = self.at_instant(due).saturating_sub(now);
                    let after = Duration::from_micros(after.max(1));
                    self.set(number, after, Timer::Lanes { shard });
                }
            }
        }
    }

    /// One attempt at the next part of the batch.
    pub fn post_part(&mut self, number: usize, shard: usize) {
        let sent_at = self.database_time();
        let (contended, whose) =
            (!self.calm && self.dice.one_in(40), self.dice.below(u64::from(u32::MAX)));
        let instance = self.servers[number].instance;
        let one = &mut self.servers[number].shards[shard];
        let Some(part) = one.parts.pop() else {
            one.busy = false;
            return self.ring(number, shard);
        };
        let accounts: BTreeSet<AccountId> =
            part.iter().map(|pending| pending.event.account_id).collect();
        let held = accounts.iter().nth(whose as usize % accounts.len().max(1));
        let batch = Batch {
            instance,
            skip_locked: one.skip_locked,
            expect_duplicates: one.duplicates_expected > 0,
            events: part.iter().map(|pending| NewEvent::clone(&pending.event)).collect(),
            sent_at,
            contended: held.filter(|_| contended).copied().into_iter().collect(),
        };
        one.under_way = Some(part);
        self.send(number, Job::Post { shard }, Statement::Post(batch), limits::CONNECTION_PATIENCE);
    }

    pub fn posted(&mut self, number: usize, shard: usize, reply: Result<Reply, Failure>) {
        let now = self.queue.now();
        let one = &mut self.servers[number].shards[shard];
        let Some(part) = one.under_way.take() else { return };
        match reply {
            Ok(Reply::Posted(posted)) => {
                one.duplicates_expected = one.duplicates_expected.saturating_sub(1);
                one.pause = Duration::ZERO;
                (one.lost_at, one.away) = (None, false);
                return self.finish(number, shard, part, &posted);
            }
            Err(Failure::Locked) if !one.skip_locked => one.skip_locked = true,
            Err(Failure::Duplicates) => one.duplicates_expected = limits::DUPLICATES_EXPECTED,
            Err(Failure::Refused) => {
                self.auditor.violate("the database refused a batch for good".to_owned());
            }
            Err(Failure::Locked | Failure::Passing) => {
                one.parts.push(part);
                return self.pause(number, shard);
            }
            _ => {
                one.parts.push(part);
                one.lose(now);
                return self.pause(number, shard);
            }
        }
        self.servers[number].shards[shard].parts.push(part);
        self.post_part(number, shard);
    }

    fn pause(&mut self, number: usize, shard: usize) {
        let one = &mut self.servers[number].shards[shard];
        one.pause = (one.pause * 2).clamp(limits::MIN_PAUSE, limits::MAX_PAUSE);
        let pause = one.pause;
        self.set(number, pause, Timer::Writer { shard });
    }

    /// Settles and answers what is committed; puts back what was left out.
    fn finish(&mut self, number: usize, shard: usize, part: Vec<Pending<u64>>, posted: &Posted) {
        let (now, instant) = (self.queue.now(), self.instant());
        let at = self.servers[number].boot(now);
        let one = &mut self.servers[number].shards[shard];
        let accounts = part.iter().map(|pending| pending.event.account_id);
        one.lanes.rested(accounts.filter(|account| !posted.busy.contains(account)));
        let (mut held, mut repeated) = (Vec::new(), Vec::new());
        for pending in part {
            let event = &pending.event;
            if let Some(overrun) = posted.inserted.get(&event.event_id) {
                let cancelled = event.fingerprint.outcome == Outcome::Cancelled;
                let (charge, overrun) = (pico(event.charge), *overrun);
                let recorded = Answer::Recorded { charge, overrun, cancelled, duplicate: false };
                self.servers[number].settle(event.account_id, event.event_id, event.charge, at);
                self.respond(pending.answer_to, recorded);
            } else if posted.busy.contains(&event.account_id) {
                held.push(pending);
            } else {
                repeated.push(pending);
            }
        }
        let one = &mut self.servers[number].shards[shard];
        if !held.is_empty() {
            one.lanes.rest(held, instant);
        }
        if repeated.is_empty() {
            return self.post_part(number, shard);
        }
        one.duplicates_expected = limits::DUPLICATES_EXPECTED;
        let places = Statement::Stored(repeated.iter().map(Pending::place).collect());
        let job = Job::Repeated { shard, events: repeated };
        self.send(number, job, places, limits::CONNECTION_PATIENCE);
    }

    /// Answers events that were recorded before.
    pub fn repeated(
        &mut self,
        number: usize,
        shard: usize,
        events: Vec<Pending<u64>>,
        reply: Result<Reply, Failure>,
    ) {
        let now = self.queue.now();
        let at = self.servers[number].boot(now);
        let Ok(Reply::Stored(stored)) = reply else {
            let one = &mut self.servers[number].shards[shard];
            one.lanes.put_back(events);
            one.lose(now);
            return self.pause(number, shard);
        };
        for pending in events {
            let place = pending.place();
            let Some(found) = stored.iter().find(|one| (one.account_id, one.event_id) == place)
            else {
                self.auditor.violate("an event is neither new nor stored".to_owned());
                return;
            };
            self.servers[number].settle(place.0, place.1, found.charge, at);
            let anew = self.is_broken(Mutation::DuplicateAnsweredAnew);
            let answer = match found.clone().answer_to(&pending.event.fingerprint) {
                Err(_) if !anew => Answer::Conflict,
                Ok(_) | Err(_) if anew => Answer::Recorded {
                    charge: pico(pending.event.charge),
                    overrun: 0,
                    cancelled: pending.event.fingerprint.outcome == Outcome::Cancelled,
                    duplicate: true,
                },
                Ok(recorded) => Answer::Recorded {
                    charge: pico(recorded.charge),
                    overrun: pico(recorded.overrun),
                    cancelled: recorded.outcome == Outcome::Cancelled,
                    duplicate: true,
                },
                Err(_) => Answer::Conflict,
            };
            self.respond(pending.answer_to, answer);
        }
        self.post_part(number, shard);
    }
}

impl Shard {
    /// The connection is gone.
    fn lose(&mut self, now: crate::queue::Micros) {
        let lost_at = *self.lost_at.get_or_insert(now);
        if Duration::from_micros(now - lost_at) >= limits::AWAY_AFTER {
            self.away = true;
        }
    }
}
