//! A Postgres of the operator's own: whatever settings, roles and archive a test gives it. It runs under
//! the program's watchdog, so that nothing of it outlives the test, by whatever way that ends.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use sqlx::{
    ConnectOptions as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tollgate::database::embedded::watchdog;

use super::postgres::TOLLGATE;

/// How long a start or a recovery may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// The cluster's superuser.
pub(crate) const ADMINISTRATOR: &str = "administrator";
/// What keeps a test's cluster small and quick; fsync stays on.
const SETTINGS: &str = "
listen_addresses = ''
shared_buffers = 32MB
max_connections = 60
log_min_messages = error
";

/// A cluster in a directory, running or not.
pub(crate) struct OwnPostgres {
    cluster: PathBuf,
    watchdog: Option<Child>,
}

impl OwnPostgres {
    /// Makes a cluster in `directory`, which must be reachable, with these lines in its
    /// `postgresql.conf`, and starts it.
    pub(crate) async fn make(directory: &Path, settings: &str) -> Self {
        let cluster = directory.join("cluster");
        make_private(&cluster);
        let arguments = ["--pgdata", cluster.to_str().unwrap(), "--username", ADMINISTRATOR];
        let fixed = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"];
        run(as_its_user(program("initdb")).args(arguments).args(fixed));
        let own = Self { cluster, watchdog: None };
        own.configure(&format!("{SETTINGS}{settings}\n"));
        own.started().await
    }

    /// A cluster that is there already, such as a restored one.
    pub(crate) fn of(cluster: &Path) -> Self {
        Self { cluster: cluster.to_owned(), watchdog: None }
    }

    /// Adds lines to its `postgresql.conf`.
    pub(crate) fn configure(&self, lines: &str) {
        let path = self.cluster.join("postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(lines.as_bytes()).unwrap();
    }

    /// Starts it and waits until it can be written.
    pub(crate) async fn started(self) -> Self {
        self.started_as(false).await
    }

    /// Starts it as a standby that follows another and can be read.
    pub(crate) async fn following(self) -> Self {
        self.started_as(true).await
    }

    /// A standby becomes the primary. Returns once it can be written.
    pub(crate) async fn promote(&self) {
        let mut connection = self.administrator("postgres").await;
        let promoted = sqlx::query_scalar("SELECT pg_promote(wait => true)");
        let promoted: bool = promoted.fetch_one(&mut connection).await.unwrap();
        assert!(promoted, "it is no standby, or takes too long");
    }

    /// `kill -9`, as when a machine loses its power.
    pub(crate) fn kill(&self) {
        let file = fs::read_to_string(self.cluster.join("postmaster.pid")).unwrap();
        let pid = file.lines().next().unwrap().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    async fn started_as(mut self, standby: bool) -> Self {
        let log = fs::File::create(self.log()).unwrap();
        let program = as_its_user(program("postgres"));
        let mut command = Command::new(TOLLGATE);
        command.args([watchdog::COMMAND, "run", "--"]).arg(program.get_program());
        command.args(program.get_args()).arg("-D").arg(&self.cluster);
        // Its socket beside its files: the user it runs as is the only one who enters.
        command
            .arg("-k")
            .arg(&self.cluster)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        self.watchdog = Some(command.spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut connection) = self.options(ADMINISTRATOR, "postgres").connect().await {
                let restoring = sqlx::query_scalar("SELECT pg_is_in_recovery()");
                let restoring: Option<bool> = restoring.fetch_one(&mut connection).await.ok();
                if restoring == Some(standby) {
                    return self;
                }
            }
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            assert!(Instant::now() < deadline, "Postgres does not start:\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> PathBuf {
        self.cluster.with_extension("log")
    }

    /// Stops it in order.
    pub(crate) fn stop(&mut self) {
        let Some(mut watchdog) = self.watchdog.take() else { return };
        // The end of its input tells it to.
        drop(watchdog.stdin.take());
        watchdog.wait().unwrap();
    }

    /// How to reach a database of it.
    pub(crate) fn options(&self, user: &str, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.cluster)
            .username(user)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    /// A session of the superuser.
    pub(crate) async fn administrator(&self, database: &str) -> PgConnection {
        self.options(ADMINISTRATOR, database).connect().await.unwrap()
    }

    /// Where its files and its socket are.
    pub(crate) fn cluster(&self) -> &Path {
        &self.cluster
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A new directory of the user that Postgres runs as.
pub(crate) fn make_private(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    if is_root() {
        run(Command::new("chown").arg("postgres:postgres").arg(path));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One of Postgres's programs, of the newest version that is installed.
pub(crate) fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin").join(name).exists())
        .max_by_key(|path| version(path));
    match (std::env::var_os("TOLLGATE_POSTGRES_BIN"), newest) {
        (Some(directory), _) => Path::new(&directory).join(name),
        (None, Some(newest)) => newest.join("bin").join(name),
        (None, None) => PathBuf::from(name),
    }
}

/// Whether the programs that copy a cluster are installed; a package of server programs alone lacks them.
/// Says in one line that a test is skipped where they are not.
pub(crate) fn can_copy_clusters() -> bool {
    let missing = ["pg_basebackup", "pg_receivewal", "pg_verifybackup"].map(program);
    let missing = missing.iter().find(|program| !is_found(program));
    if let Some(program) = missing {
        eprintln!("skipped: {} is not installed", program.display());
    }
    missing.is_none()
}

fn is_found(program: &Path) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// A command of the user that Postgres runs as: `postgres` where we are root, else we.
pub(crate) fn as_its_user(program: impl AsRef<OsStr>) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) {
    let output = command.current_dir("/").stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
}
