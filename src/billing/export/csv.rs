//! A document as CSV: a row for each line, allowance, tax and payment.
//!
//! Each row bears the document's columns. `amount` has the sign with which the row counts: the sum
//! of all rows is what is due.

use crate::billing::{
    document::{Allowance, Document, Line, TaxSubtotal},
    documents::kind_name,
    export::{ExportError, category, defused, figure},
};

const HEAD: [&str; 26] = [
    "number",
    "kind",
    "issue_date",
    "due_date",
    "account",
    "buyer",
    "purchase_order",
    "cost_centre",
    "currency",
    "row",
    "position",
    "description",
    "model",
    "class",
    "tier_above",
    "price_version",
    "first_day",
    "last_day",
    "quantity",
    "base_quantity",
    "price",
    "list_price",
    "discount_percent",
    "tax_category",
    "tax_rate",
    "amount",
];
/// The columns that all rows of a document share.
const SHARED: usize = 9;

type Row = [String; HEAD.len() - SHARED];

/// Writes a document.
pub(super) fn write(document: &Document) -> Result<Vec<u8>, ExportError> {
    let day = |day: Option<chrono::NaiveDate>| day.map(|day| day.to_string()).unwrap_or_default();
    let shared: [String; SHARED] = [
        document.number.clone().unwrap_or_default(),
        kind_name(document.kind).to_owned(),
        document.issue_date.to_string(),
        day(document.due_date),
        document.account_handle.clone(),
        defused(&document.buyer.legal_name),
        defused(&document.purchase_order),
        defused(&document.cost_centre),
        document.currency.code().to_owned(),
    ];
    let lines = document.lines.iter().map(|one| line(one, document));
    let allowances = document.allowances.iter().map(|one| allowance(one, document));
    let taxes = document.taxes.iter().map(|one| tax(one, document));
    let paid = document.totals.paid.is_positive().then(|| paid(document));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let unwritten = |error: csv::Error| ExportError::unwritten("CSV", error);
    writer.write_record(HEAD).map_err(unwritten)?;
    for row in lines.chain(allowances).chain(taxes).chain(paid) {
        writer.write_record(shared.iter().chain(&row)).map_err(unwritten)?;
    }
    writer.into_inner().map_err(|error| ExportError::unwritten("CSV", error))
}

fn line(line: &Line, document: &Document) -> Row {
    let optional = |value: Option<rust_decimal::Decimal>| {
        value.map(|value| value.normalize().to_string()).unwrap_or_default()
    };
    let days = line.service_days;
    let (code, rate) = category(&line.tax);
    [
        "line".to_owned(),
        line.position.to_string(),
        defused(&line.description),
        defused(&line.model),
        line.class.label().to_owned(),
        line.tier_above.to_string(),
        line.price_version.map(|version| version.to_string()).unwrap_or_default(),
        days.map(|days| days.first.to_string()).unwrap_or_default(),
        days.map(|days| days.last.to_string()).unwrap_or_default(),
        line.quantity.to_string(),
        line.class.base_quantity().to_string(),
        line.price.to_string(),
        optional(line.list_price),
        optional(line.discount_percent),
        code.to_owned(),
        rate.to_string(),
        figure(line.net, document),
    ]
}

fn allowance(allowance: &Allowance, document: &Document) -> Row {
    let (code, rate) = category(&allowance.tax);
    let amount = format!("-{}", figure(allowance.amount, document));
    other("allowance", &allowance.reason, Some((code, rate.to_string())), amount)
}

fn tax(tax: &TaxSubtotal, document: &Document) -> Row {
    let (code, rate) = category(&tax.tax);
    let words = match tax.exemption_reason.as_str() {
        "" => format!("Tax on {}", figure(tax.taxable, document)),
        reason => format!("Tax on {}. {reason}", figure(tax.taxable, document)),
    };
    other("tax", &words, Some((code, rate.to_string())), figure(tax.amount, document))
}

fn paid(document: &Document) -> Row {
    let amount = format!("-{}", figure(document.totals.paid, document));
    other("paid", "Paid before the issue", None, amount)
}

/// A row that is no line.
fn other(row: &str, description: &str, tax: Option<(&str, String)>, amount: String) -> Row {
    let mut cells = Row::default();
    let (code, rate) = tax.unwrap_or_default();
    let [name, _, words, .., category, percent, sum] = &mut cells;
    row.clone_into(name);
    *words = defused(description);
    code.clone_into(category);
    *percent = rate;
    *sum = amount;
    cells
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;
    use crate::billing::export::samples;

    #[test]
    fn the_rows_of_a_document_sum_to_what_is_due() {
        for document in samples::all() {
            let text = write(&document).unwrap();
            let mut reader = csv::Reader::from_reader(text.as_slice());
            let rows = reader.records().map(Result::unwrap);
            let sum: Decimal = rows.map(|row| row[25].parse::<Decimal>().unwrap()).sum();
            assert_eq!(sum, document.totals.due.decimal(), "{:?}", document.number);
        }
    }

    #[test]
    fn a_name_cannot_be_a_formula() {
        let mut document = samples::invoice();
        document.buyer.legal_name = "=HYPERLINK(\"x\")".to_owned();
        let text = String::from_utf8(write(&document).unwrap()).unwrap();
        assert!(text.contains("'=HYPERLINK"), "{text}");
    }
}
