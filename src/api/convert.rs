//! Between the contract's messages and the domain's types: money, times, ids and pages. Every
//! refusal is a [`BadField`] that names the field as the contract spells it, the problem and the
//! remedy.

use std::{fmt::Display, str::FromStr, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    money::{Amount, Currency},
    problem::{Problem, ProblemKind},
    proto,
};

/// How many rows a page has when the caller does not say.
pub const DEFAULT_PAGE_SIZE: u32 = 100;
/// The most rows of a page: bounds an answer to about a megabyte.
pub const MAX_PAGE_SIZE: u32 = 1_000;
/// The longest page token, in bytes; ours are far shorter.
const PAGE_TOKEN_LENGTH: usize = 1_024;
/// The first and the last second that a timestamp of the contract can mean: years 1 to 9999.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A field of a request that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct BadField {
    field: String,
    reason: &'static str,
    problem: String,
}

impl BadField {
    /// `field` as the contract spells it, a stable reason in capitals, and a sentence with the
    /// problem and the remedy.
    pub fn new(field: impl Into<String>, reason: &'static str, problem: impl Display) -> Self {
        Self { field: field.into(), reason, problem: problem.to_string() }
    }
}

impl Problem for BadField {
    fn kind(&self) -> ProblemKind {
        ProblemKind::InvalidArgument
    }

    fn reason(&self) -> &'static str {
        self.reason
    }

    fn field(&self) -> Option<String> {
        Some(self.field.clone())
    }
}

/// An amount as the contract carries it.
#[must_use]
pub fn money(amount: Amount, currency: Currency) -> proto::Money {
    proto::Money { currency_code: currency.code().to_owned(), amount: amount.to_string() }
}

/// Reads an amount that must be there and in this currency. Its sign is the caller's to judge.
pub fn amount(
    field: &str,
    money: Option<&proto::Money>,
    currency: Currency,
) -> Result<Amount, BadField> {
    optional_amount(field, money, currency)?.ok_or_else(|| {
        BadField::new(
            field,
            "MISSING_AMOUNT",
            format!("is missing; give an amount in {currency}, such as 12.50"),
        )
    })
}

/// Reads an amount that may be left out.
pub fn optional_amount(
    field: &str,
    money: Option<&proto::Money>,
    currency: Currency,
) -> Result<Option<Amount>, BadField> {
    let Some(money) = money else { return Ok(None) };
    let (given_amount, given_currency) = any_amount(field, money)?;
    if given_currency != currency {
        return Err(BadField::new(
            format!("{field}.currency_code"),
            "CURRENCY_MISMATCH",
            format!("is {given_currency}, but the account's currency is {currency}"),
        ));
    }
    Ok(Some(given_amount))
}

/// Reads an amount in whatever currency it names.
pub fn any_amount(field: &str, money: &proto::Money) -> Result<(Amount, Currency), BadField> {
    let currency = currency(&format!("{field}.currency_code"), &money.currency_code)?;
    let amount = money
        .amount
        .parse()
        .map_err(|error| BadField::new(format!("{field}.amount"), "INVALID_AMOUNT", error))?;
    Ok((amount, currency))
}

/// Reads a currency code.
pub fn currency(field: &str, code: &str) -> Result<Currency, BadField> {
    code.parse().map_err(|error| BadField::new(field, "INVALID_CURRENCY", error))
}

/// A moment as the contract carries it.
#[must_use]
pub fn timestamp(moment: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: moment.timestamp(),
        // A leap second is carried as the last nanosecond of the second before it.
        nanos: i32::try_from(moment.timestamp_subsec_nanos().min(999_999_999)).unwrap_or(0),
    }
}

/// Reads a moment between the years 1 and 9999.
pub fn moment(field: &str, timestamp: &prost_types::Timestamp) -> Result<DateTime<Utc>, BadField> {
    let nanos = u32::try_from(timestamp.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    nanos
        .filter(|_| TIMESTAMP_SECONDS.contains(&timestamp.seconds))
        .and_then(|nanos| DateTime::from_timestamp(timestamp.seconds, nanos))
        .ok_or_else(|| {
            BadField::new(
                field,
                "INVALID_TIMESTAMP",
                "is not a time between the years 1 and 9999; nanos must be 0 to 999999999",
            )
        })
}

/// A length of time as the contract carries it.
#[must_use]
pub fn duration(length: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}

/// Reads a length of time that is not negative.
pub fn length(field: &str, duration: &prost_types::Duration) -> Result<Duration, BadField> {
    let seconds = u64::try_from(duration.seconds).ok();
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    seconds.zip(nanos).map(|(seconds, nanos)| Duration::new(seconds, nanos)).ok_or_else(|| {
        BadField::new(field, "INVALID_DURATION", "is negative or malformed; write it like 3600s")
    })
}

/// Reads an id that must be there: a UUID in its usual form.
pub fn id<Id: FromStr>(field: &str, text: &str) -> Result<Id, BadField> {
    if text.is_empty() {
        return Err(BadField::new(field, "MISSING_ID", "is missing; give the id"));
    }
    // The parser also takes braces and URNs, which would give one thing several spellings.
    text.parse().ok().filter(|_| text.len() == 36).ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        BadField::new(
            field,
            "INVALID_ID",
            format!("{shown:?} is not an id such as 01890a5d-ac96-774b-bcce-b302099a8057"),
        )
    })
}

/// Reads an id that may be left empty.
pub fn optional_id<Id: FromStr>(field: &str, text: &str) -> Result<Option<Id>, BadField> {
    if text.is_empty() { Ok(None) } else { id(field, text).map(Some) }
}

/// One page of a list: how many rows, and the row after which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<Cursor> {
    /// How many rows to answer with; read one more to learn whether there is a next page.
    pub size: usize,
    /// The last row of the page before; `None` for the first page.
    pub after: Option<Cursor>,
}

impl<Cursor> Page<Cursor> {
    /// The `LIMIT` that also shows whether there is a next page.
    #[must_use]
    pub fn limit(&self) -> i64 {
        i64::try_from(self.size).map_or(i64::MAX, |size| size.saturating_add(1))
    }
}

/// Reads a request's `page_size` and `page_token`. `list` names the list (the RPC), so that a token
/// of one is refused by another.
pub fn page<Cursor: DeserializeOwned>(
    list: &str,
    page_size: u32,
    page_token: &str,
) -> Result<Page<Cursor>, BadField> {
    let size = match page_size {
        0 => DEFAULT_PAGE_SIZE,
        1..=MAX_PAGE_SIZE => page_size,
        _ => {
            return Err(BadField::new(
                "page_size",
                "PAGE_TOO_LARGE",
                format!("is {page_size}; ask for at most {MAX_PAGE_SIZE} and follow the pages"),
            ));
        }
    };
    let after = if page_token.is_empty() { None } else { Some(cursor(list, page_token)?) };
    Ok(Page { size: usize::try_from(size).unwrap_or(usize::MAX), after })
}

fn cursor<Cursor: DeserializeOwned>(list: &str, token: &str) -> Result<Cursor, BadField> {
    let refused = || {
        BadField::new(
            "page_token",
            "INVALID_PAGE_TOKEN",
            format!("was not given out by {list}; send its next_page_token, or none to start over"),
        )
    };
    if token.len() > PAGE_TOKEN_LENGTH {
        return Err(refused());
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refused())?;
    let (of, cursor): (String, Cursor) = serde_json::from_slice(&bytes).map_err(|_| refused())?;
    if of == list { Ok(cursor) } else { Err(refused()) }
}

/// Cuts the rows that were read with [`Page::limit`] to the page, and makes the token of the next
/// one; empty when this is the last.
pub fn next_page_token<Row, Cursor: Serialize>(
    list: &str,
    rows: &mut Vec<Row>,
    size: usize,
    cursor: impl FnOnce(&Row) -> Cursor,
) -> String {
    if rows.len() <= size {
        return String::new();
    }
    rows.truncate(size);
    rows.last()
        .and_then(|row| serde_json::to_vec(&(list, cursor(row))).ok())
        .map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AccountId;

    fn usd(amount: &str) -> proto::Money {
        proto::Money { currency_code: "USD".to_owned(), amount: amount.to_owned() }
    }

    #[test]
    fn an_amount_that_cannot_be_taken_names_its_field_and_reason() {
        let euro = proto::Money { currency_code: "EUR".to_owned(), amount: "1".to_owned() };
        for (money, field, reason) in [
            (None, "amount", "MISSING_AMOUNT"),
            (Some(usd("1,50")), "amount.amount", "INVALID_AMOUNT"),
            (Some(usd("0.0000000000001")), "amount.amount", "INVALID_AMOUNT"),
            (Some(usd("99999999999999999")), "amount.amount", "INVALID_AMOUNT"),
            (Some(euro), "amount.currency_code", "CURRENCY_MISMATCH"),
            (Some(proto::Money::default()), "amount.currency_code", "INVALID_CURRENCY"),
        ] {
            let refusal = amount("amount", money.as_ref(), Currency::USD).unwrap_err();
            assert_eq!((refusal.field().unwrap().as_str(), refusal.reason()), (field, reason));
        }
    }

    #[test]
    fn an_amount_survives_the_wire_to_its_last_decimal() {
        let exact: Amount = "12345.678901234567".parse().unwrap();
        let wire = money(exact, Currency::USD);
        assert_eq!(amount("amount", Some(&wire), Currency::USD).unwrap(), exact);
    }

    #[test]
    fn a_timestamp_outside_the_calendar_is_refused() {
        for (seconds, nanos) in [(i64::MIN, 0), (i64::MAX, 0), (0, -1), (0, 1_000_000_000)] {
            let timestamp = prost_types::Timestamp { seconds, nanos };
            assert_eq!(moment("at", &timestamp).unwrap_err().reason(), "INVALID_TIMESTAMP");
        }
        let now = crate::clock::now();
        assert_eq!(moment("at", &timestamp(now)).unwrap(), now);
    }

    #[test]
    fn a_negative_duration_is_refused() {
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            let refusal = length("overlap", &prost_types::Duration { seconds, nanos }).unwrap_err();
            assert_eq!(refusal.reason(), "INVALID_DURATION");
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id_of = |text: &str| id::<AccountId>("account_id", text);
        let good = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(id_of(good).unwrap().to_string(), good);
        for text in ["01890a5dac96774bbcceb302099a8057", &format!("{{{good}}}"), "acme", "ü"] {
            assert_eq!(id_of(text).unwrap_err().reason(), "INVALID_ID", "{text}");
        }
        assert_eq!(id_of("").unwrap_err().reason(), "MISSING_ID");
        assert_eq!(optional_id::<AccountId>("account_id", "").unwrap(), None);
    }

    #[test]
    fn pages_follow_each_other_and_end() {
        let read = |page: &Page<u64>| -> Vec<u64> {
            let from = page.after.map_or(0, |after| after + 1);
            (from..7).take(page.size + 1).collect()
        };
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = page::<u64>("ListThings", 3, &token).unwrap();
            let mut rows = read(&page);
            token = next_page_token("ListThings", &mut rows, page.size, |row| *row);
            seen.extend(rows);
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, (0..7).collect::<Vec<_>>());
    }

    #[test]
    fn a_token_of_another_list_or_a_made_up_one_is_refused() {
        let token = next_page_token("ListThings", &mut vec![1_u64, 2], 1, |row| *row);
        let long = "A".repeat(PAGE_TOKEN_LENGTH + 1);
        for (list, token) in [("ListOthers", token.as_str()), ("ListThings", "x"), ("L", &long)] {
            let refusal = page::<u64>(list, 0, token).unwrap_err();
            assert_eq!(refusal.reason(), "INVALID_PAGE_TOKEN");
        }
    }

    #[test]
    fn a_page_has_a_hundred_rows_unless_said_and_never_more_than_a_thousand() {
        assert_eq!(page::<u64>("L", 0, "").unwrap().size, 100);
        assert_eq!(page::<u64>("L", 1_000, "").unwrap().size, 1_000);
        assert_eq!(page::<u64>("L", 1_001, "").unwrap_err().reason(), "PAGE_TOO_LARGE");
    }
}
