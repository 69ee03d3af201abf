//! A server: the product's own state machines, with what else its memory holds.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tollgate::{
    authorization::{
        grant::GrantClaims, heartbeat::Heartbeat, lease::PoolRenewal, lifetime::Lifetime,
        slot_state::SlotState,
    },
    ids::{AccountId, AuthorizationId, InstanceId, KeyId},
    metering::lanes::{Lanes, Pending},
    money::Amount,
};

use super::{Place, World, operators::Stage};
use crate::{
    catalog::Version,
    database::{Beat, Failure, KeyRow, Reply},
    money::pico,
    mutation::Mutation,
    queue::Micros,
};

/// What is kept of a grant while it is outstanding.
#[derive(Debug)]
pub struct Held {
    pub claims: Arc<GrantClaims>,
    pub version: Version,
    pub asked_output: u64,
    pub adopted: bool,
}

/// Whom the answer to a statement is for.
pub enum Job {
    Register,
    Beat { sent: Duration },
    Renew(Vec<(AccountId, Vec<PoolRenewal>)>),
    RenewInLine(Vec<(AccountId, Vec<PoolRenewal>)>),
    GiveBack(Vec<(AccountId, Vec<PoolRenewal>)>),
    Foreign,
    Unsettled(usize),
    RemoveDead,
    SignOff,
    Stop,
    Post { shard: usize },
    Repeated { shard: usize, events: Vec<Pending<u64>> },
    LoadKey { call: u64, fence: u64 },
    Adopt { call: u64 },
    Operate { call: u64, stage: Stage },
}

/// A server's clockwork.
#[derive(Debug, Clone, Copy)]
pub enum Timer {
    Beat,
    CaughtUp { trip: Trip, beat: Beat },
    LookOver,
    Writer { shard: usize },
    Lanes { shard: usize },
    LeaseWait { call: u64, number: u64 },
    Retry { call: u64 },
    AnswerWait { call: u64 },
    Listen { link: u32 },
    Look { call: u64, number: i64 },
    GiveBack,
    Exit,
}

/// When a beat was sent and when it was answered, since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trip {
    pub sent: Duration,
    pub received: Duration,
}

/// One writer and its accounts.
#[derive(Default)]
pub struct Shard {
    pub lanes: Lanes<u64>,
    pub busy: bool,
    pub parts: Vec<Vec<Pending<u64>>>,
    pub under_way: Option<Vec<Pending<u64>>>,
    pub skip_locked: bool,
    pub duplicates_expected: u32,
    pub pause: Duration,
    pub lost_at: Option<Micros>,
    pub away: bool,
}

/// How far a server's clocks are from the database's.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Since it booted, at the beginning of the run.
    pub booted: Micros,
    /// How much faster its boot clock is, in millionths.
    pub fast_ppm: i64,
    /// How far its wall clock is ahead.
    pub wall_ahead: TimeDelta,
}

pub struct Server {
    pub number: usize,
    pub incarnation: u32,
    pub up: bool,
    pub instance: InstanceId,
    pub lifetime: Lifetime,
    pub clocks: Clocks,
    pub frozen_until: Micros,
    pub cut_until: Micros,
    /// Its beats do not arrive.
    pub mute_until: Micros,
    /// It was heard of at least once.
    pub known: bool,
    /// It takes no more calls.
    pub closing: bool,
    /// It has answered all calls and sends no renewal but the last.
    pub draining: bool,
    pub jobs: BTreeMap<u64, Job>,

    pub heartbeat: Heartbeat,
    pub heard: i64,
    pub beating: bool,
    pub beat_again: bool,
    pub catching_up: Option<(Trip, Beat)>,
    /// The listener's connection; announcements on an older one are lost.
    pub link: u32,
    pub listening: bool,
    /// The connection brings nothing before that.
    pub deaf_until: Micros,
    pub announced_at: Micros,

    pub keys: BTreeMap<KeyId, (u64, KeyRow)>,
    pub fence: u64,
    pub versions: Vec<Version>,

    pub slots: BTreeMap<AccountId, SlotState<Arc<Held>>>,
    pub sequence: i64,
    pub renewals: VecDeque<AccountId>,
    pub alone: VecDeque<AccountId>,
    pub renewing: bool,
    pub lapsed: Vec<(AccountId, AuthorizationId)>,
    pub rounds: u32,
    pub looking: bool,
    pub shards: [Shard; 2],
}

impl Server {
    pub fn new(number: usize, instance: InstanceId, lifetime: Lifetime, clocks: Clocks) -> Self {
        Self {
            number,
            incarnation: 0,
            up: false,
            instance,
            lifetime,
            clocks,
            frozen_until: 0,
            cut_until: 0,
            mute_until: 0,
            known: false,
            closing: false,
            draining: false,
            jobs: BTreeMap::new(),
            heartbeat: Heartbeat::default(),
            heard: 0,
            beating: false,
            beat_again: false,
            catching_up: None,
            link: 0,
            listening: false,
            deaf_until: 0,
            announced_at: 0,
            keys: BTreeMap::new(),
            fence: 0,
            versions: Vec::new(),
            slots: BTreeMap::new(),
            sequence: 0,
            renewals: VecDeque::new(),
            alone: VecDeque::new(),
            renewing: false,
            lapsed: Vec::new(),
            rounds: 0,
            looking: false,
            shards: <[Shard; 2]>::default(),
        }
    }

    pub const fn place(&self) -> Place {
        Place { server: self.number, incarnation: self.incarnation }
    }

    /// Nothing happens at it before that; then everything in order, so that no freeze ends early.
    pub fn freeze(&mut self, until: Micros) {
        self.frozen_until = self.frozen_until.max(until);
    }

    /// Its boot clock at a moment of the run.
    pub fn boot(&self, now: Micros) -> Duration {
        let faster = (now as i64 / 1_000) * self.clocks.fast_ppm / 1_000;
        Duration::from_micros((self.clocks.booted + now).saturating_add_signed(faster))
    }

    /// A slot, new when the account has none.
    pub fn slot(&mut self, account: AccountId) -> &mut SlotState<Arc<Held>> {
        self.slots.entry(account).or_default()
    }

    /// Everything that was learned from the database may have changed.
    pub fn forget_all(&mut self) {
        self.fence += 1;
        self.keys.clear();
    }

    /// What was held is let go: its usage is committed.
    pub fn settle(
        &mut self,
        account: AccountId,
        id: AuthorizationId,
        charge: Amount,
        at: Duration,
    ) {
        let Some(slot) = self.slots.get_mut(&account) else { return };
        if let Some(settled) = slot.holdings.settle(id, charge) {
            slot.touch(&settled.pools, at);
            slot.settled(&settled.pools);
        }
    }

    pub fn allows(&self, now: Micros) -> bool {
        self.heartbeat.allows_at(self.boot(now))
    }

    pub fn database_time(&self, now: Micros) -> DateTime<Utc> {
        self.heartbeat.database_time_at(self.boot(now))
    }
}

impl World {
    /// Whether a server may authorize, or does so all the same.
    pub fn still_allowed(&self, server: usize) -> bool {
        let one = &self.servers[server];
        one.allows(self.queue.now()) || (self.is_broken(Mutation::NoDeadline) && one.known)
    }

    /// A server's wall clock.
    pub fn wall(&self, server: usize) -> DateTime<Utc> {
        self.database_time() + self.servers[server].clocks.wall_ahead
    }

    pub fn timer(&mut self, server: usize, timer: Timer) {
        match timer {
            Timer::Beat => self.beat_due(server),
            Timer::CaughtUp { trip, beat } => self.caught_up(server, trip, beat),
            Timer::LookOver => self.look_over(server),
            Timer::Writer { shard } => self.post_part(server, shard),
            Timer::Lanes { shard } => self.ring(server, shard),
            Timer::LeaseWait { call, number } => self.lease_wait_over(call, number),
            Timer::Retry { call } => self.pursue_again(call),
            Timer::AnswerWait { call } => self.unconfirmed(call),
            Timer::Listen { link } => self.listen(server, link),
            Timer::Look { call, number } => self.look_whether_heard(call, number),
            Timer::GiveBack => self.give_all_back(server),
            Timer::Exit => self.stopped(server),
        }
    }

    pub fn set(&mut self, server: usize, after: Duration, timer: Timer) {
        let at = self.servers[server].place();
        let due = self.queue.now() + after.as_micros() as Micros;
        self.queue.put(due, super::Event::Timer { at, timer });
    }

    pub fn answer(&mut self, at: Place, ticket: u64, reply: Result<Reply, Failure>) {
        let server = at.server;
        let Some(job) = self.servers[server].jobs.remove(&ticket) else { return };
        match job {
            Job::Register => self.registered(server, reply),
            Job::Beat { sent } => self.beat_answered(server, sent, reply),
            Job::Renew(batch) => self.renewed(server, batch, reply),
            Job::RenewInLine(round) => self.renewed_in_line(server, round, reply),
            Job::GiveBack(batch) => self.given_back(server, &batch, reply),
            Job::Foreign => self.foreign_read(server, reply),
            Job::Unsettled(count) => self.unsettled_kept(server, count, reply),
            Job::RemoveDead => self.servers[server].looking = false,
            Job::SignOff => self.signed_off(server, reply),
            Job::Stop => self.stopped(server),
            Job::Post { shard } => self.posted(server, shard, reply),
            Job::Repeated { shard, events } => self.repeated(server, shard, events, reply),
            Job::LoadKey { call, fence } => self.key_loaded(server, call, fence, reply),
            Job::Adopt { call } => self.adopted(call, reply),
            Job::Operate { call, stage } => self.operated(call, stage, reply),
        }
        self.check_leases(server);
    }

    /// `free + outstanding ≤ leased`, as the database sees it.
    pub fn check_leases(&mut self, server: usize) {
        let server = &self.servers[server];
        // What a removed server believes does not count: it may not act on it.
        if !server.up || !self.database.instances.contains_key(&server.instance) {
            return;
        }
        for (account, slot) in &server.slots {
            for (key, pool) in slot.holdings.pools() {
                let counted = pico(pool.free()) + pico(pool.outstanding());
                let leased = self.database.leased(*account, key, server.instance);
                if counted > leased {
                    self.auditor.violate(format!(
                        "server {} counts on {counted} of {key:?} and the database has {leased} \
                         leased to it",
                        server.number
                    ));
                    return;
                }
            }
        }
    }
}
