//! Local agents: their keys, the entries that they append, and how many of those may be signed.
//!
//! The invariant: a head covers only entries whose records were confirmed, or that no storage was asked to keep.

use alloc::boxed::Box;

use consilience_base::Timestamp;
use consilience_base::planted::{Fault, planted};

use super::LogStore;
use crate::identity::{AgentId, AgentKey, KeyError, LogId, LogOpening, SignError, Signature, Signer};
use crate::journal::{JournalItem, RecordId};
use crate::log::NewEntry;
use crate::logset::{OpenError, SetError};

impl LogStore {
    /// Adds the key of a local agent, or replaces it. Entries that the agent's logs have stored and not signed may be
    /// signed from now on.
    ///
    /// # Errors
    ///
    /// If the agent's key is not admitted. Nothing changed then.
    pub fn add_signer(&mut self, signer: impl Signer + Send + 'static) -> Result<AgentId, KeyError> {
        AgentKey::admit(&signer.agent())?;
        Ok(self.insert_signer(signer))
    }

    /// The same for an agent that writes no log: peers check its key.
    pub(crate) fn insert_signer(&mut self, signer: impl Signer + Send + 'static) -> AgentId {
        let agent = signer.agent();
        self.signers.insert(agent, Box::new(signer));
        agent
    }

    /// The agents whose keys are here, in ascending order.
    pub fn agents(&self) -> impl Iterator<Item = AgentId> + '_ {
        self.signers.keys().copied()
    }

    /// Signs a message for a local agent.
    ///
    /// # Errors
    ///
    /// [`SignError::OtherAgent`] if its key is not here, else why the signer did not sign.
    pub fn sign(&self, agent: &AgentId, message: &[u8]) -> Result<Signature, SignError> {
        self.signers.get(agent).ok_or(SignError::OtherAgent)?.sign(message)
    }

    /// Opens a log of a local agent; see [`LogSet::open_local`](crate::LogSet::open_local).
    ///
    /// # Errors
    ///
    /// If the agent's key is not admitted. Nothing changed then.
    pub fn open_local(&mut self, opening: &LogOpening) -> Result<LogId, OpenError> {
        let log = self.set.open_local(opening)?;
        let bytes = opening.encode(self.set.mesh());
        self.record(&JournalItem::Opening { local: true, bytes: &bytes });
        Ok(log)
    }

    /// Appends an entry of a local agent, in the record that is being made: what comes before that is [sealed](Self::seal) comes
    /// back all or none after a crash. Gives the entry's number and the record, after whose [confirmation](Self::confirm) the
    /// entry may be signed.
    ///
    /// # Errors
    ///
    /// As [`LogSet::append`](crate::LogSet::append). Nothing changed then.
    pub fn append(&mut self, log: &LogId, entry: &NewEntry<'_>) -> Result<(u64, RecordId), SetError> {
        let seq = self.set.append(log, entry)?;
        let size = seq.saturating_add(1);
        if !self.stores {
            self.durable.insert(*log, size);
            return Ok((seq, self.journal.last_sealed()));
        }
        if let Some(entry) = self.set.log(log).and_then(|held| held.entry(seq)) {
            self.journal.push(&JournalItem::Append { log: *log, seq, entry: &entry.encode() });
        }
        let record = self.journal.open_id();
        self.unconfirmed.push_back((record, *log, size));
        if planted(Fault::SentBeforeStored) {
            self.durable.insert(*log, size);
        }
        Ok((seq, record))
    }

    /// Signs that a local agent has given up events: those of all of its earlier logs of the topic, and those of this one below
    /// a number. Gives the last record; nothing follows from it before that is confirmed. See
    /// [`LogSet::prune`](crate::LogSet::prune).
    ///
    /// # Errors
    ///
    /// [`SignError::OtherAgent`] if the agent's key is not here, else why nothing was signed. Nothing changed then.
    pub fn prune(&mut self, log: &LogId, below: u64) -> Result<RecordId, SetError> {
        let agent = self.set.log(log).ok_or(SetError::Unknown)?.opening().agent;
        let signer = self.signers.get(&agent).ok_or(SignError::OtherAgent)?;
        let Some(pruned) = self.set.sign_pruned(log, below, &**signer)? else { return Ok(self.seal()) };
        self.record(&JournalItem::Pruned { bytes: pruned.as_bytes() });
        let record = self.seal();
        if self.stores {
            self.pruning.push_back((record, *log, pruned));
        } else {
            self.set.take_own_pruned(log, pruned);
        }
        Ok(record)
    }

    /// Drops the entries that a local agent has appended and not signed; see
    /// [`LogSet::discard_unsigned`](crate::LogSet::discard_unsigned). Nothing happens if the log is not held.
    pub fn discard_unsigned(&mut self, log: &LogId) {
        // A log that is not held has nothing unsigned.
        let _ = self.set.discard_unsigned(log);
        self.forget_own(log);
    }

    /// Forgets which entries of a log wait to be stored or signed.
    pub(super) fn forget_own(&mut self, log: &LogId) {
        self.unconfirmed.retain(|(_, unconfirmed, _)| unconfirmed != log);
        self.durable.remove(log);
    }

    pub(super) fn confirmed(&mut self, record: RecordId) {
        while let Some((id, log, size)) = self.unconfirmed.front().copied() {
            if id > record {
                break;
            }
            self.unconfirmed.pop_front();
            let durable = self.durable.entry(log).or_default();
            *durable = size.max(*durable);
        }
        while self.pruning.front().is_some_and(|(id, ..)| *id <= record) {
            let Some((_, log, pruned)) = self.pruning.pop_front() else { break };
            self.set.take_own_pruned(&log, pruned);
        }
    }

    /// The first and the last record that hold own entries, or the word that own events are given up, and were not confirmed, if
    /// there are any.
    #[must_use]
    pub fn unconfirmed(&self) -> Option<(RecordId, RecordId)> {
        let entries = self.unconfirmed.front().into_iter().chain(self.unconfirmed.back()).map(|(id, ..)| id);
        let pruning = self.pruning.front().into_iter().chain(self.pruning.back()).map(|(id, ..)| id);
        let ends = entries.chain(pruning);
        let (first, last) = (ends.clone().min()?, ends.max()?);
        Some((*first, *last))
    }

    /// Whether all that local agents have appended is stored and signed.
    #[must_use]
    pub fn has_signed_all(&self) -> bool {
        let signed = |log: &LogId, durable: &u64| {
            self.set.log(log).is_none_or(|held| {
                held.signed_size() >= *durable || !self.signers.contains_key(&held.opening().agent)
            })
        };
        let all = self.unconfirmed.is_empty()
            && self.pruning.is_empty()
            && self.durable.iter().all(|(log, durable)| signed(log, durable));
        all || planted(Fault::UnsignedIsSpent)
    }

    /// Signs the entries of own logs that may leave and are not signed yet. Sessions do it before they send.
    pub fn sign_heads(&mut self, now: Timestamp) {
        let Self { set, signers, durable, .. } = self;
        // Sessions ask for every frame: signed logs are not looked at again.
        durable.retain(|log, durable| {
            let Some(held) = set.log(log).filter(|held| held.signed_size() < *durable) else { return false };
            // Also entries that an earlier incarnation left unsigned: the stored entries are how that log went on.
            let Some(signer) = signers.get(&held.opening().agent) else { return true };
            // A signer that cannot sign now is asked again the next time.
            set.sign_head_at(log, *durable, &**signer, now).is_err()
        });
    }
}
