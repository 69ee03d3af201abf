//! Reading documents for exports, a page at a time.

use chrono::NaiveDate;
use sqlx::{FromRow, PgConnection};

use super::{
    archive::Selection,
    register::{Entry, Span},
};
use crate::{
    billing::{
        documents::{Frozen, store::FrozenRow},
        error::BillingError,
    },
    ids::{AccountId, CauseId},
};

/// Documents read at once: some hundred lines each.
const PAGE: i64 = 50;
/// Rows of a register read at once.
pub(super) const REGISTER_PAGE: i64 = 500;

// Ids rise with the time of freezing, so what is frozen meanwhile comes last.
const PERIOD: &str = "
    SELECT document_id, period, content, frozen_at
    FROM billing_documents
    WHERE period = $1 AND ($2::uuid IS NULL OR account_id = $2)
      AND ($3::uuid IS NULL OR document_id > $3)
    ORDER BY document_id
    LIMIT $4";

/// The next documents of a selection, oldest first.
pub(super) async fn next_documents(
    connection: &mut PgConnection,
    selection: &Selection,
    after: Option<CauseId>,
) -> Result<Vec<Frozen>, BillingError> {
    let rows: Vec<FrozenRow> = sqlx::query_as(PERIOD)
        .persistent(false)
        .bind(selection.period)
        .bind(selection.account)
        .bind(after)
        .bind(PAGE)
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(FrozenRow::frozen).collect()
}

#[derive(FromRow)]
struct EntryRow {
    series: String,
    year: i32,
    sequence: i64,
    period: NaiveDate,
    content: String,
}

const REGISTER: &str = "
    SELECT series, year, sequence, period, content
    FROM billing_documents
    WHERE number IS NOT NULL AND ($1::date IS NULL OR period = $1)
      AND ($2::int IS NULL OR year = $2) AND ($3::uuid IS NULL OR account_id = $3)
      AND ($4::text IS NULL OR (series, year, sequence) > ($4, $5, $6))
    ORDER BY series, year, sequence
    LIMIT $7";

/// The next numbered documents, in the order of their numbers.
pub(super) async fn next_entries(
    connection: &mut PgConnection,
    span: Span,
    account: Option<AccountId>,
    after: Option<(&str, i32, i64)>,
) -> Result<Vec<Entry>, BillingError> {
    let (period, year) = match span {
        Span::Month(month) => (Some(month), None),
        Span::Year(year) => (None, Some(year)),
    };
    let rows: Vec<EntryRow> = sqlx::query_as(REGISTER)
        .persistent(false)
        .bind(period)
        .bind(year)
        .bind(account)
        .bind(after.map(|(series, _, _)| series))
        .bind(after.map(|(_, year, _)| year))
        .bind(after.map(|(_, _, sequence)| sequence))
        .bind(REGISTER_PAGE)
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|row| {
            let document = serde_json::from_str(&row.content).map_err(|error| {
                let EntryRow { series, year, sequence, .. } = &row;
                BillingError::Inconsistent(format!("document {series}-{year}-{sequence}: {error}"))
            })?;
            let EntryRow { series, year, sequence, period, .. } = row;
            Ok(Entry { series, year, sequence, period, document })
        })
        .collect()
}
