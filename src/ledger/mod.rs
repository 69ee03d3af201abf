//! The books: chart of accounts, transfers, balances and their proof.
//!
//! [`chart`], [`posting`], [`balances`] and [`split`] are the rules, pure and without I/O: what each
//! kind of business posts, and what that does to an account. [`store`] writes them down under the
//! lock of the account's row. On top of it [`credits`] moves money in and out, [`reversal`] takes a
//! usage charge back, [`report`] reads the books, [`journal`] writes them for other programs, [`seals`]
//! chains what was committed and [`verify`] proves it all. Usage itself is posted by `metering`, in its batches.

pub mod balances;
pub mod chart;
pub mod credits;
pub mod error;
pub mod journal;
pub mod posting;
pub mod report;
pub mod reversal;
pub mod seals;
pub mod settling;
pub mod split;
pub mod store;
pub mod verify;
