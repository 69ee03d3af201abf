//! The way into the books: checks an event, queues it with its account's writer, and waits for the
//! commit.

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    answers::{Answer, ReturnAddress},
    error::MeteringError,
    event::{NewEvent, Recorded},
    lanes::Pending,
    limits::{ANSWER_WAIT, WRITERS},
    shard::Shard,
    window::UsageWindow,
    writer::{Link, Writer},
};
use crate::{
    authorization::admission::Admission,
    ids::{AccountId, AuthorizationId, InstanceId},
    money::Amount,
    tasks::Tasks,
    telemetry::metrics::MeteringMetrics,
};

/// Told of every event that is in the books, so that its reservation can be let go.
pub type Settle = Arc<dyn Fn(AccountId, AuthorizationId, Amount) + Send + Sync>;

/// What a recorder needs.
pub struct RecorderOptions {
    /// The server that posts.
    pub instance: InstanceId,
    /// How its writers connect.
    pub database: PgConnectOptions,
    /// From when to when usage is taken.
    pub window: UsageWindow,
    /// Called after each commit, for each event of it.
    pub settle: Settle,
    /// Told how long usage waits, and that it cannot.
    pub admission: Arc<Admission>,
    /// Where it counts.
    pub metrics: MeteringMetrics,
}

/// Records usage events. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Recorder {
    shards: Arc<[Arc<Shard>]>,
    window: UsageWindow,
    admission: Arc<Admission>,
    metrics: MeteringMetrics,
}

/// An event that is queued.
#[derive(Debug)]
pub struct Receipt {
    answer: oneshot::Receiver<Answer>,
    deadline: Instant,
}

impl Receipt {
    /// Waits for the commit, at most [`ANSWER_WAIT`] from when the event was queued.
    ///
    /// # Errors
    /// [`MeteringError::Unconfirmed`] when it did not come in time: the event may be recorded or
    /// not, and sending it again is safe. Otherwise what the writer found.
    pub async fn answer(self) -> Result<Recorded, MeteringError> {
        match timeout_at(self.deadline, self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(MeteringError::Unconfirmed),
        }
    }
}

impl Recorder {
    /// Starts the writers. They end when `tasks` stop, after writing what is queued.
    #[must_use]
    pub fn start(options: RecorderOptions, tasks: &Tasks) -> Self {
        let shards: Arc<[Arc<Shard>]> = (0..WRITERS)
            .map(|_| Arc::new(Shard::new(options.metrics.queue_depth.clone())))
            .collect();
        for shard in shards.iter() {
            let writer = Writer {
                instance: options.instance,
                options: options.database.clone(),
                shard: Arc::clone(shard),
                settle: Arc::clone(&options.settle),
                admission: Arc::clone(&options.admission),
                metrics: options.metrics.clone(),
                link: Link::default(),
            };
            tasks.spawn_essential("usage writer", writer.run(tasks.stopping()));
        }
        Self {
            shards,
            window: options.window,
            admission: options.admission,
            metrics: options.metrics,
        }
    }

    /// Records an event: OK means committed and on the disk. The same event again gets the first
    /// answer.
    ///
    /// # Errors
    /// [`MeteringError`]; after [`MeteringError::Unconfirmed`] the event may be recorded all the
    /// same.
    pub async fn record(&self, event: NewEvent) -> Result<Recorded, MeteringError> {
        self.submit(event)?.answer().await
    }

    /// Checks and queues an event; the receipt has the answer.
    ///
    /// # Errors
    /// What is wrong with the event, or that too much is waiting.
    pub fn submit(&self, event: NewEvent) -> Result<Receipt, MeteringError> {
        let event = event.checked(&self.window)?;
        let (answer_to, answer) = ReturnAddress::here();
        let Some(shard) = self.shard_of(event.account_id) else {
            return Err(MeteringError::Stopping);
        };
        let was_granted = event.authorized.is_some();
        let queued = shard.submit(Pending { event: Box::new(event), answer_to });
        if was_granted && matches!(queued, Err(MeteringError::QueueFull)) {
            self.admission.usage_refused();
        }
        queued?;
        Ok(Receipt { answer, deadline: Instant::now() + ANSWER_WAIT })
    }

    /// Counts usage that was refused before it became an event.
    pub(super) fn count_refused(&self) {
        self.metrics.events.get_or_create(&[("result", "refused")]).inc();
    }

    /// An account always has the same writer, so that writers never wait for each other.
    fn shard_of(&self, account: AccountId) -> Option<&Arc<Shard>> {
        // The end of a UUIDv7 is random.
        let shards = u128::try_from(self.shards.len()).ok()?;
        let place = account.0.as_u128().checked_rem(shards)?;
        self.shards.get(usize::try_from(place).ok()?)
    }
}
