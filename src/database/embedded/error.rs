//! Why the embedded Postgres could not be started or stopped. Each message names the place, the
//! problem and what to do about it, because it is printed as the last line of `tollgate serve`.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// What can go wrong with the embedded cluster.
#[derive(Debug, Error)]
pub enum EmbeddedError {
    /// No server binaries of a usable version anywhere.
    #[error("no Postgres server binaries found in {searched}; install them with: {install}")]
    NoBinaries {
        /// The places that were searched, joined for reading.
        searched: String,
        /// The exact command that installs them.
        install: String,
    },
    /// The configured directory lacks a program.
    #[error(
        "{} has no executable `{program}`; name the directory that holds Postgres's server \
         programs, such as /usr/lib/postgresql/15/bin", .directory.display()
    )]
    MissingProgram {
        /// The directory that was configured.
        directory: PathBuf,
        /// The missing program.
        program: &'static str,
    },
    /// A program did not tell its version.
    #[error("{} did not tell its version: {problem}", .program.display())]
    UnknownVersion {
        /// The program that was asked.
        program: PathBuf,
        /// What it answered instead.
        problem: String,
    },
    /// The configured binaries are older than Tollgate supports.
    #[error("{} is Postgres {found}; Tollgate needs {oldest} or newer: {install}",
        .directory.display())]
    TooOld {
        /// The directory that was configured.
        directory: PathBuf,
        /// Its major version.
        found: u32,
        /// The oldest major version supported.
        oldest: u32,
        /// The exact command that installs a newer one.
        install: String,
    },
    /// The data directory was made by another major version than the binaries have.
    #[error(
        "{} was made by Postgres {made_by}, and only {found} is at hand; install the version \
         that made it with: {install}", .cluster.display()
    )]
    OtherVersion {
        /// The cluster's directory.
        cluster: PathBuf,
        /// The major version in its `PG_VERSION`.
        made_by: u32,
        /// What was found instead, for reading.
        found: String,
        /// The exact command that installs the right one.
        install: String,
    },
    /// We are root, Postgres refuses root, and no user `postgres` exists.
    #[error(
        "Postgres refuses to run as root and there is no user `postgres`; name an unprivileged \
         user to run it as, or create one with: useradd --system --no-create-home postgres"
    )]
    NoUnprivilegedUser,
    /// The named user does not exist.
    #[error("there is no user `{0}` to run Postgres as; name an existing unprivileged user")]
    UnknownUser(String),
    /// The named user is root.
    #[error("Postgres refuses to run as `{0}`, which is root; name an unprivileged user")]
    UserIsRoot(String),
    /// Another user was named and we are not root.
    #[error("only root can run Postgres as `{0}`; start as root, or leave the user out")]
    CannotSwitchUser(String),
    /// The user Postgres runs as cannot pass through a directory.
    #[error(
        "the user `{user}` cannot enter {}, which lies on the way to {}; allow it with \
         `chmod o+x {}`, or choose another directory", .directory.display(), .wanted.display(),
        .directory.display()
    )]
    NotSearchable {
        /// The user Postgres runs as.
        user: String,
        /// The closed directory.
        directory: PathBuf,
        /// What lies behind it.
        wanted: PathBuf,
    },
    /// A directory belongs to someone else.
    #[error(
        "{} belongs to the user with id {owner}, not to `{expected}`; start as its owner, choose \
         another directory, or hand it over with: chown -R {expected} {}", .directory.display(),
        .directory.display()
    )]
    NotOurs {
        /// The directory.
        directory: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The user it should belong to.
        expected: String,
    },
    /// Another server runs on this data directory.
    #[error(
        "{} is in use by {}; stop that server first, or choose another data directory",
        .data_dir.display(),
        .pid.map_or_else(|| "another process".to_owned(), |pid| format!("pid {pid}"))
    )]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// The process that holds it, unless it has not written its id yet.
        pid: Option<u32>,
    },
    /// There is something where the cluster should be, and it is not one.
    #[error("{} is not a Postgres cluster (it has no PG_VERSION); move it away", .0.display())]
    NotACluster(PathBuf),
    /// The cluster could not be created.
    #[error("initdb could not create the cluster: {0}")]
    Initdb(String),
    /// Postgres ended before it was ready.
    #[error("Postgres did not start ({status}): {output}; its log is in {}", .log.display())]
    NotStarted {
        /// How the process ended.
        status: String,
        /// The last lines it wrote.
        output: String,
        /// The directory of its log files.
        log: PathBuf,
    },
    /// Postgres was not ready in time.
    #[error("Postgres was not ready after {seconds} s; its log is in {}", .log.display())]
    NotReady {
        /// How long it was waited for.
        seconds: u64,
        /// The directory of its log files.
        log: PathBuf,
    },
    /// Processes of an earlier run would not end.
    #[error("processes of an earlier run still use {}: {pids:?}; end them, then start again",
        .directory.display())]
    LeftoversStay {
        /// The cluster's directory.
        directory: PathBuf,
        /// Their process ids.
        pids: Vec<u32>,
    },
    /// The watchdog program did not do its part.
    #[error("the watchdog {} did not start Postgres: {problem}", .program.display())]
    Watchdog {
        /// The program that was run as the watchdog.
        program: PathBuf,
        /// What it said.
        problem: String,
    },
    /// It was told to stop while it was starting.
    #[error("the embedded Postgres was stopped while it was starting")]
    Stopped,
    /// Postgres did not shut down in order; nothing is lost, the next start recovers.
    #[error("the embedded Postgres did not shut down in order ({0}); the next start recovers")]
    UncleanStop(String),
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The new server could not be prepared over its socket.
    #[error("the embedded Postgres cannot be prepared: {0}")]
    Database(#[from] sqlx::Error),
}

/// Adapts an I/O result: `create(path).map_err(io_error("create", path))`.
pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> EmbeddedError {
    let path = path.to_owned();
    move |source| EmbeddedError::Io { action, path, source }
}
