//! The checks of `Authorize` that need nothing but what is in memory, in their order; the first
//! that fails is the denial. Pure: key, account, model and price come in, a bound comes out.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::{
    decision::{Denial, Reason, Request},
    limits,
};
use crate::{
    accounts::{
        account::{AccountRecord, AccountStatus},
        key::{MalformedKey, Tier},
        keys::record::KeyRecord,
    },
    catalog::{
        model::{Model, Route},
        price::Price,
        rating,
    },
    money::Amount,
};

/// What a request may use and what it can cost at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// What it may generate.
    pub max_output_tokens: u64,
    /// The most it can cost.
    pub amount: Amount,
    /// The most it can cost if it may generate a single token: the least that is worth holding.
    pub least: Amount,
    /// Whether it may generate less than was asked for.
    pub reduced: bool,
}

/// The gateway's count of prompt tokens, and how far the provider's may be above it.
#[must_use]
pub fn input_margin() -> Decimal {
    Decimal::new(i64::from(limits::INPUT_MARGIN_PERCENT), 2)
}

/// The denial for what is not one of our keys by its form.
#[must_use]
pub fn malformed(error: &MalformedKey) -> Box<Denial> {
    Denial::new(Reason::MalformedKey, "key", format!("this is not a Tollgate API key: {error}"))
}

/// The denial for a key that nobody has.
#[must_use]
pub fn unknown() -> Box<Denial> {
    let message = "no account has this API key; check that it was copied whole, or issue a new one";
    Denial::new(Reason::UnknownKey, "key", message)
}

/// Known · not revoked or expired.
pub fn key(key: &KeyRecord, now: DateTime<Utc>) -> Result<(), Box<Denial>> {
    if let Some(at) = key.revoked_at {
        let message = format!("key {} was revoked at {}; use another key", key.hint, moment(at));
        return Err(Denial::new(Reason::KeyRevoked, "key", message));
    }
    match key.expires_at {
        Some(at) if at <= now => {
            let message = format!("key {} expired at {}; use its successor", key.hint, moment(at));
            Err(Denial::new(Reason::KeyExpired, "key", message))
        }
        _ => Ok(()),
    }
}

/// Account active.
pub fn account(account: &AccountRecord) -> Result<(), Box<Denial>> {
    let scope = || format!("account {}", account.handle);
    match account.status {
        AccountStatus::Active => Ok(()),
        AccountStatus::Suspended => {
            let message = format!("account {} is suspended; ask its operator", account.handle);
            Err(Denial::new(Reason::AccountSuspended, scope(), message))
        }
        AccountStatus::Closed => {
            let message = format!("account {} is closed", account.handle);
            Err(Denial::new(Reason::AccountClosed, scope(), message))
        }
    }
}

/// Model exists, active.
pub fn model<M: AsRef<Model>>(found: Option<M>, name: &str) -> Result<M, Box<Denial>> {
    match found {
        Some(model) if model.as_ref().active => Ok(model),
        found => {
            let name: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
            let problem = if found.is_some() { "is no longer served" } else { "is not known" };
            let message = format!("model {name:?} {problem}; list the models for what is");
            Err(Denial::new(Reason::ModelNotFound, format!("model {name}"), message))
        }
    }
}

/// The denial of a model without a price: it is never billed as zero.
#[must_use]
pub fn unpriced(model: &Model, account: &AccountRecord) -> Box<Denial> {
    let message = format!(
        "model {} has no price in {} now; it can be used when one is published",
        model.name, account.currency
    );
    Denial::new(Reason::ModelUnpriced, format!("model {}", model.name), message)
}

/// Model on the key's allowlist · `Pro/` models need a `ga_pro_` key.
pub fn access(key: &KeyRecord, model: &Model) -> Result<(), Box<Denial>> {
    if !key.allowed_models.allows(&model.name) {
        let message = format!("key {} may not call model {}", key.hint, model.name);
        return Err(Denial::new(Reason::ModelNotAllowed, "key", message));
    }
    if model.route == Route::Dedicated && key.tier != Tier::Pro {
        let message = format!("model {} needs a ga_pro_ key", model.name);
        return Err(Denial::new(Reason::ProKeyRequired, "key", message));
    }
    Ok(())
}

/// Per-request caps (tokens, cost), and with them what the request can cost at most.
pub fn bound(
    request: &Request,
    key: &KeyRecord,
    model: &Model,
    price: &Price,
) -> Result<Bound, Box<Denial>> {
    let input = request.input_tokens;
    let asked = request
        .max_output_tokens
        .unwrap_or_else(|| model.max_output_tokens.unwrap_or(limits::DEFAULT_MAX_OUTPUT_TOKENS));
    let context = model.context_tokens.unwrap_or(u64::MAX);
    if input > context {
        return Err(too_large(&format!("model {}", model.name), context, input));
    }
    // More than the model can generate is asked for in vain; that is no reduction.
    let possible = asked.min(model.max_output_tokens.unwrap_or(u64::MAX)).min(context - input);

    let cap = key.max_tokens_per_request.unwrap_or(u64::MAX);
    let mut output = possible;
    if input.saturating_add(output) > cap {
        let room = cap.saturating_sub(input);
        if room == 0 || !request.allow_reduced_output {
            return Err(too_large(&format!("key {}", key.hint), cap, input.saturating_add(output)));
        }
        output = room;
    }

    let too_expensive = |limit: Amount, amount: Amount| {
        let message = format!(
            "this request may cost {amount} and key {} allows {limit} a request; ask for fewer \
             output tokens or raise the key's cap",
            key.hint
        );
        Denial::new(Reason::RequestTooExpensive, "key", message).beyond(&limit, &amount)
    };
    let beyond_all = |_| too_expensive(Amount::largest(), Amount::largest());
    let margin = input_margin();
    let mut amount = rating::ceiling(price, input, output, margin).map_err(beyond_all)?;
    if let Some(limit) = key.max_cost_per_request
        && amount > limit
    {
        let fits = rating::affordable_output(price, input, margin, limit).ok().flatten();
        let fits = fits.unwrap_or(0);
        if fits == 0 || !request.allow_reduced_output {
            return Err(too_expensive(limit, amount));
        }
        output = output.min(fits);
        amount = rating::ceiling(price, input, output, margin).map_err(beyond_all)?;
    }
    let least = rating::ceiling(price, input, output.min(1), margin).map_err(beyond_all)?;
    Ok(Bound { max_output_tokens: output, amount, least, reduced: output < possible })
}

fn too_large(scope: &str, limit: u64, asked: u64) -> Box<Denial> {
    let message = format!(
        "{scope} allows {limit} tokens a request and this one asks for {asked}; shorten the prompt \
         or ask for fewer output tokens"
    );
    Denial::new(Reason::RequestTooLarge, scope, message).beyond(&limit, &asked)
}

fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
