//! Credit notes, and invoices that are voided and billed again.

use sqlx::PgConnection;

use super::{
    CreditScope, SettlementError, SettlementKind, Standing,
    credit::credit_note,
    payments::settle,
    store::{self, Entry},
};
use crate::{
    accounts,
    billing::{
        assembly::{billed_again, days_of},
        document::{Document, DocumentKind},
        documents::{self, Filing, Frozen, store as filed},
        dunning,
        error::BillingError,
        seller::store as sellers,
    },
    ids::CauseId,
    ledger::{
        chart::Line,
        credits::{MAX_NOTE, required},
        posting::{ClosingParts, Posting},
        settling::CreditParts,
        store::{Cause, Funds, announce, lock, post, today},
    },
    money::Amount,
};

/// Why an invoice is credited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditPurpose {
    /// It asked for too much: lessens revenue.
    Correction,
    /// Availability was missed, and it was found after the closing: counts as an SLA credit.
    ServiceLevel,
    /// It was wrong as a document; its usage is billed again.
    Void,
}

impl CreditPurpose {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Correction => "correction",
            Self::ServiceLevel => "service_level",
            Self::Void => "void",
        }
    }

    const fn lessens(self) -> Option<Line> {
        match self {
            Self::Correction => Some(Line::Revenue),
            Self::ServiceLevel => Some(Line::SlaCredits),
            Self::Void => None,
        }
    }
}

/// An invoice to credit.
#[derive(Debug, Clone)]
pub struct CreditNoteOrder {
    /// Its number or id.
    pub invoice: String,
    /// How much of it.
    pub scope: CreditScope,
    /// Whether it is for the service level; else it corrects.
    pub for_service_level: bool,
    /// Why; the customer reads it.
    pub reason: String,
    /// The caller's idempotency key; may be empty.
    pub idempotency_key: String,
}

/// What a credit note did.
#[derive(Debug, Clone)]
pub struct Credited {
    /// Its id.
    pub id: CauseId,
    /// Its month.
    pub period: chrono::NaiveDate,
    /// What it says.
    pub note: Document,
    /// Of it, what went beyond what was open, and is the customer's to use for other invoices.
    pub surplus: Amount,
}

/// Issues a credit note: what it takes back comes off what is open of the invoice, and beyond that it
/// becomes an unapplied receipt.
///
/// # Errors
/// [`BillingError::UnknownDocument`], and [`SettlementError`] names what does not fit.
pub async fn issue_credit_note(
    connection: &mut PgConnection,
    order: &CreditNoteOrder,
) -> Result<Credited, BillingError> {
    let reason = required("reason", &order.reason, MAX_NOTE)?;
    let (frozen, mut funds, standing) = locked_invoice(connection, &order.invoice).await?;
    if standing.recoverable().is_positive() {
        return Err(SettlementError::GivenUp(standing.number).into());
    }
    let earlier = store::credit_notes(connection, frozen.id).await?;
    let today = today(connection).await?;
    let note = credit_note(&frozen.document, &earlier, &order.scope, reason, today)?;
    // What was paid in advance with credits is credited, too, and not only what was asked for.
    let due = note.totals.gross;
    let totals = crate::billing::document::Totals { paid: Amount::ZERO, due, ..note.totals };
    let note = Document { totals, ..note };
    let purpose = if order.for_service_level {
        CreditPurpose::ServiceLevel
    } else {
        CreditPurpose::Correction
    };
    let credited =
        issue(connection, &mut funds, &frozen, &standing, note, purpose, &order.idempotency_key)
            .await?;
    store::insert_credit_note(connection, credited.id, frozen.id, purpose, None).await?;
    dunning::release(connection, funds.account_id).await?;
    Ok(credited)
}

/// Posts a credit note, settles what is open with it, and freezes it.
async fn issue(
    connection: &mut PgConnection,
    funds: &mut Funds,
    invoice: &Frozen,
    standing: &Standing,
    note: Document,
    purpose: CreditPurpose,
    idempotency_key: &str,
) -> Result<Credited, BillingError> {
    let id = CauseId::generate();
    let tax_code = store::tax_code(connection, invoice.id).await?;
    let totals = note.totals;
    let closes = standing.open.min(totals.due);
    let surplus = totals.due.minus_to_zero(closes);
    let parts = CreditParts {
        net: totals.net.minus_to_zero(totals.paid),
        tax: totals.tax,
        surplus,
        tax_code,
        lessens: purpose.lessens(),
    };
    let kind = SettlementKind::CreditNote;
    let entries =
        [Entry::new(kind, id, Some(invoice.id), closes), Entry::new(kind, id, None, surplus)];
    // What is billed again was of the invoice's month, whose 1100 has to be nothing in the end.
    let period = if purpose == CreditPurpose::Void { invoice.period } else { funds.period };
    let cause = Cause { id, idempotency_key, description: &note.reason.clone(), period };
    let posting = post(connection, funds, Posting::credit_note(&parts), &cause).await?;
    if posting > 0 {
        store::insert_entries(connection, funds.account_id, posting, &entries).await?;
    }
    announce(connection, funds.account_id).await?;
    let filing = Filing {
        id,
        period,
        posting,
        payment: None,
        taxed_credits_sold: Amount::ZERO,
        taxed_credits_used: Amount::ZERO,
    };
    let note = documents::freeze(connection, note, &filing).await?;
    Ok(Credited { id, period, note, surplus })
}

/// An invoice to void.
#[derive(Debug, Clone)]
pub struct VoidOrder {
    /// Its number or id.
    pub invoice: String,
    /// What was wrong with it; the customer reads it.
    pub reason: String,
    /// The caller's idempotency key; may be empty.
    pub idempotency_key: String,
}

/// What a void did.
#[derive(Debug, Clone)]
pub struct Voided {
    /// The credit note over the whole invoice.
    pub credited: Credited,
    /// The invoice that takes its place.
    pub replacement: Frozen,
}

/// Takes an invoice back as a whole and bills its usage again, to the customer and with the tax as
/// they are now, in one step: at every moment each event is in exactly one invoice that is not
/// cancelled. What had been paid of it goes to the new one.
///
/// # Errors
/// [`SettlementError::NotVoidable`] where it was credited or written off, [`BillingError`].
pub async fn void_invoice(
    connection: &mut PgConnection,
    order: &VoidOrder,
) -> Result<Voided, BillingError> {
    let reason = required("reason", &order.reason, MAX_NOTE)?;
    let (seller, _) = sellers::seller(connection).await?.ok_or(BillingError::SellerNotSet)?;
    let (frozen, mut funds, standing) = locked_invoice(connection, &order.invoice).await?;
    let was = if standing.credited.is_positive() {
        Some("credited")
    } else if standing.written_off.is_positive() {
        Some("written off")
    } else {
        None
    };
    if let Some(was) = was {
        return Err(SettlementError::NotVoidable { number: standing.number, was }.into());
    }
    let today = today(connection).await?;
    let invoice = &frozen.document;
    let note = credit_note(invoice, &[], &CreditScope::Everything, reason, today)?;
    let (purpose, key) = (CreditPurpose::Void, order.idempotency_key.as_str());
    let credited = issue(connection, &mut funds, &frozen, &standing, note, purpose, key).await?;

    let account = accounts::read(connection, funds.account_id).await?;
    let last = days_of(frozen.period).last;
    let taxation = sellers::taxation(connection, &account.contract, last).await?;
    let again = billed_again(invoice, &account, &seller, &taxation, today)?;
    let id = CauseId::generate();
    // The usage that the note put back into 1100, as it was asked for: rounded already.
    let unbilled = invoice.totals.net.minus_to_zero(invoice.totals.paid);
    let parts = ClosingParts {
        unbilled,
        invoiced: unbilled,
        tax: again.totals.tax,
        jurisdiction: taxation.jurisdiction,
        ..ClosingParts::default()
    };
    let cause =
        Cause { id, idempotency_key: key, description: "billed again", period: frozen.period };
    let posting = post(connection, &mut funds, Posting::closing(&parts), &cause).await?;
    let filing = Filing {
        id,
        period: frozen.period,
        posting,
        payment: None,
        taxed_credits_sold: Amount::ZERO,
        taxed_credits_used: Amount::ZERO,
    };
    let again = documents::freeze(connection, again, &filing).await?;
    let replaced = Some(id);
    store::insert_credit_note(connection, credited.id, frozen.id, purpose, replaced).await?;
    let applied = credited.surplus.min(again.totals.due);
    let kind = SettlementKind::Allocation;
    let entries = [
        Entry::new(kind, credited.id, Some(id), applied),
        Entry::new(kind, credited.id, None, applied).taken_back(),
    ];
    let cause = (credited.id, key, "paid before it was billed again");
    settle(connection, &mut funds, Posting::allocation(applied), cause, &entries).await?;
    dunning::release(connection, funds.account_id).await?;
    let number = again.number.clone().unwrap_or_default();
    let replacement = filed::document(connection, &number).await?;
    let replacement = replacement.ok_or(BillingError::UnknownDocument(number))?;
    Ok(Voided { credited, replacement })
}

/// The invoice of this number or id, under the lock of its account.
pub(super) async fn locked_invoice(
    connection: &mut PgConnection,
    name: &str,
) -> Result<(Frozen, Funds, Standing), BillingError> {
    let unknown = || BillingError::UnknownDocument(name.chars().take(60).collect());
    let frozen = filed::document(connection, name).await?.ok_or_else(unknown)?;
    if frozen.document.kind != DocumentKind::Invoice {
        let kind = frozen.document.kind;
        return Err(SettlementError::NotAnInvoice { number: name.to_owned(), kind }.into());
    }
    let funds = lock(connection, frozen.document.account_id).await?;
    let standing = store::standings_of(connection, &[frozen.id]).await?.pop();
    Ok((frozen, funds, standing.ok_or_else(unknown)?))
}
