//! Plain-text accounting as hledger reads it: one transaction for each transfer, exact to the last
//! decimal.

use std::fmt::Write as _;

use super::store::Entry;
use crate::{
    ledger::{
        chart::{Line, LineKind},
        error::LedgerError,
    },
    money::AMOUNT_DECIMALS,
};

/// What the journal begins with: how numbers are written, and the chart.
pub(super) fn head(currencies: &[String]) -> String {
    let decimals = "0".repeat(usize::try_from(AMOUNT_DECIMALS).unwrap_or(12));
    let mut text = String::from("; The books of Tollgate, transfer by transfer.\ndecimal-mark .\n");
    for currency in currencies {
        // Writing to a string does not fail.
        let _ = writeln!(text, "commodity 1000.{decimals} {currency}");
    }
    for line in Line::ALL {
        let _ = writeln!(text, "account {}", name(line));
    }
    text
}

/// One transfer. Its two amounts are each other's opposite, so that it balances as it is written.
pub(super) fn entry(entry: &Entry) -> Result<String, LedgerError> {
    let Entry { day, handle, posting, line, kind, amount, currency, .. } = entry;
    let words = plain(&entry.description);
    let words = if words.is_empty() { String::new() } else { format!(", {words}") };
    let debit = account(&entry.debit, handle)?;
    let credit = account(&entry.credit, handle)?;
    Ok(format!(
        "\n{day} * ({posting}.{line}) {handle} | {kind}{words}\n    {debit}  {amount} {currency}\n    \
         {credit}  -{amount} {currency}\n"
    ))
}

/// `Assets:1200 Accounts receivable:acme`. A line that customers have a share of is divided by
/// customer; cash and tax by their own sub-codes.
fn account(code: &str, handle: &str) -> Result<String, LedgerError> {
    let (line, part) = code.split_once('.').map_or((code, None), |(line, part)| (line, Some(part)));
    let line: Line = line.parse().map_err(|_| LedgerError::Stored(code.to_owned()))?;
    let mut name = name(line);
    for part in part.into_iter().chain(is_by_customer(line).then_some(handle)) {
        name.push(':');
        name.push_str(part);
    }
    Ok(name)
}

fn name(line: Line) -> String {
    let top = match line.kind() {
        LineKind::Asset => "Assets",
        LineKind::Liability | LineKind::ContraLiability => "Liabilities",
        LineKind::Income | LineKind::ContraIncome => "Revenues",
        LineKind::Expense => "Expenses",
    };
    format!("{top}:{} {}", line.code(), line.name())
}

const fn is_by_customer(line: Line) -> bool {
    matches!(
        line,
        Line::Unbilled
            | Line::Overdrawn
            | Line::Receivable
            | Line::Disputed
            | Line::UnusedGrants
            | Line::Credits
            | Line::Promotional
            | Line::Unapplied
    )
}

/// A description ends at a semicolon and at the end of its line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c == ';' || c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AccountId;

    #[test]
    fn a_transfer_is_two_opposite_amounts_on_hierarchical_accounts() {
        let transfer = Entry {
            account_id: AccountId::generate(),
            handle: "acme".to_owned(),
            posting: 7,
            line: 2,
            day: "2026-10-31".parse().unwrap(),
            debit: "1000.VISA".to_owned(),
            credit: "2000".to_owned(),
            amount: "0.000000000001".parse().unwrap(),
            currency: "USD".to_owned(),
            kind: "top_up".to_owned(),
            description: "a; b\n    Assets:1000 Cash  5 USD".to_owned(),
        };
        assert_eq!(
            entry(&transfer).unwrap(),
            "\n2026-10-31 * (7.2) acme | top_up, a  b     Assets:1000 Cash  5 USD\n    \
             Assets:1000 Cash:VISA  0.000000000001 USD\n    \
             Liabilities:2000 Customer credits:acme  -0.000000000001 USD\n"
        );
    }

    #[test]
    fn a_code_that_is_not_in_the_chart_is_no_account() {
        assert!(account("9999", "acme").is_err());
    }
}
