//! What is wrong with this installation, in sentences, for whoever is woken by it.
//!
//! `ledger verify` proves the books; this looks at what they stand on: the database's settings, its
//! copies, the disk, the clocks, the other servers, and what the business needs to go on. A check looks
//! at one thing in a transaction of its own that only reads, on a connection of the reports' pool, so
//! that it takes nothing from the gateway's calls, and says what it looked at and what is wrong. One that
//! cannot be made is a finding itself: it hides none of the others.
//!
//! Each folder has the judgement in `mod.rs`, mostly pure functions of what was read, and what is read in
//! `store.rs`. Nothing is changed.

mod business;
mod copies;
mod database;
mod finding;
mod servers;

use std::{net::SocketAddr, path::PathBuf};

use sqlx::PgConnection;

pub use self::{
    finding::{Check, Finding, Severity},
    servers::{CLOCK_SKEW_SECONDS, skew_seconds},
};
use crate::{
    database::{failure::DatabaseFailure, reports::ReportPool},
    problem::Problem as _,
};

/// What a server knows of itself and its database tells nobody.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The directory of the Postgres that this server runs, if it does.
    pub embedded: Option<PathBuf>,
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Whether this server closes months by itself.
    pub closes_months: bool,
}

/// What all checks found, in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// Every check, with or without findings.
    pub checks: Vec<Check>,
}

impl Examination {
    /// Whether no finding is worse than a notice.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let mut findings = self.checks.iter().flat_map(|check| &check.findings);
        findings.all(|finding| finding.severity == Severity::Notice)
    }
}

/// Looks an installation over.
#[derive(Debug, Clone)]
pub struct Doctor {
    reports: ReportPool,
    setup: Setup,
}

/// Makes one check in a transaction of its own.
macro_rules! look {
    ($self:ident, $name:literal, $look:path $(, $argument:expr)*) => {{
        let mut snapshot = $self.reports.snapshot().await?;
        let connection: &mut PgConnection = &mut snapshot;
        let looked = $look(connection $(, $argument)*).await;
        // Here and now, so that the next check has the same connection; one that is lost has ended.
        let _ = snapshot.rollback().await;
        told($name, looked)?
    }};
}

impl Doctor {
    /// Looks at the installation that this server and the database behind this pool are.
    #[must_use]
    pub const fn new(reports: ReportPool, setup: Setup) -> Self {
        Self { reports, setup }
    }

    /// Makes every check.
    ///
    /// # Errors
    /// [`DatabaseFailure::ReportsBusy`], and [`DatabaseFailure::Away`] where there is no database to
    /// look at.
    pub async fn examine(&self) -> Result<Examination, DatabaseFailure> {
        let Setup { embedded, listen, closes_months } = &self.setup;
        let is_embedded = embedded.is_some();
        let checks = vec![
            look!(self, "durability", database::durability),
            look!(self, "clocks", servers::clocks),
            look!(self, "servers", servers::servers),
            servers::reach(*listen, is_embedded),
            look!(self, "schema", database::schema),
            look!(self, "role", database::role, is_embedded),
            look!(self, "connections", database::connections),
            look!(self, "transactions", database::transactions),
            look!(self, "transaction_ids", database::transaction_ids),
            look!(self, "autovacuum", database::autovacuum),
            look!(self, "replicas", copies::replicas),
            look!(self, "archive", copies::archive),
            look!(self, "disk", copies::disk, embedded.as_deref()),
            look!(self, "partitions", business::partitions),
            look!(self, "unsettled", business::unsettled),
            look!(self, "quarantine", business::quarantine),
            look!(self, "prices", business::prices),
            look!(self, "closing", business::closing, *closes_months),
            look!(self, "background", business::background),
        ];
        Ok(Examination { checks })
    }
}

/// A check that could not be made is told among the others, unless there is no database at all.
fn told(name: &'static str, looked: sqlx::Result<Check>) -> Result<Check, DatabaseFailure> {
    let failure = match looked {
        Ok(check) => return Ok(check),
        Err(error) => DatabaseFailure::from(error),
    };
    if matches!(failure, DatabaseFailure::Away(_) | DatabaseFailure::ReportsBusy) {
        return Err(failure);
    }
    tracing::warn!(check = name, error = &failure as &dyn std::error::Error, "not looked at");
    let problem = format!("this could not be looked at ({}).", failure.reason());
    let remedy = "Look for `not looked at` in the server's log, which has the cause.";
    let finding = Finding::warning(problem, remedy);
    Ok(Check { name, looked_at: "nothing".to_owned(), findings: vec![finding] })
}
