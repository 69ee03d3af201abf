//! The gate: every denial, the promise a grant makes, and crowds that race for the last credits.

use std::sync::Arc;

use rust_decimal::Decimal;
use tollgate::proto::{
    AuthorizeRequest, CancelAuthorizationRequest, DenialReason, ExtendAuthorizationRequest,
    KeyLimits, ListReservationsRequest, RevokeKeyRequest, SuspendAccountRequest, Tier,
    authorize_response::Decision, extend_authorization_response::Decision as Extended,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    server::TestServer,
    world::{
        MODEL, PRO_MODEL, UNPRICED_MODEL, World, all_roles, authorize, decimal, record, request,
        top_up, usd,
    },
};

/// What a grant for 1,000 prompt tokens and `output` tokens of the plain model holds.
fn held(output: u64) -> Decimal {
    Decimal::new(11_000 + i64::try_from(output).unwrap() * 10, 6)
}

#[tokio::test]
async fn a_grant_says_what_it_promises() {
    let world = World::start().await;
    let account = world.startup("acme", "1").await;
    let (key, secret) = world.issue("acme", Tier::Standard, KeyLimits::default()).await;
    let grant = world.granted(&request(&secret, 500)).await;
    assert_eq!(grant.account_id, account);
    assert_eq!(grant.key_id, key.key_id);
    assert_eq!(grant.tier(), Tier::Standard);
    assert_eq!(grant.max_output_tokens, 500);
    assert_eq!(decimal(grant.reserved.as_ref()), held(500));
    assert!(!grant.reduced && grant.price_version > 0 && !grant.token.is_empty());
}

#[tokio::test]
async fn each_check_denies_in_its_order() {
    let world = World::start().await;
    world.startup("acme", "1").await;
    world.startup("suspended", "1").await;
    world.startup("poor", "0").await;
    world.enterprise("globex", "0.01").await;
    let limited = KeyLimits {
        allowed_models: vec!["other/*".to_owned()],
        max_tokens_per_request: 1_200,
        max_cost_per_request: usd("0.000001"),
        ..KeyLimits::default()
    };
    let key = world.key("acme").await;
    let (_, limited) = world.issue("acme", Tier::Standard, limited).await;
    let small = KeyLimits { max_tokens_per_request: 1_200, ..KeyLimits::default() };
    let (_, small) = world.issue("acme", Tier::Standard, small).await;
    let cheap = KeyLimits { max_cost_per_request: usd("0.012"), ..KeyLimits::default() };
    let (_, cheap) = world.issue("acme", Tier::Standard, cheap).await;
    let (revoked_key, revoked) = world.issue("acme", Tier::Standard, KeyLimits::default()).await;
    let revoke = RevokeKeyRequest { key_id: revoked_key.key_id, ..RevokeKeyRequest::default() };
    world.client.keys().revoke_key(revoke).await.unwrap();
    let suspended = world.key("suspended").await;
    let suspend = SuspendAccountRequest {
        account: "suspended".to_owned(),
        reason: "a test".to_owned(),
        ..SuspendAccountRequest::default()
    };
    world.client.accounts().suspend_account(suspend).await.unwrap();
    let (poor, globex) = (world.key("poor").await, world.key("globex").await);
    let unknown = tollgate::accounts::key::ApiKey::generate(tollgate::accounts::key::Tier::Pro);
    let unknown = unknown.unwrap().reveal().to_owned();
    let mut mistyped = key.clone();
    mistyped.pop();

    // Key, model, output tokens; each row passes what the rows before it fail.
    let cases = [
        (mistyped.as_str(), MODEL, 1, DenialReason::MalformedKey),
        ("sk-proj-something-else", MODEL, 1, DenialReason::MalformedKey),
        (&unknown, "nope", 1, DenialReason::UnknownKey),
        (&revoked, "nope", 1, DenialReason::KeyRevoked),
        (&suspended, "nope", 1, DenialReason::AccountSuspended),
        (&limited, "nope", 9_000, DenialReason::ModelNotFound),
        (&limited, UNPRICED_MODEL, 9_000, DenialReason::ModelUnpriced),
        (&limited, PRO_MODEL, 9_000, DenialReason::ModelNotAllowed),
        (&small, PRO_MODEL, 9_000, DenialReason::ProKeyRequired),
        (&small, MODEL, 9_000, DenialReason::RequestTooLarge),
        (&cheap, MODEL, 500, DenialReason::RequestTooExpensive),
        (&globex, MODEL, 500, DenialReason::CreditLimitExceeded),
        (&poor, MODEL, 500, DenialReason::InsufficientCredits),
    ];
    for (key, model, output, reason) in cases {
        let request = AuthorizeRequest { model: model.to_owned(), ..request(key, output) };
        let denial = world.denied(&request, reason).await;
        assert!(!denial.scope.is_empty() && !denial.error_code.is_empty(), "{denial:?}");
        assert!(!denial.message.contains(key), "the message shows the key: {denial:?}");
    }
    let too_long = AuthorizeRequest { input_tokens: 200_001, ..request(&key, 1) };
    let denial = world.denied(&too_long, DenialReason::RequestTooLarge).await;
    assert_eq!((denial.limit.as_str(), denial.used.as_str()), ("200000", "200001"));
}

#[tokio::test]
async fn what_cannot_be_understood_is_an_error_that_names_the_field() {
    let world = World::start().await;
    world.startup("acme", "1").await;
    let key = world.key("acme").await;
    let labels = (0..17).map(|n| (format!("l{n}"), String::new())).collect();
    let cases = [
        ("request_id", AuthorizeRequest { request_id: "x".repeat(129), ..request(&key, 1) }),
        ("request_id", AuthorizeRequest { request_id: "a\nb".to_owned(), ..request(&key, 1) }),
        ("end_user", AuthorizeRequest { end_user: "x".repeat(257), ..request(&key, 1) }),
        ("labels", AuthorizeRequest { labels, ..request(&key, 1) }),
        ("input_tokens", AuthorizeRequest { input_tokens: u64::MAX, ..request(&key, 1) }),
        ("max_output_tokens", request(&key, u64::MAX)),
    ];
    for (field, request) in cases {
        let status = authorize(&world.client, &request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations.first().unwrap().field, field);
    }
}

#[tokio::test]
async fn funds_for_part_of_the_answer_give_a_reduced_grant_where_allowed() {
    let world = World::start().await;
    world.startup("acme", "0.015").await;
    let key = world.key("acme").await;
    world.denied(&request(&key, 4_000), DenialReason::InsufficientCredits).await;
    let reducible = AuthorizeRequest { allow_reduced_output: true, ..request(&key, 4_000) };
    let grant = world.granted(&reducible).await;
    assert!(grant.reduced);
    assert_eq!(grant.max_output_tokens, 400);
    assert_eq!(decimal(grant.reserved.as_ref()), Decimal::new(15, 3));
    // Nothing is left, so that not even one token can be had.
    world.denied(&reducible, DenialReason::InsufficientCredits).await;
}

#[tokio::test]
async fn a_per_request_cap_reduces_where_allowed() {
    let world = World::start().await;
    world.startup("acme", "10").await;
    let caps = KeyLimits { max_cost_per_request: usd("0.012"), ..KeyLimits::default() };
    let (_, key) = world.issue("acme", Tier::Standard, caps).await;
    let reducible = AuthorizeRequest { allow_reduced_output: true, ..request(&key, 4_000) };
    let grant = world.granted(&reducible).await;
    assert_eq!((grant.max_output_tokens, grant.reduced), (100, true));
}

#[tokio::test]
async fn the_same_request_gets_the_same_grant_and_another_is_refused_under_its_id() {
    let world = World::start().await;
    world.startup("acme", "1").await;
    let key = world.key("acme").await;
    let first = AuthorizeRequest { request_id: "r-1".to_owned(), ..request(&key, 100) };
    let grant = world.granted(&first).await;
    assert_eq!(world.granted(&first).await, grant);
    let other = AuthorizeRequest { input_tokens: 7, ..first.clone() };
    let status = authorize(&world.client, &other).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    world.record(&grant.token, 1_000, 10).await.unwrap();
    let again = world.granted(&first).await;
    assert_ne!(again.authorization_id, grant.authorization_id, "it was settled");
}

#[tokio::test]
async fn a_denial_for_want_of_funds_counts_as_reserved_what_requests_hold() {
    let world = World::start().await;
    world.startup("acme", "0.06").await;
    let key = world.key("acme").await;
    // The server leases more than one request needs.
    world.granted(&request(&key, 500)).await;
    let denial = world.denied(&request(&key, 4_000), DenialReason::InsufficientCredits).await;
    assert_eq!((&*denial.limit, &*denial.used), ("0.06", "0"));
    assert_eq!(denial.reserved, held(500).normalize().to_string());
    let left = Decimal::new(6, 2) - held(500);
    assert!(denial.message.contains(&format!("has {} USD", left.normalize())), "{denial:?}");
}

#[tokio::test]
async fn settling_returns_what_was_not_used() {
    let world = World::start().await;
    world.startup("acme", "0.1").await;
    let key = world.key("acme").await;
    // Each may cost 0.051 and costs 0.01: with 0.1 only one at a time can run, nine in all.
    for _ in 0..5 {
        let grant = world.granted(&request(&key, 4_000)).await;
        world.record(&grant.token, 900, 100).await.unwrap();
    }
    world.denied(&request(&key, 4_000), DenialReason::InsufficientCredits).await;
    assert_eq!(decimal(world.balance("acme").await.credits.as_ref()), Decimal::new(5, 2));
    world.verify().await;
}

#[tokio::test]
async fn a_top_up_is_seen_at_once() {
    let world = World::start().await;
    world.startup("acme", "0").await;
    let key = world.key("acme").await;
    for _ in 0..3 {
        world.denied(&request(&key, 100), DenialReason::InsufficientCredits).await;
    }
    top_up(&world.client, "acme", "1").await;
    // The change is announced by the database; that takes milliseconds.
    for _ in 0..50 {
        if matches!(world.ask(&key, 100).await, Decision::Grant(_)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("still denied half a second after the top-up");
}

#[tokio::test]
async fn cancelling_returns_the_reservation_and_is_final() {
    let world = World::start().await;
    world.startup("acme", "0.02").await;
    let key = world.key("acme").await;
    let grant = world.granted(&request(&key, 900)).await;
    world.denied(&request(&key, 900), DenialReason::InsufficientCredits).await;
    let cancel = CancelAuthorizationRequest { token: grant.token.clone() };
    let cancelled =
        world.client.authorization().cancel_authorization(cancel.clone()).await.unwrap();
    let cancelled = cancelled.into_inner();
    assert_eq!(decimal(cancelled.released.as_ref()), held(900));
    assert_eq!(decimal(cancelled.charged.as_ref()), Decimal::ZERO);
    // Again changes nothing; usage afterwards is another content under the same id.
    world.client.authorization().cancel_authorization(cancel).await.unwrap();
    let status = world.record(&grant.token, 1, 1).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status}");
    world.granted(&request(&key, 900)).await;
}

#[tokio::test]
async fn usage_recorded_before_a_cancellation_stands() {
    let world = World::start().await;
    world.startup("acme", "1").await;
    let key = world.key("acme").await;
    let grant = world.granted(&request(&key, 900)).await;
    world.record(&grant.token, 1_000, 0).await.unwrap();
    let cancel = CancelAuthorizationRequest { token: grant.token };
    let answer = world.client.authorization().cancel_authorization(cancel).await.unwrap();
    assert_eq!(decimal(answer.into_inner().charged.as_ref()), Decimal::new(1, 2));
}

#[tokio::test]
async fn an_extension_raises_what_is_held_and_never_beyond_the_funds() {
    let world = World::start().await;
    world.startup("acme", "0.03").await;
    let key = world.key("acme").await;
    let grant = world.granted(&request(&key, 100)).await;
    let extend = |token: &str, output| ExtendAuthorizationRequest {
        token: token.to_owned(),
        max_output_tokens: output,
        allow_reduced_output: false,
    };
    let mut gate = world.client.authorization();
    let raised = gate.extend_authorization(extend(&grant.token, 1_000)).await.unwrap();
    let Some(Extended::Grant(raised)) = raised.into_inner().decision else { panic!("denied") };
    assert_eq!(raised.authorization_id, grant.authorization_id);
    assert_eq!(decimal(raised.reserved.as_ref()), held(1_000));

    let denied = gate.extend_authorization(extend(&raised.token, 4_000)).await.unwrap();
    let Some(Extended::Denial(denied)) = denied.into_inner().decision else { panic!("granted") };
    assert_eq!(denied.reason(), DenialReason::InsufficientCredits);
    let lower = gate.extend_authorization(extend(&raised.token, 10)).await.unwrap_err();
    assert_eq!(lower.code(), Code::InvalidArgument);

    // What was raised is charged without an overrun; then there is nothing left to extend.
    let recorded = world.record(&raised.token, 1_000, 1_000).await.unwrap();
    assert_eq!(decimal(recorded.overrun.as_ref()), Decimal::ZERO);
    let settled = gate.extend_authorization(extend(&raised.token, 2_000)).await.unwrap_err();
    assert_eq!(settled.code(), Code::FailedPrecondition);
    let broken = gate.extend_authorization(extend("broken", 2_000)).await.unwrap_err();
    assert_eq!(broken.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn reservations_are_listed_page_by_page_until_they_are_settled() {
    let world = World::start().await;
    world.startup("acme", "1").await;
    let key = world.key("acme").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.granted(&request(&key, 10)).await.authorization_id);
    }
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListReservationsRequest { account: "acme".to_owned(), page_size: 2, page_token };
        let page = world.client.authorization().list_reservations(request).await.unwrap();
        let page = page.into_inner();
        listed.extend(page.reservations.into_iter().map(|one| one.authorization_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ids);
}

#[tokio::test]
async fn a_crowd_of_64_is_never_served_more_than_the_funds_cover() {
    let world = World::start().await;
    // 100 requests of 0.0111 USD each, to the last credit.
    world.startup("acme", "1.11").await;
    let key = world.key("acme").await;
    let world = Arc::new(world);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (world, key) = (Arc::clone(&world), key.clone());
        clients.spawn(async move {
            let mut served = 0_u32;
            for _ in 0..10 {
                if let Decision::Grant(grant) = world.ask(&key, 10).await {
                    // As dear as it may be: the prompt had its whole margin.
                    let used = world.record(&grant.token, 1_100, 10).await.unwrap();
                    assert_eq!(decimal(used.overrun.as_ref()), Decimal::ZERO);
                    served += 1;
                }
            }
            served
        });
    }
    let served: u32 = clients.join_all().await.into_iter().sum();
    assert_eq!(served, 100);
    let balance = world.balance("acme").await;
    assert_eq!(decimal(balance.credits.as_ref()), Decimal::ZERO);
    assert_eq!(decimal(balance.overdrawn.as_ref()), Decimal::ZERO);
    world.verify().await;
}

#[tokio::test]
async fn two_servers_share_an_accounts_funds_without_overspending() {
    let world = World::start().await;
    let second = TestServer::start_on(world.server.database.clone()).await;
    let other = all_roles(&second).await;
    world.startup("acme", "1.11").await;
    let key = world.key("acme").await;
    let (first, mut clients) = (world.client.clone(), tokio::task::JoinSet::new());
    for index in 0..32 {
        // Authorized on one server, recorded on the other.
        let (gate, books) = if index % 2 == 0 { (&first, &other) } else { (&other, &first) };
        let (gate, books, key) = (gate.clone(), books.clone(), key.clone());
        clients.spawn(async move {
            let mut served = 0_u32;
            for _ in 0..10 {
                let decision = authorize(&gate, &request(&key, 10)).await.unwrap();
                if let Decision::Grant(grant) = decision {
                    let used = record(&books, &grant.token, 1_100, 10).await.unwrap();
                    assert_eq!(decimal(used.overrun.as_ref()), Decimal::ZERO);
                    served += 1;
                }
            }
            served
        });
    }
    let served: u32 = clients.join_all().await.into_iter().sum();
    assert!(served <= 100, "{served} were served");
    let spent = Decimal::new(111, 4) * Decimal::from(served);
    let balance = world.balance("acme").await;
    assert_eq!(decimal(balance.credits.as_ref()), Decimal::new(111, 2) - spent);
    world.verify().await;
    second.drain().await.unwrap();
}
