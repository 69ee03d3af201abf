//! Documents for the tests of exports.

use rust_decimal::Decimal;

use crate::{
    accounts::contract::Address,
    billing::{
        document::{
            Allowance, AllowanceKind, Days, Document, DocumentKind, Line, LineClass, Party,
            Reference, Remittance, TaxCategory, TaxSubtotal, Totals,
        },
        documents::Frozen,
    },
    ids::{AccountId, CauseId, PriceVersionId},
    money::Amount,
};

/// Writes a file where a person or another program can look at it, if `TOLLGATE_KEEP_EXPORTS` names a
/// directory.
pub(super) fn keep(name: &str, bytes: &[u8]) {
    if let Some(directory) = std::env::var_os("TOLLGATE_KEEP_EXPORTS") {
        std::fs::write(std::path::Path::new(&directory).join(name), bytes).unwrap();
    }
}

pub(super) fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn address(line: &str, city: &str, postal_code: &str, country: &str) -> Address {
    Address {
        line_1: line.to_owned(),
        city: city.to_owned(),
        postal_code: postal_code.to_owned(),
        country_code: country.to_owned(),
        ..Address::default()
    }
}

fn line(position: u32, class: LineClass, quantity: i64, price: &str, net: &str) -> Line {
    Line {
        position,
        description: format!("Pro/DeepSeek-V4 – {}", class.label()),
        model: "Pro/DeepSeek-V4".to_owned(),
        model_id: None,
        class,
        tier_above: 0,
        price_version: Some(PriceVersionId(7)),
        service_days: Some(Days {
            first: "2026-10-01".parse().unwrap(),
            last: "2026-10-31".parse().unwrap(),
        }),
        quantity: Decimal::from(quantity),
        price: price.parse().unwrap(),
        list_price: Some("0.4".parse().unwrap()).filter(|_| class == LineClass::Input),
        discount_percent: Some("12.5".parse().unwrap()).filter(|_| class == LineClass::Input),
        net: amount(net),
        tax: TaxCategory::Standard { rate_percent: Decimal::from(19) },
    }
}

/// The document as it would be kept.
pub(super) fn frozen(document: Document) -> Frozen {
    Frozen {
        id: CauseId("019a0000-0000-7000-8000-000000000002".parse().unwrap()),
        period: "2026-10-01".parse().unwrap(),
        content: serde_json::to_string(&document).unwrap(),
        document,
        frozen_at: chrono::DateTime::UNIX_EPOCH,
    }
}

/// A month's invoice with a discount, credits that come off and an advance payment.
pub(super) fn invoice() -> Document {
    let standard = TaxCategory::Standard { rate_percent: Decimal::from(19) };
    Document {
        kind: DocumentKind::Invoice,
        number: Some("INV-2026-000001".to_owned()),
        account_id: AccountId("019a0000-0000-7000-8000-000000000001".parse().unwrap()),
        account_handle: "kunde".to_owned(),
        currency: "EUR".parse().unwrap(),
        issue_date: "2026-11-02".parse().unwrap(),
        due_date: Some("2026-12-02".parse().unwrap()),
        service_period: Some(Days {
            first: "2026-10-01".parse().unwrap(),
            last: "2026-10-31".parse().unwrap(),
        }),
        seller: Party {
            legal_name: "Example Gateway Ltd".to_owned(),
            address: address("1 Quay Street", "Dublin", "D01 X2Y3", "IE"),
            registration_id: "IE 654321".to_owned(),
            tax_id: "IE1234567T".to_owned(),
            email: "billing@gateway.example".to_owned(),
            ..Party::default()
        },
        buyer: Party {
            legal_name: "Kunde & Söhne AG".to_owned(),
            address: address("Marktplatz 2", "Berlin", "10115", "DE"),
            tax_id: "DE123456789".to_owned(),
            ..Party::default()
        },
        purchase_order: "PO-4711".to_owned(),
        buyer_reference: "kunde".to_owned(),
        cost_centre: "CC-100".to_owned(),
        preceding: Vec::new(),
        reason: String::new(),
        lines: vec![
            line(1, LineClass::Input, 2_234_567_890, "0.35", "782.10"),
            line(2, LineClass::Output, 345_678_901, "1.2", "414.81"),
            line(3, LineClass::Request, 1_000, "0.002", "2.00"),
        ],
        allowances: vec![
            Allowance {
                kind: AllowanceKind::PrepaidCredits,
                reason: "Paid with prepaid credits, invoiced by PRE-2026-000003".to_owned(),
                amount: amount("100.00"),
                tax: standard.clone(),
            },
            Allowance {
                kind: AllowanceKind::ServiceLevelCredit,
                reason: "Availability of 99.42% in October 2026: 10% of Pro charges".to_owned(),
                amount: amount("98.91"),
                tax: standard.clone(),
            },
        ],
        taxes: vec![TaxSubtotal {
            tax: standard,
            taxable: amount("1000.00"),
            amount: amount("190.00"),
            exemption_reason: String::new(),
            exemption_code: String::new(),
        }],
        totals: Totals {
            lines: amount("1198.91"),
            allowances: amount("198.91"),
            net: amount("1000.00"),
            tax: amount("190.00"),
            gross: amount("1190.00"),
            paid: amount("90.00"),
            due: amount("1100.00"),
        },
        remittance: Some(Remittance {
            terms: "Net 30 days".to_owned(),
            account_name: "Example Gateway Ltd".to_owned(),
            account_number: "IE12BOFI90000112345678".to_owned(),
            bank_code: "BOFIIE2D".to_owned(),
            bank_name: "Bank of Ireland".to_owned(),
            payment_reference: "INV-2026-000001".to_owned(),
        }),
        notes: vec!["Usage is metered in UTC.".to_owned()],
    }
}

/// The same taxed in another way: no tax is charged, and the sums follow.
pub(super) fn untaxed(category: &TaxCategory, reason: &str, code: &str) -> Document {
    let mut document = invoice();
    for line in &mut document.lines {
        line.tax = category.clone();
    }
    for allowance in &mut document.allowances {
        allowance.tax = category.clone();
    }
    document.taxes = vec![TaxSubtotal {
        tax: category.clone(),
        taxable: amount("1000.00"),
        amount: Amount::ZERO,
        exemption_reason: reason.to_owned(),
        exemption_code: code.to_owned(),
    }];
    document.totals.tax = Amount::ZERO;
    document.totals.gross = amount("1000.00");
    document.totals.due = amount("910.00");
    document
}

/// Credits that were paid for with their tax.
pub(super) fn prepayment() -> Document {
    let mut document = invoice();
    document.kind = DocumentKind::PrepaymentInvoice;
    document.number = Some("PRE-2026-000001".to_owned());
    document.service_period = None;
    document.allowances.clear();
    document.due_date = None;
    document.remittance = None;
    document.lines = vec![Line {
        description: "Prepaid credits".to_owned(),
        model: String::new(),
        price_version: None,
        service_days: None,
        ..line(1, LineClass::Credits, 1, "1000", "1000.00")
    }];
    document.totals.lines = amount("1000.00");
    document.totals.allowances = Amount::ZERO;
    document.totals.paid = amount("1190.00");
    document.totals.due = Amount::ZERO;
    document
}

/// What takes the invoice back.
pub(super) fn credit_note() -> Document {
    let mut document = invoice();
    document.kind = DocumentKind::CreditNote;
    document.number = Some("CN-2026-000001".to_owned());
    document.due_date = None;
    document.remittance = None;
    document.reason = "Void of INV-2026-000001: billed twice".to_owned();
    document.preceding = vec![Reference {
        number: "INV-2026-000001".to_owned(),
        issue_date: "2026-11-02".parse().unwrap(),
    }];
    document
}

/// Takes back a prepayment invoice whose credits were given back.
pub(super) fn paid_back() -> Document {
    let mut document = prepayment();
    document.preceding = vec![Reference {
        number: document.number.take().unwrap(),
        issue_date: document.issue_date,
    }];
    document.kind = DocumentKind::CreditNote;
    document.number = Some("CN-2026-000002".to_owned());
    document.remittance = None;
    document.reason = "asked for".to_owned();
    document
}

/// Says that credits were paid for, without tax.
pub(super) fn receipt() -> Document {
    let mut document = prepayment();
    document.kind = DocumentKind::Receipt;
    document.number = Some("REC-2026-000001".to_owned());
    document
}

/// Each kind of document and each category of tax.
pub(super) fn all() -> Vec<Document> {
    vec![
        invoice(),
        prepayment(),
        credit_note(),
        paid_back(),
        receipt(),
        untaxed(&TaxCategory::ZeroRated, "", ""),
        untaxed(&TaxCategory::Exempt, "The customer is exempt from tax.", ""),
        untaxed(&TaxCategory::ReverseCharge, "Reverse charge.", "VATEX-EU-AE"),
        untaxed(&TaxCategory::OutsideScope, "Not subject to tax.", "VATEX-EU-O"),
    ]
}

/// An invoice of so many lines.
pub(super) fn long(lines: u32) -> Document {
    let mut document = invoice();
    document.lines = (1..=lines)
        .map(|position| {
            let class = LineClass::ALL[position as usize % 8];
            line(position, class, 1_234_567 * i64::from(position), "0.35", "0.43")
        })
        .collect();
    document
}
