//! Money in and out of an account's credits: top-ups, promotional grants, refunds, chargebacks.
//!
//! Every function runs in the caller's transaction and begins with the lock of the account's row;
//! whatever it records, it posts in the same transaction. Credits never expire: nothing but usage,
//! refund, chargeback and reversal takes them away. Only what no server has reserved can be
//! refunded or withdrawn, so that a promise to pay for a running request is never broken by it.

mod chargeback;
mod store;

use rust_decimal::Decimal;
use sqlx::PgConnection;

use crate::{
    ids::{AccountId, CauseId},
    ledger::{
        chart::{Jurisdiction, PaymentMethod},
        error::LedgerError,
        posting::{Posting, TaxBack},
        store::{Cause, Funds, announce, lock, post},
    },
    money::{Amount, Currency},
};

pub use chargeback::{
    Chargeback, ChargebackOrder, ChargebackStage, DisputedTax, chargeback, taxed_chargeback,
};

/// The longest external reference, in characters; processors' ids have about 30.
pub const MAX_REFERENCE: usize = 200;
/// The longest note or reason, in characters.
pub const MAX_NOTE: usize = 1_000;

/// A payment that became credits.
#[derive(Debug, Clone)]
pub struct TopUp {
    /// Whose credits.
    pub account: AccountId,
    /// What was paid, tax included; up to 12 decimals, as every amount.
    pub amount: Amount,
    /// The amount's currency, which must be the account's.
    pub currency: Currency,
    /// How it was paid.
    pub method: PaymentMethod,
    /// The payment's id at its processor or bank; unique per method.
    pub external_reference: String,
    /// A remark. It is not compared when the payment is sent again.
    pub note: String,
    /// The caller's idempotency key, written beside the transfers; may be empty.
    pub idempotency_key: String,
}

/// The part of a payment that is tax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopUpTax {
    /// How much; less than the payment.
    pub amount: Amount,
    /// Where it is owed.
    pub jurisdiction: Option<Jurisdiction>,
}

/// What a top-up did.
#[derive(Debug, Clone)]
pub struct ToppedUp {
    /// The payment.
    pub payment: CauseId,
    /// The account's funds now.
    pub funds: Funds,
    /// The payment had been credited before, and nothing changed.
    pub duplicate: bool,
}

/// A change of promotional credits.
#[derive(Debug, Clone)]
pub struct PromotionalChange {
    /// Whose credits.
    pub account: AccountId,
    /// How much.
    pub amount: Amount,
    /// The amount's currency, which must be the account's.
    pub currency: Currency,
    /// Why.
    pub reason: String,
    /// The caller's idempotency key; may be empty.
    pub idempotency_key: String,
}

/// Unused credits that are paid back.
#[derive(Debug, Clone)]
pub struct Refund {
    /// Whose credits.
    pub account: AccountId,
    /// How many credits, without the tax that goes back with them.
    pub amount: Amount,
    /// The amount's currency, which must be the account's.
    pub currency: Currency,
    /// How it is paid back.
    pub method: PaymentMethod,
    /// The refund's id at its processor or bank; unique per method.
    pub external_reference: String,
    /// Why.
    pub reason: String,
    /// The caller's idempotency key; may be empty.
    pub idempotency_key: String,
}

/// What a refund did.
#[derive(Debug, Clone)]
pub struct Refunded {
    /// The refund.
    pub refund: CauseId,
    /// The account's funds now.
    pub funds: Funds,
    /// It had been recorded before, and nothing changed.
    pub duplicate: bool,
}

/// Credits a payment, once: the same payment again changes nothing and is answered as a duplicate,
/// also when it was since spent, refunded or disputed.
pub async fn top_up(connection: &mut PgConnection, order: &TopUp) -> Result<ToppedUp, LedgerError> {
    taxed_top_up(connection, order, &TopUpTax::default()).await
}

/// As [`top_up`], of a payment on which tax falls due: its rest becomes credits.
pub async fn taxed_top_up(
    connection: &mut PgConnection,
    order: &TopUp,
    tax: &TopUpTax,
) -> Result<ToppedUp, LedgerError> {
    let reference = required("external_reference", &order.external_reference, MAX_REFERENCE)?;
    let note = optional("note", &order.note, MAX_NOTE)?;
    let mut funds = lock(connection, order.account).await?;
    check_amount(&funds, order.amount, order.currency)?;

    let payment = CauseId::generate();
    let row = store::Receipt {
        id: payment,
        account: order.account,
        posting: funds.posting.saturating_add(1),
        method: order.method,
        reference,
        amount: order.amount,
        currency: order.currency,
        words: note,
    };
    if !store::insert_payment(connection, &row, tax).await? {
        let earlier = store::earlier_payment(connection, order.method, reference).await?;
        let payment = same("payment", &row, &earlier)?;
        return Ok(ToppedUp { payment, funds, duplicate: true });
    }
    refuse_closed(&funds)?;
    let cause = Cause {
        id: payment,
        idempotency_key: &order.idempotency_key,
        description: note,
        period: funds.period,
    };
    let credits = order.amount.minus_to_zero(tax.amount);
    let posting = Posting::taxed_top_up(credits, tax.amount, tax.jurisdiction, order.method);
    post(connection, &mut funds, posting, &cause).await?;
    announce(connection, order.account).await?;
    Ok(ToppedUp { payment, funds, duplicate: false })
}

/// Gives promotional credits. Returns the grant and the funds after it.
pub async fn grant(
    connection: &mut PgConnection,
    order: &PromotionalChange,
) -> Result<(CauseId, Funds), LedgerError> {
    let reason = optional("reason", &order.reason, MAX_NOTE)?;
    let mut funds = lock(connection, order.account).await?;
    check_amount(&funds, order.amount, order.currency)?;
    refuse_closed(&funds)?;
    let id = CauseId::generate();
    let cause = Cause {
        id,
        idempotency_key: &order.idempotency_key,
        description: reason,
        period: funds.period,
    };
    let posting = post(connection, &mut funds, Posting::grant(order.amount), &cause).await?;
    store::insert_grant(connection, id, posting, order, reason).await?;
    announce(connection, order.account).await?;
    Ok((id, funds))
}

/// Takes unused promotional credits back. Returns the withdrawal and the funds after it.
pub async fn withdraw_grant(
    connection: &mut PgConnection,
    order: &PromotionalChange,
) -> Result<(CauseId, Funds), LedgerError> {
    let reason = optional("reason", &order.reason, MAX_NOTE)?;
    let mut funds = lock(connection, order.account).await?;
    check_amount(&funds, order.amount, order.currency)?;
    refuse_closed(&funds)?;
    let promotional = funds.balances.promotional;
    let withdrawable = funds.unreserved(promotional);
    if order.amount > withdrawable {
        return Err(LedgerError::NotWithdrawable {
            asked: order.amount,
            withdrawable,
            promotional,
        });
    }
    let id = CauseId::generate();
    let cause = Cause {
        id,
        idempotency_key: &order.idempotency_key,
        description: reason,
        period: funds.period,
    };
    let posting = post(connection, &mut funds, Posting::withdrawal(order.amount), &cause).await?;
    store::insert_withdrawal(connection, id, posting, order, reason).await?;
    announce(connection, order.account).await?;
    Ok((id, funds))
}

/// Pays unused credits back, once per external reference.
pub async fn refund(
    connection: &mut PgConnection,
    order: &Refund,
) -> Result<Refunded, LedgerError> {
    taxed_refund(connection, order, &[]).await
}

/// As [`refund`], of credits of which some were bought taxed: their tax goes back with them.
pub async fn taxed_refund(
    connection: &mut PgConnection,
    order: &Refund,
    taxes: &[TaxBack],
) -> Result<Refunded, LedgerError> {
    let reference = required("external_reference", &order.external_reference, MAX_REFERENCE)?;
    let reason = optional("reason", &order.reason, MAX_NOTE)?;
    let mut funds = lock(connection, order.account).await?;
    check_amount(&funds, order.amount, order.currency)?;

    let id = CauseId::generate();
    let row = store::Receipt {
        id,
        account: order.account,
        posting: funds.posting.saturating_add(1),
        method: order.method,
        reference,
        amount: order.amount,
        currency: order.currency,
        words: reason,
    };
    let tax = taxes.iter().fold(Amount::ZERO, |sum, tax| sum.saturating_add(tax.amount));
    if !store::insert_refund(connection, &row, tax).await? {
        let earlier = store::earlier_refund(connection, order.method, reference).await?;
        return Ok(Refunded { refund: same("refund", &row, &earlier)?, funds, duplicate: true });
    }
    refuse_closed(&funds)?;
    let credits = funds.balances.credits;
    let refundable = funds.unreserved(credits);
    if order.amount > refundable {
        return Err(LedgerError::NotRefundable { asked: order.amount, refundable, credits });
    }
    let cause = Cause {
        id,
        idempotency_key: &order.idempotency_key,
        description: reason,
        period: funds.period,
    };
    let posting = Posting::taxed_refund(order.amount, taxes, order.method);
    post(connection, &mut funds, posting, &cause).await?;
    announce(connection, order.account).await?;
    Ok(Refunded { refund: id, funds, duplicate: false })
}

/// Gives up what is left of the credits of an account that is about to be closed, if it is less than
/// the currency's smallest unit, which nobody can pay back.
pub async fn give_up_residue(
    connection: &mut PgConnection,
    account: AccountId,
    idempotency_key: &str,
) -> Result<(), LedgerError> {
    let mut funds = lock(connection, account).await?;
    let residue = funds.balances.credits;
    if residue.decimal() >= Decimal::new(1, funds.currency.minor_unit()) {
        return Ok(());
    }
    let cause = Cause {
        id: CauseId::generate(),
        idempotency_key,
        description: "less than the smallest unit, given up as the account was closed",
        period: funds.period,
    };
    post(connection, &mut funds, Posting::account_closing(residue), &cause).await?;
    Ok(())
}

/// The first recording's id, if this one says the same.
fn same(
    what: &'static str,
    now: &store::Receipt<'_>,
    earlier: &store::Earlier,
) -> Result<CauseId, LedgerError> {
    let (field, recorded) = if earlier.for_invoices {
        ("purpose", "a payment for invoices".to_owned())
    } else if earlier.account_id != now.account {
        ("account", earlier.account_id.to_string())
    } else if earlier.amount != now.amount {
        ("amount", earlier.amount.to_string())
    } else {
        return Ok(earlier.id);
    };
    Err(LedgerError::RecordedDifferently {
        what,
        id: earlier.id,
        method: now.method,
        reference: now.reference.to_owned(),
        field,
        recorded,
    })
}

pub(crate) fn check_amount(
    funds: &Funds,
    amount: Amount,
    currency: Currency,
) -> Result<(), LedgerError> {
    if currency != funds.currency {
        return Err(LedgerError::CurrencyDiffers { given: currency, account: funds.currency });
    }
    if !amount.is_positive() {
        return Err(LedgerError::NotPositive(amount));
    }
    Ok(())
}

pub(crate) fn refuse_closed(funds: &Funds) -> Result<(), LedgerError> {
    if funds.closed {
        return Err(LedgerError::AccountClosed(funds.handle.clone()));
    }
    Ok(())
}

/// A text without surrounding space that must be there.
pub(crate) fn required<'a>(
    field: &'static str,
    text: &'a str,
    limit: usize,
) -> Result<&'a str, LedgerError> {
    let text = optional(field, text, limit)?;
    if text.is_empty() {
        return Err(LedgerError::Text { field, problem: "is missing; give it".to_owned() });
    }
    Ok(text)
}

/// A text without surrounding space that may be empty.
pub(crate) fn optional<'a>(
    field: &'static str,
    text: &'a str,
    limit: usize,
) -> Result<&'a str, LedgerError> {
    let text = text.trim();
    let length = text.chars().count();
    if length > limit {
        let problem = format!("has {length} characters; give at most {limit}");
        return Err(LedgerError::Text { field, problem });
    }
    if text.chars().any(char::is_control) {
        let problem = "has control characters; give printable text on one line".to_owned();
        return Err(LedgerError::Text { field, problem });
    }
    Ok(text)
}
