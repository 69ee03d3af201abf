//! The database as such: whether it keeps what it acknowledged, who may do what in it, and what brings
//! it to a stop.

pub(super) mod store;

use std::collections::HashMap;

use sqlx::PgConnection;

use self::store::{Connections, OldestIds, Role, Schema};
use super::finding::{Check, Finding, count, span};
use crate::database::migrate;

/// From so many percent of the connections on, a burst or another server takes the last.
const CONNECTIONS_WARN_PERCENT: i64 = 80;
/// From so many on, the next administrator cannot get in.
const CONNECTIONS_FULL_PERCENT: i64 = 95;
/// Longer than anything of ours is open: a verification takes 15 minutes at most.
const LONG_TRANSACTION_SECONDS: u32 = 20 * 60;
/// Of long transactions, so many are named.
const NAMED: i64 = 5;
/// Autovacuum freezes rows from 200 million ids on; at twice and a half of it, it does not keep up.
const OLD_IDS: i64 = 500_000_000;
/// At about 2,000 million Postgres takes no more writes.
const OLDEST_IDS: i64 = 1_500_000_000;
/// Fewer dead rows slow nothing down.
const MANY_DEAD_ROWS: i64 = 1_000_000;

/// Whether an acknowledged commit is on disk.
pub(super) async fn durability(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let names = ["fsync", "full_page_writes", "synchronous_commit", "data_checksums"];
    let settings = store::settings(connection, &names).await?;
    let told = names.map(|name| format!("{name} {}", value(&settings, name)));
    Ok(Check::new("durability", told.join(", "), judge_durability(&settings)))
}

fn value<'settings>(settings: &'settings HashMap<String, String>, name: &str) -> &'settings str {
    settings.get(name).map_or("unknown", String::as_str)
}

fn judge_durability(settings: &HashMap<String, String>) -> Vec<Finding> {
    let lost = [
        ("fsync", "a power failure loses or corrupts what was acknowledged"),
        ("full_page_writes", "a crash in the middle of a write can leave pages that are half old"),
        ("synchronous_commit", "a crash loses usage and payments that were answered with OK"),
    ];
    let mut findings = Vec::new();
    for (name, consequence) in lost {
        if value(settings, name) == "off" {
            findings.push(Finding::critical(
                format!("{name} is off: {consequence}."),
                format!(
                    "Set {name} = on in postgresql.conf and reload; look at ALTER SYSTEM, and at \
                     pg_db_role_setting for what is set for a role or a database."
                ),
            ));
        }
    }
    if value(settings, "data_checksums") == "off" {
        findings.push(Finding::notice(
            "data_checksums is off: a page that the disk returns wrongly is not noticed.",
            "Switch them on with pg_checksums --enable while Postgres is stopped.",
        ));
    }
    findings
}

/// Whether the schema is this program's.
pub(super) async fn schema(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let schema = store::schema(connection).await?;
    let known = migrate::newest_known();
    let looked_at = format!("migration {} in the database, {known} in the program", schema.newest);
    Ok(Check::new("schema", looked_at, judge_schema(&schema, known)))
}

fn judge_schema(schema: &Schema, known: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if schema.newest > known {
        findings.push(Finding::critical(
            format!(
                "the database is at migration {} and this server's program knows up to {known}: a \
                 newer program has migrated it while this one runs.",
                schema.newest
            ),
            "Restart this server with the newer program; the old one is refused at its next start.",
        ));
    }
    if schema.failed > 0 {
        findings.push(Finding::critical(
            format!("{} began and did not end.", count(schema.failed, "migration")),
            "Start a server of the newest program and read what it says of the schema.",
        ));
    }
    findings
}

/// What the login may do, and whether tenants are kept apart.
pub(super) async fn role(connection: &mut PgConnection, is_embedded: bool) -> sqlx::Result<Check> {
    let role = store::role(connection).await?;
    let looked_at = format!(
        "the login {}{}, the owners of its tables, the tenants' role",
        role.name,
        if role.is_superuser { ", a superuser" } else { "" }
    );
    Ok(Check::new("role", looked_at, judge_role(&role, is_embedded)))
}

fn judge_role(role: &Role, is_embedded: bool) -> Vec<Finding> {
    let name = &role.name;
    let mut findings = Vec::new();
    // The embedded cluster has nobody else in it, and no port.
    if role.is_superuser && !is_embedded {
        findings.push(Finding::warning(
            format!("the server logs in as {name}, which is a superuser: it may do anything."),
            format!(
                "Give it a login of its own that owns its database and nothing else, or: ALTER ROLE \
                 {name} NOSUPERUSER."
            ),
        ));
    }
    if role.bypasses_rls && !role.is_superuser {
        findings.push(Finding::warning(
            format!(
                "the login {name} passes row-level security by (BYPASSRLS), which it never needs."
            ),
            format!("ALTER ROLE {name} NOBYPASSRLS."),
        ));
    }
    if role.not_owned > 0 {
        let first = role.first_not_owned.as_deref().unwrap_or_default();
        findings.push(Finding::warning(
            format!(
                "{} of the schema, such as {first}, belong to a role that {name} is not a member of: a \
                 newer version cannot migrate them.",
                count(role.not_owned, "object")
            ),
            format!("ALTER … OWNER TO {name}, or grant it the role that owns them."),
        ));
    }
    if role.schema_is_open {
        findings.push(Finding::warning(
            "everybody who may connect to the database can make objects in its schema.",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC.",
        ));
    }
    match role.tenant_sees_all {
        None => findings.push(Finding::critical(
            "there is no role tollgate_tenant: no tenant can read anything.",
            format!(
                "CREATE ROLE tollgate_tenant NOLOGIN; GRANT tollgate_tenant TO {name}; then `tollgate \
                 ledger verify` says whether its rights came back with it."
            ),
        )),
        Some(true) => findings.push(Finding::critical(
            "the role tollgate_tenant passes row-level security by: a tenant's read could show all \
             accounts.",
            "ALTER ROLE tollgate_tenant NOSUPERUSER NOBYPASSRLS.",
        )),
        Some(false) if !role.may_be_tenant => findings.push(Finding::critical(
            format!("{name} may not take the role tollgate_tenant: no tenant can read anything."),
            format!("GRANT tollgate_tenant TO {name}."),
        )),
        Some(false) => {}
    }
    findings
}

/// Whether there are connections left.
pub(super) async fn connections(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let connections = store::connections(connection).await?;
    let looked_at = format!(
        "{} of {} connections used, {} of them kept back for administrators",
        connections.used, connections.limit, connections.kept_back
    );
    Ok(Check::new("connections", looked_at, judge_connections(&connections)))
}

fn judge_connections(connections: &Connections) -> Option<Finding> {
    let Connections { used, limit, kept_back } = *connections;
    let usable = (limit - kept_back).max(1);
    let percent = used.saturating_mul(100) / usable;
    let problem = format!(
        "{used} of the {usable} connections that are not kept back for administrators are used \
         ({percent}%)."
    );
    let remedy = "End what does not belong there (pg_stat_activity by application_name), lower \
                  --database-connections, or raise max_connections and restart Postgres.";
    if percent >= CONNECTIONS_FULL_PERCENT {
        Some(Finding::critical(problem, remedy))
    } else if percent >= CONNECTIONS_WARN_PERCENT {
        Some(Finding::warning(problem, remedy))
    } else {
        None
    }
}

/// Whether a transaction holds back what is behind it: clean-up, rollups and seals.
pub(super) async fn transactions(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let open = store::open_transactions(connection, LONG_TRANSACTION_SECONDS, NAMED).await?;
    let mut findings: Vec<Finding> = open
        .iter()
        .map(|one| {
            let remedy = if one.state == "prepared" {
                "Commit or roll it back: ROLLBACK PREPARED with its name."
            } else {
                "Find out what it is for and end it: SELECT pg_terminate_backend(PID)."
            };
            Finding::warning(
                format!(
                    "{} of {} has been open for {} ({}): dead rows are kept, and if it writes, \
                     rollups and seals wait for it.",
                    one.name,
                    one.whose,
                    span(one.seconds),
                    one.state
                ),
                remedy,
            )
        })
        .collect();
    let seen = if store::sees_all(connection).await? {
        "of all sessions"
    } else {
        findings.push(Finding::notice(
            "this login cannot see what sessions of other roles do.",
            "GRANT pg_monitor to the server's login to have them looked at.",
        ));
        "of this login's own sessions"
    };
    let looked_at = format!(
        "transactions {seen} and prepared ones, open for more than {}",
        span(LONG_TRANSACTION_SECONDS.into())
    );
    Ok(Check::new("transactions", looked_at, findings))
}

/// How far the database is from the end of its transaction ids.
pub(super) async fn transaction_ids(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let oldest = store::oldest_ids(connection).await?;
    let looked_at = format!(
        "the oldest rows that are not frozen: {} transactions and {} multixacts old, in database {}",
        oldest.age, oldest.multixact_age, oldest.database
    );
    Ok(Check::new("transaction_ids", looked_at, judge_ids(&oldest)))
}

fn judge_ids(oldest: &OldestIds) -> Option<Finding> {
    let age = oldest.age.max(oldest.multixact_age);
    let problem = format!(
        "database {} has rows that are {} million ids old and not frozen; at about 2,000 million \
         Postgres takes no more writes.",
        oldest.database,
        age / 1_000_000
    );
    let remedy = format!(
        "End old transactions, unused replication slots and prepared transactions, then VACUUM \
         (FREEZE) in database {}.",
        oldest.database
    );
    if age >= OLDEST_IDS {
        Some(Finding::critical(problem, remedy))
    } else if age >= OLD_IDS {
        Some(Finding::warning(problem, remedy))
    } else {
        None
    }
}

/// Whether dead rows are cleaned up.
pub(super) async fn autovacuum(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let settings = store::settings(connection, &["autovacuum", "track_counts"]).await?;
    let mut findings = Vec::new();
    for name in ["autovacuum", "track_counts"] {
        if value(&settings, name) == "off" {
            findings.push(Finding::warning(
                format!(
                    "{name} is off: dead rows are never cleaned up and everything gets slower."
                ),
                format!(
                    "Set {name} = on in postgresql.conf, or ALTER SYSTEM RESET {name}, and reload."
                ),
            ));
        }
    }
    for table in store::without_autovacuum(connection).await? {
        findings.push(Finding::warning(
            format!("autovacuum is switched off for {table}."),
            format!("ALTER TABLE {table} RESET (autovacuum_enabled)."),
        ));
    }
    for table in store::bloated(connection, MANY_DEAD_ROWS).await? {
        findings.push(Finding::warning(
            format!("{} has {} dead rows beside {} live ones.", table.name, table.dead, table.live),
            format!(
                "Look at `transactions` above, then VACUUM {}; where it comes back, lower \
                 autovacuum_vacuum_scale_factor.",
                table.name
            ),
        ));
    }
    let looked_at = "autovacuum, track_counts, each table's own switch, tables of more dead rows than \
                     live ones";
    Ok(Check::new("autovacuum", looked_at, findings))
}

#[cfg(test)]
mod tests {
    use super::{
        super::finding::Severity::{Critical, Notice, Warning},
        *,
    };

    fn settings(all: [&str; 4]) -> HashMap<String, String> {
        let names = ["fsync", "full_page_writes", "synchronous_commit", "data_checksums"];
        names.into_iter().zip(all).map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn whatever_can_lose_an_acknowledged_commit_is_critical() {
        assert_eq!(judge_durability(&settings(["on", "on", "on", "on"])), []);
        assert_eq!(judge_durability(&settings(["on", "on", "remote_apply", "on"])), []);
        let all = judge_durability(&settings(["off", "off", "off", "off"]));
        let severities: Vec<_> = all.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, [Critical, Critical, Critical, Notice]);
    }

    #[test]
    fn connections_are_counted_against_what_is_not_kept_back() {
        let judged = |used| {
            let connections = Connections { used, limit: 103, kept_back: 3 };
            judge_connections(&connections).map(|finding| finding.severity)
        };
        assert_eq!([judged(79), judged(80), judged(95)], [None, Some(Warning), Some(Critical)]);
    }

    #[test]
    fn the_older_of_both_kinds_of_ids_counts() {
        let judged = |age, multixact_age| {
            let oldest = OldestIds { database: "books".to_owned(), age, multixact_age };
            judge_ids(&oldest).map(|finding| finding.severity)
        };
        assert_eq!(judged(OLD_IDS - 1, 0), None);
        assert_eq!(judged(0, OLD_IDS), Some(Warning));
        assert_eq!(judged(OLDEST_IDS, 0), Some(Critical));
    }

    #[test]
    fn a_superuser_is_expected_of_the_embedded_cluster_alone() {
        let role = Role {
            name: "tollgate".to_owned(),
            is_superuser: true,
            bypasses_rls: true,
            not_owned: 0,
            first_not_owned: None,
            schema_is_open: false,
            tenant_sees_all: Some(false),
            may_be_tenant: true,
        };
        assert_eq!(judge_role(&role, true), []);
        let given = judge_role(&role, false);
        assert_eq!(given.len(), 1);
        assert_eq!(given[0].severity, Warning);
    }
}
