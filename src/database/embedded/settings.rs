//! What the embedded Postgres is told, each setting with its reason. They are given on the command
//! line, which neither `postgresql.conf` nor `ALTER SYSTEM` overrides, so that the promises below
//! cannot be edited away; settings not listed here can be changed as in any Postgres.

use std::borrow::Cow;

use super::memory;

/// The number in the socket's file name. No port is opened.
pub(super) const PORT: u16 = 5432;

/// What holds for every cluster.
const ALWAYS: [(&str, &str); 27] = [
    // What was answered OK is on disk, whatever dies: the promise that the product makes.
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    // No port: only the private socket, which only its owner and root reach.
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    // WAL is what two cores wait for; page images shrink to a third for little work. `on` is
    // the one method that every build has.
    ("wal_compression", "on"),
    // Checkpoints by time, not by volume, under a full load, with recovery in well under a minute.
    ("max_wal_size", "2GB"),
    ("min_wal_size", "256MB"),
    ("checkpoint_timeout", "5min"),
    // SSDs: an index is worth its random reads.
    ("random_page_cost", "1.1"),
    // Statements are short: compiling them costs more than it saves.
    ("jit", "off"),
    // Hot tables have few rows that change at every batch: vacuum early, so that they stay small.
    ("autovacuum_vacuum_scale_factor", "0.05"),
    ("autovacuum_naptime", "15s"),
    // Text comparison and every date in the log are the same on every machine.
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("client_encoding", "UTF8"),
    // A file per weekday inside the data directory, overwritten a week later: bounded by itself.
    ("logging_collector", "on"),
    ("log_destination", "stderr"),
    ("log_directory", LOG_DIRECTORY),
    ("log_filename", "postgresql-%a.log"),
    ("log_rotation_age", "1d"),
    ("log_rotation_size", "0"),
    ("log_truncate_on_rotation", "on"),
    ("log_file_mode", "0600"),
    // Parameters can hold what a log must not: statements are logged without them.
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
    // A lock waited for longer than deadlock_timeout is what an engineer looks for at 3 a.m.
    ("log_lock_waits", "on"),
];

/// Where the log files are, inside the cluster's directory.
pub(super) const LOG_DIRECTORY: &str = "log";

/// For a server on a small machine (2 cores, 2 GB or more), beside its buffers.
const SERVER: [(&str, &str); 1] = [
    // Writers, the pool, heartbeat, listener and an operator's psql; each costs about 10 MB.
    ("max_connections", "60"),
];

/// For a cluster of one test run: small, but with room for many pools at once.
const TEMPORARY: [(&str, &str); 2] = [
    // Several test runs may share a machine.
    ("shared_buffers", "64MB"),
    // One pool per test, all tests at once.
    ("max_connections", "300"),
];

/// The least and the most that a server's cluster has as buffers: the page tables of each connection take
/// a five-hundredth of it.
const BUFFERS: (u64, u64) = (256 * MIB, 2_048 * MIB);
/// One part of the memory in so many: the hot tables and their indexes. The rest is the server's, and the
/// page cache's, on which Postgres relies.
const PART_OF_MEMORY: u64 = 8;
const MIB: u64 = 1024 * 1024;

/// All settings of a cluster.
pub(super) fn settings(temporary: bool) -> Vec<(&'static str, Cow<'static, str>)> {
    let fixed = ALWAYS.iter().chain(if temporary { &TEMPORARY[..] } else { &SERVER });
    let mut settings: Vec<_> = fixed.map(|(name, value)| (*name, Cow::Borrowed(*value))).collect();
    if !temporary {
        settings.push(("shared_buffers", Cow::Owned(buffers_of(memory::available()))));
    }
    settings
}

/// The buffers of a machine with so many bytes of memory.
fn buffers_of(memory: u64) -> String {
    let bytes = (memory / PART_OF_MEMORY).clamp(BUFFERS.0, BUFFERS.1);
    format!("{}MB", bytes / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_an_eighth_of_the_memory_within_bounds() {
        assert_eq!(buffers_of(0), "256MB");
        assert_eq!(buffers_of(1024 * MIB), "256MB");
        assert_eq!(buffers_of(4_096 * MIB), "512MB");
        assert_eq!(buffers_of(24_105 * MIB), "2048MB");
        assert_eq!(buffers_of(u64::MAX), "2048MB");
    }
}
