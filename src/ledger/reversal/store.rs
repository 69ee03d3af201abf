//! The rows behind a reversal.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::ReversalOrder;
use crate::{
    ids::AccountId,
    ledger::{error::LedgerError, split::Sources},
    money::Amount,
};

#[derive(FromRow)]
struct SourcesRow {
    promotional: Amount,
    credits: Amount,
    unbilled: Amount,
    overdrawn: Amount,
}

impl From<SourcesRow> for Sources {
    fn from(row: SourcesRow) -> Self {
        let SourcesRow { promotional, credits, unbilled, overdrawn } = row;
        Self { promotional, credits, unbilled, overdrawn }
    }
}

const SELECT_EARLIER: &str = "
    SELECT to_promotional AS promotional, to_credits AS credits, to_unbilled AS unbilled,
           to_overdrawn AS overdrawn
    FROM usage_reversals
    WHERE account_id = $1 AND event_id = $2";

/// What an earlier reversal of the event gave back.
pub(super) async fn earlier(
    connection: &mut PgConnection,
    order: &ReversalOrder,
) -> Result<Option<Sources>, LedgerError> {
    let query = sqlx::query_as(SELECT_EARLIER).bind(order.account).bind(order.event);
    let row: Option<SourcesRow> = query.fetch_optional(connection).await?;
    Ok(row.map(Sources::from))
}

/// A charged event.
#[derive(FromRow)]
pub(super) struct Event {
    pub(super) charge: Amount,
    pub(super) posting: i64,
    pub(super) period: NaiveDate,
    pub(super) recorded_at: DateTime<Utc>,
}

pub(super) async fn event(
    connection: &mut PgConnection,
    order: &ReversalOrder,
) -> Result<Option<Event>, LedgerError> {
    let statement = "
        SELECT charge, posting, period, recorded_at
        FROM usage_events
        WHERE account_id = $1 AND event_id = $2";
    let query = sqlx::query_as(statement).bind(order.account).bind(order.event);
    Ok(query.fetch_optional(connection).await?)
}

const SELECT_SOURCES: &str = "
    SELECT coalesce(sum(amount) FILTER (WHERE kind = 'usage_promotional'), 0) AS promotional,
           coalesce(sum(amount) FILTER (WHERE kind = 'usage_credits'), 0) AS credits,
           coalesce(sum(amount) FILTER (WHERE kind = 'usage_unbilled'), 0) AS unbilled,
           coalesce(sum(amount) FILTER (WHERE kind = 'usage_overdrawn'), 0) AS overdrawn
    FROM transfers
    WHERE account_id = $1 AND posting = $2";

/// Which sources paid for a posting of usage.
pub(super) async fn sources(
    connection: &mut PgConnection,
    account: AccountId,
    posting: i64,
) -> Result<Sources, LedgerError> {
    let query = sqlx::query_as(SELECT_SOURCES).bind(account).bind(posting);
    let row: SourcesRow = query.fetch_one(connection).await?;
    Ok(row.into())
}

/// A posting's events were recorded in one transaction, so that a minute around one of them holds
/// them all; the index on `recorded_at` finds that minute, and none is needed on `posting`.
const SELECT_EVENTS: &str = "
    SELECT event_id, charge
    FROM usage_events
    WHERE account_id = $1 AND posting = $2
      AND recorded_at BETWEEN $3 - interval '1 minute' AND $3 + interval '1 minute'";

/// All events of the posting that charged this one.
pub(super) async fn events_of_posting(
    connection: &mut PgConnection,
    account: AccountId,
    event: &Event,
) -> Result<Vec<(Uuid, Amount)>, LedgerError> {
    // Planned with the moment known: otherwise every entry of the account would be looked at too.
    let query = sqlx::query_as(SELECT_EVENTS).persistent(false);
    let query = query.bind(account).bind(event.posting).bind(event.recorded_at);
    Ok(query.fetch_all(connection).await?)
}

// The account's row of funds is locked, under which alone budgets change.
const RETURN_TO_BUDGETS: &str = "
    UPDATE budget_periods AS spending
    SET spent = spending.spent - event.charge
    FROM (SELECT account_id, charge, charged.budget, charged.start
          FROM usage_events
          CROSS JOIN LATERAL unnest(budgets, budget_starts) AS charged (budget, start)
          WHERE account_id = $1 AND event_id = $2) AS event
    WHERE spending.account_id = event.account_id AND spending.budget_id = event.budget
      AND spending.period_start = event.start";

/// Takes the event's charge out of the budgets it was charged to, in their periods.
pub(super) async fn return_to_budgets(
    connection: &mut PgConnection,
    order: &ReversalOrder,
) -> Result<(), LedgerError> {
    sqlx::query(RETURN_TO_BUDGETS)
        .bind(order.account)
        .bind(order.event)
        .execute(connection)
        .await?;
    Ok(())
}

const INSERT_REVERSAL: &str = "
    INSERT INTO usage_reversals (account_id, event_id, posting, reason, to_promotional, to_credits,
                                 to_unbilled, to_overdrawn)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

pub(super) async fn insert_reversal(
    connection: &mut PgConnection,
    order: &ReversalOrder,
    posting: i64,
    reason: &str,
    to: &Sources,
) -> Result<(), LedgerError> {
    sqlx::query(INSERT_REVERSAL)
        .bind(order.account)
        .bind(order.event)
        .bind(posting)
        .bind(reason)
        .bind(to.promotional)
        .bind(to.credits)
        .bind(to.unbilled)
        .bind(to.overdrawn)
        .execute(connection)
        .await?;
    Ok(())
}
