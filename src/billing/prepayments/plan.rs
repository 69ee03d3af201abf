//! Which prepayment invoices are corrected, and by how much, when credits go back: pure.

use super::store::Prepayment;
use crate::{ids::CauseId, money::Amount};

/// What goes back of one prepayment invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) invoice: CauseId,
    /// In whole minor units, above zero.
    pub(super) net: Amount,
}

/// Spreads what goes back over prepayment invoices, which come latest first: each gives what is left
/// of it before an older one gives anything.
pub(super) fn latest_first(amount: Amount, decimals: u32, prepayments: &[Prepayment]) -> Vec<Part> {
    let mut wanted = whole(amount, decimals);
    let mut parts = Vec::new();
    for prepayment in prepayments {
        let net = wanted.min(prepayment.left);
        if net.is_positive() {
            parts.push(Part { invoice: prepayment.document_id, net });
            wanted = wanted.minus_to_zero(net);
        }
    }
    parts
}

/// What of an amount a document can show: its whole minor units.
pub(super) fn whole(amount: Amount, decimals: u32) -> Amount {
    Amount::new(amount.decimal().trunc_with_scale(decimals)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    use super::*;

    fn prepayments(left: &[i64]) -> Vec<Prepayment> {
        let prepayment = |cents: &i64| Prepayment {
            document_id: CauseId::generate(),
            payment_id: CauseId::generate(),
            tax_code: "2100.DE".to_owned(),
            left: Amount::new(Decimal::new(*cents, 2)).unwrap(),
        };
        left.iter().map(prepayment).collect()
    }

    fn nets(amount: &str, left: &[i64]) -> Vec<String> {
        let parts = latest_first(amount.parse().unwrap(), 2, &prepayments(left));
        parts.iter().map(|part| part.net.to_string()).collect()
    }

    #[test]
    fn the_latest_invoice_gives_all_it_has_before_an_older_one_gives_any() {
        assert_eq!(nets("70", &[5_000, 10_000]), ["50", "20"]);
        assert_eq!(nets("50", &[5_000, 10_000]), ["50"]);
        assert_eq!(nets("7", &[0, 1_000]), ["7"]);
        assert_eq!(nets("200", &[5_000, 10_000]), ["50", "100"]);
        assert!(nets("0.009", &[5_000]).is_empty(), "a document shows no part of a cent");
        assert!(nets("-5", &[5_000]).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_gives_more_than_it_has_and_together_they_give_what_is_asked(
            left in prop::collection::vec(0_i64..10_000, 0..6), asked in 0_i64..90_000_000,
        ) {
            let (prepayments, asked) = (prepayments(&left), Decimal::new(asked, 4));
            let parts = latest_first(Amount::new(asked).unwrap(), 2, &prepayments);
            let given: Decimal = parts.iter().map(|part| part.net.decimal()).sum();
            let there = Decimal::new(left.iter().sum(), 2);
            prop_assert_eq!(given, asked.trunc_with_scale(2).min(there));
            for part in parts {
                let of = prepayments.iter().find(|one| one.document_id == part.invoice).unwrap();
                prop_assert!(part.net <= of.left);
            }
        }
    }
}
