//! Every bound of metering, with its reason, in one place.

use std::time::Duration;

/// Writers of one server, each with a connection and the accounts of its shard. Two with disjoint
/// accounts nearly double one; more than the database has cores gain nothing.
pub const WRITERS: usize = 2;
/// Events in one transaction. Beyond a thousand a batch gains little and its locks last longer.
pub const MAX_BATCH: usize = 1_000;
/// A batch for so many events or more begins at once: what each batch costs by itself is little for each.
pub const ENOUGH_FOR_A_BATCH: usize = 12;
/// Batches of fewer events begin so far apart, if events came during the last one. Whoever calls alone
/// is posted at once; among several callers each waits a few milliseconds, and the database has half of
/// the work.
pub const BATCHES_APART: Duration = Duration::from_millis(4);
/// While others wait, a batch takes of one account one part of so many: the others' usage waits for the
/// whole of it, and of what they have there is seldom as much.
pub const PART_OF_A_BATCH: usize = 4;
/// Events waiting in one shard: a few hundred milliseconds of full speed.
pub const MAX_QUEUED: usize = 20_000;
/// How long an event may have to wait in the queue at the speed of the last batch. What waits longer
/// is written when its caller has given up and sends it again, which is work for nothing.
pub const QUEUE_WAIT: Duration = Duration::from_secs(1);
/// One account may take up one part of so many, so that the flood of one leaves room for the others.
pub const PART_OF_THE_QUEUE: usize = 2;
/// Whatever the speed, so many events may wait: of one account a whole `RecordUsageBatch`.
pub const MIN_QUEUED: usize = PART_OF_THE_QUEUE * MAX_USAGES;
/// When a caller that met a full queue should come back: what waits is written by then.
pub const QUEUE_RETRY_AFTER: Duration = QUEUE_WAIT;
/// How long a call waits for its commit before it is told that nothing is certain yet.
pub const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// How long a batch waits for one account's row; posting transactions hold it for milliseconds.
pub const LOCK_TIMEOUT: Duration = Duration::from_millis(100);
/// How long the database may work on a batch: a hundred times what a large one takes.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// When a connection that answers nothing is given up: the database's own limit has passed.
pub const CONNECTION_PATIENCE: Duration = Duration::from_secs(6);
/// The pause before a lost connection is tried again; doubles up to [`MAX_PAUSE`].
pub const MIN_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two attempts.
pub const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How long the database must be away before new usage is refused at once.
pub const AWAY_AFTER: Duration = Duration::from_millis(500);
/// Every so many attempts on an account that others hold, the batch waits for its turn instead of
/// going on without it, so that a busy account is not passed over for ever.
pub const PATIENT_EVERY: u32 = 5;
/// After a duplicate was met, so many batches look for duplicates from the start: retries come in
/// swarms.
pub const DUPLICATES_EXPECTED: u32 = 32;

/// How far ahead of our clock a caller's may be.
pub const CLOCK_TOLERANCE: Duration = Duration::from_mins(5);
/// Months of partitions made ahead.
pub const MONTHS_AHEAD: i32 = 3;
/// How often partitions are looked after.
pub const PARTITION_INTERVAL: Duration = Duration::from_hours(1);

/// Events taken into the rollups in one step: about 100 ms of one core of the database.
pub const ROLLUP_EVENTS: i32 = 20_000;
/// How far the database's clock may step back. What was recorded within it is read from the events.
pub const ROLLUP_MARGIN: Duration = Duration::from_secs(5);
/// Between two steps, once nothing is left behind. A summary reads what was recorded in two of these
/// and the margin, at 5,000 events a second within 40 ms.
pub const ROLLUP_INTERVAL: Duration = Duration::from_secs(2);
/// After a step of a backlog, a pause so many times as long: a quarter of a core is not noticed.
pub const ROLLUP_REST: u32 = 3;

/// Characters of a provider's or a region's name.
pub const MAX_NAME: usize = 64;
/// Characters of a model's name.
pub const MAX_MODEL: usize = 200;
/// Characters of a request id, an end user's name and a label; as Authorize bounds them.
pub const MAX_DETAIL: usize = 256;
/// Labels of one event; as Authorize bounds them.
pub const MAX_LABELS: usize = 16;
/// Characters of a number inside a provider's usage object, which is kept as it came.
pub const MAX_NUMBER: usize = 40;
/// The largest magnitude of an exponent in one.
pub const MAX_EXPONENT: u32 = 300;
/// The longest latency that can be reported: a week.
pub const MAX_LATENCY: Duration = Duration::from_hours(7 * 24);
/// Usages in one `RecordUsageBatch`.
pub const MAX_USAGES: usize = 1_000;
/// Usages of one `RecordUsageStream` that are not acknowledged yet: two full batches, one that is
/// committing and one that gathers meanwhile.
pub const STREAM_IN_FLIGHT: usize = 2_000;
