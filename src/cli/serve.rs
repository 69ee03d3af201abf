//! `tollgate serve`: runs the server until it is told to stop, then drains it.

use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    cli::error::CliError,
    config::{Config, ServeArguments},
    server,
    telemetry::logs,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  tollgate serve
  tollgate serve --data-dir ./data --listen 127.0.0.1:50051 --metrics-listen 127.0.0.1:9464
  DATABASE_URL=postgres://tollgate@db.example/tollgate \\
    TOLLGATE_JWT_SECRET_FILE=/etc/tollgate/secret tollgate serve --listen 0.0.0.0:50051 \\
    --tls-certificate /etc/tollgate/chain.pem --tls-key /etc/tollgate/key.pem";

/// Serves; returns after a drain.
pub(super) fn run(
    mut arguments: ServeArguments,
    data_dir: Option<PathBuf>,
) -> Result<(), CliError> {
    arguments.data_dir = data_dir;
    let config = Config::build(&arguments).map_err(|error| CliError::usage(error.to_string()))?;
    logs::begin(arguments.log_format, &arguments.log)
        .map_err(|error| CliError::usage(error.to_string()))?;
    if arguments.stop_with_parent {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
            .map_err(std::io::Error::from)?;
    }
    // The allocator asks for huge pages and leaves many mostly empty: a quarter of the most that a
    // server with 20,000 busy accounts had resident. Its calls cost the same without.
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay allowed");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(config));
    // Whatever a bounded drain gave up on must not keep the process alive.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: Config) -> Result<(), CliError> {
    // Before the start, so that a signal during it ends in a drain as well.
    let stop = StopSignals::listen()?;
    let server =
        server::start(config).await.map_err(|error| CliError::failed(error.to_string()))?;
    tokio::select! {
        name = stop.wait() => tracing::info!(signal = name, "told to stop"),
        () = server.failed() => {}
    }
    server.drain().await.map_err(|error| CliError::failed(error.to_string()))
}

/// What a terminal, a service manager or an orchestrator sends.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self, CliError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
