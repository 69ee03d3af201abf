//! The gRPC services: translate, check the caller, call the domain. No rules live here.

pub mod account;
mod account_convert;
pub mod audit;
pub mod authorization;
pub mod billing;
mod billing_convert;
pub mod budget;
pub mod call;
pub mod caller;
pub mod catalog;
pub mod catalog_convert;
pub mod convert;
pub mod credit;
mod export;
pub mod idempotency;
pub mod key;
mod key_convert;
pub mod ledger;
pub mod named_account;
mod personal_data;
mod report;
pub mod seller;
mod settlement;
pub mod status;
pub mod token;
pub mod usage;
mod usage_convert;
