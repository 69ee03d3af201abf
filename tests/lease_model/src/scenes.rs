//! The parts of the protocol that are explored, and what is found in each.

use stateright::{Checker, HasDiscoveries, Model};

use crate::model::{BACKED, Leases, NO_OVERSPEND, STAYS_REMOVED};
use crate::rules::{Rules, Scene};

const PLAIN: Scene = Scene {
    funds: 2,
    amounts: [1, 1, 1],
    posts: [1, 1, 1],
    other_charges: false,
    cancels: false,
    gives_back: false,
    strays: false,
    extensions: 0,
    mortals: 0,
    fast: 1,
    end: 0,
};
const SETTLEMENT: Scene = Scene { amounts: [2, 1, 1], posts: [2, 1, 1], cancels: true, ..PLAIN };
const OVERRUNS: Scene = Scene { amounts: [2, 1, 1], other_charges: true, ..PLAIN };
const EXPIRY: Scene = Scene { end: 2, ..PLAIN };
const RECALL: Scene = Scene { amounts: [2, 1, 1], gives_back: true, ..PLAIN };
const STRAYS: Scene = Scene { gives_back: true, strays: true, ..PLAIN };
const EXTENSION: Scene = Scene { extensions: 1, end: 2, ..PLAIN };
const DEATHS: Scene = Scene { funds: 1, mortals: 1, fast: 0, end: 3, ..PLAIN };

/// Explores a scene to its last state: whatever order its steps come in, the promises hold.
fn holds(scene: Scene, at_least: usize) {
    let checker = Leases { rules: Rules::ALL, scene }
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    checker.assert_properties();
    assert!(checker.is_done());
    let states = checker.unique_state_count();
    eprintln!("{states} states, {} steps at most", checker.max_depth());
    assert!(states >= at_least, "{states} states: the scene has lost some of its steps");
}

/// Finds an order of steps in which a property breaks without a rule.
fn breaks(scene: Scene, rules: Rules, property: &'static str) {
    let checker = Leases { rules, scene }
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyOf([property].into()))
        .spawn_bfs()
        .join();
    let steps = checker.assert_any_discovery(property).into_actions();
    eprintln!("{property}; but not so after:");
    for step in steps {
        eprintln!("  {step:?}");
    }
}

#[test]
fn callers_who_settle_anywhere_or_cancel_or_repeat_never_overspend() {
    holds(SETTLEMENT, 500_000);
}

#[test]
fn charges_below_and_above_what_was_authorized_never_overspend_under_cover() {
    holds(OVERRUNS, 50_000);
}

#[test]
fn authorizations_that_expire_never_overspend() {
    holds(EXPIRY, 1_000_000);
}

#[test]
fn amounts_that_are_given_back_never_overspend() {
    holds(RECALL, 15_000);
}

#[test]
fn renewals_that_take_effect_late_never_overspend() {
    holds(STRAYS, 400_000);
}

#[test]
fn authorizations_extended_at_another_server_never_overspend() {
    holds(EXTENSION, 1_000_000);
}

#[test]
fn a_server_that_dies_or_comes_back_from_the_dead_never_overspends() {
    holds(DEATHS, 190_000);
}

#[test]
fn were_expired_reservations_free_again_there_would_be_an_overspend() {
    breaks(EXPIRY, Rules { expired_is_not_free: false, ..Rules::ALL }, NO_OVERSPEND);
}

#[test]
fn did_a_cancellation_not_wait_for_its_commit_there_would_be_an_overspend() {
    breaks(SETTLEMENT, Rules { cancel_after_commit: false, ..Rules::ALL }, NO_OVERSPEND);
}

#[test]
fn were_a_dead_servers_leases_removed_at_once_there_would_be_an_overspend() {
    breaks(DEATHS, Rules { dead_leases_stay: false, ..Rules::ALL }, NO_OVERSPEND);
}

#[test]
fn were_an_amount_used_while_it_is_given_back_there_would_be_an_overspend() {
    let rules = Rules { given_back_is_gone: false, ..Rules::ALL };
    breaks(RECALL, rules, BACKED);
    breaks(RECALL, rules, NO_OVERSPEND);
}

#[test]
fn were_a_postings_cover_judged_by_when_it_was_sent_there_would_be_an_overspend() {
    breaks(EXPIRY, Rules { posting_judged_under_lock: false, ..Rules::ALL }, NO_OVERSPEND);
}

#[test]
fn were_shrinking_judged_by_the_servers_own_clock_there_would_be_an_overspend() {
    breaks(EXPIRY, Rules { shrinking_judged_under_lock: false, ..Rules::ALL }, NO_OVERSPEND);
}

#[test]
fn had_renewals_no_sequence_numbers_there_would_be_an_overspend() {
    breaks(STRAYS, Rules { renewals_in_sequence: false, ..Rules::ALL }, NO_OVERSPEND);
}

#[test]
fn were_there_no_deadline_for_the_heartbeat_there_would_be_an_overspend() {
    breaks(DEATHS, Rules { heartbeat_deadline: false, ..Rules::ALL }, NO_OVERSPEND);
}

#[test]
fn were_a_removed_server_not_refused_it_would_lease_again() {
    breaks(DEATHS, Rules { removed_is_refused: false, ..Rules::ALL }, STAYS_REMOVED);
}
