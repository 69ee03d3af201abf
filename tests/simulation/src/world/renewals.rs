//! Rounds of renewal, as `authorization/renewing.rs` sends them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tollgate::{
    authorization::{
        lease::{PoolRenewal, PoolView, RenewedLease},
        limits,
    },
    ids::AccountId,
    money::Amount,
};

use super::{Job, Timer, World};
use crate::{
    database::{Failure, Reply, Statement},
    mutation::Mutation,
    queue::{MS, SECOND},
};

/// How soon a stopping server looks again whether it can end.
const MOMENT: Duration = Duration::from_millis(20);

type Round = Vec<(AccountId, Vec<PoolRenewal>)>;

impl World {
    /// Asks for a renewal in the background.
    pub fn renew(&mut self, number: usize, account: AccountId) {
        let server = &mut self.servers[number];
        if server.slot(account).queue() {
            server.renewals.push_back(account);
        }
        self.send_renewals(number);
    }

    pub fn send_renewals(&mut self, number: usize) {
        loop {
            let server = &mut self.servers[number];
            if server.renewing || server.draining {
                return;
            }
            let accounts: Vec<AccountId> = match server.alone.pop_front() {
                Some(account) => vec![account],
                None => {
                    let count = server.renewals.len().min(limits::RENEWAL_BATCH);
                    let taken: Vec<_> = server.renewals.drain(..count).collect();
                    taken.into_iter().filter(|account| server.slot(*account).taken()).collect()
                }
            };
            if accounts.is_empty() {
                if server.renewals.is_empty() {
                    return;
                }
                continue;
            }
            let round = self.begin(number, &accounts);
            if round.iter().all(|(_, renewals)| renewals.is_empty()) {
                self.end_round(number, &round, Ok(Vec::new()));
                continue;
            }
            self.servers[number].renewing = true;
            self.send_round(number, round, Job::Renew);
        }
    }

    pub fn begin(&mut self, number: usize, accounts: &[AccountId]) -> Round {
        let now = self.queue.now();
        let server = &mut self.servers[number];
        let at = server.boot(now);
        let mut round = Vec::with_capacity(accounts.len());
        for account in accounts {
            let mut sequence = server.sequence;
            let renewals = server.slot(*account).begin(*account, at, || {
                sequence += 1;
                sequence
            });
            server.sequence = sequence;
            round.push((*account, renewals));
        }
        round
    }

    pub fn send_round(&mut self, number: usize, round: Round, job: fn(Round) -> Job) {
        let asked: Vec<PoolRenewal> =
            round.iter().flat_map(|(_, renewals)| renewals.iter().copied()).collect();
        let pools: BTreeSet<_> = asked.iter().map(|one| (one.account, one.key)).collect();
        if pools.len() < asked.len() {
            self.auditor.violate(format!("server {number} renews a pool twice in one statement"));
        }
        let available = |one: &PoolRenewal| {
            ((one.account, one.key), self.database.available(one.account, one.key))
        };
        let before: BTreeMap<_, _> = asked.iter().map(available).collect();
        let statement = Statement::Renew(self.servers[number].instance, asked, before);
        self.send(number, job(round), statement, limits::ANSWER_PATIENCE);
    }

    pub fn renewed(&mut self, number: usize, round: Round, reply: Result<Reply, Failure>) {
        let server = &mut self.servers[number];
        server.renewing = false;
        let leases = match reply {
            Ok(Reply::Renewed(leases)) => Ok(leases),
            Err(Failure::Locked) => {
                for (account, renewals) in &round {
                    server.slot(*account).restore(renewals);
                }
                match round.as_slice() {
                    [(account, _)] => {
                        server.slot(*account).stand_in_line();
                        self.renew_in_line(number, *account);
                    }
                    several => {
                        server.alone.extend(several.iter().map(|(account, _)| *account));
                    }
                }
                return self.send_renewals(number);
            }
            _ => Err(()),
        };
        self.end_round(number, &round, leases);
        self.send_renewals(number);
    }

    fn renew_in_line(&mut self, number: usize, account: AccountId) {
        let round = self.begin(number, &[account]);
        if round.iter().all(|(_, renewals)| renewals.is_empty()) {
            return self.renewed_in_line(number, round, Ok(Reply::Renewed(Vec::new())));
        }
        self.send_round(number, round, Job::RenewInLine);
    }

    pub fn renewed_in_line(&mut self, number: usize, round: Round, reply: Result<Reply, Failure>) {
        let [(account, renewals)] = round.as_slice() else { unreachable!("it waits alone") };
        let server = &mut self.servers[number];
        let leases = match reply {
            Ok(Reply::Renewed(leases)) => Ok(leases),
            Err(Failure::Locked) => {
                server.slot(*account).restore(renewals);
                return self.renew_in_line(number, *account);
            }
            _ => Err(()),
        };
        self.end_round(number, &round, leases);
        self.servers[number].slot(*account).leave_line();
        self.renew(number, *account);
    }

    pub fn end_round(
        &mut self,
        number: usize,
        round: &Round,
        leases: Result<Vec<RenewedLease>, ()>,
    ) {
        let refused = self.is_broken(Mutation::LostIsRefused);
        let now = self.queue.now();
        let server = &mut self.servers[number];
        let at = server.boot(now);
        let failed = leases.is_err();
        let answers = leases.unwrap_or_default().into_iter();
        let mut answers: BTreeMap<_, _> =
            answers.map(|lease| ((lease.account, lease.key), lease)).collect();
        for (account, renewals) in round {
            let slot = server.slot(*account);
            for asked in renewals {
                let answer = match answers.remove(&(*account, asked.key)) {
                    None if failed && refused => {
                        let leased = slot.holdings.pool_mut(asked.key).leased();
                        Some(refused_answer(asked, leased))
                    }
                    answer => answer,
                };
                if let Some(answer) = answer {
                    slot.end(asked, answer, at);
                }
            }
            if !failed || refused {
                slot.ended();
            } else {
                slot.lost();
            }
        }
        for (account, _) in round {
            self.round_ended(number, *account);
        }
    }

    /// A stopping server takes no calls, answers those that it has, and then gives back what is free
    /// and keeps what is outstanding.
    pub fn give_all_back(&mut self, number: usize) {
        let server = &mut self.servers[number];
        server.closing = true;
        let at = server.place();
        if server.renewing || self.calls.values().any(|call| call.at == at) {
            return self.set(number, MOMENT, Timer::GiveBack);
        }
        server.draining = true;
        // Their connections are given up.
        server.jobs.retain(|_, job| !matches!(job, Job::RenewInLine(_)));
        let accounts: Vec<AccountId> = server.slots.keys().copied().collect();
        for account in &accounts {
            server.slot(*account).give_back = true;
        }
        let round = self.begin(number, &accounts);
        self.send_round(number, round, Job::GiveBack);
    }

    pub fn given_back(&mut self, number: usize, round: &Round, reply: Result<Reply, Failure>) {
        let leases = match reply {
            Ok(Reply::Renewed(leases)) => Ok(leases),
            _ => Err(()),
        };
        self.end_round(number, round, leases);
        let server = &mut self.servers[number];
        for (account, slot) in &server.slots {
            let mut held: Vec<_> = slot.holdings.reservations().map(|(id, _)| id).collect();
            held.sort_unstable();
            server.lapsed.extend(held.into_iter().map(|id| (*account, id)));
        }
        let lapsed = Statement::KeepUnsettled(server.lapsed.clone());
        self.send(number, Job::SignOff, lapsed, limits::ANSWER_PATIENCE);
    }

    pub fn signed_off(&mut self, number: usize, reply: Result<Reply, Failure>) {
        if reply.is_err() {
            self.auditor.forgot(self.servers[number].instance);
            return self.stopped(number);
        }
        let stop = Statement::Stop(self.servers[number].instance);
        self.send(number, Job::Stop, stop, limits::ANSWER_PATIENCE);
    }

    /// The process ends when what is queued is written.
    pub fn stopped(&mut self, number: usize) {
        let shards = &self.servers[number].shards;
        if shards.iter().any(|shard| shard.busy || !shard.lanes.is_empty()) {
            return self.set(number, MOMENT, Timer::Exit);
        }
        let away = self.dice.between(100 * MS, 5 * SECOND);
        self.leave(number, away);
    }
}

/// As if nothing had happened: what was given back is free again.
fn refused_answer(asked: &PoolRenewal, leased: Amount) -> RenewedLease {
    let kept = asked.renewal.kept;
    let back = if asked.renewal.give_back { leased.minus_to_zero(kept) } else { Amount::ZERO };
    RenewedLease {
        account: asked.account,
        key: asked.key,
        lost: false,
        base: leased.minus_to_zero(back),
        granted: back,
        recalled: false,
        reached: false,
        view: PoolView::default(),
    }
}
