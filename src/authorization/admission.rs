//! What a server still takes on when it is asked for more than it can do (load shedding).
//!
//! Two waits tell that it is: that of calls for the thread that serves them, and that of usage for a
//! batch; most clearly, that there is no room left for usage to wait. While it is, each account is
//! granted so many requests a second, the same for all, so that only those are refused who ask for more
//! than that (max-min fairness). This allowance follows how much usage is recorded: less is granted than
//! that until what waits is done, then a little more and more, and it is forgotten when nobody comes
//! near it.
//!
//! Only what is new is refused. Usage of what was granted, extensions and cancellations are work that
//! has been promised, and what ends it makes room.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{error::AuthorizationError, limits};
use crate::{clock, telemetry::metrics::AuthorizationMetrics};

/// Requests of one account in a thousand seconds.
type Rate = u64;

const MILLION: u64 = 1_000_000;

/// What this server is able to do at the moment, and what each account may therefore ask for.
#[derive(Debug, Default)]
pub struct Admission {
    /// The longest waits of this step, in microseconds.
    thread_wait: AtomicU64,
    /// [`NO_WAIT`] where no batch was begun.
    usage_wait: AtomicU64,
    /// There was no room for usage in this step.
    usage_refused: AtomicBool,
    /// Requests that were granted in this step, and those whose usage was recorded.
    granted: AtomicU64,
    recorded: AtomicU64,
    /// The number of this step.
    step: AtomicU32,
    /// The most requests of one account that were let in during this step.
    busiest: AtomicU64,
    /// What each account may ask for; [`UNBOUNDED`] while the server keeps up.
    allowance: AtomicU64,
    outstanding: AtomicUsize,
}

/// No account can ask for nothing at all.
const UNBOUNDED: Rate = 0;
const NO_WAIT: u64 = 0;

/// One account's part in what is taken on.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// When, since boot, its next request would be due at its allowance (GCRA, ITU-T I.371).
    due: Duration,
    step: u32,
    let_in: u64,
}

impl Share {
    /// Whether one more request fits into the allowance.
    fn take(&mut self, allowance: Rate, now: impl FnOnce() -> Duration) -> bool {
        if allowance == UNBOUNDED {
            return true;
        }
        let now = now();
        let due = self.due.max(now);
        if due > now + limits::ADMISSION_BURST {
            return false;
        }
        self.due = due + Duration::from_micros(1_000 * MILLION / allowance);
        true
    }

    /// How many were let in during this step, with this one.
    fn count(&mut self, step: u32) -> u64 {
        if self.step != step {
            (self.step, self.let_in) = (step, 0);
        }
        self.let_in += 1;
        self.let_in
    }
}

impl Admission {
    /// A task was ready so long before a thread that serves calls came to it.
    pub fn thread_was_late(&self, by: Duration) {
        self.thread_wait.fetch_max(microseconds(by), Ordering::Relaxed);
    }

    /// What was granted has waited so long for the batch that records it, on average.
    pub fn usage_waited(&self, wait: Duration) {
        self.usage_wait.fetch_max(microseconds(wait).max(NO_WAIT + 1), Ordering::Relaxed);
    }

    /// Usage of what was granted found no room to wait in.
    pub fn usage_refused(&self) {
        self.usage_refused.store(true, Ordering::Relaxed);
    }

    /// Usage of what was granted is in the books.
    pub fn usage_recorded(&self) {
        self.recorded.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was granted.
    pub(super) fn granted(&self) {
        self.granted.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends a step, and tells what was seen in it.
    fn seen(&self) -> Seen {
        self.step.fetch_add(1, Ordering::Relaxed);
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let usage = take(&self.usage_wait);
        Seen {
            thread: Duration::from_micros(take(&self.thread_wait)),
            usage: (usage != NO_WAIT).then(|| Duration::from_micros(usage)),
            no_room: self.usage_refused.swap(false, Ordering::Relaxed),
            busiest: take(&self.busiest),
            granted: take(&self.granted),
            recorded: take(&self.recorded),
        }
    }

    /// So many reservations are outstanding on this server.
    pub(super) fn set_outstanding(&self, outstanding: usize) {
        self.outstanding.store(outstanding, Ordering::Relaxed);
    }

    /// Takes a new request on, or says when to come back.
    pub(super) fn take_on(&self, share: &Mutex<Share>) -> Result<(), AuthorizationError> {
        if self.outstanding.load(Ordering::Relaxed) >= limits::MAX_OUTSTANDING_IN_ALL {
            return Err(AuthorizationError::TooManyOutstanding);
        }
        let mut share = share.lock().unwrap_or_else(PoisonError::into_inner);
        if !share.take(self.allowance.load(Ordering::Relaxed), clock::since_boot) {
            return Err(AuthorizationError::Busy);
        }
        let let_in = share.count(self.step.load(Ordering::Relaxed));
        // Nearly always it is less, and reading does not take the line from the other threads.
        if let_in > self.busiest.load(Ordering::Relaxed) {
            self.busiest.fetch_max(let_in, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Looks at the waits each step until told to stop.
    pub(super) async fn run(&self, metrics: &AuthorizationMetrics, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(limits::ADMISSION_STEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut control = Control::default();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stopping.cancelled() => return,
            }
            let is_shedding = control.allowance.is_some();
            let seen = self.seen();
            control.step(&seen);
            self.allowance.store(control.allowance.unwrap_or(UNBOUNDED), Ordering::Relaxed);
            if control.allowance.is_some() || control.strain > 0 {
                tracing::debug!(?seen, ?control, "strained");
            }
            metrics.shedding.set(control.allowance.is_some().into());
            match (is_shedding, control.allowance) {
                (false, Some(_)) => tracing::warn!("too much to do: load is shed"),
                (true, None) => tracing::info!("no load is shed any more"),
                _ => {}
            }
        }
    }
}

/// What was seen in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// The longest waits.
    thread: Duration,
    /// None where no batch was begun: the last is long, or there is nothing to write.
    usage: Option<Duration>,
    /// Usage was refused, since too much waited.
    no_room: bool,
    /// The most requests of one account that were let in.
    busiest: u64,
    granted: u64,
    recorded: u64,
}

/// How hard pressed the server is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Pressure {
    #[default]
    Low,
    High,
    TooHigh,
    /// What found no room waits at its caller's, on top of all that waits here.
    NoRoom,
}

impl Pressure {
    fn of(wait: Duration, tolerated: Duration) -> Self {
        match wait {
            _ if wait > tolerated => Self::TooHigh,
            _ if wait > tolerated / limits::LOW_PRESSURE => Self::High,
            _ => Self::Low,
        }
    }

    const fn strain(self) -> u32 {
        match self {
            Self::Low | Self::High => 0,
            Self::TooHigh => 1,
            Self::NoRoom => limits::TOLERATED_STRAIN,
        }
    }
}

/// Decides, step by step, what each account may ask for.
#[derive(Debug, Default)]
struct Control {
    allowance: Option<Rate>,
    /// What all accounts together are to be granted, while there is an allowance.
    pace: Rate,
    /// What is recorded, over the last few steps.
    recorded: Rate,
    /// Of usage, when the last batch was begun.
    usage: Pressure,
    /// Steps since then.
    since_batch: u32,
    /// Of all steps since the last without any.
    strain: u32,
    /// Steps in a row whose batches nobody waited for.
    calm: u32,
}

impl Control {
    fn step(&mut self, seen: &Seen) {
        let pressure = self.pressure(seen);
        self.strain = match pressure.strain() {
            0 => 0,
            strain => self.strain.saturating_add(strain),
        };
        self.calm = match pressure {
            // In the middle of a long batch nothing is known.
            Pressure::Low if seen.usage.is_none() => self.calm,
            Pressure::Low => self.calm.saturating_add(1),
            _ => 0,
        };
        // Usage comes in batches, and a slow one takes several steps.
        self.recorded -= self.recorded / limits::RECORDED_OVER;
        self.recorded += per_thousand_seconds(seen.recorded) / limits::RECORDED_OVER;
        // Where nobody asks for anything it is something else that strains.
        let begins = self.strain >= limits::TOLERATED_STRAIN && seen.busiest > 0;
        if begins || self.allowance.is_some() {
            self.follow(pressure, seen);
        }
    }

    /// Sets the pace, and the allowance that leads to it.
    fn follow(&mut self, pressure: Pressure, seen: &Seen) {
        let granted = per_thousand_seconds(seen.granted);
        let most = self.pace.max(granted);
        self.pace = match pressure {
            Pressure::NoRoom => self.recorded / 2,
            Pressure::TooHigh => self.recorded - self.recorded / 4,
            // One batch that nobody waited for comes between two that are full.
            _ if self.calm < limits::CALM_STEPS => raised(self.pace, limits::SLOW_RISE),
            // Far more than is recorded comes later, and all at once, if requests take a while.
            _ => raised(most, limits::FAST_RISE)
                .min(self.recorded + self.recorded / 2)
                .max(raised(most, limits::SLOW_RISE)),
        };
        let busiest = per_thousand_seconds(seen.busiest);
        let before = match self.allowance {
            // Who asks for less than allowed makes room only when less than that is allowed.
            Some(allowance) if self.pace < granted && busiest > 0 => allowance.min(busiest),
            Some(allowance) => allowance,
            None => busiest,
        };
        // If all were as busy as the busiest, this would do at once; never is it too little for the pace.
        let in_proportion = before.saturating_mul(self.pace) / granted.max(1);
        let allowance = in_proportion
            .clamp(before / limits::DEEPEST_CUT, raised(before, limits::FAST_RISE) + 1)
            .max(limits::LEAST_ALLOWANCE);
        let is_met = allowance < 2 * busiest.max(limits::LEAST_ALLOWANCE);
        self.allowance = (is_met || pressure.strain() > 0).then_some(allowance);
    }

    fn pressure(&mut self, seen: &Seen) -> Pressure {
        let usage = seen.usage.map(|wait| {
            if seen.no_room { Pressure::NoRoom } else { Pressure::of(wait, limits::USAGE_WAIT) }
        });
        // A batch may take some steps, and what it showed when it was begun holds for as long. For no
        // longer: a database that stands still is the heartbeat's business, and most often it is back
        // before anybody has to be refused.
        self.since_batch = if usage.is_some() { 0 } else { self.since_batch.saturating_add(1) };
        if usage.is_some() || self.since_batch > limits::LONG_BATCH {
            self.usage = usage.unwrap_or_default();
        }
        self.usage.max(Pressure::of(seen.thread, limits::THREAD_WAIT))
    }
}

fn raised(rate: Rate, part: u64) -> Rate {
    rate + rate / part
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn per_thousand_seconds(in_a_step: u64) -> Rate {
    in_a_step.saturating_mul(1_000 * MILLION) / microseconds(limits::ADMISSION_STEP)
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
