//! The protocol's steps, each as the Rust or the SQL takes it, and what must hold after every one.

use stateright::{Model, Property};

use crate::rules::{Rules, Scene};
use crate::state::{Answer, COVER, Post, REQUESTS, Renewal, SERVERS, Server, State, TTL, Token};

/// The property that everything is about.
pub const NO_OVERSPEND: &str = "covered charges never exceed the funds";
/// What each server counts on is leased to it.
pub const BACKED: &str = "free + outstanding never exceed the lease";
/// Nothing is leased to a server that was removed for dead.
pub const STAYS_REMOVED: &str = "a removed server has no lease";

/// The protocol under some rules, in some scene.
pub struct Leases {
    pub rules: Rules,
    pub scene: Scene,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The database's time goes on.
    Tick,
    /// A beat that was sent so long ago takes effect and is answered.
    Beat { server: usize, age: u8 },
    /// A request is authorized.
    Reserve { request: usize, server: usize },
    /// An authorization is raised and its expiry moved.
    Extend { request: usize, server: usize },
    /// A server sends a renewal.
    Renew { server: usize, need: u8, give_back: bool },
    /// A renewal commits: the one that is waited for, or the stray one.
    Renewed { server: usize, stray: bool },
    /// The server hears the answer.
    RenewalAnswered { server: usize },
    /// The server waits no longer.
    RenewalGivenUp { server: usize },
    /// A caller reports usage, or cancels with a charge of zero, at any server.
    Send { request: usize, token: usize, server: usize, charge: u8 },
    /// A posting commits.
    Commit { request: usize, post: usize },
    /// The server hears that, and what was charged.
    Committed { request: usize, post: usize },
    /// A server reads what others settled of its grants.
    ReadForeign { server: usize },
    /// A server lets an expired reservation go.
    Lapse { request: usize, server: usize },
    /// A server's memory is gone.
    Crash { server: usize },
    /// A server that was not heard of for long enough is removed, by anyone.
    Remove { server: usize },
}

impl Model for Leases {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.scene.funds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < self.scene.end {
            actions.push(Action::Tick);
        }
        for server in 0..SERVERS {
            self.server_actions(state, server, actions);
        }
        for request in 0..REQUESTS {
            self.request_actions(state, request, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Tick => next.now += 1,
            Action::Beat { server, age } => beat(&mut next, server, age),
            Action::Reserve { request, server } => self.reserve(&mut next, request, server),
            Action::Extend { request, server } => extend(&mut next, request, server),
            Action::Renew { server, need, give_back } => {
                self.renew(&mut next, server, need, give_back);
            }
            Action::Renewed { server, stray } => self.renewed(&mut next, server, stray),
            Action::RenewalAnswered { server } => self.answered(&mut next, server),
            Action::RenewalGivenUp { server } => {
                let server = &mut next.servers[server];
                server.stray = server.renewal.take().filter(|renewal| renewal.answer.is_none());
            }
            Action::Send { request, token, server, charge } => {
                self.send(&mut next, request, token, server, charge);
            }
            Action::Commit { request, post } => self.commit(&mut next, request, post),
            Action::Committed { request, post } => committed(&mut next, request, post),
            Action::ReadForeign { server } => read_foreign(&mut next, server),
            Action::Lapse { request, server } => self.lapse(&mut next, request, server),
            Action::Crash { server } => crash(&mut next, server),
            Action::Remove { server } => {
                next.servers[server].leased = 0;
                next.servers[server].removed = true;
            }
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NO_OVERSPEND, |model: &Self, state: &State| {
                i16::from(state.covered) <= i16::from(model.scene.funds)
            }),
            Property::always(BACKED, |_, state: &State| {
                (0..SERVERS).all(|index| {
                    let server = &state.servers[index];
                    server.removed || server.free + state.outstanding(index) <= server.leased
                })
            }),
            Property::always(STAYS_REMOVED, |_, state: &State| {
                state.servers.iter().all(|server| !server.removed || server.leased == 0)
            }),
            // So that a scene that cannot get anywhere does not pass for a safe one.
            Property::sometimes("all funds are spent", |model: &Self, state: &State| {
                i16::from(state.covered) == i16::from(model.scene.funds)
            }),
        ]
    }
}

impl Leases {
    fn server_actions(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let server = &state.servers[index];
        if let Some(renewal) = &server.renewal {
            if renewal.answer.is_none() {
                actions.push(Action::Renewed { server: index, stray: false });
            } else {
                actions.push(Action::RenewalAnswered { server: index });
            }
            if self.scene.strays {
                actions.push(Action::RenewalGivenUp { server: index });
            }
        }
        if server.stray.is_some() {
            actions.push(Action::Renewed { server: index, stray: true });
        }
        let mortal = index < self.scene.mortals;
        if mortal && !server.removed && state.now > self.death(server.heard_at) {
            actions.push(Action::Remove { server: index });
        }
        if server.crashed {
            return;
        }
        self.renewals(state, index, actions);
        if state.requests.iter().any(|request| request.foreign == Some(index)) {
            actions.push(Action::ReadForeign { server: index });
        }
        if mortal {
            actions.push(Action::Crash { server: index });
            actions.extend((0..=1.min(state.now)).map(|age| Action::Beat { server: index, age }));
        }
    }

    fn may_authorize(&self, state: &State, index: usize) -> bool {
        let server = &state.servers[index];
        let heard_of = index >= self.scene.mortals
            || !self.rules.heartbeat_deadline
            || !server.knows && state.now <= server.deadline;
        heard_of && !server.crashed
    }

    /// The last moment at which a server that was heard of then is not taken for dead.
    fn death(&self, heard_at: u8) -> u8 {
        heard_at + TTL + if self.rules.dead_leases_stay { COVER } else { 0 }
    }

    fn renewals(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let server = &state.servers[index];
        // The servers are alike: the first to lease is the first one.
        let untouched = Server { deadline: TTL, ..Server::default() };
        let turn = index == 0 || self.scene.mortals == 1 || state.servers[0] != untouched;
        if server.renewal.is_some() || !turn {
            return;
        }
        let waiting = state.requests.iter().zip(self.scene.amounts);
        let most = waiting.filter(|(request, _)| request.tokens[1].is_none()).map(|(_, most)| most);
        let most = most.max().unwrap_or(0).saturating_sub(server.free);
        let drifted = server.leased > server.free + state.outstanding(index);
        let least = u8::from(!drifted);
        actions.extend((least..=most).map(|need| Action::Renew {
            server: index,
            need,
            give_back: false,
        }));
        if self.scene.gives_back && server.free > 0 {
            actions.push(Action::Renew { server: index, need: 0, give_back: true });
        }
    }

    fn request_actions(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let request = &state.requests[index];
        let amount = self.scene.amounts[index];
        for server in 0..SERVERS {
            if request.held[server] > 0 && self.seems_expired(state, index, server) {
                actions.push(Action::Lapse { request: index, server });
            }
            let allowed = self.may_authorize(state, server);
            let free = state.servers[server].free;
            // Requests alike come in their order.
            let turn = index == 0
                || self.scene.amounts[index - 1] != amount
                || state.requests[index - 1].tokens[0].is_some();
            match request.newest() {
                None if allowed && turn && free >= amount => {
                    actions.push(Action::Reserve { request: index, server });
                }
                Some(token)
                    if allowed
                        && index < self.scene.extensions
                        && request.tokens[1].is_none()
                        && state.now <= token.covered_until =>
                {
                    let rise = amount + 1 - request.held[server];
                    let issued_here = token.issuer == server;
                    if free >= rise && (!issued_here || request.held[server] > 0) {
                        actions.push(Action::Extend { request: index, server });
                    }
                }
                _ => {}
            }
            if !state.servers[server].crashed && request.sent < self.scene.posts[index] {
                self.sends(state, index, server, actions);
            }
        }
        for (post, under_way) in request.posts.iter().enumerate() {
            match under_way {
                Some(Post { committed: false, .. }) => {
                    actions.push(Action::Commit { request: index, post });
                }
                Some(Post { committed: true, .. }) => {
                    actions.push(Action::Committed { request: index, post });
                }
                None => {}
            }
        }
    }

    fn seems_expired(&self, state: &State, request: usize, server: usize) -> bool {
        let mut tokens = state.requests[request].tokens.iter().flatten();
        tokens
            .rfind(|token| token.issuer == server)
            .is_some_and(|token| state.now + self.scene.fast > token.covered_until)
    }

    fn sends(&self, state: &State, request: usize, server: usize, actions: &mut Vec<Action>) {
        for (token, grant) in state.requests[request].tokens.iter().enumerate() {
            let Some(Token { amount, .. }) = *grant else { continue };
            let mut charges = vec![amount];
            if self.scene.other_charges {
                charges.push(amount + 1);
                if amount > 1 {
                    charges.push(amount - 1);
                }
            }
            if self.scene.cancels {
                charges.push(0);
            }
            actions.extend(charges.iter().map(|&charge| Action::Send {
                request,
                token,
                server,
                charge,
            }));
        }
    }

    fn reserve(&self, state: &mut State, request: usize, server: usize) {
        let amount = self.scene.amounts[request];
        state.servers[server].free -= amount;
        let request = &mut state.requests[request];
        request.held[server] = amount;
        request.tokens[0] =
            Some(Token { issuer: server, amount, covered_until: state.now + COVER });
    }

    fn renew(&self, state: &mut State, index: usize, need: u8, give_back: bool) {
        let outstanding = state.outstanding(index);
        let server = &mut state.servers[index];
        let given_back = if give_back { server.free } else { 0 };
        let kept = server.free - given_back + outstanding;
        if self.rules.given_back_is_gone {
            server.free -= given_back;
        }
        server.renewal = Some(Renewal {
            kept,
            need,
            not_before: server.lapsed_until,
            given_back,
            overtaken: false,
            answer: None,
        });
    }

    /// `renew_leases`, under the lock of the account's row.
    fn renewed(&self, state: &mut State, index: usize, stray: bool) {
        let (now, available) = (state.now, state.available());
        let server = &mut state.servers[index];
        let renewal = if stray { server.stray.clone() } else { server.renewal.clone() };
        let Some(mut renewal) = renewal else { return };
        let overtaken = renewal.overtaken && self.rules.renewals_in_sequence;
        let answer = if server.removed && self.rules.removed_is_refused {
            Answer::Refused
        } else if overtaken || renewal.kept > server.leased {
            Answer::Lost
        } else {
            let early = self.rules.shrinking_judged_under_lock
                && renewal.not_before.is_some_and(|moment| now <= moment);
            let base = if early { server.leased } else { renewal.kept };
            let room = (available + server.leased as i8 - base as i8).max(0) as u8;
            let amount = renewal.need.min(room);
            server.leased = base + amount;
            if let (false, Some(older)) = (stray, &mut server.stray) {
                older.overtaken = true;
            }
            Answer::Granted { amount, shrunk: base <= renewal.kept }
        };
        if stray {
            server.stray = None;
        } else {
            renewal.answer = Some(answer);
            server.renewal = Some(renewal);
        }
    }

    fn answered(&self, state: &mut State, index: usize) {
        let server = &mut state.servers[index];
        let Some(renewal) = server.renewal.take() else { return };
        if !self.rules.given_back_is_gone {
            server.free = server.free.saturating_sub(renewal.given_back);
        }
        match renewal.answer {
            Some(Answer::Granted { amount, shrunk }) => {
                server.free += amount;
                if shrunk && server.lapsed_until <= renewal.not_before {
                    server.lapsed_until = None;
                }
            }
            Some(Answer::Lost) => {
                server.free = 0;
                server.lapsed_until = None;
            }
            Some(Answer::Refused) | None => {}
        }
    }

    fn send(&self, state: &mut State, index: usize, token: usize, server: usize, charge: u8) {
        if charge == 0 && !self.rules.cancel_after_commit {
            settle(state, index, server, 0);
        }
        let sent_at = if self.rules.posting_judged_under_lock { 0 } else { state.now };
        let request = &mut state.requests[index];
        request.sent += 1;
        let post = Post { server, token, charge, sent_at, committed: false };
        let place = usize::from(request.posts[0].is_some());
        request.posts[place] = Some(post);
    }

    /// `post_usage`, under the lock of the account's row.
    fn commit(&self, state: &mut State, index: usize, post: usize) {
        let now = state.now;
        let request = &mut state.requests[index];
        let Some(post) = &mut request.posts[post] else { return };
        let Some(token) = &request.tokens[post.token] else { return };
        post.committed = true;
        if request.charged.is_some() {
            return;
        }
        request.charged = Some(post.charge);
        let judged_at = if self.rules.posting_judged_under_lock { now } else { post.sent_at };
        if token.covered_until >= judged_at {
            state.covered += post.charge.min(token.amount);
        }
        state.balance -= post.charge as i8;
        request.foreign = (token.issuer != post.server).then_some(token.issuer);
    }

    fn lapse(&self, state: &mut State, index: usize, server: usize) {
        let request = &mut state.requests[index];
        let held = std::mem::take(&mut request.held[server]);
        let issued = request.tokens.iter().flatten().filter(|token| token.issuer == server);
        let covered_until = issued.map(|token| token.covered_until).max();
        let server = &mut state.servers[server];
        if self.rules.expired_is_not_free {
            server.lapsed_until = server.lapsed_until.max(covered_until);
        } else {
            server.free += held;
        }
    }
}

fn beat(state: &mut State, index: usize, age: u8) {
    let server = &mut state.servers[index];
    if server.removed {
        server.knows = true;
    } else {
        server.heard_at = state.now;
        server.deadline = server.deadline.max(state.now - age + TTL);
    }
}

/// On the issuer by the rise alone, elsewhere by the whole new amount.
fn extend(state: &mut State, index: usize, server: usize) {
    let request = &mut state.requests[index];
    let Some(amount) = request.newest().map(|token| token.amount + 1) else { return };
    state.servers[server].free -= amount - request.held[server];
    request.held[server] = amount;
    request.tokens[1] = Some(Token { issuer: server, amount, covered_until: state.now + COVER });
}

/// The answer to a posting: what the reservation did not need is free, by what memory holds.
fn committed(state: &mut State, index: usize, post: usize) {
    let request = &mut state.requests[index];
    let Some(post) = request.posts[post].take() else { return };
    if request.posts[0].is_none() {
        request.posts.swap(0, 1);
    }
    let Some(charged) = request.charged else { return };
    settle(state, index, post.server, charged);
}

fn settle(state: &mut State, index: usize, server: usize, charge: u8) {
    let held = std::mem::take(&mut state.requests[index].held[server]);
    state.servers[server].free += held.saturating_sub(charge);
}

fn read_foreign(state: &mut State, server: usize) {
    for index in 0..REQUESTS {
        let request = &mut state.requests[index];
        if request.foreign == Some(server) {
            request.foreign = None;
            let charged = request.charged.unwrap_or(0);
            settle(state, index, server, charged);
        }
    }
}

/// What is under way to the database stays under way.
fn crash(state: &mut State, index: usize) {
    let server = &mut state.servers[index];
    let under_way = server.renewal.take().filter(|renewal| renewal.answer.is_none());
    let database = (server.leased, server.heard_at, server.removed);
    *server =
        Server { crashed: true, stray: under_way.or(server.stray.take()), ..Server::default() };
    (server.leased, server.heard_at, server.removed) = database;
    for request in &mut state.requests {
        request.held[index] = 0;
    }
}
