//! A batch of usage as the database takes it: rows of its type `usage_to_post`.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::json;
use sqlx::{
    Postgres,
    postgres::{PgHasArrayType, PgTypeInfo},
};

use super::{dialect::Dialect, event::NewEvent};
use crate::{
    ids::{AccountId, AuthorizationId, BudgetId, InstanceId, KeyId, ModelId, PriceVersionId},
    money::Amount,
};

/// The type's name; see `migrations/0029_usage_as_rows.sql`.
const ROW: &str = "usage_to_post";

/// A batch: its accounts in their order, and the events, each of which names the place of its own.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    pub(super) accounts: Vec<AccountId>,
    pub(super) events: Vec<Row<'a>>,
}

impl<'a> Rows<'a> {
    /// The rows of a batch that is sorted by account.
    pub(super) fn of(batch: impl Iterator<Item = &'a NewEvent>) -> Self {
        let mut rows = Self::default();
        for event in batch {
            if rows.accounts.last() != Some(&event.account_id) {
                rows.accounts.push(event.account_id);
            }
            // Batches are far smaller than what it holds.
            let slot = i32::try_from(rows.accounts.len()).unwrap_or(i32::MAX);
            rows.events.push(Row::of(slot, event));
        }
        rows
    }
}

/// An event; the fields are those of the type, in its order.
#[derive(Debug, sqlx::Encode)]
pub(super) struct Row<'a> {
    slot: i32,
    event_id: AuthorizationId,
    key_id: KeyId,
    occurred_at: DateTime<Utc>,
    price_version: PriceVersionId,
    model_id: ModelId,
    input: i64,
    output: i64,
    cache_read: i64,
    cache_write: i64,
    reasoning: i64,
    audio_input: i64,
    audio_output: i64,
    images: i64,
    tier_above: i64,
    latency_ms: Option<i32>,
    outcome: i16,
    cache_hit: bool,
    charge: Amount,
    saving: Amount,
    authorized: Amount,
    settle_by: Option<DateTime<Utc>>,
    issuer: Option<InstanceId>,
    request_id: &'a str,
    provider: &'a str,
    served_model: &'a str,
    region: &'a str,
    fallback_from: &'a str,
    budgets: Option<Vec<BudgetId>>,
    budget_starts: Option<Vec<NaiveDate>>,
    end_user: &'a str,
    labels: Option<String>,
    dialect: Option<i16>,
    provider_usage: Option<&'a str>,
}

impl sqlx::Type<Postgres> for Row<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name(ROW)
    }
}

impl PgHasArrayType for Row<'_> {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::array_of(ROW)
    }
}

impl<'a> Row<'a> {
    fn of(slot: i32, event: &'a NewEvent) -> Self {
        let used = &event.fingerprint.quantities;
        let (served, detail, authorized) = (&event.served, &event.detail, event.authorized);
        let latency = served.latency.map(|latency| latency.as_millis());
        let usage = detail.provider_usage.as_ref();
        let (budgets, starts) = event.budgets.iter().map(|one| (one.budget, one.start)).unzip();
        let is_budgeted = !event.budgets.is_empty();
        Self {
            slot,
            event_id: event.event_id,
            key_id: event.fingerprint.key_id,
            occurred_at: event.occurred_at,
            price_version: event.price_version,
            model_id: event.model_id,
            input: signed(used.input),
            output: signed(used.output),
            cache_read: signed(used.cache_read),
            cache_write: signed(used.cache_write),
            reasoning: signed(used.reasoning),
            audio_input: signed(used.audio_input),
            audio_output: signed(used.audio_output),
            images: signed(used.images),
            tier_above: signed(event.tier_above.unwrap_or(0)),
            latency_ms: latency.map(|latency| i32::try_from(latency).unwrap_or(i32::MAX)),
            outcome: event.fingerprint.outcome.number(),
            cache_hit: event.fingerprint.cache_hit,
            charge: event.charge,
            saving: event.saving,
            authorized: authorized.map_or(Amount::ZERO, |authorized| authorized.reserved),
            settle_by: authorized.map(|authorized| authorized.covered_until),
            issuer: authorized.map(|authorized| authorized.issuer),
            request_id: &detail.request_id,
            provider: &served.provider,
            served_model: &served.served_model,
            region: &served.region,
            fallback_from: &served.fallback_from,
            budgets: is_budgeted.then_some(budgets),
            budget_starts: is_budgeted.then_some(starts),
            end_user: &detail.end_user,
            labels: (!detail.labels.is_empty()).then(|| json!(detail.labels).to_string()),
            dialect: usage.map(|(dialect, _)| dialect_number(*dialect)),
            provider_usage: usage.map(|(_, json)| json.as_str()),
        }
    }
}

/// Counts are bounded far below what a `bigint` holds.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The number of a dialect, as in the contract.
const fn dialect_number(dialect: Dialect) -> i16 {
    match dialect {
        Dialect::OpenAi => 1,
        Dialect::Anthropic => 2,
        Dialect::Gemini => 3,
    }
}
