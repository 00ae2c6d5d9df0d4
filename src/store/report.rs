//! [`StoreError`] and [`Finding`]: the failures of the store, and what it found that was not as it was written.
//!
//! The invariant: bytes that do not come back are in one of these.

use core::fmt;
use std::io;

use crate::journal::{Cut, JournalCorrupt, RecordId};

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another store has the folder open, here or in another process: the host's mistake. Nothing changed.
    #[error("the folder is in use by another store: close that one first")]
    InUse,
    /// The system failed. Whether something was written is unknown, and so the store does nothing any more: open it
    /// anew.
    #[error("the system failed to {doing} {name}: {source}; once that is mended, open the store anew")]
    Io {
        /// The operation that failed.
        doing: &'static str,
        /// The file.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// A write or a sync failed before. Open the store anew. Nothing changed.
    #[error("a write or a sync failed before: open the store anew")]
    Poisoned,
    /// The disk has lost or changed durable bytes. Nothing changed. Bring a good copy of the folder, or open the part
    /// that is left with [`FileStore::open_rest`](super::FileStore::open_rest).
    #[error(
        "{name} is damaged or missing from byte {from} on: {} lost; bring a good copy of the folder, or open what is left \
         of it as a restored one",
        records(*first, *last)
    )]
    Damaged {
        /// Which file.
        name: String,
        /// From which byte of it on.
        from: u64,
        /// The first record that is lost. All before it are there, or are in a snapshot that is.
        first: RecordId,
        /// The last record that is known to be lost.
        last: Option<RecordId>,
    },
    /// A later version of this library wrote the snapshot. Nothing changed.
    #[error(transparent)]
    Corrupt(#[from] JournalCorrupt),
    /// The host appends a record that does not follow on the last one, or a snapshot covers records that were never
    /// written. Nothing changed.
    #[error("record {} was expected here: append records in their order, each once", expected.as_u64())]
    OutOfOrder {
        /// The one that follows.
        expected: RecordId,
    },
}

/// Something in a folder that is not as it was written, and the store opened all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The end of the records is torn or damaged. A process that ended in the middle of a write leaves such an end.
    /// [`Opened::Resumed`](crate::Opened) with these records has local writers go on in their next incarnations, since
    /// records in it may have been durable: the watermark that says so is not synced with each record.
    Torn {
        /// The file in which it begins.
        name: String,
        /// The cut, in bytes of all records.
        cut: Cut,
    },
    /// Content that was durable is lost. Only [`open_rest`](super::FileStore::open_rest) goes on then.
    Lost {
        /// The file in which the damage begins.
        name: String,
        /// With which byte of it.
        from: u64,
        /// The first record that is lost.
        first: RecordId,
        /// The last record that is known to be lost.
        last: Option<RecordId>,
    },
    /// A snapshot is damaged or missing, as a disk leaves it that loses power after it said that the snapshot was durable.
    /// The one before it and the records after that were still there: nothing is lost.
    Former {
        /// The file of the snapshot.
        name: String,
    },
    /// A file is damaged or missing, and its content is known from others: nothing is lost. It is written anew.
    Mended {
        /// The file.
        name: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn { name, cut } => write!(f, "{name}: {cut}"),
            Self::Lost { name, from, first, last } => {
                write!(f, "{name} is damaged or missing from byte {from} on: {} lost", records(*first, *last))
            }
            Self::Former { name } => {
                write!(
                    f,
                    "{name} is damaged or missing: the snapshot before it and all records are in its place"
                )
            }
            Self::Mended { name } => write!(f, "{name} was damaged or missing; nothing is lost"),
        }
    }
}

/// Which records, as the subject of a sentence.
fn records(first: RecordId, last: Option<RecordId>) -> String {
    let from = first.as_u64();
    match last.map(RecordId::as_u64) {
        Some(last) if last == from => format!("record {from}, which was durable, is"),
        Some(last) => format!("records {from} to {last}, which were durable, are"),
        None => format!("what was durable from record {from} on is"),
    }
}

pub(super) fn failed<T>(result: io::Result<T>, doing: &'static str, name: &str) -> Result<T, StoreError> {
    result.map_err(|source| StoreError::Io { doing, name: name.to_owned(), source })
}
