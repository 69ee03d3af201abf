//! Beats, barriers and announcements, as `authorization/presence` and the listener do it.

use std::time::Duration;

use tollgate::{
    authorization::{lifetime::Lifetime, limits},
    ids::InstanceId,
};

use super::{Event, Job, Server, Timer, World, server::Trip};
use crate::{
    database::{Beat, Failure, Notice, Reply, Statement},
    queue::{MS, SECOND},
};

impl World {
    /// A server begins with nothing in memory, under a new id.
    pub fn start(&mut self, number: usize) {
        let old = &self.servers[number];
        if old.up {
            return;
        }
        let (incarnation, clocks, cut) = (old.incarnation + 1, old.clocks, old.cut_until);
        let instance = InstanceId(self.dice.id(self.database_time()));
        let lifetime = Lifetime {
            authorization: Duration::from_secs(self.dice.between(3, 25)),
            grace: Duration::from_secs(self.dice.between(1, 6)),
        };
        let mut server = Server::new(number, instance, lifetime, clocks);
        (server.incarnation, server.cut_until, server.up) = (incarnation, cut, true);
        self.servers[number] = server;
        self.note(format_args!("server {number} starts"));
        let promises_for = lifetime.promise();
        let register = Statement::Register { instance, promises_for };
        self.send(number, Job::Register, register, limits::ANSWER_PATIENCE);
    }

    pub fn registered(&mut self, number: usize, reply: Result<Reply, Failure>) {
        let Ok(Reply::Registered(heard)) = reply else { return self.crash(number, SECOND) };
        let versions = self.database.versions.clone();
        let server = &mut self.servers[number];
        server.heard = heard;
        server.listening = true;
        server.versions = versions;
        self.set(number, Duration::ZERO, Timer::Beat);
        self.set(number, limits::LEASE_TICK, Timer::LookOver);
    }

    /// Its memory is gone.
    pub fn crash(&mut self, number: usize, away: u64) {
        self.auditor.forgot(self.servers[number].instance);
        self.leave(number, away);
    }

    /// Its process ends and another begins.
    pub fn leave(&mut self, number: usize, away: u64) {
        let server = &mut self.servers[number];
        (server.up, server.listening) = (false, false);
        let gone = server.place();
        self.calls.retain(|_, call| call.at != gone);
        self.note(format_args!("server {number} is gone"));
        let at = self.queue.now() + away;
        self.queue.put(at, Event::Start { server: number });
    }

    pub fn beat_due(&mut self, number: usize) {
        self.set(number, limits::HEARTBEAT_INTERVAL, Timer::Beat);
        self.beat(number);
    }

    /// There is something to say, or it is time to.
    fn beat(&mut self, number: usize) {
        let now = self.queue.now();
        let server = &mut self.servers[number];
        if server.beating {
            server.beat_again = true;
            return;
        }
        server.beating = true;
        let sent = server.boot(now);
        let beat = Statement::Beat { instance: server.instance, heard: server.heard };
        self.send(number, Job::Beat { sent }, beat, limits::ANSWER_PATIENCE);
    }

    pub fn beat_answered(&mut self, number: usize, sent: Duration, reply: Result<Reply, Failure>) {
        let trip = Trip { sent, received: self.servers[number].boot(self.queue.now()) };
        match reply {
            Ok(Reply::Beat(Some(beat))) if beat.barrier > self.servers[number].heard => {
                self.servers[number].catching_up = Some((trip, beat));
                self.set(number, limits::LISTENER_CATCHES_UP, Timer::CaughtUp { trip, beat });
            }
            Ok(Reply::Beat(Some(beat))) => self.end_beat(number, trip, beat, false),
            Ok(Reply::Beat(None)) => {
                self.servers[number].heartbeat.removed();
                self.note(format_args!("server {number} was removed for dead"));
                self.crash(number, SECOND / 2);
            }
            _ => self.beaten(number),
        }
    }

    /// The listener has had its time.
    pub fn caught_up(&mut self, number: usize, trip: Trip, beat: Beat) {
        let server = &mut self.servers[number];
        if server.catching_up.is_some_and(|(of, _)| of == trip) {
            server.catching_up = None;
            self.end_beat(number, trip, beat, true);
        }
    }

    fn end_beat(&mut self, number: usize, trip: Trip, beat: Beat, behind: bool) {
        let now = self.queue.now();
        let server = &mut self.servers[number];
        if behind || !server.allows(now) {
            server.forget_all();
            if beat.barrier > server.heard {
                server.heard = beat.barrier;
                server.beat_again = true;
            }
        }
        server.known = true;
        server.heartbeat.answered(trip.sent, trip.received, beat.at);
        self.beaten(number);
    }

    fn beaten(&mut self, number: usize) {
        let server = &mut self.servers[number];
        server.beating = false;
        if std::mem::take(&mut server.beat_again) {
            self.beat(number);
        }
    }

    /// Tells whoever listens, in the order of the commits.
    pub fn announce(&mut self, notice: Notice) {
        for number in 0..self.servers.len() {
            let (now, latency) = (self.queue.now(), self.latency());
            let server = &mut self.servers[number];
            if !server.up {
                continue;
            }
            if !server.listening {
                self.faults.count("announcements that were lost");
                continue;
            }
            if server.cut_until > now {
                self.faults.count("announcements that were lost");
                continue;
            }
            if server.deaf_until > now {
                self.faults.count("announcements that were late");
            }
            // A connection that falls silent brings all of it later, in order, or is lost.
            let soonest = (now + latency).max(server.deaf_until);
            server.announced_at = (server.announced_at + 1).max(soonest);
            let (at, link, due) = (server.place(), server.link, server.announced_at);
            self.queue.put(due, Event::Notice { at, link, notice });
        }
    }

    pub fn notice(&mut self, number: usize, link: u32, notice: Notice) {
        let boot = self.servers[number].boot(self.queue.now());
        let server = &mut self.servers[number];
        if link != server.link {
            return;
        }
        match notice {
            Notice::Key(key) => {
                server.fence += 1;
                server.keys.remove(&key);
            }
            Notice::Budgets(account) => {
                server.fence += 1;
                server.keys.retain(|_, (_, row)| row.account != account);
                if let Some(slot) = server.slots.get_mut(&account) {
                    slot.forget_shortages();
                    slot.give_back = true;
                    self.renew(number, account);
                }
            }
            Notice::Funds(account) => {
                if let Some(slot) = server.slots.get_mut(&account) {
                    slot.forget_shortages();
                }
            }
            Notice::Prices => server.versions.clone_from(&self.database.versions),
            Notice::Barrier(barrier) => self.heard(number, barrier),
            Notice::Recall(account, by) if by != server.instance => {
                if let Some(slot) = server.slots.get_mut(&account) {
                    slot.recalled(boot);
                    self.renew(number, account);
                }
            }
            Notice::Recall(..) => {}
        }
    }

    fn heard(&mut self, number: usize, barrier: i64) {
        let server = &mut self.servers[number];
        if barrier <= server.heard {
            return;
        }
        server.heard = barrier;
        if let Some((trip, beat)) = server.catching_up.filter(|(_, beat)| beat.barrier <= barrier) {
            server.catching_up = None;
            server.beat_again = true;
            self.end_beat(number, trip, beat, false);
        } else {
            self.beat(number);
        }
    }

    /// The listener lost its connection and has another after a while.
    pub fn lose_listener(&mut self, number: usize, away: u64) {
        let server = &mut self.servers[number];
        (server.listening, server.link) = (false, server.link + 1);
        let link = server.link;
        self.set(number, Duration::from_micros(away), Timer::Listen { link });
    }

    /// Listens first, then forgets everything.
    pub fn listen(&mut self, number: usize, link: u32) {
        let now = self.queue.now();
        let server = &mut self.servers[number];
        if server.link != link {
            return;
        }
        if server.cut_until > now || self.down_until > now {
            let again = Duration::from_micros(100 * MS);
            return self.set(number, again, Timer::Listen { link });
        }
        server.listening = true;
        server.forget_all();
        server.versions.clone_from(&self.database.versions);
    }
}
