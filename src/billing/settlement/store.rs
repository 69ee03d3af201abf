//! The rows of payments for invoices, their returns, credit notes and write-offs.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{CreditPurpose, PaymentFilter, SettlementKind, Standing};
use crate::{
    billing::{document::Document, error::BillingError},
    ids::{AccountId, CauseId},
    ledger::{
        chart::{LedgerCode, PaymentMethod},
        error::LedgerError,
    },
    money::{Amount, Currency},
};

const STANDINGS: &str = "
    SELECT document_id, number, issue_date, due_date, gross, tax, due, open, settled, credited,
           written_off, relieved, recovered, recovered_tax
    FROM invoice_standings
    WHERE account_id = $1
      AND (number = ANY ($2) OR document_id = ANY ($3) OR ($4 AND open > 0))
    ORDER BY due_date, document_id";

/// The invoices of an account that are named by number or id, and all open ones where they are
/// wanted; in the order in which they are due.
pub(super) async fn standings(
    connection: &mut PgConnection,
    account: AccountId,
    names: &[&str],
    and_open: bool,
) -> Result<Vec<Standing>, BillingError> {
    let ids: Vec<Uuid> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let query = sqlx::query_as(STANDINGS).bind(account).bind(names).bind(ids).bind(and_open);
    Ok(query.fetch_all(connection).await?)
}

/// What has become of these documents; only invoices have an answer.
pub(crate) async fn standings_of(
    connection: &mut PgConnection,
    documents: &[CauseId],
) -> Result<Vec<Standing>, BillingError> {
    let statement = "
        SELECT document_id, number, issue_date, due_date, gross, tax, due, open, settled, credited,
               written_off, relieved, recovered, recovered_tax
        FROM invoice_standings
        WHERE document_id = ANY ($1)";
    let ids: Vec<Uuid> = documents.iter().map(|id| id.0).collect();
    Ok(sqlx::query_as(statement).bind(ids).fetch_all(connection).await?)
}

/// What belongs to no invoice yet of these documents; only credit notes have an answer.
pub(crate) async fn surpluses_of(
    connection: &mut PgConnection,
    documents: &[CauseId],
) -> Result<Vec<(CauseId, Amount)>, BillingError> {
    let statement = "
        SELECT document.document_id, coalesce(sum(settlements.amount), 0)
        FROM billing_documents AS document
        LEFT JOIN settlements
               ON settlements.source_id = document.document_id AND settlements.document_id IS NULL
        WHERE document.document_id = ANY ($1) AND document.kind = 'credit_note'
        GROUP BY 1";
    let ids: Vec<Uuid> = documents.iter().map(|id| id.0).collect();
    Ok(sqlx::query_as(statement).bind(ids).fetch_all(connection).await?)
}

/// A payment as it is recorded.
pub(super) struct NewPayment<'a> {
    pub(super) id: CauseId,
    pub(super) account: AccountId,
    pub(super) posting: i64,
    pub(super) method: PaymentMethod,
    pub(super) reference: &'a str,
    pub(super) amount: Amount,
    pub(super) currency: Currency,
    pub(super) fee: Amount,
    pub(super) received_on: NaiveDate,
    pub(super) note: &'a str,
}

const INSERT_PAYMENT: &str = "
    INSERT INTO payments (payment_id, account_id, posting, method, external_reference, amount,
                          currency, note, purpose, fee, received_on)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'invoices', $9, $10)
    ON CONFLICT (method, external_reference) DO NOTHING";

/// Records a payment; `false` if its reference was recorded before, for whatever it was.
pub(super) async fn insert_payment(
    connection: &mut PgConnection,
    payment: &NewPayment<'_>,
) -> Result<bool, BillingError> {
    let query = sqlx::query(INSERT_PAYMENT)
        .bind(payment.id)
        .bind(payment.account)
        .bind(payment.posting)
        .bind(payment.method.name())
        .bind(payment.reference)
        .bind(payment.amount)
        .bind(payment.currency.code())
        .bind(payment.note)
        .bind(payment.fee)
        .bind(payment.received_on);
    Ok(query.execute(connection).await?.rows_affected() == 1)
}

/// What was recorded under a reference.
#[derive(FromRow)]
pub(super) struct Earlier {
    pub(super) payment_id: CauseId,
    pub(super) account_id: AccountId,
    pub(super) amount: Amount,
    pub(super) fee: Amount,
    pub(super) is_top_up: bool,
}

pub(super) async fn earlier_payment(
    connection: &mut PgConnection,
    method: PaymentMethod,
    reference: &str,
) -> Result<Earlier, BillingError> {
    let statement = "
        SELECT payment_id, account_id, amount, fee, purpose = 'top_up' AS is_top_up
        FROM payments
        WHERE method = $1 AND external_reference = $2";
    let query = sqlx::query_as(statement).bind(method.name()).bind(reference);
    Ok(query.fetch_one(connection).await?)
}

/// A row of `settlements` to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) kind: SettlementKind,
    pub(super) source: CauseId,
    pub(super) document: Option<CauseId>,
    pub(super) amount: Amount,
    pub(super) tax: Amount,
    /// Whether it takes back what such a row gave.
    pub(super) is_taken_back: bool,
}

impl Entry {
    pub(super) const fn new(
        kind: SettlementKind,
        source: CauseId,
        document: Option<CauseId>,
        amount: Amount,
    ) -> Self {
        Self { kind, source, document, amount, tax: Amount::ZERO, is_taken_back: false }
    }

    pub(super) const fn taken_back(self) -> Self {
        Self { is_taken_back: true, ..self }
    }
}

const INSERT_ENTRIES: &str = "
    INSERT INTO settlements (settlement_id, account_id, posting, kind, source_id, document_id,
                             amount, tax)
    SELECT settlement_id, $1, $2, kind, source_id, document_id, sign * amount, sign * tax
    FROM unnest($3::uuid[], $4::text[], $5::uuid[], $6::uuid[], $7::numeric[], $8::numeric[],
                $9::integer[])
         AS entry (settlement_id, kind, source_id, document_id, amount, tax, sign)
    WHERE amount <> 0";

pub(super) async fn insert_entries(
    connection: &mut PgConnection,
    account: AccountId,
    posting: i64,
    entries: &[Entry],
) -> Result<(), BillingError> {
    let ids: Vec<Uuid> = entries.iter().map(|_| CauseId::generate().0).collect();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry.kind.name()).collect();
    let sources: Vec<Uuid> = entries.iter().map(|entry| entry.source.0).collect();
    let documents: Vec<Option<Uuid>> =
        entries.iter().map(|entry| entry.document.map(|id| id.0)).collect();
    let amounts: Vec<Amount> = entries.iter().map(|entry| entry.amount).collect();
    let taxes: Vec<Amount> = entries.iter().map(|entry| entry.tax).collect();
    let signs: Vec<i32> =
        entries.iter().map(|entry| if entry.is_taken_back { -1 } else { 1 }).collect();
    sqlx::query(INSERT_ENTRIES)
        .bind(account)
        .bind(posting)
        .bind(ids)
        .bind(kinds)
        .bind(sources)
        .bind(documents)
        .bind(amounts)
        .bind(taxes)
        .bind(signs)
        .execute(connection)
        .await?;
    Ok(())
}

/// What holds money that invoices can be given: a payment, or a credit note beyond what was open.
#[derive(FromRow)]
pub(super) struct Source {
    pub(super) source_id: CauseId,
    pub(super) account_id: AccountId,
}

/// The payment of this id, or the credit note of this number or id.
pub(super) async fn source(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<Source>, BillingError> {
    let statement = "
        SELECT payment_id AS source_id, account_id FROM payments
        WHERE payment_id = $2 AND purpose = 'invoices'
        UNION ALL
        SELECT document_id, account_id FROM billing_documents
        WHERE (number = $1 OR document_id = $2) AND kind = 'credit_note'";
    let id: Option<Uuid> = name.parse().ok();
    Ok(sqlx::query_as(statement).bind(name).bind(id).fetch_optional(connection).await?)
}

/// What of a payment or credit note belongs to no invoice.
pub(super) async fn unapplied(
    connection: &mut PgConnection,
    source: CauseId,
) -> Result<Amount, BillingError> {
    let statement = "
        SELECT coalesce(sum(amount), 0) FROM settlements
        WHERE source_id = $1 AND document_id IS NULL";
    Ok(sqlx::query_scalar(statement).bind(source).fetch_one(connection).await?)
}

#[derive(FromRow)]
struct PaymentRow {
    payment_id: CauseId,
    account_id: AccountId,
    currency: String,
    amount: Amount,
    method: String,
    external_reference: String,
    received_on: NaiveDate,
    fee: Amount,
    note: String,
    paid_at: DateTime<Utc>,
    returned: Amount,
    unapplied: Amount,
}

impl PaymentRow {
    fn payment(self) -> Result<super::Payment, BillingError> {
        let stored = |text: &str| BillingError::from(LedgerError::Stored(text.to_owned()));
        Ok(super::Payment {
            id: self.payment_id,
            account: self.account_id,
            currency: self.currency.parse().map_err(|_| stored(&self.currency))?,
            amount: self.amount,
            method: self.method.parse().map_err(|_| stored(&self.method))?,
            external_reference: self.external_reference,
            received_on: self.received_on,
            fee: self.fee,
            note: self.note,
            recorded_at: self.paid_at,
            returned: self.returned,
            unapplied: self.unapplied,
            settlements: Vec::new(),
        })
    }
}

macro_rules! select_payments {
    ($rest:literal) => {
        concat!(
            "SELECT payment_id, account_id, currency, amount, method, external_reference,
                    received_on, fee, note, paid_at, gone.returned, rest.unapplied
             FROM payments
             CROSS JOIN LATERAL (
                 SELECT coalesce(sum(payment_returns.amount), 0) AS returned
                 FROM payment_returns
                 WHERE payment_returns.source_id = payments.payment_id
             ) AS gone
             CROSS JOIN LATERAL (
                 SELECT coalesce(sum(settlements.amount), 0) AS unapplied
                 FROM settlements
                 WHERE source_id = payments.payment_id AND document_id IS NULL
             ) AS rest
             WHERE purpose = 'invoices' AND ",
            $rest
        )
    };
}

/// A payment for invoices with what became of it.
pub(super) async fn payment(
    connection: &mut PgConnection,
    id: CauseId,
) -> Result<Option<super::Payment>, BillingError> {
    let row: Option<PaymentRow> = sqlx::query_as(select_payments!("payment_id = $1"))
        .bind(id)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut payment = row.payment()?;
    payment.settlements = entries(connection, id).await?;
    Ok(Some(payment))
}

/// Payments, newest first, without what each became.
pub(super) async fn payments(
    connection: &mut PgConnection,
    filter: &PaymentFilter,
) -> Result<Vec<super::Payment>, BillingError> {
    let rows: Vec<PaymentRow> = sqlx::query_as(select_payments!(
        "($1::uuid IS NULL OR account_id = $1) AND (NOT $2 OR rest.unapplied > 0)
         AND ($3::uuid IS NULL OR payment_id < $3)
         ORDER BY payment_id DESC
         LIMIT $4"
    ))
    .persistent(false)
    .bind(filter.account)
    .bind(filter.only_unapplied)
    .bind(filter.before)
    .bind(filter.limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(PaymentRow::payment).collect()
}

#[derive(FromRow)]
struct EntryRow {
    kind: String,
    document_id: Option<CauseId>,
    number: Option<String>,
    amount: Amount,
    tax: Amount,
    settled_at: DateTime<Utc>,
}

/// What became of a payment or credit note, oldest first.
pub(super) async fn entries(
    connection: &mut PgConnection,
    source: CauseId,
) -> Result<Vec<super::Settlement>, BillingError> {
    let statement = "
        SELECT settlements.kind, document_id, number, amount, settlements.tax, settled_at
        FROM settlements
        LEFT JOIN billing_documents USING (document_id)
        WHERE source_id = $1
        ORDER BY settlement_id";
    let rows: Vec<EntryRow> = sqlx::query_as(statement).bind(source).fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            let kind = SettlementKind::from_name(&row.kind)
                .ok_or_else(|| BillingError::from(LedgerError::Stored(row.kind.clone())))?;
            Ok(super::Settlement {
                kind,
                document: row.document_id,
                number: row.number.unwrap_or_default(),
                amount: row.amount,
                tax: row.tax,
                settled_at: row.settled_at,
            })
        })
        .collect()
}

/// The return that was recorded under a reference: its amount.
pub(super) async fn earlier_return(
    connection: &mut PgConnection,
    source: CauseId,
    reference: &str,
) -> Result<Option<(CauseId, Amount)>, BillingError> {
    let statement = "
        SELECT return_id, amount FROM payment_returns
        WHERE source_id = $1 AND external_reference = $2";
    Ok(sqlx::query_as(statement).bind(source).bind(reference).fetch_optional(connection).await?)
}

/// What went back of a payment or credit note, as it is recorded.
pub(super) struct NewReturn<'a> {
    pub(super) id: CauseId,
    pub(super) account: AccountId,
    pub(super) posting: i64,
    pub(super) source: CauseId,
    pub(super) reference: &'a str,
    pub(super) amount: Amount,
    pub(super) reason: &'a str,
}

pub(super) async fn insert_return(
    connection: &mut PgConnection,
    new: &NewReturn<'_>,
) -> Result<(), BillingError> {
    let statement = "
        INSERT INTO payment_returns (return_id, account_id, posting, source_id,
                                     external_reference, amount, reason)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(statement)
        .bind(new.id)
        .bind(new.account)
        .bind(new.posting)
        .bind(new.source)
        .bind(new.reference)
        .bind(new.amount)
        .bind(new.reason)
        .execute(connection)
        .await?;
    Ok(())
}

/// Where the tax of an invoice is owed: as its own posting said.
pub(super) async fn tax_code(
    connection: &mut PgConnection,
    document: CauseId,
) -> Result<LedgerCode, BillingError> {
    let statement = "
        SELECT credit
        FROM billing_documents
        JOIN transfers USING (account_id, posting)
        WHERE document_id = $1 AND transfers.kind = 'invoice_tax'";
    let code: Option<String> =
        sqlx::query_scalar(statement).bind(document).fetch_optional(connection).await?;
    match code {
        Some(code) => Ok(code.parse().map_err(LedgerError::from)?),
        None => Ok(LedgerCode::tax(None)),
    }
}

/// The credit notes of an invoice, oldest first.
pub(in crate::billing) async fn credit_notes(
    connection: &mut PgConnection,
    invoice: CauseId,
) -> Result<Vec<Document>, BillingError> {
    let statement = "
        SELECT content
        FROM credit_notes
        JOIN billing_documents USING (document_id)
        WHERE invoice_id = $1
        ORDER BY document_id";
    let contents: Vec<String> =
        sqlx::query_scalar(statement).bind(invoice).fetch_all(connection).await?;
    contents
        .iter()
        .map(|content| {
            serde_json::from_str(content).map_err(|error| {
                BillingError::Inconsistent(format!("a credit note of {invoice}: {error}"))
            })
        })
        .collect()
}

pub(super) async fn insert_credit_note(
    connection: &mut PgConnection,
    note: CauseId,
    invoice: CauseId,
    purpose: CreditPurpose,
    replacement: Option<CauseId>,
) -> Result<(), BillingError> {
    let statement = "
        INSERT INTO credit_notes (document_id, invoice_id, purpose, replacement_id)
        VALUES ($1, $2, $3, $4)";
    sqlx::query(statement)
        .bind(note)
        .bind(invoice)
        .bind(purpose.name())
        .bind(replacement)
        .execute(connection)
        .await?;
    Ok(())
}

/// What is given up, as it is recorded.
pub(super) struct NewWriteOff<'a> {
    pub(super) id: CauseId,
    pub(super) account: AccountId,
    pub(super) posting: i64,
    pub(super) document: CauseId,
    pub(super) amount: Amount,
    pub(super) tax: Amount,
    pub(super) reason: &'a str,
}

pub(super) async fn insert_write_off(
    connection: &mut PgConnection,
    new: &NewWriteOff<'_>,
) -> Result<(), BillingError> {
    let statement = "
        INSERT INTO write_offs (write_off_id, account_id, posting, document_id, amount, tax, reason)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(statement)
        .bind(new.id)
        .bind(new.account)
        .bind(new.posting)
        .bind(new.document)
        .bind(new.amount)
        .bind(new.tax)
        .bind(new.reason)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes an account's credit limit away, in its contract and in its funds.
pub(super) async fn withdraw_credit_limit(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<(), BillingError> {
    sqlx::query("UPDATE account_funds SET credit_limit = 0 WHERE account_id = $1")
        .bind(account)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "UPDATE accounts
         SET credit_limit = 0, version = version + 1, updated_at = clock_timestamp()
         WHERE account_id = $1 AND credit_limit > 0",
    )
    .bind(account)
    .execute(connection)
    .await?;
    Ok(())
}
