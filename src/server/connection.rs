//! A connection that calls come in on, in plaintext or in TLS, and its place among those that may be
//! open at a time.

use std::{
    future::Future as _,
    io,
    net::TcpStream as UnboundStream,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::tls::Tls;

/// How long a handshake may take; one across the world takes less than a second.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a client may take to say that it speaks HTTP/2. From then on it is asked again and again
/// whether it is still there; before, a silent stranger would keep its place for good.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// With how many bytes it says so (RFC 9113, section 3.4).
const HELLO_BYTES: usize = 24;

/// A connection that was taken from the listener and belongs to no runtime yet.
pub(super) struct Arrival {
    pub(super) stream: UnboundStream,
    pub(super) place: OwnedSemaphorePermit,
}

/// An open connection.
pub(super) struct Connection {
    wire: Wire,
    /// Until the client has said hello.
    awaited: Option<Hello>,
    /// Given back when the connection is closed.
    _place: OwnedSemaphorePermit,
}

struct Hello {
    bytes_left: usize,
    deadline: Pin<Box<Sleep>>,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Binds the connection to this runtime, and shakes hands where TLS is spoken. `None` where
    /// that fails: a client that does not trust us, or a stranger.
    pub(super) async fn open(arrival: Arrival, tls: Option<&Tls>) -> Option<Self> {
        let stream = TcpStream::from_std(arrival.stream)
            .inspect_err(|error| tracing::warn!(%error, "a connection was not taken"))
            .ok()?;
        let wire = match tls {
            None => Wire::Plain(stream),
            Some(tls) => Wire::Tls(Box::new(shake_hands(stream, tls).await?)),
        };
        let hello = Hello { bytes_left: HELLO_BYTES, deadline: Box::pin(sleep(HELLO_PATIENCE)) };
        Some(Self { wire, awaited: Some(hello), _place: arrival.place })
    }

    /// After so many bytes were read, or none came.
    fn heard(&mut self, bytes: usize, context: &mut Context<'_>) -> io::Result<()> {
        let Some(hello) = &mut self.awaited else { return Ok(()) };
        hello.bytes_left = hello.bytes_left.saturating_sub(bytes);
        if hello.bytes_left == 0 {
            self.awaited = None;
            return Ok(());
        }
        match hello.deadline.as_mut().poll(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn wire(self: Pin<&mut Self>) -> &mut Wire {
        &mut self.get_mut().wire
    }
}

async fn shake_hands(stream: TcpStream, tls: &Tls) -> Option<TlsStream<TcpStream>> {
    let peer = stream.peer_addr().ok();
    let accept = tls.acceptor().accept(stream);
    let problem = match tokio::time::timeout(HANDSHAKE_PATIENCE, accept).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    tracing::debug!(?peer, problem, "a TLS handshake failed");
    None
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match &self.wire {
            Wire::Plain(stream) => stream.connect_info(),
            Wire::Tls(stream) => stream.get_ref().0.connect_info(),
        }
    }
}

/// The same call on whichever stream it is.
macro_rules! on_the_wire {
    ($connection:expr, $method:ident($($argument:expr),*)) => {
        match $connection.wire() {
            Wire::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = on_the_wire!(self.as_mut(), poll_read(context, buffer));
        self.heard(buffer.filled().len() - before, context)?;
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_the_wire!(self, poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_the_wire!(self, poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_the_wire!(self, poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_the_wire!(self, poll_shutdown(context))
    }
}
