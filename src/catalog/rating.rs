//! What a request costs, and the most it can cost: pure, exact, never rounded.
//!
//! Everything is computed in whole numbers of 10^-12 of the currency. A rate has at most 6 decimals
//! per million tokens, so one token costs a whole number of them; the bounds of a rate, a fee and a
//! count keep every intermediate value far inside 128 bits. [`ceiling`] dominates [`rate`] for
//! every way in which the tokens can fall into classes, which is what lets a reservation promise
//! that a charge will fit into it.

use rust_decimal::Decimal;
use thiserror::Error;

use crate::{
    catalog::price::{Cost, PRICE_DECIMALS, Price, Rate, Rates},
    metering::quantities::{MAX_TOKENS_PER_CLASS, Quantities, QuantityError, TokenClass},
    money::{AMOUNT_DECIMALS, Amount},
};

/// The largest safety margin on a caller's own count of input tokens: ten times the count again.
pub const MAX_MARGIN: u32 = 10;
/// Decimals of a margin.
const MARGIN_DECIMALS: u32 = 4;

/// Why a request cannot be rated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RatingError {
    /// A count that no request can have.
    #[error(transparent)]
    Quantities(#[from] QuantityError),
    /// The model is not sold at this price version.
    #[error("the model is withdrawn at this price version; take one from when it was sold")]
    Withdrawn,
    /// A margin below 0, above [`MAX_MARGIN`] or with more than 4 decimals.
    #[error("margin {0} is not between 0 and {MAX_MARGIN} with at most {MARGIN_DECIMALS} decimals")]
    Margin(Decimal),
    /// Cannot happen within the bounds of rates, fees and counts; said instead of a panic.
    #[error("the charge is beyond every amount, which the bounds of a price should prevent")]
    OutOfRange,
}

/// What a request costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rating {
    /// What the customer is charged.
    pub charge: Amount,
    /// What the customer did not pay because the gateway's own cache answered. Never negative.
    pub saving: Amount,
    /// The context tier that repriced the request: above so many prompt tokens.
    pub tier_above: Option<u64>,
}

/// Rates what was used. With `cache_hit`, the gateway answered from its own cache: the request
/// costs the price's fee for that and the difference to its full price is the saving.
pub fn rate(
    price: &Price,
    quantities: &Quantities,
    cache_hit: bool,
) -> Result<Rating, RatingError> {
    if price.is_withdrawn() {
        return Err(RatingError::Withdrawn);
    }
    let quantities = quantities.checked()?;
    let (rates, tier_above) = price.card().at(quantities.prompt_tokens());
    let images = pico_of_amount(price.image())?
        .checked_mul(u128::from(quantities.images))
        .ok_or(RatingError::OutOfRange)?;
    let fees = sum([pico_of_amount(price.request())?, images])?;
    let full = amount(sum([tokens_cost(rates, &quantities)?, fees])?)?;
    if cache_hit {
        let charge = price.cached_response();
        let saving = full.minus_to_zero(charge);
        return Ok(Rating { charge, saving, tier_above: None });
    }
    Ok(Rating { charge: full, saving: Amount::ZERO, tier_above })
}

/// What the tokens cost ourselves, in the cost's own currency.
pub fn own_cost(cost: &Cost, quantities: &Quantities) -> Result<Amount, RatingError> {
    amount(tokens_cost(&cost.rates, &quantities.checked()?)?)
}

/// The most that a request can cost whose prompt has up to `input_tokens × (1 + margin)` tokens
/// and whose answer has up to `max_output_tokens`, reasoning included, whatever classes they turn
/// out to be in and whatever context tier they reach. Fees per image are not part of it.
pub fn ceiling(
    price: &Price,
    input_tokens: u64,
    max_output_tokens: u64,
    margin: Decimal,
) -> Result<Amount, RatingError> {
    within_bounds("max_output_tokens", max_output_tokens)?;
    let mut dearest = pico_of_amount(price.cached_response())?;
    for bound in bounds(price, input_tokens, margin)? {
        let output = tokens(bound.per_output_token, max_output_tokens)?;
        dearest = dearest.max(sum([bound.before_output, output])?);
    }
    amount(dearest)
}

/// The largest `max_output_tokens` whose [`ceiling`] fits into the funds, at most
/// [`MAX_TOKENS_PER_CLASS`]; `None` where not even the input fits.
pub fn affordable_output(
    price: &Price,
    input_tokens: u64,
    margin: Decimal,
    funds: Amount,
) -> Result<Option<u64>, RatingError> {
    if funds.is_negative() || funds < price.cached_response() {
        return Ok(None);
    }
    let funds = pico_of_amount(funds)?;
    let mut affordable = MAX_TOKENS_PER_CLASS;
    for bound in bounds(price, input_tokens, margin)? {
        let Some(left) = funds.checked_sub(bound.before_output) else { return Ok(None) };
        // An answer that costs nothing never runs out of funds.
        if let Some(tokens) = left.checked_div(bound.per_output_token) {
            affordable = affordable.min(u64::try_from(tokens).unwrap_or(MAX_TOKENS_PER_CLASS));
        }
    }
    Ok(Some(affordable))
}

/// The most that the request can cost in one of the context tiers it can reach.
struct Bound {
    /// Input and fees, in 10^-12.
    before_output: u128,
    /// The dearest kind of answer token, in 10^-12.
    per_output_token: u128,
}

/// One bound for each context tier that a prompt of at most this length can be in. A higher tier
/// may be cheaper than a lower one, and a real prompt may be shorter than was said, so that the
/// ceiling has to look at all of them.
fn bounds(price: &Price, input_tokens: u64, margin: Decimal) -> Result<Vec<Bound>, RatingError> {
    if price.is_withdrawn() {
        return Err(RatingError::Withdrawn);
    }
    let longest = with_margin(input_tokens, margin)?;
    let request = pico_of_amount(price.request())?;
    let bases = std::iter::once(price.rates()).chain(price.tiers().iter().map(|tier| &tier.rates));
    let begins = std::iter::once(0).chain(price.tiers().iter().map(|tier| tier.above));
    let ends = price.tiers().iter().map(|tier| tier.above).chain(std::iter::once(u64::MAX));
    begins
        .zip(ends)
        .zip(bases)
        .filter(|((begin, _), _)| *begin == 0 || longest > *begin)
        .map(|((_, end), rates)| {
            let input = tokens(pico_of_rate(rates.dearest_prompt())?, longest.min(end))?;
            let before_output = sum([input, request])?;
            let per_output_token = pico_of_rate(rates.dearest_completion())?;
            Ok(Bound { before_output, per_output_token })
        })
        .collect()
}

/// `input_tokens × (1 + margin)`, up to the next whole token.
fn with_margin(input_tokens: u64, margin: Decimal) -> Result<u64, RatingError> {
    within_bounds("input_tokens", input_tokens)?;
    let normalized = margin.normalize();
    let possible = Decimal::ZERO <= normalized && normalized <= Decimal::from(MAX_MARGIN);
    if !possible || normalized.scale() > MARGIN_DECIMALS {
        return Err(RatingError::Margin(margin));
    }
    // At most 10 digits times 6 digits: the product is exact.
    let with_margin = (Decimal::from(input_tokens) * (Decimal::ONE + normalized)).ceil();
    u64::try_from(with_margin).map_err(|_| RatingError::OutOfRange)
}

fn within_bounds(field: &'static str, count: u64) -> Result<(), RatingError> {
    if count > MAX_TOKENS_PER_CLASS {
        let limit = MAX_TOKENS_PER_CLASS;
        return Err(QuantityError { field, count, limit }.into());
    }
    Ok(())
}

fn tokens_cost(rates: &Rates, quantities: &Quantities) -> Result<u128, RatingError> {
    let mut total: u128 = 0;
    for class in TokenClass::ALL {
        let cost = tokens(pico_of_rate(rates.of(class))?, quantities.of(class))?;
        total = total.checked_add(cost).ok_or(RatingError::OutOfRange)?;
    }
    Ok(total)
}

fn tokens(pico_per_token: u128, count: u64) -> Result<u128, RatingError> {
    pico_per_token.checked_mul(u128::from(count)).ok_or(RatingError::OutOfRange)
}

fn sum(parts: [u128; 2]) -> Result<u128, RatingError> {
    let [first, second] = parts;
    first.checked_add(second).ok_or(RatingError::OutOfRange)
}

/// A rate per million tokens in 10^-6 is the price of one token in 10^-12.
fn pico_of_rate(rate: Rate) -> Result<u128, RatingError> {
    whole(rate.decimal(), PRICE_DECIMALS)
}

fn pico_of_amount(amount: Amount) -> Result<u128, RatingError> {
    whole(amount.decimal(), AMOUNT_DECIMALS)
}

/// `value × 10^decimals`, which its type guarantees to be a whole number.
fn whole(value: Decimal, decimals: u32) -> Result<u128, RatingError> {
    let missing = decimals.checked_sub(value.scale()).ok_or(RatingError::OutOfRange)?;
    let mantissa = u128::try_from(value.mantissa()).map_err(|_| RatingError::OutOfRange)?;
    mantissa.checked_mul(10_u128.pow(missing)).ok_or(RatingError::OutOfRange)
}

fn amount(pico: u128) -> Result<Amount, RatingError> {
    let mantissa = i128::try_from(pico).map_err(|_| RatingError::OutOfRange)?;
    Decimal::try_from_i128_with_scale(mantissa, AMOUNT_DECIMALS)
        .ok()
        .and_then(|value| Amount::new(value).ok())
        .ok_or(RatingError::OutOfRange)
}

#[cfg(test)]
#[path = "rating_tests.rs"]
mod tests;
