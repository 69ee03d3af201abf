//! `CatalogService` through real gRPC.

mod snapshot;

use std::time::{Duration, Instant};

use tollgate::{
    api::catalog_convert::publication_message,
    catalog::shipped,
    cli::client::Authorized,
    proto::{
        ContextTier, Contract, CreateAccountRequest, EstimateCostRequest, EstimateCostResponse,
        GetModelRequest, ListModelsRequest, Model, ModelDiscount, Money, Price, ProviderCost,
        PublishPricesRequest, PublishPricesResponse, Quantities, Rates,
        catalog_service_client::CatalogServiceClient,
    },
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::server::TestServer;

const MODEL: &str = "deepseek-ai/DeepSeek-R1";
/// 2026-01-01.
const NEW_YEAR: i64 = 1_767_225_600;
const DAY: i64 = 86_400;

type Client = CatalogServiceClient<Authorized>;

async fn operator(server: &TestServer) -> Client {
    server.operator().await.catalog()
}

#[expect(clippy::unnecessary_wraps, reason = "every message field is optional")]
fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

#[expect(clippy::unnecessary_wraps, reason = "every message field is optional")]
fn rates(input: &str, output: &str) -> Option<Rates> {
    Some(Rates { input: input.to_owned(), output: output.to_owned(), ..Rates::default() })
}

fn price(model: &str, from: i64, input: &str, output: &str) -> Price {
    Price {
        model: model.to_owned(),
        currency_code: "USD".to_owned(),
        effective_from: at(from),
        rates: rates(input, output),
        ..Price::default()
    }
}

fn prices(prices: impl Into<Vec<Price>>) -> PublishPricesRequest {
    PublishPricesRequest { prices: prices.into(), ..PublishPricesRequest::default() }
}

async fn publish(
    client: &mut Client,
    request: PublishPricesRequest,
) -> Result<PublishPricesResponse, Status> {
    Ok(client.publish_prices(request).await?.into_inner())
}

async fn estimate(
    client: &mut Client,
    request: EstimateCostRequest,
) -> Result<EstimateCostResponse, Status> {
    Ok(client.estimate_cost(request).await?.into_inner())
}

fn million_of(model: &str) -> EstimateCostRequest {
    EstimateCostRequest {
        model: model.to_owned(),
        quantities: Some(Quantities { input: 1_000_000, ..Quantities::default() }),
        at: at(NEW_YEAR + DAY),
        ..EstimateCostRequest::default()
    }
}

fn amount(response: &EstimateCostResponse) -> &str {
    &response.cost.as_ref().unwrap().amount
}

async fn account(server: &TestServer, handle: &str, contract: Contract) -> String {
    let request = CreateAccountRequest {
        handle: handle.to_owned(),
        display_name: handle.to_owned(),
        contract: Some(contract),
        ..CreateAccountRequest::default()
    };
    let mut accounts = server.operator().await.accounts();
    let answer = accounts.create_account(request).await.unwrap().into_inner();
    answer.account.unwrap().account_id
}

fn discount(percent: &str) -> Contract {
    Contract { discount_percent: percent.to_owned(), ..Contract::default() }
}

fn field_of(status: &Status) -> String {
    let details = status.get_error_details();
    details.bad_request().expect("a field is named").field_violations[0].field.clone()
}

fn reason_of(status: &Status) -> String {
    status.get_error_details().error_info().expect("a reason is given").reason.clone()
}

#[tokio::test]
async fn a_published_price_holds_here_when_the_answer_comes_and_elsewhere_soon_after() {
    let here = TestServer::start().await;
    let there = TestServer::start_on(here.database.clone()).await;
    let mut client = operator(&here).await;
    let published = publish(&mut client, prices([price(MODEL, NEW_YEAR, "2.5", "4")])).await;
    let expected = PublishPricesResponse { models_added: 1, prices_added: 1, ..Default::default() };
    assert_eq!(published.unwrap(), expected);
    assert_eq!(amount(&estimate(&mut client, million_of(MODEL)).await.unwrap()), "2.5");

    let mut client = operator(&there).await;
    let begun = Instant::now();
    while estimate(&mut client, million_of(MODEL)).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the other server never heard of it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_record_that_is_wrong_is_named_and_nothing_is_published() {
    let server = TestServer::start().await;
    let mut client = operator(&server).await;
    let mut broken: Vec<_> =
        (0..100).map(|n| price(&format!("model-{n}"), NEW_YEAR, "1", "1")).collect();
    broken[57].rates = rates("1", "0.1234567");
    let refusal = publish(&mut client, prices(broken)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert_eq!(field_of(&refusal), "prices[57].rates.output");
    assert!(refusal.message().contains("model-57"), "{}", refusal.message());

    let nobody = Price { account: "nobody".to_owned(), ..price(MODEL, NEW_YEAR, "1", "1") };
    let refusal = publish(&mut client, prices([nobody])).await.unwrap_err();
    assert_eq!(field_of(&refusal), "prices[0].account");

    let unpublished = million_of("model-0");
    let refusal = estimate(&mut client, unpublished).await.unwrap_err();
    assert_eq!((refusal.code(), reason_of(&refusal).as_str()), (Code::NotFound, "MODEL_NOT_FOUND"));
}

#[tokio::test]
async fn more_records_than_one_publication_may_have_are_refused() {
    let server = TestServer::start().await;
    let mut client = operator(&server).await;
    let request = prices(vec![Price::default(); 20_001]);
    let refusal = publish(&mut client, request).await.unwrap_err();
    assert_eq!((refusal.code(), field_of(&refusal).as_str()), (Code::InvalidArgument, "prices"));
}

#[tokio::test]
async fn a_different_price_for_the_same_moment_is_refused_and_the_same_is_not() {
    let server = TestServer::start().await;
    let mut client = operator(&server).await;
    let first = || prices([price(MODEL, NEW_YEAR, "2", "4")]);
    publish(&mut client, first()).await.unwrap();
    let again = publish(&mut client, first()).await.unwrap();
    assert_eq!(again, PublishPricesResponse { prices_unchanged: 1, ..Default::default() });
    let other = prices([price(MODEL, NEW_YEAR, "2", "5")]);
    let refusal = publish(&mut client, other).await.unwrap_err();
    assert_eq!((refusal.code(), field_of(&refusal).as_str()), (Code::AlreadyExists, "prices[0]"));
    assert!(refusal.message().contains("2026-01-01T00:00:00Z"), "{}", refusal.message());
}

#[tokio::test]
async fn the_same_call_sent_twice_has_one_answer() {
    let server = TestServer::start().await;
    let mut client = operator(&server).await;
    let request = PublishPricesRequest {
        idempotency_key: "november".to_owned(),
        ..prices([price(MODEL, NEW_YEAR, "2", "4")])
    };
    let first = publish(&mut client, request.clone()).await.unwrap();
    assert_eq!(publish(&mut client, request.clone()).await.unwrap(), first);
    let other = PublishPricesRequest { prices: Vec::new(), ..request };
    let refusal = publish(&mut client, other).await.unwrap_err();
    assert_eq!(field_of(&refusal), "idempotency_key");
}

#[tokio::test]
async fn models_are_listed_by_name_and_page_by_page() {
    let server = TestServer::start().await;
    let mut client = operator(&server).await;
    let mut request = prices(
        (0..25).map(|n| price(&format!("model-{n:02}"), NEW_YEAR, "1", "1")).collect::<Vec<_>>(),
    );
    request.prices.push(Price {
        withdrawn: true,
        rates: None,
        ..price("model-07", NEW_YEAR + DAY, "", "")
    });
    request.models.push(Model { name: "model-08".into(), active: Some(false), ..Model::default() });
    publish(&mut client, request).await.unwrap();

    let mut names = Vec::new();
    let mut list = ListModelsRequest { page_size: 7, ..ListModelsRequest::default() };
    loop {
        let page = client.list_models(list.clone()).await.unwrap().into_inner();
        assert!(page.models.len() <= 7);
        names.extend(page.models.into_iter().map(|model| model.name));
        if page.next_page_token.is_empty() {
            break;
        }
        list.page_token = page.next_page_token;
    }
    let sold = (0..25).filter(|n| ![7, 8].contains(n)).map(|n| format!("model-{n:02}"));
    assert_eq!(names, sold.collect::<Vec<_>>());

    let list = ListModelsRequest {
        name_contains: "MODEL-0".to_owned(),
        include_unavailable: true,
        ..ListModelsRequest::default()
    };
    let all = client.list_models(list).await.unwrap().into_inner().models;
    assert_eq!(all.len(), 10);
    assert_eq!((all[7].price.as_ref(), all[8].active), (None, Some(false)));

    let foreign = ListModelsRequest { page_token: "made up".into(), ..Default::default() };
    let refusal = client.list_models(foreign).await.unwrap_err();
    assert_eq!(field_of(&refusal), "page_token");
}

#[tokio::test]
async fn a_models_history_shows_list_contract_and_discounted_prices_to_those_who_may_see_them() {
    let server = TestServer::start().await;
    let acme = account(&server, "acme", discount("10")).await;
    let other = account(&server, "other", Contract::default()).await;
    let mut client = operator(&server).await;
    let list = Price {
        cost: Some(ProviderCost { currency_code: "USD".into(), rates: rates("1", "2") }),
        tiers: vec![ContextTier { above: 200_000, rates: rates("4", "8") }],
        source: "a price list".to_owned(),
        ..price(MODEL, NEW_YEAR, "2", "4")
    };
    let contract = Price { account: "acme".into(), ..price(MODEL, NEW_YEAR + 2 * DAY, "1", "1") };
    publish(&mut client, prices([list.clone(), contract])).await.unwrap();
    let of_acme = EstimateCostRequest { account: "acme".into(), ..million_of(MODEL) };
    let discounted = estimate(&mut client, of_acme).await.unwrap();
    // The highest tier reached prices everything: a million tokens are above 200,000.
    assert_eq!((amount(&discounted), discounted.tier_above), ("3.6", 200_000));

    let request = GetModelRequest { name: MODEL.into(), ..GetModelRequest::default() };
    let public = client.get_model(request.clone()).await.unwrap().into_inner();
    assert_eq!(public.history.len(), 1);
    let shown = &public.history[0];
    assert_eq!((&shown.tiers, &shown.cost, &shown.source), (&list.tiers, &list.cost, &list.source));

    let request = GetModelRequest { account: acme.clone(), ..request };
    let history = client.get_model(request.clone()).await.unwrap().into_inner().history;
    let kinds: Vec<_> = history
        .iter()
        .map(|price| (price.account.as_str(), price.discount_percent.as_str()))
        .collect();
    assert_eq!(kinds, [(acme.as_str(), ""), ("", "10"), ("", "")]);
    assert_eq!(history[1].discounted_from, history[2].price_version);
    assert_eq!(history[1].price_version, discounted.price_version);

    let mut tenant = server.tenant(acme.parse().unwrap()).await.catalog();
    let own = tenant.get_model(request.clone()).await.unwrap().into_inner();
    assert!(own.history.iter().chain(&own.model.unwrap().price).all(|price| price.cost.is_none()));
    let foreign = GetModelRequest { account: other, ..request };
    assert_eq!(tenant.get_model(foreign).await.unwrap_err().code(), Code::NotFound);
    let refusal = publish(&mut tenant, prices([price("x", NEW_YEAR, "0", "0")])).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_estimate_that_cannot_be_made_says_why() {
    let server = TestServer::start().await;
    account(&server, "acme", Contract::default()).await;
    let mut client = operator(&server).await;
    publish(&mut client, prices([price(MODEL, NEW_YEAR, "2", "4")])).await.unwrap();
    let change = |change: fn(&mut EstimateCostRequest)| {
        let mut request = million_of(MODEL);
        change(&mut request);
        request
    };
    let cases = [
        (change(|it| it.model = "gpt-9".into()), Code::NotFound, "MODEL_NOT_FOUND"),
        (change(|it| it.at = at(NEW_YEAR - 1)), Code::FailedPrecondition, "MODEL_UNPRICED"),
        (change(|it| it.currency_code = "EUR".into()), Code::FailedPrecondition, "MODEL_UNPRICED"),
        (change(|it| it.currency_code = "euro".into()), Code::InvalidArgument, "INVALID_CURRENCY"),
        (change(|it| it.account = "nobody".into()), Code::NotFound, "ACCOUNT_NOT_FOUND"),
        (
            change(|it| (it.account, it.currency_code) = ("acme".into(), "EUR".into())),
            Code::InvalidArgument,
            "CURRENCY_MISMATCH",
        ),
        (
            change(|it| it.quantities.as_mut().unwrap().output = u64::MAX),
            Code::InvalidArgument,
            "QUANTITIES_OUT_OF_RANGE",
        ),
        (change(|it| it.at = at(i64::MAX)), Code::InvalidArgument, "INVALID_TIMESTAMP"),
    ];
    for (request, code, reason) in cases {
        let refusal = estimate(&mut client, request).await.unwrap_err();
        assert_eq!((refusal.code(), reason_of(&refusal).as_str()), (code, reason));
    }
}

#[tokio::test]
async fn a_models_own_discount_replaces_the_accounts() {
    let server = TestServer::start().await;
    let contract = Contract {
        model_discounts: vec![ModelDiscount {
            model: "deepseek-ai/*".into(),
            percent: "50".into(),
        }],
        ..discount("10")
    };
    account(&server, "acme", contract).await;
    let mut client = operator(&server).await;
    let both = [price(MODEL, NEW_YEAR, "2", "4"), price("gpt-4o", NEW_YEAR, "2", "4")];
    publish(&mut client, prices(both)).await.unwrap();
    for (model, expected) in [(MODEL, "1"), ("gpt-4o", "1.8")] {
        let request = EstimateCostRequest { account: "acme".into(), ..million_of(model) };
        assert_eq!(amount(&estimate(&mut client, request).await.unwrap()), expected);
    }
}

#[tokio::test]
async fn the_shipped_catalogue_sells_184_models_at_the_articles_prices() {
    let server = TestServer::start().await;
    let mut client = operator(&server).await;
    let request = publication_message(&shipped::read().unwrap(), "");
    let published = publish(&mut client, request).await.unwrap();
    assert_eq!((published.models_added, published.prices_added), (184, 184));
    let list = ListModelsRequest { page_size: 1_000, ..ListModelsRequest::default() };
    let mut reader = server.auditor().await.catalog();
    let models = reader.list_models(list).await.unwrap().into_inner().models;
    assert_eq!(models.len(), 184);
    let named = [
        ("deepseek-ai/DeepSeek-V4-Flash", "0.25"),
        ("Qwen/Qwen3-32B", "0.28"),
        ("deepseek-ai/DeepSeek-R1", "2.5"),
        ("moonshotai/Kimi-K2.5", "2.5"),
        ("gpt-4o", "10"),
    ];
    for (model, expected) in named {
        let cost = estimate(&mut client, million_of(model)).await.unwrap().cost;
        let expected = Money { currency_code: "USD".into(), amount: expected.into() };
        assert_eq!(cost, Some(expected), "{model}");
    }
}
