//! The statements behind the reports.

use sqlx::{FromRow, PgConnection};

use super::{PostedTransfer, TransferFilter};
use crate::{ids::AccountId, money::Amount};

/// Walks the primary key backwards from the last row of the page before.
const SELECT_TRANSFERS: &str = "
    SELECT account_id, posting, line, debit, credit, amount, currency, kind, period, posted_at,
           cause_id, idempotency_key, description
    FROM transfers
    WHERE account_id = $1
      AND (posting, line) < ($2, $3)
      AND ($4::text IS NULL OR debit = $4 OR credit = $4
           OR starts_with(debit, $4 || '.') OR starts_with(credit, $4 || '.'))
      AND ($5::timestamptz IS NULL OR posted_at >= $5)
      AND ($6::timestamptz IS NULL OR posted_at < $6)
    ORDER BY posting DESC, line DESC
    LIMIT $7";

pub(super) async fn transfers(
    connection: &mut PgConnection,
    filter: &TransferFilter,
) -> sqlx::Result<Vec<PostedTransfer>> {
    let (posting, line) = filter.before.unwrap_or((i64::MAX, i16::MAX));
    sqlx::query_as(SELECT_TRANSFERS)
        .bind(filter.account)
        .bind(posting)
        .bind(line)
        .bind(filter.ledger_account.map(|code| code.to_string()))
        .bind(filter.from)
        .bind(filter.until)
        .bind(filter.limit)
        .fetch_all(connection)
        .await
}

/// What was debited and credited on one line in one currency.
#[derive(FromRow)]
pub(super) struct Sum {
    pub(super) code: String,
    pub(super) currency: String,
    pub(super) debits: Amount,
    pub(super) credits: Amount,
}

/// Each transfer counts on two lines; sub-codes are cut off.
const SUM_BY_LINE: &str = "
    SELECT left(entry.code, 4) AS code, currency,
           sum(entry.debited) AS debits, sum(entry.credited) AS credits
    FROM transfers
    CROSS JOIN LATERAL (VALUES (debit, amount, 0), (credit, 0, amount))
               AS entry (code, debited, credited)
    WHERE $1::uuid IS NULL OR account_id = $1
    GROUP BY 1, 2
    ORDER BY 1, 2";

pub(super) async fn sums(
    connection: &mut PgConnection,
    account: Option<AccountId>,
) -> sqlx::Result<Vec<Sum>> {
    // Planned anew each time: one plan for one account and for all would suit neither.
    let query = sqlx::query_as(SUM_BY_LINE).persistent(false);
    query.bind(account).fetch_all(connection).await
}
