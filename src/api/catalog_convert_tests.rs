use super::*;
use crate::problem::Problem as _;

fn rates(input: &str, output: &str) -> proto::Rates {
    proto::Rates { input: input.to_owned(), output: output.to_owned(), ..Default::default() }
}

fn good() -> proto::Price {
    proto::Price {
        model: "gpt-4o".to_owned(),
        currency_code: "USD".to_owned(),
        effective_from: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        rates: Some(rates("2.5", "10")),
        ..Default::default()
    }
}

fn refusal(price: proto::Price) -> BadField {
    let request = proto::PublishPricesRequest { prices: vec![good(), price], ..Default::default() };
    publication(&request, &BTreeMap::new()).unwrap_err()
}

#[test]
fn every_bad_field_is_named_with_its_place_and_its_model() {
    let tier = |above, rates| proto::ContextTier { above, rates };
    let change = |change: &dyn Fn(&mut proto::Price)| {
        let mut price = good();
        change(&mut price);
        price
    };
    let cases: [(proto::Price, &str); 17] = [
        (change(&|price| price.rates = None), "rates"),
        (change(&|price| price.rates = Some(rates("", "1"))), "rates.input"),
        (change(&|price| price.rates = Some(rates("1", "-1"))), "rates.output"),
        (change(&|price| price.rates = Some(rates("0.0000001", "1"))), "rates.input"),
        (change(&|price| price.rates = Some(rates("1e3", "1"))), "rates.input"),
        (change(&|price| price.rates = Some(rates("1000001", "1"))), "rates.input"),
        (change(&|price| price.tiers = vec![tier(0, Some(rates("1", "1")))]), "tiers"),
        (change(&|price| price.tiers = vec![tier(5, None)]), "tiers[0].rates"),
        (change(&|price| price.image = "-0.1".to_owned()), "image"),
        (change(&|price| price.request = "x".to_owned()), "request"),
        (change(&|price| price.cached_response = "0.0000001".to_owned()), "cached_response"),
        (change(&|price| price.withdrawn = true), "withdrawn"),
        (change(&|price| price.account = "nobody".to_owned()), "account"),
        (change(&|price| price.effective_from = None), "effective_from"),
        (change(&|price| price.discounted_from = 3), "discounted_from"),
        (change(&|price| price.cost = Some(proto::ProviderCost::default())), "cost.rates"),
        (change(&|price| price.currency_code = "dollars".to_owned()), "currency_code"),
    ];
    for (price, field) in cases {
        let refusal = refusal(price);
        assert_eq!(refusal.field().unwrap(), format!("prices[1].{field}"), "{refusal}");
        // A currency is refused by the one reader of currencies, which knows of no model.
        assert!(field == "currency_code" || refusal.to_string().contains("gpt-4o"), "{refusal}");
    }
}

#[test]
fn a_contract_price_in_a_currency_that_the_account_does_not_pay_is_refused() {
    let account_id = AccountId::generate();
    let euro = PricedAccount { account_id, currency: "EUR".parse().unwrap() };
    let accounts = BTreeMap::from([("acme".to_owned(), euro)]);
    let price = proto::Price { account: "acme".to_owned(), ..good() };
    let request = proto::PublishPricesRequest { prices: vec![price], ..Default::default() };
    let refusal = publication(&request, &accounts).unwrap_err();
    assert_eq!(refusal.field().unwrap(), "prices[0].currency_code");
    assert!(refusal.to_string().contains("EUR"));
}

#[test]
fn a_price_survives_the_wire() {
    let message = proto::Price {
        rates: Some(proto::Rates { cache_read: Some("0.25".to_owned()), ..rates("2.5", "10") }),
        tiers: vec![proto::ContextTier { above: 200_000, rates: Some(rates("5", "20")) }],
        request: "0.01".to_owned(),
        ..good()
    };
    let read = price("price", &message).unwrap();
    let record = PriceRecord {
        model: "gpt-4o".to_owned(),
        account: None,
        price: read.clone(),
        cost: None,
        effective_from: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        source: String::new(),
        source_date: String::new(),
    };
    let again = imported_price(&record);
    assert_eq!(again, message);
    assert_eq!(price("price", &again).unwrap(), read);
}

#[test]
fn a_withdrawal_needs_no_rates() {
    let message = proto::Price { withdrawn: true, rates: None, ..good() };
    assert!(price("price", &message).unwrap().is_withdrawn());
}

#[test]
fn a_model_that_says_nothing_of_being_active_leaves_it_open() {
    let request = proto::PublishPricesRequest {
        models: vec![proto::Model { name: "gpt-4o".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let read = publication(&request, &BTreeMap::new()).unwrap();
    let expected = NewModel { name: "gpt-4o".to_owned(), ..Default::default() };
    assert_eq!(read.models, vec![expected]);
}
