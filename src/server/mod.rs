//! Puts the parts together, runs them, and drains them.
//!
//! [`start`] builds in this order, each step using those before it: database, schema, secret and
//! gate, ports, services. [`RunningServer::drain`] goes back: health says `NOT_SERVING`, the door
//! closes, calls under way are answered, background tasks finish what is queued, connections close,
//! the embedded Postgres stops. Every step of a drain is bounded, so that a stop always ends.

mod callers;
mod connection;
mod dispatch;
mod domain;
mod doors;
mod error;
mod health;
mod metrics;
mod services;
mod tls;
mod watch;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use self::{
    callers::Callers,
    doors::{Doors, Entrance},
    health::Health,
    tls::Tls,
};
pub use self::{error::ServerError, tls::TlsError};
use crate::{
    api::call::{CallLayer, Endings},
    audit,
    authorization::admission::Admission,
    config::{Config, DatabaseChoice},
    database::{
        embedded::{self, EmbeddedCluster},
        migrate, pool,
        reports::Reports,
    },
    identity::{Gate, revoked::RevokedTokens, secret::write_private},
    installation::Setup,
    tasks::Tasks,
    telemetry::metrics::{CallMetrics, Metrics},
};

/// How long calls under way may take to end during a drain. Orchestrators kill after 30 s; this
/// and the bounds below leave room within that.
const CALL_DRAIN: Duration = Duration::from_secs(10);
/// How long clients may take to hear that the door closes and to close their connections; those
/// that answer take a round trip.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a stream that was cut may take to tell its caller so.
const CUT_DRAIN: Duration = Duration::from_secs(1);
/// How often a drain looks whether calls are under way.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// How long background tasks may take to finish what is queued: a few batches.
const TASK_DRAIN: Duration = Duration::from_secs(8);
/// How long connections may take to close.
const POOL_DRAIN: Duration = Duration::from_secs(2);
/// Calls at once on one connection; a gateway with more opens another connection.
const CONCURRENT_STREAMS: u32 = 1_000;
/// Calls of one connection that were given up before the server had looked at them; more cost the gateway
/// the connection, with all other calls on it. The library's 20 were reached by any gateway whose callers
/// lost patience with a busy server, and 1,000 under three times as much as could be served.
const GIVEN_UP: usize = 10_000;
/// Connections at once: more than the gateways of a large fleet open. Each takes a file descriptor and
/// buffers; beyond the limit new ones are closed at once, and those that are open go on.
const CONNECTIONS: usize = 10_000;
/// How often an idle connection is asked whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a call's headers, token and labels included.
const HEADER_LIMIT: u32 = 16 * 1024;

/// A server that answers calls.
#[derive(Debug)]
pub struct RunningServer {
    local_addr: SocketAddr,
    metrics_addr: Option<SocketAddr>,
    tasks: Tasks,
    health: Health,
    cut: CancellationToken,
    calls: CallMetrics,
    doors: Doors,
    pool: PgPool,
    reports: Reports,
    cluster: Option<EmbeddedCluster>,
}

/// What the services are made of.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) pool: PgPool,
    pub(crate) reports: Reports,
    pub(crate) tasks: Tasks,
    pub(crate) revoked: Arc<RevokedTokens>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) installation: Setup,
    pub(crate) closes_months: bool,
    pub(crate) overdue_grace_days: Option<u16>,
    pub(crate) details_retention_days: Option<u16>,
}

/// Builds everything that `config` asks for and begins to answer.
///
/// # Errors
/// Whatever keeps it from serving, in a sentence; nothing of it is left running.
pub async fn start(config: Config) -> Result<RunningServer, ServerError> {
    // Before anything is begun: what is wrong here is wrong with the configuration.
    let tls = config.tls.map(Tls::read).transpose()?.map(Arc::new);
    if tls.is_none() && !config.listen.ip().is_loopback() {
        tracing::warn!(listen = %config.listen, "gRPC is served without TLS beyond loopback");
    }
    let (cluster, options) = match config.database {
        DatabaseChoice::Embedded(options) => {
            let cluster = EmbeddedCluster::start(options).await?;
            let options = cluster.connect_options(embedded::DATABASE);
            (Some(cluster), options)
        }
        DatabaseChoice::Given(options) => (None, *options),
    };
    let pool = pool::open(options.clone(), config.database_connections).await?;
    migrate::run(&options).await?;

    let callers = Callers::read(config.tokens)?;
    if let Some(path) = &config.operator_token {
        write_private(path, &callers.operator_token()?)?;
    }
    let revoked = Arc::new(RevokedTokens::default());
    revoked.load(&pool).await.map_err(ServerError::RevokedTokens)?;
    let (open_health, open_reflection) = (config.open_health, config.open_reflection);
    let gate = Arc::new(Gate::new(callers.keys, Arc::clone(&revoked), |service| {
        if service.contains("health") { open_health } else { open_reflection }
    }));

    // Both ports before anything runs in the background: whatever fails leaves nothing behind.
    let (metrics_listener, metrics_addr) = match config.metrics_listen {
        Some(address) => {
            metrics::bind(address).await.map(|(socket, at)| (Some(socket), Some(at)))?
        }
        None => (None, None),
    };
    let (listener, local_addr) = doors::bind(config.listen).await?;

    let reports = Reports::open(&options);
    let parts = Parts {
        pool: pool.clone(),
        reports: reports.clone(),
        tasks: Tasks::new(),
        revoked,
        metrics: Arc::new(Metrics::new()),
        admission: Arc::default(),
        installation: Setup {
            embedded: cluster.as_ref().map(|cluster| cluster.data_dir().to_owned()),
            listen: local_addr,
            closes_months: config.closes_months,
        },
        closes_months: config.closes_months,
        overdue_grace_days: config.overdue_grace_days,
        details_retention_days: config.details_retention_days,
    };
    let (health, health_service) = Health::new(parts.metrics.database.clone());
    let dispatch = match services::all(&parts, config.lifetime, health_service).await {
        Ok(dispatch) => dispatch,
        Err(error) => {
            parts.tasks.stop(TASK_DRAIN).await;
            return Err(error);
        }
    };
    health.watch(&parts.tasks, pool::session(options, "health")).await;
    if let Some(listener) = metrics_listener {
        metrics::serve(listener, &parts);
    }
    let cut = CancellationToken::new();
    let (attempts, attempt_writer) = audit::attempts::channel();
    attempt_writer.keep(pool.clone(), &parts.tasks);
    let layer = CallLayer::new(
        Arc::clone(&gate),
        parts.metrics.calls.clone(),
        Endings { closing: parts.tasks.closing(), cut: cut.clone() },
        attempts,
    );
    callers::keep_keys(callers.sources, gate, &parts.tasks);
    if let Some(tls) = &tls {
        tls.keep(&parts.tasks);
    }
    let speaks_tls = tls.is_some();
    let admission = Arc::clone(&parts.admission);
    let entrance = Entrance { listener, tls, threads: config.call_threads, admission };
    let doors = Doors::open(&parts.tasks, &layer, &dispatch, entrance)?;

    let metrics = metrics_addr.map(tracing::field::display);
    tracing::info!(%local_addr, tls = speaks_tls, metrics_addr = metrics, "serving");
    Ok(RunningServer {
        local_addr,
        metrics_addr,
        tasks: parts.tasks,
        health,
        cut,
        calls: parts.metrics.calls.clone(),
        doors,
        pool,
        reports,
        cluster,
    })
}

impl RunningServer {
    /// Where gRPC is served, with the port that was given for port 0.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where `/metrics` is served.
    #[must_use]
    pub const fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// The embedded Postgres, where there is one.
    #[must_use]
    pub const fn cluster(&self) -> Option<&EmbeddedCluster> {
        self.cluster.as_ref()
    }

    /// Returns when an essential part has failed and the server should be drained.
    pub async fn failed(&self) {
        self.tasks.closing().cancelled().await;
    }

    /// Stops as the module says, within bounds.
    ///
    /// # Errors
    /// The essential part that failed before, or that something was still running at its bound.
    pub async fn drain(mut self) -> Result<(), ServerError> {
        tracing::info!("draining");
        self.health.stop().await;
        self.tasks.begin_closing();
        let calls_ended = self.calls_have_ended().await;
        let tasks_ended = self.tasks.stop(TASK_DRAIN).await;
        let close = async { tokio::join!(self.pool.close(), self.reports.close()) };
        let _ = tokio::time::timeout(POOL_DRAIN, close).await;
        self.doors.close().await;
        if let Some(cluster) = self.cluster {
            cluster.stop().await?;
        }
        if let Some(part) = self.tasks.failure() {
            return Err(ServerError::PartFailed(part));
        }
        if !calls_ended {
            return Err(ServerError::DrainIncomplete("calls"));
        }
        if !tasks_ended {
            return Err(ServerError::DrainIncomplete("background tasks"));
        }
        tracing::info!("drained");
        Ok(())
    }

    /// Waits for the calls under way, then cuts what is left. What counts is calls, not
    /// connections: a client that does not answer may keep its own open for as long as it likes.
    async fn calls_have_ended(&mut self) -> bool {
        let begun = Instant::now();
        let ended = loop {
            if tokio::time::timeout(DRAIN_POLL, self.doors.calls_ended()).await.is_ok() {
                break true;
            }
            let are_over = self.calls.in_flight.get() == 0;
            if are_over && begun.elapsed() >= GOODBYE {
                break true;
            }
            if begun.elapsed() >= CALL_DRAIN {
                break false;
            }
        };
        self.cut.cancel();
        if ended {
            return true;
        }
        tokio::time::sleep(CUT_DRAIN).await;
        self.calls.in_flight.get() == 0
    }
}
