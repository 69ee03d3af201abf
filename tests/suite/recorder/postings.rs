//! What usage does to the books.

use std::time::Duration;

use chrono::TimeDelta;
use rust_decimal::Decimal;
use tollgate::{
    clock,
    ids::{AuthorizationId, KeyId},
    metering::{
        event::{Fingerprint, NewEvent, Outcome, Recorded},
        quantities::Quantities,
    },
    money::Amount,
    problem::{Problem, ProblemKind},
};
use uuid::Uuid;

use super::{Books, amount, record_all, usage, usage_at};

type Change<T> = fn(&mut T);
type ChangeEvent<'a> = dyn Fn(&mut NewEvent) + 'a;

#[tokio::test]
async fn a_charge_burns_promotional_then_credits_then_overdraws() {
    let books = Books::open().await;
    let account = books.account_with("0.5", "1", false).await;
    for (charge, balances) in [
        ("0.3", ["0.2", "1", "0", "0"]),
        ("0.4", ["0", "0.8", "0", "0"]),
        ("0.9", ["0", "0", "0.1", "0"]),
        ("0.000000000001", ["0", "0", "0.100000000001", "0"]),
    ] {
        let recorded = books.recorder.record(usage(account, charge)).await.unwrap();
        assert_eq!((recorded.charge, recorded.duplicate), (amount(charge), false));
        assert_eq!(books.balances(account).await, balances);
    }
    let kinds: Vec<String> = books
        .ask(
            "SELECT array_agg(posting || ' ' || kind || ' ' || debit || '>' || credit
                              ORDER BY posting, line)
             FROM transfers WHERE account_id = $1",
            account,
        )
        .await;
    assert_eq!(
        kinds,
        [
            "1 usage_promotional 2010>4000",
            "2 usage_promotional 2010>4000",
            "2 usage_credits 2000>4000",
            "3 usage_credits 2000>4000",
            "3 usage_overdrawn 1150>4000",
            "4 usage_overdrawn 1150>4000",
        ]
    );
    books.prove(account).await;
    books.stop().await;
}

#[tokio::test]
async fn usage_on_terms_accrues_to_the_invoice_after_credits() {
    let books = Books::open().await;
    let account = books.account_with("0", "0.25", true).await;
    books.recorder.record(usage(account, "1")).await.unwrap();
    assert_eq!(books.balances(account).await, ["0", "0", "0", "0.75"]);
    books.prove(account).await;
    books.stop().await;
}

#[tokio::test]
async fn what_costs_nothing_is_recorded_and_numbers_no_posting() {
    let books = Books::open().await;
    let account = books.account("1").await;
    let recorded = books.recorder.record(usage(account, "0")).await.unwrap();
    assert_eq!(recorded.charge, Amount::ZERO);
    let posting: i64 =
        books.ask("SELECT posting FROM account_funds WHERE account_id = $1", account).await;
    assert_eq!(posting, 0);
    books.recorder.record(usage(account, "0.5")).await.unwrap();
    assert_eq!(books.prove(account).await, Decimal::new(5, 1));
    books.stop().await;
}

#[tokio::test]
async fn a_replay_gets_the_first_answer_and_changes_nothing() {
    let books = Books::open().await;
    let account = books.account("10").await;
    let event = usage(account, "1.5");
    let first = books.recorder.record(event.clone()).await.unwrap();
    assert_eq!(first.overrun, amount("0.5"));
    // Rated anew at another price, as after a publication: the first charge stands.
    let mut again = event;
    again.charge = amount("2");
    again.served.latency = Some(Duration::from_secs(3));
    again.detail.request_id = "another".to_owned();
    let replay = books.recorder.record(again).await.unwrap();
    assert_eq!(replay, Recorded { duplicate: true, ..first });
    assert_eq!(books.balances(account).await, ["0", "8.5", "0", "0"]);
    let details: i64 =
        books.ask("SELECT count(*) FROM usage_details WHERE account_id = $1", account).await;
    assert_eq!(details, 0);
    books.prove(account).await;
    books.stop().await;
}

#[tokio::test]
async fn a_conflicting_replay_names_the_field_that_differs() {
    let books = Books::open().await;
    let account = books.account("10").await;
    let event = usage(account, "0.5");
    books.recorder.record(event.clone()).await.unwrap();
    let cases: [(&str, Change<Fingerprint>); 7] = [
        ("key_id", |used| used.key_id = KeyId::generate()),
        ("model", |used| used.model = "Qwen/Qwen3-32B".to_owned()),
        ("outcome", |used| used.outcome = Outcome::Timeout),
        ("cache_hit", |used| used.cache_hit = true),
        ("quantities.input", |used| used.quantities.input += 1),
        ("quantities.reasoning", |used| used.quantities.reasoning = 5),
        ("quantities.images", |used| used.quantities.images = 1),
    ];
    for (field, change) in cases {
        let mut conflicting = event.clone();
        change(&mut conflicting.fingerprint);
        let refusal = books.recorder.record(conflicting).await.unwrap_err();
        assert_eq!(refusal.field().as_deref(), Some(field));
        assert_eq!(refusal.kind(), ProblemKind::AlreadyExists);
    }
    assert_eq!(books.prove(account).await, Decimal::new(5, 1));
    books.stop().await;
}

#[tokio::test]
async fn a_cancellation_after_usage_is_answered_with_the_usage_that_stands() {
    let books = Books::open().await;
    let account = books.account("10").await;
    let event = usage(account, "0.5");
    books.recorder.record(event.clone()).await.unwrap();
    let mut cancellation = event;
    cancellation.charge = Amount::ZERO;
    cancellation.fingerprint.quantities = Quantities::default();
    cancellation.fingerprint.outcome = Outcome::Cancelled;
    let answer = books.recorder.record(cancellation).await.unwrap();
    assert_eq!((answer.charge, answer.outcome), (amount("0.5"), Outcome::Success));
    assert!(answer.duplicate);
    books.stop().await;
}

#[tokio::test]
async fn usage_after_a_cancellation_is_a_conflict() {
    let books = Books::open().await;
    let account = books.account("10").await;
    let event = usage(account, "0.5");
    let mut cancellation = event.clone();
    cancellation.charge = Amount::ZERO;
    cancellation.fingerprint.outcome = Outcome::Cancelled;
    books.recorder.record(cancellation).await.unwrap();
    let refusal = books.recorder.record(event).await.unwrap_err();
    assert_eq!(refusal.field().as_deref(), Some("outcome"));
    assert!(refusal.to_string().contains("was cancelled"), "{refusal}");
    books.stop().await;
}

#[tokio::test]
async fn what_is_late_or_unauthorized_is_wholly_an_overrun() {
    let books = Books::open().await;
    let account = books.account("10").await;
    let mut late = usage(account, "0.5");
    let covered = late.authorized.as_mut().unwrap();
    covered.covered_until = clock::now() - TimeDelta::seconds(1);
    let mut unauthorized = usage(account, "0.25");
    unauthorized.authorized = None;
    for (event, overrun) in [(usage(account, "0.75"), "0"), (late, "0.5"), (unauthorized, "0.25")] {
        let recorded = books.recorder.record(event).await.unwrap();
        assert_eq!(recorded.overrun, amount(overrun));
    }
    let stored: Decimal =
        books.ask("SELECT sum(overrun) FROM usage_events WHERE account_id = $1", account).await;
    assert_eq!(stored, Decimal::new(75, 2));
    books.stop().await;
}

#[tokio::test]
async fn every_commit_is_settled_and_another_servers_grant_is_told_to_its_issuer() {
    let books = Books::open().await;
    let account = books.account("10").await;
    let (mut own, foreign) = (usage(account, "0.5"), usage(account, "0.25"));
    own.authorized.as_mut().unwrap().issuer = books.instance;
    let (own_id, foreign_id) = (own.event_id, foreign.event_id);
    for event in [own, foreign.clone(), foreign] {
        books.recorder.record(event).await.unwrap();
    }
    let settled = books.settled.lock().unwrap().clone();
    assert_eq!(
        settled,
        [
            (account, own_id, amount("0.5")),
            (account, foreign_id, amount("0.25")),
            (account, foreign_id, amount("0.25")),
        ]
    );
    let told: Vec<Uuid> = books
        .ask(
            "SELECT array_agg(authorization_id) FROM foreign_settlements WHERE account_id = $1",
            account,
        )
        .await;
    assert_eq!(told, [foreign_id.0]);
    books.stop().await;
}

#[tokio::test]
async fn usage_of_a_closed_period_goes_to_the_open_one() {
    let books = Books::open().await;
    let account = books.account("10").await;
    books.execute("UPDATE account_funds SET open_period = date_trunc('month', now())::date").await;
    let last_month = clock::now() - TimeDelta::days(31);
    books.recorder.record(usage_at(account, "0.5", last_month)).await.unwrap();
    let moved: bool = books
        .ask("SELECT period > occurred_at::date FROM usage_events WHERE account_id = $1", account)
        .await;
    assert!(moved);
    books.prove(account).await;
    books.stop().await;
}

#[tokio::test]
async fn usage_of_two_months_makes_two_postings() {
    let books = Books::open().await;
    let account = books.account("10").await;
    let last_month = clock::now() - TimeDelta::days(31);
    let events = vec![
        usage(account, "0.5"),
        usage_at(account, "0.25", last_month),
        usage(account, "0.5"),
        usage_at(account, "0.25", last_month),
    ];
    for answer in record_all(&books.recorder, events).await {
        answer.unwrap();
    }
    let periods: i64 = books
        .ask("SELECT count(DISTINCT period) FROM transfers WHERE account_id = $1", account)
        .await;
    assert_eq!(periods, 2);
    books.prove(account).await;
    books.stop().await;
}

#[tokio::test]
async fn what_cannot_be_recorded_is_refused_before_it_is_queued() {
    let books = Books::open().await;
    let account = books.account("10").await;
    let (now, old) = (clock::now(), clock::now() - TimeDelta::days(100));
    let id_at = |moment| AuthorizationId(tollgate::ids::first_id_at(moment));
    let cases: [(&str, &ChangeEvent); 9] = [
        ("OUTSIDE_USAGE_WINDOW", &|event| event.occurred_at = old),
        ("OUTSIDE_USAGE_WINDOW", &|event| event.occurred_at = now + TimeDelta::minutes(6)),
        ("EVENT_ID_NOT_UUIDV7", &|event| event.event_id = id_at(now)),
        ("EVENT_ID_NOT_UUIDV7", &|event| event.event_id = AuthorizationId(Uuid::nil())),
        ("QUANTITIES_OUT_OF_RANGE", &|event| event.fingerprint.quantities.output = u64::MAX),
        ("INVALID_TEXT", &|event| event.served.region = "\0".to_owned()),
        ("INVALID_TEXT", &|event| event.served.served_model = "x".repeat(201)),
        ("INVALID_LATENCY", &|event| event.served.latency = Some(Duration::from_hours(200))),
        ("INVALID_LABELS", &|event| {
            event.detail.labels.insert("team".to_owned(), "a\nb".to_owned());
        }),
    ];
    for (reason, change) in cases {
        let mut event = usage(account, "0.5");
        event.authorized = None;
        change(&mut event);
        let refusal = books.recorder.record(event).await.unwrap_err();
        assert_eq!(refusal.reason(), reason);
        assert_eq!(refusal.kind(), ProblemKind::InvalidArgument);
        assert!(refusal.field().is_some());
    }
    // And the writers are none the worse for it.
    books.recorder.record(usage(account, "0.5")).await.unwrap();
    books.stop().await;
}
