//! The pools of what is read to be looked at: lists, totals, the trial balance, the proof.
//!
//! There are two. One is for staff and sees everything. In the other all that a tenant asks for is read,
//! as the role `tollgate_tenant`, to which row-level security shows the rows of one account, named for
//! the transaction (`migrations/0024_tenant_isolation.sql`): a statement that forgets to say whose rows
//! it wants, or is told the wrong account, finds nothing of others there.
//!
//! They are apart from the other pools and small, so that a burst of reports never takes the connections
//! that cold keys, leases or credits need, and never has more than [`CONNECTIONS`] processes of the
//! database at work for each. A report that finds them all taken is refused, with a time to try again.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction, postgres::PgConnectOptions};

use super::{
    failure::DatabaseFailure,
    pool::{IDLE_TIMEOUT, ONE_PROCESS, clean, session},
    priority,
};
use crate::ids::AccountId;

/// Reports at once. A verification takes one for minutes, a page of a list for milliseconds.
pub const CONNECTIONS: u32 = 4;
/// How long a report waits for its turn before it is refused.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How long a statement of a report may take, unless its own bound is another: a page of a list takes
/// milliseconds, the totals of all accounts over years some seconds.
const STATEMENT_TIMEOUT: &str = "20s";

/// The role that tenants' reads run as.
const TENANT_ROLE: &str = "tollgate_tenant";

/// Both pools. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reports {
    staff: PgPool,
    tenants: PgPool,
}

/// What somebody reads through: everything, or one account. Cheap to clone; all clones share their
/// connections.
#[derive(Debug, Clone)]
pub struct ReportPool {
    pool: PgPool,
    /// Whose rows alone are seen.
    tenant: Option<AccountId>,
}

impl Reports {
    /// Pools that connect when they are first asked, and whose sessions let all others go first.
    #[must_use]
    pub fn open(options: &PgConnectOptions) -> Self {
        let staff = open(session(options.clone(), "reports"));
        let tenants = session(options.clone(), "tenant reports")
            .options([("role", TENANT_ROLE), ("default_transaction_read_only", "on")]);
        Self { staff, tenants: open(tenants) }
    }

    /// For those who may see all accounts.
    #[must_use]
    pub fn all(&self) -> ReportPool {
        ReportPool { pool: self.staff.clone(), tenant: None }
    }

    /// For those who may see one account.
    #[must_use]
    pub fn of(&self, account: AccountId) -> ReportPool {
        ReportPool { pool: self.tenants.clone(), tenant: Some(account) }
    }

    /// Closes their connections, those in use when they come back.
    pub async fn close(&self) {
        tokio::join!(self.staff.close(), self.tenants.close());
    }
}

fn open(options: PgConnectOptions) -> PgPool {
    let options = options.options([("statement_timeout", STATEMENT_TIMEOUT), ONE_PROCESS]);
    let pool =
        clean().max_connections(CONNECTIONS).acquire_timeout(PATIENCE).idle_timeout(IDLE_TIMEOUT);
    priority::last(pool, options)
}

impl ReportPool {
    /// A snapshot that only reads: all of its statements see the same moment.
    ///
    /// # Errors
    /// [`DatabaseFailure::ReportsBusy`] where all connections are taken, and failures of the
    /// database.
    pub async fn snapshot(&self) -> Result<Transaction<'static, Postgres>, DatabaseFailure> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let begun = match self.tenant {
            None => self.pool.begin_with(BEGIN).await,
            // In the same message, so that no connection is ever without an account or with the one
            // before's. An id is written in hexadecimal digits alone.
            Some(account) => {
                let begin = format!("{BEGIN}; SET LOCAL tollgate.account_id = '{account}'");
                self.pool.begin_with(AssertSqlSafe(begin)).await
            }
        };
        begun.map_err(|error| match error {
            // A database that is away keeps nobody connected.
            sqlx::Error::PoolTimedOut if self.pool.size() >= CONNECTIONS => {
                DatabaseFailure::ReportsBusy
            }
            other => other.into(),
        })
    }
}
