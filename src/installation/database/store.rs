//! What Postgres tells every login about itself. What only `pg_monitor` may see is marked.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};

/// The database's clock.
pub(in crate::installation) async fn now(
    connection: &mut PgConnection,
) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(connection).await
}

/// The settings of this session. All sessions of a server log in alike, so that what an `ALTER ROLE` or
/// `ALTER DATABASE` sets for them shows here, too.
pub(super) async fn settings(
    connection: &mut PgConnection,
    names: &[&str],
) -> sqlx::Result<HashMap<String, String>> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT name, setting FROM pg_settings WHERE name = ANY ($1)")
            .bind(names)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().collect())
}

#[derive(FromRow)]
pub(super) struct Connections {
    /// Of all databases, as `pg_stat_database` counts them, which every login may see.
    pub(super) used: i64,
    pub(super) limit: i64,
    /// Of these, what only superusers and administrators get.
    pub(super) kept_back: i64,
}

const CONNECTIONS: &str = "
    SELECT (SELECT sum(numbackends) FROM pg_stat_database)::bigint AS used,
           current_setting('max_connections')::bigint AS limit,
           current_setting('superuser_reserved_connections')::bigint
           + coalesce(current_setting('reserved_connections', true), '0')::bigint AS kept_back";

pub(super) async fn connections(connection: &mut PgConnection) -> sqlx::Result<Connections> {
    sqlx::query_as(CONNECTIONS).fetch_one(connection).await
}

#[derive(FromRow)]
pub(super) struct OldestIds {
    pub(super) database: String,
    /// Transaction ids since the oldest row that is not frozen; all stops at about 2,000 million.
    pub(super) age: i64,
    /// The same of multixact ids.
    pub(super) multixact_age: i64,
}

const OLDEST_IDS: &str = "
    SELECT datname AS database, age(datfrozenxid)::bigint AS age,
           mxid_age(datminmxid)::bigint AS multixact_age
    FROM pg_database
    ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC
    LIMIT 1";

pub(super) async fn oldest_ids(connection: &mut PgConnection) -> sqlx::Result<OldestIds> {
    sqlx::query_as(OLDEST_IDS).fetch_one(connection).await
}

#[derive(FromRow)]
pub(super) struct OpenTransaction {
    /// `pid 4711`, or a prepared transaction's name.
    pub(super) name: String,
    pub(super) whose: String,
    pub(super) state: String,
    pub(super) seconds: i64,
}

// Of sessions of other roles a login without pg_monitor sees neither state nor age.
const OPEN_TRANSACTIONS: &str = "
    SELECT name, whose, state, extract(epoch FROM clock_timestamp() - since)::bigint AS seconds
    FROM (
        SELECT 'pid ' || pid AS name, xact_start AS since, coalesce(state, '') AS state,
               format('%s (%s)', coalesce(usename, '?'), coalesce(nullif(application_name, ''), '?'))
               AS whose
        FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
        UNION ALL
        SELECT 'the prepared transaction ' || quote_literal(gid), prepared, 'prepared', owner::text
        FROM pg_prepared_xacts
    ) AS open
    WHERE clock_timestamp() - since > make_interval(secs => $1)
    ORDER BY since
    LIMIT $2";

pub(super) async fn open_transactions(
    connection: &mut PgConnection,
    older_than_seconds: u32,
    limit: i64,
) -> sqlx::Result<Vec<OpenTransaction>> {
    let query = sqlx::query_as(OPEN_TRANSACTIONS).bind(f64::from(older_than_seconds)).bind(limit);
    query.fetch_all(connection).await
}

/// Whether this login may see what sessions of others do.
pub(in crate::installation) async fn sees_all(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT pg_has_role('pg_read_all_stats', 'USAGE')")
        .fetch_one(connection)
        .await
}

/// Tables for which autovacuum was switched off.
pub(super) async fn without_autovacuum(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT pg_class.oid::regclass::text
         FROM pg_class
         CROSS JOIN pg_options_to_table(reloptions) AS given
         WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
           AND option_name = 'autovacuum_enabled' AND NOT option_value::boolean
         ORDER BY 1",
    )
    .fetch_all(connection)
    .await
}

#[derive(FromRow)]
pub(super) struct Bloated {
    pub(super) name: String,
    pub(super) dead: i64,
    pub(super) live: i64,
}

/// Tables with more dead rows than live ones, and more than a few.
pub(super) async fn bloated(
    connection: &mut PgConnection,
    least: i64,
) -> sqlx::Result<Vec<Bloated>> {
    sqlx::query_as(
        "SELECT relid::regclass::text AS name, n_dead_tup AS dead, n_live_tup AS live
         FROM pg_stat_user_tables
         WHERE n_dead_tup > greatest($1, n_live_tup)
         ORDER BY n_dead_tup DESC
         LIMIT 5",
    )
    .bind(least)
    .fetch_all(connection)
    .await
}

#[derive(FromRow)]
pub(super) struct Schema {
    pub(super) newest: i64,
    pub(super) failed: i64,
}

pub(super) async fn schema(connection: &mut PgConnection) -> sqlx::Result<Schema> {
    sqlx::query_as(
        "SELECT coalesce(max(version), 0) AS newest, count(*) FILTER (WHERE NOT success) AS failed
         FROM _sqlx_migrations",
    )
    .fetch_one(connection)
    .await
}

/// The login and what concerns its rights.
#[expect(clippy::struct_excessive_bools, reason = "each is a column, and none excludes another")]
#[derive(FromRow)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) is_superuser: bool,
    pub(super) bypasses_rls: bool,
    /// Tables, views and sequences that belong to a role that the login is not a member of, and one.
    pub(super) not_owned: i64,
    pub(super) first_not_owned: Option<String>,
    /// Anybody who may connect can make objects in the schema.
    pub(super) schema_is_open: bool,
    /// Of the tenants' role; `None` where there is none.
    pub(super) tenant_sees_all: Option<bool>,
    /// Whether the login may become it.
    pub(super) may_be_tenant: bool,
}

// To take a role is a right of its own from Postgres 16 on.
const ROLE: &str = "
    SELECT own.rolname::text AS name, own.rolsuper AS is_superuser, own.rolbypassrls AS bypasses_rls,
           strange.number AS not_owned, strange.first AS first_not_owned,
           EXISTS (SELECT FROM pg_namespace, aclexplode(nspacl) AS granted
                   WHERE nspname = 'public' AND granted.grantee = 0
                     AND granted.privilege_type = 'CREATE') AS schema_is_open,
           tenant.rolsuper OR tenant.rolbypassrls AS tenant_sees_all,
           coalesce(pg_has_role(tenant.oid,
                                CASE WHEN current_setting('server_version_num')::integer >= 160000
                                     THEN 'SET' ELSE 'MEMBER' END), false) AS may_be_tenant
    FROM pg_roles AS own
    LEFT JOIN pg_roles AS tenant ON tenant.rolname = 'tollgate_tenant'
    CROSS JOIN (
        SELECT count(*) AS number, min(oid::regclass::text) AS first
        FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')
          AND NOT pg_has_role(relowner, 'USAGE')
    ) AS strange
    WHERE own.rolname = current_user";

pub(super) async fn role(connection: &mut PgConnection) -> sqlx::Result<Role> {
    sqlx::query_as(ROLE).fetch_one(connection).await
}
