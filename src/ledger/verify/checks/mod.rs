//! The checks that are one statement each: of the ledger, and of what was billed from it.

/// A check in SQL.
pub(super) struct SqlCheck {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) statement: &'static str,
}

/// A check's statement, from what counts the rows examined and what finds those that do not agree.
macro_rules! check {
    ($name:literal, $description:literal, examined: $examined:literal, bad: $bad:literal $(,)?) => {
        SqlCheck {
            name: $name,
            description: $description,
            statement: concat!(
                "WITH bad AS MATERIALIZED (",
                $bad,
                ") SELECT (",
                $examined,
                ")::bigint AS examined, (SELECT count(*) FROM bad) AS violations,
                ARRAY(SELECT finding FROM bad ORDER BY finding LIMIT $2) AS findings"
            ),
        }
    };
}

// After the macro, which they use.
#[path = "billing/store.rs"]
mod billing_store;
mod store;

pub(super) use store::{ALL, TRANSFERS_FOLLOW_THE_CHART};
