//! Taking a usage event's charge back to where it was funded from. The event itself stays: a
//! mistake is corrected by a posting of its own, never by a change.
//!
//! An event does not say which sources paid for it; [`split`](crate::ledger::split) computes it from
//! its posting. Credits that come back while something is overdrawn cure that first.

mod store;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    ids::{AccountId, CauseId},
    ledger::{
        credits::{MAX_NOTE, required},
        error::LedgerError,
        posting::Posting,
        split::{Sources, parts_of},
        store::{Cause, announce, lock, post},
    },
    money::Currency,
};

/// A usage event to take back.
#[derive(Debug, Clone)]
pub struct ReversalOrder {
    /// Whose event.
    pub account: AccountId,
    /// The event.
    pub event: Uuid,
    /// Why; kept with the reversal.
    pub reason: String,
    /// The caller's idempotency key; may be empty.
    pub idempotency_key: String,
}

/// What a reversal gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reversal {
    /// By source. What was overdrawn and cured since went back to credits.
    pub to: Sources,
    /// The currency of every amount.
    pub currency: Currency,
    /// The event had been reversed before, and nothing changed.
    pub duplicate: bool,
}

/// Takes an event's charge back, once: the same event again gets the first answer. Runs in the
/// caller's transaction.
///
/// # Errors
/// [`LedgerError`] where the event is unknown, cost nothing or is invoiced already.
pub async fn reverse_usage(
    connection: &mut PgConnection,
    order: &ReversalOrder,
) -> Result<Reversal, LedgerError> {
    let reason = required("reason", &order.reason, MAX_NOTE)?;
    let mut funds = lock(connection, order.account).await?;
    let currency = funds.currency;
    if let Some(to) = store::earlier(connection, order).await? {
        return Ok(Reversal { to, currency, duplicate: true });
    }
    let event =
        store::event(connection, order).await?.ok_or(LedgerError::UnknownEvent(order.event))?;
    if event.charge.is_zero() {
        return Err(LedgerError::NothingToReverse(order.event));
    }

    let funded = store::sources(connection, order.account, event.posting).await?;
    let events = store::events_of_posting(connection, order.account, &event).await?;
    let parts =
        parts_of(order.event, &funded, &events)?.ok_or(LedgerError::UnknownEvent(order.event))?;
    let to = parts.returning_to(&funds.balances);
    let period_closed = event.period < funds.open_period;
    if to.unbilled.is_positive() && (period_closed || to.unbilled > funds.balances.unbilled) {
        return Err(LedgerError::Invoiced(order.event));
    }

    let cause = Cause {
        id: CauseId(order.event),
        idempotency_key: &order.idempotency_key,
        description: reason,
        // What it takes back from an open period must clear within that period.
        period: event.period.max(funds.open_period),
    };
    let posting = post(connection, &mut funds, Posting::reversal(&to), &cause).await?;
    store::insert_reversal(connection, order, posting, reason, &to).await?;
    store::return_to_budgets(connection, order).await?;
    announce(connection, order.account).await?;
    Ok(Reversal { to, currency, duplicate: false })
}
