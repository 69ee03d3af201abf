//! Prices: as the product has them, and as whole numbers that the auditor computes with.

use rust_decimal::Decimal;
use tollgate::{
    catalog::price::{Price, PriceParts, Rate, RateCard, Rates, Tier},
    ids::PriceVersionId,
    metering::quantities::Quantities,
    money::Currency,
};

use crate::money::{Pico, amount};

/// One version of a model's price. A rate in millionths per million tokens is what one token costs
/// in 10^-12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub version: PriceVersionId,
    pub model: usize,
    pub input: u32,
    pub cache_read: u32,
    pub output: u32,
    /// For each request.
    pub fee: u32,
    /// Prompts above so many tokens cost twice as much, all of them.
    pub doubled_above: u64,
}

impl Version {
    pub fn price(&self) -> Price {
        let rate = |times: u32, value: u32| {
            Rate::new(Decimal::new(i64::from(value * times), 6)).expect("a rate")
        };
        let rates = |times: u32| Rates {
            cache_read: Some(rate(times, self.cache_read)),
            ..Rates::new(rate(times, self.input), rate(times, self.output))
        };
        let tier = Tier { above: self.doubled_above, rates: rates(2) };
        let card = RateCard::new(rates(1), vec![tier]).expect("one tier");
        let request = amount(Pico::from(self.fee) * 1_000_000);
        Price::new(PriceParts { request, ..PriceParts::of_tokens(Currency::USD, card) })
            .expect("a price")
    }

    /// What so much costs, with nothing but whole numbers.
    pub fn charge(&self, used: &Quantities) -> Pico {
        let prompt = used.input + used.cache_read;
        let times = if prompt > self.doubled_above { 2 } else { 1 };
        let tokens = u64::from(self.input) * used.input
            + u64::from(self.cache_read) * used.cache_read
            + u64::from(self.output) * (used.output + used.reasoning);
        Pico::from(tokens) * times + Pico::from(self.fee) * 1_000_000
    }
}
