//! One value of a table, and how each format spells it.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value as Json, json};

use crate::{cli::error::plain, proto::Money};

/// One value of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Any text.
    Text(String),
    /// A number of things.
    Count(u64),
    /// A number that may be negative.
    Number(i64),
    /// A decimal without a currency of its own, such as a rate or a percentage.
    Decimal(String),
    /// An amount of money.
    Money(Money),
    /// A moment.
    Moment(DateTime<Utc>),
    /// Yes or no.
    Flag(bool),
    /// Several texts.
    List(Vec<String>),
    /// Whatever else a program may look into.
    Json(Json),
    /// Not set.
    Nothing,
}

/// A text.
pub fn text(text: impl Into<String>) -> Value {
    let text = text.into();
    if text.is_empty() { Value::Nothing } else { Value::Text(text) }
}

/// An amount, or nothing.
#[must_use]
pub fn money(money: Option<Money>) -> Value {
    money.map_or(Value::Nothing, Value::Money)
}

/// A decimal as the wire has it; empty is nothing.
pub fn decimal(decimal: impl Into<String>) -> Value {
    let decimal = decimal.into();
    if decimal.is_empty() { Value::Nothing } else { Value::Decimal(decimal) }
}

/// A moment, or nothing.
#[must_use]
pub fn moment(time: Option<prost_types::Timestamp>) -> Value {
    let nanoseconds = |time: &prost_types::Timestamp| u32::try_from(time.nanos).ok();
    time.and_then(|time| DateTime::from_timestamp(time.seconds, nanoseconds(&time)?))
        .map_or(Value::Nothing, Value::Moment)
}

/// An enum's name without its prefix, as a word: `PAYMENT_TERMS_NET_30` is `net-30`.
#[must_use]
pub fn word(name: &str, prefix: &str) -> Value {
    let word = name.strip_prefix(prefix).unwrap_or(name);
    if word == "UNSPECIFIED" {
        return Value::Nothing;
    }
    Value::Text(word.to_ascii_lowercase().replace('_', "-"))
}

impl Value {
    /// Not set, as far as people care.
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::List(texts) => texts.is_empty(),
            _ => false,
        }
    }

    /// Whether it stands on the right.
    pub(super) const fn is_numeric(&self) -> bool {
        matches!(self, Self::Count(_) | Self::Number(_) | Self::Decimal(_) | Self::Money(_))
    }

    /// For people.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Text(text) => plain(text),
            Self::Count(count) => grouped(&count.to_string()),
            Self::Number(number) => number.to_string(),
            Self::Decimal(decimal) => plain(decimal),
            Self::Money(money) => money_for_people(money),
            Self::Moment(time) => time.format("%Y-%m-%d %H:%M:%SZ").to_string(),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Self::List(texts) => plain(&texts.join(", ")),
            Self::Json(json) => plain(&json.to_string()),
            Self::Nothing => String::new(),
        }
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Text(text) | Self::Decimal(text) => json!(text),
            Self::Count(count) => json!(count),
            Self::Number(number) => json!(number),
            Self::Money(money) => {
                json!({ "currency_code": money.currency_code, "amount": money.amount })
            }
            Self::Moment(time) => json!(time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            Self::Flag(flag) => json!(flag),
            Self::List(texts) => json!(texts),
            Self::Json(json) => json.clone(),
            Self::Nothing => Json::Null,
        }
    }

    /// For spreadsheets; an amount's currency is a column of its own.
    pub(super) fn to_csv(&self) -> String {
        match self {
            Self::Text(text) => defused(text),
            Self::List(texts) => defused(&texts.join(" ")),
            Self::Json(json) => defused(&json.to_string()),
            Self::Count(count) => count.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Decimal(decimal) => number_or_defused(decimal),
            Self::Money(money) => number_or_defused(&money.amount),
            Self::Moment(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            Self::Flag(flag) => flag.to_string(),
            Self::Nothing => String::new(),
        }
    }
}

/// A text that a spreadsheet would take for a formula gets an apostrophe before it.
pub(super) fn defused(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        return format!("'{text}");
    }
    text.to_owned()
}

/// A negative amount begins with a minus and is no formula; what is no number is a text.
fn number_or_defused(number: &str) -> String {
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number { number.to_owned() } else { defused(number) }
}

/// `$1.25`, or `1.25 EUR`: only the US dollar's sign is taken for one currency everywhere.
pub(crate) fn money_for_people(money: &Money) -> String {
    let amount = amount_for_people(&money.amount);
    if money.currency_code != "USD" {
        return format!("{amount} {}", plain(&money.currency_code));
    }
    match amount.strip_prefix('-') {
        Some(positive) => format!("-${positive}"),
        None => format!("${amount}"),
    }
}

/// At least two decimals, no zeros after those, and commas between the thousands.
pub(crate) fn amount_for_people(amount: &str) -> String {
    let (sign, digits) = match amount.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", amount),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let decimals = decimals.trim_end_matches('0');
    format!("{sign}{}.{decimals:0<2}", grouped(&plain(whole)))
}

/// `1234567` → `1,234,567`.
fn grouped(digits: &str) -> String {
    let length = digits.chars().count();
    let mut text = String::with_capacity(length + length / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (length - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
