//! [`inspect`]: for a program that stores records and snapshots and does not know the mesh.
//!
//! The invariant: the verdict here on bytes is that of [`recover`](super::recover) as well, but for the mesh that they
//! belong to.

use alloc::vec::Vec;

use super::damage::JournalCorrupt;
use super::envelope::{Key, Segment, segments};
use super::record::RecordId;
use super::recover::{Cut, examine};
use super::snapshot;

/// A record that is as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The record's number.
    pub id: RecordId,
    /// The byte after its last.
    pub end: usize,
}

/// Some records, as far as they are good.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The records that no snapshot covers, in order.
    pub records: Vec<Extent>,
    /// The last record that is there or covered.
    pub last: RecordId,
    /// Up to which byte they are good.
    pub good_to: usize,
    /// The end that has to be cut off, if there is one.
    pub cut: Option<Cut>,
}

/// Checks and orders stored records after a snapshot that covers those up to `covers`.
///
/// # Errors
///
/// If something that was confirmed is missing or changed.
pub fn inspect(records: &[u8], covers: RecordId) -> Result<Inspection, JournalCorrupt> {
    let found = examine(&Key::without_mesh(), records, covers.as_u64())?;
    let records = found.records.iter();
    Ok(Inspection {
        records: records.map(|whole| Extent { id: RecordId::from_u64(whole.id), end: whole.end }).collect(),
        last: RecordId::from_u64(found.last),
        good_to: found.good_to,
        cut: found.cut,
    })
}

/// Whether there is a whole record in some bytes.
#[must_use]
pub fn has_record(bytes: &[u8]) -> bool {
    segments(&Key::without_mesh(), bytes).any(|(_, segment)| matches!(segment, Segment::Whole(_)))
}

/// The last record that a stored snapshot covers.
///
/// # Errors
///
/// If it is not as it was written.
pub fn covers(snapshot: &[u8]) -> Result<RecordId, JournalCorrupt> {
    snapshot::covers(&Key::without_mesh(), snapshot).map(RecordId::from_u64)
}
