//! Daily sums of usage, kept behind the hot path, so that a month's totals read some hundred rows
//! instead of a million events.
//!
//! Recording usage does not touch them. A background task takes events into them in the order in
//! which they were recorded, a bounded number in each step, and moves a *watermark*: every event that
//! was recorded before it is in the rollups, and no other is. A summary adds to the rollups what was
//! recorded since the watermark, so it is exact at every moment, however far the watermark is behind
//! ([`report`](super::report)); only its speed depends on it.
//!
//! What must hold is that the watermark never passes an event that is not committed yet: nobody would
//! count it, ever. Why it does not is written where it is done, at `roll_up_usage` in
//! `migrations/0012_usage_rollups.sql`: `post_usage` reads the clock after it has a transaction id, so
//! once every transaction that began before a moment has ended, nothing recorded before it is
//! missing. `ledger verify` compares rollups and events.
//!
//! A step is one transaction: a kill in the middle of one leaves all as it was before. Any number of
//! servers may try; a row lock lets one at a time.

mod store;

use std::time::Duration;

use sqlx::PgPool;

use super::{error::MeteringError, limits};
use crate::{
    database::{pool::in_rounds, store::summarize_newest_ranges},
    tasks::Tasks,
    telemetry::metrics::MeteringMetrics,
};

/// What a step may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How far the database's clock may step back.
    pub margin: Duration,
    /// Events that are taken at most, unless more of them were recorded in one millisecond.
    pub events: i32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { margin: limits::ROLLUP_MARGIN, events: limits::ROLLUP_EVENTS }
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// How many events it took; `None` where another server is at it.
    pub taken: Option<u64>,
    /// Whether the next step has something to take already.
    pub behind: bool,
    /// How long ago what is not in the rollups begins; `None` before the first step.
    pub lag_seconds: Option<f64>,
}

/// Takes the next events into the rollups.
///
/// # Errors
/// The database failed; then nothing has changed.
pub async fn step(pool: &PgPool, bounds: Bounds) -> Result<Step, MeteringError> {
    Ok(store::step(pool, bounds).await?)
}

/// Keeps the rollups up to date until the server stops.
pub fn keep(pool: PgPool, metrics: MeteringMetrics, tasks: &Tasks) {
    in_rounds(tasks, "usage rollups", pool, move |pool| round(pool, metrics.clone()));
}

/// One step; the pause after it.
async fn round(pool: PgPool, metrics: MeteringMetrics) -> Duration {
    let begun = tokio::time::Instant::now();
    summarize_newest_ranges(&pool, &["usage_events"]).await;
    match step(&pool, Bounds::default()).await {
        Ok(step) => {
            if let Some(lag) = step.lag_seconds {
                metrics.rollup_lag.set(lag);
            }
            pause_after(step, begun.elapsed())
        }
        // Summaries are right without it, and the next round tries again.
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "usage not rolled up");
            limits::ROLLUP_INTERVAL
        }
    }
}

/// A backlog is worked off in short steps that leave the database to others for most of the time.
fn pause_after(step: Step, took: Duration) -> Duration {
    if step.behind {
        took.saturating_mul(limits::ROLLUP_REST).min(limits::ROLLUP_INTERVAL)
    } else {
        limits::ROLLUP_INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_leaves_the_database_to_others_for_most_of_the_time() {
        let step = Step { taken: Some(20_000), behind: true, lag_seconds: Some(3_600.0) };
        let took = Duration::from_millis(100);
        assert_eq!(pause_after(step, took), 3 * took);
        assert_eq!(pause_after(step, Duration::from_mins(1)), limits::ROLLUP_INTERVAL);
        let done = Step { behind: false, ..step };
        assert_eq!(pause_after(done, took), limits::ROLLUP_INTERVAL);
    }
}
