//! A usage event: what was used, what it costs, and what tells a replay from a conflict.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Datelike as _, Utc};

use super::{
    dialect::Dialect,
    error::MeteringError,
    limits::{MAX_DETAIL, MAX_LABELS, MAX_LATENCY, MAX_MODEL, MAX_NAME},
    quantities::{Quantities, TokenClass},
    window::UsageWindow,
};
use crate::{
    accounts::budgets::period::BudgetPeriod,
    authorization::grant::GrantClaims,
    catalog::rating::Rating,
    ids::{AccountId, AuthorizationId, InstanceId, KeyId, ModelId, PriceVersionId, moment_of},
    money::{Amount, Currency},
};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered in full.
    Success,
    /// The customer hung up; what was generated until then counts.
    ClientAborted,
    /// The provider failed.
    ProviderError,
    /// The provider took too long.
    Timeout,
    /// The provider's filter stopped it.
    ContentFiltered,
    /// The request was not made, and its reservation was given back.
    Cancelled,
}

impl Outcome {
    const ALL: [(Self, i16, &'static str); 6] = [
        (Self::Success, 1, "SUCCESS"),
        (Self::ClientAborted, 2, "CLIENT_ABORTED"),
        (Self::ProviderError, 3, "PROVIDER_ERROR"),
        (Self::Timeout, 4, "TIMEOUT"),
        (Self::ContentFiltered, 5, "CONTENT_FILTERED"),
        (Self::Cancelled, 6, "CANCELLED"),
    ];

    /// Its number in the contract and the database.
    #[must_use]
    pub fn number(self) -> i16 {
        Self::ALL.iter().find(|(outcome, ..)| *outcome == self).map_or(0, |(_, number, _)| *number)
    }

    /// The outcome of a number; `None` where it has none.
    #[must_use]
    pub fn of_number(number: i16) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == number).map(|(outcome, ..)| *outcome)
    }

    /// Its name in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(outcome, ..)| *outcome == self).map_or("", |(.., name)| name)
    }
}

/// What tells a replay from a conflict: two events of one id that agree in it are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// The key the work was done under.
    pub key_id: KeyId,
    /// The name of the model that is charged.
    pub model: String,
    /// What was used, normalised.
    pub quantities: Quantities,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the gateway's own cache answered.
    pub cache_hit: bool,
}

impl Fingerprint {
    /// The first field in which another one differs, as the contract spells it, with its value here
    /// and there.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let differs = |field, here: String, there: String| Some((field, here, there));
        if self.key_id != other.key_id {
            return differs("key_id", self.key_id.to_string(), other.key_id.to_string());
        }
        if self.model != other.model {
            return differs("model", self.model.clone(), other.model.clone());
        }
        // The outcome explains counts that differ, as after a cancellation.
        if self.outcome != other.outcome {
            return differs("outcome", self.outcome.name().into(), other.outcome.name().into());
        }
        if self.cache_hit != other.cache_hit {
            return differs("cache_hit", self.cache_hit.to_string(), other.cache_hit.to_string());
        }
        for class in TokenClass::ALL {
            let (here, there) = (self.quantities.of(class), other.quantities.of(class));
            if here != there {
                return differs(field_of(class), here.to_string(), there.to_string());
            }
        }
        let (here, there) = (self.quantities.images, other.quantities.images);
        if here != there {
            return differs("quantities.images", here.to_string(), there.to_string());
        }
        None
    }
}

const fn field_of(class: TokenClass) -> &'static str {
    match class {
        TokenClass::Input => "quantities.input",
        TokenClass::Output => "quantities.output",
        TokenClass::CacheRead => "quantities.cache_read",
        TokenClass::CacheWrite => "quantities.cache_write",
        TokenClass::Reasoning => "quantities.reasoning",
        TokenClass::AudioInput => "quantities.audio_input",
        TokenClass::AudioOutput => "quantities.audio_output",
    }
}

/// The authorization under which the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authorized {
    /// The server that holds the reservation.
    pub issuer: InstanceId,
    /// What it holds.
    pub reserved: Amount,
    /// Until when it covers the usage; what is posted later is wholly an overrun.
    pub covered_until: DateTime<Utc>,
}

/// Who served it, what was served and where. It informs and never changes the charge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Served {
    /// The provider.
    pub provider: String,
    /// The model and version that answered.
    pub served_model: String,
    /// Where.
    pub region: String,
    /// The model that was tried first.
    pub fallback_from: String,
    /// How long the request took.
    pub latency: Option<Duration>,
}

/// What can be erased for a person, or is only evidence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detail {
    /// The gateway's id of the request.
    pub request_id: String,
    /// The customer's own user.
    pub end_user: String,
    /// The customer's labels.
    pub labels: BTreeMap<String, String>,
    /// The provider's own usage object as it came, a JSON object.
    pub provider_usage: Option<(Dialect, String)>,
}

/// A rated usage event that can be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Who pays.
    pub account_id: AccountId,
    /// The authorization's id, or one that the caller made.
    pub event_id: AuthorizationId,
    /// When the work was done: the moment it was authorized.
    pub occurred_at: DateTime<Utc>,
    /// What was used.
    pub fingerprint: Fingerprint,
    /// The model that is charged.
    pub model_id: ModelId,
    /// The price that is charged.
    pub price_version: PriceVersionId,
    /// The account's currency.
    pub currency: Currency,
    /// What it costs, in the account's currency.
    pub charge: Amount,
    /// What the customer saved because the gateway's cache answered.
    pub saving: Amount,
    /// The context tier that priced it: above so many prompt tokens.
    pub tier_above: Option<u64>,
    /// `None` for work without an authorization, which is wholly an overrun.
    pub authorized: Option<Authorized>,
    /// The budgets it is charged to beside the account's funds, and in which of their periods.
    pub budgets: Vec<BudgetPeriod>,
    /// Who served it.
    pub served: Served,
    /// What is kept apart.
    pub detail: Detail,
}

impl NewEvent {
    /// Usage under a grant.
    #[must_use]
    pub fn of_grant(
        claims: GrantClaims,
        used: Fingerprint,
        rating: &Rating,
        served: Served,
        provider_usage: Option<(Dialect, String)>,
    ) -> Self {
        let authorized = Authorized {
            issuer: claims.issuer,
            reserved: claims.reserved,
            covered_until: claims.covered_until(),
        };
        Self {
            account_id: claims.account_id,
            event_id: claims.authorization_id,
            occurred_at: claims.authorized_at,
            fingerprint: used,
            model_id: claims.model_id,
            price_version: claims.price_version,
            currency: claims.currency,
            charge: rating.charge,
            saving: rating.saving,
            tier_above: rating.tier_above,
            authorized: Some(authorized),
            budgets: claims.budgets,
            served,
            detail: Detail {
                request_id: claims.request_id,
                end_user: claims.end_user,
                labels: claims.labels,
                provider_usage,
            },
        }
    }

    /// The cancellation of a grant: an event of charge zero under the authorization's id. Recorded
    /// after usage, it is answered with that usage and changes nothing.
    #[must_use]
    pub fn cancellation(claims: GrantClaims) -> Self {
        let used = Fingerprint {
            key_id: claims.key_id,
            model: claims.model.clone(),
            quantities: Quantities::default(),
            outcome: Outcome::Cancelled,
            cache_hit: false,
        };
        let nothing = Rating { charge: Amount::ZERO, saving: Amount::ZERO, tier_above: None };
        Self::of_grant(claims, used, &nothing, Served::default(), None)
    }

    /// Itself, if the database will take it: everything is judged before it is queued, because what
    /// the database refuses costs its whole batch another attempt.
    ///
    /// # Errors
    /// [`MeteringError`] names the first field that cannot be recorded.
    pub fn checked(self, window: &UsageWindow) -> Result<Self, MeteringError> {
        let made =
            moment_of(self.event_id.0).ok_or(MeteringError::NotVersionSeven(self.event_id))?;
        let (id_field, time_field) = match self.authorized {
            Some(_) => ("token", "token"),
            None => ("unauthorized.event_id", "unauthorized.occurred_at"),
        };
        window.check(id_field, made)?;
        window.check(time_field, self.occurred_at)?;
        self.fingerprint.quantities.checked()?;
        let served = &self.served;
        check_text("provider", &served.provider, MAX_NAME)?;
        check_text("served_model", &served.served_model, MAX_MODEL)?;
        check_text("region", &served.region, MAX_NAME)?;
        check_text("fallback_from", &served.fallback_from, MAX_MODEL)?;
        if served.latency.is_some_and(|latency| latency > MAX_LATENCY) {
            return Err(MeteringError::Latency);
        }
        check_text("token", &self.detail.request_id, MAX_DETAIL)?;
        check_text("token", &self.detail.end_user, MAX_DETAIL)?;
        let labels = &self.detail.labels;
        let plain = |text: &String| is_plain(text, MAX_DETAIL);
        if labels.len() > MAX_LABELS
            || !labels.iter().all(|(name, value)| plain(name) && plain(value))
        {
            return Err(MeteringError::Labels);
        }
        Ok(self)
    }

    /// The calendar month it occurred in, in UTC, counted from the year 0.
    #[must_use]
    pub fn month(&self) -> i32 {
        let month = i32::try_from(self.occurred_at.month0()).unwrap_or(0);
        self.occurred_at.year().saturating_mul(12).saturating_add(month)
    }
}

fn check_text(field: &'static str, text: &str, limit: usize) -> Result<(), MeteringError> {
    if is_plain(text, limit) { Ok(()) } else { Err(MeteringError::Text { field, limit }) }
}

fn is_plain(text: &str, limit: usize) -> bool {
    // A character has at most four bytes; the count is only needed in between.
    (text.len() <= limit || text.chars().count() <= limit) && !text.chars().any(char::is_control)
}

/// What is recorded under an id, as far as an answer needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The account that paid.
    pub account_id: AccountId,
    /// The event.
    pub event_id: AuthorizationId,
    /// What was used.
    pub fingerprint: Fingerprint,
    /// The price it was charged at.
    pub price_version: PriceVersionId,
    /// The account's currency.
    pub currency: Currency,
    /// What it cost.
    pub charge: Amount,
    /// How far that went beyond its authorization.
    pub overrun: Amount,
    /// What the customer saved.
    pub saving: Amount,
}

impl StoredEvent {
    /// The first answer again.
    ///
    /// # Errors
    /// [`MeteringError::Conflict`] where something else is recorded under the id. A cancellation
    /// that comes after usage is no conflict: the usage stands, and is the answer.
    pub fn answer_to(self, given: &Fingerprint) -> Result<Recorded, MeteringError> {
        let late_cancellation = given.outcome == Outcome::Cancelled;
        if let Some((field, stored, given)) = self.fingerprint.difference(given)
            && !late_cancellation
        {
            let cancelled = self.fingerprint.outcome == Outcome::Cancelled;
            return Err(MeteringError::Conflict {
                event: self.event_id,
                field,
                stored,
                given,
                cancelled,
            });
        }
        Ok(Recorded {
            account_id: self.account_id,
            event_id: self.event_id,
            outcome: self.fingerprint.outcome,
            price_version: self.price_version,
            currency: self.currency,
            charge: self.charge,
            overrun: self.overrun,
            saving: self.saving,
            duplicate: true,
        })
    }
}

/// The answer to usage that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Who paid.
    pub account_id: AccountId,
    /// The event.
    pub event_id: AuthorizationId,
    /// How it ended; after a cancellation that came too late, how the usage ended.
    pub outcome: Outcome,
    /// The price it was charged at.
    pub price_version: PriceVersionId,
    /// The account's currency.
    pub currency: Currency,
    /// What it cost.
    pub charge: Amount,
    /// How far that went beyond the authorization.
    pub overrun: Amount,
    /// What the customer saved because the gateway's cache answered.
    pub saving: Amount,
    /// It had been recorded before.
    pub duplicate: bool,
}
