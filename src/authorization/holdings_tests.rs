use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use rust_decimal::{Decimal, prelude::ToPrimitive as _};

use super::*;
use crate::authorization::pool::Renewal;
use crate::{accounts::budgets::period::BudgetPeriod, ids::BudgetId};

fn amount(units: i64) -> Amount {
    Amount::new(Decimal::from(units)).unwrap()
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + second, 0).unwrap()
}

fn reservation(units: i64, until: i64) -> Reservation<u32> {
    let (expires_at, covered_until) = (at(until - 30), at(until));
    Reservation {
        amount: amount(units),
        pools: vec![PoolKey::Funds],
        expires_at,
        covered_until,
        request: None,
        grant: 0,
    }
}

/// Leases so much more in one of the pools.
fn lease(holdings: &mut Holdings<u32>, key: PoolKey, units: i64) {
    let pool = holdings.pool_mut(key);
    let kept = pool.leased();
    pool.wait_for(amount(units), amount(units));
    let renewal = pool.begin_renewal(1, Duration::ZERO, false);
    pool.end_renewal(&renewal, kept, amount(units));
}

fn leased(units: i64) -> Holdings<u32> {
    let mut holdings = Holdings::new();
    lease(&mut holdings, PoolKey::Funds, units);
    holdings
}

/// The arithmetic of the account's funds.
fn funds(holdings: &mut Holdings<u32>) -> &mut Pool {
    holdings.pool_mut(PoolKey::Funds)
}

fn a_budget() -> PoolKey {
    let start = "2026-11-23".parse().unwrap();
    PoolKey::Budget(BudgetPeriod { budget: BudgetId::generate(), start })
}

#[test]
fn only_what_is_free_can_be_reserved() {
    let mut pool = leased(10);
    assert_eq!(
        pool.reserve(AuthorizationId::generate(), reservation(7, 60), at(0)),
        Reserved::Held
    );
    assert_eq!(
        pool.reserve(AuthorizationId::generate(), reservation(4, 60), at(0)),
        Reserved::Short
    );
    assert_eq!(
        pool.reserve(AuthorizationId::generate(), reservation(3, 60), at(0)),
        Reserved::Held
    );
    assert!(pool.free(PoolKey::Funds).is_zero());
}

#[test]
fn what_is_reserved_is_counted_and_found_until_it_is_settled() {
    let mut pool = leased(10);
    let ids = [60, 61].map(|until| {
        let id = AuthorizationId::generate();
        pool.reserve(id, reservation(2, until), at(0));
        id
    });
    assert_eq!(pool.count(), 2);
    assert_eq!(pool.reservation(ids[1]).unwrap().covered_until, at(61));
    pool.settle(ids[1], amount(1));
    assert_eq!(pool.count(), 1);
    assert!(pool.reservation(ids[1]).is_none() && pool.reservation(ids[0]).is_some());
}

#[test]
fn memory_is_given_back_once_nothing_is_held() {
    let mut pool = leased(10);
    let ids = [AuthorizationId::generate(), AuthorizationId::generate()];
    for id in ids {
        pool.reserve(id, reservation(2, 60), at(0));
    }
    pool.settle(ids[0], amount(1));
    assert_eq!(pool.count(), 1);
    assert!(pool.reservations.capacity() > 0);
    pool.settle(ids[1], amount(1));
    assert_eq!(pool.reservations.capacity(), 0);
}

#[test]
fn settling_frees_what_the_charge_left_and_only_once() {
    let mut pool = leased(10);
    let id = AuthorizationId::generate();
    pool.reserve(id, reservation(8, 60), at(0));
    assert!(pool.settle(id, amount(3)).is_some());
    assert_eq!(pool.free(PoolKey::Funds), amount(7));
    assert!(pool.settle(id, amount(3)).is_none());
    assert_eq!((pool.free(PoolKey::Funds), funds(&mut pool).drift()), (amount(7), amount(3)));
}

#[test]
fn a_charge_above_its_reservation_frees_nothing() {
    let mut pool = leased(10);
    let id = AuthorizationId::generate();
    pool.reserve(id, reservation(4, 60), at(0));
    pool.settle(id, amount(9));
    assert_eq!(pool.free(PoolKey::Funds), amount(6));
}

#[test]
fn a_lapsed_reservation_is_not_free_until_the_lease_has_shrunk_by_it() {
    let mut pool = leased(10);
    pool.reserve(AuthorizationId::generate(), reservation(8, 60), at(0));
    assert!(pool.lapse(at(60)).is_empty());
    assert_eq!(pool.lapse(at(61)).len(), 1);
    assert_eq!(
        (pool.free(PoolKey::Funds), funds(&mut pool).outstanding()),
        (amount(2), Amount::ZERO)
    );
    let renewal = funds(&mut pool).begin_renewal(2, Duration::ZERO, false);
    assert_eq!((renewal.kept, renewal.not_before), (amount(2), Some(at(60))));
    // Too early by the database's clock: nothing shrinks, and the next renewal says it again.
    funds(&mut pool).end_renewal(&renewal, amount(10), Amount::ZERO);
    assert_eq!(funds(&mut pool).begin_renewal(3, Duration::ZERO, false).not_before, Some(at(60)));
}

#[test]
fn the_same_request_is_answered_again_while_it_is_outstanding() {
    let mut pool = leased(10);
    let request = Some((KeyId::generate(), "r-1".to_owned()));
    let first = Reservation { request: request.clone(), grant: 7, ..reservation(5, 60) };
    let id = AuthorizationId::generate();
    assert_eq!(pool.reserve(id, first.clone(), at(0)), Reserved::Held);
    let again = Reservation { grant: 8, ..first };
    assert_eq!(
        pool.reserve(AuthorizationId::generate(), again.clone(), at(29)),
        Reserved::Again(7)
    );
    pool.settle(id, Amount::ZERO);
    assert_eq!(pool.reserve(AuthorizationId::generate(), again, at(0)), Reserved::Held);
}

#[test]
fn a_request_whose_grant_has_expired_gets_a_new_one_which_outlives_the_old() {
    let mut pool = leased(10);
    let request = (KeyId::generate(), "r-1".to_owned());
    let asked = |until, grant| Reservation {
        request: Some(request.clone()),
        grant,
        ..reservation(4, until)
    };
    assert_eq!(pool.reserve(AuthorizationId::generate(), asked(60, 7), at(0)), Reserved::Held);
    assert_eq!(pool.reserve(AuthorizationId::generate(), asked(90, 8), at(30)), Reserved::Held);
    assert_eq!(pool.lapse(at(61)).len(), 1);
    assert_eq!(pool.answered(&request, at(40)), Some(8));
}

#[test]
fn who_waits_for_nothing_makes_nobody_borrow_in_vain() {
    let mut pool: Holdings<u32> = Holdings::new();
    funds(&mut pool).wait_for(amount(100), amount(100));
    funds(&mut pool).wait_for(Amount::ZERO, Amount::ZERO);
    let renewal = funds(&mut pool).begin_renewal(1, Duration::ZERO, false);
    assert_eq!((renewal.need, renewal.floor), (amount(100), amount(100)));
}

#[test]
fn an_extension_takes_only_the_rise_and_moves_the_expiry() {
    let mut pool = leased(10);
    let id = AuthorizationId::generate();
    pool.reserve(id, reservation(4, 60), at(0));
    assert_eq!(pool.extend(id, reservation(11, 90)), Some(false));
    assert_eq!(pool.extend(id, reservation(9, 90)), Some(true));
    assert_eq!((pool.free(PoolKey::Funds), funds(&mut pool).outstanding()), (amount(1), amount(9)));
    assert!(pool.lapse(at(61)).is_empty());
    assert_eq!(pool.extend(AuthorizationId::generate(), reservation(1, 90)), None);
}

#[test]
fn a_request_takes_from_all_its_pools_or_from_none() {
    let (day, month) = (a_budget(), a_budget());
    let mut holdings = leased(10);
    lease(&mut holdings, day, 3);
    lease(&mut holdings, month, 5);
    let both =
        |units| Reservation { pools: vec![day, month, PoolKey::Funds], ..reservation(units, 60) };
    let id = AuthorizationId::generate();
    assert_eq!(holdings.reserve(AuthorizationId::generate(), both(4), at(0)), Reserved::Short);
    let free =
        |holdings: &Holdings<u32>| [day, month, PoolKey::Funds].map(|key| holdings.free(key));
    assert_eq!(free(&holdings), [amount(3), amount(5), amount(10)]);
    assert_eq!(holdings.reserve(id, both(3), at(0)), Reserved::Held);
    assert_eq!(free(&holdings), [amount(0), amount(2), amount(7)]);
    assert_eq!(holdings.extend(id, both(5)), Some(false));
    assert_eq!(free(&holdings), [amount(0), amount(2), amount(7)]);
    // A rise is taken where the reservation was made, whatever is asked for now.
    lease(&mut holdings, day, 2);
    assert_eq!(holdings.extend(id, reservation(5, 60)), Some(true));
    assert_eq!(free(&holdings), [amount(0), amount(0), amount(5)]);
    holdings.settle(id, amount(4));
    assert_eq!(free(&holdings), [amount(1), amount(1), amount(6)]);
}

#[test]
fn a_lapsed_reservation_shrinks_the_leases_of_all_its_pools() {
    let day = a_budget();
    let mut holdings = leased(10);
    lease(&mut holdings, day, 10);
    let held = Reservation { pools: vec![day, PoolKey::Funds], ..reservation(8, 60) };
    holdings.reserve(AuthorizationId::generate(), held, at(0));
    assert_eq!(holdings.lapse(at(61)).len(), 1);
    for key in [day, PoolKey::Funds] {
        let renewal = holdings.pool_mut(key).begin_renewal(9, Duration::ZERO, false);
        assert_eq!((renewal.kept, renewal.not_before), (amount(2), Some(at(60))));
    }
}

#[test]
fn a_pool_is_forgotten_only_when_it_has_nothing() {
    let day = a_budget();
    let mut holdings = leased(10);
    lease(&mut holdings, day, 10);
    holdings.forget(day);
    assert_eq!(holdings.free(day), amount(10));
    let renewal = holdings.pool_mut(day).begin_renewal(2, Duration::ZERO, true);
    holdings.forget(day);
    assert!(holdings.pool(day).is_some(), "the database has not heard of it yet");
    holdings.pool_mut(day).end_renewal(&renewal, Amount::ZERO, Amount::ZERO);
    holdings.forget(day);
    assert!(holdings.pool(day).is_none());
}

/// One pool as the database has it: what is left of its funds or its limit, and each server's lease
/// with its number.
#[derive(Default)]
struct Row {
    left: i64,
    leases: HashMap<usize, (i64, i64)>,
}

/// The database's half of the protocol, as `renew_leases` and `post_usage` keep it.
struct Database {
    rows: HashMap<PoolKey, Row>,
    settled: HashMap<AuthorizationId, i64>,
    now: i64,
}

/// Base and grant, by pool, or nothing for a renewal whose number is too old.
type Answer = Option<(i64, i64)>;

impl Database {
    fn renew(&mut self, server: usize, key: PoolKey, renewal: &Renewal) -> Answer {
        let units = |amount: Amount| amount.decimal().trunc().to_i64().unwrap();
        let now = self.now;
        let row = self.rows.get_mut(&key).unwrap();
        let (old, sequence) = row.leases.get(&server).copied().unwrap_or((0, 0));
        if renewal.sequence <= sequence {
            return None;
        }
        assert!(units(renewal.kept) <= old, "a server kept more than it had");
        let early = renewal.not_before.is_some_and(|until| at(now) <= until);
        let base = if early { old } else { units(renewal.kept) };
        let leased: i64 = row.leases.values().map(|(amount, _)| amount).sum();
        let room = (row.left - leased + old - base).max(0);
        let (need, floor) = (units(renewal.need), units(renewal.floor));
        let granted = if need <= room {
            need.max(units(renewal.want).min(room / 2))
        } else if floor <= room {
            room
        } else {
            0
        };
        row.leases.insert(server, (base + granted, renewal.sequence));
        Some((base, granted))
    }

    /// Whether the charge was covered by its reservation.
    fn post(
        &mut self,
        id: AuthorizationId,
        pools: &[PoolKey],
        charge: i64,
        covered_until: DateTime<Utc>,
    ) -> bool {
        assert!(self.settled.insert(id, charge).is_none());
        for key in pools {
            self.rows.get_mut(key).unwrap().left -= charge;
        }
        at(self.now) <= covered_until
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Authorize {
        server: usize,
        units: i64,
        lifetime: i64,
        /// How many of the two budgets concern it.
        budgets: usize,
    },
    Settle {
        which: usize,
        share: i64,
        poster: usize,
    },
    /// The server's renewal of all its pools; when recalled, what is free is given back.
    Renew {
        server: usize,
        recalled: bool,
    },
    AnswerLost {
        server: usize,
    },
    /// A renewal begins, reaches the database or ends; other things happen in between.
    Begin {
        server: usize,
        recalled: bool,
    },
    Reach {
        server: usize,
    },
    End {
        server: usize,
    },
    Extend {
        which: usize,
        rise: i64,
        lifetime: i64,
    },
    Pass {
        seconds: i64,
        skew: i64,
    },
    /// A top-up, or a limit that is raised or lowered.
    Change {
        pool: usize,
        units: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let server = || 0..3_usize;
    prop_oneof![
        5 => (server(), 1..40_i64, 1..20_i64, 0..3_usize).prop_map(
            |(server, units, lifetime, budgets)| Step::Authorize { server, units, lifetime, budgets }
        ),
        4 => (any::<usize>(), 0..=100_i64, server())
            .prop_map(|(which, share, poster)| Step::Settle { which, share, poster }),
        2 => (any::<usize>(), 1..20_i64, 1..20_i64)
            .prop_map(|(which, rise, lifetime)| Step::Extend { which, rise, lifetime }),
        3 => (server(), any::<bool>())
            .prop_map(|(server, recalled)| Step::Renew { server, recalled }),
        1 => server().prop_map(|server| Step::AnswerLost { server }),
        2 => (server(), any::<bool>())
            .prop_map(|(server, recalled)| Step::Begin { server, recalled }),
        2 => server().prop_map(|server| Step::Reach { server }),
        2 => server().prop_map(|server| Step::End { server }),
        2 => (0..15_i64, -3..3_i64).prop_map(|(seconds, skew)| Step::Pass { seconds, skew }),
        1 => (0..3_usize, 1..50_i64).prop_map(|(pool, units)| Step::Change { pool, units }),
    ]
}

/// A renewal on its way, and its answer where it has reached the database.
type UnderWay = (PoolKey, Renewal, Option<Answer>);

/// A grant that a gateway holds.
struct Open {
    id: AuthorizationId,
    server: usize,
    units: i64,
    covered_until: DateTime<Utc>,
    pools: Vec<PoolKey>,
}

struct World {
    keys: [PoolKey; 3],
    database: Database,
    servers: Vec<Holdings<u32>>,
    open: Vec<Open>,
    /// What one server settled of another's grants and that one has not read yet.
    foreign: Vec<(usize, AuthorizationId, i64)>,
    /// By server: renewals under way, and their answers where they have reached the database.
    under_way: [Option<Vec<UnderWay>>; 3],
    sequence: i64,
    /// Charged beyond a reservation's cover, by pool.
    uncovered: HashMap<PoolKey, i64>,
}

impl World {
    fn new() -> Self {
        let keys = [PoolKey::Funds, a_budget(), a_budget()];
        let row = |left| Row { left, ..Row::default() };
        let rows = HashMap::from([(keys[0], row(100)), (keys[1], row(60)), (keys[2], row(150))]);
        Self {
            keys,
            database: Database { rows, settled: HashMap::new(), now: 0 },
            servers: (0..3).map(|_| Holdings::new()).collect(),
            open: Vec::new(),
            foreign: Vec::new(),
            under_way: [const { None }; 3],
            sequence: 0,
            uncovered: HashMap::new(),
        }
    }

    fn begin(&mut self, server: usize, recalled: bool) {
        let mut begun = Vec::new();
        for key in self.keys {
            self.sequence += 1;
            let pool = self.servers[server].pool_mut(key);
            begun.push((key, pool.begin_renewal(self.sequence, Duration::ZERO, recalled), None));
        }
        self.under_way[server] = Some(begun);
    }

    fn reach(&mut self, server: usize) {
        for (key, renewal, answer) in self.under_way[server].iter_mut().flatten() {
            if answer.is_none() {
                *answer = Some(self.database.renew(server, *key, renewal));
            }
        }
    }

    fn end(&mut self, server: usize) {
        for (key, renewal, answer) in self.under_way[server].take().into_iter().flatten() {
            if let Some(Some((base, granted))) = answer {
                let pool = self.servers[server].pool_mut(key);
                pool.end_renewal(&renewal, amount(base), amount(granted));
            }
        }
    }

    fn renew(&mut self, server: usize, recalled: bool) {
        self.begin(server, recalled);
        self.reach(server);
        self.end(server);
    }

    fn authorize(&mut self, server: usize, units: i64, lifetime: i64, budgets: usize) {
        let pools = self.keys[..=budgets].to_vec();
        let id = AuthorizationId::generate();
        let covered_until = at(self.database.now + lifetime);
        let asked = Reservation {
            pools: pools.clone(),
            ..reservation(units, self.database.now + lifetime)
        };
        if self.servers[server].reserve(id, asked.clone(), at(0)) == Reserved::Short {
            if self.under_way[server].is_some() {
                return;
            }
            for key in &pools {
                self.servers[server].pool_mut(*key).wait_for(amount(units), amount(units));
            }
            self.renew(server, false);
            if self.servers[server].reserve(id, asked, at(0)) != Reserved::Held {
                return;
            }
        }
        self.open.push(Open { id, server, units, covered_until, pools });
    }

    fn settle(&mut self, which: usize, share: i64, poster: usize) {
        if self.open.is_empty() {
            return;
        }
        let Open { id, server, units, covered_until, pools } =
            self.open.swap_remove(which % self.open.len());
        let charge = units * share / 100;
        if !self.database.post(id, &pools, charge, covered_until) {
            for key in &pools {
                *self.uncovered.entry(*key).or_default() += charge;
            }
        }
        if poster == server {
            self.servers[server].settle(id, amount(charge));
        } else {
            self.foreign.push((server, id, charge));
        }
    }

    fn extend(&mut self, which: usize, rise: i64, lifetime: i64) {
        let count = self.open.len();
        if count == 0 {
            return;
        }
        let grant = &mut self.open[which % count];
        let until = self.database.now + lifetime;
        let raised = reservation(grant.units + rise, until);
        if self.servers[grant.server].extend(grant.id, raised) == Some(true) {
            grant.units += rise;
            grant.covered_until = grant.covered_until.max(at(until));
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Begin { server, recalled } => {
                if self.under_way[server].is_none() {
                    self.begin(server, recalled);
                }
            }
            Step::Reach { server } => self.reach(server),
            Step::End { server } => self.end(server),
            // One renewal of a server at a time.
            Step::Renew { server, .. } | Step::AnswerLost { server }
                if self.under_way[server].is_some() => {}
            Step::Renew { server, recalled } => {
                let settled: Vec<_> =
                    self.foreign.extract_if(.., |(issuer, ..)| *issuer == server).collect();
                for (_, id, charge) in settled {
                    self.servers[server].settle(id, amount(charge));
                }
                self.renew(server, recalled);
            }
            Step::AnswerLost { server } => {
                self.begin(server, false);
                self.reach(server);
                self.under_way[server] = None;
            }
            Step::Authorize { server, units, lifetime, budgets } => {
                self.authorize(server, units, lifetime, budgets);
            }
            Step::Settle { which, share, poster } => self.settle(which, share, poster),
            Step::Extend { which, rise, lifetime } => self.extend(which, rise, lifetime),
            Step::Pass { seconds, skew } => {
                self.database.now += seconds;
                for holdings in &mut self.servers {
                    holdings.lapse(at(self.database.now + skew));
                }
            }
            Step::Change { pool, units } => {
                self.database.rows.get_mut(&self.keys[pool]).unwrap().left += units;
            }
        }
    }
}

proptest! {
    /// Three servers, an account with two budgets, charges within their authorizations, posts
    /// through any server, lost answers, recalls, extensions, clocks that differ: whatever was
    /// covered when it was posted was paid for, by the funds and by each budget.
    #[test]
    fn covered_charges_never_exceed_the_funds_or_a_budget(
        steps in proptest::collection::vec(step(), 1..200)
    ) {
        run(steps)?;
    }

    /// A lost or reordered renewal never makes memory hold more than the database does.
    #[test]
    fn memory_never_holds_more_than_the_lease(
        charges in proptest::collection::vec((1..20_i64, 0..=20_i64), 1..60)
    ) {
        let mut holdings = leased(100);
        for (index, (held, charge)) in charges.into_iter().enumerate() {
            let id = AuthorizationId::generate();
            if holdings.reserve(id, reservation(held, 60), at(0)) == Reserved::Held
                && index % 3 != 0
            {
                holdings.settle(id, amount(charge));
            }
            let pool = funds(&mut holdings);
            let sum = pool.free().saturating_add(pool.outstanding());
            prop_assert!(sum <= pool.leased());
            prop_assert_eq!(pool.leased(), sum.saturating_add(pool.drift()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// The same for long: what a rare order of events needs a history for.
    #[test]
    fn covered_charges_never_exceed_the_funds_or_a_budget_over_a_long_run(
        steps in proptest::collection::vec(step(), 10_000)
    ) {
        run(steps)?;
    }
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut world = World::new();
    for step in steps {
        world.take(step);
        for (key, row) in &world.database.rows {
            let uncovered = world.uncovered.get(key).copied().unwrap_or(0);
            prop_assert!(row.left + uncovered >= 0, "{key:?} overspent: {}", row.left);
        }
    }
    Ok(())
}
