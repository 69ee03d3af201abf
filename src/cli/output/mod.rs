//! What a command prints: one kind of table, shown for people, as JSON or as CSV.
//!
//! A table is what a command knows, without any look: typed values under `snake_case` column names.
//! For people, numbers stand right, amounts carry their currency, and colours go to terminals
//! alone. JSON keeps every amount a decimal string. CSV gives each amount two columns, the number
//! and its currency, and defuses text that a spreadsheet would take for a formula.

mod table;
mod value;

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Map, Value as Json};

pub use self::{
    table::Table,
    value::{Value, decimal, moment, money, text, word},
};
use crate::cli::error::{CliError, plain};

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
                let named = tables.iter().map(|table| (table.name().to_owned(), table.to_json()));
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

/// Writes a piece of a file to the standard output, byte for byte. What takes colours away from text
/// takes bytes away from a PDF.
pub fn data_to_stdout(piece: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(piece)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests;
