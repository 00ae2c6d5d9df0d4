//! [`Snapshot`]: everything that is to be remembered, in place of the records that led to it; and [`apply`], the way
//! back of each item, whether it comes from a snapshot or from a record.
//!
//! ```text
//! magic    f5 63 4a 53
//! version  1
//! covers   varint, the last record that is covered
//! items
//! seal, check   8 bytes each, as those of a record, of everything before
//! ```
//!
//! The invariant: the set that [`write_set`] writes and the one that [`apply`] makes of it are the same to every peer
//! and to every fold.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::damage::{Area, Damage, JournalCorrupt, damage_of};
use super::envelope::{Key, Verdict};
use super::item::{self, JournalItem};
use super::record::RecordId;
use crate::codec::{Reader, put_varint};
use crate::{Facts, Forks, Log, LogOpening, LogSet, MeshId, OpeningError, RangeForm, Replay, ReplayError};
use consilience_base::planted::{Fault, planted};

const MAGIC: [u8; 4] = [0xf5, 0x63, 0x4a, 0x53];
const VERSION: u8 = 1;
/// Ranges are cut to so many bytes. Each brings a signature and some hashes.
const CHUNK: usize = 60 << 10;

/// Bytes that take the place of all records up to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    covers: RecordId,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// The last record that it covers.
    #[must_use]
    pub const fn covers(&self) -> RecordId {
        self.covers
    }

    /// The bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes themselves.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A snapshot in the making.
#[derive(Debug)]
pub struct SnapshotWriter {
    key: Key,
    covers: RecordId,
    bytes: Vec<u8>,
}

impl SnapshotWriter {
    /// For everything up to record `covers`: [`Journal::last_sealed`](super::Journal::last_sealed). Younger content may
    /// be in it as well.
    #[must_use]
    pub fn new(mesh: &MeshId, covers: RecordId) -> Self {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        put_varint(&mut bytes, covers.as_u64());
        Self { key: Key::new(mesh), covers, bytes }
    }

    /// Adds an item.
    pub fn push(&mut self, item: &JournalItem<'_>) {
        item.write(&mut self.bytes);
    }

    /// Closes it.
    #[must_use]
    pub fn finish(self) -> Snapshot {
        let Self { key, covers, mut bytes } = self;
        key.close(&mut bytes, 0);
        Snapshot { covers, bytes }
    }
}

/// The last record that a snapshot covers, and the snapshot's items, all checked.
pub(super) fn open<'a>(key: &Key, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), JournalCorrupt> {
    let corrupt = |offset, damage| JournalCorrupt { part: Area::Snapshot, offset, damage };
    let (covers, items) = header(key, bytes)?;
    let offset = bytes.len().saturating_sub(items.len());
    item::check(items).map_err(|error| corrupt(offset, damage_of(error)))?;
    Ok((covers, items))
}

/// The last record that a snapshot covers, for a program that stores it and does not know the mesh.
pub(super) fn covers(key: &Key, bytes: &[u8]) -> Result<u64, JournalCorrupt> {
    Ok(header(key, bytes)?.0)
}

fn header<'a>(key: &Key, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), JournalCorrupt> {
    let corrupt = |damage| JournalCorrupt { part: Area::Snapshot, offset: 0, damage };
    let (content, verdict) = key.open(bytes);
    match verdict {
        Verdict::Good => {}
        Verdict::Damaged if planted(Fault::SnapshotsAreNotChecked) => {}
        Verdict::Damaged => return Err(corrupt(Damage::Lost)),
        Verdict::OtherMesh => return Err(corrupt(Damage::OtherMesh)),
    }
    let mut reader = Reader::new(content);
    if reader.array() != Ok(MAGIC) {
        return Err(corrupt(Damage::Lost));
    }
    if reader.byte() != Ok(VERSION) {
        return Err(corrupt(Damage::Version));
    }
    let covers = reader.varint().map_err(|_| corrupt(Damage::Lost))?;
    Ok((covers, content.get(reader.position()..).unwrap_or_default()))
}

/// Gives out the items that bring a set back: all its logs, each in the order in which [`apply`] has to take it.
pub fn write_set(set: &LogSet, sink: &mut impl FnMut(&JournalItem<'_>)) {
    for log in set.logs() {
        write_log(set, log, sink);
    }
}

fn write_log(set: &LogSet, held: &Log, sink: &mut impl FnMut(&JournalItem<'_>)) {
    let log = *held.id();
    sink(&JournalItem::Opening { local: set.is_local(&log), bytes: &held.opening().encode(set.mesh()) });
    if held.start() > 0 {
        sink(&JournalItem::Front { log, front: held.front() });
    }
    write_ranges(held, sink);
    for entry in held.unsigned().filter(|_| !planted(Fault::UnsignedNotInSnapshots)) {
        sink(&JournalItem::Append { log, seq: entry.seq, entry: &entry.encode() });
    }
    let head = |head: &crate::SignedHead| head.encode(held.opening(), set.mesh());
    if let Some(before) = held.head().filter(|head| head.size < held.start()) {
        sink(&JournalItem::Head { bytes: &head(before) });
    }
    // Before the evidence: a copy that begins where its writer has given up the events is not taken for an incomplete one.
    let facts = set.facts(&log).filter(|_| !planted(Fault::FactsNotInSnapshots));
    if let Some(pruned) = facts.and_then(Facts::pruned) {
        sink(&JournalItem::Pruned { bytes: pruned.as_bytes() });
    }
    for evidence in facts.and_then(Facts::forks).into_iter().flat_map(Forks::pieces) {
        let evidence = evidence.as_bytes();
        match set.kept_until(&log) {
            Some(until) => sink(&JournalItem::Kept { until, evidence }),
            None => sink(&JournalItem::Evidence { bytes: evidence }),
        }
    }
    if held.ready() > held.start() && !planted(Fault::ReadyNotInSnapshots) {
        sink(&JournalItem::Ready { log, ready: held.ready() });
    }
    if set.is_self_forked(&log) {
        sink(&JournalItem::SelfForked { log });
    }
    if !planted(Fault::StagedNotInSnapshots) {
        held.staged_ranges(CHUNK, &mut |bytes| sink(&JournalItem::Staged { log, bytes }));
    }
    // Last, since the entries before it were not compared with it.
    if let Some(beyond) = held.furthest_head().filter(|head| head.size > held.size()) {
        sink(&JournalItem::Head { bytes: &head(beyond) });
    }
}

/// The signed entries, in several ranges. The last proves the head, and is there without entries if none are left.
fn write_ranges(held: &Log, sink: &mut impl FnMut(&JournalItem<'_>)) {
    let (log, to) = (*held.id(), held.signed_size());
    let mut from = held.start();
    let mut form = RangeForm::Alone;
    while let Some((bytes, end)) = held.range(from, to, form, CHUNK) {
        sink(&JournalItem::Range { log, bytes: &bytes });
        if end >= to {
            break;
        }
        (from, form) = (end, RangeForm::Follow);
    }
}

/// The outcome of applying an item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Applied {
    /// It is in the set.
    Taken,
    /// The set needs nothing of it, or lacks the entries that it follows on and gets both from peers. Nothing changed.
    Stale(ReplayError),
    /// A note: not for the set.
    Note,
}

/// Why an item could not be put back, though its bytes are as they were written. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The opening of a log is of another mesh or of no form of this library.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// The set refused it.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Puts an item back into a set that [comes back](LogSet::replay): those of a snapshot first, then those of the records, in their order. Content that the
/// set holds already may come again. Signatures are checked, limits are not.
///
/// # Errors
///
/// [`ReplayError::Own`] if entries of a local writer have not come back: the writer must go on in its next incarnation.
/// Other errors are about one log, and peers bring the log's missing entries.
pub fn apply(item: &JournalItem<'_>, replay: &mut Replay<'_>) -> Result<Applied, ApplyError> {
    match put_back(item, replay) {
        Err(ApplyError::Replay(error)) if error.is_stale() => Ok(Applied::Stale(error)),
        other => other,
    }
}

fn put_back(item: &JournalItem<'_>, replay: &mut Replay<'_>) -> Result<Applied, ApplyError> {
    let mesh = *replay.set().mesh();
    match item {
        JournalItem::Opening { local, bytes } => {
            replay.open(&LogOpening::decode(bytes, &mesh)?, *local)?;
        }
        JournalItem::Append { log, seq, entry } => drop(replay.append(log, *seq, entry)?),
        JournalItem::Range { log, bytes } => drop(replay.range(log, bytes)?),
        JournalItem::Evidence { bytes } => drop(replay.evidence(bytes, None)?),
        JournalItem::Pruned { bytes } => drop(replay.pruned(bytes)?),
        JournalItem::Kept { until, evidence } => drop(replay.evidence(evidence, Some(*until))?),
        JournalItem::Erased { log, seq } => replay.set().erase(log, *seq).map_err(ReplayError::from)?,
        JournalItem::Restored { log, seq, salt, payload } => {
            replay.set().restore(log, *seq, *salt, payload).map_err(ReplayError::from)?
        }
        JournalItem::Forgotten { log } => drop(replay.set().remove(log)),
        JournalItem::Front { log, front } => replay.front(log, front)?,
        JournalItem::Head { bytes } => replay.head(bytes)?,
        JournalItem::Ready { log, ready } => replay.ready(log, *ready)?,
        JournalItem::SelfForked { log } => replay.self_forked(log)?,
        JournalItem::Staged { log, bytes } => drop(replay.staged(log, bytes)?),
        JournalItem::Note { .. } => return Ok(Applied::Note),
    }
    Ok(Applied::Taken)
}
