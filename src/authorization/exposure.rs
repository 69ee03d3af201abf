//! What is at stake on this server: what it has leased and what of it is promised, by currency, and
//! for how long it has gone on without the database. Measured also while the database is away,
//! which is when somebody looks.

use std::collections::HashMap;

use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use tokio_util::sync::CancellationToken;

use super::{
    authorizer::Authorizer,
    limits,
    pool::{Pool, PoolKey},
};
use crate::{
    ids::AccountId,
    money::{Amount, Currency},
};

/// ISO 4217 for no currency: of an account that nobody has asked for since it changed.
const NONE: &str = "XXX";

/// Currencies of accounts, which never change; as many as there are pools.
type Currencies = HashMap<AccountId, Currency>;

impl Authorizer {
    /// Measures each tick until told to stop.
    pub(super) async fn measure_until(&self, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(limits::EXPOSURE_TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut currencies = Currencies::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stopping.cancelled() => return,
            }
            self.measure(&mut currencies);
        }
    }

    fn measure(&self, currencies: &mut Currencies) {
        let mut at_stake: HashMap<String, (Amount, Amount)> = HashMap::new();
        for slot in self.leases.all() {
            let (leased, free, promised) = {
                let state = slot.lock();
                let funds = state.holdings.pool(PoolKey::Funds);
                let leased = funds.map_or(Amount::ZERO, Pool::leased);
                let first = state.holdings.reservations().next();
                let currency =
                    first.map(|(_, reservation)| reservation.grant.grant.claims.currency);
                (leased, state.holdings.free(PoolKey::Funds), currency)
            };
            let account = slot.account;
            let known =
                currencies.get(&account).copied().or(promised).or_else(|| {
                    self.directory.cached_account(account).map(|account| account.currency)
                });
            if let Some(currency) = known {
                currencies.insert(account, currency);
            }
            let code = known.map_or_else(|| NONE.to_owned(), |known| known.code().to_owned());
            let (all, reserved) = at_stake.entry(code).or_insert((Amount::ZERO, Amount::ZERO));
            *all = all.saturating_add(leased);
            *reserved = reserved.saturating_add(leased.minus_to_zero(free));
        }
        for (code, (leased, reserved)) in at_stake {
            let label = vec![("currency", code)];
            self.metrics.leased_amount.get_or_create(&label).set(gauge(leased.decimal()));
            self.metrics.reserved_amount.get_or_create(&label).set(gauge(reserved.decimal()));
        }
        self.metrics.heartbeat_age.set(self.heartbeat.age().as_secs_f64());
        self.metrics.authorizing.set(self.heartbeat.allows().into());
    }
}

/// For a gauge alone, which takes nothing more exact.
fn gauge(amount: Decimal) -> f64 {
    amount.to_f64().unwrap_or(f64::NAN)
}
