//! The SQL of the rollups; what a step does is the function `roll_up_usage`.

use sqlx::{PgPool, Row as _, postgres::types::PgInterval};

use super::{Bounds, Step};

const STEP: &str = "SELECT taken, behind, lag FROM roll_up_usage($1, $2)";

/// One statement, which commits itself.
pub(super) async fn step(pool: &PgPool, bounds: Bounds) -> Result<Step, sqlx::Error> {
    let margin = PgInterval::try_from(bounds.margin).map_err(sqlx::Error::Encode)?;
    let row = sqlx::query(STEP).bind(margin).bind(bounds.events).fetch_one(pool).await?;
    let taken: Option<i64> = row.try_get("taken")?;
    let behind: Option<bool> = row.try_get("behind")?;
    Ok(Step {
        taken: taken.and_then(|taken| u64::try_from(taken).ok()),
        behind: behind.unwrap_or(false),
        lag_seconds: row.try_get("lag")?,
    })
}
