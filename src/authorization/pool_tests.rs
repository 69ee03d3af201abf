use std::collections::HashMap;

use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::*;

fn amount(units: i64) -> Amount {
    Amount::new(Decimal::from(units)).unwrap()
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + second, 0).unwrap()
}

fn reservation(units: i64, until: i64) -> Reservation<u32> {
    let (expires_at, covered_until) = (at(until - 30), at(until));
    Reservation { amount: amount(units), expires_at, covered_until, request: None, grant: 0 }
}

fn leased(units: i64) -> Pool<u32> {
    let mut pool = Pool::new();
    pool.wait_for(amount(units), amount(units));
    let renewal = pool.begin_renewal(1, Duration::ZERO, false);
    pool.end_renewal(&renewal, Amount::ZERO, amount(units));
    pool
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
    assert!(pool.free().is_zero());
}

#[test]
fn settling_frees_what_the_charge_left_and_only_once() {
    let mut pool = leased(10);
    let id = AuthorizationId::generate();
    pool.reserve(id, reservation(8, 60), at(0));
    assert!(pool.settle(id, amount(3)).is_some());
    assert_eq!(pool.free(), amount(7));
    assert!(pool.settle(id, amount(3)).is_none());
    assert_eq!((pool.free(), pool.drift()), (amount(7), amount(3)));
}

#[test]
fn a_charge_above_its_reservation_frees_nothing() {
    let mut pool = leased(10);
    let id = AuthorizationId::generate();
    pool.reserve(id, reservation(4, 60), at(0));
    pool.settle(id, amount(9));
    assert_eq!(pool.free(), amount(6));
}

#[test]
fn a_lapsed_reservation_is_not_free_until_the_lease_has_shrunk_by_it() {
    let mut pool = leased(10);
    pool.reserve(AuthorizationId::generate(), reservation(8, 60), at(0));
    assert!(pool.lapse(at(60)).is_empty());
    assert_eq!(pool.lapse(at(61)).len(), 1);
    assert_eq!((pool.free(), pool.outstanding()), (amount(2), Amount::ZERO));
    let renewal = pool.begin_renewal(2, Duration::ZERO, false);
    assert_eq!((renewal.kept, renewal.not_before), (amount(2), Some(at(60))));
    // Too early by the database's clock: nothing shrinks, and the next renewal says it again.
    pool.end_renewal(&renewal, amount(10), Amount::ZERO);
    assert_eq!(pool.begin_renewal(3, Duration::ZERO, false).not_before, Some(at(60)));
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
    let mut pool: Pool<u32> = Pool::new();
    pool.wait_for(amount(100), amount(100));
    pool.wait_for(Amount::ZERO, Amount::ZERO);
    let renewal = pool.begin_renewal(1, Duration::ZERO, false);
    assert_eq!((renewal.need, renewal.floor), (amount(100), amount(100)));
}

#[test]
fn an_extension_takes_only_the_rise_and_moves_the_expiry() {
    let mut pool = leased(10);
    let id = AuthorizationId::generate();
    pool.reserve(id, reservation(4, 60), at(0));
    assert_eq!(pool.extend(id, reservation(11, 90)), Some(false));
    assert_eq!(pool.extend(id, reservation(9, 90)), Some(true));
    assert_eq!((pool.free(), pool.outstanding()), (amount(1), amount(9)));
    assert!(pool.lapse(at(61)).is_empty());
    assert_eq!(pool.extend(AuthorizationId::generate(), reservation(1, 90)), None);
}

/// The database's half of the protocol, as `renew_leases` and `post_usage` keep it.
struct Database {
    funds: i64,
    leases: HashMap<usize, (i64, i64)>,
    settled: HashMap<AuthorizationId, i64>,
    now: i64,
}

impl Database {
    fn room(&self) -> i64 {
        self.funds - self.leases.values().map(|(amount, _)| amount).sum::<i64>()
    }

    fn renew(&mut self, server: usize, renewal: &Renewal) -> Option<(i64, i64)> {
        let units = |amount: Amount| amount.decimal().trunc().to_i64().unwrap();
        let (old, sequence) = self.leases.get(&server).copied().unwrap_or((0, 0));
        if renewal.sequence <= sequence {
            return None;
        }
        assert!(units(renewal.kept) <= old, "a server kept more than it had");
        let early = renewal.not_before.is_some_and(|until| at(self.now) <= until);
        let base = if early { old } else { units(renewal.kept) };
        let room = (self.room() + old - base).max(0);
        let (need, floor) = (units(renewal.need), units(renewal.floor));
        let granted = if need <= room {
            need.max(units(renewal.want).min(room / 2))
        } else if floor <= room {
            room
        } else {
            0
        };
        self.leases.insert(server, (base + granted, renewal.sequence));
        Some((base, granted))
    }

    /// Whether the charge was covered by its reservation.
    fn post(&mut self, id: AuthorizationId, charge: i64, covered_until: DateTime<Utc>) -> bool {
        assert!(self.settled.insert(id, charge).is_none());
        self.funds -= charge;
        at(self.now) <= covered_until
    }
}

#[derive(Debug, Clone)]
enum Step {
    Authorize {
        server: usize,
        units: i64,
        lifetime: i64,
    },
    Settle {
        which: usize,
        share: i64,
        poster: usize,
    },
    Renew {
        server: usize,
        give_back: bool,
    },
    AnswerLost {
        server: usize,
    },
    /// A renewal begins, reaches the database or ends; other things happen in between.
    Begin {
        server: usize,
    },
    Reach {
        server: usize,
    },
    End {
        server: usize,
    },
    Pass {
        seconds: i64,
        skew: i64,
    },
    TopUp {
        units: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_usize, 1..40_i64, 1..20_i64)
            .prop_map(|(server, units, lifetime)| Step::Authorize { server, units, lifetime }),
        4 => (any::<usize>(), 0..=100_i64, 0..3_usize)
            .prop_map(|(which, share, poster)| Step::Settle { which, share, poster }),
        3 => (0..3_usize, any::<bool>())
            .prop_map(|(server, give_back)| Step::Renew { server, give_back }),
        1 => (0..3_usize).prop_map(|server| Step::AnswerLost { server }),
        2 => (0..3_usize).prop_map(|server| Step::Begin { server }),
        2 => (0..3_usize).prop_map(|server| Step::Reach { server }),
        2 => (0..3_usize).prop_map(|server| Step::End { server }),
        2 => (0..15_i64, -3..3_i64).prop_map(|(seconds, skew)| Step::Pass { seconds, skew }),
        1 => (1..50_i64).prop_map(|units| Step::TopUp { units }),
    ];
    proptest::collection::vec(step, 1..200)
}

/// A renewal, and base and grant where it has reached the database.
type UnderWay = (Renewal, Option<(i64, i64)>);

proptest! {
    /// Three servers, one account, charges within their authorizations, posts through any server,
    /// lost answers, clocks that differ: whatever was covered when it was posted was paid for.
    #[test]
    fn covered_charges_never_exceed_the_funds(steps in steps()) {
        let mut database =
            Database { funds: 100, leases: HashMap::new(), settled: HashMap::new(), now: 0 };
        let mut pools: Vec<Pool<u32>> = (0..3).map(|_| Pool::new()).collect();
        let mut open: Vec<(AuthorizationId, usize, i64, DateTime<Utc>)> = Vec::new();
        let mut foreign: Vec<(usize, AuthorizationId, i64)> = Vec::new();
        let mut under_way: [Option<UnderWay>; 3] = [const { None }; 3];
        let (mut sequence, mut uncovered) = (0, 0);
        for step in steps {
            match step {
                Step::Begin { server } => {
                    if under_way[server].is_none() {
                        sequence += 1;
                        let renewal = pools[server].begin_renewal(sequence, Duration::ZERO, false);
                        under_way[server] = Some((renewal, None));
                    }
                }
                Step::Reach { server } => {
                    if let Some((renewal, answer @ None)) = &mut under_way[server] {
                        *answer = database.renew(server, renewal);
                    }
                }
                Step::End { server } => {
                    if let Some((renewal, Some((base, granted)))) = under_way[server].take() {
                        pools[server].end_renewal(&renewal, amount(base), amount(granted));
                    }
                }
                // One renewal of a server at a time.
                Step::Renew { server, .. } | Step::AnswerLost { server }
                    if under_way[server].is_some() => {}
                Step::Authorize { server, units, lifetime } => {
                    let id = AuthorizationId::generate();
                    let until = at(database.now + lifetime);
                    let asked = reservation(units, database.now + lifetime);
                    if pools[server].reserve(id, asked.clone(), at(0)) == Reserved::Short {
                        if under_way[server].is_some() { continue }
                        pools[server].wait_for(amount(units), amount(units));
                        sequence += 1;
                        let renewal = pools[server].begin_renewal(sequence, Duration::ZERO, false);
                        let (base, granted) = database.renew(server, &renewal).unwrap();
                        pools[server].end_renewal(&renewal, amount(base), amount(granted));
                        if pools[server].reserve(id, asked, at(0)) != Reserved::Held {
                            continue;
                        }
                    }
                    open.push((id, server, units, until));
                }
                Step::Settle { which, share, poster } => {
                    if open.is_empty() { continue }
                    let (id, server, units, until) = open.swap_remove(which % open.len());
                    let charge = units * share / 100;
                    if !database.post(id, charge, until) {
                        uncovered += charge;
                    }
                    if poster == server {
                        pools[server].settle(id, amount(charge));
                    } else {
                        foreign.push((server, id, charge));
                    }
                }
                Step::Renew { server, give_back } => {
                    foreign.retain(|(issuer, id, charge)| {
                        if *issuer == server {
                            pools[server].settle(*id, amount(*charge));
                        }
                        *issuer != server
                    });
                    sequence += 1;
                    let renewal = pools[server].begin_renewal(sequence, Duration::ZERO, give_back);
                    let (base, granted) = database.renew(server, &renewal).unwrap();
                    pools[server].end_renewal(&renewal, amount(base), amount(granted));
                }
                Step::AnswerLost { server } => {
                    sequence += 1;
                    let renewal = pools[server].begin_renewal(sequence, Duration::ZERO, false);
                    database.renew(server, &renewal).unwrap();
                }
                Step::Pass { seconds, skew } => {
                    database.now += seconds;
                    for pool in &mut pools {
                        pool.lapse(at(database.now + skew));
                    }
                }
                Step::TopUp { units } => database.funds += units,
            }
            prop_assert!(database.funds + uncovered >= 0, "overspent: {}", database.funds);
        }
    }

    /// A lost or reordered renewal never makes memory hold more than the database does.
    #[test]
    fn memory_never_holds_more_than_the_lease(
        charges in proptest::collection::vec((1..20_i64, 0..=20_i64), 1..60)
    ) {
        let mut pool = leased(100);
        for (index, (held, charge)) in charges.into_iter().enumerate() {
            let id = AuthorizationId::generate();
            if pool.reserve(id, reservation(held, 60), at(0)) == Reserved::Held && index % 3 != 0 {
                pool.settle(id, amount(charge));
            }
            let sum = pool.free().saturating_add(pool.outstanding());
            prop_assert!(sum <= pool.leased());
            prop_assert_eq!(pool.leased(), sum.saturating_add(pool.drift()));
        }
    }
}
