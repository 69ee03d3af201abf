//! Whether the server's books say what its answers said, to the last decimal.
//!
//! Three things must agree: what was acknowledged, the usage events of those ids, and the ledger's
//! transfers. A posting charges a batch of events, of which some may be other people's; so the
//! transfers of every posting that charged one of ours are compared with all events they charged.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Duration, Utc};
use prost_types::Timestamp;

use crate::{
    cli::{
        args::{Pages, timestamp},
        client::Client,
        error::CliError,
        output::{Table, Value, text},
        replay::totals::{Totals, amounts, sum},
    },
    ids,
    money::Amount,
    proto::{ListTransfersRequest, ListUsageRequest, Money, UsageEvent},
};

/// How far apart the moment inside an event's id, when it occurred and when it was posted may be:
/// a replay that is continued a day later settles yesterday's grants.
const AROUND: Duration = Duration::days(1);
/// Differences that are named before the rest is only counted.
const NAMED: usize = 10;

/// What the comparison found.
#[derive(Debug)]
pub(super) struct Proof {
    /// What agreed and what did not, as a table.
    pub(super) table: Table,
    /// Differences, each in a sentence; none when all agrees.
    pub(super) differences: Vec<String>,
}

/// Compares the answers with the events and the events with the ledger.
pub(super) async fn prove(client: &Client, totals: &Totals) -> Result<Proof, CliError> {
    let answered = totals.charged()?;
    let Some(account) = &totals.account else {
        return Ok(Proof { table: table(&answered, &answered, None), differences: Vec::new() });
    };
    let since = earliest(totals).map(timestamp);
    let events = events(client, account, since).await?;
    let mut differences = compare_events(totals, &events);

    let ours = events.iter().filter(|event| totals.acknowledged.contains_key(&event.event_id));
    let recorded = sum(ours.clone().filter_map(|event| event.charged.clone()))?;
    let postings: BTreeSet<i64> = ours.map(|event| event.posting).collect();
    let charged = events.iter().filter(|event| postings.contains(&event.posting));
    let charged = sum(charged.filter_map(|event| event.charged.clone()))?;
    let posted = posted(client, account, since, &postings).await?;
    if nonzero(&charged) != nonzero(&posted) {
        differences.push(format!(
            "the {} postings charged events of {} and moved {}",
            postings.len(),
            shown(&charged),
            shown(&posted)
        ));
    }
    if nonzero(&answered) != nonzero(&recorded) {
        differences.push(format!(
            "answers acknowledged {} and the events hold {}",
            shown(&answered),
            shown(&recorded)
        ));
    }
    let ledger = (charged, posted);
    Ok(Proof { table: table(&answered, &recorded, Some(&ledger)), differences })
}

/// The moment of the first event, from the ids themselves.
fn earliest(totals: &Totals) -> Option<DateTime<Utc>> {
    let ids = totals.acknowledged.keys().filter_map(|id| id.parse().ok());
    ids.filter_map(ids::moment_of).min()?.checked_sub_signed(AROUND)
}

async fn events(
    client: &Client,
    account: &str,
    from: Option<Timestamp>,
) -> Result<Vec<UsageEvent>, CliError> {
    let mut usage = client.usage();
    let mut events = Vec::new();
    let mut pages = Pages::all();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListUsageRequest {
            account: account.to_owned(),
            from,
            page_size,
            page_token,
            ..ListUsageRequest::default()
        };
        let page = usage.list_usage(request).await?.into_inner();
        pages.came(page.events.len(), page.next_page_token);
        events.extend(page.events);
    }
    Ok(events)
}

/// Each acknowledged event must be there once, with the same charge and tokens.
fn compare_events(totals: &Totals, events: &[UsageEvent]) -> Vec<String> {
    let mut by_id = BTreeMap::<&str, Vec<&UsageEvent>>::new();
    for event in events {
        by_id.entry(&event.event_id).or_default().push(event);
    }
    let mut differences = Vec::new();
    for (id, said) in &totals.acknowledged {
        let found = by_id.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        let &[event] = found else {
            differences.push(format!("event {id} is there {} times instead of once", found.len()));
            continue;
        };
        let held = event.charged.clone().unwrap_or_default();
        if !same(&said.money(), &held) {
            differences.push(format!(
                "event {id} was acknowledged with {} and holds {}",
                said.charged, held.amount
            ));
        }
        let used = event.quantities.unwrap_or_default();
        if (used.input, used.output) != (said.input, said.output) {
            differences.push(format!(
                "event {id} was sent with {} + {} tokens and holds {} + {}",
                said.input, said.output, used.input, used.output
            ));
        }
    }
    differences
}

fn same(one: &Money, other: &Money) -> bool {
    let amount = |money: &Money| money.amount.parse::<Amount>().ok();
    one.currency_code == other.currency_code && amount(one) == amount(other)
}

/// What the transfers of these postings moved into usage revenue.
async fn posted(
    client: &Client,
    account: &str,
    from: Option<Timestamp>,
    postings: &BTreeSet<i64>,
) -> Result<BTreeMap<String, Amount>, CliError> {
    let mut ledger = client.ledger();
    let mut moved = Vec::new();
    let mut pages = Pages::all();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListTransfersRequest {
            account: account.to_owned(),
            from,
            page_size,
            page_token,
            ..ListTransfersRequest::default()
        };
        let page = ledger.list_transfers(request).await?.into_inner();
        pages.came(page.transfers.len(), page.next_page_token);
        let ours = page.transfers.into_iter().filter(|line| postings.contains(&line.posting));
        moved.extend(ours.filter_map(|transfer| transfer.amount));
    }
    sum(moved.into_iter())
}

/// No usage and usage that cost nothing are the same sum.
fn nonzero(sums: &BTreeMap<String, Amount>) -> Vec<(&String, &Amount)> {
    sums.iter().filter(|(_, amount)| !amount.is_zero()).collect()
}

fn shown(sums: &BTreeMap<String, Amount>) -> String {
    let parts: Vec<String> =
        sums.iter().map(|(currency, amount)| format!("{amount} {currency}")).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" + ") }
}

type Sums = BTreeMap<String, Amount>;

fn table(answered: &Sums, recorded: &Sums, ledger: Option<&(Sums, Sums)>) -> Table {
    let mut table = Table::list("comparison", &["what", "amount", "agrees"]);
    let mut add = |what: &str, amount: &Sums, with: &Sums| {
        table.row([text(what), amounts(amount), Value::Flag(nonzero(amount) == nonzero(with))]);
    };
    add("acknowledged to the gateway", answered, answered);
    add("usage events of these ids", recorded, answered);
    if let Some((charged, posted)) = ledger {
        add("all events of their postings", charged, posted);
        add("transfers of their postings", posted, charged);
    }
    table
}

impl Proof {
    /// The differences as one error, or nothing.
    pub(super) fn verdict(self) -> Result<(), CliError> {
        if self.differences.is_empty() {
            return Ok(());
        }
        let total = self.differences.len();
        let mut lines: Vec<String> = self.differences.into_iter().take(NAMED).collect();
        if let Some(more @ 1..) = total.checked_sub(NAMED) {
            lines.push(format!("and {more} more"));
        }
        Err(CliError::failed(format!(
            "the replay and the books differ; run `tollgate ledger verify`:\n  {}",
            lines.join("\n  ")
        )))
    }
}
