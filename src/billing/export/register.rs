//! The register: every numbered document in the order of its number, as CSV.
//!
//! A year's register of all accounts shows that no number is missing: where one is, its row says so.
//! A month's lists the documents of that month's usage and payments, whose numbers others may lie
//! between.

use chrono::NaiveDate;

use crate::{
    billing::{
        document::Document,
        documents::kind_name,
        export::{ExportError, Rendered, category, defused, figure, store},
    },
    database::reports::ReportPool,
    ids::AccountId,
};

const HEAD: [&str; 19] = [
    "number",
    "kind",
    "issue_date",
    "due_date",
    "period",
    "account",
    "account_id",
    "buyer",
    "tax_id",
    "country",
    "currency",
    "lines",
    "allowances",
    "net",
    "tax",
    "tax_by_rate",
    "gross",
    "paid",
    "due",
];
/// What stands in place of a number's document where there is none.
const MISSING: &str = "MISSING";
/// Missing numbers that are written out one by one.
const MISSING_SHOWN: i64 = 1_000;

/// Which documents a register lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Those that belong to the month which begins on this day.
    Month(NaiveDate),
    /// Those whose numbers bear this year.
    Year(i32),
}

/// A numbered document and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) series: String,
    pub(super) year: i32,
    pub(super) sequence: i64,
    pub(super) period: NaiveDate,
    pub(super) document: Document,
}

/// A register that is being read.
#[derive(Debug)]
pub struct Register {
    reports: ReportPool,
    span: Span,
    account: Option<AccountId>,
    last: Option<(String, i32, i64)>,
    begun: bool,
    ended: bool,
}

impl Register {
    /// Begins to read a register; of one account, or of all.
    #[must_use]
    pub const fn open(reports: ReportPool, span: Span, account: Option<AccountId>) -> Self {
        Self { reports, span, account, last: None, begun: false, ended: false }
    }

    /// What to call the file.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self.span {
            Span::Month(month) => format!("register-{}.csv", month.format("%Y-%m")),
            Span::Year(year) => format!("register-{year}.csv"),
        }
    }

    /// The next rows; `None` after the last. Each is read in a snapshot of its own, so that a slow
    /// reader holds no connection.
    ///
    /// # Errors
    /// The documents could not be read.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        if self.ended {
            return Ok(None);
        }
        let after = self.last.as_ref().map(|(series, year, at)| (series.as_str(), *year, *at));
        let mut snapshot =
            self.reports.snapshot().await.map_err(|error| ExportError::Documents(error.into()))?;
        let entries = store::next_entries(&mut snapshot, self.span, self.account, after).await?;
        drop(snapshot);
        let unwritten = |error: csv::Error| ExportError::unwritten("register", error);
        let mut writer = csv::Writer::from_writer(Vec::new());
        if !self.begun {
            writer.write_record(HEAD).map_err(unwritten)?;
        }
        self.begun = true;
        self.ended = i64::try_from(entries.len()).unwrap_or(0) < store::REGISTER_PAGE;
        // Of one customer or month alone, the numbers in between are others'.
        let is_complete = self.account.is_none() && matches!(self.span, Span::Year(_));
        for entry in entries {
            if is_complete {
                for number in missing_before(self.last.as_ref(), &entry) {
                    writer.write_record(missing_row(&number)).map_err(unwritten)?;
                }
            }
            writer.write_record(row(&entry)).map_err(unwritten)?;
            self.last = Some((entry.series, entry.year, entry.sequence));
        }
        writer.into_inner().map(Some).map_err(|error| ExportError::unwritten("register", error))
    }

    /// The whole register as a file.
    pub(super) async fn whole(mut self, name: &str) -> Result<Rendered, ExportError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            bytes.extend(piece);
        }
        let content_type = super::Format::Csv.content_type();
        Ok(Rendered { bytes, file_name: name.to_owned(), content_type })
    }
}

/// The numbers between the last row and this one, which a series without gaps does not have.
fn missing_before(last: Option<&(String, i32, i64)>, entry: &Entry) -> Vec<String> {
    let last = last.filter(|(series, year, _)| *series == entry.series && *year == entry.year);
    let first = last.map_or(0, |(_, _, sequence)| *sequence).saturating_add(1);
    let end = entry.sequence.min(first.saturating_add(MISSING_SHOWN));
    (first..end).map(|at| format!("{}-{}-{at:06}", entry.series, entry.year)).collect()
}

fn missing_row(number: &str) -> [String; HEAD.len()] {
    let mut row: [String; HEAD.len()] = Default::default();
    let [first, kind, ..] = &mut row;
    number.clone_into(first);
    MISSING.clone_into(kind);
    row
}

fn row(entry: &Entry) -> [String; HEAD.len()] {
    let document = &entry.document;
    let totals = &document.totals;
    let by_rate: Vec<String> = document
        .taxes
        .iter()
        .map(|tax| {
            let (code, rate) = category(&tax.tax);
            let (taxable, amount) = (figure(tax.taxable, document), figure(tax.amount, document));
            format!("{code} {rate}% of {taxable}: {amount}")
        })
        .collect();
    [
        document.number.clone().unwrap_or_default(),
        kind_name(document.kind).to_owned(),
        document.issue_date.to_string(),
        document.due_date.map(|day| day.to_string()).unwrap_or_default(),
        entry.period.format("%Y-%m").to_string(),
        document.account_handle.clone(),
        document.account_id.to_string(),
        defused(&document.buyer.legal_name),
        defused(&document.buyer.tax_id),
        document.buyer.address.country_code.clone(),
        document.currency.code().to_owned(),
        figure(totals.lines, document),
        figure(totals.allowances, document),
        figure(totals.net, document),
        figure(totals.tax, document),
        by_rate.join("; "),
        figure(totals.gross, document),
        figure(totals.paid, document),
        figure(totals.due, document),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::export::samples;

    fn entry(sequence: i64) -> Entry {
        Entry {
            series: "INV".to_owned(),
            year: 2026,
            sequence,
            period: "2026-10-01".parse().unwrap(),
            document: samples::invoice(),
        }
    }

    #[test]
    fn a_row_says_the_tax_by_rate() {
        let row = row(&entry(1));
        assert_eq!(row[4], "2026-10");
        assert_eq!(row[15], "S 19% of 1000.00: 190.00");
        assert_eq!((row[13].as_str(), row[18].as_str()), ("1000.00", "1100.00"));
    }

    #[test]
    fn a_number_that_is_missing_is_told() {
        let after = |at: i64| Some(("INV".to_owned(), 2026, at));
        assert!(missing_before(None, &entry(1)).is_empty());
        assert!(missing_before(after(6).as_ref(), &entry(7)).is_empty());
        assert_eq!(missing_before(None, &entry(2)), ["INV-2026-000001"]);
        let missing = missing_before(after(4).as_ref(), &entry(7));
        assert_eq!(missing, ["INV-2026-000005", "INV-2026-000006"]);
        let other = Some(("CN".to_owned(), 2026, 9));
        assert!(missing_before(other.as_ref(), &entry(1)).is_empty());
    }
}
