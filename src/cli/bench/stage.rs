//! What a run needs: a Postgres of its own, and the real server as a process of its own. All of it
//! is private to the run and gone after it, also when the run is killed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;

use super::gateway::CONNECTIONS;
use crate::{
    cli::{Global, client::Client, error::CliError, output::Format, tls::TlsArguments},
    database::embedded::{self, EmbeddedCluster, EmbeddedOptions},
    identity::{
        Role,
        secret::Secret,
        token::{TokenAuthority, TokenRequest},
    },
};

/// Bytes of the secret that signs the tokens of one run.
const SECRET_BYTES: usize = 32;
/// Longer than any run.
const TOKEN_LIFETIME: Duration = Duration::from_hours(24);
/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// A Postgres that is gone after the run.
#[derive(Debug)]
pub(super) struct Database {
    cluster: EmbeddedCluster,
    directory: PathBuf,
}

impl Database {
    /// Starts one with the settings of a real server.
    pub(super) async fn start(parent: &Path, name: &str) -> Result<Self, CliError> {
        let program = std::env::current_exe()?;
        let directory = parent.join(format!("tollgate-bench-{}-{name}", std::process::id()));
        let options = EmbeddedOptions::new(&directory, program);
        let cluster = EmbeddedCluster::start(options).await.map_err(failed)?;
        Ok(Self { cluster, directory })
    }

    /// How to connect to it.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.cluster.connect_options(embedded::DATABASE)
    }

    /// Postgres's first process.
    pub(super) fn postmaster(&self) -> Option<u32> {
        self.cluster.postmaster_pid()
    }

    /// Where its data is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn url(&self) -> String {
        format!(
            "postgres://{}@localhost:{}/{}?host={}&sslmode=disable",
            embedded::OWNER,
            self.options().get_port(),
            embedded::DATABASE,
            self.cluster.socket_dir().display(),
        )
    }

    /// Stops and removes it.
    pub(super) async fn remove(self) -> Result<(), CliError> {
        self.cluster.stop().await.map_err(failed)?;
        fs::remove_dir_all(&self.directory).map_err(|cause| CliError::file(&self.directory, cause))
    }
}

/// `tollgate serve` on that Postgres.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    log: PathBuf,
    endpoint: String,
    token: String,
    /// From its start until it answered calls.
    pub(super) ready_after: Duration,
}

impl Server {
    /// Starts it and waits until it serves.
    pub(super) async fn start(database: &Database) -> Result<Self, CliError> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(failed)?;
        let secret = STANDARD.encode(bytes);
        let request = TokenRequest {
            subject: "bench".to_owned(),
            roles: vec![Role::Gateway, Role::Operator, Role::Finance, Role::Auditor],
            account: None,
            lifetime: TOKEN_LIFETIME,
        };
        let authority =
            TokenAuthority::new(&Secret::new(&secret, "the benchmark").map_err(failed)?);
        let token = authority.mint(&request).map_err(failed)?;

        let log = database.directory.join("server.log");
        let output = File::create(&log).map_err(|cause| CliError::file(&log, cause))?;
        let begun = Instant::now();
        let child = Command::new(std::env::current_exe()?)
            .args([
                "serve",
                "--stop-with-parent",
                "--log-format",
                "json",
                "--metrics-listen",
                "off",
            ])
            .args(["--listen", "127.0.0.1:0"])
            .env("DATABASE_URL", database.url())
            .env("TOLLGATE_JWT_SECRET", secret)
            .env_remove("TOLLGATE_JWT_SECRET_FILE")
            .env_remove("TOLLGATE_JWT_PUBLIC_KEYS")
            .env_remove("TOLLGATE_JWT_JWKS")
            .stdin(Stdio::null())
            .stderr(output)
            .spawn()?;
        let mut server =
            Self { child, log, endpoint: String::new(), token, ready_after: Duration::ZERO };
        server.endpoint = loop {
            if let Some(address) = server.address() {
                break format!("http://{address}");
            }
            if server.child.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(&server.log).unwrap_or_default();
                return Err(CliError::failed(format!("the server does not start:\n{log}")));
            }
            tokio::time::sleep(LOOK).await;
        };
        server.ready_after = begun.elapsed();
        Ok(server)
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had resident, in KiB.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        self.status("VmHWM:")
    }

    /// The memory that it has resident now, in KiB.
    pub(super) fn memory(&self) -> Option<u64> {
        self.status("VmRSS:")
    }

    /// A line of what the kernel says of it.
    fn status(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    /// Where it said that it serves.
    fn address(&self) -> Option<String> {
        let log = fs::read_to_string(&self.log).ok()?;
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let serving =
            lines.find(|line| line.get("message").is_some_and(|text| text == "serving"))?;
        Some(serving.get("local_addr")?.as_str()?.to_owned())
    }

    /// The connections of a gateway to it, or to another address with the same token.
    pub(super) async fn connect(&self, endpoint: Option<&str>) -> Result<Arc<[Client]>, CliError> {
        let endpoint = endpoint.unwrap_or(&self.endpoint);
        connect(&self.to(endpoint), CONNECTIONS).await
    }

    /// Clients over so many connections.
    pub(super) async fn connect_over(&self, connections: usize) -> Result<Arc<[Client]>, CliError> {
        connect(&self.to(&self.endpoint), connections).await
    }

    fn to(&self, endpoint: &str) -> Global {
        Global {
            endpoint: endpoint.to_owned(),
            token: Some(self.token.clone()),
            data_dir: None,
            tls: TlsArguments::default(),
            output: Format::default(),
        }
    }

    /// Drains it.
    pub(super) async fn stop(mut self) -> Result<ExitStatus, CliError> {
        self.signal(Signal::TERM);
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > PATIENCE {
                return Err(CliError::failed("the server does not stop"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It may have ended by itself.
        let _ = pid.map(|pid| rustix::process::kill_process(pid, signal));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// The connections of one gateway.
pub(super) async fn connect(
    global: &Global,
    connections: usize,
) -> Result<Arc<[Client]>, CliError> {
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(Client::connect(global).await?);
    }
    Ok(clients.into())
}

/// A failure of a part, in its own words.
pub(super) fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::failed(error.to_string())
}
