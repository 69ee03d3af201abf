//! Typed identifiers. All are UUIDv7 (RFC 9562), so that they sort by the time they were made and
//! the tables they key stay dense at the end.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use uuid::{NoContext, Timestamp, Uuid};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new identifier for this moment.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// A customer.
    AccountId
);
id!(
    /// An API key; not the key itself, which is never kept.
    KeyId
);
id!(
    /// An authorization, and the usage event that settles it: they share one id.
    AuthorizationId
);
id!(
    /// One running server, from its start to its end.
    InstanceId
);
id!(
    /// What one server asks the others.
    QuestionId
);
id!(
    /// A payment, grant, refund or chargeback: what caused a transfer.
    CauseId
);

id!(
    /// A budget: a limit on what an account, a project or a key may spend.
    BudgetId
);

/// A version of a price, as numbered by the price book. Never reused, never edited.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    sqlx::Type,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct PriceVersionId(pub i64);

impl fmt::Display for PriceVersionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A model, as numbered by the price book. A number is never given to another name.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    sqlx::Type,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct ModelId(pub i32);

impl fmt::Display for ModelId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The moment inside a UUIDv7, to the millisecond; `None` for any other kind of UUID.
#[must_use]
pub fn moment_of(id: Uuid) -> Option<DateTime<Utc>> {
    if id.get_version_num() != 7 {
        return None;
    }
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanoseconds)
}

/// A new identifier as it would have been made at another moment.
#[must_use]
pub fn id_at(moment: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(moment.timestamp()).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, moment.timestamp_subsec_nanos()))
}

/// The smallest UUIDv7 of a moment: the lower bound of an id range in a query or a partition.
#[must_use]
pub fn first_id_at(moment: DateTime<Utc>) -> Uuid {
    let milliseconds = u64::try_from(moment.timestamp_millis()).unwrap_or(0);
    Uuid::from_u64_pair(milliseconds << 16, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_bound_is_at_or_below_every_id_of_its_moment() {
        let id = Uuid::now_v7();
        let moment = moment_of(id).unwrap();
        assert!(first_id_at(moment) <= id);
        assert!(first_id_at(moment + chrono::Duration::milliseconds(1)) > id);
    }

    #[test]
    fn only_a_version_seven_id_has_a_moment() {
        assert_eq!(moment_of(Uuid::nil()), None);
    }
}
