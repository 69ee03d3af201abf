//! What people do while the gateway works: reports, exports, the proof of the books, again and again.

use std::{collections::BTreeMap, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{load::joined, population::Population};
use crate::{
    cli::{
        client::Client,
        error::CliError,
        output::{Table, Value, text},
    },
    clock,
    proto::{
        ExportJournalRequest, GetAgingRequest, GetBalanceRequest, GetRevenueRequest, JournalFormat,
        ListUsageRequest, SummarizeUsageRequest, UsageGrouping, VerifyLedgerRequest,
    },
};

/// How long somebody whose report was refused for now waits before asking again.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Report {
    /// The newest page of an account's usage.
    UsagePage,
    Balance,
    /// An account's month by day.
    Month,
    /// The month of all accounts by model.
    Company,
    Revenue,
    Aging,
    Journal,
    Verification,
}

impl Report {
    /// What customers and support look at all day.
    pub(super) const OF_ONE_ACCOUNT: [Self; 3] = [Self::UsagePage, Self::Balance, Self::Month];
    /// What finance opens.
    pub(super) const SUMMARIES: [Self; 4] =
        [Self::Month, Self::Company, Self::Revenue, Self::Aging];
    /// All that reads much.
    pub(super) const HEAVY: [Self; 4] =
        [Self::Month, Self::Company, Self::Journal, Self::Verification];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::UsagePage => "newest page of an account's usage",
            Self::Balance => "balance",
            Self::Month => "an account's month by day",
            Self::Company => "all accounts' month by model",
            Self::Revenue => "revenue",
            Self::Aging => "aging",
            Self::Journal => "journal of the month",
            Self::Verification => "ledger verify",
        }
    }

    /// Asks once.
    pub(super) async fn ask(self, client: &Client, account: &str) -> Result<(), Status> {
        let (account, period) = (account.to_owned(), clock::now().format("%Y-%m").to_string());
        let from = Some(first_of_month());
        match self {
            Self::UsagePage => {
                let request = ListUsageRequest { account, ..ListUsageRequest::default() };
                client.usage().list_usage(request).await?;
            }
            Self::Balance => {
                client.credits().get_balance(GetBalanceRequest { account }).await?;
            }
            Self::Month => {
                let group_by = UsageGrouping::Day.into();
                let request =
                    SummarizeUsageRequest { account, from, group_by, ..Default::default() };
                client.usage().summarize_usage(request).await?;
            }
            Self::Company => {
                let request = SummarizeUsageRequest { from, ..Default::default() };
                client.usage().summarize_usage(request).await?;
            }
            Self::Revenue => {
                client.billing().get_revenue(GetRevenueRequest { period }).await?;
            }
            Self::Aging => {
                client.billing().get_aging(GetAgingRequest::default()).await?;
            }
            Self::Journal => {
                let format = JournalFormat::Hledger.into();
                let request = ExportJournalRequest { format, period, ..Default::default() };
                let mut data = client.ledger().export_journal(request).await?.into_inner();
                while data.message().await?.is_some() {}
            }
            Self::Verification => {
                client.ledger().verify_ledger(VerifyLedgerRequest::default()).await?;
            }
        }
        Ok(())
    }
}

fn first_of_month() -> prost_types::Timestamp {
    use chrono::{Datelike as _, TimeZone as _, Utc};
    let today = clock::now();
    let first = Utc.with_ymd_and_hms(today.year(), today.month(), 1, 0, 0, 0).single();
    let seconds = first.map_or(0, |first| first.timestamp());
    prost_types::Timestamp { seconds, nanos: 0 }
}

/// Readers that ask for one report after another until they are told to stop, each of its own.
#[derive(Debug)]
pub(super) struct Readers {
    stopping: CancellationToken,
    readers: JoinSet<Result<Counts, CliError>>,
}

/// How often a report was answered and refused.
type Counts = (Report, u64, u64);

impl Readers {
    /// One reader for each of these reports, all of them about the largest account.
    pub(super) fn start(
        reports: &[Report],
        client: &Client,
        population: &Population,
    ) -> Result<Self, CliError> {
        let account = population.customer(0)?.account.to_string();
        let stopping = CancellationToken::new();
        let mut readers = JoinSet::new();
        for report in reports.iter().copied() {
            let (client, account) = (client.clone(), account.clone());
            let stopping = stopping.clone();
            readers.spawn(async move {
                let (mut answered, mut refused) = (0, 0);
                loop {
                    let asking = report.ask(&client, &account);
                    let answer = tokio::select! {
                        answer = asking => answer,
                        () = stopping.cancelled() => return Ok((report, answered, refused)),
                    };
                    match answer {
                        Ok(()) => answered += 1,
                        Err(status) if is_for_now(&status) => {
                            refused += 1;
                            tokio::time::sleep(PATIENCE).await;
                        }
                        Err(status) => return Err(status.into()),
                    }
                }
            });
        }
        Ok(Self { stopping, readers })
    }

    /// Stops them all; how often each was answered.
    pub(super) async fn stop(mut self) -> Result<Vec<Counts>, CliError> {
        self.stopping.cancel();
        let mut counts = Vec::new();
        while let Some(reader) = self.readers.join_next().await {
            counts.push(joined(reader)?);
        }
        Ok(counts)
    }
}

/// Refused because others are at it, or ended by its bound in time.
fn is_for_now(status: &Status) -> bool {
    matches!(status.code(), Code::ResourceExhausted | Code::DeadlineExceeded | Code::Unavailable)
}

/// What was read while the gateway worked.
#[derive(Debug, Default)]
pub(super) struct Read(BTreeMap<Report, (u64, u64)>);

impl Read {
    pub(super) fn add(&mut self, counts: Vec<Counts>) {
        for (report, answered, refused) in counts {
            let (all_answered, all_refused) = self.0.entry(report).or_default();
            *all_answered += answered;
            *all_refused += refused;
        }
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::list("read_beside", &["report", "answered", "refused"]);
        for (report, (answered, refused)) in &self.0 {
            table.push(vec![text(report.name()), Value::Count(*answered), Value::Count(*refused)]);
        }
        table
    }
}
