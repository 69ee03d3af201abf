//! What a replay adds up to.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    cli::{
        error::CliError,
        output::{Table, Value, text},
        replay::{
            gateway::Done,
            journal::{Acknowledged, Progress},
        },
    },
    money::Amount,
    proto::Money,
};

/// Sums over all rows, those of earlier runs that this one continued included.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Rows that were asked about.
    requests: u64,
    /// By event id: what was charged.
    pub(super) acknowledged: BTreeMap<String, Acknowledged>,
    denied: BTreeMap<String, u64>,
    duplicates: u64,
    repeated: u64,
    /// The account that pays.
    pub(super) account: Option<String>,
    authorize: Vec<Duration>,
    record: Vec<Duration>,
}

impl Totals {
    /// Takes a request into account. Two rows never share an event.
    pub(super) fn add(&mut self, done: Done) -> Result<(), CliError> {
        self.requests += 1;
        self.repeated += done.repeated;
        self.duplicates += u64::from(done.was_duplicate);
        self.authorize.extend(done.authorize);
        self.record.extend(done.record);
        match done.progress {
            Progress::Granted { .. } => {}
            Progress::Denied(reason) => *self.denied.entry(reason).or_default() += 1,
            Progress::Acknowledged(usage) => {
                let event = usage.event_id.clone();
                self.account = Some(usage.account.clone());
                if self.acknowledged.insert(event.clone(), usage).is_some() {
                    return Err(CliError::failed(format!(
                        "event {event} was answered for two rows, the second one {}; one of the \
                         two was not charged",
                        done.row
                    )));
                }
            }
        }
        Ok(())
    }

    /// What was charged, by currency.
    pub(super) fn charged(&self) -> Result<BTreeMap<String, Amount>, CliError> {
        sum(self.acknowledged.values().map(Acknowledged::money))
    }

    /// The result for people and programs.
    pub(super) fn tables(&mut self, elapsed: Duration) -> Result<Vec<Table>, CliError> {
        let usages = self.acknowledged.values();
        let (input, output) = usages.clone().fold((0_u64, 0_u64), |(input, output), usage| {
            (input.saturating_add(usage.input), output.saturating_add(usage.output))
        });
        let overruns = usages.map(|usage| Money { amount: usage.overrun.clone(), ..usage.money() });
        let count = |count: usize| Value::Count(count as u64);
        let mut fields = vec![
            ("requests", Value::Count(self.requests)),
            ("granted", count(self.acknowledged.len())),
            ("denied", Value::Count(self.denied.values().sum())),
            ("input_tokens", Value::Count(input)),
            ("output_tokens", Value::Count(output)),
            ("charged", amounts(&self.charged()?)),
            ("overrun", amounts(&sum(overruns)?)),
            ("repeated_calls", Value::Count(self.repeated)),
            ("recorded_before", Value::Count(self.duplicates)),
            (
                "seconds",
                Value::Decimal(format!("{}.{:03}", elapsed.as_secs(), elapsed.subsec_millis())),
            ),
            ("requests_per_second", Value::Count(per_second(self.record.len(), elapsed))),
        ];
        for (name, half, most, times) in [
            ("authorize", "authorize_p50_us", "authorize_p99_us", &mut self.authorize),
            ("record", "record_p50_us", "record_p99_us", &mut self.record),
        ] {
            debug_assert!(half.starts_with(name));
            times.sort_unstable();
            fields.push((half, percentile(times, 50)));
            fields.push((most, percentile(times, 99)));
        }
        let mut tables = vec![Table::record("totals", fields)];
        if !self.denied.is_empty() {
            let mut denied = Table::list("denied", &["reason", "requests"]);
            for (reason, requests) in &self.denied {
                denied.row([text(reason), Value::Count(*requests)]);
            }
            tables.push(denied);
        }
        Ok(tables)
    }
}

/// Sums by currency, exactly.
pub(super) fn sum(
    amounts: impl Iterator<Item = Money>,
) -> Result<BTreeMap<String, Amount>, CliError> {
    let mut sums = BTreeMap::<String, Amount>::new();
    for money in amounts {
        let amount: Amount = money.amount.parse().map_err(|problem| {
            CliError::failed(format!("the server's answer has no amount: {problem}"))
        })?;
        let sum = sums.entry(money.currency_code).or_default();
        *sum = sum
            .checked_add(amount)
            .ok_or_else(|| CliError::failed("the sum is beyond every amount"))?;
    }
    Ok(sums)
}

/// One account has one currency, so that there is one sum as a rule.
pub(super) fn amounts(sums: &BTreeMap<String, Amount>) -> Value {
    let mut moneys = sums.iter().map(|(currency_code, amount)| Money {
        currency_code: currency_code.clone(),
        amount: amount.to_string(),
    });
    match (moneys.next(), moneys.next()) {
        (None, _) => Value::Nothing,
        (Some(money), None) => Value::Money(money),
        (Some(_), Some(_)) => Value::List(
            sums.iter().map(|(currency, amount)| format!("{amount} {currency}")).collect(),
        ),
    }
}

/// Sorted times in, microseconds out.
fn percentile(sorted: &[Duration], percent: usize) -> Value {
    let index = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(index).map_or(Value::Nothing, |time| {
        Value::Count(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    })
}

fn per_second(count: usize, elapsed: Duration) -> u64 {
    let rate = (count as u128 * 1_000_000).checked_div(elapsed.as_micros()).unwrap_or(0);
    u64::try_from(rate).unwrap_or(u64::MAX)
}
