//! Journals of bookkeeping programs that know no fraction of a cent: the transfers of a day between
//! the same two codes by the same kind of business are one debit and one credit.
//!
//! **Where the rounding goes.** Nowhere: it is carried. An amount is the rounded running sum to the
//! end of its day, less the rounded running sum to the day before. So every entry balances, and what
//! has been exported since the beginning of the books is never more than half a minor unit from
//! the exact sum, for each pair of codes and kind, however many days and months are exported.

use rust_decimal::Decimal;

use super::store::DaySum;
use crate::{
    ledger::{chart::Line, error::LedgerError},
    money::{Amount, Currency},
};

/// One debit and one credit of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DayEntry<'a> {
    sum: &'a DaySum,
    amount: Decimal,
    decimals: u32,
}

/// The entry of a sum; `None` where its minor units have moved on another day.
pub(super) fn day_entry(sum: &DaySum) -> Result<Option<DayEntry<'_>>, LedgerError> {
    let currency: Currency =
        sum.currency.parse().map_err(|_| LedgerError::Stored(sum.currency.clone()))?;
    let decimals = currency.minor_unit();
    let amount = carried(sum.through, sum.amount, decimals)
        .ok_or_else(|| LedgerError::Stored(format!("a sum of {} beyond every amount", sum.kind)))?;
    Ok((!amount.is_zero()).then_some(DayEntry { sum, amount, decimals }))
}

/// The rounded running sum less the one of the day before.
fn carried(through: Decimal, amount: Decimal, decimals: u32) -> Option<Decimal> {
    let before = through.checked_sub(amount)?;
    let rounded = |exact: Decimal| Amount::new(exact).ok().map(|sum| sum.rounded(decimals));
    rounded(through)?.checked_sub(rounded(before)?).map(Amount::decimal)
}

/// The columns that QuickBooks Online asks for. Its number is of the day and the currency.
pub(super) const QUICKBOOKS_HEAD: [&str; 7] =
    ["JournalNo", "JournalDate", "AccountName", "Debits", "Credits", "Description", "Currency"];

/// The columns of Xero's template, whose amounts are debits, and credits below zero.
pub(super) const XERO_HEAD: [&str; 6] =
    ["*Narration", "*Date", "Description", "*AccountCode", "*TaxRate", "*Amount"];

/// The tax is on lines of its own.
const XERO_TAX_RATE: &str = "Tax Exempt";

impl DayEntry<'_> {
    /// Its two rows for QuickBooks.
    pub(super) fn quickbooks(&self) -> Result<[[String; 7]; 2], LedgerError> {
        let DaySum { day, currency, kind, debit, credit, .. } = self.sum;
        let amount = self.shown(self.amount);
        let row = |code: &str, debit: &str, credit: &str| {
            Ok::<_, LedgerError>([
                format!("TG-{day}-{currency}"),
                day.to_string(),
                account_name(code)?,
                debit.to_owned(),
                credit.to_owned(),
                kind.clone(),
                currency.clone(),
            ])
        };
        Ok([row(debit, &amount, "")?, row(credit, "", &amount)?])
    }

    /// Its two rows for Xero.
    pub(super) fn xero(&self) -> [[String; 6]; 2] {
        let DaySum { day, currency, kind, debit, credit, .. } = self.sum;
        let row = |code: &str, amount: Decimal| {
            [
                format!("Tollgate {day} {currency}"),
                day.to_string(),
                kind.clone(),
                code.to_owned(),
                XERO_TAX_RATE.to_owned(),
                self.shown(amount),
            ]
        };
        [row(debit, self.amount), row(credit, -self.amount)]
    }

    /// With all its decimals, as the two programs write amounts.
    fn shown(&self, amount: Decimal) -> String {
        let mut amount = amount;
        amount.rescale(self.decimals);
        amount.to_string()
    }
}

/// `1000.VISA Cash`.
fn account_name(code: &str) -> Result<String, LedgerError> {
    let (line, _) = code.split_once('.').unwrap_or((code, ""));
    let line: Line = line.parse().map_err(|_| LedgerError::Stored(code.to_owned()))?;
    Ok(format!("{code} {}", line.name()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_exported_never_strays_from_the_exact_sum(
            days in prop::collection::vec(1_i64..5_000_000_000_000, 1..40),
            decimals in 0_u32..4,
        ) {
            let (mut through, mut exported) = (Decimal::ZERO, Decimal::ZERO);
            let half = Decimal::new(5, decimals + 1);
            for day in days {
                let amount = Decimal::new(day, 12);
                through += amount;
                let shown = carried(through, amount, decimals).unwrap();
                prop_assert!(shown >= Decimal::ZERO);
                exported += shown;
                prop_assert!((exported - through).abs() <= half);
            }
        }
    }
}
