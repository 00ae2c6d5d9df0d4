//! [`Replay`]: the return of a set from storage.
//!
//! Storage is believed about decisions (which logs are held, where a copy begins, the host's answers), and about
//! nothing that a writer has to sign: ranges, heads and evidence are checked as if a peer had sent them. Limits do not
//! apply, for the entries that come back were within them when they came.
//!
//! Not here: the form in which anything is stored.
//!
//! The invariant: records that are replayed in the order in which they were written lead to the same set, and a record
//! that the set has taken in already may come again.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use consilience_base::Timestamp;

use super::{LogSet, OpenError, SetError, latest};
use crate::budget::VerifyBudget;
use crate::codec::DecodeError;
use crate::facts::UncheckedPruned;
use crate::identity::{LogId, LogOpening, NamedOpening};
use crate::log::{
    Allowance, AppendError, Entry, HeadError, KeepError, LogFront, Range, Received, SignedHead,
    UncheckedEvidence,
};

/// Why something stored was not taken in. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The set refuses it. A range that follows on entries that were not stored is of this kind, and peers have it.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The head is not one of a log that is held.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The entry of a local writer does not follow on the held ones, or differs from the one that is held: it has not
    /// come back, and the writer must go on in its next incarnation.
    #[error("entry {seq} of a local writer does not follow on the held entries")]
    Own {
        /// Its number.
        seq: u64,
    },
    /// The entry has no form of this library.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A set that is coming back from storage. Made by [`LogSet::replay`].
#[derive(Debug)]
pub struct Replay<'a> {
    set: &'a mut LogSet,
    now: Timestamp,
}

impl LogSet {
    /// Takes in the stored records of a set.
    pub const fn replay(&mut self, now: Timestamp) -> Replay<'_> {
        Replay { set: self, now }
    }

    /// Whether a local writer appends to it.
    #[must_use]
    pub fn is_local(&self, log: &LogId) -> bool {
        self.slots.get(log).is_some_and(|slot| slot.local)
    }

    /// Whether a local writer must not go on in it.
    #[must_use]
    pub fn is_self_forked(&self, log: &LogId) -> bool {
        self.slots.get(log).is_some_and(|slot| slot.self_forked)
    }

    /// Until when the entries of a forked log are kept for its writer.
    #[must_use]
    pub fn kept_until(&self, log: &LogId) -> Option<Timestamp> {
        self.slots.get(log)?.invalid_until
    }
}

impl Replay<'_> {
    /// The set as far as it is back.
    #[must_use]
    pub const fn set(&mut self) -> &mut LogSet {
        self.set
    }

    /// Notes that a log has changed since the last mark, and how much of it counted then: `heads_changed` and
    /// `size_at_version` return that. Harmless if nothing of the log is held.
    pub fn changed(&mut self, log: &LogId, before: u64) {
        self.set.change_again(log, before);
    }

    /// Holds a log, whatever the quotas say. A local writer's as [`LogSet::open_local`] does.
    ///
    /// # Errors
    ///
    /// If the writer's key is not admitted.
    pub fn open(&mut self, opening: &LogOpening, local: bool) -> Result<LogId, ReplayError> {
        if local {
            return Ok(self.set.open_local(opening).map_err(SetError::from)?);
        }
        self.hold(&opening.clone().named(&self.set.mesh))
    }

    fn hold(&mut self, named: &NamedOpening) -> Result<LogId, ReplayError> {
        if !self.set.slots.contains_key(named.id()) {
            self.set.insert(named, None, false).map_err(SetError::from)?;
        }
        Ok(*named.id())
    }

    /// Begins a copy where it began. Harmless if anything of the log is held.
    ///
    /// # Errors
    ///
    /// If the log is not held, or the front is none.
    pub fn front(&mut self, log: &LogId, front: &LogFront) -> Result<(), ReplayError> {
        let slot = self.set.slots.get_mut(log).ok_or(SetError::Unknown)?;
        if slot.log.size() > 0 || slot.log.furthest_head().is_some() {
            return Ok(());
        }
        slot.log.set_front(front).map_err(SetError::from)?;
        self.set.note(log);
        Ok(())
    }

    /// Takes in a range, as [`LogSet::receive`] does.
    ///
    /// # Errors
    ///
    /// Why it was refused. A range that brings nothing that is needed is not an error everywhere: see
    /// [`is_stale`](ReplayError::is_stale).
    pub fn range(&mut self, log: &LogId, range: &[u8]) -> Result<Received, ReplayError> {
        let allowance = Allowance {
            latest: latest(&self.set.limits, self.now),
            late_bytes_max: usize::MAX,
            staged_bytes_max: usize::MAX,
        };
        let mut budget = VerifyBudget::unlimited();
        self.set.check_open(log)?;
        let range = Range::parse(range).map_err(|error| SetError::Receive(error.into()))?;
        Ok(self.set.receive_with(log, &range, self.now, Some(allowance), &mut budget)?)
    }

    /// Puts an entry back that a local writer appended. `entry` is from [`Entry::encode`]. False if it is held.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Own`] if it does not follow on the held entries or differs from them.
    pub fn append(&mut self, log: &LogId, seq: u64, entry: &[u8]) -> Result<bool, ReplayError> {
        let slot = self.set.slots.get_mut(log).ok_or(SetError::Unknown)?;
        let entry = Entry::decode(entry, seq, slot.log.opening())?;
        if seq < slot.log.start() {
            return Ok(false);
        }
        if seq < slot.log.size() {
            return if slot.log.holds(&entry) { Ok(false) } else { Err(ReplayError::Own { seq }) };
        }
        if !slot.local {
            return Err(SetError::Append(AppendError::NotWritable).into());
        }
        slot.log.append_again(&entry).map_err(|_| ReplayError::Own { seq })?;
        self.set.note(log);
        Ok(true)
    }

    /// Remembers a head beyond the held entries, so that a local writer does not go on after it.
    ///
    /// # Errors
    ///
    /// If its signature is not the writer's.
    pub fn head(&mut self, head: &[u8]) -> Result<(), ReplayError> {
        let (named, head) = SignedHead::decode_named(head, &self.set.mesh)?;
        let slot = self.set.slots.get_mut(named.id()).ok_or(SetError::Unknown)?;
        slot.log.see_again(head);
        Ok(())
    }

    /// Takes in evidence of a fork. `kept_until` is when the entries go; if not given, the time begins now.
    ///
    /// # Errors
    ///
    /// Why it was refused.
    pub fn evidence(&mut self, bytes: &[u8], kept_until: Option<Timestamp>) -> Result<bool, ReplayError> {
        let mut budget = VerifyBudget::unlimited();
        let found = UncheckedEvidence::parse(bytes, &self.set.mesh).map_err(SetError::from)?;
        let log = self.hold(found.opening())?;
        if let Some(until) = kept_until
            && let Some(slot) = self.set.slots.get_mut(&log)
            && slot.invalid_until.is_none()
        {
            slot.invalid_until = Some(until);
        }
        let hold = |_: &LogOpening| super::Admission::Hold;
        match self.set.receive_unchecked(&found, self.now, &mut budget, hold) {
            Ok(news) => Ok(news),
            Err(error) => {
                let slot = self.set.slots.get_mut(&log).filter(|slot| slot.facts.forks.is_none());
                slot.into_iter().for_each(|slot| slot.invalid_until = None);
                Err(error.into())
            }
        }
    }

    /// Takes in a writer's word that it has given up events.
    ///
    /// # Errors
    ///
    /// Why it was refused.
    pub fn pruned(&mut self, bytes: &[u8]) -> Result<bool, ReplayError> {
        let found = UncheckedPruned::parse(bytes, &self.set.mesh).map_err(SetError::from)?;
        if !self.set.is_dead(found.opening().opening()) {
            self.hold(found.opening())?;
        }
        let hold = |_: &LogOpening| super::Admission::Hold;
        Ok(self.set.receive_pruned(&found, self.now, &mut VerifyBudget::unlimited(), hold)?)
    }

    /// Takes in the earlier value of [`Log::ready`](crate::Log::ready), once the entries are back. Entries do not cease to be
    /// ready when a clock falls, and a writer's own always are.
    ///
    /// # Errors
    ///
    /// If the log is not held.
    pub fn ready(&mut self, log: &LogId, ready: u64) -> Result<(), ReplayError> {
        let slot = self.set.slots.get_mut(log).ok_or(SetError::Unknown)?;
        slot.log.ready_again(ready);
        self.set.wait(log, self.now);
        self.set.note(log);
        Ok(())
    }

    /// A local writer must not go on in this log.
    ///
    /// # Errors
    ///
    /// If the log is not held.
    pub fn self_forked(&mut self, log: &LogId) -> Result<(), ReplayError> {
        self.set.slots.get_mut(log).ok_or(SetError::Unknown)?.self_forked = true;
        self.set.note(log);
        Ok(())
    }
}

impl ReplayError {
    /// Whether it only says that nothing of this is needed, or that the entries on which it follows are no longer here:
    /// peers have them.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        use crate::log::ReceiveError;
        matches!(
            self,
            Self::Set(
                SetError::Unknown
                    | SetError::Forked { .. }
                    | SetError::Receive(
                        ReceiveError::Gap { .. } | ReceiveError::Stale { .. } | ReceiveError::TooManyStaged
                    )
                    | SetError::Keep(KeepError::Unknown)
                    | SetError::Open(OpenError::Quota | OpenError::Ignored)
            )
        )
    }
}
