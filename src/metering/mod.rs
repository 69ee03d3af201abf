//! Metering, the hot path after a request: from what a provider says was used to what the books
//! hold about it.
//!
//! Token counts arrive in as many shapes as there are providers; here they become disjoint
//! [`quantities::Quantities`], of which each token is in exactly one class and so is charged
//! exactly once. What they cost is the price book's business (`catalog::rating`).
//!
//! | step | where | round trips |
//! |---|---|---|
//! | verify the token, normalise, rate | [`intake`] | none; work without a token: up to three |
//! | check the event, queue it with its account's writer | [`recorder`], [`event`], `lanes` | none |
//! | post what queued up during the last commit | `writer`, `store`, the function `post_usage` | one per batch, commit included |
//! | read what a replay was first answered | `writer` | one per batch with duplicates, no lock held |
//! | let the reservation go, answer | `writer`, [`answers`] | none |
//!
//! Behind it, [`rollups`] keeps daily sums, and [`report`] answers what was used.
//!
//! Bounds: [`limits`]. An OK means committed and on the disk; the same event again gets the first
//! answer; one bad event fails alone.

pub mod answers;
pub mod dialect;
pub(crate) mod direct;
pub mod error;
pub mod event;
pub mod intake;
pub mod lanes;
pub mod limits;
pub mod quantities;
pub mod recorder;
pub mod report;
pub mod rollups;
mod rows;
mod shard;
mod store;
pub mod window;
mod writer;
