//! Where the books are kept: a Postgres of the operator's, or the embedded one.
//!
//! [`embedded`] runs a private cluster for `tollgate serve` without `DATABASE_URL`; [`pool`] says
//! what every session is told; [`migrate`] brings the schema up to date; [`failure`] says what a
//! failed statement means to the caller.

pub mod embedded;
pub mod failure;
pub mod migrate;
pub mod pool;
mod priority;
pub mod reports;
pub(crate) mod store;
