//! The SQL of a run over all accounts.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{Connection as _, FromRow, PgConnection, PgPool};

use crate::{billing::error::BillingError, ids::AccountId};

/// Taken by whoever closes a month; the number only has to differ from other locks'.
const CLOSING_LOCK: i64 = 0x0063_6c6f_7369_6e67;

pub(super) async fn now(connection: &mut PgConnection) -> Result<DateTime<Utc>, BillingError> {
    Ok(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(connection).await?)
}

pub(super) async fn now_of(pool: &PgPool) -> Result<DateTime<Utc>, BillingError> {
    now(&mut *pool.acquire().await?).await
}

/// Becomes the one session that closes, until it ends.
pub(super) async fn take_turn(connection: &mut PgConnection) -> Result<bool, BillingError> {
    let query = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(CLOSING_LOCK);
    Ok(query.fetch_one(connection).await?)
}

/// Lets another session close.
pub(super) async fn end_turn(connection: &mut PgConnection) -> Result<(), BillingError> {
    let query = sqlx::query("SELECT pg_advisory_unlock($1)").bind(CLOSING_LOCK);
    query.execute(connection).await?;
    Ok(())
}

/// A closing and how far it is.
#[derive(Debug, FromRow)]
pub(super) struct Run {
    pub(super) period: NaiveDate,
    pub(super) issue_date: NaiveDate,
    pub(super) after: Option<AccountId>,
    pub(super) accounts: i64,
    pub(super) documents: i64,
    pub(super) finished: bool,
}

/// The run of a month, begun today unless it was begun before.
pub(super) async fn begin_run(
    connection: &mut PgConnection,
    period: NaiveDate,
    today: NaiveDate,
) -> Result<Run, BillingError> {
    sqlx::query(
        "INSERT INTO billing_runs (period, issue_date) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    )
    .bind(period)
    .bind(today)
    .execute(&mut *connection)
    .await?;
    let statement = "
        SELECT period, issue_date, after, accounts, documents, finished_at IS NOT NULL AS finished
        FROM billing_runs
        WHERE period = $1";
    Ok(sqlx::query_as(statement).bind(period).fetch_one(connection).await?)
}

pub(super) async fn open_accounts(
    connection: &mut PgConnection,
    period: NaiveDate,
    after: Option<AccountId>,
    limit: u32,
) -> Result<Vec<AccountId>, BillingError> {
    let statement = "
        SELECT account_id
        FROM account_funds
        WHERE open_period <= $1 AND ($2::uuid IS NULL OR account_id > $2)
        ORDER BY account_id
        LIMIT $3";
    let query = sqlx::query_scalar(statement).bind(period).bind(after).bind(i64::from(limit));
    Ok(query.fetch_all(connection).await?)
}

pub(super) async fn count_open(
    connection: &mut PgConnection,
    period: NaiveDate,
    after: Option<AccountId>,
) -> Result<i64, BillingError> {
    let statement = "
        SELECT count(*)
        FROM account_funds
        WHERE open_period <= $1 AND ($2::uuid IS NULL OR account_id > $2)";
    Ok(sqlx::query_scalar(statement).bind(period).bind(after).fetch_one(connection).await?)
}

pub(super) async fn advance_run(
    connection: &mut PgConnection,
    period: NaiveDate,
    account: AccountId,
    documents: i64,
) -> Result<(), BillingError> {
    let statement = "
        UPDATE billing_runs
        SET after = $2, accounts = accounts + 1, documents = documents + $3
        WHERE period = $1";
    let query = sqlx::query(statement).bind(period).bind(account).bind(documents);
    query.execute(connection).await?;
    Ok(())
}

/// Goes on after this account, closed or not; with the first one where there is none.
pub(super) async fn go_on_after(
    connection: &mut PgConnection,
    period: NaiveDate,
    account: Option<AccountId>,
) -> Result<(), BillingError> {
    let query = sqlx::query("UPDATE billing_runs SET after = $2 WHERE period = $1");
    query.bind(period).bind(account).execute(connection).await?;
    Ok(())
}

// Events were recorded as `recorded_from` has it. Without events and reversals there is
// nothing to bill and nothing to post.
macro_rules! idle {
    () => {
        "SELECT account_id
             FROM account_funds AS funds
             WHERE account_id = ANY($1) AND open_period <= $2
               AND NOT EXISTS (
                   SELECT FROM usage_events AS event
                   WHERE event.account_id = funds.account_id
                     AND event.period BETWEEN funds.open_period AND $2
                     AND event.recorded_at >= (
                         SELECT least(funds.open_period::timestamp AT TIME ZONE 'UTC'
                                      - interval '1 day', max(closed_at))
                         FROM closed_periods AS closed
                         WHERE closed.account_id = funds.account_id))
               AND NOT EXISTS (
                   SELECT FROM transfers AS transfer
                   WHERE transfer.account_id = funds.account_id
                     AND transfer.posting > coalesce((
                         SELECT max(closed_at_posting) FROM closed_periods AS closed
                         WHERE closed.account_id = funds.account_id), 0)
                     AND transfer.period BETWEEN funds.open_period AND $2
                     AND transfer.kind = 'reversal')"
    };
}

const LOCK_ACCOUNTS: &str = "
    SELECT account_id FROM account_funds
    WHERE account_id = ANY($1)
    ORDER BY account_id
    FOR UPDATE";

const CLOSE_IDLE: &str = concat!(
    "WITH idle AS (",
    idle!(),
    "), moved AS (
         UPDATE account_funds SET open_period = ($2 + interval '1 month')::date
         WHERE account_id IN (SELECT account_id FROM idle)
         RETURNING account_id, posting
     ), closed AS (
         INSERT INTO closed_periods (account_id, period, closed_at_posting, costs_posted)
         SELECT account_id, $2, posting, true FROM moved
         RETURNING account_id
     ), counted AS (
         UPDATE billing_runs SET accounts = accounts + (SELECT count(*) FROM closed)
         WHERE period = $2
     )
     SELECT account_id FROM closed"
);

/// Closes the month of those among these accounts that used nothing, in one transaction. Which were
/// closed.
pub(super) async fn close_idle(
    session: &mut PgConnection,
    period: NaiveDate,
    accounts: &[AccountId],
) -> Result<Vec<AccountId>, BillingError> {
    let query = sqlx::query_scalar(idle!()).bind(accounts).bind(period);
    let idle: Vec<AccountId> = query.fetch_all(&mut *session).await?;
    if idle.is_empty() {
        return Ok(idle);
    }
    let mut transaction = session.begin().await?;
    sqlx::query(LOCK_ACCOUNTS).bind(&idle).execute(&mut *transaction).await?;
    // Looked at once more: only now can nothing be posted to them.
    let query = sqlx::query_scalar(CLOSE_IDLE).bind(&idle).bind(period);
    let closed = query.fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(closed)
}

pub(super) async fn finish_run(
    connection: &mut PgConnection,
    period: NaiveDate,
) -> Result<(), BillingError> {
    let statement = "UPDATE billing_runs SET finished_at = clock_timestamp() WHERE period = $1";
    sqlx::query(statement).bind(period).execute(connection).await?;
    Ok(())
}
