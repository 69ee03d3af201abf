//! The books at any moment and at the end, against what was sent and answered.

use std::collections::BTreeMap;

use tollgate::{
    accounts::budgets::period::BudgetPeriod,
    authorization::pool::PoolKey,
    ids::{AccountId, AuthorizationId},
    metering::event::Outcome,
};

use super::Auditor;
use crate::{
    database::{Database, EventRow},
    money::{Pico, pico},
};

impl Auditor {
    pub(super) fn compare(&mut self, database: &Database) -> Result<(), String> {
        let mut charged: BTreeMap<AccountId, Pico> = BTreeMap::new();
        let mut covered: BTreeMap<AccountId, Pico> = BTreeMap::new();
        let mut spent: BTreeMap<(AccountId, BudgetPeriod), (Pico, Pico)> = BTreeMap::new();
        for ((account, id), row) in &database.events {
            let budgets = self.sound(*id, row)?;
            *charged.entry(*account).or_default() += row.charge;
            *covered.entry(*account).or_default() += row.charge - row.overrun;
            for period in budgets {
                let both = spent.entry((*account, period)).or_default();
                both.0 += row.charge;
                both.1 += row.charge - row.overrun;
            }
        }
        for (operation, paid) in database.top_ups.iter().chain(&database.refunds) {
            let sent = self.top_ups.get(operation).or_else(|| self.refunds.get(operation));
            if sent != Some(paid) {
                return Err(format!("payment {operation} is not as it was ordered"));
            }
        }
        for (account, funds) in &database.funds {
            let limit = self.owed.get(account).copied().unwrap_or(0);
            let given = self.given(*account, database);
            let charged = charged.get(account).copied().unwrap_or(0);
            let covered = covered.get(account).copied().unwrap_or(0);
            self.covered.insert((*account, PoolKey::Funds), covered);
            if covered > given {
                return Err(format!("overspent: {covered} under cover of {given}"));
            }
            let left = funds.promotional + funds.credits - funds.overdrawn - funds.unbilled;
            if left != given - limit - charged {
                return Err(format!("{left} is left of {} after {charged}", given - limit));
            }
            let posted = database.transfers.iter().filter(|one| one.account == *account);
            let posted: Pico = posted.map(|one| one.amount).sum();
            if posted != charged {
                return Err(format!("{posted} was posted for usage of {charged}"));
            }
        }
        for (place, row) in &database.periods {
            let (all, covered) = spent.get(place).copied().unwrap_or((0, 0));
            if all != row.spent {
                return Err(format!("{} counts {} of {all}", place.1, row.spent));
            }
            self.covered.insert((place.0, PoolKey::Budget(place.1)), covered);
            let limit = self.limits.get(&place.1.budget).copied().unwrap_or(Pico::MAX);
            if covered > limit {
                return Err(format!("{} is overspent: {covered} of {limit}", place.1));
            }
        }
        Ok(())
    }

    /// An event is one that was sent, charged what it costs, and an overrun only as far as its client
    /// went beyond its authorization. Returns the budgets that it was held in.
    fn sound(&self, id: AuthorizationId, row: &EventRow) -> Result<Vec<BudgetPeriod>, String> {
        let cancelled = row.fingerprint.outcome == Outcome::Cancelled;
        let used = (!cancelled).then_some(row.fingerprint.quantities);
        let sent = self.sent.get(&id).map_or(&[][..], Vec::as_slice);
        let mut same = sent.iter().filter(|one| one.used == used).peekable();
        let Some(first) = same.peek() else {
            return Err(format!("nobody sent what is recorded as {id}"));
        };
        let cost = self.charge(&first.claims, used);
        if row.charge != cost {
            return Err(format!("{id} costs {cost} and {} was charged", row.charge));
        }
        let mut allowed = None;
        for one in same {
            let reserved = pico(one.claims.reserved);
            let outlived = row.recorded_at > one.claims.covered_until();
            let beyond = if outlived { cost } else { (cost - reserved).max(0) };
            if beyond == row.overrun && row.authorized == Some(reserved) {
                allowed = Some(one);
            }
            let within = used.is_none_or(|used| {
                let prompt = one.claims.input_tokens + one.claims.input_tokens / 10;
                used.input + used.cache_read <= prompt
                    && used.output + used.reasoning <= one.claims.max_output_tokens
            });
            if within && cost > reserved {
                return Err(format!("{id} kept to its tokens and costs {cost} of {reserved}"));
            }
        }
        let Some(one) = allowed else {
            return Err(format!(
                "{id}: an overrun of {} that its client did not cause",
                row.overrun
            ));
        };
        if row.budgets != one.claims.budgets {
            return Err(format!("{id} was held in other budgets than it is charged to"));
        }
        Ok(one.claims.budgets.clone())
    }

    /// When everybody has had nothing to do for long enough.
    pub fn check_end(&mut self, database: &Database) {
        let compared = self.compare(database);
        if let Err(what) = compared.and_then(|()| self.settled(database)) {
            self.violate(what);
        }
    }

    fn settled(&self, database: &Database) -> Result<(), String> {
        for (id, (account, charge, overrun)) in &self.acknowledged {
            match database.events.get(&(*account, *id)) {
                None => return Err(format!("{id} was acknowledged and is missing")),
                Some(row) if (row.charge, row.overrun) != (*charge, *overrun) => {
                    return Err(format!("{id} was answered otherwise than it is recorded"));
                }
                Some(_) => {}
            }
        }
        for operation in &self.confirmed {
            let known = database.top_ups.contains_key(operation)
                || database.refunds.contains_key(operation);
            if !known {
                return Err(format!("payment {operation} was confirmed and is missing"));
            }
        }
        if let Some((place, lease)) = database.leases.iter().find(|(_, lease)| lease.amount != 0) {
            return Err(format!("{} is still leased: {place:?}", lease.amount));
        }
        let funds = database.funds.values().map(|funds| funds.leased);
        if funds.chain(database.periods.values().map(|row| row.leased)).any(|leased| leased != 0) {
            return Err("a pool counts leases that there are not".to_owned());
        }
        for (id, claims) in &self.made {
            let place = (claims.account_id, *id);
            let listed =
                database.events.contains_key(&place) || database.unsettled.contains(&place);
            if !listed && !self.forgot.contains(&claims.issuer) {
                return Err(format!("{id} expired unsettled and is on no list"));
            }
        }
        if !database.foreign.is_empty() {
            return Err(format!("{} settlements were never read", database.foreign.len()));
        }
        Ok(())
    }
}
