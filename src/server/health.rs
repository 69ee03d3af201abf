//! gRPC health: `SERVING` while the database answers, `NOT_SERVING` while it is away or the server
//! drains, for the server as a whole and for each service.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::sync::Mutex;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::{proto, tasks::Tasks, telemetry::metrics::DatabaseMetrics};

/// How often the database is asked.
const PERIOD: Duration = Duration::from_secs(1);
/// How long it may take to answer before it counts as away. A busy one answers within
/// milliseconds; one behind a cut network never does.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the health service says.
#[derive(Clone)]
pub(super) struct Health {
    reporter: HealthReporter,
    services: Vec<String>,
    metrics: DatabaseMetrics,
    /// Whether `NOT_SERVING` was said for good; held while anything is said.
    stopped: Arc<Mutex<bool>>,
}

impl Health {
    /// The reporter, and the service that answers with it.
    pub(super) fn new(metrics: DatabaseMetrics) -> (Self, HealthServer<HealthService>) {
        let reporter = HealthReporter::new();
        let service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        let health = Self { reporter, services: service_names(), metrics, stopped: Arc::default() };
        (health, service)
    }

    /// Says what is so now, and goes on saying it in the background.
    pub(super) async fn watch(&self, tasks: &Tasks, options: PgConnectOptions) {
        let mut watch = DatabaseWatch { options, connection: None };
        let mut is_up = watch.answers().await;
        self.set(is_up).await;
        let (health, closing) = (self.clone(), tasks.closing());
        tasks.spawn_essential("the health watch", async move {
            while closing.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
                let was_up = std::mem::replace(&mut is_up, watch.answers().await);
                if was_up == is_up {
                    continue;
                }
                if is_up {
                    tracing::info!("the database is back");
                } else {
                    health.metrics.losses.inc();
                    tracing::error!("the database is away");
                }
                health.set(is_up).await;
            }
        });
    }

    /// Says `NOT_SERVING` for good.
    pub(super) async fn stop(&self) {
        let mut stopped = self.stopped.lock().await;
        *stopped = true;
        self.report(ServingStatus::NotServing).await;
    }

    async fn set(&self, is_up: bool) {
        self.metrics.up.set(i64::from(is_up));
        let stopped = self.stopped.lock().await;
        if !*stopped {
            let status = if is_up { ServingStatus::Serving } else { ServingStatus::NotServing };
            self.report(status).await;
        }
    }

    async fn report(&self, status: ServingStatus) {
        self.reporter.set_service_status("", status).await;
        for service in &self.services {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Health").finish_non_exhaustive()
    }
}

/// A connection of its own, so that a full pool is not taken for an absent database.
struct DatabaseWatch {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl DatabaseWatch {
    async fn answers(&mut self) -> bool {
        if let Ok(Ok(())) = tokio::time::timeout(PATIENCE, self.ask()).await {
            return true;
        }
        self.connection = None;
        false
    }

    async fn ask(&mut self) -> Result<(), sqlx::Error> {
        if let Some(connection) = &mut self.connection {
            // A lost connection is no lost database: it may have restarted in between.
            if connection.ping().await.is_ok() {
                return Ok(());
            }
            self.connection = None;
        }
        let mut connection = PgConnection::connect_with(&self.options).await?;
        connection.ping().await?;
        self.connection = Some(connection);
        Ok(())
    }
}

/// Every service of the contract.
fn service_names() -> Vec<String> {
    let descriptors = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap_or_default();
    let mut names = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            names.push(format!("{}.{}", file.package(), service.name()));
        }
    }
    names
}
