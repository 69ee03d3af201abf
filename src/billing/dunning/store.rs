//! The SQL of overdue invoices.

use chrono::NaiveDate;
use sqlx::PgConnection;

use super::{DunningEvent, DunningFilter, Overdue};
use crate::{billing::error::BillingError, ids::AccountId};

const REMIND: &str = "
    WITH noted AS (
        INSERT INTO dunning_events (account_id, document_id, kind, days, open)
        SELECT account_id, document_id, 'reminder',
               (SELECT max(step) FROM unnest($2::integer[]) AS step WHERE step <= $1 - due_date),
               open
        FROM invoice_standings
        WHERE open > 0 AND due_date < $1
        ON CONFLICT (document_id, days) WHERE kind = 'reminder' DO NOTHING
        RETURNING account_id, document_id, days, open
    )
    SELECT noted.account_id, document_id, number, days, noted.open
    FROM noted
    JOIN billing_documents USING (document_id)";

/// Notes the step that each overdue invoice has come to. Which were new.
pub(super) async fn remind(
    connection: &mut PgConnection,
    day: NaiveDate,
    steps: &[i32],
) -> Result<Vec<Overdue>, BillingError> {
    let query = sqlx::query_as(REMIND).persistent(false).bind(day).bind(steps);
    Ok(query.fetch_all(connection).await?)
}

/// Active accounts with an invoice that is overdue for longer than the grace.
pub(super) async fn accounts_beyond(
    connection: &mut PgConnection,
    day: NaiveDate,
    grace: u16,
) -> Result<Vec<AccountId>, BillingError> {
    let statement = "
        SELECT DISTINCT account_id
        FROM invoice_standings
        JOIN accounts USING (account_id)
        WHERE open > 0 AND $1 - due_date > $2 AND status = 'active'
        ORDER BY account_id";
    let query = sqlx::query_scalar(statement).persistent(false).bind(day).bind(i32::from(grace));
    Ok(query.fetch_all(connection).await?)
}

/// The invoice of an active account that is overdue the longest, beyond the grace.
pub(super) async fn longest_overdue(
    connection: &mut PgConnection,
    account: AccountId,
    day: NaiveDate,
    grace: u16,
) -> Result<Option<Overdue>, BillingError> {
    let statement = "
        SELECT account_id, document_id, number, $2 - due_date AS days, open
        FROM invoice_standings
        JOIN accounts USING (account_id)
        WHERE account_id = $1 AND open > 0 AND $2 - due_date > $3 AND status = 'active'
        ORDER BY due_date, document_id
        LIMIT 1";
    let query = sqlx::query_as(statement).bind(account).bind(day).bind(i32::from(grace));
    Ok(query.fetch_optional(connection).await?)
}

const RELEASABLE: &str = "
    SELECT account_id, document_id, number, greatest(0, $2 - standing.due_date) AS days,
           standing.open
    FROM accounts
    JOIN LATERAL (
        SELECT kind, document_id
        FROM dunning_events
        WHERE dunning_events.account_id = accounts.account_id AND kind <> 'reminder'
        ORDER BY dunning_event DESC
        LIMIT 1
    ) AS last ON last.kind = 'suspension'
    JOIN invoice_standings AS standing USING (account_id, document_id)
    WHERE account_id = $1 AND status = 'suspended' AND starts_with(status_reason, $3)
      AND NOT EXISTS (SELECT FROM invoice_standings AS other
                      WHERE other.account_id = $1 AND other.open > 0 AND other.due_date < $2)";

/// The invoice that an account was suspended for, if nothing is overdue any more.
pub(super) async fn releasable(
    connection: &mut PgConnection,
    account: AccountId,
    day: NaiveDate,
    reason: &str,
) -> Result<Option<Overdue>, BillingError> {
    let query = sqlx::query_as(RELEASABLE).bind(account).bind(day).bind(reason);
    Ok(query.fetch_optional(connection).await?)
}

pub(super) async fn note(
    connection: &mut PgConnection,
    overdue: &Overdue,
    kind: &str,
) -> Result<(), BillingError> {
    let statement = "
        INSERT INTO dunning_events (account_id, document_id, kind, days, open)
        VALUES ($1, $2, $3, $4, $5)";
    sqlx::query(statement)
        .bind(overdue.account_id)
        .bind(overdue.document_id)
        .bind(kind)
        .bind(overdue.days)
        .bind(overdue.open)
        .execute(connection)
        .await?;
    Ok(())
}

const EVENTS: &str = "
    SELECT dunning_event, account_id, handle, accounts_payable_email, number,
           billing_documents.currency, dunning_events.kind, days, open, noted_at
    FROM dunning_events
    JOIN billing_documents USING (document_id, account_id)
    JOIN accounts USING (account_id)
    WHERE ($1::uuid IS NULL OR account_id = $1) AND ($2::bigint IS NULL OR dunning_event < $2)
    ORDER BY dunning_event DESC
    LIMIT $3";

pub(super) async fn events(
    connection: &mut PgConnection,
    filter: &DunningFilter,
) -> Result<Vec<DunningEvent>, BillingError> {
    let query = sqlx::query_as(EVENTS)
        .persistent(false)
        .bind(filter.account)
        .bind(filter.before)
        .bind(filter.limit);
    Ok(query.fetch_all(connection).await?)
}
