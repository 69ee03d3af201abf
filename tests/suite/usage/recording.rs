//! Recording: what is charged, what is refused and how, one by one, in batches and in streams.

use std::{collections::HashSet, time::Duration};

use chrono::TimeDelta;
use tokio_stream::wrappers::ReceiverStream;
use tollgate::{
    clock,
    ids::{AuthorizationId, PriceVersionId},
    proto::{
        self, RecordUsageRequest, RecordUsageStreamRequest, record_usage_request,
        record_usage_result,
    },
};
use tonic::Code;

use super::{
    World, at, charged, create_account, eventually, issue_key, overrun, publish, refusal,
    unauthorized_usage, usage,
};
use crate::harness::server::TestServer;

#[tokio::test]
async fn usage_is_charged_at_the_price_it_was_authorized_at() {
    let world = World::open().await;
    let grant = world.grant().await;
    publish(&world.operator, "gpt-4o", "99", clock::now()).await;
    let recorded = world.record(usage(&grant.token, 1_000, 500)).await.unwrap();
    assert_eq!((charged(&recorded), overrun(&recorded)), ("0.015", "0"));
    assert_eq!(recorded.event_id, grant.authorization_id);
    assert_eq!(recorded.price_version, grant.price_version);
    assert_eq!(world.funds().await, "99.985");
    assert_eq!(world.reservations().await, 0);
}

#[tokio::test]
async fn a_stream_that_its_client_aborted_is_charged_what_was_reported_and_no_more() {
    let world = World::open().await;
    let grant = world.grant().await;
    let mut aborted = usage(&grant.token, 1_000, 7);
    aborted.outcome = proto::Outcome::ClientAborted.into();
    let recorded = world.record(aborted).await.unwrap();
    assert_eq!((charged(&recorded), overrun(&recorded)), ("0.01007", "0"));
    assert_eq!(world.funds().await, "99.98993");
    assert_eq!(world.reservations().await, 0);
}

#[tokio::test]
async fn a_replay_returns_the_first_answer_and_a_conflict_names_its_field() {
    let world = World::open().await;
    let grant = world.grant().await;
    let first = world.record(usage(&grant.token, 1_000, 500)).await.unwrap();
    let mut again = usage(&grant.token, 1_000, 500);
    again.latency = Some(prost_types::Duration { seconds: 2, nanos: 0 });
    let replay = world.record(again).await.unwrap();
    assert_eq!(replay, proto::RecordUsageResponse { duplicate: true, ..first });
    let conflict = world.record(usage(&grant.token, 1_000, 501)).await.unwrap_err();
    let expected = (Code::AlreadyExists, "USAGE_CONFLICT".into(), "quantities.output".into());
    assert_eq!(refusal(&conflict), expected);
    assert!(conflict.message().contains("500") && conflict.message().contains("501"));
    assert_eq!(world.funds().await, "99.985");
}

#[tokio::test]
async fn a_replay_is_answered_before_anything_else_is_judged() {
    let world = World::open().await;
    let (grant, never_used) = (world.grant().await, world.grant().await);
    world.record(usage(&grant.token, 1_000, 500)).await.unwrap();
    let mut long_ago = Vec::new();
    for token in [&grant.token, &never_used.token] {
        let expiry = clock::now() - TimeDelta::days(36);
        long_ago.push(world.reissue(token, |claims| claims.expires_at = expiry).await);
    }
    let replay = world.record(usage(&long_ago[0], 1_000, 500)).await.unwrap();
    assert_eq!((charged(&replay), replay.duplicate), ("0.015", true));
    let conflict = world.record(usage(&long_ago[0], 7, 500)).await.unwrap_err();
    assert_eq!(conflict.code(), Code::AlreadyExists);
    let late = world.record(usage(&long_ago[1], 1_000, 500)).await.unwrap_err();
    let expected = (Code::FailedPrecondition, "USAGE_TOO_LATE".into(), "token".into());
    assert_eq!(refusal(&late), expected);
}

#[tokio::test]
async fn the_providers_own_usage_object_is_normalised_and_kept() {
    let world = World::open().await;
    let json = r#"{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500,
                   "prompt_tokens_details":{"cached_tokens":400},
                   "completion_tokens_details":{"reasoning_tokens":100}}"#;
    let grant = world.grant().await;
    let provider_usage = |dialect: proto::Dialect, json: &str| RecordUsageRequest {
        usage: Some(record_usage_request::Usage::ProviderUsage(proto::ProviderUsage {
            dialect: dialect.into(),
            json: json.to_owned(),
        })),
        ..usage(&grant.token, 0, 0)
    };
    for (request, reason, field) in [
        (
            provider_usage(proto::Dialect::Unspecified, json),
            "MISSING_DIALECT",
            "provider_usage.dialect",
        ),
        (
            provider_usage(proto::Dialect::Openai, "{"),
            "PROVIDER_USAGE_UNREADABLE",
            "provider_usage.json",
        ),
    ] {
        let status = world.record(request).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::InvalidArgument, reason.into(), field.into()));
    }
    let recorded = world.record(provider_usage(proto::Dialect::Openai, json)).await.unwrap();
    assert_eq!(charged(&recorded), "0.015");
    let counts: Vec<i64> =
        sqlx::query_scalar("SELECT ARRAY[input, cache_read, output, reasoning] FROM usage_events")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(counts, [600, 400, 400, 100]);
    let kept: String =
        sqlx::query_scalar("SELECT provider_usage ->> 'total_tokens' FROM usage_details")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(kept, "1500");
    // Normalised counts that say the same are the same usage.
    let same = proto::Quantities {
        input: 600,
        cache_read: 400,
        output: 400,
        reasoning: 100,
        ..Default::default()
    };
    let replay = RecordUsageRequest {
        usage: Some(record_usage_request::Usage::Quantities(same)),
        ..usage(&grant.token, 0, 0)
    };
    assert!(world.record(replay).await.unwrap().duplicate);
}

#[tokio::test]
async fn an_answer_from_the_gateways_cache_costs_its_own_price_and_the_saving_is_told() {
    let world = World::open().await;
    let grant = world.grant().await;
    let mut request = usage(&grant.token, 1_000, 500);
    request.cache_hit = true;
    let recorded = world.record(request).await.unwrap();
    assert_eq!(charged(&recorded), "0.001");
    assert_eq!(recorded.saved.unwrap().amount, "0.014");
}

#[tokio::test]
async fn usage_beyond_its_authorization_is_charged_and_flagged() {
    let world = World::open().await;
    let grant = world.grant().await;
    let reserved = grant.reserved.as_ref().unwrap().amount.clone();
    assert_eq!(reserved, "0.021");
    let recorded = world.record(usage(&grant.token, 1_000, 2_000)).await.unwrap();
    assert_eq!((charged(&recorded), overrun(&recorded)), ("0.03", "0.009"));
}

#[tokio::test]
async fn usage_after_the_authorization_expired_is_recorded_and_wholly_an_overrun() {
    let world = World::open().await;
    let grant = world.grant().await;
    let expired = clock::now() - TimeDelta::minutes(2);
    let token = world.reissue(&grant.token, |claims| claims.expires_at = expired).await;
    let recorded = world.record(usage(&token, 1_000, 0)).await.unwrap();
    assert_eq!((charged(&recorded), overrun(&recorded)), ("0.01", "0.01"));
}

#[tokio::test]
async fn a_token_that_is_not_ours_or_of_no_known_price_is_refused() {
    let (world, other) = (World::open().await, World::open().await);
    let (grant, foreign) = (world.grant().await, other.grant().await);
    let unknown =
        world.reissue(&grant.token, |claims| claims.price_version = PriceVersionId(999_999)).await;
    let mut broken = grant.token.clone();
    broken.replace_range(broken.len() - 9.., "AAAAAAAAA");
    for (token, code, reason) in [
        (foreign.token.as_str(), Code::InvalidArgument, "GRANT_TOKEN_FOREIGN"),
        (&broken, Code::InvalidArgument, "GRANT_TOKEN_INVALID"),
        ("", Code::InvalidArgument, "GRANT_TOKEN_INVALID"),
        (&unknown, Code::FailedPrecondition, "PRICE_VERSION_NOT_FOUND"),
    ] {
        let status = world.record(usage(token, 1, 1)).await.unwrap_err();
        assert_eq!(refusal(&status), (code, reason.into(), "token".into()));
    }
}

#[tokio::test]
async fn bad_usage_is_refused_with_its_field() {
    let world = World::open().await;
    let grant = world.grant().await;
    let good = usage(&grant.token, 1, 1);
    let cases = [
        ("MISSING_SOURCE", "token", RecordUsageRequest { source: None, ..good.clone() }),
        ("MISSING_USAGE", "quantities", RecordUsageRequest { usage: None, ..good.clone() }),
        ("QUANTITIES_OUT_OF_RANGE", "quantities.input", usage(&grant.token, u64::MAX, 1)),
        ("UNKNOWN_VALUE", "outcome", RecordUsageRequest { outcome: 77, ..good.clone() }),
        (
            "CANCELLED_OUTCOME",
            "outcome",
            RecordUsageRequest { outcome: proto::Outcome::Cancelled.into(), ..good.clone() },
        ),
        ("INVALID_TEXT", "region", RecordUsageRequest { region: "\n".into(), ..good.clone() }),
        (
            "INVALID_DURATION",
            "latency",
            RecordUsageRequest {
                latency: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
                ..good.clone()
            },
        ),
    ];
    for (reason, field, request) in cases {
        let status = world.record(request).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::InvalidArgument, reason.into(), field.into()));
    }
    // None of it has spoilt the grant.
    assert!(!world.record(good).await.unwrap().duplicate);
}

#[tokio::test]
async fn work_without_a_token_is_rated_at_its_moment_and_wholly_an_overrun() {
    let world = World::open().await;
    let hour_ago = clock::now() - TimeDelta::hours(1);
    publish(&world.operator, "gpt-4o", "99", clock::now() - TimeDelta::minutes(10)).await;
    let mut work = world.unauthorized();
    work.occurred_at = Some(super::timestamp(hour_ago));
    let recorded = world.record(unauthorized_usage(work.clone(), 1_000)).await.unwrap();
    assert_eq!((charged(&recorded), overrun(&recorded)), ("0.01", "0.01"));
    assert!(world.record(unauthorized_usage(work, 1_000)).await.unwrap().duplicate);
}

#[tokio::test]
async fn work_without_a_token_is_refused_by_name_when_it_cannot_be_charged() {
    let world = World::open().await;
    create_account(&world.operator, "globex").await;
    let (foreign_key, _) = issue_key(&world.operator, "globex").await;
    let good = world.unauthorized();
    let old = Some(super::timestamp(clock::now() - TimeDelta::days(100)));
    let ahead = Some(super::timestamp(clock::now() + TimeDelta::minutes(10)));
    let before_prices = Some(super::timestamp(at("2025-12-31T00:00:00Z")));
    let not_v7 = "01890a5d-ac96-474b-bcce-b302099a8057".to_owned();
    let cases = [
        (
            Code::NotFound,
            "ACCOUNT_NOT_FOUND",
            "account",
            proto::UnauthorizedUsage { account: "nobody".into(), ..good.clone() },
        ),
        (
            Code::NotFound,
            "KEY_NOT_FOUND",
            "key_id",
            proto::UnauthorizedUsage { key_id: foreign_key, ..good.clone() },
        ),
        (
            Code::NotFound,
            "MODEL_NOT_FOUND",
            "model",
            proto::UnauthorizedUsage { model: "gpt-0".into(), ..good.clone() },
        ),
        (
            Code::FailedPrecondition,
            "MODEL_UNPRICED",
            "model",
            proto::UnauthorizedUsage { occurred_at: before_prices, ..good.clone() },
        ),
        (
            Code::InvalidArgument,
            "OUTSIDE_USAGE_WINDOW",
            "occurred_at",
            proto::UnauthorizedUsage { occurred_at: old, ..good.clone() },
        ),
        (
            Code::InvalidArgument,
            "OUTSIDE_USAGE_WINDOW",
            "occurred_at",
            proto::UnauthorizedUsage { occurred_at: ahead, ..good.clone() },
        ),
        (
            Code::InvalidArgument,
            "MISSING_TIME",
            "occurred_at",
            proto::UnauthorizedUsage { occurred_at: None, ..good.clone() },
        ),
        (
            Code::InvalidArgument,
            "INVALID_ID",
            "event_id",
            proto::UnauthorizedUsage { event_id: "7".into(), ..good.clone() },
        ),
        (
            Code::InvalidArgument,
            "EVENT_ID_NOT_UUIDV7",
            "event_id",
            proto::UnauthorizedUsage { event_id: not_v7, ..good.clone() },
        ),
    ];
    for (code, reason, field, work) in cases {
        let status = world.record(unauthorized_usage(work, 1)).await.unwrap_err();
        assert_eq!(refusal(&status), (code, reason.into(), format!("unauthorized.{field}")));
    }
}

#[tokio::test]
async fn usage_that_happened_is_recorded_of_a_suspended_account_and_a_revoked_key() {
    let world = World::open().await;
    let grant = world.grant().await;
    let revoke = proto::RevokeKeyRequest { key_id: world.key_id.clone(), ..Default::default() };
    world.operator.keys().revoke_key(revoke).await.unwrap();
    let suspend = proto::SuspendAccountRequest {
        account: "acme".into(),
        reason: "overdue".into(),
        ..Default::default()
    };
    world.operator.accounts().suspend_account(suspend).await.unwrap();
    assert_eq!(charged(&world.record(usage(&grant.token, 1_000, 0)).await.unwrap()), "0.01");
    let work = unauthorized_usage(world.unauthorized(), 1_000);
    assert_eq!(charged(&world.record(work).await.unwrap()), "0.01");
}

#[tokio::test]
async fn work_under_an_authorizations_id_without_its_token_lets_the_reservation_go() {
    let world = World::open().await;
    let grant = world.grant().await;
    assert_eq!(world.reservations().await, 1);
    let work =
        proto::UnauthorizedUsage { event_id: grant.authorization_id, ..world.unauthorized() };
    let recorded = world.record(unauthorized_usage(work, 1_000)).await.unwrap();
    assert_eq!(overrun(&recorded), "0.01");
    assert_eq!(world.reservations().await, 0);
    // The token comes after all, with the same content: a replay.
    assert!(world.record(usage(&grant.token, 1_000, 0)).await.unwrap().duplicate);
}

#[tokio::test]
async fn in_a_batch_every_item_has_its_own_result() {
    let world = World::open().await;
    let (first, second) = (world.grant().await, world.grant().await);
    let usages = vec![
        usage(&first.token, 1_000, 0),
        usage("nonsense", 1, 1),
        usage(&first.token, 1_000, 0),
        usage(&first.token, 9, 0),
        RecordUsageRequest::default(),
        usage(&second.token, 2_000, 0),
    ];
    let request = proto::RecordUsageBatchRequest { usages };
    let response = world.gateway.usage().record_usage_batch(request).await.unwrap().into_inner();
    let shown: Vec<String> = response
        .results
        .into_iter()
        .map(|result| match result.result.unwrap() {
            record_usage_result::Result::Response(response) => {
                let again = if response.duplicate { " again" } else { "" };
                format!("{}{again}", charged(&response))
            }
            record_usage_result::Result::Error(error) => {
                format!("{} {} {}", error.code, error.reason, error.field)
            }
        })
        .collect();
    assert_eq!(
        shown,
        [
            "0.01",
            "3 GRANT_TOKEN_INVALID token",
            "0.01 again",
            "6 USAGE_CONFLICT quantities.input",
            "3 MISSING_SOURCE token",
            "0.02",
        ]
    );
}

#[tokio::test]
async fn a_batch_beyond_its_bound_is_refused_whole() {
    let world = World::open().await;
    let usages = vec![RecordUsageRequest::default(); 1_001];
    let request = proto::RecordUsageBatchRequest { usages };
    let status = world.gateway.usage().record_usage_batch(request).await.unwrap_err();
    let expected = (Code::InvalidArgument, "TOO_MANY_USAGES".into(), "usages".into());
    assert_eq!(refusal(&status), expected);
}

#[tokio::test]
async fn a_stream_acknowledges_every_item_by_its_sequence() {
    let world = World::open().await;
    let mut items = Vec::new();
    for sequence in 0..300_u64 {
        let mut work = world.unauthorized();
        // Every tenth is the one before it again; every seventh is no work at all.
        if sequence % 10 == 9 {
            let before: &RecordUsageStreamRequest = items.last().unwrap();
            items.push(RecordUsageStreamRequest { sequence, usage: before.usage.clone() });
            continue;
        }
        if sequence % 7 == 0 {
            work.model = "gpt-0".into();
        }
        let usage = Some(unauthorized_usage(work, 1_000));
        items.push(RecordUsageStreamRequest { sequence, usage });
    }
    let mut answers = world
        .gateway
        .usage()
        .record_usage_stream(tokio_stream::iter(items))
        .await
        .unwrap()
        .into_inner();
    let mut seen = HashSet::new();
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(seen.insert(answer.sequence));
        let refused = match answer.result.unwrap().result.unwrap() {
            record_usage_result::Result::Response(_) => false,
            record_usage_result::Result::Error(error) => {
                assert_eq!(error.reason, "MODEL_NOT_FOUND");
                true
            }
        };
        let source = if answer.sequence % 10 == 9 { answer.sequence - 1 } else { answer.sequence };
        assert_eq!(refused, source % 7 == 0 && source % 10 != 9);
    }
    assert_eq!(seen, (0..300).collect());
    let recorded: i64 = sqlx::query_scalar("SELECT count(*) FROM usage_events")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    let expected = (0..300_u64).filter(|place| place % 10 != 9 && place % 7 != 0).count();
    assert_eq!(recorded, i64::try_from(expected).unwrap());
}

#[tokio::test]
async fn a_stream_that_is_open_does_not_hold_up_a_drain() {
    let world = World::open().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(10);
    let outgoing = ReceiverStream::new(receiver);
    let mut answers =
        world.gateway.usage().record_usage_stream(outgoing).await.unwrap().into_inner();
    let work = unauthorized_usage(world.unauthorized(), 1_000);
    let item = RecordUsageStreamRequest { sequence: 1, usage: Some(work) };
    sender.send(item).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().sequence, 1);
    let drained = tokio::time::timeout(Duration::from_secs(10), world.server.drain()).await;
    drained.expect("the drain waits for the stream").unwrap();
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn another_server_records_a_grant_and_its_issuer_lets_the_reservation_go() {
    let world = World::open().await;
    let second = TestServer::start_on(world.server.database.clone()).await;
    let grant = world.grant().await;
    let gateway = second.gateway().await;
    let recorded =
        gateway.usage().record_usage(usage(&grant.token, 1_000, 0)).await.unwrap().into_inner();
    assert_eq!((charged(&recorded), overrun(&recorded)), ("0.01", "0"));
    eventually("the issuer has heard of it", async || world.reservations().await == 0).await;
    assert_eq!(
        recorded.event_id.parse::<AuthorizationId>().unwrap().to_string(),
        grant.authorization_id
    );
}
