//! The integration tests: one binary, one file per feature, over a real Postgres.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too, and may tell what it measured"
)]

mod abuse;
mod accounts;
mod architecture;
mod audit;
mod authorization;
mod backup;
mod bad_input;
mod bench;
mod billing;
mod books_over_grpc;
mod budgets;
mod catalog;
mod cli;
mod closing;
mod credits;
mod databases;
mod directory;
mod doctor;
mod embedded;
mod expiry;
mod harness;
mod identity;
mod isolation;
mod journals;
mod key_limits;
mod keys;
mod lease_traffic;
mod leases;
mod ledger;
mod many_servers;
mod overload;
mod permissions;
mod personal_data;
mod price_book;
mod recorder;
mod reliability;
mod reservations;
mod revocation;
mod rollups;
mod row_level_security;
mod serve;
mod service_level;
mod tls;
mod tokens;
mod upgrade;
mod usage;
