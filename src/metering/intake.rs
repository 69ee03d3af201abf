//! From what a gateway reports to an event that can be posted: verify the token, normalise the
//! counts, rate them at the authorized price.
//!
//! No step asks the database, but for work without a token and for a price that this server has not
//! met. A replay is answered before anything else is judged: what cannot be recorded now may well
//! have been recorded before.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;

use super::{
    dialect::{self, Dialect},
    error::MeteringError,
    event::{Fingerprint, NewEvent, Outcome, Recorded, Served},
    limits::{MAX_EXPONENT, MAX_NUMBER},
    quantities::Quantities,
    recorder::{Receipt, Recorder},
    store,
};
use crate::{
    accounts::directory::{Directory, DirectoryError},
    authorization::{Authorizer, grant::GrantClaims},
    catalog::{book::PriceBook, rating, version::PricingTerms},
    clock,
    ids::{AccountId, AuthorizationId, KeyId},
    problem::{Problem as _, ProblemKind},
    tasks::slowly,
};

/// What a gateway reports of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Under what it was served.
    pub source: Source,
    /// What was used.
    pub counted: Counted,
    /// How it ended.
    pub outcome: Outcome,
    /// The gateway's own cache answered.
    pub cache_hit: bool,
    /// Who served it.
    pub served: Served,
}

/// Under what a request was served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A grant's token.
    Token(String),
    /// Nothing that anybody promised.
    Unauthorized(Unauthorized),
}

/// Work that has no token: rated at the price of its moment, and wholly an overrun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unauthorized {
    /// If the work had an authorization, that one's id.
    pub event_id: AuthorizationId,
    /// Id or handle.
    pub account: String,
    /// A key that is or was the account's.
    pub key_id: KeyId,
    /// The model's name.
    pub model: String,
    /// When the work was done.
    pub occurred_at: DateTime<Utc>,
}

/// What was used, as it was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counted {
    /// In disjoint classes.
    Normalised(Quantities),
    /// The provider's own usage object, which is kept.
    Provider(Dialect, String),
}

/// Usage on its way into the books.
#[derive(Debug)]
pub enum Ticket {
    /// It is queued.
    Queued(Receipt),
    /// It had been recorded before.
    Answered(Recorded),
}

impl Ticket {
    /// Waits for the commit.
    ///
    /// # Errors
    /// As [`Receipt::answer`].
    pub async fn answer(self) -> Result<Recorded, MeteringError> {
        match self {
            Self::Queued(receipt) => receipt.answer().await,
            Self::Answered(recorded) => Ok(recorded),
        }
    }
}

/// Takes usage from gateways. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Intake {
    authorizer: Arc<Authorizer>,
    book: Arc<PriceBook>,
    directory: Arc<Directory>,
    recorder: Recorder,
    pool: PgPool,
}

/// Who did the work and under which id.
enum Origin {
    Grant(Box<GrantClaims>),
    Unauthorized(AccountId, Unauthorized),
}

impl Origin {
    const fn place(&self) -> (AccountId, AuthorizationId) {
        match self {
            Self::Grant(claims) => (claims.account_id, claims.authorization_id),
            Self::Unauthorized(account, work) => (*account, work.event_id),
        }
    }

    const fn key_id(&self) -> KeyId {
        match self {
            Self::Grant(claims) => claims.key_id,
            Self::Unauthorized(_, work) => work.key_id,
        }
    }

    fn model(&self) -> String {
        match self {
            Self::Grant(claims) => claims.model.clone(),
            Self::Unauthorized(_, work) => work.model.clone(),
        }
    }
}

impl Intake {
    /// An intake for what `authorizer` granted and `book` prices.
    #[must_use]
    pub const fn new(
        authorizer: Arc<Authorizer>,
        book: Arc<PriceBook>,
        directory: Arc<Directory>,
        recorder: Recorder,
        pool: PgPool,
    ) -> Self {
        Self { authorizer, book, directory, recorder, pool }
    }

    /// Records usage: OK means committed and on the disk.
    ///
    /// # Errors
    /// [`MeteringError`]; after [`MeteringError::Unconfirmed`] the usage may be recorded all the
    /// same.
    pub async fn record(&self, usage: Usage) -> Result<Recorded, MeteringError> {
        self.submit(usage).await?.answer().await
    }

    /// Queues usage; the ticket has the answer.
    ///
    /// # Errors
    /// What is wrong with the usage, or that too much is waiting.
    pub async fn submit(&self, usage: Usage) -> Result<Ticket, MeteringError> {
        let submitted = self.try_submit(usage).await;
        if submitted.as_ref().is_err_and(is_judgement) {
            self.recorder.count_refused();
        }
        submitted
    }

    async fn try_submit(&self, usage: Usage) -> Result<Ticket, MeteringError> {
        let Usage { source, counted, outcome, cache_hit, served } = usage;
        if outcome == Outcome::Cancelled {
            return Err(MeteringError::CancelledOutcome);
        }
        let origin = self.origin(source).await?;
        let place = origin.place();
        let (quantities, provider_usage) = normalise(counted)?;
        let used = Fingerprint {
            key_id: origin.key_id(),
            model: origin.model(),
            quantities,
            outcome,
            cache_hit,
        };
        let event = match origin {
            Origin::Grant(claims) => {
                self.rate_grant(*claims, used.clone(), served, provider_usage).await
            }
            Origin::Unauthorized(account, work) => {
                slowly(self.rate_work(account, &work, used.clone(), served, provider_usage)).await
            }
        };
        match event.and_then(|event| self.recorder.submit(event)) {
            Ok(receipt) => Ok(Ticket::Queued(receipt)),
            Err(error) if is_judgement(&error) => {
                let stored = store::stored(&self.pool, std::iter::once(place));
                let earlier = slowly(stored).await?.pop();
                let Some(earlier) = earlier else { return Err(error) };
                earlier.answer_to(&used).map(Ticket::Answered)
            }
            Err(error) => Err(error),
        }
    }

    async fn origin(&self, source: Source) -> Result<Origin, MeteringError> {
        match source {
            Source::Token(token) => Ok(Origin::Grant(Box::new(self.authorizer.claims(&token)?))),
            Source::Unauthorized(work) => {
                let account = slowly(self.directory.resolve(&work.account)).await.map_err(
                    |error| match error {
                        DirectoryError::UnknownAccount(name) => MeteringError::UnknownAccount(name),
                        DirectoryError::Database(failure) => failure.into(),
                    },
                )?;
                Ok(Origin::Unauthorized(account, work))
            }
        }
    }

    /// At the authorized price, whatever was published since.
    async fn rate_grant(
        &self,
        claims: GrantClaims,
        used: Fingerprint,
        served: Served,
        provider_usage: Option<(Dialect, String)>,
    ) -> Result<NewEvent, MeteringError> {
        let accepted_until = claims.accepted_until();
        if clock::now() > accepted_until {
            return Err(MeteringError::TooLate { expired: claims.expires_at, accepted_until });
        }
        let version = claims.price_version;
        let priced = match self.book.version(version) {
            Some(priced) => Some(priced),
            None => slowly(self.book.version_or_load(version)).await?,
        };
        let priced = priced.ok_or(MeteringError::UnknownPriceVersion(version))?;
        let rating = rating::rate(&priced.price, &used.quantities, used.cache_hit)?;
        Ok(NewEvent::of_grant(claims, used, &rating, served, provider_usage))
    }

    /// At the price of the moment at which the work was done.
    async fn rate_work(
        &self,
        account_id: AccountId,
        work: &Unauthorized,
        used: Fingerprint,
        served: Served,
        provider_usage: Option<(Dialect, String)>,
    ) -> Result<NewEvent, MeteringError> {
        let account = self.directory.account(account_id).await?;
        let account = account.ok_or_else(|| MeteringError::UnknownAccount(work.account.clone()))?;
        let scope = store::key_scope(&self.pool, account_id, work.key_id).await?;
        let (lineage, project) =
            scope.ok_or(MeteringError::UnknownKey { account: account_id, key: work.key_id })?;
        let model = self.book.model(&work.model);
        let model = model.ok_or_else(|| MeteringError::UnknownModel(work.model.clone()))?;
        let terms = PricingTerms {
            account_id: Some(account_id),
            currency: account.currency,
            discount_percent: account.discount_percent,
            model_discounts: &account.model_discounts,
        };
        let at = work.occurred_at;
        let priced = self.book.resolve_or_derive(&terms, &model, at).await?;
        let priced =
            priced.ok_or_else(|| MeteringError::Unpriced { model: work.model.clone(), at })?;
        let rating = rating::rate(&priced.price, &used.quantities, used.cache_hit)?;
        Ok(NewEvent {
            account_id,
            event_id: work.event_id,
            occurred_at: at,
            fingerprint: used,
            model_id: model.model_id,
            price_version: priced.version,
            currency: account.currency,
            charge: rating.charge,
            saving: rating.saving,
            tier_above: rating.tier_above,
            authorized: None,
            // Nobody reserved for it; it counts where its authorization would have been held.
            budgets: account
                .budgets
                .iter()
                .filter(|budget| budget.target.concerns(lineage, &project))
                .map(|budget| budget.at(at))
                .collect(),
            served,
            detail: super::event::Detail { provider_usage, ..Default::default() },
        })
    }
}

/// Whether an error is a judgement about the usage, which a replay is spared, and not a state of the
/// server.
fn is_judgement(error: &MeteringError) -> bool {
    matches!(
        error.kind(),
        ProblemKind::InvalidArgument | ProblemKind::NotFound | ProblemKind::FailedPrecondition
    )
}

type Normalised = (Quantities, Option<(Dialect, String)>);

fn normalise(counted: Counted) -> Result<Normalised, MeteringError> {
    match counted {
        Counted::Normalised(quantities) => Ok((quantities.checked()?, None)),
        Counted::Provider(dialect, json) => {
            let quantities = dialect::normalize(dialect, &json)?;
            if needs_a_look(&json) {
                // It was read a moment ago.
                let value = serde_json::from_str(&json).unwrap_or_default();
                check_kept(&value)?;
            }
            Ok((quantities, Some((dialect, json))))
        }
    }
}

/// Whether there may be something in it that JSON has and `jsonb` has not. Real ones never have, so
/// that nearly none is parsed a second time.
fn needs_a_look(json: &str) -> bool {
    let mut number = 0;
    let mut exponent = false;
    let strange = json.bytes().any(|byte| {
        match byte {
            b'0'..=b'9' | b'.' | b'+' | b'-' => number += 1,
            b'e' | b'E' if number > 0 => exponent = true,
            _ => number = 0,
        }
        exponent || number > MAX_NUMBER
    });
    strange || json.contains("\\u0000")
}

fn check_kept(value: &Value) -> Result<(), MeteringError> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => check_number(&number.to_string()),
        Value::String(text) => check_string(text),
        Value::Array(items) => items.iter().try_for_each(check_kept),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            check_string(name)?;
            check_kept(value)
        }),
    }
}

fn check_number(text: &str) -> Result<(), MeteringError> {
    let exponent = text
        .split(['e', 'E'])
        .nth(1)
        .map(|exponent| exponent.trim_start_matches(['+', '-']).parse::<u32>().unwrap_or(u32::MAX));
    if text.len() > MAX_NUMBER || exponent.is_some_and(|exponent| exponent > MAX_EXPONENT) {
        return Err(MeteringError::UsageNotKept("it has a number beyond all bounds"));
    }
    Ok(())
}

fn check_string(text: &str) -> Result<(), MeteringError> {
    if text.contains('\0') {
        return Err(MeteringError::UsageNotKept("it has a text with a zero character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(extra: &str) -> Result<Normalised, MeteringError> {
        let json = format!(r#"{{"prompt_tokens":3,"completion_tokens":5,"extra":{extra}}}"#);
        normalise(Counted::Provider(Dialect::OpenAi, json))
    }

    #[test]
    fn what_jsonb_cannot_hold_is_refused_before_it_is_queued() {
        let long = "1".repeat(MAX_NUMBER + 1);
        for extra in ["\"\\u0000\"", "{\"a\\u0000\":1}", "[1e999999]", "1E-99999", long.as_str()] {
            let refusal = kept(extra).unwrap_err();
            assert_eq!(refusal.reason(), "PROVIDER_USAGE_NOT_KEPT", "{extra}");
        }
    }

    #[test]
    fn what_providers_send_is_kept_as_it_came() {
        for extra in ["0.25", "1e-7", "\"2026-11-22T10:00:00.000000+00:00\"", "\"\\\\u0000\"", "{}"]
        {
            let (quantities, usage) = kept(extra).unwrap();
            assert_eq!((quantities.input, quantities.output), (3, 5));
            assert!(usage.unwrap().1.contains(extra));
        }
    }
}
