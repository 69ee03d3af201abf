//! The statements behind finance's reports.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sqlx::{FromRow, PgConnection};

/// What moved between two codes by one kind of business: before a period, and in it.
#[derive(Debug, FromRow)]
pub(super) struct Moved {
    pub(super) currency: String,
    pub(super) kind: String,
    pub(super) debit: String,
    pub(super) credit: String,
    pub(super) before: Decimal,
    pub(super) within: Decimal,
}

const MOVED: &str = "
    SELECT currency, kind, debit, credit,
           coalesce(sum(amount) FILTER (WHERE period < $1), 0) AS before,
           coalesce(sum(amount) FILTER (WHERE period = $1), 0) AS within
    FROM transfers
    WHERE period <= $1
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 3, 4";

pub(super) async fn moved(
    connection: &mut PgConnection,
    period: NaiveDate,
) -> sqlx::Result<Vec<Moved>> {
    sqlx::query_as(MOVED).persistent(false).bind(period).fetch_all(connection).await
}

/// What one model earned.
#[derive(Debug, FromRow)]
pub(super) struct Earned {
    pub(super) model: String,
    pub(super) currency: String,
    pub(super) requests: i64,
    pub(super) charged: Decimal,
    pub(super) reversed: Decimal,
}

/// A charge is in its event's period; what was taken back in that of the reversal's posting, which
/// may be a later one. No event is recorded a day before its period.
const EARNED: &str = "
    WITH earned AS (
        SELECT model_id, account_id, count(*) AS requests, sum(charge) AS charged, 0::numeric AS reversed
        FROM usage_events
        WHERE period = $1 AND recorded_at >= $1::timestamp AT TIME ZONE 'UTC' - interval '1 day'
        GROUP BY 1, 2
        UNION ALL
        SELECT event.model_id, event.account_id, 0, 0,
               sum(to_promotional + to_credits + to_unbilled + to_overdrawn)
        FROM usage_reversals AS reversal
        JOIN usage_events AS event USING (account_id, event_id)
        WHERE EXISTS (SELECT FROM transfers AS transfer
                      WHERE transfer.account_id = reversal.account_id
                        AND transfer.posting = reversal.posting AND transfer.period = $1)
        GROUP BY 1, 2
    )
    SELECT model.name AS model, account.currency, sum(requests)::bigint AS requests,
           sum(charged) AS charged, sum(reversed) AS reversed
    FROM earned
    JOIN models AS model USING (model_id)
    JOIN accounts AS account USING (account_id)
    GROUP BY 1, 2
    ORDER BY 2, 1";

pub(super) async fn earned(
    connection: &mut PgConnection,
    period: NaiveDate,
) -> sqlx::Result<Vec<Earned>> {
    sqlx::query_as(EARNED).persistent(false).bind(period).fetch_all(connection).await
}
