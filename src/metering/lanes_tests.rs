use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::*;
use crate::{
    ids::{KeyId, ModelId, PriceVersionId},
    metering::{
        event::{Detail, Fingerprint, Outcome, Served},
        limits::MAX_BATCH,
        quantities::Quantities,
    },
    money::{Amount, Currency},
};

fn account(number: u128) -> AccountId {
    AccountId(Uuid::from_u128(number))
}

fn moment() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

pub(in crate::metering) fn event(
    payer: u128,
    number: u128,
    occurred_at: DateTime<Utc>,
) -> Pending<()> {
    let event = NewEvent {
        account_id: account(payer),
        event_id: AuthorizationId(Uuid::from_u128(number)),
        occurred_at,
        fingerprint: Fingerprint {
            key_id: KeyId(Uuid::nil()),
            model: "gpt-4o".to_owned(),
            quantities: Quantities::default(),
            outcome: Outcome::Success,
            cache_hit: false,
        },
        model_id: ModelId(1),
        price_version: PriceVersionId(1),
        currency: Currency::USD,
        charge: Amount::ZERO,
        saving: Amount::ZERO,
        tier_above: None,
        authorized: None,
        budgets: Vec::new(),
        served: Served::default(),
        detail: Detail::default(),
    };
    Pending { event: Box::new(event), answer_to: () }
}

fn places(batch: &Batch<()>) -> Vec<(u128, u128)> {
    let place = |pending: &Pending<()>| {
        (pending.event.account_id.0.as_u128(), pending.event.event_id.0.as_u128())
    };
    batch.events.iter().map(place).collect()
}

#[test]
fn the_flood_of_one_account_does_not_hold_up_another() {
    let mut lanes = Lanes::<()>::default();
    for number in 0..1_000 {
        lanes.push(event(1, number, moment())).unwrap();
    }
    lanes.push(event(2, 5_000, moment())).unwrap();
    // While another waits, a quarter of the batch; alone, all of it.
    let batch = lanes.take(8, Instant::now()).unwrap();
    assert_eq!(places(&batch), [(1, 0), (1, 1), (2, 5_000)]);
    let batch = lanes.take(8, Instant::now()).unwrap();
    assert_eq!(batch.events.len(), 8);
    assert_eq!(lanes.len(), 990);
}

#[test]
fn a_batch_is_sorted_by_account_and_event() {
    let mut lanes = Lanes::<()>::default();
    for (payer, number) in [(2, 20), (1, 12), (2, 19), (1, 11)] {
        lanes.push(event(payer, number, moment())).unwrap();
    }
    let batch = lanes.take(10, Instant::now()).unwrap();
    assert_eq!(places(&batch), [(1, 11), (1, 12), (2, 19), (2, 20)]);
}

#[test]
fn one_account_has_one_month_in_a_batch_and_keeps_its_order() {
    let mut lanes = Lanes::<()>::default();
    let next_month = moment() + TimeDelta::days(31);
    lanes.push(event(1, 1, moment())).unwrap();
    lanes.push(event(1, 2, next_month)).unwrap();
    lanes.push(event(1, 3, moment())).unwrap();
    lanes.push(event(2, 4, next_month)).unwrap();
    let mut taken = Vec::new();
    while let Some(batch) = lanes.take(10, Instant::now()) {
        taken.push(places(&batch));
    }
    assert_eq!(taken, [vec![(1, 1), (2, 4)], vec![(1, 2)], vec![(1, 3)]]);
}

#[test]
fn the_same_event_twice_goes_into_two_batches() {
    let mut lanes = Lanes::<()>::default();
    for payer in [1, 1, 2] {
        lanes.push(event(payer, 7, moment())).unwrap();
    }
    let first = lanes.take(10, Instant::now()).unwrap();
    assert_eq!(places(&first), [(1, 7)]);
    let second = lanes.take(10, Instant::now()).unwrap();
    let third = lanes.take(10, Instant::now()).unwrap();
    let mut rest = [places(&second), places(&third)].concat();
    rest.sort_unstable();
    assert_eq!(rest, [(1, 7), (2, 7)]);
    assert!(lanes.take(10, Instant::now()).is_none());
    assert_eq!(lanes.len(), 0);
}

#[test]
fn a_held_account_rests_longer_each_time_while_the_others_go_on() {
    let mut lanes = Lanes::<()>::default();
    let mut now = Instant::now();
    lanes.push(event(1, 1, moment())).unwrap();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let batch = lanes.take(10, now).unwrap();
        lanes.rest(batch.events, now);
        lanes.push(event(2, 2, moment())).unwrap();
        let others = lanes.take(10, now).unwrap();
        assert_eq!(places(&others), [(2, 2)]);
        assert!(!others.skip_locked);
        assert!(lanes.take(10, now).is_none());
        let due = lanes.next_due().unwrap();
        pauses.push(due - now);
        now = due;
    }
    assert!(pauses.is_sorted());
    assert_eq!(pauses.last(), Some(&MAX_PAUSE));
    assert!(pauses[0] >= MIN_PAUSE && pauses[0] < Duration::from_millis(100));
}

#[test]
fn a_held_account_is_waited_for_now_and_then() {
    let mut lanes = Lanes::<()>::default();
    let mut now = Instant::now();
    lanes.push(event(1, 1, moment())).unwrap();
    let mut skipped = Vec::new();
    for _ in 0..=PATIENT_EVERY {
        let batch = lanes.take(10, now).unwrap();
        skipped.push(batch.skip_locked);
        lanes.rest(batch.events, now);
        now = lanes.next_due().unwrap();
    }
    assert_eq!(skipped, [false, true, true, true, true, false]);
}

#[test]
fn an_account_that_was_posted_is_not_suspected_again() {
    let mut lanes = Lanes::<()>::default();
    let now = Instant::now();
    lanes.push(event(1, 1, moment())).unwrap();
    let batch = lanes.take(10, now).unwrap();
    lanes.rest(batch.events, now);
    let later = lanes.next_due().unwrap();
    assert!(lanes.take(10, later).unwrap().skip_locked);
    lanes.rested(std::iter::once(account(1)));
    lanes.push(event(1, 2, moment())).unwrap();
    assert!(!lanes.take(10, later).unwrap().skip_locked);
}

#[test]
fn a_full_queue_gives_back_and_one_account_fills_only_half_of_it() {
    let mut lanes = Lanes::<()>::default();
    let half = u128::try_from(MAX_QUEUED / PART_OF_THE_QUEUE).unwrap();
    for number in 0..half {
        lanes.push(event(1, number, moment())).unwrap();
    }
    assert!(lanes.push(event(1, half, moment())).is_err());
    for number in 0..half {
        lanes.push(event(2, half + number, moment())).unwrap();
    }
    assert!(lanes.push(event(3, 3 * half, moment())).is_err());
    assert_eq!(lanes.len(), MAX_QUEUED);
}

#[test]
fn at_the_speed_of_a_batch_that_left_some_no_more_waits_than_can_be_written_in_time() {
    let mut lanes = Lanes::<()>::default();
    let mut room_after = |waiting: u128, events, took| {
        for number in 0..waiting {
            lanes.push(event(1 + number % 20, number, moment())).unwrap();
        }
        lanes.take(MAX_BATCH, Instant::now()).unwrap();
        lanes.posted(events, took);
        std::mem::take(&mut lanes).room
    };
    let (many, slow) = (1_100, Duration::from_millis(300));
    assert_eq!(room_after(many, MAX_BATCH, slow), 3_333);
    assert_eq!(room_after(many, MAX_BATCH, Duration::from_millis(5)), MAX_QUEUED);
    assert_eq!(room_after(many, MAX_BATCH, Duration::ZERO), MAX_QUEUED);
    assert_eq!(room_after(many, MAX_BATCH, Duration::from_mins(1)), MIN_QUEUED);
    // One that took all there was says that nobody waits, however slow it was.
    assert_eq!(room_after(999, 999, slow), MAX_QUEUED);
}

#[test]
fn a_batch_that_left_only_of_one_account_tells_the_speed_too() {
    let mut lanes = Lanes::<()>::default();
    lanes.push(event(2, 5_000, moment())).unwrap();
    for number in 0..400 {
        lanes.push(event(1, number, moment())).unwrap();
    }
    assert_eq!(lanes.take(MAX_BATCH, Instant::now()).unwrap().events.len(), 251);
    lanes.posted(251, Duration::from_millis(100));
    assert_eq!(lanes.room, 2_510);
}

#[test]
fn where_less_may_wait_what_waits_already_stays_and_what_comes_is_refused() {
    let mut lanes = Lanes::<()>::default();
    let half = u128::try_from(MIN_QUEUED / PART_OF_THE_QUEUE).unwrap();
    let full = u128::try_from(MAX_BATCH).unwrap();
    for number in 0..full + half {
        lanes.push(event(1, number, moment())).unwrap();
    }
    lanes.take(MAX_BATCH, Instant::now()).unwrap();
    lanes.posted(MAX_BATCH, Duration::from_mins(1));
    assert!(lanes.push(event(1, full + half, moment())).is_err());
    for number in 0..half {
        lanes.push(event(2, 5_000 + number, moment())).unwrap();
    }
    assert!(lanes.push(event(3, 9_000, moment())).is_err());
    assert_eq!(lanes.len(), MIN_QUEUED);
}

#[test]
fn what_is_put_back_comes_first_and_in_order() {
    let mut lanes = Lanes::<()>::default();
    for number in 1..=4 {
        lanes.push(event(1, number, moment())).unwrap();
    }
    let batch = lanes.take(2, Instant::now()).unwrap();
    lanes.put_back(batch.events);
    let again = lanes.take(3, Instant::now()).unwrap();
    assert_eq!(places(&again), [(1, 1), (1, 2), (1, 3)]);
}

#[test]
fn lanes_are_empty_until_an_event_waits_and_when_it_is_taken() {
    let mut lanes = Lanes::<()>::default();
    assert!(lanes.is_empty());
    lanes.put_back(vec![event(1, 1, moment()), event(1, 2, moment())]);
    assert_eq!((lanes.is_empty(), lanes.len()), (false, 2));
    lanes.take(10, Instant::now()).unwrap();
    assert!(lanes.is_empty());
}
