//! Customers: their contracts and their API keys.

pub mod key;
