//! A wire to Postgres that can fall silent without breaking, in all or in part.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixStream},
};

/// How the connection of a server's change listener is called.
pub(crate) const LISTENER: &str = "tollgate listener";

/// The wire.
pub(crate) struct Wire {
    pub(crate) options: PgConnectOptions,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Connections of an earlier number carry nothing any more.
    number: AtomicU64,
    /// Nor do new ones.
    cut: AtomicBool,
    /// Nor do the connections of change listeners.
    listeners_silent: AtomicBool,
}

/// One connection.
#[derive(Clone)]
struct Connection {
    state: Arc<State>,
    number: u64,
    is_listener: Arc<AtomicBool>,
}

impl Connection {
    fn is_silent(&self) -> bool {
        self.state.number.load(Ordering::SeqCst) != self.number
            || self.state.cut.load(Ordering::SeqCst)
            || (self.state.listeners_silent.load(Ordering::SeqCst)
                && self.is_listener.load(Ordering::SeqCst))
    }
}

impl Wire {
    pub(crate) async fn to(database: PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = database.get_socket().unwrap().clone();
        let socket = socket.join(format!(".s.PGSQL.{}", database.get_port()));
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(database.get_username())
            .database(database.get_database().unwrap())
            .ssl_mode(sqlx::postgres::PgSslMode::Disable);
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = UnixStream::connect(&socket).await.unwrap();
                let connection = Connection {
                    state: Arc::clone(&shared),
                    number: shared.number.load(Ordering::SeqCst),
                    is_listener: Arc::default(),
                };
                let (near_reads, near_writes) = near.into_split();
                let (far_reads, far_writes) = far.into_split();
                tokio::spawn(carry(near_reads, far_writes, connection.clone()));
                tokio::spawn(carry(far_reads, near_writes, connection));
            }
        });
        Self { options, state }
    }

    /// What is connected now carries nothing any more; new connections do.
    pub(crate) fn silence(&self) {
        self.state.number.fetch_add(1, Ordering::SeqCst);
    }

    /// Nothing carries anything any more.
    pub(crate) fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
    }

    /// New connections carry again.
    pub(crate) fn mend(&self) {
        self.silence();
        self.state.cut.store(false, Ordering::SeqCst);
    }

    /// The connections of change listeners carry nothing, new ones neither.
    pub(crate) fn silence_listeners(&self) {
        self.state.listeners_silent.store(true, Ordering::SeqCst);
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    connection: Connection,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer).await {
        // The message that begins a connection names it.
        if buffer[..length].windows(LISTENER.len()).any(|name| name == LISTENER.as_bytes()) {
            connection.is_listener.store(true, Ordering::SeqCst);
        }
        if connection.is_silent() {
            // Neither end hears that the other is gone.
            std::future::pending::<()>().await;
        }
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
