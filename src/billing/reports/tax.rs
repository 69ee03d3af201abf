//! Tax by jurisdiction: what documents charged, what the sub-codes of 2100 moved, and whether the
//! two agree.
//!
//! Documents are those of the period that tax authorities know: invoices, prepayment invoices and,
//! below zero, credit notes; receipts and usage statements charge no tax. A document's jurisdiction
//! is the sub-code that its tax was posted to, and the buyer's country where it charged none.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::{LIMIT_SECONDS, bounded, store};
use crate::{
    billing::document::TaxCategory,
    database::reports::ReportPool,
    ledger::{chart::Line, error::LedgerError, posting::TransferKind, store::snapshot},
};

/// What the documents of a period sold in one jurisdiction, category and rate, in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaxedSales {
    /// Such as `DE` or `US-CA`; empty where it is not known.
    pub jurisdiction: String,
    /// The currency of the amounts.
    pub currency: String,
    /// How they are taxed.
    pub category: TaxCategory,
    /// How many documents.
    pub documents: i64,
    /// What is taxed.
    pub taxable: Decimal,
    /// The tax on it.
    pub tax: Decimal,
}

/// The tax on one sub-code, such as `2100.DE`, in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaxLine {
    /// What was owed before the period.
    pub opening: Decimal,
    /// What came to be owed in it.
    pub charged: Decimal,
    /// What credit notes and refunds took back.
    pub taken_back: Decimal,
    /// What is not owed because it will never be paid to us.
    pub relieved: Decimal,
    /// What the period's documents charged, less what they took back.
    pub documented: Decimal,
}

impl TaxLine {
    /// What is owed after the period.
    #[must_use]
    pub fn closing(&self) -> Decimal {
        self.opening + self.charged - self.taken_back - self.relieved
    }

    /// Whether the documents and the ledger have the same tax.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.documented == self.charged - self.taken_back
    }
}

/// A period's tax.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaxSummary {
    /// From documents, by jurisdiction, category, rate and currency.
    pub sales: Vec<TaxedSales>,
    /// From the ledger, by sub-code and currency.
    pub lines: BTreeMap<(String, String), TaxLine>,
}

impl TaxSummary {
    /// Whether the documents and the ledger have the same tax everywhere.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.lines.values().all(TaxLine::agrees)
    }
}

/// The jurisdiction of a sub-code of 2100; empty where it has none.
#[must_use]
pub fn jurisdiction_of(code: &str) -> &str {
    code.split_once('.').map_or("", |(_, place)| place)
}

/// Tax in the period that begins on this day.
///
/// # Errors
/// The database failed or took too long, or too many reports are being read.
pub async fn taxes(reports: &ReportPool, period: NaiveDate) -> Result<TaxSummary, LedgerError> {
    let mut snapshot = snapshot(reports, LIMIT_SECONDS).await?;
    let mut summary = TaxSummary::default();
    let lines = [Line::TaxPayable];
    for moved in store::moved(&mut snapshot, period, &lines).await.map_err(bounded)? {
        summary.enter(moved);
    }
    for sold in store::taxed_sales(&mut snapshot, period).await.map_err(bounded)? {
        summary.document(sold);
    }
    Ok(summary)
}

impl TaxSummary {
    fn enter(&mut self, moved: store::Moved) {
        let store::Moved { currency, kind, debit, credit, before, within } = moved;
        if credit.starts_with(Line::TaxPayable.code()) {
            let line = self.lines.entry((credit, currency.clone())).or_default();
            line.opening += before;
            // A recovery owes again what a write-off relieved; no document says so.
            if kind == TransferKind::Recovery.name() {
                line.relieved -= within;
            } else {
                line.charged += within;
            }
        }
        if debit.starts_with(Line::TaxPayable.code()) {
            let line = self.lines.entry((debit, currency)).or_default();
            line.opening -= before;
            let given_up = [TransferKind::WriteOffTax, TransferKind::PaymentReturn];
            if given_up.iter().any(|one| one.name() == kind) {
                line.relieved += within;
            } else {
                line.taken_back += within;
            }
        }
    }

    fn document(&mut self, sold: store::Sold) {
        let store::Sold { code, country, currency, category, documents, taxable, tax } = sold;
        let jurisdiction = code.as_deref().map_or(country.as_str(), jurisdiction_of).to_owned();
        if !tax.is_zero() {
            let code = code.unwrap_or_else(|| Line::TaxPayable.code().to_owned());
            self.lines.entry((code, currency.clone())).or_default().documented += tax;
        }
        let key = (&jurisdiction, &currency, &category.0);
        let same = |one: &&mut TaxedSales| (&one.jurisdiction, &one.currency, &one.category) == key;
        if let Some(one) = self.sales.iter_mut().find(same) {
            one.documents += documents;
            one.taxable += taxable;
            one.tax += tax;
            return;
        }
        let category = category.0;
        self.sales.push(TaxedSales { jurisdiction, currency, category, documents, taxable, tax });
    }
}

#[cfg(test)]
mod tests {
    use sqlx::types::Json;

    use super::*;

    fn moved(kind: &str, debit: &str, credit: &str, before: i64, within: i64) -> store::Moved {
        let (kind, debit, credit) = (kind.to_owned(), debit.to_owned(), credit.to_owned());
        let (before, within) = (Decimal::from(before), Decimal::from(within));
        store::Moved { currency: "EUR".to_owned(), kind, debit, credit, before, within }
    }

    fn sold(code: Option<&str>, taxable: i64, tax: i64) -> store::Sold {
        store::Sold {
            code: code.map(str::to_owned),
            country: "DE".to_owned(),
            currency: "EUR".to_owned(),
            category: Json(TaxCategory::Standard { rate_percent: Decimal::from(19) }),
            documents: 1,
            taxable: Decimal::from(taxable),
            tax: Decimal::from(tax),
        }
    }

    #[test]
    fn documents_and_ledger_are_held_side_by_side() {
        let mut summary = TaxSummary::default();
        summary.enter(moved("invoice_tax", "1200", "2100.DE", 5, 38));
        summary.enter(moved("credit_note_tax", "2100.DE", "1200", 1, 19));
        summary.enter(moved("write_off_tax", "2100.DE", "1200", 0, 2));
        summary.enter(moved("invoice", "1200", "1100", 0, 100));
        for one in [sold(Some("2100.DE"), 200, 38), sold(Some("2100.DE"), -100, -19)] {
            summary.document(one);
        }
        summary.document(sold(None, 7, 0));
        let line = &summary.lines[&("2100.DE".to_owned(), "EUR".to_owned())];
        assert_eq!((line.opening, line.closing()), (Decimal::from(4), Decimal::from(21)));
        assert!(summary.agrees());
        let [sales] = summary.sales.as_slice() else { panic!("{:?}", summary.sales) };
        assert_eq!((sales.taxable, sales.documents), (Decimal::from(107), 3));

        summary.document(sold(None, 1, 1));
        assert!(!summary.agrees(), "a document whose tax was posted nowhere");
    }
}
