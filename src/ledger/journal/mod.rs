//! The books as a journal for other programs: hledger, QuickBooks and Xero.
//!
//! A journal is read in one snapshot and handed on in pieces, so that a million transfers are never
//! in memory at once. The same books give the same bytes: transfers are in the order of account,
//! posting and line, sums in the order of day, currency, kind and codes. The months of a journal
//! are billing periods; each transfer is in exactly one.
//!
//! Revenue is gross, as it is in the books.

mod daily;
mod hledger;
mod store;

use std::io;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{Postgres, Transaction};

use crate::{
    database::reports::ReportPool,
    ids::AccountId,
    ledger::{error::LedgerError, store::snapshot},
    money::Currency,
};

/// How long a statement may take, in seconds: a page of a month may lie behind years of transfers.
const STATEMENT_LIMIT_SECONDS: u32 = 60;
/// Transfers read at once: some hundred kilobytes of text.
const PAGE: i64 = 2_000;

/// For which program a journal is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalFormat {
    /// hledger's plain text, exact to 12 decimals, one transaction for each transfer.
    Hledger,
    /// QuickBooks Online's journal import (CSV), one entry for each day, in minor units.
    QuickBooks,
    /// Xero's manual journal (CSV), one entry for each day, in minor units and one currency.
    Xero,
}

/// Which transfers a journal holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct JournalFilter {
    /// Of this account alone.
    pub account: Option<AccountId>,
    /// In this currency alone.
    pub currency: Option<Currency>,
    /// Of the billing period that begins on this day alone.
    pub period: Option<NaiveDate>,
    /// Posted before this moment.
    pub until: Option<DateTime<Utc>>,
}

/// A journal that is being read.
#[derive(Debug)]
pub struct Journal {
    snapshot: Transaction<'static, Postgres>,
    format: JournalFormat,
    filter: JournalFilter,
    next: Next,
}

#[derive(Debug)]
enum Next {
    Head(Vec<String>),
    After((AccountId, i64, i16)),
    End,
}

impl Journal {
    /// Begins to read a journal.
    ///
    /// # Errors
    /// [`LedgerError::SeveralCurrencies`] where the format holds one and the accounts have more;
    /// the database failed, or too many reports are being read.
    pub async fn open(
        reports: &ReportPool,
        format: JournalFormat,
        filter: JournalFilter,
    ) -> Result<Self, LedgerError> {
        let mut snapshot = snapshot(reports, STATEMENT_LIMIT_SECONDS).await?;
        let currencies = store::currencies(&mut snapshot, &filter).await.map_err(bounded)?;
        if format == JournalFormat::Xero && currencies.len() > 1 {
            return Err(LedgerError::SeveralCurrencies(currencies.join(", ")));
        }
        Ok(Self { snapshot, format, filter, next: Next::Head(currencies) })
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// The database failed or took too long.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>, LedgerError> {
        match std::mem::replace(&mut self.next, Next::End) {
            Next::End => Ok(None),
            Next::Head(currencies) if self.format == JournalFormat::Hledger => {
                self.next = Next::After(store::BEGINNING);
                Ok(Some(hledger::head(&currencies).into_bytes()))
            }
            Next::Head(_) => self.days().await.map(Some),
            Next::After(after) => self.transfers(after).await,
        }
    }

    async fn transfers(
        &mut self,
        after: (AccountId, i64, i16),
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        let page = store::entries(&mut self.snapshot, &self.filter, after, PAGE).await;
        let page = page.map_err(bounded)?;
        let Some(last) = page.last() else { return Ok(None) };
        self.next = Next::After((last.account_id, last.posting, last.line));
        let text = page.iter().map(hledger::entry).collect::<Result<String, _>>()?;
        Ok(Some(text.into_bytes()))
    }

    /// All days: a few dozen rows for each.
    async fn days(&mut self) -> Result<Vec<u8>, LedgerError> {
        let sums = store::day_sums(&mut self.snapshot, &self.filter).await.map_err(bounded)?;
        let mut csv = csv::Writer::from_writer(Vec::new());
        match self.format {
            JournalFormat::Xero => csv.write_record(daily::XERO_HEAD),
            _ => csv.write_record(daily::QUICKBOOKS_HEAD),
        }
        .map_err(unwritten)?;
        for sum in &sums {
            let Some(entry) = daily::day_entry(sum)? else { continue };
            match self.format {
                JournalFormat::Xero => {
                    entry.xero().iter().try_for_each(|row| csv.write_record(row))
                }
                _ => entry.quickbooks()?.iter().try_for_each(|row| csv.write_record(row)),
            }
            .map_err(unwritten)?;
        }
        csv.into_inner().map_err(|error| unwritten(error.into_error()))
    }
}

fn bounded(error: sqlx::Error) -> LedgerError {
    LedgerError::bounded(error, "journal", STATEMENT_LIMIT_SECONDS)
}

fn unwritten(error: impl Into<io::Error>) -> LedgerError {
    LedgerError::Unwritten(error.into())
}
