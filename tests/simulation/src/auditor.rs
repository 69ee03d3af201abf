//! Whether the promises were kept. Knows what clients sent and what they were answered, computes with
//! whole numbers what must follow from that, and compares it with what the database holds. It uses
//! no rating, reservation or posting of the product.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Datelike as _, NaiveDate, TimeDelta, Utc};
use tollgate::{
    accounts::budgets::period::{BudgetPeriod, Period},
    authorization::{grant::GrantClaims, pool::PoolKey},
    ids::{AccountId, AuthorizationId, BudgetId, InstanceId, KeyId, PriceVersionId},
    metering::{event::Outcome, quantities::Quantities},
};

use crate::{
    catalog::Version,
    database::{Database, EventRow},
    money::{Pico, pico},
    world::{Answer, Order},
};

/// By how much a server may be ahead of the database's time: what its clock runs fast between beats.
const AHEAD: TimeDelta = TimeDelta::milliseconds(250);
/// By how much it may be behind: a beat's answer may take so long.
const BEHIND: TimeDelta = TimeDelta::milliseconds(5_250);

/// A usage or a cancellation that a client reported.
#[derive(Debug, Clone)]
struct Sent {
    claims: Arc<GrantClaims>,
    used: Option<Quantities>,
}

#[derive(Default)]
pub struct Auditor {
    /// The first promise that was broken.
    pub violation: Option<String>,
    pub prices: BTreeMap<PriceVersionId, Version>,
    tokens: BTreeMap<AuthorizationId, Vec<Arc<GrantClaims>>>,
    sent: BTreeMap<AuthorizationId, Vec<Sent>>,
    acknowledged: BTreeMap<AuthorizationId, (AccountId, Pico, Pico)>,
    /// What an account began with, with what it may owe.
    funds: BTreeMap<AccountId, Pico>,
    owed: BTreeMap<AccountId, Pico>,
    /// The highest limit that a hard budget ever had.
    limits: BTreeMap<BudgetId, Pico>,
    top_ups: BTreeMap<u64, (AccountId, Pico)>,
    refunds: BTreeMap<u64, (AccountId, Pico)>,
    confirmed: BTreeSet<u64>,
    revoked: BTreeSet<KeyId>,
    seen: (usize, usize, usize, usize),
    /// What each pool has been charged under cover.
    covered: BTreeMap<(AccountId, PoolKey), Pico>,
    /// Grants that a server made and whose usage may still come under cover.
    open: BTreeMap<AuthorizationId, Arc<GrantClaims>>,
    /// Every grant that was made, as it was made last.
    made: BTreeMap<AuthorizationId, Arc<GrantClaims>>,
    /// Servers whose memory was lost.
    forgot: BTreeSet<InstanceId>,
}

impl Auditor {
    pub fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub fn opened(&mut self, account: AccountId, funds: Pico, limit: Pico) {
        self.funds.insert(account, funds);
        self.owed.insert(account, limit);
    }

    pub fn limited(&mut self, budget: BudgetId, limit: Pico, hard: bool) {
        if hard {
            self.limits.insert(budget, limit);
        }
    }

    pub fn ordered(&mut self, order: Order) {
        match order {
            Order::TopUp { account, operation, amount } => {
                self.top_ups.insert(operation, (account, amount));
            }
            Order::Refund { account, operation, amount } => {
                self.refunds.insert(operation, (account, amount));
            }
            Order::SetLimit { budget, limit, .. } => {
                if let Some(highest) = self.limits.get_mut(&budget) {
                    *highest = limit.max(*highest);
                }
            }
            Order::Revoke(_) | Order::Publish(_) => {}
        }
    }

    pub fn confirmed(&mut self, order: Order) {
        match order {
            Order::TopUp { operation, .. } | Order::Refund { operation, .. } => {
                self.confirmed.insert(operation);
            }
            Order::Revoke(key) => {
                self.revoked.insert(key);
            }
            Order::SetLimit { .. } | Order::Publish(_) => {}
        }
    }

    pub fn forgot(&mut self, instance: InstanceId) {
        self.forgot.insert(instance);
    }

    /// A server makes a grant at this moment, or makes it larger.
    pub fn grants(&mut self, server: usize, claims: &Arc<GrantClaims>, known: bool) {
        let key = claims.key_id;
        let open = self.open.entry(claims.authorization_id).or_insert_with(|| Arc::clone(claims));
        if open.reserved < claims.reserved || open.expires_at < claims.expires_at {
            *open = Arc::clone(claims);
        }
        self.made.insert(claims.authorization_id, Arc::clone(claims));
        if self.revoked.contains(&key) {
            self.violate(format!("server {server} grants a key whose revocation had returned"));
        }
        if !known {
            self.violate(format!("server {server} grants after the others removed it for dead"));
        }
    }

    /// Nothing was promised that is not there: in each pool, what was charged under cover, what may
    /// still come under cover, and what servers count as free are together no more than it has.
    pub fn check_promises(
        &mut self,
        database: &Database,
        free: &BTreeMap<(AccountId, PoolKey), Pico>,
        now: DateTime<Utc>,
    ) {
        self.close(database, now);
        let mut promised = free.clone();
        for claims in self.open.values() {
            for pool in claims.pools() {
                *promised.entry((claims.account_id, pool)).or_default() += pico(claims.reserved);
            }
        }
        for ((account, pool), promised) in promised {
            let has = match pool {
                PoolKey::Funds => self.given(account, database),
                PoolKey::Budget(period) => {
                    let highest = self.limits.get(&period.budget);
                    let Some(highest) = highest else { continue };
                    *highest
                }
            };
            let covered = self.covered.get(&(account, pool)).copied().unwrap_or(0);
            if covered + promised > has {
                self.violate(format!(
                    "promised twice: of {has} in {pool:?} {covered} was charged and {promised} is \
                     promised or free to be"
                ));
            }
        }
    }

    /// A server's leases cover what it promised, as long as its usage may come under cover.
    pub fn check_cover(&mut self, database: &Database, now: DateTime<Utc>) {
        self.close(database, now);
        let mut promised: BTreeMap<(AccountId, PoolKey, InstanceId), Pico> = BTreeMap::new();
        for claims in self.open.values() {
            for pool in claims.pools() {
                let place = (claims.account_id, pool, claims.issuer);
                *promised.entry(place).or_default() += pico(claims.reserved);
            }
        }
        for ((account, pool, issuer), promised) in promised {
            let leased = database.leased(account, pool, issuer);
            if promised > leased {
                self.violate(format!(
                    "{promised} of {pool:?} is promised by {issuer}, which has {leased} leased"
                ));
            }
        }
    }

    /// Forgets the grants whose usage is recorded, or would be an overrun by now.
    fn close(&mut self, database: &Database, now: DateTime<Utc>) {
        self.open.retain(|id, claims| {
            let recorded = database.events.contains_key(&(claims.account_id, *id));
            claims.covered_until() >= now && !recorded
        });
    }

    /// What an account was ever given, with what it may owe and without what it was paid back.
    fn given(&self, account: AccountId, database: &Database) -> Pico {
        let sum = |moved: &BTreeMap<u64, (AccountId, Pico)>| -> Pico {
            moved.values().filter(|(of, _)| *of == account).map(|(_, amount)| *amount).sum()
        };
        let begun = self.funds.get(&account).copied().unwrap_or(0);
        begun + sum(&database.top_ups) - sum(&database.refunds)
    }

    /// A client was told of a grant that it asked for between these moments.
    pub fn told(&mut self, claims: &Arc<GrantClaims>, from: DateTime<Utc>, to: DateTime<Utc>) {
        let (from, to) = (from - BEHIND, to + AHEAD);
        for period in &claims.budgets {
            let total = Period::Total.start(to);
            let days = [from, to].map(|at| at.date_naive());
            let first = |at: NaiveDate| at.with_day0(0).unwrap_or(at);
            let within = period.start == total
                || days[0] <= period.start && period.start <= days[1]
                || days.map(first).contains(&period.start);
            if !within {
                self.violate(format!("a grant of {to} is held in the period {period}"));
            }
        }
        self.tokens.entry(claims.authorization_id).or_default().push(Arc::clone(claims));
    }

    pub fn raised(&mut self, claims: &Arc<GrantClaims>) {
        self.tokens.entry(claims.authorization_id).or_default().push(Arc::clone(claims));
    }

    pub fn first_token(&self, id: AuthorizationId) -> Option<Arc<GrantClaims>> {
        self.tokens.get(&id)?.first().cloned()
    }

    pub fn sent(&mut self, claims: &Arc<GrantClaims>, used: Option<Quantities>) {
        let sent = self.sent.entry(claims.authorization_id).or_default();
        let again = |one: &Sent| one.used == used && Arc::ptr_eq(&one.claims, claims);
        if !sent.iter().any(again) {
            sent.push(Sent { claims: Arc::clone(claims), used });
        }
    }

    /// A client was answered; what kind of answer that was.
    pub fn recorded(
        &mut self,
        id: AuthorizationId,
        used: Option<Quantities>,
        answer: &Answer,
    ) -> &'static str {
        let sent = self.sent.get(&id).cloned().unwrap_or_default();
        match answer {
            Answer::Recorded { charge, overrun, cancelled, duplicate } => {
                let account = sent.first().map(|one| one.claims.account_id);
                let Some(account) = account else { return "?" };
                let told = (account, *charge, *overrun);
                let before = *self.acknowledged.entry(id).or_insert(told);
                if before != told {
                    self.violate(format!("{id} was answered {before:?} and then {told:?}"));
                }
                let asked = used.map_or(0, |used| self.charge(&sent[0].claims, Some(used)));
                let too_late = used.is_none() && !cancelled;
                if *charge != asked && !too_late {
                    self.violate(format!("{id} costs {asked} and was charged {charge}"));
                }
                if *duplicate { "answers to usage sent again" } else { "usages recorded" }
            }
            Answer::Conflict => {
                if sent.iter().all(|one| one.used == used) {
                    self.violate(format!("{id} conflicts with nothing that was ever sent"));
                }
                "usages refused as different"
            }
            _ => {
                self.violate(format!("the usage of {id} was refused"));
                "?"
            }
        }
    }

    fn charge(&self, claims: &GrantClaims, used: Option<Quantities>) -> Pico {
        let price = self.prices.get(&claims.price_version);
        used.zip(price).map_or(0, |(used, price)| price.charge(&used))
    }

    /// After each step that could change them: the books against what was sent.
    pub fn check_books(&mut self, database: &Database) {
        let seen = (
            database.events.len(),
            database.transfers.len(),
            database.top_ups.len(),
            database.refunds.len(),
        );
        if seen != self.seen {
            self.seen = seen;
            if let Err(what) = self.compare(database) {
                self.violate(what);
            }
        }
    }

    fn compare(&mut self, database: &Database) -> Result<(), String> {
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
