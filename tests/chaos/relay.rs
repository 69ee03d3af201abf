//! A network link that can be cut, slowed or silenced: connections pass through it to wherever its
//! target is now.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
};

/// What the link does to what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Clear,
    /// Everything arrives so much later.
    Slow(Duration),
    /// Connections stay and nothing arrives, as behind a router that forgot them.
    Silent,
    /// Connections are broken, and new ones at once.
    Cut,
}

/// Where a link leads.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Nowhere,
    Port(SocketAddr),
    Socket(PathBuf),
}

/// One link; what listens for it ends with it.
pub(crate) struct Link {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    target: Arc<Mutex<Target>>,
    _listener: JoinSet<()>,
}

impl Link {
    pub(crate) async fn to(target: Target) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (weather, seen) = watch::channel(Weather::Clear);
        let target = Arc::new(Mutex::new(target));
        let mut task = JoinSet::new();
        task.spawn(listen(listener, Arc::clone(&target), seen));
        Self { address, weather, target, _listener: task }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Connections made from now on lead there.
    pub(crate) fn lead_to(&self, target: Target) {
        *self.target.lock().unwrap() = target;
    }

    pub(crate) fn leads_somewhere(&self) -> bool {
        !matches!(*self.target.lock().unwrap(), Target::Nowhere)
    }
}

async fn listen(
    listener: TcpListener,
    target: Arc<Mutex<Target>>,
    weather: watch::Receiver<Weather>,
) {
    // They end with the listener.
    let mut connections = JoinSet::new();
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if *weather.borrow() == Weather::Cut {
            continue;
        }
        let target = target.lock().unwrap().clone();
        connections.spawn(carry(near, target, weather.clone()));
    }
}

async fn carry(near: TcpStream, target: Target, weather: watch::Receiver<Weather>) {
    // A far end that is not there breaks the connection, as it would without a relay.
    let _ = near.set_nodelay(true);
    match target {
        Target::Nowhere => {}
        Target::Port(address) => {
            if let Ok(far) = TcpStream::connect(address).await {
                let _ = far.set_nodelay(true);
                join(near.into_split(), far.into_split(), weather).await;
            }
        }
        Target::Socket(path) => {
            if let Ok(far) = UnixStream::connect(path).await {
                join(near.into_split(), far.into_split(), weather).await;
            }
        }
    }
}

async fn join<A: AsyncRead + Unpin, B: AsyncWrite + Unpin>(
    near: (A, B),
    far: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    weather: watch::Receiver<Weather>,
) {
    let mut cut = weather.clone();
    tokio::select! {
        _ = pump(near.0, far.1, weather.clone()) => {}
        _ = pump(far.0, near.1, weather.clone()) => {}
        _ = cut.wait_for(|weather| *weather == Weather::Cut) => {}
    }
}

/// Carries one direction until its end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        if let Weather::Slow(delay) = unless_silent(&mut weather).await {
            tokio::time::sleep(delay).await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

async fn unless_silent(weather: &mut watch::Receiver<Weather>) -> Weather {
    let now = weather.wait_for(|weather| *weather != Weather::Silent).await;
    now.map_or(Weather::Cut, |now| *now)
}
