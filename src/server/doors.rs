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
    sync::Arc,
    thread::{self, JoinHandle},
};

use futures_util::{StreamExt as _, future::ready};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::{
    CONCURRENT_STREAMS, CONNECTIONS, GIVEN_UP, HEADER_LIMIT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT,
    ServerError,
    connection::{Arrival, Connection},
    dispatch::Dispatch,
    tls::Tls,
};
use crate::{
    api::call::CallLayer,
    authorization::admission::Admission,
    metering::answers,
    tasks::{CatchPanic, Tasks, panic_message},
};

/// How long to wait after a connection could not be taken: most often there are too many files open,
/// which passes when some are closed.
const ACCEPT_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);

/// How often it is measured how late a thread is.
const LATENESS_INTERVAL: std::time::Duration = std::time::Duration::from_millis(20);

/// What the door is made of.
pub(super) struct Entrance {
    pub(super) listener: TcpListener,
    /// Where it speaks TLS.
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) threads: usize,
    /// Told how long calls wait for their thread.
    pub(super) admission: Arc<Admission>,
}

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
        dispatch: &Dispatch,
        entrance: Entrance,
    ) -> Result<Self, ServerError> {
        let (ended, calls_ended) = mpsc::channel(1);
        let over = CancellationToken::new();
        let (mut threads, mut ways_in) = (Vec::new(), Vec::new());
        for number in 0..entrance.threads {
            let (sender, arrivals) = mpsc::unbounded_channel();
            let door = Door {
                tasks: tasks.clone(),
                layer: layer.of_a_thread(),
                dispatch: dispatch.clone(),
                tls: entrance.tls.clone(),
                over: over.clone(),
                admission: Arc::clone(&entrance.admission),
                _ended: ended.clone(),
            };
            let thread = thread::Builder::new()
                .name(format!("grpc-{number}"))
                .spawn(move || door.run(arrivals))
                .map_err(ServerError::Thread)?;
            threads.push(thread);
            ways_in.push(sender);
        }
        let closing = tasks.closing();
        tasks.spawn_essential("gRPC listener", async move {
            let _ = closing.run_until_cancelled(hand_out(entrance.listener, ways_in)).await;
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
async fn hand_out(listener: TcpListener, ways_in: Vec<mpsc::UnboundedSender<Arrival>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    for sender in ways_in.iter().cycle() {
        let arrival = next_arrival(&listener, &places).await;
        // A thread that is gone has said why, and the server drains.
        let _ = sender.send(arrival);
    }
}

/// The next connection that there is a place for.
async fn next_arrival(listener: &TcpListener, places: &Arc<Semaphore>) -> Arrival {
    let mut is_told = false;
    loop {
        let stream = match listener.accept().await.and_then(|(stream, _)| unbound(stream)) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was not taken");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Arrival { stream, place };
        }
        // Whoever floods the door must not flood the log.
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(limit = CONNECTIONS, "too many connections; new ones are closed");
        }
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
    dispatch: Dispatch,
    tls: Option<Arc<Tls>>,
    over: CancellationToken,
    admission: Arc<Admission>,
    _ended: mpsc::Sender<()>,
}

impl Door {
    fn run(self, arrivals: mpsc::UnboundedReceiver<Arrival>) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let (over, admission) = (self.over.clone(), Arc::clone(&self.admission));
                runtime.block_on(async move {
                    let serving = async {
                        tokio::select! {
                            () = answers::pass_on() => {}
                            () = measure_lateness(&admission) => {}
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

    async fn serve(self, arrivals: mpsc::UnboundedReceiver<Arrival>) {
        let tls = self.tls;
        let incoming = UnboundedReceiverStream::new(arrivals)
            .map(|arrival| Connection::open(arrival, tls.as_deref()))
            // As many handshakes at a time as there are places: nobody waits behind a slow stranger.
            .buffer_unordered(CONNECTIONS)
            .filter_map(|connection| ready(connection.map(io::Result::Ok)));
        let closing = self.tasks.closing();
        let serving = Server::builder()
            .max_concurrent_streams(CONCURRENT_STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .http2_max_header_list_size(HEADER_LIMIT)
            .http2_max_pending_accept_reset_streams(Some(GIVEN_UP))
            .layer(self.layer)
            .serve_with_incoming_shutdown(
                self.dispatch.prepare(),
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

/// Notes how long what is ready waits for this thread: a timer that is due waits behind all of it.
async fn measure_lateness(admission: &Admission) {
    loop {
        let due = Instant::now() + LATENESS_INTERVAL;
        sleep_until(due).await;
        admission.thread_was_late(due.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_connection_without_a_place_is_closed_and_those_that_have_one_go_on() {
        let (listener, address) = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let places = Arc::new(Semaphore::new(1));
        let connect = || TcpStream::connect(address);
        let mut first = connect().await.unwrap();
        let arrival = next_arrival(&listener, &places).await;
        let mut second = connect().await.unwrap();
        let mut third = {
            // Nobody arrives before the first one leaves; the second is closed meanwhile.
            let next = next_arrival(&listener, &places);
            tokio::pin!(next);
            let closed = tokio::select! {
                _ = &mut next => panic!("there was no place"),
                read = second.read_u8() => read,
            };
            assert!(closed.is_err());
            drop(arrival);
            assert!(first.read_u8().await.is_err(), "the first one was let go");
            let third = connect().await.unwrap();
            drop(next.await);
            third
        };
        assert!(third.read_u8().await.is_err());
        assert_eq!(places.available_permits(), 1);
    }
}
