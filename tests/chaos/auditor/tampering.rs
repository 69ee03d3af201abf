//! An auditor that finds nothing proves nothing: books that were good are spoiled in one way after the
//! other, and each must be found.

use std::collections::BTreeSet;

use rust_decimal::Decimal;
use uuid::Uuid;

use super::{
    Testimony,
    books::{Books, Event, Transfer},
    judge,
};

/// The smallest amount that the books know.
const SMALLEST: Decimal = Decimal::from_parts(1, 0, 0, false, 12);

type Spoil = fn(&Testimony, &mut Books);

const WAYS: [(&str, Spoil); 13] = [
    ("an acknowledged event is lost", |told, books| {
        let lost = told.receipts.keys().next().unwrap();
        books.events.retain(|event| event.event_id != *lost);
    }),
    ("an acknowledged cancellation is lost", |told, books| {
        let lost = told.cancelled.keys().next().unwrap();
        books.events.retain(|event| event.event_id != *lost);
    }),
    ("an event has other tokens", |_, books| charged(books).input += 1),
    ("an event is there twice", |_, books| {
        let event = charged(books).clone();
        books.events.push(event);
    }),
    ("an event is charged to another key", |told, books| {
        let granted = |event: &&mut Event| told.promises.contains_key(&event.event_id);
        books.events.iter_mut().find(granted).unwrap().key_id = Uuid::nil();
    }),
    ("a charge is a fraction too high", |_, books| charged(books).charge += SMALLEST),
    ("a charge is posted twice", |_, books| {
        let usage = |kind: &str| kind.starts_with("usage_");
        let posted = books.transfers.iter().find(|transfer| usage(&transfer.kind)).unwrap();
        let at = books.transfers.iter().position(|other| std::ptr::eq(other, posted)).unwrap();
        books.transfers.insert(at, posted.clone());
    }),
    ("what was promised is booked as an overrun", |told, books| {
        let in_time = |event: &&mut Event| {
            let promise = told.promises.get(&event.event_id);
            let receipt = told.receipts.get(&event.event_id);
            promise.zip(receipt).is_some_and(|(promise, receipt)| {
                receipt.answered_at < promise.expires_at && event.charge <= promise.amount
            })
        };
        books.events.iter_mut().find(in_time).unwrap().overrun += SMALLEST;
    }),
    ("more is used than there is, without an overrun", |_, books| {
        let overruns = books.events.iter().filter(|event| !event.overrun.is_zero());
        let excused: BTreeSet<_> =
            overruns.map(|event| (event.account_id, event.posting)).collect();
        let covered = |moved: &&mut Transfer| {
            moved.kind == "usage_credits" && !excused.contains(&(moved.account_id, moved.posting))
        };
        let transfer = books.transfers.iter_mut().find(covered).unwrap();
        "usage_overdrawn".clone_into(&mut transfer.kind);
    }),
    ("a top-up is booked twice", |_, books| {
        let at = books.transfers.iter().position(|moved| moved.kind == "top_up").unwrap();
        books.transfers.insert(at, books.transfers[at].clone());
    }),
    ("a balance is a fraction too high", |_, books| books.funds[0].credits += SMALLEST),
    ("a posting is missing", |_, books| {
        let (account, posting) = (books.transfers[0].account_id, books.transfers[0].posting);
        books.transfers.retain(|moved| (moved.account_id, moved.posting) != (account, posting));
    }),
    ("a document's number is missing", |_, books| drop(books.numbers.remove(0))),
];

/// The ways to spoil these books that are not found.
pub(crate) fn overlooked(told: &Testimony, books: &Books) -> Vec<String> {
    let good = judge(told, books).violations();
    let mut overlooked = Vec::new();
    for (way, spoil) in WAYS {
        let mut spoiled = books.clone();
        spoil(told, &mut spoiled);
        if judge(told, &spoiled).violations() <= good {
            overlooked.push(way.to_owned());
        }
    }
    overlooked
}

fn charged(books: &mut Books) -> &mut Event {
    books.events.iter_mut().find(|event| !event.charge.is_zero()).unwrap()
}
