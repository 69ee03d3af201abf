//! The look at the leases, each second: what others settled, what has lapsed, what has drifted.

use tollgate::{authorization::limits, ids::AccountId, money::Amount};

use super::{Job, Timer, World};
use crate::{
    database::{Failure, Reply, Statement},
    money::amount,
    mutation::Mutation,
};

impl World {
    pub fn look_over(&mut self, number: usize) {
        self.set(number, limits::LEASE_TICK, Timer::LookOver);
        let server = &mut self.servers[number];
        if server.looking || server.draining {
            return;
        }
        server.looking = true;
        server.rounds += 1;
        let take = Statement::TakeForeign(server.instance);
        self.send(number, Job::Foreign, take, limits::ANSWER_PATIENCE);
    }

    pub fn foreign_read(&mut self, number: usize, reply: Result<Reply, Failure>) {
        let now = self.queue.now();
        let Ok(Reply::Foreign(settled)) = reply else {
            self.servers[number].looking = false;
            return;
        };
        let server = &mut self.servers[number];
        let (at, there) = (server.boot(now), server.database_time(now));
        for (account, id, charge) in settled {
            server.settle(account, id, amount(charge), at);
        }
        let free_again = self.options.mutation == Some(Mutation::LapsedIsFree);
        for (account, slot) in &mut server.slots {
            if free_again {
                let over =
                    slot.holdings.reservations().filter(|(_, one)| one.covered_until < there);
                let mut over: Vec<_> = over.map(|(id, _)| id).collect();
                over.sort_unstable();
                for id in over {
                    slot.holdings.settle(id, Amount::ZERO);
                    server.lapsed.push((*account, id));
                }
            }
            let lapsed = slot.holdings.lapse(there);
            server.lapsed.extend(lapsed.into_iter().map(|(id, _)| (*account, id)));
        }
        self.upkeep(number);
        let server = &mut self.servers[number];
        if server.lapsed.is_empty() {
            return self.looked_over(number);
        }
        let (lapsed, count) = (server.lapsed.clone(), server.lapsed.len());
        let keep = Statement::KeepUnsettled(lapsed);
        self.send(number, Job::Unsettled(count), keep, limits::ANSWER_PATIENCE);
    }

    fn upkeep(&mut self, number: usize) {
        let now = self.queue.now();
        let server = &mut self.servers[number];
        let (at, there) = (server.boot(now), server.database_time(now));
        let accounts: Vec<AccountId> = server.slots.keys().copied().collect();
        let mut needed = Vec::new();
        for account in accounts {
            let cached = server.keys.values().find(|(_, row)| row.account == account);
            let budgets = cached.map(|(_, row)| row.budgets.clone()).unwrap_or_default();
            let slot = server.slot(account);
            let needs = slot.needs_upkeep(at);
            if slot.prepare(&budgets, there, at) || needs {
                needed.push(account);
            } else if slot.retire(at) {
                server.slots.remove(&account);
            }
        }
        for account in needed {
            self.renew(number, account);
        }
    }

    pub fn unsettled_kept(&mut self, number: usize, count: usize, reply: Result<Reply, Failure>) {
        let server = &mut self.servers[number];
        if reply.is_err() {
            server.looking = false;
            return;
        }
        server.lapsed.drain(..count);
        self.looked_over(number);
    }

    fn looked_over(&mut self, number: usize) {
        let server = &mut self.servers[number];
        if server.rounds % limits::REMOVAL_ROUNDS == 1 {
            self.send(number, Job::RemoveDead, Statement::RemoveDead, limits::ANSWER_PATIENCE);
        } else {
            server.looking = false;
        }
    }
}
