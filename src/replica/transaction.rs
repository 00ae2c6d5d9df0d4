//! [`Transaction`]: the changes that a writer makes to a topic's collections at once.
//!
//! Writes are collected and become one entry when they are committed, all of them or none. They end the dots that are
//! live then. The invariant: nothing of the replica changes before the commit.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use consilience_crdts::coupling::CouplingError;
use consilience_crdts::{Coupling, CouplingSchema, KEY_BYTES_MAX, Timestamp, Units, VALUE_BYTES_MAX};
use consilience_sync::journal::RecordId;
use consilience_sync::{AgentId, LogKind, Topic};

use super::error::CommitError;
use super::settle::Stamp;
use super::{Replica, Writer};
use crate::author::{Compaction, compact, coupled, end_seen, fit};
use crate::fold::{Table, actor_of};
use crate::payload::{CollectionId, CollectionKind, Draft, NAME_BYTES_MAX};
use crate::repair::Source;

/// Why a write was refused. The transaction is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A collection's name has 1 to 64 bytes.
    #[error("a collection's name has 1 to {NAME_BYTES_MAX} bytes")]
    Name,
    /// The key or element is too long.
    #[error("the key has {bytes} bytes, and at most {KEY_BYTES_MAX} are allowed")]
    KeyTooLong {
        /// How many it has.
        bytes: usize,
    },
    /// The value is too large. Put it elsewhere and write its hash.
    #[error(
        "the value has {bytes} bytes, and at most {VALUE_BYTES_MAX} are allowed; put it elsewhere and write its hash"
    )]
    ValueTooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// The amount or the key of a coupling is refused.
    #[error(transparent)]
    Coupling(#[from] CouplingError),
    /// The value cannot be written as postcard.
    #[error("the value cannot be written as postcard: {0}")]
    Serialize(postcard::Error),
}

/// Writes to one topic by one writer, in the making. Dropped without [`commit`](Self::commit), it never happened.
#[derive(Debug)]
pub struct Transaction<'a> {
    replica: &'a mut Replica,
    writer: AgentId,
    topic: Topic,
    now: Timestamp,
    draft: Draft,
}

impl Replica {
    /// Begins a transaction. `now` stamps it.
    ///
    /// # Errors
    ///
    /// If the name is no topic's or the writer is not local.
    pub fn transact(
        &mut self,
        writer: Writer,
        topic: &str,
        now: Timestamp,
    ) -> Result<Transaction<'_>, CommitError> {
        let topic = Topic::new(topic)?;
        if !self.author.has(&writer.0) {
            return Err(CommitError::UnknownWriter);
        }
        Ok(Transaction { replica: self, writer: writer.0, topic, now, draft: Draft::default() })
    }
}

impl<'a> Transaction<'a> {
    /// A map of the topic: keys to values, the last writer wins.
    pub fn map<'t>(&'t mut self, name: &str) -> MapTx<'t, 'a> {
        MapTx { id: CollectionId::new(CollectionKind::Map, name, None), tx: self }
    }

    /// A set of the topic: an insertion survives a concurrent removal.
    pub fn set<'t>(&'t mut self, name: &str) -> SetTx<'t, 'a> {
        SetTx { id: CollectionId::new(CollectionKind::Set, name, None), tx: self }
    }

    /// A coupling of the topic: decaying counters. The schema is part of which one it is.
    pub fn coupling<'t>(&'t mut self, name: &str, schema: CouplingSchema) -> CouplingTx<'t, 'a> {
        CouplingTx { id: CollectionId::new(CollectionKind::Coupling, name, Some(&schema)), schema, tx: self }
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.draft.is_empty()
    }

    /// Makes it one entry of the writer's log: readable here at once, and sent once its record is
    /// [confirmed](Replica::confirm). Returns that record, or `None` if nothing was written, because there was nothing to
    /// write: a removal of a key that is not there has no effect, and neither has a weakening of nothing.
    ///
    /// Where a key has more concurrent writes than go with its entry, the entries before it end them: a peer that has only
    /// some of these entries sees the key without them, and for a moment without a value.
    ///
    /// # Errors
    ///
    /// Why it was not committed. Nothing of it took place then.
    pub fn commit(self) -> Result<Option<RecordId>, CommitError> {
        let Self { replica, writer, topic, now, draft } = self;
        replica.commit(&writer, &topic, draft, now)
    }

    fn write(
        &mut self,
        id: Option<&CollectionId>,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), WriteError> {
        let id = id.ok_or(WriteError::Name)?;
        if key.len() > KEY_BYTES_MAX {
            return Err(WriteError::KeyTooLong { bytes: key.len() });
        }
        let bytes = value.map_or(0, <[u8]>::len);
        if bytes > VALUE_BYTES_MAX {
            return Err(WriteError::ValueTooLarge { bytes });
        }
        self.draft.write(id, key, value, BTreeSet::new());
        Ok(())
    }

    /// The value that a key will have: as written here, else as it is.
    fn read(&self, id: Option<&CollectionId>, key: &[u8]) -> Option<Vec<u8>> {
        let id = id?;
        if let Some(written) = self.draft.written(id, key) {
            return written.map(<[u8]>::to_vec);
        }
        let Table::Dots(dots) = &self.replica.fold.topic(&self.topic)?.collection(id)?.table else {
            return None;
        };
        dots.live.get(key).map(|entry| entry.value.to_vec())
    }
}

/// A map within a transaction.
#[derive(Debug)]
pub struct MapTx<'t, 'a> {
    tx: &'t mut Transaction<'a>,
    id: Option<CollectionId>,
}

impl MapTx<'_, '_> {
    /// Gives a key this value.
    ///
    /// # Errors
    ///
    /// If the collection's name, the key or the value is too long; see [`WriteError`].
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), WriteError> {
        self.tx.write(self.id.as_ref(), key.as_ref(), Some(value.as_ref()))
    }

    /// Gives a key a value that is written as postcard; [`MapView::get_as`](crate::MapView::get_as) reads it.
    ///
    /// # Errors
    ///
    /// If the collection's name, the key or the value is too long, or the value cannot be written; see [`WriteError`].
    pub fn set_as<T: serde::Serialize + ?Sized>(
        &mut self,
        key: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<(), WriteError> {
        let value = postcard::to_allocvec(value).map_err(WriteError::Serialize)?;
        self.set(key, value)
    }

    /// Removes a key.
    ///
    /// # Errors
    ///
    /// If the key is too long.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Result<(), WriteError> {
        self.tx.write(self.id.as_ref(), key.as_ref(), None)
    }

    /// The value that the key will have after this transaction.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.tx.read(self.id.as_ref(), key.as_ref())
    }
}

/// A set within a transaction.
#[derive(Debug)]
pub struct SetTx<'t, 'a> {
    tx: &'t mut Transaction<'a>,
    id: Option<CollectionId>,
}

impl SetTx<'_, '_> {
    /// Adds an element.
    ///
    /// # Errors
    ///
    /// If it is too long.
    pub fn insert(&mut self, element: impl AsRef<[u8]>) -> Result<(), WriteError> {
        self.tx.write(self.id.as_ref(), element.as_ref(), Some(&[]))
    }

    /// Removes an element.
    ///
    /// # Errors
    ///
    /// If it is too long.
    pub fn remove(&mut self, element: impl AsRef<[u8]>) -> Result<(), WriteError> {
        self.tx.write(self.id.as_ref(), element.as_ref(), None)
    }

    /// Whether the element will be there after this transaction.
    #[must_use]
    pub fn contains(&self, element: impl AsRef<[u8]>) -> bool {
        self.tx.read(self.id.as_ref(), element.as_ref()).is_some()
    }
}

/// A coupling within a transaction. Several changes of one key add up.
#[derive(Debug)]
pub struct CouplingTx<'t, 'a> {
    tx: &'t mut Transaction<'a>,
    id: Option<CollectionId>,
    schema: CouplingSchema,
}

impl CouplingTx<'_, '_> {
    /// Adds to the writer's contribution to a key; see [`Coupling::strengthen`].
    ///
    /// # Errors
    ///
    /// If the amount is below two floors, or the key too long.
    pub fn strengthen(&mut self, key: impl AsRef<[u8]>, by: Units) -> Result<(), WriteError> {
        let (actor, now) = (actor_of(&self.tx.writer), self.tx.now);
        let instant =
            self.scratch(key.as_ref(), |coupling, key| coupling.strengthened(&actor, key, by, now))?;
        self.put(key.as_ref(), false, instant)
    }

    /// Takes from the sum of a key, but not more than there is; see [`Coupling::weaken`].
    ///
    /// # Errors
    ///
    /// If the amount is below two floors, or the key too long.
    pub fn weaken(&mut self, key: impl AsRef<[u8]>, by: Units) -> Result<(), WriteError> {
        self.take(key.as_ref(), Some(by), false)
    }

    /// Takes all of the sum of a key; see [`Coupling::reset`].
    ///
    /// # Errors
    ///
    /// If the key is too long.
    pub fn reset(&mut self, key: impl AsRef<[u8]>) -> Result<(), WriteError> {
        self.take(key.as_ref(), None, false)
    }

    /// Takes from the writer's own contribution; see [`Coupling::weaken_own`].
    ///
    /// # Errors
    ///
    /// If the amount is below two floors, or the key too long.
    pub fn weaken_own(&mut self, key: impl AsRef<[u8]>, by: Units) -> Result<(), WriteError> {
        self.take(key.as_ref(), Some(by), true)
    }

    /// Takes all that the writer itself contributes; see [`Coupling::reset_own`].
    ///
    /// # Errors
    ///
    /// If the key is too long.
    pub fn reset_own(&mut self, key: impl AsRef<[u8]>) -> Result<(), WriteError> {
        self.take(key.as_ref(), None, true)
    }

    fn take(&mut self, key: &[u8], by: Option<Units>, own: bool) -> Result<(), WriteError> {
        let (actor, now) = (actor_of(&self.tx.writer), self.tx.now);
        let instant = self.scratch(key, |coupling, key| coupling.weakened(&actor, key, by, own, now))?;
        self.put(key, true, instant)
    }

    /// Works out an instant from the state and from the statements that this transaction has made already.
    fn scratch(
        &self,
        key: &[u8],
        work: impl FnOnce(&Coupling, &[u8]) -> Result<Option<u64>, CouplingError>,
    ) -> Result<Option<u64>, WriteError> {
        let id = self.id.as_ref().ok_or(WriteError::Name)?;
        let (fold, actor) = (&self.tx.replica.fold, actor_of(&self.tx.writer));
        let coupling = (id, self.schema);
        Ok(coupled((fold, &self.tx.topic), coupling, (&actor, key), &self.tx.draft, work)?)
    }

    fn put(&mut self, key: &[u8], weakens: bool, instant: Option<u64>) -> Result<(), WriteError> {
        let id = self.id.as_ref().ok_or(WriteError::Name)?;
        if let Some(instant) = instant {
            self.tx.draft.couple(id, key, weakens, instant);
        }
        Ok(())
    }
}

impl Replica {
    fn commit(
        &mut self,
        agent: &AgentId,
        topic: &Topic,
        mut draft: Draft,
        now: Timestamp,
    ) -> Result<Option<RecordId>, CommitError> {
        self.settle(now, Source::Host);
        let present = self.author.present_log(self.store.logs(), agent, topic, now);
        end_seen(self.store.logs(), &self.fold, topic, present.as_ref(), &mut draft);
        if draft.is_empty() {
            return Ok(None);
        }
        // The entries of a transaction are stored in one record, and so all or none.
        self.store.seal();
        // Whether it fits is known before anything is done for it.
        let mut first = fit(&mut draft)?;
        let log = self.own_log(agent, topic, LogKind::State, now)?;
        let prepared = self.prepare(agent, topic, &log, now)?;
        if prepared || present != Some(log) {
            // Dots that were written again meanwhile may be ended by this, and those of an earlier log are not its own.
            end_seen(self.store.logs(), &self.fold, topic, Some(&log), &mut draft);
            first = fit(&mut draft)?;
        }
        for ends in first {
            self.append_draft(&log, &ends, None, Stamp::Now(now))?;
        }
        let logs_and_state = (self.store.logs(), &self.fold);
        let Compaction { before, base, relisted } =
            compact(logs_and_state, self.author.policy(), (topic, &log), &mut draft, now);
        for draft in before {
            self.append_draft(&log, &draft, None, Stamp::Now(now))?;
        }
        self.author.note_relisted(relisted);
        let record = self.append_draft(&log, &draft, Some(base), Stamp::Now(now))?;
        self.store.seal();
        self.settle(now, Source::Host);
        Ok(Some(record))
    }
}
