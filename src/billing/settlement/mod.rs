//! What becomes of an invoice: payments and their return, credit notes, write-offs.
//!
//! A document never changes. What is open of an invoice is what it asked for less the rows of
//! `settlements`; its status follows from them and can go back. Every function runs in the caller's
//! transaction under the lock of the account's row, posts what it records, and keeps two sums equal,
//! which `ledger verify` proves: what is open of an account's invoices is its 1200, and what its
//! receipts have left is its 2050.

mod credit;
mod credit_notes;
mod error;
mod payments;
mod plan;
mod store;
mod write_off;

use chrono::NaiveDate;
use sqlx::FromRow;

pub(in crate::billing) use credit::credit_note;
pub use credit::{CreditScope, LineCredit};
pub use credit_notes::{
    CreditNoteOrder, CreditPurpose, Credited, VoidOrder, Voided, issue_credit_note, void_invoice,
};
pub use error::SettlementError;
pub use payments::{
    Allocated, AllocationOrder, Payment, PaymentFilter, PaymentOrder, PayoutOrder, ReturnOrder,
    Settlement, SettlementKind, allocate, list as list_payments, pay_out, payment, record, reverse,
};
pub use plan::Share;
pub(in crate::billing) use store::credit_notes as notes_of;
pub(crate) use store::{standings_of, surpluses_of};
pub use write_off::{WriteOffOrder, WrittenOff, write_off};

use crate::{ids::CauseId, money::Amount};

/// What has become of an invoice. Amounts are in its currency.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Standing {
    /// The invoice.
    pub document_id: CauseId,
    /// Its number.
    pub number: String,
    /// When it was issued.
    pub issue_date: NaiveDate,
    /// When it is to be paid.
    pub due_date: Option<NaiveDate>,
    /// What it asks for with its tax, before what had been paid in advance.
    pub gross: Amount,
    /// The tax in it.
    pub tax: Amount,
    /// What it asked for when it was issued.
    pub due: Amount,
    /// What is left of that: `due` − `settled`.
    pub open: Amount,
    /// What payments, withholding, credit notes and write-offs took of it.
    pub settled: Amount,
    /// The sum of its credit notes, also where they were beyond what was open.
    pub credited: Amount,
    /// What was given up.
    pub written_off: Amount,
    /// The tax in that which is not owed any more.
    pub relieved: Amount,
    /// What was paid of that after all.
    pub recovered: Amount,
    /// The tax in that which is owed again.
    pub recovered_tax: Amount,
}

/// An invoice's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceStatus {
    /// Nothing of it is settled.
    Open,
    /// A part of it is.
    PartPaid,
    /// Nothing is left to pay.
    Paid,
    /// Credit notes took all of it back.
    Credited,
    /// What was left was given up and has not been paid.
    WrittenOff,
}

impl Standing {
    /// Derived, and so never wrong: a returned payment opens the invoice again.
    #[must_use]
    pub fn status(&self) -> InvoiceStatus {
        if self.credited >= self.gross && self.credited.is_positive() {
            InvoiceStatus::Credited
        } else if self.open.is_positive() {
            let is_touched = self.settled.is_positive();
            if is_touched { InvoiceStatus::PartPaid } else { InvoiceStatus::Open }
        } else if self.written_off > self.recovered {
            InvoiceStatus::WrittenOff
        } else {
            InvoiceStatus::Paid
        }
    }

    /// What was written off and may still be paid.
    #[must_use]
    pub fn recoverable(&self) -> Amount {
        self.written_off.minus_to_zero(self.recovered)
    }

    fn is_named(&self, name: &str) -> bool {
        self.number == name || self.document_id.to_string() == name
    }
}

/// `part` of `whole`'s share in `of`, rounded half up to so many decimals, at most `of`.
fn share_of(part: Amount, whole: Amount, of: Amount, decimals: u32) -> Amount {
    let share = part.decimal().checked_mul(of.decimal());
    let share = share.and_then(|product| product.checked_div(whole.decimal()));
    let share = share.and_then(|share| Amount::new(share.round_dp(12)).ok());
    share.unwrap_or_default().rounded(decimals).min(of)
}
