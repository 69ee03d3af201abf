//! Keys between messages and the domain.

use std::{
    collections::{BTreeSet, HashMap},
    num::NonZeroU32,
};

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    accounts::{
        key::Tier,
        keys::record::{KeyRecord, KeyStatus, KeyTerms, ModelPatterns, Rates, SpikeGuard},
    },
    api::{
        account_convert::unknown_choice,
        convert::{self, BadField},
        status::{ERROR_DOMAIN, refused},
    },
    clock,
    identity::{Caller, Role},
    money::{Amount, Currency},
    proto,
};

/// What may cost no more is no spike, unless a guard says otherwise: 0.01 of any currency.
const USUAL_SPIKE_FLOOR: Amount = Amount::HUNDREDTH;
/// Hashes in one call.
const MOST_HASHES: usize = 1_000;

pub(super) fn read_tier(value: i32, caller: &Caller) -> Result<Tier, Status> {
    match proto::Tier::try_from(value) {
        Ok(proto::Tier::Standard) => Ok(Tier::Standard),
        Ok(proto::Tier::Pro) if caller.role == Role::Tenant => Err(pro_key_refused()),
        Ok(proto::Tier::Pro) => Ok(Tier::Pro),
        Ok(proto::Tier::Unspecified) => {
            let problem = "is missing; TIER_STANDARD makes a ga_sk_ key, TIER_PRO a ga_pro_ key";
            Err(refused(BadField::new("tier", "MISSING", problem)))
        }
        Err(_) => Err(refused(unknown_choice("tier", value))),
    }
}

fn pro_key_refused() -> Status {
    let message = "a tenant cannot issue a ga_pro_ key; ask whoever operates this service";
    let mut details =
        ErrorDetails::with_error_info("PRO_KEY_NOT_ALLOWED", ERROR_DOMAIN, HashMap::new());
    details.add_bad_request_violation("tier", message);
    Status::with_error_details(tonic::Code::PermissionDenied, message, details)
}

pub(super) fn read_terms(
    name: String,
    project: String,
    limits: Option<proto::KeyLimits>,
    expires_at: Option<prost_types::Timestamp>,
    currency: Currency,
) -> Result<KeyTerms, Status> {
    let limits = limits.unwrap_or_default();
    let max_cost = limits.max_cost_per_request.as_ref();
    let expires_at = expires_at.map(|moment| convert::moment("expires_at", &moment));
    Ok(KeyTerms {
        name,
        allowed_models: ModelPatterns::parse(&limits.allowed_models).map_err(refused)?,
        max_tokens_per_request: Some(limits.max_tokens_per_request).filter(|most| *most > 0),
        max_cost_per_request: convert::optional_amount(
            "limits.max_cost_per_request",
            max_cost,
            currency,
        )
        .map_err(refused)?,
        expires_at: expires_at.transpose().map_err(refused)?,
        project,
        rates: Rates {
            requests_per_minute: rate("requests_per_minute", limits.requests_per_minute)?,
            tokens_per_minute: rate("tokens_per_minute", limits.tokens_per_minute)?,
            spike_guard: match &limits.spike_guard {
                Some(guard) => Some(read_spike_guard(guard, currency)?),
                None => None,
            },
        },
    })
}

fn rate(field: &str, rate: u64) -> Result<Option<NonZeroU32>, Status> {
    let fits = u32::try_from(rate).map_err(|_| {
        let problem = format!("must be 1 to {}, or 0 for no limit", u32::MAX);
        refused(BadField::new(format!("limits.{field}"), "OUT_OF_RANGE", problem))
    })?;
    Ok(NonZeroU32::new(fits))
}

fn read_spike_guard(guard: &proto::SpikeGuard, currency: Currency) -> Result<SpikeGuard, Status> {
    let refuses = match proto::SpikeGuardMode::try_from(guard.mode) {
        Ok(proto::SpikeGuardMode::Refuse) => true,
        Ok(proto::SpikeGuardMode::Flag) => false,
        Ok(proto::SpikeGuardMode::Unspecified) => {
            let problem = "is missing; REFUSE denies a spike, FLAG warns in the grant";
            return Err(refused(BadField::new("limits.spike_guard.mode", "MISSING", problem)));
        }
        Err(_) => return Err(refused(unknown_choice("limits.spike_guard.mode", guard.mode))),
    };
    let multiple = SpikeGuard::multiple("limits.spike_guard.multiple", &guard.multiple);
    let floor =
        convert::optional_amount("limits.spike_guard.floor", guard.floor.as_ref(), currency);
    Ok(SpikeGuard {
        refuses,
        multiple: multiple.map_err(refused)?,
        floor: floor.map_err(refused)?.unwrap_or(USUAL_SPIKE_FLOOR),
    })
}

fn shown(rate: Option<NonZeroU32>) -> u64 {
    rate.map_or(0, |rate| rate.get().into())
}

fn spike_guard(guard: SpikeGuard, currency: Currency) -> proto::SpikeGuard {
    let mode =
        if guard.refuses { proto::SpikeGuardMode::Refuse } else { proto::SpikeGuardMode::Flag };
    proto::SpikeGuard {
        mode: mode.into(),
        multiple: guard.multiple.to_string(),
        floor: Some(convert::money(guard.floor, currency)),
    }
}

pub(super) fn key_message(key: KeyRecord, currency: Currency) -> proto::Key {
    let status = match key.status_at(clock::now()) {
        KeyStatus::Active => proto::KeyStatus::Active,
        KeyStatus::Revoked => proto::KeyStatus::Revoked,
        KeyStatus::Expired => proto::KeyStatus::Expired,
    };
    proto::Key {
        key_id: key.key_id.to_string(),
        account_id: key.account_id.to_string(),
        name: key.name,
        tier: match key.tier {
            Tier::Standard => proto::Tier::Standard,
            Tier::Pro => proto::Tier::Pro,
        }
        .into(),
        hint: key.hint,
        status: status.into(),
        limits: Some(proto::KeyLimits {
            allowed_models: key.allowed_models.to_strings(),
            max_tokens_per_request: key.max_tokens_per_request.unwrap_or(0),
            max_cost_per_request: key
                .max_cost_per_request
                .map(|most| convert::money(most, currency)),
            requests_per_minute: shown(key.rates.requests_per_minute),
            tokens_per_minute: shown(key.rates.tokens_per_minute),
            spike_guard: key.rates.spike_guard.map(|guard| spike_guard(guard, currency)),
        }),
        project: key.project,
        created_at: Some(convert::timestamp(key.created_at)),
        expires_at: key.expires_at.map(convert::timestamp),
        revoked_at: key.revoked_at.map(convert::timestamp),
        revoked_reason: key.revoked_reason,
        rotated_from: key.rotated_from.map(|from| from.to_string()).unwrap_or_default(),
        last_used_at: None,
    }
}

/// Hashes of keys, each once.
pub(super) fn read_hashes(hashes: &[Vec<u8>]) -> Result<Vec<[u8; 32]>, Status> {
    let wrong = |field: String, reason, problem: String| {
        Err(refused(BadField::new(field, reason, problem)))
    };
    if hashes.is_empty() {
        let problem = "is missing; give the SHA-256 of at least one key";
        return wrong("key_hashes".to_owned(), "MISSING", problem.to_owned());
    }
    if hashes.len() > MOST_HASHES {
        let problem =
            format!("has {} hashes; give at most {MOST_HASHES} in one call", hashes.len());
        return wrong("key_hashes".to_owned(), "TOO_MANY", problem);
    }
    let mut read = BTreeSet::new();
    for (index, hash) in hashes.iter().enumerate() {
        let Ok(hash) = <[u8; 32]>::try_from(hash.as_slice()) else {
            let problem =
                format!("has {} bytes; give the SHA-256 of a whole key, which has 32", hash.len());
            return wrong(format!("key_hashes[{index}]"), "WRONG_LENGTH", problem);
        };
        read.insert(hash);
    }
    Ok(read.into_iter().collect())
}

pub(super) fn leaked_key(key: KeyRecord) -> proto::LeakedKey {
    proto::LeakedKey {
        key_id: key.key_id.to_string(),
        account_id: key.account_id.to_string(),
        name: key.name,
        hint: key.hint,
        revoked_before: key.revoked_at.is_some(),
    }
}
