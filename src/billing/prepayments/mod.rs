//! What was paid in advance goes back: refunds, and disputes of top-ups, with the tax in them.
//!
//! Where a customer's tax fell due on payment, credits that are given back unused take their tax with
//! them, and a credit note corrects the prepayment invoice that had charged it, at that invoice's rate
//! and where its tax is owed. What was used keeps its tax: the service was delivered.
//!
//! Credits carry no mark of where they came from, so that two rules say which of them are taxed:
//!
//! - Usage takes the taxed credits first, as the closing of a month does. What is left of them is what
//!   prepayment invoices sold, less what documents used, what credit notes took back, what open
//!   disputes hold and what usage that no document has yet will use.
//! - A refund gives the taxed credits back first, those of the latest prepayment invoice before older
//!   ones: the oldest were spent first. What remains untaxed is taxed when it is used, so that no order
//!   loses tax, and this one leaves no tax with us for a service that nobody will receive.
//!
//! Documents are in minor units. What is below one is given back without tax.
//!
//! Every function runs in the caller's transaction under the lock of the account's row.

mod plan;
mod store;

use sqlx::PgConnection;

use crate::{
    billing::{
        closing::{funding, recorded_from},
        document::{Document, Totals},
        documents::{self, Filing, store as filed},
        error::BillingError,
        settlement::{CreditScope, credit_note, notes_of},
    },
    ids::{AccountId, CauseId},
    ledger::{
        chart::LedgerCode,
        credits::{self, ChargebackOrder, ChargebackStage, DisputedTax, Refund},
        posting::TaxBack,
        store::{Funds, lock, today},
    },
    money::Amount,
};

use plan::{Part, latest_first, whole};
use store::Purpose;

/// What a refund gave back.
#[derive(Debug, Clone)]
pub struct GivenBack {
    /// The refund.
    pub refund: CauseId,
    /// The tax of the credits that went back.
    pub tax: Amount,
    /// The numbers of the credit notes that say so, oldest first.
    pub credit_notes: Vec<String>,
    /// The account's funds now.
    pub funds: Funds,
}

/// What a step of a dispute did.
#[derive(Debug, Clone)]
pub struct Disputed {
    /// The step itself.
    pub chargeback: credits::Chargeback,
    /// The tax that is not owed any more, because the dispute was lost.
    pub tax: Amount,
    /// The number of the credit note that says so.
    pub credit_notes: Vec<String>,
}

/// Gives unused credits back with the tax that was paid for them, once per external reference.
///
/// # Errors
/// As [`credits::refund`].
pub async fn refund(
    connection: &mut PgConnection,
    order: &Refund,
) -> Result<GivenBack, BillingError> {
    let funds = lock(connection, order.account).await?;
    let prepayments = store::prepayments(connection, order.account).await?;
    let unused = unused(connection, &funds, &prepayments).await?;
    let parts = latest_first(order.amount.min(unused), funds.currency.minor_unit(), &prepayments);
    let reason = match order.reason.trim() {
        "" => "Unused credits were paid back",
        reason => reason,
    };
    let drafts = drafts(connection, &prepayments, &parts, reason).await?;
    let done = credits::taxed_refund(connection, order, &taxes_of(&drafts)).await?;
    if !done.duplicate {
        let funds = &done.funds;
        freeze(connection, funds, funds.posting, Purpose::Refund, done.refund, drafts).await?;
    }
    let (tax, credit_notes) = store::notes_by_cause(connection, done.refund).await?;
    Ok(GivenBack { refund: done.refund, tax, credit_notes, funds: done.funds })
}

/// Records a step of the dispute of a top-up. Opened, it corrects no tax: nobody has decided. Lost, it
/// corrects that of what was unspent; of what was spent, the service was delivered.
///
/// # Errors
/// As [`credits::chargeback`].
pub async fn chargeback(
    connection: &mut PgConnection,
    order: &ChargebackOrder,
) -> Result<Disputed, BillingError> {
    let funds = lock(connection, order.account).await?;
    let prepayments = store::prepayments(connection, order.account).await?;
    let disputed = prepayments.iter().find(|one| one.payment_id == order.payment);
    let mut drafted = Vec::new();
    let mut tax = DisputedTax::default();
    match (order.stage, disputed) {
        (ChargebackStage::Opened, Some(prepayment)) => {
            let unused = unused(connection, &funds, &prepayments).await?;
            let unspent = funds.balances.credits.min(unused).min(prepayment.left);
            tax.taxed = whole(unspent, funds.currency.minor_unit());
        }
        (ChargebackStage::Lost, Some(prepayment)) => {
            let reference = order.external_reference.trim();
            let net = store::held_by_dispute(connection, order.payment, reference).await?;
            if net.is_positive() {
                let part = Part { invoice: prepayment.document_id, net };
                let reason = "A payment was disputed, and its credits were never used";
                drafted = drafts(connection, &prepayments, &[part], reason).await?;
                tax.back = taxes_of(&drafted).pop();
            }
        }
        _ => {}
    }
    let done = credits::taxed_chargeback(connection, order, &tax).await?;
    if let Some(posting) = done.posting {
        freeze(connection, &done.funds, posting, Purpose::Chargeback, done.id, drafted).await?;
    }
    let (tax, credit_notes) = match order.stage {
        ChargebackStage::Lost => store::notes_by_cause(connection, done.id).await?,
        ChargebackStage::Opened | ChargebackStage::Won => (Amount::ZERO, Vec::new()),
    };
    Ok(Disputed { chargeback: done, tax, credit_notes })
}

/// Taxed credits that no document, open dispute or unbilled usage has.
async fn unused(
    connection: &mut PgConnection,
    funds: &Funds,
    prepayments: &[store::Prepayment],
) -> Result<Amount, BillingError> {
    if prepayments.is_empty() {
        return Ok(Amount::ZERO);
    }
    let account: AccountId = funds.account_id;
    let (taxed, _) = filed::taxed_credits(connection, account).await?;
    // A gateway's clock may be ahead of the month.
    let (from, last) = (funds.open_period, funds.period.max(funds.open_period));
    let until = last.checked_add_months(chrono::Months::new(1)).unwrap_or(last);
    let begins = recorded_from(connection, account, from).await?;
    let months = funding(connection, account, (from, until), begins).await?;
    let to_be_used = months.values().map(|funding| funding.prepaid);
    let to_be_used = to_be_used.fold(Amount::ZERO, Amount::saturating_add);
    Ok(taxed.minus_to_zero(to_be_used))
}

/// A credit note that is not issued yet.
struct Draft {
    prepayment: CauseId,
    payment: CauseId,
    tax_code: LedgerCode,
    note: Document,
}

async fn drafts(
    connection: &mut PgConnection,
    prepayments: &[store::Prepayment],
    parts: &[Part],
    reason: &str,
) -> Result<Vec<Draft>, BillingError> {
    let today = today(connection).await?;
    let mut drafts = Vec::new();
    for part in parts {
        let found = prepayments.iter().find(|one| one.document_id == part.invoice);
        let frozen = filed::document(connection, &part.invoice.to_string()).await?;
        let (Some(prepayment), Some(frozen)) = (found, frozen) else {
            return Err(BillingError::UnknownDocument(part.invoice.to_string()));
        };
        let earlier = notes_of(connection, frozen.id).await?;
        let scope = CreditScope::Net(part.net);
        let note = credit_note(&frozen.document, &earlier, &scope, reason, today)?;
        // The customer, or the customer's bank, has it already.
        let totals = Totals { paid: note.totals.gross, due: Amount::ZERO, ..note.totals };
        drafts.push(Draft {
            prepayment: frozen.id,
            payment: prepayment.payment_id,
            tax_code: prepayment.tax_code()?,
            note: Document { totals, ..note },
        });
    }
    Ok(drafts)
}

/// The tax of the notes, one sum for each place where it is owed.
fn taxes_of(drafts: &[Draft]) -> Vec<TaxBack> {
    let mut taxes: Vec<TaxBack> = Vec::new();
    for draft in drafts {
        let (code, amount) = (draft.tax_code, draft.note.totals.tax);
        match taxes.iter_mut().find(|tax| tax.code == code) {
            Some(tax) => tax.amount = tax.amount.saturating_add(amount),
            None => taxes.push(TaxBack { amount, code }),
        }
    }
    taxes
}

async fn freeze(
    connection: &mut PgConnection,
    funds: &Funds,
    posting: i64,
    purpose: Purpose,
    cause: CauseId,
    drafts: Vec<Draft>,
) -> Result<(), BillingError> {
    for draft in drafts {
        let filing = Filing {
            id: CauseId::generate(),
            period: funds.period,
            posting,
            payment: Some(draft.payment),
            taxed_credits_sold: Amount::ZERO,
            taxed_credits_used: draft.note.totals.net,
        };
        documents::freeze(connection, draft.note, &filing).await?;
        store::insert_note(connection, filing.id, draft.prepayment, purpose, cause).await?;
    }
    Ok(())
}
