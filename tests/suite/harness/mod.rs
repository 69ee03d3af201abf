//! What tests share.

pub(crate) mod books;
pub(crate) mod postgres;
