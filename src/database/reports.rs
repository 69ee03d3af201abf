//! The pool of what is read to be looked at: lists, totals, the trial balance, the proof.
//!
//! It is apart from the others and small, so that a burst of reports never takes the connections
//! that cold keys, leases or credits need, and never has more than [`CONNECTIONS`] processes of the
//! database at work for it. A report that finds them all taken is refused, with a time to try again.

use std::time::Duration;

use sqlx::{
    PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    failure::DatabaseFailure,
    pool::{IDLE_TIMEOUT, session},
};

/// Reports at once. A verification takes one for minutes, a page of a list for milliseconds.
pub const CONNECTIONS: u32 = 4;
/// How long a report waits for its turn before it is refused.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How long a statement of a report may take, unless its own bound is another: a page of a list takes
/// milliseconds, the totals of all accounts over years some seconds.
const STATEMENT_TIMEOUT: &str = "20s";

/// Connections for reports. Cheap to clone; all clones are the same pool.
#[derive(Debug, Clone)]
pub struct ReportPool(PgPool);

impl ReportPool {
    /// A pool that connects when it is first asked.
    #[must_use]
    pub fn open(options: PgConnectOptions) -> Self {
        let options = session(options, "reports").options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            // The other cores are for those who wait at the gateway.
            ("max_parallel_workers_per_gather", "0"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .idle_timeout(IDLE_TIMEOUT)
            .connect_lazy_with(options);
        Self(pool)
    }

    /// A snapshot that only reads: all of its statements see the same moment.
    ///
    /// # Errors
    /// [`DatabaseFailure::ReportsBusy`] where all connections are taken, and failures of the
    /// database.
    pub async fn snapshot(&self) -> Result<Transaction<'static, Postgres>, DatabaseFailure> {
        let begun = self.0.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await;
        begun.map_err(|error| match error {
            // A database that is away keeps nobody connected.
            sqlx::Error::PoolTimedOut if self.0.size() >= CONNECTIONS => {
                DatabaseFailure::ReportsBusy
            }
            other => other.into(),
        })
    }

    /// Closes its connections, those in use when they come back.
    pub async fn close(&self) {
        self.0.close().await;
    }
}
