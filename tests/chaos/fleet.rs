//! Servers as processes of their own, kept alive as a service manager does, each behind a link to its
//! clients and one to the database, and with a wall clock that can be moved.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Mutex, task::JoinSet};
use tollgate::cli::client::Client;

use crate::{
    auditor::Witness,
    harness::{
        process::ServerProcess,
        server::{SECRET, connect},
    },
    relay::{Link, Target},
};

/// Grants hold so long, so that some outlive their expiry in a short run; and their grace.
pub(crate) const LIFETIME: Duration = Duration::from_secs(6);
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// How soon one that has ended is started again.
const RESTART_AFTER: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One server's place: what is there is started anew whenever it ends.
pub(crate) struct Seat {
    process: Mutex<Option<ServerProcess>>,
    /// From clients to the server.
    pub(crate) inlet: Link,
    /// From the server to the database.
    pub(crate) outlet: Link,
    clock: PathBuf,
    frozen: AtomicBool,
    told_to_end: AtomicBool,
    starts: AtomicU64,
}

pub(crate) struct Fleet {
    pub(crate) seats: Vec<Arc<Seat>>,
    keepers: JoinSet<()>,
    closing: Arc<AtomicBool>,
}

impl Fleet {
    /// So many servers on the database behind a socket.
    pub(crate) async fn start(
        number: usize,
        database: &Database,
        directory: &Path,
        witness: &Arc<Witness>,
    ) -> Self {
        let closing = Arc::new(AtomicBool::new(false));
        let mut seats = Vec::new();
        let mut keepers = JoinSet::new();
        for index in 0..number {
            let seat = Arc::new(Seat {
                process: Mutex::new(None),
                inlet: Link::to(Target::Nowhere).await,
                outlet: Link::to(Target::Socket(database.socket.clone())).await,
                clock: directory.join(format!("{index}.clock")),
                frozen: AtomicBool::new(false),
                told_to_end: AtomicBool::new(false),
                starts: AtomicU64::new(0),
            });
            seat.set_clock(0);
            let logs = directory.join(format!("server-{index}"));
            keepers.spawn(keep(
                Arc::clone(&seat),
                database.clone(),
                logs,
                Arc::clone(&closing),
                Arc::clone(witness),
            ));
            seats.push(seat);
        }
        Self { seats, keepers, closing }
    }

    /// Clients of each server; they wait for it as long as it takes.
    pub(crate) async fn connect(&self, token: &str) -> Vec<Client> {
        let mut clients = Vec::new();
        for seat in &self.seats {
            seat.wait_until_serving().await;
            clients.push(connect(&format!("http://{}", seat.inlet.address()), token).await);
        }
        clients
    }

    /// Stops all in order; how often one was started.
    pub(crate) async fn stop(mut self) -> u64 {
        self.closing.store(true, Ordering::Release);
        while self.keepers.join_next().await.is_some() {}
        self.seats.iter().map(|seat| seat.starts.load(Ordering::Relaxed)).sum()
    }
}

impl Seat {
    pub(crate) async fn kill(&self) {
        if let Some(process) = self.process.lock().await.as_mut() {
            self.told_to_end.store(true, Ordering::Release);
            process.kill();
        }
    }

    pub(crate) async fn terminate(&self) {
        if let Some(process) = self.process.lock().await.as_ref() {
            self.told_to_end.store(true, Ordering::Release);
            process.terminate();
        }
    }

    /// Whether there was anything to freeze.
    pub(crate) async fn freeze(&self) -> bool {
        let process = self.process.lock().await;
        let Some(process) = process.as_ref().filter(|process| process.address().is_some()) else {
            return false;
        };
        self.frozen.store(true, Ordering::Release);
        process.freeze();
        true
    }

    pub(crate) async fn thaw(&self) {
        if self.frozen.swap(false, Ordering::AcqRel)
            && let Some(process) = self.process.lock().await.as_ref()
        {
            process.thaw();
        }
    }

    /// Moves the server's wall clock so many seconds away from the machine's.
    pub(crate) fn set_clock(&self, seconds: i64) {
        // Renamed into place: libfaketime may read it at any moment.
        let aside = self.clock.with_extension("new");
        fs::write(&aside, format!("{seconds:+}\n")).unwrap();
        fs::rename(aside, &self.clock).unwrap();
    }

    /// Serving, and the way to it is open.
    pub(crate) async fn wait_until_serving(&self) {
        while !self.inlet.leads_somewhere() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// How servers reach the database.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// The socket itself.
    pub(crate) socket: PathBuf,
    pub(crate) user: String,
    pub(crate) name: String,
    /// What moves a program's clock, where it is installed.
    pub(crate) faketime: Option<PathBuf>,
}

impl Database {
    fn spawn(&self, seat: &Seat, logs: &Path) -> ServerProcess {
        let address = seat.outlet.address();
        let (user, name) = (&self.user, &self.name);
        let url = format!("postgres://{user}@{address}/{name}?sslmode=disable");
        let lifetime = format!("{}s", LIFETIME.as_secs());
        let grace = format!("{}s", GRACE.as_secs());
        let mut variables = vec![
            ("DATABASE_URL", url.as_str()),
            ("TOLLGATE_JWT_SECRET", SECRET),
            ("TOLLGATE_AUTHORIZATION_LIFETIME", &lifetime),
            ("TOLLGATE_SETTLEMENT_GRACE", &grace),
            ("TOLLGATE_CLOSING", "manual"),
        ];
        if let Some(library) = &self.faketime {
            variables.extend([
                ("LD_PRELOAD", library.to_str().unwrap()),
                ("FAKETIME_TIMESTAMP_FILE", seat.clock.to_str().unwrap()),
                ("FAKETIME_CACHE_DURATION", "1"),
                // Deadlines are by clocks that nobody moves.
                ("DONT_FAKE_MONOTONIC", "1"),
            ]);
        }
        ServerProcess::spawn(logs, &["--log", "info"], &variables)
    }
}

/// Starts the seat's server whenever there is none, and leads its clients to it.
async fn keep(
    seat: Arc<Seat>,
    database: Database,
    logs: PathBuf,
    closing: Arc<AtomicBool>,
    witness: Arc<Witness>,
) {
    let mut led = false;
    loop {
        let mut process = seat.process.lock().await;
        if closing.load(Ordering::Acquire) {
            if let Some(process) = process.take() {
                read_log(&process.stop_and_read_log().await, &witness);
            }
            return;
        }
        match process.as_mut() {
            None => {
                seat.told_to_end.store(false, Ordering::Release);
                *process = Some(database.spawn(&seat, &logs));
                seat.starts.fetch_add(1, Ordering::Relaxed);
                led = false;
            }
            Some(running) => {
                if !running.has_ended() {
                    if !led && let Some(address) = running.address() {
                        seat.inlet.lead_to(Target::Port(address));
                        led = true;
                    }
                    drop(process);
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
                if !seat.told_to_end.load(Ordering::Acquire) {
                    witness.ended_by_itself(&last_words(&running.log()));
                }
                read_log(&running.log(), &witness);
                *process = None;
                drop(process);
                seat.inlet.lead_to(Target::Nowhere);
                tokio::time::sleep(RESTART_AFTER).await;
            }
        }
    }
}

/// Why a server ended: its last line, which is not one of its log if it never served.
fn last_words(log: &str) -> String {
    let last = log.lines().last().unwrap_or_default();
    let line = serde_json::from_str::<serde_json::Value>(last).unwrap_or_default();
    let said = ["message", "error"].map(|field| line[field].as_str().unwrap_or_default());
    if line.is_null() { last.to_owned() } else { said.join(" ").trim().to_owned() }
}

/// A panic and a failure that nobody can explain are defects, whatever else went wrong.
fn read_log(log: &str, witness: &Witness) {
    let defects = ["panicked", "a call failed for an internal reason"];
    for line in log.lines().filter(|line| defects.iter().any(|defect| line.contains(defect))) {
        witness.complain(format!("a server logged: {line}"));
    }
}
