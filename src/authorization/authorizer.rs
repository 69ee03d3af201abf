//! The authorizer: a request's way from the key to the grant, in a straight line.
//!
//! key → account → model → price → bound ([`super::checks`]) → funds ([`super::leases`]) → token
//! ([`super::grant`]). All of it from memory but for the first touch of a key, an account, a
//! discounted price or a lease.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{
    Held,
    admission::Admission,
    checks,
    current::with_what_holds,
    decision::{Decision, Denial, Grant, Request, Warning},
    error::AuthorizationError,
    grant::{GrantClaims, GrantError, GrantSigner, after, place_in},
    guard::Guard,
    heartbeat::Heartbeat,
    leases::{Leases, RenewalQueue, Upkeep, Waited},
    lifetime::Lifetime,
    limits,
    pool::PoolKey,
    presence::Heard,
    reserving::passed_budgets,
    slot::Slot,
    store, validate,
};
use crate::{
    accounts::{
        account::AccountRecord, budgets, directory::Directory, key, keys::record::KeyRecord,
    },
    catalog::{
        book::{PriceBook, Resolution},
        model::Model,
        version::PricedModel,
    },
    clock,
    ids::{AccountId, AuthorizationId, InstanceId},
    money::Amount,
    tasks::{Tasks, slowly},
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
    admission: Arc<Admission>,
    guard: Guard,
    pub(super) heard: Heard,
    pub(super) metrics: AuthorizationMetrics,
    pub(super) lifetime: Lifetime,
}

/// Who asks and for what, once the checks in memory have passed.
pub(super) struct Asked<'a> {
    pub(super) request: &'a Request,
    pub(super) key: Arc<KeyRecord>,
    pub(super) account: Arc<AccountRecord>,
    pub(super) model: Arc<Model>,
    pub(super) priced: Arc<PricedModel>,
    /// The directory's, from before key and account were looked up.
    pub(super) version: u64,
    /// Where its cost is held, in the order in which the checks go: budgets, then funds.
    pub(super) pools: Vec<PoolKey>,
    /// It is far from the key's usual, and only flagged.
    pub(super) spike: Option<Warning>,
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
        admission: Arc<Admission>,
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
            admission,
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
        tasks.spawn_essential("admission", async move {
            here.admission.run(&here.metrics, stopping).await;
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
            admission: &self.admission,
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
                connection = store::connect(database, limits::LEASE_LOCK_TIMEOUT).await;
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
        let counted = AtomicBool::new(false);
        let decision = decided(with_what_holds(|| self.decide(request, &counted)).await)?;
        let name = decision.name();
        self.metrics.decisions.get_or_create(&[("decision", name)]).inc();
        Ok(decision)
    }

    /// `counted`: whether the request has been taken from the key's rates, by a decision that what it
    /// was made of did not outlive.
    async fn decide(&self, request: &Request, counted: &AtomicBool) -> Granted {
        let now = clock::now();
        let version = self.directory.version();
        let (key, account) = self.customer(&request.api_key, now).await?;
        let slot = self.leases.slot(&account);
        if let Some(held) = self.answered(&slot, &key, request) {
            return same(&held, request);
        }
        let is_new = !counted.load(Ordering::Relaxed);
        if is_new {
            self.admission.take_on(&slot.share)?;
        }
        let model = checks::model(self.book.model(&request.model), &request.model)?;
        let priced = self.priced(&account, &model, now).await?;
        checks::access(&key, &model)?;
        let bound = checks::bound(request, &key, &model, &priced.price)?;
        let servers = self.heartbeat.live_servers();
        let tokens = request.input_tokens.saturating_add(bound.max_output_tokens);
        let spike = self.guard.check_spike(&key, bound.amount, servers, now).await?;
        if is_new {
            self.guard.check_rates(&key, tokens, servers)?;
            counted.store(true, Ordering::Relaxed);
        }
        let pools = self.pools(&account, &key);
        let asked = Asked { request, key, account, model, priced, version, pools, spike };
        let mut grant = self.reserve(&slot, &asked, bound).await?;
        self.admission.granted();
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
            None => slowly(self.directory.key_by_hash(parsed.hash))
                .await?
                .ok_or_else(checks::unknown)?,
        };
        checks::key(&key, now)?;
        let account = match self.directory.cached_account(key.account_id) {
            Some(account) => account,
            None => {
                slowly(self.directory.account(key.account_id)).await?.ok_or_else(checks::unknown)?
            }
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
            Resolution::NeedsDerivation => {
                slowly(self.book.resolve_or_derive(&terms, model, now)).await?
            }
        };
        Ok(priced.ok_or_else(|| checks::unpriced(model, account))?)
    }

    /// Asked once more after the expiry was fixed and before anything is held: the request may have
    /// waited beyond the heartbeat's deadline, or the whole server may have slept. Whatever happens
    /// after this, the expiry is within one lifetime of that deadline, for which the others keep a
    /// silent server's leases.
    pub(super) fn still_allowed(&self) -> Result<(), AuthorizationError> {
        if self.heartbeat.allows() { Ok(()) } else { Err(AuthorizationError::Unavailable) }
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

    /// What a grant's token says. This server remembers its own as long as it holds something for
    /// them, so that most are not read a second time.
    ///
    /// # Errors
    /// As [`GrantSigner::verify`].
    pub fn claims(&self, token: &str) -> Result<GrantClaims, GrantError> {
        self.remembered(token).map_or_else(|| self.signer.verify(token), Ok)
    }

    fn remembered(&self, token: &str) -> Option<GrantClaims> {
        let (account, authorization) = place_in(token)?;
        let slot = self.leases.existing(account)?;
        let state = slot.lock();
        let grant = &state.holdings.reservation(authorization)?.grant.grant;
        // How long it takes must not tell how much of a forged signature was right.
        verify_slices_are_equal(grant.token.as_bytes(), token.as_bytes()).ok()?;
        Some(GrantClaims::clone(&grant.claims))
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

/// The grant of the same request again; another content under its id is refused.
pub(super) fn same(held: &Held, request: &Request) -> Granted {
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
