//! What is at stake on this server: what it has leased and what of it is promised, by currency, and
//! for how long it has gone on without the database. Measured also while the database is away,
//! which is when somebody looks.

use std::collections::HashMap;

use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use tokio_util::sync::CancellationToken;

use super::{authorizer::Authorizer, limits, pool::PoolKey};
use crate::money::{Amount, Currency};

impl Authorizer {
    /// Measures each tick until told to stop.
    pub(super) async fn measure_until(&self, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(limits::EXPOSURE_TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stopping.cancelled() => return,
            }
            self.measure().await;
        }
    }

    async fn measure(&self) {
        let mut at_stake: HashMap<Currency, (Amount, Amount)> = HashMap::new();
        self.leases
            .visit(|slot| {
                let (leased, free) = {
                    let state = slot.lock();
                    let funds = state.holdings.pool(PoolKey::Funds);
                    funds.map_or_else(Default::default, |funds| (funds.leased(), funds.free()))
                };
                let (all, reserved) = at_stake.entry(slot.currency).or_default();
                *all = all.saturating_add(leased);
                *reserved = reserved.saturating_add(leased.minus_to_zero(free));
            })
            .await;
        for (currency, (leased, reserved)) in at_stake {
            let label = vec![("currency", currency.code().to_owned())];
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
