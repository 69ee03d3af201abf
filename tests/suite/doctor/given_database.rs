//! A Postgres of the operator's, with a login that may do no more than it must.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, postgres::PgConnectOptions};
use tollgate::{
    cli::client::Client,
    database::reports::Reports,
    installation::{Doctor, Setup, Severity},
    proto::InstallationFinding,
};

use super::{found, gone, one};
use crate::harness::{
    own_postgres::{OwnPostgres, as_its_user, can_copy_clusters, program},
    process::reachable_directory,
    server::TestServer,
    world::all_roles,
};

/// The server's login.
const LOGIN: &str = "ledger";

async fn execute(connection: &mut PgConnection, statement: &str) {
    let run = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await;
    run.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// A cluster with a database of [`LOGIN`]'s, a session of its administrator, a server and its client.
async fn installation(
    directory: &tempfile::TempDir,
    settings: &str,
) -> (OwnPostgres, PgConnection, TestServer, Client) {
    let postgres = OwnPostgres::make(directory.path(), settings).await;
    let mut administrator = postgres.administrator("postgres").await;
    for statement in [
        "CREATE ROLE ledger LOGIN",
        "GRANT pg_monitor TO ledger",
        "CREATE ROLE tollgate_tenant NOLOGIN",
        "GRANT tollgate_tenant TO ledger",
        "CREATE DATABASE ledger OWNER ledger",
    ] {
        execute(&mut administrator, statement).await;
    }
    let server = TestServer::start_on(postgres.options(LOGIN, LOGIN)).await;
    let client = all_roles(&server).await;
    let administrator = postgres.administrator(LOGIN).await;
    (postgres, administrator, server, client)
}

/// A setting is changed for the whole cluster.
async fn set(administrator: &mut PgConnection, setting: &str) {
    execute(administrator, &format!("ALTER SYSTEM SET {setting}")).await;
    execute(administrator, "SELECT pg_reload_conf()").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_rights_and_connections_are_looked_at() {
    let directory = reachable_directory();
    let (postgres, mut administrator, server, client) = installation(&directory, "").await;
    let administrator = &mut administrator;
    for check in super::checks(&client).await {
        let worst = check.findings.iter().map(InstallationFinding::severity).max();
        let is_bad = worst.is_some_and(|worst| worst > tollgate::proto::Severity::Notice);
        assert!(!is_bad, "a sound installation has {check:#?}");
    }

    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        set(administrator, &format!("{setting} = off")).await;
        until(&client, "durability", &format!("critical: {setting} is off: ")).await;
        set(administrator, &format!("{setting} = on")).await;
        gone_but_for_notices(&client, "durability").await;
    }
    for setting in ["autovacuum", "track_counts"] {
        set(administrator, &format!("{setting} = off")).await;
        until(&client, "autovacuum", &format!("warning: {setting} is off: ")).await;
        set(administrator, &format!("{setting} = on")).await;
        gone(&client, "autovacuum").await;
    }
    execute(administrator, "ALTER TABLE leases SET (autovacuum_enabled = off)").await;
    let told =
        one(&found(&client, "autovacuum").await, "warning: autovacuum is switched off for leases");
    execute(administrator, remedy(&told)).await;
    gone(&client, "autovacuum").await;

    for (change, begins, back) in [
        ("ALTER ROLE ledger SUPERUSER", "warning: the server logs in as ledger, ", None),
        ("ALTER ROLE ledger BYPASSRLS", "warning: the login ledger passes row-level ", None),
        (
            "ALTER TABLE leases OWNER TO administrator",
            "warning: 1 object of the schema, such as leases, ",
            Some("ALTER TABLE leases OWNER TO ledger"),
        ),
        ("GRANT CREATE ON SCHEMA public TO PUBLIC", "warning: everybody who may connect ", None),
        (
            "ALTER ROLE tollgate_tenant BYPASSRLS",
            "critical: the role tollgate_tenant passes ",
            None,
        ),
        ("REVOKE tollgate_tenant FROM ledger", "critical: ledger may not take the role ", None),
        (
            "ALTER ROLE tollgate_tenant RENAME TO somebody",
            "critical: there is no role tollgate_tenant",
            Some("ALTER ROLE somebody RENAME TO tollgate_tenant"),
        ),
    ] {
        execute(administrator, change).await;
        let told = one(&found(&client, "role").await, begins);
        let remedy = remedy(&told).rsplit(": ").next().unwrap();
        execute(administrator, back.unwrap_or(remedy)).await;
        assert_eq!(found(&client, "role").await, [""; 0], "after {change}");
    }

    let mut others = Vec::new();
    let begins = "warning: ";
    while !found(&client, "connections").await.iter().any(|one| one.starts_with(begins)) {
        assert!(others.len() < 60, "a full cluster is not found");
        others.push(postgres.options(LOGIN, LOGIN).connect().await.unwrap());
    }
    assert!(others.len() > 5, "a server alone takes most of the connections");
    drop(others);
    gone(&client, "connections").await;

    execute(administrator, "REVOKE pg_monitor FROM ledger").await;
    one(&found(&client, "transactions").await, "notice: this login cannot see ");
    server.drain().await.unwrap();
}

/// The second sentence, as a statement.
fn remedy(told: &str) -> &str {
    told.rsplit(" → ").next().unwrap().trim_end_matches('.')
}

/// Waits until a check says this; a setting takes a moment to reach everybody.
async fn until(client: &Client, name: &str, begins: &str) {
    for _ in 0..200 {
        if found(client, name).await.iter().any(|told| told.starts_with(begins)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{name} does not find {begins:?}: {:#?}", found(client, name).await);
}

async fn gone_but_for_notices(client: &Client, name: &str) {
    for _ in 0..200 {
        if found(client, name).await.iter().all(|told| told.starts_with("notice: ")) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{name} still finds {:#?}", found(client, name).await);
}

/// A program that receives the write-ahead log, as a replica does.
struct Receiver(Child);

impl Receiver {
    fn start(postgres: &OwnPostgres, directory: &tempfile::TempDir) -> Self {
        let target = directory.path().join("received");
        crate::harness::own_postgres::make_private(&target);
        let mut command = as_its_user(program("pg_receivewal"));
        command.args(["--synchronous", "--no-loop", "--username=administrator", "--dbname"]);
        command.arg(format!("host={} application_name=second", postgres.cluster().display()));
        command.arg("--directory").arg(target).current_dir("/").stdin(Stdio::null());
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn end(mut self) {
        self.signal(Signal::KILL);
        assert!(self.0.wait().unwrap().signal().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_slots_and_the_archive_are_looked_at() {
    if !can_copy_clusters() {
        return;
    }
    let directory = reachable_directory();
    let settings = "archive_mode = on\narchive_command = 'false'\nwal_keep_size = 256MB";
    let (postgres, mut administrator, server, client) = installation(&directory, settings).await;
    let administrator = &mut administrator;

    execute(administrator, "SELECT pg_switch_wal()").await;
    until(&client, "archive", "critical: archiving fails (").await;
    set(administrator, "archive_command = 'true'").await;
    gone(&client, "archive").await;

    execute(administrator, "SELECT pg_create_physical_replication_slot('left_behind', true)").await;
    let told =
        one(&found(&client, "replicas").await, "warning: nobody reads from replication slot left_");
    let (_, statement) = told.rsplit_once(", or ").unwrap();
    execute(administrator, statement.trim_end_matches('.')).await;
    gone(&client, "replicas").await;

    // Whoever commits now waits, this server's own beats included; what only reads goes on.
    set(administrator, "synchronous_standby_names = 'second'").await;
    until(&client, "replicas", "critical: commits wait for a replica (second) and none ").await;
    let replica = Receiver::start(&postgres, &directory);
    gone(&client, "replicas").await;
    set(administrator, "synchronous_standby_names = ''").await;

    replica.signal(Signal::STOP);
    for _ in 0..9 {
        let message = "SELECT pg_logical_emit_message(false, 'test', repeat('x', 8000000))";
        execute(administrator, message).await;
    }
    until(&client, "replicas", "warning: replica second is ").await;
    replica.signal(Signal::CONT);
    gone(&client, "replicas").await;
    replica.end();
    server.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_and_transactions_that_stay_open_are_found() {
    let directory = reachable_directory();
    let settings = "max_prepared_transactions = 2";
    let (postgres, mut administrator, server, client) = installation(&directory, settings).await;
    // The database's clock as a doctor alone sees it.
    let sees: PgConnectOptions =
        postgres.options(LOGIN, LOGIN).options([("search_path", "public, pg_catalog")]);
    let setup = Setup { embedded: None, listen: server.address(), closes_months: false };
    // Anew each time: what a session has prepared does not notice a function that is made later.
    let found = async |name: &str| {
        let reports = Reports::open(&sees);
        let examination = Doctor::new(reports.all(), setup.clone()).examine().await.unwrap();
        reports.close().await;
        let check = examination.checks.into_iter().find(|check| check.name == name).unwrap();
        let told = check.findings.into_iter().map(|finding| (finding.severity, finding.problem));
        told.collect::<Vec<_>>()
    };
    assert_eq!(found("clocks").await, []);

    let mut idle = postgres.administrator(LOGIN).await;
    execute(&mut idle, "BEGIN; SELECT txid_current()").await;
    let prepare = "BEGIN; CREATE TABLE half (); PREPARE TRANSACTION 'half done'";
    execute(&mut administrator, prepare).await;
    assert_eq!(found("transactions").await, [], "they have just begun");
    execute(
        &mut administrator,
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
         AS $$ SELECT pg_catalog.clock_timestamp() + interval '30 minutes 30 seconds' $$",
    )
    .await;
    let skewed = found("clocks").await;
    assert_eq!(skewed[0].0, Severity::Critical);
    assert!(skewed[0].1.starts_with("the database's clock is 30 min ahead of"), "{skewed:?}");
    let open = found("transactions").await;
    let told = |part: &str| open.iter().any(|(_, problem)| problem.contains(part));
    assert!(told("administrator (") && told("(idle in transaction)"), "{open:#?}");
    assert!(told("the prepared transaction 'half done' of administrator"), "{open:#?}");
    // All servers are silent by that clock.
    assert!(found("servers").await.iter().any(|(severity, _)| *severity == Severity::Critical));

    execute(&mut idle, "ROLLBACK").await;
    execute(&mut administrator, "ROLLBACK PREPARED 'half done'").await;
    // What servers have begun this moment began half an hour ago by that clock.
    let open = found("transactions").await;
    assert!(!open.iter().any(|(_, problem)| problem.contains("administrator")), "{open:#?}");
    execute(&mut administrator, "DROP FUNCTION public.clock_timestamp()").await;
    assert_eq!(found("clocks").await, []);
    assert_eq!(found("servers").await, []);
    assert!(super::found(&client, "clocks").await.is_empty());
    server.drain().await.unwrap();
}
