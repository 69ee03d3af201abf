//! From usage to a paid invoice: billing periods, documents, payments, and what is made of them.
//!
//! [`document`] is what every invoice, credit note, receipt and statement is: plain facts, frozen
//! when it is issued, from which each export is made. [`assembly`] makes the document of an
//! account's month and what it posts, [`tax`] says how it is taxed; both are pure. [`seller`] keeps
//! who we are, [`documents`] numbers and freezes, [`receipts`] issues what a top-up calls for,
//! [`prepayments`] gives it back with its tax, and [`closing`] closes a month. [`settlement`] is what becomes of an invoice, [`receivables`] what is
//! owed of it, and [`dunning`] what happens where it is overdue. [`export`] writes documents as files. [`sla`] computes what missed
//! availability gives back, and [`reports`] what finance reads of a month.

pub mod assembly;
pub mod closing;
pub mod document;
pub mod documents;
pub mod dunning;
pub mod error;
pub mod export;
pub mod prepayments;
pub mod receipts;
pub mod receivables;
pub mod reports;
pub mod seller;
pub mod settlement;
pub mod sla;
pub mod tax;
