//! What a command prints: one kind of table, shown for people, as JSON or as CSV.
//!
//! A table is what a command knows, without any look: typed values under `snake_case` column names.
//! For people, numbers stand right, amounts carry their currency, and colours go to terminals
//! alone. JSON keeps every amount a decimal string. CSV gives each amount two columns, the number
//! and its currency, and defuses text that a spreadsheet would take for a formula.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, TableStyle};
use serde_json::{Map, Value as Json, json};

use crate::{
    cli::error::{CliError, plain},
    proto::Money,
};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
}

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

/// Rows under named columns; or one record, which people see as name and value, line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    name: &'static str,
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
    is_record: bool,
}

/// A column's name, and whether it is somebody's own, which is never spelled otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: Cow<'static, str>,
    is_proper: bool,
}

impl Column {
    const fn ours(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), is_proper: false }
    }

    /// `max_output_tokens` → `MAX OUTPUT TOKENS`; a proper name as it is.
    fn heading(&self) -> String {
        if self.is_proper { plain(&self.name) } else { self.name.replace('_', " ").to_uppercase() }
    }
}

impl Table {
    /// A table without rows yet.
    #[must_use]
    pub fn list(name: &'static str, columns: &[&'static str]) -> Self {
        let columns = columns.iter().copied().map(Column::ours).collect();
        Self { name, columns, rows: Vec::new(), is_record: false }
    }

    /// A table that sets things side by side: a column for each, by its own name, between a first
    /// and a last one. Rows are added with [`Table::push`].
    #[must_use]
    pub fn comparison(
        name: &'static str,
        first: &'static str,
        things: &[String],
        last: &'static str,
    ) -> Self {
        let proper = |name: &String| Column { name: Cow::Owned(name.clone()), is_proper: true };
        let columns = std::iter::once(Column::ours(first))
            .chain(things.iter().map(proper))
            .chain(std::iter::once(Column::ours(last)))
            .collect();
        Self { name, columns, rows: Vec::new(), is_record: false }
    }

    /// One thing with its properties.
    #[must_use]
    pub fn record(name: &'static str, fields: Vec<(&'static str, Value)>) -> Self {
        let (columns, row) =
            fields.into_iter().map(|(name, value)| (Column::ours(name), value)).unzip();
        Self { name, columns, rows: vec![row], is_record: true }
    }

    /// Adds a row with one value for each column.
    pub fn row<const N: usize>(&mut self, values: [Value; N]) {
        self.push(values.into());
    }

    /// Adds a row with one value for each column.
    pub fn push(&mut self, values: Vec<Value>) {
        debug_assert_eq!(values.len(), self.columns.len(), "{}: a value per column", self.name);
        self.rows.push(values);
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        if self.rows.is_empty() {
            return format!("no {}", self.name.replace('_', " "));
        }
        let mut table = comfy_table::Table::new();
        table.enforce_styling();
        if io::IsTerminal::is_terminal(&io::stdout()) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.force_no_tty();
        }
        if self.is_record {
            for (column, value) in self.columns.iter().zip(self.rows.iter().flatten()) {
                let name = Cell::new(column.heading()).add_attribute(Attribute::Bold);
                table.add_row([name, Cell::new(value.to_text())]);
            }
            table.load_style(TableStyle::new());
        } else {
            let alignment = |index: usize| {
                let mut column = self.rows.iter().filter_map(|row| row.get(index));
                if column.any(Value::is_numeric) {
                    CellAlignment::Right
                } else {
                    CellAlignment::Left
                }
            };
            let alignments: Vec<_> = (0..self.columns.len()).map(alignment).collect();
            let header = self.columns.iter().zip(&alignments).map(|(column, alignment)| {
                Cell::new(column.heading()).set_alignment(*alignment).add_attribute(Attribute::Bold)
            });
            table.set_header(header.collect::<Vec<_>>());
            for row in &self.rows {
                let cells = row
                    .iter()
                    .zip(&alignments)
                    .map(|(value, alignment)| Cell::new(value.to_text()).set_alignment(*alignment));
                table.add_row(cells.collect::<Vec<_>>());
            }
            let line = comfy_table::LineStyle::none().fill('─').junction('─');
            table.load_style(TableStyle::new().header_separator(line));
        }
        table.trim_fmt()
    }

    fn to_json(&self) -> Json {
        let object = |row: &Vec<Value>| -> Json {
            let fields = self.columns.iter().zip(row);
            let fields = fields.map(|(column, value)| (column.name.to_string(), value.to_json()));
            Json::Object(fields.collect())
        };
        match (self.is_record, self.rows.first()) {
            (true, Some(row)) => object(row),
            _ => Json::Array(self.rows.iter().map(object).collect()),
        }
    }

    fn to_csv(&self) -> Result<Vec<u8>, CliError> {
        let is_money = |index: usize| {
            let mut column = self.rows.iter().filter_map(|row| row.get(index));
            column.any(|value| matches!(value, Value::Money(_)))
        };
        let money: Vec<bool> = (0..self.columns.len()).map(is_money).collect();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut record = Vec::new();
        for (column, is_money) in self.columns.iter().zip(&money) {
            record.push(defused(&column.name));
            if *is_money {
                record.push(format!("{}_currency", column.name));
            }
        }
        let written = |error: csv::Error| CliError::Output(error.into());
        writer.write_record(&record).map_err(written)?;
        for row in &self.rows {
            record.clear();
            for (value, is_money) in row.iter().zip(&money) {
                record.push(value.to_csv());
                if *is_money {
                    let currency = match value {
                        Value::Money(money) => money.currency_code.clone(),
                        _ => String::new(),
                    };
                    record.push(currency);
                }
            }
            writer.write_record(&record).map_err(written)?;
        }
        writer.into_inner().map_err(|error| CliError::Output(error.into_error()))
    }
}

impl Value {
    const fn is_numeric(&self) -> bool {
        matches!(self, Self::Count(_) | Self::Number(_) | Self::Decimal(_) | Self::Money(_))
    }

    fn to_text(&self) -> String {
        match self {
            Self::Text(text) => plain(text),
            Self::Count(count) => grouped(&count.to_string()),
            Self::Number(number) => number.to_string(),
            Self::Decimal(decimal) => plain(decimal),
            Self::Money(money) => money_for_people(money),
            Self::Moment(time) => time.format("%Y-%m-%d %H:%M:%SZ").to_string(),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Self::List(texts) => plain(&texts.join(", ")),
            Self::Nothing => String::new(),
        }
    }

    fn to_json(&self) -> Json {
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
            Self::Nothing => Json::Null,
        }
    }

    fn to_csv(&self) -> String {
        match self {
            Self::Text(text) => defused(text),
            Self::List(texts) => defused(&texts.join(" ")),
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
fn defused(text: &str) -> String {
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

/// Where results go, in the format that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
}

impl Output {
    /// Output in this format.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether people read it.
    #[must_use]
    pub fn is_for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Prints one table.
    pub fn show(&self, table: &Table) -> Result<(), CliError> {
        match self.format {
            Format::Table => line(&table.to_text()),
            Format::Json => line(&pretty(&table.to_json())?),
            Format::Csv => {
                let bytes = table.to_csv()?;
                to_stdout(|out| out.write_all(&bytes))
            }
        }
    }

    /// Prints several tables that belong together. JSON has one object with each under its name;
    /// CSV can hold only one shape of row, and has the first.
    pub fn show_all(&self, tables: &[Table]) -> Result<(), CliError> {
        match self.format {
            Format::Table => {
                let texts: Vec<String> = tables.iter().map(Table::to_text).collect();
                line(&texts.join("\n\n"))
            }
            Format::Json => {
                let named = tables.iter().map(|table| (table.name.to_owned(), table.to_json()));
                line(&pretty(&Json::Object(named.collect::<Map<_, _>>()))?)
            }
            Format::Csv => tables.first().map_or(Ok(()), |first| self.show(first)),
        }
    }

    /// A warning, in every format, on the error stream.
    pub fn warn(&self, sentence: &str) -> Result<(), CliError> {
        let mut err = anstream::stderr().lock();
        Ok(writeln!(err, "\u{1b}[1;33mwarning:\u{1b}[0m {}", plain(sentence))?)
    }

    /// A sentence for people beside the result, on the error stream so that a pipe gets only data.
    pub fn note(&self, sentence: &str) -> Result<(), CliError> {
        if self.is_for_people() {
            let mut err = anstream::stderr().lock();
            writeln!(err, "{}", plain(sentence))?;
        }
        Ok(())
    }
}

fn pretty(json: &Json) -> Result<String, CliError> {
    serde_json::to_string_pretty(json).map_err(|error| CliError::Output(error.into()))
}

/// Prints a text and ends its line.
pub fn line(text: &str) -> Result<(), CliError> {
    to_stdout(|out| writeln!(out, "{text}"))
}

/// Writes to the locked standard output, whose colours are taken away unless it is a terminal.
pub fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let mut out = anstream::stdout().lock();
    write(&mut out)?;
    Ok(out.flush()?)
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
