//! Publishing prices: everything is checked before anything is written, and all of it is written in
//! one transaction or none.
//!
//! Publishing is idempotent by content. A record that the book has already changes nothing; one
//! that contradicts it is refused, because what was charged by a price must stay computable.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, SubsecRound as _, TimeZone as _, Utc};
use sqlx::PgConnection;

use crate::{
    catalog::{
        error::CatalogError,
        model::{DEDICATED_PREFIX, Route, check_name},
        store::{self, Key},
        version::{Draft, NewModel, NewPrice, PricedModel},
    },
    ids::{ModelId, PriceVersionId},
};

/// The most models, and the most prices, of one publication: more than ten times the largest
/// public price list, and a few seconds' work.
pub const MAX_RECORDS: usize = 20_000;
/// The longest text that says where a price comes from or who serves a model, in bytes.
pub const MAX_TEXT: usize = 500;
/// The years in which a price can begin to hold; what is outside was meant in another unit.
pub const YEARS: std::ops::Range<i32> = 2000..2200;

/// Models and prices that are published together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    /// Models to add or change.
    pub models: Vec<NewModel>,
    /// Prices to add.
    pub prices: Vec<NewPrice>,
}

/// What a publication did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Models that were not there before, those that only a price names among them.
    pub models_added: usize,
    /// Models of which something changed.
    pub models_updated: usize,
    /// Prices that were not there before.
    pub prices_added: usize,
    /// Prices that were there already.
    pub prices_unchanged: usize,
}

/// Checks a publication without looking at the book. The errors name the record and its field.
pub fn check(publication: &Publication) -> Result<(), CatalogError> {
    within_limit("models", publication.models.len())?;
    within_limit("prices", publication.prices.len())?;
    let mut names = HashMap::new();
    for (index, model) in publication.models.iter().enumerate() {
        check_model(model).map_err(|wrong| wrong.inside("models", index, &model.name))?;
        if let Some(first) = names.insert(model.name.as_str(), index) {
            let problem = format!("{:?} is models[{first}] already; keep one", model.name);
            return Err(Wrong { field: "name", problem }.inside("models", index, &model.name));
        }
    }
    for (index, price) in publication.prices.iter().enumerate() {
        check_price(price).map_err(|wrong| wrong.inside("prices", index, &price.model))?;
    }
    Ok(())
}

/// Publishes in the caller's transaction, which must be rolled back after an error. The other
/// instances are told when it commits; the caller reloads its own book after that.
pub async fn publish_in_transaction(
    connection: &mut PgConnection,
    publication: &Publication,
) -> Result<Published, CatalogError> {
    check(publication)?;
    store::lock_publications(connection).await?;
    let models_said: Vec<&NewModel> = publication.models.iter().collect();
    let models_named = models_only_named(publication);
    let all_models: Vec<&NewModel> = models_said.iter().copied().chain(&models_named).collect();
    let models_added = store::insert_models(connection, &all_models).await?;
    let models_updated = store::update_models(connection, &models_said).await?;

    let priced: Vec<&str> = publication.prices.iter().map(|price| price.model.as_str()).collect();
    let ids = store::model_ids(connection, &priced).await?;
    let drafts = drafts_of(&publication.prices, &ids)?;
    let prices_added = add_prices(connection, &publication.prices, &drafts).await?;

    let published = Published {
        models_added: usize::try_from(models_added).unwrap_or(usize::MAX),
        models_updated: usize::try_from(models_updated).unwrap_or(usize::MAX),
        prices_added,
        prices_unchanged: drafts.len().saturating_sub(prices_added),
    };
    if (published.models_added, published.models_updated, published.prices_added) != (0, 0, 0) {
        store::announce(connection).await?;
    }
    Ok(published)
}

/// Adds what is not there, compares the rest with what is. Returns how many were added.
async fn add_prices(
    connection: &mut PgConnection,
    prices: &[NewPrice],
    drafts: &[Draft<'_>],
) -> Result<usize, CatalogError> {
    if drafts.is_empty() {
        return Ok(0);
    }
    let added = store::insert_versions(connection, drafts).await?;
    // Of a record given twice the first was added and the second is compared with it below, after
    // the tiers of the first are there.
    let mut new_versions: HashMap<PriceVersionId, Draft<'_>> = HashMap::new();
    let mut others = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        match added.get(&key_of(draft)) {
            Some(version) if !new_versions.contains_key(version) => {
                new_versions.insert(*version, *draft);
            }
            _ => others.push((index, *draft)),
        }
    }
    let new_versions: Vec<_> = new_versions.into_iter().collect();
    store::insert_tiers(connection, &new_versions).await?;
    compare(connection, prices, &others).await?;
    Ok(new_versions.len())
}

/// Refuses the first of these that differs from what holds its place.
async fn compare(
    connection: &mut PgConnection,
    prices: &[NewPrice],
    others: &[(usize, Draft<'_>)],
) -> Result<(), CatalogError> {
    if others.is_empty() {
        return Ok(());
    }
    let drafts: Vec<_> = others.iter().map(|(_, draft)| *draft).collect();
    let there = store::versions_in_place_of(connection, &drafts).await?;
    let there: HashMap<Key, PricedModel> =
        there.into_iter().map(|version| (key_of(&Draft::of(&version)), version)).collect();
    for (index, draft) in others {
        let existing = there.get(&key_of(draft)).ok_or(CatalogError::Concurrent)?;
        let differs = if existing.price != *draft.price {
            "price"
        } else if existing.cost.as_ref() != draft.cost {
            "cost"
        } else {
            continue;
        };
        return Err(CatalogError::PriceConflict {
            index: *index,
            model: prices.get(*index).map(|price| price.model.clone()).unwrap_or_default(),
            currency: draft.price.currency(),
            effective_from: draft.effective_from,
            existing: existing.version,
            differs,
        });
    }
    Ok(())
}

/// The models that prices name and that no record of the publication describes.
fn models_only_named(publication: &Publication) -> Vec<NewModel> {
    let mut known: HashSet<&str> =
        publication.models.iter().map(|model| model.name.as_str()).collect();
    let names = publication.prices.iter().map(|price| price.model.as_str());
    names
        .filter(|name| known.insert(name))
        .map(|name| NewModel { name: name.to_owned(), ..NewModel::default() })
        .collect()
}

fn drafts_of<'a>(
    prices: &'a [NewPrice],
    ids: &HashMap<String, ModelId>,
) -> Result<Vec<Draft<'a>>, CatalogError> {
    let draft = |price: &'a NewPrice| {
        let model_id = ids.get(&price.model).copied();
        Ok(Draft {
            model_id: model_id.ok_or(CatalogError::Concurrent)?,
            account_id: price.account_id,
            effective_from: kept(price.effective_from),
            price: &price.price,
            cost: price.cost.as_ref(),
            source: &price.source,
            source_date: &price.source_date,
            derivation: None,
        })
    };
    prices.iter().map(draft).collect()
}

fn key_of(draft: &Draft<'_>) -> Key {
    (draft.model_id, draft.account_id, draft.price.currency().to_string(), draft.effective_from)
}

/// The moment as the database keeps it, to the microsecond.
fn kept(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment.trunc_subsecs(6)
}

/// What is wrong with a record, before it is known which one it is.
struct Wrong {
    field: &'static str,
    problem: String,
}

impl Wrong {
    fn inside(self, list: &str, index: usize, model: &str) -> CatalogError {
        let model: String = model.chars().take(60).collect();
        CatalogError::Field {
            field: format!("{list}[{index}].{}", self.field),
            problem: format!("{} (model {model:?})", self.problem),
        }
    }
}

fn within_limit(what: &'static str, count: usize) -> Result<(), CatalogError> {
    if count > MAX_RECORDS {
        return Err(CatalogError::TooMany { what, count, limit: MAX_RECORDS });
    }
    Ok(())
}

fn check_model(model: &NewModel) -> Result<(), Wrong> {
    check_name(&model.name).map_err(|error| Wrong { field: "name", problem: error.to_string() })?;
    if model.name.starts_with(DEDICATED_PREFIX) && model.route == Some(Route::Standard) {
        let problem = format!(
            "{} is on dedicated capacity by its name; give the dedicated route or none",
            model.name
        );
        return Err(Wrong { field: "route", problem });
    }
    check_text("provider", model.provider.as_deref().unwrap_or_default())?;
    check_tokens("context_tokens", model.context_tokens)?;
    check_tokens("max_output_tokens", model.max_output_tokens)
}

fn check_price(price: &NewPrice) -> Result<(), Wrong> {
    check_name(&price.model)
        .map_err(|error| Wrong { field: "model", problem: error.to_string() })?;
    let possible = Utc.with_ymd_and_hms(YEARS.start, 1, 1, 0, 0, 0).single()
        <= Some(price.effective_from)
        && Some(price.effective_from) < Utc.with_ymd_and_hms(YEARS.end, 1, 1, 0, 0, 0).single();
    if !possible {
        let problem = format!(
            "{} is not between {} and {}; give the moment from which the price holds",
            price.effective_from, YEARS.start, YEARS.end
        );
        return Err(Wrong { field: "effective_from", problem });
    }
    if price.price.tiers().iter().any(|tier| i64::try_from(tier.above).is_err()) {
        let problem = "no prompt has so many tokens; leave the tier out".to_owned();
        return Err(Wrong { field: "tiers", problem });
    }
    check_text("source", &price.source)?;
    check_text("source_date", &price.source_date)
}

fn check_text(field: &'static str, text: &str) -> Result<(), Wrong> {
    if text.len() > MAX_TEXT {
        let problem = format!("has {} bytes; at most {MAX_TEXT} are kept", text.len());
        return Err(Wrong { field, problem });
    }
    // Postgres cannot hold a NUL in a text.
    if text.contains('\0') {
        return Err(Wrong { field, problem: "contains a NUL character; remove it".to_owned() });
    }
    Ok(())
}

fn check_tokens(field: &'static str, count: Option<u64>) -> Result<(), Wrong> {
    match count {
        Some(0) => {
            Err(Wrong { field, problem: "is 0; leave it out where it is not known".to_owned() })
        }
        Some(count) if i64::try_from(count).is_err() => {
            Err(Wrong { field, problem: format!("{count} is beyond every model; check it") })
        }
        _ => Ok(()),
    }
}
