//! Who spends the processor's time, which client, server and Postgres share: what a call costs each of
//! them says where a ratio comes from. Read from `/proc`; where there is none, nothing is told.

use std::{fs, process};

/// What each has spent, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    pub(super) client: u64,
    pub(super) server: u64,
    pub(super) database: u64,
}

impl Spent {
    /// Both together.
    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            client: self.client + other.client,
            server: self.server + other.server,
            database: self.database + other.database,
        }
    }

    /// A process that has ended, which no server does during a scene, takes what it spent with it.
    const fn since(self, earlier: Self) -> Self {
        Self {
            client: self.client.saturating_sub(earlier.client),
            server: self.server.saturating_sub(earlier.server),
            database: self.database.saturating_sub(earlier.database),
        }
    }
}

/// Reads it from time to time.
#[derive(Debug)]
pub(super) struct Meter {
    /// The server and the echo, of which one idles.
    servers: Vec<u32>,
    postmaster: u32,
    last: Spent,
}

impl Meter {
    pub(super) fn of(servers: Vec<u32>, postmaster: u32) -> Self {
        Self { servers, postmaster, last: Spent::default() }
    }

    /// What was spent since this was last asked.
    pub(super) fn lap(&mut self) -> Spent {
        let now = Spent {
            client: by(process::id()),
            server: self.servers.iter().copied().map(by).sum(),
            database: by(self.postmaster)
                + children_of(self.postmaster).into_iter().map(by).sum::<u64>(),
        };
        now.since(std::mem::replace(&mut self.last, now))
    }
}

/// What the threads of a process have spent.
fn by(process: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| {
            on_processor(&fs::read_to_string(thread.path().join("schedstat")).ok()?)
        })
        .sum()
}

/// The first number of a `schedstat`: nanoseconds on a processor.
fn on_processor(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        parent_in(&stat) == Some(parent)
    };
    numbers.filter(is_child).collect()
}

/// The parent in a process's `stat`: the second field after its name, which is in parentheses and may
/// contain any.
fn parent_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_a_process_does_is_seen() {
        let mut meter = Meter::of(vec![process::id()], process::id());
        meter.lap();
        let (begun, mut spent) = (Instant::now(), Spent::default());
        let least = |spent: Spent| spent.client.min(spent.server).min(spent.database);
        // Of a lap in which another test ends, whose thread takes what it spent with it, nothing may
        // be seen.
        while least(spent) < 1_000_000 && begun.elapsed() < Duration::from_secs(10) {
            let lap = Instant::now();
            while lap.elapsed().as_millis() < 20 {
                std::hint::spin_loop();
            }
            spent = spent.and(meter.lap());
        }
        assert!(spent.client >= 1_000_000, "{spent:?}");
        assert!(spent.server >= 1_000_000 && spent.database >= 1_000_000, "{spent:?}");
    }

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent_in("17 (postgres: a) b (c) S 4 17 17 0"), Some(4));
        assert_eq!(parent_in("17 postgres S 4"), None);
    }
}
