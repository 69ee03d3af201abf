//! Between rows of the price book and its types, checked in both directions: a row that is no price
//! is an error that names it, never a price that is nearly right.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::{
    Postgres, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use crate::{
    catalog::{
        error::CatalogError,
        model::{Model, Route},
        price::{Cost, Price, PriceError, PriceParts, Rate, RateCard, Rates, Tier},
        version::{Derivation, Draft, NewModel, PricedModel},
    },
    ids::{AccountId, ModelId, PriceVersionId},
    money::{Amount, Currency},
};

/// A statement with its arguments.
pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// How a route is written in the database.
const fn route_name(route: Route) -> &'static str {
    match route {
        Route::Standard => "standard",
        Route::Dedicated => "dedicated",
    }
}

/// Reads a row of `model_id, name, provider, route, active, context_tokens, max_output_tokens`.
pub(super) fn model_of(row: &PgRow) -> Result<Model, CatalogError> {
    let name: String = row.try_get(1)?;
    let tokens = |index: usize| -> Result<Option<u64>, CatalogError> {
        let count: Option<i64> = row.try_get(index)?;
        let count = count.map(u64::try_from).transpose();
        count.map_err(|_| CatalogError::CorruptModel(name.clone()))
    };
    let route: &str = row.try_get(3)?;
    let route = match route {
        "standard" => Route::Standard,
        "dedicated" => Route::Dedicated,
        _ => return Err(CatalogError::CorruptModel(name)),
    };
    Ok(Model {
        model_id: row.try_get(0)?,
        provider: row.try_get(2)?,
        route,
        active: row.try_get(4)?,
        context_tokens: tokens(5)?,
        max_output_tokens: tokens(6)?,
        name,
    })
}

/// Puts versions, read as `version_columns` lists them, together with their tiers, read as
/// `price_version, above` and seven rates and sorted by both.
pub(super) fn versions_of(
    versions: &[PgRow],
    tiers: &[PgRow],
) -> Result<Vec<PricedModel>, CatalogError> {
    let mut tiers =
        tiers.iter().map(tier_of).collect::<Result<Vec<_>, _>>()?.into_iter().peekable();
    let mut assembled = Vec::with_capacity(versions.len());
    for row in versions {
        let version: PriceVersionId = row.try_get(0)?;
        let mut own = Vec::new();
        while let Some((_, tier)) = tiers.next_if(|(of, _)| *of == version) {
            own.push(tier);
        }
        assembled.push(version_of(row, version, own)?);
    }
    Ok(assembled)
}

fn version_of(
    row: &PgRow,
    version: PriceVersionId,
    tiers: Vec<Tier>,
) -> Result<PricedModel, CatalogError> {
    let corrupt = |source: PriceError| CatalogError::Corrupt { version, source };
    let currency = |code: &str| code.parse::<Currency>().map_err(|error| corrupt(error.into()));
    let fee = |index: usize| -> Result<Amount, CatalogError> {
        Amount::new(row.try_get(index)?).map_err(|error| corrupt(error.into()))
    };
    let rates = |from: usize| -> Result<Option<Rates>, CatalogError> {
        rates_of(row, from)?.map_err(corrupt)
    };
    let price = Price::new(PriceParts {
        currency: currency(row.try_get(3)?)?,
        card: RateCard::new(rates(14)?.unwrap_or_default(), tiers).map_err(corrupt)?,
        withdrawn: row.try_get(5)?,
        image: fee(6)?,
        request: fee(7)?,
        cached_response: fee(8)?,
    });
    let cost_currency: Option<&str> = row.try_get(13)?;
    let cost = match (cost_currency, rates(21)?) {
        (Some(code), Some(rates)) => Some(Cost { currency: currency(code)?, rates }),
        _ => None,
    };
    let from: Option<PriceVersionId> = row.try_get(11)?;
    let percent: Option<Decimal> = row.try_get(12)?;
    Ok(PricedModel {
        version,
        model_id: row.try_get(1)?,
        account_id: row.try_get(2)?,
        effective_from: row.try_get(4)?,
        price: price.map_err(corrupt)?,
        cost,
        source: row.try_get(9)?,
        source_date: row.try_get(10)?,
        derivation: from
            .zip(percent)
            .map(|(from, percent)| Derivation { from, percent: percent.normalize() }),
    })
}

fn tier_of(row: &PgRow) -> Result<(PriceVersionId, Tier), CatalogError> {
    let version: PriceVersionId = row.try_get(0)?;
    let above: i64 = row.try_get(1)?;
    let rates = rates_of(row, 2)?.map_err(|source| CatalogError::Corrupt { version, source })?;
    // The schema lets in only what is above zero, and zero is refused when the card is made.
    let above = u64::try_from(above).unwrap_or(0);
    Ok((version, Tier { above, rates: rates.unwrap_or_default() }))
}

/// Seven rates from this column on; `None` where there is no input rate.
fn rates_of(row: &PgRow, from: usize) -> Result<Result<Option<Rates>, PriceError>, sqlx::Error> {
    let mut columns: [Option<Decimal>; 7] = [None; 7];
    for (index, column) in (from..).zip(&mut columns) {
        *column = row.try_get(index)?;
    }
    Ok(rates_from(columns))
}

fn rates_from(columns: [Option<Decimal>; 7]) -> Result<Option<Rates>, PriceError> {
    let [input, output, cache_read, cache_write, reasoning, audio_input, audio_output] = columns;
    let rate = |value: Option<Decimal>| value.map(Rate::new).transpose();
    let Some(input) = rate(input)? else { return Ok(None) };
    Ok(Some(Rates {
        input,
        output: rate(output)?.unwrap_or_default(),
        cache_read: rate(cache_read)?,
        cache_write: rate(cache_write)?,
        reasoning: rate(reasoning)?,
        audio_input: rate(audio_input)?,
        audio_output: rate(audio_output)?,
    }))
}

/// Binds seven columns, in the order of [`rates_of`]; `None` leaves a row's rates null.
pub(super) fn bind_rates<'q>(statement: Statement<'q>, rows: &[Option<&Rates>]) -> Statement<'q> {
    let column = |of: fn(&Rates) -> Option<Rate>| -> Vec<Option<Decimal>> {
        rows.iter().map(|rates| rates.and_then(of).map(Rate::decimal)).collect()
    };
    statement
        .bind(column(|rates| Some(rates.input)))
        .bind(column(|rates| Some(rates.output)))
        .bind(column(|rates| rates.cache_read))
        .bind(column(|rates| rates.cache_write))
        .bind(column(|rates| rates.reasoning))
        .bind(column(|rates| rates.audio_input))
        .bind(column(|rates| rates.audio_output))
}

/// Binds what `inserted_columns` lists, as 27 columns.
pub(super) fn bind_drafts<'q>(statement: Statement<'q>, drafts: &[Draft<'_>]) -> Statement<'q> {
    let derived = |draft: &Draft<'_>| draft.derivation.map(|made| made.from);
    let percent = |draft: &Draft<'_>| draft.derivation.map(|made| made.percent);
    let cost_currency = |draft: &Draft<'_>| draft.cost.map(|cost| cost.currency.to_string());
    let statement = bind_keys(statement, drafts)
        .bind(column(drafts, |draft| draft.price.is_withdrawn()))
        .bind(column(drafts, |draft| draft.price.image().decimal()))
        .bind(column(drafts, |draft| draft.price.request().decimal()))
        .bind(column(drafts, |draft| draft.price.cached_response().decimal()))
        .bind(column(drafts, |draft| draft.source.to_owned()))
        .bind(column(drafts, |draft| draft.source_date.to_owned()))
        .bind(column(drafts, derived))
        .bind(column(drafts, percent))
        .bind(column(drafts, cost_currency));
    let statement = bind_rates(statement, &column(drafts, |draft| Some(draft.price.rates())));
    bind_rates(statement, &column(drafts, |draft| draft.cost.map(|cost| &cost.rates)))
}

/// Binds model, account, currency and moment, as 4 columns.
pub(super) fn bind_keys<'q>(statement: Statement<'q>, drafts: &[Draft<'_>]) -> Statement<'q> {
    statement
        .bind::<Vec<ModelId>>(column(drafts, |draft| draft.model_id))
        .bind::<Vec<Option<AccountId>>>(column(drafts, |draft| draft.account_id))
        .bind::<Vec<String>>(column(drafts, |draft| draft.price.currency().to_string()))
        .bind::<Vec<DateTime<Utc>>>(column(drafts, |draft| draft.effective_from))
}

/// Binds name, default route and what is said of each model, as 7 columns.
pub(super) fn bind_models<'q>(statement: Statement<'q>, models: &[&NewModel]) -> Statement<'q> {
    // A count of tokens beyond 63 bits was refused when the publication was checked.
    let tokens = |count: Option<u64>| count.and_then(|count| i64::try_from(count).ok());
    let route = |route: Route| route_name(route).to_owned();
    statement
        .bind(column(models, |model| model.name.clone()))
        .bind(column(models, |model| route(Route::of_name(&model.name))))
        .bind(column(models, |model| model.provider.clone()))
        .bind(column(models, |model| model.route.map(route)))
        .bind(column(models, |model| model.active))
        .bind(column(models, |model| tokens(model.context_tokens)))
        .bind(column(models, |model| tokens(model.max_output_tokens)))
}

fn column<'a, T, V>(rows: &'a [T], value: impl Fn(&'a T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}
