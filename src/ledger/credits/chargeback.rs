//! Disputed payments. Opening a dispute takes the payment's money back out of the books and suspends
//! the account; winning it brings everything back, losing it writes off what had been spent and, of a
//! payment that was taxed, corrects the tax of what had not. The account is resumed by a person: a
//! dispute won says nothing about other reasons to suspend.

use sqlx::PgConnection;

use super::{MAX_NOTE, MAX_REFERENCE, optional, required, store};
use crate::{
    ids::{AccountId, CauseId},
    ledger::{
        error::LedgerError,
        posting::{DisputedParts, Posting, TaxBack},
        store::{Cause, Funds, announce, lock, post},
    },
    money::Amount,
};

/// How far a dispute has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargebackStage {
    /// The customer disputed the payment, and the bank took the money back.
    Opened,
    /// The bank decided for us.
    Won,
    /// The bank decided for the customer.
    Lost,
}

impl ChargebackStage {
    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Won => "won",
            Self::Lost => "lost",
        }
    }
}

/// One step of a dispute.
#[derive(Debug, Clone)]
pub struct ChargebackOrder {
    /// Whose payment.
    pub account: AccountId,
    /// The payment.
    pub payment: CauseId,
    /// What happened.
    pub stage: ChargebackStage,
    /// The dispute's id at the processor.
    pub external_reference: String,
    /// The bank's words.
    pub reason: String,
    /// The caller's idempotency key; may be empty.
    pub idempotency_key: String,
}

/// What a step of a dispute did.
#[derive(Debug, Clone)]
pub struct Chargeback {
    /// The dispute, the same for all its steps.
    pub id: CauseId,
    /// What left the credits when it was opened, and what had been spent already.
    pub parts: DisputedParts,
    /// The account's funds now.
    pub funds: Funds,
    /// The posting of the step, 0 where nothing moved; `None` where it was recorded before.
    pub posting: Option<i64>,
}

/// What a dispute has to do with tax.
#[derive(Debug, Clone, Copy, Default)]
pub struct DisputedTax {
    /// Of what leaves the credits when it is opened, what was bought taxed: at most that.
    pub taxed: Amount,
    /// The tax of it, which is not owed any more when the dispute is lost.
    pub back: Option<TaxBack>,
}

/// Records a step of a dispute of a payment that was not taxed.
pub async fn chargeback(
    connection: &mut PgConnection,
    order: &ChargebackOrder,
) -> Result<Chargeback, LedgerError> {
    taxed_chargeback(connection, order, &DisputedTax::default()).await
}

/// Records a step of a dispute. The same step again changes nothing and gets the first answer.
/// Closed accounts are not spared: a bank does not ask.
pub async fn taxed_chargeback(
    connection: &mut PgConnection,
    order: &ChargebackOrder,
    tax: &DisputedTax,
) -> Result<Chargeback, LedgerError> {
    let reference = required("external_reference", &order.external_reference, MAX_REFERENCE)?;
    let reason = optional("reason", &order.reason, MAX_NOTE)?;
    let mut funds = lock(connection, order.account).await?;
    let payment = store::payment(connection, order.account, order.payment)
        .await?
        .ok_or(LedgerError::UnknownPayment(order.payment))?;
    let disputes = store::disputes(connection, order.payment).await?;
    let decision = decide(order, reference, &disputes)?;

    let (id, parts) = match decision {
        Decision::Repeated(dispute) => {
            return Ok(Chargeback { id: dispute.id, parts: dispute.parts, funds, posting: None });
        }
        Decision::Open => {
            let parts = DisputedParts::of(payment.amount, payment.tax, &funds.balances);
            (CauseId::generate(), DisputedParts { taxed: tax.taxed.min(parts.unspent), ..parts })
        }
        Decision::End(dispute) => (dispute.id, dispute.parts),
    };
    let transfers = match order.stage {
        ChargebackStage::Opened => Posting::chargeback_opened(parts, payment.method),
        ChargebackStage::Won => Posting::chargeback_won(parts, payment.method),
        ChargebackStage::Lost => Posting::chargeback_lost(parts, tax.back),
    };
    let cause = Cause {
        id,
        idempotency_key: &order.idempotency_key,
        description: reason,
        period: funds.period,
    };
    let posting = post(connection, &mut funds, transfers, &cause).await?;
    let back = tax.back.map_or(Amount::ZERO, |tax| tax.amount);
    let currency = funds.currency;
    let step = store::Step { id, posting, parts, tax: back, reference, reason, currency };
    store::insert_step(connection, order, &step).await?;
    if order.stage == ChargebackStage::Opened {
        let reason = format!("payment {} is disputed as {reference}", order.payment);
        store::suspend(connection, order.account, &reason).await?;
    }
    announce(connection, order.account).await?;
    Ok(Chargeback { id, parts, funds, posting: Some(posting) })
}

enum Decision<'a> {
    /// This step was recorded before.
    Repeated(&'a store::Dispute),
    /// A new dispute.
    Open,
    /// The open dispute ends.
    End(&'a store::Dispute),
}

/// What a step means after the disputes that the payment has had.
fn decide<'a>(
    order: &ChargebackOrder,
    reference: &str,
    disputes: &'a [store::Dispute],
) -> Result<Decision<'a>, LedgerError> {
    let named = disputes.iter().find(|dispute| dispute.reference == reference);
    match (order.stage, named) {
        (ChargebackStage::Opened, Some(dispute)) => Ok(Decision::Repeated(dispute)),
        (ChargebackStage::Opened, None) => {
            let payment = order.payment;
            for dispute in disputes {
                let reference = dispute.reference.clone();
                match dispute.ended {
                    None => return Err(LedgerError::DisputeOpen { payment, reference }),
                    Some(ChargebackStage::Lost) => {
                        return Err(LedgerError::DisputeLost { payment, reference });
                    }
                    Some(_) => {}
                }
            }
            Ok(Decision::Open)
        }
        (_, None) => Err(LedgerError::UnknownDispute {
            payment: order.payment,
            reference: reference.to_owned(),
        }),
        (stage, Some(dispute)) => match dispute.ended {
            None => Ok(Decision::End(dispute)),
            Some(ended) if ended == stage => Ok(Decision::Repeated(dispute)),
            Some(ended) => Err(LedgerError::DisputeEnded {
                reference: reference.to_owned(),
                ended: ended.name(),
            }),
        },
    }
}
