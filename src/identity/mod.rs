//! Who is calling and what they may do.
//!
//! A call carries a JSON Web Token ([`token`]), signed with the server's own secret ([`secret`]) or
//! with a key whose public half the server has been given ([`public_keys`]); [`keyring`] verifies
//! it and [`revoked`] knows which were taken back. The token names roles ([`role`]), and one table
//! says which role may call which RPC ([`permissions`]). [`Gate::admit`] puts it together. An RPC
//! that is not in the table is refused, whoever asks.
//!
//! This module knows neither headers nor gRPC; `api::call` brings the two together.

mod error;
mod gate;
pub mod keyring;
pub mod permissions;
pub mod public_keys;
pub mod revoked;
mod role;
pub mod secret;
pub mod token;

pub use self::{
    error::IdentityError,
    gate::{Access, Caller, Gate},
    role::{Role, Roles},
};
