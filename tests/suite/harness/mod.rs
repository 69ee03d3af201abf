//! What tests share.

pub(crate) mod books;
pub(crate) mod own_postgres;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod shared_data;
pub(crate) mod wire;
pub(crate) mod world;
