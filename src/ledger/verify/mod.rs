//! Proving the books: everything that a database can show is computed again from scratch, in one
//! snapshot, and whatever does not agree is named.
//!
//! There are no foreign keys between the hot tables; what they would guarantee is proved here. Most
//! checks are one statement each ([`checks`]); charges are computed again in Rust by the same pure
//! function that made them ([`charges`]), from the counts and the price version that each event
//! names. A verification takes one connection, holds no lock, and is bounded in time because its
//! snapshot keeps old rows from being cleaned up.

mod charges;
mod checks;
mod documents;
mod seals;
mod service_level;
mod store;

use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio::sync::Mutex;

use crate::{
    database::reports::ReportPool,
    ids::AccountId,
    ledger::{
        error::LedgerError,
        store::{bound, snapshot},
    },
};

/// How long a verification may take: as long as its snapshot may keep dead rows from being cleaned
/// up. One account at a time takes less.
const VERIFY_LIMIT_SECONDS: u32 = 15 * 60;
/// How many violations of a check are shown in words; the others are counted.
pub const MAX_FINDINGS: usize = 5;

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Such as `balances_equal_transfers`; stable across releases.
    pub name: &'static str,
    /// What must hold.
    pub description: &'static str,
    /// Rows looked at.
    pub examined: u64,
    /// Rows that do not agree.
    pub violations: u64,
    /// The first [`MAX_FINDINGS`] of them, each naming the row and the difference.
    pub findings: Vec<String>,
}

/// What all checks found, in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Every check, clean or not.
    pub checks: Vec<Check>,
}

impl Verification {
    /// Whether everything agrees.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.checks.iter().all(|check| check.violations == 0)
    }
}

/// Verifies the books, one verification at a time: each reads every row there is.
#[derive(Debug)]
pub struct Verifier {
    reports: ReportPool,
    running: Mutex<()>,
}

impl Verifier {
    /// Verifies the books behind this pool.
    #[must_use]
    pub const fn new(reports: ReportPool) -> Self {
        Self { reports, running: Mutex::const_new(()) }
    }

    /// Verifies one account's books, or everybody's.
    ///
    /// # Errors
    /// [`LedgerError::Verifying`] while another verification runs, [`LedgerError::TooLong`], and
    /// failures of the database. What does not agree is not an error but a finding.
    pub async fn verify(&self, account: Option<AccountId>) -> Result<Verification, LedgerError> {
        let Ok(_one_at_a_time) = self.running.try_lock() else {
            return Err(LedgerError::Verifying);
        };
        let time = TimeLimit::starting_now();
        let mut snapshot = snapshot(&self.reports, VERIFY_LIMIT_SECONDS).await?;
        let mut checks = Vec::new();
        for check in checks::ALL {
            time.bound(&mut snapshot).await?;
            checks.push(store::run(&mut snapshot, check, account).await?);
        }
        time.bound(&mut snapshot).await?;
        checks.push(store::transfers_follow_the_chart(&mut snapshot, account).await?);
        time.bound(&mut snapshot).await?;
        let prices = store::prices(&mut snapshot).await?;
        checks.push(charges::verify(&mut snapshot, account, &prices).await?);
        time.bound(&mut snapshot).await?;
        checks.push(documents::verify(&mut snapshot, account, &prices).await?);
        time.bound(&mut snapshot).await?;
        checks.push(service_level::verify(&mut snapshot, account).await?);
        time.bound(&mut snapshot).await?;
        checks.push(seals::verify(&mut snapshot, account, &time).await?);
        Ok(Verification { checks })
    }
}

struct TimeLimit {
    began: Instant,
}

impl TimeLimit {
    fn starting_now() -> Self {
        Self { began: Instant::now() }
    }

    /// Gives the next statement what is left of the time.
    async fn bound(&self, connection: &mut PgConnection) -> Result<(), LedgerError> {
        let limit = Duration::from_secs(u64::from(VERIFY_LIMIT_SECONDS));
        let left = limit.saturating_sub(self.began.elapsed()).as_secs();
        // Zero would mean no limit at all.
        bound(connection, u32::try_from(left).unwrap_or(VERIFY_LIMIT_SECONDS).max(1)).await
    }
}

/// A failure of a verification's statement, told apart from having used up the time.
fn failed(error: sqlx::Error) -> LedgerError {
    LedgerError::bounded(error, "verification", VERIFY_LIMIT_SECONDS)
}
