//! Reports and reversals.

use tollgate::{clock, ids::AccountId, proto};
use tonic::Code;

use super::{World, charged, create_account, refusal, unauthorized_usage, usage, usd};

/// Three requests to one model and two to another.
async fn five_requests(world: &World) -> Vec<String> {
    let mut ids = Vec::new();
    for (model, input) in [
        ("gpt-4o", 1_000),
        ("Qwen/Qwen3-32B", 1_000),
        ("gpt-4o", 2_000),
        ("Qwen/Qwen3-32B", 2_000),
        ("gpt-4o", 3_000),
    ] {
        let grant = world.grant_for(model).await;
        ids.push(world.record(usage(&grant.token, input, 0)).await.unwrap().event_id);
    }
    ids
}

async fn list(
    world: &World,
    request: proto::ListUsageRequest,
) -> Result<proto::ListUsageResponse, tonic::Status> {
    let request = proto::ListUsageRequest { account: "acme".into(), ..request };
    let response = world.operator.usage().list_usage(request).await?;
    Ok(response.into_inner())
}

fn ids(response: &proto::ListUsageResponse) -> Vec<String> {
    response.events.iter().map(|event| event.event_id.clone()).collect()
}

#[tokio::test]
async fn usage_is_listed_newest_first_page_by_page() {
    let world = World::open().await;
    let mut expected = five_requests(&world).await;
    expected.reverse();
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListUsageRequest { page_size: 2, page_token, ..Default::default() };
        let page = list(&world, request).await.unwrap();
        assert!(page.events.len() <= 2);
        seen.extend(ids(&page));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_listed_event_tells_all_that_produced_its_charge() {
    let world = World::open().await;
    let grant = world.grant().await;
    let mut request = usage(&grant.token, 1_000, 500);
    request.provider = "openai".into();
    request.served_model = "gpt-4o-2026-08-06".into();
    request.region = "eu-west-1".into();
    request.fallback_from = "gpt-5".into();
    request.latency = Some(prost_types::Duration { seconds: 1, nanos: 250_000_000 });
    request.outcome = proto::Outcome::ClientAborted.into();
    world.record(request.clone()).await.unwrap();
    let event = list(&world, proto::ListUsageRequest::default()).await.unwrap().events.remove(0);
    assert_eq!(event.outcome(), proto::Outcome::ClientAborted);
    assert_eq!(event.account_id, world.account_id);
    assert_eq!(event.key_id, world.key_id);
    assert_eq!((event.model.as_str(), event.price_version), ("gpt-4o", grant.price_version));
    assert_eq!(event.served_model, request.served_model);
    assert_eq!((event.provider, event.region), (request.provider, request.region));
    assert_eq!((event.fallback_from, event.latency), (request.fallback_from, request.latency));
    assert_eq!(event.quantities.unwrap().output, 500);
    assert_eq!((event.charged, event.overrun), (Some(usd("0.015")), Some(usd("0"))));
    assert_eq!((event.posting, event.reversed), (1 + 1, false));
    assert_eq!(event.period, clock::now().format("%Y-%m-01").to_string());
}

#[tokio::test]
async fn usage_is_filtered_by_key_model_and_time() {
    let world = World::open().await;
    let all = five_requests(&world).await;
    let qwen = proto::ListUsageRequest { model: "Qwen/Qwen3-32B".into(), ..Default::default() };
    assert_eq!(ids(&list(&world, qwen).await.unwrap()), [all[3].clone(), all[1].clone()]);
    let key = proto::ListUsageRequest { key_id: world.account_id.clone(), ..Default::default() };
    assert!(list(&world, key).await.unwrap().events.is_empty());
    let events = list(&world, proto::ListUsageRequest::default()).await.unwrap().events;
    let (third, fifth) = (events[2].occurred_at, events[0].occurred_at);
    let between = proto::ListUsageRequest { from: third, until: fifth, ..Default::default() };
    assert_eq!(ids(&list(&world, between).await.unwrap()), [all[3].clone(), all[2].clone()]);
    for (request, reason, field) in [
        (
            proto::ListUsageRequest { from: fifth, until: fifth, ..Default::default() },
            "EMPTY_RANGE",
            "until",
        ),
        (
            proto::ListUsageRequest { model: "gpt-0".into(), ..Default::default() },
            "MODEL_NOT_FOUND",
            "model",
        ),
        (
            proto::ListUsageRequest { page_token: "x".into(), ..Default::default() },
            "INVALID_PAGE_TOKEN",
            "page_token",
        ),
    ] {
        let status = list(&world, request).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::InvalidArgument, reason.into(), field.into()));
    }
}

#[tokio::test]
async fn totals_are_by_model_key_day_or_account_and_dearest_first() {
    let world = World::open().await;
    five_requests(&world).await;
    let today = clock::now().format("%Y-%m-%d").to_string();
    let gpt = ("gpt-4o", 3, 6_000, "0.06");
    let qwen = ("Qwen/Qwen3-32B", 2, 3_000, "0.00084");
    let (key, account) = (world.key_id.as_str(), world.account_id.as_str());
    for (group_by, expected) in [
        (proto::UsageGrouping::Unspecified, vec![gpt, qwen]),
        (proto::UsageGrouping::Model, vec![gpt, qwen]),
        (proto::UsageGrouping::Key, vec![(key, 5, 9_000, "0.06084")]),
        (proto::UsageGrouping::Day, vec![(today.as_str(), 5, 9_000, "0.06084")]),
        (proto::UsageGrouping::Account, vec![(account, 5, 9_000, "0.06084")]),
    ] {
        let request =
            proto::SummarizeUsageRequest { group_by: group_by.into(), ..Default::default() };
        let response = world.operator.usage().summarize_usage(request).await.unwrap().into_inner();
        let found: Vec<_> = response
            .summaries
            .iter()
            .map(|group| {
                let input = group.quantities.as_ref().unwrap().input;
                let charged = group.charged.as_ref().unwrap().amount.as_str();
                (group.group.as_str(), group.requests, input, charged)
            })
            .collect();
        assert_eq!(found, expected);
    }
    let request = proto::SummarizeUsageRequest { page_size: 1, ..Default::default() };
    let first = world.operator.usage().summarize_usage(request.clone()).await.unwrap().into_inner();
    assert_eq!(first.summaries[0].group, "gpt-4o");
    let page_token = first.next_page_token;
    let request = proto::SummarizeUsageRequest { page_token, ..request };
    let second = world.operator.usage().summarize_usage(request).await.unwrap().into_inner();
    assert_eq!(second.summaries[0].group, "Qwen/Qwen3-32B");
    assert!(second.next_page_token.is_empty());
}

#[tokio::test]
async fn a_tenant_reads_its_own_usage_and_nothing_else() {
    let world = World::open().await;
    five_requests(&world).await;
    let other: AccountId = create_account(&world.operator, "globex").await.parse().unwrap();
    let tenant = world.server.tenant(other).await;
    let foreign = proto::ListUsageRequest { account: "acme".into(), ..Default::default() };
    let status = tenant.usage().list_usage(foreign).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let totals = proto::SummarizeUsageRequest::default();
    let totals = tenant.usage().summarize_usage(totals).await.unwrap().into_inner();
    assert!(totals.summaries.is_empty());
    let owner = world.server.tenant(world.account_id.parse().unwrap()).await;
    let totals = proto::SummarizeUsageRequest::default();
    let totals = owner.usage().summarize_usage(totals).await.unwrap().into_inner();
    assert_eq!(totals.summaries.len(), 2);
    let grant = world.grant().await;
    let status = owner.usage().record_usage(usage(&grant.token, 1, 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_reversal_gives_the_charge_back_once_and_the_event_stays() {
    let world = World::open().await;
    let grant = world.grant().await;
    world.record(usage(&grant.token, 1_000, 0)).await.unwrap();
    assert_eq!(world.funds().await, "99.99");
    let request = proto::ReverseUsageRequest {
        account: "acme".into(),
        event_id: grant.authorization_id,
        reason: "the answer was empty".into(),
        idempotency_key: "ticket 7".into(),
    };
    for _ in 0..2 {
        let reversed =
            world.operator.usage().reverse_usage(request.clone()).await.unwrap().into_inner();
        assert_eq!(
            (reversed.reversed, reversed.to_credits),
            (Some(usd("0.01")), Some(usd("0.01")))
        );
        assert_eq!(world.funds().await, "100");
    }
    let event = list(&world, proto::ListUsageRequest::default()).await.unwrap().events.remove(0);
    assert!(event.reversed);
    assert_eq!(event.charged, Some(usd("0.01")));
    // And the usage itself cannot be sent once more.
    assert!(world.record(usage(&grant.token, 1_000, 0)).await.unwrap().duplicate);
    assert_eq!(world.funds().await, "100");
}

#[tokio::test]
async fn what_was_authorized_and_never_reported_is_listed_until_it_is() {
    let world = World::open().await;
    let work = world.unauthorized();
    sqlx::query(
        "INSERT INTO unsettled_authorizations (account_id, authorization_id, key_id, model, reserved,
                                               authorized_at, expired_at, request_id)
         VALUES ($1::uuid, $2::uuid, $3::uuid, 'gpt-4o', 0.021, $4, $4, 'request 1')",
    )
    .bind(&world.account_id)
    .bind(&work.event_id)
    .bind(&world.key_id)
    .bind(clock::now())
    .execute(&world.pool)
    .await
    .unwrap();
    let unsettled = async |account: &str| {
        let request =
            proto::ListUnsettledRequest { account: account.to_owned(), ..Default::default() };
        world.operator.usage().list_unsettled(request).await.unwrap().into_inner().authorizations
    };
    create_account(&world.operator, "globex").await;
    assert!(unsettled("globex").await.is_empty());
    let listed = unsettled("").await.remove(0);
    assert_eq!(listed.authorization_id, work.event_id);
    assert_eq!(listed.reserved, Some(usd("0.021")));
    assert_eq!(listed.request_id, "request 1");
    let recorded = world.record(unauthorized_usage(work, 1_000)).await.unwrap();
    assert_eq!(charged(&recorded), "0.01");
    assert!(unsettled("acme").await.is_empty());
}
