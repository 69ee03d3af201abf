//! API keys, over gRPC.

use std::time::Duration;

use prost::Message as _;
use tollgate::{
    accounts::key::{self, ParsedKey},
    cli::client::Authorized,
    clock,
    metering::rollups::{self, Bounds},
    proto::{
        AuthorizeRequest, CreateAccountRequest, DenialReason, IssueKeyRequest, IssueKeyResponse,
        Key, KeyLimits, KeyStatus, ListKeysRequest, Money, RevokeKeyRequest,
        RevokeLeakedKeysRequest, RotateKeyRequest, RotateKeyResponse, Tier, UpdateKeyRequest,
        authorize_response::Decision, key_service_client::KeyServiceClient,
    },
};
use tonic::{Code, Status};

use crate::harness::{
    server::{TestServer, refusal},
    world::World,
};

type Keys = KeyServiceClient<Authorized>;

/// A server with one account, `acme`, and its id.
pub(crate) async fn with_account() -> (TestServer, String) {
    let server = TestServer::start().await;
    let account = account(&server, "acme").await;
    (server, account)
}

async fn account(server: &TestServer, handle: &str) -> String {
    let request = CreateAccountRequest { handle: handle.to_owned(), ..Default::default() };
    let made =
        server.operator().await.accounts().create_account(request).await.unwrap().into_inner();
    made.account.unwrap().account_id
}

pub(crate) fn standard(name: &str) -> IssueKeyRequest {
    IssueKeyRequest {
        account: "acme".to_owned(),
        name: name.to_owned(),
        tier: Tier::Standard.into(),
        ..Default::default()
    }
}

pub(crate) async fn issue(
    keys: &mut Keys,
    request: IssueKeyRequest,
) -> Result<IssueKeyResponse, Status> {
    Ok(keys.issue_key(request).await?.into_inner())
}

async fn list(keys: &mut Keys) -> Vec<Key> {
    let request = ListKeysRequest { account: "acme".to_owned(), ..Default::default() };
    keys.list_keys(request).await.unwrap().into_inner().keys
}

fn rotation(key: &Key, overlap_seconds: Option<i64>) -> RotateKeyRequest {
    RotateKeyRequest {
        key_id: key.key_id.clone(),
        overlap: overlap_seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        ..Default::default()
    }
}

async fn rotate(keys: &mut Keys, request: RotateKeyRequest) -> Result<RotateKeyResponse, Status> {
    Ok(keys.rotate_key(request).await?.into_inner())
}

pub(crate) async fn revoke(keys: &mut Keys, key: &Key) -> Result<Key, Status> {
    let request = RevokeKeyRequest {
        key_id: key.key_id.clone(),
        reason: "leaked".to_owned(),
        ..Default::default()
    };
    Ok(keys.revoke_key(request).await?.into_inner().key.unwrap())
}

/// So many seconds from now, as the contract carries it.
fn in_seconds(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: clock::now().timestamp() + seconds, nanos: 0 }
}

fn seconds(moment: Option<&prost_types::Timestamp>) -> i64 {
    moment.expect("a moment").seconds
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_only_as_its_hash() {
    let (server, account_id) = with_account().await;
    let mut keys = server.operator().await.keys();
    let mut secrets = Vec::new();
    for (tier, prefix) in [(Tier::Standard, "ga_sk_"), (Tier::Pro, "ga_pro_")] {
        let request = IssueKeyRequest { tier: tier.into(), ..standard("production") };
        let issued = issue(&mut keys, request).await.unwrap();
        let (shown, key) = (issued.api_key, issued.key.unwrap());
        assert!(shown.starts_with(prefix));
        assert_eq!(key.hint, format!("{prefix}…{}", &shown[shown.len() - 4..]));
        assert_eq!((key.account_id.as_str(), key.tier()), (account_id.as_str(), tier));
        let parsed: ParsedKey = key::parse(&shown).unwrap();
        let stored: Vec<u8> = sqlx::query_scalar("SELECT key_hash FROM api_keys WHERE hint = $1")
            .bind(&key.hint)
            .fetch_one(&server.pool())
            .await
            .unwrap();
        assert_eq!(stored, parsed.hash);
        secrets.push(shown[prefix.len()..prefix.len() + 43].to_owned());
    }
    let kept: String = sqlx::query_scalar("SELECT string_agg(k::text, ' ') FROM api_keys k")
        .fetch_one(&server.pool())
        .await
        .unwrap();
    assert!(secrets.iter().all(|secret| !kept.contains(secret)), "a secret is stored");
    assert_eq!(list(&mut keys).await.len(), 2);
    server.drain().await.unwrap();
}

#[tokio::test]
async fn a_repeated_issue_finds_the_key_but_not_its_secret() {
    let (server, _) = with_account().await;
    let mut keys = server.operator().await.keys();
    let request = IssueKeyRequest { idempotency_key: "once".to_owned(), ..standard("production") };
    let first = issue(&mut keys, request.clone()).await.unwrap();
    let again = issue(&mut keys, request.clone()).await.unwrap();
    assert_eq!(again.key, first.key);
    assert!(again.api_key.is_empty() && !first.api_key.is_empty());
    let old = first.key.unwrap();
    let request =
        RotateKeyRequest { idempotency_key: "once".to_owned(), ..rotation(&old, Some(60)) };
    let rotated = rotate(&mut keys, request.clone()).await.unwrap();
    let again = rotate(&mut keys, request).await.unwrap();
    assert_eq!((&again.key, &again.previous), (&rotated.key, &rotated.previous));
    assert!(again.api_key.is_empty());
    assert_eq!(list(&mut keys).await.len(), 2);

    let stored: Vec<Vec<u8>> = sqlx::query_scalar("SELECT response FROM idempotency_keys")
        .fetch_all(&server.pool())
        .await
        .unwrap();
    assert_eq!(stored.len(), 2);
    for secret in [&first.api_key, &rotated.api_key] {
        for answer in &stored {
            let found = answer.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "a secret is stored");
        }
    }
    assert!(stored.iter().any(|answer| {
        IssueKeyResponse::decode(answer.as_slice()).unwrap().key == Some(old.clone())
    }));
}

#[tokio::test]
async fn sixteen_simultaneous_issues_with_one_key_make_one() {
    let (server, _) = with_account().await;
    let mut keys = server.operator().await.keys();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let mut keys = keys.clone();
        calls.spawn(async move {
            let request =
                IssueKeyRequest { idempotency_key: "raced".to_owned(), ..standard("production") };
            issue(&mut keys, request).await.unwrap()
        });
    }
    let answers = calls.join_all().await;
    assert_eq!(answers.iter().filter(|answer| !answer.api_key.is_empty()).count(), 1);
    assert!(answers.iter().all(|answer| answer.key == answers[0].key));
    assert_eq!(list(&mut keys).await.len(), 1);
}

/// One change to a good request, and the reason and the field that it is refused with.
type BadIssue = (fn(&mut IssueKeyRequest), &'static str, &'static str);

fn limits(request: &mut IssueKeyRequest) -> &mut KeyLimits {
    request.limits.get_or_insert_default()
}

fn cost(currency: &str, amount: &str) -> Money {
    Money { currency_code: currency.to_owned(), amount: amount.to_owned() }
}

const BAD_ISSUES: &[BadIssue] = &[
    (|r| r.account.clear(), "MISSING_ACCOUNT", "account"),
    (|r| r.name.clear(), "MISSING", "name"),
    (|r| r.name = "x".repeat(201), "TOO_LONG", "name"),
    (|r| "a\u{7}".clone_into(&mut r.name), "CONTROL_CHARACTER", "name"),
    (|r| r.tier = Tier::Unspecified.into(), "MISSING", "tier"),
    (|r| r.tier = 42, "UNKNOWN_CHOICE", "tier"),
    (|r| r.expires_at = Some(in_seconds(-1)), "IN_THE_PAST", "expires_at"),
    (
        |r| r.expires_at = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
        "INVALID_TIMESTAMP",
        "expires_at",
    ),
    (
        |r| limits(r).allowed_models = vec!["gpt-4o".to_owned(), "*a".to_owned()],
        "INVALID_PATTERN",
        "limits.allowed_models[1]",
    ),
    (
        |r| limits(r).allowed_models = vec!["gpt-4o".to_owned(); 201],
        "TOO_MANY",
        "limits.allowed_models",
    ),
    (
        |r| limits(r).max_tokens_per_request = u64::MAX,
        "OUT_OF_RANGE",
        "limits.max_tokens_per_request",
    ),
    (
        |r| limits(r).max_cost_per_request = Some(cost("USD", "0")),
        "NOT_POSITIVE",
        "limits.max_cost_per_request.amount",
    ),
    (
        |r| limits(r).max_cost_per_request = Some(cost("EUR", "1")),
        "CURRENCY_MISMATCH",
        "limits.max_cost_per_request.currency_code",
    ),
];

#[tokio::test]
async fn a_bad_field_of_a_key_is_named_and_nothing_is_issued() {
    let (server, _) = with_account().await;
    let mut keys = server.operator().await.keys();
    for (spoil, reason, field) in BAD_ISSUES {
        let mut request = standard("production");
        spoil(&mut request);
        let status = issue(&mut keys, request).await.unwrap_err();
        let expected = (Code::InvalidArgument, (*reason).to_owned(), (*field).to_owned());
        assert_eq!(refusal(&status), expected, "{}", status.message());
    }
    assert_eq!(list(&mut keys).await, []);
}

#[tokio::test]
async fn a_key_that_is_not_there_is_not_found() {
    let (server, _) = with_account().await;
    let mut keys = server.operator().await.keys();
    let nowhere = "01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
    for (key_id, code, reason) in [
        (nowhere, Code::NotFound, "UNKNOWN_KEY"),
        ("ga_sk_…x7Qp".to_owned(), Code::InvalidArgument, "INVALID_ID"),
        (String::new(), Code::InvalidArgument, "MISSING_ID"),
    ] {
        let key = Key { key_id, ..Default::default() };
        for status in [
            revoke(&mut keys, &key).await.unwrap_err(),
            rotate(&mut keys, rotation(&key, None)).await.unwrap_err(),
        ] {
            let expected = (code, reason.to_owned(), "key_id".to_owned());
            assert_eq!(refusal(&status), expected);
        }
    }
}

#[tokio::test]
async fn an_update_replaces_everything_that_may_change_and_nothing_else() {
    let (server, _) = with_account().await;
    let mut keys = server.operator().await.keys();
    let issued = issue(&mut keys, standard("old name")).await.unwrap().key.unwrap();
    let limits = KeyLimits {
        allowed_models: vec!["Pro/*".to_owned(), "gpt-4o".to_owned()],
        max_tokens_per_request: 10_000,
        max_cost_per_request: Some(cost("USD", "0.25")),
        ..KeyLimits::default()
    };
    let request = UpdateKeyRequest {
        key_id: issued.key_id.clone(),
        name: "new name".to_owned(),
        limits: Some(limits.clone()),
        expires_at: Some(in_seconds(3_600)),
        ..Default::default()
    };
    let updated = keys.update_key(request.clone()).await.unwrap().into_inner().key.unwrap();
    let expected = Key {
        name: "new name".to_owned(),
        limits: Some(limits),
        expires_at: request.expires_at,
        ..issued.clone()
    };
    assert_eq!(updated, expected);
    assert_eq!(list(&mut keys).await, [expected]);

    let bare = UpdateKeyRequest { limits: None, expires_at: None, ..request };
    let bared = keys.update_key(bare).await.unwrap().into_inner().key.unwrap();
    assert_eq!((bared.limits, bared.expires_at), (issued.limits, None));
}

#[tokio::test]
async fn a_rotated_key_works_until_its_deadline_beside_its_successor() {
    let (server, _) = with_account().await;
    let mut keys = server.operator().await.keys();
    for (had, overlap, expected) in [
        (None, None, 24 * 3_600),
        (None, Some(3_600), 3_600),
        (None, Some(30 * 24 * 3_600), 30 * 24 * 3_600),
        // Never later than the deadline that it had, which its successor keeps.
        (Some(60), Some(3_600), 60),
    ] {
        let request = IssueKeyRequest {
            expires_at: had.map(in_seconds),
            limits: Some(KeyLimits { max_tokens_per_request: 7, ..Default::default() }),
            ..standard("production")
        };
        let old = issue(&mut keys, request).await.unwrap().key.unwrap();
        let rotated = rotate(&mut keys, rotation(&old, overlap)).await.unwrap();
        let (successor, previous) = (rotated.key.unwrap(), rotated.previous.unwrap());
        assert!(key::parse(&rotated.api_key).is_ok());
        assert_eq!(successor.rotated_from, old.key_id);
        assert_eq!(successor.expires_at, old.expires_at);
        assert_eq!(
            (&successor.name, successor.tier, &successor.limits),
            (&old.name, old.tier, &old.limits)
        );
        assert_eq!(
            (previous.key_id.as_str(), previous.status()),
            (old.key_id.as_str(), KeyStatus::Active)
        );
        let left = seconds(previous.expires_at.as_ref()) - clock::now().timestamp();
        assert!((expected - 20..=expected).contains(&left), "{left} s instead of {expected}");
    }
}

#[tokio::test]
async fn a_key_rotated_without_overlap_has_expired_when_the_call_returns() {
    let (server, _) = with_account().await;
    let mut keys = server.operator().await.keys();
    let old = issue(&mut keys, standard("production")).await.unwrap().key.unwrap();
    let rotated = rotate(&mut keys, rotation(&old, Some(0))).await.unwrap();
    assert_eq!(rotated.previous.unwrap().status(), KeyStatus::Expired);
    let status = rotate(&mut keys, rotation(&old, None)).await.unwrap_err();
    assert_eq!(refusal(&status).1, "KEY_EXPIRED");
}

#[tokio::test]
async fn a_rotation_that_cannot_be_is_refused() {
    let (server, _) = with_account().await;
    let mut keys = server.operator().await.keys();
    let old = issue(&mut keys, standard("production")).await.unwrap().key.unwrap();
    for (overlap, reason) in [
        (-1, "INVALID_DURATION"),
        (30 * 24 * 3_600 + 1, "OUT_OF_RANGE"),
        (i64::MAX, "OUT_OF_RANGE"),
    ] {
        let status = rotate(&mut keys, rotation(&old, Some(overlap))).await.unwrap_err();
        let expected = (Code::InvalidArgument, reason.to_owned(), "overlap".to_owned());
        assert_eq!(refusal(&status), expected);
    }
    let successor = rotate(&mut keys, rotation(&old, None)).await.unwrap().key.unwrap();
    let status = rotate(&mut keys, rotation(&old, None)).await.unwrap_err();
    assert_eq!(refusal(&status).1, "KEY_ROTATED");
    assert!(status.message().contains(&successor.key_id), "{}", status.message());
    // Where the successor leaked, the old key may have another.
    revoke(&mut keys, &successor).await.unwrap();
    rotate(&mut keys, rotation(&old, None)).await.unwrap();
}

#[tokio::test]
async fn a_revoked_key_stays_revoked_whatever_comes() {
    let (server, _) = with_account().await;
    let mut keys = server.operator().await.keys();
    let issued = issue(&mut keys, standard("production")).await.unwrap().key.unwrap();
    let revoked = revoke(&mut keys, &issued).await.unwrap();
    assert_eq!((revoked.status(), revoked.revoked_reason.as_str()), (KeyStatus::Revoked, "leaked"));
    assert_eq!(revoke(&mut keys, &issued).await.unwrap(), revoked, "revoking again");
    let update = UpdateKeyRequest {
        key_id: issued.key_id.clone(),
        name: "alive".to_owned(),
        ..Default::default()
    };
    for status in [
        keys.update_key(update).await.unwrap_err(),
        rotate(&mut keys, rotation(&issued, None)).await.unwrap_err(),
    ] {
        assert_eq!(refusal(&status).0, Code::FailedPrecondition);
        assert_eq!(refusal(&status).1, "KEY_REVOKED");
    }
}

#[tokio::test]
async fn a_revoked_key_is_dead_on_this_server_when_the_call_returns() {
    let (server, _) = with_account().await;
    let mut keys = server.operator().await.keys();
    let mut gateway = server.gateway().await.authorization();
    let issued = issue(&mut keys, standard("production")).await.unwrap();
    let request = AuthorizeRequest {
        api_key: issued.api_key,
        model: "no such model".to_owned(),
        ..Default::default()
    };
    let mut reason = async || {
        let answer = gateway.authorize(request.clone()).await.unwrap().into_inner();
        match answer.decision {
            Some(Decision::Denial(denial)) => denial.reason(),
            other => panic!("no denial: {other:?}"),
        }
    };
    // The key itself is good, so the next check speaks; twice, so that it is in memory.
    assert_eq!(reason().await, DenialReason::ModelNotFound);
    assert_eq!(reason().await, DenialReason::ModelNotFound);
    revoke(&mut keys, &issued.key.unwrap()).await.unwrap();
    assert_eq!(reason().await, DenialReason::KeyRevoked);
}

#[tokio::test]
async fn a_tenant_manages_its_own_keys_but_makes_no_pro_key() {
    let (server, own) = with_account().await;
    let other = account(&server, "other").await;
    let mut tenant = server.tenant(own.parse().unwrap()).await.keys();
    let mut stranger = server.tenant(other.parse().unwrap()).await.keys();
    let key = issue(&mut tenant, standard("mine")).await.unwrap().key.unwrap();

    let status = revoke(&mut stranger, &key).await.unwrap_err();
    assert_eq!((refusal(&status).0, refusal(&status).1.as_str()), (Code::NotFound, "UNKNOWN_KEY"));
    assert_eq!(issue(&mut stranger, standard("theirs")).await.unwrap_err().code(), Code::NotFound);
    let pro = IssueKeyRequest { tier: Tier::Pro.into(), ..standard("mine") };
    let status = issue(&mut tenant, pro).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(refusal(&status).1, "PRO_KEY_NOT_ALLOWED");

    // Two tenants may choose the same idempotency key.
    let keyed = |account: &str| IssueKeyRequest {
        account: account.to_owned(),
        idempotency_key: "1".to_owned(),
        ..standard("keyed")
    };
    issue(&mut tenant, keyed("acme")).await.unwrap();
    issue(&mut stranger, keyed("other")).await.unwrap();
    revoke(&mut tenant, &key).await.unwrap();
}

#[tokio::test]
async fn a_hash_that_is_none_is_refused_by_its_place() {
    let (server, _) = with_account().await;
    let mut keys = server.operator().await.keys();
    for (hashes, reason, field) in [
        (vec![], "MISSING", "key_hashes"),
        (vec![vec![0; 32], vec![0; 31]], "WRONG_LENGTH", "key_hashes[1]"),
        (vec![vec![0; 32]; 1_001], "TOO_MANY", "key_hashes"),
    ] {
        let request = RevokeLeakedKeysRequest { key_hashes: hashes, ..Default::default() };
        let refused = keys.revoke_leaked_keys(request).await.unwrap_err();
        let expected = (Code::InvalidArgument, reason.to_owned(), field.to_owned());
        assert_eq!(refusal(&refused), expected);
    }
    let request = RevokeLeakedKeysRequest { key_hashes: vec![vec![7; 32]], ..Default::default() };
    let answer = keys.revoke_leaked_keys(request).await.unwrap().into_inner();
    assert_eq!((answer.keys.len(), answer.unknown), (0, 1));
}

#[tokio::test]
async fn a_list_says_when_each_key_was_last_used() {
    let world = World::start().await;
    let acme = world.startup("acme", "10").await;
    let (used, unused) = (world.key(&acme).await, world.key(&acme).await);
    let before = clock::now();
    for round in 0..2 {
        let Decision::Grant(grant) = world.ask(&used, 10).await else { panic!("denied") };
        world.record(&grant.token, 10, 10).await.unwrap();
        // From the events first, then from the daily sums.
        let bounds = Bounds { margin: Duration::ZERO, events: 7 };
        for _ in 0..5 * round {
            rollups::step(&world.server.pool(), bounds).await.unwrap();
        }
        let listed = list(&mut world.client.keys()).await;
        let last = |key: &str| {
            let shown = listed.iter().find(|one| key.ends_with(&one.hint[one.hint.len() - 4..]));
            shown.unwrap().last_used_at
        };
        let last_used = last(&used).unwrap();
        assert!(last_used.seconds >= before.timestamp(), "{last_used:?}");
        assert_eq!(last(&unused), None);
    }
}
