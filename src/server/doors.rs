//! Where calls come in: one thread for each core, each with a runtime of its own.
//!
//! A connection stays on the thread that it was given, so that a call is decoded, decided and
//! answered without another thread being woken; what waits for the database runs beside them on the
//! server's own runtime. One listener hands the connections out in turn: the kernel's own
//! distribution (`SO_REUSEPORT`) would leave the few connections of a gateway to chance.
//!
//! The threads outlive the last call: a database connection that was opened for a call belongs to
//! that thread's runtime, and others may be using it until the pool is closed.

use std::{
    io,
    net::SocketAddr,
    thread::{self, JoinHandle},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use super::{CONCURRENT_STREAMS, HEADER_LIMIT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, ServerError};
use crate::{
    api::call::CallLayer,
    metering::answers,
    tasks::{CatchPanic, Tasks, panic_message},
};

/// How long to wait after a connection could not be taken: most often there are too many files open,
/// which passes when some are closed.
const ACCEPT_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);

/// The door, open.
#[derive(Debug)]
pub(super) struct Doors {
    threads: Vec<JoinHandle<()>>,
    /// Every call is answered and every connection closed, on every thread.
    calls_ended: mpsc::Receiver<()>,
    /// Ends the threads.
    over: CancellationToken,
}

/// Takes the port.
pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |cause| ServerError::Listen { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

impl Doors {
    /// Answers calls until the server closes.
    pub(super) fn open(
        tasks: &Tasks,
        layer: &CallLayer,
        routes: &Routes,
        listener: TcpListener,
        count: usize,
    ) -> Result<Self, ServerError> {
        let (ended, calls_ended) = mpsc::channel(1);
        let over = CancellationToken::new();
        let (mut threads, mut entrances) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (entrance, arrivals) = mpsc::unbounded_channel();
            let door = Door {
                tasks: tasks.clone(),
                layer: layer.clone(),
                routes: routes.clone(),
                over: over.clone(),
                _ended: ended.clone(),
            };
            let thread = thread::Builder::new()
                .name(format!("grpc-{number}"))
                .spawn(move || door.run(arrivals))
                .map_err(ServerError::Thread)?;
            threads.push(thread);
            entrances.push(entrance);
        }
        let closing = tasks.closing();
        tasks.spawn_essential("gRPC listener", async move {
            let _ = closing.run_until_cancelled(hand_out(listener, entrances)).await;
        });
        Ok(Self { threads, calls_ended, over })
    }

    /// Returns when every connection is closed.
    pub(super) async fn calls_ended(&mut self) {
        // Nothing is ever sent: it ends when the last thread has let go.
        let _ = self.calls_ended.recv().await;
    }

    /// Ends the threads, with whatever is still open on them.
    pub(super) async fn close(mut self) {
        self.over.cancel();
        let threads = std::mem::take(&mut self.threads);
        let ended = tokio::task::spawn_blocking(move || {
            for thread in threads {
                drop(thread.join());
            }
        });
        // A panic there has been logged where it happened.
        drop(ended.await);
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

/// Gives each new connection to the next thread.
async fn hand_out(
    listener: TcpListener,
    entrances: Vec<mpsc::UnboundedSender<std::net::TcpStream>>,
) {
    for entrance in entrances.iter().cycle() {
        let stream = loop {
            match listener.accept().await.and_then(|(stream, _)| unbound(stream)) {
                Ok(stream) => break stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not taken");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        };
        // A thread that is gone has said why, and the server drains.
        let _ = entrance.send(stream);
    }
}

/// Free of the listener's runtime.
fn unbound(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    // Without it a small answer waits for the acknowledgement of the one before, up to 40 ms.
    stream.set_nodelay(true)?;
    stream.into_std()
}

/// One thread's part.
struct Door {
    tasks: Tasks,
    layer: CallLayer,
    routes: Routes,
    over: CancellationToken,
    _ended: mpsc::Sender<()>,
}

impl Door {
    fn run(self, arrivals: mpsc::UnboundedReceiver<std::net::TcpStream>) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let over = self.over.clone();
                runtime.block_on(async move {
                    let serving = async {
                        tokio::select! {
                            () = answers::pass_on() => {}
                            () = self.serve(arrivals) => {}
                        }
                    };
                    let _ = over.run_until_cancelled(serving).await;
                    over.cancelled().await;
                });
            }
            Err(error) => self.tasks.fail("gRPC", &error.to_string()),
        }
    }

    async fn serve(self, arrivals: mpsc::UnboundedReceiver<std::net::TcpStream>) {
        let incoming = UnboundedReceiverStream::new(arrivals).map(TcpStream::from_std);
        let closing = self.tasks.closing();
        let serving = Server::builder()
            .max_concurrent_streams(CONCURRENT_STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .http2_max_header_list_size(HEADER_LIMIT)
            .layer(self.layer)
            .serve_with_incoming_shutdown(
                self.routes.prepare(),
                incoming,
                closing.clone().cancelled_owned(),
            );
        let served = CatchPanic::new(serving).await;
        if !closing.is_cancelled() {
            let cause = match &served {
                Ok(served) => format!("it ended: {served:?}"),
                Err(payload) => panic_message(&**payload).to_owned(),
            };
            self.tasks.fail("gRPC", &cause);
        }
    }
}
