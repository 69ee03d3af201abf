//! Exact money: amounts in decimals from end to end, never a float.
//!
//! An [`Amount`] has at most 12 decimals and 16 digits before the point, as the database's
//! `NUMERIC(28,12)` has. A price has at most 6 decimals per million tokens, so that every charge
//! (tokens × price ÷ 1,000,000) is exact and nothing is rounded before the invoice line.

use std::{fmt, str::FromStr};

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Decimals an amount can hold; `NUMERIC(28,12)` in the database.
pub const AMOUNT_DECIMALS: u32 = 12;
/// Every amount's magnitude is below this: 10^16 whole units.
pub const AMOUNT_LIMIT: i64 = 10_000_000_000_000_000;

/// Why a text or a decimal is not an amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MoneyError {
    /// Not a plain decimal such as `12.50`.
    #[error("{0:?} is not a decimal number; write it like 12.50")]
    NotADecimal(String),
    /// More than [`AMOUNT_DECIMALS`] decimals.
    #[error("{0} has more than {AMOUNT_DECIMALS} decimals; round it")]
    TooManyDecimals(Decimal),
    /// Ten quadrillion or more.
    #[error("{0} is beyond the largest amount, {AMOUNT_LIMIT}")]
    TooLarge(String),
    /// Not three capital letters.
    #[error("{0:?} is not an ISO 4217 currency code such as USD")]
    NotACurrency(String),
}

/// An amount of money in the account's currency, exact to 12 decimals. In the database a
/// `NUMERIC(28,12)`, which holds just what this holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, sqlx::Type)]
#[sqlx(transparent)]
pub struct Amount(Decimal);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);
    /// A hundredth.
    pub const HUNDREDTH: Self = Self(Decimal::from_parts(1, 0, 0, false, 2));

    /// Takes a decimal that has at most 12 decimals and 16 digits before the point.
    ///
    /// # Errors
    /// [`MoneyError::TooManyDecimals`] and [`MoneyError::TooLarge`].
    pub fn new(value: Decimal) -> Result<Self, MoneyError> {
        let value = value.normalize();
        if value.scale() > AMOUNT_DECIMALS {
            return Err(MoneyError::TooManyDecimals(value));
        }
        if value.abs() >= Decimal::from(AMOUNT_LIMIT) {
            return Err(MoneyError::TooLarge(value.to_string()));
        }
        Ok(Self(value))
    }

    /// The decimal inside.
    #[must_use]
    pub const fn decimal(self) -> Decimal {
        self.0
    }

    /// Whether it is above zero.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self.0 > Decimal::ZERO
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.0 < Decimal::ZERO
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// The sum, or `None` beyond the largest amount.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(|sum| Self::new(sum).ok())
    }

    /// The difference, which may be negative, or `None` beyond the largest amount.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(|difference| Self::new(difference).ok())
    }

    /// The sum, held at the largest amount. For limits and reservations, where more than can be
    /// paid is as good as the most that can be.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        self.checked_add(other).unwrap_or_else(Self::largest)
    }

    /// The difference, but never below zero.
    #[must_use]
    pub fn minus_to_zero(self, other: Self) -> Self {
        self.checked_sub(other).filter(|difference| !difference.is_negative()).unwrap_or_default()
    }

    /// The amount rounded half away from zero to so many decimals: once, on a document's line, and
    /// never before.
    #[must_use]
    pub fn rounded(self, decimals: u32) -> Self {
        Self(
            self.0
                .round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero)
                .normalize(),
        )
    }

    /// The largest amount there is.
    #[must_use]
    pub fn largest() -> Self {
        Self(Decimal::from(AMOUNT_LIMIT - 1))
    }
}

impl FromStr for Amount {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = digits.starts_with(|first: char| first.is_ascii_digit())
            && digits.ends_with(|last: char| last.is_ascii_digit())
            && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if !plain || digits.len() > 40 {
            return Err(MoneyError::NotADecimal(text.chars().take(60).collect()));
        }
        let value = Decimal::from_str_exact(text)
            .map_err(|_| MoneyError::NotADecimal(text.chars().take(60).collect()))?;
        Self::new(value)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.normalize().fmt(formatter)
    }
}

/// A currency by its ISO 4217 code. Amounts of different currencies never meet in one transfer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The US dollar, the currency of an account that names none.
    pub const USD: Self = Self(*b"USD");

    /// How many decimals a payment in it has (ISO 4217): 2 for the dollar, 0 for the yen. A code
    /// that the standard does not list, or lists without one, has 2.
    #[must_use]
    pub fn minor_unit(&self) -> u32 {
        iso_currency::Currency::from_code(self.code())
            .and_then(iso_currency::Currency::exponent)
            .map_or(2, u32::from)
    }

    /// The three letters.
    #[must_use]
    pub fn code(&self) -> &str {
        // Only ASCII capitals ever get in.
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(MoneyError::NotACurrency(text.chars().take(20).collect())),
        }
    }
}

/// As a decimal string, so that no reader takes it for a float.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_keeps_twelve_decimals_and_refuses_a_thirteenth() {
        let smallest: Amount = "0.000000000001".parse().unwrap();
        assert_eq!(smallest.to_string(), "0.000000000001");
        assert!(matches!("0.0000000000001".parse::<Amount>(), Err(MoneyError::TooManyDecimals(_))));
    }

    #[test]
    fn what_is_not_a_plain_decimal_is_refused() {
        for text in ["", " 1", "1,5", "1e3", "NaN", "+1", ".5", "5.", "--1", "1.2.3", "١"] {
            assert!(text.parse::<Amount>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn an_amount_beyond_the_column_is_refused() {
        assert!("9999999999999999.999999999999".parse::<Amount>().is_ok());
        assert!(matches!("10000000000000000".parse::<Amount>(), Err(MoneyError::TooLarge(_))));
    }

    #[test]
    fn rounding_takes_a_half_away_from_zero_to_the_minor_unit() {
        for (code, exact, rounded) in [
            ("USD", "0.005", "0.01"),
            ("USD", "0.004999999999", "0"),
            ("USD", "-0.005", "-0.01"),
            ("JPY", "1234.5", "1235"),
            ("KWD", "1.0005", "1.001"),
        ] {
            let currency: Currency = code.parse().unwrap();
            let amount: Amount = exact.parse().unwrap();
            assert_eq!(
                amount.rounded(currency.minor_unit()).to_string(),
                rounded,
                "{exact} {code}"
            );
        }
    }

    #[test]
    fn a_currency_is_three_capitals() {
        assert_eq!("EUR".parse::<Currency>().unwrap().code(), "EUR");
        for text in ["usd", "US", "USDT", "U$D", ""] {
            assert!(text.parse::<Currency>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn the_largest_amount_and_the_longest_text_are_at_their_bounds() {
        assert_eq!(Amount::largest().to_string(), "9999999999999999");
        let long = |digits: usize| format!("{}7", "0".repeat(digits - 1)).parse::<Amount>();
        assert_eq!(long(40).unwrap().to_string(), "7");
        assert!(matches!(long(41), Err(MoneyError::NotADecimal(_))));
    }

    #[test]
    fn an_amount_is_read_from_json_as_it_was_written_and_never_from_a_number() {
        let amount: Amount = "1.50".parse().unwrap();
        let json = serde_json::to_string(&amount).unwrap();
        assert_eq!(serde_json::from_str::<Amount>(&json).unwrap(), amount);
        assert!(serde_json::from_str::<Amount>("1.5").is_err());
    }
}
