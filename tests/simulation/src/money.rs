//! Money as whole numbers of 10^-12, so that the simulation adds with nothing but integers.

use rust_decimal::Decimal;
use tollgate::money::{AMOUNT_DECIMALS, Amount};

pub type Pico = i128;

/// One unit of currency.
pub const UNIT: Pico = 1_000_000_000_000;

pub fn pico(amount: Amount) -> Pico {
    let value = amount.decimal();
    value.mantissa() * 10_i128.pow(AMOUNT_DECIMALS - value.scale())
}

pub fn decimal(pico: Pico) -> Decimal {
    Decimal::from_i128_with_scale(pico, AMOUNT_DECIMALS)
}

pub fn amount(pico: Pico) -> Amount {
    Amount::new(decimal(pico)).expect("sums of a run are small")
}
