//! What a run found: every scene with its spread, and the ratios that the design asks for.

use std::time::Duration;

use rust_decimal::Decimal;

use super::{
    cpu::{Meter, Spent},
    load::Slice,
};
use crate::cli::{
    error::CliError,
    output::{Table, Value, text},
};

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    EchoAuthorize,
    EchoRecord,
    EchoStream,
    Inserted,
    Posted,
    PostedByOne,
    Authorize,
    AuthorizeStream,
    Record,
    RecordBatch,
    RecordStream,
    Cycle,
}

impl Scene {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::EchoAuthorize => "echo of Authorize",
            Self::EchoRecord => "echo of RecordUsage",
            Self::EchoStream => "echo of AuthorizeStream",
            Self::Inserted => "rows inserted alone",
            Self::Posted => "batch transaction",
            Self::PostedByOne => "batch transaction, one writer",
            Self::Authorize => "Authorize",
            Self::AuthorizeStream => "AuthorizeStream",
            Self::Record => "RecordUsage",
            Self::RecordBatch => "RecordUsageBatch",
            Self::RecordStream => "RecordUsageStream",
            Self::Cycle => "Authorize + RecordUsage",
        }
    }

    /// The limit it is shown beside.
    const fn limit(self) -> Option<Self> {
        Some(match self {
            Self::Authorize | Self::Cycle => Self::EchoAuthorize,
            Self::AuthorizeStream => Self::EchoStream,
            Self::Record => Self::EchoRecord,
            Self::RecordBatch | Self::RecordStream => Self::Posted,
            Self::Posted => Self::Inserted,
            _ => return None,
        })
    }
}

/// A scene under one load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) scene: Scene,
    /// Calls on their way at once; 0 for streams and batches, which have windows of their own.
    pub(super) in_flight: usize,
    pub(super) accounts: usize,
}

/// All that was measured, a slice for each repetition of a case.
#[derive(Debug, Default)]
pub(super) struct Results {
    cases: Vec<(Case, Vec<Slice>)>,
    meter: Option<Meter>,
}

impl Results {
    /// Nothing yet; what is spent for it is read from `meter`.
    pub(super) fn with(meter: Option<Meter>) -> Self {
        Self { meter, ..Self::default() }
    }

    /// What was spent until now is no scene's.
    pub(super) fn begin(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.lap();
        }
    }

    /// Adds a repetition, with what was spent since the last one or [`Self::begin`].
    pub(super) fn add(&mut self, case: Case, slice: Slice) {
        // A kernel that keeps no account of it has nothing to tell.
        let spent = self.meter.as_mut().map(Meter::lap).filter(|spent| spent.client > 0);
        let slice = Slice { spent, ..slice };
        match self.cases.iter_mut().find(|(known, _)| *known == case) {
            Some((_, slices)) => slices.push(slice),
            None => self.cases.push((case, vec![slice])),
        }
    }

    fn slices(&self, case: Case) -> &[Slice] {
        let found = self.cases.iter().find(|(known, _)| *known == case);
        found.map_or(&[], |(_, slices)| slices)
    }

    /// The median of the repetitions, in calls a second.
    pub(super) fn per_second(&self, case: Case) -> Option<u64> {
        let mut rates: Vec<u64> = self.slices(case).iter().map(Slice::per_second).collect();
        rates.sort_unstable();
        rates.get(rates.len() / 2).copied()
    }

    /// From the slowest to the fastest repetition, in percent of the median.
    fn spread(&self, case: Case) -> Option<Decimal> {
        let rates = || self.slices(case).iter().map(Slice::per_second);
        let (least, most) = (rates().min()?, rates().max()?);
        let spread = ratio(most.checked_sub(least)?, self.per_second(case)?)?;
        Some(spread.checked_mul(Decimal::ONE_HUNDRED)?.round_dp(0))
    }

    /// All repetitions as one.
    fn all(&self, case: Case) -> Option<Slice> {
        let mut slices = self.slices(case).iter();
        let mut all = slices.next()?.clone();
        slices.for_each(|slice| all.add(slice));
        Some(all)
    }

    /// What one call or event cost somebody, in microseconds of processor time.
    fn each(&self, case: Case, whose: impl Fn(Spent) -> u64) -> Option<Decimal> {
        let all = self.all(case)?;
        let nanoseconds = Decimal::from(whose(all.spent?)).checked_div(all.calls.into())?;
        Some(nanoseconds.checked_div(Decimal::ONE_THOUSAND)?.round_dp(1))
    }

    /// A percentile of all repetitions' latencies, in microseconds.
    pub(super) fn latency(&self, case: Case, quantile: f64) -> Option<u64> {
        let all = self.all(case)?;
        (!all.latencies.is_empty()).then(|| all.latencies.value_at_quantile(quantile))
    }

    /// One row for each case.
    pub(super) fn table(&self) -> Table {
        let columns = [
            "scene",
            "in_flight",
            "accounts",
            "per_second",
            "spread_percent",
            "p50_us",
            "p99_us",
            "p99_9_us",
            "client_cpu_us",
            "server_cpu_us",
            "database_cpu_us",
            "limit",
            "limit_per_second",
            "of_limit",
        ];
        let mut table = Table::list("measurements", &columns);
        for (case, _) in &self.cases {
            let limit = case.scene.limit().map(|scene| Case { scene, ..*case });
            let limit_rate = limit.and_then(|limit| self.per_second(limit));
            let of_limit =
                self.per_second(*case).zip(limit_rate).and_then(|(rate, limit)| ratio(rate, limit));
            table.push(vec![
                text(case.scene.name()),
                if case.in_flight == 0 {
                    Value::Nothing
                } else {
                    count(Some(case.in_flight as u64))
                },
                count(Some(case.accounts as u64)),
                count(self.per_second(*case)),
                decimal(self.spread(*case)),
                count(self.latency(*case, 0.5)),
                count(self.latency(*case, 0.99)),
                count(self.latency(*case, 0.999)),
                decimal(self.each(*case, |spent| spent.client)),
                decimal(self.each(*case, |spent| spent.server)),
                decimal(self.each(*case, |spent| spent.database)),
                limit
                    .filter(|_| limit_rate.is_some())
                    .map_or(Value::Nothing, |limit| text(limit.scene.name())),
                count(limit_rate),
                decimal(of_limit),
            ]);
        }
        table
    }
}

fn count(value: Option<u64>) -> Value {
    value.map_or(Value::Nothing, Value::Count)
}

fn decimal(value: Option<Decimal>) -> Value {
    value.map_or(Value::Nothing, |value| Value::Decimal(value.to_string()))
}

/// How much one is of the other, to two decimals.
pub(super) fn ratio(one: u64, other: u64) -> Option<Decimal> {
    Some(Decimal::from(one).checked_div(Decimal::from(other))?.round_dp(2))
}

/// What the design asks for, and what was found.
#[derive(Debug)]
pub(super) struct Targets {
    table: Table,
}

impl Default for Targets {
    fn default() -> Self {
        let columns = ["target", "accounts", "measured", "at_least", "at_most", "met"];
        Self { table: Table::list("targets", &columns) }
    }
}

impl Targets {
    /// Judges every ratio whose two sides were measured.
    pub(super) fn judge(results: &Results, fdatasync: Option<Duration>) -> Self {
        let mut targets = Self::default();
        let rate =
            |scene, in_flight, accounts| results.per_second(Case { scene, in_flight, accounts });
        let latency = |scene, in_flight, accounts, quantile| {
            results.latency(Case { scene, in_flight, accounts }, quantile)
        };
        let four_syncs = fdatasync.and_then(|sync| u64::try_from(4 * sync.as_micros()).ok());
        for accounts in [1, 100, 1_000] {
            let unary = rate(Scene::Authorize, 64, accounts);
            let echo = rate(Scene::EchoAuthorize, 64, accounts);
            targets.at_least("Authorize of its echo, 64 in flight", accounts, unary, echo, "0.85");
            let p99 = latency(Scene::Authorize, 64, accounts, 0.99);
            let echo_p99 = latency(Scene::EchoAuthorize, 64, accounts, 0.99);
            targets.at_most("Authorize p99 of its echo's", accounts, p99, echo_p99, "1.5");
            let streamed = rate(Scene::AuthorizeStream, 0, accounts);
            targets.at_least("AuthorizeStream of Authorize", accounts, streamed, unary, "3");
            let record = rate(Scene::Record, 256, accounts);
            let echo = rate(Scene::EchoRecord, 256, accounts);
            targets.at_least(
                "RecordUsage of its echo, 256 in flight",
                accounts,
                record,
                echo,
                "0.4",
            );
            let alone = latency(Scene::Record, 1, accounts, 0.5);
            let echo = latency(Scene::EchoRecord, 1, accounts, 0.5);
            let echo = echo.zip(four_syncs).map(|(echo, syncs)| echo.saturating_add(syncs));
            targets.at_most("RecordUsage alone of echo + 4 fdatasync", accounts, alone, echo, "1");
            let cycle = rate(Scene::Cycle, 256, accounts);
            let echo = rate(Scene::EchoAuthorize, 256, accounts);
            targets.at_least(
                "whole cycle of the echo, 256 in flight",
                accounts,
                cycle,
                echo,
                "0.3",
            );
            let stream = rate(Scene::RecordStream, 0, accounts);
            let posted = rate(Scene::Posted, 0, accounts);
            targets.at_least(
                "RecordUsageStream of the batch transaction",
                accounts,
                stream,
                posted,
                "0.6",
            );
        }
        let posted = rate(Scene::Posted, 0, 100);
        let inserted = rate(Scene::Inserted, 0, 100);
        targets.at_least("batch transaction of rows alone", 100, posted, inserted, "0.6");
        let spread = rate(Scene::Posted, 0, 1_000);
        targets.at_least("batch transaction of that over 100", 1_000, spread, posted, "0.6");
        let hot = rate(Scene::RecordStream, 0, 1);
        let one = rate(Scene::PostedByOne, 0, 100);
        targets.at_least("one hot account of one writer's batches over 100", 1, hot, one, "1");
        targets
    }

    /// Judges one ratio by the least that it should be.
    pub(super) fn at_least(
        &mut self,
        name: &str,
        accounts: usize,
        one: Option<u64>,
        other: Option<u64>,
        bound: &str,
    ) {
        self.push(name, accounts, one, other, (bound, ""), |ratio, bound| ratio >= bound);
    }

    /// Judges one ratio by the most that it should be.
    pub(super) fn at_most(
        &mut self,
        name: &str,
        accounts: usize,
        one: Option<u64>,
        other: Option<u64>,
        bound: &str,
    ) {
        self.push(name, accounts, one, other, ("", bound), |ratio, bound| ratio <= bound);
    }

    fn push(
        &mut self,
        name: &str,
        accounts: usize,
        one: Option<u64>,
        other: Option<u64>,
        (least, most): (&str, &str),
        is_met: impl Fn(Decimal, Decimal) -> bool,
    ) {
        let Some(measured) = one.zip(other).and_then(|(one, other)| ratio(one, other)) else {
            return;
        };
        let bound: Result<Decimal, _> = if least.is_empty() { most } else { least }.parse();
        self.table.push(vec![
            text(name),
            Value::Count(accounts as u64),
            Value::Decimal(measured.to_string()),
            crate::cli::output::decimal(least),
            crate::cli::output::decimal(most),
            Value::Flag(bound.is_ok_and(|bound| is_met(measured, bound))),
        ]);
    }

    /// One row for each ratio.
    pub(super) fn table(&self) -> Table {
        self.table.clone()
    }
}

/// What a run that measured nothing says.
pub(super) fn nothing() -> CliError {
    CliError::failed("there is no connection to measure over")
}
