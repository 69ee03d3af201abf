//! Tollgate: the billing and credit ledger an AI gateway stands on.
//!
//! `docs/architecture.md` is the map. Dependencies point one way:
//! domain ← store ← service ← (`api`, `cli`) ← `server`.

pub mod catalog;
pub mod clock;
pub mod ids;
pub mod metering;
pub mod money;
