//! The SQL of authorization: instances, leases, signing keys, what expired unsettled.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::{
    Connection as _, PgConnection, PgPool, Row as _,
    postgres::{PgConnectOptions, PgRow},
};
use uuid::Uuid;

use super::{
    grant::SigningKey,
    lease::{BudgetView, FundsView, PoolRenewal, PoolView, RenewedLease},
    limits,
    pool::PoolKey,
};
use crate::{
    accounts::budgets::period::BudgetPeriod,
    ids::{AccountId, AuthorizationId, BudgetId, InstanceId, KeyId},
    money::Amount,
};

/// A connection of its own, so that no report can be in the way; `None` when there is none to be
/// had within [`limits::ANSWER_PATIENCE`]. Its statements wait so long for a locked row.
pub(super) async fn connect(database: &PgPool, lock_timeout: Duration) -> Option<PgConnection> {
    let milliseconds = |limit: Duration| limit.as_millis().to_string();
    let options = PgConnectOptions::clone(&database.connect_options()).options([
        ("lock_timeout", milliseconds(lock_timeout)),
        ("statement_timeout", milliseconds(limits::ANSWER_PATIENCE)),
    ]);
    let connecting = PgConnection::connect_with(&options);
    match tokio::time::timeout(limits::ANSWER_PATIENCE, connecting).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the database cannot be reached");
            None
        }
        Err(_) => {
            tracing::warn!("the database does not answer");
            None
        }
    }
}

const REGISTER: &str = "
    INSERT INTO instances (instance_id, description, promises_for, heard)
    VALUES ($1, $2, make_interval(secs => $3), last_barrier())
    RETURNING heard";

/// The last barrier before this server has anything in memory.
pub(super) async fn register(
    connection: &mut PgConnection,
    instance: InstanceId,
    description: &str,
    promises_for: Duration,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(REGISTER)
        .bind(instance)
        .bind(description)
        .bind(whole_seconds(promises_for))
        .fetch_one(connection)
        .await
}

/// Rounded up: a promise must not be forgotten before its end.
fn whole_seconds(duration: Duration) -> f64 {
    f64::from(u32::try_from(duration.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX))
}

/// Waits for the database, but not for one that has fallen silent.
pub(super) async fn patiently<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limits::ANSWER_PATIENCE, statement).await {
        Ok(outcome) => outcome,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

const RENEW: &str = "SELECT * FROM renew_leases($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// Renews the leases on many pools in one statement and so one transaction.
pub(super) async fn renew_leases(
    connection: &mut PgConnection,
    instance: InstanceId,
    renewals: &[PoolRenewal],
) -> Result<Vec<RenewedLease>, sqlx::Error> {
    fn column<T>(renewals: &[PoolRenewal], of: impl Fn(&PoolRenewal) -> T) -> Vec<T> {
        renewals.iter().map(of).collect()
    }
    let rows = sqlx::query(RENEW)
        .bind(instance)
        .bind(column(renewals, |one| one.account.0))
        .bind(column(renewals, |one| stored_pool(one.key).budget.0))
        .bind(column(renewals, |one| stored_pool(one.key).start))
        .bind(column(renewals, |one| one.renewal.sequence))
        .bind(column(renewals, |one| one.renewal.kept.decimal()))
        .bind(column(renewals, |one| one.renewal.need.decimal()))
        .bind(column(renewals, |one| one.renewal.floor.decimal()))
        .bind(column(renewals, |one| one.renewal.want.decimal()))
        .bind(column(renewals, |one| one.renewal.not_before))
        .bind(column(renewals, |one| one.recall))
        .fetch_all(connection)
        .await?;
    rows.iter().map(renewed_lease).collect()
}

/// In the table of leases an account's funds are the budget whose id is all zeros.
fn stored_pool(key: PoolKey) -> BudgetPeriod {
    match key {
        PoolKey::Budget(period) => period,
        PoolKey::Funds => BudgetPeriod {
            budget: BudgetId(Uuid::nil()),
            start: NaiveDate::from_ymd_opt(2000, 1, 1).unwrap_or_default(),
        },
    }
}

fn renewed_lease(row: &PgRow) -> Result<RenewedLease, sqlx::Error> {
    let decimal = |name: &str| row.try_get::<Decimal, _>(name);
    let amount = |name: &str| {
        Amount::new(decimal(name)?).map_err(|error| sqlx::Error::Decode(Box::new(error)))
    };
    let budget: BudgetId = row.try_get("budget_id")?;
    let (key, view) = if budget.0.is_nil() {
        let funds = FundsView {
            prepaid: decimal("promotional")? + decimal("credits")? - decimal("overdrawn")?,
            owed: decimal("unbilled")? + decimal("receivable")? - decimal("unapplied")?,
            net_30: row.try_get("net_30")?,
            credit_limit: decimal("credit_limit")?,
            leased: decimal("leased")?,
            available: decimal("available")?,
        };
        (PoolKey::Funds, PoolView::Funds(funds))
    } else {
        let period = BudgetPeriod { budget, start: row.try_get("period_start")? };
        let view = BudgetView {
            period,
            hard: row.try_get("hard")?,
            limit: decimal("limit_amount")?,
            spent: decimal("spent")?,
            leased: decimal("leased")?,
            available: decimal("available")?,
        };
        (PoolKey::Budget(period), PoolView::Budget(view))
    };
    Ok(RenewedLease {
        account: row.try_get("account_id")?,
        key,
        lost: row.try_get("lost")?,
        base: amount("base")?,
        granted: amount("granted")?,
        recalled: row.try_get("recalled")?,
        reached: row.try_get("reached")?,
        view,
    })
}

const FOREIGN: &str = "DELETE FROM foreign_settlements WHERE issuer = $1
                       RETURNING account_id, authorization_id, charge";

/// Takes what other servers have settled of this server's grants.
pub(super) async fn take_foreign_settlements(
    connection: &mut PgConnection,
    instance: InstanceId,
) -> Result<Vec<(AccountId, AuthorizationId, Amount)>, sqlx::Error> {
    let rows = sqlx::query(FOREIGN).bind(instance).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let charge = Amount::new(row.try_get("charge")?)
                .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok((row.try_get("account_id")?, row.try_get("authorization_id")?, charge))
        })
        .collect()
}

/// An authorization that expired, as it is kept until its usage turns up.
#[derive(Debug, Clone)]
pub(super) struct Expired {
    pub(super) account: AccountId,
    pub(super) authorization: AuthorizationId,
    pub(super) key: KeyId,
    pub(super) model: String,
    pub(super) reserved: Amount,
    pub(super) authorized_at: DateTime<Utc>,
    pub(super) lapses_at: DateTime<Utc>,
    pub(super) request_id: String,
}

// Its event is looked for first: another server may have settled it.
const UNSETTLED: &str = "
    INSERT INTO unsettled_authorizations (account_id, authorization_id, key_id, model, reserved,
                                          authorized_at, expired_at, request_id)
    SELECT t.*
      FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::numeric[],
                  $6::timestamptz[], $7::timestamptz[], $8::text[])
        AS t(account_id, authorization_id, key_id, model, reserved, authorized_at, expired_at,
             request_id)
     WHERE NOT EXISTS (SELECT 1 FROM usage_events e
                        WHERE e.account_id = t.account_id AND e.event_id = t.authorization_id)
    ON CONFLICT DO NOTHING";

pub(super) async fn keep_unsettled(
    connection: &mut PgConnection,
    expired: &[Expired],
) -> Result<u64, sqlx::Error> {
    let result = sqlx::query(UNSETTLED)
        .bind(expired.iter().map(|one| one.account.0).collect::<Vec<_>>())
        .bind(expired.iter().map(|one| one.authorization.0).collect::<Vec<_>>())
        .bind(expired.iter().map(|one| one.key.0).collect::<Vec<_>>())
        .bind(expired.iter().map(|one| one.model.as_str()).collect::<Vec<_>>())
        .bind(expired.iter().map(|one| one.reserved.decimal()).collect::<Vec<_>>())
        .bind(expired.iter().map(|one| one.authorized_at).collect::<Vec<_>>())
        .bind(expired.iter().map(|one| one.lapses_at).collect::<Vec<_>>())
        .bind(expired.iter().map(|one| one.request_id.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(result.rows_affected())
}

const HAS_EVENT: &str =
    "SELECT EXISTS (SELECT 1 FROM usage_events WHERE account_id = $1 AND event_id = $2)";

/// Whether an authorization has been settled or cancelled, by any server.
pub(super) async fn has_event(
    database: &PgPool,
    account: AccountId,
    authorization: AuthorizationId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(HAS_EVENT).bind(account).bind(authorization).fetch_one(database).await
}

/// Gives back the leases of servers that are dead and owe nothing any more, so many at a time that
/// no account is held up.
pub(super) async fn remove_dead(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let silence = limits::HEARTBEAT_TTL + limits::LEASE_TICK;
    loop {
        let removing =
            sqlx::query_scalar("SELECT remove_dead_instances(make_interval(secs => $1), $2)")
                .bind(whole_seconds(silence))
                .bind(limits::REMOVED_AT_A_TIME)
                .fetch_one(&mut *connection);
        let removed: i64 = patiently(removing).await?;
        if removed == 0 {
            return Ok(());
        }
    }
}

const STOP: &str = "UPDATE instances SET stopped_at = clock_timestamp() WHERE instance_id = $1";

pub(super) async fn stop(
    connection: &mut PgConnection,
    instance: InstanceId,
) -> Result<(), sqlx::Error> {
    sqlx::query(STOP).bind(instance).execute(connection).await.map(drop)
}

const KEYS: &str = "
    SELECT key_id, secret, retired_at IS NOT NULL AS retired FROM signing_keys
     WHERE purpose = 'grant' ORDER BY retired_at NULLS FIRST, created_at DESC";

// The first server of a database makes the first key; of several that start at once, one wins.
const FIRST_KEY: &str = "
    INSERT INTO signing_keys (purpose, key_id, secret)
    SELECT 'grant', $1, $2
     WHERE NOT EXISTS (SELECT 1 FROM signing_keys WHERE purpose = 'grant' AND retired_at IS NULL)";

/// The keys that sign and verify grants, the newest first; makes the first one.
pub(super) async fn signing_keys(
    pool: &PgPool,
    new_key: (&str, &[u8]),
) -> Result<Vec<SigningKey>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await?;
    sqlx::query(FIRST_KEY).bind(new_key.0).bind(new_key.1).execute(&mut *transaction).await?;
    let rows = sqlx::query(KEYS).fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    rows.iter()
        .map(|row| {
            Ok(SigningKey {
                key_id: row.try_get("key_id")?,
                secret: row.try_get("secret")?,
                retired: row.try_get("retired")?,
            })
        })
        .collect()
}
