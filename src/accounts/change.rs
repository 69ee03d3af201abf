//! What servers of one database tell each other when something changes that they hold in memory,
//! and what they ask each other.

use std::{fmt, str::FromStr};

use crate::{
    identity::token::Fingerprint,
    ids::{AccountId, AuthorizationId, InstanceId, QuestionId},
};

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
    /// This token of a caller was revoked.
    Token(Fingerprint),
    /// The price book.
    Prices,
    /// Nothing by itself: whoever hears this number has heard every change before it.
    Barrier(i64),
    /// Nothing either: a server wants to know what the others hold.
    Question(Question),
}

/// A server was asked for the reservations of all servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Question {
    /// Under which the others answer.
    pub id: QuestionId,
    /// Who asks, and does not answer itself.
    pub asker: InstanceId,
    /// Whose reservations; `None` for everybody's.
    pub account: Option<AccountId>,
    /// Only those that come after this one, in the order of authorizations and then of servers:
    /// an authorization that was extended elsewhere is held by both.
    pub after: Option<(AuthorizationId, InstanceId)>,
    /// At most so many.
    pub limit: u32,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(hash) => write_hash(formatter, "key", hash),
            Self::Token(Fingerprint(hash)) => write_hash(formatter, "token", hash),
            Self::Account(account) => write!(formatter, "account:{account}"),
            Self::Budgets(account) => write!(formatter, "budgets:{account}"),
            Self::Recall(account, by) => write!(formatter, "recall:{account}:{by}"),
            Self::Prices => formatter.write_str("prices:*"),
            Self::Barrier(number) => write!(formatter, "barrier:{number}"),
            Self::Question(question) => write!(formatter, "reservations:{question}"),
        }
    }
}

fn write_hash(formatter: &mut fmt::Formatter<'_>, what: &str, hash: &[u8; 32]) -> fmt::Result {
    write!(formatter, "{what}:")?;
    hash.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
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
            "token" => hash(id).map(|hash| Self::Token(Fingerprint(hash))),
            "prices" => Some(Self::Prices),
            "barrier" => id.parse().ok().map(Self::Barrier),
            "reservations" => question(id).map(Self::Question),
            _ => None,
        }
        .ok_or(UnknownChange)
    }
}

impl fmt::Display for Question {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:", self.id, self.asker)?;
        match self.account {
            Some(account) => write!(formatter, "{account}:")?,
            None => formatter.write_str("*:")?,
        }
        match self.after {
            Some((authorization, instance)) => write!(formatter, "{authorization}/{instance}:")?,
            None => formatter.write_str("-:")?,
        }
        write!(formatter, "{}", self.limit)
    }
}

fn question(text: &str) -> Option<Question> {
    let mut parts = text.split(':');
    let question = Question {
        id: parts.next()?.parse().ok()?,
        asker: parts.next()?.parse().ok()?,
        account: match parts.next()? {
            "*" => None,
            account => Some(account.parse().ok()?),
        },
        after: match parts.next()? {
            "-" => None,
            after => {
                let (authorization, instance) = after.split_once('/')?;
                Some((authorization.parse().ok()?, instance.parse().ok()?))
            }
        },
        limit: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(question)
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
        let (id, asker) = (QuestionId::generate(), InstanceId::generate());
        let all = Question { id, asker, account: None, after: None, limit: 1 };
        let some = Question {
            account: Some(account),
            after: Some((AuthorizationId::generate(), InstanceId::generate())),
            ..all
        };
        for change in [
            Change::Key(bytes),
            Change::Token(Fingerprint(bytes)),
            Change::Account(account),
            Change::Budgets(account),
            Change::Recall(account, asker),
            Change::Prices,
            Change::Barrier(42),
            Change::Question(all),
            Change::Question(some),
        ] {
            assert_eq!(change.to_string().parse(), Ok(change));
        }
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        let wide = format!("key:{}", "é".repeat(32));
        let id = QuestionId::generate();
        let questions = ["*:-", "*:-:x", "acme:-:1", "*:1:1", "*:-:1:1"]
            .map(|rest| format!("reservations:{id}:{id}:{rest}"));
        for text in [
            "",
            "key",
            "key:",
            "key:zz",
            &wide,
            "account:acme",
            "budget:1",
            "recall:x",
            "prices",
            "barrier:x",
            "reservations:",
        ]
        .into_iter()
        .chain(questions.iter().map(String::as_str))
        {
            assert_eq!(text.parse::<Change>(), Err(UnknownChange), "{text}");
        }
    }
}
