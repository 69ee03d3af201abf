use proptest::prelude::*;

use super::*;

fn bad(requests: u64, failures: u64) -> BadInterval {
    BadInterval { begins: DateTime::UNIX_EPOCH, requests, failures }
}

fn percent_lost(intervals: usize) -> Decimal {
    Availability::of(30, &vec![bad(3, 3); intervals]).credit_percent()
}

#[test]
fn the_schedule_begins_below_each_threshold_and_not_at_it() {
    // A month of 30 days has 8,640 intervals; a thousandth of it is 8.64.
    for (lost, percent) in
        [(0, 0), (8, 0), (9, 10), (86, 10), (87, 25), (432, 25), (433, 100), (8_640, 100)]
    {
        assert_eq!(percent_lost(lost), Decimal::from(percent), "{lost} intervals");
    }
    // 432 of 8,640 are five percent: exactly 95.0 is not below it.
    let at_the_last = Availability::of(30, &vec![bad(1, 1); 432]);
    assert_eq!(at_the_last.percent(), Decimal::from(95));
    assert_eq!(at_the_last.missed_percent(), Some(Decimal::from(99)));
    assert_eq!(Availability::of(30, &[]).missed_percent(), None);
}

#[test]
fn the_figure_never_shows_a_threshold_that_was_missed() {
    let mut intervals = vec![bad(1, 1); 432];
    intervals.push(bad(1_000_000_000_000, 1));
    let availability = Availability::of(30, &intervals);
    assert_eq!(availability.credit_percent(), Decimal::ONE_HUNDRED);
    assert!(availability.percent() < Decimal::from(95));
}

#[test]
fn what_is_not_ours_counts_neither_way() {
    use Outcome::{Cancelled, ClientAborted, ContentFiltered, ProviderError, Success, Timeout};
    for (outcome, counts) in [
        (Success, Verdict::Success),
        (ContentFiltered, Verdict::Success),
        (ProviderError, Verdict::Failure),
        (Timeout, Verdict::Failure),
        (ClientAborted, Verdict::NotCounted),
        (Cancelled, Verdict::NotCounted),
    ] {
        assert_eq!(verdict(outcome, false), counts);
        assert_eq!(verdict(outcome, true), Verdict::NotCounted);
    }
}

#[test]
fn a_credit_is_rounded_once_to_the_minor_unit() {
    let charges: Amount = "10.05".parse().unwrap();
    assert_eq!(credit(charges, Decimal::TEN, 2).to_string(), "1.01");
    assert_eq!(credit(charges, Decimal::ONE_HUNDRED, 2), charges);
    assert_eq!(credit(charges, Decimal::ZERO, 2), Amount::ZERO);
}

#[test]
fn a_month_has_its_days() {
    for (month, days) in [("2026-02-01", 28), ("2028-02-01", 29), ("2026-12-01", 31)] {
        assert_eq!(days_of(month.parse().unwrap()), days);
    }
}

proptest! {
    #[test]
    fn a_further_failure_never_makes_it_better(
        intervals in prop::collection::vec((1_u64..50, 0_u64..50), 0..600),
        at in 0_usize..600,
    ) {
        let mut month: Vec<_> = intervals.iter().map(|(all, bad_ones)| bad(*all, *all.min(bad_ones))).collect();
        let before = Availability::of(31, &month);
        prop_assert!(before.percent() >= Decimal::ZERO);
        prop_assert!(before.percent() <= Decimal::ONE_HUNDRED);
        if let Some(interval) = month.get_mut(at) {
            interval.requests += 1;
            interval.failures += 1;
        }
        let after = Availability::of(31, &month);
        prop_assert!(after.percent() <= before.percent());
        prop_assert!(after.credit_percent() >= before.credit_percent());
    }
}
