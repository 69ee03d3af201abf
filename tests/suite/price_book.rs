//! The price book against a real database: publishing, prices in force, contracts and discounts.

use std::sync::Arc;

use chrono::{DateTime, Duration, TimeZone as _, Utc};
use rust_decimal::Decimal;
use sqlx::{PgPool, postgres::PgListener};
use tollgate::{
    catalog::{
        book::{PriceBook, Resolution},
        error::CatalogError,
        pattern::ModelDiscount,
        price::{Cost, Price, PriceParts, RateCard, Rates, Tier},
        publish::{Publication, Published, publish_in_transaction},
        version::{NewModel, NewPrice, PricedModel, PricingTerms},
    },
    ids::AccountId,
    money::Currency,
    problem::{Problem as _, ProblemKind},
};

use crate::harness::postgres::fresh_database;

const MODEL: &str = "deepseek-ai/DeepSeek-R1";

async fn fresh_pool() -> PgPool {
    PgPool::connect_with(fresh_database().await).await.unwrap()
}

fn day(day: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, day, 0, 0, 0).unwrap()
}

fn percent(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn rates(input: &str, output: &str) -> Rates {
    Rates::new(input.parse().unwrap(), output.parse().unwrap())
}

fn flat(input: &str, output: &str) -> Price {
    let card = RateCard::new(rates(input, output), Vec::new()).unwrap();
    Price::new(PriceParts::of_tokens(Currency::USD, card)).unwrap()
}

fn priced(model: &str, from: DateTime<Utc>, price: Price) -> NewPrice {
    NewPrice {
        model: model.to_owned(),
        account_id: None,
        effective_from: from,
        price,
        cost: None,
        source: "a price list".to_owned(),
        source_date: "2026-01-01".to_owned(),
    }
}

fn prices(prices: impl Into<Vec<NewPrice>>) -> Publication {
    Publication { models: Vec::new(), prices: prices.into() }
}

async fn publish(pool: &PgPool, publication: &Publication) -> Result<Published, CatalogError> {
    let mut transaction = pool.begin().await.unwrap();
    let published = publish_in_transaction(&mut transaction, publication).await?;
    transaction.commit().await.unwrap();
    Ok(published)
}

/// A book in which the model costs 2 and 4 dollars from the first of January on.
async fn book_with_model(pool: &PgPool) -> PriceBook {
    publish(pool, &prices([priced(MODEL, day(1), flat("2", "4"))])).await.unwrap();
    PriceBook::open(pool.clone()).await.unwrap()
}

async fn account(pool: &PgPool, handle: &str) -> AccountId {
    let account = AccountId::generate();
    sqlx::query(
        "INSERT INTO accounts (account_id, handle, display_name, currency)
         VALUES ($1, $2, $2, 'USD')",
    )
    .bind(account)
    .bind(handle)
    .execute(pool)
    .await
    .unwrap();
    account
}

fn discounted_terms(discount: &str) -> PricingTerms<'static> {
    PricingTerms { discount_percent: percent(discount), ..PricingTerms::list(Currency::USD) }
}

async fn resolve(
    book: &PriceBook,
    terms: &PricingTerms<'_>,
    at: DateTime<Utc>,
) -> Option<Arc<PricedModel>> {
    let model = book.model(MODEL).unwrap();
    book.resolve_or_derive(terms, &model, at).await.unwrap()
}

async fn count(pool: &PgPool, table_count: &'static str) -> i64 {
    sqlx::query_scalar(table_count).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn publishing_the_same_again_changes_nothing_and_a_different_price_is_refused() {
    let pool = fresh_pool().await;
    let publication = Publication {
        models: vec![NewModel {
            name: MODEL.to_owned(),
            context_tokens: Some(128_000),
            ..NewModel::default()
        }],
        prices: vec![
            priced(MODEL, day(1), flat("2", "4")),
            priced("gpt-4o", day(1), flat("2.5", "10")),
        ],
    };
    let first = publish(&pool, &publication).await.unwrap();
    let expected = Published { models_added: 2, prices_added: 2, ..Published::default() };
    assert_eq!(first, expected);
    let again = publish(&pool, &publication).await.unwrap();
    assert_eq!(again, Published { prices_unchanged: 2, ..Published::default() });

    let changed = prices([
        priced("gpt-4o", day(1), flat("2.5", "10")),
        priced(MODEL, day(1), flat("2", "4.000001")),
    ]);
    let refusal = publish(&pool, &changed).await.unwrap_err();
    assert_eq!(refusal.kind(), ProblemKind::AlreadyExists);
    assert_eq!(refusal.field().unwrap(), "prices[1]");
    let sentence = refusal.to_string();
    assert!(sentence.contains(MODEL) && sentence.contains("2026-01-01"), "{sentence}");
}

#[tokio::test]
async fn a_different_cost_is_refused_as_a_different_price_is() {
    let pool = fresh_pool().await;
    let with_cost = |cost: &str| NewPrice {
        cost: Some(Cost { currency: Currency::USD, rates: rates(cost, cost) }),
        ..priced(MODEL, day(1), flat("2", "4"))
    };
    publish(&pool, &prices([with_cost("1")])).await.unwrap();
    let refusal = publish(&pool, &prices([with_cost("1.5")])).await.unwrap_err();
    assert!(refusal.to_string().contains("different cost"), "{refusal}");
}

#[tokio::test]
async fn a_publication_that_is_wrong_at_its_end_applies_nothing() {
    let pool = fresh_pool().await;
    publish(&pool, &prices([priced(MODEL, day(1), flat("2", "4"))])).await.unwrap();
    let mut many: Vec<_> =
        (0..50).map(|n| priced(&format!("new-{n}"), day(1), flat("1", "1"))).collect();
    many.push(priced(MODEL, day(1), flat("3", "4")));
    let broken = Publication {
        models: vec![NewModel {
            name: MODEL.to_owned(),
            provider: Some("somebody else".to_owned()),
            ..NewModel::default()
        }],
        prices: many,
    };
    publish(&pool, &broken).await.unwrap_err();
    let book = PriceBook::open(pool.clone()).await.unwrap();
    assert!(book.model("new-0").is_none());
    assert_eq!(book.model(MODEL).unwrap().provider, "");
    assert_eq!(count(&pool, "SELECT count(*) FROM price_versions").await, 1);
}

#[tokio::test]
async fn a_record_given_twice_counts_once_and_a_contradiction_is_refused() {
    let pool = fresh_pool().await;
    let record = || priced(MODEL, day(1), flat("2", "4"));
    let published = publish(&pool, &prices([record(), record()])).await.unwrap();
    assert_eq!((published.prices_added, published.prices_unchanged), (1, 1));
    let other =
        prices([priced("new", day(1), flat("1", "1")), priced("new", day(1), flat("1", "2"))]);
    let refusal = publish(&pool, &other).await.unwrap_err();
    assert_eq!(refusal.field().unwrap(), "prices[1]");
}

#[tokio::test]
async fn what_a_publication_does_not_say_of_a_model_stays_as_it_is() {
    let pool = fresh_pool().await;
    let model = |change: fn(&mut NewModel)| {
        let mut model = NewModel { name: "Pro/zai-org/GLM-5".to_owned(), ..NewModel::default() };
        change(&mut model);
        Publication { models: vec![model], prices: Vec::new() }
    };
    publish(&pool, &model(|model| model.context_tokens = Some(200_000))).await.unwrap();
    let changed = publish(&pool, &model(|model| model.active = Some(false))).await.unwrap();
    assert_eq!(changed, Published { models_updated: 1, ..Published::default() });
    let unchanged = publish(&pool, &model(|_| ())).await.unwrap();
    assert_eq!(unchanged, Published::default());

    let book = PriceBook::open(pool).await.unwrap();
    let model = book.model("Pro/zai-org/GLM-5").unwrap();
    assert_eq!((model.active, model.context_tokens), (false, Some(200_000)));
    assert_eq!(model.route, tollgate::catalog::model::Route::Dedicated);
}

#[tokio::test]
async fn a_pro_model_is_never_on_the_standard_route() {
    let pool = fresh_pool().await;
    let model = NewModel {
        name: "Pro/zai-org/GLM-5".to_owned(),
        route: Some(tollgate::catalog::model::Route::Standard),
        ..NewModel::default()
    };
    let publication = Publication { models: vec![model], prices: Vec::new() };
    let refusal = publish(&pool, &publication).await.unwrap_err();
    assert_eq!(refusal.field().unwrap(), "models[0].route");
}

#[tokio::test]
async fn a_price_that_begins_in_an_absurd_year_is_refused() {
    let pool = fresh_pool().await;
    for seconds in [0, 1_767_225_600_000] {
        let moment = DateTime::from_timestamp(seconds, 0).unwrap();
        let refusal =
            publish(&pool, &prices([priced(MODEL, moment, flat("1", "1"))])).await.unwrap_err();
        assert_eq!(refusal.field().unwrap(), "prices[0].effective_from");
    }
}

#[tokio::test]
async fn the_price_in_force_is_the_latest_that_has_begun() {
    let pool = fresh_pool().await;
    let timeline = [
        priced(MODEL, day(20), Price::withdrawal(Currency::USD)),
        priced(MODEL, day(1), flat("1", "1")),
        priced(MODEL, day(25), flat("3", "3")),
        priced(MODEL, day(10), flat("2", "2")),
    ];
    publish(&pool, &prices(timeline)).await.unwrap();
    let book = PriceBook::open(pool).await.unwrap();
    let list = PricingTerms::list(Currency::USD);
    let instant = Duration::microseconds(1);
    let cases = [
        (day(1) - instant, None),
        (day(1), Some("1")),
        (day(10) - instant, Some("1")),
        (day(10), Some("2")),
        (day(20) - instant, Some("2")),
        (day(20), None),
        (day(25), Some("3")),
        (day(31), Some("3")),
    ];
    for (at, expected) in cases {
        let found = resolve(&book, &list, at).await;
        let found = found.map(|priced| priced.price.rates().input.to_string());
        assert_eq!(found.as_deref(), expected, "at {at}");
    }
    let euro = PricingTerms::list("EUR".parse().unwrap());
    assert_eq!(resolve(&book, &euro, day(31)).await, None);
}

#[tokio::test]
async fn a_contract_price_wins_over_the_list_and_over_every_discount_until_it_ends() {
    let pool = fresh_pool().await;
    let acme = account(&pool, "acme").await;
    let other = account(&pool, "other").await;
    let contract = |from, price| NewPrice { account_id: Some(acme), ..priced(MODEL, from, price) };
    let book = book_with_model(&pool).await;
    let publication = prices([
        contract(day(10), flat("1.5", "3")),
        contract(day(20), Price::withdrawal(Currency::USD)),
    ]);
    publish(&pool, &publication).await.unwrap();
    book.reload().await.unwrap();

    let terms =
        |account_id| PricingTerms { account_id: Some(account_id), ..discounted_terms("10") };
    let input = |priced: Option<Arc<PricedModel>>| priced.unwrap().price.rates().input.to_string();
    assert_eq!(input(resolve(&book, &terms(acme), day(9)).await), "1.8");
    assert_eq!(input(resolve(&book, &terms(acme), day(10)).await), "1.5");
    assert_eq!(input(resolve(&book, &terms(acme), day(20)).await), "1.8");
    assert_eq!(input(resolve(&book, &terms(other), day(10)).await), "1.8");
}

#[tokio::test]
async fn a_contract_price_holds_where_the_list_has_none() {
    let pool = fresh_pool().await;
    let acme = account(&pool, "acme").await;
    let contract = NewPrice { account_id: Some(acme), ..priced(MODEL, day(1), flat("1.5", "3")) };
    publish(&pool, &prices([contract])).await.unwrap();
    let book = PriceBook::open(pool).await.unwrap();
    let list = PricingTerms::list(Currency::USD);
    assert_eq!(resolve(&book, &list, day(2)).await, None);
    let acme = PricingTerms { account_id: Some(acme), ..list };
    assert!(resolve(&book, &acme, day(2)).await.is_some());
}

#[tokio::test]
async fn the_first_matching_model_discount_replaces_the_accounts_own() {
    let pool = fresh_pool().await;
    let book = book_with_model(&pool).await;
    let discount = |pattern: &str, off: &str| ModelDiscount {
        pattern: pattern.parse().unwrap(),
        percent: percent(off),
    };
    let none = [discount("gpt-*", "50"), discount("deepseek-ai/*", "0"), discount("*", "90")];
    let terms = PricingTerms { model_discounts: &none, ..discounted_terms("10") };
    assert_eq!(resolve(&book, &terms, day(2)).await.unwrap().derivation, None);
    let some = [discount("deepseek-ai/*", "25"), discount("*", "90")];
    let terms = PricingTerms { model_discounts: &some, ..discounted_terms("10") };
    assert_eq!(
        resolve(&book, &terms, day(2)).await.unwrap().price.rates().input.to_string(),
        "1.5"
    );
}

#[tokio::test]
async fn a_withdrawn_model_has_no_price_at_any_discount() {
    let pool = fresh_pool().await;
    let book = book_with_model(&pool).await;
    publish(&pool, &prices([priced(MODEL, day(5), Price::withdrawal(Currency::USD))]))
        .await
        .unwrap();
    book.reload().await.unwrap();
    let model = book.model(MODEL).unwrap();
    let unpriced = book.resolve(&discounted_terms("100"), &model, day(5));
    assert_eq!(unpriced, Resolution::Unpriced);
}

#[tokio::test]
async fn a_discounted_price_is_one_version_however_many_make_it_and_survives_restarts() {
    let pool = fresh_pool().await;
    let long = Tier { above: 200_000, rates: rates("4", "8") };
    let card = RateCard::new(rates("2", "4"), vec![long]).unwrap();
    let tiered = Price::new(PriceParts::of_tokens(Currency::USD, card)).unwrap();
    publish(&pool, &prices([priced(MODEL, day(1), tiered)])).await.unwrap();
    let mut books = Vec::new();
    for _ in 0..8 {
        books.push(Arc::new(PriceBook::open(pool.clone()).await.unwrap()));
    }
    let terms = discounted_terms("33.3333");
    let model = books[0].model(MODEL).unwrap();
    assert_eq!(books[0].resolve(&terms, &model, day(2)), Resolution::NeedsDerivation);

    let racing: Vec<_> = books
        .iter()
        .cycle()
        .take(32)
        .map(|book| {
            let book = Arc::clone(book);
            tokio::spawn(async move {
                resolve(&book, &discounted_terms("33.3333"), day(2)).await.unwrap()
            })
        })
        .collect();
    let mut made = Vec::new();
    for task in racing {
        made.push(task.await.unwrap());
    }
    assert!(made.iter().all(|version| version == &made[0]), "{made:?}");
    assert_eq!(count(&pool, "SELECT count(*) FROM price_versions").await, 2);
    assert_eq!(made[0].price.rates().input.to_string(), "1.333334");
    assert_eq!(made[0].price.tiers()[0].rates.output.to_string(), "5.333336");

    let restarted = PriceBook::open(pool).await.unwrap();
    let again = restarted.resolve(&terms, &model, day(2));
    assert_eq!(again, Resolution::Priced(Arc::clone(&made[0])));
    assert_eq!(restarted.version(made[0].version), Some(Arc::clone(&made[0])));
}

#[tokio::test]
async fn a_version_that_another_instance_made_is_loaded_when_asked_for() {
    let pool = fresh_pool().await;
    let here = book_with_model(&pool).await;
    let there = PriceBook::open(pool).await.unwrap();
    let made = resolve(&there, &discounted_terms("10"), day(2)).await.unwrap();
    assert_eq!(here.version(made.version), None);
    assert_eq!(here.version_or_load(made.version).await.unwrap(), Some(Arc::clone(&made)));
    let model = here.model(MODEL).unwrap();
    let resolution = here.resolve(&discounted_terms("10.0000"), &model, day(2));
    assert_eq!(resolution, Resolution::Priced(made));
    let nowhere = tollgate::ids::PriceVersionId(999);
    assert_eq!(here.version_or_load(nowhere).await.unwrap(), None);
}

#[tokio::test]
async fn whoever_reloads_after_a_publication_sees_it() {
    let pool = fresh_pool().await;
    let book = Arc::new(PriceBook::open(pool.clone()).await.unwrap());
    let publishers: Vec<_> = (0..8)
        .map(|publisher| {
            let (pool, book) = (pool.clone(), Arc::clone(&book));
            tokio::spawn(async move {
                for round in 0..10 {
                    let name = format!("model-{publisher}-{round}");
                    let publication = prices([priced(&name, day(1), flat("1", "1"))]);
                    publish(&pool, &publication).await.unwrap();
                    book.reload().await.unwrap();
                    assert!(book.model(&name).is_some(), "{name} is published but not there");
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

#[tokio::test]
async fn a_publication_is_announced_and_one_that_changes_nothing_is_not() {
    let pool = fresh_pool().await;
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen("tollgate_changed").await.unwrap();
    let publication = prices([priced(MODEL, day(1), flat("1", "1"))]);
    publish(&pool, &publication).await.unwrap();
    publish(&pool, &publication).await.unwrap();
    sqlx::query("SELECT pg_notify('tollgate_changed', 'the end')").execute(&pool).await.unwrap();
    let mut heard = Vec::new();
    while heard.last().is_none_or(|payload| payload != "the end") {
        heard.push(listener.recv().await.unwrap().payload().to_owned());
    }
    assert_eq!(heard, ["prices:*", "the end"]);
}

#[tokio::test]
async fn a_price_comes_back_from_the_database_as_it_was_published() {
    let pool = fresh_pool().await;
    let full = |rate: u32| {
        let of = |n: u32| Some(format!("{rate}.00000{n}").parse().unwrap());
        Rates {
            input: of(1).unwrap(),
            output: of(2).unwrap(),
            cache_read: of(3),
            cache_write: of(4),
            reasoning: of(5),
            audio_input: of(6),
            audio_output: of(7),
        }
    };
    let tiers = [1, 2].map(|n| Tier { above: u64::from(n) * 100_000, rates: full(10 * n) });
    let price = Price::new(PriceParts {
        image: "0.04".parse().unwrap(),
        request: "0.000001".parse().unwrap(),
        cached_response: "0.5".parse().unwrap(),
        ..PriceParts::of_tokens(
            "EUR".parse().unwrap(),
            RateCard::new(full(1), tiers.to_vec()).unwrap(),
        )
    })
    .unwrap();
    let cost = Some(Cost { currency: Currency::USD, rates: full(7) });
    let published = NewPrice { cost, ..priced(MODEL, day(1), price.clone()) };
    publish(&pool, &prices([published])).await.unwrap();
    let book = PriceBook::open(pool).await.unwrap();
    let found = resolve(&book, &PricingTerms::list("EUR".parse().unwrap()), day(1)).await.unwrap();
    assert_eq!((&found.price, found.cost), (&price, cost));
    assert_eq!((found.source.as_str(), found.source_date.as_str()), ("a price list", "2026-01-01"));
}

#[tokio::test]
async fn thousands_of_prices_are_published_at_once() {
    let pool = fresh_pool().await;
    let many: Vec<_> = (0..20_000)
        .map(|n| {
            priced(&format!("model-{}", n % 500), day(1) + Duration::hours(n / 500), {
                let card = RateCard::new(
                    rates("1", "2"),
                    vec![Tier { above: 200_000, rates: rates("2", "4") }],
                );
                Price::new(PriceParts::of_tokens(Currency::USD, card.unwrap())).unwrap()
            })
        })
        .collect();
    let publication = prices(many);
    let begun = std::time::Instant::now();
    let published = publish(&pool, &publication).await.unwrap();
    let took = begun.elapsed();
    assert_eq!((published.models_added, published.prices_added), (500, 20_000));
    // About a second; the bound is for a machine that does ten other things.
    assert!(took < std::time::Duration::from_secs(30), "it took {took:?}");
    let begun = std::time::Instant::now();
    let again = publish(&pool, &publication).await.unwrap();
    assert_eq!(again.prices_unchanged, 20_000);
    let again_took = begun.elapsed();
    let begun = std::time::Instant::now();
    let book = PriceBook::open(pool).await.unwrap();
    assert!(book.model("model-499").is_some());
    eprintln!("published in {took:?}, again in {again_took:?}, loaded in {:?}", begun.elapsed());

    let too_many = prices(vec![priced(MODEL, day(1), flat("1", "1")); 20_001]);
    let refusal = tollgate::catalog::publish::check(&too_many).unwrap_err();
    assert_eq!(refusal.field().unwrap(), "prices");
}
