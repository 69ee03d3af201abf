//! A request's way from its key to its grant, as `authorization/{authorizer,reserving,leases}.rs` go
//! it: the same steps in the same order, each wait an event.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta};
use tollgate::{
    accounts::key::Tier,
    authorization::{
        checks,
        grant::GrantClaims,
        holdings::{Reservation, Reserved},
        limits,
        pool::PoolKey,
        slot_state::Shortage,
    },
    catalog::rating,
    ids::{AccountId, AuthorizationId, ModelId, moment_of},
    money::{Amount, Currency},
};

use super::{Answer, Ask, Held, Job, Timer, World, extend::Raise};
use crate::{
    catalog::Version,
    database::{Failure, KeyRow, Reply, Statement},
    money::{Pico, pico},
    mutation::Mutation,
    queue::{MS, SECOND},
};

/// What a call is after.
pub enum Goal {
    Grant(Ask),
    Raise(Raise),
}

/// A call that may have to wait, for its key or for its lease.
pub struct Pursuit {
    pub goal: Goal,
    /// Since boot; no wait begins after it.
    pub deadline: Duration,
    pub renewed: bool,
    pub decisions: usize,
    /// The key as it was checked, with the number of its copy in memory; 0 where it is not kept.
    pub customer: Option<(u64, KeyRow)>,
    /// The server's fence when the decision began.
    pub fence: u64,
    pub pools: Vec<PoolKey>,
    pub priced: Option<Version>,
    /// What it may generate, and the most that it and its first token can cost.
    pub output: u64,
    pub amount: Amount,
    pub least: Amount,
    /// The round that it waits for.
    pub waiting: Option<(AccountId, u64)>,
    /// The number of its wait, and what it sleeps to ask for.
    pub wait: u64,
    pub asleep: Option<(Amount, Amount)>,
    /// What it was about to hold when its thread was stopped.
    pub prepared: Option<Held>,
}

impl Pursuit {
    pub fn new(goal: Goal, deadline: Duration) -> Self {
        Self {
            goal,
            deadline,
            renewed: false,
            decisions: 0,
            customer: None,
            fence: 0,
            pools: Vec::new(),
            priced: None,
            output: 0,
            amount: Amount::ZERO,
            least: Amount::ZERO,
            waiting: None,
            wait: 0,
            asleep: None,
            prepared: None,
        }
    }
}

impl World {
    pub fn pursuit(&mut self, call: u64) -> Option<&mut Pursuit> {
        self.calls.get_mut(&call)?.pursuit.as_mut()
    }

    pub fn server_of(&self, call: u64) -> usize {
        self.calls[&call].at.server
    }

    /// From the start, or from the start again because what was checked has changed.
    pub fn decide(&mut self, call: u64) {
        let number = self.server_of(call);
        if !self.still_allowed(number) {
            return self.respond(call, Answer::Unavailable);
        }
        let fence = self.servers[number].fence;
        let Some(pursuit) = self.pursuit(call) else { return };
        pursuit.decisions += 1;
        pursuit.fence = fence;
        let key = match &pursuit.goal {
            Goal::Grant(ask) => ask.key,
            Goal::Raise(raise) => raise.claims.key_id,
        };
        if pursuit.decisions > limits::DECISIONS {
            return self.respond(call, Answer::Unavailable);
        }
        match self.servers[number].keys.get(&key).cloned() {
            Some((copy, row)) => self.decide_for(call, copy, row),
            None => {
                let job = Job::LoadKey { call, fence };
                self.send(number, job, Statement::LoadKey(key), limits::ANSWER_PATIENCE);
            }
        }
    }

    pub fn key_loaded(
        &mut self,
        number: usize,
        call: u64,
        fence: u64,
        reply: Result<Reply, Failure>,
    ) {
        let Ok(Reply::Key(Some(row))) = reply else {
            return self.respond(call, Answer::Unavailable);
        };
        let copy = self.number();
        let kept = self.servers[number].fence == fence || self.is_broken(Mutation::StaleRowKept);
        if kept {
            self.servers[number].keys.insert(row.key, (copy, row.clone()));
        }
        self.decide_for(call, copy, row);
    }

    fn decide_for(&mut self, call: u64, copy: u64, row: KeyRow) {
        let number = self.server_of(call);
        let now = self.queue.now();
        if row.revoked {
            return self.respond(call, Answer::Denied);
        }
        let there = self.servers[number].database_time(now);
        let Some(pursuit) = self.pursuit(call) else { return };
        pursuit.customer = Some((copy, row.clone()));
        let Goal::Grant(ask) = &pursuit.goal else { return self.decide_raise(call) };
        let ask = ask.clone();
        let server = &mut self.servers[number];
        if let Some(request) = &ask.request {
            let request = (ask.key, request.clone());
            if let Some(held) = server.slot(row.account).holdings.answered(&request, there) {
                return self.same(call, &held, &ask);
            }
        }
        let priced = server.versions.iter().rev().find(|version| version.model == ask.model);
        let Some(priced) = priced.copied() else { return self.respond(call, Answer::Denied) };
        let bound =
            |output| rating::ceiling(&priced.price(), ask.input, output, checks::input_margin());
        let (Ok(amount), Ok(least)) = (bound(ask.output), bound(ask.output.min(1))) else {
            return self.respond(call, Answer::Denied);
        };
        let budgets = row.budgets.iter().filter(|budget| budget.target.concerns(row.key, ""));
        let budgets = budgets.map(|budget| PoolKey::Budget(budget.at(there)));
        let Some(pursuit) = self.pursuit(call) else { return };
        pursuit.pools = budgets.chain([PoolKey::Funds]).collect();
        pursuit.priced = Some(priced);
        (pursuit.output, pursuit.amount, pursuit.least) = (ask.output, amount, least);
        self.reserve(call);
    }

    fn same(&mut self, call: u64, held: &Held, ask: &Ask) {
        let claims = &held.claims;
        let same = claims.model_id == ModelId(ask.model as i32)
            && claims.input_tokens == ask.input
            && held.asked_output == ask.output;
        let answer = if same { Answer::Granted(Arc::clone(claims)) } else { Answer::Refused };
        self.granted(call, claims);
        self.respond(call, answer);
    }

    /// Holds the bound in all of the request's pools, or makes do with less, or waits.
    pub fn reserve(&mut self, call: u64) {
        loop {
            let number = self.server_of(call);
            let at = self.servers[number].boot(self.queue.now());
            let prepared = self.pursuit(call).and_then(|pursuit| pursuit.prepared.take());
            let again = prepared.is_none() || !self.is_broken(Mutation::NotAskedAgain);
            let held = match prepared {
                Some(held) => held,
                None => {
                    let Some(held) = self.hold(call) else { return };
                    if !self.calm && self.dice.one_in(40) {
                        return self.stop_thread(call, held);
                    }
                    held
                }
            };
            if again && !self.still_allowed(number) {
                return self.respond(call, Answer::Unavailable);
            }
            if !self.still_current(call) {
                return self.decide(call);
            }
            let there = self.servers[number].database_time(self.queue.now());
            let Some(pursuit) = self.pursuit(call) else { return };
            let Goal::Grant(ask) = &pursuit.goal else { return };
            let (ask, pools) = (ask.clone(), pursuit.pools.clone());
            let (amount, least, renewed) = (pursuit.amount, pursuit.least, pursuit.renewed);
            let (output, deadline) = (pursuit.output, pursuit.deadline);
            let claims = Arc::clone(&held.claims);
            let price = held.version.price();
            let reservation = Reservation {
                amount: claims.reserved,
                pools: pools.clone(),
                expires_at: claims.expires_at,
                covered_until: claims.covered_until(),
                request: ask.request.clone().map(|request| (claims.key_id, request)),
                grant: Arc::new(held),
            };
            let slot = self.servers[number].slot(claims.account_id);
            slot.touch(&pools, at);
            match slot.holdings.reserve(claims.authorization_id, reservation, there) {
                Reserved::Held => {
                    if slot.spent(&pools, claims.reserved, at) {
                        self.renew(number, claims.account_id);
                    }
                    self.granted(call, &claims);
                    return self.respond(call, Answer::Granted(claims));
                }
                Reserved::Again(held) => return self.same(call, &held, &ask),
                Reserved::Full => return self.respond(call, Answer::Denied),
                Reserved::Short => {}
            }
            let free = slot.free(&pools);
            let floor = if ask.reducible { least } else { amount };
            let shortage = slot.shortage(&pools, floor, at);
            if ask.reducible && shortage.allows_less(renewed) {
                let margin = checks::input_margin();
                let fits = rating::affordable_output(&price, ask.input, margin, free);
                let fits = fits.ok().flatten().unwrap_or(0);
                if fits > 0 && fits < output {
                    let smaller = rating::ceiling(&price, ask.input, fits, margin);
                    let Some(pursuit) = self.pursuit(call) else { return };
                    pursuit.output = fits;
                    pursuit.amount = smaller.expect("less than what was rated");
                    continue;
                }
            }
            if matches!(shortage, Shortage::Final(_)) {
                return self.respond(call, Answer::Denied);
            }
            if at >= deadline {
                return self.respond(call, Answer::Unavailable);
            }
            return self.wait(call, amount, floor, &shortage);
        }
    }

    /// Its thread, or the whole server, stops right before it holds what it has made up its mind to.
    fn stop_thread(&mut self, call: u64, held: Held) {
        let number = self.server_of(call);
        let long = self.dice.pick(&[SECOND, 9 * SECOND, 40 * SECOND]);
        let span = self.dice.between(MS, long);
        if self.dice.one_in(2) {
            self.servers[number].freeze(self.queue.now() + span);
        }
        if let Some(pursuit) = self.pursuit(call) {
            pursuit.prepared = Some(held);
        }
        self.faults.count("threads that stopped before they held");
        let span = if self.dice.one_in(2) { MS } else { span };
        self.set(number, Duration::from_micros(span), Timer::Retry { call });
    }

    /// What is promised if it can be held now.
    fn hold(&mut self, call: u64) -> Option<Held> {
        let number = self.server_of(call);
        let wall = self.wall(number);
        let id = AuthorizationId(self.dice.id(wall));
        let server = &self.servers[number];
        let (instance, lifetime) = (server.instance, server.lifetime);
        let there = server.database_time(self.queue.now());
        let expires = there + TimeDelta::from_std(lifetime.authorization).ok()?;
        let pursuit = self.pursuit(call)?;
        let Goal::Grant(ask) = &pursuit.goal else { return None };
        let (_, row) = pursuit.customer.as_ref()?;
        let budgets = pursuit.pools.iter().filter_map(|pool| match pool {
            PoolKey::Budget(period) => Some(*period),
            PoolKey::Funds => None,
        });
        let version = pursuit.priced?;
        let claims = GrantClaims {
            authorization_id: id,
            issuer: instance,
            account_id: row.account,
            key_id: row.key,
            tier: Tier::Standard,
            model_id: ModelId(ask.model as i32),
            model: format!("model-{}", ask.model),
            currency: Currency::USD,
            price_version: version.version,
            reserved: pursuit.amount,
            budgets: budgets.collect(),
            input_tokens: ask.input,
            max_output_tokens: pursuit.output,
            authorized_at: moment_of(id.0).unwrap_or(wall),
            expires_at: DateTime::from_timestamp_millis(expires.timestamp_millis())?,
            grace_ms: lifetime.grace.as_millis() as u32,
            request_id: ask.request.clone().unwrap_or_default(),
            end_user: String::new(),
            labels: BTreeMap::new(),
        };
        let (claims, asked_output) = (Arc::new(claims), ask.output);
        Some(Held { claims, version, asked_output, adopted: false })
    }

    /// Whether memory still holds the very copy of the key that was checked.
    pub fn still_current(&mut self, call: u64) -> bool {
        let number = self.server_of(call);
        let Some(pursuit) = self.pursuit(call) else { return false };
        let (fence, customer) = (pursuit.fence, pursuit.customer.clone());
        let server = &self.servers[number];
        server.fence == fence
            || customer.is_some_and(|(copy, row)| {
                server.keys.get(&row.key).is_some_and(|(now, _)| *now == copy)
            })
    }

    /// A grant is made at this moment: by a server that may, for a key that holds, of what is there.
    pub fn granted(&mut self, call: u64, claims: &Arc<GrantClaims>) {
        let number = self.server_of(call);
        let known = self.database.instances.contains_key(&self.servers[number].instance);
        self.auditor.grants(number, claims, known);
        self.check_promises();
    }

    pub fn check_promises(&mut self) {
        let mut free: BTreeMap<(AccountId, PoolKey), Pico> = BTreeMap::new();
        for server in &self.servers {
            // What a removed server believes does not count: it may not act on it.
            if !server.up || !self.database.instances.contains_key(&server.instance) {
                continue;
            }
            for (account, slot) in &server.slots {
                for (key, pool) in slot.holdings.pools() {
                    *free.entry((*account, key)).or_default() += pico(pool.free());
                }
            }
        }
        let now = self.database_time();
        self.auditor.check_promises(&self.database, &free, now);
    }
}
