//! Rate limits, spike guard, allowlist and project of a key, over gRPC and from the command line.

use std::time::Duration;

use tollgate::proto::{
    AuthorizeRequest, DenialReason, IssueKeyRequest, Key, KeyLimits, ListKeysRequest, Model,
    PublishPricesRequest, Rates, RotateKeyRequest, SpikeGuard, SpikeGuardMode, Tier,
    UpdateKeyRequest, WarningReason, authorize_response::Decision,
};
use tonic::Code;

use crate::harness::{
    server::{TestServer, refusal},
    world::{World, all_roles, authorize, request, usd},
};

/// What a request for one output token may cost: 1,100 prompt tokens with the margin, and one.
const SMALL: &str = "0.01101";

fn guarded(mode: SpikeGuardMode, multiple: &str, floor: &str) -> KeyLimits {
    let guard = SpikeGuard { mode: mode.into(), multiple: multiple.to_owned(), floor: usd(floor) };
    KeyLimits { spike_guard: Some(guard), ..KeyLimits::default() }
}

async fn update(world: &World, key: &Key, limits: KeyLimits) -> Key {
    let request = UpdateKeyRequest {
        key_id: key.key_id.clone(),
        name: key.name.clone(),
        limits: Some(limits),
        ..UpdateKeyRequest::default()
    };
    world.client.keys().update_key(request).await.unwrap().into_inner().key.unwrap()
}

async fn rotate(world: &World, key: &Key) -> (Key, String) {
    let request = RotateKeyRequest { key_id: key.key_id.clone(), ..RotateKeyRequest::default() };
    let rotated = world.client.keys().rotate_key(request).await.unwrap().into_inner();
    (rotated.key.unwrap(), rotated.api_key)
}

async fn learn(world: &World, secret: &str, times: u32) {
    for _ in 0..times {
        world.granted(&request(secret, 1)).await;
    }
}

#[tokio::test]
async fn requests_beyond_the_rate_are_denied_until_their_time() {
    let world = World::start().await;
    world.startup("acme", "10").await;
    let limits = KeyLimits { requests_per_minute: 3, ..KeyLimits::default() };
    let (key, secret) = world.issue("acme", Tier::Standard, limits.clone()).await;
    learn(&world, &secret, 3).await;
    let denial = world.denied(&request(&secret, 1), DenialReason::RateLimited).await;
    assert_eq!((denial.http_status, denial.error_code.as_str()), (429, "rate_limit_exceeded"));
    assert_eq!((denial.limit.as_str(), denial.scope), ("3", format!("key {}", key.hint)));
    let wait = denial.retry_after.unwrap();
    assert!(denial.retryable && (1..=20).contains(&wait.seconds), "{wait:?}");

    // The successor has what is left, which is nothing.
    let (successor, second) = rotate(&world, &key).await;
    assert_eq!(successor.limits, Some(limits));
    world.denied(&request(&second, 1), DenialReason::RateLimited).await;
    // A higher limit is as used up as the old one; without one there is none.
    let raised = KeyLimits { requests_per_minute: 6_000, ..KeyLimits::default() };
    update(&world, &successor, raised).await;
    let denial = world.denied(&request(&second, 1), DenialReason::RateLimited).await;
    assert_eq!(denial.limit, "6000");
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.granted(&request(&second, 1)).await;
    update(&world, &key, KeyLimits::default()).await;
    learn(&world, &secret, 5).await;
}

#[tokio::test]
async fn tokens_beyond_the_rate_are_denied_and_take_no_request() {
    let world = World::start().await;
    world.startup("acme", "10").await;
    let limits =
        KeyLimits { requests_per_minute: 2, tokens_per_minute: 3_000, ..KeyLimits::default() };
    let (_, secret) = world.issue("acme", Tier::Standard, limits).await;
    world.granted(&request(&secret, 500)).await;
    let denial = world.denied(&request(&secret, 900), DenialReason::RateLimited).await;
    assert!(denial.retryable && denial.message.contains("tokens"), "{denial:?}");
    let never = world.denied(&request(&secret, 2_001), DenialReason::RateLimited).await;
    assert_eq!((never.retryable, never.used.as_str()), (false, "3001"));
    world.granted(&request(&secret, 1)).await;
    let denial = world.denied(&request(&secret, 1), DenialReason::RateLimited).await;
    assert!(denial.message.contains("requests"), "{denial:?}");
}

#[tokio::test]
async fn a_spike_is_refused_and_what_is_usual_survives_rotation_and_restart() {
    let world = World::start().await;
    world.startup("acme", "100").await;
    let limits = guarded(SpikeGuardMode::Refuse, "2", "0");
    let (key, secret) = world.issue("acme", Tier::Standard, limits).await;
    learn(&world, &secret, 19).await;
    world.granted(&request(&secret, 1)).await;
    // 2 × 0.01101 allow 0.02202, which 1,102 output tokens cost.
    world.granted(&request(&secret, 1_102)).await;
    learn(&world, &secret, 30).await;
    let (_, second) = rotate(&world, &key).await;
    let large = request(&second, 4_000);
    let denial = world.denied(&large, DenialReason::SpikeGuard).await;
    assert_eq!((denial.http_status, denial.error_code.as_str()), (429, "spike_guard"));
    assert_eq!((denial.retryable, denial.used.as_str()), (false, "0.051"));
    let limit: f64 = denial.limit.parse().unwrap();
    assert!((0.022..0.023).contains(&limit), "{denial:?}");
    let metrics = world.server.metrics().await;
    assert!(metrics.contains("tollgate_spikes_total{action=\"refused\"} 1"), "{metrics}");

    let database = world.server.database.clone();
    world.server.drain().await.unwrap();
    let server = TestServer::start_on(database).await;
    let client = all_roles(&server).await;
    let world = World { server, client };
    let again = world.denied(&large, DenialReason::SpikeGuard).await;
    assert_eq!(again.limit, denial.limit);
    world.granted(&request(&second, 1)).await;
}

#[tokio::test]
async fn a_spike_that_is_flagged_is_granted_with_a_warning() {
    let world = World::start().await;
    world.startup("acme", "100").await;
    let limits = guarded(SpikeGuardMode::Flag, "2", "0");
    let (key, secret) = world.issue("acme", Tier::Standard, limits).await;
    learn(&world, &secret, 20).await;
    assert!(world.granted(&request(&secret, 1)).await.warnings.is_empty());
    let large = AuthorizeRequest { request_id: "one".to_owned(), ..request(&secret, 4_000) };
    let grant = world.granted(&large).await;
    let [warning] = grant.warnings.as_slice() else { panic!("{grant:?}") };
    assert_eq!(warning.reason(), WarningReason::SpikeGuard);
    assert_eq!(warning.scope, format!("key {}", key.hint));
    assert_eq!((warning.limit.as_str(), warning.used.as_str()), ("0.02202", "0.051"));
    assert!(warning.message.contains(SMALL), "{warning:?}");
    assert_eq!(world.granted(&large).await.warnings, grant.warnings, "the same request again");
    let metrics = world.server.metrics().await;
    assert!(metrics.contains("tollgate_spikes_total{action=\"flagged\"} 1"), "{metrics}");

    let floor = guarded(SpikeGuardMode::Refuse, "2", "0.051");
    update(&world, &key, floor).await;
    world.granted(&request(&secret, 4_000)).await;
}

#[tokio::test]
async fn a_minute_beyond_the_usual_is_refused_until_it_is_over() {
    let world = World::start().await;
    let account = world.startup("acme", "100").await;
    let limits = guarded(SpikeGuardMode::Refuse, "2", "0");
    let (key, secret) = world.issue("acme", Tier::Standard, limits).await;
    // Five minutes cannot be waited for here: a server before this one has learned of them.
    sqlx::query(
        "INSERT INTO key_norms (lineage, account_id, request_norm, request_samples, minute_norm,
                                minute_samples)
         VALUES ($1::uuid, $2::uuid, 1, 20, 0.006, 5)",
    )
    .bind(&key.key_id)
    .bind(&account)
    .execute(&world.server.pool())
    .await
    .unwrap();
    world.granted(&request(&secret, 1)).await;
    let denial = world.denied(&request(&secret, 1_000), DenialReason::SpikeGuard).await;
    assert_eq!(denial.limit, "0.012");
    assert!(denial.retryable && denial.message.contains("minute"), "{denial:?}");
    assert!((1..=60).contains(&denial.retry_after.unwrap().seconds));
}

/// One change to good limits, and the reason and the field that it is refused with.
type Bad = (fn(&mut IssueKeyRequest), &'static str, &'static str);

fn guard(request: &mut IssueKeyRequest) -> &mut SpikeGuard {
    request.limits.get_or_insert_default().spike_guard.get_or_insert_default()
}

const BAD: &[Bad] = &[
    (|r| "Search".clone_into(&mut r.project), "INVALID_HANDLE", "project"),
    (|r| r.project = "x".repeat(41), "INVALID_HANDLE", "project"),
    (
        |r| r.limits.get_or_insert_default().requests_per_minute = u64::MAX,
        "OUT_OF_RANGE",
        "limits.requests_per_minute",
    ),
    (
        |r| r.limits.get_or_insert_default().tokens_per_minute = u64::MAX,
        "OUT_OF_RANGE",
        "limits.tokens_per_minute",
    ),
    (|r| guard(r).mode = 0, "MISSING", "limits.spike_guard.mode"),
    (|r| guard(r).mode = 9, "UNKNOWN_CHOICE", "limits.spike_guard.mode"),
    (|r| guard(r).multiple.clear(), "INVALID_MULTIPLE", "limits.spike_guard.multiple"),
    (|r| "1".clone_into(&mut guard(r).multiple), "INVALID_MULTIPLE", "limits.spike_guard.multiple"),
    (|r| guard(r).floor = usd("-1"), "NEGATIVE", "limits.spike_guard.floor.amount"),
    (|r| guard(r).floor = usd("x"), "INVALID_AMOUNT", "limits.spike_guard.floor.amount"),
];

#[tokio::test]
async fn a_bad_limit_is_named_by_its_field() {
    let world = World::start().await;
    world.startup("acme", "0").await;
    for (spoil, reason, field) in BAD {
        let mut request = IssueKeyRequest {
            account: "acme".to_owned(),
            name: "test".to_owned(),
            tier: Tier::Standard.into(),
            limits: Some(guarded(SpikeGuardMode::Refuse, "10", "1")),
            ..IssueKeyRequest::default()
        };
        spoil(&mut request);
        let status = world.client.keys().issue_key(request).await.unwrap_err();
        let expected = (Code::InvalidArgument, (*reason).to_owned(), (*field).to_owned());
        assert_eq!(refusal(&status), expected, "{}", status.message());
    }
}

#[tokio::test]
async fn every_field_of_a_key_comes_back_and_a_rotation_keeps_them() {
    let world = World::start().await;
    world.startup("acme", "0").await;
    let limits = KeyLimits {
        requests_per_minute: 600,
        tokens_per_minute: 1_000_000_000,
        ..guarded(SpikeGuardMode::Flag, "1.5", "0")
    };
    let request = IssueKeyRequest {
        account: "acme".to_owned(),
        name: "test".to_owned(),
        tier: Tier::Standard.into(),
        limits: Some(limits.clone()),
        project: "search".to_owned(),
        ..IssueKeyRequest::default()
    };
    let key = world.client.keys().issue_key(request).await.unwrap().into_inner().key.unwrap();
    assert_eq!((key.project.as_str(), key.limits.as_ref()), ("search", Some(&limits)));
    let (successor, _) = rotate(&world, &key).await;
    let (last, _) = rotate(&world, &successor).await;
    assert_eq!((last.project.as_str(), last.limits.as_ref()), ("search", Some(&limits)));
    let lineages: Vec<String> = sqlx::query_scalar("SELECT DISTINCT lineage::text FROM api_keys")
        .fetch_all(&world.server.pool())
        .await
        .unwrap();
    assert_eq!(lineages, [key.key_id]);
    let all_keys = ListKeysRequest { account: "acme".to_owned(), ..ListKeysRequest::default() };
    let listed = world.client.keys().list_keys(all_keys).await.unwrap().into_inner().keys;
    assert!(listed.iter().all(|key| key.project == "search" && key.limits == Some(limits.clone())));
}

#[tokio::test]
async fn a_pattern_allows_the_models_of_one_provider() {
    let world = World::start().await;
    world.startup("acme", "10").await;
    for name in ["deepseek-ai/DeepSeek-V3.2", "deepseek-ai-copy/DeepSeek-V3.2"] {
        let model =
            Model { name: name.to_owned(), provider: "test".to_owned(), ..Model::default() };
        let price = tollgate::proto::Price {
            model: name.to_owned(),
            currency_code: "USD".to_owned(),
            effective_from: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            rates: Some(Rates {
                input: "1".to_owned(),
                output: "1".to_owned(),
                ..Rates::default()
            }),
            source: "the tests".to_owned(),
            ..tollgate::proto::Price::default()
        };
        let publish = PublishPricesRequest {
            models: vec![model],
            prices: vec![price],
            idempotency_key: String::new(),
        };
        world.client.catalog().publish_prices(publish).await.unwrap();
    }
    let limits =
        KeyLimits { allowed_models: vec!["deepseek-ai/*".to_owned()], ..KeyLimits::default() };
    let (_, secret) = world.issue("acme", Tier::Standard, limits).await;
    let of = |model: &str| AuthorizeRequest { model: model.to_owned(), ..request(&secret, 1) };
    world.granted(&of("deepseek-ai/DeepSeek-V3.2")).await;
    let denied = DenialReason::ModelNotAllowed;
    world.denied(&of("deepseek-ai-copy/DeepSeek-V3.2"), denied).await;
    world.denied(&request(&secret, 1), denied).await;
    assert!(authorize(&world.client, &of("deepseek-ai/DeepSeek-V3.2")).await.is_ok());
}

#[tokio::test]
async fn two_servers_share_a_rate_between_them() {
    let world = World::start().await;
    let second = TestServer::start_on(world.server.database.clone()).await;
    let other = all_roles(&second).await;
    world.startup("acme", "10").await;
    let limits = KeyLimits { requests_per_minute: 10, ..KeyLimits::default() };
    let (_, secret) = world.issue("acme", Tier::Standard, limits).await;
    // Each has beaten and knows of the other.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut granted = 0;
    for client in [&world.client, &other] {
        while let Decision::Grant(_) = authorize(client, &request(&secret, 1)).await.unwrap() {
            granted += 1;
            assert!(granted <= 12, "the limit holds for each server instead of for both");
        }
    }
    // A cell is replenished every twelve seconds at each, which a slow machine may see once.
    assert!((10..=12).contains(&granted), "{granted}");
}
