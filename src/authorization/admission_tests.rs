use super::*;

/// A thousand seconds' worth of so many requests a second.
fn a_second(requests: u64) -> Rate {
    requests * 1_000
}

/// As many requests of one account in a step as that makes.
fn in_a_step(rate: Rate) -> u64 {
    rate * u64::try_from(limits::ADMISSION_STEP.as_millis()).unwrap() / MILLION
}

const LATE: Waits = Waits { thread: limits::ADMISSION_STEP, usage: None };
const IN_TIME: Waits = Waits { thread: Duration::ZERO, usage: Some(Duration::ZERO) };

fn after(control: &mut Control, waits: Waits, busiest: u64) -> Option<Rate> {
    control.step(waits, busiest);
    control.allowance
}

fn strained(control: &mut Control, busiest: u64) -> Option<Rate> {
    after(control, LATE, busiest)
}

fn relieved(control: &mut Control, busiest: u64) -> Option<Rate> {
    after(control, IN_TIME, busiest)
}

/// A control that has just begun to refuse.
fn shedding(busiest: u64) -> Control {
    let mut control = Control::default();
    while strained(&mut control, busiest).is_none() {}
    control
}

#[test]
fn a_strain_that_passes_by_itself_refuses_nobody() {
    let mut control = Control::default();
    for _ in 0..10 {
        for _ in 1..limits::STRAINED_STEPS {
            assert_eq!(strained(&mut control, 1_000), None);
        }
        assert_eq!(relieved(&mut control, 1_000), None);
    }
}

#[test]
fn at_first_only_those_are_cut_who_ask_for_the_most() {
    let control = shedding(in_a_step(a_second(6_000)));
    assert_eq!(control.allowance, Some(a_second(4_000)));
}

#[test]
fn the_allowance_is_cut_while_the_strain_lasts_and_never_to_nothing() {
    let mut control = shedding(1_000);
    let mut before = control.allowance.unwrap();
    while before > limits::LEAST_ALLOWANCE {
        let allowance = strained(&mut control, u64::MAX).unwrap();
        assert!(allowance < before, "{allowance}");
        before = allowance;
    }
    assert_eq!(strained(&mut control, 0), Some(limits::LEAST_ALLOWANCE));
}

#[test]
fn an_allowance_that_nobody_comes_near_is_cut_to_what_they_do() {
    let mut control = shedding(in_a_step(a_second(100_000)));
    assert_eq!(strained(&mut control, in_a_step(a_second(90))), Some(a_second(60)));
    // In a step in which nobody was let in there is nothing to go by.
    assert_eq!(strained(&mut control, 0), Some(a_second(40)));
}

#[test]
fn it_grows_when_the_strain_is_over_until_nobody_meets_it() {
    let mut control = shedding(in_a_step(a_second(40)));
    let mut before = control.allowance.unwrap();
    // They ask for as much as they may: it goes on.
    for _ in 0..100 {
        let allowance = relieved(&mut control, in_a_step(before).max(1)).unwrap();
        assert!(allowance > before);
        before = allowance;
    }
    // They ask for less than half of it.
    assert_eq!(relieved(&mut control, in_a_step(before) / 3), None);
}

#[test]
fn an_account_gets_its_allowance_and_bursts_within_bounds() {
    let mut share = Share::default();
    let (allowance, begun) = (a_second(10), Duration::from_secs(1_000));
    let let_in = |share: &mut Share, second: u64| {
        let attempts = (0..1_000).map(|step| begun + Duration::from_millis(1_000 * second + step));
        attempts.filter(|now| share.take(allowance, || *now)).count()
    };
    // What may be ahead comes on top once.
    assert_eq!(let_in(&mut share, 0), 13);
    assert_eq!(let_in(&mut share, 1), 10);
    assert_eq!(let_in(&mut share, 2), 10);
    // Whoever was quiet has not saved up more than a burst.
    assert_eq!(let_in(&mut share, 60), 13);
}

#[test]
fn whoever_asks_for_less_than_the_allowance_is_never_refused() {
    let mut share = Share::default();
    for request in 0..1_000 {
        assert!(share.take(a_second(10), || Duration::from_millis(100 * request)));
    }
}

#[test]
fn without_an_allowance_everything_is_taken_on_and_counted_by_step() {
    let mut share = Share::default();
    for request in 1..=1_000 {
        assert!(share.take(UNBOUNDED, || Duration::ZERO));
        assert_eq!(share.count(7), request);
    }
    assert_eq!(share.count(8), 1);
}

#[test]
fn each_wait_is_judged_by_what_is_tolerated_of_it() {
    let tick = Duration::from_micros(1);
    let judge = |thread, usage| Control::default().is_strained(Waits { thread, usage });
    assert!(!judge(limits::THREAD_WAIT, Some(limits::USAGE_WAIT)));
    assert!(judge(limits::THREAD_WAIT + tick, Some(limits::USAGE_WAIT)));
    assert!(judge(Duration::ZERO, Some(limits::USAGE_WAIT + tick)));
    assert!(!judge(Duration::ZERO, None));
}

#[test]
fn a_step_without_a_batch_is_judged_by_the_last_one_and_the_next_is_not() {
    let mut control = Control::default();
    let nothing = Waits { thread: Duration::ZERO, usage: None };
    let long = Waits { usage: Some(limits::USAGE_WAIT * 2), ..nothing };
    for _ in 0..3 {
        assert!(control.is_strained(long));
        assert!(control.is_strained(nothing), "the batch is longer than a step");
    }
    assert!(!control.is_strained(nothing), "the database stands still");
    assert!(control.is_strained(long));
    assert!(!control.is_strained(IN_TIME));
    assert!(!control.is_strained(nothing));
}

#[test]
fn the_longest_wait_of_a_step_counts() {
    let admission = Admission::default();
    let (short, long) = (Duration::from_millis(1), Duration::from_millis(2));
    for wait in [short, long, short] {
        admission.thread_was_late(wait);
        admission.usage_waited(wait);
    }
    assert!(
        matches!(admission.waits(), Waits { thread, usage } if thread == long && usage == Some(long))
    );
    assert!(matches!(admission.waits(), Waits { thread: Duration::ZERO, usage: None }));
    admission.usage_waited(Duration::ZERO);
    assert!(admission.waits().usage.is_some(), "a batch that nobody waited for is one");
}

#[test]
fn more_reservations_than_memory_is_meant_for_are_refused_with_a_time_to_come_back() {
    use crate::problem::{Problem as _, ProblemKind};

    let (admission, share) = (Admission::default(), Mutex::default());
    admission.set_outstanding(limits::MAX_OUTSTANDING_IN_ALL - 1);
    assert!(admission.take_on(&share).is_ok());
    admission.set_outstanding(limits::MAX_OUTSTANDING_IN_ALL);
    let refusal = admission.take_on(&share).unwrap_err();
    assert_eq!(refusal.kind(), ProblemKind::ResourceExhausted);
    assert_eq!(refusal.reason(), "TOO_MANY_OUTSTANDING");
    assert_eq!(refusal.retry_after(), Some(limits::RETRY_WHEN_BUSY));
}

#[test]
fn at_an_allowance_only_those_beyond_it_are_told_to_come_back() {
    let admission = Admission::default();
    admission.allowance.store(a_second(1), Ordering::Relaxed);
    let (modest, greedy) = (Mutex::default(), Mutex::default());
    assert!(admission.take_on(&greedy).is_ok());
    let refusal = admission.take_on(&greedy).unwrap_err();
    assert!(matches!(refusal, AuthorizationError::Busy));
    assert!(admission.take_on(&modest).is_ok());
    assert_eq!(admission.busiest.load(Ordering::Relaxed), 1);
}
