//! Rules that can be broken, one at a time, to see that the simulation notices.

macro_rules! mutations {
    ($($(#[doc = $what:literal])* $name:ident),* $(,)?) => {
        /// A rule of the product or of the database that a run does without.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutation { $($(#[doc = $what])* $name),* }

        impl Mutation {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What is done without the rule.
            pub fn what(self) -> &'static str {
                match self { $(Self::$name => concat!($($what),*).trim_ascii()),* }
            }
        }
    };
}

mutations! {
    /// a lapsed reservation is free again
    LapsedIsFree,
    /// the amount of a cancelled request is free before the commit
    CancelledBeforeCommit,
    /// usage is answered before its commit
    AnsweredBeforeCommit,
    /// an older renewal is accepted
    OlderRenewalAccepted,
    /// a renewal is computed from what was read before the lock
    GrantedWithoutLock,
    /// a lease shrinks by what has lapsed before the cover has ended
    ShrunkTooEarly,
    /// cover is judged by when the usage was sent, not under the lock
    CoverJudgedTooEarly,
    /// a duplicate is posted again
    DuplicatesPosted,
    /// a duplicate's charge is answered from what was sent, not from what is stored
    DuplicateAnsweredAnew,
    /// usage is rated at the price of the day, not at the authorized one
    PriceOfTheDay,
    /// what another server settled is not counted in the budgets
    ForeignNotBudgeted,
    /// usage counts in the period in which it is posted
    PeriodOfPosting,
    /// a revocation returns without waiting for the other servers
    RevokedTooEarly,
    /// a row that was read before a change is kept in memory
    StaleRowKept,
    /// a server authorizes without regard to its deadline
    NoDeadline,
    /// a request is not asked again, right before it is held, whether its server may authorize
    NotAskedAgain,
    /// a dead server's leases are removed at once
    DeadRemovedAtOnce,
    /// a removed server may lease again
    RemovedNotRefused,
    /// what was given back with a renewal whose answer was lost is free again
    LostIsRefused,
    /// a refund does not look at what is leased
    RefundOfLeased,
    /// dead servers are never removed
    DeadNeverRemoved,
}
