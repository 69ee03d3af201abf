//! What the same tokens cost at two prices, and what one saves against the other.

use rust_decimal::{Decimal, RoundingStrategy};
use thiserror::Error;

use crate::{
    catalog::price::{Price, Rate},
    money::{Amount, Currency},
};

/// The most tokens that are compared on each side: ten quadrillion, a thousand times what all
/// providers together serve in a day. Their cost at the highest rate is still an amount.
pub const MAX_TOKENS: u64 = 10_000_000_000_000_000;
/// Decimals of a percentage.
const PERCENT_DECIMALS: u32 = 2;
/// A rate is for a million tokens.
const PER_DECIMALS: u32 = 6;

/// Why two prices cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompareError {
    /// Prices in different currencies.
    #[error("one price is in {0}, the other in {1}; compare prices of one currency")]
    Currencies(Currency, Currency),
    /// A price that is no longer to be had.
    #[error("a withdrawn model costs nothing that could be compared; choose another")]
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

/// The same volume at two prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// What is compared.
    pub volume: Volume,
    /// Its cost at the first price.
    pub first: Amount,
    /// Its cost at the second price.
    pub second: Amount,
    /// By how many percent the first is cheaper than the second, rounded half-up to 2 decimals;
    /// negative where it is dearer. `None` where the second costs nothing.
    pub saved_percent: Option<Decimal>,
}

/// Compares what volumes cost at the plain input and output rates of two prices: spread over
/// requests too short for a context tier, without fees per request.
pub fn compare(
    first: &Price,
    second: &Price,
    volumes: &[Volume],
) -> Result<Vec<Comparison>, CompareError> {
    if first.currency() != second.currency() {
        return Err(CompareError::Currencies(first.currency(), second.currency()));
    }
    if first.is_withdrawn() || second.is_withdrawn() {
        return Err(CompareError::Withdrawn);
    }
    let comparison = |volume: &Volume| {
        let (first, second) = (cost(first, *volume)?, cost(second, *volume)?);
        let saved_percent = saved_percent(first.decimal(), second.decimal());
        Ok(Comparison { volume: *volume, first, second, saved_percent })
    };
    volumes.iter().map(comparison).collect()
}

fn cost(price: &Price, volume: Volume) -> Result<Amount, CompareError> {
    let input = tokens(price.rates().input, volume.input)?;
    let output = tokens(price.rates().output, volume.output)?;
    input.checked_add(output).ok_or(CompareError::TooMany(volume.input.max(volume.output)))
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

fn saved_percent(first: Decimal, second: Decimal) -> Option<Decimal> {
    let share = first.checked_div(second)?;
    let saved = (Decimal::ONE - share).checked_mul(Decimal::ONE_HUNDRED)?;
    Some(
        saved
            .round_dp_with_strategy(PERCENT_DECIMALS, RoundingStrategy::MidpointAwayFromZero)
            .normalize(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::price::{PriceParts, RateCard, Rates};

    fn price(rate: &str) -> Price {
        let rate = rate.parse().unwrap();
        let card = RateCard::new(Rates::new(rate, rate), Vec::new()).unwrap();
        Price::new(PriceParts::of_tokens(Currency::USD, card)).unwrap()
    }

    #[test]
    fn a_quarter_dollar_model_saves_what_the_price_list_promises() {
        let volumes =
            [5, 50, 500, 5_000].map(|millions| Volume { input: millions * 1_000_000, output: 0 });
        let rows = compare(&price("0.25"), &price("10"), &volumes).unwrap();
        let costs: Vec<_> =
            rows.iter().map(|row| (row.first.to_string(), row.second.to_string())).collect();
        let expected = [("1.25", "50"), ("12.5", "500"), ("125", "5000"), ("1250", "50000")];
        assert_eq!(costs, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        let saved = Some(Decimal::new(975, 1));
        assert!(rows.iter().all(|row| row.saved_percent == saved));
    }

    #[test]
    fn the_split_between_prompt_and_answer_does_not_matter_where_the_rates_are_equal() {
        let all = Volume { input: 5_000_000, output: 0 };
        let split = Volume { input: 1_000_001, output: 3_999_999 };
        let rows = compare(&price("0.28"), &price("2.5"), &[all, split]).unwrap();
        assert_eq!((rows[0].first, rows[0].second), (rows[1].first, rows[1].second));
    }

    #[test]
    fn a_dearer_model_saves_a_negative_share_and_a_free_one_cannot_be_undercut() {
        let volume = [Volume { input: 3, output: 0 }];
        let dearer = compare(&price("3"), &price("2"), &volume).unwrap();
        assert_eq!(dearer[0].saved_percent, Some(Decimal::from(-50)));
        let free = compare(&price("3"), &price("0"), &volume).unwrap();
        assert_eq!(free[0].saved_percent, None);
    }

    #[test]
    fn a_volume_beyond_every_amount_is_refused_and_not_rounded() {
        let most = [Volume { input: MAX_TOKENS, output: 0 }];
        assert_eq!(
            compare(&price("1"), &price("2"), &most).unwrap()[0].first.to_string(),
            "10000000000"
        );
        let dear = compare(&price("1000000"), &price("1"), &most);
        assert_eq!(dear, Err(CompareError::TooMany(MAX_TOKENS)));
        let more = [Volume { input: 0, output: MAX_TOKENS + 1 }];
        assert!(compare(&price("1"), &price("1"), &more).is_err());
    }

    #[test]
    fn withdrawn_models_and_mixed_currencies_are_refused() {
        let euro: Currency = "EUR".parse().unwrap();
        let volume = [Volume { input: 1, output: 1 }];
        let withdrawn = Price::withdrawal(Currency::USD);
        assert_eq!(compare(&price("1"), &withdrawn, &volume), Err(CompareError::Withdrawn));
        assert_eq!(
            compare(&price("1"), &Price::withdrawal(euro), &volume),
            Err(CompareError::Currencies(Currency::USD, euro))
        );
    }
}
