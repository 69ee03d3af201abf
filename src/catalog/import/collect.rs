//! Where every format puts its models and prices, and where duplicates are found.

use std::collections::{HashMap, hash_map::Entry};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::{Import, ImportError, MAX_RECORDS, ModelRecord, Note, PriceRecord, Report, json::Node};
use crate::{
    catalog::{
        model::{ModelStatus, Route, check_name},
        price::{PRICE_DECIMALS, Rate},
    },
    money::{Amount, Currency},
};

/// What a price record must not share with another one.
type PriceKey = (String, Option<String>, Currency, DateTime<Utc>);

/// Models and prices on their way out of a file.
#[derive(Default)]
pub(super) struct Collector {
    pub report: Report,
    models: Vec<ModelRecord>,
    model_places: HashMap<String, (usize, String)>,
    prices: Vec<PriceRecord>,
    price_places: HashMap<PriceKey, String>,
}

impl Collector {
    /// Adds a model that the file describes in one place. What several places say of one model,
    /// as lines of a CSV file do, must agree.
    pub(super) fn model(&mut self, place: &str, model: ModelRecord) -> Result<(), ImportError> {
        check_name(&model.name).map_err(|error| ImportError::broken(place, error.to_string()))?;
        if Route::of_name(&model.name) == Route::Dedicated && model.route == Route::Standard {
            let problem = format!("{} begins with Pro/, so its route is DEDICATED", model.name);
            return Err(ImportError::broken(place, problem));
        }
        for (field, tokens) in [
            ("context_tokens", model.context_tokens),
            ("max_output_tokens", model.max_output_tokens),
        ] {
            if tokens.is_some_and(|tokens| tokens == 0 || i64::try_from(tokens).is_err()) {
                let problem = format!("{field} must be above zero; leave it out if unknown");
                return Err(ImportError::broken(place, problem));
            }
        }
        match self.model_places.entry(model.name.clone()) {
            Entry::Vacant(entry) => {
                entry.insert((self.models.len(), place.to_owned()));
                self.models.push(model);
            }
            Entry::Occupied(entry) => {
                let (position, first) = entry.get();
                if self.models.get(*position) != Some(&model) {
                    let problem = format!("describes {} otherwise than {first} does", model.name);
                    return Err(ImportError::broken(place, problem));
                }
            }
        }
        Ok(())
    }

    /// Whether a model of that name was added.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.model_places.contains_key(name)
    }

    /// Adds a price of a model that was added before.
    pub(super) fn price(&mut self, place: &str, price: PriceRecord) -> Result<(), ImportError> {
        if self.prices.len() >= MAX_RECORDS {
            return Err(ImportError::TooManyRecords);
        }
        let currency = price.price.currency();
        let key = (price.model.clone(), price.account.clone(), currency, price.effective_from);
        if let Some(first) = self.price_places.insert(key, place.to_owned()) {
            return Err(ImportError::Duplicate {
                effective_from: moment_text(price.effective_from),
                model: price.model,
                first,
                second: place.to_owned(),
            });
        }
        self.prices.push(price);
        Ok(())
    }

    /// A foreign file's rate per million tokens, rounded half-up if it must be.
    pub(super) fn rate(&mut self, place: &str, value: Decimal) -> Result<Rate, ImportError> {
        let rate =
            Rate::rounded(value).map_err(|error| ImportError::broken(place, error.to_string()))?;
        self.note_rounding(place, value, rate.decimal());
        Ok(rate)
    }

    /// A foreign file's rate per token, taken to a million tokens.
    pub(super) fn rate_of_token(&mut self, node: &Node<'_>) -> Result<Rate, ImportError> {
        let per_million = node.decimal()?.checked_mul(Decimal::from(1_000_000));
        let per_million = per_million.ok_or_else(|| node.broken("no token costs that much"))?;
        self.rate(&node.place, per_million)
    }

    /// A foreign file's fee per unit, rounded half-up if it must be.
    pub(super) fn fee(&mut self, place: &str, value: Decimal) -> Result<Amount, ImportError> {
        let rate = self.rate(place, value)?;
        Amount::new(rate.decimal()).map_err(|error| ImportError::broken(place, error.to_string()))
    }

    fn note_rounding(&mut self, place: &str, value: Decimal, rounded: Decimal) {
        if value != rounded {
            let text = format!("{value} rounded half-up to {rounded} ({PRICE_DECIMALS} decimals)");
            self.report.changed.push(Note { place: place.to_owned(), text });
        }
    }

    /// The whole, with the counts of the report filled in.
    pub(super) fn finish(mut self) -> Result<Import, ImportError> {
        if self.prices.is_empty() {
            let reason = match self.report.skipped.first() {
                Some(note) => format!("{}: {}", note.place, note.text),
                None => "it is empty".to_owned(),
            };
            return Err(ImportError::Empty(reason));
        }
        let report = &mut self.report;
        report.models = self.models.len();
        report.prices = self.prices.len();
        report.withdrawn = self.prices.iter().filter(|price| price.price.is_withdrawn()).count();
        for price in self.prices.iter().filter(|price| price.price.is_free()) {
            if !report.free.contains(&price.model) {
                report.free.push(price.model.clone());
            }
        }
        for model in &self.models {
            match model.status {
                ModelStatus::Active => {}
                ModelStatus::Deprecated => report.deprecated.push(model.name.clone()),
                ModelStatus::Removed => report.removed.push(model.name.clone()),
            }
        }
        Ok(Import { models: self.models, prices: self.prices, report: self.report })
    }
}

fn moment_text(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}
