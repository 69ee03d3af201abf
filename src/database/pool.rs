//! Connections to Postgres: what every session is told, and the pool for administration. Reports
//! have [a pool of their own](super::reports), and the hot paths open sessions of their own from
//! `pool.connect_options()`, so that nothing can take their connection.

use std::time::Duration;

use sqlx::{
    Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use thiserror::Error;

use super::{migrate::MigrationError, priority, store::is_in_transaction};
use crate::tasks::Tasks;

/// The oldest major version that Tollgate runs on.
pub const OLDEST_POSTGRES: u32 = 15;
/// How long a request waits for a connection before it is answered UNAVAILABLE.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the first connection of a start may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection is closed after this long.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(10);

/// What every session is told. They bound what a process frozen in the middle can hold: without
/// them its row locks would stop its accounts for as long as it sleeps.
const SESSION: [(&str, &str); 5] = [
    // Longer than the slowest report on a year of usage, shorter than an operator's patience.
    ("statement_timeout", "60s"),
    // A row lock is held for a batch of milliseconds; who waits this long waits for a frozen one.
    ("lock_timeout", "5s"),
    // Between two statements of a transaction lies only our own code.
    ("idle_in_transaction_session_timeout", "10s"),
    // Months of billing are UTC everywhere.
    ("TimeZone", "UTC"),
    // Statements are short and prepared: compiling them costs more than it saves.
    ("jit", "off"),
];

/// What sessions for the background and for reports are told beside it: the other cores are for those
/// who wait at the gateway.
pub(super) const ONE_PROCESS: (&str, &str) = ("max_parallel_workers_per_gather", "0");

/// Why there is no usable database.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// It cannot be reached, or does not let us in.
    #[error("the database at {place} cannot be used: {cause}")]
    Connect {
        /// Host, port and database, never a password.
        place: String,
        /// What went wrong.
        cause: sqlx::Error,
    },
    /// It did not answer in time.
    #[error(
        "the database at {0} did not answer in time; check the host, the port and what lies between"
    )]
    NoAnswer(String),
    /// It is too old.
    #[error("the database is Postgres {0}; Tollgate needs {OLDEST_POSTGRES} or newer")]
    TooOld(String),
    /// The schema could not be brought up to date.
    #[error(transparent)]
    Migration(#[from] MigrationError),
}

/// The options with what every session is told. `purpose` shows in `pg_stat_activity`.
#[must_use]
pub fn session(options: PgConnectOptions, purpose: &str) -> PgConnectOptions {
    options.application_name(&format!("tollgate {purpose}")).options(SESSION)
}

/// Checks the server and opens a pool of at most `connections`.
pub async fn open(options: PgConnectOptions, connections: u32) -> Result<PgPool, DatabaseError> {
    let options = session(options, "pool");
    let probe = connect(&options).await?;
    check_version(probe.server_version_num())?;
    // A failed farewell changes nothing.
    let _ = probe.close().await;
    Ok(clean()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .connect_lazy_with(options))
}

/// One connection for a task in the background, which takes none from anybody else. It comes back by
/// itself after it was lost.
#[must_use]
pub fn single(options: PgConnectOptions, purpose: &str) -> PgPool {
    one().connect_lazy_with(session(options, purpose).options([ONE_PROCESS]))
}

/// The same for a task that nobody waits for: it lets all others go first.
#[must_use]
pub fn single_last(options: PgConnectOptions, purpose: &str) -> PgPool {
    priority::last(one(), session(options, purpose).options([ONE_PROCESS]))
}

/// A pool to which no connection comes back with a transaction open. A call that is given up while its
/// `BEGIN` is under way leaves one behind of which the library does not know: what others then wrote in
/// single statements over that connection would be undone some day, or fail at once.
pub(super) fn clean() -> PgPoolOptions {
    PgPoolOptions::new().after_release(|connection, _| {
        Box::pin(async move { Ok(!is_in_transaction(connection).await.unwrap_or(true)) })
    })
}

fn one() -> PgPoolOptions {
    clean().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT).idle_timeout(IDLE_TIMEOUT)
}

/// Does one round after the other until the server stops, each after the pause that the one before it
/// answered, and closes the pool then. A round may be cut short: what it does is one transaction.
pub fn in_rounds<Round>(
    tasks: &Tasks,
    name: &'static str,
    pool: PgPool,
    round: impl Fn(PgPool) -> Round + Send + Sync + 'static,
) where
    Round: Future<Output = Duration> + Send,
{
    let stopping = tasks.stopping();
    tasks.spawn(name, async move {
        let keeping = async {
            loop {
                tokio::time::sleep(round(pool.clone()).await).await;
            }
        };
        stopping.run_until_cancelled(keeping).await;
        pool.close().await;
    });
}

/// One session, within a bounded time.
pub async fn connect(options: &PgConnectOptions) -> Result<PgConnection, DatabaseError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(outcome) => {
            outcome.map_err(|cause| DatabaseError::Connect { place: place_of(options), cause })
        }
        Err(_) => Err(DatabaseError::NoAnswer(place_of(options))),
    }
}

/// Where the options lead, without the password.
#[must_use]
pub fn place_of(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{}/{database}", socket.display()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

/// `version` as the server tells it, such as 150018.
fn check_version(version: Option<u32>) -> Result<(), DatabaseError> {
    match version {
        Some(version) if version >= OLDEST_POSTGRES * 10_000 => Ok(()),
        Some(version) => Err(DatabaseError::TooOld((version / 10_000).to_string())),
        None => Err(DatabaseError::TooOld("of an unknown version".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_never_holds_the_password() {
        let options: PgConnectOptions =
            "postgres://books:hunter2@db.example:5433/ledger".parse().unwrap();
        assert_eq!(place_of(&options), "db.example:5433/ledger");
    }

    #[test]
    fn a_postgres_before_15_is_refused() {
        assert!(check_version(Some(150_000)).is_ok());
        assert!(check_version(Some(180_001)).is_ok());
        for version in [Some(140_019), Some(90_624), None] {
            let refusal = check_version(version).unwrap_err().to_string();
            assert!(refusal.contains("15 or newer"), "{refusal}");
        }
    }
}
