//! Who is calling and what they may do.
//!
//! A call carries a JSON Web Token signed with the server's own secret ([`token`], [`secret`]); the
//! token names roles ([`role`]), and one table says which role may call which RPC
//! ([`permissions`]). [`Gate::admit`] puts the three together. An RPC that is not in the table is
//! refused, whoever asks.
//!
//! This module knows neither headers nor gRPC; `api::call` brings the two together.

mod error;
mod gate;
pub mod permissions;
mod role;
pub mod secret;
pub mod token;

pub use self::{
    error::IdentityError,
    gate::{Access, Caller, Gate},
    role::{Role, Roles},
};
