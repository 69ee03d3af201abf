//! Customers: their contracts and their API keys.
