//! Gateways and operators: what they send, when they send it again, and what they do with answers.

use std::sync::Arc;

use tollgate::{
    authorization::grant::GrantClaims,
    ids::{AccountId, BudgetId, KeyId, PriceVersionId},
    metering::quantities::Quantities,
};

use super::{
    Call, Event, World,
    authorize::{Goal, Pursuit},
    extend::Raise,
    operators::Order,
};
use crate::{
    catalog::Version,
    money::{Pico, UNIT},
    queue::{MS, Micros, SECOND},
};

/// How long a client waits for an answer before it counts it as lost.
const PATIENCE: Micros = 10 * SECOND;
/// After so many attempts a client gives up, unless it has usage to report.
const ATTEMPTS: u32 = 12;

/// A request for a model.
#[derive(Debug, Clone)]
pub struct Ask {
    pub key: KeyId,
    pub request: Option<String>,
    pub model: usize,
    pub input: u64,
    pub output: u64,
    pub reducible: bool,
}

/// One thing that a client wants done, for as many calls as that takes.
#[derive(Debug, Clone)]
pub enum Work {
    Authorize(Ask),
    Extend {
        claims: Arc<GrantClaims>,
        wanted: u64,
        reducible: bool,
    },
    /// With nothing used, a cancellation.
    Record {
        claims: Arc<GrantClaims>,
        used: Option<Quantities>,
    },
    Operate(Order),
    /// At the end: one grant from this server.
    Probe {
        ask: Ask,
        server: usize,
    },
}

#[derive(Debug, Clone)]
pub enum Answer {
    Granted(Arc<GrantClaims>),
    Denied,
    Recorded {
        charge: Pico,
        overrun: Pico,
        cancelled: bool,
        duplicate: bool,
    },
    /// Something else is recorded under the id.
    Conflict,
    /// Not as it was asked for.
    Refused,
    Confirmed,
    /// Nobody knows; it may be tried again.
    Unavailable,
    /// No answer came.
    Nothing,
}

pub struct Errand {
    pub work: Work,
    pub attempts: u32,
    /// The call that is waited for.
    pub call: Option<u64>,
    pub sent_at: Micros,
    pub done: bool,
}

/// Who there is to ask, and what they have under way.
#[derive(Default)]
pub struct Clients {
    pub accounts: Vec<AccountId>,
    pub keys: Vec<(KeyId, AccountId)>,
    pub budgets: Vec<(AccountId, BudgetId)>,
    pub models: usize,
    pub errands: Vec<Errand>,
    pub arrivals: u64,
    pub pace: Micros,
    /// How long a request runs at most, in milliseconds.
    pub longest: u64,
}

impl World {
    pub fn errand(&mut self, work: Work, after: Micros) {
        let errand = self.clients.errands.len();
        self.clients.errands.push(Errand {
            work,
            attempts: 0,
            call: None,
            sent_at: 0,
            done: false,
        });
        self.queue.put(self.queue.now() + after, Event::Send { errand });
    }

    /// The next request, of which there are so many.
    pub fn arrival(&mut self) {
        if self.clients.arrivals == 0 {
            return self.queue.put(self.queue.now() + 5 * SECOND, Event::Calm);
        }
        self.clients.arrivals -= 1;
        let pause = self.dice.below(2 * self.clients.pace) + 1;
        self.queue.put(self.queue.now() + pause, Event::Arrival);
        if self.dice.one_in(10) {
            return self.order();
        }
        let ask = self.ask();
        self.errand(Work::Authorize(ask), 0);
    }

    fn ask(&mut self) -> Ask {
        let mut keys = self.clients.keys.clone();
        if !self.dice.one_in(5) {
            keys.retain(|(key, _)| !self.database.keys[key].1);
        }
        let number = self.number();
        Ask {
            key: if keys.is_empty() { self.clients.keys[0] } else { self.dice.pick(&keys) }.0,
            request: self.dice.one_in(2).then(|| format!("request-{number}")),
            model: self.dice.below(self.clients.models as u64) as usize,
            input: self.dice.between(100, 6_000),
            output: self.dice.between(50, 4_000),
            reducible: self.dice.one_in(3),
        }
    }

    fn order(&mut self) {
        let accounts = self.clients.accounts.clone();
        let account = self.dice.pick(&accounts);
        let operation = self.number();
        let amount = Pico::from(self.dice.between(1, 60)) * UNIT / 100;
        let order = match self.dice.below(9) {
            0 | 8 => {
                let place = self.dice.below(self.clients.keys.len() as u64) as usize;
                Order::Revoke(self.clients.keys[place].0)
            }
            1 | 2 => Order::TopUp { account, operation, amount },
            3 => Order::Refund { account, operation, amount },
            4 | 5 if !self.clients.budgets.is_empty() => {
                let budgets = self.clients.budgets.clone();
                let (account, budget) = self.dice.pick(&budgets);
                let limit = Pico::from(self.dice.between(0, 150)) * UNIT / 100;
                Order::SetLimit { account, budget, limit }
            }
            _ => {
                let model = self.dice.below(self.clients.models as u64) as usize;
                Order::Publish(self.version(model))
            }
        };
        self.errand(Work::Operate(order), 0);
    }

    /// A new price of a model.
    pub fn version(&mut self, model: usize) -> Version {
        let version = Version {
            version: PriceVersionId(self.number() as i64),
            model,
            input: self.dice.between(1, 9_000_000) as u32,
            cache_read: self.dice.between(0, 900_000) as u32,
            output: self.dice.between(1, 30_000_000) as u32,
            fee: self.dice.pick(&[0, 0, 1_234]),
            doubled_above: self.dice.between(1_000, 5_000),
        };
        self.auditor.prices.insert(version.version, version);
        version
    }

    pub fn send_errand(&mut self, errand: usize) {
        let call = self.number();
        let now = self.queue.now();
        let one = &mut self.clients.errands[errand];
        if one.done {
            return;
        }
        one.attempts += 1;
        one.call = Some(call);
        if one.attempts == 1 {
            one.sent_at = now;
        }
        match &one.work {
            Work::Operate(order) => self.auditor.ordered(*order),
            Work::Record { claims, used } => self.auditor.sent(claims, *used),
            _ => {}
        }
        let number = match one.work {
            Work::Probe { server, .. } => server,
            _ => self.dice.below(self.servers.len() as u64) as usize,
        };
        let (at, latency) = (self.servers[number].place(), self.latency());
        self.queue.put(now + latency, Event::Call { at, call, errand });
        self.queue.put(now + PATIENCE, Event::Patience { call, errand });
    }

    /// A call arrives at its server.
    pub fn called(&mut self, at: super::Place, call: u64, errand: usize) {
        let deadline = self.servers[at.server].boot(self.queue.now())
            + tollgate::authorization::limits::LEASE_WAIT;
        let work = self.clients.errands[errand].work.clone();
        self.note(format_args!("server {} is called: {work}", at.server));
        let server = &self.servers[at.server];
        if server.closing || !server.known {
            let soon = self.queue.now() + MS;
            return self
                .queue
                .put(soon, Event::Answered { call, errand, answer: Answer::Unavailable });
        }
        let mut entry = Call { at, errand, pursuit: None, everywhere: None };
        let pursue = |goal| Some(Pursuit::new(goal, deadline));
        match work {
            Work::Authorize(ask) | Work::Probe { ask, .. } => {
                entry.pursuit = pursue(Goal::Grant(ask));
                self.calls.insert(call, entry);
                self.decide(call);
            }
            Work::Extend { claims, wanted, reducible } => {
                let raise = Raise { claims, wanted, reducible, held: None };
                entry.pursuit = pursue(Goal::Raise(raise));
                self.calls.insert(call, entry);
                self.decide(call);
            }
            Work::Record { claims, used } => {
                self.calls.insert(call, entry);
                self.record(call, &claims, used);
            }
            Work::Operate(order) => {
                self.calls.insert(call, entry);
                self.operate(call, order);
            }
        }
        self.check_leases(at.server);
    }

    /// A server answers; the answer may be lost on its way.
    pub fn respond(&mut self, call: u64, answer: Answer) {
        let Some(done) = self.calls.remove(&call) else { return };
        self.note(format_args!("server {} answers: {answer}", done.at.server));
        if !self.calm && self.dice.one_in(120 / self.storm) {
            return self.faults.count("answers to clients that were lost");
        }
        let at = self.queue.now() + self.latency();
        self.queue.put(at, Event::Answered { call, errand: done.errand, answer });
    }

    pub fn errand_answered(&mut self, call: u64, errand: usize, answer: Answer) {
        let now = self.queue.now();
        let one = &mut self.clients.errands[errand];
        if one.done || one.call != Some(call) {
            return;
        }
        if matches!(answer, Answer::Unavailable | Answer::Nothing) {
            let persists = matches!(one.work, Work::Record { .. } | Work::Probe { .. });
            if one.attempts < ATTEMPTS || persists {
                one.call = None;
                let pause = self.dice.between(20 * MS, 2 * SECOND);
                self.queue.put(now + pause, Event::Send { errand });
            } else {
                one.done = true;
            }
            return;
        }
        one.done = true;
        let (work, sent_at) = (one.work.clone(), one.sent_at);
        match (work, answer) {
            (Work::Authorize(ask), Answer::Granted(claims)) => {
                let (from, to) = (self.moment(sent_at), self.database_time());
                self.auditor.told(&claims, from, to);
                self.faults.count("requests that were granted");
                self.serve(&ask, claims);
            }
            (Work::Authorize(_), _) => self.faults.count("requests that were denied"),
            (Work::Extend { claims, .. }, answer) => {
                let raised = match answer {
                    Answer::Granted(raised) => raised,
                    _ => claims,
                };
                self.auditor.raised(&raised);
                self.report(raised);
            }
            (Work::Record { claims, used }, answer) => {
                let told = self.auditor.recorded(claims.authorization_id, used, &answer);
                self.faults.count(told);
            }
            (Work::Operate(order), answer) => self.ordered(order, &answer),
            (Work::Probe { server, .. }, answer) => match answer {
                Answer::Granted(claims) => {
                    let used = None;
                    self.auditor.told(&claims, self.moment(sent_at), self.database_time());
                    self.errand(Work::Record { claims, used }, 10 * MS);
                }
                _ => self.auditor.violate(format!(
                    "an account has funds, nothing is wrong, and server {server} denies it"
                )),
            },
        }
    }

    fn ordered(&mut self, order: Order, answer: &Answer) {
        if !matches!(answer, Answer::Confirmed) {
            return;
        }
        self.auditor.confirmed(order);
        if let Order::Revoke(_) = order {
            self.faults.count("keys that were revoked");
        }
    }

    /// A moment of the run by the database's clock.
    pub fn moment(&self, at: Micros) -> chrono::DateTime<chrono::Utc> {
        self.epoch + chrono::TimeDelta::microseconds(at as i64)
    }
}
