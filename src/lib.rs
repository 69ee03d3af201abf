//! Tollgate: the billing and credit ledger an AI gateway stands on.
//!
//! `docs/architecture.md` is the map. Dependencies point one way:
//! domain ← store ← service ← (`api`, `cli`) ← `server`.

pub mod accounts;
pub mod api;
pub mod audit;
pub mod authorization;
pub mod billing;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod database;
pub mod identity;
pub mod ids;
pub mod installation;
pub mod ledger;
pub mod metering;
pub mod money;
pub mod personal_data;
pub mod problem;
pub mod proto;
pub mod server;
pub mod tasks;
pub mod telemetry;
