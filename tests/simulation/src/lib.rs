//! Servers, clients and a database in one thread, under a seeded scheduler.
//!
//! What a server decides, the product's own state machines decide: `authorization::slot_state`,
//! `holdings` and `pool`, `authorization::heartbeat`, `metering::lanes` and `event`,
//! `catalog::rating`, `accounts::budgets`. What joins them to sockets and to Postgres (`leases.rs`,
//! `renewing.rs`, `reserving.rs`, `presence/`, `writer.rs`) is asynchronous and is written again in
//! [`world`], step for step; the database is a model ([`database`]), written from the migrations.
//! [`auditor`] says whether the promises were kept, with arithmetic of its own.
//!
//! One generator and one queue decide everything, so that a seed is a run: `scripts/simulate --seed N`
//! repeats it. `docs/reliability.md` says what is simulated and what is not.

mod auditor;
mod catalog;
mod database;
mod dice;
mod money;
pub mod mutation;
pub mod options;
mod queue;
pub mod report;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{options::Options, report::Faults, world::World};

/// How a run ended.
pub struct Verdict {
    /// The promise that was broken, if one was.
    pub violation: Option<String>,
    pub last: Vec<String>,
    pub faults: Faults,
    /// How many events there were, and a hash of them.
    pub events: u64,
    pub hash: u64,
    /// Seconds of virtual time.
    pub seconds: u64,
}

/// Runs a seed to its end. A panic of the product's code is a violation like any other.
#[must_use]
pub fn run(options: Options) -> Verdict {
    let mut world = World::new(options);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
        world.auditor.violate(format!("panicked: {text}"));
    }
    Verdict {
        violation: world.auditor.violation.take(),
        last: world.log.last.iter().cloned().collect(),
        faults: world.faults.clone(),
        events: world.log.events,
        hash: world.log.hash,
        seconds: world.log.now / queue::SECOND,
    }
}
