//! Where the books are kept: a Postgres of the operator's, or the embedded one.
//!
//! [`failure`] says what a failed statement means to the caller.

pub mod failure;
