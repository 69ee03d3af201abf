//! Replicas, slots, the archive and the size of the database. What a replica is behind by is seen by
//! superusers and `pg_monitor` alone.

use sqlx::{FromRow, PgConnection};

pub(super) async fn is_replica(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(connection).await
}

/// `synchronous_standby_names`; empty where no commit waits for a replica.
pub(super) async fn awaited(connection: &mut PgConnection) -> sqlx::Result<String> {
    sqlx::query_scalar("SELECT current_setting('synchronous_standby_names')")
        .fetch_one(connection)
        .await
}

#[derive(FromRow)]
pub(super) struct Replica {
    pub(super) name: String,
    /// `None` where this login may not see it.
    pub(super) state: Option<String>,
    /// Whether commits wait for it.
    pub(super) is_awaited: bool,
    pub(super) behind_bytes: Option<i64>,
    pub(super) behind_seconds: Option<i64>,
}

const REPLICAS: &str = "
    SELECT coalesce(nullif(application_name, ''), 'pid ' || pid) AS name, state,
           coalesce(sync_state IN ('sync', 'quorum'), false) AS is_awaited,
           pg_wal_lsn_diff(pg_current_wal_lsn(),
                           coalesce(replay_lsn, flush_lsn, write_lsn, sent_lsn))::bigint AS behind_bytes,
           extract(epoch FROM coalesce(replay_lag, flush_lag, write_lag))::bigint AS behind_seconds
    FROM pg_stat_replication
    ORDER BY name";

pub(super) async fn replicas(connection: &mut PgConnection) -> sqlx::Result<Vec<Replica>> {
    sqlx::query_as(REPLICAS).fetch_all(connection).await
}

#[derive(FromRow)]
pub(super) struct Slot {
    pub(super) name: String,
    /// What is kept for it.
    pub(super) bytes: i64,
}

/// Replication slots that nobody reads from.
pub(super) async fn unused_slots(connection: &mut PgConnection) -> sqlx::Result<Vec<Slot>> {
    sqlx::query_as(
        "SELECT slot_name::text AS name,
                coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint AS bytes
         FROM pg_replication_slots
         WHERE NOT active
         ORDER BY 1",
    )
    .fetch_all(connection)
    .await
}

#[derive(FromRow)]
pub(super) struct Archive {
    pub(super) is_on: bool,
    pub(super) archived: i64,
    /// Since the last success.
    pub(super) archived_seconds: Option<i64>,
    /// Failures since then.
    pub(super) is_failing: bool,
    pub(super) failed: i64,
    pub(super) failing_segment: Option<String>,
}

const ARCHIVE: &str = "
    SELECT current_setting('archive_mode') <> 'off' AS is_on, archived_count AS archived,
           extract(epoch FROM clock_timestamp() - last_archived_time)::bigint AS archived_seconds,
           coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS is_failing,
           failed_count AS failed, last_failed_wal AS failing_segment
    FROM pg_stat_archiver";

pub(super) async fn archive(connection: &mut PgConnection) -> sqlx::Result<Archive> {
    sqlx::query_as(ARCHIVE).fetch_one(connection).await
}

pub(super) async fn database_bytes(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(connection).await
}
