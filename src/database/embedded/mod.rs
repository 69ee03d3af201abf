//! The embedded default: a private Postgres cluster in Tollgate's data directory, run over the
//! standard tools (`initdb`, `postgres`).
//!
//! It guarantees:
//! - What Postgres acknowledged is on disk: `fsync` and `synchronous_commit` are on and cannot be
//!   edited away (`settings.rs`).
//! - A data directory has one server: a second start is told the first one's pid and changes
//!   nothing (`directory.rs`).
//! - No process outlives us, `kill -9` of us included (`watchdog.rs`), and what an even harder death
//!   left behind is ended before the next start (`leftovers.rs`).
//! - A directory is either not a cluster or a complete one: it is made aside and renamed.
//! - A postmaster that dies is started again (`supervisor.rs`).
//! - No port is open: the socket lies in a directory that only its owner and root enter, so it
//!   needs no password.
//!
//! It leaves to others: roles, migrations and pools.

mod binaries;
mod directory;
mod error;
mod launcher;
mod leftovers;
mod memory;
mod settings;
mod store;
mod supervisor;
mod user;
pub mod watchdog;

use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::sync::watch;

pub use self::error::EmbeddedError;
use self::{
    binaries::{Binaries, Search},
    directory::{DataDirectory, SocketDirectory},
    error::io_error,
    launcher::Launcher,
    supervisor::{Postmaster, Supervisor},
    user::RunAs,
};

/// The database everything is in; it is there as soon as the cluster is up.
pub const DATABASE: &str = "tollgate";
/// The cluster's superuser, who owns that database.
pub const OWNER: &str = "tollgate";

/// How to run the embedded cluster.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Tollgate's data directory; made where it is missing.
    pub data_dir: PathBuf,
    /// The directory of Postgres's server programs; without it the newest installed ones.
    pub postgres_bin: Option<PathBuf>,
    /// Whom root runs Postgres as; without it `postgres`.
    pub run_as: Option<String>,
    /// The `tollgate` program, whose hidden mode is the [`watchdog`].
    pub watchdog_program: PathBuf,
    /// A cluster for one test run: small, and its data directory is removed when this process is
    /// done with it, by whatever way.
    pub temporary: bool,
}

impl EmbeddedOptions {
    /// The defaults for a data directory, with the program that is to be the watchdog.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>, watchdog_program: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            postgres_bin: None,
            run_as: None,
            watchdog_program: watchdog_program.into(),
            temporary: false,
        }
    }
}

/// Whether the cluster takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// Its first start is under way.
    Starting,
    /// It takes connections.
    Up,
    /// It died and is being started again.
    Restarting,
    /// It was told to stop and is gone.
    Stopped,
}

/// A running cluster. Dropping it shuts it down and waits for that; [`stop`](Self::stop) does the
/// same without blocking a runtime's thread.
#[derive(Debug)]
pub struct EmbeddedCluster {
    supervisor: Supervisor,
    state: watch::Receiver<ClusterState>,
    data_dir: PathBuf,
    socket: SocketDirectory,
}

impl EmbeddedCluster {
    /// Makes the cluster where there is none, starts it and returns once it takes connections and
    /// has its database. The first start takes about 1.5 s, a later one 0.2 s, one after a crash
    /// as long as Postgres has to recover.
    pub async fn start(options: EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let cluster = tokio::task::spawn_blocking(move || Self::start_server(&options))
            .await
            .map_err(|_| EmbeddedError::Stopped)??;
        store::create_database(&cluster.connect_options("postgres")).await?;
        tracing::info!(
            data_dir = %cluster.data_dir.display(),
            pid = cluster.postmaster_pid(),
            "the embedded Postgres is up"
        );
        Ok(cluster)
    }

    fn start_server(options: &EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let run_as = RunAs::resolve(options.run_as.as_deref())?;
        let directory = DataDirectory::open(&options.data_dir, &run_as, options.temporary)?;
        let binaries = Search::new(options.postgres_bin.clone()).find(&directory.cluster)?;
        let mut launcher = Launcher::new(&options.watchdog_program, run_as.clone())?;
        if options.temporary {
            launcher.remove_when_done.push(directory.path.clone());
        }

        leftovers::end_all(&directory.unfinished)?;
        directory.remove_unfinished()?;
        if !directory.has_cluster(&run_as)? {
            create(&directory, &binaries, &launcher, &run_as, options.temporary)?;
        }
        // Before the socket: a postmaster of an earlier run may still be using its directory.
        leftovers::end_all(&directory.cluster)?;
        let socket = SocketDirectory::make(&directory, &run_as)?;
        if socket.is_temporary {
            launcher.remove_when_done.push(socket.path.clone());
        }

        let data_dir = directory.path.clone();
        let temporary = options.temporary;
        let supervisor = Supervisor::start(Postmaster {
            directory,
            binaries,
            launcher,
            socket: socket.clone(),
            temporary,
        });
        let supervisor = supervisor.inspect_err(|_| socket.remove_if_temporary())?;
        Ok(Self { state: supervisor.state(), supervisor, data_dir, socket })
    }

    /// How to reach a database of the cluster as its [`OWNER`].
    #[must_use]
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket.path)
            .port(settings::PORT)
            .username(OWNER)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    /// Whether it takes connections right now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        *self.state.borrow() == ClusterState::Up
    }

    /// The same, for whoever wants to be told of changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ClusterState> {
        self.state.clone()
    }

    /// Tollgate's data directory, as an absolute path without links.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The directory of the socket, for `psql -h`.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.socket.path
    }

    /// The postmaster's process id; `None` while it is being started again.
    #[must_use]
    pub fn postmaster_pid(&self) -> Option<u32> {
        self.supervisor.postmaster_pid()
    }

    /// Shuts the cluster down fast (open transactions are rolled back) and waits until it is gone.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        tokio::task::spawn_blocking(move || self.supervisor.stop())
            .await
            .map_err(|_| EmbeddedError::UncleanStop("its supervisor failed".to_owned()))?
    }
}

/// Makes a cluster aside and gives it its name once it is complete and synced.
fn create(
    directory: &DataDirectory,
    binaries: &Binaries,
    launcher: &Launcher,
    run_as: &RunAs,
    temporary: bool,
) -> Result<(), EmbeddedError> {
    tracing::info!(path = %directory.cluster.display(), "creating the embedded Postgres");
    directory.make_unfinished(run_as)?;
    let mut arguments = vec!["-D".into(), directory.unfinished.clone().into()];
    let username = format!("--username={OWNER}");
    let fixed = [
        username.as_str(),
        "--encoding=UTF8",
        // Order and case are the same on every machine, and an upgrade of the C library cannot
        // corrupt an index.
        "--locale=C",
        // A block that rots is an error, not a wrong balance.
        "--data-checksums",
        // Whoever enters the socket's directory is its owner or root.
        "--auth-local=trust",
        "--auth-host=reject",
        "--no-instructions",
    ];
    arguments.extend(fixed.map(Into::into));
    if temporary {
        arguments.push("--no-sync".into());
    }
    let (mut running, pipe) =
        launcher.start(&directory.unfinished, &binaries.program("initdb"), arguments)?;
    let status = running.watchdog.wait().map_err(io_error("watch", &directory.unfinished))?;
    drop(pipe);
    if !status.success() {
        let words = running.last_words();
        directory.remove_unfinished()?;
        return Err(EmbeddedError::Initdb(format!("{status}: {words}")));
    }
    directory.finish()
}
