//! The books: chart of accounts, transfers, balances and their proof.
//!
//! [`chart`], [`posting`], [`balances`] and [`split`] are the rules, pure and without I/O: what each
//! kind of business posts, and what that does to an account. Usage itself is posted by `metering`,
//! in its batches.

pub mod balances;
pub mod chart;
pub mod posting;
pub mod split;
