//! Every bound of authorization, with its reason, in one place.

use std::time::Duration;

/// How long a grant may be used before its reservation lapses: longer than nearly every request,
/// short enough that the funds of a lost one come back soon. `ExtendAuthorization` moves it.
pub const AUTHORIZATION_LIFETIME: Duration = Duration::from_mins(15);
/// No lifetime is longer: for so long the funds of a lost request would be held.
pub const LONGEST_AUTHORIZATION_LIFETIME: Duration = Duration::from_hours(1);
/// Usage this long after the expiry is still covered by the reservation: time for the report of a
/// request that ended at the last moment to arrive. Posting and shrinking judge by the same sum.
pub const SETTLEMENT_GRACE: Duration = Duration::from_secs(30);
/// No grace is longer: what is reported later still is charged, as an overrun.
pub const LONGEST_SETTLEMENT_GRACE: Duration = Duration::from_mins(10);
/// How long after its expiry an authorization's usage is still recorded, as an overrun; a signing
/// key is kept as long.
pub const LATE_USAGE: Duration = Duration::from_hours(35 * 24);

/// How much the gateway's count of prompt tokens may fall short, in percent: tokenizers differ.
pub const INPUT_MARGIN_PERCENT: u32 = 10;
/// What a request may generate when neither caller nor catalogue gives a maximum.
pub const DEFAULT_MAX_OUTPUT_TOKENS: u64 = 16_384;

/// A server that has not been heard of for so long must not authorize: the others may then take
/// its silence for granted.
pub const HEARTBEAT_TTL: Duration = Duration::from_secs(5);
/// Several beats fit into one TTL, so that a lost one does no harm.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// How much longer a silent server is waited for than it may authorize: its clock may run slower
/// than the database's, by far less than this in one TTL.
pub const DEADLINE_MARGIN: Duration = Duration::from_millis(250);
/// How long the change listener may take to bring a barrier that a beat has told of: announcements
/// arrive within milliseconds, and a revocation waits for this when they do not.
pub const LISTENER_CATCHES_UP: Duration = Duration::from_millis(200);
/// How soon a revocation first looks whether all servers have heard of it: about as long as an
/// announcement and a beat take.
pub const FIRST_LOOK: Duration = Duration::from_millis(5);
/// It looks at least this often.
pub const LONGEST_LOOK: Duration = Duration::from_millis(50);
/// A healthy server has acknowledged by then; a revocation that waits longer says for whom.
pub const LATE_ACKNOWLEDGEMENT: Duration = Duration::from_secs(1);
/// A server acknowledges with the beat after the one that told it of a barrier, or falls silent
/// and has passed its deadline one TTL after the last. Whoever has not by then will not.
pub const EVERYWHERE_WAIT: Duration = Duration::from_secs(7);
/// When to have a change confirmed that could not be: the database is back by then, or a silent
/// server past its deadline.
pub const CONFIRM_AGAIN: Duration = Duration::from_secs(1);
/// How often a request is decided, all in all, while its key or account keep changing under it:
/// each time costs a look-up, and may cost a wait for a lease.
pub const DECISIONS: usize = 4;

/// How long a server that was asked for all reservations waits for the others: they answer from
/// memory, within milliseconds.
pub const ANSWERS_WAIT: Duration = Duration::from_secs(1);
/// Questions that a server has not answered yet; those that come in meanwhile name it as missing.
pub const QUESTIONS: usize = 64;
/// Answers that nobody has collected by then, nobody will.
pub const ANSWERS_KEPT: Duration = Duration::from_mins(1);
/// How often the funds at stake on this server are measured.
pub const EXPOSURE_TICK: Duration = Duration::from_secs(1);

/// A lease covers this much of the account's recent spending, so that renewals stay in the
/// background.
pub const LEASE_HORIZON: Duration = Duration::from_secs(4);
/// A lease covers at least so many requests like the largest of late, so that an account whose
/// requests have only begun does not wait for each of them.
pub const REQUESTS_AHEAD: u32 = 32;
/// The shortest time from which a rate is concluded: a gateway's first requests come together.
pub const SHORTEST_BURST: Duration = Duration::from_millis(100);
/// Over how long recent spending is averaged.
pub const SPENDING_WINDOW: Duration = Duration::from_secs(10);
/// An idle lease is given back after this long.
pub const IDLE_LEASE: Duration = Duration::from_mins(10);
/// How often leases are looked over for expiry, idleness and drift.
pub const LEASE_TICK: Duration = Duration::from_secs(1);
/// Accounts that are looked over without a pause: less than a millisecond.
pub const SLOTS_AT_ONCE: usize = 1_000;
/// The pause after them: a hundred thousand are looked over within half a second.
pub const SLOTS_PAUSE: Duration = Duration::from_millis(1);
/// How long a pool must be quiet before what it has settled is told to the database.
pub const QUIET_POOL: Duration = Duration::from_secs(2);
/// Pools in one renewal round trip: for so long posting to their accounts waits, some ten milliseconds
/// on a slow machine. Five hundred were seen to take a hundred.
pub const RENEWAL_BATCH: usize = 100;
/// How long a request waits for its account's lease before the answer is UNAVAILABLE.
pub const LEASE_WAIT: Duration = Duration::from_secs(3);
/// How long a renewal waits for one account's row, which posting holds for milliseconds: the other
/// accounts of the round wait with it.
pub const LEASE_LOCK_TIMEOUT: Duration = Duration::from_millis(200);
/// How long each account of such a round is waited for, alone, to find those that are locked.
pub const LOCKED_LOOK: Duration = Duration::from_millis(20);
/// Accounts whose rows are held for longer and are waited for at once, over a connection each, for
/// [`LEASE_WAIT`] at a time.
pub const ROWS_WAITED_FOR: usize = 8;
/// How long the database may work on one round of renewals, a beat or a look at the leases before
/// its connection is given up: a router that forgot it says nothing.
pub const ANSWER_PATIENCE: Duration = HEARTBEAT_TTL;
/// How long a shortage is answered from memory, unless funds change.
pub const SHORTAGE_MEMORY: Duration = Duration::from_secs(1);
/// For how long the other servers may give back what they were asked for before a request is denied
/// for lack of it: several times what a healthy one needs.
pub const RECALL_WAIT: Duration = Duration::from_millis(250);
/// How often the database is asked meanwhile whether they have.
pub const RECALL_POLL: Duration = Duration::from_millis(15);
/// For how long a server that was asked leases nothing ahead of need: so long that whoever asked is
/// served first.
pub const FRUGAL: Duration = Duration::from_secs(1);
/// So long before a budget starts anew, servers that spend from it lease from its next period.
pub const NEXT_PERIOD: Duration = Duration::from_mins(1);
/// Keys with rates or a spike guard in memory; one that is forgotten begins anew with a full minute,
/// and reads its norm again.
pub const MAX_GUARDED_KEYS: usize = 100_000;
/// How long a norm is kept in memory after the last request; the database keeps it for ever.
pub const IDLE_NORM: Duration = Duration::from_hours(1);
/// How often what was learned of norms is written down.
pub const NORM_INTERVAL: Duration = Duration::from_secs(10);
/// Norms that are written in one statement.
pub const NORM_BATCH: usize = 1_000;
/// Outstanding reservations of one account on one server: bounds memory against a gateway that
/// never settles. A thousand times what a busy customer has in flight.
pub const MAX_OUTSTANDING: usize = 20_000;
/// The same of all accounts: some 2 KiB each, and at 5,000 requests a second those of 50 s.
pub const MAX_OUTSTANDING_IN_ALL: usize = 250_000;

/// Characters of a request id.
pub const MAX_REQUEST_ID: usize = 128;
/// Characters of an end user's name.
pub const MAX_END_USER: usize = 256;
/// Labels of one request.
pub const MAX_LABELS: usize = 16;
/// Characters of a label's name.
pub const MAX_LABEL_NAME: usize = 64;
/// Characters of a label's value.
pub const MAX_LABEL_VALUE: usize = 256;

/// Dead servers are looked for every so many looks at the leases.
pub const REMOVAL_ROUNDS: u32 = 30;
/// Leases of a dead server that are given back in one transaction: it holds the rows of their
/// accounts for some ten milliseconds.
pub const REMOVED_AT_A_TIME: i32 = 200;

/// A call that waits so long for the thread that serves it says that the server has too much to do.
pub const THREAD_WAIT: Duration = Duration::from_millis(400);
/// So does usage that waits so long for a batch, on average over the batch.
pub const USAGE_WAIT: Duration = Duration::from_millis(800);
/// How often it is decided what each account may ask for. A request and its usage take less.
pub const ADMISSION_STEP: Duration = Duration::from_millis(500);
/// A batch that takes more steps than these says that the database stands still.
pub const LONG_BATCH: u32 = 4;
/// So many steps in a row with a wait that is too long, and only then is anybody refused: a pause of the
/// disk, a burst or a machine that is busy with something else passes by itself, and a refusal is a
/// customer's request.
pub const TOLERATED_STRAIN: u32 = 6;
/// A wait below one part of so many of what is tolerated of it says that there is room.
pub const LOW_PRESSURE: u32 = 4;
/// In a step the allowance is cut to one part of so many at the most: what is recorded is not known
/// well when there is suddenly more of it.
pub const DEEPEST_CUT: u64 = 4;
/// After so many steps in a row whose batches nobody waited for
pub const CALM_STEPS: u32 = 4;
/// more and more is granted, by one part of so many in a step: twice as much within two seconds.
pub const FAST_RISE: u64 = 5;
/// Before, slowly: the usage of what is granted now comes some time later.
pub const SLOW_RISE: u64 = 25;
/// How much is recorded is an average that forgets one part of so many in a step.
pub const RECORDED_OVER: u64 = 4;
/// The least that each account may ask for, in a thousand seconds: one request a second.
pub const LEAST_ALLOWANCE: u64 = 1_000;
/// How far an account may be ahead of its allowance: requests come in bursts.
pub const ADMISSION_BURST: Duration = Duration::from_millis(250);
/// When to come back to a server that is asked for too much: late enough that most of what waits is
/// done, and that asking again does not add much to it.
pub const RETRY_WHEN_BUSY: Duration = Duration::from_secs(2);
/// When to try again with too many requests under way.
pub const RETRY_WHEN_FULL: Duration = Duration::from_secs(1);
