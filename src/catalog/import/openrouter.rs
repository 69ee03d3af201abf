//! The answer of OpenRouter's `/api/v1/models`: prices in US dollars per token, as texts
//! (<https://openrouter.ai/docs/api-reference/list-available-models>).
//!
//! A price of -1 means that it depends on where the request is routed, so that such a model has no
//! price of its own and is skipped. In the optional rates zero means "not charged apart" (reasoning
//! is then output, audio is input): read as a rate, it would give those tokens away.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{
    Context, DEFAULT_CURRENCY, ImportError, ModelRecord, PriceRecord,
    collect::Collector,
    json::{self, Node},
};
use crate::{
    catalog::{
        model::{ModelStatus, Route},
        price::{Price, PriceParts, Rate, RateCard, Rates},
    },
    money::Amount,
};

const READ: [&str; 8] = [
    "prompt",
    "completion",
    "request",
    "image",
    "input_cache_read",
    "input_cache_write",
    "internal_reasoning",
    "audio",
];

pub(super) fn read(
    text: &str,
    context: &Context,
    collector: &mut Collector,
) -> Result<(), ImportError> {
    let document = json::parse(text)?;
    let mut unread = BTreeMap::<String, usize>::new();
    for model in Node::root(&document).require("data")?.items()? {
        read_model(&model, context, collector, &mut unread)?;
    }
    for (field, models) in unread {
        let text = format!("not represented, in {models} models");
        collector.report.remark(format!("pricing.{field}"), text);
    }
    Ok(())
}

fn read_model(
    model: &Node<'_>,
    context: &Context,
    collector: &mut Collector,
    unread: &mut BTreeMap<String, usize>,
) -> Result<(), ImportError> {
    let name = model.require("id")?.text()?;
    let pricing = model.require("pricing")?;
    for field in ["prompt", "completion", "request", "image"] {
        if let Some(price) = pricing.get(field)?
            && price.decimal()? == Decimal::NEGATIVE_ONE
        {
            let text = format!("{name}: {field} is -1, a price that depends on the routing");
            collector.report.skip(&model.place, text);
            return Ok(());
        }
    }
    for (field, value) in pricing.fields()? {
        let charged = value.value.is_array() || !is_zero(&value);
        if !READ.contains(&field.as_str()) && charged {
            *unread.entry(field.clone()).or_default() += 1;
        }
    }
    let mut limits = model.get("context_length")?;
    let provider = model.get("top_provider")?;
    let output = match &provider {
        Some(provider) => {
            limits = limits.or(provider.get("context_length")?);
            provider.get("max_completion_tokens")?
        }
        None => None,
    };
    collector.model(
        &model.place,
        ModelRecord {
            name: name.to_owned(),
            provider: name.split_once('/').map_or("", |(provider, _)| provider).to_owned(),
            route: Route::of_name(name),
            status: ModelStatus::Active,
            context_tokens: above_zero(limits)?,
            max_output_tokens: above_zero(output)?,
        },
    )?;
    let rates = Rates {
        input: collector.rate_of_token(&pricing.require("prompt")?)?,
        output: collector.rate_of_token(&pricing.require("completion")?)?,
        cache_read: charged_apart(&pricing, "input_cache_read", collector)?,
        cache_write: charged_apart(&pricing, "input_cache_write", collector)?,
        reasoning: charged_apart(&pricing, "internal_reasoning", collector)?,
        audio_input: charged_apart(&pricing, "audio", collector)?,
        audio_output: None,
    };
    let card = RateCard::new(rates, Vec::new()).map_err(|error| model.broken(error.to_string()))?;
    let price = Price::new(PriceParts {
        image: fee(&pricing, "image", collector)?,
        request: fee(&pricing, "request", collector)?,
        ..PriceParts::of_tokens(DEFAULT_CURRENCY, card)
    })
    .map_err(|error| pricing.broken(error.to_string()))?;
    collector.price(
        &model.place,
        PriceRecord {
            model: name.to_owned(),
            account: None,
            price,
            cost: None,
            effective_from: context.effective_from,
            source: context.source.clone(),
            source_date: context.source_date.clone(),
        },
    )
}

fn is_zero(node: &Node<'_>) -> bool {
    node.value.is_null() || node.decimal().is_ok_and(|value| value.is_zero())
}

fn above_zero(node: Option<Node<'_>>) -> Result<Option<u64>, ImportError> {
    let tokens = node.map(|node| node.whole()).transpose()?;
    Ok(tokens.filter(|tokens| *tokens > 0))
}

fn charged_apart(
    pricing: &Node<'_>,
    field: &str,
    collector: &mut Collector,
) -> Result<Option<Rate>, ImportError> {
    let rate = pricing.get(field)?.filter(|rate| !is_zero(rate));
    rate.map(|rate| collector.rate_of_token(&rate)).transpose()
}

fn fee(pricing: &Node<'_>, field: &str, collector: &mut Collector) -> Result<Amount, ImportError> {
    match pricing.get(field)? {
        Some(fee) => collector.fee(&fee.place, fee.decimal()?),
        None => Ok(Amount::ZERO),
    }
}
