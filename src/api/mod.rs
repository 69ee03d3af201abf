//! The gRPC services: translate, check the caller, call the domain. No rules live here.

pub mod status;
