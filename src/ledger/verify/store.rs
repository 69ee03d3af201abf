//! Running the checks on a snapshot.

use std::collections::HashMap;

use chrono::NaiveDate;
use sqlx::{FromRow, PgConnection};
use tokio_stream::Stream;
use uuid::Uuid;

use super::{
    Check, MAX_FINDINGS,
    checks::{SqlCheck, TRANSFERS_FOLLOW_THE_CHART},
    failed,
};
use crate::{
    catalog::{model::DEDICATED_PREFIX, version::PricedModel, versions_in},
    ids::{AccountId, PriceVersionId},
    ledger::{error::LedgerError, posting::TransferKind},
    metering::quantities::Quantities,
    money::Amount,
};

#[derive(FromRow)]
struct Outcome {
    examined: i64,
    violations: i64,
    findings: Vec<String>,
}

fn check_of(check: &SqlCheck, outcome: Outcome) -> Check {
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    Check {
        name: check.name,
        description: check.description,
        examined: count(outcome.examined),
        violations: count(outcome.violations),
        findings: outcome.findings,
    }
}

/// Runs one check, on one account or all.
pub(super) async fn run(
    snapshot: &mut PgConnection,
    check: &SqlCheck,
    account: Option<AccountId>,
) -> Result<Check, LedgerError> {
    // Planned anew each time: one plan for one account and for all would suit neither.
    let query = sqlx::query_as(check.statement).persistent(false);
    let query = query.bind(account).bind(i64::try_from(MAX_FINDINGS).unwrap_or(0));
    let outcome: Outcome = query.fetch_one(snapshot).await.map_err(failed)?;
    Ok(check_of(check, outcome))
}

/// Whether each kind of transfer moves money only between the lines that it may.
pub(super) async fn transfers_follow_the_chart(
    snapshot: &mut PgConnection,
    account: Option<AccountId>,
) -> Result<Check, LedgerError> {
    let (mut kinds, mut debits, mut credits) = (Vec::new(), Vec::new(), Vec::new());
    for kind in TransferKind::ALL {
        for (debit, credit) in kind.routes() {
            kinds.push(kind.name());
            debits.push(debit.code());
            credits.push(credit.code());
        }
    }
    let query = sqlx::query_as(TRANSFERS_FOLLOW_THE_CHART.statement).persistent(false);
    let query = query.bind(account).bind(i64::try_from(MAX_FINDINGS).unwrap_or(0));
    let query = query.bind(kinds).bind(debits).bind(credits);
    let outcome: Outcome = query.fetch_one(snapshot).await.map_err(failed)?;
    Ok(check_of(&TRANSFERS_FOLLOW_THE_CHART, outcome))
}

/// Every price version of the snapshot, with what it was made from.
pub(super) async fn prices(
    snapshot: &mut PgConnection,
) -> Result<HashMap<PriceVersionId, PricedModel>, LedgerError> {
    let versions =
        versions_in(snapshot).await.map_err(|error| LedgerError::Prices(Box::new(error)))?;
    Ok(versions.into_iter().map(|version| (version.version, version)).collect())
}

/// An account's closed month and its document.
#[derive(FromRow)]
pub(super) struct ClosedPeriod {
    pub(super) account_id: AccountId,
    pub(super) period: NaiveDate,
    pub(super) closed_at_posting: i64,
    pub(super) content: Option<String>,
}

const SELECT_CLOSED_PERIODS: &str = "
    SELECT closed.account_id, closed.period, closed_at_posting, content
    FROM closed_periods AS closed
    LEFT JOIN billing_documents USING (document_id)
    WHERE $1::uuid IS NULL OR closed.account_id = $1
    ORDER BY closed.account_id, closed.period";

/// Every closed month of the snapshot.
pub(super) async fn closed_periods(
    snapshot: &mut PgConnection,
    account: Option<AccountId>,
) -> Result<Vec<ClosedPeriod>, LedgerError> {
    let query = sqlx::query_as(SELECT_CLOSED_PERIODS).persistent(false).bind(account);
    query.fetch_all(snapshot).await.map_err(failed)
}

/// A closed month that has a service level, or was credited for one.
#[derive(FromRow)]
pub(super) struct CreditedPeriod {
    pub(super) account_id: AccountId,
    pub(super) period: NaiveDate,
    /// Its document, where that has lines of a covered model.
    pub(super) content: Option<String>,
    /// What was posted as its credit.
    pub(super) posted: Amount,
}

// A document is JSON as serde writes it, without blanks.
const SELECT_CREDITED_PERIODS: &str = "
    SELECT account_id, period, covered.content, coalesce(credited.posted, 0) AS posted
    FROM (SELECT closed.account_id, closed.period, content
          FROM closed_periods AS closed
          JOIN billing_documents USING (document_id)
          WHERE strpos(content, $2) > 0) AS covered
    FULL JOIN (SELECT account_id, period, sum(amount) AS posted
               FROM transfers
               WHERE kind = 'sla_credit'
               GROUP BY account_id, period) AS credited USING (account_id, period)
    WHERE $1::uuid IS NULL OR account_id = $1
    ORDER BY account_id, period";

/// Every closed month of the snapshot that has a service level, or was credited for one.
pub(super) async fn credited_periods(
    snapshot: &mut PgConnection,
    account: Option<AccountId>,
) -> Result<Vec<CreditedPeriod>, LedgerError> {
    let covered = format!("\"model\":\"{DEDICATED_PREFIX}");
    let query = sqlx::query_as(SELECT_CREDITED_PERIODS).persistent(false);
    query.bind(account).bind(covered).fetch_all(snapshot).await.map_err(failed)
}

/// An event with all that its charge was made of.
#[derive(FromRow)]
pub(super) struct ChargedEvent {
    pub(super) account_id: AccountId,
    pub(super) event_id: Uuid,
    pub(super) price_version: PriceVersionId,
    input: i64,
    output: i64,
    cache_read: i64,
    cache_write: i64,
    reasoning: i64,
    audio_input: i64,
    audio_output: i64,
    images: i64,
    pub(super) tier_above: i64,
    pub(super) outcome: i16,
    pub(super) cache_hit: bool,
    pub(super) charge: Amount,
    pub(super) saving: Amount,
}

impl ChargedEvent {
    /// The counts; `None` where one of them is negative.
    pub(super) fn quantities(&self) -> Option<Quantities> {
        let count = |count: i64| u64::try_from(count).ok();
        Some(Quantities {
            input: count(self.input)?,
            output: count(self.output)?,
            cache_read: count(self.cache_read)?,
            cache_write: count(self.cache_write)?,
            reasoning: count(self.reasoning)?,
            audio_input: count(self.audio_input)?,
            audio_output: count(self.audio_output)?,
            images: count(self.images)?,
        })
    }
}

const SELECT_CHARGED_EVENTS: &str = "
    SELECT account_id, event_id, price_version, input, output, cache_read, cache_write, reasoning,
           audio_input, audio_output, images, tier_above, outcome, cache_hit, charge, saving
    FROM usage_events
    WHERE $1::uuid IS NULL OR account_id = $1";

/// Every event of the snapshot, as a stream: at no time are more than a few in memory.
pub(super) fn charged_events(
    snapshot: &mut PgConnection,
    account: Option<AccountId>,
) -> impl Stream<Item = sqlx::Result<ChargedEvent>> + Unpin {
    let query = sqlx::query_as(SELECT_CHARGED_EVENTS).persistent(false);
    query.bind(account).fetch(snapshot)
}
