//! A document on paper: PDF/A-3b, A4, and for tax documents the Factur-X XML inside.
//!
//! The same document gives the same bytes on machines with the same fonts: Latin, Greek and Cyrillic
//! are printed with the font that is built in, other scripts with those of the machine, so there the
//! bytes follow the installed packages ([`fonts`]). What is printed and the XML inside do not. A test
//! holds the bytes of an invoice, so that a new version of a library cannot change them unnoticed.
//!
//! Lengths are points in floats. No amount of money is one: they come as decimals and leave as text.
#![expect(clippy::float_arithmetic, reason = "places on paper, not money")]

mod figures;
mod fonts;
mod layout;
mod metadata;
mod sheet;
mod table;
mod text;

use chrono::Datelike as _;
use krilla::{
    Document as Pdf, SerializeSettings,
    configure::{Archival, ConfigurationBuilder},
    embed::{AssociationKind, EmbeddedFile, MimeType},
    metadata::{DateTime, Metadata},
};

use crate::billing::{
    document::{Document, DocumentKind},
    export::{ExportError, einvoice, is_tax_document},
};

/// The name that Factur-X gives the XML.
const FACTUR_X: &str = "factur-x.xml";

/// What a document is called on paper.
const fn title(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Invoice => "Invoice",
        DocumentKind::PrepaymentInvoice => "Prepayment invoice",
        DocumentKind::CreditNote => "Credit note",
        DocumentKind::Receipt => "Receipt",
        DocumentKind::UsageStatement => "Usage statement",
    }
}

/// Prints a document. A tax document that breaks a rule of EN 16931 is printed without XML: paper
/// asks for less.
///
/// # Errors
/// [`ExportError::Unwritten`].
pub(super) fn write(document: &Document, name: &str) -> Result<Vec<u8>, ExportError> {
    let xml = match einvoice::cii(document, name) {
        Ok(xml) => Some(xml),
        Err(ExportError::NotForTax(_)) => None,
        Err(error @ ExportError::Rules { .. }) => {
            tracing::warn!(%error, "a PDF has no XML inside");
            None
        }
        Err(error) => return Err(error),
    };
    print(document, name, xml)
}

fn print(document: &Document, name: &str, xml: Option<Vec<u8>>) -> Result<Vec<u8>, ExportError> {
    let unwritten = |cause: &str| ExportError::unwritten("PDF", cause);
    let configuration = ConfigurationBuilder::new()
        .with_archival_validator(Archival::A3_B)
        .finish()
        .map_err(|error| unwritten(&format!("{error:?}")))?;
    let settings = SerializeSettings { configuration, ..SerializeSettings::default() };
    let mut pdf = Pdf::new_with(settings);
    let issued = moment(document.issue_date);
    // The metadata are XML, which cannot hold every character.
    let [seller, buyer] = [&document.seller, &document.buyer]
        .map(|party| einvoice::text(&party.legal_name).unwrap_or_default());
    pdf.set_metadata(
        Metadata::new()
            .title(format!("{} {name}", title(document.kind)))
            .description(format!("{} {name} of {seller} for {buyer}", title(document.kind)))
            .authors(vec![seller.clone()])
            .creator("Tollgate".to_owned())
            .producer("Tollgate".to_owned())
            .language("en".to_owned())
            .document_id(format!("{}/{name}", document.account_id))
            .creation_date(issued),
    );
    let foot = format!("{} · {} {name}", document.seller.legal_name, title(document.kind));
    let sheet = layout::lay_out(document, name);
    sheet.draw(&mut pdf, &foot).ok_or_else(|| unwritten("a page has no size"))?;
    let is_hybrid = xml.is_some() && is_tax_document(document.kind);
    if let Some(xml) = xml {
        let file = EmbeddedFile {
            path: FACTUR_X.to_owned(),
            mime_type: MimeType::new("text/xml"),
            description: Some("Factur-X invoice (EN 16931)".to_owned()),
            association_kind: AssociationKind::Alternative,
            data: xml.into(),
            modification_date: Some(issued),
            compress: Some(true),
            location: None,
        };
        pdf.embed_file(file).ok_or_else(|| unwritten("the XML was not taken"))?;
    }
    let bytes = pdf.finish().map_err(|error| unwritten(&format!("{error:?}")))?;
    if !is_hybrid {
        return Ok(bytes);
    }
    metadata::with_factur_x(&bytes, FACTUR_X)
        .ok_or_else(|| unwritten("the metadata are not where they should be"))
}

/// The first moment of a day in UTC: what is frozen knows no other.
fn moment(day: chrono::NaiveDate) -> DateTime {
    let part = |number: u32| u8::try_from(number).unwrap_or(1);
    DateTime::new(u16::try_from(day.year()).unwrap_or(0))
        .month(part(day.month()))
        .day(part(day.day()))
        .hour(0)
        .minute(0)
        .second(0)
        .utc_offset_hour(0)
        .utc_offset_minute(0)
}

#[cfg(test)]
mod tests;
