//! The servers that told the database that they live.

use sqlx::{FromRow, PgConnection};

#[derive(FromRow)]
pub(super) struct Server {
    pub(super) description: String,
    /// Since its last beat.
    pub(super) silent_seconds: i64,
    /// Until others may give its leases back.
    pub(super) held_seconds: i64,
    pub(super) leases: i64,
}

const SERVERS: &str = "
    SELECT description,
           extract(epoch FROM clock_timestamp() - heartbeat_at)::bigint AS silent_seconds,
           extract(epoch FROM heartbeat_at + promises_for - clock_timestamp())::bigint AS held_seconds,
           (SELECT count(*) FROM leases
            WHERE leases.instance_id = instances.instance_id AND amount > 0) AS leases
    FROM instances
    WHERE stopped_at IS NULL
    ORDER BY heartbeat_at DESC";

/// Those that did not stop in order, the one heard of last first.
pub(super) async fn servers(connection: &mut PgConnection) -> sqlx::Result<Vec<Server>> {
    sqlx::query_as(SERVERS).fetch_all(connection).await
}
