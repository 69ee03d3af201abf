use std::collections::VecDeque;

use super::*;

/// A thousand seconds' worth of so many requests a second.
fn a_second(requests: u64) -> Rate {
    requests * 1_000
}

/// As many requests of one account in a step as that makes.
fn in_a_step(rate: Rate) -> u64 {
    rate * u64::try_from(limits::ADMISSION_STEP.as_millis()).unwrap() / MILLION
}

const NOTHING: Seen = Seen {
    thread: Duration::ZERO,
    usage: None,
    no_room: false,
    busiest: 0,
    granted: 0,
    recorded: 0,
};
const LATE: Seen = Seen { thread: limits::ADMISSION_STEP, ..NOTHING };
const IN_TIME: Seen = Seen { usage: Some(Duration::ZERO), ..NOTHING };

/// One account asks for so many requests a second, and so many are recorded.
fn asked(seen: Seen, requests: u64, recorded: u64) -> Seen {
    let in_a_step = |requests| in_a_step(a_second(requests));
    let (granted, recorded) = (in_a_step(requests), in_a_step(recorded));
    Seen { busiest: granted, granted, recorded, ..seen }
}

fn after(control: &mut Control, seen: Seen) -> Option<Rate> {
    control.step(&seen);
    control.allowance
}

/// A control that has just begun to refuse.
fn shedding(seen: Seen) -> Control {
    let mut control = Control::default();
    // What is recorded is known well.
    for _ in 0..100 {
        assert_eq!(after(&mut control, Seen { thread: Duration::ZERO, ..seen }), None);
    }
    while after(&mut control, seen).is_none() {}
    control
}

#[test]
fn a_strain_that_passes_by_itself_refuses_nobody() {
    let mut control = Control::default();
    for _ in 0..10 {
        for _ in 1..limits::TOLERATED_STRAIN {
            assert_eq!(after(&mut control, asked(LATE, 2_000, 0)), None);
        }
        assert_eq!(after(&mut control, asked(IN_TIME, 2_000, 0)), None);
    }
}

#[test]
fn a_strain_that_no_request_has_part_in_refuses_nobody() {
    let mut control = Control::default();
    for _ in 0..2 * limits::TOLERATED_STRAIN {
        assert_eq!(after(&mut control, LATE), None);
    }
}

#[test]
fn less_is_granted_than_is_recorded_until_what_waits_is_done() {
    let control = shedding(asked(LATE, 6_000, 4_000));
    let allowance = control.allowance.unwrap();
    assert!((a_second(2_990)..=a_second(3_000)).contains(&allowance), "{allowance}");
}

#[test]
fn the_allowance_falls_by_bounded_steps_and_never_to_nothing() {
    let mut control = shedding(asked(LATE, 6_000, 0));
    let mut before = control.allowance.unwrap();
    assert_eq!(before, a_second(1_500));
    while before > limits::LEAST_ALLOWANCE {
        let allowance = after(&mut control, asked(LATE, 6_000, 0)).unwrap();
        assert!(allowance < before, "{allowance}");
        before = allowance;
    }
    assert_eq!(after(&mut control, LATE), Some(limits::LEAST_ALLOWANCE));
}

#[test]
fn an_allowance_that_nobody_comes_near_is_cut_from_what_they_do() {
    let mut control = shedding(asked(LATE, 100_000, 80_000));
    assert!(control.allowance.unwrap() > a_second(50_000));
    let allowance = after(&mut control, asked(LATE, 80_000, 0)).unwrap();
    assert!(allowance < a_second(50_000), "{allowance}");
}

#[test]
fn it_grows_slowly_while_there_are_waits_quickly_when_there_are_none_until_nobody_meets_it() {
    let mut control = shedding(asked(LATE, 4_000, 4_000));
    let wait = limits::USAGE_WAIT / 2;
    let tight = Seen { usage: Some(wait), ..NOTHING };
    let rises = |control: &mut Control, seen: Seen, steps: usize| {
        let before = control.allowance.unwrap();
        for _ in 0..steps {
            // They ask for as much as they may, and it is recorded.
            let requests = control.allowance.unwrap() / 1_000;
            after(control, asked(seen, requests, requests)).unwrap();
        }
        control.allowance.unwrap() * 100 / before
    };
    let slowly = rises(&mut control, tight, 8);
    assert!((120..150).contains(&slowly), "{slowly}");
    // One batch that nobody waited for is no calm yet.
    let quickly = rises(&mut control, IN_TIME, 8);
    assert!((200..300).contains(&quickly), "{quickly}");
    // They ask for less than half of it.
    let third = control.allowance.unwrap() / 3_000;
    assert_eq!(after(&mut control, asked(IN_TIME, third, third)), None);
}

#[test]
fn the_middle_of_a_long_batch_is_no_calm() {
    let mut control = shedding(asked(LATE, 4_000, 4_000));
    let before = control.allowance.unwrap();
    for _ in 0..2 * limits::CALM_STEPS {
        let requests = control.allowance.unwrap() / 1_000;
        after(&mut control, asked(NOTHING, requests, requests)).unwrap();
    }
    let after = control.allowance.unwrap();
    assert!(after < before * 3 / 2, "{before} {after}");
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
    let judge = |thread, usage| Control::default().pressure(&Seen { thread, usage, ..NOTHING });
    assert_eq!(judge(limits::THREAD_WAIT, Some(limits::USAGE_WAIT)), Pressure::High);
    assert_eq!(judge(limits::THREAD_WAIT + tick, Some(limits::USAGE_WAIT)), Pressure::TooHigh);
    assert_eq!(judge(Duration::ZERO, Some(limits::USAGE_WAIT + tick)), Pressure::TooHigh);
    let (thread, usage) =
        (limits::THREAD_WAIT / limits::LOW_PRESSURE, limits::USAGE_WAIT / limits::LOW_PRESSURE);
    assert_eq!(judge(thread, Some(usage)), Pressure::Low);
    assert_eq!(judge(thread + tick, Some(usage)), Pressure::High);
    assert_eq!(judge(thread, Some(usage + tick)), Pressure::High);
    assert_eq!(judge(Duration::ZERO, None), Pressure::Low);
}

#[test]
fn usage_that_finds_no_room_is_not_tolerated_at_all_while_the_database_writes() {
    let mut control = Control::default();
    let stands_still = Seen { no_room: true, ..asked(NOTHING, 1_000, 0) };
    assert_eq!(after(&mut control, stands_still), None);
    let writes = Seen { no_room: true, ..asked(IN_TIME, 1_000, 0) };
    assert!(after(&mut control, writes).is_some());
}

#[test]
fn what_a_batch_showed_holds_while_it_is_written_and_not_while_the_database_stands_still() {
    let mut control = Control::default();
    let long = Seen { usage: Some(limits::USAGE_WAIT * 2), ..NOTHING };
    for _ in 0..3 {
        assert_eq!(control.pressure(&long), Pressure::TooHigh);
        for _ in 0..limits::LONG_BATCH {
            assert_eq!(control.pressure(&NOTHING), Pressure::TooHigh);
        }
    }
    assert_eq!(control.pressure(&NOTHING), Pressure::Low, "the database stands still");
    assert_eq!(control.pressure(&long), Pressure::TooHigh);
    assert_eq!(control.pressure(&IN_TIME), Pressure::Low);
    assert_eq!(control.pressure(&NOTHING), Pressure::Low);
}

#[test]
fn the_longest_wait_of_a_step_counts_and_all_of_its_requests() {
    let admission = Admission::default();
    let (short, long) = (Duration::from_millis(1), Duration::from_millis(2));
    for wait in [short, long, short] {
        admission.thread_was_late(wait);
        admission.usage_waited(wait);
        admission.granted();
        admission.granted();
        admission.usage_recorded();
    }
    admission.usage_refused();
    let seen = Seen {
        thread: long,
        usage: Some(long),
        no_room: true,
        busiest: 0,
        granted: 6,
        recorded: 3,
    };
    assert_eq!(admission.seen(), seen);
    assert_eq!(admission.seen(), NOTHING);
    admission.usage_waited(Duration::ZERO);
    assert!(admission.seen().usage.is_some(), "a batch that nobody waited for is one");
}

/// Accounts that ask at their rates, a server that records so many a step, and its control.
struct World {
    capacity: u64,
    accounts: Vec<Share>,
    /// What was granted in each of the last steps, until its usage comes.
    under_way: VecDeque<u64>,
    waiting: u64,
    control: Control,
    now: Duration,
}

impl World {
    fn new(accounts: usize, capacity: u64, delay: usize) -> Self {
        Self {
            capacity,
            accounts: (0..accounts).map(|_| Share::default()).collect(),
            under_way: VecDeque::from(vec![0; delay]),
            waiting: 0,
            control: Control::default(),
            now: Duration::from_secs(1_000),
        }
    }

    /// A step in which each asks for so many; how many were recorded, and how many of each refused.
    fn step(&mut self, asks: &[u64]) -> (u64, Vec<u64>) {
        let allowance = self.control.allowance.unwrap_or(UNBOUNDED);
        let let_in: Vec<u64> = std::iter::zip(&mut self.accounts, asks)
            .map(|(share, asks)| {
                let every = limits::ADMISSION_STEP / u32::try_from(*asks).unwrap().max(1);
                let mut now = self.now;
                let mut take = |_: &u64| {
                    now += every;
                    share.take(allowance, || now)
                };
                u64::try_from((0..*asks).filter(&mut take).count()).unwrap()
            })
            .collect();
        let granted = let_in.iter().sum();
        self.under_way.push_back(granted);
        self.waiting += self.under_way.pop_front().unwrap();
        let recorded = self.waiting.min(self.capacity);
        self.waiting -= recorded;
        let wait = self.wait();
        self.now += limits::ADMISSION_STEP;
        self.control.step(&Seen {
            thread: Duration::ZERO,
            usage: Some(wait),
            no_room: wait > 2 * limits::USAGE_WAIT,
            busiest: let_in.iter().copied().max().unwrap(),
            granted,
            recorded,
        });
        let refused = std::iter::zip(asks, let_in).map(|(asks, let_in)| asks - let_in).collect();
        (recorded, refused)
    }

    /// How long what waits takes.
    fn wait(&self) -> Duration {
        let hundredths = u32::try_from(self.waiting * 100 / self.capacity).unwrap();
        limits::ADMISSION_STEP * hundredths / 100
    }
}

/// At three times what can be recorded so many percent of that are used, nothing waits for long, whoever
/// asks for little is not refused, and afterwards nobody is.
fn holds_at_three_times_as_much(asks: &[u64], delay: usize, percent: u64, longest: Duration) {
    let capacity = asks.iter().sum::<u64>() / 3;
    let mut world = World::new(asks.len(), capacity, delay);
    for _ in 0..100 + 10 * delay {
        world.step(asks);
    }
    let (mut recorded, mut refused_modest, mut longest_seen) = (0, 0, Duration::ZERO);
    let modest = asks.iter().enumerate().min_by_key(|(_, asks)| **asks).unwrap().0;
    for _ in 0..1_000 {
        let (of_step, refused) = world.step(asks);
        recorded += of_step;
        refused_modest += refused[modest];
        longest_seen = longest_seen.max(world.wait());
    }
    assert!(recorded * 100 >= capacity * 1_000 * percent, "{recorded} of {}", capacity * 1_000);
    assert!(longest_seen <= longest, "{longest_seen:?}");
    let all_ask_the_same = asks.iter().all(|of_one| *of_one == asks[0]);
    assert!(all_ask_the_same || refused_modest == 0, "{refused_modest} of the modest were refused");

    let half: Vec<u64> = asks.iter().map(|asks| asks / 6).collect();
    let refused = (0..40 + delay).map(|_| world.step(&half).1.iter().sum::<u64>());
    assert_eq!(refused.last(), Some(0));
    assert_eq!(world.control.allowance, None);
}

#[test]
fn it_settles_when_all_ask_for_three_times_as_much() {
    holds_at_three_times_as_much(&[60; 100], 0, 97, Duration::from_secs(1));
}

#[test]
fn it_settles_when_one_floods() {
    let mut asks = vec![6; 100];
    asks[7] = 3_000;
    holds_at_three_times_as_much(&asks, 0, 97, Duration::from_secs(1));
}

#[test]
fn it_settles_when_some_ask_for_much_more_than_others() {
    let asks: Vec<u64> = (1..=100).map(|rank| 6_000 / rank).collect();
    holds_at_three_times_as_much(&asks, 0, 97, Duration::from_secs(1));
}

#[test]
fn it_settles_where_requests_take_a_while() {
    holds_at_three_times_as_much(&[60; 100], 10, 85, Duration::from_secs(8));
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
