//! Tests of the three formats.

use serde_json::json;

use super::{value::amount_for_people, *};
use crate::proto::Money;

fn dollars(amount: &str) -> Value {
    Value::Money(Money { currency_code: "USD".into(), amount: amount.into() })
}

fn plain_text(table: &Table) -> String {
    anstream::adapter::strip_str(&table.to_text()).to_string()
}

fn two_rows() -> Table {
    let mut table = Table::list("balances", &["handle", "requests", "charged", "note"]);
    table.row([text("acme"), Value::Count(1_234_567), dollars("12.500000"), Value::Nothing]);
    table.row([text("zeta"), Value::Count(3), dollars("-0.000001"), text("=SUM(A1:A9)")]);
    table
}

#[test]
fn people_see_numbers_on_the_right_and_the_currency_beside_the_amount() {
    let shown = plain_text(&two_rows());
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    assert!(lines[0].contains("HANDLE") && lines[0].contains("REQUESTS"), "{shown}");
    assert!(lines[2].contains("1,234,567") && lines[2].contains("$12.50"), "{shown}");
    assert!(lines[3].contains("        3 ") && lines[3].contains("-$0.000001"), "{shown}");
}

#[test]
fn a_record_is_shown_line_by_line_and_an_empty_list_says_so() {
    let record = Table::record("account", vec![("handle", text("acme")), ("tax_id", text("DE1"))]);
    let shown = plain_text(&record);
    assert_eq!(shown.lines().count(), 2);
    assert!(shown.contains("TAX ID"), "{shown}");
    assert_eq!(plain_text(&Table::list("usage_events", &["event_id"])), "no usage events");
}

#[test]
fn json_keeps_amounts_as_decimal_strings_and_what_is_not_set_as_null() {
    let json = two_rows().to_json();
    assert_eq!(json[0]["charged"]["amount"], "12.500000");
    assert_eq!(json[0]["charged"]["currency_code"], "USD");
    assert_eq!(json[0]["requests"], 1_234_567);
    assert!(json[0]["note"].is_null());
    let record = Table::record("account", vec![("handle", text("acme"))]);
    assert_eq!(record.to_json(), json!({ "handle": "acme" }));
}

#[test]
fn csv_separates_amount_and_currency_and_no_text_is_a_formula() {
    let csv = String::from_utf8(two_rows().to_csv().unwrap()).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "handle,requests,charged,charged_currency,note");
    assert_eq!(lines[1], "acme,1234567,12.500000,USD,");
    assert_eq!(lines[2], "zeta,3,-0.000001,USD,'=SUM(A1:A9)");
    for text in ["=1", "+1", "-1", "@x", "\t=1"] {
        assert!(Value::Text(text.into()).to_csv().starts_with('\''), "{text:?}");
    }
    // A number that is none does not come through as one.
    assert_eq!(Value::Decimal("-1+cmd".into()).to_csv(), "'-1+cmd");
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let mut table = Table::list("accounts", &["name"]);
    table.row([text("a\u{1b}[2Jb")]);
    assert!(!plain_text(&table).contains('\u{1b}'));
    assert!(!table.to_text().contains("\u{1b}[2J"));
}

#[test]
fn an_amount_reads_well_and_loses_nothing() {
    let cases = [
        ("0", "0.00"),
        ("1.5", "1.50"),
        ("1250", "1,250.00"),
        ("-1234567.25", "-1,234,567.25"),
        ("0.000000000001", "0.000000000001"),
        ("999.990000000000", "999.99"),
    ];
    for (amount, shown) in cases {
        assert_eq!(amount_for_people(amount), shown);
    }
}

#[test]
fn a_word_of_the_contract_becomes_a_word_for_people() {
    assert_eq!(word("PAYMENT_TERMS_NET_30", "PAYMENT_TERMS_"), Value::Text("net-30".into()));
    assert_eq!(word("TIER_UNSPECIFIED", "TIER_"), Value::Nothing);
}
