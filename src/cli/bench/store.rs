//! What a benchmark tells its own database directly.

use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

/// From now on each usage event takes its batch a millisecond, and no core: two writers carry 2,000 a
/// second, whatever the machine.
pub(super) async fn slow_down(database: &PgConnectOptions) -> sqlx::Result<()> {
    const SLOW: &str = "
        CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN PERFORM pg_sleep(0.001 * count(*)) FROM posted; RETURN NULL; END $$;
        CREATE TRIGGER slow AFTER INSERT ON usage_events
            REFERENCING NEW TABLE AS posted FOR EACH STATEMENT EXECUTE FUNCTION be_slow();";
    sqlx::raw_sql(SLOW).execute(&mut database.connect().await?).await.map(drop)
}
