//! From when to when usage can be recorded: the months that have partitions, up to our clock.

use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::{
    error::MeteringError,
    limits::{CLOCK_TOLERANCE, MONTHS_AHEAD, PARTITION_INTERVAL},
    store,
};
use crate::{clock, tasks::Tasks};

/// The months that have partitions. Cheap to clone; all clones see the same.
#[derive(Debug, Clone)]
pub struct UsageWindow {
    attached: Arc<ArcSwap<Attached>>,
}

#[derive(Debug, Clone, Copy)]
struct Attached {
    opens: DateTime<Utc>,
    closes: DateTime<Utc>,
}

impl UsageWindow {
    /// Reads the window, and keeps the partitions ahead of the calendar from here on.
    ///
    /// # Errors
    /// The database failed.
    pub async fn open(pool: PgPool, tasks: &Tasks) -> Result<Self, MeteringError> {
        let (opens, closes) = store::ensure_partitions(&pool, MONTHS_AHEAD).await?;
        let window = Self::of(opens, closes);
        let (kept, stopping) = (window.clone(), tasks.stopping());
        tasks.spawn("usage partitions", async move {
            let look_after = async {
                loop {
                    tokio::time::sleep(PARTITION_INTERVAL).await;
                    kept.look_after(&pool).await;
                }
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = look_after => {}
            }
        });
        Ok(window)
    }

    /// A window that nobody keeps.
    #[must_use]
    pub fn of(opens: DateTime<Utc>, closes: DateTime<Utc>) -> Self {
        Self { attached: Arc::new(ArcSwap::from_pointee(Attached { opens, closes })) }
    }

    async fn look_after(&self, pool: &PgPool) {
        match store::ensure_partitions(pool, MONTHS_AHEAD).await {
            Ok((opens, closes)) => self.attached.store(Arc::new(Attached { opens, closes })),
            // There are months in reserve, and the next round tries again.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "partitions not made");
            }
        }
    }

    /// Whether a moment can be recorded.
    ///
    /// # Errors
    /// [`MeteringError::OutsideWindow`] names the field and the window.
    pub fn check(&self, field: &'static str, moment: DateTime<Utc>) -> Result<(), MeteringError> {
        let attached = self.attached.load();
        let closes = attached.closes.min(clock::now() + CLOCK_TOLERANCE);
        if moment < attached.opens || moment > closes {
            let opens = attached.opens;
            return Err(MeteringError::OutsideWindow { field, moment, opens, closes });
        }
        Ok(())
    }
}
