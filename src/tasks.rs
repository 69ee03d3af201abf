//! Supervised background tasks and the two steps in which a server stops.
//!
//! Every task of the server is spawned here, so that a panic is logged instead of lost, a server
//! without one of its essential parts drains instead of limping on, and a drain can wait for all.
//!
//! A stop has two steps, because what answers calls needs what runs in the background:
//! 1. *closing*: no new calls; streams answer what they have received and end.
//! 2. *stopping*: all calls are answered; background tasks finish what is queued and return.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of one server. Cheap to clone; all clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    closing: CancellationToken,
    stopping: CancellationToken,
    failed: Arc<OnceLock<&'static str>>,
}

impl Tasks {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task whose failure the server survives. A panic is logged under its name.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(async move {
            if let Err(payload) = CatchPanic::new(task).await {
                tracing::error!(task = name, panic = panic_message(&*payload), "a task panicked");
            }
        });
    }

    /// Runs a task the server cannot do without: if it panics, or returns before it was told to
    /// stop, the server drains and exits with an error.
    pub fn spawn_essential<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.clone();
        self.tracker.spawn(async move {
            match CatchPanic::new(task).await {
                Err(payload) => tasks.fail(name, panic_message(&*payload)),
                Ok(()) if tasks.closing.is_cancelled() => {}
                Ok(()) => tasks.fail(name, "it ended"),
            }
        });
    }

    /// Says that something the server cannot do without has failed: the server drains.
    pub fn fail(&self, name: &'static str, cause: &str) {
        tracing::error!(task = name, cause, "an essential part failed; the server drains");
        // Only the first failure is the cause.
        let _ = self.failed.set(name);
        self.begin_closing();
    }

    /// Cancelled when the server takes no new calls. Streams answer what they received and end.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Cancelled when every call is answered. Background tasks finish what is queued and return.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// The first step of a stop.
    pub fn begin_closing(&self) {
        self.closing.cancel();
    }

    /// The second step: tells all tasks to finish and waits for them, at most for `limit`.
    /// Whether all have finished.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.begin_closing();
        self.stopping.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }

    /// The essential task that failed first.
    #[must_use]
    pub fn failure(&self) -> Option<&'static str> {
        self.failed.get().copied()
    }
}

/// Puts the part of a call that is seldom walked into memory of its own, so that the call itself
/// stays small: a future is as large as the largest of its parts, and is moved several times.
pub fn slowly<F: Future>(seldom: F) -> Pin<Box<F>> {
    Box::pin(seldom)
}

/// A future whose panic becomes an error.
pub struct CatchPanic<F>(Pin<Box<F>>);

impl<F: Future> CatchPanic<F> {
    /// Watches over `future`, which is dropped with whatever state a panic left it in.
    pub fn new(future: F) -> Self {
        Self(Box::pin(future))
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.0.as_mut();
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    }
}

/// What a panic said.
#[must_use]
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "(no message)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far longer than any task here takes.
    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_panic_in_a_lesser_task_is_survived() {
        let tasks = Tasks::new();
        tasks.spawn("lesser", async { panic!("on purpose") });
        assert!(tasks.stop(LIMIT).await);
        assert_eq!(tasks.failure(), None);
    }

    #[tokio::test]
    async fn a_panic_in_an_essential_task_begins_the_drain_and_is_named() {
        let tasks = Tasks::new();
        tasks.spawn_essential("writer", async { panic!("on purpose") });
        tokio::time::timeout(LIMIT, tasks.closing().cancelled()).await.unwrap();
        assert_eq!(tasks.failure(), Some("writer"));
    }

    #[tokio::test]
    async fn an_essential_task_that_returns_too_early_begins_the_drain() {
        let tasks = Tasks::new();
        tasks.spawn_essential("writer", async {});
        tokio::time::timeout(LIMIT, tasks.closing().cancelled()).await.unwrap();
        assert_eq!(tasks.failure(), Some("writer"));
    }

    #[tokio::test]
    async fn a_stop_waits_for_what_is_queued() {
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tasks.spawn_essential("writer", async move {
            stopping.cancelled().await;
            sender.send(()).unwrap();
        });
        assert!(tasks.stop(LIMIT).await);
        assert_eq!(tasks.failure(), None);
        receiver.await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_is_bounded() {
        let tasks = Tasks::new();
        tasks.spawn("stuck", std::future::pending());
        assert!(!tasks.stop(Duration::from_millis(20)).await);
    }
}
