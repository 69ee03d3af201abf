//! One embedded cluster per run of this binary, one database per test.
//!
//! The cluster starts with the first test that asks for a database. It belongs to no test's
//! runtime. When the process ends, by whatever way, the watchdog stops the cluster and removes its
//! directory; nothing is left behind.
//!
//! The migrations run once, into a template; a test's database is a copy of it (about 50 ms).

use std::{
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgConnection},
};
use tokio::sync::Mutex;
use tollgate::database::embedded::{EmbeddedCluster, EmbeddedOptions};

/// The migrated database that the others are copies of.
const TEMPLATE: &str = "template_migrated";

/// The program under test.
pub(crate) const TOLLGATE: &str = env!("CARGO_BIN_EXE_tollgate");

/// A new database with the current schema and nothing in it, as the cluster's owner.
pub(crate) async fn fresh_database() -> PgConnectOptions {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // Postgres copies a template only while nobody is connected to it, another copy included.
    static COPYING: Mutex<()> = Mutex::const_new(());

    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let cluster = shared_cluster();
    let _one_at_a_time = COPYING.lock().await;
    let mut server = cluster.connect_options("postgres").connect().await.unwrap();
    // A file-wise copy of a small template is quicker than logging every page of it.
    let copy = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy");
    server.execute(AssertSqlSafe(copy)).await.unwrap();
    server.close().await.unwrap();
    cluster.connect_options(&name)
}

/// The same as a URL, for a server that is started as a process of its own:
/// `postgres://USER@localhost/DATABASE?host=SOCKET_DIRECTORY`, which sqlx, psql and libpq read.
pub(crate) fn url_of(options: &PgConnectOptions) -> String {
    let socket = options.get_socket().unwrap().to_str().unwrap();
    format!(
        "postgres://{}@localhost:{}/{}?host={}&sslmode=disable",
        options.get_username(),
        options.get_port(),
        options.get_database().unwrap(),
        socket.replace('/', "%2F"),
    )
}

/// The cluster of this process, migrated template included.
pub(crate) fn shared_cluster() -> &'static EmbeddedCluster {
    static CLUSTER: OnceLock<EmbeddedCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        // A thread of its own: the caller is inside its test's runtime, which may not block.
        thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(start())
        })
        .join()
        .expect("the tests' cluster starts")
    })
}

async fn start() -> EmbeddedCluster {
    // Not removed by its guard, but by the watchdog, which outlives us whatever happens.
    let directory = tempfile::Builder::new().prefix("tollgate-tests-").tempdir().unwrap().keep();
    let mut options = EmbeddedOptions::new(directory, TOLLGATE);
    options.temporary = true;
    let cluster = EmbeddedCluster::start(options).await.unwrap();

    let mut server = cluster.connect_options("postgres").connect().await.unwrap();
    let create = format!("CREATE DATABASE {TEMPLATE}");
    server.execute(AssertSqlSafe(create)).await.unwrap();
    server.close().await.unwrap();
    migrate(&mut cluster.connect_options(TEMPLATE).connect().await.unwrap()).await;
    cluster
}

pub(crate) async fn migrate(template: &mut PgConnection) {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    Migrator::new(migrations).await.unwrap().run(template).await.unwrap();
}
