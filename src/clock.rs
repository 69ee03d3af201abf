//! The two clocks: wall time for what is written down, and boot time for deadlines.
//!
//! Everything takes its time from here, so that a test can own it and a search for `clock::` finds
//! every place that depends on time.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Wall time, in UTC.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Time since the machine booted, suspended time included (`CLOCK_BOOTTIME`): a server that slept
/// in a suspended virtual machine must find its heartbeat deadline passed when it wakes.
#[must_use]
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
