//! Which source paid which part of a charge.
//!
//! Charges burn promotional credits, then credits, then accrue to an invoice (Net-30) or become an
//! overdraft (prepaid). A batch posts one transfer per source for all its events of an account;
//! sources burn in the order of the events' ids, so that each event's own parts can be computed
//! again from the posting and need not be kept.

use thiserror::Error;
use uuid::Uuid;

use crate::{ledger::balances::Balances, money::Amount};

/// An amount by the source that pays it, each part zero or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sources {
    /// Paid by promotional credits.
    pub promotional: Amount,
    /// Paid by credits.
    pub credits: Amount,
    /// To be invoiced.
    pub unbilled: Amount,
    /// Beyond prepaid funds.
    pub overdrawn: Amount,
}

/// A posting and its events that do not fit together; `ledger verify` names such postings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the posting's transfers are {transfers} and its events are {events}; run ledger verify")]
pub struct SplitError {
    /// What the transfers sum to.
    pub transfers: Amount,
    /// What the events sum to.
    pub events: Amount,
}

impl Sources {
    /// Which sources pay a charge out of these balances. What credits do not cover accrues to an
    /// invoice under Net-30 terms and is overdrawn otherwise.
    #[must_use]
    pub fn burning(charge: Amount, balances: &Balances, net_30: bool) -> Self {
        let promotional = charge.min(balances.promotional);
        let rest = charge.minus_to_zero(promotional);
        let credits = rest.min(balances.credits);
        let rest = rest.minus_to_zero(credits);
        let (unbilled, overdrawn) =
            if net_30 { (rest, Amount::ZERO) } else { (Amount::ZERO, rest) };
        Self { promotional, credits, unbilled, overdrawn }
    }

    /// The sum of the parts.
    #[must_use]
    pub fn total(&self) -> Amount {
        [self.promotional, self.credits, self.unbilled, self.overdrawn]
            .into_iter()
            .fold(Amount::ZERO, Amount::saturating_add)
    }

    /// Takes a charge out of what a posting's sources still have, in burning order.
    fn take(&mut self, charge: Amount) -> Self {
        let mut rest = charge;
        let mut from = |source: &mut Amount| {
            let taken = rest.min(*source);
            *source = source.minus_to_zero(taken);
            rest = rest.minus_to_zero(taken);
            taken
        };
        Self {
            promotional: from(&mut self.promotional),
            credits: from(&mut self.credits),
            unbilled: from(&mut self.unbilled),
            overdrawn: from(&mut self.overdrawn),
        }
    }

    /// Where the parts of a charge go back to. What was overdrawn then and has been cured since was
    /// paid by credits in the end, and returns to them.
    #[must_use]
    pub fn returning_to(&self, balances: &Balances) -> Self {
        let overdrawn = self.overdrawn.min(balances.overdrawn);
        let cured = self.overdrawn.minus_to_zero(overdrawn);
        Self { credits: self.credits.saturating_add(cured), overdrawn, ..*self }
    }
}

/// The parts of one event of a posting. `events` are all events of the posting with their charges,
/// in any order.
///
/// # Errors
/// [`SplitError`] when the events do not sum to the transfers.
pub fn parts_of(
    event: Uuid,
    posting: &Sources,
    events: &[(Uuid, Amount)],
) -> Result<Option<Sources>, SplitError> {
    let sum = events.iter().fold(Amount::ZERO, |sum, (_, charge)| sum.saturating_add(*charge));
    if sum != posting.total() {
        return Err(SplitError { transfers: posting.total(), events: sum });
    }
    let mut in_order = events.to_vec();
    in_order.sort_unstable_by_key(|(id, _)| *id);
    let mut left = *posting;
    for (id, charge) in in_order {
        let parts = left.take(charge);
        if id == event {
            return Ok(Some(parts));
        }
    }
    Ok(None)
}
