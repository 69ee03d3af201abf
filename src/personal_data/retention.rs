//! Details of usage that have been kept for long enough are erased by themselves.
//!
//! How long is said by the account's contract, or else by the server; where neither says anything they
//! stay until somebody erases them. A round goes through the accounts, some thousand details in a
//! transaction, on one server at a time; it rests longer than it works, so that it never holds up those
//! who record. What goes is `usage_details`, and what is personal in usage that the database refused.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use uuid::Uuid;

use super::{error::PersonalDataError, store};
use crate::{
    database::pool::in_rounds, ids::AccountId, tasks::Tasks, telemetry::metrics::MeteringMetrics,
};

/// Between two rounds over all accounts: days are counted, so that an hour is soon enough.
const INTERVAL: Duration = Duration::from_hours(1);
/// How long after its start a server begins.
const FIRST_ROUND: Duration = Duration::from_mins(1);
/// After a step, a pause so many times as long.
const REST: u32 = 3;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How many rows were erased.
    pub erased: u64,
    /// From after which account the next step goes on; `None` at the end of a round.
    pub next: Option<AccountId>,
}

/// Erases what is past its time of the accounts after one, or first of all accounts. `days` is how long
/// details are kept where an account does not say.
///
/// # Errors
/// The database failed; then nothing has changed.
pub async fn step(
    pool: &PgPool,
    after: Option<AccountId>,
    days: Option<u16>,
) -> Result<Step, PersonalDataError> {
    let days = days.map(i32::from);
    let from = after.unwrap_or(AccountId(Uuid::nil()));
    let mut erased = 0;
    if after.is_none() {
        erased = store::erase_expired_quarantine(pool, days).await?;
    }
    // Another server is at it: that round counts for this one.
    let Some(done) = store::erase_expired(pool, from, days).await? else {
        return Ok(Step { erased, next: None });
    };
    let next = if done.more { Some(from) } else { done.last };
    Ok(Step { erased: done.erased.saturating_add(erased), next })
}

/// Erases what is past its time until the server stops.
pub fn keep(pool: PgPool, days: Option<u16>, metrics: MeteringMetrics, tasks: &Tasks) {
    let place: Arc<Mutex<Place>> = Arc::default();
    in_rounds(tasks, "details retention", pool, move |pool| {
        round(pool, days, metrics.clone(), Arc::clone(&place))
    });
}

/// Where the rounds of a server have come to.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    begun: bool,
    after: Option<AccountId>,
}

/// One step; the pause after it.
async fn round(
    pool: PgPool,
    days: Option<u16>,
    metrics: MeteringMetrics,
    place: Arc<Mutex<Place>>,
) -> Duration {
    let at = {
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, Place { begun: true, after: None })
    };
    if !at.begun {
        return FIRST_ROUND;
    }
    let started = tokio::time::Instant::now();
    match step(&pool, at.after, days).await {
        Ok(step) => {
            metrics.details_expired.inc_by(step.erased);
            let after = step.next;
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Place { begun: true, after };
            match after {
                Some(_) => started.elapsed().saturating_mul(REST),
                None => INTERVAL,
            }
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "details of usage past their time were not erased");
            INTERVAL
        }
    }
}
