//! Giving up what is open of an invoice.

use sqlx::PgConnection;

use super::{
    SettlementError, SettlementKind,
    credit_notes::locked_invoice,
    payments::settle,
    share_of,
    store::{self, Entry},
};
use crate::{
    billing::error::BillingError,
    ids::{AccountId, CauseId},
    ledger::{
        credits::{MAX_NOTE, required},
        posting::Posting,
    },
    money::{Amount, Currency},
};

/// An invoice to give up.
#[derive(Debug, Clone)]
pub struct WriteOffOrder {
    /// Its number or id.
    pub invoice: String,
    /// Whether the tax in it is not owed to the tax office any more, as where the law gives relief for
    /// bad debts.
    pub tax_relief: bool,
    /// Why.
    pub reason: String,
    /// The caller's idempotency key; may be empty.
    pub idempotency_key: String,
}

/// What was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenOff {
    /// Whose.
    pub account: AccountId,
    /// The invoice.
    pub document: CauseId,
    /// The currency of both amounts.
    pub currency: Currency,
    /// With its tax.
    pub amount: Amount,
    /// The tax in it that is not owed any more.
    pub tax: Amount,
}

/// Gives up what is open of an invoice, and takes the customer's credit limit away. A later payment
/// for it is a recovery.
///
/// # Errors
/// [`SettlementError::NothingOpen`], [`BillingError::UnknownDocument`].
pub async fn write_off(
    connection: &mut PgConnection,
    order: &WriteOffOrder,
) -> Result<WrittenOff, BillingError> {
    let reason = required("reason", &order.reason, MAX_NOTE)?;
    let (frozen, mut funds, standing) = locked_invoice(connection, &order.invoice).await?;
    let amount = standing.open;
    if amount.is_zero() {
        return Err(SettlementError::NothingOpen(standing.number).into());
    }
    let decimals = funds.currency.minor_unit();
    let tax = if order.tax_relief {
        share_of(amount, standing.gross, standing.tax, decimals)
    } else {
        Amount::ZERO
    };
    let tax_code = store::tax_code(connection, frozen.id).await?;
    let (id, account) = (CauseId::generate(), funds.account_id);
    store::withdraw_credit_limit(connection, account).await?;
    let entry = Entry::new(SettlementKind::WriteOff, id, Some(frozen.id), amount);
    let cause = (id, order.idempotency_key.as_str(), reason);
    let posting = Posting::write_off(amount, tax, tax_code);
    let posting = settle(connection, &mut funds, posting, cause, &[entry]).await?;
    let document = frozen.id;
    let new = store::NewWriteOff { id, account, posting, document, amount, tax, reason };
    store::insert_write_off(connection, &new).await?;
    Ok(WrittenOff { account, document, currency: funds.currency, amount, tax })
}
