//! LiteLLM's `model_prices_and_context_window.json`: one object, a model's name to its facts, in US
//! dollars per token.
//!
//! Context tiers are fields such as `input_cost_per_token_above_200k_tokens`, where 200k means
//! 200,000. A model that is sold by the second, the page or the character has no price per token
//! and is skipped, and so are modes other than those that answer with text or vectors.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Context, DEFAULT_CURRENCY, ImportError, ModelRecord, PriceRecord,
    collect::Collector,
    json::{self, Node},
};
use crate::catalog::{
    model::{ModelStatus, Route, check_name},
    price::{Price, PriceParts, Rate, RateCard, Rates, Tier},
};

/// The entry that documents the format.
const SAMPLE: &str = "sample_spec";
const MODES: [&str; 4] = ["chat", "completion", "responses", "embedding"];
const INPUT: &str = "input_cost_per_token";
const OUTPUT: &str = "output_cost_per_token";
const CACHE_READ: &str = "cache_read_input_token_cost";
const CACHE_WRITE: &str = "cache_creation_input_token_cost";
const REASONING: &str = "output_cost_per_reasoning_token";
const AUDIO_INPUT: &str = "input_cost_per_audio_token";
const AUDIO_OUTPUT: &str = "output_cost_per_audio_token";
const READ: [&str; 7] =
    [INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, REASONING, AUDIO_INPUT, AUDIO_OUTPUT];

pub(super) fn read(
    text: &str,
    context: &Context,
    collector: &mut Collector,
) -> Result<(), ImportError> {
    let document = json::parse(text)?;
    let mut unread = BTreeMap::<String, usize>::new();
    for (name, model) in Node::root(&document).fields()? {
        match why_not(name, &model)? {
            Some(reason) => collector.report.skip(name, reason),
            None => read_model(name, &model, context, collector, &mut unread)?,
        }
    }
    for (field, models) in unread {
        collector.report.remark(field, format!("not represented, in {models} models"));
    }
    Ok(())
}

/// Why an entry is not a model that can be sold by the token.
fn why_not(name: &str, model: &Node<'_>) -> Result<Option<String>, ImportError> {
    if name == SAMPLE {
        return Ok(Some("the format's own example".into()));
    }
    if let Err(error) = check_name(name) {
        return Ok(Some(error.to_string()));
    }
    let mode = model.get("mode")?;
    let mode = mode.as_ref().map(Node::text).transpose()?;
    let Some(mode) = mode.filter(|mode| MODES.contains(mode)) else {
        let mode = mode.unwrap_or("missing");
        return Ok(Some(format!("mode {mode} is not sold by the token here")));
    };
    if model.get("tiered_pricing")?.is_some() {
        return Ok(Some("tiered_pricing is not read; write its tiers into our own format".into()));
    }
    // Vectors have no output, and so embeddings often no price for it.
    let required: &[&str] = if mode == "embedding" { &[INPUT] } else { &[INPUT, OUTPUT] };
    for field in required {
        if model.get(field)?.is_none() {
            return Ok(Some(format!("{field} is missing, so it has no price per token")));
        }
    }
    Ok(None)
}

fn read_model(
    name: &str,
    model: &Node<'_>,
    context: &Context,
    collector: &mut Collector,
    unread: &mut BTreeMap<String, usize>,
) -> Result<(), ImportError> {
    let mut thresholds = BTreeSet::new();
    for (field, value) in model.fields()? {
        match READ.iter().find_map(|known| field.strip_prefix(known)) {
            Some("") => {}
            Some(suffix) if threshold(suffix).is_some() => thresholds.extend(threshold(suffix)),
            // Other ways to pay: batches, priorities, by the second, by the search.
            _ if field.contains("cost") && !value.value.is_null() => {
                *unread.entry(field.clone()).or_default() += 1;
            }
            _ => {}
        }
    }
    let base = read_rates(model, "", None, collector)?;
    let mut tiers = Vec::new();
    for above in thresholds {
        let suffix = format!("_above_{}k_tokens", above / 1000);
        tiers.push(Tier { above, rates: read_rates(model, &suffix, Some(&base), collector)? });
    }
    collector.model(
        name,
        ModelRecord {
            name: name.to_owned(),
            provider: text_of(model, "litellm_provider")?,
            route: Route::of_name(name),
            status: ModelStatus::Active,
            context_tokens: limit(model, &["max_input_tokens", "max_tokens"])?,
            max_output_tokens: limit(model, &["max_output_tokens"])?,
        },
    )?;
    let card = RateCard::new(base, tiers).map_err(|error| model.broken(error.to_string()))?;
    let price = Price::new(PriceParts::of_tokens(DEFAULT_CURRENCY, card))
        .map_err(|error| model.broken(error.to_string()))?;
    let source = text_of(model, "source")?;
    collector.price(
        name,
        PriceRecord {
            model: name.to_owned(),
            account: None,
            price,
            cost: None,
            effective_from: context.effective_from,
            source: if source.is_empty() { context.source.clone() } else { source },
            source_date: context.source_date.clone(),
        },
    )
}

/// The rates of the base price, or of a tier, where input and output that are not repriced stay
/// what they were.
fn read_rates(
    model: &Node<'_>,
    suffix: &str,
    base: Option<&Rates>,
    collector: &mut Collector,
) -> Result<Rates, ImportError> {
    let mut rate = |field: &str| -> Result<Option<Rate>, ImportError> {
        let Some(cost) = model.get(&format!("{field}{suffix}"))? else { return Ok(None) };
        collector.rate_of_token(&cost).map(Some)
    };
    let base = base.copied().unwrap_or_default();
    Ok(Rates {
        input: rate(INPUT)?.unwrap_or(base.input),
        output: rate(OUTPUT)?.unwrap_or(base.output),
        cache_read: rate(CACHE_READ)?.or(base.cache_read),
        cache_write: rate(CACHE_WRITE)?.or(base.cache_write),
        reasoning: rate(REASONING)?.or(base.reasoning),
        audio_input: rate(AUDIO_INPUT)?.or(base.audio_input),
        audio_output: rate(AUDIO_OUTPUT)?.or(base.audio_output),
    })
}

/// The prompt tokens in `_above_200k_tokens`.
fn threshold(suffix: &str) -> Option<u64> {
    let thousands = suffix.strip_prefix("_above_")?.strip_suffix("k_tokens")?;
    thousands.parse::<u64>().ok()?.checked_mul(1000)
}

fn text_of(model: &Node<'_>, field: &str) -> Result<String, ImportError> {
    let text = model.get(field)?.as_ref().map(Node::text).transpose()?;
    Ok(text.unwrap_or_default().to_owned())
}

fn limit(model: &Node<'_>, fields: &[&str]) -> Result<Option<u64>, ImportError> {
    for field in fields {
        if let Some(tokens) = model.get(field)? {
            return tokens.whole().map(|tokens| Some(tokens).filter(|tokens| *tokens > 0));
        }
    }
    Ok(None)
}
