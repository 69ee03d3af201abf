//! The rows of issued keys.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgExecutor, Row as _, postgres::PgRow};

use crate::{
    accounts::{
        key::Tier,
        keys::record::{KeyRecord, KeyTerms, ModelPatterns},
        store::decode,
    },
    ids::{AccountId, KeyId},
    money::Amount,
};

macro_rules! select_key {
    ($rest:literal) => {
        concat!(
            "SELECT key_id, account_id, name, tier, key_hash, hint, allowed_models,
                    max_tokens_per_request, max_cost_per_request, created_at, expires_at,
                    revoked_at, revoked_reason, rotated_from
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
                               expires_at, rotated_from)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
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
                max_cost_per_request = $5, expires_at = $6
          WHERE key_id = $1",
    )
    .bind(key)
    .bind(&terms.name)
    .bind(terms.allowed_models.to_strings())
    .bind(terms.max_tokens_per_request.and_then(|most| i64::try_from(most).ok()))
    .bind(terms.max_cost_per_request.map(Amount::decimal))
    .bind(terms.expires_at)
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
    })
}

fn hash_of(bytes: Vec<u8>) -> sqlx::Result<[u8; 32]> {
    bytes.try_into().map_err(|_| decode("a key's hash is not 32 bytes"))
}
