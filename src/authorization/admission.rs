//! What a server still takes on when it is asked for more than it can do (load shedding).
//!
//! Two waits tell that it is: that of calls for the thread that serves them, and that of usage for a
//! batch. While either goes on, each account is granted so many requests a second, the same for all,
//! so that only those are refused who ask for more than that (max-min fairness). The allowance is cut
//! as long as the waits last, grows when they are over, and is forgotten when nobody comes near it.
//!
//! Only what is new is refused. Usage of what was granted, extensions and cancellations are work that
//! has been promised, and what ends it makes room.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
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
    /// [`NOTHING`] where no batch was begun.
    usage_wait: AtomicU64,
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
const NOTHING: u64 = 0;

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

    /// The events of a batch have waited so long for it, on average.
    pub fn usage_waited(&self, wait: Duration) {
        self.usage_wait.fetch_max(microseconds(wait).max(NOTHING + 1), Ordering::Relaxed);
    }

    /// What was noted since it was last asked for.
    fn waits(&self) -> Waits {
        let usage = self.usage_wait.swap(NOTHING, Ordering::Relaxed);
        Waits {
            thread: Duration::from_micros(self.thread_wait.swap(0, Ordering::Relaxed)),
            usage: (usage != NOTHING).then(|| Duration::from_micros(usage)),
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
            self.step.fetch_add(1, Ordering::Relaxed);
            let (waits, busiest) = (self.waits(), self.busiest.swap(0, Ordering::Relaxed));
            control.step(waits, busiest);
            self.allowance.store(control.allowance.unwrap_or(UNBOUNDED), Ordering::Relaxed);
            if control.strained > 0 {
                tracing::debug!(?waits, busiest, allowance = control.allowance, "strained");
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

/// The longest waits of a step.
#[derive(Debug, Clone, Copy)]
struct Waits {
    thread: Duration,
    /// None where no batch was begun: the last is long, or there is nothing to write.
    usage: Option<Duration>,
}

/// Decides, step by step, what each account may ask for.
#[derive(Debug, Default)]
struct Control {
    allowance: Option<Rate>,
    /// Usage waited too long in the last step in which a batch was begun, if that was the last.
    usage_waits: bool,
    strained: u32,
}

impl Control {
    /// `busiest`: the most requests of one account that were let in during the step.
    fn step(&mut self, waits: Waits, busiest: u64) {
        let is_strained = self.is_strained(waits);
        self.strained = if is_strained { self.strained.saturating_add(1) } else { 0 };
        let busiest = per_thousand_seconds(busiest);
        self.allowance = match self.allowance {
            None if self.strained < limits::STRAINED_STEPS => None,
            None => Some(cut(busiest)),
            // Who asks for less than allowed makes room only when less than that is allowed.
            Some(allowance) if is_strained && busiest > 0 => Some(cut(allowance.min(busiest))),
            Some(allowance) if is_strained => Some(cut(allowance)),
            Some(allowance) => {
                let raised = allowance + allowance / limits::ADMISSION_RISE + 1;
                (raised < 2 * busiest.max(limits::LEAST_ALLOWANCE)).then_some(raised)
            }
        };
    }

    fn is_strained(&mut self, waits: Waits) -> bool {
        // Batches may take longer than a step: what the last one showed holds for one more. Not for
        // longer: a database that stands still is the heartbeat's business, and most often it is back
        // before anybody has to be refused.
        let too_long = waits.usage.map(|wait| wait > limits::USAGE_WAIT);
        let stood = std::mem::replace(&mut self.usage_waits, too_long.unwrap_or(false));
        too_long.unwrap_or(stood) || waits.thread > limits::THREAD_WAIT
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn cut(rate: Rate) -> Rate {
    (rate - rate / limits::ADMISSION_CUT).max(limits::LEAST_ALLOWANCE)
}

fn per_thousand_seconds(in_a_step: u64) -> Rate {
    in_a_step.saturating_mul(1_000 * MILLION) / microseconds(limits::ADMISSION_STEP)
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
