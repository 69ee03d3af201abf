//! What guards one key beside its caps: how much it may do in a minute, and whether what it does is
//! far from its own usual.
//!
//! Both are kept by lineage, so that a key and its successor share them. A key with neither costs
//! nothing here; one with a spike guard costs one round trip when its lineage is first met.

mod rate;
mod spike;
mod store;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use quick_cache::sync::Cache;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use self::{
    rate::{BootClock, Limited, RateLimits},
    spike::{Norms, Spike},
};
use super::{
    decision::{Denial, Reason, Warning, WarningReason},
    limits,
};
use crate::{
    accounts::keys::record::KeyRecord,
    clock,
    ids::{AccountId, KeyId},
    money::Amount,
    tasks::slowly,
    telemetry::metrics::AuthorizationMetrics,
};

/// The norms of a lineage, as all its requests share them.
type Shared = Arc<Mutex<Norms>>;

/// The guards of all keys on this server.
#[derive(Debug)]
pub(super) struct Guard {
    pool: PgPool,
    rates: RateLimits<BootClock>,
    norms: Cache<KeyId, Shared>,
    /// What has been learned since it was last written down.
    learned: Mutex<HashMap<KeyId, (AccountId, Shared)>>,
    metrics: AuthorizationMetrics,
}

impl Guard {
    pub(super) fn new(pool: PgPool, metrics: AuthorizationMetrics) -> Self {
        Self {
            pool,
            rates: RateLimits::new(BootClock),
            norms: Cache::new(limits::MAX_GUARDED_KEYS),
            learned: Mutex::default(),
            metrics,
        }
    }

    /// Takes the request from the key's rates. `tokens` is what it may use, `servers` how many share
    /// the rates.
    pub(super) fn check_rates(
        &self,
        key: &KeyRecord,
        tokens: u64,
        servers: u32,
    ) -> Result<(), Box<Denial>> {
        self.rates
            .check(key.lineage, &key.rates, tokens, servers)
            .map_err(|limited| rate_limited(key, &limited))
    }

    /// Whether the request is far from the key's usual; a warning where that is only flagged.
    pub(super) async fn check_spike(
        &self,
        key: &KeyRecord,
        bound: Amount,
        servers: u32,
        now: DateTime<Utc>,
    ) -> Result<Option<Warning>, Box<Denial>> {
        let Some(guard) = &key.rates.spike_guard else { return Ok(None) };
        let Some(norms) = slowly(self.norms_of(key)).await else { return Ok(None) };
        let Some(spike) = lock(&norms).judge(guard, bound, now, servers) else { return Ok(None) };
        let action = if guard.refuses { "refused" } else { "flagged" };
        self.metrics.spikes.get_or_create(&[("action", action)]).inc();
        tracing::warn!(key = key.hint, account = %key.account_id, ?spike, action, "a spike");
        if guard.refuses {
            return Err(refused(key, &spike));
        }
        Ok(Some(Warning {
            reason: WarningReason::SpikeGuard,
            scope: scope(key),
            message: sentence(key, &spike),
            limit: Some(spike.limit.to_string()),
            used: Some(spike.used.to_string()),
        }))
    }

    /// A request was granted: from now on it belongs to the usual.
    pub(super) async fn learn(
        &self,
        key: &KeyRecord,
        bound: Amount,
        servers: u32,
        now: DateTime<Utc>,
    ) {
        if key.rates.spike_guard.is_none() {
            return;
        }
        let Some(norms) = slowly(self.norms_of(key)).await else { return };
        lock(&norms).learn(bound, now, servers);
        lock(&self.learned).insert(key.lineage, (key.account_id, norms));
    }

    /// From memory, or else from the database; `None` while that does not answer: a guard without a
    /// norm lets everything pass.
    async fn norms_of(&self, key: &KeyRecord) -> Option<Shared> {
        let (account, lineage) = (key.account_id, key.lineage);
        let load = async {
            let found = store::norms(&self.pool, account, lineage).await?;
            Ok::<_, sqlx::Error>(Arc::new(Mutex::new(found.unwrap_or_default())))
        };
        match self.norms.get_or_insert_async(&lineage, load).await {
            Ok(norms) => Some(norms),
            Err(error) => {
                tracing::warn!(%error, "a key's norm cannot be read; it is not guarded");
                None
            }
        }
    }

    /// Writes down what was learned, now and then and once more at the end.
    pub(super) async fn run(&self, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(limits::NORM_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let stops = tokio::select! {
                _ = ticks.tick() => false,
                () = stopping.cancelled() => true,
            };
            self.write().await;
            let idle_since = clock::now() - limits::IDLE_NORM;
            self.norms.retain(|_, norms| lock(norms).is_used_after(idle_since));
            if stops {
                return;
            }
        }
    }

    async fn write(&self) {
        let learned = std::mem::take(&mut *lock(&self.learned));
        let learned: Vec<_> = learned.into_iter().collect();
        for batch in learned.chunks(limits::NORM_BATCH) {
            let rows: Vec<_> = batch
                .iter()
                .map(|(lineage, (account, norms))| (*account, *lineage, *lock(norms)))
                .collect();
            if let Err(error) = store::write_norms(&self.pool, &rows).await {
                tracing::warn!(%error, "norms were not written down; they are with the next");
                let mut waiting = lock(&self.learned);
                for (lineage, kept) in batch {
                    waiting.entry(*lineage).or_insert_with(|| kept.clone());
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sentence(key: &KeyRecord, spike: &Spike) -> String {
    let what = if spike.rest.is_some() { "this minute's requests" } else { "this request" };
    format!(
        "{what} of key {} may cost {}, and its spike guard allows {}: a multiple of the usual {}, or \
         its floor",
        key.hint, spike.used, spike.limit, spike.norm
    )
}

fn scope(key: &KeyRecord) -> String {
    format!("key {}", key.hint)
}

fn refused(key: &KeyRecord, spike: &Spike) -> Box<Denial> {
    let remedy = if spike.rest.is_some() {
        "wait for the next minute, or raise the key's spike guard"
    } else {
        "send a smaller request, or raise the key's spike guard"
    };
    let message = format!("{}; {remedy}", sentence(key, spike));
    let mut denial = Denial::new(Reason::SpikeGuard, scope(key), message);
    denial.limit = Some(spike.limit.to_string());
    denial.used = Some(spike.used.to_string());
    denial.retry_after = spike.rest;
    denial
}

fn rate_limited(key: &KeyRecord, limited: &Limited) -> Box<Denial> {
    let Limited { limit, unit, asked, retry_after } = limited;
    let hint = &key.hint;
    let message = match retry_after {
        Some(wait) => format!(
            "key {hint} may make {limit} {unit} a minute; try again in {:.1} s, or raise its rate",
            wait.as_secs_f64()
        ),
        None => format!(
            "key {hint} may use {limit} {unit} a minute and this request alone may use more; ask \
             for fewer output tokens, or raise its rate"
        ),
    };
    let mut denial = Denial::new(Reason::RateLimited, scope(key), message);
    denial.limit = Some(limit.to_string());
    denial.used = asked.map(|tokens| tokens.to_string());
    denial.retry_after = retry_after.map(|wait| wait.max(Duration::from_millis(1)));
    denial
}
