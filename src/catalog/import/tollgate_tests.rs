//! Our own format: JSON and CSV mean the same, and neither lets a slip pass.

use super::{
    tests::{import, refusal},
    *,
};

const JSON: &str = r#"{
  "format": "tollgate-prices", "version": 1,
  "defaults": {"currency": "USD", "effective_from": "2026-01-01", "source": "https://acme.test"},
  "models": [
    {"name": "acme/one", "provider": "acme", "status": "deprecated", "context_tokens": 200000,
     "max_output_tokens": 8192, "prices": [
       {"input": "1.25", "output": 10, "cache_read": "0.125", "cache_write": "1.5", "reasoning": "9",
        "audio_input": "2", "audio_output": "20", "image": "0.04", "request": "0.001",
        "cached_response": "0.0001", "source": "https://acme.test/one", "source_date": "2026-01-02",
        "tiers": [{"above": 128000, "input": "2.5", "output": "20"}],
        "cost": {"input": "1", "output": "8", "cache_read": "0.1"}},
       {"effective_from": "2026-06-01T12:00:00Z", "withdrawn": true},
       {"account": "globex", "currency": "EUR", "input": "1", "output": "9"}]},
    {"name": "Pro/acme/one", "route": "DEDICATED", "prices": [{"input": 0, "output": 0}]}]}"#;

const CSV: &str = "\
model,provider,route,status,context_tokens,max_output_tokens,account,currency,effective_from,\
withdrawn,tier_above,input,output,cache_read,cache_write,reasoning,audio_input,audio_output,image,\
request,cached_response,cost_input,cost_output,cost_cache_read,source,source_date
acme/one,acme,,deprecated,200000,8192,,USD,2026-01-01,,,1.25,10,0.125,1.5,9,2,20,0.04,0.001,0.0001,\
1,8,0.1,https://acme.test/one,2026-01-02
acme/one,,,,,,,,,,128000,2.5,20,,,,,,,,,,,,,
acme/one,,,,,,,,2026-06-01T12:00:00Z,true,,,,,,,,,,,,,,,https://acme.test,
acme/one,,,,,,globex,EUR,2026-01-01,,,1,9,,,,,,,,,,,,https://acme.test,
Pro/acme/one,,DEDICATED,,,,,,2026-01-01,,,0,0,,,,,,,,,,,,https://acme.test,
";

#[test]
fn json_and_csv_mean_the_same() {
    let (json, csv) = (import(Format::Tollgate, JSON), import(Format::Tollgate, CSV));
    assert_eq!(json.models, csv.models);
    for (json, csv) in json.prices.iter().zip(&csv.prices) {
        // Only JSON has defaults for the whole file.
        let source_date = csv.source_date.clone();
        let json = PriceRecord { source_date, ..json.clone() };
        assert_eq!(json, *csv);
    }
    assert_eq!(json.prices.len(), csv.prices.len());
}

#[test]
fn every_part_of_a_price_is_read() {
    let import = import(Format::Tollgate, JSON);
    let [list, withdrawal, contract, free] = &import.prices[..] else { panic!("four prices") };
    let text = |value: &dyn ToString| value.to_string();
    let rates = list.price.rates();
    assert_eq!(text(&rates.input), "1.25");
    let optional = [
        rates.cache_read,
        rates.cache_write,
        rates.reasoning,
        rates.audio_input,
        rates.audio_output,
    ];
    assert_eq!(optional.map(|rate| text(&rate.unwrap())), ["0.125", "1.5", "9", "2", "20"]);
    let fees = [list.price.image(), list.price.request(), list.price.cached_response()];
    assert_eq!(fees.map(|fee| text(&fee)), ["0.04", "0.001", "0.0001"]);
    assert_eq!(list.price.tiers()[0].above, 128_000);
    let cost = list.cost.unwrap();
    assert_eq!((text(&cost.rates.output), cost.currency), ("8".into(), Currency::USD));
    assert_eq!(list.effective_from, "2026-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap());
    assert!(withdrawal.price.is_withdrawn());
    assert_eq!(contract.account.as_deref(), Some("globex"));
    assert_eq!(contract.price.currency().code(), "EUR");
    assert_eq!(import.models[1].route, Route::Dedicated);
    assert!(free.price.is_free());
    assert_eq!(import.report.free, ["Pro/acme/one"]);
    assert_eq!(import.report.deprecated, ["acme/one"]);
}

#[test]
fn a_slip_in_json_is_refused_with_its_place() {
    let cases = [
        ("tollgate-prices", "prices", "format: \"tollgate-prices\" belongs here"),
        ("\"version\": 1", "\"version\": 2", "only version 1"),
        (
            "\"input\": \"1.25\"",
            "\"input\": \"1.2500001\"",
            "models[0].prices[0].input: rate 1.2500001 has more",
        ),
        ("\"input\": \"1.25\", ", "", "models[0].prices[0]: input is missing; write 0"),
        ("\"input\": \"1.25\"", "\"input\": true", "a number belongs here"),
        ("\"image\": \"0.04\"", "\"image\": \"-1\"", "image fee is -1"),
        ("\"withdrawn\": true", "\"withdrawn\": 1", "true or false belongs here"),
        (
            "\"withdrawn\": true",
            "\"withdrawn\": true, \"input\": 1, \"output\": 1",
            "a withdrawn price has no rates",
        ),
        ("\"currency\": \"EUR\"", "\"currency\": \"euro\"", "is not an ISO 4217"),
        ("\"2026-06-01T12:00:00Z\"", "\"2026-06-31\"", "is not a time"),
        (
            "\"2026-06-01T12:00:00Z\"",
            "\"2026-01-01\"",
            "are both a price of acme/one from 2026-01-01",
        ),
        ("\"context_tokens\": 200000", "\"context_tokens\": 0", "must be above zero"),
        ("DEDICATED", "STANDARD", "its route is DEDICATED"),
        (
            "\"cache_read\": \"0.125\"",
            "\"cached_read\": \"0.125\"",
            "\"cached_read\" is not known here",
        ),
        ("\"Pro/acme/one\"", "\"acme/one\"", "models[1]: acme/one is there twice"),
        ("\"Pro/acme/one\"", "\"\"", "is not a model name"),
        ("\"status\": \"deprecated\"", "\"status\": \"old\"", "active, deprecated or removed"),
    ];
    for (good, bad, expected) in cases {
        let broken = JSON.replacen(good, bad, 1);
        assert_ne!(broken, JSON, "{good}");
        let error = refusal(Format::Tollgate, &broken);
        assert!(error.contains(expected), "{bad}: {error}");
    }
}

#[test]
fn a_slip_in_csv_is_refused_with_its_line() {
    let cases = [
        ("1.25,10", "1.25,ten", "line 2.output: \"ten\" is not a number"),
        ("reasoning,", "reasonning,", "line 1: \"reasonning\" is not a column"),
        ("output,cache_read", "input,cache_read", "line 1: input is there twice"),
        (
            "acme/one,,,,,,globex,EUR,2026-01-01,,",
            "acme/one,,,,,,globex,EUR,2026-01-01,",
            "line 5: 25 cells",
        ),
        (
            "acme/one,,,,,,globex,EUR,2026-01-01",
            "acme/one,,,,,,,USD,2026-01-01",
            "line 2 and line 5 are both a price of acme/one from 2026-01-01T00:00:00Z",
        ),
        (
            "acme/one,,,,,,,,,,128000",
            "acme/two,,,,,,,,,,128000",
            "line 3: model differs from the price's in line 2",
        ),
        ("acme/one,,,,,,,,,,128000,2.5,20", "acme/one,,,,,,,,,,128000,2.5,", "output is missing"),
        (
            "acme/one,,,,,,globex",
            "acme/one,umbrella,,,,,globex",
            "line 5: describes acme/one otherwise than line 2",
        ),
        (
            "acme/one,acme,,deprecated,200000,8192,,USD,2026-01-01,,,",
            "acme/one,acme,,deprecated,200000,8192,,USD,2026-01-01,,9,",
            "line 2: a context tier belongs below the price it is of",
        ),
    ];
    for (good, bad, expected) in cases {
        let broken = CSV.replacen(good, bad, 1);
        assert_ne!(broken, CSV, "{good}");
        let error = refusal(Format::Tollgate, &broken);
        assert!(error.contains(expected), "{bad}: {error}");
    }
    assert!(refusal(Format::Tollgate, "").contains("the column model is missing"));
    assert!(refusal(Format::Tollgate, "model,input,output\n").contains("no price"));
    assert!(refusal(Format::Tollgate, "model,input,output\n\"a,1,2\n").contains("line 2"));
}

#[test]
fn the_examples_in_the_documentation_mean_the_same() {
    let documentation = include_str!("../../../docs/price-book-format.md");
    let example = |language: &str| {
        let (_, rest) = documentation.split_once(&format!("```{language}\n")).unwrap();
        import(Format::Tollgate, rest.split_once("```").unwrap().0)
    };
    let (json, csv) = (example("json"), example("csv"));
    assert_eq!(json.models, csv.models);
    let essence = |import: &Import| -> Vec<_> {
        let prices = import.prices.iter().cloned();
        prices.map(|p| (p.account, p.effective_from, p.price, p.cost)).collect()
    };
    assert_eq!(essence(&json), essence(&csv));
    assert_eq!(json.prices.len(), 3);
}
