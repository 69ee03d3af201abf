//! `/metrics` for Prometheus, on a listener of its own: it is scraped without a token, so it must
//! not share a port with what is open to callers.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::{Parts, ServerError};
use crate::telemetry::metrics::Metrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Takes the port.
pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |cause| ServerError::Listen { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Serves until the very end, so that a drain can be watched.
pub(super) fn serve(listener: TcpListener, parts: &Parts) {
    let router = Router::new().route("/metrics", get(page)).with_state(Arc::clone(&parts.metrics));
    let stopping = parts.tasks.stopping();
    parts.tasks.spawn("metrics", async move {
        // `serve` retries every failed accept by itself and never returns an error.
        let _ =
            axum::serve(listener, router).with_graceful_shutdown(stopping.cancelled_owned()).await;
    });
}

async fn page(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
