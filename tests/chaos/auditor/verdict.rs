//! The comparison: each promise of the design, with what was found to break it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use rust_decimal::Decimal;
use uuid::Uuid;

use super::{
    Testimony,
    books::{Books, Event, Funds, Transfer},
};

/// Tokens that a rate is for.
const PER: i64 = 1_000_000;
/// Violations of one kind that are written out; the rest is counted.
const SHOWN: usize = 5;

/// What was found, promise by promise.
#[derive(Debug)]
pub(crate) struct Verdict {
    promises: Vec<(&'static str, Vec<String>)>,
    counts: Vec<(String, u64)>,
}

impl Verdict {
    pub(crate) fn violations(&self) -> usize {
        self.promises.iter().map(|(_, found)| found.len()).sum()
    }

    /// Of the promise that begins like this.
    pub(super) fn violations_of(&self, promise: &str) -> usize {
        let of = self.promises.iter().filter(|(name, _)| name.starts_with(promise));
        of.map(|(_, found)| found.len()).sum()
    }

    /// One more promise that was looked at elsewhere.
    pub(crate) fn add(&mut self, promise: &'static str, found: Vec<String>) {
        self.promises.push((promise, found));
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            writeln!(f, "  {count:>9}  {what}")?;
        }
        for (promise, found) in &self.promises {
            writeln!(f, "  {:>9}  {promise}", found.len())?;
            for violation in found.iter().take(SHOWN) {
                writeln!(f, "             {violation}")?;
            }
        }
        Ok(())
    }
}

/// Compares what clients were told with what the database holds.
pub(crate) fn judge(told: &Testimony, books: &Books) -> Verdict {
    let events: BTreeMap<Uuid, &Event> =
        books.events.iter().map(|event| (event.event_id, event)).collect();
    let count = |number: usize| u64::try_from(number).unwrap();
    let mut counts = vec![
        ("authorizations granted".to_owned(), count(told.promises.len())),
        ("recordings acknowledged".to_owned(), count(told.receipts.len())),
        ("cancellations acknowledged".to_owned(), count(told.cancelled.len())),
        ("keys revoked".to_owned(), count(told.revoked.len())),
        ("prices published".to_owned(), count(told.prices.len())),
        ("top-ups acknowledged".to_owned(), count(told.paid_in.values().map(Vec::len).sum())),
        ("documents with a number".to_owned(), count(books.numbers.len())),
        ("usage events in the books".to_owned(), count(books.events.len())),
        ("transfers in the books".to_owned(), count(books.transfers.len())),
    ];
    let denied = told.denials.iter().map(|(reason, times)| (format!("denied: {reason}"), *times));
    counts.extend(denied);
    let retried = told.retries.iter().map(|(code, times)| (format!("asked again: {code}"), *times));
    counts.extend(retried);
    let ended = told.ends.iter().map(|(why, times)| (format!("server ended: {why}"), *times));
    counts.extend(ended);
    let promises = vec![
        ("acknowledged and missing, or other than acknowledged", missing(told, &events)),
        ("charged twice, or never sent", twice(told, books, &events)),
        ("charged otherwise than by the tokens and the promised price", mispriced(told, books)),
        ("overrun that no client has caused", uncaused(told, &events)),
        ("overspent", overspent(told, books)),
        ("unbalanced", unbalanced(told, books)),
        ("gaps in numbers of postings or documents", gaps(books)),
        ("wrong already when it was answered", told.complaints.clone()),
    ];
    Verdict { promises, counts }
}

fn missing(told: &Testimony, events: &BTreeMap<Uuid, &Event>) -> Vec<String> {
    let mut found = Vec::new();
    for (id, receipt) in &told.receipts {
        let Some(event) = events.get(id) else {
            found.push(format!("{id} was acknowledged and is not there"));
            continue;
        };
        let held = (event.input, event.output, event.charge, event.overrun, event.cancelled);
        let said =
            (receipt.work.input, receipt.work.output, receipt.charged, receipt.overrun, false);
        if held != said || event.other_tokens != 0 {
            found.push(format!("{id} was acknowledged as {said:?} and is {held:?}"));
        }
    }
    for (id, charged) in &told.cancelled {
        match events.get(id) {
            None => {
                found.push(format!("{id} was cancelled, acknowledged, and is not there"));
            }
            Some(event) if event.charge != *charged || event.cancelled != charged.is_zero() => {
                found.push(format!("{id} was cancelled with {charged} charged and is {event:?}"));
            }
            Some(_) => {}
        }
    }
    found
}

fn twice(told: &Testimony, books: &Books, events: &BTreeMap<Uuid, &Event>) -> Vec<String> {
    let mut found = Vec::new();
    if events.len() != books.events.len() {
        found.push(format!("{} events have {} ids", books.events.len(), events.len()));
    }
    for event in &books.events {
        let id = event.event_id;
        let work = super::Work { input: event.input, output: event.output };
        let sent = told.sent.get(&id);
        if !sent.is_some_and(|sent| event.cancelled || sent.contains(&work)) {
            found.push(format!("{id} holds {work:?}, and {sent:?} was sent"));
        }
        let promised = told.promises.get(&id);
        if promised.is_none() && !told.unauthorized.contains(&id) {
            found.push(format!("{id} was never granted"));
        }
        if promised.is_some_and(|promise| promise.account != event.account_id) {
            found.push(format!("{id} was charged to another account"));
        }
        if promised.is_some_and(|promise| promise.key != event.key_id) {
            found.push(format!("{id} was charged to another key"));
        }
    }
    // What the events say was charged is what was moved for them, posting by posting.
    let mut charged = BTreeMap::<(Uuid, i64), Decimal>::new();
    for event in books.events.iter().filter(|event| !event.charge.is_zero()) {
        *charged.entry((event.account_id, event.posting)).or_default() += event.charge;
    }
    let mut moved = BTreeMap::<(Uuid, i64), Decimal>::new();
    for transfer in books.transfers.iter().filter(|transfer| transfer.kind.starts_with("usage_")) {
        *moved.entry((transfer.account_id, transfer.posting)).or_default() += transfer.amount;
    }
    for posting in charged.keys().chain(moved.keys()).collect::<BTreeSet<_>>() {
        let (charged, moved) = (charged.get(posting), moved.get(posting));
        if charged != moved {
            found.push(format!("posting {posting:?}: events of {charged:?} moved {moved:?}"));
        }
    }
    if books.quarantined != 0 {
        found.push(format!("{} usages are quarantined", books.quarantined));
    }
    found
}

fn mispriced(told: &Testimony, books: &Books) -> Vec<String> {
    let mut found = Vec::new();
    for event in &books.events {
        let id = event.event_id;
        if told.promises.get(&id).is_some_and(|told| told.price_version != event.price_version) {
            found.push(format!("{id} was charged at another price than was promised"));
        }
        let price = books.prices.get(&event.price_version);
        let Some((input, output)) = price.and_then(|price| told.prices.get(price)) else {
            found.push(format!("{id} was charged at a price nobody published: {price:?}"));
            continue;
        };
        let charge = (Decimal::from(event.input) * input + Decimal::from(event.output) * output)
            / Decimal::from(PER);
        let charge = if event.cancelled { Decimal::ZERO } else { charge };
        if charge != event.charge {
            found.push(format!("{id} costs {charge} and was charged {}", event.charge));
        }
    }
    found
}

/// An overrun is only what the client used beyond its promise, or after it.
fn uncaused(told: &Testimony, events: &BTreeMap<Uuid, &Event>) -> Vec<String> {
    let mut found = Vec::new();
    for (id, receipt) in &told.receipts {
        let Some(event) = events.get(id) else { continue };
        let Some(promise) = told.promises.get(id) else {
            if event.overrun != event.charge {
                found.push(format!("{id} had no grant and an overrun of only {}", event.overrun));
            }
            continue;
        };
        let beyond = (event.charge - promise.amount).max(Decimal::ZERO);
        if receipt.answered_at < promise.expires_at && event.overrun > beyond {
            found.push(format!(
                "{id} was recorded in time, cost {} of the promised {}, and overran by {}",
                event.charge, promise.amount, event.overrun
            ));
        }
        if event.overrun < beyond {
            found.push(format!(
                "{id} cost {} of the promised {}, and overran by only {}",
                event.charge, promise.amount, event.overrun
            ));
        }
    }
    found
}

fn overspent(told: &Testimony, books: &Books) -> Vec<String> {
    let mut found = Vec::new();
    let mut overruns = BTreeMap::<(Uuid, i64), Decimal>::new();
    let mut in_budgets = BTreeMap::<Uuid, Decimal>::new();
    for event in &books.events {
        *overruns.entry((event.account_id, event.posting)).or_default() += event.overrun;
        if event.budgeted {
            *in_budgets.entry(event.account_id).or_default() += event.charge - event.overrun;
        }
    }
    for (account, spent) in in_budgets {
        let limit = told.budgets.get(&account).copied().unwrap_or_default();
        if spent > limit {
            found.push(format!("{account} spent {spent} of a budget of {limit}"));
        }
    }
    let mut owed = BTreeMap::<Uuid, Decimal>::new();
    let mut excused = BTreeMap::<Uuid, Decimal>::new();
    let mut left = told.credit_limits.clone();
    for (account, posting) in postings(&books.transfers) {
        let number = posting[0].posting;
        let overrun = overruns.get(&(account, number)).copied().unwrap_or_default();
        // What was promised and used is paid from what was there; an overrun takes what others were
        // promised, who may overdraw the account then without one of their own.
        let left = left.entry(account).or_default();
        for transfer in posting {
            match transfer.kind.as_str() {
                "top_up" => *left += transfer.amount,
                kind if kind.starts_with("usage_") => *left -= transfer.amount,
                _ => {}
            }
        }
        *left += overrun;
        if left.is_sign_negative() && !left.is_zero() {
            found
                .push(format!("{account}, posting {number}: {left} is left for what was promised"));
        }
        let owed = owed.entry(account).or_default();
        let before = *owed;
        for transfer in posting {
            for code in ["1100", "1200"] {
                *owed += change(transfer, code);
            }
        }
        let excused = excused.entry(account).or_default();
        *excused += overrun;
        let limit = told.credit_limits.get(&account).copied().unwrap_or_default();
        if *owed > before && *owed > limit + *excused {
            found.push(format!("{account} owes {owed} of {limit}, with overruns of {excused}"));
        }
    }
    found
}

fn unbalanced(told: &Testimony, books: &Books) -> Vec<String> {
    let mut found = Vec::new();
    for funds in &books.funds {
        let account = funds.account_id;
        let of_account = || books.transfers.iter().filter(|moved| moved.account_id == account);
        let balance = |code: &str| of_account().map(|moved| change(moved, code)).sum::<Decimal>();
        for (name, held, code, sign) in balances(funds) {
            let moved = balance(code) * sign;
            if moved != held {
                found.push(format!("{account}: {name} is {held} and its transfers sum to {moved}"));
            }
        }
        if funds.leased != funds.leases {
            let (leased, sum) = (funds.leased, funds.leases);
            found.push(format!("{account}: {leased} is leased and its leases sum to {sum}"));
        }
        let paid_in = told.paid_in.get(&account);
        let top_ups = of_account().filter(|moved| moved.kind == "top_up");
        let (number, sum) = top_ups
            .fold((0, Decimal::ZERO), |(number, sum), moved| (number + 1, sum + moved.amount));
        let expected = paid_in.map_or((0, Decimal::ZERO), |paid| (paid.len(), paid.iter().sum()));
        if (number, sum) != expected {
            found.push(format!("{account} paid in {expected:?} and the books say {number}, {sum}"));
        }
        if !told.accounts.contains(&account) {
            found.push(format!("{account} was never opened"));
        }
    }
    found
}

fn gaps(books: &Books) -> Vec<String> {
    let mut found = Vec::new();
    let mut expected = BTreeMap::<(&str, i32), i64>::new();
    for (series, year, sequence) in &books.numbers {
        let next = expected.entry((series, *year)).or_insert(1);
        if next != sequence {
            found.push(format!("{series} {year}: {sequence} comes where {next} is next"));
        }
        *next = sequence + 1;
    }
    let mut next = BTreeMap::<Uuid, i64>::new();
    for (account, posting) in postings(&books.transfers) {
        let next = next.entry(account).or_insert(1);
        let number = posting[0].posting;
        if *next != number {
            found.push(format!("{account}: posting {number} comes where {next} is next"));
        }
        *next = number + 1;
    }
    found
}

/// The transfers posting by posting; they are in that order.
fn postings(transfers: &[Transfer]) -> impl Iterator<Item = (Uuid, &[Transfer])> {
    let same = |a: &Transfer, b: &Transfer| (a.account_id, a.posting) == (b.account_id, b.posting);
    transfers.chunk_by(same).map(|posting| (posting[0].account_id, posting))
}

/// What a transfer adds to an account of the chart, debits positive.
fn change(transfer: &Transfer, code: &str) -> Decimal {
    let is = |side: &str| side.split('.').next() == Some(code);
    let debit = if is(&transfer.debit) { transfer.amount } else { Decimal::ZERO };
    let credit = if is(&transfer.credit) { transfer.amount } else { Decimal::ZERO };
    debit - credit
}

/// Each stored balance with its code, and the sign in which it is stored.
fn balances(funds: &Funds) -> [(&'static str, Decimal, &'static str, Decimal); 5] {
    let (assets, liabilities) = (Decimal::ONE, Decimal::NEGATIVE_ONE);
    [
        ("promotional", funds.promotional, "2010", liabilities),
        ("credits", funds.credits, "2000", liabilities),
        ("overdrawn", funds.overdrawn, "1150", assets),
        ("unbilled", funds.unbilled, "1100", assets),
        ("receivable", funds.receivable, "1200", assets),
    ]
}
