//! The rows of documents and of their counters.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{DocumentFilter, Filing, Frozen, kind_name};
use crate::{
    billing::{document::Document, error::BillingError},
    ids::{AccountId, CauseId},
    money::Amount,
};

/// Takes the next number of a series and year. Whoever comes next waits until this transaction ends.
pub(super) async fn next_number(
    connection: &mut PgConnection,
    series: &str,
    year: i32,
) -> Result<i64, BillingError> {
    let statement = "
        INSERT INTO document_counters AS counter (series, year, last) VALUES ($1, $2, 1)
        ON CONFLICT (series, year) DO UPDATE SET last = counter.last + 1
        RETURNING last";
    Ok(sqlx::query_scalar(statement).bind(series).bind(year).fetch_one(connection).await?)
}

const INSERT: &str = "
    INSERT INTO billing_documents (
        document_id, account_id, kind, series, year, sequence, number, period, currency, net, tax,
        gross, paid, due, taxed_credits_sold, taxed_credits_used, issue_date, due_date, posting,
        payment_id, content)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
            $20, $21)";

pub(super) async fn insert(
    connection: &mut PgConnection,
    document: &Document,
    filing: &Filing,
    place: Option<(&str, i32, i64)>,
) -> Result<(), BillingError> {
    let content = serde_json::to_string(document)
        .map_err(|error| BillingError::Inconsistent(format!("a document has no JSON: {error}")))?;
    let totals = &document.totals;
    sqlx::query(INSERT)
        .bind(filing.id)
        .bind(document.account_id)
        .bind(kind_name(document.kind))
        .bind(place.map(|(series, _, _)| series))
        .bind(place.map(|(_, year, _)| year))
        .bind(place.map(|(_, _, sequence)| sequence))
        .bind(&document.number)
        .bind(filing.period)
        .bind(document.currency.code())
        .bind(totals.net)
        .bind(totals.tax)
        .bind(totals.gross)
        .bind(totals.paid)
        .bind(totals.due)
        .bind(filing.taxed_credits_sold)
        .bind(filing.taxed_credits_used)
        .bind(document.issue_date)
        .bind(document.due_date)
        .bind(filing.posting)
        .bind(filing.payment)
        .bind(content)
        .execute(connection)
        .await?;
    Ok(())
}

/// A document as its row has it.
#[derive(FromRow)]
pub(crate) struct FrozenRow {
    document_id: CauseId,
    period: NaiveDate,
    content: String,
    frozen_at: DateTime<Utc>,
}

impl FrozenRow {
    pub(crate) fn frozen(self) -> Result<Frozen, BillingError> {
        let document = serde_json::from_str(&self.content).map_err(|error| {
            BillingError::Inconsistent(format!("document {}: {error}", self.document_id))
        })?;
        Ok(Frozen {
            id: self.document_id,
            period: self.period,
            document,
            content: self.content,
            frozen_at: self.frozen_at,
        })
    }
}

const SELECT_DOCUMENT: &str = "
    SELECT document_id, period, content, frozen_at
    FROM billing_documents
    WHERE number = $1 OR document_id = $2";

/// The document of this number or id.
pub(crate) async fn document(
    connection: &mut PgConnection,
    number_or_id: &str,
) -> Result<Option<Frozen>, BillingError> {
    let id: Option<Uuid> = number_or_id.parse().ok();
    let row: Option<FrozenRow> = sqlx::query_as(SELECT_DOCUMENT)
        .bind(number_or_id)
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.map(FrozenRow::frozen).transpose()
}

// Ids rise with the time of freezing, closely enough for a list.
const LIST: &str = "
    SELECT document_id, period, content, frozen_at
    FROM billing_documents
    WHERE ($1::uuid IS NULL OR account_id = $1) AND ($2::date IS NULL OR period = $2)
      AND ($3::text IS NULL OR kind = $3) AND ($4::uuid IS NULL OR document_id < $4)
      AND (NOT $6 OR document_id IN (SELECT document_id FROM invoice_standings WHERE open > 0)
                  OR kind = 'credit_note'
                     AND (SELECT sum(amount) FROM settlements
                          WHERE source_id = billing_documents.document_id
                            AND settlements.document_id IS NULL) > 0)
    ORDER BY document_id DESC
    LIMIT $5";

/// Documents, newest first.
pub(crate) async fn documents(
    connection: &mut PgConnection,
    filter: &DocumentFilter,
) -> Result<Vec<Frozen>, BillingError> {
    let rows: Vec<FrozenRow> = sqlx::query_as(LIST)
        .persistent(false)
        .bind(filter.account)
        .bind(filter.period)
        .bind(filter.kind.map(kind_name))
        .bind(filter.before)
        .bind(filter.limit)
        .bind(filter.only_open)
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(FrozenRow::frozen).collect()
}

/// Credits whose tax was charged when they were paid for, that no document has used or taken back yet
/// and no open dispute holds, and the numbers of their prepayment invoices, newest first.
pub(crate) async fn taxed_credits(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<(Amount, Vec<String>), BillingError> {
    let statement = "
        SELECT coalesce(sum(taxed_credits_sold) - sum(taxed_credits_used), 0)
               - (SELECT coalesce(sum(disputed), 0) FROM prepayment_standings
                  WHERE account_id = $1),
               (SELECT coalesce((array_agg(number ORDER BY document_id DESC))[1:10], '{}')
                FROM prepayment_standings
                WHERE account_id = $1 AND sold > credited)
        FROM billing_documents
        WHERE account_id = $1";
    Ok(sqlx::query_as(statement).bind(account).fetch_one(connection).await?)
}
