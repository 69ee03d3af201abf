//! Every chain computed again: its blocks follow each other, and the rows they list are there, as
//! they were, and no others.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;

use super::{Check, MAX_FINDINGS, TimeLimit, failed};
use crate::{
    database::store::find_by_index,
    ids::AccountId,
    ledger::{
        error::LedgerError,
        seals::{
            TURN_ROWS,
            chain::{self, BEGINNING, Block, Entry, Hash, Kind, RowKey},
            store::{self, StoredBlock, Window},
        },
    },
};

/// The rest of a verification, as far as a chain has been followed.
#[derive(Default)]
struct Chains {
    /// Of each account, the last block's number, its hash as stored, and the entries up to it.
    last: HashMap<AccountId, (i64, Vec<u8>, i64)>,
    /// The first thing wrong with each.
    broken: BTreeMap<AccountId, String>,
    examined: u64,
    violations: u64,
}

/// Recomputes the chains, and compares what was sealed with what is there.
pub(super) async fn verify(
    snapshot: &mut PgConnection,
    account: Option<AccountId>,
    time: &TimeLimit,
) -> Result<Check, LedgerError> {
    find_by_index(snapshot).await.map_err(failed)?;
    let mut chains = Chains::default();
    let mut findings = Vec::new();
    let mark = store::mark(snapshot).await.map_err(failed)?;
    if mark.is_none() {
        chains.violations = 1;
        findings.push("seal_watermark has no row: nothing is being sealed".to_owned());
    }
    let mut turns = store::turns(snapshot, account).await.map_err(failed)?;
    // What was recorded after the last block of all, and is said to be sealed.
    turns.extend(mark.flatten().map(|until| (until, 0)));
    turns.sort_unstable();
    let most = i64::try_from(TURN_ROWS).unwrap_or(i64::MAX);
    let (mut from, mut entries) = (None, 0_i64);
    let mut turns = turns.into_iter().peekable();
    while let Some((until, count)) = turns.next() {
        entries = entries.saturating_add(count);
        if turns.peek().is_some_and(|(_, next)| entries.saturating_add(*next) <= most) {
            continue;
        }
        time.bound(snapshot).await?;
        chains.compare(snapshot, Window { from, until }, account).await?;
        (from, entries) = (Some(until), 0);
    }
    findings.extend(chains.broken.into_values());
    findings.truncate(MAX_FINDINGS);
    Ok(Check {
        name: "chains_recompute",
        description: "the rows that were sealed are there as they were and no others, and the \
                      blocks of each account's chain follow each other",
        examined: chains.examined,
        violations: chains.violations,
        findings,
    })
}

impl Chains {
    /// Compares the turns of a span with what was recorded in it.
    async fn compare(
        &mut self,
        snapshot: &mut PgConnection,
        window: Window,
        account: Option<AccountId>,
    ) -> Result<(), LedgerError> {
        // Of an account, the block and what is wrong; a row without a block comes last.
        let mut wrong: Vec<(AccountId, i64, String)> = Vec::new();
        let mut sealed: HashMap<(AccountId, RowKey), (i64, Hash)> = HashMap::new();
        for block in store::blocks(snapshot, window, account).await.map_err(failed)? {
            let (account, number) = (block.account_id, block.block);
            let entries = chain::decode(&block.entries);
            if let Some(problem) = self.follow(&block, entries.as_deref()) {
                wrong.push((account, number, format!("seals block {number}: {problem}")));
            }
            for entry in entries.unwrap_or_default() {
                if sealed.insert((account, entry.row), (number, entry.digest)).is_some() {
                    let place = entry.row.place();
                    wrong.push((account, number, format!("{place}: was sealed twice")));
                }
            }
        }
        for (account, entry) in
            store::rows(snapshot, window, account, None).await.map_err(failed)?
        {
            self.examined = self.examined.saturating_add(1);
            let place = || entry.row.place();
            match sealed.remove(&(account, entry.row)) {
                Some((_, digest)) if digest == entry.digest => {}
                Some((number, _)) => {
                    let problem = format!("{}: is not what was sealed in block {number}", place());
                    wrong.push((account, number, problem));
                }
                None => {
                    let problem = format!("{}: is in no block, though its time is sealed", place());
                    wrong.push((account, i64::MAX, problem));
                }
            }
        }
        for ((account, row), (number, _)) in sealed {
            // Details may be erased for the person that they are about.
            if row.kind != Kind::Details {
                let place = row.place();
                let problem = format!("{place}: is missing, and was sealed in block {number}");
                wrong.push((account, number, problem));
            }
        }
        wrong.sort_unstable();
        for (account, _, problem) in wrong {
            self.violations = self.violations.saturating_add(1);
            let finding = || format!("account {account}: {problem}");
            self.broken.entry(account).or_insert_with(finding);
        }
        Ok(())
    }

    /// What is wrong with a block where it stands.
    fn follow(&mut self, stored: &StoredBlock, entries: Option<&[Entry]>) -> Option<String> {
        let StoredBlock { account_id, block: number, recorded_until, entries_total, .. } = *stored;
        let last = self.last.insert(account_id, (number, stored.hash.clone(), entries_total));
        let (before, previous, total) = last.unwrap_or((0, BEGINNING.to_vec(), 0));
        if stored.version != chain::VERSION {
            return Some(format!("has version {}, which is unknown", stored.version));
        }
        if number != before.saturating_add(1) {
            return Some(format!("follows block {before}; what was between is gone"));
        }
        let block = Block {
            account: account_id,
            number,
            recorded_until,
            entries_total,
            previous: &stored.previous,
            entries: &stored.entries,
        };
        if block.hash()[..] != stored.hash[..] {
            return Some("its hash is not that of its content".to_owned());
        }
        if stored.previous != previous {
            return Some("it does not follow from the block before it".to_owned());
        }
        let count = entries.and_then(|list| i64::try_from(list.len()).ok());
        let counted = count.and_then(|count| total.checked_add(count));
        (counted != Some(entries_total)).then(|| "its entries do not add up".to_owned())
    }
}
