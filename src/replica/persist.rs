//! The content that has to be stored, and how a replica comes back from it.
//!
//! Everything that must not be forgotten becomes an item of a record; the host stores records and confirms them. Own
//! entries are signed only as far as their records were confirmed, and nothing unsigned leaves, so nothing that could
//! be lost was ever sent to anybody.
//!
//! That this replica and a peer were equal is stored as well, though nothing depends on it: a process that sleeps is mostly
//! stopped, and then has the least time to compare everything.
//!
//! Not here: the form of records (`journal`) and files (`store`).

use alloc::vec::Vec;

use consilience_crdts::Timestamp;
use consilience_sync::journal::{ConfirmError, Cut, JournalCorrupt, Record, RecordId, Snapshot};
use consilience_sync::planted::{Fault, planted};
use consilience_sync::session::Sessions;
use consilience_sync::{LogId, LogStore, Opened};

use super::{Config, Replica};
use crate::author::{Author, Random};
use crate::fold::Fold;
use crate::notice::{Notices, Surface};
use crate::repair::{Repair, Source};

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
    /// If the stored bytes are damaged where they had been confirmed; see [`ReplicaError`].
    pub fn open(config: Config, opened: Opened<'_>, now: Timestamp) -> Result<Self, ReplicaError> {
        let in_memory = matches!(opened, Opened::InMemory);
        let mut random = Random::new(&config.entropy);
        let mut sessions = Sessions::new(&config.mesh, &random.next());
        if let Some(gate) = config.gate {
            sessions.set_gate(gate);
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = random.next();
        let mut limits = config.limits;
        limits.seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let (mut store, mut recovery) = LogStore::open(config.mesh.id(), limits, config.admit, opened, now)?;
        sessions.restore(&recovery.marks);
        let mut repair = Repair::new();
        repair.restore(&mut store, &recovery.notes, in_memory || recovery.own_lost);
        // They are of use once.
        (recovery.marks, recovery.notes) = (Vec::new(), Vec::new());
        let mut replica = Self {
            store,
            sessions,
            fold: Fold::new(u64::from_le_bytes([i, j, k, l, m, n, o, p])),
            author: Author::new(random, config.compaction, config.own_instants),
            repair,
            notices: Notices::default(),
            surface: Surface::default(),
            recovery,
        };
        replica.notices.tell_of_storage(replica.recovery.cut, replica.recovery.refused);
        replica.settle(now, Source::Host);
        if !planted(Fault::RecallIsLeftOut) && replica.repair.recall(replica.store.logs()) {
            replica.settle(now, Source::Host);
        }
        let (contested, refused) = replica.store.receive_contested(now);
        if contested > 0 {
            replica.notices.tell_of_storage(None, refused);
            replica.settle(now, Source::Host);
        }
        replica.repair.note_written(&mut replica.store);
        Ok(replica)
    }

    /// The end of the records that was cut off when the replica was opened, and up to which byte they are good: the
    /// host has to cut its file there before it appends to it. A file store does that by itself. The
    /// [notice](crate::Notice::RecordsCut) says the same.
    #[must_use]
    pub const fn cut(&self) -> Option<Cut> {
        self.recovery.cut
    }

    /// Up to which byte the stored records are good.
    #[must_use]
    pub const fn good_to(&self) -> usize {
        self.recovery.good_to
    }

    /// The next record to be stored: append its bytes to those that are stored, make them durable, and
    /// [confirm](Self::confirm) it.
    pub fn poll_record(&mut self) -> Option<Record> {
        self.store.poll_record()
    }

    /// The host has a record and all before it on durable storage. Own entries in them may now be signed and leave.
    ///
    /// # Errors
    ///
    /// If the record was never polled. Nothing changed then.
    pub fn confirm(&mut self, record: RecordId) -> Result<(), ConfirmError> {
        self.store.confirm(record)?;
        self.fold_changes(Source::Host);
        self.sessions.wake();
        Ok(())
    }

    /// Whether the records since the last snapshot weigh so much that a [snapshot](Self::snapshot) should take their place;
    /// see [`LogStore::wants_snapshot`](crate::sync::LogStore::wants_snapshot).
    #[must_use]
    pub const fn wants_snapshot(&self) -> bool {
        self.store.wants_snapshot()
    }

    /// Everything that has to be stored, in one piece, in the place of all records so far. Once it is durable,
    /// [confirm it](Self::confirm_snapshot), and drop those.
    #[must_use]
    pub fn snapshot(&mut self) -> Snapshot {
        // Events that are in memory only would not be in it.
        self.reissue_events(|_| true);
        let set = self.store.logs();
        let own: Vec<LogId> = if self.store.has_storage() {
            Vec::new()
        } else {
            // Entries that were sent since are in no record, so a replica opened from this must not go on in these
            // logs.
            set.logs().map(|log| *log.id()).filter(|log| set.is_local(log)).collect()
        };
        let notes = self.repair.notes(&own);
        self.store.snapshot(&notes, &self.sessions.marks())
    }

    /// The host has a snapshot on durable storage.
    ///
    /// # Errors
    ///
    /// If there are no such records. Nothing changed then.
    pub fn confirm_snapshot(&mut self, snapshot: RecordId) -> Result<(), ConfirmError> {
        self.store.confirm_snapshot(snapshot)?;
        self.fold_changes(Source::Host);
        self.sessions.wake();
        Ok(())
    }
}
