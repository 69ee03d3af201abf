//! What stands where: the head with both parties, the lines, the sums, how to pay, what else is said.

use crate::billing::{
    document::{Document, DocumentKind, Party, Remittance, TaxCategory},
    export::pdf::{
        figures::{account_number, money, span},
        fonts::Weight,
        sheet::{Ink, MARGIN, RIGHT, Sheet, Style},
        table, title,
    },
};

const TITLE: Style = Style::new(20.0, Weight::Bold, Ink::Black);
const NAME: Style = Style::new(11.0, Weight::Bold, Ink::Black);
const BODY: Style = Style::new(9.0, Weight::Regular, Ink::Black);
const STRONG: Style = Style::new(9.0, Weight::Bold, Ink::Black);
const QUIET: Style = Style::new(8.0, Weight::Regular, Ink::Grey);
const DUE: Style = Style::new(11.0, Weight::Bold, Ink::Black);

/// Where the right half begins.
const HALF: f32 = 325.0;
/// How wide the left half's texts are.
const LEFT_WIDTH: f32 = HALF - MARGIN - 25.0;
/// Where the values beside the labels of the right half begin.
const VALUES: f32 = HALF + 88.0;
/// Where the sums begin.
const SUMS: f32 = 290.0;
/// How wide the words of a sum are.
const SUM_WORDS: f32 = RIGHT - SUMS - 85.0;
/// Between two blocks.
const GAP: f32 = 14.0;

/// Lays out a document.
pub(super) fn lay_out(document: &Document, name: &str) -> Sheet {
    let mut sheet = Sheet::new();
    head(&mut sheet, document, name);
    table::lines(&mut sheet, document);
    sums(&mut sheet, document);
    if let Some(remittance) = &document.remittance {
        pay(&mut sheet, document, remittance);
    }
    words(&mut sheet, document);
    sheet
}

fn head(sheet: &mut Sheet, document: &Document, name: &str) {
    let top = sheet.y;
    let mut left = sheet.block(MARGIN, top + 4.0, LEFT_WIDTH, &document.seller.legal_name, NAME);
    for line in party(&document.seller) {
        left = sheet.block(MARGIN, left, LEFT_WIDTH, &line, QUIET);
    }
    left += GAP;
    let label = if document.kind == DocumentKind::Receipt { "Received from" } else { "Bill to" };
    sheet.text(MARGIN, left, label, QUIET);
    left += QUIET.leading();
    left = sheet.block(MARGIN, left, LEFT_WIDTH, &document.buyer.legal_name, STRONG);
    for line in party(&document.buyer) {
        left = sheet.block(MARGIN, left, LEFT_WIDTH, &line, BODY);
    }

    sheet.text(HALF, top, title(document.kind), TITLE);
    let mut right = top + TITLE.leading() + 6.0;
    for (label, value) in facts(document, name) {
        if !value.is_empty() {
            sheet.text(HALF, right + 0.7, label, QUIET);
            right = sheet.block(VALUES, right, RIGHT - VALUES, &value, BODY);
        }
    }
    sheet.y = left.max(right) + GAP;
    if !document.reason.is_empty() {
        sheet.flow(MARGIN, RIGHT - MARGIN, &document.reason, BODY);
        sheet.y += GAP / 2.0;
    }
}

/// The lines below a party's name.
fn party(party: &Party) -> Vec<String> {
    let address = &party.address;
    let trading = Some(&party.trading_name).filter(|name| **name != party.legal_name);
    let joined = |parts: [&str; 2], between: &str| {
        let given = parts.into_iter().filter(|part| !part.is_empty());
        given.collect::<Vec<_>>().join(between)
    };
    let town = joined([&address.postal_code, &address.city], " ");
    let country = joined([&address.subdivision, &address.country_code], ", ");
    let labelled = |label: &str, value: &str| {
        if value.is_empty() { String::new() } else { format!("{label} {value}") }
    };
    let lines = [
        trading.cloned().unwrap_or_default(),
        address.line_1.clone(),
        address.line_2.clone(),
        joined([&town, &country], ", "),
        labelled("Tax id", &party.tax_id),
        labelled("Registration", &party.registration_id),
        labelled("Attn.", &party.contact),
        party.telephone.clone(),
        party.email.clone(),
    ];
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}

fn facts(document: &Document, name: &str) -> [(&'static str, String); 9] {
    let preceding: Vec<String> = document
        .preceding
        .iter()
        .map(|one| format!("{} of {}", one.number, one.issue_date))
        .collect();
    let reference = Some(&document.buyer_reference).filter(|one| **one != document.account_handle);
    let reference = reference.cloned().unwrap_or_default();
    let number = if document.number.is_some() { "Number" } else { "Statement" };
    [
        (number, name.to_owned()),
        ("Issue date", document.issue_date.to_string()),
        ("Due date", document.due_date.map(|day| day.to_string()).unwrap_or_default()),
        ("Service period", document.service_period.map(span).unwrap_or_default()),
        ("Account", document.account_handle.clone()),
        ("Purchase order", document.purchase_order.clone()),
        ("Your reference", reference),
        ("Cost centre", document.cost_centre.clone()),
        ("Refers to", preceding.join("\n")),
    ]
}

/// One sum: its words, its figure, how it looks.
fn sum(sheet: &mut Sheet, words: &str, figure: &str, style: Style) {
    let lines = super::text::wrap(words, style.size, style.weight, SUM_WORDS);
    let height = style.leading() * f32::from(u8::try_from(lines.len()).unwrap_or(u8::MAX));
    if !sheet.fits(height) {
        sheet.turn();
    }
    sheet.text_to(RIGHT, sheet.y, figure, style);
    for line in lines {
        sheet.line(SUMS, sheet.y, line, style.ink);
        sheet.y += style.leading();
    }
    sheet.y += 2.0;
}

/// What a tax's sum is called.
fn taxed(tax: &TaxCategory, taxable: &str) -> String {
    match tax {
        TaxCategory::OutsideScope => format!("No tax on {taxable}"),
        TaxCategory::ReverseCharge => format!("Tax (reverse charge) on {taxable}"),
        TaxCategory::Exempt => format!("Tax (exempt) on {taxable}"),
        _ => format!("Tax {} on {taxable}", super::figures::tax(tax)),
    }
}

fn sums(sheet: &mut Sheet, document: &Document) {
    let totals = &document.totals;
    let currency = document.currency.code();
    // The first sums must not stand alone under a page's last lines.
    if !sheet.fits(BODY.leading() * 5.0) {
        sheet.turn();
    }
    sheet.y += 6.0;
    sum(sheet, "Sum of lines", &money(totals.lines, document), BODY);
    for allowance in &document.allowances {
        let figure = format!("-{}", money(allowance.amount, document));
        sum(sheet, &allowance.reason, &figure, BODY);
    }
    if !document.allowances.is_empty() {
        sum(sheet, "Net", &money(totals.net, document), BODY);
    }
    for subtotal in &document.taxes {
        let words = taxed(&subtotal.tax, &money(subtotal.taxable, document));
        sum(sheet, &words, &money(subtotal.amount, document), BODY);
    }
    sheet.rule(SUMS, RIGHT, sheet.y, 0.5, Ink::Grey);
    sheet.y += 4.0;
    sum(sheet, &format!("Total {currency}"), &money(totals.gross, document), STRONG);
    if totals.paid.is_positive() {
        let words = match document.kind {
            DocumentKind::Receipt | DocumentKind::PrepaymentInvoice => "Paid",
            DocumentKind::CreditNote if document.is_paid_back() => "Paid back",
            _ => "Paid in advance",
        };
        sum(sheet, words, &format!("-{}", money(totals.paid, document)), BODY);
    }
    let words = match document.kind {
        DocumentKind::CreditNote if !document.is_paid_back() => "Amount credited",
        _ => "Amount due",
    };
    sum(sheet, &format!("{words} {currency}"), &money(totals.due, document), DUE);
    sheet.y += GAP;
}

fn pay(sheet: &mut Sheet, document: &Document, remittance: &Remittance) {
    let due = document.due_date.map(|day| day.to_string()).unwrap_or_default();
    let rows = [
        ("Terms", remittance.terms.clone()),
        ("Due date", due),
        ("Account holder", remittance.account_name.clone()),
        ("IBAN / account", account_number(&remittance.account_number)),
        ("BIC / bank code", remittance.bank_code.clone()),
        ("Bank", remittance.bank_name.clone()),
        ("Reference", remittance.payment_reference.clone()),
    ];
    let (values, width) = (MARGIN + 100.0, RIGHT - MARGIN - 110.0);
    let rows: Vec<_> = rows
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(label, value)| (label, super::text::wrap(value, BODY.size, BODY.weight, width)))
        .collect();
    let lines = rows.iter().map(|(_, lines)| lines.len()).sum::<usize>();
    let lines = f32::from(u16::try_from(lines).unwrap_or(u16::MAX));
    let height = STRONG.leading() + lines * BODY.leading() + 20.0;
    if !sheet.fits(height) {
        sheet.turn();
    }
    sheet.shade(MARGIN, sheet.y, RIGHT - MARGIN, height);
    sheet.text(MARGIN + 10.0, sheet.y + 8.0, "How to pay", STRONG);
    let mut y = sheet.y + 10.0 + STRONG.leading();
    for (label, lines) in rows {
        sheet.text(MARGIN + 10.0, y + 0.7, label, QUIET);
        for line in lines {
            sheet.line(values, y, line, BODY.ink);
            y += BODY.leading();
        }
    }
    sheet.y += height + GAP;
}

/// Why no tax is charged, and the notes.
fn words(sheet: &mut Sheet, document: &Document) {
    let reasons = document.taxes.iter().map(|tax| &tax.exemption_reason);
    let mut said: Vec<&String> = Vec::new();
    for sentence in reasons.chain(&document.notes) {
        // A note often repeats the sentence that the tax needs.
        if sentence.is_empty() || said.contains(&sentence) {
            continue;
        }
        said.push(sentence);
        sheet.flow(MARGIN, RIGHT - MARGIN, sentence, BODY);
        sheet.y += 4.0;
    }
}
