//! The auditor: what clients were told, kept apart from the product, and compared with its books.
//!
//! It shares no rating, reservation or posting code with the product: charges are computed from
//! tokens and the prices that were published, balances from the transfers, cover from what the
//! grants said.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

mod books;
mod tampering;
mod verdict;

pub(crate) use books::Books;
pub(crate) use tampering::overlooked;
pub(crate) use verdict::{Verdict, judge};

/// What a client was promised.
#[derive(Debug, Clone)]
pub(crate) struct Promise {
    pub(crate) account: Uuid,
    pub(crate) key: Uuid,
    pub(crate) price_version: i64,
    /// The most that it may cost, as it was last told.
    pub(crate) amount: Decimal,
    pub(crate) expires_at: DateTime<Utc>,
}

/// What was done for a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Work {
    pub(crate) input: i64,
    pub(crate) output: i64,
}

/// What the answer to a recording said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Receipt {
    pub(crate) work: Work,
    pub(crate) charged: Decimal,
    pub(crate) overrun: Decimal,
    /// By the clock that the database shares.
    pub(crate) answered_at: DateTime<Utc>,
}

/// Everything that clients sent and were told.
#[derive(Debug, Default)]
pub(crate) struct Testimony {
    /// (model, effective from in microseconds) to the rates per million tokens.
    prices: BTreeMap<(String, i64), (Decimal, Decimal)>,
    accounts: BTreeSet<Uuid>,
    /// What was paid in, by account; each top-up was answered.
    paid_in: BTreeMap<Uuid, Vec<Decimal>>,
    /// The largest limit that the account's budget ever had.
    budgets: BTreeMap<Uuid, Decimal>,
    credit_limits: BTreeMap<Uuid, Decimal>,
    promises: BTreeMap<Uuid, Promise>,
    /// Work without a grant, which is wholly an overrun.
    unauthorized: BTreeSet<Uuid>,
    /// Events for which a recording or a cancellation was sent, answered or not.
    sent: BTreeMap<Uuid, BTreeSet<Work>>,
    receipts: BTreeMap<Uuid, Receipt>,
    /// Cancellations that were answered, with what had been charged before.
    cancelled: BTreeMap<Uuid, Decimal>,
    revoked: BTreeMap<Uuid, Instant>,
    /// What was wrong already when it was told.
    complaints: Vec<String>,
    denials: BTreeMap<String, u64>,
    retries: BTreeMap<String, u64>,
    /// Why servers ended that nobody had told to.
    ends: BTreeMap<String, u64>,
}

/// A testimony that many tasks add to.
#[derive(Debug, Default)]
pub(crate) struct Witness(Mutex<Testimony>);

impl Witness {
    fn lock(&self) -> MutexGuard<'_, Testimony> {
        self.0.lock().unwrap()
    }

    pub(crate) fn into_testimony(self) -> Testimony {
        self.0.into_inner().unwrap()
    }

    pub(crate) fn opened(&self, account: Uuid, credit_limit: Decimal) {
        let mut told = self.lock();
        told.accounts.insert(account);
        told.credit_limits.insert(account, credit_limit);
    }

    pub(crate) fn priced(&self, model: &str, from_micros: i64, input: Decimal, output: Decimal) {
        self.lock().prices.insert((model.to_owned(), from_micros), (input, output));
    }

    pub(crate) fn paid_in(&self, account: Uuid, amount: Decimal) {
        self.lock().paid_in.entry(account).or_default().push(amount);
    }

    pub(crate) fn budgeted(&self, account: Uuid, limit: Decimal) {
        let mut told = self.lock();
        let largest = told.budgets.entry(account).or_default();
        *largest = limit.max(*largest);
    }

    /// A grant was answered to a request that was sent then.
    pub(crate) fn granted(&self, event: Uuid, promise: Promise, sent: Instant) {
        let mut told = self.lock();
        if told.revoked.get(&promise.key).is_some_and(|revoked| *revoked < sent) {
            let key = promise.key;
            told.complaints.push(format!("granted after its revocation: {event} of key {key}"));
        }
        if told.promises.insert(event, promise).is_some() {
            told.complaints.push(format!("the authorization {event} was granted twice"));
        }
    }

    /// The same authorization, raised.
    pub(crate) fn extended(&self, event: Uuid, amount: Decimal, expires_at: DateTime<Utc>) {
        if let Some(promise) = self.lock().promises.get_mut(&event) {
            promise.amount = amount;
            promise.expires_at = expires_at;
        }
    }

    pub(crate) fn denied(&self, reason: &str) {
        *self.lock().denials.entry(reason.to_owned()).or_default() += 1;
    }

    /// A call was answered so that it was made again.
    pub(crate) fn retried(&self, code: &str) {
        *self.lock().retries.entry(code.to_owned()).or_default() += 1;
    }

    pub(crate) fn ended_by_itself(&self, last_words: &str) {
        *self.lock().ends.entry(last_words.to_owned()).or_default() += 1;
    }

    pub(crate) fn sends(&self, event: Uuid, work: Work) {
        self.lock().sent.entry(event).or_default().insert(work);
    }

    pub(crate) fn sends_unauthorized(&self, event: Uuid, work: Work) {
        let mut told = self.lock();
        told.unauthorized.insert(event);
        told.sent.entry(event).or_default().insert(work);
    }

    pub(crate) fn acknowledged(&self, event: Uuid, receipt: Receipt) {
        let mut told = self.lock();
        let first = told.receipts.entry(event).or_insert(receipt);
        if (first.charged, first.overrun) != (receipt.charged, receipt.overrun) {
            let problem = format!("{event} was answered {first:?} and then {receipt:?}");
            told.complaints.push(problem);
        }
    }

    pub(crate) fn cancelled(&self, event: Uuid, charged: Decimal) {
        self.lock().cancelled.insert(event, charged);
    }

    /// The revocation of a key was answered.
    pub(crate) fn revoked(&self, key: Uuid) {
        self.lock().revoked.insert(key, Instant::now());
    }

    /// How many recordings were acknowledged so far.
    pub(crate) fn receipts(&self) -> usize {
        self.lock().receipts.len()
    }

    pub(crate) fn complain(&self, problem: String) {
        self.lock().complaints.push(problem);
    }
}
