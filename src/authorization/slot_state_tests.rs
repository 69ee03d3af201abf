use super::*;
use crate::{
    accounts::budgets::{Target, period::Period},
    authorization::lease::{BudgetView, FundsView},
    ids::BudgetId,
};

const NOW: Duration = Duration::from_secs(10_000);

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn daily() -> Budget {
    Budget {
        budget_id: BudgetId::generate(),
        target: Target::Account,
        period: Period::Day,
        hard: true,
        limit: amount("10"),
        created_at: at("2026-11-01T00:00:00Z"),
    }
}

/// The database's answer to a renewal: so much granted, so much that nobody holds.
fn answer(asked: &PoolRenewal, granted: &str, available: &str, recalled: bool) -> RenewedLease {
    let available = available.parse().unwrap();
    let view = match asked.key {
        PoolKey::Funds => PoolView::Funds(FundsView { available, ..FundsView::default() }),
        PoolKey::Budget(period) => PoolView::Budget(BudgetView {
            period,
            hard: true,
            limit: Decimal::TEN,
            spent: Decimal::ZERO,
            leased: Decimal::ZERO,
            available,
        }),
    };
    RenewedLease {
        account: asked.account,
        key: asked.key,
        lost: false,
        base: asked.renewal.kept,
        granted: amount(granted),
        recalled,
        reached: false,
        view,
    }
}

/// A round of renewal in which the database answers each pool the same.
fn renew(state: &mut SlotState<()>, at: Duration, granted: &str, available: &str, recalled: bool) {
    let mut sequence = 0;
    let renewals = state.begin(AccountId::generate(), at, || {
        sequence += 1;
        sequence
    });
    for asked in &renewals {
        let recalled = recalled && asked.recall;
        state.end(asked, answer(asked, granted, available, recalled), at);
    }
    state.ended();
}

#[test]
fn the_next_day_is_leased_from_in_the_last_minute_of_this_one() {
    let (budget, mut state) = (daily(), SlotState::<()>::default());
    let today = PoolKey::Budget(budget.at(at("2026-11-24T12:00:00Z")));
    let tomorrow = PoolKey::Budget(budget.at(at("2026-11-25T00:00:00Z")));
    assert_ne!(today, tomorrow);
    state.wait_for(&[today], amount("1"), amount("1"));
    renew(&mut state, NOW, "1", "9", false);
    state.touch(&[today], NOW);
    state.spent(&[today], amount("1"), NOW);
    let budgets = [budget];
    assert!(!state.prepare(&budgets, at("2026-11-24T23:58:59Z"), NOW));
    assert!(state.prepare(&budgets, at("2026-11-24T23:59:01Z"), NOW));
    assert!(!state.prepare(&budgets, at("2026-11-24T23:59:02Z"), NOW), "once is enough");
    let asked = state.begin(AccountId::generate(), NOW, || 7);
    let next = asked.iter().find(|one| one.key == tomorrow).expect("it is renewed");
    assert!(next.renewal.want.is_positive(), "it asks for what is usually spent");
}

#[test]
fn a_budget_that_nobody_spends_from_is_not_leased_from_ahead() {
    let (budget, mut state) = (daily(), SlotState::<()>::default());
    assert!(!state.prepare(&[budget], at("2026-11-24T23:59:01Z"), NOW));
    assert_eq!(state.holdings.pools().count(), 0);
}

#[test]
fn a_shortage_is_final_only_when_the_others_have_had_their_time() {
    let (mut state, pools) = (SlotState::<()>::default(), [PoolKey::Funds]);
    let need = amount("5");
    assert!(matches!(state.shortage(&pools, need, NOW), Shortage::Unknown));
    state.wait_for(&pools, need, need);
    renew(&mut state, NOW, "0", "1", true);
    assert!(matches!(state.shortage(&pools, need, NOW), Shortage::Recalling));
    let later = NOW + limits::RECALL_WAIT;
    assert!(matches!(state.shortage(&pools, need, later), Shortage::Final(PoolView::Funds(_))));
    // In vain: it is not asked for again at once.
    state.wait_for(&pools, need, need);
    let asked = state.begin(AccountId::generate(), later, || 9);
    assert!(!asked[0].recall);
    // What the others gave back ends it.
    state.end(&asked[0], answer(&asked[0], "5", "0", false), later);
    assert!(matches!(state.shortage(&pools, need, later), Shortage::Unknown));
    assert_eq!(state.free(&pools), need);
    state.wait_for(&pools, amount("9"), amount("9"));
    assert!(state.begin(AccountId::generate(), later, || 10)[0].recall);
}

#[test]
fn who_is_recalled_gives_back_what_is_free_and_leases_nothing_ahead_for_a_while() {
    let (mut state, pools) = (SlotState::<()>::default(), [PoolKey::Funds]);
    state.touch(&pools, NOW);
    state.wait_for(&pools, amount("5"), amount("5"));
    renew(&mut state, NOW, "5", "5", false);
    state.spent(&pools, amount("5"), NOW);
    state.recalled(NOW);
    let asked = state.begin(AccountId::generate(), NOW, || 2);
    assert!(asked[0].renewal.give_back && asked[0].renewal.kept.is_zero());
    assert!(asked[0].renewal.want.is_zero());
    assert!(state.free(&pools).is_zero(), "what is given back is not used any more");
    state.end(&asked[0], answer(&asked[0], "0", "10", false), NOW);
    state.ended();
    assert!(!state.spent(&pools, amount("1"), NOW), "no renewal ahead of need");
    assert!(state.begin(AccountId::generate(), NOW, || 3).is_empty());
    state.ended();
    assert!(state.spent(&pools, amount("1"), NOW + limits::FRUGAL));
}

#[test]
fn a_slot_is_retired_when_it_has_nothing_and_was_long_unused() {
    let (mut state, pools) = (SlotState::<()>::default(), [PoolKey::Funds]);
    state.touch(&pools, NOW);
    state.wait_for(&pools, amount("5"), amount("5"));
    renew(&mut state, NOW, "5", "5", false);
    let idle = NOW + limits::IDLE_LEASE;
    assert!(!state.retire(idle), "its lease is not given back");
    assert!(state.needs_upkeep(idle));
    let asked = state.begin(AccountId::generate(), idle, || 9);
    state.end(&asked[0], answer(&asked[0], "0", "10", false), idle);
    assert!(!state.retire(idle), "the renewal has not ended");
    state.ended();
    assert!(!state.retire(NOW + Duration::from_secs(1)), "it may be used again soon");
    assert!(!state.is_retired());
    assert!(state.retire(idle));
    assert!(state.is_retired());
}

#[test]
fn what_a_lost_answer_may_have_granted_is_given_back() {
    let (mut state, pools) = (SlotState::<()>::default(), [PoolKey::Funds]);
    state.touch(&pools, NOW);
    state.wait_for(&pools, amount("5"), amount("5"));
    state.begin(AccountId::generate(), NOW, || 1);
    state.lost();
    let idle = NOW + limits::IDLE_LEASE;
    assert!(!state.retire(idle));
    assert!(state.needs_upkeep(idle));
    let asked = state.begin(AccountId::generate(), idle, || 2);
    assert!(asked[0].renewal.kept.is_zero() && asked[0].renewal.need.is_zero());
    state.end(&asked[0], answer(&asked[0], "0", "10", false), idle);
    state.ended();
    assert!(state.retire(idle));
}

#[test]
fn what_a_lost_answer_may_have_brought_is_asked_in_the_next_round() {
    let (mut state, pools) = (SlotState::<()>::default(), [PoolKey::Funds]);
    state.touch(&pools, NOW);
    state.wait_for(&pools, amount("5"), amount("5"));
    renew(&mut state, NOW, "5", "5", false);
    assert!(state.begin(AccountId::generate(), NOW, || 2).is_empty());
    state.lost();
    assert_eq!(state.begin(AccountId::generate(), NOW, || 3).len(), 1);
}

/// Forgotten, nobody would ever give back what the database granted in the answer that was lost.
#[test]
fn a_budgets_pool_whose_answer_was_lost_is_renewed_and_not_forgotten() {
    let mut state = SlotState::<()>::default();
    let today = PoolKey::Budget(daily().at(at("2026-11-24T12:00:00Z")));
    state.touch(&[today], NOW);
    state.wait_for(&[today], amount("5"), amount("5"));
    assert_eq!(state.begin(AccountId::generate(), NOW, || 1).len(), 1);
    state.lost();
    let idle = NOW + limits::IDLE_LEASE;
    assert!(state.needs_upkeep(idle));
    let asked = state.begin(AccountId::generate(), idle, || 2);
    assert!(asked.len() == 1 && asked[0].key == today, "{asked:?}");
    state.end(&asked[0], answer(&asked[0], "0", "10", false), idle);
    state.ended();
    assert!(!state.needs_upkeep(idle));
    assert_eq!(state.holdings.pools().count(), 0, "now there is nothing to remember");
}

/// An older renewal may have made the lease again after a newer one had ended it.
#[test]
fn a_budgets_pool_is_renewed_once_more_before_it_is_forgotten() {
    let mut state = SlotState::<()>::default();
    let today = PoolKey::Budget(daily().at(at("2026-11-24T12:00:00Z")));
    state.touch(&[today], NOW);
    state.wait_for(&[today], amount("5"), amount("5"));
    renew(&mut state, NOW, "0", "0", false);
    let idle = NOW + limits::IDLE_LEASE;
    assert!(!state.needs_upkeep(idle.saturating_sub(Duration::from_secs(1))));
    assert!(state.needs_upkeep(idle), "there is nothing that it knows of, and it asks");
    renew(&mut state, idle, "0", "0", false);
    assert!(!state.needs_upkeep(idle), "once is enough");
    assert_eq!(state.holdings.pools().count(), 0);
}

/// As when a batch met a lock and each of its slots is renewed alone, before its turn comes.
#[test]
fn a_round_out_of_turn_leaves_a_slot_in_the_queue_once() {
    let mut state = SlotState::<()>::default();
    assert!(state.queue());
    assert!(state.taken());
    assert!(state.queue(), "a request came while the batch was under way");
    state.begin(AccountId::generate(), NOW, || 1);
    state.ended();
    assert!(!state.queue(), "it is in the queue still, and would be twice in one batch");
    assert!(state.taken());
    assert!(state.queue());
}

#[test]
fn who_waits_for_its_row_is_renewed_nowhere_else() {
    let mut state = SlotState::<()>::default();
    assert!(state.queue() && state.taken());
    assert!(state.queue(), "a request came before its row was found locked");
    state.stand_in_line();
    assert!(!state.taken(), "its turn in the queue passes");
    assert!(!state.queue() && !state.retire(NOW + limits::IDLE_LEASE));
    state.leave_line();
    assert!(state.queue() && state.taken());
}

/// As when a server stops while an account waits for its row.
#[test]
fn what_a_round_may_have_brought_that_was_given_up_is_asked() {
    let (mut state, pools) = (SlotState::<()>::default(), [PoolKey::Funds]);
    state.touch(&pools, NOW);
    state.wait_for(&pools, amount("5"), amount("5"));
    renew(&mut state, NOW, "9", "0", false);
    assert!(state.begin(AccountId::generate(), NOW, || 2).is_empty(), "it knows");
    assert_eq!(state.begin(AccountId::generate(), NOW, || 3).len(), 1);
}

#[test]
fn a_soft_budget_is_passed_once_more_is_used_than_its_limit() {
    let (mut state, budget) = (SlotState::<()>::default(), daily());
    let period = budget.at(at("2026-11-24T12:00:00Z"));
    let pools = [PoolKey::Budget(period), PoolKey::Funds];
    for hard in [false, true] {
        state.wait_for(&pools[..1], amount("99"), amount("99"));
        let asked = state.begin(AccountId::generate(), NOW, || 1);
        let view = PoolView::Budget(BudgetView {
            period,
            hard,
            limit: Decimal::TEN,
            spent: Decimal::from(8),
            leased: state.holdings.pool_mut(pools[0]).leased().decimal() + Decimal::from(3),
            available: Decimal::ZERO,
        });
        state.end(&asked[0], RenewedLease { view, ..answer(&asked[0], "3", "0", false) }, NOW);
        state.ended();
        if hard {
            assert_eq!(state.passed(&pools), [], "it refuses, and so needs no warning");
            continue;
        }
        // Another server holds nothing: 8 are spent, and 3 are free here.
        assert!(state.holdings.pool_mut(pools[0]).hold(amount("2")));
        assert_eq!(state.passed(&pools), [], "just its limit");
        assert!(state.holdings.pool_mut(pools[0]).hold(amount("1")));
        assert_eq!(state.passed(&pools), [(period, Decimal::TEN, Decimal::from(11))]);
    }
}

#[test]
fn who_waits_learns_when_a_round_has_ended_and_whether_it_was_answered() {
    let mut state = SlotState::<()>::default();
    for (round, is_lost) in [(1, false), (2, true), (3, false)] {
        assert_eq!((state.next_round(), state.answered(round)), (round, None));
        state.begin(AccountId::generate(), NOW, || 1);
        assert_eq!(state.answered(round), None);
        if is_lost {
            state.lost();
        } else {
            state.ended();
        }
        assert_eq!(state.answered(round), Some(!is_lost));
    }
}

#[test]
fn a_request_makes_do_with_less_only_when_no_more_will_come() {
    assert!(!Shortage::Unknown.allows_less(false));
    assert!(Shortage::Unknown.allows_less(true));
    assert!(!Shortage::Recalling.allows_less(true));
    assert!(Shortage::Final(PoolView::default()).allows_less(false));
}

#[test]
fn a_shortage_is_remembered_for_a_moment_and_not_beyond_a_change() {
    let pools = [PoolKey::Funds];
    let short = || {
        let mut state = SlotState::<()>::default();
        state.wait_for(&pools, amount("9"), amount("9"));
        renew(&mut state, NOW, "0", "5", false);
        state
    };
    let is_final = |state: &SlotState<()>, need: &str, at: Duration| {
        matches!(state.shortage(&pools, amount(need), at), Shortage::Final(_))
    };
    let mut state = short();
    assert!(is_final(&state, "5.01", NOW));
    assert!(!is_final(&state, "5", NOW), "as much is there");
    assert!(!is_final(&state, "6", NOW + limits::SHORTAGE_MEMORY));
    state.settled(&pools);
    assert!(!is_final(&state, "6", NOW));
    let mut state = short();
    state.forget_shortages();
    assert!(!is_final(&state, "6", NOW));
}

#[test]
fn nothing_is_renewed_while_all_is_well() {
    let (mut state, pools) = (SlotState::<()>::default(), [PoolKey::Funds]);
    state.touch(&pools, NOW);
    state.wait_for(&pools, amount("5"), amount("5"));
    renew(&mut state, NOW, "5", "5", false);
    state.wait_for(&pools, amount("5"), amount("5"));
    assert!(state.begin(AccountId::generate(), NOW, || 2).is_empty(), "as much is free");
}

#[test]
fn what_was_settled_is_told_when_the_pool_is_quiet_or_it_is_more_than_half() {
    for (settled, at_once) in [("4", false), ("5", false), ("6", true)] {
        let (mut state, pools) = (SlotState::<()>::default(), [PoolKey::Funds]);
        state.wait_for(&pools, amount("10"), amount("10"));
        renew(&mut state, NOW, "10", "0", false);
        let pool = state.holdings.pool_mut(PoolKey::Funds);
        assert!(pool.hold(amount(settled)));
        pool.settle(amount(settled), amount(settled));
        state.touch(&pools, NOW);
        assert_eq!(state.needs_upkeep(NOW), at_once, "{settled} of 10");
        assert!(state.needs_upkeep(NOW + limits::QUIET_POOL), "{settled} of 10");
    }
}

#[test]
fn a_round_that_could_not_begin_is_asked_for_again() {
    let (mut state, pools) = (SlotState::<()>::default(), [PoolKey::Funds]);
    state.touch(&pools, NOW);
    state.wait_for(&pools, amount("5"), amount("5"));
    renew(&mut state, NOW, "5", "5", false);
    state.wait_for(&pools, amount("8"), amount("6"));
    let needed = |asked: &[PoolRenewal]| (asked[0].renewal.need, asked[0].renewal.floor);
    let first = state.begin(AccountId::generate(), NOW, || 2);
    state.restore(&first);
    let again = state.begin(AccountId::generate(), NOW, || 3);
    assert_eq!(needed(&again), (amount("3"), amount("1")));
    assert_eq!(needed(&again), needed(&first));
    assert!(!again[0].renewal.give_back);
    // Nor is it forgotten that something is to be given back: it is not leased ahead at once.
    state.spent(&pools, amount("1"), NOW);
    state.recalled(NOW);
    let third = state.begin(AccountId::generate(), NOW, || 4);
    assert!(third[0].renewal.give_back);
    state.restore(&third);
    let later = NOW + limits::FRUGAL;
    let want =
        |state: &mut SlotState<()>| state.begin(AccountId::generate(), later, || 5)[0].renewal.want;
    assert!(want(&mut state).is_zero());
    assert!(want(&mut state).is_positive());
}

/// The round before it may have brought more than is known here.
#[test]
fn a_round_that_could_not_begin_leaves_the_last_answer_in_doubt() {
    let (mut state, pools) = (SlotState::<()>::default(), [PoolKey::Funds]);
    state.touch(&pools, NOW);
    let none = state.begin(AccountId::generate(), NOW, || 1);
    state.restore(&none);
    assert!(!state.retire(NOW + limits::IDLE_LEASE));
}
