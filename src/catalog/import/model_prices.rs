//! The data file of the `model-prices` package: every dated price of many providers.
//!
//! `prices[provider][model][mode]` is a timeline. Mode `standard` becomes the model
//! `provider/model`; every other mode is a way to buy the same model at another price and becomes a
//! model of its own, `provider/model:mode`. A record with `start: null` holds from
//! [`BEGINNING`](super::BEGINNING), one with `rates: null` withdraws the model from its start on.
//! Every other section of the file is accounted for in the report.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::{
    BEGINNING, DEFAULT_CURRENCY, ImportError, ModelRecord, PriceRecord,
    collect::Collector,
    json::{self, Node},
};
use crate::catalog::{
    model::{ModelStatus, Route},
    price::{Price, PriceParts, Rate, RateCard, Rates, Tier},
};

/// The version of the file's layout that this reads.
const SCHEMA: u64 = 1;
const STANDARD: &str = "standard";
/// Rates, in a record and in a tier.
const RATES: [&str; 7] =
    ["input", "output", "cache_read", "cache_write", "reasoning", "audio_input", "audio_output"];
/// What else a record's rates say.
const FACTS: [&str; 6] =
    ["source", "valid_from", "valid_from_basis", "model", "cache_write_1h_multiple", "tiers"];
/// Sections beside the prices, and what becomes of them.
const SECTIONS: [(&str, &str); 7] = [
    ("aliases", "not imported: a key's models go by their full names"),
    ("bases", "not imported: each entry names another model to price it like, not a price"),
    ("estimates", "not imported: models without a price per token are not sold"),
    ("models_dev", "not imported: the file's own origin; each record names its source"),
    ("plans", "not imported: monthly subscriptions, not prices per token"),
    ("schedules", "not represented: off-peak hours; the records' own rates hold all day"),
    ("updated_at", "not imported: each record has its own date"),
];

type Statuses = HashMap<(String, String), ModelStatus>;

pub(super) fn read(text: &str, collector: &mut Collector) -> Result<(), ImportError> {
    let document = json::parse(text)?;
    let root = Node::root(&document);
    let schema = root.require("schema")?;
    if schema.whole()? != SCHEMA {
        return Err(schema.broken(format!("only version {SCHEMA} of the layout is known")));
    }
    let mut statuses = read_statuses(&root)?;
    let mut seen = Seen::default();
    for (provider, models) in root.require("prices")?.fields()? {
        for (model, modes) in models.fields()? {
            let status = statuses.remove(&(provider.clone(), model.clone())).unwrap_or_default();
            for (mode, timeline) in modes.fields()? {
                let name = if mode == STANDARD {
                    format!("{provider}/{model}")
                } else {
                    *seen.modes.entry(mode.clone()).or_default() += 1;
                    format!("{provider}/{model}:{mode}")
                };
                collector.model(
                    &timeline.place,
                    ModelRecord {
                        route: Route::of_name(&name),
                        name: name.clone(),
                        provider: provider.clone(),
                        status,
                        context_tokens: None,
                        max_output_tokens: None,
                    },
                )?;
                read_timeline(&timeline, &name, collector, &mut seen)?;
            }
        }
    }
    account_for_the_rest(&root, collector, &seen, statuses.len())
}

/// What is counted for the report.
#[derive(Default)]
struct Seen {
    modes: BTreeMap<String, usize>,
    one_hour_multiples: usize,
    corrected: usize,
    from_the_beginning: usize,
}

fn read_statuses(root: &Node<'_>) -> Result<Statuses, ImportError> {
    let mut statuses = Statuses::new();
    let Some(section) = root.get("status")? else { return Ok(statuses) };
    for (provider, models) in section.fields()? {
        for (model, status) in models.fields()? {
            let known = match status.text()? {
                "deprecated" => ModelStatus::Deprecated,
                "removed" => ModelStatus::Removed,
                other => {
                    return Err(status.broken(format!("{other:?} is not deprecated or removed")));
                }
            };
            statuses.insert((provider.clone(), model.clone()), known);
        }
    }
    Ok(statuses)
}

fn read_timeline(
    timeline: &Node<'_>,
    name: &str,
    collector: &mut Collector,
    seen: &mut Seen,
) -> Result<(), ImportError> {
    let mut previous: Option<DateTime<Utc>> = None;
    for record in timeline.items()? {
        record.only(&["start", "rates", "recorded"])?;
        let start = record.get("start")?.map(|start| start.moment()).transpose()?;
        seen.from_the_beginning += usize::from(start.is_none());
        let effective_from = start.unwrap_or(BEGINNING);
        // An equal start is a duplicate, which the collector reports with both places.
        if previous.is_some_and(|previous| effective_from < previous) {
            return Err(record.broken("begins before the record above it; sort by start"));
        }
        previous = Some(effective_from);
        seen.corrected += usize::from(record.get("recorded")?.is_some());
        let mut priced = PriceRecord {
            model: name.to_owned(),
            account: None,
            price: Price::withdrawal(DEFAULT_CURRENCY),
            cost: None,
            effective_from,
            source: String::new(),
            source_date: String::new(),
        };
        if let Some(rates) = record.get("rates")? {
            priced.price = read_price(&rates, collector, seen)?;
            rates.require("source")?.text()?.clone_into(&mut priced.source);
            rates.require("valid_from")?.text()?.clone_into(&mut priced.source_date);
        }
        collector.price(&record.place, priced)?;
    }
    Ok(())
}

fn read_price(
    node: &Node<'_>,
    collector: &mut Collector,
    seen: &mut Seen,
) -> Result<Price, ImportError> {
    node.only(&[RATES.as_slice(), FACTS.as_slice()].concat())?;
    seen.one_hour_multiples += usize::from(node.get("cache_write_1h_multiple")?.is_some());
    let rates = read_rates(node, collector)?;
    let mut tiers = Vec::new();
    if let Some(list) = node.get("tiers")? {
        for tier in list.items()? {
            tier.only(&[RATES.as_slice(), &["above"]].concat())?;
            let above = tier.require("above")?.whole()?;
            tiers.push(Tier { above, rates: read_rates(&tier, collector)? });
        }
    }
    let card = RateCard::new(rates, tiers).map_err(|error| node.broken(error.to_string()))?;
    let parts = PriceParts::of_tokens(DEFAULT_CURRENCY, card);
    Price::new(parts).map_err(|error| node.broken(error.to_string()))
}

fn read_rates(node: &Node<'_>, collector: &mut Collector) -> Result<Rates, ImportError> {
    let mut optional = |name| -> Result<Option<Rate>, ImportError> {
        let Some(rate) = node.get(name)? else { return Ok(None) };
        collector.rate(&rate.place, rate.decimal()?).map(Some)
    };
    let missing = |name| node.broken(format!("{name} is missing"));
    Ok(Rates {
        input: optional("input")?.ok_or_else(|| missing("input"))?,
        output: optional("output")?.ok_or_else(|| missing("output"))?,
        cache_read: optional("cache_read")?,
        cache_write: optional("cache_write")?,
        reasoning: optional("reasoning")?,
        audio_input: optional("audio_input")?,
        audio_output: optional("audio_output")?,
    })
}

fn account_for_the_rest(
    root: &Node<'_>,
    collector: &mut Collector,
    seen: &Seen,
    unknown_statuses: usize,
) -> Result<(), ImportError> {
    let report = &mut collector.report;
    for (mode, models) in &seen.modes {
        let text = format!("{models} models, imported as provider/model:{mode}");
        report.remark(format!("mode {mode}"), text);
    }
    let text = format!("{} prices hold from {BEGINNING}", seen.from_the_beginning);
    report.remark("start: null", text);
    let text = format!("{} prices carry a second opinion; the rates were taken", seen.corrected);
    report.remark("recorded", text);
    let text = format!(
        "not represented in {} prices: tokens kept in the cache for an hour are charged as those \
         kept for five minutes",
        seen.one_hour_multiples
    );
    report.remark("cache_write_1h_multiple", text);
    if unknown_statuses > 0 {
        let text = format!("{unknown_statuses} entries are of models without prices; left out");
        report.remark("status", text);
    }
    for (name, section) in root.fields()? {
        if matches!(name.as_str(), "schema" | "prices" | "status") {
            continue;
        }
        let known = SECTIONS.iter().find(|(section, _)| section == name);
        let fate = known.map_or("not imported: not known to this version", |(_, fate)| fate);
        let size = match section.value {
            serde_json::Value::Array(items) => format!("{} entries, ", items.len()),
            serde_json::Value::Object(fields) => format!("{} entries, ", fields.len()),
            _ => String::new(),
        };
        report.remark(name.clone(), format!("{size}{fate}"));
    }
    Ok(())
}
