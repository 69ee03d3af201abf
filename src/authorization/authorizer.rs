//! The authorizer: a request's way from the key to the grant, in a straight line.
//!
//! key → account → model → price → bound ([`super::checks`]) → funds ([`super::leases`]) → token
//! ([`super::grant`]). All of it from memory but for the first touch of a key, an account, a
//! discounted price or a lease.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{
    Held,
    checks::{self, Bound},
    current::with_what_holds,
    decision::{Decision, Denial, Grant, Reason, Request, Warning},
    error::AuthorizationError,
    grant::{GrantClaims, GrantSigner, after, milliseconds},
    guard::Guard,
    heartbeat::Heartbeat,
    holdings::{Reservation, Reserved},
    leases::{Leases, RenewalQueue, Upkeep, Waited},
    lifetime::Lifetime,
    limits,
    pool::PoolKey,
    presence::Heard,
    slot::{Shortage, Slot},
    store::{self, PoolView},
    validate,
};
use crate::{
    accounts::{
        account::AccountRecord,
        budgets::{self, period::BudgetPeriod},
        directory::Directory,
        key,
        keys::record::KeyRecord,
    },
    catalog::{
        book::{PriceBook, Resolution},
        model::Model,
        rating,
        version::PricedModel,
    },
    clock,
    ids::{AccountId, AuthorizationId, InstanceId, moment_of},
    money::Amount,
    tasks::Tasks,
    telemetry::metrics::AuthorizationMetrics,
};

/// Says whether requests may be served, and holds the funds for those that may. One per server.
#[derive(Debug)]
pub struct Authorizer {
    pub(super) instance: InstanceId,
    pub(super) database: PgPool,
    pub(super) directory: Arc<Directory>,
    pub(super) book: Arc<PriceBook>,
    pub(super) signer: GrantSigner,
    pub(super) leases: Leases,
    pub(super) heartbeat: Heartbeat,
    guard: Guard,
    pub(super) heard: Heard,
    pub(super) metrics: AuthorizationMetrics,
    pub(super) lifetime: Lifetime,
}

/// Who asks and for what, once the checks in memory have passed.
struct Asked<'a> {
    request: &'a Request,
    key: Arc<KeyRecord>,
    account: Arc<AccountRecord>,
    model: Arc<Model>,
    priced: Arc<PricedModel>,
    /// Where its cost is held, in the order in which the checks go: budgets, then funds.
    pools: Vec<PoolKey>,
    /// It is far from the key's usual, and only flagged.
    spike: Option<Warning>,
}

/// A check's refusal, or a call that failed.
pub(super) enum Stop {
    Denied(Box<Denial>),
    Failed(AuthorizationError),
    /// What was checked has changed since: it must be checked again.
    Changed,
}

/// Either a grant or what stopped it.
pub(super) type Granted = Result<Grant, Stop>;

impl From<Box<Denial>> for Stop {
    fn from(denial: Box<Denial>) -> Self {
        Self::Denied(denial)
    }
}

impl<E: Into<AuthorizationError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) fn decided(result: Granted) -> Result<Decision, AuthorizationError> {
    match result {
        Ok(grant) => Ok(Decision::Granted(grant)),
        Err(Stop::Denied(denial)) => Ok(Decision::Denied(denial)),
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::Changed) => Err(AuthorizationError::Unavailable),
    }
}

impl Authorizer {
    /// Registers this server with the database, takes its first beat and starts what keeps leases
    /// and heartbeat going.
    pub async fn start(
        database: PgPool,
        directory: Arc<Directory>,
        book: Arc<PriceBook>,
        metrics: AuthorizationMetrics,
        lifetime: Lifetime,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, AuthorizationError> {
        let instance = InstanceId::generate();
        let signer = signer(&database).await?;
        let mut connection = database.acquire().await?;
        let heard =
            store::register(&mut connection, instance, &description(), lifetime.promise()).await?;
        let (leases, queue) = Leases::new(instance, metrics.clone());
        let authorizer = Arc::new(Self {
            instance,
            database: database.clone(),
            directory,
            book,
            signer,
            leases,
            heartbeat: Heartbeat::default(),
            guard: Guard::new(database.clone(), metrics.clone()),
            heard: Heard::from(heard),
            metrics,
            lifetime,
        });
        authorizer.beat(&mut connection).await?;
        authorizer.spawn(&database, queue, tasks);
        Ok(authorizer)
    }

    fn spawn(self: &Arc<Self>, database: &PgPool, queue: RenewalQueue, tasks: &Tasks) {
        let (stopping, here, pool) = (tasks.stopping(), Arc::clone(self), database.clone());
        tasks.spawn_essential("lease renewal", async move {
            here.leases.run(&pool, queue, stopping).await;
        });
        let (stopping, here) = (tasks.stopping(), Arc::clone(self));
        tasks.spawn_essential("norms of keys", async move { here.guard.run(stopping).await });
        let (stopping, here, pool) = (tasks.stopping(), Arc::clone(self), database.clone());
        tasks.spawn_essential("heartbeat", async move {
            here.beat_until(&pool, stopping).await;
        });
        let (stopping, here) = (tasks.stopping(), Arc::clone(self));
        tasks.spawn("exposure", async move { here.measure_until(stopping).await });
        let (stopping, here, pool) = (tasks.stopping(), Arc::clone(self), database.clone());
        tasks.spawn_essential("lease upkeep", async move {
            here.look_over_until(&pool, stopping).await;
        });
    }

    fn upkeep(&self) -> Upkeep<'_> {
        Upkeep {
            instance: self.instance,
            leases: &self.leases,
            heartbeat: &self.heartbeat,
            directory: &self.directory,
        }
    }

    async fn look_over_until(&self, database: &PgPool, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(limits::LEASE_TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut round: u32 = 0;
        let mut connection = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stopping.cancelled() => return,
            }
            round = round.wrapping_add(1);
            if connection.is_none() {
                connection = store::connect(database).await;
            }
            let Some(open) = &mut connection else { continue };
            let mut looked_over = self.upkeep().look_over(open).await;
            if looked_over.is_ok() && round % limits::REMOVAL_ROUNDS == 1 {
                looked_over = store::remove_dead(open).await;
            }
            if let Err(error) = looked_over {
                tracing::warn!(%error, "leases were not looked over");
                connection = None;
            }
        }
    }

    /// Decides about one request.
    ///
    /// # Errors
    /// [`AuthorizationError::Invalid`] for a request that cannot be understood, `RequestIdReused`,
    /// and `Unavailable` when the database has not been heard of for too long.
    pub async fn authorize(&self, request: &Request) -> Result<Decision, AuthorizationError> {
        validate::request(request)?;
        self.still_allowed()?;
        let decision = decided(with_what_holds(|| self.decide(request)).await)?;
        let name = decision.name();
        self.metrics.decisions.get_or_create(&[("decision", name)]).inc();
        Ok(decision)
    }

    async fn decide(&self, request: &Request) -> Granted {
        let now = clock::now();
        let (key, account) = self.customer(&request.api_key, now).await?;
        let slot = self.leases.slot(account.account_id);
        if let Some(held) = self.answered(&slot, &key, request) {
            return same(&held, request);
        }
        let model = checks::model(self.book.model(&request.model), &request.model)?;
        let priced = self.priced(&account, &model, now).await?;
        checks::access(&key, &model)?;
        let bound = checks::bound(request, &key, &model, &priced.price)?;
        let servers = self.heartbeat.live_servers();
        let tokens = request.input_tokens.saturating_add(bound.max_output_tokens);
        let spike = self.guard.check(&key, bound.amount, tokens, servers, now).await?;
        let pools = self.pools(&account, &key);
        let asked = Asked { request, key, account, model, priced, pools, spike };
        let mut grant = self.reserve(&slot, &asked, bound).await?;
        self.guard.learn(&asked.key, grant.claims.reserved, servers, now).await;
        grant.warnings.extend(passed_budgets(&slot, &asked));
        Ok(grant)
    }

    /// What the same request was told before, if it may still be served.
    fn answered(&self, slot: &Slot, key: &KeyRecord, request: &Request) -> Option<Arc<Held>> {
        if request.request_id.is_empty() {
            return None;
        }
        let request = (key.key_id, request.request_id.clone());
        slot.lock().holdings.answered(&request, self.heartbeat.database_now())
    }

    /// The budgets that concern the key, in the periods of this moment by the database's clock, and
    /// the account's funds.
    fn pools(&self, account: &AccountRecord, key: &KeyRecord) -> Vec<PoolKey> {
        let now = self.heartbeat.database_now();
        budgets::concerning(&account.budgets, key)
            .map(|budget| PoolKey::Budget(budget.at(now)))
            .chain([PoolKey::Funds])
            .collect()
    }

    /// Key well formed · known · not revoked or expired · account active.
    async fn customer(
        &self,
        api_key: &str,
        now: DateTime<Utc>,
    ) -> Result<(Arc<KeyRecord>, Arc<AccountRecord>), Stop> {
        let parsed = key::parse(api_key).map_err(|error| checks::malformed(&error))?;
        let key = match self.directory.cached_key(&parsed.hash) {
            Some(key) => key,
            None => self.directory.key_by_hash(parsed.hash).await?.ok_or_else(checks::unknown)?,
        };
        checks::key(&key, now)?;
        let account = match self.directory.cached_account(key.account_id) {
            Some(account) => account,
            None => self.directory.account(key.account_id).await?.ok_or_else(checks::unknown)?,
        };
        checks::account(&account)?;
        Ok((key, account))
    }

    async fn priced(
        &self,
        account: &AccountRecord,
        model: &Model,
        now: DateTime<Utc>,
    ) -> Result<Arc<PricedModel>, Stop> {
        let terms = account.pricing_terms();
        let priced = match self.book.resolve(&terms, model, now) {
            Resolution::Priced(priced) => Some(priced),
            Resolution::Unpriced => None,
            Resolution::NeedsDerivation => self.book.resolve_or_derive(&terms, model, now).await?,
        };
        Ok(priced.ok_or_else(|| checks::unpriced(model, account))?)
    }

    /// Holds the funds, waiting for the database where the lease does not cover them.
    async fn reserve(&self, slot: &Arc<Slot>, asked: &Asked<'_>, mut bound: Bound) -> Granted {
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
            // While the others may still give back, a request waits for all that it asked for.
            let is_recalling = matches!(shortage, Shortage::Recalling);
            let is_final = matches!(shortage, Shortage::Final(..));
            if reducible
                && (is_final || (renewed && !is_recalling))
                && let Some(smaller) = fitting(asked, bound, free)
            {
                bound = smaller;
                continue;
            }
            if let Shortage::Final(pool, view) = shortage {
                let lacking = Lacking { pool, view: &view, needed: bound.amount, free };
                return Err(Stop::Denied(self.lacking(&asked.account, lacking)));
            }
            // Others may take what was granted for this request; that is no shortage.
            if at >= deadline
                || !self.wait(slot, &asked.pools, bound.amount, floor, is_recalling).await
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
        is_recalling: bool,
    ) -> bool {
        if is_recalling {
            tokio::time::sleep(limits::RECALL_POLL).await;
        }
        self.leases.wait(slot, pools, need, floor).await == Waited::Renewed
    }

    /// The denial for a pool that does not cover a request.
    pub(super) fn lacking(&self, account: &AccountRecord, lacking: Lacking<'_>) -> Box<Denial> {
        let Lacking { pool, view, needed, free } = lacking;
        let currency = account.currency;
        match (pool, view) {
            (PoolKey::Budget(BudgetPeriod { budget, start }), PoolView::Budget(view)) => {
                let budget = account.budgets.iter().find(|one| one.budget_id == budget);
                let scope = budget.map_or_else(
                    || format!("account {}", account.handle),
                    |budget| budget.target.scope(&account.handle),
                );
                let (now, needed) = (self.heartbeat.database_now(), (needed, currency));
                let budget = budget.map(|budget| (budget, start));
                Denial::of_budget(scope, budget, needed, free, view, now)
            }
            (_, PoolView::Budget(_)) => {
                let funds = store::FundsView::default();
                Denial::of_funds(&account.handle, currency, needed, free, &funds)
            }
            (_, PoolView::Funds(funds)) => {
                Denial::of_funds(&account.handle, currency, needed, free, funds)
            }
        }
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
        self.still_current(&asked.key, &asked.account)?;
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

    /// Asked once more after the expiry was fixed and before anything is held: the request may have
    /// waited beyond the heartbeat's deadline, or the whole server may have slept. Whatever happens
    /// after this, the expiry is within one lifetime of that deadline, for which the others keep a
    /// silent server's leases.
    pub(super) fn still_allowed(&self) -> Result<(), AuthorizationError> {
        if self.heartbeat.allows() { Ok(()) } else { Err(AuthorizationError::Unavailable) }
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
            claims,
        };
        Ok(Held {
            grant,
            priced: Arc::clone(&asked.priced),
            asked_output: request.max_output_tokens,
            adopted: false,
        })
    }

    /// The end of a grant made now, by the database's clock.
    pub(super) fn expiry(&self) -> DateTime<Utc> {
        let expiry = after(self.heartbeat.database_now(), self.lifetime.authorization);
        // What the token carries is what memory holds: milliseconds.
        DateTime::from_timestamp_millis(expiry.timestamp_millis()).unwrap_or(expiry)
    }

    /// Usage was charged and is committed: what its reservation did not need is free again.
    pub fn settle(&self, account: AccountId, authorization: AuthorizationId, charge: Amount) {
        self.leases.settle(account, authorization, charge);
    }

    /// An account's funds changed: a shortage that was remembered counts no more.
    pub fn funds_changed(&self, account: AccountId) {
        self.leases.funds_changed(account);
    }

    /// An account's limits may have changed, here or elsewhere: what is free was leased under the
    /// old ones.
    pub fn limits_changed(&self, account: AccountId) {
        self.leases.limits_changed(account);
    }

    /// Another server asks for what this one holds of an account's pools and does not use.
    pub fn recalled(&self, account: AccountId, by: InstanceId) {
        if by != self.instance {
            self.leases.recalled(account);
        }
    }

    /// Gives back what this server holds of an account's funds beyond its reservations, and waits
    /// until the database knows: before a refund or a closing, which need it all.
    ///
    /// # Errors
    /// `Unavailable` when the database does not answer.
    pub async fn give_back(&self, account: AccountId) -> Result<(), AuthorizationError> {
        match self.leases.give_back(account).await {
            Waited::Renewed => Ok(()),
            Waited::Unavailable => Err(AuthorizationError::Unavailable),
        }
    }

    /// The tokens' signer, for whoever settles.
    #[must_use]
    pub const fn signer(&self) -> &GrantSigner {
        &self.signer
    }

    /// This server's id.
    #[must_use]
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Whether this server may authorize now, and by which time the database judges.
    #[must_use]
    pub const fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }
}

/// How an attempt to hold funds ended.
pub(super) enum Tried {
    Held,
    Again(Arc<Held>),
    Short { at: Duration, free: Amount },
}

/// A pool that does not cover a request.
pub(super) struct Lacking<'a> {
    pub(super) pool: PoolKey,
    pub(super) view: &'a PoolView,
    pub(super) needed: Amount,
    pub(super) free: Amount,
}

/// A warning for each soft budget whose limit is passed now.
fn passed_budgets(slot: &Slot, asked: &Asked<'_>) -> Vec<Warning> {
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

/// The grant of the same request again; another content under its id is refused.
fn same(held: &Held, request: &Request) -> Granted {
    let claims = &held.grant.claims;
    if claims.model != request.model
        || claims.input_tokens != request.input_tokens
        || held.asked_output != request.max_output_tokens
    {
        let id = request.request_id.clone();
        return Err(AuthorizationError::RequestIdReused(id).into());
    }
    Ok(held.grant.clone())
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
        "account {handle} has {} requests under way on this server; record the usage of those that          have ended",
        limits::MAX_OUTSTANDING
    );
    let mut denial = Denial::new(Reason::RateLimited, format!("account {handle}"), message);
    denial.limit = Some(limits::MAX_OUTSTANDING.to_string());
    denial.retry_after = Some(limits::RETRY_WHEN_FULL);
    denial
}

async fn signer(database: &PgPool) -> Result<GrantSigner, AuthorizationError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| AuthorizationError::Signing(error.to_string()))?;
    let name = InstanceId::generate().to_string();
    let keys = store::signing_keys(database, (&name, &secret)).await?;
    GrantSigner::new(&keys).ok_or_else(|| AuthorizationError::Signing("no key".to_owned()))
}

fn description() -> String {
    format!("tollgate {} pid {}", env!("CARGO_PKG_VERSION"), std::process::id())
}
