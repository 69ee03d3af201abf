//! Documents and months between the domain's types and the contract's messages.

use chrono::NaiveDate;
use tonic::Status;

use super::{
    convert::{BadField, money},
    status::refused,
};
use crate::{
    billing::{
        document::{AllowanceKind, Document, DocumentKind, Line, LineClass, TaxCategory},
        documents::Frozen,
        settlement::{InvoiceStatus, Standing},
    },
    money::Amount,
    proto,
};

/// A month as the contract names it.
pub(super) fn period_name(period: NaiveDate) -> String {
    period.format("%Y-%m").to_string()
}

/// Reads a month.
pub(super) fn read_period(field: &str, text: &str) -> Result<NaiveDate, Status> {
    let is_shaped = text.len() == 7 && text.is_ascii();
    let day: Option<NaiveDate> = format!("{text}-01").parse().ok().filter(|_| is_shaped);
    day.ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        let problem = format!("{shown:?} is not a month; write it like 2026-10");
        refused(BadField::new(field, "INVALID_PERIOD", problem))
    })
}

/// Reads a month that may be left empty.
pub(super) fn read_optional_period(field: &str, text: &str) -> Result<Option<NaiveDate>, Status> {
    if text.is_empty() { Ok(None) } else { read_period(field, text).map(Some) }
}

/// Reads a list's filter; unset means all.
pub(super) fn read_kind(value: i32) -> Result<Option<DocumentKind>, Status> {
    use proto::DocumentKind as Kind;
    match Kind::try_from(value) {
        Ok(Kind::Unspecified) => Ok(None),
        Ok(Kind::Invoice) => Ok(Some(DocumentKind::Invoice)),
        Ok(Kind::PrepaymentInvoice) => Ok(Some(DocumentKind::PrepaymentInvoice)),
        Ok(Kind::CreditNote) => Ok(Some(DocumentKind::CreditNote)),
        Ok(Kind::Receipt) => Ok(Some(DocumentKind::Receipt)),
        Ok(Kind::UsageStatement) => Ok(Some(DocumentKind::UsageStatement)),
        Err(_) => {
            let problem = format!("{value} is no kind of document; leave it unset for all");
            Err(refused(BadField::new("kind", "INVALID_KIND", problem)))
        }
    }
}

const fn kind(kind: DocumentKind) -> proto::DocumentKind {
    match kind {
        DocumentKind::Invoice => proto::DocumentKind::Invoice,
        DocumentKind::PrepaymentInvoice => proto::DocumentKind::PrepaymentInvoice,
        DocumentKind::CreditNote => proto::DocumentKind::CreditNote,
        DocumentKind::Receipt => proto::DocumentKind::Receipt,
        DocumentKind::UsageStatement => proto::DocumentKind::UsageStatement,
    }
}

/// A document as lists show it.
pub(super) fn invoice(
    id: &str,
    period: NaiveDate,
    document: &Document,
    standing: Option<&Standing>,
) -> proto::Invoice {
    let amount = |amount: Amount| Some(money(amount, document.currency));
    let totals = &document.totals;
    proto::Invoice {
        document_id: id.to_owned(),
        number: document.number.clone().unwrap_or_default(),
        kind: kind(document.kind).into(),
        account_id: document.account_id.to_string(),
        period: period_name(period),
        issue_date: document.issue_date.to_string(),
        due_date: document.due_date.map(|day| day.to_string()).unwrap_or_default(),
        net: amount(totals.net),
        tax: amount(totals.tax),
        gross: amount(totals.gross),
        paid: amount(totals.paid),
        due: amount(totals.due),
        status: standing.map_or(proto::InvoiceStatus::Unspecified, status).into(),
        open: standing.and_then(|standing| amount(standing.open)),
    }
}

fn status(standing: &Standing) -> proto::InvoiceStatus {
    match standing.status() {
        InvoiceStatus::Open => proto::InvoiceStatus::Open,
        InvoiceStatus::PartPaid => proto::InvoiceStatus::PartPaid,
        InvoiceStatus::Paid => proto::InvoiceStatus::Paid,
        InvoiceStatus::Credited => proto::InvoiceStatus::Credited,
        InvoiceStatus::WrittenOff => proto::InvoiceStatus::WrittenOff,
    }
}

/// A frozen document with all that it says.
pub(super) fn frozen_details(frozen: Frozen, standing: Option<&Standing>) -> proto::InvoiceDetails {
    let id = frozen.id.to_string();
    details(&id, frozen.period, &frozen.document, standing, frozen.content)
}

/// A document with all that it says.
pub(super) fn details(
    id: &str,
    period: NaiveDate,
    document: &Document,
    standing: Option<&Standing>,
    json: String,
) -> proto::InvoiceDetails {
    let amount = |amount: Amount| Some(money(amount, document.currency));
    proto::InvoiceDetails {
        invoice: Some(invoice(id, period, document, standing)),
        lines: document.lines.iter().map(|one| line(one, document)).collect(),
        allowances: document
            .allowances
            .iter()
            .map(|allowance| proto::InvoiceAllowance {
                kind: allowance_name(allowance.kind).to_owned(),
                reason: allowance.reason.clone(),
                amount: amount(allowance.amount),
            })
            .collect(),
        taxes: document
            .taxes
            .iter()
            .map(|tax| {
                let (category, rate_percent) = category(&tax.tax);
                proto::InvoiceTax {
                    category: category.to_owned(),
                    rate_percent,
                    taxable: amount(tax.taxable),
                    amount: amount(tax.amount),
                    exemption_reason: tax.exemption_reason.clone(),
                }
            })
            .collect(),
        notes: document.notes.clone(),
        json,
        reason: document.reason.clone(),
        refers_to: document.preceding.iter().map(|one| one.number.clone()).collect(),
    }
}

fn line(line: &Line, document: &Document) -> proto::InvoiceLine {
    let optional = |value: Option<rust_decimal::Decimal>| {
        value.map(|value| value.normalize().to_string()).unwrap_or_default()
    };
    let day = |pick: fn(&crate::billing::document::Days) -> NaiveDate| {
        line.service_days.as_ref().map(|days| pick(days).to_string()).unwrap_or_default()
    };
    proto::InvoiceLine {
        position: line.position,
        description: line.description.clone(),
        model: line.model.clone(),
        line_class: class_name(line.class).to_owned(),
        tier_above: line.tier_above,
        price_version: line.price_version.map_or(0, |version| version.0),
        first_day: day(|days| days.first),
        last_day: day(|days| days.last),
        quantity: line.quantity.to_string(),
        price: line.price.to_string(),
        base_quantity: line.class.base_quantity(),
        list_price: optional(line.list_price),
        discount_percent: optional(line.discount_percent),
        net: Some(money(line.net, document.currency)),
    }
}

const fn class_name(class: LineClass) -> &'static str {
    match class {
        LineClass::Input => "input",
        LineClass::Output => "output",
        LineClass::CacheRead => "cache_read",
        LineClass::CacheWrite => "cache_write",
        LineClass::Reasoning => "reasoning",
        LineClass::AudioInput => "audio_input",
        LineClass::AudioOutput => "audio_output",
        LineClass::Image => "image",
        LineClass::Request => "request",
        LineClass::CachedResponse => "cached_response",
        LineClass::Credits => "credits",
        LineClass::Other => "other",
    }
}

const fn allowance_name(kind: AllowanceKind) -> &'static str {
    match kind {
        AllowanceKind::PrepaidCredits => "prepaid_credits",
        AllowanceKind::PromotionalCredits => "promotional_credits",
        AllowanceKind::ServiceLevelCredit => "service_level_credit",
    }
}

/// A category's code of UNCL 5305, and its rate in percent.
pub(super) fn category(tax: &TaxCategory) -> (&'static str, String) {
    match tax {
        TaxCategory::Standard { rate_percent } => ("S", rate_percent.normalize().to_string()),
        TaxCategory::ZeroRated => ("Z", "0".to_owned()),
        TaxCategory::Exempt => ("E", "0".to_owned()),
        TaxCategory::ReverseCharge => ("AE", "0".to_owned()),
        TaxCategory::OutsideScope => ("O", "0".to_owned()),
    }
}
