//! An auditor that finds nothing proves nothing: books that were good are spoiled in one way after the
//! other, and each must be found.

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

/// What is done to the books, and the beginning of the promise that it breaks.
const WAYS: [(&str, &str, Spoil); 14] = [
    ("an acknowledged event is lost", "acknowledged", |told, books| {
        let lost = told.receipts.keys().next().unwrap();
        books.events.retain(|event| event.event_id != *lost);
    }),
    ("an acknowledged cancellation is lost", "acknowledged", |told, books| {
        let lost = told.cancelled.keys().next().unwrap();
        books.events.retain(|event| event.event_id != *lost);
    }),
    ("an event has other tokens", "charged twice", |_, books| charged(books).input += 1),
    ("an event is there twice", "charged twice", |_, books| {
        let event = charged(books).clone();
        books.events.push(event);
    }),
    ("an event is charged to another key", "charged twice", |told, books| {
        let granted = |event: &&mut Event| told.promises.contains_key(&event.event_id);
        books.events.iter_mut().find(granted).unwrap().key_id = Uuid::nil();
    }),
    ("a charge is a fraction too high", "charged otherwise", |_, books| {
        charged(books).charge += SMALLEST;
    }),
    ("a charge is posted twice", "charged twice", |_, books| {
        let usage = |kind: &str| kind.starts_with("usage_");
        let posted = books.transfers.iter().find(|transfer| usage(&transfer.kind)).unwrap();
        let at = books.transfers.iter().position(|other| std::ptr::eq(other, posted)).unwrap();
        books.transfers.insert(at, posted.clone());
    }),
    ("what was promised is booked as an overrun", "overrun", |told, books| {
        let in_time = |event: &&mut Event| {
            let promise = told.promises.get(&event.event_id);
            let receipt = told.receipts.get(&event.event_id);
            promise.zip(receipt).is_some_and(|(promise, receipt)| {
                receipt.answered_at < promise.expires_at && event.charge <= promise.amount
            })
        };
        books.events.iter_mut().find(in_time).unwrap().overrun += SMALLEST;
    }),
    ("an overrun is hidden", "overrun", |told, books| {
        let told = |event: &&mut Event| {
            !event.overrun.is_zero() && told.receipts.contains_key(&event.event_id)
        };
        books.events.iter_mut().find(told).unwrap().overrun = Decimal::ZERO;
    }),
    ("more is used than there is", "overspent", |_, books| {
        let covered = |moved: &&mut Transfer| moved.kind == "usage_credits";
        books.transfers.iter_mut().find(covered).unwrap().amount += Decimal::ONE_THOUSAND;
    }),
    ("a top-up is booked twice", "unbalanced", |_, books| {
        let at = books.transfers.iter().position(|moved| moved.kind == "top_up").unwrap();
        books.transfers.insert(at, books.transfers[at].clone());
    }),
    ("a balance is a fraction too high", "unbalanced", |_, books| {
        books.funds[0].credits += SMALLEST;
    }),
    ("a posting is missing", "gaps", |_, books| {
        let (account, posting) = (books.transfers[0].account_id, books.transfers[0].posting);
        books.transfers.retain(|moved| (moved.account_id, moved.posting) != (account, posting));
    }),
    ("a document's number is missing", "gaps", |_, books| drop(books.numbers.remove(0))),
];

/// The ways to spoil these books that are not found.
pub(crate) fn overlooked(told: &Testimony, books: &Books) -> Vec<String> {
    let good = judge(told, books);
    let mut overlooked = Vec::new();
    for (way, promise, spoil) in WAYS {
        let mut spoiled = books.clone();
        spoil(told, &mut spoiled);
        if judge(told, &spoiled).violations_of(promise) <= good.violations_of(promise) {
            overlooked.push(way.to_owned());
        }
    }
    overlooked
}

fn charged(books: &mut Books) -> &mut Event {
    books.events.iter_mut().find(|event| !event.charge.is_zero()).unwrap()
}
