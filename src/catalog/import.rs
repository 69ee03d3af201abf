//! Price files, read whole or not at all.
//!
//! Each format has its own file; all of them hand models and dated prices to one [`Collector`],
//! which refuses a record that is there twice. Numbers are read as text into decimals, so that
//! `1e-06` and `0.30000000000000004` mean what they say. A file that is broken anywhere yields an
//! error that names the place and nothing else; a good one comes with a [`Report`] that accounts
//! for everything in it: what was imported, what was skipped or changed, and why.

mod collect;
mod json;
mod litellm;
mod model_prices;
mod openrouter;
mod report;
#[cfg(test)]
mod tests;
mod tollgate;
mod tollgate_csv;
#[cfg(test)]
mod tollgate_tests;

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use thiserror::Error;

use self::collect::Collector;
pub use self::report::{Note, Report};
use super::{
    model::{ModelStatus, Route},
    price::{Cost, Price},
};
use crate::money::Currency;

/// The largest price file, in bytes; LiteLLM's, the largest of today, has 2 MB.
pub const MAX_FILE_BYTES: usize = 64 * 1024 * 1024;
/// The most price records in a file, tiers not counted.
pub const MAX_RECORDS: usize = 100_000;
/// When a price begins that its file dates "from the beginning": 2020-01-01, before any model of
/// today was sold by the token, so that usage of every date finds it.
pub const BEGINNING: DateTime<Utc> = match DateTime::from_timestamp(1_577_836_800, 0) {
    Some(moment) => moment,
    None => DateTime::UNIX_EPOCH,
};

/// A format that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The data file of the `model-prices` package: dated prices of many providers.
    ModelPrices,
    /// Our own JSON or CSV, told apart by its first character; `docs/price-book-format.md`.
    Tollgate,
    /// The answer of OpenRouter's `/api/v1/models`.
    OpenRouter,
    /// LiteLLM's `model_prices_and_context_window.json`.
    LiteLlm,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tollgate, Self::ModelPrices, Self::OpenRouter, Self::LiteLlm];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ModelPrices => "model-prices",
            Self::Tollgate => "tollgate",
            Self::OpenRouter => "openrouter",
            Self::LiteLlm => "litellm",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = ImportError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|format| format.name() == name);
        known.ok_or_else(|| ImportError::UnknownFormat(name.chars().take(40).collect()))
    }
}

/// What a file does not say itself.
#[derive(Debug, Clone)]
pub struct Context {
    /// When prices begin that carry no date.
    pub effective_from: DateTime<Utc>,
    /// Where the file is from: its name or address.
    pub source: String,
    /// The date of that source.
    pub source_date: String,
}

/// A model as a file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRecord {
    /// Its unique name.
    pub name: String,
    /// Who makes or hosts it; empty when unknown.
    pub provider: String,
    /// Which capacity serves it.
    pub route: Route,
    /// Whether it is still there.
    pub status: ModelStatus,
    /// The longest prompt and answer together, in tokens.
    pub context_tokens: Option<u64>,
    /// The longest answer, in tokens.
    pub max_output_tokens: Option<u64>,
}

/// One dated price of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceRecord {
    /// The model's name; [`Import::models`] describes it.
    pub model: String,
    /// The account that this price was agreed with; `None` for the list price.
    pub account: Option<String>,
    /// What it costs from then on.
    pub price: Price,
    /// What it costs ourselves.
    pub cost: Option<Cost>,
    /// When it begins.
    pub effective_from: DateTime<Utc>,
    /// Where the price is from.
    pub source: String,
    /// The date of that source, as the source writes it.
    pub source_date: String,
}

/// A file that was read whole.
#[derive(Debug, Clone)]
pub struct Import {
    /// Every model named in the file, in its order.
    pub models: Vec<ModelRecord>,
    /// Every price, in the file's order.
    pub prices: Vec<PriceRecord>,
    /// What became of everything in the file.
    pub report: Report,
}

/// Why a file was not imported. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImportError {
    /// No format of that name.
    #[error("{0:?} is not a format; use tollgate, model-prices, openrouter or litellm")]
    UnknownFormat(String),
    /// More than [`MAX_FILE_BYTES`].
    #[error("the file has {0} bytes, and at most {MAX_FILE_BYTES} are read")]
    TooLarge(usize),
    /// More than [`MAX_RECORDS`].
    #[error("the file has more than {MAX_RECORDS} prices; split it")]
    TooManyRecords,
    /// Something that is not as the format says.
    #[error("{place}: {problem}")]
    Broken {
        /// A path or a line in the file.
        place: String,
        /// What is wrong there and what belongs there.
        problem: String,
    },
    /// Two prices of one model that begin at the same moment.
    #[error("{first} and {second} are both a price of {model} from {effective_from}; keep one")]
    Duplicate {
        /// The model's name.
        model: String,
        /// The moment.
        effective_from: String,
        /// Where the first one is.
        first: String,
        /// Where the other one is.
        second: String,
    },
    /// A file without a single price.
    #[error("the file has no price that could be imported: {0}")]
    Empty(String),
}

impl ImportError {
    fn broken(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Broken { place: place.into(), problem: problem.into() }
    }
}

/// Reads a price file whole.
///
/// # Errors
/// [`ImportError`], when anything in it is broken; then nothing is to be imported.
pub fn read(format: Format, text: &str, context: &Context) -> Result<Import, ImportError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(ImportError::TooLarge(text.len()));
    }
    // Editors on Windows put it there; neither JSON nor CSV wants it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut collector = Collector::default();
    match format {
        Format::ModelPrices => model_prices::read(text, &mut collector),
        Format::OpenRouter => openrouter::read(text, context, &mut collector),
        Format::LiteLlm => litellm::read(text, context, &mut collector),
        Format::Tollgate if text.trim_start().starts_with('{') => {
            tollgate::read(text, context, &mut collector)
        }
        Format::Tollgate => tollgate_csv::read(text, context, &mut collector),
    }?;
    collector.finish()
}

/// The currency of every format that does not say: they are all in US dollars.
const DEFAULT_CURRENCY: Currency = Currency::USD;
