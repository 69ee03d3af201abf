//! What a moment of the protocol consists of: the database, two servers' memories, and the
//! statements that are under way between them.
//!
//! Amounts and times are small whole numbers. Whatever could grow without end is kept as what
//! matters of it: a renewal's sequence number as whether a newer one has taken effect before it.

/// The servers that share the pool.
pub const SERVERS: usize = 2;
/// The requests that are authorized and settled.
pub const REQUESTS: usize = 3;
/// For how long after a beat was sent a server may authorize.
pub const TTL: u8 = 1;
/// For how long an authorization is covered, from its grant or its extension.
pub const COVER: u8 = 1;

/// Everything there is at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The database's time.
    pub now: u8,
    /// What the account has, before what is leased of it; below zero when overdrawn.
    pub balance: i8,
    /// The sum of charges that the database took as covered by their authorization.
    pub covered: u8,
    pub servers: [Server; SERVERS],
    pub requests: [Request; REQUESTS],
}

/// A server: its row and its lease in the database, its memory, and its renewals under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Server {
    /// In the database: what is leased to it.
    pub leased: u8,
    /// In the database: when its last beat arrived.
    pub heard_at: u8,
    /// In the database: it was removed for dead.
    pub removed: bool,
    /// Its memory is gone and it does nothing any more.
    pub crashed: bool,
    /// It has heard that it was removed.
    pub knows: bool,
    /// Until when it may authorize.
    pub deadline: u8,
    /// What can be reserved at once.
    pub free: u8,
    /// The lease must not shrink by what has lapsed before the database's time is past this.
    pub lapsed_until: Option<u8>,
    /// The renewal whose answer it waits for.
    pub renewal: Option<Renewal>,
    /// A renewal that it has given up on and that may still reach the database.
    pub stray: Option<Renewal>,
}

/// A renewal under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Renewal {
    pub kept: u8,
    pub need: u8,
    pub not_before: Option<u8>,
    /// What was free and is given back with it.
    pub given_back: u8,
    /// A newer one has taken effect before it.
    pub overtaken: bool,
    /// The database's answer, once there is one.
    pub answer: Option<Answer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The lease covers what was to be kept, and so much more; and whether it shrank to that.
    Granted { amount: u8, shrunk: bool },
    /// The database no longer has this lease.
    Lost,
    /// The server was removed for dead.
    Refused,
}

/// A request to the model provider, from its authorization to its settlement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// The token of the authorization, then that of its extension.
    pub tokens: [Option<Token>; 2],
    /// What each server's memory holds for it.
    pub held: [u8; SERVERS],
    /// What the database has charged for it, once its event is there.
    pub charged: Option<u8>,
    /// The issuer that has not read yet that another server settled this.
    pub foreign: Option<usize>,
    /// Postings of its usage that are under way.
    pub posts: [Option<Post>; 2],
    /// How many of them were ever sent.
    pub sent: u8,
}

/// A signed grant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token {
    pub issuer: usize,
    pub amount: u8,
    pub covered_until: u8,
}

/// A posting under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Post {
    pub server: usize,
    /// Which of the request's tokens the caller sent with it.
    pub token: usize,
    pub charge: u8,
    /// When it was sent; kept only where a switched-off rule judges by it.
    pub sent_at: u8,
    /// It is committed, and the server does not know yet.
    pub committed: bool,
}

impl State {
    /// An account with these funds, and two servers that have just beaten.
    pub fn new(funds: i8) -> Self {
        Self {
            now: 0,
            balance: funds,
            covered: 0,
            servers: std::array::from_fn(|_| Server { deadline: TTL, ..Server::default() }),
            requests: std::array::from_fn(|_| Request::default()),
        }
    }

    /// What no server has leased and nobody has spent.
    pub fn available(&self) -> i8 {
        self.balance - self.servers.iter().map(|server| server.leased as i8).sum::<i8>()
    }

    /// What a server's memory holds for requests.
    pub fn outstanding(&self, server: usize) -> u8 {
        self.requests.iter().map(|request| request.held[server]).sum()
    }
}

impl Request {
    /// The newest token, that of the extension if there was one.
    pub fn newest(&self) -> Option<&Token> {
        self.tokens[1].as_ref().or(self.tokens[0].as_ref())
    }
}
