//! A month's documents as one ZIP file, made while it is read: one document is in memory at a time.
//!
//! It holds each document in the format that was asked for and `register.csv`. What has no such form
//! (a receipt as UBL, a document that breaks a rule of EN 16931) is listed in `not-exported.csv` with
//! the reason, so that nothing goes missing in silence. Dates within are the documents' own: the same
//! documents give the same bytes.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{Datelike as _, NaiveDate};
use zip::{
    CompressionMethod, DateTime, ZipWriter,
    write::{SimpleFileOptions, StreamWriter},
};

use super::{
    ExportError, Format,
    aside::aside,
    defused, is_tax_document, name_of,
    register::{Register, Span},
    render, store,
};
use crate::{
    billing::documents::Frozen,
    database::reports::ReportPool,
    ids::{AccountId, CauseId},
};

const REGISTER: &str = "register.csv";
const NOT_EXPORTED: &str = "not-exported.csv";

/// Which documents an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// The month that they belong to.
    pub period: NaiveDate,
    /// Only this account's.
    pub account: Option<AccountId>,
}

/// An archive that is being made.
pub struct Archive {
    reports: ReportPool,
    selection: Selection,
    format: Format,
    /// Read and not written yet.
    queue: VecDeque<Frozen>,
    after: Option<CauseId>,
    pack: Option<Box<Pack>>,
    step: Step,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Documents,
    Register,
    End,
}

/// The file so far, beyond what was handed on.
struct Pack {
    zip: ZipWriter<StreamWriter<Done>>,
    done: Done,
    /// What was left out, and why.
    left_out: Vec<(String, String)>,
}

/// Bytes that will not change any more and wait to be handed on.
#[derive(Debug, Clone, Default)]
struct Done(Arc<Mutex<Vec<u8>>>);

impl Done {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Done {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Archive {
    /// Begins an archive.
    #[must_use]
    pub fn open(reports: ReportPool, selection: Selection, format: Format) -> Self {
        Self {
            reports,
            selection,
            format,
            queue: VecDeque::new(),
            after: None,
            pack: Some(Box::new(Pack::new())),
            step: Step::Documents,
        }
    }

    /// What to call the file.
    #[must_use]
    pub fn file_name(&self) -> String {
        let (month, format) = (self.selection.period.format("%Y-%m"), self.format);
        format!("documents-{month}-{}.zip", format.extension().trim_end_matches(".xml"))
    }

    /// Adds what comes next and answers the bytes that are done; `None` after the last.
    ///
    /// # Errors
    /// The documents could not be read or written.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        if self.step == Step::Documents && self.queue.is_empty() {
            self.read().await?;
        }
        let Some(mut pack) = self.pack.take() else { return Ok(None) };
        match self.step {
            Step::Documents => {
                let Some(frozen) = self.queue.pop_front() else { return Ok(None) };
                let format = self.format;
                let pack = aside(move || {
                    pack.document(&frozen, format)?;
                    Ok(pack)
                });
                self.pack = Some(pack.await?);
            }
            Step::Register => {
                let Selection { period, account } = self.selection;
                let register = Register::open(self.reports.clone(), Span::Month(period), account);
                let register = register.whole(REGISTER).await?;
                pack.file(REGISTER, period, &register.bytes)?;
                pack.what_was_left_out(period)?;
                self.step = Step::End;
                self.pack = Some(pack);
            }
            Step::End => return pack.finish().map(Some),
        }
        Ok(Some(self.pack.as_ref().map(|pack| pack.done.take()).unwrap_or_default()))
    }

    async fn read(&mut self) -> Result<(), ExportError> {
        let snapshot = self.reports.snapshot().await;
        let mut snapshot = snapshot.map_err(|error| ExportError::Documents(error.into()))?;
        let page = store::next_documents(&mut snapshot, &self.selection, self.after).await?;
        self.after = page.last().map(|last| last.id).or(self.after);
        if page.is_empty() {
            self.step = Step::Register;
        }
        self.queue = page.into();
        Ok(())
    }
}

impl Pack {
    fn new() -> Self {
        let done = Done::default();
        Self { zip: ZipWriter::new_stream(done.clone()), done, left_out: Vec::new() }
    }

    fn document(&mut self, frozen: &Frozen, format: Format) -> Result<(), ExportError> {
        if format.is_for_tax() && !is_tax_document(frozen.document.kind) {
            let refusal = ExportError::NotForTax(name_of(frozen));
            self.left_out.push((name_of(frozen), refusal.to_string()));
            return Ok(());
        }
        match render(frozen, format) {
            Ok(file) => self.file(&file.file_name, frozen.document.issue_date, &file.bytes),
            Err(refusal @ ExportError::Rules { .. }) => {
                self.left_out.push((name_of(frozen), refusal.to_string()));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn what_was_left_out(&mut self, day: NaiveDate) -> Result<(), ExportError> {
        if self.left_out.is_empty() {
            return Ok(());
        }
        let mut writer = csv::Writer::from_writer(Vec::new());
        let unwritten = |error: csv::Error| ExportError::unwritten("archive", error);
        writer.write_record(["document", "reason"]).map_err(unwritten)?;
        for (name, reason) in self.left_out.drain(..) {
            writer.write_record([name, defused(&reason)]).map_err(unwritten)?;
        }
        let bytes =
            writer.into_inner().map_err(|error| ExportError::unwritten("archive", error))?;
        self.file(NOT_EXPORTED, day, &bytes)
    }

    fn file(&mut self, name: &str, day: NaiveDate, bytes: &[u8]) -> Result<(), ExportError> {
        let part = |number: u32| u8::try_from(number).unwrap_or(1);
        let year = u16::try_from(day.year()).unwrap_or(0);
        let dated = DateTime::from_date_and_time(year, part(day.month()), part(day.day()), 0, 0, 0);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(dated.unwrap_or_default())
            .unix_permissions(0o644);
        let begun = self.zip.start_file(name, options);
        begun.map_err(|error| ExportError::unwritten("archive", error))?;
        let written = self.zip.write_all(bytes);
        written.map_err(|error| ExportError::unwritten("archive", error))
    }

    fn finish(self) -> Result<Vec<u8>, ExportError> {
        self.zip.finish().map_err(|error| ExportError::unwritten("archive", error))?;
        Ok(self.done.take())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read as _};

    use super::*;
    use crate::billing::export::samples;

    fn packed(format: Format) -> Vec<u8> {
        let mut pack = Pack::new();
        let mut bytes = Vec::new();
        for document in [samples::invoice(), samples::receipt()] {
            pack.document(&samples::frozen(document), format).unwrap();
            bytes.extend(pack.done.take());
        }
        pack.what_was_left_out("2026-10-01".parse().unwrap()).unwrap();
        bytes.extend(pack.finish().unwrap());
        bytes
    }

    #[test]
    fn what_is_handed_on_piece_by_piece_is_one_archive_and_the_same_each_time() {
        let bytes = packed(Format::Json);
        assert_eq!(bytes, packed(Format::Json));
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let mut text = String::new();
        archive.by_name("INV-2026-000001.json").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, serde_json::to_string(&samples::invoice()).unwrap());
        assert!(archive.by_name("REC-2026-000001.json").is_ok());
        assert!(archive.by_name(NOT_EXPORTED).is_err());
    }

    #[test]
    fn what_has_no_such_form_is_listed_with_the_reason() {
        let mut archive = zip::ZipArchive::new(Cursor::new(packed(Format::Ubl))).unwrap();
        assert!(archive.by_name("INV-2026-000001.ubl.xml").is_ok());
        let mut text = String::new();
        archive.by_name(NOT_EXPORTED).unwrap().read_to_string(&mut text).unwrap();
        assert!(text.contains("REC-2026-000001") && text.contains("no tax document"), "{text}");
    }
}
