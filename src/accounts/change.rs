//! What servers of one database tell each other when something changes that they hold in memory.

use std::{fmt, str::FromStr};

use crate::ids::{AccountId, InstanceId};

/// The channel of the database on which changes are announced.
pub const CHANNEL: &str = "tollgate_changed";

/// Something that changed; announced as `<what>:<id>` in the transaction that changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// The key with this SHA-256.
    Key([u8; 32]),
    /// This account.
    Account(AccountId),
    /// The budgets of this account.
    Budgets(AccountId),
    /// Nothing changed: a server asks the others for what they hold of this account's pools and do
    /// not use.
    Recall(AccountId, InstanceId),
    /// The price book.
    Prices,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(hash) => {
                formatter.write_str("key:")?;
                hash.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
            Self::Account(account) => write!(formatter, "account:{account}"),
            Self::Budgets(account) => write!(formatter, "budgets:{account}"),
            Self::Recall(account, by) => write!(formatter, "recall:{account}:{by}"),
            Self::Prices => formatter.write_str("prices:*"),
        }
    }
}

/// The text is not a [`Change`]; a newer server may have sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownChange;

impl FromStr for Change {
    type Err = UnknownChange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (what, id) = text.split_once(':').ok_or(UnknownChange)?;
        match what {
            "key" => hash(id).map(Self::Key),
            "account" => id.parse().ok().map(Self::Account),
            "budgets" => id.parse().ok().map(Self::Budgets),
            "recall" => id.split_once(':').and_then(|(account, by)| {
                Some(Self::Recall(account.parse().ok()?, by.parse().ok()?))
            }),
            "prices" => Some(Self::Prices),
            _ => None,
        }
        .ok_or(UnknownChange)
    }
}

fn hash(hexadecimal: &str) -> Option<[u8; 32]> {
    let mut hash = [0_u8; 32];
    if hexadecimal.len() != 2 * hash.len() || !hexadecimal.is_ascii() {
        return None;
    }
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hexadecimal.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_understood_as_it_was_said() {
        let mut bytes = [0; 32];
        bytes[0] = 0xab;
        bytes[31] = 0x01;
        let account = AccountId::generate();
        for change in [
            Change::Key(bytes),
            Change::Account(account),
            Change::Budgets(account),
            Change::Recall(account, InstanceId::generate()),
            Change::Prices,
        ] {
            assert_eq!(change.to_string().parse(), Ok(change));
        }
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        let wide = format!("key:{}", "é".repeat(32));
        for text in
            ["", "key", "key:", "key:zz", &wide, "account:acme", "budget:1", "recall:x", "prices"]
        {
            assert_eq!(text.parse::<Change>(), Err(UnknownChange), "{text}");
        }
    }
}
