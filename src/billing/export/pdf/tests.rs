use super::*;
use crate::billing::export::samples;

fn has(pdf: &[u8], what: &str) -> bool {
    pdf.windows(what.len()).any(|window| window == what.as_bytes())
}

fn pages(pdf: &[u8]) -> usize {
    let text = String::from_utf8_lossy(pdf);
    text.matches("/Type/Page").count() + text.matches("/Type /Page").count()
        - text.matches("/Type/Pages").count()
        - text.matches("/Type /Pages").count()
}

#[test]
fn an_invoice_is_printed_on_one_page_with_its_xml_inside() {
    let document = samples::invoice();
    let pdf = write(&document, "INV-2026-000001").unwrap();
    samples::keep("one.pdf", &pdf);
    assert_eq!(pages(&pdf), 1);
    for expected in [
        "factur-x.xml",
        "/Alternative",
        "<pdfaid:part>3</pdfaid:part>",
        "<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>",
        "<pdfaSchema:prefix>fx</pdfaSchema:prefix>",
    ] {
        assert!(has(&pdf, expected), "{expected}");
    }
    assert_eq!(pdf, write(&document, "INV-2026-000001").unwrap(), "the same bytes each time");
    let text = String::from_utf8_lossy(&pdf);
    for name in text.split('+').skip(1).filter(|rest| rest.starts_with("Noto")) {
        // Not a font of the machine, on which the bytes would depend.
        assert!(name.starts_with("NotoSans-Regular") || name.starts_with("NotoSans-Bold"));
    }
}

#[test]
fn many_lines_run_over_many_pages() {
    let pdf = write(&samples::long(260), "INV-2026-000001").unwrap();
    samples::keep("twelve.pdf", &pdf);
    assert!((8..=16).contains(&pages(&pdf)), "{}", pages(&pdf));
}

#[test]
fn a_receipt_has_no_xml_and_neither_has_an_invoice_that_breaks_a_rule() {
    let receipt = write(&samples::receipt(), "REC-2026-000001").unwrap();
    samples::keep("receipt.pdf", &receipt);
    let mut document = samples::invoice();
    document.buyer.address.country_code.clear();
    let broken = write(&document, "INV-2026-000001").unwrap();
    for pdf in [receipt, broken] {
        assert!(!has(&pdf, "factur-x") && has(&pdf, "<pdfaid:part>3</pdfaid:part>"));
    }
}

#[test]
fn names_print_in_any_script_and_long_ones_wrap() {
    let mut document = samples::credit_note();
    document.buyer.legal_name =
        "株式会社例示ゲートウェイ（東京）\nشركة المثال للتجارة 42\nחברת הדוגמה בע\"מ\nบริษัทตัวอย่างจำกัด\n\
         उदाहरण प्राइवेट लिमिटेड\nΕλληνική ΑΕ · ООО «Ромашка»\n한국 예시 주식회사 · Công ty Ví dụ · \u{1f980}"
            .to_owned();
    document.buyer.address.line_1 = "W".repeat(200);
    document.seller.legal_name = "Gateway\u{0}\u{b}\u{fffe} <&> \u{202e}Ltd".to_owned();
    document.notes.push("ا".repeat(3_000));
    let pdf = write(&document, "CN-2026-000001").unwrap();
    samples::keep("scripts.pdf", &pdf);
}

#[test]
fn every_kind_and_category_is_printed() {
    for document in samples::all() {
        write(&document, "one").unwrap();
    }
}
