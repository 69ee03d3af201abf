//! Numbering and freezing documents, and reading them back.
//!
//! A number is taken from its series' counter in the transaction that freezes the document, after
//! everything else: a rollback gives it back, and the counter's row is locked for an insert and a
//! commit alone. So the numbers of a series and year have no gaps.

pub(crate) mod store;

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use sqlx::PgConnection;

use crate::{
    billing::{
        document::{Document, DocumentKind},
        error::BillingError,
    },
    ids::{AccountId, CauseId},
    money::Amount,
};

/// What is kept beside a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filing {
    pub(crate) id: CauseId,
    /// The month it belongs to.
    pub(crate) period: NaiveDate,
    /// The posting that goes with it; 0 where nothing moved.
    pub(crate) posting: i64,
    /// The payment that it confirms, or whose confirmation it takes back.
    pub(crate) payment: Option<CauseId>,
    /// What it adds to the credits whose tax was charged when they were paid for.
    pub(crate) taxed_credits_sold: Amount,
    /// What it takes from them: usage that they paid, or what a credit note takes back.
    pub(crate) taxed_credits_used: Amount,
}

/// A frozen document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// Its id.
    pub id: CauseId,
    /// The month it belongs to.
    pub period: NaiveDate,
    /// What it says.
    pub document: Document,
    /// The bytes that were issued: the document as JSON.
    pub content: String,
    /// When.
    pub frozen_at: DateTime<Utc>,
}

/// Which documents to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct DocumentFilter {
    /// Only of this account.
    pub account: Option<AccountId>,
    /// Only of this month.
    pub period: Option<NaiveDate>,
    /// Only of this kind.
    pub kind: Option<DocumentKind>,
    /// Only invoices of which something is open, and credit notes of which something belongs to no
    /// invoice yet.
    pub only_open: bool,
    /// Only those before this one.
    pub before: Option<CauseId>,
    /// At most so many.
    pub limit: i64,
}

/// The name of a kind in the database and in lists.
#[must_use]
pub const fn kind_name(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Invoice => "invoice",
        DocumentKind::PrepaymentInvoice => "prepayment_invoice",
        DocumentKind::CreditNote => "credit_note",
        DocumentKind::Receipt => "receipt",
        DocumentKind::UsageStatement => "usage_statement",
    }
}

/// The series of a kind; a usage statement has none.
#[must_use]
pub const fn series_of(kind: DocumentKind) -> Option<&'static str> {
    match kind {
        DocumentKind::Invoice => Some("INV"),
        DocumentKind::PrepaymentInvoice => Some("PRE"),
        DocumentKind::CreditNote => Some("CN"),
        DocumentKind::Receipt => Some("REC"),
        DocumentKind::UsageStatement => None,
    }
}

/// Numbers and freezes a document: the last statements of a transaction.
pub(crate) async fn freeze(
    connection: &mut PgConnection,
    mut document: Document,
    filing: &Filing,
) -> Result<Document, BillingError> {
    let year = document.issue_date.year();
    let place = match series_of(document.kind) {
        Some(series) => Some((series, store::next_number(connection, series, year).await?)),
        None => None,
    };
    if let Some((series, sequence)) = place {
        let number = format!("{series}-{year}-{sequence:06}");
        if let Some(remittance) = &mut document.remittance {
            remittance.payment_reference.clone_from(&number);
        }
        document.number = Some(number);
    }
    store::insert(connection, &document, filing, place.map(|(series, at)| (series, year, at)))
        .await?;
    Ok(document)
}
