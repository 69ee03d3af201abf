//! Starting a Postgres program under the watchdog, as the user it runs as.

use std::{
    ffi::OsString,
    fs, io,
    io::{BufRead, BufReader, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::fs::{Mode, OFlags};

use super::{
    error::{EmbeddedError, io_error},
    user::RunAs,
    watchdog,
};

/// What a program needs of our environment. The rest stays here: it may hold secrets, and `PG…`
/// variables would change what Postgres does.
const ENVIRONMENT: [&str; 5] = ["PATH", "LD_LIBRARY_PATH", "TMPDIR", "HOME", "LLVM_PROFILE_FILE"];
/// How much of a program's last output is kept for an error message.
const OUTPUT_KEPT_BYTES: usize = 8 * 1024;
/// How long an ended program's output may take to arrive.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(500);

/// Starts programs under the watchdog.
#[derive(Debug)]
pub(super) struct Launcher {
    /// The watchdog's program, opened once: it stays reachable when the file is replaced by an
    /// upgrade, and for an unprivileged user even where its directory is not (`/root`).
    opened: OwnedFd,
    watchdog: PathBuf,
    run_as: RunAs,
    /// What the watchdog removes when the server is gone.
    pub(super) remove_when_done: Vec<PathBuf>,
}

/// A program that runs under a watchdog.
#[derive(Debug)]
pub(super) struct Guarded {
    /// The watchdog; its exit code is the program's.
    pub(super) watchdog: Child,
    /// The program itself.
    pub(super) pid: u32,
    output: Output,
}

impl Launcher {
    pub(super) fn new(watchdog: &Path, run_as: RunAs) -> Result<Self, EmbeddedError> {
        let opened = rustix::fs::open(watchdog, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| io_error("open", watchdog)(error.into()))?;
        Ok(Self { opened, watchdog: watchdog.to_owned(), run_as, remove_when_done: Vec::new() })
    }

    /// Starts `program` in `directory`. It ends when the returned pipe is closed, by whatever way.
    pub(super) fn start(
        &self,
        directory: &Path,
        program: &Path,
        arguments: Vec<OsString>,
    ) -> Result<(Guarded, ChildStdin), EmbeddedError> {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.opened.as_raw_fd()));
        command
            .arg0("tollgate")
            .args(watchdog::arguments(&self.remove_when_done))
            .arg(program)
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("LC_ALL", "C")
            // A Ctrl-C in the terminal is for us: we drain first, then Postgres shuts down.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.run_as.apply(&mut command);
        let mut child = command.spawn().map_err(|error| self.explain(directory, program, error))?;
        let pipe = child.stdin.take();
        let output = Output::follow(child.stderr.take());
        let mut answer = String::new();
        if let Some(lines) = child.stdout.take() {
            // A watchdog that dies closes its end, so this ends at once either way.
            BufReader::new(lines)
                .read_line(&mut answer)
                .map_err(io_error("hear", &self.watchdog))?;
        }
        let pid = answer.strip_prefix("started ").and_then(|number| number.trim().parse().ok());
        match (pid, pipe) {
            (Some(pid), Some(pipe)) => Ok((Guarded { watchdog: child, pid, output }, pipe)),
            (_, pipe) => {
                drop(pipe);
                drop(child.wait());
                let problem = match output.last_words() {
                    silent if silent.is_empty() => "it is not the tollgate program".to_owned(),
                    words => words,
                };
                Err(EmbeddedError::Watchdog { program: self.watchdog.clone(), problem })
            }
        }
    }

    /// Finds which directory is closed to the user when a start was refused.
    fn explain(&self, directory: &Path, program: &Path, error: io::Error) -> EmbeddedError {
        if error.kind() == io::ErrorKind::PermissionDenied {
            for wanted in [directory, program] {
                if let Some(closed) = self.run_as.first_closed_directory(wanted) {
                    return EmbeddedError::NotSearchable {
                        user: self.run_as.name.clone(),
                        directory: closed.to_owned(),
                        wanted: wanted.to_owned(),
                    };
                }
            }
        }
        io_error("run the watchdog", &self.watchdog)(error)
    }
}

impl Guarded {
    /// What the program last wrote, once it has ended.
    pub(super) fn last_words(&self) -> String {
        self.output.last_words()
    }
}

/// The end of what a program writes, read all the time so that it never blocks on a full pipe.
#[derive(Debug)]
struct Output {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn follow(stream: Option<impl Read + Send + 'static>) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let reader = stream.map(|mut stream| {
            let kept = Arc::clone(&kept);
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    let excess = kept.len().saturating_sub(OUTPUT_KEPT_BYTES);
                    kept.drain(..excess);
                }
            })
        });
        Self { kept, reader }
    }

    fn last_words(&self) -> String {
        // A child of the program may hold the stream open for longer than the program lives.
        let deadline = Instant::now() + OUTPUT_PATIENCE;
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished())
            && Instant::now() < deadline
        {
            thread::sleep(Duration::from_millis(5));
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).trim().to_owned()
    }
}

/// The end of the newest log file in a directory: the reason of a start that failed late.
pub(super) fn end_of_newest_log(directory: &Path) -> Option<String> {
    let newest = fs::read_dir(directory)
        .ok()?
        .flatten()
        // A link could lead root to a file that is not Postgres's.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .max_by_key(|entry| entry.metadata().and_then(|facts| facts.modified()).ok())?;
    let text = fs::read(newest.path()).ok()?;
    let end = text.get(text.len().saturating_sub(OUTPUT_KEPT_BYTES)..)?;
    let text = String::from_utf8_lossy(end);
    let lines: Vec<&str> = text.lines().collect();
    // The reason is in the last few lines; the whole is in the file.
    Some(lines.get(lines.len().saturating_sub(5)..)?.join("; "))
}
