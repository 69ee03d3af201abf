//! Prices that cannot be wrong: rates per million tokens, context tiers, fees per unit.
//!
//! Every value is checked where it is made, also when it is read back from a file or the database:
//! a [`Rate`] is never negative and has at most 6 decimals, a [`RateCard`]'s tiers are sorted and
//! unique, a withdrawn [`Price`] has no rates that somebody could charge by mistake.

use std::{fmt, str::FromStr};

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    metering::quantities::TokenClass,
    money::{Amount, Currency, MoneyError},
};

/// Decimals of a rate per million tokens and of a fee per unit. Tokens × rate ÷ 1,000,000 then has
/// at most 12 decimals, which an [`Amount`] holds.
pub const PRICE_DECIMALS: u32 = 6;
/// The highest rate: one whole unit of currency for one token. The dearest model of today is a
/// thousand times cheaper; what is above was meant per token or in another unit.
pub const MAX_RATE: u32 = 1_000_000;
/// The highest fee for one request or one image.
pub const MAX_FEE: u32 = 1_000_000;
/// The most context tiers of one price; providers have one or two.
pub const MAX_TIERS: usize = 32;

/// Why something is not a price.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PriceError {
    /// Not a decimal number.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// A price that would pay the customer.
    #[error("{what} is {value}; a price is zero or more")]
    Negative {
        /// The rate or fee.
        what: &'static str,
        /// What was given.
        value: Decimal,
    },
    /// More decimals than a charge could hold exactly.
    #[error("{what} {value} has more than {PRICE_DECIMALS} decimals; round it")]
    TooManyDecimals {
        /// The rate or fee.
        what: &'static str,
        /// What was given.
        value: Decimal,
    },
    /// Most likely a price in another unit.
    #[error("{what} is {value}, beyond the highest, {limit}; check the unit")]
    TooHigh {
        /// The rate or fee.
        what: &'static str,
        /// What was given.
        value: Decimal,
        /// The named bound.
        limit: u32,
    },
    /// A tier from the first token on is not a tier but the price.
    #[error("a context tier begins above 0 tokens; put its rates into the price itself")]
    TierAboveZero,
    /// Two tiers that begin at the same count.
    #[error("two context tiers begin above {0} tokens; keep one")]
    DuplicateTier(u64),
    /// More than [`MAX_TIERS`].
    #[error("{0} context tiers; at most {MAX_TIERS} are possible")]
    TooManyTiers(usize),
    /// A withdrawn price that still says what to charge.
    #[error("a withdrawn price has no rates and no fees; leave them zero")]
    WithdrawnWithRates,
    /// Less than 0 or more than 100 percent, or more than 4 decimals of a percent.
    #[error("a discount of {0} percent; give 0 to 100 with at most 4 decimals")]
    Discount(Decimal),
}

/// A price per million tokens: zero or more, at most [`PRICE_DECIMALS`] decimals and
/// [`MAX_RATE`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(Decimal);

impl Rate {
    /// Free of charge.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// Takes a decimal per million tokens.
    pub fn new(value: Decimal) -> Result<Self, PriceError> {
        check(value, "rate", MAX_RATE).map(Self)
    }

    /// Takes a decimal per million tokens with more decimals, rounded half-up to
    /// [`PRICE_DECIMALS`]; the caller reports where that changed it.
    pub fn rounded(value: Decimal) -> Result<Self, PriceError> {
        Self::new(round(value))
    }

    /// The decimal inside, in units of currency per million tokens.
    #[must_use]
    pub const fn decimal(self) -> Decimal {
        self.0
    }

    /// Whether it is free of charge.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for Rate {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text.parse::<Amount>()?.decimal())
    }
}

impl TryFrom<String> for Rate {
    type Error = PriceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What each class of tokens costs, per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Plain prompt tokens, and every other prompt class without a rate of its own.
    pub input: Rate,
    /// Plain answer tokens, and every other answer class without a rate of its own.
    pub output: Rate,
    /// Prompt tokens read from the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Rate>,
    /// Prompt tokens written to the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Rate>,
    /// Tokens the model thought with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Rate>,
    /// Prompt tokens that were audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<Rate>,
    /// Answer tokens that were audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<Rate>,
}

impl Rates {
    /// One rate for the prompt and one for the answer.
    #[must_use]
    pub fn new(input: Rate, output: Rate) -> Self {
        Self { input, output, ..Self::default() }
    }

    /// What a class is charged at: its own rate, else that of its side.
    #[must_use]
    pub fn of(&self, class: TokenClass) -> Rate {
        match class {
            TokenClass::Input => self.input,
            TokenClass::Output => self.output,
            TokenClass::CacheRead => self.cache_read.unwrap_or(self.input),
            TokenClass::CacheWrite => self.cache_write.unwrap_or(self.input),
            TokenClass::Reasoning => self.reasoning.unwrap_or(self.output),
            TokenClass::AudioInput => self.audio_input.unwrap_or(self.input),
            TokenClass::AudioOutput => self.audio_output.unwrap_or(self.output),
        }
    }

    /// The most that a prompt token can cost.
    #[must_use]
    pub fn dearest_prompt(&self) -> Rate {
        self.dearest(true)
    }

    /// The most that an answer token can cost.
    #[must_use]
    pub fn dearest_completion(&self) -> Rate {
        self.dearest(false)
    }

    fn dearest(&self, prompt: bool) -> Rate {
        let side = TokenClass::ALL.into_iter().filter(|class| class.is_prompt() == prompt);
        side.map(|class| self.of(class)).max().unwrap_or_default()
    }

    fn map(&self, change: impl Fn(Rate) -> Rate) -> Self {
        Self {
            input: change(self.input),
            output: change(self.output),
            cache_read: self.cache_read.map(&change),
            cache_write: self.cache_write.map(&change),
            reasoning: self.reasoning.map(&change),
            audio_input: self.audio_input.map(&change),
            audio_output: self.audio_output.map(&change),
        }
    }
}

/// Other rates for the whole request when its prompt is long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// The tier begins with the next prompt token after so many, cached ones counted.
    pub above: u64,
    /// What then holds for every token of the request.
    pub rates: Rates,
}

/// Rates with their context tiers, which are sorted and unique.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "UncheckedCard")]
pub struct RateCard {
    rates: Rates,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tiers: Vec<Tier>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedCard {
    rates: Rates,
    #[serde(default)]
    tiers: Vec<Tier>,
}

impl TryFrom<UncheckedCard> for RateCard {
    type Error = PriceError;

    fn try_from(card: UncheckedCard) -> Result<Self, Self::Error> {
        Self::new(card.rates, card.tiers)
    }
}

impl RateCard {
    /// Sorts the tiers; refuses one that begins at zero or twice.
    pub fn new(rates: Rates, mut tiers: Vec<Tier>) -> Result<Self, PriceError> {
        if tiers.len() > MAX_TIERS {
            return Err(PriceError::TooManyTiers(tiers.len()));
        }
        tiers.sort_by_key(|tier| tier.above);
        if tiers.first().is_some_and(|tier| tier.above == 0) {
            return Err(PriceError::TierAboveZero);
        }
        let repeated = tiers.iter().zip(tiers.iter().skip(1)).find(|(a, b)| a.above == b.above);
        match repeated {
            Some((tier, _)) => Err(PriceError::DuplicateTier(tier.above)),
            None => Ok(Self { rates, tiers }),
        }
    }

    /// The rates below every tier.
    #[must_use]
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The tiers, by rising prompt length.
    #[must_use]
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// The rates for a prompt of this length, and the tier's threshold if it is in one.
    #[must_use]
    pub fn at(&self, prompt_tokens: u64) -> (&Rates, Option<u64>) {
        match self.tiers.iter().rev().find(|tier| prompt_tokens > tier.above) {
            Some(tier) => (&tier.rates, Some(tier.above)),
            None => (&self.rates, None),
        }
    }

    fn map(&self, change: impl Fn(Rate) -> Rate) -> Self {
        let tier = |tier: &Tier| Tier { above: tier.above, rates: tier.rates.map(&change) };
        Self { rates: self.rates.map(&change), tiers: self.tiers.iter().map(tier).collect() }
    }
}

/// The parts of a price before they are checked; see [`Price::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceParts {
    /// The currency of every rate and fee.
    pub currency: Currency,
    /// Rates and context tiers.
    pub card: RateCard,
    /// For each image.
    pub image: Amount,
    /// For each request.
    pub request: Amount,
    /// For each request that the gateway's own cache answered, in place of everything else.
    pub cached_response: Amount,
    /// Whether the model is not sold from here on.
    pub withdrawn: bool,
}

impl PriceParts {
    /// A price of token rates alone.
    #[must_use]
    pub const fn of_tokens(currency: Currency, card: RateCard) -> Self {
        Self {
            currency,
            card,
            image: Amount::ZERO,
            request: Amount::ZERO,
            cached_response: Amount::ZERO,
            withdrawn: false,
        }
    }
}

/// What a model costs from some moment on. Checked when made and never changed after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price(PriceParts);

impl Price {
    /// Checks the parts.
    pub fn new(parts: PriceParts) -> Result<Self, PriceError> {
        let fees = [
            ("image fee", parts.image),
            ("request fee", parts.request),
            ("cached response fee", parts.cached_response),
        ];
        for (what, fee) in fees {
            check(fee.decimal(), what, MAX_FEE)?;
        }
        let charges = parts.card != RateCard::default() || fees.iter().any(|fee| !fee.1.is_zero());
        if parts.withdrawn && charges {
            return Err(PriceError::WithdrawnWithRates);
        }
        Ok(Self(parts))
    }

    /// The record that a model is no longer sold.
    #[must_use]
    pub fn withdrawal(currency: Currency) -> Self {
        let parts = PriceParts::of_tokens(currency, RateCard::default());
        Self(PriceParts { withdrawn: true, ..parts })
    }

    /// The currency of every rate and fee.
    #[must_use]
    pub const fn currency(&self) -> Currency {
        self.0.currency
    }

    /// Rates and context tiers.
    #[must_use]
    pub const fn card(&self) -> &RateCard {
        &self.0.card
    }

    /// The rates below every tier.
    #[must_use]
    pub const fn rates(&self) -> &Rates {
        self.0.card.rates()
    }

    /// The context tiers, by rising prompt length.
    #[must_use]
    pub fn tiers(&self) -> &[Tier] {
        self.0.card.tiers()
    }

    /// For each image.
    #[must_use]
    pub const fn image(&self) -> Amount {
        self.0.image
    }

    /// For each request.
    #[must_use]
    pub const fn request(&self) -> Amount {
        self.0.request
    }

    /// For each request that the gateway's own cache answered, in place of everything else.
    #[must_use]
    pub const fn cached_response(&self) -> Amount {
        self.0.cached_response
    }

    /// Whether the model is not sold from here on.
    #[must_use]
    pub const fn is_withdrawn(&self) -> bool {
        self.0.withdrawn
    }

    /// Whether it asks for nothing at all, which somebody should have meant.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let parts = &self.0;
        let rates =
            std::iter::once(self.rates()).chain(self.tiers().iter().map(|tier| &tier.rates));
        !parts.withdrawn
            && [parts.image, parts.request, parts.cached_response].iter().all(|fee| fee.is_zero())
            && rates
                .flat_map(|rates| TokenClass::ALL.map(|class| rates.of(class)))
                .all(Rate::is_zero)
    }

    /// The parts, to change and check again.
    #[must_use]
    pub fn into_parts(self) -> PriceParts {
        self.0
    }

    /// Every rate and fee reduced by so many percent, rounded half-up to [`PRICE_DECIMALS`]. The
    /// result is a price version of its own, so that what was charged recomputes exactly.
    ///
    /// # Errors
    /// [`PriceError::Discount`] unless the percentage is 0 to 100 with at most 4 decimals.
    pub fn discounted(&self, percent: Decimal) -> Result<Self, PriceError> {
        let percent = percent.normalize();
        let hundred = Decimal::ONE_HUNDRED;
        if percent < Decimal::ZERO || percent > hundred || percent.scale() > 4 {
            return Err(PriceError::Discount(percent));
        }
        let factor = (hundred - percent) / hundred;
        let reduce = |value: Decimal| round(value * factor).normalize();
        let fee = |fee: Amount| Amount::new(reduce(fee.decimal()));
        // A rate that is reduced stays within every bound of a rate.
        let card = self.0.card.map(|rate| Rate(reduce(rate.0)));
        Self::new(PriceParts {
            currency: self.0.currency,
            card,
            image: fee(self.0.image)?,
            request: fee(self.0.request)?,
            cached_response: fee(self.0.cached_response)?,
            withdrawn: self.0.withdrawn,
        })
    }
}

/// What a model costs ourselves, in the currency we pay it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// The currency of every rate.
    pub currency: Currency,
    /// What each class of tokens costs us. Context tiers are not kept: a margin on a very long
    /// prompt is reported against these.
    pub rates: Rates,
}

/// The value normalised, if it can be a price.
fn check(value: Decimal, what: &'static str, limit: u32) -> Result<Decimal, PriceError> {
    let value = value.normalize();
    if value < Decimal::ZERO {
        return Err(PriceError::Negative { what, value });
    }
    if value > Decimal::from(limit) {
        return Err(PriceError::TooHigh { what, value, limit });
    }
    if value.scale() > PRICE_DECIMALS {
        return Err(PriceError::TooManyDecimals { what, value });
    }
    Ok(value)
}

/// Half-up to [`PRICE_DECIMALS`].
fn round(value: Decimal) -> Decimal {
    value.round_dp_with_strategy(PRICE_DECIMALS, RoundingStrategy::MidpointAwayFromZero)
}

#[cfg(test)]
#[path = "price_tests.rs"]
mod tests;
