//! The SQL of the price book. Writes take whole columns (`UNNEST`), so that a publication of
//! thousands of prices is a handful of statements.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgPool, Row as _};

use crate::{
    catalog::{
        error::CatalogError,
        model::Model,
        price::Tier,
        rows::{bind_drafts, bind_keys, bind_models, bind_rates, model_of, versions_of},
        version::{Draft, NewModel, PricedModel},
    },
    ids::{AccountId, ModelId, PriceVersionId},
};

/// Serialises publications of all instances; the number only has to differ from other locks'.
const PUBLICATION_LOCK: i64 = 0x0070_7269_6365_7300;

/// The columns of a price version that are given when it is made, in the order that `bind_drafts`
/// binds them.
macro_rules! inserted_columns {
    () => {
        "model_id, account_id, currency, effective_from, withdrawn, image, request,
         cached_response, source, source_date, discounted_from, discount_percent, cost_currency,
         input, output, cache_read, cache_write, reasoning, audio_input, audio_output,
         cost_input, cost_output, cost_cache_read, cost_cache_write, cost_reasoning,
         cost_audio_input, cost_audio_output"
    };
}

/// The columns of a price version in the order that `versions_of` reads them.
macro_rules! version_columns {
    () => {
        concat!("price_version, ", inserted_columns!())
    };
}

/// The columns of a context tier in the order that `versions_of` reads them.
macro_rules! tier_columns {
    () => {
        "price_version, above, input, output, cache_read, cache_write, reasoning, audio_input,
         audio_output"
    };
}

/// The whole book as one moment shows it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub models: Vec<Model>,
    pub versions: Vec<PricedModel>,
}

/// Loads every model and version in one snapshot of the database, so that no version comes without
/// its tiers or its model.
pub(super) async fn load(pool: &PgPool) -> Result<Loaded, CatalogError> {
    let mut transaction =
        pool.begin_with("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let models = sqlx::query(
        "SELECT model_id, name, provider, route, active, context_tokens, max_output_tokens
         FROM models",
    )
    .fetch_all(&mut *transaction)
    .await?;
    let versions = versions_in(&mut transaction).await?;
    transaction.commit().await?;
    Ok(Loaded { models: models.iter().map(model_of).collect::<Result<_, _>>()?, versions })
}

/// Every version there is, as this transaction sees it.
pub(crate) async fn versions_in(
    connection: &mut PgConnection,
) -> Result<Vec<PricedModel>, CatalogError> {
    let versions = sqlx::query(concat!(
        "SELECT ",
        version_columns!(),
        " FROM price_versions ORDER BY price_version"
    ))
    .fetch_all(&mut *connection)
    .await?;
    let tiers = sqlx::query(concat!(
        "SELECT ",
        tier_columns!(),
        " FROM price_tiers ORDER BY price_version, above"
    ))
    .fetch_all(&mut *connection)
    .await?;
    versions_of(&versions, &tiers)
}

/// One version by its number.
pub(super) async fn version(
    pool: &PgPool,
    version: PriceVersionId,
) -> Result<Option<PricedModel>, CatalogError> {
    let mut connection = pool.acquire().await?;
    Ok(versions(&mut connection, &[version]).await?.pop())
}

/// The versions of these numbers, in their order.
async fn versions(
    connection: &mut PgConnection,
    wanted: &[PriceVersionId],
) -> Result<Vec<PricedModel>, CatalogError> {
    let versions = sqlx::query(concat!(
        "SELECT ",
        version_columns!(),
        " FROM price_versions WHERE price_version = ANY($1) ORDER BY price_version"
    ))
    .bind(wanted)
    .fetch_all(&mut *connection)
    .await?;
    // A version's tiers were committed with it, so this later statement sees them all.
    let tiers = sqlx::query(concat!(
        "SELECT ",
        tier_columns!(),
        " FROM price_tiers WHERE price_version = ANY($1) ORDER BY price_version, above"
    ))
    .bind(wanted)
    .fetch_all(connection)
    .await?;
    versions_of(&versions, &tiers)
}

/// What a discount has made of these versions.
pub(super) async fn discounts_of(
    pool: &PgPool,
    list: &[PriceVersionId],
    percent: Decimal,
) -> Result<Vec<PricedModel>, CatalogError> {
    let mut connection = pool.acquire().await?;
    let made: Vec<PriceVersionId> = sqlx::query_scalar(
        "SELECT price_version FROM price_versions
         WHERE discounted_from = ANY($1) AND discount_percent = $2",
    )
    .bind(list)
    .bind(percent)
    .fetch_all(&mut *connection)
    .await?;
    versions(&mut connection, &made).await
}

/// Keeps a discounted price, or finds the same one that another instance kept first.
pub(super) async fn derive(pool: &PgPool, draft: Draft<'_>) -> Result<PricedModel, CatalogError> {
    let mut transaction = pool.begin().await?;
    let inserted = insert_versions(&mut transaction, &[draft]).await?;
    let version = if let Some(version) = inserted.into_values().next() {
        insert_tiers(&mut transaction, &[(version, draft)]).await?;
        version
    } else {
        // The insert waited for whoever held the same pair, so their row is committed, and this
        // statement, which begins after it, sees it.
        sqlx::query_scalar(
            "SELECT price_version FROM price_versions
             WHERE discounted_from = $1 AND discount_percent = $2",
        )
        .bind(draft.derivation.map(|made| made.from))
        .bind(draft.derivation.map(|made| made.percent))
        .fetch_one(&mut *transaction)
        .await?
    };
    let found = versions(&mut transaction, &[version]).await?.pop();
    transaction.commit().await?;
    found.ok_or(CatalogError::Concurrent)
}

/// Lets one publication through at a time, until the transaction ends. Without it, two that share
/// models in a different order could wait for each other.
pub(super) async fn lock_publications(connection: &mut PgConnection) -> Result<(), CatalogError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(PUBLICATION_LOCK)
        .execute(connection)
        .await?;
    Ok(())
}

/// Adds the models that are not there; what is not said takes its default. Returns how many.
pub(super) async fn insert_models(
    connection: &mut PgConnection,
    models: &[&NewModel],
) -> Result<u64, CatalogError> {
    let statement = sqlx::query(
        "INSERT INTO models (name, provider, route, active, context_tokens, max_output_tokens)
         SELECT name, coalesce(provider, ''), coalesce(route, default_route),
                coalesce(active, true), context_tokens, max_output_tokens
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[],
                     $6::bigint[], $7::bigint[])
              AS new (name, default_route, provider, route, active, context_tokens,
                      max_output_tokens)
         ON CONFLICT (name) DO NOTHING",
    );
    Ok(bind_models(statement, models).execute(connection).await?.rows_affected())
}

/// Changes what is said and differs; what is not said stays. Returns how many models changed.
pub(super) async fn update_models(
    connection: &mut PgConnection,
    models: &[&NewModel],
) -> Result<u64, CatalogError> {
    let statement = sqlx::query(
        "UPDATE models
         SET provider = said.provider, route = said.route, active = said.active,
             context_tokens = said.context_tokens, max_output_tokens = said.max_output_tokens
         FROM (SELECT old.model_id,
                      coalesce(new.provider, old.provider)                   AS provider,
                      coalesce(new.route, old.route)                         AS route,
                      coalesce(new.active, old.active)                       AS active,
                      coalesce(new.context_tokens, old.context_tokens)       AS context_tokens,
                      coalesce(new.max_output_tokens, old.max_output_tokens) AS max_output_tokens
               FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[],
                           $6::bigint[], $7::bigint[])
                    AS new (name, default_route, provider, route, active, context_tokens,
                            max_output_tokens)
               JOIN models old USING (name)) said
         WHERE models.model_id = said.model_id
           AND (models.provider, models.route, models.active, models.context_tokens,
                models.max_output_tokens)
               IS DISTINCT FROM
               (said.provider, said.route, said.active, said.context_tokens,
                said.max_output_tokens)",
    );
    Ok(bind_models(statement, models).execute(connection).await?.rows_affected())
}

/// The numbers of these models.
pub(super) async fn model_ids(
    connection: &mut PgConnection,
    names: &[&str],
) -> Result<HashMap<String, ModelId>, CatalogError> {
    let rows = sqlx::query("SELECT name, model_id FROM models WHERE name = ANY($1)")
        .bind(names)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// What two prices may not share: model, account, currency and moment.
pub(super) type Key = (ModelId, Option<AccountId>, String, DateTime<Utc>);

/// Keeps those versions whose place is free and returns their numbers by key.
pub(super) async fn insert_versions(
    connection: &mut PgConnection,
    drafts: &[Draft<'_>],
) -> Result<HashMap<Key, PriceVersionId>, CatalogError> {
    let statement = sqlx::query(concat!(
        "INSERT INTO price_versions (",
        inserted_columns!(),
        ") SELECT * FROM UNNEST(
             $1::integer[], $2::uuid[], $3::text[], $4::timestamptz[], $5::boolean[],
             $6::numeric[], $7::numeric[], $8::numeric[], $9::text[], $10::text[],
             $11::bigint[], $12::numeric[], $13::text[],
             $14::numeric[], $15::numeric[], $16::numeric[], $17::numeric[], $18::numeric[],
             $19::numeric[], $20::numeric[],
             $21::numeric[], $22::numeric[], $23::numeric[], $24::numeric[], $25::numeric[],
             $26::numeric[], $27::numeric[])
         ON CONFLICT DO NOTHING
         RETURNING price_version, model_id, account_id, currency, effective_from"
    ));
    let rows = bind_drafts(statement, drafts).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let key = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
            Ok((key, row.try_get(0)?))
        })
        .collect()
}

/// The published versions, not those made by a discount, that hold these drafts' places.
pub(super) async fn versions_in_place_of(
    connection: &mut PgConnection,
    drafts: &[Draft<'_>],
) -> Result<Vec<PricedModel>, CatalogError> {
    let statement = sqlx::query(
        "SELECT there.price_version
         FROM UNNEST($1::integer[], $2::uuid[], $3::text[], $4::timestamptz[])
              AS new (model_id, account_id, currency, effective_from)
         JOIN price_versions there USING (model_id, currency, effective_from)
         WHERE there.account_id IS NOT DISTINCT FROM new.account_id
           AND there.discounted_from IS NULL",
    );
    let rows = bind_keys(statement, drafts).fetch_all(&mut *connection).await?;
    let wanted = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<_>, _>>()?;
    versions(connection, &wanted).await
}

/// Keeps the context tiers of versions just inserted.
pub(super) async fn insert_tiers(
    connection: &mut PgConnection,
    versions: &[(PriceVersionId, Draft<'_>)],
) -> Result<(), CatalogError> {
    let tiers: Vec<(PriceVersionId, &Tier)> = versions
        .iter()
        .flat_map(|(version, draft)| draft.price.tiers().iter().map(|tier| (*version, tier)))
        .collect();
    if tiers.is_empty() {
        return Ok(());
    }
    let statement = sqlx::query(concat!(
        "INSERT INTO price_tiers (",
        tier_columns!(),
        ") SELECT * FROM UNNEST(
             $1::bigint[], $2::bigint[], $3::numeric[], $4::numeric[], $5::numeric[],
             $6::numeric[], $7::numeric[], $8::numeric[], $9::numeric[])"
    ))
    .bind(tiers.iter().map(|(version, _)| *version).collect::<Vec<_>>())
    // A threshold beyond 63 bits was refused when the publication was checked.
    .bind(tiers.iter().map(|(_, tier)| i64::try_from(tier.above).ok()).collect::<Vec<_>>());
    let rates: Vec<_> = tiers.iter().map(|(_, tier)| Some(&tier.rates)).collect();
    bind_rates(statement, &rates).execute(connection).await?;
    Ok(())
}

/// Tells every instance, when the transaction commits, that the book has changed.
pub(super) async fn announce(connection: &mut PgConnection) -> Result<(), CatalogError> {
    sqlx::query("SELECT pg_notify('tollgate_changed', 'prices:*')").execute(connection).await?;
    Ok(())
}
