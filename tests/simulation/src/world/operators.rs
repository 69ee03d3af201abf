//! What operators ask of a server, and the wait until a revocation is effective everywhere, as
//! `authorization/presence/everywhere.rs` has it.

use std::time::Duration;

use tollgate::{
    authorization::limits,
    ids::{AccountId, BudgetId, KeyId},
};

use super::{Answer, Job, Timer, World};
use crate::{
    catalog::Version,
    database::{Failure, Reply, Statement},
    money::Pico,
    mutation::Mutation,
    queue::Micros,
};

/// What an operator wants.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    Revoke(KeyId),
    TopUp { account: AccountId, operation: u64, amount: Pico },
    Refund { account: AccountId, operation: u64, amount: Pico },
    SetLimit { account: AccountId, budget: BudgetId, limit: Pico },
    Publish(Version),
}

/// How far an order has come.
#[derive(Debug, Clone, Copy)]
pub enum Stage {
    Write(Order),
    Barrier,
    Look(i64),
}

/// A revocation that waits for all servers.
pub struct Everywhere {
    pub since: Micros,
    pub pause: Duration,
}

impl World {
    pub fn operate(&mut self, call: u64, order: Order) {
        let number = self.server_of(call);
        let statement = match order {
            Order::Revoke(key) => Statement::Revoke(key),
            Order::TopUp { account, operation, amount } => {
                Statement::TopUp { account, operation, amount }
            }
            Order::Refund { account, operation, amount } => {
                // What this server does not use is the customer's to take.
                if let Some(slot) = self.servers[number].slots.get_mut(&account) {
                    slot.give_back = true;
                    self.renew(number, account);
                }
                Statement::Refund { account, operation, amount }
            }
            Order::SetLimit { account, budget, limit } => {
                Statement::SetLimit { account, budget, limit }
            }
            Order::Publish(version) => Statement::Publish(version),
        };
        let job = Job::Operate { call, stage: Stage::Write(order) };
        self.send(number, job, statement, limits::ANSWER_PATIENCE);
    }

    pub fn operated(&mut self, call: u64, stage: Stage, reply: Result<Reply, Failure>) {
        let number = match self.calls.get(&call) {
            Some(call) => call.at.server,
            None => return,
        };
        match (stage, reply) {
            (Stage::Write(order), Ok(reply)) => self.written(call, order, &reply),
            (Stage::Barrier, Ok(Reply::Barrier(barrier))) => {
                let everywhere = Everywhere { since: self.queue.now(), pause: limits::FIRST_LOOK };
                if let Some(call) = self.calls.get_mut(&call) {
                    call.everywhere = Some(everywhere);
                }
                self.set(number, limits::FIRST_LOOK, Timer::Look { call, number: barrier });
            }
            (Stage::Look(_), Ok(Reply::Awaited(0))) => self.respond(call, Answer::Confirmed),
            (Stage::Look(barrier), Ok(_)) => {
                let now = self.queue.now();
                let waiting = self.calls.get_mut(&call).and_then(|call| call.everywhere.as_mut());
                let Some(waiting) = waiting else { return };
                waiting.pause = (waiting.pause * 2).min(limits::LONGEST_LOOK);
                let (pause, waited) = (waiting.pause, Duration::from_micros(now - waiting.since));
                if waited >= limits::EVERYWHERE_WAIT {
                    return self.respond(call, Answer::Unavailable);
                }
                self.set(number, pause, Timer::Look { call, number: barrier });
            }
            _ => self.respond(call, Answer::Unavailable),
        }
    }

    /// The change is committed; this server knows before it answers.
    fn written(&mut self, call: u64, order: Order, reply: &Reply) {
        let number = self.server_of(call);
        let early = self.is_broken(Mutation::RevokedTooEarly);
        let server = &mut self.servers[number];
        match (order, reply) {
            (Order::Revoke(key), _) => {
                server.fence += 1;
                server.keys.remove(&key);
                if early {
                    return self.respond(call, Answer::Confirmed);
                }
                let job = Job::Operate { call, stage: Stage::Barrier };
                return self.send(number, job, Statement::Barrier, limits::ANSWER_PATIENCE);
            }
            (Order::TopUp { account, .. }, _) => {
                if let Some(slot) = server.slots.get_mut(&account) {
                    slot.forget_shortages();
                }
            }
            (Order::SetLimit { account, .. }, _) => {
                server.fence += 1;
                server.keys.retain(|_, (_, row)| row.account != account);
                if let Some(slot) = server.slots.get_mut(&account) {
                    slot.forget_shortages();
                    slot.give_back = true;
                    self.renew(number, account);
                }
            }
            (Order::Publish(_), _) => server.versions.clone_from(&self.database.versions),
            (Order::Refund { .. }, Reply::Refunded(false)) => {
                return self.respond(call, Answer::Refused);
            }
            (Order::Refund { .. }, _) => {}
        }
        self.respond(call, Answer::Confirmed);
    }

    pub fn look_whether_heard(&mut self, call: u64, barrier: i64) {
        let Some(number) = self.calls.get(&call).map(|call| call.at.server) else { return };
        let job = Job::Operate { call, stage: Stage::Look(barrier) };
        self.send(number, job, Statement::Awaited(barrier), limits::ANSWER_PATIENCE);
    }
}
