//! What availability is, as arithmetic. Pure.
//!
//! | recorded outcome | counts as |
//! |---|---|
//! | `SUCCESS`, `CONTENT_FILTERED` | a success: the capacity answered |
//! | `PROVIDER_ERROR`, `TIMEOUT` | a failure: what we sell did not answer |
//! | `CLIENT_ABORTED` | nothing: the customer ended it, and nobody knows how it would have ended |
//! | `CANCELLED` | nothing: the request was not made |
//! | a hit in the gateway's own cache, whatever its outcome | nothing: no capacity was asked |
//!
//! A request that another model answered in the end counts by its outcome, as the customer saw it.
//!
//! The month is divided into intervals of five minutes, in UTC. An interval's availability is its
//! successes ÷ its counted requests; one without counted requests was available. The month's is the
//! mean over all its intervals. What an interval lost is rounded to 12 decimals, and everything
//! after that is exact, so that a threshold is passed or not whatever the figure's last decimal.

use chrono::{DateTime, Datelike as _, NaiveDate, TimeDelta, Utc};
use rust_decimal::{Decimal, RoundingStrategy};

use crate::{
    metering::event::Outcome,
    money::{AMOUNT_DECIMALS, Amount},
};

/// How long an interval is.
pub const INTERVAL: TimeDelta = TimeDelta::minutes(5);
/// Intervals of a day.
const INTERVALS_OF_A_DAY: i64 = 288;
/// Below so many thousandths, so much percent of the month's charges is credited; the worst first.
pub const SCHEDULE: [(u32, u32); 3] = [(950, 100), (990, 25), (999, 10)];

/// What a request says of availability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was served.
    Success,
    /// It was not, by our fault.
    Failure,
    /// It says nothing.
    NotCounted,
}

/// How a recorded request counts: the table above.
#[must_use]
pub const fn verdict(outcome: Outcome, cache_hit: bool) -> Verdict {
    match outcome {
        _ if cache_hit => Verdict::NotCounted,
        Outcome::Success | Outcome::ContentFiltered => Verdict::Success,
        Outcome::ProviderError | Outcome::Timeout => Verdict::Failure,
        Outcome::ClientAborted | Outcome::Cancelled => Verdict::NotCounted,
    }
}

/// An interval with failures: a line of the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadInterval {
    /// When it began.
    pub begins: DateTime<Utc>,
    /// Its counted requests.
    pub requests: u64,
    /// How many of them failed.
    pub failures: u64,
}

impl BadInterval {
    /// The part of it that was lost, from 0 to 1.
    fn lost(&self) -> Decimal {
        Decimal::from(self.failures.min(self.requests))
            .checked_div(Decimal::from(self.requests))
            .unwrap_or_default()
            .round_dp_with_strategy(AMOUNT_DECIMALS, RoundingStrategy::MidpointAwayFromZero)
    }
}

/// A month's availability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Availability {
    /// How many intervals the month has.
    intervals: i64,
    /// The sum of what its intervals lost.
    lost: Decimal,
}

impl Availability {
    /// Of the month of so many days with these bad intervals, each of them in it and there once.
    #[must_use]
    pub fn of(days: i64, bad: &[BadInterval]) -> Self {
        let intervals = days.max(1).saturating_mul(INTERVALS_OF_A_DAY);
        Self { intervals, lost: bad.iter().map(BadInterval::lost).sum() }
    }

    /// In percent with 6 decimals, cut and not rounded: it never shows a threshold that was missed.
    #[must_use]
    pub fn percent(&self) -> Decimal {
        let intervals = Decimal::from(self.intervals);
        let kept = (intervals - self.lost) * Decimal::ONE_HUNDRED;
        let percent = kept.checked_div(intervals).unwrap_or_default();
        percent.round_dp_with_strategy(6, RoundingStrategy::ToZero).normalize()
    }

    /// How much of the month's Pro charges is credited, in percent: [`SCHEDULE`].
    #[must_use]
    pub fn credit_percent(&self) -> Decimal {
        Decimal::from(self.missed().map_or(0, |(_, percent)| percent))
    }

    /// The threshold that was missed, in percent: the lowest one that the month is below.
    #[must_use]
    pub fn missed_percent(&self) -> Option<Decimal> {
        self.missed().map(|(thousandths, _)| Decimal::new(thousandths.into(), 1))
    }

    fn missed(&self) -> Option<(u32, u32)> {
        let intervals = Decimal::from(self.intervals);
        let below = |thousandths: u32| {
            (intervals - self.lost) * Decimal::ONE_THOUSAND < intervals * Decimal::from(thousandths)
        };
        SCHEDULE.into_iter().find(|(thousandths, _)| below(*thousandths))
    }
}

/// So much percent of the charges, rounded once, half up, to the minor unit.
#[must_use]
pub fn credit(charges: Amount, percent: Decimal, minor_unit: u32) -> Amount {
    let part = charges.decimal() * percent / Decimal::ONE_HUNDRED;
    let part = part.round_dp_with_strategy(AMOUNT_DECIMALS, RoundingStrategy::MidpointAwayFromZero);
    Amount::new(part).unwrap_or(charges).rounded(minor_unit)
}

/// How many days the month has that begins on this day.
#[must_use]
pub fn days_of(month: NaiveDate) -> i64 {
    month.num_days_in_month().into()
}

#[cfg(test)]
#[path = "availability_tests.rs"]
mod tests;
