//! [`Journal`]: the records that have to be written, and how far they are durable.
//!
//! The invariant: ids rise by one, records leave in that order, and only records that left and were not confirmed are
//! waited for.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::envelope::{self, Key};
use super::item::JournalItem;
use super::record::{Record, RecordId};
use crate::MeshId;

/// Why an id was not confirmed: the host's mistake. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfirmError {
    /// No record with this id was polled.
    #[error("record {} was never handed out: the last one is {}", id.as_u64(), polled.as_u64())]
    NotPolled {
        /// The id.
        id: RecordId,
        /// The last record that was polled.
        polled: RecordId,
    },
}

#[derive(Clone, Debug)]
struct Sealed {
    own: bool,
    body: Vec<u8>,
}

/// The records that a host has yet to write and to confirm. Keeps the bytes of those that were not polled, and nothing
/// of the others.
#[derive(Clone, Debug)]
pub struct Journal {
    key: Key,
    open: Vec<u8>,
    open_own: bool,
    sealed: VecDeque<Sealed>,
    polled: RecordId,
    confirmed: RecordId,
    /// The last record that something of a local writer is in.
    last_own: RecordId,
}

impl Journal {
    /// A new journal. The first record is 1.
    #[must_use]
    pub fn new(mesh: &MeshId) -> Self {
        Self::behind(Key::new(mesh), RecordId::NONE)
    }

    /// Goes on after the records that were recovered, all of which are durable.
    pub(super) const fn behind(key: Key, last: RecordId) -> Self {
        Self {
            key,
            open: Vec::new(),
            open_own: false,
            sealed: VecDeque::new(),
            polled: last,
            confirmed: last,
            last_own: RecordId::NONE,
        }
    }

    /// Adds an item to the open record. Items between two calls of [`seal`](Self::seal) come back all or none.
    pub fn push(&mut self, item: &JournalItem<'_>) {
        item.write(&mut self.open);
        self.open_own |= item.is_own();
    }

    /// Closes the open record. `None` if there is nothing in it.
    pub fn seal(&mut self) -> Option<RecordId> {
        if self.open.is_empty() {
            return None;
        }
        let body = core::mem::take(&mut self.open);
        let own = core::mem::take(&mut self.open_own);
        self.sealed.push_back(Sealed { own, body });
        let id = self.last_sealed();
        if own {
            self.last_own = id;
        }
        Some(id)
    }

    /// The next record to be written, if there is one. Poll until there is none, after each [`seal`](Self::seal).
    pub fn poll(&mut self) -> Option<Record> {
        let Sealed { own, body } = self.sealed.pop_front()?;
        self.polled = self.polled.next();
        let bytes = envelope::write(&self.key, self.polled.as_u64(), self.confirmed.as_u64(), body);
        Some(Record::new(self.polled, own, bytes))
    }

    /// The host has this record and all before it on durable storage. Nothing happens if it said so before.
    ///
    /// # Errors
    ///
    /// If the record was never polled.
    pub fn confirm(&mut self, id: RecordId) -> Result<(), ConfirmError> {
        if id > self.polled {
            return Err(ConfirmError::NotPolled { id, polled: self.polled });
        }
        self.confirmed = self.confirmed.max(id);
        Ok(())
    }

    /// The host has a snapshot on durable storage that covers all records up to this one: those need not be written any
    /// more.
    ///
    /// # Errors
    ///
    /// If there is no such record.
    pub fn confirm_snapshot(&mut self, covers: RecordId) -> Result<(), ConfirmError> {
        let last = self.last_sealed();
        if covers > last {
            return Err(ConfirmError::NotPolled { id: covers, polled: last });
        }
        while self.polled < covers && self.sealed.pop_front().is_some() {
            self.polled = self.polled.next();
        }
        self.confirmed = self.confirmed.max(covers);
        Ok(())
    }

    /// The last record that is durable.
    #[must_use]
    pub const fn confirmed(&self) -> RecordId {
        self.confirmed
    }

    /// The last record that was polled.
    #[must_use]
    pub const fn polled(&self) -> RecordId {
        self.polled
    }

    /// The last record that was sealed: the one up to which a snapshot of now covers.
    #[must_use]
    pub fn last_sealed(&self) -> RecordId {
        RecordId::from_u64(self.polled.as_u64().saturating_add(self.sealed.len() as u64))
    }

    /// The last sealed record in which there is something of a local writer, since this journal was opened.
    #[must_use]
    pub const fn last_own(&self) -> RecordId {
        self.last_own
    }

    /// The id that the open record will have.
    #[must_use]
    pub fn open_id(&self) -> RecordId {
        self.last_sealed().next()
    }

    /// The bytes of records that were not polled, the open one included.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.sealed.iter().map(|sealed| sealed.body.len()).sum::<usize>() + self.open.len()
    }
}
