//! [`Replay`]: the return of a set from storage.
//!
//! Storage is believed about decisions (which logs are held, where a copy begins, the host's answers), and about
//! nothing that a writer has to sign: ranges, heads and evidence are checked as if a peer had sent them. Limits do not
//! apply, for the entries that come back were within them when they came.
//!
//! Not here: the form in which anything is stored.
//!
//! The invariants: a log of another agent's writer has a place only once something signed of it came back; and records that are replayed in the order in which they were written lead to the same set, and a record
//! that the set has taken in already may come again.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use consilience_base::Timestamp;

use super::{LogSet, OpenError, SetError, latest};
use crate::budget::VerifyBudget;
use crate::codec::DecodeError;
use crate::facts::{Facts, Forks, UncheckedPruned};
use crate::identity::{AgentKey, LogId, LogOpening, NamedOpening};
use crate::log::{
    Allowance, AppendError, Entry, HeadError, KeepError, Log, LogFront, Range, Received, SignedHead,
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
    /// A log whose opening came back, and where its copy begins: nothing came back yet that its agent signed.
    opened: Option<(NamedOpening, Option<LogFront>)>,
    /// Logs of which another history came while own entries stood there that were never signed.
    parted: BTreeSet<LogId>,
    /// Ranges of these that came after that.
    contested: Vec<(LogId, Box<[u8]>)>,
}

impl LogSet {
    /// Takes in the stored records of a set.
    pub const fn replay(&mut self, now: Timestamp) -> Replay<'_> {
        Replay { set: self, now, opened: None, parted: BTreeSet::new(), contested: Vec::new() }
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

    /// Takes the opening of a log back. A local writer's log is held, as [`LogSet::open_local`] does; another is held once
    /// something comes back that its agent signed, whatever the quotas say. At most one waits for that.
    ///
    /// # Errors
    ///
    /// If the key of a local writer is not admitted.
    pub fn open(&mut self, opening: &LogOpening, local: bool) -> Result<LogId, ReplayError> {
        if local {
            return Ok(self.set.open_local(opening).map_err(SetError::from)?);
        }
        let named = opening.clone().named(&self.set.mesh);
        let id = *named.id();
        self.opened = (!self.set.slots.contains_key(&id)).then_some((named, None));
        Ok(id)
    }

    /// The log that was opened and has no place yet, if it is this one: an empty copy of it.
    fn opened(&self, log: &LogId) -> Result<Log, ReplayError> {
        let opened = self.opened.as_ref().filter(|(named, _)| named.id() == log);
        let (named, front) = opened.ok_or(SetError::Unknown)?;
        let agent = &named.opening().agent;
        let key = self.set.key_of(agent).map_or_else(|| AgentKey::admit(agent), Ok);
        let key = key.map_err(|error| SetError::from(OpenError::from(error)))?;
        let mut log = Log::with_key(named.clone(), &self.set.mesh, key);
        if let Some(front) = front {
            log.set_front(front).map_err(SetError::from)?;
        }
        Ok(log)
    }

    /// Gives a log its place: it has signed bytes of its agent.
    fn hold(&mut self, log: Log) {
        let id = *log.id();
        self.set.insert(log, false);
        self.opened = None;
        self.set.wait(&id, self.now);
        self.set.note(&id);
    }

    /// Begins a copy where it began. Harmless if anything of the log is held.
    ///
    /// # Errors
    ///
    /// If the log was not opened, or the front is none.
    pub fn front(&mut self, log: &LogId, front: &LogFront) -> Result<(), ReplayError> {
        let Some(slot) = self.set.slots.get_mut(log) else {
            let opened = self.opened.as_mut().filter(|(named, _)| named.id() == log);
            opened.ok_or(SetError::Unknown)?.1 = Some(front.clone());
            return Ok(());
        };
        if slot.log.size() > 0 || slot.log.furthest_head().is_some() {
            return Ok(());
        }
        slot.log.set_front(front).map_err(SetError::from)?;
        self.set.note(log);
        Ok(())
    }

    /// Limits do not apply, but for what time says.
    fn allowance(&self) -> Allowance {
        let latest = latest(&self.set.limits, self.now);
        Allowance { latest, late_bytes_max: usize::MAX, staged_bytes_max: usize::MAX }
    }

    /// Takes in a range, as [`LogSet::receive`] does.
    ///
    /// # Errors
    ///
    /// Why it was refused. A range that brings nothing that is needed is not an error everywhere: see
    /// [`is_stale`](ReplayError::is_stale).
    pub fn range(&mut self, log: &LogId, range: &[u8]) -> Result<Received, ReplayError> {
        let allowance = self.allowance();
        let mut budget = VerifyBudget::unlimited();
        let parsed = || Range::parse(range).map_err(|error| SetError::Receive(error.into()));
        if !self.set.slots.contains_key(log) {
            let mut held = self.opened(log)?;
            let received = held.receive_forked(&parsed()?, &allowance, &mut budget, u64::MAX);
            let received = received.map_err(SetError::from)?;
            self.hold(held);
            return Ok(received);
        }
        self.set.check_open(log)?;
        if self.parted.contains(log) {
            self.contested.push((*log, range.into()));
            return Ok(Received::Conflict);
        }
        let received = self.set.receive_with(log, &parsed()?, self.now, Some(allowance), &mut budget)?;
        if received == Received::Conflict && self.set.is_local(log) {
            // It showed that there is another history, and was not taken in.
            self.parted.insert(*log);
        }
        Ok(received)
    }

    /// The ranges that came after one that conflicts with own entries which were never signed, in their order: they were taken
    /// in once these entries were [given up](LogSet::discard_unsigned), which is in no record, for first their writer says
    /// again what is in them.
    #[must_use]
    pub fn take_contested(&mut self) -> Vec<(LogId, Box<[u8]>)> {
        core::mem::take(&mut self.contested)
    }

    /// Takes back entries that waited behind a gap, from [`Log::staged_ranges`](crate::Log::staged_ranges).
    ///
    /// # Errors
    ///
    /// Why they were refused.
    pub fn staged(&mut self, log: &LogId, range: &[u8]) -> Result<Received, ReplayError> {
        let allowance = self.allowance();
        let mut budget = VerifyBudget::unlimited();
        let range = Range::parse(range).map_err(|error| SetError::Receive(error.into()))?;
        if !self.set.slots.contains_key(log) {
            let mut held = self.opened(log)?;
            let received = held.stage_again(&range, &allowance, &mut budget).map_err(SetError::from)?;
            self.hold(held);
            return Ok(received);
        }
        let slot = self.set.slots.get_mut(log).ok_or(SetError::Unknown)?;
        let received = slot.log.stage_again(&range, &allowance, &mut budget).map_err(SetError::from)?;
        self.set.wait(log, self.now);
        self.set.note(log);
        Ok(received)
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
        if let Some(slot) = self.set.slots.get_mut(named.id()) {
            slot.log.see_again(head);
            return Ok(());
        }
        let mut log = self.opened(named.id())?;
        log.see_again(head);
        self.hold(log);
        Ok(())
    }

    /// Takes in evidence of a fork. `kept_until` is when the entries go; if not given, the time begins now.
    ///
    /// # Errors
    ///
    /// Why it was refused.
    pub fn evidence(&mut self, bytes: &[u8], kept_until: Option<Timestamp>) -> Result<bool, ReplayError> {
        let found = UncheckedEvidence::parse(bytes, &self.set.mesh).map_err(SetError::from)?;
        let named = found.opening();
        let known = self.set.forks(named.id()).into_iter().flat_map(Forks::pieces);
        if known.into_iter().any(|known| known.as_bytes() == found.as_bytes()) {
            return Ok(false);
        }
        let key = self.set.key_of(&named.opening().agent);
        let (evidence, key) = found.check(&mut VerifyBudget::unlimited(), key).map_err(SetError::from)?;
        Ok(self.set.judge_first(named, key, evidence, kept_until, self.now))
    }

    /// Takes in a writer's word that it has given up events.
    ///
    /// # Errors
    ///
    /// Why it was refused.
    pub fn pruned(&mut self, bytes: &[u8]) -> Result<bool, ReplayError> {
        let found = UncheckedPruned::parse(bytes, &self.set.mesh).map_err(SetError::from)?;
        let named = found.opening();
        let known = self.set.facts(named.id()).and_then(Facts::pruned);
        if known.is_some_and(|known| known.below() >= found.below()) || self.set.is_dead(named.opening()) {
            return Ok(false);
        }
        let key = self.set.key_of(&named.opening().agent);
        let (pruned, key) = found.check(&mut VerifyBudget::unlimited(), key).map_err(SetError::from)?;
        Ok(self.set.take_pruned_first(named, key, pruned, self.now))
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
