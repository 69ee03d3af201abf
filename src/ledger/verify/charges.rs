//! Every charge computed again, from its counts and its price version.

use std::collections::HashMap;

use sqlx::PgConnection;
use tokio_stream::StreamExt as _;

use super::{Check, MAX_FINDINGS, failed, store};
use crate::{
    catalog::{rating, version::PricedModel},
    ids::{AccountId, PriceVersionId},
    ledger::error::LedgerError,
    money::Amount,
};

/// The outcome of an authorization that was given back: it costs nothing, whatever the price.
const CANCELLED: i16 = 6;

/// Rates every event of the snapshot again. Events stream through; only the prices are in memory.
pub(super) async fn verify(
    snapshot: &mut PgConnection,
    account: Option<AccountId>,
    prices: &HashMap<PriceVersionId, PricedModel>,
) -> Result<Check, LedgerError> {
    let mut check = Check {
        name: "charges_recompute",
        description: "every charge, its saving and its context tier follow exactly from the \
                      event's counts and price version",
        examined: 0,
        violations: 0,
        findings: Vec::new(),
    };
    let mut events = store::charged_events(snapshot, account);
    while let Some(event) = events.next().await {
        let event = event.map_err(failed)?;
        check.examined = check.examined.saturating_add(1);
        if let Some(difference) = difference(&event, prices) {
            check.violations = check.violations.saturating_add(1);
            if check.findings.len() < MAX_FINDINGS {
                let store::ChargedEvent { account_id, event_id, .. } = &event;
                check.findings.push(format!("account {account_id}: event {event_id} {difference}"));
            }
        }
    }
    Ok(check)
}

/// What of an event does not follow from its counts and price; `None` if everything does.
fn difference(
    event: &store::ChargedEvent,
    prices: &HashMap<PriceVersionId, PricedModel>,
) -> Option<String> {
    let store::ChargedEvent { charge, saving, tier_above, price_version, .. } = event;
    if event.outcome == CANCELLED {
        let free = charge.is_zero() && saving.is_zero();
        return (!free).then(|| format!("was cancelled and is charged {charge}"));
    }
    let Some(version) = prices.get(price_version) else {
        return Some(format!("names price version {price_version}, which does not exist"));
    };
    let Some(quantities) = event.quantities() else {
        return Some("has a negative count".to_owned());
    };
    let rating = match rating::rate(&version.price, &quantities, event.cache_hit) {
        Ok(rating) => rating,
        Err(error) => return Some(format!("cannot be rated: {error}")),
    };
    let differs = |what: &str, is: Amount, should: Amount| {
        (is != should).then(|| format!("has {what} {is}, and its counts make it {should}"))
    };
    let tier = rating.tier_above.unwrap_or(0);
    differs("charge", *charge, rating.charge)
        .or_else(|| differs("saving", *saving, rating.saving))
        .or_else(|| {
            (u64::try_from(*tier_above) != Ok(tier))
                .then(|| format!("names context tier {tier_above}, and its counts are in {tier}"))
        })
}
