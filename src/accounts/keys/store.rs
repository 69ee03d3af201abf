//! The rows of issued keys.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgExecutor, Row as _, postgres::PgRow};

use crate::{
    accounts::{
        key::Tier,
        keys::record::{KeyRecord, KeyTerms, ModelPatterns, Rates, SpikeGuard},
        store::{amount_of, decode},
    },
    ids::{AccountId, KeyId},
    money::Amount,
};

macro_rules! select_key {
    ($rest:literal) => {
        concat!(
            "SELECT key_id, account_id, name, tier, key_hash, hint, allowed_models,
                    max_tokens_per_request, max_cost_per_request, created_at, expires_at,
                    revoked_at, revoked_reason, rotated_from, lineage, project,
                    requests_per_minute, tokens_per_minute, spike_mode, spike_multiple, spike_floor
               FROM api_keys ",
            $rest
        )
    };
}

/// The key with this hash.
pub(in crate::accounts) async fn by_hash(
    executor: impl PgExecutor<'_>,
    hash: &[u8; 32],
) -> sqlx::Result<Option<KeyRecord>> {
    sqlx::query(select_key!("WHERE key_hash = $1"))
        .bind(hash.as_slice())
        .fetch_optional(executor)
        .await?
        .map(|row| key_of(&row))
        .transpose()
}

/// The key with this id.
pub(in crate::accounts) async fn key(
    executor: impl PgExecutor<'_>,
    key: KeyId,
) -> sqlx::Result<Option<KeyRecord>> {
    sqlx::query(select_key!("WHERE key_id = $1"))
        .bind(key)
        .fetch_optional(executor)
        .await?
        .map(|row| key_of(&row))
        .transpose()
}

/// The key with this id, locked until the transaction ends: changes of one key follow each other.
pub(super) async fn lock(
    connection: &mut PgConnection,
    key: KeyId,
) -> sqlx::Result<Option<KeyRecord>> {
    sqlx::query(select_key!("WHERE key_id = $1 FOR UPDATE"))
        .bind(key)
        .fetch_optional(connection)
        .await?
        .map(|row| key_of(&row))
        .transpose()
}

/// The keys with these hashes, in the order of their ids, locked until the transaction ends.
pub(super) async fn lock_by_hash(
    connection: &mut PgConnection,
    hashes: &[[u8; 32]],
) -> sqlx::Result<Vec<KeyRecord>> {
    let hashes: Vec<&[u8]> = hashes.iter().map(<[u8; 32]>::as_slice).collect();
    sqlx::query(select_key!("WHERE key_hash = ANY ($1) ORDER BY key_id FOR UPDATE"))
        .bind(hashes)
        .fetch_all(connection)
        .await?
        .iter()
        .map(key_of)
        .collect()
}

/// An account's keys in the order in which they were issued, from after one of them.
pub(super) async fn keys(
    executor: impl PgExecutor<'_>,
    account: AccountId,
    after: Option<KeyId>,
    limit: i64,
) -> sqlx::Result<Vec<KeyRecord>> {
    sqlx::query(select_key!(
        "WHERE account_id = $1 AND ($2::uuid IS NULL OR key_id > $2)
         ORDER BY key_id
         LIMIT $3"
    ))
    .bind(account)
    .bind(after)
    .bind(limit)
    .fetch_all(executor)
    .await?
    .iter()
    .map(key_of)
    .collect()
}

/// The key that succeeded this one by rotation and was not revoked since.
pub(super) async fn successor(
    connection: &mut PgConnection,
    key: KeyId,
    account: AccountId,
) -> sqlx::Result<Option<KeyId>> {
    sqlx::query_scalar(
        "SELECT key_id
           FROM api_keys
          WHERE account_id = $2 AND rotated_from = $1 AND revoked_at IS NULL
          ORDER BY key_id
          LIMIT 1",
    )
    .bind(key)
    .bind(account)
    .fetch_optional(connection)
    .await
}

/// The status of an account, which cannot change until the transaction ends: an account that is
/// being closed gets no new key.
pub(super) async fn hold_account_status(
    connection: &mut PgConnection,
    account: AccountId,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("SELECT status FROM accounts WHERE account_id = $1 FOR SHARE")
        .bind(account)
        .fetch_optional(connection)
        .await
}

/// Inserts a key.
pub(super) async fn insert(connection: &mut PgConnection, key: &KeyRecord) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO api_keys (key_id, account_id, name, tier, key_hash, hint, allowed_models,
                               max_tokens_per_request, max_cost_per_request, created_at,
                               expires_at, rotated_from, lineage, project, requests_per_minute,
                               tokens_per_minute, spike_mode, spike_multiple, spike_floor)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                 $19)",
    )
    .bind(key.key_id)
    .bind(key.account_id)
    .bind(&key.name)
    .bind(stored_tier(key.tier))
    .bind(key.hash.as_slice())
    .bind(&key.hint)
    .bind(key.allowed_models.to_strings())
    .bind(key.max_tokens_per_request.and_then(|most| i64::try_from(most).ok()))
    .bind(key.max_cost_per_request.map(Amount::decimal))
    .bind(key.created_at)
    .bind(key.expires_at)
    .bind(key.rotated_from)
    .bind(key.lineage)
    .bind(&key.project)
    .bind(key.rates.requests_per_minute.map(|rate| i64::from(rate.get())))
    .bind(key.rates.tokens_per_minute.map(|rate| i64::from(rate.get())))
    .bind(key.rates.spike_guard.map(stored_mode))
    .bind(key.rates.spike_guard.map(|guard| guard.multiple))
    .bind(key.rates.spike_guard.map(|guard| guard.floor.decimal()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Replaces a key's terms.
pub(super) async fn write_terms(
    connection: &mut PgConnection,
    key: KeyId,
    terms: &KeyTerms,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE api_keys
            SET name = $2, allowed_models = $3, max_tokens_per_request = $4,
                max_cost_per_request = $5, expires_at = $6, project = $7,
                requests_per_minute = $8, tokens_per_minute = $9, spike_mode = $10,
                spike_multiple = $11, spike_floor = $12
          WHERE key_id = $1",
    )
    .bind(key)
    .bind(&terms.name)
    .bind(terms.allowed_models.to_strings())
    .bind(terms.max_tokens_per_request.and_then(|most| i64::try_from(most).ok()))
    .bind(terms.max_cost_per_request.map(Amount::decimal))
    .bind(terms.expires_at)
    .bind(&terms.project)
    .bind(terms.rates.requests_per_minute.map(|rate| i64::from(rate.get())))
    .bind(terms.rates.tokens_per_minute.map(|rate| i64::from(rate.get())))
    .bind(terms.rates.spike_guard.map(stored_mode))
    .bind(terms.rates.spike_guard.map(|guard| guard.multiple))
    .bind(terms.rates.spike_guard.map(|guard| guard.floor.decimal()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives a key a deadline, or an earlier one than it has.
pub(super) async fn bring_forward_expiry(
    connection: &mut PgConnection,
    key: KeyId,
    deadline: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query("UPDATE api_keys SET expires_at = least(expires_at, $2) WHERE key_id = $1")
        .bind(key)
        .bind(deadline)
        .execute(connection)
        .await?;
    Ok(())
}

/// Revokes a key that is not revoked yet.
pub(super) async fn revoke(
    connection: &mut PgConnection,
    key: KeyId,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE api_keys SET revoked_at = now(), revoked_reason = $2
          WHERE key_id = $1 AND revoked_at IS NULL",
    )
    .bind(key)
    .bind(reason)
    .execute(connection)
    .await?;
    Ok(())
}

/// Revokes whatever keys of an account are not revoked yet, and says which.
pub(in crate::accounts) async fn revoke_all(
    connection: &mut PgConnection,
    account: AccountId,
    reason: &str,
) -> sqlx::Result<Vec<[u8; 32]>> {
    let hashes: Vec<Vec<u8>> = sqlx::query_scalar(
        "UPDATE api_keys SET revoked_at = now(), revoked_reason = $2
          WHERE account_id = $1 AND revoked_at IS NULL
         RETURNING key_hash",
    )
    .bind(account)
    .bind(reason)
    .fetch_all(connection)
    .await?;
    hashes.into_iter().map(hash_of).collect()
}

const fn stored_tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Standard => "standard",
        Tier::Pro => "pro",
    }
}

fn key_of(row: &PgRow) -> sqlx::Result<KeyRecord> {
    let allowed_models: Vec<String> = row.try_get("allowed_models")?;
    let max_tokens: Option<i64> = row.try_get("max_tokens_per_request")?;
    let max_cost: Option<Decimal> = row.try_get("max_cost_per_request")?;
    Ok(KeyRecord {
        key_id: row.try_get("key_id")?,
        account_id: row.try_get("account_id")?,
        hash: hash_of(row.try_get("key_hash")?)?,
        name: row.try_get("name")?,
        tier: match row.try_get("tier")? {
            "standard" => Tier::Standard,
            "pro" => Tier::Pro,
            _ => return Err(decode("a key tier of a newer version")),
        },
        hint: row.try_get("hint")?,
        allowed_models: ModelPatterns::parse(&allowed_models).map_err(decode)?,
        max_tokens_per_request: max_tokens.and_then(|most| u64::try_from(most).ok()),
        max_cost_per_request: max_cost.map(Amount::new).transpose().map_err(decode)?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
        revoked_reason: row.try_get("revoked_reason")?,
        rotated_from: row.try_get("rotated_from")?,
        lineage: row.try_get("lineage")?,
        project: row.try_get("project")?,
        rates: rates_of(row)?,
    })
}

const fn stored_mode(guard: SpikeGuard) -> &'static str {
    if guard.refuses { "refuse" } else { "flag" }
}

fn rates_of(row: &PgRow) -> sqlx::Result<Rates> {
    let rate = |column: &str| -> sqlx::Result<Option<NonZeroU32>> {
        let rate: Option<i64> = row.try_get(column)?;
        Ok(rate.and_then(|rate| u32::try_from(rate).ok()).and_then(NonZeroU32::new))
    };
    let mode: Option<&str> = row.try_get("spike_mode")?;
    let spike_guard = match mode {
        None => None,
        Some(mode) => Some(SpikeGuard {
            refuses: mode == "refuse",
            multiple: row.try_get::<Decimal, _>("spike_multiple")?.normalize(),
            floor: amount_of(row, "spike_floor")?,
        }),
    };
    Ok(Rates {
        requests_per_minute: rate("requests_per_minute")?,
        tokens_per_minute: rate("tokens_per_minute")?,
        spike_guard,
    })
}

fn hash_of(bytes: Vec<u8>) -> sqlx::Result<[u8; 32]> {
    bytes.try_into().map_err(|_| decode("a key's hash is not 32 bytes"))
}
