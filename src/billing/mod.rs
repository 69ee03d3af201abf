//! From usage to a paid invoice: billing periods, documents, payments, and what is made of them.
//!
//! [`document`] is what every invoice, credit note, receipt and statement is: plain facts, frozen
//! when it is issued, from which each export is made.

pub mod document;
