//! The numbers behind `/metrics`: one struct of typed handles per part of the server, handed to
//! that part when it is built. There is no global registry.
//!
//! Every label takes its values from a fixed set; an account, a key or a model is never one.

use std::{fmt, sync::atomic::AtomicU64};

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// One label and its value.
pub type Label = [(&'static str, &'static str); 1];
/// Two labels and their values.
pub type TwoLabels = [(&'static str, &'static str); 2];

/// A currency by its ISO code: as many as there are.
pub type Currency = Vec<(&'static str, String)>;

/// Upper bounds of the latency buckets: 50 µs doubling to 26 s, so that both an answer from memory
/// (some 20 µs) and a commit on a slow disk fall inside.
const LATENCY_BUCKETS: (f64, f64, u16) = (0.000_05, 2.0, 20);
/// Upper bounds of the batch size buckets: 1 doubling to 16,384 events.
const BATCH_BUCKETS: (f64, f64, u16) = (1.0, 2.0, 15);

/// All handles, and the registry that prints them.
pub struct Metrics {
    registry: Registry,
    /// gRPC calls.
    pub calls: CallMetrics,
    /// The hot path before a request.
    pub authorization: AuthorizationMetrics,
    /// The hot path after a request.
    pub metering: MeteringMetrics,
    /// The connection to Postgres.
    pub database: DatabaseMetrics,
}

/// gRPC calls by RPC, which is one of the contract's or `other`.
#[derive(Debug, Clone)]
pub struct CallMetrics {
    /// Calls that ended, by `rpc` and `code`.
    pub ended: Family<TwoLabels, Counter>,
    /// Seconds from the request's headers to the end of the answer, by `rpc`.
    pub seconds: Family<Label, Histogram, fn() -> Histogram>,
    /// Calls under way.
    pub in_flight: Gauge,
}

/// Decisions, reservations and leases.
#[derive(Debug, Clone, Default)]
pub struct AuthorizationMetrics {
    /// Answers to `Authorize`, by `decision`: `granted`, `reduced`, or the reason of a denial.
    pub decisions: Family<Label, Counter>,
    /// Reservations that are not settled yet.
    pub outstanding: Gauge,
    /// Pools this server holds a lease on.
    pub leases: Gauge,
    /// Round trips that renewed leases.
    pub lease_renewals: Counter,
    /// Calls that had to wait for the database to grant a lease.
    pub lease_waits: Counter,
    /// Reservations that expired without usage.
    pub expired: Counter,
    /// Times another server asked for what was leased here and not used.
    pub recalls: Counter,
    /// Requests that were far from their key's usual, by `action`: `refused`, `flagged`.
    pub spikes: Family<Label, Counter>,
    /// Budgets that came to their end, by `kind`: `hard`, `soft`.
    pub budgets_reached: Family<Label, Counter>,
    /// What this server may promise without asking, by `currency`.
    pub leased_amount: Family<Currency, Gauge<f64, AtomicU64>>,
    /// What of it is not free any more, by `currency`.
    pub reserved_amount: Family<Currency, Gauge<f64, AtomicU64>>,
    /// 1 while accounts are refused because this server has too much to do, else 0.
    pub shedding: Gauge,
    /// Seconds since the last beat that the database answered.
    pub heartbeat_age: Gauge<f64, AtomicU64>,
    /// 1 while this server may authorize, else 0.
    pub authorizing: Gauge,
}

/// Usage events and the batches they are committed in.
#[derive(Debug, Clone)]
pub struct MeteringMetrics {
    /// Events answered, by `result`: `recorded`, `duplicate`, `conflict`, `refused`, `quarantined`.
    pub events: Family<Label, Counter>,
    /// Events charged above what was authorized.
    pub overruns: Counter,
    /// Events waiting for a batch.
    pub queue_depth: Gauge,
    /// Events per committed batch.
    pub batch_size: Histogram,
    /// Seconds a batch took, commit included.
    pub batch_seconds: Histogram,
    /// Seconds since the moment up to which usage is rolled up.
    pub rollup_lag: Gauge<f64, AtomicU64>,
    /// Seconds since the moment up to which the books are sealed.
    pub seal_lag: Gauge<f64, AtomicU64>,
    /// Details of usage that were erased because their time was over.
    pub details_expired: Counter,
}

/// The connection to Postgres.
#[derive(Debug, Clone, Default)]
pub struct DatabaseMetrics {
    /// 1 while the database answers, else 0.
    pub up: Gauge,
    /// Times the database was lost.
    pub losses: Counter,
}

impl Metrics {
    /// Fresh handles, all at zero.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("tollgate"),
            calls: CallMetrics {
                ended: Family::default(),
                seconds: Family::new_with_constructor(latency_histogram),
                in_flight: Gauge::default(),
            },
            authorization: AuthorizationMetrics::default(),
            metering: MeteringMetrics {
                events: Family::default(),
                overruns: Counter::default(),
                queue_depth: Gauge::default(),
                batch_size: Histogram::new(buckets(BATCH_BUCKETS)),
                batch_seconds: latency_histogram(),
                rollup_lag: Gauge::default(),
                seal_lag: Gauge::default(),
                details_expired: Counter::default(),
            },
            database: DatabaseMetrics::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        let calls = &self.calls;
        registry.register("calls", "gRPC calls that ended", calls.ended.clone());
        registry.register_with_unit(
            "call_duration",
            "Time from a call's headers to the end of its answer",
            Unit::Seconds,
            calls.seconds.clone(),
        );
        registry.register("calls_in_flight", "gRPC calls under way", calls.in_flight.clone());

        let authorization = &self.authorization;
        registry.register(
            "authorizations",
            "Answers to Authorize by decision",
            authorization.decisions.clone(),
        );
        registry.register(
            "reservations_outstanding",
            "Reservations that are not settled yet",
            authorization.outstanding.clone(),
        );
        registry.register(
            "reservations_expired",
            "Reservations that expired without usage",
            authorization.expired.clone(),
        );
        registry.register(
            "lease_recalls",
            "Times another server asked for what is not used here",
            authorization.recalls.clone(),
        );
        registry.register(
            "spikes",
            "Requests that were far from their key's usual",
            authorization.spikes.clone(),
        );
        registry.register(
            "budgets_reached",
            "Budgets that came to their end",
            authorization.budgets_reached.clone(),
        );
        registry.register("leases", "Pools with a lease here", authorization.leases.clone());
        registry.register(
            "lease_renewals",
            "Round trips that renewed leases",
            authorization.lease_renewals.clone(),
        );
        registry.register(
            "lease_waits",
            "Calls that waited for a lease",
            authorization.lease_waits.clone(),
        );
        registry.register(
            "leased_amount",
            "Funds that this server may promise without asking the database",
            authorization.leased_amount.clone(),
        );
        registry.register(
            "reserved_amount",
            "Leased funds that are promised",
            authorization.reserved_amount.clone(),
        );
        registry.register(
            "shedding_load",
            "Whether requests are refused because this server has too much to do",
            authorization.shedding.clone(),
        );
        registry.register_with_unit(
            "heartbeat_age",
            "Time since the last beat that the database answered",
            Unit::Seconds,
            authorization.heartbeat_age.clone(),
        );
        registry.register(
            "authorizing",
            "Whether this server may authorize",
            authorization.authorizing.clone(),
        );

        let metering = &self.metering;
        registry.register("usage_events", "Usage events by result", metering.events.clone());
        registry.register(
            "usage_overruns",
            "Usage events charged above their authorization",
            metering.overruns.clone(),
        );
        registry.register(
            "usage_queue_depth",
            "Usage events waiting for a batch",
            metering.queue_depth.clone(),
        );
        registry.register(
            "usage_batch_events",
            "Usage events per committed batch",
            metering.batch_size.clone(),
        );
        registry.register_with_unit(
            "usage_batch",
            "Time a batch took, commit included",
            Unit::Seconds,
            metering.batch_seconds.clone(),
        );
        registry.register_with_unit(
            "usage_rollup_lag",
            "Time since the moment up to which usage is in the daily sums",
            Unit::Seconds,
            metering.rollup_lag.clone(),
        );
        registry.register_with_unit(
            "ledger_seal_lag",
            "Time since the moment up to which the books are sealed",
            Unit::Seconds,
            metering.seal_lag.clone(),
        );
        registry.register(
            "usage_details_expired",
            "Details of usage that were erased because their time was over",
            metering.details_expired.clone(),
        );

        let database = &self.database;
        registry.register("database_up", "Whether the database answers", database.up.clone());
        registry.register(
            "database_losses",
            "Times the database was lost",
            database.losses.clone(),
        );
        self
    }

    /// All numbers in the `OpenMetrics` text format.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn latency_histogram() -> Histogram {
    Histogram::new(buckets(LATENCY_BUCKETS))
}

fn buckets((start, factor, length): (f64, f64, u16)) -> impl Iterator<Item = f64> {
    exponential_buckets(start, factor, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_decision_is_printed_with_its_label() {
        let metrics = Metrics::new();
        metrics.authorization.decisions.get_or_create(&[("decision", "granted")]).inc();
        let text = metrics.encode().unwrap();
        assert!(text.contains("tollgate_authorizations_total{decision=\"granted\"} 1"), "{text}");
        assert!(text.contains("tollgate_database_up 0"), "{text}");
    }
}
