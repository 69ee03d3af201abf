//! Requests and tokens in a minute, by lineage. Each server replenishes its fair share of a limit,
//! so that all together keep to it however the balancer spreads requests; a burst is a server's
//! share of one minute.
//!
//! A request of more tokens than a server's burst passes when the bucket is full, and later ones wait
//! until what it took too much is replenished. A request that is denied for its tokens takes no
//! request.

use std::{
    convert::Infallible,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference as _},
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use quick_cache::sync::Cache;

use crate::{accounts::keys::record::Rates, authorization::limits, clock, ids::KeyId};

const MINUTE: Duration = Duration::from_mins(1);

/// Time since boot, as the limiter wants it.
#[derive(Debug, Clone, Copy)]
pub(super) struct BootClock;

impl Clock for BootClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        clock::since_boot().into()
    }
}

/// What a request went beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limited {
    /// The limit of all servers.
    pub(super) limit: NonZeroU32,
    /// `requests` or `tokens`.
    pub(super) unit: &'static str,
    /// What the request asked for, where that alone is beyond the limit.
    pub(super) asked: Option<u64>,
    /// When the same request passes; `None` for never.
    pub(super) retry_after: Option<Duration>,
}

/// The rates of all lineages on this server.
#[derive(Debug)]
pub(super) struct RateLimits<C: Clock + Send + Sync + 'static> {
    clock: C,
    buckets: Cache<KeyId, Arc<Mutex<Buckets<C>>>>,
}

#[derive(Debug)]
struct Buckets<C: Clock> {
    requests: Option<Bucket<C>>,
    tokens: Option<Bucket<C>>,
}

#[derive(Debug)]
struct Bucket<C: Clock> {
    limit: NonZeroU32,
    servers: u32,
    burst: NonZeroU32,
    period: Duration,
    owed: Option<Owed>,
    /// Taken by a request that was then denied for its tokens: the next one takes it instead.
    spare: bool,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>,
}

/// What a large request took beyond the burst.
#[derive(Debug, Clone, Copy)]
struct Owed {
    amount: u32,
    /// When it is replenished.
    until: Nanos,
}

impl<C> RateLimits<C>
where
    C: Clock<Instant = Nanos> + Clone + Send + Sync + 'static,
{
    pub(super) fn new(clock: C) -> Self {
        Self { clock, buckets: Cache::new(limits::MAX_GUARDED_KEYS) }
    }

    /// Takes one request of so many tokens.
    pub(super) fn check(
        &self,
        lineage: KeyId,
        rates: &Rates,
        tokens: u64,
        servers: u32,
    ) -> Result<(), Limited> {
        if rates.requests_per_minute.is_none() && rates.tokens_per_minute.is_none() {
            return Ok(());
        }
        let Ok(buckets) = self.buckets.get_or_insert_with(&lineage, || {
            Ok::<_, Infallible>(Arc::new(Mutex::new(Buckets { requests: None, tokens: None })))
        });
        let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limit) = rates.requests_per_minute {
            let bucket = self.current(&mut buckets.requests, limit, servers);
            bucket.take(NonZeroU32::MIN, &self.clock).map_err(|wait| Limited {
                limit,
                unit: "requests",
                asked: None,
                retry_after: Some(wait),
            })?;
        }
        let taken = self.check_tokens(&mut buckets.tokens, rates, tokens, servers);
        if taken.is_err()
            && let Some(requests) = &mut buckets.requests
        {
            requests.spare = true;
        }
        taken
    }

    fn check_tokens(
        &self,
        slot: &mut Option<Bucket<C>>,
        rates: &Rates,
        tokens: u64,
        servers: u32,
    ) -> Result<(), Limited> {
        let Some(limit) = rates.tokens_per_minute else { return Ok(()) };
        let beyond = Limited { limit, unit: "tokens", asked: Some(tokens), retry_after: None };
        let fits = u32::try_from(tokens).map_err(|_| beyond)?;
        let Some(fits) = NonZeroU32::new(fits) else { return Ok(()) };
        if fits > limit {
            return Err(beyond);
        }
        let taken = self.current(slot, limit, servers).take(fits, &self.clock);
        taken.map_err(|wait| Limited { asked: None, retry_after: Some(wait), ..beyond })
    }

    /// The bucket for this limit and number of servers. One that changes keeps how full it was.
    fn current<'a>(
        &self,
        slot: &'a mut Option<Bucket<C>>,
        limit: NonZeroU32,
        servers: u32,
    ) -> &'a mut Bucket<C> {
        let servers = servers.max(1);
        let fresh = || Bucket::new(limit, servers, &self.clock);
        let current = match slot.take() {
            Some(old) if old.limit == limit && old.servers == servers => old,
            Some(old) => fresh().filled_like(&old),
            None => fresh(),
        };
        slot.insert(current)
    }
}

impl<C> Bucket<C>
where
    C: Clock<Instant = Nanos> + Clone,
{
    fn new(limit: NonZeroU32, servers: u32, clock: &C) -> Self {
        let burst = NonZeroU32::new(limit.get() / servers).unwrap_or(NonZeroU32::MIN);
        // Rounded up: rather a little less than the limit than more.
        let period = (MINUTE.as_nanos() * u128::from(servers)).div_ceil(limit.get().into());
        let period = Duration::from_nanos(u64::try_from(period).unwrap_or(u64::MAX));
        let quota = Quota::with_period(period)
            .unwrap_or_else(|| Quota::per_minute(burst))
            .allow_burst(burst);
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone())
            .with_middleware::<StateInformationMiddleware>();
        Self { limit, servers, burst, period, owed: None, spare: false, limiter }
    }

    fn filled_like(mut self, old: &Self) -> Self {
        let left = match old.limiter.check() {
            Ok(state) => u64::from(state.remaining_burst_capacity()) + 1,
            Err(_) => 0,
        };
        let burst = u64::from(self.burst.get());
        let keeps = (burst * left).checked_div(old.burst.get().into()).unwrap_or(0);
        let gone = u32::try_from(burst.saturating_sub(keeps)).unwrap_or(u32::MAX);
        if let Some(gone) = NonZeroU32::new(gone) {
            // It is new and so has as much.
            drop(self.limiter.check_n(gone));
        }
        self.owed = old.owed;
        self
    }

    /// Takes so many, or says how long to wait.
    fn take(&mut self, wanted: NonZeroU32, clock: &C) -> Result<(), Duration> {
        if std::mem::take(&mut self.spare) {
            return Ok(());
        }
        let now = clock.now();
        if let Some(owed) = self.owed {
            if now < owed.until {
                return Err(owed.until.duration_since(now).into());
            }
            self.forfeit(owed, now.duration_since(owed.until).into());
            self.owed = None;
        }
        let at_once = wanted.min(self.burst);
        self.take_at_once(at_once, clock)?;
        let amount = wanted.get() - at_once.get();
        if amount > 0 {
            let wait = self.period.saturating_mul(amount);
            self.owed = Some(Owed { amount, until: now + Nanos::from(wait) });
        }
        Ok(())
    }

    /// Takes what the bucket gained while it was being replenished for what was owed, and not what
    /// it has gained since.
    fn forfeit(&self, owed: Owed, since: Duration) {
        let gained = since.as_nanos().checked_div(self.period.as_nanos()).unwrap_or(0);
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        let burst = self.burst.get();
        let lost = if owed.amount < burst { owed.amount } else { burst.saturating_sub(gained) };
        if let Some(lost) = NonZeroU32::new(lost) {
            drop(self.limiter.check_n(lost));
        }
    }

    fn take_at_once(&self, part: NonZeroU32, clock: &C) -> Result<(), Duration> {
        match self.limiter.check_n(part) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(not_until)) => Err(not_until.wait_time_from(clock.now())),
            // Never: a part is at most the burst.
            Err(_) => Err(MINUTE),
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn rates(requests: u32, tokens: u32) -> Rates {
        Rates {
            requests_per_minute: NonZeroU32::new(requests),
            tokens_per_minute: NonZeroU32::new(tokens),
            spike_guard: None,
        }
    }

    fn granted(
        limits: &RateLimits<FakeRelativeClock>,
        key: KeyId,
        rates: &Rates,
        servers: u32,
        seconds: u64,
    ) -> u32 {
        let mut granted = 0;
        for _ in 0..seconds * 10 {
            while limits.check(key, rates, 1, servers).is_ok() {
                granted += 1;
            }
            limits.clock.advance(Duration::from_millis(100));
        }
        granted
    }

    #[test]
    fn three_servers_together_keep_to_the_limit() {
        let (key, rates) = (KeyId::generate(), rates(90, 0));
        let all: u32 = (0..3)
            .map(|_| granted(&RateLimits::new(FakeRelativeClock::default()), key, &rates, 3, 600))
            .sum();
        // Ten minutes at 90, and the first minute's burst.
        assert!((900..=990).contains(&all), "{all}");
    }

    #[test]
    fn a_denial_says_when_the_same_request_passes() {
        let limits = RateLimits::new(FakeRelativeClock::default());
        let (key, rates) = (KeyId::generate(), rates(60, 0));
        for _ in 0..60 {
            limits.check(key, &rates, 5, 1).unwrap();
        }
        let limited = limits.check(key, &rates, 5, 1).unwrap_err();
        let wait = limited.retry_after.unwrap();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        limits.clock.advance(wait);
        assert_eq!(limits.check(key, &rates, 5, 1), Ok(()));
    }

    #[test]
    fn more_tokens_than_a_servers_share_pass_and_are_paid_for_afterwards() {
        let limits = RateLimits::new(FakeRelativeClock::default());
        let (key, rates) = (KeyId::generate(), rates(0, 100));
        assert_eq!(limits.check(key, &rates, 90, 4), Ok(()));
        assert!(limits.check(key, &rates, 1, 4).is_err());
        // 65 of 90 are owed, at 25 a minute.
        limits.clock.advance(Duration::from_secs(150));
        assert!(limits.check(key, &rates, 1, 4).is_err());
        limits.clock.advance(Duration::from_secs(12));
        assert_eq!(limits.check(key, &rates, 1, 4), Ok(()));
        assert!(limits.check(key, &rates, 25, 4).is_err(), "it did not fill up meanwhile");
        let limited = limits.check(key, &rates, 101, 4).unwrap_err();
        assert_eq!((limited.retry_after, limited.unit), (None, "tokens"));
    }

    #[test]
    fn another_limit_or_number_of_servers_does_not_fill_the_bucket() {
        let limits = RateLimits::new(FakeRelativeClock::default());
        let key = KeyId::generate();
        for _ in 0..60 {
            limits.check(key, &rates(60, 0), 1, 1).unwrap();
        }
        assert!(limits.check(key, &rates(60, 0), 1, 2).is_err());
        assert!(limits.check(key, &rates(600, 0), 1, 1).is_err());
        limits.clock.advance(Duration::from_secs(30));
        assert_eq!(granted(&limits, key, &rates(60, 0), 1, 1) / 10, 3);
    }

    #[test]
    fn a_key_without_rates_is_never_limited() {
        let limits = RateLimits::new(FakeRelativeClock::default());
        for _ in 0..10_000 {
            assert_eq!(limits.check(KeyId::generate(), &rates(0, 0), u64::MAX, 1), Ok(()));
        }
    }
}
