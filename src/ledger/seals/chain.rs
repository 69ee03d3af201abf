//! What is hashed, byte by byte: version 1 of the encoding, which `docs/architecture.md` repeats for
//! whoever computes it again with another program.
//!
//! Every part has a fixed length, or is last, or says its length before it: no two different rows or
//! blocks have the same bytes.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::ids::AccountId;

/// The encoding's version. A column that is added to a sealed table makes a new one.
pub const VERSION: i16 = 1;
/// What a block's hash begins with.
const BLOCK_TAG: &[u8; 16] = b"tollgate seal 1\n";
/// Bytes of an entry: kind, key, digest.
pub const ENTRY_BYTES: usize = 1 + 16 + 32;

/// A SHA-256 hash.
pub type Hash = [u8; 32];
/// What the first block of a chain has before it.
pub const BEGINNING: Hash = [0; 32];

/// Which table a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `usage_events`.
    Event = 1,
    /// `usage_details`, which may be erased.
    Details = 2,
    /// `transfers`.
    Transfer = 3,
    /// `billing_documents`.
    Document = 4,
}

impl Kind {
    /// The table's name.
    #[must_use]
    pub const fn table(self) -> &'static str {
        match self {
            Self::Event => "usage_events",
            Self::Details => "usage_details",
            Self::Transfer => "transfers",
            Self::Document => "billing_documents",
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Event,
            2 => Self::Details,
            3 => Self::Transfer,
            4 => Self::Document,
            _ => return None,
        })
    }
}

/// Which row of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// Its table.
    pub kind: Kind,
    /// Its id; of a transfer its posting (8 bytes), its line (2 bytes) and six zero bytes.
    key: [u8; 16],
}

impl RowKey {
    /// The key of a row that has an id.
    #[must_use]
    pub const fn of_id(kind: Kind, id: Uuid) -> Self {
        Self { kind, key: id.into_bytes() }
    }

    /// The key of a transfer.
    #[must_use]
    pub fn of_transfer(posting: i64, line: i16) -> Self {
        let key =
            (u128::from(posting.cast_unsigned()) << 64) | (u128::from(line.cast_unsigned()) << 48);
        Self { kind: Kind::Transfer, key: key.to_be_bytes() }
    }

    /// The table and the row, such as `transfers 12/1`.
    #[must_use]
    pub fn place(self) -> String {
        let table = self.kind.table();
        if self.kind != Kind::Transfer {
            return format!("{table} {}", Uuid::from_bytes(self.key));
        }
        let key = u128::from_be_bytes(self.key);
        let (posting, line) = (key >> 64, (key >> 48) & 0xffff);
        format!("{table} posting {posting} line {line}")
    }
}

/// A row as a chain holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Which row.
    pub row: RowKey,
    /// What was in it.
    pub digest: Hash,
}

/// The digest of a row: SHA-256 over its kind and the row as a tuple of Postgres's binary COPY, which
/// is the number of columns (2 bytes), then each column's length (4 bytes, -1 for NULL) and bytes.
pub fn row_digest<'a>(
    kind: Kind,
    columns: u16,
    values: impl Iterator<Item = Option<&'a [u8]>>,
) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([kind as u8]);
    hasher.update(columns.to_be_bytes());
    for value in values {
        match value {
            None => hasher.update((-1_i32).to_be_bytes()),
            Some(bytes) => {
                // No value of Postgres is longer than 1 GB.
                hasher.update(i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
                hasher.update(bytes);
            }
        }
    }
    hasher.finalize().into()
}

/// The entries as a block holds them.
#[must_use]
pub fn encode<'a>(entries: impl ExactSizeIterator<Item = &'a Entry>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len().saturating_mul(ENTRY_BYTES));
    for Entry { row, digest } in entries {
        bytes.push(row.kind as u8);
        bytes.extend_from_slice(&row.key);
        bytes.extend_from_slice(digest);
    }
    bytes
}

/// The entries of a block; `None` where they are none.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Vec<Entry>> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return None;
    }
    let entry = |bytes: &[u8; ENTRY_BYTES]| {
        let (kind, rest) = bytes.split_first()?;
        let (key, digest) = rest.split_first_chunk::<16>()?;
        let row = RowKey { kind: Kind::from_byte(*kind)?, key: *key };
        Some(Entry { row, digest: digest.try_into().ok()? })
    };
    entries.iter().map(entry).collect()
}

/// A block of an account's chain, without its hash.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// Whose chain.
    pub account: AccountId,
    /// From 1.
    pub number: i64,
    /// All of it was recorded before.
    pub recorded_until: DateTime<Utc>,
    /// Entries of the chain up to here.
    pub entries_total: i64,
    /// The hash of the block before.
    pub previous: &'a [u8],
    /// Encoded.
    pub entries: &'a [u8],
}

impl Block<'_> {
    /// SHA-256 over: the 16 bytes `tollgate seal 1\n`, the account's id (16), the number (8), the
    /// moment in microseconds since 1970 (8), the count (8), the hash before (32), the entries.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(BLOCK_TAG);
        hasher.update(self.account.0.as_bytes());
        hasher.update(self.number.to_be_bytes());
        hasher.update(self.recorded_until.timestamp_micros().to_be_bytes());
        hasher.update(self.entries_total.to_be_bytes());
        hasher.update(self.previous);
        hasher.update(self.entries);
        hasher.finalize().into()
    }
}

/// As lower-case hexadecimal.
#[must_use]
pub fn hex(hash: &[u8]) -> String {
    use std::fmt::Write as _;
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_and_name_their_row() {
        let id = Uuid::from_u128(7);
        let entries = [
            Entry { row: RowKey::of_id(Kind::Event, id), digest: [1; 32] },
            Entry { row: RowKey::of_transfer(258, 3), digest: [2; 32] },
        ];
        let bytes = encode(entries.iter());
        assert_eq!(bytes.len(), 2 * ENTRY_BYTES);
        assert_eq!(decode(&bytes).unwrap(), entries);
        assert_eq!(decode(&bytes[1..]), None);
        assert_eq!(decode(&[9; ENTRY_BYTES]), None);
        assert_eq!(entries[0].row.place(), format!("usage_events {id}"));
        assert_eq!(entries[1].row.place(), "transfers posting 258 line 3");
    }

    #[test]
    fn what_is_moved_from_one_column_to_the_next_makes_another_digest() {
        let digest =
            |values: [Option<&'static [u8]>; 2]| row_digest(Kind::Event, 2, values.into_iter());
        let rows = [
            digest([Some(b"ab"), Some(b"c")]),
            digest([Some(b"a"), Some(b"bc")]),
            digest([Some(b""), Some(b"abc")]),
            digest([None, Some(b"abc")]),
        ];
        for (at, row) in rows.iter().enumerate() {
            assert!(!rows[at + 1..].contains(row), "{at}");
        }
    }

    /// Computed by hand with another program, so that the encoding cannot change unnoticed.
    #[test]
    fn a_rows_digest_is_the_hash_of_its_binary_tuple() {
        let digest = row_digest(Kind::Transfer, 2, [Some(b"hi".as_slice()), None].into_iter());
        // printf '\x03\x00\x02\x00\x00\x00\x02hi\xff\xff\xff\xff' | sha256sum
        assert_eq!(
            hex(&digest),
            "8204735f4207ae0425deceb659c252863c7a7b5eb04ac055a87def223a9ef24d"
        );
    }

    #[test]
    fn entries_of_every_table_come_back() {
        for kind in [Kind::Event, Kind::Details, Kind::Transfer, Kind::Document] {
            let entries = [Entry { row: RowKey::of_id(kind, Uuid::nil()), digest: [3; 32] }];
            assert_eq!(decode(&encode(entries.iter())).unwrap(), entries);
        }
    }

    #[test]
    fn whatever_changes_in_a_block_changes_its_hash() {
        let block = Block {
            account: AccountId(Uuid::from_u128(1)),
            number: 1,
            recorded_until: DateTime::UNIX_EPOCH,
            entries_total: 1,
            previous: &[0; 32],
            entries: &[1; ENTRY_BYTES],
        };
        let later = DateTime::from_timestamp(1, 0).unwrap();
        let hashes = [
            block,
            Block { account: AccountId(Uuid::from_u128(2)), ..block },
            Block { number: 2, ..block },
            Block { recorded_until: later, ..block },
            Block { entries_total: 2, ..block },
            Block { previous: &[9; 32], ..block },
            Block { entries: &[2; ENTRY_BYTES], ..block },
        ]
        .map(|block| block.hash());
        for (at, hash) in hashes.iter().enumerate() {
            assert!(!hashes[at + 1..].contains(hash), "{at}");
        }
    }
}
