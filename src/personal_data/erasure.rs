//! Erasing what is personal of an account, or of one of its end users, on request.
//!
//! It is done in steps, each a transaction of its own with a bounded number of rows, so that nobody who
//! records usage waits for it; a step that was done is not done again. [`sweep`] goes from step to step
//! until all is gone or its time is over, and then says where to go on. [`finish`] erases the account's
//! own row in the transaction of the call's entry in the audit trail. A server that is killed in between
//! leaves steps that were done and no entry; the same call again goes on from there.
//!
//! What is recorded while it runs, or later, is new data: an end user whose requests go on comes back
//! with the next one.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{error::PersonalDataError, store};
use crate::{
    accounts::{
        self, Changed,
        account::{Account, AccountStatus, REASON_LENGTH},
        error::InvalidField,
        fields::required_text,
    },
    authorization::limits::MAX_END_USER,
    clock,
    ids::{AccountId, first_id_at},
    metering::limits::CLOCK_TOLERANCE,
};

/// How long a call goes from step to step before it says how to go on: less than callers wait.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Whose data are erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The account.
    pub account: AccountId,
    /// Only this end user of it; all of the account where none is named.
    pub end_user: Option<String>,
}

impl Subject {
    /// Checks what was asked for.
    ///
    /// # Errors
    /// The end user is longer than any can be.
    pub fn new(account: AccountId, end_user: String) -> Result<Self, InvalidField> {
        if end_user.chars().count() > MAX_END_USER {
            let problem = format!("is longer than {MAX_END_USER} characters; no end user is");
            return Err(InvalidField::new("end_user", "TOO_LONG", problem));
        }
        Ok(Self { account, end_user: Some(end_user).filter(|end_user| !end_user.is_empty()) })
    }
}

/// Checks why something is erased: it must be said.
///
/// # Errors
/// It is missing, too long, or not on one line.
pub fn check_reason(reason: &str) -> Result<(), InvalidField> {
    required_text("reason", reason, REASON_LENGTH)
}

/// How far an erasure has come: what comes next, and from after which row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// Details of usage, after this event.
    Details(Uuid),
    /// Usage that the database refused.
    Quarantined,
    /// Authorizations without usage.
    Unsettled,
    /// Names of keys.
    Keys,
    /// Stored answers, after this RPC and key.
    Answers(String, String),
    /// The audit trail, after this entry.
    Audit(i64),
}

impl Progress {
    /// Where every erasure begins.
    pub const BEGINNING: Self = Self::Details(Uuid::nil());
}

/// Rows of one table that were erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// The table.
    pub place: &'static str,
    /// How many of its rows.
    pub rows: u64,
}

/// What an erasure did, and where it has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// What was erased; what had nothing is left out.
    pub erased: Vec<Erased>,
    /// Where to go on; `None` where all is done.
    pub next: Option<Progress>,
}

/// Something that stays, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Tables or columns.
    pub place: &'static str,
    /// Why the law or the books ask for it.
    pub reason: &'static str,
}

/// Erases from where an earlier call has come to, until all is gone or `patience` is over. At least one
/// step is made.
///
/// # Errors
/// Failures of the database; steps that were done stay done.
pub async fn sweep(
    pool: &PgPool,
    subject: &Subject,
    from: Progress,
    patience: Duration,
) -> Result<Swept, PersonalDataError> {
    let begun = Instant::now();
    // Ids of events that are recorded later lie behind this, or are of work that was done before.
    let until = first_id_at(clock::now() + CLOCK_TOLERANCE);
    let mut erased: Vec<Erased> = Vec::new();
    let mut next = Some(from);
    while let Some(at) = next {
        let (done, then) = step(pool, subject, at, until).await?;
        match erased.iter_mut().find(|sum| sum.place == done.place) {
            Some(sum) => sum.rows = sum.rows.saturating_add(done.rows),
            None => erased.push(done),
        }
        next = then;
        if begun.elapsed() >= patience {
            break;
        }
    }
    erased.retain(|sum| sum.rows > 0);
    Ok(Swept { erased, next })
}

/// One transaction, and what comes after it.
async fn step(
    pool: &PgPool,
    subject: &Subject,
    at: Progress,
    until: Uuid,
) -> Result<(Erased, Option<Progress>), PersonalDataError> {
    let account = subject.account;
    let one_person = subject.end_user.is_some();
    let (place, (rows, next)) = match at {
        Progress::Details(after) => {
            let (rows, last) = store::erase_details(pool, subject, after, until).await?;
            ("usage_details", (rows, Some(last.map_or(Progress::Quarantined, Progress::Details))))
        }
        Progress::Quarantined => {
            let rows = store::erase_quarantined(pool, subject).await?;
            // Nothing else is told apart by end user.
            let then = (!one_person).then_some(Progress::Unsettled);
            ("quarantined_usage", (rows, if rows > 0 { Some(at) } else { then }))
        }
        Progress::Unsettled => {
            let rows = store::erase_unsettled(pool, account).await?;
            ("unsettled_authorizations", (rows, Some(again_or(rows, at, Progress::Keys))))
        }
        Progress::Keys => {
            let rows = store::erase_keys(pool, account).await?;
            let then = Progress::Answers(String::new(), String::new());
            ("api_keys", (rows, Some(again_or(rows, at, then))))
        }
        Progress::Answers(rpc, key) => {
            let (rows, last) = store::erase_answers(pool, account, &rpc, &key).await?;
            let then = last.map_or(Progress::Audit(0), |(rpc, key)| Progress::Answers(rpc, key));
            ("idempotency_keys", (rows, Some(then)))
        }
        Progress::Audit(after) => {
            let (rows, last) = store::erase_audit_entries(pool, account, after).await?;
            ("audit_entries", (rows, last.map(Progress::Audit)))
        }
    };
    Ok((Erased { place, rows }, next))
}

fn again_or(rows: u64, at: Progress, then: Progress) -> Progress {
    if rows > 0 { at } else { then }
}

/// Ends an erasure in the transaction of its entry in the audit trail: erases the account's own row, and
/// takes out of what the database noted of it what it was. `None` where the account's row has nothing
/// to erase, as for one end user.
///
/// # Errors
/// Failures of the database.
pub async fn finish(
    connection: &mut PgConnection,
    subject: &Subject,
) -> Result<Option<Changed<Account>>, PersonalDataError> {
    if subject.end_user.is_some() {
        return Ok(None);
    }
    let changed = accounts::erase(connection, subject.account).await?;
    store::erase_notes(connection).await?;
    Ok(changed)
}

/// What is kept of somebody, and why.
#[must_use]
pub fn kept(subject: &Subject, status: AccountStatus) -> Vec<Kept> {
    const USAGE: Kept = Kept {
        place: "usage_events",
        reason: "the record of what was charged (GDPR Art. 17(3)(b)): which key called which model \
                 when, under the gateway's request id; without end user, labels and the provider's \
                 usage object",
    };
    const BOOKS: [Kept; 3] = [
        Kept {
            place: "billing_documents",
            reason: "documents are kept as they were issued, with the buyer's name and address: tax \
                     law demands it (GDPR Art. 17(3)(b))",
        },
        Kept {
            place: "transfers, payments, payment_returns, refunds, chargebacks, promotional_grants, \
                    promotional_withdrawals, usage_reversals, write_offs",
            reason: "the books, with the references, notes and reasons of their vouchers: commercial \
                     and tax law demand it (GDPR Art. 17(3)(b))",
        },
        Kept {
            place: "audit_entries",
            reason: "who did what, when and from where (GDPR Art. 5(2), 17(3)(e)); names, addresses \
                     and free texts in requests, answers and rows are erased",
        },
    ];
    const IDENTIFIERS: Kept = Kept {
        place: "accounts.handle, accounts.dpa_reference, api_keys.project, budgets.project, \
                idempotency_keys.idempotency_key",
        reason: "identifiers that the books and callers refer to, and the proof of the data \
                 processing agreement (GDPR Art. 28)",
    };
    const CONTRACT: Kept = Kept {
        place: "accounts: legal name, address, registration and tax ids, purchase order, cost centre",
        reason: "the contract is in force and its invoices need them (GDPR Art. 6(1)(b)); close the \
                 account and erase again",
    };
    if subject.end_user.is_some() {
        return vec![USAGE];
    }
    let mut kept = vec![USAGE];
    kept.extend(BOOKS);
    kept.push(IDENTIFIERS);
    if status != AccountStatus::Closed {
        kept.push(CONTRACT);
    }
    kept
}
