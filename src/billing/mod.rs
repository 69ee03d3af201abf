//! From usage to a paid invoice: billing periods, documents, payments, and what is made of them.
//!
//! [`document`] is what every invoice, credit note, receipt and statement is: plain facts, frozen
//! when it is issued, from which each export is made. [`sla`] computes what missed availability
//! gives back, and [`reports`] what finance reads of a month.

pub mod document;
pub mod reports;
pub mod sla;
