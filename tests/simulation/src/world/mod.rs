//! Everything there is in a run: the servers, the clients, the database, what is under way between
//! them, and the one queue of what happens next.

mod authorize;
mod chaos;
mod clients;
mod extend;
mod operators;
mod presence;
mod record;
mod renewals;
mod requests;
mod server;
mod upkeep;
mod waiting;

use std::{collections::BTreeMap, fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use self::{authorize::Pursuit, operators::Everywhere};
pub use self::{
    clients::{Answer, Ask, Clients, Work},
    operators::Order,
    server::{Held, Job, Server, Timer},
};
use crate::{
    auditor::Auditor,
    database::{Database, Failure, Notice, Reply, Statement},
    dice::Dice,
    mutation::Mutation,
    options::Options,
    queue::{MS, Micros, Queue, SECOND},
    report::{Faults, Log},
};

/// What happens.
pub enum Event {
    /// A statement takes effect at the database, and is answered or not.
    Effect { from: Place, ticket: u64, statement: Statement, answered: bool },
    /// A server hears what became of its statement.
    Answer { at: Place, ticket: u64, reply: Result<Reply, Failure> },
    /// A server's own clockwork.
    Timer { at: Place, timer: Timer },
    /// An announcement arrives.
    Notice { at: Place, link: u32, notice: Notice },
    /// A client's call arrives.
    Call { at: Place, call: u64, errand: usize },
    /// The answer to a call arrives at its client.
    Answered { call: u64, errand: usize, answer: Answer },
    /// A client sends, or sends again.
    Send { errand: usize },
    /// A client has waited long enough.
    Patience { call: u64, errand: usize },
    /// The next request of a client.
    Arrival,
    /// The next thing that goes wrong.
    Mishap,
    /// A server that was stopped or crashed starts anew.
    Start { server: usize },
    /// Nothing goes wrong from here on.
    Calm,
    /// Whoever has funds must get a grant now.
    Probe,
    /// Everything must have been given back.
    End,
}

/// One run of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub server: usize,
    pub incarnation: u32,
}

/// A client's call while a server has it.
pub struct Call {
    pub at: Place,
    pub errand: usize,
    pub pursuit: Option<Pursuit>,
    pub everywhere: Option<Everywhere>,
}

pub struct World {
    pub options: Options,
    pub queue: Queue<Event>,
    pub dice: Dice,
    pub database: Database,
    pub servers: Vec<Server>,
    pub clients: Clients,
    pub auditor: Auditor,
    pub faults: Faults,
    pub log: Log,
    calls: BTreeMap<u64, Call>,
    /// Numbers of tickets and calls.
    numbers: u64,
    epoch: DateTime<Utc>,
    /// What the product's queues count their rests from.
    origin: tokio::time::Instant,
    down_until: Micros,
    slow_until: Micros,
    /// How many times as much goes wrong as in a quiet run.
    storm: u64,
    calm: bool,
    over: bool,
}

impl World {
    pub fn new(options: Options) -> Self {
        let mut dice = Dice::new(options.seed);
        let storm = dice.pick(&[1, 1, 2, 4]);
        let pace = dice.pick(&[20 * MS, 100 * MS, 300 * MS]);
        let longest = dice.pick(&[300, 3_000, 12_000]);
        // A day and a month end while there are requests.
        let midnight: DateTime<Utc> = "2026-12-01T00:00:00Z".parse().expect("a moment");
        let before = dice.below(pace * options.steps + 5 * SECOND);
        let epoch = midnight - TimeDelta::microseconds(before as i64);
        let mut world = Self {
            database: Database { mutation: options.mutation, ..Database::default() },
            queue: Queue::new(),
            servers: Vec::new(),
            clients: Clients { pace, longest, ..Clients::default() },
            auditor: Auditor::default(),
            faults: Faults::default(),
            log: Log::new(options.trace),
            calls: BTreeMap::new(),
            numbers: 0,
            epoch,
            origin: tokio::time::Instant::now(),
            down_until: 0,
            slow_until: 0,
            storm,
            calm: false,
            over: false,
            dice,
            options,
        };
        world.furnish();
        world
    }

    /// Runs until everything has been given back, or a promise is broken.
    pub fn run(&mut self) {
        while !self.over && self.auditor.violation.is_none() {
            let Some(event) = self.queue.take() else { break };
            self.log.tick(self.queue.now());
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(at) = event.place() {
            let server = &self.servers[at.server];
            if server.incarnation != at.incarnation || !server.up {
                self.lost_on(event);
                return;
            }
            if server.frozen_until > self.queue.now() {
                let thaw = server.frozen_until;
                self.queue.put(thaw, event);
                return;
            }
        }
        match event {
            Event::Effect { from, ticket, statement, answered } => {
                self.effect(from, ticket, statement, answered);
            }
            Event::Answer { at, ticket, reply } => self.answer(at, ticket, reply),
            Event::Timer { at, timer } => self.timer(at.server, timer),
            Event::Notice { at, link, notice } => self.notice(at.server, link, notice),
            Event::Call { at, call, errand } => self.called(at, call, errand),
            Event::Answered { call, errand, answer } => self.errand_answered(call, errand, answer),
            Event::Send { errand } => self.send_errand(errand),
            Event::Patience { call, errand } => {
                self.errand_answered(call, errand, Answer::Nothing);
            }
            Event::Arrival => self.arrival(),
            Event::Mishap => self.mishap(),
            Event::Start { server } => self.start(server),
            Event::Calm => self.be_calm(),
            Event::Probe => self.probe(),
            Event::End => self.end(),
        }
    }

    /// What arrives at a server that is no more.
    fn lost_on(&mut self, event: Event) {
        if let Event::Call { call, errand, .. } = event {
            let at = self.queue.now() + MS;
            self.queue.put(at, Event::Answered { call, errand, answer: Answer::Unavailable });
        }
    }

    /// Sends a statement; what becomes of it is up to chance.
    pub fn send(&mut self, server: usize, job: Job, statement: Statement, patience: Duration) {
        let (now, patience) = (self.queue.now(), patience.as_micros() as Micros);
        let at = self.servers[server].place();
        let ticket = self.number();
        self.servers[server].jobs.insert(ticket, job);
        let effect = |statement, answered| Event::Effect { from: at, ticket, statement, answered };
        let fails = |failure| Event::Answer { at, ticket, reply: Err(failure) };
        let soon = now + self.latency();
        self.queue.put(now + patience, fails(Failure::Away));
        match self.fate(server, &statement) {
            Fate::Prompt => self.queue.put(soon, effect(statement, true)),
            Fate::Slow => {
                self.faults.count("statements that were slow");
                let slow = now + self.dice.between(50 * MS, 8 * SECOND);
                self.queue.put(slow, effect(statement, true));
            }
            Fate::Refused(failure) => {
                self.faults.count("statements that met a lock or a deadlock");
                self.queue.put(soon, fails(failure));
            }
            Fate::Lost => {
                self.faults.count("statements that never arrived");
                self.queue.put(now + self.dice.pick(&[MS, patience]), fails(Failure::Away));
            }
            Fate::AnswerLost => {
                self.faults.count("commits whose answer was lost");
                self.queue.put(soon, effect(statement, false));
                let told = soon + self.dice.pick(&[MS, patience]);
                self.queue.put(told, fails(Failure::Away));
            }
            Fate::Stray => {
                self.faults.count("statements that took effect after they were given up");
                let late = now + self.dice.between(10 * MS, 20 * SECOND);
                self.queue.put(late, effect(statement, false));
                let told = now + self.dice.pick(&[MS, patience]);
                self.queue.put(told, fails(Failure::Away));
            }
        }
    }

    fn fate(&mut self, server: usize, statement: &Statement) -> Fate {
        if self.calm {
            return Fate::Prompt;
        }
        let mute = self.servers[server].mute_until > self.queue.now();
        if mute && matches!(statement, Statement::Beat { .. }) {
            return Fate::Lost;
        }
        if self.servers[server].cut_until > self.queue.now() {
            return self.dice.pick(&[Fate::Lost, Fate::Lost, Fate::AnswerLost, Fate::Stray]);
        }
        if self.slow_until > self.queue.now() && self.dice.one_in(2) {
            return Fate::Slow;
        }
        let roll = self.dice.below(240 / self.storm);
        let lockable = matches!(statement, Statement::Renew(..) | Statement::Post(_));
        match (roll, statement) {
            (0, _) => Fate::Slow,
            (1, _) => Fate::Lost,
            (2, _) => Fate::AnswerLost,
            (3, _) => Fate::Stray,
            (4, _) if lockable => Fate::Refused(Failure::Locked),
            (5, Statement::Post(_)) => Fate::Refused(Failure::Passing),
            _ => Fate::Prompt,
        }
    }

    fn effect(&mut self, from: Place, ticket: u64, statement: Statement, answered: bool) {
        let (now, moment) = (self.queue.now(), self.database_time());
        let reads = matches!(statement, Statement::LoadKey(_) | Statement::TakeForeign(_));
        let cut = self.servers[from.server].cut_until > now;
        let reply = if self.down_until > now {
            Err(Failure::Away)
        } else {
            let dull = matches!(
                statement,
                Statement::Beat { .. } | Statement::TakeForeign(_) | Statement::Awaited(_)
            );
            let said = (!dull).then(|| statement.to_string());
            let posted = matches!(statement, Statement::Post(_) | Statement::Refund { .. });
            let leases = matches!(statement, Statement::Renew(..) | Statement::RemoveDead);
            let (reply, notices) = self.database.execute(statement, moment);
            if let Some(said) = said {
                let outcome = if reply.is_ok() { "" } else { ": refused" };
                let heard = if answered && !cut { "" } else { " (the answer is lost)" };
                self.note(format_args!("database, of {}: {said}{outcome}{heard}", from.server));
            }
            for notice in notices {
                self.announce(notice);
            }
            self.auditor.check_books(&self.database);
            if posted {
                self.check_promises();
            }
            if leases {
                self.auditor.check_cover(&self.database, moment);
                for server in 0..self.servers.len() {
                    self.check_leases(server);
                }
            }
            reply
        };
        if answered && !cut {
            let mut at = now + self.latency();
            // Reads more often: what is decided by them may be stale by then.
            let times = if reads { 15 } else { 120 / self.storm };
            if !self.calm && self.dice.one_in(times) {
                self.faults.count("answers that were slow");
                at += self.dice.between(5 * MS, 3 * SECOND);
            }
            self.queue.put(at, Event::Answer { at: from, ticket, reply });
        }
    }

    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// How long a message takes when nothing is wrong.
    pub fn latency(&mut self) -> Micros {
        self.dice.between(100, 2 * MS)
    }

    /// The database's clock.
    pub fn database_time(&self) -> DateTime<Utc> {
        self.epoch + TimeDelta::microseconds(self.queue.now() as i64)
    }

    /// This moment as the product's queues take it.
    pub fn instant(&self) -> tokio::time::Instant {
        self.origin + Duration::from_micros(self.queue.now())
    }

    pub fn at_instant(&self, instant: tokio::time::Instant) -> Micros {
        instant.duration_since(self.origin).as_micros() as Micros
    }

    pub fn is_broken(&self, rule: Mutation) -> bool {
        self.options.mutation == Some(rule)
    }

    pub fn note(&mut self, text: fmt::Arguments<'_>) {
        self.log.note(text);
    }
}

/// What becomes of a statement.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Prompt,
    Slow,
    /// The database answers that it cannot now.
    Refused(Failure),
    /// It never arrives.
    Lost,
    /// It takes effect, and the server does not hear of it.
    AnswerLost,
    /// The server gives up, and it takes effect later.
    Stray,
}

impl Event {
    /// The server that it happens at.
    fn place(&self) -> Option<Place> {
        match self {
            Self::Answer { at, .. }
            | Self::Timer { at, .. }
            | Self::Notice { at, .. }
            | Self::Call { at, .. } => Some(*at),
            _ => None,
        }
    }
}
