//! A bounded cache of rows that never keeps one which changed while it was being read.
//!
//! The fence is a number that every change raises. A load notes it before it reads and may keep the
//! row only if it is still the same; comparing and keeping happen under one lock, and so do raising
//! and dropping. So a row that was read before a change is either dropped by that change or never
//! kept. Readers take no lock.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;
use tokio::sync::Mutex as AsyncMutex;

/// Loads of different keys that may run at the same time; those of one key always follow each
/// other, so that a thousand requests with one new key ask the database once.
const LOADERS: usize = 32;

/// How much a shelf holds, and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The most rows.
    pub(super) rows: usize,
    /// How long a row is kept at most, changed or not: the net under a lost announcement.
    pub(super) lifetime: Duration,
    /// The most keys of which it is known that there is no row.
    pub(super) absent: usize,
    /// How long that is remembered.
    pub(super) absent_lifetime: Duration,
}

/// The cache; see the module.
pub(super) struct Shelf<K, V> {
    bounds: Bounds,
    rows: Cache<K, Kept<V>>,
    /// Until when it is remembered of each that there is no row.
    absent: Cache<K, Instant>,
    fence: Mutex<u64>,
    loaders: Vec<AsyncMutex<()>>,
    hasher: RandomState,
}

/// A row, and how long it may be kept.
struct Kept<V> {
    row: Arc<V>,
    until: Instant,
}

impl<V> Clone for Kept<V> {
    fn clone(&self) -> Self {
        Self { row: Arc::clone(&self.row), until: self.until }
    }
}

/// What the shelf can say of a key.
enum Known<V> {
    Row(Arc<V>),
    /// There is no such row.
    Absent,
    /// It has to be looked up.
    Nothing,
}

impl<K, V> Shelf<K, V>
where
    K: Hash + Eq + Copy + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            rows: Cache::new(bounds.rows),
            absent: Cache::new(bounds.absent),
            fence: Mutex::new(0),
            loaders: (0..LOADERS).map(|_| AsyncMutex::new(())).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The row, if it is here.
    pub(super) fn get(&self, key: &K) -> Option<Arc<V>> {
        self.rows.get(key).filter(|kept| Instant::now() < kept.until).map(|kept| kept.row)
    }

    /// The row, from here or else from `load`, whose answer is kept unless something changed while
    /// it ran.
    pub(super) async fn find<Load, E>(&self, key: K, load: Load) -> Result<Option<Arc<V>>, E>
    where
        Load: Future<Output = Result<Option<V>, E>>,
    {
        match self.known(&key) {
            Known::Row(row) => return Ok(Some(row)),
            Known::Absent => return Ok(None),
            Known::Nothing => {}
        }
        let _turn = match self.loader(&key) {
            Some(loader) => Some(loader.lock().await),
            None => None,
        };
        match self.known(&key) {
            Known::Row(row) => return Ok(Some(row)),
            Known::Absent => return Ok(None),
            Known::Nothing => {}
        }
        let (fence, begun) = (self.with_fence(|fence| *fence), Instant::now());
        let row = load.await?.map(Arc::new);
        self.with_fence(|now| {
            if *now == fence {
                match &row {
                    Some(row) => {
                        let until = begun + self.bounds.lifetime;
                        self.rows.insert(key, Kept { row: Arc::clone(row), until });
                    }
                    None => self.absent.insert(key, begun + self.bounds.absent_lifetime),
                }
            }
        });
        Ok(row)
    }

    /// Something about this key changed.
    pub(super) fn forget(&self, key: &K) {
        self.with_fence(|fence| {
            *fence = fence.wrapping_add(1);
            self.rows.remove(key);
            self.absent.remove(key);
        });
    }

    /// Anything may have changed.
    pub(super) fn forget_all(&self) {
        self.with_fence(|fence| {
            *fence = fence.wrapping_add(1);
            self.rows.clear();
            self.absent.clear();
        });
    }

    fn known(&self, key: &K) -> Known<V> {
        match self.get(key) {
            Some(row) => Known::Row(row),
            None if self.absent.get(key).is_some_and(|until| Instant::now() < until) => {
                Known::Absent
            }
            None => Known::Nothing,
        }
    }

    fn loader(&self, key: &K) -> Option<&AsyncMutex<()>> {
        let hash = usize::try_from(self.hasher.hash_one(key) % LOADERS as u64).unwrap_or(0);
        self.loaders.get(hash)
    }

    fn with_fence<T>(&self, act: impl FnOnce(&mut u64) -> T) -> T {
        act(&mut self.fence.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::ready,
        sync::atomic::{AtomicU32, Ordering},
    };

    use tokio::{sync::Notify, task::JoinSet};

    use super::*;

    fn shelf() -> Arc<Shelf<u32, &'static str>> {
        shelf_for(Duration::from_mins(1))
    }

    fn shelf_for(lifetime: Duration) -> Arc<Shelf<u32, &'static str>> {
        let bounds = Bounds { rows: 100, lifetime, absent: 100, absent_lifetime: lifetime };
        Arc::new(Shelf::new(bounds))
    }

    fn found(
        value: Option<&'static str>,
    ) -> impl Future<Output = Result<Option<&'static str>, Infallible>> {
        ready(Ok(value))
    }

    #[tokio::test]
    async fn a_row_is_loaded_once_and_again_after_it_changed() {
        let shelf = shelf();
        assert_eq!(shelf.get(&1), None);
        assert_eq!(shelf.find(1, found(Some("old"))).await.unwrap().as_deref(), Some(&"old"));
        assert_eq!(shelf.find(1, found(Some("new"))).await.unwrap().as_deref(), Some(&"old"));
        shelf.forget(&1);
        assert_eq!(shelf.get(&1), None);
        assert_eq!(shelf.find(1, found(Some("new"))).await.unwrap().as_deref(), Some(&"new"));
    }

    #[tokio::test]
    async fn what_is_not_there_is_remembered_until_it_may_be() {
        let shelf = shelf();
        assert_eq!(shelf.find(1, found(None)).await.unwrap(), None);
        assert_eq!(shelf.find(1, found(Some("row"))).await.unwrap(), None);
        shelf.forget(&1);
        assert_eq!(shelf.find(1, found(Some("row"))).await.unwrap().as_deref(), Some(&"row"));
        shelf.forget_all();
        assert_eq!(shelf.find(1, found(None)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn nothing_is_kept_longer_than_it_may_be() {
        let shelf = shelf_for(Duration::ZERO);
        assert_eq!(shelf.find(1, found(Some("old"))).await.unwrap().as_deref(), Some(&"old"));
        assert_eq!(shelf.get(&1), None);
        assert_eq!(shelf.find(1, found(None)).await.unwrap(), None);
        assert_eq!(shelf.find(1, found(Some("new"))).await.unwrap().as_deref(), Some(&"new"));
    }

    #[tokio::test]
    async fn a_thousand_rows_are_not_kept_where_a_hundred_may_be() {
        let shelf = shelf();
        for key in 0..1_000 {
            assert!(shelf.find(key, found(Some("row"))).await.unwrap().is_some());
        }
        let kept = (0..1_000).filter(|key| shelf.get(key).is_some()).count();
        assert!((1..=100).contains(&kept), "{kept}");
    }

    #[tokio::test]
    async fn a_row_that_was_read_before_a_change_is_not_kept() {
        for forget in
            [Shelf::forget, |shelf: &Shelf<u32, &'static str>, _: &u32| shelf.forget_all()]
        {
            let shelf = shelf();
            let (reading, go_on) = (Notify::new(), Notify::new());
            let load = async {
                reading.notify_one();
                go_on.notified().await;
                found(Some("stale")).await
            };
            let change = async {
                reading.notified().await;
                forget(&shelf, &1);
                go_on.notify_one();
            };
            let (answer, ()) = tokio::join!(shelf.find(1, load), change);
            assert_eq!(answer.unwrap().as_deref(), Some(&"stale"), "the load began before");
            assert_eq!(shelf.get(&1), None, "the stale row was kept");
        }
    }

    #[tokio::test]
    async fn a_thousand_readers_of_one_new_key_ask_once() {
        let shelf = shelf();
        let asked = Arc::new(AtomicU32::new(0));
        let mut readers = JoinSet::new();
        for _ in 0..1_000 {
            let (shelf, asked) = (Arc::clone(&shelf), Arc::clone(&asked));
            readers.spawn(async move {
                let load = async {
                    asked.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    found(Some("row")).await
                };
                shelf.find(7, load).await
            });
        }
        for answer in readers.join_all().await {
            assert!(answer.unwrap().is_some());
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
