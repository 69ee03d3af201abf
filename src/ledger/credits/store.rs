//! The rows behind top-ups, grants, refunds and chargebacks.

use sqlx::{FromRow, PgConnection, Postgres, postgres::PgArguments, query::Query};

use super::{ChargebackOrder, ChargebackStage, PromotionalChange, TopUpTax};
use crate::{
    ids::{AccountId, CauseId},
    ledger::{
        chart::{LedgerCode, PaymentMethod},
        error::LedgerError,
        posting::DisputedParts,
    },
    money::{Amount, Currency},
};

/// A payment or refund with its reference at a processor or bank.
pub(super) struct Receipt<'a> {
    pub(super) id: CauseId,
    pub(super) account: AccountId,
    pub(super) posting: i64,
    pub(super) method: PaymentMethod,
    pub(super) reference: &'a str,
    pub(super) amount: Amount,
    pub(super) currency: Currency,
    pub(super) words: &'a str,
}

/// What was recorded under a reference before.
#[derive(FromRow)]
pub(super) struct Earlier {
    pub(super) id: CauseId,
    pub(super) account_id: AccountId,
    pub(super) amount: Amount,
    /// It was no top-up.
    pub(super) for_invoices: bool,
}

const INSERT_PAYMENT: &str = "
    INSERT INTO payments (payment_id, account_id, posting, method, external_reference, amount,
                          currency, note, tax, tax_code)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (method, external_reference) DO NOTHING";

const INSERT_REFUND: &str = "
    INSERT INTO refunds (refund_id, account_id, posting, method, external_reference, amount,
                         currency, reason, tax)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (method, external_reference) DO NOTHING";

/// Records a payment; `false` if its reference was recorded before. Where another transaction is
/// just recording it, this waits for how that ends.
pub(super) async fn insert_payment(
    connection: &mut PgConnection,
    payment: &Receipt<'_>,
    tax: &TopUpTax,
) -> Result<bool, LedgerError> {
    let tax_code = LedgerCode::tax(tax.jurisdiction).to_string();
    let query = bound(INSERT_PAYMENT, payment).bind(tax.amount).bind(tax_code);
    Ok(query.execute(connection).await?.rows_affected() == 1)
}

/// Records a refund; `false` if its reference was recorded before.
pub(super) async fn insert_refund(
    connection: &mut PgConnection,
    refund: &Receipt<'_>,
    tax: Amount,
) -> Result<bool, LedgerError> {
    let query = bound(INSERT_REFUND, refund).bind(tax);
    Ok(query.execute(connection).await?.rows_affected() == 1)
}

fn bound<'q>(statement: &'static str, receipt: &Receipt<'q>) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(statement)
        .bind(receipt.id)
        .bind(receipt.account)
        .bind(receipt.posting)
        .bind(receipt.method.name())
        .bind(receipt.reference)
        .bind(receipt.amount)
        .bind(receipt.currency.code().to_owned())
        .bind(receipt.words)
}

pub(super) async fn earlier_payment(
    connection: &mut PgConnection,
    method: PaymentMethod,
    reference: &str,
) -> Result<Earlier, LedgerError> {
    let statement = "
        SELECT payment_id AS id, account_id, amount, purpose = 'invoices' AS for_invoices
        FROM payments
        WHERE method = $1 AND external_reference = $2";
    let query = sqlx::query_as(statement).bind(method.name()).bind(reference);
    Ok(query.fetch_one(connection).await?)
}

pub(super) async fn earlier_refund(
    connection: &mut PgConnection,
    method: PaymentMethod,
    reference: &str,
) -> Result<Earlier, LedgerError> {
    let statement = "
        SELECT refund_id AS id, account_id, amount, false AS for_invoices
        FROM refunds
        WHERE method = $1 AND external_reference = $2";
    let query = sqlx::query_as(statement).bind(method.name()).bind(reference);
    Ok(query.fetch_one(connection).await?)
}

pub(super) async fn insert_grant(
    connection: &mut PgConnection,
    id: CauseId,
    posting: i64,
    order: &PromotionalChange,
    reason: &str,
) -> Result<(), LedgerError> {
    let statement = "
        INSERT INTO promotional_grants (grant_id, account_id, posting, amount, currency, reason)
        VALUES ($1, $2, $3, $4, $5, $6)";
    insert_promotional(connection, statement, id, posting, order, reason).await
}

pub(super) async fn insert_withdrawal(
    connection: &mut PgConnection,
    id: CauseId,
    posting: i64,
    order: &PromotionalChange,
    reason: &str,
) -> Result<(), LedgerError> {
    let statement = "
        INSERT INTO promotional_withdrawals (withdrawal_id, account_id, posting, amount, currency,
                                             reason)
        VALUES ($1, $2, $3, $4, $5, $6)";
    insert_promotional(connection, statement, id, posting, order, reason).await
}

async fn insert_promotional(
    connection: &mut PgConnection,
    statement: &'static str,
    id: CauseId,
    posting: i64,
    order: &PromotionalChange,
    reason: &str,
) -> Result<(), LedgerError> {
    sqlx::query(statement)
        .bind(id)
        .bind(order.account)
        .bind(posting)
        .bind(order.amount)
        .bind(order.currency.code())
        .bind(reason)
        .execute(connection)
        .await?;
    Ok(())
}

/// What a dispute needs to know of its payment.
pub(super) struct Payment {
    pub(super) method: PaymentMethod,
    /// Tax included.
    pub(super) amount: Amount,
    pub(super) tax: Amount,
}

pub(super) async fn payment(
    connection: &mut PgConnection,
    account: AccountId,
    payment: CauseId,
) -> Result<Option<Payment>, LedgerError> {
    let row: Option<(String, Amount, Amount)> = sqlx::query_as(
        "SELECT method, amount, tax FROM payments
         WHERE payment_id = $1 AND account_id = $2 AND purpose = 'top_up'",
    )
    .bind(payment)
    .bind(account)
    .fetch_optional(connection)
    .await?;
    let Some((method, amount, tax)) = row else { return Ok(None) };
    let method = method.parse().map_err(|_| LedgerError::Stored(method))?;
    Ok(Some(Payment { method, amount, tax }))
}

/// A dispute of a payment and how it ended.
pub(super) struct Dispute {
    pub(super) id: CauseId,
    pub(super) reference: String,
    pub(super) parts: DisputedParts,
    pub(super) ended: Option<ChargebackStage>,
}

#[derive(FromRow)]
struct DisputeRow {
    chargeback_id: CauseId,
    external_reference: String,
    unspent: Amount,
    spent: Amount,
    taxed: Amount,
    ended: Option<String>,
}

const SELECT_DISPUTES: &str = "
    SELECT opened.chargeback_id, opened.external_reference, opened.unspent, opened.spent,
           opened.taxed, outcome.stage AS ended
    FROM chargebacks AS opened
    LEFT JOIN chargebacks AS outcome
           ON outcome.chargeback_id = opened.chargeback_id AND outcome.stage <> 'opened'
    WHERE opened.payment_id = $1 AND opened.stage = 'opened'
    ORDER BY opened.chargeback_id";

/// All disputes of a payment, oldest first.
pub(super) async fn disputes(
    connection: &mut PgConnection,
    payment: CauseId,
) -> Result<Vec<Dispute>, LedgerError> {
    let rows: Vec<DisputeRow> =
        sqlx::query_as(SELECT_DISPUTES).bind(payment).fetch_all(connection).await?;
    let dispute = |row: DisputeRow| Dispute {
        id: row.chargeback_id,
        reference: row.external_reference,
        parts: DisputedParts { unspent: row.unspent, spent: row.spent, taxed: row.taxed },
        ended: row.ended.map(|ended| match ended.as_str() {
            "won" => ChargebackStage::Won,
            _ => ChargebackStage::Lost,
        }),
    };
    Ok(rows.into_iter().map(dispute).collect())
}

/// One step of a dispute, as it is recorded.
pub(super) struct Step<'a> {
    pub(super) id: CauseId,
    pub(super) posting: i64,
    pub(super) parts: DisputedParts,
    /// The tax of what was unspent, where the dispute is lost.
    pub(super) tax: Amount,
    pub(super) reference: &'a str,
    pub(super) reason: &'a str,
    pub(super) currency: Currency,
}

const INSERT_STEP: &str = "
    INSERT INTO chargebacks (chargeback_id, stage, account_id, payment_id, external_reference,
                             posting, unspent, spent, currency, reason, taxed, tax)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

pub(super) async fn insert_step(
    connection: &mut PgConnection,
    order: &ChargebackOrder,
    step: &Step<'_>,
) -> Result<(), LedgerError> {
    sqlx::query(INSERT_STEP)
        .bind(step.id)
        .bind(order.stage.name())
        .bind(order.account)
        .bind(order.payment)
        .bind(step.reference)
        .bind(step.posting)
        .bind(step.parts.unspent)
        .bind(step.parts.spent)
        .bind(step.currency.code())
        .bind(step.reason)
        .bind(step.parts.taxed)
        .bind(step.tax)
        .execute(connection)
        .await?;
    Ok(())
}

const SUSPEND: &str = "
    UPDATE accounts
    SET status = 'suspended', status_reason = $2, version = version + 1,
        updated_at = clock_timestamp()
    WHERE account_id = $1 AND status = 'active'";

/// Suspends an account that is active.
pub(super) async fn suspend(
    connection: &mut PgConnection,
    account: AccountId,
    reason: &str,
) -> Result<(), LedgerError> {
    sqlx::query(SUSPEND).bind(account).bind(reason).execute(connection).await?;
    Ok(())
}
