//! Raising an authorization in mid-stream: on the server that issued it by the rise alone, on any
//! other by the whole new amount, reserved from that server's own leases.

use std::sync::Arc;

use super::{
    Held,
    authorizer::{Authorizer, Granted, Stop, decided},
    checks,
    current::with_what_holds,
    decision::{Decision, Grant},
    error::AuthorizationError,
    grant::{GrantClaims, GrantError, milliseconds},
    holdings::{Reservation, Reserved},
    limits,
    reserving::Tried,
    slot::Slot,
    slot_state::Shortage,
    store, validate,
};
use crate::{
    accounts::{account::AccountRecord, keys::record::KeyRecord},
    catalog::{model::Route, rating},
    clock,
    ids::AuthorizationId,
    money::Amount,
};

/// The key and the account that were checked.
type Customer<'a> = (&'a Arc<KeyRecord>, &'a Arc<AccountRecord>);

impl Authorizer {
    /// Raises what an outstanding authorization may generate and cost, and moves its expiry. On
    /// another server than the issuer's the whole new amount is reserved there.
    ///
    /// # Errors
    /// `Expired`, `NotOutstanding`, `NoRise`, a bad token, `Unavailable`.
    pub async fn extend(
        &self,
        token: &str,
        max_output_tokens: u64,
        allow_reduced_output: bool,
    ) -> Result<Decision, AuthorizationError> {
        let claims = self.claims(token)?;
        self.still_allowed()?;
        let extend = || self.extend_claims(&claims, max_output_tokens, allow_reduced_output);
        decided(with_what_holds(extend).await)
    }

    async fn extend_claims(&self, claims: &GrantClaims, wanted: u64, reducible: bool) -> Granted {
        validate::tokens("max_output_tokens", wanted)?;
        let id = claims.authorization_id;
        if self.heartbeat.database_now() >= claims.expires_at {
            return Err(AuthorizationError::Expired(id).into());
        }
        let key = self.directory.key(claims.key_id).await?.ok_or_else(checks::unknown)?;
        checks::key(&key, clock::now())?;
        let account = self.directory.account(claims.account_id).await?;
        let account = account.ok_or_else(checks::unknown)?;
        checks::account(&account)?;
        let slot = self.leases.slot(&account);
        let held = match held(&slot, id) {
            Some(held) => held,
            None if claims.issuer == self.instance => {
                return Err(AuthorizationError::NotOutstanding(id).into());
            }
            None => self.adopt(claims).await?,
        };
        let has = held.grant.claims.max_output_tokens;
        if wanted <= has {
            return Err(AuthorizationError::NoRise { id, has }.into());
        }
        self.raise(&slot, (&key, &account), &held, wanted, reducible).await
    }

    /// Another server's grant, as this one can go on with it: nothing is held for it here yet.
    async fn adopt(&self, claims: &GrantClaims) -> Result<Arc<Held>, Stop> {
        let id = claims.authorization_id;
        if store::has_event(&self.database, claims.account_id, id).await? {
            return Err(AuthorizationError::NotOutstanding(id).into());
        }
        let priced = self.book.version_or_load(claims.price_version).await?;
        let priced = priced.ok_or(GrantError::Invalid)?;
        let model = self.book.model(&claims.model);
        let grant = Grant {
            claims: Arc::new(GrantClaims { reserved: Amount::ZERO, ..claims.clone() }),
            token: String::new(),
            route: model.map_or(Route::Standard, |model| model.route),
            reduced: false,
            warnings: Vec::new(),
        };
        Ok(Arc::new(Held { grant, priced, asked_output: None, adopted: true }))
    }

    async fn raise(
        &self,
        slot: &Arc<Slot>,
        customer: Customer<'_>,
        held: &Arc<Held>,
        wanted: u64,
        reducible: bool,
    ) -> Granted {
        let (price, margin) = (&held.priced.price, checks::input_margin());
        let before = &held.grant.claims;
        let pools = before.pools();
        let mut output = wanted;
        let deadline = clock::since_boot() + limits::LEASE_WAIT;
        let mut renewed = false;
        loop {
            let amount = rating::ceiling(price, before.input_tokens, output, margin)
                .map_err(|error| validate::invalid("max_output_tokens", error))?;
            let raised = Arc::new(held.raised(
                &self.signer,
                GrantClaims {
                    issuer: self.instance,
                    reserved: amount.max(before.reserved),
                    max_output_tokens: output,
                    expires_at: self.expiry(),
                    grace_ms: milliseconds(self.lifetime.grace),
                    ..GrantClaims::clone(before)
                },
                output < wanted,
            )?);
            let rise = amount.minus_to_zero(before.reserved);
            let (at, free) = match self.try_raise(slot, customer, &raised)? {
                Tried::Short { at, free } => (at, free),
                Tried::Held | Tried::Again(_) => return Ok(raised.grant.clone()),
            };
            let shortage = slot.lock().shortage(&pools, rise, at);
            if reducible && shortage.allows_less(renewed) {
                let all = before.reserved.saturating_add(free);
                let fits = rating::affordable_output(price, before.input_tokens, margin, all);
                if let Ok(Some(fits)) = fits
                    && fits > before.max_output_tokens
                    && fits < output
                {
                    output = fits;
                    continue;
                }
            }
            if let Shortage::Final(view) = &shortage {
                return Err(Stop::Denied(self.lacking(customer.1, view, rise, free)));
            }
            let floor = if reducible { Amount::ZERO } else { rise };
            if at >= deadline || !self.wait(slot, &pools, rise, floor, &shortage).await {
                return Err(AuthorizationError::Unavailable.into());
            }
            renewed = true;
        }
    }

    fn try_raise(
        &self,
        slot: &Slot,
        (key, account): Customer<'_>,
        raised: &Arc<Held>,
    ) -> Result<Tried, Stop> {
        let claims = &raised.grant.claims;
        let (id, pools) = (claims.authorization_id, claims.pools());
        let reservation = Reservation {
            amount: claims.reserved,
            pools: pools.clone(),
            expires_at: claims.expires_at,
            covered_until: claims.covered_until(),
            request: None,
            grant: Arc::clone(raised),
        };
        let at = clock::since_boot();
        let mut state = slot.lock();
        self.still_allowed()?;
        if state.is_retired() {
            return Err(Stop::Changed);
        }
        self.still_current(key, account)?;
        state.touch(&pools, at);
        let held = match state.holdings.extend(id, reservation.clone()) {
            Some(held) => held,
            None if raised.adopted => {
                let now = self.heartbeat.database_now();
                matches!(state.holdings.reserve(id, reservation, now), Reserved::Held)
            }
            None => return Err(AuthorizationError::NotOutstanding(id).into()),
        };
        if held {
            return Ok(Tried::Held);
        }
        Ok(Tried::Short { at, free: state.free(&pools) })
    }
}

fn held(slot: &Slot, id: AuthorizationId) -> Option<Arc<Held>> {
    slot.lock().holdings.reservation(id).map(|reservation| Arc::clone(&reservation.grant))
}
