//! What was used: event by event, in totals, and what was authorized and never reported.
//!
//! Reads have a pool of their own, whose statements are bounded in time, so that a question about
//! years of usage holds up nobody else. Totals come from the daily [`rollups`](super::rollups) and
//! from the events that are not in them, in one snapshot. Charges are those of the events; what was
//! taken back is in the ledger's reversals.

mod store;

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{error::MeteringError, event::Served, quantities::Quantities};
use crate::{
    database::reports::ReportPool,
    ids::{AccountId, AuthorizationId, KeyId, ModelId, PriceVersionId},
    metering::event::Outcome,
    money::{Amount, Currency},
};

/// A stretch of time in which usage occurred: from its beginning, before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// From here on.
    pub from: Option<DateTime<Utc>>,
    /// Before this.
    pub until: Option<DateTime<Utc>>,
}

impl Span {
    /// Checks that it is not empty.
    ///
    /// # Errors
    /// [`MeteringError::EmptyRange`].
    pub fn new(
        from: Option<DateTime<Utc>>,
        until: Option<DateTime<Utc>>,
    ) -> Result<Self, MeteringError> {
        if from.zip(until).is_some_and(|(from, until)| until <= from) {
            return Err(MeteringError::EmptyRange);
        }
        Ok(Self { from, until })
    }
}

/// Which events of an account to list.
#[derive(Debug, Clone, Copy)]
pub struct UsageQuery {
    /// Whose.
    pub account: AccountId,
    /// Under this key alone.
    pub key_id: Option<KeyId>,
    /// Of this model alone.
    pub model_id: Option<ModelId>,
    /// When they occurred.
    pub span: Span,
}

/// A usage event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageEvent {
    /// Its id.
    pub event_id: AuthorizationId,
    /// Who paid.
    pub account_id: AccountId,
    /// The key the work was done under.
    pub key_id: KeyId,
    /// The name of the model that was charged.
    pub model: String,
    /// Who served it.
    pub served: Served,
    /// What was used.
    pub quantities: Quantities,
    /// The price it was charged at.
    pub price_version: PriceVersionId,
    /// The context tier that priced it; 0 is the base price.
    pub tier_above: u64,
    /// The account's currency.
    pub currency: Currency,
    /// What it cost.
    pub charge: Amount,
    /// How far that went beyond its authorization.
    pub overrun: Amount,
    /// What the customer saved because the gateway's cache answered.
    pub saving: Amount,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the gateway's own cache answered.
    pub cache_hit: bool,
    /// When the work was done.
    pub occurred_at: DateTime<Utc>,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
    /// The account's posting that charged it; 0 where it cost nothing.
    pub posting: i64,
    /// The first day of its billing period.
    pub period: NaiveDate,
    /// Whether its charge was taken back.
    pub reversed: bool,
}

/// What totals are by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// The model that was charged.
    Model,
    /// The key.
    Key,
    /// The day it occurred on, in UTC.
    Day,
    /// The account.
    Account,
}

/// Totals of one group in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSummary {
    /// The model's name, the key's id, the day or the account's id.
    pub group: String,
    /// The currency of every amount.
    pub currency: Currency,
    /// How many events.
    pub requests: u64,
    /// What was used.
    pub quantities: Quantities,
    /// What it cost. Totals may exceed what one account can hold, hence no [`Amount`].
    pub charged: Decimal,
    /// How far that went beyond authorizations.
    pub overrun: Decimal,
    /// What customers saved.
    pub saved: Decimal,
}

/// Where a page of totals ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryCursor {
    /// What the last group cost.
    pub charged: Decimal,
    /// The last group.
    pub group: String,
    /// Its currency.
    pub currency: String,
}

impl SummaryCursor {
    /// The place of a group in the list.
    #[must_use]
    pub fn of(summary: &UsageSummary) -> Self {
        Self {
            charged: summary.charged,
            group: summary.group.clone(),
            currency: summary.currency.code().to_owned(),
        }
    }
}

/// An authorization that expired and whose usage nobody has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsettledAuthorization {
    /// Its id.
    pub authorization_id: AuthorizationId,
    /// Who would pay.
    pub account_id: AccountId,
    /// Whose key it was.
    pub key_id: KeyId,
    /// What it was for.
    pub model: String,
    /// The account's currency.
    pub currency: Currency,
    /// What it could have cost.
    pub reserved: Amount,
    /// When it was made.
    pub authorized_at: DateTime<Utc>,
    /// When it expired.
    pub expired_at: DateTime<Utc>,
    /// The gateway's id of the request.
    pub request_id: String,
}

/// Where a page of the unsettled ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsettledCursor {
    /// The account of the last one.
    pub account: Uuid,
    /// The last one.
    pub authorization: Uuid,
}

/// Answers what was used.
#[derive(Debug, Clone)]
pub struct UsageReports {
    reports: ReportPool,
}

impl UsageReports {
    /// Reports of this database.
    #[must_use]
    pub const fn new(reports: ReportPool) -> Self {
        Self { reports }
    }

    /// An account's events, newest first, after the event `after`.
    ///
    /// # Errors
    /// The database failed or took too long, or too many reports are being read.
    pub async fn list(
        &self,
        query: &UsageQuery,
        after: Option<AuthorizationId>,
        limit: i64,
    ) -> Result<Vec<UsageEvent>, MeteringError> {
        let mut snapshot = self.reports.snapshot().await?;
        Ok(store::list(&mut snapshot, query, after, limit).await?)
    }

    /// Totals of one account or of all, dearest first.
    ///
    /// # Errors
    /// The database failed or took too long, or too many reports are being read.
    pub async fn summarize(
        &self,
        account: Option<AccountId>,
        span: Span,
        grouping: Grouping,
        after: Option<SummaryCursor>,
        limit: i64,
    ) -> Result<Vec<UsageSummary>, MeteringError> {
        let mut snapshot = self.reports.snapshot().await?;
        Ok(store::summarize(&mut snapshot, account, span, grouping, after, limit).await?)
    }

    /// Authorizations that expired and have no event now: where revenue leaks.
    ///
    /// # Errors
    /// The database failed or took too long, or too many reports are being read.
    pub async fn unsettled(
        &self,
        account: Option<AccountId>,
        after: Option<UnsettledCursor>,
        limit: i64,
    ) -> Result<Vec<UnsettledAuthorization>, MeteringError> {
        let mut snapshot = self.reports.snapshot().await?;
        Ok(store::unsettled(&mut snapshot, account, after, limit).await?)
    }
}

/// When keys of an account were last used: when the newest request occurred that is recorded of each.
/// It comes from the daily sums and the events that are not in them, so that no request pays for it.
///
/// # Errors
/// Failures of the database.
pub async fn last_used(
    snapshot: &mut PgConnection,
    account: AccountId,
    keys: &[KeyId],
) -> Result<HashMap<KeyId, DateTime<Utc>>, MeteringError> {
    Ok(store::last_used(snapshot, account, keys).await?.into_iter().collect())
}
