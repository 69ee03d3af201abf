//! What the same tokens cost at different prices, and what one saves against another.
//!
//! A volume is the sum of many requests: it is priced at the plain input and output rates, since
//! context tiers belong to single long requests, and without fees per request.

use rust_decimal::{Decimal, RoundingStrategy};
use thiserror::Error;

use crate::{
    catalog::price::{Price, Rate},
    money::Amount,
};

/// The most tokens that are compared: ten quadrillion, a thousand times what all providers
/// together serve in a day.
pub const MAX_TOKENS: u64 = 10_000_000_000_000_000;
/// Decimals of a percentage.
const PERCENT_DECIMALS: u32 = 2;
/// A rate is for a million tokens.
const PER_DECIMALS: u32 = 6;

/// Why a volume has no cost.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompareError {
    /// A price that is no longer to be had.
    #[error("a withdrawn model has no cost that could be compared; choose another")]
    Withdrawn,
    /// More than [`MAX_TOKENS`], or a cost beyond every amount.
    #[error("{0} tokens are too many; compare at most {MAX_TOKENS}")]
    TooMany(u64),
}

/// Tokens of many requests together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// Prompt tokens.
    pub input: u64,
    /// Answer tokens.
    pub output: u64,
}

impl Volume {
    /// So many tokens, of which this percentage, at most 100, are the answers'; the rest of a
    /// token goes to the prompts.
    pub fn of(tokens: u64, output_percent: u32) -> Result<Self, CompareError> {
        if tokens > MAX_TOKENS {
            return Err(CompareError::TooMany(tokens));
        }
        let output = tokens * u64::from(output_percent.min(100)) / 100;
        Ok(Self { input: tokens - output, output })
    }
}

/// What a volume costs, exactly.
pub fn cost(price: &Price, volume: Volume) -> Result<Amount, CompareError> {
    if price.is_withdrawn() {
        return Err(CompareError::Withdrawn);
    }
    let input = tokens(price.rates().input, volume.input)?;
    let output = tokens(price.rates().output, volume.output)?;
    input.checked_add(output).ok_or(CompareError::TooMany(volume.input.max(volume.output)))
}

/// By how many percent the first is less than the last, rounded half-up to 2 decimals; negative
/// where it is more. `None` where the last is nothing.
#[must_use]
pub fn saved_percent(first: Amount, last: Amount) -> Option<Decimal> {
    let share = first.decimal().checked_div(last.decimal())?;
    let saved = (Decimal::ONE - share).checked_mul(Decimal::ONE_HUNDRED)?;
    let rounded =
        saved.round_dp_with_strategy(PERCENT_DECIMALS, RoundingStrategy::MidpointAwayFromZero);
    Some(rounded.normalize())
}

fn tokens(rate: Rate, count: u64) -> Result<Amount, CompareError> {
    let too_many = || CompareError::TooMany(count);
    if count > MAX_TOKENS {
        return Err(too_many());
    }
    // In whole numbers, so that what does not fit is refused and nothing is rounded.
    let rate = rate.decimal();
    let product = i128::from(count).checked_mul(rate.mantissa()).ok_or_else(too_many)?;
    let cost = Decimal::try_from_i128_with_scale(product, rate.scale() + PER_DECIMALS);
    cost.ok().and_then(|cost| Amount::new(cost).ok()).ok_or_else(too_many)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::price::{PriceParts, RateCard, Rates},
        money::Currency,
    };

    fn price(input: &str, output: &str) -> Price {
        let rates = Rates::new(input.parse().unwrap(), output.parse().unwrap());
        let card = RateCard::new(rates, Vec::new()).unwrap();
        Price::new(PriceParts::of_tokens(Currency::USD, card)).unwrap()
    }

    fn all_input(tokens: u64) -> Volume {
        Volume { input: tokens, output: 0 }
    }

    #[test]
    fn a_quarter_dollar_model_saves_what_the_launch_article_promises() {
        let table = [
            (5_000_000, "1.25", "50"),
            (50_000_000, "12.5", "500"),
            (500_000_000, "125", "5000"),
            (5_000_000_000, "1250", "50000"),
        ];
        for (tokens, cheap, dear) in table {
            for output_percent in [0, 25, 33, 100] {
                let volume = Volume::of(tokens, output_percent).unwrap();
                let first = cost(&price("0.25", "0.25"), volume).unwrap();
                let last = cost(&price("10", "10"), volume).unwrap();
                assert_eq!((first.to_string().as_str(), last.to_string().as_str()), (cheap, dear));
                assert_eq!(saved_percent(first, last).unwrap().to_string(), "97.5");
            }
        }
    }

    #[test]
    fn a_volume_is_split_without_losing_a_token() {
        assert_eq!(Volume::of(7, 50).unwrap(), Volume { input: 4, output: 3 });
        assert_eq!(Volume::of(MAX_TOKENS, 100).unwrap().output, MAX_TOKENS);
        assert!(Volume::of(MAX_TOKENS + 1, 0).is_err());
        let mixed = cost(&price("1", "5"), Volume::of(1_000_000, 25).unwrap()).unwrap();
        assert_eq!(mixed.to_string(), "2");
    }

    #[test]
    fn a_dearer_model_saves_a_negative_share_and_a_free_one_cannot_be_undercut() {
        let of = |rate: &str| cost(&price(rate, rate), all_input(3)).unwrap();
        assert_eq!(saved_percent(of("3"), of("2")), Some(Decimal::from(-50)));
        assert_eq!(saved_percent(of("3"), of("0")), None);
    }

    #[test]
    fn a_cost_beyond_every_amount_is_refused_and_not_rounded() {
        let most = cost(&price("1", "1"), all_input(MAX_TOKENS)).unwrap();
        assert_eq!(most.to_string(), "10000000000");
        let dear = cost(&price("1000000", "1"), all_input(MAX_TOKENS));
        assert_eq!(dear, Err(CompareError::TooMany(MAX_TOKENS)));
        let more = cost(&price("1", "1"), all_input(MAX_TOKENS + 1));
        assert_eq!(more, Err(CompareError::TooMany(MAX_TOKENS + 1)));
    }

    #[test]
    fn a_withdrawn_model_is_not_free() {
        let withdrawn = cost(&Price::withdrawal(Currency::USD), all_input(1));
        assert_eq!(withdrawn, Err(CompareError::Withdrawn));
    }
}
