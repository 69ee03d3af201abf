//! Whether the promises were kept. Knows what clients sent and what they were answered, computes with
//! whole numbers what must follow from that, and compares it with what the database holds. It uses
//! no rating, reservation or posting of the product.

mod books;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Datelike as _, NaiveDate, TimeDelta, Utc};
use tollgate::{
    accounts::budgets::period::Period,
    authorization::{grant::GrantClaims, pool::PoolKey},
    ids::{AccountId, AuthorizationId, BudgetId, InstanceId, KeyId, PriceVersionId},
    metering::quantities::Quantities,
};

use crate::{
    catalog::Version,
    database::Database,
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
}
