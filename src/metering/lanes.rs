//! The queue of one writer: a lane for each account, served in turn. Pure, without I/O or clock.
//!
//! What a batch may hold is decided here:
//! - one event of each account in turn, and of one account no more than a part while others wait, so
//!   that the flood of one neither starves nor delays the rest;
//! - for each account one calendar month, because a posting belongs to one billing period;
//! - each event id once; the same again waits for the next batch and is answered as a replay;
//! - nothing of an account that rests because somebody else holds its row.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    event::NewEvent,
    limits::{
        MAX_PAUSE, MAX_QUEUED, MIN_PAUSE, MIN_QUEUED, PART_OF_A_BATCH, PART_OF_THE_QUEUE,
        PATIENT_EVERY, QUEUE_WAIT,
    },
};
use crate::ids::{AccountId, AuthorizationId};

/// An event on its way into the books.
#[derive(Debug)]
pub struct Pending<A> {
    /// What is to be recorded.
    pub event: Box<NewEvent>,
    /// Who waits for the answer.
    pub answer_to: A,
}

impl<A> Pending<A> {
    /// What a batch is sorted by.
    #[must_use]
    pub fn place(&self) -> (AccountId, AuthorizationId) {
        (self.event.account_id, self.event.event_id)
    }
}

/// Events that are posted together, by account and event.
#[derive(Debug)]
pub struct Batch<A> {
    /// Sorted by account and id.
    pub events: Vec<Pending<A>>,
    /// Whether to go on without accounts that somebody else holds.
    pub skip_locked: bool,
}

/// An account that somebody else holds.
#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    attempts: u32,
}

/// The events that wait for a writer.
#[derive(Debug)]
pub struct Lanes<A> {
    waiting: HashMap<AccountId, VecDeque<Pending<A>>>,
    /// Each account that has a lane, once; the next in turn first.
    turns: VecDeque<AccountId>,
    resting: HashMap<AccountId, Rest>,
    queued: usize,
    /// How many may wait.
    room: usize,
    /// The last batch could have been larger, had it been allowed to.
    was_bounded: bool,
}

impl<A> Lanes<A> {
    /// How many events wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.queued
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Puts an event at the end of its account's lane; gives it back when too much waits.
    pub fn push(&mut self, pending: Pending<A>) -> Result<(), Pending<A>> {
        let account = pending.event.account_id;
        if self.queued >= self.room {
            return Err(pending);
        }
        match self.waiting.entry(account) {
            Entry::Vacant(vacant) => {
                vacant.insert(VecDeque::from([pending]));
                self.turns.push_back(account);
            }
            Entry::Occupied(lane) if lane.get().len() >= self.room / PART_OF_THE_QUEUE => {
                return Err(pending);
            }
            Entry::Occupied(mut lane) => lane.get_mut().push_back(pending),
        }
        self.queued += 1;
        Ok(())
    }

    /// So many events of the last batch took so long to write. Where more wait, only what can be written
    /// in time at that speed may; after a batch that took all there was, nobody waits for long.
    pub fn posted(&mut self, events: usize, took: Duration) {
        let in_time = (events as u128 * QUEUE_WAIT.as_nanos()) / took.as_nanos().max(1);
        let in_time = usize::try_from(in_time).unwrap_or(MAX_QUEUED);
        self.room =
            if self.was_bounded { in_time.clamp(MIN_QUEUED, MAX_QUEUED) } else { MAX_QUEUED };
    }

    /// Puts events of accounts that somebody else holds back to the front, to rest for a while that
    /// grows with each attempt. Takes them whatever the bounds: they had been taken before.
    pub fn rest(&mut self, events: Vec<Pending<A>>, now: Instant) {
        let accounts: HashSet<AccountId> =
            events.iter().map(|pending| pending.event.account_id).collect();
        for account in accounts {
            let attempts = self.resting.get(&account).map_or(0, |rest| rest.attempts) + 1;
            let pause = MIN_PAUSE.saturating_mul(1 << attempts.min(16)).min(MAX_PAUSE);
            self.resting.insert(account, Rest { until: now + pause, attempts });
        }
        self.put_back(events);
    }

    /// Puts events back to the front of their lanes.
    pub fn put_back(&mut self, events: Vec<Pending<A>>) {
        for pending in events.into_iter().rev() {
            let account = pending.event.account_id;
            self.queued += 1;
            match self.waiting.entry(account) {
                Entry::Vacant(vacant) => {
                    vacant.insert(VecDeque::from([pending]));
                    self.turns.push_front(account);
                }
                Entry::Occupied(mut lane) => lane.get_mut().push_front(pending),
            }
        }
    }

    /// These accounts were posted: nobody else holds them.
    pub fn rested(&mut self, accounts: impl Iterator<Item = AccountId>) {
        if !self.resting.is_empty() {
            for account in accounts {
                self.resting.remove(&account);
            }
        }
    }

    /// The next batch of at most so many events; `None` when nothing can be posted now.
    pub fn take(&mut self, limit: usize, now: Instant) -> Option<Batch<A>> {
        let mut taken = Vec::new();
        let mut ids = HashSet::new();
        // Each account's month, and how many events.
        let mut parts = HashMap::new();
        let alone = self.turns.len() == 1;
        let part = if alone { limit } else { limit.div_ceil(PART_OF_A_BATCH) };
        // Accounts of which this batch takes no more, and that have more.
        let mut passed = Vec::new();
        let (mut contended, mut patient) = (false, false);
        while taken.len() < limit {
            let Some(account) = self.turns.pop_front() else { break };
            let Some(lane) = self.waiting.get_mut(&account) else { continue };
            let rest = self.resting.get(&account);
            if rest.is_some_and(|rest| rest.until > now) {
                passed.push(account);
                continue;
            }
            let fits = |pending: &Pending<A>| {
                let of_event = pending.event.month();
                let (month, events) = parts.entry(account).or_insert((of_event, 0_usize));
                let fits =
                    *month == of_event && *events < part && ids.insert(pending.event.event_id);
                *events += usize::from(fits);
                fits
            };
            let Some(pending) = pop_front_if(lane, fits) else {
                passed.push(account);
                continue;
            };
            taken.push(pending);
            if let Some(rest) = rest {
                contended = true;
                patient |= rest.attempts % PATIENT_EVERY == 0;
            }
            if lane.is_empty() {
                self.waiting.remove(&account);
            } else {
                self.turns.push_back(account);
            }
        }
        self.turns.extend(passed);
        self.queued = self.queued.saturating_sub(taken.len());
        if taken.is_empty() {
            return None;
        }
        self.was_bounded =
            taken.len() >= limit || parts.values().any(|(_, events)| *events >= part);
        taken.sort_unstable_by_key(Pending::place);
        Some(Batch { events: taken, skip_locked: contended && !patient })
    }

    /// When the first account that rests may be tried again.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let resting = self.resting.iter().filter(|(account, _)| self.waiting.contains_key(account));
        resting.map(|(_, rest)| rest.until).min()
    }
}

impl<A> Default for Lanes<A> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            resting: HashMap::new(),
            queued: 0,
            room: MAX_QUEUED,
            was_bounded: false,
        }
    }
}

fn pop_front_if<A>(
    lane: &mut VecDeque<Pending<A>>,
    fits: impl FnOnce(&Pending<A>) -> bool,
) -> Option<Pending<A>> {
    if lane.front().is_some_and(fits) { lane.pop_front() } else { None }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
pub(super) mod tests;
