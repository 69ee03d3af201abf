//! Charges by hand, and the ceiling against every split that a strategy can think of.

use proptest::prelude::*;

use super::*;
use crate::{
    catalog::price::{MAX_FEE, MAX_RATE, PriceParts, RateCard, Tier},
    metering::quantities::MAX_IMAGES,
    money::Currency,
};

fn money(text: &str) -> Amount {
    text.parse().unwrap()
}

fn simple(input: &str, output: &str, tiers: Vec<Tier>) -> Price {
    let rates = Rates::new(input.parse().unwrap(), output.parse().unwrap());
    let card = RateCard::new(rates, tiers).unwrap();
    Price::new(PriceParts::of_tokens(Currency::USD, card)).unwrap()
}

fn changed(price: Price, change: impl Fn(&mut PriceParts)) -> Price {
    let mut parts = price.into_parts();
    change(&mut parts);
    Price::new(parts).unwrap()
}

fn tier(above: u64, input: &str, output: &str) -> Tier {
    Tier { above, rates: Rates::new(input.parse().unwrap(), output.parse().unwrap()) }
}

#[test]
fn five_million_tokens_cost_what_the_price_list_says() {
    let five_million = Quantities { input: 4_000_000, output: 1_000_000, ..Default::default() };
    for (per_million, charge) in [("0.25", "1.25"), ("10", "50"), ("0.000001", "0.000005")] {
        let rating = rate(&simple(per_million, per_million, vec![]), &five_million, false).unwrap();
        assert_eq!(rating.charge, money(charge));
    }
}

#[test]
fn each_class_is_charged_at_its_own_rate() {
    let rates = |text: &str| Some(text.parse().unwrap());
    let all = Rates {
        cache_read: rates("0.1"),
        cache_write: rates("1.25"),
        reasoning: rates("20"),
        audio_input: rates("40"),
        audio_output: rates("80"),
        ..Rates::new("1".parse().unwrap(), "10".parse().unwrap())
    };
    let price = changed(simple("0", "0", vec![]), |parts| {
        parts.card = RateCard::new(all, vec![]).unwrap();
        parts.image = money("0.04");
        parts.request = money("0.005");
    });
    let used = Quantities {
        input: 1_000_000,
        output: 1_000_000,
        cache_read: 1_000_000,
        cache_write: 1_000_000,
        reasoning: 1_000_000,
        audio_input: 1_000_000,
        audio_output: 1_000_000,
        images: 3,
    };
    let rating = rate(&price, &used, false).unwrap();
    assert_eq!(rating.charge, money("152.475"));
    let cost = Cost { currency: Currency::USD, rates: all };
    assert_eq!(own_cost(&cost, &used).unwrap(), money("152.35"));
}

#[test]
fn a_long_prompt_reprices_the_whole_request() {
    let price = simple("1", "2", vec![tier(200_000, "2", "3")]);
    let used =
        |cache_read| Quantities { input: 150_000, cache_read, output: 10, ..Default::default() };
    let short = rate(&price, &used(50_000), false).unwrap();
    assert_eq!((short.charge, short.tier_above), (money("0.20002"), None));
    let long = rate(&price, &used(50_001), false).unwrap();
    assert_eq!((long.charge, long.tier_above), (money("0.400032"), Some(200_000)));
}

#[test]
fn an_answer_from_the_gateways_cache_costs_its_fee_and_the_rest_is_saved() {
    let used = Quantities { input: 1_000_000, ..Default::default() };
    let with_fee = |fee: &str| {
        changed(simple("3", "3", vec![]), |parts| {
            parts.cached_response = money(fee);
        })
    };
    let hit = |fee: &str| rate(&with_fee(fee), &used, true).unwrap();
    assert_eq!((hit("0").charge, hit("0").saving), (money("0"), money("3")));
    assert_eq!((hit("0.5").charge, hit("0.5").saving), (money("0.5"), money("2.5")));
    assert_eq!((hit("4").charge, hit("4").saving), (money("4"), money("0")));
    assert_eq!(rate(&with_fee("0.5"), &used, false).unwrap().saving, money("0"));
}

#[test]
fn the_largest_request_at_the_highest_price_is_still_rated_exactly() {
    let dearest = MAX_RATE.to_string();
    let price = changed(simple(&dearest, &dearest, vec![]), |parts| {
        parts.image = Amount::new(MAX_FEE.into()).unwrap();
        parts.request = Amount::new(MAX_FEE.into()).unwrap();
    });
    let most = MAX_TOKENS_PER_CLASS;
    let used = Quantities {
        input: most,
        output: most,
        cache_read: most,
        cache_write: most,
        reasoning: most,
        audio_input: most,
        audio_output: most,
        images: MAX_IMAGES,
    };
    assert_eq!(rate(&price, &used, false).unwrap().charge, money("1007001000000"));
    assert_eq!(
        ceiling(&price, most, most, Decimal::from(MAX_MARGIN)).unwrap(),
        money("12001000000")
    );
}

#[test]
fn what_cannot_be_rated_says_why() {
    let price = simple("1", "1", vec![]);
    let absurd = Quantities { output: u64::MAX, ..Default::default() };
    assert!(matches!(rate(&price, &absurd, false), Err(RatingError::Quantities(_))));
    assert!(matches!(rate(&price, &absurd, true), Err(RatingError::Quantities(_))));
    for (input, output, field) in
        [(u64::MAX, 1, "input_tokens"), (1, u64::MAX, "max_output_tokens")]
    {
        let error = ceiling(&price, input, output, Decimal::ZERO).unwrap_err();
        assert!(error.to_string().starts_with(field), "{error}");
    }
    for margin in ["-0.1", "10.1", "0.00001"] {
        let margin = margin.parse().unwrap();
        assert_eq!(ceiling(&price, 1, 1, margin), Err(RatingError::Margin(margin)));
    }
    let withdrawn = Price::withdrawal(Currency::USD);
    assert_eq!(rate(&withdrawn, &Quantities::default(), true), Err(RatingError::Withdrawn));
    assert_eq!(ceiling(&withdrawn, 1, 1, Decimal::ZERO), Err(RatingError::Withdrawn));
    let one = money("1");
    assert_eq!(affordable_output(&withdrawn, 1, Decimal::ZERO, one), Err(RatingError::Withdrawn));
}

#[test]
fn the_margin_is_rounded_up_to_a_whole_token() {
    let price = simple("1", "0", vec![]);
    let reserved =
        |input, margin: &str| ceiling(&price, input, 0, margin.parse().unwrap()).unwrap();
    assert_eq!(reserved(1_000_000, "0.1"), money("1.1"));
    assert_eq!(reserved(1, "0.1"), money("0.000002"));
    assert_eq!(reserved(10, "0.1"), money("0.000011"));
    assert_eq!(reserved(0, "0.1"), money("0"));
}

#[test]
fn a_cheaper_higher_tier_does_not_lower_the_ceiling() {
    let price = simple("4", "4", vec![tier(100, "1", "1")]);
    assert_eq!(ceiling(&price, 100, 0, Decimal::ZERO).unwrap(), money("0.0004"));
    // A prompt of 101 tokens is cheap, but one of 100 would not be.
    assert_eq!(ceiling(&price, 101, 0, Decimal::ZERO).unwrap(), money("0.0004"));
    assert_eq!(ceiling(&price, 1000, 0, Decimal::ZERO).unwrap(), money("0.001"));
}

#[test]
fn a_dear_tier_is_reserved_for_only_where_the_prompt_can_reach_it() {
    let price = simple("1", "1", vec![tier(100, "4", "4")]);
    let most = |input, output| ceiling(&price, input, output, Decimal::ZERO).unwrap();
    assert_eq!(most(100, 0), money("0.0001"));
    assert_eq!(most(101, 0), money("0.000404"));
    assert_eq!(most(0, 100), money("0.0001"), "an empty prompt has an answer all the same");
}

#[test]
fn funds_that_do_not_cover_a_cached_response_buy_nothing() {
    let price = changed(simple("0", "0", vec![]), |parts| parts.cached_response = money("0.02"));
    let most = |funds: &str| affordable_output(&price, 1, Decimal::ZERO, money(funds)).unwrap();
    assert_eq!(most("0.019"), None);
    assert_eq!(most("0.02"), Some(MAX_TOKENS_PER_CLASS));
}

#[test]
fn output_is_cut_to_what_the_funds_cover() {
    let price = changed(simple("1", "2", vec![]), |parts| parts.request = money("0.5"));
    let most = |funds: &str| affordable_output(&price, 1000, Decimal::ZERO, money(funds)).unwrap();
    assert_eq!(most("0.500999"), None);
    assert_eq!(most("0.501"), Some(0));
    assert_eq!(most("0.501001999999"), Some(0));
    assert_eq!(most("0.501002"), Some(1));
    assert_eq!(most("2.501"), Some(1_000_000));
    assert_eq!(most("-1"), None);
    assert_eq!(most("9999999999999999"), Some(MAX_TOKENS_PER_CLASS));
    let free = simple("0", "0", vec![]);
    let most = affordable_output(&free, 1000, Decimal::ZERO, Amount::ZERO).unwrap();
    assert_eq!(most, Some(MAX_TOKENS_PER_CLASS));
}

fn any_rate() -> impl Strategy<Value = Rate> {
    prop_oneof![Just(0_u64), 0..100_u64, 0..100_000_000_u64, Just(u64::from(MAX_RATE) * 1_000_000)]
        .prop_map(|micro| Rate::new(Decimal::new(i64::try_from(micro).unwrap(), 6)).unwrap())
}

prop_compose! {
    fn any_rates()(
        input in any_rate(),
        output in any_rate(),
        others in prop::array::uniform5(prop::option::of(any_rate())),
    ) -> Rates {
        let [cache_read, cache_write, reasoning, audio_input, audio_output] = others;
        Rates { input, output, cache_read, cache_write, reasoning, audio_input, audio_output }
    }
}

prop_compose! {
    fn any_price()(
        base in any_rates(),
        tiers in prop::collection::btree_map(1..3000_u64, any_rates(), 0..4),
        request in 0..2_000_000_i64,
        cached_response in 0..100_i64,
    ) -> Price {
        let tiers = tiers.into_iter().map(|(above, rates)| Tier { above, rates }).collect();
        let fee = |micro| Amount::new(Decimal::new(micro, 6)).unwrap();
        let card = RateCard::new(base, tiers).unwrap();
        let mut parts = PriceParts::of_tokens(Currency::USD, card);
        parts.request = fee(request);
        parts.cached_response = fee(cached_response);
        Price::new(parts).unwrap()
    }
}

/// Splits a total into parts at two or three cuts.
fn split<const PARTS: usize>(total: u64, cuts: [u64; PARTS]) -> [u64; PARTS] {
    let mut left = total;
    let mut parts = cuts.map(|cut| {
        let part = cut.min(left);
        left -= part;
        part
    });
    parts[0] += left;
    parts
}

proptest! {
    #[test]
    fn the_ceiling_dominates_every_charge_within_its_tokens(
        price in any_price(),
        said in 0..4000_u64,
        margin in 0..20_000_i64,
        really in 0..8000_u64,
        max_output in 0..5000_u64,
        answered in 0..5000_u64,
        prompt_cuts in prop::array::uniform4(0..4000_u64),
        answer_cuts in prop::array::uniform3(0..4000_u64),
        cache_hit: bool,
    ) {
        let margin = Decimal::new(margin, 4);
        let longest = u64::try_from((Decimal::from(said) * (Decimal::ONE + margin)).ceil()).unwrap();
        let [input, cache_read, cache_write, audio_input] = split(really.min(longest), prompt_cuts);
        let [output, reasoning, audio_output] = split(answered.min(max_output), answer_cuts);
        let used = Quantities {
            input, output, cache_read, cache_write, reasoning, audio_input, audio_output, images: 0,
        };
        let most = ceiling(&price, said, max_output, margin).unwrap();
        let charge = rate(&price, &used, cache_hit).unwrap().charge;
        prop_assert!(charge <= most, "charged {charge}, at most {most} for {used:?}");
    }

    #[test]
    fn the_affordable_output_is_the_largest_that_fits(
        price in any_price(),
        said in 0..4000_u64,
        margin in 0..20_000_i64,
        funds in 0..20_000_000_000_i64,
    ) {
        let margin = Decimal::new(margin, 4);
        let funds = Amount::new(Decimal::new(funds, 9)).unwrap();
        let fits = |output| ceiling(&price, said, output, margin).unwrap() <= funds;
        match affordable_output(&price, said, margin, funds).unwrap() {
            None => prop_assert!(!fits(0)),
            Some(MAX_TOKENS_PER_CLASS) => prop_assert!(fits(MAX_TOKENS_PER_CLASS)),
            Some(most) => prop_assert!(fits(most) && !fits(most + 1), "{most}"),
        }
    }

    #[test]
    fn a_ceiling_grows_with_its_tokens(
        price in any_price(), said in 0..4000_u64, more in 0..4000_u64, output in 0..5000_u64,
    ) {
        let most = |said, output| ceiling(&price, said, output, Decimal::ZERO).unwrap();
        prop_assert!(most(said, output) <= most(said + more, output));
        prop_assert!(most(said, output) <= most(said, output + more));
    }

    #[test]
    fn a_saving_and_a_charge_make_up_the_full_price(
        price in any_price(), input in 0..5000_u64, output in 0..5000_u64,
    ) {
        let used = Quantities { input, output, ..Default::default() };
        let full = rate(&price, &used, false).unwrap().charge;
        let hit = rate(&price, &used, true).unwrap();
        prop_assert_eq!(hit.charge.saturating_add(hit.saving), full.max(hit.charge));
    }
}
