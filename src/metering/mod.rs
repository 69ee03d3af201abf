//! Metering: from what a provider says was used to what the books hold about it.
//!
//! Token counts arrive in as many shapes as there are providers; here they become disjoint
//! [`quantities::Quantities`], of which each token is in exactly one class and so is charged
//! exactly once. What they cost is the price book's business (`catalog::rating`).

pub mod dialect;
pub mod quantities;
