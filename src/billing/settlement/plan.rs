//! Which invoices an amount pays: pure.

use super::{SettlementError, Standing, share_of};
use crate::{billing::error::BillingError, ids::CauseId, money::Amount};

/// A part of an amount for an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The invoice's number or id.
    pub invoice: String,
    /// How much; as much as is open and there is where it is not said.
    pub amount: Option<Amount>,
    /// What the payer kept back as tax, beside the amount.
    pub withheld: Amount,
}

/// What an invoice gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) invoice: CauseId,
    pub(super) amount: Amount,
    pub(super) withheld: Amount,
    /// It pays what had been written off; `tax` of it is owed to the tax office again.
    pub(super) recovers: bool,
    pub(super) tax: Amount,
}

/// How the rest of an amount is used that no share names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Open invoices get it, those that are due first.
    pub(super) oldest_first: bool,
    /// Invoices that were written off can be paid.
    pub(super) can_recover: bool,
    /// Of the currency's minor unit.
    pub(super) decimals: u32,
}

/// Divides an amount among invoices; `standings` are those that the shares name and, where the rest
/// goes to the oldest, all that are open, in the order in which they are due. The second part of the
/// answer belongs to no invoice.
pub(super) fn plan(
    amount: Amount,
    shares: &[Share],
    standings: &[Standing],
    rules: Rules,
) -> Result<(Vec<Planned>, Amount), BillingError> {
    let mut planned: Vec<Planned> = Vec::new();
    let mut left = amount;
    for share in shares {
        let standing = standings
            .iter()
            .find(|standing| standing.is_named(&share.invoice))
            .ok_or_else(|| BillingError::UnknownDocument(share.invoice.clone()))?;
        let number = || standing.number.clone();
        if planned.iter().any(|earlier| earlier.invoice == standing.document_id) {
            return Err(SettlementError::NamedTwice(number()).into());
        }
        check(share, rules.decimals)?;
        let recovers = standing.open.is_zero() && rules.can_recover && share.withheld.is_zero();
        let open = if recovers { standing.recoverable() } else { standing.open };
        if open.is_zero() {
            return Err(SettlementError::NothingOpen(number()).into());
        }
        let wanted = share.amount.unwrap_or_else(|| open.minus_to_zero(share.withheld).min(left));
        let asked = wanted.saturating_add(share.withheld);
        if asked > open {
            return Err(SettlementError::MoreThanOpen { number: number(), asked, open }.into());
        }
        if wanted > left || asked.is_zero() {
            let asked = amount.minus_to_zero(left).saturating_add(wanted);
            return Err(SettlementError::MoreThanAvailable { asked, available: amount }.into());
        }
        left = left.minus_to_zero(wanted);
        let tax = if recovers { tax_in(standing, wanted, rules.decimals) } else { Amount::ZERO };
        let (invoice, withheld) = (standing.document_id, share.withheld);
        planned.push(Planned { invoice, amount: wanted, withheld, recovers, tax });
    }
    if rules.oldest_first {
        for standing in standings {
            let wanted = standing.open.min(left);
            let is_named = planned.iter().any(|earlier| earlier.invoice == standing.document_id);
            if is_named || wanted.is_zero() {
                continue;
            }
            left = left.minus_to_zero(wanted);
            planned.push(Planned {
                invoice: standing.document_id,
                amount: wanted,
                withheld: Amount::ZERO,
                recovers: false,
                tax: Amount::ZERO,
            });
        }
    }
    Ok((planned, left))
}

fn check(share: &Share, decimals: u32) -> Result<(), SettlementError> {
    const AMOUNT: &str = "allocations.amount";
    const WITHHELD: &str = "allocations.withheld";
    if let Some(amount) = share.amount.filter(|amount| !amount.is_positive()) {
        let remedy = "give what the invoice gets, above zero, or leave it unset";
        return Err(SettlementError::Amount { field: AMOUNT, amount, remedy });
    }
    if share.withheld.is_negative() {
        let (amount, remedy) = (share.withheld, "give what the payer kept back, or leave it unset");
        return Err(SettlementError::Amount { field: WITHHELD, amount, remedy });
    }
    for (field, amount) in [(AMOUNT, share.amount.unwrap_or_default()), (WITHHELD, share.withheld)]
    {
        if amount.rounded(decimals) != amount {
            return Err(SettlementError::TooFine { field, amount, decimals });
        }
    }
    Ok(())
}

/// The tax in a recovery: the relieved tax's share, and with the last of it whatever is left.
fn tax_in(standing: &Standing, amount: Amount, decimals: u32) -> Amount {
    let left = standing.relieved.minus_to_zero(standing.recovered_tax);
    if amount == standing.recoverable() {
        return left;
    }
    share_of(amount, standing.written_off, standing.relieved, decimals).min(left)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::problem::Problem as _;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    fn standing(number: &str, due: &str, open: &str) -> Standing {
        let (due, open) = (amount(due), amount(open));
        Standing {
            document_id: CauseId::generate(),
            number: number.to_owned(),
            issue_date: chrono::NaiveDate::default(),
            due_date: None,
            gross: due,
            tax: Amount::ZERO,
            due,
            open,
            settled: due.minus_to_zero(open),
            credited: Amount::ZERO,
            written_off: Amount::ZERO,
            relieved: Amount::ZERO,
            recovered: Amount::ZERO,
            recovered_tax: Amount::ZERO,
        }
    }

    fn share(invoice: &str, wanted: Option<&str>, withheld: &str) -> Share {
        let withheld = amount(withheld);
        Share { invoice: invoice.to_owned(), amount: wanted.map(amount), withheld }
    }

    const RULES: Rules = Rules { oldest_first: false, can_recover: true, decimals: 2 };

    fn reason(paid: &str, shares: &[Share], standings: &[Standing]) -> &'static str {
        plan(amount(paid), shares, standings, RULES).unwrap_err().reason()
    }

    #[test]
    fn an_invoice_gets_what_is_open_or_what_is_said_and_the_rest_is_unapplied() {
        let standings = [standing("A", "100", "100"), standing("B", "50", "20")];
        let shares = [share("A", None, "5"), share("B", Some("12.50"), "0")];
        let (planned, left) = plan(amount("200"), &shares, &standings, RULES).unwrap();
        let given: Vec<_> = planned.iter().map(|one| (one.amount, one.withheld)).collect();
        assert_eq!(given, [(amount("95"), amount("5")), (amount("12.5"), Amount::ZERO)]);
        assert_eq!(left, amount("92.5"));
    }

    #[test]
    fn a_payment_goes_to_the_last_cent() {
        let standings = [standing("A", "100", "100")];
        for wanted in [None, Some("60")] {
            let shares = [share("A", wanted, "0")];
            let (planned, left) = plan(amount("60"), &shares, &standings, RULES).unwrap();
            assert_eq!((planned[0].amount, left), (amount("60"), Amount::ZERO));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let standings = [standing("A", "100", "100"), standing("B", "50", "0")];
        assert_eq!(reason("9", &[share("C", None, "0")], &standings), "DOCUMENT_NOT_FOUND");
        let twice = [share("A", Some("1"), "0"), share("A", Some("1"), "0")];
        assert_eq!(reason("9", &twice, &standings), "INVOICE_NAMED_TWICE");
        assert_eq!(reason("9", &[share("B", None, "0")], &standings), "NOTHING_OPEN");
        assert_eq!(
            reason("9", &[share("A", Some("9.01"), "0")], &standings),
            "MORE_THAN_AVAILABLE"
        );
        assert_eq!(reason("999", &[share("A", Some("96"), "5")], &standings), "MORE_THAN_OPEN");
        assert_eq!(reason("9", &[share("A", Some("-1"), "0")], &standings), "INVALID_AMOUNT");
        assert_eq!(reason("9", &[share("A", None, "-1")], &standings), "INVALID_AMOUNT");
        assert_eq!(reason("9", &[share("A", Some("0.001"), "0")], &standings), "TOO_MANY_DECIMALS");
    }

    #[test]
    fn recovering_all_of_it_owes_all_of_the_tax_again() {
        let mut lost = standing("A", "119", "0");
        (lost.written_off, lost.relieved) = (amount("119"), amount("19"));
        let tax = |wanted: &str, lost: &Standing| {
            let shares = [share("A", Some(wanted), "0")];
            let (planned, _) =
                plan(amount("500"), &shares, std::slice::from_ref(lost), RULES).unwrap();
            assert!(planned[0].recovers);
            planned[0].tax
        };
        let first = tax("40", &lost);
        assert_eq!(first, amount("6.39"));
        (lost.recovered, lost.recovered_tax) = (amount("40"), first);
        assert_eq!(tax("79", &lost), amount("12.61"));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_invoice_gets_too_much(
            paid in 1_i64..10_000, open in prop::collection::vec(0_i64..3_000, 0..6),
        ) {
            let cents = |cents: i64| Amount::new(rust_decimal::Decimal::new(cents, 2)).unwrap();
            let standings: Vec<_> = open
                .iter()
                .enumerate()
                .map(|(at, open)| standing(&at.to_string(), "30", &cents(*open).to_string()))
                .collect();
            let rules = Rules { oldest_first: true, ..RULES };
            let (planned, left) = plan(cents(paid), &[], &standings, rules).unwrap();
            let given = planned.iter().fold(left, |sum, one| sum.saturating_add(one.amount));
            prop_assert_eq!(given, cents(paid));
            for one in &planned {
                let of = standings.iter().find(|of| of.document_id == one.invoice).unwrap();
                prop_assert!(one.amount.is_positive() && one.amount <= of.open);
            }
            let is_some_open = open.iter().sum::<i64>() > paid;
            prop_assert!(left.is_zero() || !is_some_open);
        }
    }
}
