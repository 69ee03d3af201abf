//! Why a settlement is refused.

use thiserror::Error;

use crate::{
    billing::document::DocumentKind,
    billing::documents::kind_name,
    money::Amount,
    problem::{Problem, ProblemKind},
};

/// Why an invoice is not settled or taken back as asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettlementError {
    /// Only invoices are paid, credited and written off.
    #[error("{number} is a {}, and only invoices are settled; give an invoice", kind_name(*.kind))]
    NotAnInvoice {
        /// The document's number or id.
        number: String,
        /// What it is.
        kind: DocumentKind,
    },
    /// No such payment or credit note.
    #[error("there is no payment or credit note {0:?}; `tollgate payment list` shows payments")]
    UnknownPayment(String),
    /// An amount that has to be above zero, or may not be below it.
    #[error("{field} is {amount}; {remedy}")]
    Amount {
        /// The request's field.
        field: &'static str,
        /// What was given.
        amount: Amount,
        /// What to give instead.
        remedy: &'static str,
    },
    /// An amount of money that nobody can pay.
    #[error(
        "{field} is {amount}, finer than the currency's smallest unit; give at most {decimals} decimals"
    )]
    TooFine {
        /// The request's field.
        field: &'static str,
        /// What was given.
        amount: Amount,
        /// The currency's decimals.
        decimals: u32,
    },
    /// The same invoice twice in one request.
    #[error("invoice {0} is named twice; name it once, with the whole amount")]
    NamedTwice(String),
    /// More than is open of an invoice.
    #[error(
        "{asked} is more than the {open} that is open of {number}; give at most that, the rest stays unapplied"
    )]
    MoreThanOpen {
        /// The invoice.
        number: String,
        /// What was asked for, tax that was withheld included.
        asked: Amount,
        /// What is open.
        open: Amount,
    },
    /// Nothing is open of the invoice.
    #[error("nothing is open of {0}; `tollgate invoice list --open` shows what is")]
    NothingOpen(String),
    /// The shares are more than there is.
    #[error("invoices are given {asked}, and only {available} is there; give less")]
    MoreThanAvailable {
        /// The sum of the shares up to the one that was too much.
        asked: Amount,
        /// What can be given.
        available: Amount,
    },
    /// Nothing was asked for.
    #[error("no invoice is named; name at least one, or take the oldest first")]
    NoInvoices,
    /// More than is left of a payment.
    #[error("{asked} cannot be returned: {left} is left of the payment; give at most that")]
    MoreThanLeft {
        /// What was asked for.
        asked: Amount,
        /// What is left.
        left: Amount,
    },
    /// More than is left of an invoice to credit.
    #[error("{asked} cannot be credited: {left} net is left of {number}; give at most that")]
    MoreThanCreditable {
        /// The invoice, or one of its lines.
        number: String,
        /// What was asked for, without tax.
        asked: Amount,
        /// What can still be credited, without tax.
        left: Amount,
    },
    /// The invoice has no such line.
    #[error("{number} has no line {position}; `tollgate invoice show {number}` shows its lines")]
    NoSuchLine {
        /// The invoice.
        number: String,
        /// The position that was given.
        position: u32,
    },
    /// A line twice in one request.
    #[error("line {0} is named twice; name it once, with the whole amount")]
    LineTwice(u32),
    /// The invoice was credited or written off already, and cannot be voided as a whole.
    #[error("{number} is {was} already and cannot be voided; credit what is left of it instead")]
    NotVoidable {
        /// The invoice.
        number: String,
        /// What was done with it.
        was: &'static str,
    },
    /// An invoice that was given up asks for nothing that could be taken back.
    #[error("{0} is written off; credit it once it is paid")]
    GivenUp(String),
    /// Recoveries whose tax is owed in several places.
    #[error(
        "the tax of the invoices that are recovered is owed in several places; record a payment for each"
    )]
    SeveralTaxes,
    /// A day that has not come.
    #[error("received_on is {0}, which has not come; give the day the money reached us")]
    NotYet(chrono::NaiveDate),
}

impl Problem for SettlementError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::UnknownPayment(_) | Self::NoSuchLine { .. } => ProblemKind::NotFound,
            Self::Amount { .. }
            | Self::TooFine { .. }
            | Self::NamedTwice(_)
            | Self::LineTwice(_)
            | Self::NoInvoices
            | Self::SeveralTaxes
            | Self::NotYet(_) => ProblemKind::InvalidArgument,
            Self::NotAnInvoice { .. }
            | Self::MoreThanOpen { .. }
            | Self::NothingOpen(_)
            | Self::MoreThanAvailable { .. }
            | Self::MoreThanLeft { .. }
            | Self::MoreThanCreditable { .. }
            | Self::GivenUp(_)
            | Self::NotVoidable { .. } => ProblemKind::FailedPrecondition,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotAnInvoice { .. } => "NOT_AN_INVOICE",
            Self::UnknownPayment(_) => "PAYMENT_NOT_FOUND",
            Self::Amount { .. } => "INVALID_AMOUNT",
            Self::TooFine { .. } => "TOO_MANY_DECIMALS",
            Self::NamedTwice(_) => "INVOICE_NAMED_TWICE",
            Self::MoreThanOpen { .. } => "MORE_THAN_OPEN",
            Self::NothingOpen(_) => "NOTHING_OPEN",
            Self::MoreThanAvailable { .. } => "MORE_THAN_AVAILABLE",
            Self::NoInvoices => "NO_INVOICES",
            Self::MoreThanLeft { .. } => "MORE_THAN_LEFT",
            Self::MoreThanCreditable { .. } => "MORE_THAN_CREDITABLE",
            Self::NoSuchLine { .. } => "LINE_NOT_FOUND",
            Self::LineTwice(_) => "LINE_NAMED_TWICE",
            Self::NotVoidable { .. } => "NOT_VOIDABLE",
            Self::GivenUp(_) => "WRITTEN_OFF",
            Self::SeveralTaxes => "SEVERAL_TAXES",
            Self::NotYet(_) => "INVALID_DATE",
        }
    }

    fn field(&self) -> Option<String> {
        let field = match self {
            Self::NotAnInvoice { .. } | Self::NotVoidable { .. } | Self::GivenUp(_) => "invoice",
            Self::UnknownPayment(_) => "payment_id",
            Self::Amount { field, .. } | Self::TooFine { field, .. } => field,
            Self::NamedTwice(_)
            | Self::MoreThanOpen { .. }
            | Self::NothingOpen(_)
            | Self::MoreThanAvailable { .. }
            | Self::SeveralTaxes
            | Self::NoInvoices => "allocations",
            Self::MoreThanLeft { .. } => "amount",
            Self::MoreThanCreditable { .. } => "net",
            Self::NoSuchLine { .. } | Self::LineTwice(_) => "lines",
            Self::NotYet(_) => "received_on",
        };
        Some(field.to_owned())
    }
}
