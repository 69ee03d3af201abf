//! The small process between us and the embedded Postgres, a hidden mode of our own binary:
//! `tollgate postgres-watchdog run [--remove-when-done PATH]… -- PROGRAM ARGUMENT…`.
//!
//! It starts the program and reads its own standard input, a pipe of which the server holds the
//! other end. However the server dies, `kill -9` included, the kernel closes that end; end-of-file
//! means: shut the program down fast, and only then leave. It uses neither threads of a runtime nor
//! a connection, so nothing in the server can keep it from doing so.
//!
//! Should the watchdog itself be killed, the kernel tells the program to shut down: between the two
//! there is a step (`exec PARENT -- PROGRAM …`) that asks for that signal and then becomes the
//! program. It keeps its process id.
//!
//! Protocol: one line on standard output, `started PID`; what the program writes goes to standard
//! error; the exit code is the program's, or 128 + the signal that ended it.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions},
};

/// The hidden subcommand; `main` looks for it before it reads any other argument.
pub const COMMAND: &str = "postgres-watchdog";
/// The mode that starts, waits and stops.
pub(super) const RUN: &str = "run";
/// Removes a file or directory once the program has ended because the server was gone.
pub(super) const REMOVE_WHEN_DONE: &str = "--remove-when-done";
/// The mode that becomes the program.
const EXEC: &str = "exec";

/// A fast shutdown writes a checkpoint first; with full buffers on a slow disk it takes this long.
const FAST_SHUTDOWN: Duration = Duration::from_mins(1);
/// After that, an immediate shutdown, from which the next start recovers. Postgres itself gives
/// its children 5 s.
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(10);
/// The exit code for arguments that make no sense (`EX_USAGE`).
const USAGE: u8 = 64;
/// The exit code when the program could not be started, as shells have it.
const NOT_STARTED: u8 = 126;

/// Runs the watchdog with the arguments that follow [`COMMAND`], until its program has ended.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let code = match arguments.next() {
        Some(mode) if mode == RUN => Errand::parse(arguments).map(Errand::run),
        Some(mode) if mode == EXEC => exec(arguments),
        _ => None,
    };
    ExitCode::from(code.unwrap_or_else(|| {
        complain("this is an inner part of `tollgate serve`; there is nothing to call here");
        USAGE
    }))
}

/// What to run, and what to remove afterwards.
struct Errand {
    program: Vec<OsString>,
    remove: Vec<PathBuf>,
}

impl Errand {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut remove = Vec::new();
        loop {
            let argument = arguments.next()?;
            if argument == "--" {
                break;
            }
            if argument != REMOVE_WHEN_DONE {
                return None;
            }
            remove.push(PathBuf::from(arguments.next()?));
        }
        let program: Vec<OsString> = arguments.collect();
        (!program.is_empty()).then_some(Self { program, remove })
    }

    fn run(self) -> u8 {
        let mut child = match self.start() {
            Ok(child) => child,
            Err(error) => {
                complain(&format!("cannot start: {error}"));
                return NOT_STARTED;
            }
        };
        let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
            return NOT_STARTED;
        };
        let life = Arc::new(Life::default());
        let watched = Arc::clone(&life);
        thread::spawn(move || {
            wait_for_end_of_input();
            watched.end(pid);
        });
        // The server may be gone already; then the thread above has seen it.
        drop(writeln!(io::stdout().lock(), "started {}", child.id()));

        // First wait without reaping: as long as it is a zombie its id cannot be another's, so no
        // signal can hit a stranger.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options) {}
        let told_to_end = life.over();
        let status = child.wait();
        if told_to_end {
            self.clean_up();
        }
        status.map_or(NOT_STARTED, code_of)
    }

    fn start(&self) -> io::Result<Child> {
        let output = io::stderr().as_fd().try_clone_to_owned()?;
        Command::new("/proc/self/exe")
            .arg0("tollgate")
            .args([COMMAND, EXEC])
            .arg(std::process::id().to_string())
            .arg("--")
            .args(&self.program)
            .stdin(Stdio::null())
            .stdout(output)
            .spawn()
    }

    fn clean_up(&self) {
        for path in &self.remove {
            if let Err(error) = remove(path) {
                complain(&format!("cannot remove {}: {error}", path.display()));
            }
        }
    }
}

/// Whether the program still runs, and whether it was told to end.
#[derive(Default)]
struct Life {
    state: Mutex<LifeState>,
    changed: Condvar,
}

#[derive(Default)]
struct LifeState {
    told_to_end: bool,
    is_over: bool,
}

impl Life {
    /// Ends the program: fast, then at once, then by force.
    fn end(&self, pid: Pid) {
        let mut state = self.lock();
        state.told_to_end = true;
        let steps = [
            (Signal::INT, FAST_SHUTDOWN),
            (Signal::QUIT, IMMEDIATE_SHUTDOWN),
            (Signal::KILL, Duration::ZERO),
        ];
        for (signal, patience) in steps {
            if state.is_over {
                return;
            }
            // It can only fail when the program is gone, which is what is wanted.
            let _ = rustix::process::kill_process(pid, signal);
            (state, _) = self
                .changed
                .wait_timeout_while(state, patience, |state| !state.is_over)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that the program has ended; answers whether it was told to.
    fn over(&self) -> bool {
        let mut state = self.lock();
        state.is_over = true;
        self.changed.notify_all();
        state.told_to_end
    }

    fn lock(&self) -> MutexGuard<'_, LifeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Becomes the program, after asking for the signal that ends it if its parent dies.
fn exec(mut arguments: impl Iterator<Item = OsString>) -> Option<u8> {
    let parent: i32 = arguments.next()?.to_str()?.parse().ok()?;
    if arguments.next()? != "--" {
        return None;
    }
    let program = arguments.next()?;
    let asked = rustix::process::set_parent_process_death_signal(Some(Signal::INT));
    if let Err(error) = asked {
        complain(&format!("cannot watch its parent: {error}"));
        return Some(NOT_STARTED);
    }
    // A parent that died before the line above sends no signal.
    if rustix::process::getppid().map(Pid::as_raw_nonzero).map(Into::into) != Some(parent) {
        return Some(NOT_STARTED);
    }
    let error = Command::new(&program).args(arguments).exec();
    complain(&format!("cannot run {}: {error}", Path::new(&program).display()));
    Some(NOT_STARTED)
}

fn wait_for_end_of_input() {
    let mut input = io::stdin().lock();
    let mut buffer = [0; 64];
    loop {
        match input.read(&mut buffer) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir()) {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

fn complain(problem: &str) {
    // Nobody may be left to read it.
    drop(writeln!(io::stderr().lock(), "tollgate {COMMAND}: {problem}"));
}

/// The arguments that make this binary the watchdog of `program`.
pub(super) fn arguments(remove_when_done: &[PathBuf]) -> Vec<OsString> {
    let mut list: Vec<OsString> = vec![COMMAND.into(), RUN.into()];
    for path in remove_when_done {
        list.push(REMOVE_WHEN_DONE.into());
        list.push(path.into());
    }
    list.push("--".into());
    list
}

/// Whether a process with this command line is a watchdog.
pub(super) fn is_command_line(command_line: &[u8]) -> bool {
    command_line.split(|byte| *byte == 0).nth(1) == Some(OsStr::new(COMMAND).as_encoded_bytes())
}
