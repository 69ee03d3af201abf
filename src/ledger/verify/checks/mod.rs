//! The checks that are one statement each.

mod store;

pub(super) use store::{ALL, TRANSFERS_FOLLOW_THE_CHART};

/// A check in SQL.
pub(super) struct SqlCheck {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) statement: &'static str,
}
