//! Our own format as CSV, described in `docs/price-book-format.md`.
//!
//! One line is one price. A line with `tier_above` is a context tier of the price above it. Each
//! line becomes the object that the JSON form has in its place, so that both mean the same.

use serde_json::{Map, Value};

use super::{
    Context, ImportError,
    collect::Collector,
    json::Node,
    tollgate::{Defaults, MODEL_FIELDS, PRICE_FIELDS, RATE_FIELDS, read_model, read_price},
};

const MODEL: &str = "model";
const TIER_ABOVE: &str = "tier_above";
const COST_PREFIX: &str = "cost_";

pub(super) fn read(
    text: &str,
    context: &Context,
    collector: &mut Collector,
) -> Result<(), ImportError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| broken(&error))?.clone();
    check_headers(&headers)?;
    let defaults = Defaults::of(context);
    let mut price: Option<Line> = None;
    for record in reader.records() {
        let record = record.map_err(|error| broken(&error))?;
        let line = Line::new(&headers, &record);
        if line.cells.contains_key(TIER_ABOVE) {
            let Some(price) = &mut price else {
                return Err(line.broken("a context tier belongs below the price it is of"));
            };
            price.add_tier(&line)?;
        } else if let Some(complete) = price.replace(line) {
            complete.finish(&defaults, collector)?;
        }
    }
    match price {
        Some(last) => last.finish(&defaults, collector),
        None => Ok(()),
    }
}

fn broken(error: &csv::Error) -> ImportError {
    let line = error.position().map_or(1, csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells, but the first line has {expected_len}")
        }
        _ => error.to_string(),
    };
    ImportError::broken(format!("line {line}"), problem)
}

fn check_headers(headers: &csv::StringRecord) -> Result<(), ImportError> {
    let known = |header: &str| {
        let cost = header.strip_prefix(COST_PREFIX);
        header == MODEL
            || header == TIER_ABOVE
            || MODEL_FIELDS.contains(&header)
            || PRICE_FIELDS.contains(&header)
            || RATE_FIELDS.contains(&header)
            || cost.is_some_and(|rate| rate == "currency" || RATE_FIELDS.contains(&rate))
    };
    for (position, header) in headers.iter().enumerate() {
        if !known(header) {
            let problem = format!("{header:?} is not a column; see docs/price-book-format.md");
            return Err(ImportError::broken("line 1", problem));
        }
        if headers.iter().take(position).any(|other| other == header) {
            return Err(ImportError::broken("line 1", format!("{header} is there twice")));
        }
    }
    for required in [MODEL, "input", "output"] {
        if !headers.iter().any(|header| header == required) {
            return Err(ImportError::broken("line 1", format!("the column {required} is missing")));
        }
    }
    Ok(())
}

/// A line, by its columns; empty cells are left out.
struct Line {
    place: String,
    cells: Map<String, Value>,
    tiers: Vec<Value>,
}

impl Line {
    fn new(headers: &csv::StringRecord, record: &csv::StringRecord) -> Self {
        let line = record.position().map_or(0, csv::Position::line);
        let filled = headers.iter().zip(record).filter(|(_, cell)| !cell.is_empty());
        let cells = filled.map(|(header, cell)| (header.to_owned(), Value::from(cell)));
        Self { place: format!("line {line}"), cells: cells.collect(), tiers: Vec::new() }
    }

    fn broken(&self, problem: impl Into<String>) -> ImportError {
        ImportError::broken(&self.place, problem)
    }

    fn add_tier(&mut self, tier: &Self) -> Result<(), ImportError> {
        let mut object = Map::new();
        for (column, cell) in &tier.cells {
            if RATE_FIELDS.contains(&column.as_str()) {
                object.insert(column.clone(), cell.clone());
            } else if column == TIER_ABOVE {
                object.insert("above".to_owned(), cell.clone());
            } else if self.cells.get(column) != Some(cell) {
                let problem = format!("{column} differs from the price's in {}", self.place);
                return Err(tier.broken(problem));
            }
        }
        self.tiers.push(Value::Object(object));
        Ok(())
    }

    fn finish(self, defaults: &Defaults, collector: &mut Collector) -> Result<(), ImportError> {
        let Self { place, cells, tiers } = self;
        let mut fields = Map::new();
        let mut cost = Map::new();
        for (column, cell) in cells {
            match column.strip_prefix(COST_PREFIX) {
                Some(rate) => cost.insert(rate.to_owned(), cell),
                None => fields.insert(column, cell),
            };
        }
        if !cost.is_empty() {
            fields.insert("cost".to_owned(), Value::Object(cost));
        }
        if !tiers.is_empty() {
            fields.insert("tiers".to_owned(), Value::Array(tiers));
        }
        let describes = MODEL_FIELDS.iter().any(|field| fields.contains_key(*field));
        let object = Value::Object(fields);
        let node = Node { value: &object, place };
        let name = node.require(MODEL)?.text()?;
        // Only one of a model's lines needs to describe it.
        if describes || !collector.knows(name) {
            collector.model(&node.place, read_model(&node, name)?)?;
        }
        collector.price(&node.place, read_price(&node, name, defaults)?)
    }
}
