//! A document as an electronic invoice: the model of EN 16931-1, and its two syntaxes.
//!
//! The mapping is ours; the syntaxes and the standard's rules are those of the `en16931` crates. A
//! document that breaks a rule is refused with the rule, because a tax office or a customer's system
//! would refuse it, too.
//!
//! Implementation of the EN 16931-1 semantic data model; © CEN, used under the 2018 CEN–EC licence
//! agreement.

use chrono::Datelike as _;
use en16931::{
    Date, DocumentKind as ModelKind, DocumentReference, En16931, Identifier, Invoice,
    InvoiceAmount, InvoiceLine, InvoiceNote, Percentage, Quantity, UnitPriceAmount, Validated,
    invoice::{
        Code, Contact, CreditTransfer, DocumentAllowanceCharge, DocumentTotals, Item,
        ItemAttribute, LineVat, Party as ModelParty, PaymentInstructions, PaymentMeans, Period,
        PostalAddress, PrecedingInvoice, PriceDetails, VatBreakdown,
    },
};
use en16931_formats::Syntax;

use crate::{
    billing::{
        document::{
            Allowance, Days, Document, DocumentKind, Line, Party, Remittance, TaxCategory,
            TaxSubtotal,
        },
        export::{ExportError, category, is_tax_document},
    },
    money::Amount,
};

/// BT-24: the core of the standard, without a country's restrictions.
const SPECIFICATION: &str = "urn:cen.eu:en16931:2017";
/// Each (UNECE recommendation 20).
const EACH: &str = "C62";
/// How a credit transfer is paid (UNCL 4461): within SEPA, else in general.
const SEPA_TRANSFER: &str = "58";
const CREDIT_TRANSFER: &str = "30";
/// What a credit note says of its payment where it does not say more.
const CREDITED: &str = "Credited to the customer's account; no payment is due.";
/// What it says where the money has gone back already.
const PAID_BACK: &str = "Paid back; no further payment is due.";

/// UBL 2.1: an `Invoice` or a `CreditNote`.
pub(super) fn ubl(document: &Document, name: &str) -> Result<Vec<u8>, ExportError> {
    written(document, name, Syntax::Ubl)
}

/// UN/CEFACT Cross Industry Invoice, the XML of Factur-X's profile EN 16931.
pub(super) fn cii(document: &Document, name: &str) -> Result<Vec<u8>, ExportError> {
    written(document, name, Syntax::Cii)
}

fn written(document: &Document, name: &str, syntax: Syntax) -> Result<Vec<u8>, ExportError> {
    if !is_tax_document(document.kind) {
        return Err(ExportError::NotForTax(name.to_owned()));
    }
    let valid: Validated<En16931> = Validated::new(model(document, name)?).map_err(|rejected| {
        let rules = rejected.report().fatal();
        let rules: Vec<String> =
            rules.map(|broken| format!("{}: {}", broken.rule, broken.message)).collect();
        ExportError::Rules { document: name.to_owned(), rules: rules.join("; ") }
    })?;
    Ok(en16931_formats::write(&valid, syntax).xml.into_bytes())
}

fn model(document: &Document, name: &str) -> Result<Invoice, ExportError> {
    let amount = |amount: Amount| {
        InvoiceAmount::from_decimal_exact(amount.decimal()).map_err(|error| ExportError::Rules {
            document: name.to_owned(),
            rules: format!("BR-DEC: an amount has at most two decimals ({error})"),
        })
    };
    let is_credit_note = document.kind == DocumentKind::CreditNote;
    let (kind, type_code) = match document.kind {
        DocumentKind::CreditNote => (ModelKind::CreditNote, "381"),
        DocumentKind::PrepaymentInvoice => (ModelKind::Invoice, "386"),
        _ => (ModelKind::Invoice, "380"),
    };
    let totals = &document.totals;
    let notes = std::iter::once(&document.reason).chain(&document.notes);
    let lines = document.lines.iter().map(|one| Ok(line(one, amount(one.net)?)));
    let allowances = document.allowances.iter().map(|one| Ok(allowance(one, amount(one.amount)?)));
    let breakdown = document
        .taxes
        .iter()
        .map(|one| Ok(breakdown(one, amount(one.taxable)?, amount(one.amount)?)));
    let terms = document.remittance.as_ref().map(|remittance| remittance.terms.as_str());
    let credited = if document.is_paid_back() { PAID_BACK } else { CREDITED };
    let terms = if is_credit_note { terms.or(Some(credited)) } else { terms };
    let mut invoice = Invoice::default();
    invoice.kind = kind;
    invoice.specification_id = Some(SPECIFICATION.to_owned());
    invoice.number.clone_from(&document.number);
    invoice.issue_date = date(document.issue_date);
    invoice.type_code = Some(Code::new(type_code));
    invoice.currency = Some(Code::new(document.currency.code()));
    // UBL's credit note has no element for it.
    invoice.due_date = document.due_date.filter(|_| !is_credit_note).and_then(date);
    invoice.buyer_reference = text(&document.buyer_reference);
    invoice.purchase_order_reference = text(&document.purchase_order).map(DocumentReference::new);
    invoice.accounting_reference = text(&document.cost_centre);
    invoice.payment_terms = terms.and_then(text);
    invoice.notes = notes.filter(|note| !note.is_empty()).map(InvoiceNote::new).collect();
    invoice.preceding_invoices = document
        .preceding
        .iter()
        .map(|one| PrecedingInvoice {
            reference: DocumentReference::new(&one.number),
            issue_date: date(one.issue_date),
        })
        .collect();
    invoice.seller = seller(document);
    invoice.buyer = buyer(document);
    invoice.invoicing_period = document.service_period.map(period);
    invoice.payment = document.remittance.as_ref().and_then(|one| payment(one, document));
    invoice.allowances = allowances.collect::<Result<_, ExportError>>()?;
    invoice.vat_breakdown = breakdown.collect::<Result<_, ExportError>>()?;
    invoice.lines = lines.collect::<Result<_, ExportError>>()?;
    invoice.totals = DocumentTotals {
        line_total: amount(totals.lines)?,
        allowance_total: (!document.allowances.is_empty())
            .then(|| amount(totals.allowances))
            .transpose()?,
        taxable_total: amount(totals.net)?,
        vat_total: Some(amount(totals.tax)?),
        gross_total: amount(totals.gross)?,
        paid: totals.paid.is_positive().then(|| amount(totals.paid)).transpose()?,
        due: amount(totals.due)?,
        ..DocumentTotals::default()
    };
    Ok(invoice)
}

fn line(line: &Line, net: InvoiceAmount) -> InvoiceLine {
    let base = line.class.base_quantity();
    // A "discount" that raises the price is no discount in the standard's sense.
    let list = line.list_price.filter(|list| *list > line.price);
    let discount = list.and_then(|list| list.checked_sub(line.price));
    let attribute = |name: &str, value: String| ItemAttribute {
        name: Some(name.to_owned()),
        value: Some(value),
    };
    let tier = (line.tier_above > 0)
        .then(|| attribute("Prompts above tokens", line.tier_above.to_string()));
    let version = line.price_version.map(|version| attribute("Price version", version.to_string()));
    let percent = line
        .discount_percent
        .filter(|_| list.is_some())
        .map(|percent| attribute("Discount in percent", percent.normalize().to_string()));
    InvoiceLine {
        id: line.position.to_string(),
        note: None,
        order_line_reference: None,
        accounting_reference: None,
        object_identifier: None,
        quantity: Quantity::new(line.quantity),
        unit_code: Code::new(EACH),
        net_amount: net,
        period: line.service_days.map(period),
        allowances: Vec::new(),
        charges: Vec::new(),
        price: PriceDetails {
            net_price: UnitPriceAmount::new(line.price),
            price_discount: discount.map(UnitPriceAmount::new),
            gross_price: list.map(UnitPriceAmount::new),
            base_quantity: (base > 1).then(|| Quantity::new(base.into())),
            base_quantity_code: (base > 1).then(|| Code::new(EACH)),
        },
        vat: vat(&line.tax),
        item: Item {
            name: text(&line.description),
            seller_identifier: text(&line.model),
            attributes: tier.into_iter().chain(version).chain(percent).collect(),
            ..Item::default()
        },
    }
}

fn allowance(allowance: &Allowance, amount: InvoiceAmount) -> DocumentAllowanceCharge {
    DocumentAllowanceCharge {
        amount,
        base_amount: None,
        percentage: None,
        vat: vat(&allowance.tax),
        reason: text(&allowance.reason),
        reason_code: None,
    }
}

fn breakdown(tax: &TaxSubtotal, taxable: InvoiceAmount, amount: InvoiceAmount) -> VatBreakdown {
    let LineVat { category, rate } = vat(&tax.tax);
    VatBreakdown {
        taxable_amount: taxable,
        tax_amount: amount,
        category,
        rate,
        exemption_reason: text(&tax.exemption_reason),
        exemption_reason_code: text(&tax.exemption_code).map(Code::new),
    }
}

/// What is outside of the scope of VAT has no rate, not even zero (BR-O-05).
fn vat(tax: &TaxCategory) -> LineVat {
    let (code, rate) = category(tax);
    let is_outside = matches!(tax, TaxCategory::OutsideScope);
    LineVat { category: Code::new(code), rate: (!is_outside).then(|| Percentage::new(rate)) }
}

fn seller(document: &Document) -> ModelParty {
    let mut party = party(&document.seller);
    match (text(&document.seller.tax_id), is_vat_id(&document.seller.tax_id)) {
        // A document outside of the scope of VAT must not bear a VAT id (BR-O-02).
        (Some(id), true) if !is_outside_scope(document) => party.vat_identifier = Some(id),
        (id, _) => party.tax_registration = id,
    }
    party
}

fn buyer(document: &Document) -> ModelParty {
    let mut party = party(&document.buyer);
    let id = text(&document.buyer.tax_id);
    if is_vat_id(&document.buyer.tax_id) && !is_outside_scope(document) {
        party.vat_identifier = id;
    } else if let Some(id) = id {
        // The standard has no other place for a buyer's tax number.
        party.identifiers.push(Identifier::new(id));
    }
    party
}

fn party(party: &Party) -> ModelParty {
    ModelParty {
        name: text(&party.legal_name),
        trading_name: text(&party.trading_name).filter(|name| *name != party.legal_name),
        legal_registration: text(&party.registration_id).map(Identifier::new),
        electronic_address: party
            .electronic_address
            .as_ref()
            .map(|address| Identifier::schemed(&address.address, &address.scheme)),
        address: PostalAddress {
            line1: text(&party.address.line_1),
            line2: text(&party.address.line_2),
            line3: None,
            city: text(&party.address.city),
            post_code: text(&party.address.postal_code),
            subdivision: text(&party.address.subdivision),
            country: text(&party.address.country_code).map(Code::new),
        },
        contact: Contact {
            name: text(&party.contact),
            phone: text(&party.telephone),
            email: text(&party.email),
        },
        ..ModelParty::default()
    }
}

fn payment(remittance: &Remittance, document: &Document) -> Option<PaymentInstructions> {
    let account: String =
        remittance.account_number.chars().filter(|c| !c.is_whitespace()).collect();
    let account = text(&account)?;
    let is_sepa = is_iban(&account) && document.currency.code() == "EUR";
    Some(PaymentInstructions {
        means_code: Some(Code::new(if is_sepa { SEPA_TRANSFER } else { CREDIT_TRANSFER })),
        means_text: None,
        remittance_information: text(&remittance.payment_reference),
        means: Some(PaymentMeans::CreditTransfer(vec![CreditTransfer {
            account_identifier: Some(account),
            account_name: text(&remittance.account_name),
            provider_identifier: text(&remittance.bank_code),
        }])),
    })
}

fn is_outside_scope(document: &Document) -> bool {
    document.taxes.iter().any(|tax| matches!(tax.tax, TaxCategory::OutsideScope))
}

/// Whether a tax number begins with a country's prefix, as VAT ids do (BR-CO-09).
fn is_vat_id(id: &str) -> bool {
    let prefix = id.get(..2).unwrap_or_default();
    let is_country = prefix == "EL" || en16931::codes::guard::country(prefix).is_ok();
    is_country && id.len() > 4 && id.chars().any(|c| c.is_ascii_digit())
}

/// Whether an account number has the shape of an IBAN.
pub(super) fn is_iban(account: &str) -> bool {
    let (letters, rest) = account.split_at_checked(2).unwrap_or_default();
    let (digits, rest) = rest.split_at_checked(2).unwrap_or_default();
    (15..=34).contains(&account.len())
        && letters.bytes().all(|byte| byte.is_ascii_uppercase())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn period(days: Days) -> Period {
    Period { start: date(days.first), end: date(days.last) }
}

fn date(day: chrono::NaiveDate) -> Option<Date> {
    let (month, of_month) = (u8::try_from(day.month()).ok()?, u8::try_from(day.day()).ok()?);
    Date::new(day.year(), month, of_month).ok()
}

/// `None` for an empty text: the standard knows no empty elements. What XML cannot hold is left out.
pub(super) fn text(text: &str) -> Option<String> {
    let kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    let text: String =
        text.chars().filter(kept).filter(|c| !matches!(c, '\u{fffe}' | '\u{ffff}')).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
#[path = "einvoice_tests.rs"]
mod tests;
