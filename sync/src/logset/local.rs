//! Logs of local writers in a set: opening, appending, signing.
//!
//! The invariant: a local writer appends only to a log of which no other history is known.

use consilience_base::Timestamp;

use super::slot::Slot;
use super::statements::Standing;
use super::{LogSet, OpenError, SetError};
use crate::facts::Pruned;
use crate::identity::{AgentKey, LogId, LogOpening, Signer};
use crate::log::{AppendError, Log, NewEntry, SignedHead};

impl LogSet {
    /// Whether a local writer may append to a log now: it is a local writer's, no other history of it is known, nor signed
    /// entries that are not here, and no later incarnation has ended it, or closed more of it than is here.
    #[must_use]
    pub fn is_writable(&self, log: &LogId) -> bool {
        let writable = |slot: &Slot| {
            slot.local
                && !slot.self_forked
                && slot.facts.forks.is_none()
                && slot.standing() != Standing::Dead
                && !slot.is_outgrown()
                && !slot.log.lacks_signed()
        };
        self.slots.get(log).is_some_and(|slot| writable(slot))
    }

    /// Whether a later incarnation has closed more of a log than its local writer knows of, who still goes on in it: another
    /// process wrote in it as well.
    #[must_use]
    pub fn is_outgrown(&self, log: &LogId) -> bool {
        self.slots.get(log).is_some_and(|slot| slot.is_outgrown())
    }

    /// Notes that a local writer must not go on in a log, since the caller has found another history of it in what its agent
    /// says elsewhere.
    pub fn disown(&mut self, log: &LogId) {
        if let Some(slot) = self.slots.get_mut(log).filter(|slot| slot.local) {
            slot.self_forked = true;
            self.queue(log);
        }
    }

    /// Opens a log for a local writer, whatever the quotas say; or takes a held one over.
    ///
    /// # Errors
    ///
    /// If the key is not admitted.
    pub fn open_local(&mut self, opening: &LogOpening) -> Result<LogId, OpenError> {
        let named = opening.clone().named(&self.mesh);
        let id = *named.id();
        match self.slots.get_mut(&id) {
            Some(slot) => {
                slot.set_local();
                self.note(&id);
            }
            None => {
                let agent = &opening.agent;
                let key = self.key_of(agent).map_or_else(|| AgentKey::admit(agent), Ok)?;
                self.insert(Log::with_key(named, &self.mesh, key), true);
            }
        }
        Ok(id)
    }

    /// Appends to a local writer's log.
    ///
    /// # Errors
    ///
    /// [`SetError::Forked`] if the writer has to go on in its next incarnation, else the fault in the entry.
    pub fn append(&mut self, log: &LogId, entry: &NewEntry<'_>) -> Result<u64, SetError> {
        let slot = self.slots.get_mut(log).ok_or(SetError::Unknown)?;
        if let Some(valid_below) = slot.valid_below() {
            return Err(SetError::Forked { valid_below });
        }
        if !slot.local || slot.self_forked {
            return Err(AppendError::NotWritable.into());
        }
        // Closures in entries that the base gives up would be taken back with them.
        let (closures, last_final) = slot.succession.statements().repeated(&slot.log, entry);
        let entry = NewEntry { closures: &closures, last_final, ..*entry };
        let seq = slot.log.append(&entry)?;
        self.note(log);
        Ok(seq)
    }

    /// Signs everything that a local writer has appended so far.
    ///
    /// # Errors
    ///
    /// [`SetError::Forked`] as for [`append`](Self::append), else why nothing was signed.
    pub fn sign_head(
        &mut self,
        log: &LogId,
        signer: &dyn Signer,
        now: Timestamp,
    ) -> Result<SignedHead, SetError> {
        self.sign_head_at(log, u64::MAX, signer, now)
    }

    /// Signs the entries that a local writer has appended below `size`, if later ones must not leave yet.
    ///
    /// # Errors
    ///
    /// As [`sign_head`](Self::sign_head).
    pub fn sign_head_at(
        &mut self,
        log: &LogId,
        size: u64,
        signer: &dyn Signer,
        now: Timestamp,
    ) -> Result<SignedHead, SetError> {
        let slot = self.slots.get_mut(log).ok_or(SetError::Unknown)?;
        if let Some(valid_below) = slot.valid_below() {
            return Err(SetError::Forked { valid_below });
        }
        if !slot.local || slot.self_forked {
            return Err(AppendError::NotWritable.into());
        }
        let head = slot.log.sign_head_at(size, signer, now)?;
        self.heads.touch(log);
        self.settle_closures(log);
        Ok(head)
    }

    /// Signs that the events of a local writer are given up for good: all of its earlier logs of the topic, and those of this
    /// one below a number. `None` if that is known already. Nothing follows from it before it is [taken
    /// in](Self::take_own_pruned).
    ///
    /// # Errors
    ///
    /// [`SetError::Unknown`] if the log is not held, else why nothing was signed.
    pub(crate) fn sign_pruned(
        &self,
        log: &LogId,
        below: u64,
        signer: &dyn Signer,
    ) -> Result<Option<Pruned>, SetError> {
        let slot = self.slots.get(log).ok_or(SetError::Unknown)?;
        if slot.facts.pruned().is_some_and(|known| known.below() >= below) {
            return Ok(None);
        }
        let named = slot.log.opening().clone().named(&self.mesh);
        Ok(Some(Pruned::sign(&named, below, &self.mesh, signer)?))
    }

    /// Takes in the word of a local writer that it has given up events.
    pub(crate) fn take_own_pruned(&mut self, log: &LogId, pruned: Pruned) {
        self.take_pruned(log, pruned, self.now);
    }

    /// [Signs](Pruned) that the events of a local writer are given up for good, and takes that in at once.
    ///
    /// # Errors
    ///
    /// [`SetError::Unknown`] if the log is not held, else why nothing was signed.
    pub fn prune(
        &mut self,
        log: &LogId,
        below: u64,
        signer: &dyn Signer,
        now: Timestamp,
    ) -> Result<Option<Pruned>, SetError> {
        let pruned = self.sign_pruned(log, below, signer)?;
        Ok(pruned.filter(|pruned| self.take_pruned(log, pruned.clone(), now)))
    }

    /// Drops the entries that a local writer has appended and not signed: the remedy after
    /// [`Change::SelfForked`](crate::Change::SelfForked) without evidence, when another copy goes on otherwise. The
    /// writer may then take that copy over and go on in the same log. The consumer is shown anew which entries are
    /// applicable ([`Change::Replaced`](crate::Change::Replaced)).
    ///
    /// # Errors
    ///
    /// [`SetError::Unknown`].
    pub fn discard_unsigned(&mut self, log: &LogId) -> Result<u64, SetError> {
        let slot = self.slots.get_mut(log).ok_or(SetError::Unknown)?;
        let size = slot.log.size();
        let kept = slot.discard_unsigned();
        if kept < size {
            slot.allow_again();
            self.wait(log, self.now);
            self.note(log);
        }
        Ok(kept)
    }
}
