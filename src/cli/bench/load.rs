//! Closed-loop load: so many lanes, each with one call on its way, until a number of calls is done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};

use super::cpu::Spent;
use crate::cli::error::CliError;

/// Microseconds: a call that takes longer than this is counted as this.
const LONGEST: u64 = 60_000_000;
/// Three digits of a latency are more than a run repeats.
const DIGITS: u8 = 3;

/// 32 bits that do not look like the number they are made from (Knuth's multiplicative hash).
pub(super) const fn spread(number: u64) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    number.wrapping_mul(FACTOR) >> 32
}

/// What one stretch of load measured.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    /// Calls that were answered, or events that were written.
    pub(super) calls: u64,
    /// How long all of them took together.
    pub(super) elapsed: Duration,
    /// How long each took, in microseconds; empty where calls have no time of their own.
    pub(super) latencies: Histogram<u64>,
    /// Who spent how much for them, where it was looked at.
    pub(super) spent: Option<Spent>,
}

impl Slice {
    /// A slice of so many calls since `begun`.
    pub(super) fn since(begun: Instant, calls: u64, latencies: Histogram<u64>) -> Self {
        Self { calls, elapsed: begun.elapsed(), latencies, spent: None }
    }

    /// Adds what another slice of the same scene measured.
    pub(super) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.elapsed += other.elapsed;
        self.spent = self.spent.zip(other.spent).map(|(one, other)| one.and(other));
        // Both have the same bounds, so that nothing can be out of range.
        let _ = self.latencies.add(&other.latencies);
    }

    /// Calls in one second.
    pub(super) fn per_second(&self) -> u64 {
        let nanoseconds = self.elapsed.as_nanos().max(1);
        let calls = u128::from(self.calls) * 1_000_000_000 / nanoseconds;
        u64::try_from(calls).unwrap_or(u64::MAX)
    }
}

/// An empty histogram of latencies.
pub(super) fn histogram() -> Result<Histogram<u64>, CliError> {
    Histogram::new_with_bounds(1, LONGEST, DIGITS)
        .map_err(|error| CliError::failed(format!("no histogram: {error}")))
}

/// Notes how long something took.
pub(super) fn note(latencies: &mut Histogram<u64>, took: Duration) {
    latencies.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST));
}

/// Makes `calls` calls, at most `in_flight` at once. The first failure ends it.
pub(super) async fn closed_loop<Call, Answer>(
    in_flight: usize,
    calls: u64,
    call: impl Fn(u64) -> Call + Clone + Send + 'static,
) -> Result<(Slice, Vec<Answer>), CliError>
where
    Call: Future<Output = Result<Answer, CliError>> + Send,
    Answer: Send + 'static,
{
    let next = Arc::new(AtomicU64::new(0));
    let mut lanes = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..in_flight {
        let (next, call, mut latencies) = (Arc::clone(&next), call.clone(), histogram()?);
        lanes.spawn(async move {
            let mut answers = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= calls {
                    return Ok((latencies, answers));
                }
                let sent = Instant::now();
                let answer = call(number).await?;
                note(&mut latencies, sent.elapsed());
                answers.push(answer);
            }
        });
    }
    let (mut latencies, mut answers) = (histogram()?, Vec::new());
    while let Some(lane) = lanes.join_next().await {
        let (measured, answered) = joined(lane)?;
        let _ = latencies.add(&measured);
        answers.extend(answered);
    }
    Ok((Slice::since(begun, calls, latencies), answers))
}

/// Starts a call every so often for so long, however long each takes. A call is told when it was due,
/// since the time that it waits for its start is the caller's too.
///
/// A thread of its own keeps the time: the runtime's timers go by whole milliseconds.
pub(super) async fn paced<Call>(
    rate: u64,
    duration: Duration,
    call: impl Fn(u64, Instant) -> Call,
) -> Vec<Call::Output>
where
    Call: Future + Send + 'static,
    Call::Output: Send + 'static,
{
    let calls = rate.saturating_mul(duration.as_secs()).max(1);
    let (starts, mut started) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let begun = Instant::now();
        for number in 0..calls {
            let due = begun + Duration::from_nanos(number * 1_000_000_000 / rate.max(1));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if starts.send((number, due)).is_err() {
                // Nobody measures any more.
                return;
            }
        }
    });
    let mut under_way = JoinSet::new();
    while let Some((number, due)) = started.recv().await {
        under_way.spawn(call(number, due));
    }
    under_way.join_all().await
}

/// What a task of the load came to.
pub(super) fn joined<T>(task: Result<Result<T, CliError>, JoinError>) -> Result<T, CliError> {
    task.map_err(|error| CliError::failed(format!("a part of the load broke off: {error}")))?
}
