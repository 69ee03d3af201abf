//! Seals: what was committed, hashed into one chain for each account, so that whoever changes the
//! books behind the program's back is found out, the database's owner included.
//!
//! Recording touches none of it. A background task takes what was recorded between its watermark and
//! the moment up to which usage is *settled* (see `roll_up_usage` in
//! `migrations/0012_usage_rollups.sql`: nothing that was recorded before it can still commit), a bounded
//! number of rows in each turn, and appends one block for each account that has some. A block lists its
//! rows with a digest of each, so that [`verify`](super::verify) can name a row that was changed or
//! deleted, and one that was added later, which no block has. A turn is one transaction under the lock
//! of the watermark's row: a kill leaves all as it was, and one server at a time is at it.
//!
//! [`chain`] says what is hashed. [`heads`] writes the last hash of every chain down, to be kept where
//! the database's owner cannot reach: whoever changes a row and makes all later blocks anew cannot have
//! the hash that was written down before.

pub mod chain;
pub mod heads;
pub(in crate::ledger) mod store;

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool};

use self::{
    chain::{BEGINNING, Block, Entry},
    store::{Mark, Window},
};
use crate::{
    database::{
        pool::in_rounds,
        store::{find_by_index, summarize_newest_ranges},
    },
    ids::AccountId,
    ledger::error::LedgerError,
    tasks::Tasks,
    telemetry::metrics::MeteringMetrics,
};

/// Rows that one turn takes at most, unless more were recorded in a millisecond. They are in memory
/// together, several hundred bytes each; turns of 50,000 were seen to gain little.
pub const TURN_ROWS: usize = 20_000;
/// Between two turns, once nothing is left behind: one block in this time for a busy account.
const INTERVAL: Duration = Duration::from_secs(10);
/// After a turn of a backlog, a pause so many times as long.
const REST: u32 = 1;
/// The shortest and the longest span that a turn looks at, in seconds.
const SLICES: (f64, f64) = (0.001, 100_000_000.0);

/// What a turn did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turn {
    /// How many rows it sealed; `None` where another server is at it.
    pub sealed: Option<usize>,
    /// Whether the next turn has something to seal already.
    pub behind: bool,
    /// Up to where all is sealed; `None` before the first turn.
    pub sealed_before: Option<DateTime<Utc>>,
}

/// Seals the next rows, at most so many.
///
/// # Errors
/// The database failed; then nothing has changed.
pub async fn turn(pool: &PgPool, rows: usize) -> Result<Turn, LedgerError> {
    let mut transaction = pool.begin().await?;
    find_by_index(&mut transaction).await?;
    let Some(mark) = store::take_mark(&mut transaction).await? else {
        return Ok(Turn { sealed: None, behind: false, sealed_before: None });
    };
    let sealed_before = mark.recorded_before;
    let Some(settled) = mark.settled.filter(|settled| Some(*settled) > sealed_before) else {
        return Ok(Turn { sealed: Some(0), behind: false, sealed_before });
    };
    let (window, found, slice) = next_rows(&mut transaction, &mark, settled, rows).await?;
    let sealed = found.len();
    append(&mut transaction, window.until, found).await?;
    store::move_mark(&mut transaction, window.until, slice).await?;
    transaction.commit().await?;
    let behind = window.until < settled;
    Ok(Turn { sealed: Some(sealed), behind, sealed_before: Some(window.until) })
}

/// The span that the turn takes, what was recorded in it, and how long the next span should be:
/// shorter while there is too much in it, longer where there is little.
async fn next_rows(
    connection: &mut PgConnection,
    mark: &Mark,
    settled: DateTime<Utc>,
    rows: usize,
) -> Result<(Window, Vec<(AccountId, Entry)>, f64), LedgerError> {
    let from = mark.recorded_before;
    let begins = from.or(mark.first).unwrap_or(settled);
    let mut slice = mark.slice.clamp(SLICES.0, SLICES.1);
    loop {
        let span = Duration::from_secs_f64(slice);
        let until = TimeDelta::from_std(span).ok().and_then(|span| begins.checked_add_signed(span));
        let until = until.map_or(settled, |until| until.min(settled));
        let window = Window { from, until };
        // Whatever was recorded within the shortest span is sealed together.
        let limit = (slice > SLICES.0).then_some(rows.saturating_add(1));
        let found = store::rows(connection, window, None, limit).await?;
        if limit.is_some_and(|limit| found.len() >= limit) {
            // What is looked at is what is there, not what the slice would allow.
            let there = (until - begins).to_std().unwrap_or_default().min(span);
            slice = (there / 2).as_secs_f64().max(SLICES.0);
            continue;
        }
        if found.len() < rows / 4 && until < settled {
            slice = span.saturating_mul(2).as_secs_f64().min(SLICES.1);
        }
        return Ok((window, found, slice));
    }
}

async fn append(
    connection: &mut PgConnection,
    recorded_until: DateTime<Utc>,
    mut found: Vec<(AccountId, Entry)>,
) -> Result<(), LedgerError> {
    found.sort_unstable();
    let chains = || found.chunk_by(|(one, _), (next, _)| one == next);
    let accounts: Vec<AccountId> =
        chains().filter_map(|chain| chain.first()).map(|(account, _)| *account).collect();
    let heads = store::heads_of(connection, &accounts).await?;
    let heads: HashMap<_, _> = heads.into_iter().map(|head| (head.account_id, head)).collect();
    let encoded: Vec<_> = accounts
        .into_iter()
        .zip(chains())
        .map(|(account, chain)| {
            let count = i64::try_from(chain.len()).unwrap_or(i64::MAX);
            (account, count, chain::encode(chain.iter().map(|(_, entry)| entry)))
        })
        .collect();
    drop(found);
    let blocks: Vec<Block<'_>> = encoded
        .iter()
        .map(|(account, count, entries)| {
            let head = heads.get(account);
            Block {
                account: *account,
                number: head.map_or(0, |head| head.block).saturating_add(1),
                recorded_until,
                entries_total: head.map_or(0, |head| head.entries_total).saturating_add(*count),
                previous: head.map_or(&BEGINNING[..], |head| &head.hash),
                entries,
            }
        })
        .collect();
    if !blocks.is_empty() {
        store::append(connection, recorded_until, &blocks).await?;
    }
    Ok(())
}

/// Keeps the books sealed until the server stops.
pub fn keep(pool: PgPool, metrics: MeteringMetrics, tasks: &Tasks) {
    in_rounds(tasks, "seals", pool, move |pool| round(pool, metrics.clone()));
}

/// One turn; the pause after it.
async fn round(pool: PgPool, metrics: MeteringMetrics) -> Duration {
    let begun = tokio::time::Instant::now();
    // Rollups see to those of usage, and more often.
    summarize_newest_ranges(&pool, &["transfers", "billing_documents"]).await;
    match turn(&pool, TURN_ROWS).await {
        Ok(turn) => {
            if let Some(sealed_before) = turn.sealed_before {
                let lag = crate::clock::now() - sealed_before;
                metrics.seal_lag.set(lag.as_seconds_f64());
            }
            if turn.behind { begun.elapsed().saturating_mul(REST).min(INTERVAL) } else { INTERVAL }
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the books were not sealed");
            INTERVAL
        }
    }
}
