//! Tables: typed values under `snake_case` column names, without any look until they are shown.

use std::{borrow::Cow, io};

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, LineStyle, TableStyle};
use serde_json::Value as Json;

use super::value::{Value, defused};
use crate::cli::error::{CliError, plain};

/// Blanks between two columns.
const COLUMN_GAP: u16 = 2;

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

    /// The name of the whole, as JSON spells it.
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For people: without columns and lines that nothing is in.
    pub(crate) fn to_text(&self) -> String {
        if self.rows.is_empty() {
            return format!("no {}", self.name.replace('_', " "));
        }
        let mut table = comfy_table::Table::new();
        table.enforce_styling().set_content_arrangement(ContentArrangement::Dynamic);
        // Styled blanks at a line's end could not be trimmed.
        table.style_text_only();
        if !io::IsTerminal::is_terminal(&io::stdout()) {
            table.force_no_tty();
            // A pipe has no width unless somebody says so.
            if let Some(width) = width_of_a_pipe() {
                table.set_width(width);
            }
        }
        if self.is_record {
            self.fill_record(&mut table);
        } else {
            self.fill_list(&mut table);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, COLUMN_GAP));
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }

    fn fill_record(&self, table: &mut comfy_table::Table) {
        let fields = self.columns.iter().zip(self.rows.iter().flatten());
        for (column, value) in fields.filter(|(_, value)| !value.is_nothing()) {
            let name = Cell::new(column.heading()).add_attribute(Attribute::Bold);
            table.add_row([name, Cell::new(value.to_text())]);
        }
        table.load_style(TableStyle::new());
    }

    fn fill_list(&self, table: &mut comfy_table::Table) {
        let values = |index: usize| self.rows.iter().filter_map(move |row| row.get(index));
        let shown: Vec<_> = (self.columns.iter().enumerate())
            .filter(|(index, _)| values(*index).any(|value| !value.is_nothing()))
            .map(|(index, column)| {
                let is_numeric = values(index).any(Value::is_numeric);
                let alignment = if is_numeric { CellAlignment::Right } else { CellAlignment::Left };
                (index, column, alignment)
            })
            .collect();
        let heading = |(_, column, alignment): &(usize, &Column, CellAlignment)| {
            Cell::new(column.heading()).set_alignment(*alignment).add_attribute(Attribute::Bold)
        };
        table.set_header(shown.iter().map(heading).collect::<Vec<_>>());
        for row in &self.rows {
            let cell = |(index, _, alignment): &(usize, &Column, CellAlignment)| {
                let text = row.get(*index).map(Value::to_text).unwrap_or_default();
                Cell::new(text).set_alignment(*alignment)
            };
            table.add_row(shown.iter().map(cell).collect::<Vec<_>>());
        }
        let line = LineStyle::none().fill('─').junction('─');
        table.load_style(TableStyle::new().header_separator(line));
    }

    /// For programs: an object for a record, else an array of them.
    pub(super) fn to_json(&self) -> Json {
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

    /// For spreadsheets.
    pub(super) fn to_csv(&self) -> Result<Vec<u8>, CliError> {
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

/// What `COLUMNS` says, where a script set it.
fn width_of_a_pipe() -> Option<u16> {
    std::env::var("COLUMNS").ok()?.parse().ok().filter(|width| *width >= 40)
}
