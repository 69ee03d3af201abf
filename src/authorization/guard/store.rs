//! The norms of lineages, so that a restart does not open a hole in their guards.

use sqlx::{PgPool, Row as _};

use super::spike::{Mean, Norms};
use crate::ids::{AccountId, KeyId};

/// A lineage's norms, if it has any.
pub(super) async fn norms(
    pool: &PgPool,
    account: AccountId,
    lineage: KeyId,
) -> sqlx::Result<Option<Norms>> {
    let row = sqlx::query(
        "SELECT request_norm, request_samples, minute_norm, minute_samples
           FROM key_norms WHERE account_id = $1 AND lineage = $2",
    )
    .bind(account)
    .bind(lineage)
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mean = |value: &str, samples: &str| -> sqlx::Result<Mean> {
        let samples: i32 = row.try_get(samples)?;
        Ok(Mean { value: row.try_get(value)?, samples: u32::try_from(samples).unwrap_or(0) })
    };
    let mut norms = Norms::default();
    norms.request = mean("request_norm", "request_samples")?;
    norms.minute = mean("minute_norm", "minute_samples")?;
    Ok(Some(norms))
}

// Of two servers that write a lineage's norms, the one that has seen more requests knows better.
const WRITE: &str = "
    INSERT INTO key_norms (account_id, lineage, request_norm, request_samples, minute_norm,
                           minute_samples)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::numeric[], $4::int[], $5::numeric[], $6::int[])
    ON CONFLICT (account_id, lineage) DO UPDATE
       SET request_norm = excluded.request_norm, request_samples = excluded.request_samples,
           minute_norm = excluded.minute_norm, minute_samples = excluded.minute_samples,
           updated_at = clock_timestamp()
     WHERE key_norms.request_samples <= excluded.request_samples";

/// Writes norms down.
pub(super) async fn write_norms(
    pool: &PgPool,
    rows: &[(AccountId, KeyId, Norms)],
) -> sqlx::Result<()> {
    let samples = |mean: Mean| i32::try_from(mean.samples).unwrap_or(i32::MAX);
    sqlx::query(WRITE)
        .bind(rows.iter().map(|(account, ..)| account.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, lineage, _)| lineage.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|(.., norms)| norms.request.value).collect::<Vec<_>>())
        .bind(rows.iter().map(|(.., norms)| samples(norms.request)).collect::<Vec<_>>())
        .bind(rows.iter().map(|(.., norms)| norms.minute.value).collect::<Vec<_>>())
        .bind(rows.iter().map(|(.., norms)| samples(norms.minute)).collect::<Vec<_>>())
        .execute(pool)
        .await?;
    Ok(())
}
