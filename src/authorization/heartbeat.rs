//! Whether this server may authorize: it was heard of recently, by a clock that counts suspended
//! time. The beat also brings the database's time, by which expiry is judged.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};

use super::limits::HEARTBEAT_TTL;
use crate::clock;

/// The last beat that the database answered.
#[derive(Debug, Default)]
pub struct Heartbeat {
    /// Until when this server may authorize, in milliseconds since boot.
    deadline_ms: AtomicU64,
    /// The database's time at boot, in microseconds since 1970: its time now is this plus the time
    /// since boot.
    boot_us: AtomicI64,
    /// The database no longer knows this server.
    removed: AtomicBool,
    /// Servers that lived at the last beat, this one included; nothing before the first.
    live_servers: AtomicU32,
}

impl Heartbeat {
    /// The database answered a beat with its time; `sent` and `received` are since boot.
    pub fn answered(&self, sent: Duration, received: Duration, database_time: DateTime<Utc>) {
        // Taken from when the answer came, the estimate is late by the trip back at most: nothing
        // expires here before it does in the database, however long the beat was under way.
        let boot = database_time.timestamp_micros() - micros(received);
        self.boot_us.store(boot, Ordering::Relaxed);
        let deadline = u64::try_from((sent + HEARTBEAT_TTL).as_millis()).unwrap_or(u64::MAX);
        self.deadline_ms.fetch_max(deadline, Ordering::Release);
    }

    /// How many servers of this database lived at the last beat.
    pub(super) fn count(&self, live_servers: i64) {
        let live = u32::try_from(live_servers).unwrap_or(u32::MAX);
        self.live_servers.store(live, Ordering::Relaxed);
    }

    /// How many servers share this database now, this one included.
    #[must_use]
    pub fn live_servers(&self) -> u32 {
        self.live_servers.load(Ordering::Relaxed).max(1)
    }

    /// How long ago the last answered beat was sent; since boot if none was.
    #[must_use]
    pub fn age(&self) -> Duration {
        let deadline = Duration::from_millis(self.deadline_ms.load(Ordering::Acquire));
        (clock::since_boot() + HEARTBEAT_TTL).saturating_sub(deadline)
    }

    /// The database does not know this server any more: it may never authorize again.
    pub fn removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    /// Whether the database does not know this server any more.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Whether this server may authorize now.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.allows_at(clock::since_boot())
    }

    /// Whether this server may authorize at a moment since boot.
    #[must_use]
    pub fn allows_at(&self, at: Duration) -> bool {
        let now = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        now < self.deadline_ms.load(Ordering::Acquire) && !self.is_removed()
    }

    /// The database's time now, as far as this server can tell.
    #[must_use]
    pub fn database_now(&self) -> DateTime<Utc> {
        self.database_time_at(clock::since_boot())
    }

    /// The database's time at a moment since boot.
    #[must_use]
    pub fn database_time_at(&self, at: Duration) -> DateTime<Utc> {
        let now = self.boot_us.load(Ordering::Relaxed) + micros(at);
        DateTime::from_timestamp_micros(now).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_never_heard_of_may_not_authorize() {
        assert!(!Heartbeat::default().allows());
    }

    #[test]
    fn a_beat_allows_for_one_ttl_from_when_it_was_sent() {
        let heartbeat = Heartbeat::default();
        let long_ago = clock::since_boot().saturating_sub(HEARTBEAT_TTL);
        heartbeat.answered(long_ago, clock::since_boot(), clock::now());
        assert!(!heartbeat.allows());
        let now = clock::since_boot();
        heartbeat.answered(now, now, clock::now());
        assert!(heartbeat.allows());
        heartbeat.removed();
        assert!(!heartbeat.allows());
    }

    #[test]
    fn a_server_that_hears_of_no_other_is_alone() {
        let heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.live_servers(), 1);
        heartbeat.count(3);
        assert_eq!(heartbeat.live_servers(), 3);
        let now = clock::since_boot();
        heartbeat.answered(now, now, clock::now());
        assert!(heartbeat.age() < HEARTBEAT_TTL);
    }

    #[test]
    fn the_databases_time_goes_on_between_beats() {
        let heartbeat = Heartbeat::default();
        let there = clock::now() - chrono::Duration::hours(3);
        let now = clock::since_boot();
        heartbeat.answered(now, now, there);
        let off = heartbeat.database_now() - there;
        assert!(off > chrono::Duration::milliseconds(-1) && off < chrono::Duration::seconds(5));
    }

    #[test]
    fn a_beat_that_was_long_under_way_does_not_put_the_databases_time_ahead() {
        let second = Duration::from_secs;
        let (heartbeat, there) = (Heartbeat::default(), clock::now());
        // It took four seconds to get there and one to come back.
        heartbeat.answered(second(100), second(105), there);
        let ahead = heartbeat.database_time_at(second(105)) - (there + second(1));
        assert!(ahead <= chrono::Duration::zero(), "{ahead}");
        assert!(heartbeat.allows_at(second(104)));
        assert!(!heartbeat.allows_at(second(100) + HEARTBEAT_TTL));
    }
}
