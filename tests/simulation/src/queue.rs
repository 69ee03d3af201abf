//! Virtual time: what happens next, and when.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Microseconds since the run began.
pub type Micros = u64;

pub const MS: Micros = 1_000;
pub const SECOND: Micros = 1_000 * MS;

/// Events by time; those of one moment in the order in which they were put in.
pub struct Queue<E> {
    now: Micros,
    put: u64,
    heap: BinaryHeap<Reverse<Entry<E>>>,
}

struct Entry<E> {
    at: Micros,
    place: u64,
    event: E,
}

impl<E> Queue<E> {
    pub fn new() -> Self {
        Self { now: 0, put: 0, heap: BinaryHeap::new() }
    }

    pub fn now(&self) -> Micros {
        self.now
    }

    pub fn put(&mut self, at: Micros, event: E) {
        self.put += 1;
        self.heap.push(Reverse(Entry { at: at.max(self.now), place: self.put, event }));
    }

    /// The next event; time goes on to it.
    pub fn take(&mut self) -> Option<E> {
        let Reverse(entry) = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.place).cmp(&(other.at, other.place))
    }
}
