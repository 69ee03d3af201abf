//! What a run begins with, what goes wrong in it, and how it ends.

use chrono::TimeDelta;
use tollgate::{
    accounts::budgets::{Budget, Target, period::Period},
    authorization::{lifetime::Lifetime, pool::PoolKey},
    ids::{AccountId, BudgetId, InstanceId, KeyId},
};

use super::{Ask, Event, Server, World, clients::Work, server::Clocks};
use crate::{
    database::Funds,
    money::{Pico, UNIT, amount},
    queue::{MS, Micros, SECOND},
};

/// How long everybody has had nothing to do when all must have been given back: ten minutes until an
/// idle lease is, and as long as a dead server's promises may last.
const LONG_ENOUGH: Micros = 760 * SECOND;

impl World {
    pub fn furnish(&mut self) {
        let servers = self.dice.between(2, 4) as usize;
        for number in 0..servers {
            let clocks = Clocks {
                booted: self.dice.between(100 * SECOND, 1_000_000 * SECOND),
                fast_ppm: self.dice.between(0, 80_000) as i64 - 40_000,
                wall_ahead: TimeDelta::milliseconds(self.dice.below(20_000) as i64 - 10_000),
            };
            let nobody = InstanceId(self.dice.id(self.epoch));
            self.servers.push(Server::new(number, nobody, Lifetime::default(), clocks));
            self.queue.put(0, Event::Start { server: number });
        }
        self.clients.models = self.dice.between(1, 3) as usize;
        for model in 0..self.clients.models {
            let version = self.version(model);
            self.database.versions.push(version);
        }
        for _ in 0..self.dice.between(1, 3) {
            self.furnish_account();
        }
        self.clients.arrivals = self.options.steps;
        self.queue.put(SECOND, Event::Arrival);
        self.queue.put(2 * SECOND, Event::Mishap);
    }

    fn furnish_account(&mut self) {
        let account = AccountId(self.dice.id(self.epoch));
        let promotional = Pico::from(self.dice.pick(&[0, 0, 20])) * UNIT / 100;
        let most = self.dice.pick(&[60, 400]);
        let credits = Pico::from(self.dice.between(10, most)) * UNIT / 100;
        let net_30 = self.dice.one_in(3);
        let credit_limit = if net_30 { UNIT / 2 } else { 0 };
        let funds = Funds { promotional, credits, net_30, credit_limit, ..Funds::default() };
        self.auditor.opened(account, promotional + credits + credit_limit, credit_limit);
        self.database.funds.insert(account, funds);
        self.clients.accounts.push(account);
        let mut last = KeyId(self.dice.id(self.epoch));
        for _ in 0..self.dice.between(2, 6) {
            let key = KeyId(self.dice.id(self.epoch));
            last = key;
            self.database.keys.insert(key, (account, false));
            self.clients.keys.push((key, account));
        }
        for _ in 0..self.dice.below(3) {
            let budget_id = BudgetId(self.dice.id(self.epoch));
            let limit = Pico::from(self.dice.between(10, 200)) * UNIT / 100;
            let budget = Budget {
                budget_id,
                target: if self.dice.one_in(3) { Target::Key(last) } else { Target::Account },
                period: self.dice.pick(&[Period::Day, Period::Day, Period::Month, Period::Total]),
                hard: !self.dice.one_in(4),
                limit: amount(limit),
                created_at: self.epoch,
            };
            self.auditor.limited(budget_id, limit, budget.hard);
            self.database.budgets.insert((account, budget_id), budget);
            self.clients.budgets.push((account, budget_id));
        }
    }

    /// Something goes wrong.
    pub fn mishap(&mut self) {
        if self.calm {
            return;
        }
        let now = self.queue.now();
        let pause = self.dice.between(100 * MS, 6 * SECOND) / self.storm;
        self.queue.put(now + pause, Event::Mishap);
        let number = self.dice.below(self.servers.len() as u64) as usize;
        let long = self.dice.pick(&[300 * MS, 2 * SECOND, 9 * SECOND, 9 * SECOND, 70 * SECOND]);
        let span = self.dice.between(10 * MS, long);
        let server = &mut self.servers[number];
        let what = match self.dice.below(10) {
            0 => {
                if server.up {
                    self.crash(number, span);
                }
                "servers that crashed"
            }
            1 => {
                server.freeze(now + span);
                "servers that froze"
            }
            8 => {
                server.mute_until = now + 3 * span;
                "servers whose beats did not arrive"
            }
            2 | 3 => {
                server.cut_until = now + span;
                self.lose_listener(number, span + MS);
                "servers that were cut off"
            }
            4 => {
                server.deaf_until = now + span;
                "listeners that fell silent"
            }
            5 => {
                self.lose_listener(number, span);
                "listeners that lost their connection"
            }
            6 => {
                if server.up && !server.closing {
                    self.give_all_back(number);
                }
                "servers that were stopped"
            }
            7 => {
                self.down_until = now + span.min(3 * SECOND);
                self.slow_until = now + span;
                "databases that were restarted"
            }
            _ => {
                let jump = self.dice.below(60_000) as i64 - 30_000;
                self.servers[number].clocks.wall_ahead += TimeDelta::milliseconds(jump);
                "wall clocks that jumped"
            }
        };
        self.faults.count(what);
        self.note(format_args!("mishap: {what}: server {number}, {} ms", span / MS));
    }

    /// Nothing goes wrong any more; what is broken is mended.
    pub fn be_calm(&mut self) {
        let now = self.queue.now();
        self.calm = true;
        (self.down_until, self.slow_until) = (now, now);
        for number in 0..self.servers.len() {
            let server = &mut self.servers[number];
            (server.cut_until, server.deaf_until, server.mute_until) = (now, now, now);
            if server.up && !server.listening {
                self.lose_listener(number, 0);
            }
        }
        self.note(format_args!("nothing goes wrong from here on"));
        // By then whoever was frozen goes on, the last strays have arrived and every authorization has
        // ended.
        self.queue.put(now + 80 * SECOND, Event::Probe);
    }

    /// Each account that has funds must get a grant from each server.
    pub fn probe(&mut self) {
        let clients = self.clients.keys.clone();
        let (now, amount) = (self.database_time(), UNIT / 10);
        let mut seen = std::collections::BTreeSet::new();
        for (key, account) in clients {
            if self.database.keys[&key].1 || !seen.insert(account) {
                continue;
            }
            let here = self.database.budgets.iter().filter(|((of, _), _)| *of == account);
            let pools = here.map(|(_, budget)| PoolKey::Budget(budget.at(now)));
            let mut pools = pools.chain([PoolKey::Funds]);
            if !pools.all(|pool| self.database.available(account, pool) >= amount) {
                continue;
            }
            for server in 0..self.servers.len() {
                let ask =
                    Ask { key, request: None, model: 0, input: 100, output: 10, reducible: false };
                self.errand(Work::Probe { ask, server }, 0);
                self.faults.count("grants that had to be given");
            }
        }
        self.queue.put(self.queue.now() + LONG_ENOUGH, Event::End);
    }

    pub fn end(&mut self) {
        self.over = true;
        let waiting = self.clients.errands.iter().filter(|errand| !errand.done).count();
        if waiting > 0 {
            self.auditor.violate(format!("{waiting} clients still wait for an answer"));
        }
        if !self.calls.is_empty() {
            self.auditor.violate(format!("{} calls are still under way", self.calls.len()));
        }
        self.auditor.check_end(&self.database);
    }
}
