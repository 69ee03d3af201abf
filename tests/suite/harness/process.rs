//! The real program as a process of its own: started on a data directory or a database, waited
//! for, told to stop or killed; nothing of it outlives its guard.

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tollgate::cli::client::Client;

use super::{postgres::TOLLGATE, server::connect};

/// How long a start, a stop or the end of Postgres may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A `tollgate serve` that runs.
pub(crate) struct ServerProcess {
    child: Child,
    log: PathBuf,
    /// Where Postgres runs, if this server runs it.
    data_dir: Option<PathBuf>,
}

impl ServerProcess {
    /// Starts on the embedded Postgres of a data directory and waits until it serves.
    pub(crate) fn start(data_dir: &Path) -> Self {
        let server = Self::spawn(data_dir, &["--data-dir", data_dir.to_str().unwrap()], &[]);
        server.wait_until_serving()
    }

    /// Starts with these flags and variables, without waiting. Logs go into `directory`.
    pub(crate) fn spawn(directory: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let log = directory.with_extension(format!("{}.log", uuid::Uuid::now_v7()));
        let mut command = Command::new(TOLLGATE);
        command
            .arg("serve")
            .args(flags)
            .envs([
                ("TOLLGATE_LISTEN", "127.0.0.1:0"),
                ("TOLLGATE_METRICS_LISTEN", "127.0.0.1:0"),
                ("TOLLGATE_LOG_FORMAT", "json"),
                ("TOLLGATE_LOG", "debug"),
            ])
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap());
        for name in ["DATABASE_URL", "TOLLGATE_JWT_SECRET", "TOLLGATE_JWT_SECRET_FILE"] {
            command.env_remove(name);
        }
        for (name, value) in variables {
            command.env(name, value);
        }
        let embedded = !variables.iter().any(|(name, _)| *name == "DATABASE_URL");
        let data_dir = embedded.then(|| directory.to_owned());
        Self { child: command.spawn().unwrap(), log, data_dir }
    }

    /// Waits until it answers calls.
    pub(crate) fn wait_until_serving(mut self) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while self.serving().is_none() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "the server does not serve:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
        self
    }

    fn serving(&self) -> Option<Value> {
        self.log()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["message"] == "serving")
    }

    /// `http://ADDRESS:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address().unwrap())
    }

    /// Where it serves, once it does.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.serving()?["local_addr"].as_str()?.parse().ok()
    }

    /// Whether it is gone.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Where `/metrics` is.
    pub(crate) fn metrics_address(&self) -> String {
        self.serving().unwrap()["metrics_addr"].as_str().unwrap().to_owned()
    }

    /// Clients with the local operator's token, which has all roles but the tenant's.
    pub(crate) async fn operator(&self) -> Client {
        let path = self.data_dir.as_ref().unwrap().join("operator.jwt");
        connect(&self.endpoint(), &fs::read_to_string(path).unwrap()).await
    }

    /// Everything it has logged, and its last words.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, as a service manager does.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// `kill -9`. Its Postgres shuts down by itself.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Stops it in the middle of whatever it does, as a laptop that is closed.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        // A thread on another core goes on until it is told, and may answer a call meanwhile.
        let deadline = Instant::now() + PATIENCE;
        while !self.is_stopped() {
            assert!(Instant::now() < deadline, "the server does not stop");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the system says of each thread that it is stopped.
    fn is_stopped(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
        })
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end:\n{}", self.log());
            // Not asleep: clients of this test must hear that the door closes.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it in order.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.wait().await
    }

    /// Stops it in order and returns everything it has logged.
    pub(crate) async fn stop_and_read_log(mut self) -> String {
        self.terminate();
        assert!(self.wait().await.success(), "{}", self.log());
        self.log()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // It may have ended already.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
        // Its directory can be removed once its Postgres is gone.
        let deadline = Instant::now() + PATIENCE;
        while self.data_dir.as_deref().is_some_and(is_used) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = fs::remove_file(&self.log);
    }
}

/// A directory that the user Postgres runs as may pass through.
pub(crate) fn reachable_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
    directory
}

/// Whether a process works in or below a directory, as Postgres does in its own.
pub(crate) fn is_used(directory: &Path) -> bool {
    let Ok(directory) = directory.canonicalize() else { return false };
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&directory))
    })
}
