//! The gRPC contract as Rust types, generated from `proto/` at build time.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]

pub mod codec;

tonic::include_proto!("tollgate.v1");

/// The descriptors of every service and message, for reflection and for walking the contract.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tollgate.v1.bin"));
