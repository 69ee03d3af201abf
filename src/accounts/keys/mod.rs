//! Issued keys: made, changed, rotated, revoked. A key's secret passes through here once, in
//! [`Issued`], and is never stored.

pub mod record;
pub(super) mod store;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool};

use crate::{
    accounts::{
        Changed,
        account::{AccountStatus, REASON_LENGTH},
        change::Change,
        directory::DirectoryError,
        error::{AccountError, InvalidField},
        fields::text,
        key::{ApiKey, Tier},
        keys::record::{KeyRecord, KeyStatus, KeyTerms},
        store::announce,
    },
    clock,
    ids::{AccountId, KeyId},
};

/// How long a rotated key goes on working unless said: a day to deploy its successor everywhere.
pub const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);
/// The longest a rotated key may go on working.
pub const LONGEST_OVERLAP: Duration = Duration::from_hours(30 * 24);

/// A new key with its secret, which is shown this once.
#[derive(Debug)]
pub struct Issued {
    /// What is kept of it.
    pub record: KeyRecord,
    /// The key itself.
    pub secret: ApiKey,
}

/// A new key and the one that it succeeds.
#[derive(Debug)]
pub struct Rotated {
    /// The successor.
    pub issued: Issued,
    /// The old key with its deadline.
    pub previous: KeyRecord,
}

/// Issues and changes keys.
#[derive(Debug, Clone)]
pub struct Keys {
    pool: PgPool,
}

impl Keys {
    /// One key is read from this pool; lists and changes use the connection that they are given.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The key with this id, as it was a moment ago.
    pub async fn get(&self, key: KeyId) -> Result<KeyRecord, AccountError> {
        store::key(&self.pool, key).await?.ok_or(AccountError::UnknownKey(key))
    }

    /// An account's keys in the order in which they were issued, at most `limit`, from after one of
    /// them.
    pub async fn list(
        &self,
        connection: &mut PgConnection,
        account: AccountId,
        after: Option<KeyId>,
        limit: i64,
    ) -> Result<Vec<KeyRecord>, AccountError> {
        Ok(store::keys(connection, account, after, limit).await?)
    }

    /// Issues a key of an account that is not closed.
    pub async fn issue(
        &self,
        connection: &mut PgConnection,
        account: AccountId,
        tier: Tier,
        terms: KeyTerms,
    ) -> Result<Changed<Issued>, AccountError> {
        let now = clock::now();
        terms.check(now)?;
        let status = store::hold_account_status(connection, account)
            .await?
            .ok_or_else(|| DirectoryError::UnknownAccount(account.to_string()))?;
        if AccountStatus::from_stored(&status) == Some(AccountStatus::Closed) {
            return Err(AccountError::WrongStatus {
                status: AccountStatus::Closed,
                remedy: "closing is for good, so issue the key in another account",
            });
        }
        let issued = make(connection, account, tier, terms, None, now).await?;
        let changes = announced(connection, &[&issued.record]).await?;
        Ok(Changed { now: issued, changes })
    }

    /// Replaces name, expiry, allowlist and caps of a key that still works.
    pub async fn update(
        &self,
        connection: &mut PgConnection,
        key: KeyId,
        terms: &KeyTerms,
    ) -> Result<Changed<KeyRecord>, AccountError> {
        let now = clock::now();
        working(connection, key, now).await?;
        terms.check(now)?;
        store::write_terms(connection, key, terms).await?;
        reread(connection, key).await
    }

    /// Issues a successor with the same terms. The old key works until `overlap` from now, or until
    /// the deadline that it had, whichever comes first; the successor keeps that deadline.
    pub async fn rotate(
        &self,
        connection: &mut PgConnection,
        key: KeyId,
        overlap: Option<Duration>,
    ) -> Result<Changed<Rotated>, AccountError> {
        let now = clock::now();
        let deadline = now + checked_overlap(overlap.unwrap_or(DEFAULT_OVERLAP))?;
        let old = working(connection, key, now).await?;
        if let Some(successor) = store::successor(connection, key, old.account_id).await? {
            return Err(AccountError::KeyRotated { key, successor });
        }
        let terms = KeyTerms {
            name: old.name,
            allowed_models: old.allowed_models,
            max_tokens_per_request: old.max_tokens_per_request,
            max_cost_per_request: old.max_cost_per_request,
            expires_at: old.expires_at,
            project: old.project,
            rates: old.rates,
        };
        let succeeds = Some((key, old.lineage));
        let issued = make(connection, old.account_id, old.tier, terms, succeeds, now).await?;
        store::bring_forward_expiry(connection, key, deadline).await?;
        let previous = store::lock(connection, key).await?.ok_or(AccountError::UnknownKey(key))?;
        let changes = announced(connection, &[&issued.record, &previous]).await?;
        Ok(Changed { now: Rotated { issued, previous }, changes })
    }

    /// Revokes a key, for good. A revoked key stays as it is.
    pub async fn revoke(
        &self,
        connection: &mut PgConnection,
        key: KeyId,
        reason: &str,
    ) -> Result<Changed<KeyRecord>, AccountError> {
        text("reason", reason, REASON_LENGTH)?;
        store::lock(connection, key).await?.ok_or(AccountError::UnknownKey(key))?;
        store::revoke(connection, key, reason).await?;
        reread(connection, key).await
    }
}

impl Keys {
    /// Revokes the keys with these hashes, as they were before and in the order of their ids. Keys that
    /// are revoked already stay as they are.
    ///
    /// # Errors
    /// The reason is too long, or the database failed.
    pub async fn revoke_leaked(
        &self,
        connection: &mut PgConnection,
        hashes: &[[u8; 32]],
        reason: &str,
    ) -> Result<Changed<Vec<KeyRecord>>, AccountError> {
        text("reason", reason, REASON_LENGTH)?;
        let found = store::lock_by_hash(connection, hashes).await?;
        let working: Vec<&KeyRecord> =
            found.iter().filter(|record| record.revoked_at.is_none()).collect();
        for record in &working {
            store::revoke(connection, record.key_id, reason).await?;
        }
        let changes = announced(connection, &working).await?;
        Ok(Changed { now: found, changes })
    }
}

fn checked_overlap(overlap: Duration) -> Result<TimeDelta, InvalidField> {
    if overlap <= LONGEST_OVERLAP
        && let Ok(overlap) = TimeDelta::from_std(overlap)
    {
        return Ok(overlap);
    }
    Err(InvalidField::new(
        "overlap",
        "OUT_OF_RANGE",
        format!(
            "is more than {} days; take at most that, and rotate again when it is over",
            LONGEST_OVERLAP.as_secs() / (24 * 60 * 60)
        ),
    ))
}

/// Locks a key that must still work.
async fn working(
    connection: &mut PgConnection,
    key: KeyId,
    now: DateTime<Utc>,
) -> Result<KeyRecord, AccountError> {
    let record = store::lock(connection, key).await?.ok_or(AccountError::UnknownKey(key))?;
    match record.status_at(now) {
        KeyStatus::Active => Ok(record),
        KeyStatus::Revoked => Err(AccountError::KeyRevoked(key)),
        KeyStatus::Expired => Err(AccountError::KeyExpired(key)),
    }
}

/// Makes a key, which may succeed another (by its id) of a lineage.
async fn make(
    connection: &mut PgConnection,
    account: AccountId,
    tier: Tier,
    terms: KeyTerms,
    succeeds: Option<(KeyId, KeyId)>,
    now: DateTime<Utc>,
) -> Result<Issued, AccountError> {
    let secret = ApiKey::generate(tier)?;
    let key_id = KeyId::generate();
    let record = KeyRecord {
        key_id,
        account_id: account,
        hash: secret.hash(),
        name: terms.name,
        tier,
        hint: secret.hint(),
        allowed_models: terms.allowed_models,
        max_tokens_per_request: terms.max_tokens_per_request,
        max_cost_per_request: terms.max_cost_per_request,
        created_at: now,
        expires_at: terms.expires_at,
        revoked_at: None,
        revoked_reason: String::new(),
        rotated_from: succeeds.map(|(key, _)| key),
        lineage: succeeds.map_or(key_id, |(_, lineage)| lineage),
        project: terms.project,
        rates: terms.rates,
    };
    store::insert(connection, &record).await?;
    // As the database has it: times to the microsecond.
    let record = store::lock(connection, key_id).await?.ok_or(AccountError::UnknownKey(key_id))?;
    Ok(Issued { record, secret })
}

async fn reread(
    connection: &mut PgConnection,
    key: KeyId,
) -> Result<Changed<KeyRecord>, AccountError> {
    let now = store::lock(connection, key).await?.ok_or(AccountError::UnknownKey(key))?;
    let changes = announced(connection, &[&now]).await?;
    Ok(Changed { now, changes })
}

async fn announced(
    connection: &mut PgConnection,
    records: &[&KeyRecord],
) -> Result<Vec<Change>, AccountError> {
    let changes: Vec<Change> = records.iter().map(|record| Change::Key(record.hash)).collect();
    for change in &changes {
        announce(connection, change).await?;
    }
    Ok(changes)
}
