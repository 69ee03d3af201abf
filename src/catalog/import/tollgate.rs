//! Our own format, described in `docs/price-book-format.md`: here as JSON, and what its CSV shares.
//!
//! It is written by people who mean what they write, so that nothing is rounded and no field is
//! ignored: a seventh decimal or a misspelt column is an error.

use chrono::{DateTime, Utc};

use super::{
    Context, DEFAULT_CURRENCY, ImportError, ModelRecord, PriceRecord,
    collect::Collector,
    json::{self, Node},
};
use crate::{
    catalog::{
        model::{ModelStatus, Route},
        price::{Cost, Price, PriceParts, Rate, RateCard, Rates, Tier},
    },
    money::{Amount, Currency},
};

/// What the document calls itself.
const FORMAT: &str = "tollgate-prices";
/// The version of the format that this reads.
const VERSION: u64 = 1;
/// What a model has beside its prices.
pub(super) const MODEL_FIELDS: [&str; 5] =
    ["provider", "route", "status", "context_tokens", "max_output_tokens"];
pub(super) const RATE_FIELDS: [&str; 7] =
    ["input", "output", "cache_read", "cache_write", "reasoning", "audio_input", "audio_output"];
/// What a price has beside its rates.
pub(super) const PRICE_FIELDS: [&str; 9] = [
    "account",
    "currency",
    "effective_from",
    "withdrawn",
    "image",
    "request",
    "cached_response",
    "source",
    "source_date",
];

/// What holds for every price that does not say otherwise.
pub(super) struct Defaults {
    pub currency: Currency,
    pub effective_from: DateTime<Utc>,
    pub source: String,
    pub source_date: String,
}

impl Defaults {
    pub(super) fn of(context: &Context) -> Self {
        Self {
            currency: DEFAULT_CURRENCY,
            effective_from: context.effective_from,
            source: context.source.clone(),
            source_date: context.source_date.clone(),
        }
    }

    fn read(&mut self, node: &Node<'_>) -> Result<(), ImportError> {
        node.only(&["currency", "effective_from", "source", "source_date"])?;
        self.currency = currency(node, "currency")?.unwrap_or(self.currency);
        if let Some(moment) = node.get("effective_from")? {
            self.effective_from = moment.moment()?;
        }
        if let Some(source) = text(node, "source")? {
            self.source = source;
        }
        if let Some(date) = text(node, "source_date")? {
            self.source_date = date;
        }
        Ok(())
    }
}

pub(super) fn read(
    text: &str,
    context: &Context,
    collector: &mut Collector,
) -> Result<(), ImportError> {
    let document = json::parse(text)?;
    let root = Node::root(&document);
    root.only(&["format", "version", "defaults", "models"])?;
    let (format, version) = (root.require("format")?, root.require("version")?);
    if format.text()? != FORMAT {
        return Err(format.broken(format!("{FORMAT:?} belongs here")));
    }
    if version.whole()? != VERSION {
        return Err(version.broken(format!("only version {VERSION} of the format is known")));
    }
    let mut defaults = Defaults::of(context);
    if let Some(node) = root.get("defaults")? {
        defaults.read(&node)?;
    }
    for model in root.require("models")?.items()? {
        model.only(&[MODEL_FIELDS.as_slice(), &["name", "prices"]].concat())?;
        let name = model.require("name")?.text()?;
        if collector.knows(name) {
            return Err(model.broken(format!("{name} is there twice; put all its prices into one")));
        }
        collector.model(&model.place, read_model(&model, name)?)?;
        let Some(prices) = model.get("prices")? else { continue };
        for price in prices.items()? {
            price.only(&[PRICE_FIELDS.as_slice(), &RATE_FIELDS, &["tiers", "cost"]].concat())?;
            collector.price(&price.place, read_price(&price, name, &defaults)?)?;
        }
    }
    Ok(())
}

pub(super) fn read_model(node: &Node<'_>, name: &str) -> Result<ModelRecord, ImportError> {
    let route = match node.get("route")? {
        None => Route::of_name(name),
        Some(route) => match route.text()? {
            "STANDARD" => Route::Standard,
            "DEDICATED" => Route::Dedicated,
            _ => return Err(route.broken("STANDARD or DEDICATED belongs here")),
        },
    };
    let status = match node.get("status")? {
        None => ModelStatus::Active,
        Some(status) => match status.text()? {
            "active" => ModelStatus::Active,
            "deprecated" => ModelStatus::Deprecated,
            "removed" => ModelStatus::Removed,
            _ => return Err(status.broken("active, deprecated or removed belongs here")),
        },
    };
    let tokens = |field| node.get(field)?.map(|tokens| tokens.whole()).transpose();
    Ok(ModelRecord {
        name: name.to_owned(),
        provider: text(node, "provider")?.unwrap_or_default(),
        route,
        status,
        context_tokens: tokens("context_tokens")?,
        max_output_tokens: tokens("max_output_tokens")?,
    })
}

pub(super) fn read_price(
    node: &Node<'_>,
    model: &str,
    defaults: &Defaults,
) -> Result<PriceRecord, ImportError> {
    let withdrawn = node.get("withdrawn")?.map_or(Ok(false), |withdrawn| withdrawn.boolean())?;
    let says_nothing = |fields: &[&str]| -> Result<bool, ImportError> {
        Ok(fields.iter().all(|field| matches!(node.get(field), Ok(None))))
    };
    // A withdrawal has no rates; anything else has to say at least input and output.
    let rates =
        if withdrawn && says_nothing(&RATE_FIELDS)? { Rates::default() } else { read_rates(node)? };
    let mut tiers = Vec::new();
    if let Some(list) = node.get("tiers")? {
        for tier in list.items()? {
            tier.only(&[RATE_FIELDS.as_slice(), &["above"]].concat())?;
            tiers.push(Tier { above: tier.require("above")?.whole()?, rates: read_rates(&tier)? });
        }
    }
    let card = RateCard::new(rates, tiers).map_err(|error| node.broken(error.to_string()))?;
    let price = Price::new(PriceParts {
        currency: currency(node, "currency")?.unwrap_or(defaults.currency),
        card,
        image: fee(node, "image")?,
        request: fee(node, "request")?,
        cached_response: fee(node, "cached_response")?,
        withdrawn,
    })
    .map_err(|error| node.broken(error.to_string()))?;
    let effective_from = node.get("effective_from")?.map(|moment| moment.moment()).transpose()?;
    Ok(PriceRecord {
        model: model.to_owned(),
        account: text(node, "account")?,
        cost: read_cost(node, price.currency())?,
        price,
        effective_from: effective_from.unwrap_or(defaults.effective_from),
        source: text(node, "source")?.unwrap_or_else(|| defaults.source.clone()),
        source_date: text(node, "source_date")?.unwrap_or_else(|| defaults.source_date.clone()),
    })
}

fn read_cost(node: &Node<'_>, price_currency: Currency) -> Result<Option<Cost>, ImportError> {
    let Some(cost) = node.get("cost")? else { return Ok(None) };
    cost.only(&[RATE_FIELDS.as_slice(), &["currency"]].concat())?;
    let currency = currency(&cost, "currency")?.unwrap_or(price_currency);
    Ok(Some(Cost { currency, rates: read_rates(&cost)? }))
}

fn read_rates(node: &Node<'_>) -> Result<Rates, ImportError> {
    let rate = |field| -> Result<Option<Rate>, ImportError> {
        let Some(rate) = node.get(field)? else { return Ok(None) };
        Rate::new(rate.decimal()?).map(Some).map_err(|error| rate.broken(error.to_string()))
    };
    let missing = |field| node.broken(format!("{field} is missing; write 0 if it is free"));
    Ok(Rates {
        input: rate("input")?.ok_or_else(|| missing("input"))?,
        output: rate("output")?.ok_or_else(|| missing("output"))?,
        cache_read: rate("cache_read")?,
        cache_write: rate("cache_write")?,
        reasoning: rate("reasoning")?,
        audio_input: rate("audio_input")?,
        audio_output: rate("audio_output")?,
    })
}

fn fee(node: &Node<'_>, field: &str) -> Result<Amount, ImportError> {
    let Some(fee) = node.get(field)? else { return Ok(Amount::ZERO) };
    Amount::new(fee.decimal()?).map_err(|error| fee.broken(error.to_string()))
}

fn currency(node: &Node<'_>, field: &str) -> Result<Option<Currency>, ImportError> {
    let Some(code) = node.get(field)? else { return Ok(None) };
    let parsed = code.text()?.parse::<Currency>();
    parsed.map(Some).map_err(|error| code.broken(error.to_string()))
}

fn text(node: &Node<'_>, field: &str) -> Result<Option<String>, ImportError> {
    let text = node.get(field)?.as_ref().map(Node::text).transpose()?;
    Ok(text.map(str::to_owned))
}
