//! What a document looks like outside: PDF, UBL, CII, CSV and JSON.
//!
//! [`render`] makes each from the frozen document alone, without a clock or a random number, so the
//! same document gives the same bytes whenever it is asked for. The two tax syntaxes and the XML in a
//! PDF come from one mapping ([`einvoice`]) to EN 16931 and are checked against its rules before they
//! leave. A PDF's bytes also depend on the fonts at hand, see [`pdf`].
//!
//! [`register`] lists numbered documents, and [`archive`] packs a month's into one file. A server prints
//! by way of [`aside`].

pub mod archive;
pub mod aside;
mod csv;
mod einvoice;
pub mod pdf;
pub mod register;
pub(crate) mod store;

#[cfg(test)]
mod samples;

use thiserror::Error;

use crate::{
    billing::{
        document::{Document, DocumentKind, TaxCategory},
        documents::Frozen,
        error::BillingError,
    },
    problem::{Problem, ProblemKind},
};

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// PDF/A-3; of a tax document with its Factur-X XML inside.
    Pdf,
    /// UBL 2.1, an `Invoice` or a `CreditNote`, as EN 16931 wants it.
    Ubl,
    /// UN/CEFACT Cross Industry Invoice, as EN 16931 wants it.
    Cii,
    /// A row for each line, allowance, tax and payment.
    Csv,
    /// The frozen bytes.
    Json,
}

impl Format {
    /// The end of a file's name.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Ubl => "ubl.xml",
            Self::Cii => "cii.xml",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    /// The media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Ubl | Self::Cii => "application/xml",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/json",
        }
    }

    /// Whether tax offices read it, so that it has a form for tax documents alone.
    #[must_use]
    pub const fn is_for_tax(self) -> bool {
        matches!(self, Self::Ubl | Self::Cii)
    }
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// What is in it.
    pub bytes: Vec<u8>,
    /// What to call it.
    pub file_name: String,
    /// Its media type.
    pub content_type: &'static str,
}

/// Why a document has no such file.
#[derive(Debug, Error)]
pub enum ExportError {
    /// A receipt or a usage statement has no form in the tax syntaxes.
    #[error("{0} is no tax document and has no UBL or CII; export it as pdf, csv or json")]
    NotForTax(String),
    /// EN 16931 asks for what the document does not say.
    #[error(
        "{document} lacks what EN 16931 asks of an invoice: {rules}; complete the seller or the \
         customer for documents to come, and export this one as pdf, csv or json"
    )]
    Rules {
        /// Its number.
        document: String,
        /// Each broken rule with its sentence.
        rules: String,
    },
    /// A file could not be written.
    #[error("the {what} could not be written: {cause}")]
    Unwritten {
        /// Which.
        what: &'static str,
        /// Why.
        cause: String,
    },
    /// The documents could not be read.
    #[error(transparent)]
    Documents(#[from] BillingError),
}

impl ExportError {
    #[expect(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
    fn unwritten(what: &'static str, cause: impl ToString) -> Self {
        Self::Unwritten { what, cause: cause.to_string() }
    }
}

impl Problem for ExportError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::NotForTax(_) | Self::Rules { .. } => ProblemKind::FailedPrecondition,
            Self::Unwritten { .. } => ProblemKind::Internal,
            Self::Documents(error) => error.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotForTax(_) => "NOT_A_TAX_DOCUMENT",
            Self::Rules { .. } => "RULES_BROKEN",
            Self::Unwritten { .. } => "EXPORT_FAILED",
            Self::Documents(error) => error.reason(),
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::NotForTax(_) | Self::Rules { .. } => Some("format".to_owned()),
            Self::Unwritten { .. } => None,
            Self::Documents(error) => error.field(),
        }
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Documents(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// Writes a frozen document.
///
/// # Errors
/// [`ExportError::NotForTax`] and [`ExportError::Rules`] of the two tax syntaxes.
pub fn render(frozen: &Frozen, format: Format) -> Result<Rendered, ExportError> {
    let document = &frozen.document;
    let name = name_of(frozen);
    let bytes = match format {
        Format::Json => frozen.content.clone().into_bytes(),
        Format::Csv => csv::write(document)?,
        Format::Ubl => einvoice::ubl(document, &name)?,
        Format::Cii => einvoice::cii(document, &name)?,
        Format::Pdf => pdf::write(document, &name)?,
    };
    let file_name = format!("{name}.{}", format.extension());
    Ok(Rendered { bytes, file_name, content_type: format.content_type() })
}

/// What a document without a number is called by, too: the customer and the month.
fn name_of(frozen: &Frozen) -> String {
    let document = &frozen.document;
    document.number.clone().unwrap_or_else(|| {
        format!("usage-{}-{}", document.account_handle, frozen.period.format("%Y-%m"))
    })
}

/// Whether tax offices ask for documents of this kind.
const fn is_tax_document(kind: DocumentKind) -> bool {
    match kind {
        DocumentKind::Invoice | DocumentKind::PrepaymentInvoice | DocumentKind::CreditNote => true,
        DocumentKind::Receipt | DocumentKind::UsageStatement => false,
    }
}

/// A category's code in UNCL 5305, and its rate in percent.
fn category(tax: &TaxCategory) -> (&'static str, rust_decimal::Decimal) {
    match tax {
        TaxCategory::Standard { rate_percent } => ("S", rate_percent.normalize()),
        TaxCategory::ZeroRated => ("Z", rust_decimal::Decimal::ZERO),
        TaxCategory::Exempt => ("E", rust_decimal::Decimal::ZERO),
        TaxCategory::ReverseCharge => ("AE", rust_decimal::Decimal::ZERO),
        TaxCategory::OutsideScope => ("O", rust_decimal::Decimal::ZERO),
    }
}

/// An amount with the decimals of the document's currency.
fn figure(amount: crate::money::Amount, document: &Document) -> String {
    let decimals = document.currency.minor_unit();
    let mut figure = amount.decimal().round_dp(decimals);
    figure.rescale(decimals);
    figure.to_string()
}

/// A text that no spreadsheet takes for a formula.
fn defused(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        return format!("'{text}");
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// A change here changes what was issued: customers who have exported a document before get other
    /// bytes from then on. Let it be on purpose, and say so in the changelog.
    #[test]
    fn an_invoice_has_the_bytes_that_it_had() {
        let frozen = samples::frozen(samples::invoice());
        let digests = [Format::Pdf, Format::Ubl, Format::Cii, Format::Csv].map(|format| {
            let file = render(&frozen, format).unwrap();
            let digest = Sha256::digest(&file.bytes);
            let start = u64::from_be_bytes(digest[..8].try_into().unwrap());
            format!("{} {start:016x}", file.file_name)
        });
        assert_eq!(
            digests,
            [
                "INV-2026-000001.pdf fd7b11d93354b7eb",
                "INV-2026-000001.ubl.xml c5cfd8a70ab60323",
                "INV-2026-000001.cii.xml 24ba55b06d44999f",
                "INV-2026-000001.csv 71ed3461874f1040",
            ]
        );
    }
}
