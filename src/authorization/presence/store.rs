//! The SQL of presence: beats, barriers, and which servers are awaited.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Row as _};

use crate::{
    accounts::change::CHANNEL,
    authorization::limits::{DEADLINE_MARGIN, HEARTBEAT_TTL},
    ids::InstanceId,
};

/// What a beat brings.
pub(super) struct Beat {
    /// Its moment by the database's clock.
    pub(super) at: DateTime<Utc>,
    /// The last barrier whose number was taken.
    pub(super) barrier: i64,
    /// Servers that live, this one included.
    pub(super) live_servers: i64,
}

/// Says what was heard; `None` when this server was removed.
pub(super) async fn heartbeat(
    connection: &mut PgConnection,
    instance: InstanceId,
    heard: i64,
) -> sqlx::Result<Option<Beat>> {
    let row = sqlx::query("SELECT beat_at, barrier, live_servers FROM heartbeat($1, $2, $3)")
        .bind(instance)
        .bind(heard)
        .bind(HEARTBEAT_TTL)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Beat {
        at: row.try_get("beat_at")?,
        barrier: row.try_get("barrier")?,
        live_servers: row.try_get("live_servers")?,
    }))
}

// One statement, committed by itself. The number is taken before the announcement, and both after
// everything that was committed when the statement was sent.
const BARRIER: &str = "
    SELECT number, pg_notify($1, 'barrier:' || number)
      FROM (SELECT nextval('barriers') AS number) AS taken";

/// Takes the next number and announces it.
pub(super) async fn barrier(pool: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar(BARRIER).bind(CHANNEL).fetch_one(pool).await
}

const AWAITED: &str = "
    SELECT instance_id FROM instances
     WHERE stopped_at IS NULL AND heard < $1 AND heartbeat_at + $2 > clock_timestamp()
     ORDER BY instance_id";

/// The servers that have not heard this barrier and may still authorize.
pub(super) async fn awaited(pool: &PgPool, number: i64) -> sqlx::Result<Vec<InstanceId>> {
    sqlx::query_scalar(AWAITED)
        .bind(number)
        .bind(HEARTBEAT_TTL + DEADLINE_MARGIN)
        .fetch_all(pool)
        .await
}
