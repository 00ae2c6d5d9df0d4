//! How a store comes back from its stored bytes, and the snapshot that takes the place of all records so far.
//!
//! The invariant: changes that are stored in the order in which they happened lead to the same store again.

use alloc::vec::Vec;

use consilience_base::Timestamp;
use consilience_base::planted::{Fault, planted};

use super::{Admit, LogStore};
use crate::codec::{Reader, put_varint};
use crate::identity::{LogId, MeshId};
use crate::journal::{
    ApplyError, ConfirmError, Cut, JournalCorrupt, JournalItem, RecordId, Snapshot, SnapshotWriter, apply,
    recover, write_set,
};
use crate::logset::{Limits, LogSet, ReplayError};

/// The note that is a mark.
pub(super) const MARK: u8 = 2;
/// The note that a log has changed since the mark before, and how much of it counted then.
const CHANGED: u8 = 3;
/// So many logs that have changed since a mark are worth their notes. Sessions list no more.
const CHANGED_MAX: usize = 512;

/// The bytes that a host has of an earlier run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored<'a> {
    /// The last snapshot, if one was made.
    pub snapshot: Option<&'a [u8]>,
    /// All records after it, one after the other, in the order in which they were polled.
    pub records: &'a [u8],
}

/// How a store is opened, which decides whether local agents may go on in their logs.
#[derive(Clone, Copy, Debug)]
pub enum Opened<'a> {
    /// For the first time: nothing is stored.
    Fresh,
    /// After a stop or a crash, from the storage that it used: writers go on.
    Resumed(Stored<'a>),
    /// From a backup or a copy, which may be older than entries that were sent: writers open their next incarnation,
    /// and take over the remains of the earlier one once a peer was met. Say so again until the first record has been
    /// stored: it says that those logs were left. For a relay, which writes no log, it is as
    /// [`Resumed`](Self::Resumed).
    Restored(Stored<'a>),
    /// Without storage: as fresh, and nothing will be stored. Records need not be polled; entries may leave at once.
    InMemory,
}

/// A note that is tied to a version of the heads ([`LogSet::heads_version`]): after a restart the store knows which logs have
/// changed since. Sessions mark when two stores were equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The version.
    pub version: u64,
    /// The content that the layer above notes.
    pub bytes: Vec<u8>,
}

/// The findings on an earlier run.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// The end of the records that was cut off.
    pub cut: Option<Cut>,
    /// Up to which byte the records are good.
    pub good_to: usize,
    /// Whether an own entry may not have come back, so that local agents must not go on in their logs.
    pub own_lost: bool,
    /// How many items the logs refused, though their bytes are as they were written: another version of this library may
    /// have written them. Peers bring the entries in them, but for own ones.
    pub refused: usize,
    /// The [notes](LogStore::note) of the layer above, in the order in which they were made.
    pub notes: Vec<(u8, Vec<u8>)>,
    /// The marks, in ascending order of their versions.
    pub marks: Vec<Mark>,
}

impl LogStore {
    /// Kinds of [notes](Self::note) that are the store's own: layers above use others.
    pub const NOTES_RESERVED: core::ops::RangeInclusive<u8> = MARK..=CHANGED;

    /// Opens a store, and gives the findings on an earlier run.
    ///
    /// # Errors
    ///
    /// If the stored bytes are damaged where they had been confirmed, or belong elsewhere.
    pub fn open(
        mesh: MeshId,
        limits: Limits,
        admit: Admit,
        opened: Opened<'_>,
        now: Timestamp,
    ) -> Result<(Self, Recovery), JournalCorrupt> {
        let stored = match opened {
            Opened::Fresh | Opened::InMemory => None,
            Opened::Resumed(stored) | Opened::Restored(stored) => Some(stored),
        };
        let mut store = Self::with(mesh, limits, admit, !matches!(opened, Opened::InMemory));
        let mut recovery = match stored {
            Some(stored) => store.bring_back(stored, now)?,
            None => Recovery::default(),
        };
        recovery.own_lost |= matches!(opened, Opened::Restored(_)) && !planted(Fault::BackupIsGoneOnWith);
        Ok((store, recovery))
    }

    fn bring_back(&mut self, stored: Stored<'_>, now: Timestamp) -> Result<Recovery, JournalCorrupt> {
        let recovered = recover(self.set.mesh(), stored.snapshot, stored.records)?;
        let mut recovery =
            Recovery { cut: recovered.cut(), good_to: recovered.good_to(), ..Recovery::default() };
        let mut replay = self.set.replay(now);
        for item in recovered.items() {
            match item {
                JournalItem::Note { kind: MARK, bytes } => {
                    let version = replay.set().heads_version();
                    replay.set().mark_version(version);
                    self.recorded = version;
                    recovery.marks.push(Mark { version, bytes: bytes.to_vec() });
                }
                JournalItem::Note { kind: CHANGED, bytes } => {
                    if let Some((log, before)) = read_changed(bytes) {
                        replay.changed(&log, before);
                        self.recorded = replay.set().heads_version();
                    }
                }
                JournalItem::Note { kind, bytes } => recovery.notes.push((kind, bytes.to_vec())),
                item => match apply(&item, &mut replay) {
                    Ok(_) => {}
                    // An own entry did not come back: its writer must not go on as if it had.
                    Err(error) => {
                        let own = matches!(error, ApplyError::Replay(ReplayError::Own { .. }));
                        let local = matches!(item, JournalItem::Opening { local: true, .. });
                        recovery.own_lost |= own || local || item.is_own();
                        recovery.refused = recovery.refused.saturating_add(1);
                    }
                },
            }
        }
        self.contested = replay.take_contested();
        // The records cut off may have been confirmed, and sent.
        recovery.own_lost |= recovery.cut.is_some() && !planted(Fault::CutIsNoLoss);
        self.growth.records = recovered.good_to();
        self.growth.snapshot = stored.snapshot.map_or(0, <[u8]>::len);
        self.journal = recovered.journal();
        // Entries that came back are durable.
        let own = self.set.logs().filter(|log| self.set.is_local(log.id()));
        self.durable = own.map(|log| (*log.id(), log.size())).collect();
        Ok(recovery)
    }

    /// Everything that has to be stored, in one piece, in the place of all records so far: the logs, and the given notes and
    /// marks of the layer above, marks in ascending order of their versions. Once it is durable, the host
    /// [confirms it](Self::confirm_snapshot) and drops those records.
    #[must_use]
    pub fn snapshot(&mut self, notes: &[(u8, Vec<u8>)], marks: &[Mark]) -> Snapshot {
        self.seal();
        let mut writer = SnapshotWriter::new(self.set.mesh(), self.journal.last_sealed());
        write_set(&self.set, &mut |item| writer.push(item));
        for (_, _, pruned) in &self.pruning {
            writer.push(&JournalItem::Pruned { bytes: pruned.as_bytes() });
        }
        for (kind, bytes) in notes {
            debug_assert!(!Self::NOTES_RESERVED.contains(kind), "the kind is the store's own");
            writer.push(&JournalItem::Note { kind: *kind, bytes });
        }
        write_marks(&mut self.set, marks, &mut |item| writer.push(item));
        let snapshot = writer.finish();
        let (records, bytes) = (self.growth.records, snapshot.as_bytes().len());
        self.growth.made = Some((snapshot.covers(), records, bytes, self.set.freed_bytes()));
        snapshot
    }

    /// The host has a snapshot on durable storage.
    ///
    /// # Errors
    ///
    /// If there are no such records. Nothing changed then.
    pub fn confirm_snapshot(&mut self, snapshot: RecordId) -> Result<(), ConfirmError> {
        self.journal.confirm_snapshot(snapshot)?;
        self.growth.confirm(snapshot);
        self.confirmed(snapshot);
        Ok(())
    }
}

/// Which log has changed since a mark, and how much of it counted then.
fn read_changed(bytes: &[u8]) -> Option<(LogId, u64)> {
    let (log, before) = bytes.split_first_chunk()?;
    Some((LogId::from_bytes(*log), Reader::new(before).varint().ok()?))
}

/// Gives out marks, and which logs have changed since each: logs stand in no order in a snapshot. Not those since which so
/// much has changed that nobody would list it.
fn write_marks(set: &mut LogSet, marks: &[Mark], sink: &mut impl FnMut(&JournalItem<'_>)) {
    let mut marks: Vec<&Mark> = marks.iter().collect();
    marks.retain(|mark| set.heads_changed(mark.version).nth(CHANGED_MAX).is_none());
    let ends: Vec<u64> = marks.iter().skip(1).map(|mark| mark.version).chain([u64::MAX]).collect();
    for (mark, end) in marks.into_iter().zip(ends) {
        sink(&JournalItem::Note { kind: MARK, bytes: &mark.bytes });
        let changed = set.heads_changed(mark.version).take_while(|(changed, ..)| *changed <= end);
        let changed: Vec<LogId> = changed.map(|(_, log, _)| log).collect();
        for log in changed {
            let mut bytes = log.as_bytes().to_vec();
            put_varint(&mut bytes, set.size_at_version(&log, mark.version).unwrap_or(0));
            sink(&JournalItem::Note { kind: CHANGED, bytes: &bytes });
        }
    }
}
