//! What is stored about people: how it is given out ([`export`]), erased on request ([`erasure`]) and
//! forgotten by itself ([`retention`]), and how the books stay whole meanwhile.
//!
//! The books rest on usage events, transfers and documents, which are append-only and sealed. What is
//! personal in usage lies beside them in `usage_details`, whose rows may go: an event is charged, proved
//! and invoiced without them. `docs/security.md` lists every table and column where personal data can
//! be, how long it stays and what erases it; `tests/suite/personal_data.rs` searches the whole database
//! for what should be gone.

pub mod erasure;
pub mod error;
pub mod export;
pub mod retention;
mod store;
