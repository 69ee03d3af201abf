//! The schema: forward-only migrations from `migrations/`, carried in the program.
//!
//! They run under an advisory lock, so that servers that start at the same time wait for one
//! another, and each in a transaction of its own. A database that a newer Tollgate has migrated is
//! refused before anything is changed.

use sqlx::{
    Connection as _, PgConnection,
    migrate::{MigrateError, Migrator},
    postgres::PgConnectOptions,
};
use thiserror::Error;

use super::{failure, pool};

/// What this program knows of.
static MIGRATIONS: Migrator = sqlx::migrate!();

/// Why the schema is not what this program needs.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// A newer Tollgate was here.
    #[error(
        "the database is of a newer version: it has migration {found}, and this program knows up to \
         {known}; run the newer program, or restore a backup of before its start"
    )]
    Newer {
        /// The first migration in the database that this program does not know.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// A migration was applied that this program does not know, though it knows newer ones.
    #[error(
        "the database has migration {0}, which this program has never had; it belongs to another \
         program or to an unreleased version: choose another database"
    )]
    Foreign(i64),
    /// A migration's text is not the one that was applied.
    #[error(
        "migration {0} was applied with another text than this program has; run the program that \
         made the database, or choose another database"
    )]
    Changed(i64),
    /// A lock was not granted in time.
    #[error(
        "the schema is locked by somebody else for too long; end the long transaction that \
         pg_stat_activity shows, and start again"
    )]
    Locked(#[source] sqlx::Error),
    /// Anything else.
    #[error("the schema could not be brought up to date: {0}")]
    Failed(#[source] Box<MigrateError>),
}

/// The newest migration that this program knows.
#[must_use]
pub fn newest_known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Brings the schema up to date, on a session of its own.
pub async fn run(options: &PgConnectOptions) -> Result<(), pool::DatabaseError> {
    let options = pool::session(options.clone(), "migrations")
        // An index on a large table takes its time; a lock that is not granted stops live traffic
        // behind it, so waiting for one is bounded.
        .options([("statement_timeout", "0"), ("lock_timeout", "60s")]);
    let mut connection = pool::connect(&options).await?;
    let outcome = apply(&mut connection).await;
    // Closing gives the advisory lock back, whatever happened.
    let _ = connection.close().await;
    Ok(outcome?)
}

async fn apply(connection: &mut PgConnection) -> Result<(), MigrationError> {
    MIGRATIONS.run(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) if found > newest_known() => {
            MigrationError::Newer { found, known: newest_known() }
        }
        MigrateError::VersionMissing(version) => MigrationError::Foreign(version),
        MigrateError::VersionMismatch(version) => MigrationError::Changed(version),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)
            if failure::sqlstate(&error).as_deref() == Some(failure::LOCK_NOT_AVAILABLE) =>
        {
            MigrationError::Locked(error)
        }
        other => MigrationError::Failed(Box::new(other)),
    })
}
