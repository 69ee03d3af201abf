//! Between the messages of `UsageService` and the types of `metering`.

use std::time::Duration;

use thiserror::Error;

use super::convert::{self, BadField, money, timestamp};
use crate::{
    ids::AuthorizationId,
    ledger::reversal::Reversal,
    metering::{
        dialect::Dialect,
        error::MeteringError,
        event::{Outcome, Recorded, Served},
        intake::{Counted, Source, Unauthorized, Usage},
        quantities::Quantities,
        report::{UnsettledAuthorization, UsageEvent, UsageSummary},
    },
    problem::{Problem, ProblemKind},
    proto::{self, record_usage_request as request},
};

/// Why one usage is refused: it cannot be read, or it cannot be recorded.
#[derive(Debug, Error)]
pub(super) enum UsageRefusal {
    /// A field.
    #[error(transparent)]
    Field(#[from] BadField),
    /// The usage.
    #[error(transparent)]
    Metering(#[from] MeteringError),
}

impl UsageRefusal {
    fn problem(&self) -> &dyn Problem {
        match self {
            Self::Field(error) => error,
            Self::Metering(error) => error,
        }
    }
}

impl Problem for UsageRefusal {
    fn kind(&self) -> ProblemKind {
        self.problem().kind()
    }

    fn reason(&self) -> &'static str {
        self.problem().reason()
    }

    fn field(&self) -> Option<String> {
        self.problem().field()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.problem().retry_after()
    }
}

pub(super) fn usage(message: proto::RecordUsageRequest) -> Result<Usage, BadField> {
    let source = match message.source {
        Some(request::Source::Token(token)) => Source::Token(token),
        Some(request::Source::Unauthorized(work)) => Source::Unauthorized(unauthorized(work)?),
        None => {
            let problem =
                "is missing; send the grant's token, or unauthorized for work without one";
            return Err(BadField::new("token", "MISSING_SOURCE", problem));
        }
    };
    let counted = match message.usage {
        Some(request::Usage::Quantities(counts)) => Counted::Normalised(quantities(counts)),
        Some(request::Usage::ProviderUsage(usage)) => {
            Counted::Provider(dialect(usage.dialect)?, usage.json)
        }
        None => return Err(no_usage("quantities")),
    };
    let latency =
        message.latency.map(|latency| convert::length("latency", &latency)).transpose()?;
    Ok(Usage {
        source,
        counted,
        outcome: outcome(message.outcome)?,
        cache_hit: message.cache_hit,
        served: Served {
            provider: message.provider,
            served_model: message.served_model,
            region: message.region,
            fallback_from: message.fallback_from,
            latency,
        },
    })
}

pub(super) fn no_usage(field: &str) -> BadField {
    let problem = "is missing; send quantities, or the provider's own usage as provider_usage";
    BadField::new(field, "MISSING_USAGE", problem)
}

pub(super) fn unknown_number(field: &str, value: i32) -> BadField {
    let problem = format!("{value} is not in the contract; take a value of the field's enum");
    BadField::new(field, "UNKNOWN_VALUE", problem)
}

fn unauthorized(work: proto::UnauthorizedUsage) -> Result<Unauthorized, BadField> {
    let occurred_at = work.occurred_at.ok_or_else(|| {
        let problem = "is missing; say when the work was done";
        BadField::new("unauthorized.occurred_at", "MISSING_TIME", problem)
    })?;
    Ok(Unauthorized {
        event_id: convert::id("unauthorized.event_id", &work.event_id)?,
        account: work.account,
        key_id: convert::id("unauthorized.key_id", &work.key_id)?,
        model: work.model,
        occurred_at: convert::moment("unauthorized.occurred_at", &occurred_at)?,
    })
}

const fn quantities(counts: proto::Quantities) -> Quantities {
    Quantities {
        input: counts.input,
        output: counts.output,
        cache_read: counts.cache_read,
        cache_write: counts.cache_write,
        reasoning: counts.reasoning,
        audio_input: counts.audio_input,
        audio_output: counts.audio_output,
        images: counts.images,
    }
}

const fn counts(quantities: Quantities) -> proto::Quantities {
    proto::Quantities {
        input: quantities.input,
        output: quantities.output,
        cache_read: quantities.cache_read,
        cache_write: quantities.cache_write,
        reasoning: quantities.reasoning,
        audio_input: quantities.audio_input,
        audio_output: quantities.audio_output,
        images: quantities.images,
    }
}

fn dialect(value: i32) -> Result<Dialect, BadField> {
    match proto::Dialect::try_from(value) {
        Ok(proto::Dialect::Openai) => Ok(Dialect::OpenAi),
        Ok(proto::Dialect::Anthropic) => Ok(Dialect::Anthropic),
        Ok(proto::Dialect::Gemini) => Ok(Dialect::Gemini),
        Ok(proto::Dialect::Unspecified) => {
            let problem = "is missing; say whose usage object it is, such as DIALECT_OPENAI";
            Err(BadField::new("provider_usage.dialect", "MISSING_DIALECT", problem))
        }
        Err(_) => Err(unknown_number("provider_usage.dialect", value)),
    }
}

fn outcome(value: i32) -> Result<Outcome, BadField> {
    match proto::Outcome::try_from(value) {
        Ok(proto::Outcome::Unspecified | proto::Outcome::Success) => Ok(Outcome::Success),
        Ok(proto::Outcome::ClientAborted) => Ok(Outcome::ClientAborted),
        Ok(proto::Outcome::ProviderError) => Ok(Outcome::ProviderError),
        Ok(proto::Outcome::Timeout) => Ok(Outcome::Timeout),
        Ok(proto::Outcome::ContentFiltered) => Ok(Outcome::ContentFiltered),
        Ok(proto::Outcome::Cancelled) => Ok(Outcome::Cancelled),
        Err(_) => Err(unknown_number("outcome", value)),
    }
}

pub(super) fn recorded(recorded: &Recorded) -> proto::RecordUsageResponse {
    let money = |amount| Some(money(amount, recorded.currency));
    proto::RecordUsageResponse {
        event_id: recorded.event_id.to_string(),
        charged: money(recorded.charge),
        duplicate: recorded.duplicate,
        overrun: money(recorded.overrun),
        price_version: recorded.price_version.0,
        saved: money(recorded.saving),
    }
}

pub(super) fn reversed(event: AuthorizationId, reversal: &Reversal) -> proto::ReverseUsageResponse {
    let money = |amount| Some(money(amount, reversal.currency));
    let to = &reversal.to;
    proto::ReverseUsageResponse {
        event_id: event.to_string(),
        reversed: money(to.total()),
        to_promotional: money(to.promotional),
        to_credits: money(to.credits),
        to_unbilled: money(to.unbilled),
        to_overdrawn: money(to.overdrawn),
    }
}

pub(super) fn usage_event(event: UsageEvent) -> proto::UsageEvent {
    let money = |amount| Some(money(amount, event.currency));
    proto::UsageEvent {
        event_id: event.event_id.to_string(),
        account_id: event.account_id.to_string(),
        key_id: event.key_id.to_string(),
        model: event.model,
        served_model: event.served.served_model,
        provider: event.served.provider,
        region: event.served.region,
        fallback_from: event.served.fallback_from,
        quantities: Some(counts(event.quantities)),
        price_version: event.price_version.0,
        tier_above: event.tier_above,
        charged: money(event.charge),
        overrun: money(event.overrun),
        saved: money(event.saving),
        outcome: i32::from(event.outcome.number()),
        cache_hit: event.cache_hit,
        occurred_at: Some(timestamp(event.occurred_at)),
        recorded_at: Some(timestamp(event.recorded_at)),
        latency: event.served.latency.map(convert::duration),
        posting: event.posting,
        period: event.period.to_string(),
        reversed: event.reversed,
    }
}

pub(super) fn summary(summary: UsageSummary) -> proto::UsageSummary {
    let money = |sum: rust_decimal::Decimal| {
        Some(proto::Money {
            currency_code: summary.currency.code().to_owned(),
            amount: sum.normalize().to_string(),
        })
    };
    proto::UsageSummary {
        group: summary.group,
        requests: summary.requests,
        quantities: Some(counts(summary.quantities)),
        charged: money(summary.charged),
        overrun: money(summary.overrun),
        saved: money(summary.saved),
    }
}

pub(super) fn unsettled(row: UnsettledAuthorization) -> proto::UnsettledAuthorization {
    proto::UnsettledAuthorization {
        authorization_id: row.authorization_id.to_string(),
        account_id: row.account_id.to_string(),
        key_id: row.key_id.to_string(),
        model: row.model,
        reserved: Some(money(row.reserved, row.currency)),
        authorized_at: Some(timestamp(row.authorized_at)),
        expired_at: Some(timestamp(row.expired_at)),
        request_id: row.request_id,
    }
}
