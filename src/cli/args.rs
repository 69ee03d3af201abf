//! Flags that several commands share, and how their texts are understood.

use std::path::Path;

use chrono::{DateTime, Duration, NaiveDate, Utc};
use clap::Args;

use crate::{cli::error::CliError, clock, ids::CauseId, proto::Money};

/// The largest page that a server gives.
const MAX_PAGE: u32 = 1000;

/// Makes a change safe to repeat.
#[derive(Debug, Clone, Args)]
pub(super) struct Idempotency {
    /// Repeating a command with the same key changes nothing more [default: a new key]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Idempotency {
    /// The key that was given, or a new one.
    #[must_use]
    pub(super) fn key(&self) -> String {
        self.idempotency_key.clone().unwrap_or_else(new_idempotency_key)
    }
}

/// A key that nobody has used.
#[must_use]
pub(super) fn new_idempotency_key() -> String {
    CauseId::generate().to_string()
}

/// How much of a list is shown.
#[derive(Debug, Clone, Args)]
pub(super) struct Limit {
    /// Show at most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Limit {
    /// Starts a walk over pages.
    #[must_use]
    pub(super) fn pages(&self) -> Pages {
        let left = if self.all { u64::MAX } else { self.limit };
        Pages { left, token: String::new(), begun: false }
    }
}

/// A walk over the pages of a list until enough is seen.
#[derive(Debug)]
pub(super) struct Pages {
    left: u64,
    token: String,
    begun: bool,
}

impl Pages {
    /// A walk to the end.
    #[must_use]
    pub(super) const fn all() -> Self {
        Self { left: u64::MAX, token: String::new(), begun: false }
    }

    /// Size and token of the next page to ask for, or `None` when there is nothing to ask.
    pub(super) fn next_page(&mut self) -> Option<(u32, String)> {
        let is_over = self.begun && self.token.is_empty();
        if is_over || self.left == 0 {
            return None;
        }
        self.begun = true;
        let size = u32::try_from(self.left).unwrap_or(MAX_PAGE).min(MAX_PAGE);
        Some((size, std::mem::take(&mut self.token)))
    }

    /// Takes note of a page that came.
    pub(super) fn came(&mut self, rows: usize, next_page_token: String) {
        self.left = self.left.saturating_sub(rows as u64);
        self.token = next_page_token;
    }

    /// Whether the walk ended before the list did.
    #[must_use]
    pub(super) const fn has_more(&self) -> bool {
        self.begun && !self.token.is_empty()
    }
}

/// The part of time that is looked at.
#[derive(Debug, Clone, Args)]
pub(super) struct Span {
    /// From this moment on: 2026-11-22, 2026-11-22T14:00:00Z, or so long ago: 90m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    from: Option<DateTime<Utc>>,
    /// Before this moment
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<DateTime<Utc>>,
}

impl Span {
    /// The beginning, for a request.
    #[must_use]
    pub(super) fn from(&self) -> Option<prost_types::Timestamp> {
        self.from.map(timestamp)
    }

    /// The end, for a request.
    #[must_use]
    pub(super) fn until(&self) -> Option<prost_types::Timestamp> {
        self.until.map(timestamp)
    }
}

/// A moment as the wire has it.
#[must_use]
pub(super) fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: time.timestamp(), nanos }
}

/// A day (its first moment in UTC), an RFC 3339 moment, or a span before now.
pub(super) fn parse_moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(ago) = parse_span(text) {
        return clock::now()
            .checked_sub_signed(ago)
            .ok_or_else(|| format!("{text:?} is before all calendars"));
    }
    absolute_moment(text).ok_or_else(|| {
        format!("{text:?} is no time; write 2026-11-22, 2026-11-22T14:00:00Z, or 24h for a day ago")
    })
}

/// A day, an RFC 3339 moment, or a span after now.
pub(super) fn parse_deadline(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(ahead) = parse_span(text) {
        return clock::now()
            .checked_add_signed(ahead)
            .ok_or_else(|| format!("{text:?} is beyond all calendars"));
    }
    absolute_moment(text).ok_or_else(|| {
        format!("{text:?} is no time; write 2027-01-31, 2027-01-31T12:00:00Z, or 90d from now")
    })
}

fn absolute_moment(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return day.and_hms_opt(0, 0, 0).map(|midnight| midnight.and_utc());
    }
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}

/// A span such as `30s`, `90m`, `24h` or `7d`.
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no span; write 30s, 90m, 24h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: i64 = text
        .strip_suffix(unit)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(wrong)?;
    match unit {
        's' => Duration::try_seconds(number),
        'm' => Duration::try_minutes(number),
        'h' => Duration::try_hours(number),
        'd' => Duration::try_days(number),
        _ => None,
    }
    .ok_or_else(wrong)
}

/// A count of tokens such as `1500`, `5M` or `2.5B`: thousand, million, billion, trillion.
pub(super) fn parse_tokens(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no count of tokens; write 1500, 20K, 5M, 2.5B or 1T");
    let (digits, zeros) = match text.chars().last() {
        Some('k' | 'K') => (text.get(..text.len() - 1), 3),
        Some('m' | 'M') => (text.get(..text.len() - 1), 6),
        Some('b' | 'B' | 'g' | 'G') => (text.get(..text.len() - 1), 9),
        Some('t' | 'T') => (text.get(..text.len() - 1), 12),
        _ => (Some(text), 0_usize),
    };
    let (whole, decimals) = match digits.ok_or_else(wrong)?.split_once('.') {
        Some((_, "")) => return Err(wrong()),
        Some((whole, decimals)) => (whole, decimals),
        None => (digits.unwrap_or_default(), ""),
    };
    if whole.is_empty() || decimals.len() > zeros {
        return Err(wrong());
    }
    let number = format!("{whole}{decimals:0<zeros$}");
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    number.parse().map_err(|_| wrong())
}

/// An amount, checked here so that a slip of the hand is told before anything is sent.
pub(super) fn parse_amount(text: &str) -> Result<String, String> {
    let amount: crate::money::Amount = text.parse().map_err(|error| format!("{error}"))?;
    Ok(amount.to_string())
}

/// An amount in a currency.
#[must_use]
pub(super) fn money(amount: &str, currency: &str) -> Money {
    Money { currency_code: currency.to_owned(), amount: amount.to_owned() }
}

/// A file's text; `-` is the standard input.
pub(super) fn read_text(path: &Path) -> Result<String, CliError> {
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::stdin().lock())
            .map_err(|cause| CliError::file(Path::new("the standard input"), cause));
    }
    std::fs::read_to_string(path).map_err(|cause| CliError::file(path, cause))
}

/// A secret as it was given, or from the standard input for `-`, which keeps it out of the shell's
/// history and of the process list.
pub(super) fn read_secret(given: &str) -> Result<String, CliError> {
    let secret = if given == "-" { read_text(Path::new(given))? } else { given.to_owned() };
    Ok(secret.trim().to_owned())
}

/// `NAME=VALUE`.
pub(super) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form NAME=VALUE")),
    }
}

/// The message of an answer that the contract says is never missing.
pub(super) fn required<T>(part: Option<T>, name: &str) -> Result<T, CliError> {
    part.ok_or_else(|| {
        CliError::failed(format!(
            "the server's answer has no {name}; is it of the same version as this command?"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_written_as_people_write_them() {
        let right = [
            ("0", 0),
            ("1500", 1500),
            ("20K", 20_000),
            ("5M", 5_000_000),
            ("5m", 5_000_000),
            ("2.5B", 2_500_000_000),
            ("1T", 1_000_000_000_000),
            ("0.000001M", 1),
        ];
        for (text, tokens) in right {
            assert_eq!(parse_tokens(text), Ok(tokens), "{text}");
        }
        for text in
            ["", "M", "-1", "1.5", "5X", "5 M", "1e6", "1.", ".5M", "1.2345K", "99999999T", "５M"]
        {
            assert!(parse_tokens(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_time_is_a_day_a_moment_or_a_span() {
        let day = parse_moment("2026-11-22").unwrap();
        assert_eq!(day.to_rfc3339(), "2026-11-22T00:00:00+00:00");
        let moment = parse_moment("2026-11-22T14:00:00+02:00").unwrap();
        assert_eq!(moment.to_rfc3339(), "2026-11-22T12:00:00+00:00");
        assert!(parse_moment("24h").unwrap() < clock::now());
        assert!(parse_deadline("24h").unwrap() > clock::now());
        for text in ["", "yesterday", "22.11.2026", "7w", "d", "-1d", "99999999999999d", "é"] {
            assert!(parse_moment(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_walk_asks_for_no_more_than_was_wanted() {
        let mut pages = Limit { limit: 1500, all: false }.pages();
        assert_eq!(pages.next_page(), Some((1000, String::new())));
        pages.came(1000, "a".into());
        assert_eq!(pages.next_page(), Some((500, "a".into())));
        pages.came(500, "b".into());
        assert_eq!(pages.next_page(), None);
        assert!(pages.has_more());

        let mut pages = Pages::all();
        assert_eq!(pages.next_page(), Some((1000, String::new())));
        pages.came(3, String::new());
        assert_eq!(pages.next_page(), None);
        assert!(!pages.has_more());
    }
}
