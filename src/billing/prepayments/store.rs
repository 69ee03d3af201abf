//! The rows of prepayment invoices that are given back.

use sqlx::{FromRow, PgConnection};

use crate::{
    billing::error::BillingError,
    ids::{AccountId, CauseId},
    ledger::{chart::LedgerCode, error::LedgerError},
    money::Amount,
};

/// A prepayment invoice.
#[derive(Debug, FromRow)]
pub(super) struct Prepayment {
    pub(super) document_id: CauseId,
    pub(super) payment_id: CauseId,
    /// Where its tax is owed.
    pub(super) tax_code: String,
    /// What it sold, less what credit notes took back and open disputes hold; it may be used.
    pub(super) left: Amount,
}

impl Prepayment {
    pub(super) fn tax_code(&self) -> Result<LedgerCode, BillingError> {
        Ok(self.tax_code.parse().map_err(LedgerError::from)?)
    }
}

// Ids rise with the time of freezing, under the account's lock.
const PREPAYMENTS: &str = "
    SELECT document_id, payment_id, tax_code, sold - credited - disputed AS \"left\"
    FROM prepayment_standings
    WHERE account_id = $1
    ORDER BY document_id DESC";

/// An account's prepayment invoices, latest first.
pub(super) async fn prepayments(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<Vec<Prepayment>, BillingError> {
    Ok(sqlx::query_as(PREPAYMENTS).bind(account).fetch_all(connection).await?)
}

/// What a dispute that is open holds of the credits that were bought taxed.
pub(super) async fn held_by_dispute(
    connection: &mut PgConnection,
    payment: CauseId,
    reference: &str,
) -> Result<Amount, BillingError> {
    let statement = "
        SELECT coalesce(sum(taxed), 0)
        FROM chargebacks AS opened
        WHERE payment_id = $1 AND external_reference = $2 AND stage = 'opened'
          AND NOT EXISTS (SELECT FROM chargebacks AS outcome
                          WHERE outcome.chargeback_id = opened.chargeback_id
                            AND outcome.stage <> 'opened')";
    Ok(sqlx::query_scalar(statement).bind(payment).bind(reference).fetch_one(connection).await?)
}

/// Why a prepayment invoice is credited.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Refund,
    Chargeback,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Refund => "refund",
            Self::Chargeback => "chargeback",
        }
    }
}

pub(super) async fn insert_note(
    connection: &mut PgConnection,
    note: CauseId,
    prepayment: CauseId,
    purpose: Purpose,
    cause: CauseId,
) -> Result<(), BillingError> {
    let statement = "
        INSERT INTO credit_notes (document_id, invoice_id, purpose, cause_id)
        VALUES ($1, $2, $3, $4)";
    sqlx::query(statement)
        .bind(note)
        .bind(prepayment)
        .bind(purpose.name())
        .bind(cause)
        .execute(connection)
        .await?;
    Ok(())
}

/// The tax that a refund or lost dispute gave back, and the numbers of its credit notes.
pub(super) async fn notes_by_cause(
    connection: &mut PgConnection,
    cause: CauseId,
) -> Result<(Amount, Vec<String>), BillingError> {
    let statement = "
        SELECT coalesce(sum(tax), 0), coalesce(array_agg(number ORDER BY document_id), '{}')
        FROM credit_notes
        JOIN billing_documents USING (document_id)
        WHERE cause_id = $1";
    Ok(sqlx::query_as(statement).bind(cause).fetch_one(connection).await?)
}
