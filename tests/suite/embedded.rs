//! The embedded Postgres: it starts anywhere, keeps its promises, and leaves nothing behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getpriority_process};
use sqlx::{ConnectOptions, Connection};
use tollgate::database::{
    embedded::{ClusterState, DATABASE, EmbeddedCluster, EmbeddedError, EmbeddedOptions},
    migrate,
    reports::Reports,
};
use tollgate::ids::AccountId;

use crate::harness::postgres::{TOLLGATE, shared_cluster};

/// How long anything here may take before a test calls it failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where a holder process is told which directory to hold.
const HOLD: &str = "TOLLGATE_TEST_HOLD";

fn options(data_dir: &Path) -> EmbeddedOptions {
    EmbeddedOptions::new(data_dir, TOLLGATE)
}

async fn start(data_dir: &Path) -> EmbeddedCluster {
    EmbeddedCluster::start(options(data_dir)).await.unwrap()
}

async fn ask(cluster: &EmbeddedCluster, sql: &'static str) -> String {
    let mut connection = cluster.connect_options(DATABASE).connect().await.unwrap();
    let answer = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    answer
}

async fn execute(cluster: &EmbeddedCluster, sql: &'static str) {
    let mut connection = cluster.connect_options(DATABASE).connect().await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Ids of the processes that work in or below a directory: Postgres's and the watchdog's.
fn processes_below(directory: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = process.file_name().to_str().unwrap().parse() else { continue };
        let below = fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| {
            // A directory that was removed reads "… (deleted)", which is still below.
            cwd.starts_with(directory)
        });
        if below {
            found.push(pid);
        }
    }
    found
}

fn assert_nothing_runs_in(directory: &tempfile::TempDir) {
    let found = processes_below(&canonical(directory));
    assert!(found.is_empty(), "still running: {found:?}");
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "after {PATIENCE:?} still not so: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A process that nobody has buried yet still has its number, but no life.
fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

fn canonical(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().canonicalize().unwrap()
}

#[tokio::test]
async fn the_first_start_keeps_every_promise_about_settings() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(directory.path()).await;
    assert!(cluster.is_up());
    for (setting, wanted) in [
        ("SHOW fsync", "on"),
        ("SHOW synchronous_commit", "on"),
        ("SHOW full_page_writes", "on"),
        ("SHOW data_checksums", "on"),
        ("SHOW listen_addresses", ""),
        ("SHOW server_encoding", "UTF8"),
        ("SHOW TimeZone", "UTC"),
        ("SHOW max_connections", "60"),
        ("SELECT datcollate FROM pg_database WHERE datname = current_database()", "C"),
        ("SELECT current_user::text", "tollgate"),
    ] {
        assert_eq!(ask(&cluster, setting).await, wanted, "{setting}");
    }
    for (path, mode) in [("postgres", 0o700), ("run", 0o700), ("lock", 0o600)] {
        let facts = fs::metadata(directory.path().join(path)).unwrap();
        assert_eq!(facts.permissions().mode() & 0o777, mode, "{path}");
    }
    let other_users_may_list = fs::metadata(directory.path()).unwrap().mode() & 0o066;
    assert_eq!(other_users_may_list, 0);
    cluster.stop().await.unwrap();
    assert_nothing_runs_in(&directory);
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(directory.path()).await;
    execute(&cluster, "CREATE TABLE kept AS SELECT 'yes' AS answer").await;
    cluster.stop().await.unwrap();
    let cluster = start(directory.path()).await;
    assert_eq!(ask(&cluster, "SELECT answer FROM kept").await, "yes");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_start_is_refused_with_the_first_ones_pid_and_touches_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let first = start(directory.path()).await;
    let postmaster = first.postmaster_pid().unwrap();
    let refusal = EmbeddedCluster::start(options(directory.path())).await.unwrap_err();
    let own = std::process::id();
    assert!(matches!(refusal, EmbeddedError::InUse { pid: Some(pid), .. } if pid == own));
    assert!(refusal.to_string().contains(&format!("in use by pid {own}")), "{refusal}");
    assert_eq!(first.postmaster_pid(), Some(postmaster));
    assert_eq!(ask(&first, "SELECT 'still here'").await, "still here");
    first.stop().await.unwrap();
}

#[tokio::test]
async fn dropping_a_cluster_leaves_no_process() {
    let directory = tempfile::tempdir().unwrap();
    drop(start(directory.path()).await);
    assert_nothing_runs_in(&directory);
}

#[tokio::test]
async fn a_postmaster_that_dies_is_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(directory.path()).await;
    let mut state = cluster.state();
    let first = cluster.postmaster_pid().unwrap();
    kill(first);
    let restarted = state.wait_for(|_| cluster.postmaster_pid().is_some_and(|pid| pid != first));
    tokio::time::timeout(PATIENCE, restarted).await.unwrap().unwrap();
    assert!(cluster.is_up());
    assert_eq!(ask(&cluster, "SELECT 'back'").await, "back");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_postmaster_that_cannot_start_is_down_until_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(directory.path()).await;
    let control = directory.path().join("postgres/global/pg_control");
    let aside = control.with_extension("aside");
    let mut state = cluster.state();
    fs::rename(&control, &aside).unwrap();
    kill(cluster.postmaster_pid().unwrap());
    let down = state.wait_for(|state| *state == ClusterState::Restarting);
    tokio::time::timeout(PATIENCE, down).await.unwrap().unwrap();
    assert!(!cluster.is_up());
    assert_eq!(cluster.postmaster_pid(), None);
    fs::rename(&aside, &control).unwrap();
    let up = state.wait_for(|state| *state == ClusterState::Up);
    tokio::time::timeout(PATIENCE, up).await.unwrap().unwrap();
    assert_eq!(ask(&cluster, "SELECT 'back'").await, "back");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_that_is_down_stops_when_told() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(directory.path()).await;
    fs::remove_file(directory.path().join("postgres/global/pg_control")).unwrap();
    kill(cluster.postmaster_pid().unwrap());
    let mut state = cluster.state();
    let down = state.wait_for(|state| *state == ClusterState::Restarting);
    tokio::time::timeout(PATIENCE, down).await.unwrap().unwrap();
    tokio::time::timeout(PATIENCE, cluster.stop()).await.unwrap().unwrap();
    // The children of a postmaster that was killed end by themselves, each in its own time.
    let place = canonical(&directory);
    eventually("nothing runs any more", || processes_below(&place).is_empty());
}

#[tokio::test]
async fn ctrl_c_in_our_terminal_does_not_reach_postgres() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(directory.path()).await;
    let postmaster = i32::try_from(cluster.postmaster_pid().unwrap()).unwrap();
    let its_group = rustix::process::getpgid(Pid::from_raw(postmaster)).unwrap();
    assert_ne!(its_group, rustix::process::getpgrp());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_watchdog_that_dies_takes_its_postmaster_along_and_both_are_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(directory.path()).await;
    let mut state = cluster.state();
    let first = cluster.postmaster_pid().unwrap();
    kill(parent_of(first));
    let restarted = state.wait_for(|_| cluster.postmaster_pid().is_some_and(|pid| pid != first));
    tokio::time::timeout(PATIENCE, restarted).await.unwrap().unwrap();
    assert!(!is_alive(first), "the first postmaster was left behind");
    assert_eq!(ask(&cluster, "SELECT 'back'").await, "back");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn kill_9_of_the_server_leaves_no_postmaster_and_the_next_start_finds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Holder::start(directory.path());
    holder.wait_until_ready();
    assert!(!processes_below(&canonical(&directory)).is_empty());
    holder.kill();
    // At once, while Postgres may still be shutting down: the start waits for that.
    let cluster = start(directory.path()).await;
    assert_eq!(ask(&cluster, "SELECT answer FROM held").await, "yes");
    cluster.stop().await.unwrap();
    assert_nothing_runs_in(&directory);
}

#[tokio::test]
async fn kill_9_of_the_server_ends_postgres_without_anybodys_help() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Holder::start(directory.path());
    holder.wait_until_ready();
    holder.kill();
    let path = canonical(&directory);
    eventually("nothing runs", || processes_below(&path).is_empty());
    assert!(!path.join("postgres/postmaster.pid").exists(), "it did not shut down in order");
}

#[tokio::test]
async fn kill_9_of_server_and_watchdog_and_postmaster_is_recovered_from() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Holder::start(directory.path());
    holder.wait_until_ready();
    // All at once, as the kernel's out-of-memory killer or `kill -9 -1` would.
    let everything = processes_below(&canonical(&directory));
    holder.kill();
    for pid in everything {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    let cluster = start(directory.path()).await;
    assert_eq!(ask(&cluster, "SELECT answer FROM held").await, "yes");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_crash_in_the_middle_of_creation_blocks_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = canonical(&directory);
    let mut holder = Holder::start(directory.path());
    eventually("initdb is at work", || path.join("postgres.new/base").exists());
    holder.kill();
    assert!(!path.join("postgres").exists(), "the creation was over too soon for this test");
    let cluster = start(directory.path()).await;
    assert_eq!(ask(&cluster, "SELECT 'made'").await, "made");
    assert!(!path.join("postgres.new").exists());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_a_short_one_that_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    open_to_all(directory.path());
    let data_dir = directory.path().join("long".repeat(30));
    let cluster = start(&data_dir).await;
    assert_eq!(ask(&cluster, "SELECT 'reached'").await, "reached");
    let socket = cluster.socket_dir().to_owned();
    assert!(!socket.starts_with(cluster.data_dir()));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o700);
    cluster.stop().await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_leftover_pid_file_with_a_strangers_number_does_not_block() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).await.stop().await.unwrap();
    let cluster_dir = directory.path().join("postgres");
    let owner = fs::metadata(&cluster_dir).unwrap();
    let mut stranger = as_user(&mut Command::new("sleep"), &owner).arg("60").spawn().unwrap();
    let pid_file = cluster_dir.join("postmaster.pid");
    let text = format!("{}\n{}\n1\n5432\n/nowhere\n\n 1 2\nready\n", stranger.id(), "/nowhere");
    fs::write(&pid_file, text).unwrap();
    std::os::unix::fs::chown(&pid_file, Some(owner.uid()), Some(owner.gid())).unwrap();
    let socket_lock = directory.path().join("run/.s.PGSQL.5432.lock");
    fs::copy(&pid_file, &socket_lock).unwrap();
    std::os::unix::fs::chown(&socket_lock, Some(owner.uid()), Some(owner.gid())).unwrap();

    let cluster = start(directory.path()).await;
    assert_eq!(ask(&cluster, "SELECT 'up'").await, "up");
    assert_eq!(stranger.try_wait().unwrap(), None, "the stranger was ended");
    cluster.stop().await.unwrap();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_temporary_cluster_removes_its_directory() {
    let data_dir = tempfile::tempdir().unwrap().keep();
    let mut options = options(&data_dir);
    options.temporary = true;
    let cluster = EmbeddedCluster::start(options).await.unwrap();
    assert_eq!(ask(&cluster, "SELECT 'here'").await, "here");
    cluster.stop().await.unwrap();
    assert!(!data_dir.exists());
}

#[tokio::test]
async fn a_directory_without_server_programs_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.postgres_bin = Some(directory.path().join("nothing"));
    let refusal = EmbeddedCluster::start(options).await.unwrap_err();
    assert!(matches!(refusal, EmbeddedError::MissingProgram { program: "postgres", .. }));
}

#[tokio::test]
async fn binaries_of_another_version_than_the_clusters_are_refused_with_the_command() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("postgres")).unwrap();
    fs::write(directory.path().join("postgres/PG_VERSION"), "11\n").unwrap();
    let refusal = EmbeddedCluster::start(options(directory.path())).await.unwrap_err().to_string();
    assert!(refusal.contains("apt-get install --yes postgresql-11"), "{refusal}");
}

#[tokio::test]
async fn a_watchdog_that_is_another_program_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.watchdog_program = "/bin/true".into();
    let refusal = EmbeddedCluster::start(options).await.unwrap_err();
    assert!(matches!(refusal, EmbeddedError::Watchdog { .. }), "{refusal}");
}

#[tokio::test]
async fn root_is_told_which_directory_is_closed_to_postgres() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    open_to_all(directory.path());
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let refusal = EmbeddedCluster::start(options(&closed.join("data"))).await.unwrap_err();
    let named = matches!(&refusal, EmbeddedError::NotSearchable { directory, .. }
        if directory.file_name() == closed.file_name());
    assert!(named, "{refusal}");
}

#[tokio::test]
async fn a_lock_that_is_a_link_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    fs::write(&target, "precious").unwrap();
    symlink(&target, directory.path().join("lock")).unwrap();
    assert!(EmbeddedCluster::start(options(directory.path())).await.is_err());
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}

fn until_it_runs(pid: u32, program: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim() != program {
        assert!(Instant::now() < deadline, "{program} does not run");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_watchdog_ends_its_program_and_tidies_when_its_input_ends() {
    let directory = tempfile::tempdir().unwrap();
    let scratch = directory.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut watchdog = Command::new(TOLLGATE)
        .args(["postgres-watchdog", "run", "--remove-when-done"])
        .arg(&scratch)
        // Whoever runs the tests in the background has SIGINT ignored, which is inherited.
        .args(["--", "env", "--default-signal=INT", "sleep", "60"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(watchdog.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid: u32 = line.strip_prefix("started ").unwrap().trim().parse().unwrap();
    assert!(scratch.exists());
    // Until it is there, the signal may still be ignored, and lost.
    until_it_runs(pid, "sleep");
    drop(watchdog.stdin.take());
    // 128 + SIGINT.
    assert_eq!(watchdog.wait().unwrap().code(), Some(130));
    assert!(!is_alive(pid));
    assert!(!scratch.exists());
}

#[test]
fn the_watchdog_answers_with_its_programs_exit_code_and_tidies_nothing_then() {
    let scratch = tempfile::tempdir().unwrap();
    let mut watchdog = Command::new(TOLLGATE)
        .args(["postgres-watchdog", "run", "--remove-when-done"])
        .arg(scratch.path())
        .args(["--", "sh", "-c", "exit 7"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _held_open = watchdog.stdin.take();
    assert_eq!(watchdog.wait().unwrap().code(), Some(7));
    assert!(scratch.path().exists());
}

/// Another process of this very binary that holds a cluster until it is killed.
struct Holder {
    process: Child,
    data_dir: PathBuf,
}

impl Holder {
    fn start(data_dir: &Path) -> Self {
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "embedded::holds_a_cluster_until_killed", "--ignored"])
            .env(HOLD, data_dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, data_dir: data_dir.to_owned() }
    }

    fn wait_until_ready(&self) {
        eventually("the holder is ready", || self.data_dir.join("held").exists());
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test]
#[ignore = "a process for other tests to kill"]
async fn holds_a_cluster_until_killed() {
    let Some(data_dir) = std::env::var_os(HOLD).map(PathBuf::from) else { return };
    let cluster = start(&data_dir).await;
    execute(&cluster, "CREATE TABLE held AS SELECT 'yes' AS answer").await;
    fs::write(data_dir.join("held"), "").unwrap();
    std::future::pending::<()>().await;
}

fn parent_of(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    line.trim().parse().unwrap()
}

fn open_to_all(directory: &Path) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
}

fn as_user<'a>(command: &'a mut Command, owner: &fs::Metadata) -> &'a mut Command {
    use std::os::unix::process::CommandExt;
    if rustix::process::geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command
}

#[tokio::test]
async fn a_reports_process_lets_the_others_go_first() {
    let reports = Reports::open(&shared_cluster().connect_options("postgres"));
    let mut snapshot = reports.all().snapshot().await.unwrap();
    let process: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *snapshot).await.unwrap();
    assert_eq!(getpriority_process(Pid::from_raw(process)).unwrap(), 15);
    if let Ok(group) = fs::read_to_string(format!("/proc/{process}/autogroup")) {
        assert!(group.trim_end().ends_with(" nice 15"), "{group}");
    }
    drop(snapshot);
    reports.close().await;
}

#[tokio::test]
async fn a_login_that_may_not_make_roles_is_told_what_an_administrator_does_once() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(directory.path()).await;
    execute(&cluster, "CREATE ROLE plain LOGIN").await;
    execute(&cluster, "CREATE DATABASE theirs OWNER plain").await;
    let theirs = cluster.connect_options("theirs").username("plain");
    let refusal = migrate::run(&theirs).await.unwrap_err().to_string();
    let remedy = ["CREATE ROLE tollgate_tenant NOLOGIN", "GRANT tollgate_tenant TO plain"];
    for step in remedy {
        assert!(refusal.contains(step), "{refusal}");
        execute(&cluster, step).await;
    }
    migrate::run(&theirs).await.unwrap();
    let reports = Reports::open(&theirs);
    for who in [reports.all(), reports.of(AccountId::generate())] {
        let mut snapshot = who.snapshot().await.unwrap();
        let accounts: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts")
            .fetch_one(&mut *snapshot)
            .await
            .unwrap();
        assert_eq!(accounts, 0);
    }
    reports.close().await;
    cluster.stop().await.unwrap();
}
