//! For how long a server's grants hold. Each server has its own setting: a grant carries its expiry
//! and its grace with it, and a server tells the database for how long its promises outlive it.

use std::time::Duration;

use super::limits;

/// For how long a server's grants hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// From the grant, or from its last extension, to its expiry.
    pub authorization: Duration,
    /// From the expiry until the reservation covers its usage no more.
    pub grace: Duration,
}

impl Lifetime {
    /// For how long after its last beat something that a server promised can be outstanding.
    #[must_use]
    pub const fn promise(self) -> Duration {
        self.authorization.saturating_add(self.grace)
    }
}

/// For how long something that any server promised can be outstanding, whatever its setting.
#[must_use]
pub const fn longest_promise() -> Duration {
    limits::LONGEST_AUTHORIZATION_LIFETIME.saturating_add(limits::LONGEST_SETTLEMENT_GRACE)
}

impl Default for Lifetime {
    fn default() -> Self {
        Self { authorization: limits::AUTHORIZATION_LIFETIME, grace: limits::SETTLEMENT_GRACE }
    }
}
