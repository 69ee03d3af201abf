//! What a price accepts and refuses, and what a discount makes of it.

use super::*;

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

fn tier(above: u64, input: &str) -> Tier {
    Tier { above, rates: Rates::new(rate(input), rate("9")) }
}

fn price(card: RateCard) -> PriceParts {
    PriceParts::of_tokens(Currency::USD, card)
}

#[test]
fn a_rate_is_zero_or_more_with_six_decimals_and_a_bound() {
    assert_eq!(rate("0.000001").to_string(), "0.000001");
    assert_eq!(rate("2.500000"), rate("2.5"));
    assert_eq!(rate("1000000").to_string(), "1000000");
    let refused = |text: &str| text.parse::<Rate>().unwrap_err();
    assert!(matches!(refused("-0.1"), PriceError::Negative { .. }));
    assert!(matches!(refused("0.0000001"), PriceError::TooManyDecimals { .. }));
    assert!(matches!(refused("1000000.000001"), PriceError::TooHigh { .. }));
    assert!(matches!(refused("1e3"), PriceError::Money(_)));
}

#[test]
fn a_float_artefact_is_rounded_half_up() {
    let rounded = |text: &str| Rate::rounded(text.parse().unwrap()).unwrap().to_string();
    assert_eq!(rounded("0.30000000000000004"), "0.3");
    assert_eq!(rounded("0.0000005"), "0.000001");
    assert_eq!(rounded("0.00000049"), "0");
}

#[test]
fn a_class_without_a_rate_costs_what_its_side_costs() {
    let rates = Rates::new(rate("2"), rate("8"));
    for class in TokenClass::ALL {
        assert_eq!(rates.of(class), rate(if class.is_prompt() { "2" } else { "8" }), "{class:?}");
    }
    let rates = Rates { cache_write: Some(rate("2.5")), reasoning: Some(rate("1")), ..rates };
    assert_eq!(rates.of(TokenClass::CacheWrite), rate("2.5"));
    assert_eq!(rates.of(TokenClass::Reasoning), rate("1"));
    assert_eq!(rates.dearest_prompt(), rate("2.5"));
    assert_eq!(rates.dearest_completion(), rate("8"));
}

#[test]
fn a_tier_begins_after_its_threshold_and_the_highest_reached_one_holds() {
    let tiers = vec![tier(200, "3"), tier(100, "2")];
    let card = RateCard::new(Rates::new(rate("1"), rate("9")), tiers).unwrap();
    let expected = [
        (0, "1", None),
        (100, "1", None),
        (101, "2", Some(100)),
        (200, "2", Some(100)),
        (201, "3", Some(200)),
    ];
    for (tokens, input, above) in expected {
        assert_eq!(card.at(tokens), (&Rates::new(rate(input), rate("9")), above), "{tokens}");
    }
}

#[test]
fn tiers_that_begin_nowhere_or_twice_are_refused() {
    let card = |tiers| RateCard::new(Rates::default(), tiers);
    assert_eq!(card(vec![tier(0, "1")]), Err(PriceError::TierAboveZero));
    assert_eq!(card(vec![tier(5, "1"), tier(5, "2")]), Err(PriceError::DuplicateTier(5)));
    let many = (1..=40).map(|above| tier(above, "1")).collect();
    assert_eq!(card(many), Err(PriceError::TooManyTiers(40)));
}

#[test]
fn a_fee_obeys_the_same_rules_as_a_rate() {
    let parts = price(RateCard::default());
    let fee = |text: &str| Price::new(PriceParts { image: text.parse().unwrap(), ..parts.clone() });
    assert!(fee("0.04").is_ok());
    assert!(matches!(fee("-1"), Err(PriceError::Negative { what: "image fee", .. })));
    assert!(matches!(fee("0.0000001"), Err(PriceError::TooManyDecimals { .. })));
}

#[test]
fn a_withdrawn_price_charges_nothing_and_is_not_called_free() {
    let withdrawal = Price::withdrawal(Currency::USD);
    assert!(withdrawal.is_withdrawn() && !withdrawal.is_free());
    assert_eq!(Price::new(withdrawal.clone().into_parts()).as_ref(), Ok(&withdrawal));
    let parts = PriceParts { request: "1".parse().unwrap(), ..withdrawal.into_parts() };
    assert_eq!(Price::new(parts), Err(PriceError::WithdrawnWithRates));
}

#[test]
fn only_a_price_of_zero_throughout_is_free() {
    let free = Price::new(price(RateCard::default())).unwrap();
    assert!(free.is_free());
    let card = RateCard::new(Rates::default(), vec![tier(10, "0")]).unwrap();
    assert!(!Price::new(price(card)).unwrap().is_free());
}

#[test]
fn a_discount_rounds_each_rate_half_up_to_six_decimals() {
    let rates = Rates { cache_read: Some(rate("0.000001")), ..Rates::new(rate("2.5"), rate("10")) };
    let card = RateCard::new(rates, vec![tier(100, "0.333333")]).unwrap();
    let parts = PriceParts { request: "0.01".parse().unwrap(), ..price(card) };
    let reduced = Price::new(parts).unwrap().discounted("12.5".parse().unwrap()).unwrap();
    assert_eq!(reduced.rates().input, rate("2.1875"));
    assert_eq!(reduced.rates().output, rate("8.75"));
    assert_eq!(reduced.rates().cache_read, Some(rate("0.000001")));
    assert_eq!(reduced.rates().reasoning, None);
    assert_eq!(reduced.tiers()[0].rates.input, rate("0.291666"));
    assert_eq!(reduced.request().to_string(), "0.00875");
}

#[test]
fn a_discount_is_a_percentage() {
    let full = Price::new(price(RateCard::new(Rates::new(rate("2"), rate("3")), vec![]).unwrap()));
    let full = full.unwrap();
    assert_eq!(full.discounted(Decimal::ZERO).as_ref(), Ok(&full));
    assert!(full.discounted(Decimal::ONE_HUNDRED).unwrap().is_free());
    assert!(full.discounted("1.0001".parse().unwrap()).is_ok());
    for text in ["-1", "100.01", "1.00001"] {
        let percent = text.parse().unwrap();
        assert_eq!(full.discounted(percent), Err(PriceError::Discount(percent)));
    }
}

#[test]
fn a_rate_card_survives_json_and_a_broken_one_does_not_get_in() {
    let card = RateCard::new(Rates::new(rate("0.1"), rate("0.2")), vec![tier(7, "0.3")]).unwrap();
    let json = serde_json::to_string(&card).unwrap();
    assert_eq!(serde_json::from_str::<RateCard>(&json).unwrap(), card);
    let broken = json.replace("\"above\":7", "\"above\":0");
    assert_ne!(broken, json);
    assert!(serde_json::from_str::<RateCard>(&broken).is_err());
    assert!(serde_json::from_str::<RateCard>(&json.replace("0.3", "-0.3")).is_err());
}
