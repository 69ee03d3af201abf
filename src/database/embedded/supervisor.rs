//! Keeps one postmaster running: starts it, waits until it is ready, starts it again when it dies,
//! stops it when told or dropped.
//!
//! It is a thread of its own rather than a task, because it must outlive any one runtime (tests
//! share a cluster between many) and must work while a runtime is being torn down.

use std::{
    ffi::OsString,
    path::Path,
    process::{ChildStdin, ExitStatus},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    ClusterState,
    binaries::Binaries,
    directory::{DataDirectory, SocketDirectory},
    error::{EmbeddedError, io_error},
    launcher::{Guarded, Launcher, end_of_newest_log},
    leftovers::{self, PidFile},
    settings,
};

/// Postgres may have to recover a full `max_wal_size` from a slow disk before it is ready.
const READY_WITHIN: Duration = Duration::from_mins(10);
/// Between two looks at the pid file; a restart takes about 100 ms.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// The first restart is almost at once: every authorization is waiting for it.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// A disk that is full or a memory that is short is retried no more often than this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// How long the last process of a stopped cluster is waited for; it takes milliseconds.
const STRAGGLERS: Duration = Duration::from_secs(5);
/// Having run for this long, a postmaster's death is a new misfortune, not the old one again.
const STEADY_AFTER: Duration = Duration::from_mins(1);

/// What is needed to start the postmaster.
#[derive(Debug)]
pub(super) struct Postmaster {
    pub(super) directory: DataDirectory,
    pub(super) binaries: Binaries,
    pub(super) launcher: Launcher,
    pub(super) socket: SocketDirectory,
    pub(super) temporary: bool,
}

impl Postmaster {
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["-D".into(), self.directory.cluster.clone().into()];
        let mut set = |name: &str, value: &Path| {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(value);
            arguments.extend(["-c".into(), setting]);
        };
        set("unix_socket_directories", &self.socket.path);
        set("port", Path::new(&settings::PORT.to_string()));
        for (name, value) in settings::settings(self.temporary) {
            set(name, Path::new(&*value));
        }
        arguments
    }
}

/// The other side's view of the supervising thread.
#[derive(Debug)]
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Option<ExitStatus>>>,
}

#[derive(Debug)]
struct Shared {
    control: Mutex<Control>,
    changed: Condvar,
    state: watch::Sender<ClusterState>,
    /// 0 while there is none.
    postmaster_pid: AtomicU32,
}

#[derive(Debug, Default)]
struct Control {
    is_stopping: bool,
    /// Closing it ends the postmaster.
    pipe: Option<ChildStdin>,
}

impl Supervisor {
    /// Starts the postmaster and returns once it is ready. Blocks.
    pub(super) fn start(postmaster: Postmaster) -> Result<Self, EmbeddedError> {
        let shared = Arc::new(Shared {
            control: Mutex::default(),
            changed: Condvar::new(),
            state: watch::Sender::new(ClusterState::Starting),
            postmaster_pid: AtomicU32::new(0),
        });
        let running = shared.launch(&postmaster)?;
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(move || watched.supervise(&postmaster, running))
            .map_err(io_error("start a thread for", Path::new("postgres")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) fn state(&self) -> watch::Receiver<ClusterState> {
        self.shared.state.subscribe()
    }

    pub(super) fn postmaster_pid(&self) -> Option<u32> {
        Some(self.shared.postmaster_pid.load(Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    /// Shuts the postmaster down fast and waits until it is gone. Blocks; a second call does
    /// nothing.
    pub(super) fn stop(&mut self) -> Result<(), EmbeddedError> {
        self.shared.tell_to_stop();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        match thread.join() {
            Ok(Some(status)) if !status.success() => {
                Err(EmbeddedError::UncleanStop(status.to_string()))
            }
            Ok(_) => Ok(()),
            Err(_) => Err(EmbeddedError::UncleanStop("its supervisor failed".to_owned())),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "the embedded Postgres");
        }
    }
}

impl Shared {
    /// The thread: waits for the postmaster's end, starts it again, until told to stop. Returns
    /// how the last one ended, if it ended by our will.
    fn supervise(&self, postmaster: &Postmaster, mut running: Guarded) -> Option<ExitStatus> {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let since = Instant::now();
            let status = running.watchdog.wait().ok();
            self.postmaster_pid.store(0, Ordering::Release);
            if self.lock().is_stopping {
                self.finish(postmaster);
                return status;
            }
            self.state.send_replace(ClusterState::Restarting);
            tracing::error!(?status, "the embedded Postgres died; it is started again");
            if since.elapsed() > STEADY_AFTER {
                backoff = FIRST_BACKOFF;
            }
            running = loop {
                if self.stopped_within(backoff) {
                    self.finish(postmaster);
                    return None;
                }
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
                match self.launch(postmaster) {
                    Ok(running) => break running,
                    Err(EmbeddedError::Stopped) => {}
                    Err(error) => tracing::error!(%error, "the embedded Postgres stays down"),
                }
            };
            tracing::info!(pid = running.pid, "the embedded Postgres is up again");
        }
    }

    /// The postmaster is gone; sees to it that the rest goes, too. The log's collector leaves a
    /// moment after the postmaster that it reads from, and so do the backends of a killed one.
    fn finish(&self, postmaster: &Postmaster) {
        let cluster = &postmaster.directory.cluster;
        if !leftovers::wait_until_gone(cluster, STRAGGLERS)
            && let Err(error) = leftovers::end_all(cluster)
        {
            tracing::warn!(%error, "stopping the embedded Postgres");
        }
        self.state.send_replace(ClusterState::Stopped);
    }

    /// Starts a postmaster where nothing of an earlier one is left, and waits until it is ready.
    fn launch(&self, postmaster: &Postmaster) -> Result<Guarded, EmbeddedError> {
        let cluster = &postmaster.directory.cluster;
        leftovers::end_all(cluster)?;
        leftovers::forget_recycled_pid(cluster).map_err(io_error("tidy", cluster))?;
        postmaster.socket.clear()?;
        let program = postmaster.binaries.program("postgres");
        let (mut running, pipe) =
            postmaster.launcher.start(cluster, &program, postmaster.arguments())?;
        {
            let mut control = self.lock();
            // Told to stop in the meantime, the pipe closes here.
            control.pipe = (!control.is_stopping).then_some(pipe);
        }
        if let Err(error) = self.wait_until_ready(postmaster, &mut running) {
            self.lock().pipe = None;
            drop(running.watchdog.wait());
            return Err(error);
        }
        self.postmaster_pid.store(running.pid, Ordering::Release);
        self.state.send_replace(ClusterState::Up);
        Ok(running)
    }

    fn wait_until_ready(
        &self,
        postmaster: &Postmaster,
        running: &mut Guarded,
    ) -> Result<(), EmbeddedError> {
        let cluster = &postmaster.directory.cluster;
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            // The file of an earlier run has another pid.
            let file = PidFile::read(cluster).filter(|file| file.pid == running.pid);
            if file.is_some_and(|file| file.is_ready) {
                return Ok(());
            }
            let ended = running.watchdog.try_wait().map_err(io_error("watch", cluster))?;
            if let Some(status) = ended {
                return Err(self.explain(postmaster, running, status));
            }
            if self.stopped_within(LOOK_AGAIN) {
                return Err(EmbeddedError::Stopped);
            }
        }
        let log = postmaster.directory.log();
        Err(EmbeddedError::NotReady { seconds: READY_WITHIN.as_secs(), log })
    }

    fn explain(
        &self,
        postmaster: &Postmaster,
        ended: &Guarded,
        status: ExitStatus,
    ) -> EmbeddedError {
        if self.lock().is_stopping {
            return EmbeddedError::Stopped;
        }
        let log = postmaster.directory.log();
        let words = [ended.last_words(), end_of_newest_log(&log).unwrap_or_default()];
        let output = words.map(|words| words.replace('\n', "; ")).join(" ").trim().to_owned();
        EmbeddedError::NotStarted { status: status.to_string(), output, log }
    }

    fn tell_to_stop(&self) {
        let mut control = self.lock();
        control.is_stopping = true;
        control.pipe = None;
        self.changed.notify_all();
    }

    /// Sleeps, but not through a stop; answers whether it was told to.
    fn stopped_within(&self, time: Duration) -> bool {
        let (control, _) = self
            .changed
            .wait_timeout_while(self.lock(), time, |control| !control.is_stopping)
            .unwrap_or_else(PoisonError::into_inner);
        control.is_stopping
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
