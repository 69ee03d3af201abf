//! What is known of an issued key, and what it may be used for.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use crate::{
    accounts::{
        account::handle, contract::NAME_LENGTH, error::InvalidField, fields::required_text,
        key::Tier,
    },
    catalog::pattern::ModelPattern,
    ids::{AccountId, KeyId},
    money::Amount,
};

/// The most entries of a key's allowlist: each is compared at every request.
pub const MAX_ALLOWED_MODELS: usize = 200;

/// The models a key may call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelPatterns(Vec<ModelPattern>);

impl ModelPatterns {
    /// Reads an allowlist: names, or patterns that end in `*`; empty means all models.
    ///
    /// # Errors
    /// The entry at fault, or that there are too many.
    pub fn parse(patterns: &[String]) -> Result<Self, InvalidField> {
        if patterns.len() > MAX_ALLOWED_MODELS {
            return Err(InvalidField::new(
                "limits.allowed_models",
                "TOO_MANY",
                format!(
                    "has {} entries; {MAX_ALLOWED_MODELS} are the most, and a pattern that ends \
                     in * covers many models",
                    patterns.len()
                ),
            ));
        }
        patterns
            .iter()
            .enumerate()
            .map(|(index, text)| {
                text.parse().map_err(|error: crate::catalog::pattern::PatternError| {
                    InvalidField::new(
                        &format!("limits.allowed_models[{index}]"),
                        "INVALID_PATTERN",
                        error.to_string(),
                    )
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether the model may be called.
    #[must_use]
    pub fn allows(&self, model: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.matches(model))
    }

    /// The patterns as they were given.
    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// Whether a key may make requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyStatus {
    /// It may.
    Active,
    /// It was revoked, for good.
    Revoked,
    /// Its time is over, for good.
    Expired,
}

/// An issued key: everything but its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its id.
    pub key_id: KeyId,
    /// Whose it is.
    pub account_id: AccountId,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// What people call it.
    pub name: String,
    /// By its prefix.
    pub tier: Tier,
    /// What may be shown of it, such as `ga_sk_…x7Qp`.
    pub hint: String,
    /// The models it may call.
    pub allowed_models: ModelPatterns,
    /// The most tokens of one request, input and output together; `None` for no cap.
    pub max_tokens_per_request: Option<u64>,
    /// The most one request may cost, in the account's currency; `None` for no cap.
    pub max_cost_per_request: Option<Amount>,
    /// When it was issued.
    pub created_at: DateTime<Utc>,
    /// From when it is refused; `None` for never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Why it was revoked.
    pub revoked_reason: String,
    /// The key that it succeeded by rotation.
    pub rotated_from: Option<KeyId>,
    /// The first key of its rotation, itself where it succeeded none: what shares budgets, rates and
    /// norms.
    pub lineage: KeyId,
    /// Which of the customer's projects it belongs to; empty for none.
    pub project: String,
    /// What it may do in a minute, and what is a spike.
    pub rates: Rates,
}

/// What a key may do in a minute, and what is a spike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Requests in a minute; `None` for no limit.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens in a minute, input and allowed output together; `None` for no limit.
    pub tokens_per_minute: Option<NonZeroU32>,
    /// `None` for no guard.
    pub spike_guard: Option<SpikeGuard>,
}

/// When a request, or a minute of requests, is so far from the usual that it is refused or flagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpikeGuard {
    /// Whether a spike is refused, or only flagged.
    pub refuses: bool,
    /// Above so many times the norm; more than 1.
    pub multiple: Decimal,
    /// What may cost no more than this is never a spike, in the account's currency.
    pub floor: Amount,
}

/// Decimals of a spike guard's multiple.
const MULTIPLE_DECIMALS: u32 = 4;
/// The largest multiple.
const MAX_MULTIPLE: u32 = 1_000_000;

impl SpikeGuard {
    /// Reads a multiple.
    ///
    /// # Errors
    /// That it is no decimal above 1 with at most 4 decimals.
    pub fn multiple(field: &str, text: &str) -> Result<Decimal, InvalidField> {
        let multiple = (text.len() <= 20).then(|| Decimal::from_str_exact(text).ok()).flatten();
        multiple
            .map(|multiple| multiple.normalize())
            .filter(|multiple| {
                *multiple > Decimal::ONE
                    && *multiple <= Decimal::from(MAX_MULTIPLE)
                    && multiple.scale() <= MULTIPLE_DECIMALS
            })
            .ok_or_else(|| {
                let shown: String = text.chars().take(40).collect();
                let problem = format!(
                    "{shown:?} is not a multiple; give a number above 1 and up to {MAX_MULTIPLE} \
                     with at most {MULTIPLE_DECIMALS} decimals, such as 10"
                );
                InvalidField::new(field, "INVALID_MULTIPLE", problem)
            })
    }
}

impl KeyRecord {
    /// What it may do at this moment.
    #[must_use]
    pub fn status_at(&self, now: DateTime<Utc>) -> KeyStatus {
        if self.revoked_at.is_some() {
            KeyStatus::Revoked
        } else if self.expires_at.is_some_and(|deadline| deadline <= now) {
            KeyStatus::Expired
        } else {
            KeyStatus::Active
        }
    }
}

/// What can be said about a key when it is issued, and changed later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyTerms {
    /// What people call it.
    pub name: String,
    /// The models it may call.
    pub allowed_models: ModelPatterns,
    /// The most tokens of one request; `None` for no cap.
    pub max_tokens_per_request: Option<u64>,
    /// The most one request may cost, in the account's currency; `None` for no cap.
    pub max_cost_per_request: Option<Amount>,
    /// From when it is refused; `None` for never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Which of the customer's projects it belongs to; empty for none.
    pub project: String,
    /// What it may do in a minute, and what is a spike.
    pub rates: Rates,
}

impl KeyTerms {
    /// Checks every field that a type does not check already.
    ///
    /// # Errors
    /// The first field at fault, as the contract spells it.
    pub fn check(&self, now: DateTime<Utc>) -> Result<(), InvalidField> {
        required_text("name", &self.name, NAME_LENGTH)?;
        if !self.project.is_empty() {
            handle("project", &self.project)?;
        }
        if self.rates.spike_guard.is_some_and(|guard| guard.floor.is_negative()) {
            let problem = "is below zero; give zero or more, or leave it out";
            return Err(InvalidField::new("limits.spike_guard.floor.amount", "NEGATIVE", problem));
        }
        if self.max_tokens_per_request.is_some_and(|most| i64::try_from(most).is_err() || most == 0)
        {
            return Err(InvalidField::new(
                "limits.max_tokens_per_request",
                "OUT_OF_RANGE",
                format!("must be 1 to {}, or 0 for no cap", i64::MAX),
            ));
        }
        if self.max_cost_per_request.is_some_and(|most| !most.is_positive()) {
            return Err(InvalidField::new(
                "limits.max_cost_per_request.amount",
                "NOT_POSITIVE",
                "must be above zero; leave it out for no cap",
            ));
        }
        if self.expires_at.is_some_and(|deadline| deadline <= now) {
            return Err(InvalidField::new(
                "expires_at",
                "IN_THE_PAST",
                "is in the past; give a later time, leave it out for never, or use RevokeKey to \
                 end the key now",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(of: &[&str]) -> Result<ModelPatterns, InvalidField> {
        ModelPatterns::parse(&of.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn an_empty_allowlist_allows_every_model_and_any_other_only_what_it_names() {
        assert!(patterns(&[]).unwrap().allows("gpt-4o"));
        let some = patterns(&["Pro/*", "gpt-4o"]).unwrap();
        assert!(some.allows("Pro/deepseek-ai/DeepSeek-V3.2") && some.allows("gpt-4o"));
        assert!(!some.allows("gpt-4o-mini"));
        assert_eq!(some.to_strings(), ["Pro/*", "gpt-4o"]);
    }

    #[test]
    fn the_entry_at_fault_is_named() {
        let refusal = patterns(&["gpt-4o", "a*b"]).unwrap_err();
        assert_eq!(refusal.field, "limits.allowed_models[1]");
        let many = vec!["x"; MAX_ALLOWED_MODELS + 1];
        assert_eq!(patterns(&many).unwrap_err().reason, "TOO_MANY");
    }
}
