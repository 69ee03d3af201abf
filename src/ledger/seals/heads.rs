//! The heads of all chains as a text, to be kept elsewhere and compared later.
//!
//! ```text
//! tollgate-chain-heads 1 2026-11-26T20:00:00Z
//! 0193…-account-id 12 4711 9f86d0…
//! digest 5feceb…
//! ```
//!
//! A line for each account that has a chain, by account: its id, its last block's number, the entries up
//! to it, and the block's hash. The last line is SHA-256 over all bytes before it.

use std::{collections::HashMap, fmt::Write as _};

use chrono::{DateTime, SecondsFormat, Utc};
use sha2::{Digest as _, Sha256};
use sqlx::{Postgres, Transaction};
use thiserror::Error;

use super::{chain::hex, store};
use crate::{
    database::reports::ReportPool,
    ids::AccountId,
    ledger::{error::LedgerError, store::snapshot},
};

/// How long one statement may take.
const STATEMENT_LIMIT_SECONDS: u32 = 60;
/// Heads of one piece of an export.
const PAGE: i64 = 1_000;
/// Heads that are compared at once.
pub const MAX_HEADS: usize = 1_000;
const TITLE: &str = "tollgate-chain-heads 1 ";
const DIGEST: &str = "digest ";

/// Where a chain stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    /// Whose chain.
    pub account: AccountId,
    /// Its last block.
    pub block: i64,
    /// Entries up to it.
    pub entries: i64,
    /// The block's hash, in hexadecimal.
    pub hash: String,
}

/// All heads, piece by piece, as of one moment.
#[derive(Debug)]
pub struct HeadsExport {
    snapshot: Transaction<'static, Postgres>,
    hasher: Sha256,
    next: Next,
}

#[derive(Debug)]
enum Next {
    Title(DateTime<Utc>),
    After(Option<AccountId>),
    End,
}

impl HeadsExport {
    /// Begins to read.
    ///
    /// # Errors
    /// The database failed, or too many reports are being read.
    pub async fn open(reports: &ReportPool, now: DateTime<Utc>) -> Result<Self, LedgerError> {
        let snapshot = snapshot(reports, STATEMENT_LIMIT_SECONDS).await?;
        Ok(Self { snapshot, hasher: Sha256::new(), next: Next::Title(now) })
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// The database failed or took too long.
    pub async fn piece(&mut self) -> Result<Option<String>, LedgerError> {
        let text = match std::mem::replace(&mut self.next, Next::End) {
            Next::End => return Ok(None),
            Next::Title(now) => {
                self.next = Next::After(None);
                format!("{TITLE}{}\n", now.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            Next::After(after) => {
                let page =
                    store::heads(&mut self.snapshot, after, PAGE).await.map_err(|error| {
                        LedgerError::bounded(error, "export", STATEMENT_LIMIT_SECONDS)
                    })?;
                let Some(last) = page.last() else {
                    let digest = hex(&self.hasher.clone().finalize());
                    return Ok(Some(format!("{DIGEST}{digest}\n")));
                };
                self.next = Next::After(Some(last.account_id));
                page.iter().fold(String::new(), |mut text, head| {
                    let store::Head { account_id, block, entries_total, hash } = head;
                    // Writing to a String cannot fail.
                    let _ = writeln!(text, "{account_id} {block} {entries_total} {}", hex(hash));
                    text
                })
            }
        };
        self.hasher.update(&text);
        Ok(Some(text))
    }
}

/// What is wrong with a file of heads.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HeadsFileError {
    /// It begins otherwise.
    #[error("it is no export of chain heads of version 1: its first line is another")]
    Title,
    /// A line that is no head.
    #[error("line {0} is no head: it has an account's id, a block, a count and a hash")]
    Line(usize),
    /// It ends without its digest, or with another.
    #[error("its digest is not that of its lines: it was cut off or changed")]
    Digest,
}

/// Reads what [`HeadsExport`] wrote.
///
/// # Errors
/// The text is not a whole, unchanged export.
pub fn read(text: &str) -> Result<Vec<ChainHead>, HeadsFileError> {
    if !text.starts_with(TITLE) {
        return Err(HeadsFileError::Title);
    }
    let body = text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n'));
    let (body, digest) = body.ok_or(HeadsFileError::Digest)?;
    let digest = digest.strip_prefix(DIGEST).ok_or(HeadsFileError::Digest)?;
    let actual = Sha256::new().chain_update(body).chain_update("\n").finalize();
    if hex(&actual) != digest {
        return Err(HeadsFileError::Digest);
    }
    let lines = body.lines().enumerate().skip(1);
    lines.map(|(at, line)| head(line).ok_or(HeadsFileError::Line(at.saturating_add(1)))).collect()
}

fn head(line: &str) -> Option<ChainHead> {
    let mut words = line.split(' ');
    let head = ChainHead {
        account: words.next()?.parse().ok()?,
        block: words.next()?.parse().ok()?,
        entries: words.next()?.parse().ok()?,
        hash: words.next()?.to_owned(),
    };
    words.next().is_none().then_some(head)
}

/// Which of these heads today's chains do not have, in words; at most [`MAX_HEADS`] at once.
///
/// # Errors
/// The database failed, or too many reports are being read.
pub async fn missing(
    reports: &ReportPool,
    heads: &[ChainHead],
) -> Result<Vec<String>, LedgerError> {
    let mut snapshot = snapshot(reports, STATEMENT_LIMIT_SECONDS).await?;
    let accounts: Vec<_> = heads.iter().map(|head| head.account).collect();
    let blocks: Vec<_> = heads.iter().map(|head| head.block).collect();
    let found = store::blocks_named(&mut snapshot, &accounts, &blocks).await?;
    let found: HashMap<_, _> =
        found.into_iter().map(|head| ((head.account_id, head.block), head)).collect();
    let difference = |head: &ChainHead| {
        let ChainHead { account, block, entries, hash } = head;
        let problem = match found.get(&(*account, *block)) {
            None => "is gone from the chain".to_owned(),
            Some(is) if hex(&is.hash) != *hash => "has another hash now".to_owned(),
            Some(is) if is.entries_total != *entries => {
                format!("counts {} entries now, and counted {entries}", is.entries_total)
            }
            Some(_) => return None,
        };
        Some(format!("account {account}: block {block} {problem}"))
    };
    Ok(heads.iter().filter_map(difference).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_cut_off_or_changed_is_refused() {
        let account = AccountId::generate();
        let body = format!("{TITLE}2026-11-26T20:00:00Z\n{account} 2 30 {}\n", "ab".repeat(32));
        let text = format!("{body}{DIGEST}{}\n", hex(&Sha256::digest(&body)));
        let expected = ChainHead { account, block: 2, entries: 30, hash: "ab".repeat(32) };
        assert_eq!(read(&text), Ok(vec![expected]));
        assert_eq!(read(&text.replace(" 30 ", " 31 ")), Err(HeadsFileError::Digest));
        assert_eq!(read(&body), Err(HeadsFileError::Digest));
        assert_eq!(read("account_id,block\n"), Err(HeadsFileError::Title));
    }
}
