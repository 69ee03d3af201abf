//! The statements behind the journals.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::JournalFilter;
use crate::{ids::AccountId, money::Amount};

/// A transfer as a journal needs it.
#[derive(Debug, FromRow)]
pub(super) struct Entry {
    pub(super) account_id: AccountId,
    pub(super) handle: String,
    pub(super) posting: i64,
    pub(super) line: i16,
    pub(super) day: NaiveDate,
    pub(super) debit: String,
    pub(super) credit: String,
    pub(super) amount: Amount,
    pub(super) currency: String,
    pub(super) kind: String,
    pub(super) description: String,
}

/// Walks the primary key from the last row of the page before. The day of a journal lies in the
/// transfer's billing period: usage of the last evening that was posted after midnight belongs to
/// the evening's month.
const ENTRIES: &str = "
    SELECT transfer.account_id, account.handle, posting, line,
           least(greatest((posted_at AT TIME ZONE 'UTC')::date, period),
                 (period + interval '1 month - 1 day')::date) AS day,
           debit, credit, amount, transfer.currency, kind, description
    FROM transfers AS transfer
    JOIN accounts AS account USING (account_id)
    WHERE (transfer.account_id, posting, line) > ($1, $2, $3)
      AND ($4::uuid IS NULL OR transfer.account_id = $4)
      AND ($5::text IS NULL OR transfer.currency = $5)
      AND ($6::date IS NULL OR period = $6)
      AND ($7::timestamptz IS NULL OR posted_at < $7)
    ORDER BY transfer.account_id, posting, line
    LIMIT $8";

pub(super) async fn entries(
    connection: &mut PgConnection,
    filter: &JournalFilter,
    after: (AccountId, i64, i16),
    limit: i64,
) -> sqlx::Result<Vec<Entry>> {
    // Planned anew each time: one plan for one account and for all would suit neither.
    sqlx::query_as(ENTRIES)
        .persistent(false)
        .bind(after.0)
        .bind(after.1)
        .bind(after.2)
        .bind(filter.account)
        .bind(filter.currency.map(|currency| currency.code().to_owned()))
        .bind(filter.period)
        .bind(filter.until)
        .bind(limit)
        .fetch_all(connection)
        .await
}

/// What moved between two codes by one kind of business on one day.
#[derive(Debug, PartialEq, Eq, FromRow)]
pub(super) struct DaySum {
    pub(super) day: NaiveDate,
    pub(super) currency: String,
    pub(super) kind: String,
    pub(super) debit: String,
    pub(super) credit: String,
    /// On this day.
    pub(super) amount: Decimal,
    /// From the beginning of the books to the end of this day.
    pub(super) through: Decimal,
}

/// The running sums begin with the books, so that what one month's rounding leaves is in the next.
const DAY_SUMS: &str = "
    WITH daily AS (
        SELECT least(greatest((posted_at AT TIME ZONE 'UTC')::date, period),
                     (period + interval '1 month - 1 day')::date) AS day,
               currency, kind, debit, credit, sum(amount) AS amount
        FROM transfers
        WHERE ($1::uuid IS NULL OR account_id = $1)
          AND ($2::text IS NULL OR currency = $2)
          AND ($3::date IS NULL OR period <= $3)
          AND ($4::timestamptz IS NULL OR posted_at < $4)
        GROUP BY 1, 2, 3, 4, 5
    ), carried AS (
        SELECT *, sum(amount) OVER (PARTITION BY currency, kind, debit, credit ORDER BY day) AS through
        FROM daily
    )
    SELECT day, currency, kind, debit, credit, amount, through
    FROM carried
    WHERE ($3 IS NULL OR day >= $3)
    ORDER BY day, currency, kind, debit, credit";

pub(super) async fn day_sums(
    connection: &mut PgConnection,
    filter: &JournalFilter,
) -> sqlx::Result<Vec<DaySum>> {
    sqlx::query_as(DAY_SUMS)
        .persistent(false)
        .bind(filter.account)
        .bind(filter.currency.map(|currency| currency.code().to_owned()))
        .bind(filter.period)
        .bind(filter.until)
        .fetch_all(connection)
        .await
}

/// The currencies that a journal can meet: those of the accounts it is about.
const CURRENCIES: &str = "
    SELECT DISTINCT currency
    FROM account_funds
    WHERE ($1::uuid IS NULL OR account_id = $1)
      AND ($2::text IS NULL OR currency = $2)
      AND posting > 0
    ORDER BY currency";

pub(super) async fn currencies(
    connection: &mut PgConnection,
    filter: &JournalFilter,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(CURRENCIES)
        .bind(filter.account)
        .bind(filter.currency.map(|currency| currency.code().to_owned()))
        .fetch_all(connection)
        .await
}

/// Before every row.
pub(super) const BEGINNING: (AccountId, i64, i16) = (AccountId(Uuid::nil()), 0, 0);
