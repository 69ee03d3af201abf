//! The rows of budgets. Whoever changes one holds the lock on the account's row of funds.

use chrono::NaiveDate;
use sqlx::{PgConnection, PgExecutor, Row as _, postgres::PgRow};

use super::{Budget, BudgetOrder, BudgetStanding, Target, period::Period};
use crate::{
    accounts::store::{amount_of, decode},
    clock,
    ids::{AccountId, BudgetId, KeyId},
    money::Amount,
};

macro_rules! columns {
    () => {
        "b.budget_id, b.scope, b.project, b.lineage, b.period, b.hard, b.limit_amount, b.created_at"
    };
}

/// An account's budgets, in the order in which they are checked.
pub(in crate::accounts) async fn of_account(
    executor: impl PgExecutor<'_>,
    account: AccountId,
) -> sqlx::Result<Vec<Budget>> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        columns!(),
        " FROM budgets b
          WHERE b.account_id = $1 AND b.deleted_at IS NULL
          ORDER BY array_position(ARRAY['key', 'project', 'account'], b.scope),
                   array_position(ARRAY['day', 'week', 'month', 'total'], b.period), b.budget_id"
    ))
    .bind(account)
    .fetch_all(executor)
    .await?;
    rows.iter().map(budget_of).collect()
}

/// A budget with its row of the period that holds this moment, if it has one yet.
macro_rules! select_standing {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            ", starts.start AS period_start, coalesce(p.spent, 0) AS spent,
               coalesce(p.leased, 0) AS leased, p.reached_at
              FROM budgets b
              JOIN unnest($2::text[], $3::date[]) AS starts (period, start) USING (period)
              LEFT JOIN budget_periods p
                     ON p.account_id = b.account_id AND p.budget_id = b.budget_id
                    AND p.period_start = starts.start
             WHERE b.account_id = $1 AND b.deleted_at IS NULL ",
            $rest
        )
    };
}

/// An account's budgets as they stand now, from after one of them.
pub(super) async fn standing(
    executor: impl PgExecutor<'_>,
    account: AccountId,
    after: Option<BudgetId>,
    limit: i64,
) -> sqlx::Result<Vec<BudgetStanding>> {
    let (periods, starts) = current_periods();
    let rows = sqlx::query(select_standing!(
        "AND ($4::uuid IS NULL OR b.budget_id > $4)
         ORDER BY b.budget_id LIMIT $5"
    ))
    .bind(account)
    .bind(periods)
    .bind(starts)
    .bind(after)
    .bind(limit)
    .fetch_all(executor)
    .await?;
    rows.iter().map(standing_of).collect()
}

/// One budget as it stands now.
pub(super) async fn one(
    executor: impl PgExecutor<'_>,
    account: AccountId,
    budget: BudgetId,
) -> sqlx::Result<Option<BudgetStanding>> {
    let (periods, starts) = current_periods();
    let row = sqlx::query(select_standing!("AND b.budget_id = $4"))
        .bind(account)
        .bind(periods)
        .bind(starts)
        .bind(budget)
        .fetch_optional(executor)
        .await?;
    row.as_ref().map(standing_of).transpose()
}

fn current_periods() -> (Vec<&'static str>, Vec<NaiveDate>) {
    let now = clock::now();
    Period::ALL.into_iter().map(|period| (period.as_str(), period.start(now))).unzip()
}

/// The budget of this target, period and kind, if there is one.
pub(super) async fn of_target(
    connection: &mut PgConnection,
    account: AccountId,
    target: &Target,
    order: &BudgetOrder,
) -> sqlx::Result<Option<BudgetId>> {
    let (scope, project, lineage) = stored_target(target);
    sqlx::query_scalar(
        "SELECT budget_id FROM budgets
          WHERE account_id = $1 AND scope = $2 AND project = $3
            AND lineage IS NOT DISTINCT FROM $4 AND period = $5 AND hard = $6
            AND deleted_at IS NULL",
    )
    .bind(account)
    .bind(scope)
    .bind(project)
    .bind(lineage)
    .bind(order.period.as_str())
    .bind(order.hard)
    .fetch_optional(connection)
    .await
}

/// Inserts a budget.
pub(super) async fn insert(
    connection: &mut PgConnection,
    account: AccountId,
    budget: &Budget,
) -> sqlx::Result<()> {
    let (scope, project, lineage) = stored_target(&budget.target);
    sqlx::query(
        "INSERT INTO budgets (account_id, budget_id, scope, project, lineage, period, hard,
                              limit_amount, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(account)
    .bind(budget.budget_id)
    .bind(scope)
    .bind(project)
    .bind(lineage)
    .bind(budget.period.as_str())
    .bind(budget.hard)
    .bind(budget.limit.decimal())
    .bind(budget.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Changes a limit. A period that has room again will be announced again when it has none.
pub(super) async fn write_limit(
    connection: &mut PgConnection,
    account: AccountId,
    budget: BudgetId,
    limit: Amount,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE budgets SET limit_amount = $3, updated_at = clock_timestamp()
          WHERE account_id = $1 AND budget_id = $2",
    )
    .bind(account)
    .bind(budget)
    .bind(limit.decimal())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE budget_periods SET reached_at = NULL
          WHERE account_id = $1 AND budget_id = $2 AND spent < $3 AND reached_at IS NOT NULL",
    )
    .bind(account)
    .bind(budget)
    .bind(limit.decimal())
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a budget away, and says whether it was there.
pub(super) async fn delete(
    connection: &mut PgConnection,
    account: AccountId,
    budget: BudgetId,
) -> sqlx::Result<bool> {
    let deleted = sqlx::query(
        "UPDATE budgets SET deleted_at = clock_timestamp()
          WHERE account_id = $1 AND budget_id = $2 AND deleted_at IS NULL",
    )
    .bind(account)
    .bind(budget)
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected() == 1)
}

/// The first key of the rotation that a key of this account belongs to.
pub(super) async fn lineage(
    connection: &mut PgConnection,
    account: AccountId,
    key: KeyId,
) -> sqlx::Result<Option<KeyId>> {
    sqlx::query_scalar("SELECT lineage FROM api_keys WHERE account_id = $1 AND key_id = $2")
        .bind(account)
        .bind(key)
        .fetch_optional(connection)
        .await
}

const fn stored_target(target: &Target) -> (&'static str, &str, Option<KeyId>) {
    match target {
        Target::Account => ("account", "", None),
        Target::Project(name) => ("project", name.as_str(), None),
        Target::Key(key) => ("key", "", Some(*key)),
    }
}

fn budget_of(row: &PgRow) -> sqlx::Result<Budget> {
    let lineage: Option<KeyId> = row.try_get("lineage")?;
    let target = match (row.try_get("scope")?, lineage) {
        ("account", None) => Target::Account,
        ("project", None) => Target::Project(row.try_get("project")?),
        ("key", Some(key)) => Target::Key(key),
        _ => return Err(decode("a budget's target of a newer version")),
    };
    Ok(Budget {
        budget_id: row.try_get("budget_id")?,
        target,
        period: Period::from_stored(row.try_get("period")?)
            .ok_or_else(|| decode("a budget's period of a newer version"))?,
        hard: row.try_get("hard")?,
        limit: amount_of(row, "limit_amount")?,
        created_at: row.try_get("created_at")?,
    })
}

fn standing_of(row: &PgRow) -> sqlx::Result<BudgetStanding> {
    Ok(BudgetStanding {
        budget: budget_of(row)?,
        period_start: row.try_get("period_start")?,
        spent: amount_of(row, "spent")?,
        leased: amount_of(row, "leased")?,
        reached_at: row.try_get("reached_at")?,
    })
}
