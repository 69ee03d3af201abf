use en16931_formats::{Policy, Recommendation, receive};

use super::*;
use crate::billing::export::samples;

type Write = fn(&Document, &str) -> Result<Vec<u8>, ExportError>;

fn xml(document: &Document, write: Write) -> String {
    String::from_utf8(write(document, "the document").unwrap()).unwrap()
}

#[test]
fn every_kind_and_category_keeps_the_rules_in_both_syntaxes() {
    for document in samples::all().iter().filter(|document| is_tax_document(document.kind)) {
        for (syntax, write) in [("ubl", ubl as Write), ("cii", cii)] {
            let text = xml(document, write);
            let read = receive(text.as_bytes(), &Policy::default());
            assert_eq!(
                read.recommendation,
                Recommendation::Accept,
                "{:?} {:?}\n{read}\n{text}",
                document.number,
                document.taxes
            );
            assert_eq!(text, xml(document, write), "the same bytes each time");
            let (number, code) =
                (document.number.as_deref().unwrap(), category(&document.taxes[0].tax).0);
            samples::keep(&format!("{number}-{code}.{syntax}.xml"), text.as_bytes());
        }
    }
}

#[test]
fn a_token_price_is_for_a_million_and_shows_its_discount() {
    let text = xml(&samples::invoice(), ubl);
    for expected in [
        "<cbc:CustomizationID>urn:cen.eu:en16931:2017</cbc:CustomizationID>",
        "<cbc:BaseQuantity unitCode=\"C62\">1000000</cbc:BaseQuantity>",
        "<cbc:PriceAmount currencyID=\"EUR\">0.35</cbc:PriceAmount>",
        "<cbc:Amount currencyID=\"EUR\">0.05</cbc:Amount>",
        "<cbc:BaseAmount currencyID=\"EUR\">0.4</cbc:BaseAmount>",
        "<cbc:PaymentMeansCode>58</cbc:PaymentMeansCode>",
        "<cbc:PrepaidAmount currencyID=\"EUR\">90.00</cbc:PrepaidAmount>",
        "<cbc:DueDate>2026-12-02</cbc:DueDate>",
        "<cbc:AccountingCost>CC-100</cbc:AccountingCost>",
        "Kunde &amp; Söhne AG",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn a_credit_note_that_was_paid_back_asks_nobody_to_pay() {
    let text = xml(&samples::paid_back(), ubl);
    assert!(text.contains("<cbc:PayableAmount currencyID=\"EUR\">0.00<"), "{text}");
    assert!(text.contains("Paid back; no further payment is due."), "{text}");
}

#[test]
fn a_credit_note_is_a_document_of_its_own_without_a_due_date() {
    let text = xml(&samples::credit_note(), ubl);
    assert!(text.contains("<CreditNote "), "{text}");
    assert!(text.contains("<cbc:CreditNoteTypeCode>381<"), "{text}");
    assert!(text.contains("<cac:PaymentTerms>") && !text.contains("DueDate"), "{text}");
    assert!(text.contains("<cac:BillingReference>"), "{text}");
}

#[test]
fn a_receipt_is_no_tax_document() {
    let refused = ubl(&samples::receipt(), "REC-2026-000001").unwrap_err();
    assert!(matches!(refused, ExportError::NotForTax(_)), "{refused}");
    assert!(refused.to_string().contains("REC-2026-000001"), "{refused}");
}

#[test]
fn what_breaks_a_rule_is_refused_with_the_rule() {
    let mut document =
        samples::untaxed(&TaxCategory::ReverseCharge, "Reverse charge.", "VATEX-EU-AE");
    document.buyer.tax_id.clear();
    let refused = ubl(&document, "INV-1").unwrap_err().to_string();
    assert!(refused.contains("BR-AE-02"), "{refused}");

    let mut document = samples::invoice();
    document.totals.net = samples::amount("999.99");
    let refused = cii(&document, "INV-1").unwrap_err().to_string();
    assert!(refused.contains("BR-CO-13"), "{refused}");
}

#[test]
fn a_dinar_has_more_decimals_than_the_standard() {
    let mut document = samples::invoice();
    document.lines[0].net = samples::amount("782.105");
    let refused = ubl(&document, "INV-1").unwrap_err().to_string();
    assert!(refused.contains("two decimals"), "{refused}");
}

#[test]
fn ids_are_told_apart_by_their_shape() {
    for (id, expected) in
        [("DE123456789", true), ("EL123456789", true), ("12-3456789", false), ("", false)]
    {
        assert_eq!(is_vat_id(id), expected, "{id}");
    }
    assert!(is_iban("IE12BOFI90000112345678"));
    for account in ["123456789", "ie12BOFI90000112345678", "", "IE12", "ÄÖ12BOFI9000011234"] {
        assert!(!is_iban(account), "{account}");
    }
}
