//! Usage: `post_usage` and `post_new_usage` (migration 0029), and what a replay is answered.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike as _, Utc};
use tollgate::{
    accounts::budgets::period::{BudgetPeriod, Period},
    ids::{AccountId, AuthorizationId},
    metering::event::{NewEvent, StoredEvent},
    money::Currency,
};

use super::{Batch, Database, EventRow, Failure, Posted, Transfer, day_of};
use crate::{
    money::{Pico, amount, pico},
    mutation::Mutation,
};

impl Database {
    pub(super) fn post(&mut self, batch: Batch, now: DateTime<Utc>) -> Result<Posted, Failure> {
        let accounts: BTreeSet<AccountId> =
            batch.events.iter().map(|event| event.account_id).collect();
        let held = !batch.contended.is_disjoint(&accounts);
        if held && !batch.skip_locked {
            return Err(Failure::Locked);
        }
        let known = |event: &NewEvent| self.events.contains_key(&place(event));
        let again = self.broken(Mutation::DuplicatesPosted);
        if !batch.expect_duplicates && !again && batch.events.iter().any(known) {
            return Err(Failure::Duplicates);
        }
        let mut posted = Posted { busy: batch.contended, ..Posted::default() };
        posted.busy.retain(|account| accounts.contains(account));
        let mut months: BTreeMap<AccountId, BTreeSet<i32>> = BTreeMap::new();
        let fresh = |event: &&NewEvent| {
            !posted.busy.contains(&event.account_id) && (again || !known(event))
        };
        let fresh: Vec<&NewEvent> = batch.events.iter().filter(fresh).collect();
        for event in &fresh {
            let month = event.occurred_at.year() * 12 + event.occurred_at.month0() as i32;
            months.entry(event.account_id).or_default().insert(month);
        }
        if months.values().any(|months| months.len() > 1) {
            return Err(Failure::Refused);
        }
        let judged = if self.broken(Mutation::CoverJudgedTooEarly) { batch.sent_at } else { now };
        let mut charged: BTreeMap<AccountId, Pico> = BTreeMap::new();
        for event in fresh {
            let charge = pico(event.charge);
            let covered = event.authorized.filter(|one| one.covered_until >= judged);
            let overrun = covered.map_or(charge, |one| (charge - pico(one.reserved)).max(0));
            posted.inserted.insert(event.event_id, overrun);
            *charged.entry(event.account_id).or_default() += charge;
            let foreign = event.authorized.map(|one| one.issuer);
            let foreign = foreign.filter(|issuer| *issuer != batch.instance);
            if let Some(issuer) = foreign {
                self.foreign.insert((issuer, event.account_id, event.event_id), charge);
            }
            if foreign.is_none() || !self.broken(Mutation::ForeignNotBudgeted) {
                for period in &event.budgets {
                    let period = self.counted_in(event.account_id, *period, now);
                    self.periods.entry((event.account_id, period)).or_default().spent += charge;
                }
            }
            let row = EventRow {
                fingerprint: event.fingerprint.clone(),
                price_version: event.price_version,
                charge,
                overrun,
                saving: pico(event.saving),
                authorized: event.authorized.map(|one| pico(one.reserved)),
                recorded_at: now,
                budgets: event.budgets.clone(),
            };
            self.events.insert(place(event), row);
        }
        for (account, charge) in charged.into_iter().filter(|(_, charge)| *charge > 0) {
            self.charge(account, charge);
        }
        Ok(posted)
    }

    /// Burns promotional credits, then credits, then accrues to what is owed.
    fn charge(&mut self, account: AccountId, charge: Pico) {
        let funds = self.funds.entry(account).or_default();
        let promotional = charge.min(funds.promotional);
        let credits = (charge - promotional).min(funds.credits);
        let rest = charge - promotional - credits;
        funds.promotional -= promotional;
        funds.credits -= credits;
        if funds.net_30 {
            funds.unbilled += rest;
        } else {
            funds.overdrawn += rest;
        }
        for amount in [promotional, credits, rest].into_iter().filter(|amount| *amount > 0) {
            self.transfers.push(Transfer { account, amount });
        }
    }

    fn counted_in(
        &self,
        account: AccountId,
        period: BudgetPeriod,
        now: DateTime<Utc>,
    ) -> BudgetPeriod {
        let daily = self.budgets.get(&(account, period.budget));
        let daily = daily.is_some_and(|budget| budget.period == Period::Day);
        if daily && self.broken(Mutation::PeriodOfPosting) {
            return BudgetPeriod { start: day_of(now), ..period };
        }
        period
    }

    pub(super) fn stored(&self, place: &(AccountId, AuthorizationId)) -> Option<StoredEvent> {
        let row = self.events.get(place)?;
        Some(StoredEvent {
            account_id: place.0,
            event_id: place.1,
            fingerprint: row.fingerprint.clone(),
            price_version: row.price_version,
            currency: Currency::USD,
            charge: amount(row.charge),
            overrun: amount(row.overrun),
            saving: amount(row.saving),
        })
    }
}

fn place(event: &NewEvent) -> (AccountId, AuthorizationId) {
    (event.account_id, event.event_id)
}
