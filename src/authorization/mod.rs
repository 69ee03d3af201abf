//! The hot path before a request: whether a key may make it, and the funds held for it.

pub mod grant;
pub mod limits;
