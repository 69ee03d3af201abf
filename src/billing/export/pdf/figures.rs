//! Numbers and dates as people read them.

use rust_decimal::Decimal;

use crate::{
    billing::{
        document::{Days, Document, TaxCategory},
        export::{category, figure},
    },
    money::Amount,
};

/// An amount with the decimals of its currency and thousands apart, without the currency.
pub(super) fn money(amount: Amount, document: &Document) -> String {
    grouped(&figure(amount, document))
}

/// A quantity or a price.
pub(super) fn number(number: Decimal) -> String {
    grouped(&number.normalize().to_string())
}

/// How something is taxed, for a narrow column.
pub(super) fn tax(tax: &TaxCategory) -> String {
    match (tax, category(tax)) {
        (TaxCategory::ReverseCharge, _) => "rev. charge".to_owned(),
        (TaxCategory::Exempt, _) => "exempt".to_owned(),
        (TaxCategory::OutsideScope, _) => "–".to_owned(),
        (_, (_, rate)) => format!("{rate}%"),
    }
}

pub(super) fn span(days: Days) -> String {
    if days.first == days.last {
        return days.first.to_string();
    }
    format!("{} – {}", days.first, days.last)
}

/// A bank account in groups of four, as it stands on paper.
pub(super) fn account_number(number: &str) -> String {
    let compact: String = number.chars().filter(|c| !c.is_whitespace()).collect();
    if !crate::billing::export::einvoice::is_iban(&compact) {
        return number.to_owned();
    }
    let mut spaced = String::new();
    for (index, c) in compact.chars().enumerate() {
        if index > 0 && index % 4 == 0 {
            spaced.push(' ');
        }
        spaced.push(c);
    }
    spaced
}

fn grouped(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut text = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if !fraction.is_empty() {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (plain, shown) in
            [("0.35", "0.35"), ("1000", "1,000"), ("-1234567.80", "-1,234,567.80"), ("999", "999")]
        {
            assert_eq!(grouped(plain), shown);
        }
    }

    #[test]
    fn an_iban_stands_in_groups_of_four_and_another_number_as_it_is() {
        assert_eq!(account_number("IE12BOFI90000112345678"), "IE12 BOFI 9000 0112 3456 78");
        assert_eq!(account_number("12-3456 789"), "12-3456 789");
    }
}
