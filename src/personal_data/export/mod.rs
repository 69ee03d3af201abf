//! What is stored about an account, or one of its end users, as lines of JSON.
//!
//! Everything is read in one snapshot, section by section and page by page, so that years of usage are
//! never in memory at once. The first line says what it is and of when, the last how many lines came
//! before it: an export that was cut off can be told from a whole one. Of entries of the audit trail
//! that concern several accounts, only the rows of this one are given out.

mod store;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{Postgres, Transaction};

use super::{erasure::Subject, error::PersonalDataError};
use crate::database::reports::ReportPool;

/// How long a statement may take: a page of one end user may lie behind years of others' usage.
const STATEMENT_LIMIT: &str = "60s";
/// Lines read at once: some hundred kilobytes, unless documents are large.
const PAGE: i64 = 500;
/// Of the form of the lines.
const VERSION: u32 = 1;

/// An export that is being read.
#[derive(Debug)]
pub struct Export {
    snapshot: Transaction<'static, Postgres>,
    subject: Subject,
    next: Next,
    lines: u64,
}

#[derive(Debug)]
enum Next {
    Head(DateTime<Utc>),
    /// The section, and the place of its last line.
    Section(usize, Option<String>),
    End,
}

impl Export {
    /// Begins to read.
    ///
    /// # Errors
    /// The database failed, or too many reports are being read.
    pub async fn open(reports: &ReportPool, subject: Subject) -> Result<Self, PersonalDataError> {
        let mut snapshot = reports.snapshot().await?;
        let moment = store::begin(&mut snapshot, STATEMENT_LIMIT).await?;
        Ok(Self { snapshot, subject, next: Next::Head(moment), lines: 0 })
    }

    /// The next lines; `None` after the last.
    ///
    /// # Errors
    /// The database failed or took too long.
    pub async fn piece(&mut self) -> Result<Option<String>, PersonalDataError> {
        loop {
            match std::mem::replace(&mut self.next, Next::End) {
                Next::End => return Ok(None),
                Next::Head(moment) => {
                    self.next = Next::Section(0, None);
                    self.lines = 1;
                    let head = json!({
                        "kind": "export",
                        "version": VERSION,
                        "account_id": self.subject.account,
                        "end_user": self.subject.end_user,
                        "exported_at": moment,
                    });
                    return Ok(Some(format!("{head}\n")));
                }
                Next::Section(number, after) => {
                    let Some(section) = store::SECTIONS.get(number) else {
                        let end = json!({ "kind": "end", "lines_before": self.lines });
                        return Ok(Some(format!("{end}\n")));
                    };
                    if let Some(text) = self.page(section, number, after.as_deref()).await? {
                        return Ok(Some(text));
                    }
                }
            }
        }
    }

    /// The next page of a section; `None` where it has no more.
    async fn page(
        &mut self,
        section: &store::Section,
        number: usize,
        after: Option<&str>,
    ) -> Result<Option<String>, PersonalDataError> {
        let subject = self.subject.clone();
        let found = store::lines(&mut self.snapshot, section, &subject, after, PAGE).await?;
        let Some(last) = found.last() else {
            self.next = Next::Section(number.saturating_add(1), None);
            return Ok(None);
        };
        self.next = Next::Section(number, Some(last.place.clone()));
        let mut text = String::new();
        for line in &found {
            text.push_str(&line.text);
            text.push('\n');
            self.lines = self.lines.saturating_add(1);
        }
        Ok(Some(text))
    }
}
