//! Holding what a request may cost, in all its pools or in none: waits for the database where the
//! leases do not cover it, for the other servers where they hold what they do not use, and makes do
//! with less output where the caller allows that.

use std::{sync::Arc, time::Duration};

use rust_decimal::Decimal;

use super::{
    Held,
    authorizer::{Asked, Authorizer, Granted, Stop, same},
    checks::{self, Bound},
    decision::{Denial, Grant, Reason, Warning},
    error::AuthorizationError,
    grant::{GrantClaims, milliseconds},
    holdings::{Reservation, Reserved},
    lease::PoolView,
    leases::Waited,
    limits,
    pool::PoolKey,
    slot::Slot,
    slot_state::Shortage,
};
use crate::{
    accounts::{account::AccountRecord, budgets::period::BudgetPeriod},
    catalog::rating,
    clock,
    ids::{AuthorizationId, moment_of},
    money::Amount,
    tasks::slowly,
};

impl Authorizer {
    /// Holds the funds, waiting for the database where the lease does not cover them.
    pub(super) async fn reserve(
        &self,
        slot: &Arc<Slot>,
        asked: &Asked<'_>,
        mut bound: Bound,
    ) -> Granted {
        let deadline = clock::since_boot() + limits::LEASE_WAIT;
        let mut renewed = false;
        loop {
            let held = Arc::new(self.hold(asked, bound)?);
            let (at, free) = match self.try_reserve(slot, asked, &held)? {
                Tried::Held => return Ok(held.grant.clone()),
                Tried::Again(earlier) => return same(&earlier, asked.request),
                Tried::Short { at, free } => (at, free),
            };
            let reducible = asked.request.allow_reduced_output;
            let floor = if reducible { bound.least } else { bound.amount };
            let shortage = slot.lock().shortage(&asked.pools, floor, at);
            if reducible
                && shortage.allows_less(renewed)
                && let Some(smaller) = fitting(asked, bound, free)
            {
                bound = smaller;
                continue;
            }
            if let Shortage::Final(view) = &shortage {
                let denial = self.lacking(&asked.account, view, bound.amount, free);
                return Err(Stop::Denied(denial));
            }
            // Others may take what was granted for this request; that is no shortage.
            if at >= deadline
                || !slowly(self.wait(slot, &asked.pools, bound.amount, floor, &shortage)).await
            {
                return Err(AuthorizationError::Unavailable.into());
            }
            renewed = true;
        }
    }

    /// Waits for a round of renewals; whether the database answered it.
    pub(super) async fn wait(
        &self,
        slot: &Arc<Slot>,
        pools: &[PoolKey],
        need: Amount,
        floor: Amount,
        shortage: &Shortage,
    ) -> bool {
        if matches!(shortage, Shortage::Recalling) {
            tokio::time::sleep(limits::RECALL_POLL).await;
        }
        self.leases.wait(slot, pools, need, floor).await == Waited::Renewed
    }

    /// The denial for a pool that does not cover a request.
    pub(super) fn lacking(
        &self,
        account: &AccountRecord,
        view: &PoolView,
        needed: Amount,
        free: Amount,
    ) -> Box<Denial> {
        let (handle, currency) = (&account.handle, account.currency);
        let view = match view {
            PoolView::Funds(funds) => {
                return Denial::of_funds(handle, currency, needed, free, funds);
            }
            PoolView::Budget(view) => view,
        };
        let BudgetPeriod { budget, start } = view.period;
        let budget = account.budgets.iter().find(|one| one.budget_id == budget);
        let scope = budget
            .map_or_else(|| format!("account {handle}"), |budget| budget.target.scope(handle));
        let budget = budget.map(|budget| (budget, start));
        let now = self.heartbeat.database_now();
        Denial::of_budget(scope, budget, (needed, currency), free, view, now)
    }

    fn try_reserve(
        &self,
        slot: &Arc<Slot>,
        asked: &Asked<'_>,
        held: &Arc<Held>,
    ) -> Result<Tried, Stop> {
        let claims = &held.grant.claims;
        let request_id = &asked.request.request_id;
        let reservation = Reservation {
            amount: claims.reserved,
            pools: asked.pools.clone(),
            expires_at: claims.expires_at,
            covered_until: claims.covered_until(),
            request: (!request_id.is_empty()).then(|| (claims.key_id, request_id.clone())),
            grant: Arc::clone(held),
        };
        let at = clock::since_boot();
        let mut state = slot.lock();
        self.still_allowed()?;
        if state.is_retired() {
            return Err(Stop::Changed);
        }
        if self.directory.version() != asked.version {
            self.still_current(&asked.key, &asked.account)?;
        }
        state.touch(&asked.pools, at);
        let now = self.heartbeat.database_now();
        match state.holdings.reserve(claims.authorization_id, reservation, now) {
            Reserved::Held => {
                if state.spent(&asked.pools, claims.reserved, at) {
                    self.leases.renew(slot, &mut state);
                }
                Ok(Tried::Held)
            }
            Reserved::Again(earlier) => Ok(Tried::Again(earlier)),
            Reserved::Short => Ok(Tried::Short { at, free: state.free(&asked.pools) }),
            Reserved::Full => Err(Stop::Denied(too_many(&asked.account.handle))),
        }
    }

    fn hold(&self, asked: &Asked<'_>, bound: Bound) -> Result<Held, Stop> {
        let request = asked.request;
        let authorization_id = AuthorizationId::generate();
        let authorized_at = moment_of(authorization_id.0).unwrap_or_else(clock::now);
        let claims = GrantClaims {
            authorization_id,
            issuer: self.instance,
            account_id: asked.account.account_id,
            key_id: asked.key.key_id,
            tier: asked.key.tier,
            model_id: asked.model.model_id,
            model: asked.model.name.clone(),
            currency: asked.account.currency,
            price_version: asked.priced.version,
            reserved: bound.amount,
            budgets: budgets_of(&asked.pools),
            input_tokens: request.input_tokens,
            max_output_tokens: bound.max_output_tokens,
            authorized_at,
            expires_at: self.expiry(),
            grace_ms: milliseconds(self.lifetime.grace),
            request_id: request.request_id.clone(),
            end_user: request.end_user.clone(),
            labels: request.labels.clone(),
        };
        let grant = Grant {
            token: self.signer.sign(&claims)?,
            route: asked.model.route,
            reduced: bound.reduced,
            warnings: asked.spike.iter().cloned().collect(),
            claims: Arc::new(claims),
        };
        Ok(Held {
            grant,
            priced: Arc::clone(&asked.priced),
            asked_output: request.max_output_tokens,
            adopted: false,
        })
    }
}

/// How an attempt to hold funds ended.
pub(super) enum Tried {
    Held,
    Again(Arc<Held>),
    Short { at: Duration, free: Amount },
}

/// A warning for each soft budget whose limit is passed now.
pub(super) fn passed_budgets(slot: &Slot, asked: &Asked<'_>) -> Vec<Warning> {
    // Nearly all accounts have none; those need not take the lock again.
    if asked.account.budgets.iter().all(|budget| budget.hard) {
        return Vec::new();
    }
    let passed = slot.lock().passed(&asked.pools);
    let account = &asked.account;
    let warning = |(period, limit, used): (BudgetPeriod, Decimal, Decimal)| {
        let budget = account.budgets.iter().find(|one| one.budget_id == period.budget)?;
        let scope = budget.target.scope(&account.handle);
        Some(Warning::of_budget(scope, budget, account.currency, limit, used))
    };
    passed.into_iter().filter_map(warning).collect()
}

fn budgets_of(pools: &[PoolKey]) -> Vec<BudgetPeriod> {
    let budget = |pool: &PoolKey| match pool {
        PoolKey::Budget(period) => Some(*period),
        PoolKey::Funds => None,
    };
    pools.iter().filter_map(budget).collect()
}

/// The same request with as much output as these funds cover; `None` when that is none at all.
fn fitting(asked: &Asked<'_>, bound: Bound, free: Amount) -> Option<Bound> {
    let (price, input) = (&asked.priced.price, asked.request.input_tokens);
    let margin = checks::input_margin();
    let fits = rating::affordable_output(price, input, margin, free).ok().flatten()?;
    if fits == 0 || fits >= bound.max_output_tokens {
        return None;
    }
    let amount = rating::ceiling(price, input, fits, margin).ok()?;
    Some(Bound { max_output_tokens: fits, amount, least: bound.least, reduced: true })
}

fn too_many(handle: &str) -> Box<Denial> {
    let message = format!(
        "account {handle} has {} requests under way on this server; record the usage of those that \
         have ended",
        limits::MAX_OUTSTANDING
    );
    let mut denial = Denial::new(Reason::RateLimited, format!("account {handle}"), message);
    denial.limit = Some(limits::MAX_OUTSTANDING.to_string());
    denial.retry_after = Some(limits::RETRY_WHEN_FULL);
    denial
}
