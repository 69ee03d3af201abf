//! The price book: models, their dated prices, and what a request costs at one of them.
//!
//! A [`price::Price`] cannot hold a wrong state, and [`rating`] is pure and exact: a charge is
//! computed in whole units of 10^-12, never rounded, so that anyone can compute it again from the
//! quantities and the price version years later. [`publish`] adds versions to the database, which
//! keeps them for ever, and [`book`] answers from memory which of them holds for whom and when.

pub mod book;
pub mod compare;
pub mod error;
pub mod estimate;
pub mod import;
pub mod model;
pub mod pattern;
pub mod price;
pub mod publish;
pub mod rating;
#[cfg(test)]
mod rating_check;
mod rows;
#[cfg(test)]
mod shared_data;
pub mod shipped;
mod snapshot;
mod store;
pub mod version;

pub(crate) use store::versions_in;
