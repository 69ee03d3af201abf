//! Processes that an earlier run left behind, recognised by their working directory.
//!
//! A pid file is not enough: after a reboot, or in a container, its number is some other process's,
//! and Postgres then refuses to start for the sake of a stranger; while after `kill -9` of the
//! postmaster its number is nobody's although backends are still writing. A process of a cluster
//! has the cluster's directory as its working directory, which the kernel tells truthfully.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use super::{error::EmbeddedError, watchdog};

/// An orderly end: the postmaster writes its checkpoint, a watchdog waits for it.
const ORDERLY: Duration = Duration::from_mins(1);
/// An end without a checkpoint.
const IMMEDIATE: Duration = Duration::from_secs(10);
/// What the kernel needs to bury a killed process.
const FORCED: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A process that works in a cluster's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Leftover {
    pid: u32,
    is_watchdog: bool,
}

/// Ends whatever of Postgres still works in `directory` and waits until it is gone.
///
/// Shells and editors that merely stand in the directory are left alone.
pub(super) fn end_all(directory: &Path) -> Result<(), EmbeddedError> {
    let found = working_in(directory);
    if found.is_empty() {
        return Ok(());
    }
    let recorded = PidFile::read(directory).map(|file| file.pid);
    let postmaster = recorded.filter(|pid| found.iter().any(|leftover| leftover.pid == *pid));
    tracing::warn!(?postmaster, processes = ?found, "ending what an earlier run left behind");
    match postmaster {
        Some(pid) => signal(pid, Signal::INT),
        // Without its postmaster a backend has nobody to shut it down in order.
        None => found
            .iter()
            .filter(|leftover| !leftover.is_watchdog)
            .for_each(|leftover| signal(leftover.pid, Signal::QUIT)),
    }
    if wait_until_gone(directory, ORDERLY) {
        return Ok(());
    }
    for (kind, patience) in [(Signal::QUIT, IMMEDIATE), (Signal::KILL, FORCED)] {
        for leftover in working_in(directory) {
            signal(leftover.pid, kind);
        }
        if wait_until_gone(directory, patience) {
            return Ok(());
        }
    }
    let pids = working_in(directory).into_iter().map(|leftover| leftover.pid).collect();
    Err(EmbeddedError::LeftoversStay { directory: directory.to_owned(), pids })
}

/// Removes a pid file whose number has become a stranger's, which Postgres would take for a
/// running postmaster. Only to be called once nothing works in the directory any more.
pub(super) fn forget_recycled_pid(directory: &Path) -> io::Result<()> {
    match PidFile::read(directory) {
        Some(file) if Path::new("/proc").join(file.pid.to_string()).exists() => {
            tracing::warn!(pid = file.pid, "removing a stale postmaster.pid: its number is reused");
            fs::remove_file(directory.join(PidFile::NAME))
        }
        _ => Ok(()),
    }
}

fn working_in(directory: &Path) -> Vec<Leftover> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            let path = process.path();
            // Another user's process does not show its directory, and cannot be in ours.
            (fs::read_link(path.join("cwd")).ok()? == directory).then_some(())?;
            let is_watchdog = watchdog::is_command_line(&fs::read(path.join("cmdline")).ok()?);
            (is_watchdog || is_server_program(&path)).then_some(Leftover { pid, is_watchdog })
        })
        .collect()
}

fn is_server_program(process: &Path) -> bool {
    let Ok(program) = fs::read_link(process.join("exe")) else { return false };
    // After an upgrade of the package it reads "postgres (deleted)".
    program
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.split(' ').next())
        .is_some_and(|name| name == "postgres" || name == "initdb")
}

/// Waits, without ending anything, until nothing works in `directory`; answers whether that came
/// true in time.
pub(super) fn wait_until_gone(directory: &Path, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while !working_in(directory).is_empty() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(LOOK_AGAIN);
    }
    true
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // A process that is gone by now is what is wanted; one that is not ours stays, and is named.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// What a postmaster says about itself in its cluster's directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: u32,
    /// The directory of its socket.
    pub(super) socket_directory: Option<PathBuf>,
    /// Whether it takes connections.
    pub(super) is_ready: bool,
}

impl PidFile {
    pub(super) const NAME: &str = "postmaster.pid";

    /// Reads the file; `None` while there is none or it is not written yet.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(directory.join(Self::NAME)).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        // Directory, start time, port, socket directory, addresses, shared memory, status.
        let socket_directory = lines.nth(3).filter(|line| !line.is_empty()).map(PathBuf::from);
        let is_ready = lines.nth(2).is_some_and(|status| status.trim() == "ready");
        Some(Self { pid, socket_directory, is_ready })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_pid_file_is_ready_only_when_it_says_so() {
        let text = "4711\n/data\n1700000000\n5432\n/run/here\n\n  5432001  65536\n";
        let starting = PidFile::parse(&format!("{text}starting\n")).unwrap();
        assert_eq!(
            starting,
            PidFile { pid: 4711, socket_directory: Some("/run/here".into()), is_ready: false }
        );
        assert!(PidFile::parse(&format!("{text}ready   \n")).unwrap().is_ready);
        assert!(!PidFile::parse("4711\n").unwrap().is_ready);
        assert_eq!(PidFile::parse(""), None);
    }

    #[test]
    fn a_stranger_standing_in_the_directory_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let mut stranger = Command::new("sleep").arg("60").current_dir(&path).spawn().unwrap();
        assert_eq!(working_in(&path), []);
        end_all(&path).unwrap();
        assert_eq!(stranger.try_wait().unwrap(), None, "it was ended");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn a_pid_file_with_a_strangers_number_is_removed_and_one_with_nobodys_stays() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(PidFile::NAME);
        fs::write(&file, format!("{}\n", std::process::id())).unwrap();
        forget_recycled_pid(directory.path()).unwrap();
        assert!(!file.exists());
        fs::write(&file, format!("{}\n", u32::MAX)).unwrap();
        forget_recycled_pid(directory.path()).unwrap();
        assert!(file.exists());
    }
}
