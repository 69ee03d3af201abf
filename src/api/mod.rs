//! The gRPC services: translate, check the caller, call the domain. No rules live here.

pub mod call;
pub mod caller;
pub mod catalog_convert;
pub mod convert;
pub mod idempotency;
pub mod status;
