//! What has to be stored, and how a replica comes back from it.
//!
//! Everything that must not be forgotten becomes an item of a record; the host stores records and confirms them. Own
//! entries are signed only below what was confirmed, and nothing unsigned leaves, so nothing that could be lost was
//! ever told to anybody.
//!
//! That this replica and a peer were equal is stored as well, though nothing depends on it: a process that sleeps is mostly
//! stopped, and then has the least time to compare everything.
//!
//! What does not live here: the form of records (`journal`) and files (`store`).

use alloc::vec::Vec;

use consilience_crdts::Timestamp;
use consilience_sync::LogId;

use super::{Config, Replica};
use crate::journal::{ApplyError, apply, recover, write_set};
use crate::journal::{ConfirmError, Cut, Item, JournalCorrupt, Record, RecordId, Snapshot, SnapshotWriter};

/// The note that names logs that local writers have left: they go on in their next incarnation.
const LEFT: u8 = 1;
/// The note that this replica, as it was then, was equal with a peer.
pub(super) const EQUAL: u8 = 2;
/// The note that a log has changed since the one before, and how much of it counted then.
pub(super) const CHANGED: u8 = 3;

/// What a host has of an earlier run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored<'a> {
    /// The last snapshot, if one was made.
    pub snapshot: Option<&'a [u8]>,
    /// All records behind it, one after the other, in the order in which they were polled.
    pub records: &'a [u8],
}

/// How a replica is opened, which decides whether its writers may go on in their logs.
#[derive(Clone, Copy, Debug)]
pub enum Opened<'a> {
    /// For the first time: nothing is stored.
    Fresh,
    /// After a stop or a crash, from the storage that it used: writers go on.
    Resumed(Stored<'a>),
    /// From a backup or a copy, which may be older than what was sent: writers open their next incarnation, and take
    /// over what the earlier one left once a peer was met. Say so again until the first record has been stored: it says
    /// that those logs were left.
    Restored(Stored<'a>),
    /// Without storage: as fresh, and nothing will be stored. Records need not be polled; entries may leave at once.
    InMemory,
}

/// Why a replica was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// Storage lost something that it had confirmed, or belongs elsewhere. Open as [`Opened::Restored`] from a backup, or
    /// with the good part alone, and peers bring the rest.
    #[error(transparent)]
    Corrupt(#[from] JournalCorrupt),
}

impl Replica {
    /// Opens a replica.
    ///
    /// # Errors
    ///
    /// If what was stored is damaged where it had been confirmed; see [`ReplicaError`].
    pub fn open(config: Config, opened: Opened<'_>, now: Timestamp) -> Result<Self, ReplicaError> {
        let (stored, renew) = match opened {
            Opened::Fresh => (None, false),
            Opened::InMemory => (None, true),
            Opened::Resumed(stored) => (Some(stored), false),
            Opened::Restored(stored) => (Some(stored), true),
        };
        let mut replica = Self::with(config);
        replica.renew = renew;
        replica.stores = !matches!(opened, Opened::InMemory);
        if let Some(stored) = stored {
            replica.bring_back(stored, now)?;
        }
        if replica.renew {
            let own = replica.set.logs().filter(|log| replica.set.is_local(log.id()));
            replica.left = own.map(|log| *log.id()).collect();
            replica.record_left();
        }
        replica.settle(now);
        Ok(replica)
    }

    fn bring_back(&mut self, stored: Stored<'_>, now: Timestamp) -> Result<(), ReplicaError> {
        let recovered = recover(self.set.mesh(), stored.snapshot, stored.records)?;
        for item in recovered.items() {
            if let Item::Note { kind: LEFT, bytes } = &item {
                let (logs, _) = bytes.as_chunks();
                self.left.extend(logs.iter().map(|log| LogId::from_bytes(*log)));
            }
            if let Item::Note { kind, bytes } = &item {
                self.restore_note(*kind, bytes, now);
            }
            match apply(&item, &mut self.set, now) {
                Ok(_) => {}
                // What a writer itself wrote did not come back: it must not go on as if it had.
                Err(ApplyError::Replay(consilience_sync::ReplayError::Own { .. })) => self.renew = true,
                // About one log, and peers bring what is missing of it.
                Err(_) => {}
            }
        }
        self.cut = recovered.cut();
        self.good_to = recovered.good_to();
        if self.cut.is_some() {
            // What was cut off may have been confirmed, and sent.
            self.renew = true;
        }
        self.journal = recovered.journal();
        // What came back is durable.
        let own = self.set.logs().filter(|log| self.set.is_local(log.id()));
        self.durable = own.map(|log| (*log.id(), log.size())).collect();
        Ok(())
    }

    /// What was cut off the end of the records when the replica was opened, and up to which byte they are good: the host
    /// has to cut its file there before it appends to it. A file store does that by itself.
    #[must_use]
    pub const fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// Up to which byte the stored records are good.
    #[must_use]
    pub const fn good_to(&self) -> usize {
        self.good_to
    }

    /// The next record to be stored: append its bytes to what is stored, make that durable, and
    /// [confirm](Self::confirm) it.
    pub fn poll_record(&mut self) -> Option<Record> {
        self.seal();
        self.journal.poll()
    }

    /// The host has a record and all before it on durable storage. Own entries in them may now be signed and leave.
    ///
    /// # Errors
    ///
    /// If the record was never polled. Nothing changed then.
    pub fn confirm(&mut self, record: RecordId) -> Result<(), ConfirmError> {
        self.journal.confirm(record)?;
        self.confirmed(record);
        Ok(())
    }

    fn confirmed(&mut self, record: RecordId) {
        while let Some((id, log, size)) = self.unconfirmed.front().copied() {
            if id > record {
                break;
            }
            self.unconfirmed.pop_front();
            let durable = self.durable.entry(log).or_default();
            *durable = size.max(*durable);
        }
        self.wake();
    }

    /// Everything that has to be stored, in one piece, in the place of all records so far. Once it is durable,
    /// [confirm it](Self::confirm_snapshot), and drop those.
    #[must_use]
    pub fn snapshot(&mut self) -> Snapshot {
        // What is in memory only would not be in it.
        self.cast_out_all();
        self.seal();
        let mut writer = SnapshotWriter::new(self.set.mesh(), self.journal.last_sealed());
        write_set(&self.set, &mut |item| writer.push(item));
        let mut left = self.left.clone();
        if !self.stores {
            // What was sent since is in no record, so whoever opens this must not go on in these logs.
            left.extend(self.set.logs().filter(|log| self.set.is_local(log.id())).map(|log| *log.id()));
        }
        let left: Vec<u8> = left.iter().flat_map(|log| *log.as_bytes()).collect();
        if !left.is_empty() {
            writer.push(&Item::Note { kind: LEFT, bytes: &left });
        }
        self.write_checkpoints(&mut |item| writer.push(item));
        writer.finish()
    }

    /// The host has a snapshot on durable storage.
    ///
    /// # Errors
    ///
    /// If there are no such records. Nothing changed then.
    pub fn confirm_snapshot(&mut self, snapshot: RecordId) -> Result<(), ConfirmError> {
        self.journal.confirm_snapshot(snapshot)?;
        self.confirmed(snapshot);
        Ok(())
    }

    pub(super) fn record_left(&mut self) {
        let left: Vec<u8> = self.left.iter().flat_map(|log| *log.as_bytes()).collect();
        if !left.is_empty() {
            self.record(&Item::Note { kind: LEFT, bytes: &left });
            self.seal();
        }
    }

    /// Notes something that has to be stored.
    pub(super) fn record(&mut self, item: &Item<'_>) {
        if self.stores {
            self.journal.push(item);
        }
    }

    pub(super) fn seal(&mut self) -> RecordId {
        self.journal.seal();
        self.journal.last_sealed()
    }

    /// Records an own entry that was just appended.
    pub(super) fn record_entry(&mut self, log: &LogId, seq: u64) -> RecordId {
        if !self.stores {
            self.durable.insert(*log, seq + 1);
            // Nobody will confirm it.
            self.wake();
            return self.journal.last_sealed();
        }
        if let Some(entry) = self.set.log(log).and_then(|held| held.entry(seq)) {
            self.journal.push(&Item::Append { log: *log, seq, entry: &entry.encode() });
        }
        let record = self.seal();
        self.unconfirmed.push_back((record, *log, seq + 1));
        record
    }
}
