//! The audit trail: who changed what, from where, and what it was before and after.
//!
//! Each change by a person or a tool leaves one [`Entry`] in its own transaction ([`store::insert`]):
//! either both are there or neither. The rows that changed are noted by the database itself
//! (`note_change` in `migrations/0020_audit_trail.sql`). Attempts that were denied or failed have no
//! transaction; they are written behind the call and bounded ([`attempts`]). No row is ever changed.
//!
//! What the server does by itself, such as closing a month, is written under [`TOLLGATE`]. Metering is
//! not in it: usage events and transfers are their own record.

pub mod attempts;
pub mod store;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{ids::AccountId, telemetry::scrub};

/// The actor of what the server does by itself.
pub const TOLLGATE: &str = "tollgate";
/// The code of a change that was made.
pub const OK: &str = "OK";
/// The most characters of a text that somebody else chose: a subject, a token's id, a target.
const TEXT_LENGTH: usize = 300;

/// What is written of a change or of an attempt at one. Its texts are scrubbed when it is stored: no
/// API key, token or password is ever in the table.
#[derive(Debug, Clone, Default, PartialEq, sqlx::FromRow)]
pub struct Entry {
    /// The token's subject; empty where no token was believed.
    pub actor: String,
    /// The token's `jti`.
    pub token_id: String,
    /// The token's roles.
    pub roles: Vec<String>,
    /// The address and port that the call came from.
    pub peer: String,
    /// The call's `x-request-id`.
    pub request_id: String,
    /// The RPC's path, or the name of the server's own task.
    pub rpc: String,
    /// What the request names.
    pub target: String,
    /// The accounts that are known to be concerned; those of changed rows are added.
    pub account_ids: Vec<AccountId>,
    /// The handle that the request gives for an account, which is looked up and not kept.
    #[sqlx(skip)]
    pub handle: String,
    /// The caller's idempotency key.
    pub idempotency_key: String,
    /// The gRPC code, as gRPC spells it.
    pub code: String,
    /// The machine-readable reason of a refusal.
    pub reason: String,
    /// The request.
    pub request: Option<Value>,
    /// The answer, where the change was made.
    pub answer: Option<Value>,
    /// How many more attempts of the same caller in the same minute were not written.
    pub suppressed: i64,
}

impl Entry {
    /// Of something that the server did by itself for an account.
    #[must_use]
    pub fn of_server(task: &str, account: Option<AccountId>, answer: Value) -> Self {
        Self {
            actor: TOLLGATE.to_owned(),
            rpc: task.to_owned(),
            target: account.map(|id| format!("account={id}")).unwrap_or_default(),
            account_ids: account.into_iter().collect(),
            code: OK.to_owned(),
            answer: Some(answer),
            ..Self::default()
        }
    }

    /// As it may be stored: without secrets, and without what Postgres cannot hold.
    #[must_use]
    fn clean(self) -> Self {
        Self {
            actor: text(&self.actor),
            token_id: text(&self.token_id),
            roles: self.roles,
            peer: text(&self.peer),
            request_id: text(&self.request_id),
            rpc: text(&self.rpc),
            target: text(&self.target),
            account_ids: self.account_ids,
            handle: text(&self.handle),
            idempotency_key: text(&self.idempotency_key),
            code: self.code,
            reason: text(&self.reason),
            request: self.request.map(value),
            answer: self.answer.map(value),
            suppressed: self.suppressed,
        }
    }
}

fn text(text: &str) -> String {
    scrub::text(text).replace('\0', "\u{fffd}").chars().take(TEXT_LENGTH).collect()
}

/// A value whose texts are clean.
fn value(found: Value) -> Value {
    match found {
        Value::String(found) => Value::String(scrub::text(&found).replace('\0', "\u{fffd}")),
        Value::Array(items) => Value::Array(items.into_iter().map(value).collect()),
        Value::Object(members) => {
            let clean = |(name, member): (String, Value)| {
                (scrub::text(&name).replace('\0', "\u{fffd}"), value(member))
            };
            Value::Object(members.into_iter().map(clean).collect())
        }
        other => other,
    }
}

/// A row of the trail.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Recorded {
    /// Its number; later rows have greater ones.
    pub audit_entry: i64,
    /// When it was written.
    pub recorded_at: DateTime<Utc>,
    /// What was written.
    #[sqlx(flatten)]
    pub entry: Entry,
    /// The rows that changed, before and after.
    pub changes: Value,
}

/// Which rows are wanted; what is not said does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those that concern this account.
    pub account: Option<AccountId>,
    /// Those of this subject.
    pub actor: Option<String>,
    /// Those of this RPC: its path, or its last part.
    pub rpc: Option<String>,
    /// Those with this code.
    pub code: Option<String>,
    /// Those from this moment on.
    pub from: Option<DateTime<Utc>>,
    /// Those before this moment.
    pub until: Option<DateTime<Utc>>,
    /// Those that come before this one.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_secret_and_nothing_that_cannot_be_stored_is_left_in_an_entry() {
        let key = "ga_sk_0123456789abcdefXYZ";
        let entry = Entry {
            actor: format!("bob {key}"),
            idempotency_key: format!("{key}\0"),
            request: Some(json!({ "reason": format!("leaked {key}"), "list": [{ key: "a\0b" }] })),
            ..Entry::default()
        };
        let clean = entry.clean();
        assert_eq!((&*clean.actor, &*clean.idempotency_key), ("bob [secret]", "[secret]\u{fffd}"));
        let request =
            json!({ "reason": "leaked [secret]", "list": [{ "[secret]": "a\u{fffd}b" }] });
        assert_eq!(clean.request, Some(request));
    }
}
