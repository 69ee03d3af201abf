//! Whether a request, or a minute of requests, is far from a key's usual. Pure: time and amounts
//! come in, a verdict comes out.
//!
//! Like is compared with like: what a request may cost at most with what those before it might have.
//! A norm is a mean that forgets. A minute's is of all servers together: this server's minute times
//! the servers that share the traffic.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use crate::{
    accounts::keys::record::SpikeGuard,
    money::{AMOUNT_DECIMALS, Amount},
};

/// A norm of requests is one after so many: fewer are no usual.
pub(super) const REQUESTS_NEEDED: u32 = 20;
/// It is a mean over about so many.
const REQUESTS_REMEMBERED: u32 = 200;
/// A norm of minutes is one after so many that had requests.
pub(super) const MINUTES_NEEDED: u32 = 5;
/// It is a mean over about so many: an hour of work.
const MINUTES_REMEMBERED: u32 = 60;

/// What a lineage's requests and minutes might have cost of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Norms {
    pub(super) request: Mean,
    pub(super) minute: Mean,
    /// The minute that is under way (since 1970) and what was granted in it, on all servers.
    current: Option<(i64, Decimal)>,
}

/// A mean that forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mean {
    pub(super) value: Decimal,
    pub(super) samples: u32,
}

/// How far something is from the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spike {
    /// What is usual.
    pub(super) norm: Decimal,
    /// The multiple of it, or the floor.
    pub(super) limit: Decimal,
    /// What it would be.
    pub(super) used: Decimal,
    /// For a minute, how long it still lasts.
    pub(super) rest: Option<Duration>,
}

impl Norms {
    /// Whether a request that may cost so much now is a spike, or makes its minute one.
    pub(super) fn judge(
        &mut self,
        guard: &SpikeGuard,
        bound: Amount,
        now: DateTime<Utc>,
        servers: u32,
    ) -> Option<Spike> {
        self.advance(now);
        let beyond = |norm: Mean, needed: u32, used: Decimal| {
            let limit = norm.value.saturating_mul(guard.multiple).max(guard.floor.decimal());
            let limit = limit.round_dp(AMOUNT_DECIMALS).normalize();
            let found = (norm.value.normalize(), limit, used.normalize());
            (norm.samples >= needed && used > limit).then_some(found)
        };
        let request = beyond(self.request, REQUESTS_NEEDED, bound.decimal());
        if let Some((norm, limit, used)) = request {
            return Some(Spike { norm, limit, used, rest: None });
        }
        let minute = self.current.map_or(Decimal::ZERO, |(_, sum)| sum);
        let minute = minute.saturating_add(bound.decimal().saturating_mul(servers.into()));
        let (norm, limit, used) = beyond(self.minute, MINUTES_NEEDED, minute)?;
        let passed = u64::try_from(now.timestamp().rem_euclid(60)).unwrap_or(0);
        Some(Spike { norm, limit, used, rest: Some(Duration::from_secs(60 - passed)) })
    }

    /// A request that may cost so much was granted.
    pub(super) fn learn(&mut self, bound: Amount, now: DateTime<Utc>, servers: u32) {
        self.advance(now);
        self.request.add(bound.decimal(), REQUESTS_REMEMBERED);
        let (_, sum) = self.current.get_or_insert((minute_of(now), Decimal::ZERO));
        *sum = sum.saturating_add(bound.decimal().saturating_mul(servers.into()));
    }

    /// Whether a request was granted after that moment, and none of a later minute was judged since.
    pub(super) fn is_used_after(&self, moment: DateTime<Utc>) -> bool {
        self.current.is_some_and(|(minute, _)| minute >= minute_of(moment))
    }

    /// Adds the minute that is over to the norm. Minutes without requests do not count: a quiet
    /// night does not make the morning a spike.
    fn advance(&mut self, now: DateTime<Utc>) {
        if let Some((minute, sum)) = self.current
            && minute < minute_of(now)
        {
            self.minute.add(sum, MINUTES_REMEMBERED);
            self.current = None;
        }
    }
}

impl Mean {
    fn add(&mut self, value: Decimal, remembered: u32) {
        self.samples = self.samples.saturating_add(1);
        let weight = Decimal::from(self.samples.min(remembered));
        let step = (value - self.value).checked_div(weight).unwrap_or_default();
        self.value = self.value.saturating_add(step).round_dp(AMOUNT_DECIMALS);
    }
}

const fn minute_of(now: DateTime<Utc>) -> i64 {
    now.timestamp().div_euclid(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_040 + second, 0).unwrap()
    }

    fn guard() -> SpikeGuard {
        SpikeGuard { refuses: true, multiple: Decimal::TEN, floor: amount("0.01") }
    }

    /// So many requests of the same bound, one every so many seconds.
    fn learned(count: i64, bound: &str, every: i64) -> Norms {
        let mut norms = Norms::default();
        for request in 0..count {
            norms.learn(amount(bound), at(request * every), 1);
        }
        norms
    }

    #[test]
    fn a_norm_is_used_as_long_as_requests_are_granted() {
        let norms = learned(1, "0.01", 1);
        assert!(norms.is_used_after(at(0)));
        assert!(!norms.is_used_after(at(3_600)));
        assert!(!Norms::default().is_used_after(at(0)));
    }

    #[test]
    fn a_pasted_library_is_a_spike_and_twice_the_usual_is_not() {
        let mut norms = learned(100, "0.02", 1);
        let later = at(1_000);
        assert_eq!(norms.judge(&guard(), amount("0.04"), later, 1), None);
        assert_eq!(norms.judge(&guard(), amount("0.2"), later, 1), None);
        let spike = norms.judge(&guard(), amount("0.21"), later, 1).unwrap();
        assert_eq!((spike.limit.to_string(), spike.rest), ("0.2".to_owned(), None));
    }

    #[test]
    fn before_there_is_a_norm_nothing_is_a_spike() {
        let mut norms = learned(19, "0.02", 0);
        assert_eq!(norms.judge(&guard(), amount("50"), at(0), 1), None);
        norms.learn(amount("0.02"), at(0), 1);
        assert!(norms.judge(&guard(), amount("50"), at(0), 1).is_some());
    }

    #[test]
    fn a_leaked_key_is_a_spike_by_its_minute_though_each_request_is_usual() {
        // One a minute, for half an hour; then a flood.
        let mut norms = learned(30, "0.02", 60);
        let now = at(30 * 60 + 12);
        let mut granted = 0;
        let spike = loop {
            if let Some(spike) = norms.judge(&guard(), amount("0.02"), now, 1) {
                break spike;
            }
            norms.learn(amount("0.02"), now, 1);
            granted += 1;
        };
        assert_eq!(granted, 10);
        assert_eq!(spike.rest, Some(Duration::from_secs(48)));
        assert_eq!(norms.judge(&guard(), amount("0.02"), at(31 * 60), 1), None);
    }

    #[test]
    fn what_is_below_the_floor_is_never_a_spike() {
        let mut norms = learned(100, "0.0001", 60);
        assert_eq!(norms.judge(&guard(), amount("0.01"), at(100 * 60), 1), None);
        assert!(norms.judge(&guard(), amount("0.011"), at(100 * 60), 1).is_some());
    }

    #[test]
    fn a_quiet_night_changes_no_norm() {
        let mut norms = learned(60, "0.02", 60);
        let before = norms.minute;
        norms.judge(&guard(), amount("0.02"), at(12 * 3_600), 1);
        assert_eq!(norms.minute.value, before.value);
        assert_eq!(norms.minute.samples, before.samples + 1);
    }

    #[test]
    fn a_server_that_sees_half_of_the_traffic_compares_with_all_of_it() {
        let mut norms = Norms::default();
        for minute in 0..10 {
            norms.learn(amount("0.02"), at(minute * 60), 2);
        }
        // Alone now, it sees twice as much, which is the same in all.
        norms.judge(&guard(), amount("0.02"), at(600), 1);
        assert_eq!(norms.minute.value, "0.04".parse::<Decimal>().unwrap());
    }
}
