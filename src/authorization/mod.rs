//! The hot path before a request: whether a key may make it, and the funds held for it.
//!
//! A request's way through the files, each adding one thing:
//! `api::authorization` (the call) → [`authorizer`] (the order) → [`checks`] (key, account, model,
//! price, caps) → [`leases`], [`slot_state`], [`holdings`] and
//! [`pool`] (budgets, funds) → [`grant`] (the signed token).
//!
//! | call | round trips to the database | bound |
//! |---|---|---|
//! | `Authorize`, everything known and leased | 0 | |
//! | first touch of a key, an account, a lease | 1 each | [`limits::LEASE_WAIT`] |
//! | `ExtendAuthorization` on the issuer | 0, or 1 for a larger lease | [`limits::LEASE_WAIT`] |
//!
//! What it guarantees: the sum of what is promised never exceeds the account's funds, on any number
//! of servers. `docs/architecture.md` says why each rule of the lease protocol is needed. What was
//! used is recorded and charged by `metering`, which tells [`authorizer::Authorizer::settle`].

use std::sync::Arc;

use crate::{catalog::version::PricedModel, ids::AuthorizationId, money::Amount};

pub mod admission;
pub mod authorizer;
pub mod checks;
mod current;
pub mod decision;
pub mod error;
mod exposure;
mod extension;
pub mod grant;
mod guard;
pub mod heartbeat;
pub mod holdings;
pub mod lease;
mod leases;
pub mod lifetime;
pub mod limits;
pub mod pool;
pub mod presence;
mod renewing;
pub mod reservations;
mod reserving;
mod slot;
pub mod slot_state;
mod store;
mod validate;

pub use authorizer::Authorizer;

/// What is kept of a grant while it is outstanding.
#[derive(Debug)]
struct Held {
    grant: decision::Grant,
    priced: Arc<PricedModel>,
    /// The output tokens that were asked for, to tell the same request from another.
    asked_output: Option<u64>,
    /// Another server issued it and this one raised it: the reservation here is for all of it.
    adopted: bool,
}

impl Held {
    /// The same authorization with a higher amount, signed anew.
    fn raised(
        &self,
        signer: &grant::GrantSigner,
        claims: grant::GrantClaims,
        reduced: bool,
    ) -> Result<Self, grant::GrantError> {
        let token = signer.sign(&claims)?;
        let route = self.grant.route;
        let claims = Arc::new(claims);
        let grant = decision::Grant { claims, token, route, reduced, warnings: Vec::new() };
        Ok(Self { grant, priced: Arc::clone(&self.priced), ..*self })
    }

    fn expired(&self, authorization: AuthorizationId, reserved: Amount) -> store::Expired {
        let claims = &self.grant.claims;
        store::Expired {
            account: claims.account_id,
            authorization,
            key: claims.key_id,
            model: claims.model.clone(),
            reserved,
            authorized_at: claims.authorized_at,
            lapses_at: claims.expires_at,
            request_id: claims.request_id.clone(),
        }
    }
}
