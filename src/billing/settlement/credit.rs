//! What a credit note says: pure. Its amounts are positive, at the rate of the invoice that it
//! corrects, and all credit notes of an invoice together never exceed it.

use chrono::NaiveDate;

use super::SettlementError;
use crate::{
    billing::{
        document::{Document, DocumentKind, Line, LineClass, Reference, TaxSubtotal, Totals},
        error::BillingError,
        tax::tax_on,
    },
    money::Amount,
};

/// A line that is credited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineCredit {
    /// Its position on the invoice.
    pub position: u32,
    /// How much of it, without tax; all that is left where it is not said.
    pub net: Option<Amount>,
}

/// How much of an invoice is credited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreditScope {
    /// All that is left of it.
    Everything,
    /// These lines.
    Lines(Vec<LineCredit>),
    /// An amount without tax.
    Net(Amount),
}

/// The credit note of an invoice, without a number.
pub(in crate::billing) fn credit_note(
    invoice: &Document,
    earlier: &[Document],
    scope: &CreditScope,
    reason: &str,
    issue_date: NaiveDate,
) -> Result<Document, BillingError> {
    let decimals = invoice.currency.minor_unit();
    let credited = |of: fn(&Totals) -> Amount| sum(earlier.iter().map(|note| of(&note.totals)));
    let left = invoice.totals.net.minus_to_zero(credited(|totals| totals.net)?);
    let left_tax = invoice.totals.tax.minus_to_zero(credited(|totals| totals.tax)?);
    let number = || invoice.number.clone().unwrap_or_default();
    let blank = Document {
        kind: DocumentKind::CreditNote,
        number: None,
        issue_date,
        due_date: None,
        preceding: vec![Reference { number: number(), issue_date: invoice.issue_date }],
        reason: reason.to_owned(),
        remittance: None,
        notes: vec![format!("Corrects invoice {} of {}.", number(), invoice.issue_date)],
        ..invoice.clone()
    };
    if *scope == CreditScope::Everything && earlier.is_empty() {
        return Ok(blank);
    }

    let lines = match scope {
        CreditScope::Everything => vec![words(invoice, 1, format!("Rest of {}", number()), left)],
        CreditScope::Net(net) => vec![words(invoice, 1, reason.to_owned(), *net)],
        CreditScope::Lines(wanted) => credited_lines(invoice, earlier, wanted)?,
    };
    for line in &lines {
        let amount = line.net;
        if !amount.is_positive() {
            let remedy = "give an amount above zero, of an invoice that is not credited in full";
            return Err(SettlementError::Amount { field: "net", amount, remedy }.into());
        }
        if amount.rounded(decimals) != amount {
            return Err(SettlementError::TooFine { field: "net", amount, decimals }.into());
        }
    }
    let net = sum(lines.iter().map(|line| line.net))?;
    if net > left {
        let number = number();
        return Err(SettlementError::MoreThanCreditable { number, asked: net, left }.into());
    }
    let subtotal = invoice
        .taxes
        .first()
        .ok_or_else(|| BillingError::Inconsistent(format!("{} has no tax category", number())))?;
    // With the last of it goes whatever rounding left of the tax.
    let tax = if net == left {
        left_tax
    } else {
        tax_on(net, &subtotal.tax, decimals).ok_or(BillingError::TooLarge)?.min(left_tax)
    };
    let gross = net.checked_add(tax).ok_or(BillingError::TooLarge)?;
    Ok(Document {
        lines,
        allowances: Vec::new(),
        taxes: vec![TaxSubtotal { taxable: net, amount: tax, ..subtotal.clone() }],
        totals: Totals {
            lines: net,
            allowances: Amount::ZERO,
            net,
            tax,
            gross,
            paid: Amount::ZERO,
            due: gross,
        },
        ..blank
    })
}

/// The lines that are credited: whole ones as they are, parts in words.
fn credited_lines(
    invoice: &Document,
    earlier: &[Document],
    wanted: &[LineCredit],
) -> Result<Vec<Line>, BillingError> {
    let number = invoice.number.as_deref().unwrap_or_default();
    let mut lines: Vec<Line> = Vec::new();
    for credit in wanted {
        let position = credit.position;
        let line =
            invoice.lines.iter().find(|line| line.position == position).ok_or_else(|| {
                SettlementError::NoSuchLine { number: number.to_owned(), position }
            })?;
        if lines.iter().any(|line| line.position == position) {
            return Err(SettlementError::LineTwice(position).into());
        }
        let before = earlier.iter().flat_map(|note| &note.lines);
        let before = before.filter(|credited| {
            credited.position == position && credited.description.contains(&line.description)
        });
        let left = line.net.minus_to_zero(sum(before.map(|credited| credited.net))?);
        let net = credit.net.unwrap_or(left);
        if net > left {
            let number = format!("line {position} of {number}");
            return Err(SettlementError::MoreThanCreditable { number, asked: net, left }.into());
        }
        lines.push(if net == line.net {
            line.clone()
        } else {
            words(invoice, position, format!("Part of: {}", line.description), net)
        });
    }
    Ok(lines)
}

/// A line that is an amount and words.
fn words(invoice: &Document, position: u32, description: String, net: Amount) -> Line {
    let tax = invoice.lines.first().map(|line| line.tax.clone());
    Line {
        position,
        description,
        model: String::new(),
        model_id: None,
        class: LineClass::Other,
        tier_above: 0,
        price_version: None,
        service_days: None,
        quantity: rust_decimal::Decimal::ONE,
        price: net.decimal().normalize(),
        list_price: None,
        discount_percent: None,
        net,
        tax: tax.unwrap_or(crate::billing::document::TaxCategory::OutsideScope),
    }
}

fn sum(amounts: impl IntoIterator<Item = Amount>) -> Result<Amount, BillingError> {
    amounts.into_iter().try_fold(Amount::ZERO, Amount::checked_add).ok_or(BillingError::TooLarge)
}
