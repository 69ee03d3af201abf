//! Between the contract's models and prices and the price book's. A price that cannot be taken is
//! refused by its place in the request, its model and its field.
//!
//! The command line uses it from the other side: what was read from a file becomes a publication,
//! and a price that came back becomes one that can be compared.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::convert::{BadField, currency, moment, timestamp};
use crate::{
    catalog::{
        import::{Import, ModelRecord, PriceRecord},
        model::{Model, ModelStatus, Route},
        price::{Cost, Price, PriceError, PriceParts, Rate, RateCard, Rates, Tier},
        publish::{MAX_RECORDS, Publication},
        version::{NewModel, NewPrice, PricedModel},
    },
    ids::AccountId,
    metering::quantities::Quantities,
    money::{Amount, Currency},
    proto,
};

/// Whom an account's name in a request means, and what they are charged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PricedAccount {
    /// The account.
    pub account_id: AccountId,
    /// Its currency; a price in another would never apply.
    pub currency: Currency,
}

/// Reads what is to be published. `accounts` holds every account that a price names.
pub fn publication(
    request: &proto::PublishPricesRequest,
    accounts: &BTreeMap<String, PricedAccount>,
) -> Result<Publication, BadField> {
    within_limits(request)?;
    let models = request.models.iter().enumerate();
    let prices = request.prices.iter().enumerate();
    Ok(Publication {
        models: models.map(|(index, model)| new_model(index, model)).collect::<Result<_, _>>()?,
        prices: prices
            .map(|(index, price)| new_price(index, price, accounts))
            .collect::<Result<_, _>>()?,
    })
}

/// Refuses more records than one publication may have, before anything is made of them.
pub fn within_limits(request: &proto::PublishPricesRequest) -> Result<(), BadField> {
    for (field, count) in [("models", request.models.len()), ("prices", request.prices.len())] {
        if count > MAX_RECORDS {
            let problem = format!("has {count} records; publish at most {MAX_RECORDS} at once");
            return Err(BadField::new(field, "TOO_MANY_RECORDS", problem));
        }
    }
    Ok(())
}

fn new_model(index: usize, model: &proto::Model) -> Result<NewModel, BadField> {
    let route = match proto::Route::try_from(model.route) {
        Ok(proto::Route::Unspecified) => None,
        Ok(proto::Route::Standard) => Some(Route::Standard),
        Ok(proto::Route::Dedicated) => Some(Route::Dedicated),
        Err(_) => {
            let place = Place { path: format!("models[{index}]"), model: &model.name };
            return Err(place.bad("route", "INVALID_ROUTE", "is not a route of this contract"));
        }
    };
    let known = |tokens: u64| (tokens != 0).then_some(tokens);
    Ok(NewModel {
        name: model.name.clone(),
        provider: Some(model.provider.clone()).filter(|provider| !provider.is_empty()),
        route,
        active: model.active,
        context_tokens: known(model.context_tokens),
        max_output_tokens: known(model.max_output_tokens),
    })
}

fn new_price(
    index: usize,
    message: &proto::Price,
    accounts: &BTreeMap<String, PricedAccount>,
) -> Result<NewPrice, BadField> {
    let place = Place { path: format!("prices[{index}]"), model: &message.model };
    if message.discounted_from != 0 || !message.discount_percent.is_empty() {
        let problem = "was made by a discount; publish the price it was made from";
        return Err(place.bad("discounted_from", "DISCOUNTED_PRICE", problem));
    }
    let price = read_price(&place, message)?;
    let account_id = match message.account.as_str() {
        "" => None,
        text => {
            let account = accounts.get(text).ok_or_else(|| {
                place.bad("account", "UNKNOWN_ACCOUNT", format!("there is no account {text:?}"))
            })?;
            if account.currency != price.currency() {
                let problem = format!(
                    "is {}, but {text} is charged in {}, so that the price would never apply",
                    price.currency(),
                    account.currency
                );
                return Err(place.bad("currency_code", "CURRENCY_MISMATCH", problem));
            }
            Some(account.account_id)
        }
    };
    let effective_from = message.effective_from.as_ref().ok_or_else(|| {
        let problem = "is missing; give the moment from which the price holds";
        place.bad("effective_from", "MISSING_TIMESTAMP", problem)
    })?;
    Ok(NewPrice {
        model: message.model.clone(),
        account_id,
        effective_from: moment(&place.field("effective_from"), effective_from)?,
        cost: message.cost.as_ref().map(|cost| read_cost(&place, cost)).transpose()?,
        price,
        source: message.source.clone(),
        source_date: message.source_date.clone(),
    })
}

/// Reads what a price charges. `field` is where the message is in the request.
pub fn price(field: &str, message: &proto::Price) -> Result<Price, BadField> {
    read_price(&Place { path: field.to_owned(), model: &message.model }, message)
}

fn read_price(place: &Place<'_>, message: &proto::Price) -> Result<Price, BadField> {
    let rates = match &message.rates {
        Some(rates) => read_rates(place, "rates", rates)?,
        None if message.withdrawn => Rates::default(),
        None => {
            let problem = "are missing; give input and output per million tokens, 0 where free";
            return Err(place.bad("rates", "MISSING_RATES", problem));
        }
    };
    let tier = |(index, tier): (usize, &proto::ContextTier)| {
        let rates = tier.rates.as_ref().ok_or_else(|| {
            let problem = "are missing; a tier reprices every token of the request";
            place.bad(&format!("tiers[{index}].rates"), "MISSING_RATES", problem)
        })?;
        let rates = read_rates(place, &format!("tiers[{index}].rates"), rates)?;
        Ok(Tier { above: tier.above, rates })
    };
    let tiers = message.tiers.iter().enumerate().map(tier).collect::<Result<_, _>>()?;
    let wrong =
        |field: &'static str| move |error: PriceError| place.bad(field, "INVALID_PRICE", error);
    let fee = |field: &'static str, text: &str| -> Result<Amount, BadField> {
        if text.is_empty() {
            return Ok(Amount::ZERO);
        }
        text.parse().map_err(|error| place.bad(field, "INVALID_AMOUNT", error))
    };
    Price::new(PriceParts {
        currency: currency(&place.field("currency_code"), &message.currency_code)?,
        card: RateCard::new(rates, tiers).map_err(wrong("tiers"))?,
        image: fee("image", &message.image)?,
        request: fee("request", &message.request)?,
        cached_response: fee("cached_response", &message.cached_response)?,
        withdrawn: message.withdrawn,
    })
    .map_err(|error| {
        let field = match &error {
            PriceError::Negative { what, .. }
            | PriceError::TooManyDecimals { what, .. }
            | PriceError::TooHigh { what, .. } => match *what {
                "image fee" => "image",
                "request fee" => "request",
                _ => "cached_response",
            },
            _ => "withdrawn",
        };
        place.bad(field, "INVALID_PRICE", error)
    })
}

fn read_cost(place: &Place<'_>, cost: &proto::ProviderCost) -> Result<Cost, BadField> {
    let rates = cost.rates.as_ref().ok_or_else(|| {
        let problem = "are missing; give what the provider charges, or leave the cost out";
        place.bad("cost.rates", "MISSING_RATES", problem)
    })?;
    Ok(Cost {
        currency: currency(&place.field("cost.currency_code"), &cost.currency_code)?,
        rates: read_rates(place, "cost.rates", rates)?,
    })
}

fn read_rates(place: &Place<'_>, path: &str, message: &proto::Rates) -> Result<Rates, BadField> {
    let rate = |field: &str, text: &str| -> Result<Rate, BadField> {
        if text.is_empty() {
            let problem = "is missing; give a decimal per million tokens, 0 where it is free";
            return Err(place.bad(&format!("{path}.{field}"), "MISSING_RATE", problem));
        }
        let wrong = |error| place.bad(&format!("{path}.{field}"), "INVALID_RATE", error);
        text.parse::<Rate>().map_err(wrong)
    };
    let optional = |field: &str, text: &Option<String>| {
        text.as_deref().map(|text| rate(field, text)).transpose()
    };
    Ok(Rates {
        input: rate("input", &message.input)?,
        output: rate("output", &message.output)?,
        cache_read: optional("cache_read", &message.cache_read)?,
        cache_write: optional("cache_write", &message.cache_write)?,
        reasoning: optional("reasoning", &message.reasoning)?,
        audio_input: optional("audio_input", &message.audio_input)?,
        audio_output: optional("audio_output", &message.audio_output)?,
    })
}

/// Where a record is in the request, and which model it is about.
struct Place<'a> {
    path: String,
    model: &'a str,
}

impl Place<'_> {
    fn field(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    fn bad(&self, field: &str, reason: &'static str, problem: impl std::fmt::Display) -> BadField {
        let model: String = self.model.chars().take(60).collect();
        BadField::new(self.field(field), reason, format!("{problem} (model {model:?})"))
    }
}

/// Reads quantities as usage is recorded; absurd counts are the rating's to refuse.
#[must_use]
pub const fn quantities(message: &proto::Quantities) -> Quantities {
    Quantities {
        input: message.input,
        output: message.output,
        cache_read: message.cache_read,
        cache_write: message.cache_write,
        reasoning: message.reasoning,
        audio_input: message.audio_input,
        audio_output: message.audio_output,
        images: message.images,
    }
}

/// A model with its list price, as the contract carries it.
#[must_use]
pub fn model_message(model: &Model, price: Option<&PricedModel>) -> proto::Model {
    proto::Model {
        name: model.name.clone(),
        provider: model.provider.clone(),
        route: route_message(model.route).into(),
        active: Some(model.active),
        context_tokens: model.context_tokens.unwrap_or(0),
        max_output_tokens: model.max_output_tokens.unwrap_or(0),
        price: price.map(|price| price_message(&model.name, price)),
    }
}

/// A route as the contract carries it.
#[must_use]
pub const fn route_message(route: Route) -> proto::Route {
    match route {
        Route::Standard => proto::Route::Standard,
        Route::Dedicated => proto::Route::Dedicated,
    }
}

/// A price version as the contract carries it.
#[must_use]
pub fn price_message(model: &str, version: &PricedModel) -> proto::Price {
    let account = version.account_id.map(|account| account.to_string()).unwrap_or_default();
    let dated = Dated {
        model,
        account,
        effective_from: version.effective_from,
        price: &version.price,
        cost: version.cost.as_ref(),
        source: &version.source,
        source_date: &version.source_date,
    };
    proto::Price {
        price_version: version.version.0,
        discounted_from: version.derivation.map_or(0, |derivation| derivation.from.0),
        discount_percent: version
            .derivation
            .map(|derivation| derivation.percent.normalize().to_string())
            .unwrap_or_default(),
        ..dated.message()
    }
}

/// What was read from a file, ready to be published in one call.
#[must_use]
pub fn publication_message(import: &Import, idempotency_key: &str) -> proto::PublishPricesRequest {
    proto::PublishPricesRequest {
        models: import.models.iter().map(imported_model).collect(),
        prices: import.prices.iter().map(imported_price).collect(),
        idempotency_key: idempotency_key.to_owned(),
    }
}

fn imported_model(record: &ModelRecord) -> proto::Model {
    proto::Model {
        name: record.name.clone(),
        provider: record.provider.clone(),
        route: route_message(record.route).into(),
        active: Some(record.status != ModelStatus::Removed),
        context_tokens: record.context_tokens.unwrap_or(0),
        max_output_tokens: record.max_output_tokens.unwrap_or(0),
        price: None,
    }
}

fn imported_price(record: &PriceRecord) -> proto::Price {
    let dated = Dated {
        model: &record.model,
        account: record.account.clone().unwrap_or_default(),
        effective_from: record.effective_from,
        price: &record.price,
        cost: record.cost.as_ref(),
        source: &record.source,
        source_date: &record.source_date,
    };
    dated.message()
}

/// What a price has whether it comes from a file or from the book.
struct Dated<'a> {
    model: &'a str,
    account: String,
    effective_from: DateTime<Utc>,
    price: &'a Price,
    cost: Option<&'a Cost>,
    source: &'a str,
    source_date: &'a str,
}

impl Dated<'_> {
    fn message(self) -> proto::Price {
        let price = self.price;
        let tier = |tier: &Tier| proto::ContextTier {
            above: tier.above,
            rates: Some(rates_message(&tier.rates)),
        };
        let fee = |fee: Amount| if fee.is_zero() { String::new() } else { fee.to_string() };
        proto::Price {
            price_version: 0,
            model: self.model.to_owned(),
            currency_code: price.currency().to_string(),
            effective_from: Some(timestamp(self.effective_from)),
            rates: (!price.is_withdrawn()).then(|| rates_message(price.rates())),
            tiers: price.tiers().iter().map(tier).collect(),
            image: fee(price.image()),
            request: fee(price.request()),
            cached_response: fee(price.cached_response()),
            withdrawn: price.is_withdrawn(),
            account: self.account,
            cost: self.cost.map(|cost| proto::ProviderCost {
                currency_code: cost.currency.to_string(),
                rates: Some(rates_message(&cost.rates)),
            }),
            source: self.source.to_owned(),
            source_date: self.source_date.to_owned(),
            discounted_from: 0,
            discount_percent: String::new(),
        }
    }
}

/// Rates as the contract carries them.
#[must_use]
pub fn rates_message(rates: &Rates) -> proto::Rates {
    let optional = |rate: Option<Rate>| rate.map(|rate| rate.to_string());
    proto::Rates {
        input: rates.input.to_string(),
        output: rates.output.to_string(),
        cache_read: optional(rates.cache_read),
        cache_write: optional(rates.cache_write),
        reasoning: optional(rates.reasoning),
        audio_input: optional(rates.audio_input),
        audio_output: optional(rates.audio_output),
    }
}

#[cfg(test)]
#[path = "catalog_convert_tests.rs"]
mod tests;
