//! The one source of chance: whatever a run decides, it decides with this.

use chacha20::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use chrono::{DateTime, Utc};
use uuid::{Builder, Uuid};

pub struct Dice(ChaCha8Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below this one.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end.max(1)
    }

    /// A number from the first to the last.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// An identifier as it would have been made at a moment.
    pub fn id(&mut self, moment: DateTime<Utc>) -> Uuid {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.0.next_u64().to_be_bytes());
        random[8..].copy_from_slice(&self.0.next_u64().to_be_bytes()[..2]);
        let milliseconds = u64::try_from(moment.timestamp_millis()).unwrap_or(0);
        Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
    }
}
