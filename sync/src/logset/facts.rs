//! Facts as a set takes them in: they are joined with what is known of their log, which they may cut or end.
//!
//! Not here: their spelling and how they join ([`facts`](crate::facts)), and which logs follow from them to count
//! (`succession`).
//!
//! The invariant: a fact gives its log a place, as it is signed, and changes nothing if it says nothing new.

use consilience_base::Timestamp;

use super::{Admission, LogSet, SetError, latest};
use crate::budget::VerifyBudget;
use crate::facts::{Facts, Forks, Pruned, UncheckedPruned};
use crate::identity::{AgentKey, LogId, LogOpening, NamedOpening};
use crate::log::{Evidence, Log, UncheckedEvidence};

impl LogSet {
    /// Takes in evidence of a fork that came from anywhere. Holds the log if it is not held and the host wants it. True
    /// if it says more than the known evidence.
    ///
    /// # Errors
    ///
    /// Why it was refused; see [`SetError`]. Nothing changed then.
    pub fn receive_evidence(
        &mut self,
        bytes: &[u8],
        now: Timestamp,
        budget: &mut VerifyBudget,
        admit: impl FnOnce(&LogOpening) -> Admission,
    ) -> Result<bool, SetError> {
        self.receive_unchecked(&UncheckedEvidence::parse(bytes, &self.mesh)?, now, budget, admit)
    }

    /// [`receive_evidence`](Self::receive_evidence) for evidence of which the opening was read.
    ///
    /// # Errors
    ///
    /// As [`receive_evidence`](Self::receive_evidence).
    pub fn receive_unchecked(
        &mut self,
        found: &UncheckedEvidence<'_>,
        now: Timestamp,
        budget: &mut VerifyBudget,
        admit: impl FnOnce(&LogOpening) -> Admission,
    ) -> Result<bool, SetError> {
        // Evidence that is known already costs nothing.
        let named = found.opening();
        let known = self.forks(named.id()).into_iter().flat_map(Forks::pieces);
        if known.into_iter().any(|known| known.as_bytes() == found.as_bytes()) {
            return Ok(false);
        }
        let (evidence, key) = found.check(budget, self.key_of(&named.opening().agent))?;
        self.admits(named, now, admit)?;
        Ok(self.judge_first(named, key, evidence, None, now))
    }

    /// Takes in evidence that was checked about a log that may not be held yet. `kept_until` is when its entries go, if that
    /// is known.
    pub(super) fn judge_first(
        &mut self,
        named: &NamedOpening,
        key: AgentKey,
        evidence: Evidence,
        kept_until: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        if !self.slots.contains_key(named.id()) {
            self.insert(Log::with_key(named.clone(), &self.mesh, key), false);
        }
        if let Some(slot) = self.slots.get_mut(named.id()) {
            slot.invalid_until = slot.invalid_until.or(kept_until);
        }
        self.judge(named.id(), evidence, now)
    }

    /// Joins evidence with the known evidence about a log.
    pub(super) fn judge(&mut self, log: &LogId, evidence: Evidence, now: Timestamp) -> bool {
        let Some(slot) = self.slots.get_mut(log) else { return false };
        if !slot.facts.join_fork(evidence) {
            return false;
        }
        slot.self_forked = slot.local;
        // The waiting entries may belong to either history.
        slot.log.drop_staged();
        slot.log.set_valid_below(slot.valid_below().unwrap_or(u64::MAX));
        slot.log.raise_floor(slot.floor());
        slot.drop_tail();
        slot.refit();
        // Better evidence does not begin the time anew, but the entries that it takes out have to go as well.
        let until = now.saturating_add_millis(self.limits.invalid_keep_ms);
        let until = *slot.invalid_until.get_or_insert(until);
        self.invalid.insert((until, *log));
        self.count(log, latest(&self.limits, now));
        self.note(log);
        true
    }

    /// Takes in the word of a writer, from anywhere, that it has given up events. Opens the log that it names if that is not
    /// held and the host wants it. True if it says more than was known.
    ///
    /// # Errors
    ///
    /// Why it was refused; see [`SetError`]. Nothing changed then.
    pub fn receive_pruned(
        &mut self,
        found: &UncheckedPruned<'_>,
        now: Timestamp,
        budget: &mut VerifyBudget,
        admit: impl FnOnce(&LogOpening) -> Admission,
    ) -> Result<bool, SetError> {
        let named = found.opening();
        let known = self.facts(named.id()).and_then(Facts::pruned);
        if known.is_some_and(|known| known.below() >= found.below()) || self.is_dead(named.opening()) {
            return Ok(false);
        }
        let (pruned, key) = found.check(budget, self.key_of(&named.opening().agent))?;
        self.admits_with(named, now, self.has_earlier(named.opening()), admit)?;
        Ok(self.take_pruned_first(named, key, pruned, now))
    }

    /// Takes in the word on given up events, which was checked, of a log that may not be held yet.
    pub(super) fn take_pruned_first(
        &mut self,
        named: &NamedOpening,
        key: AgentKey,
        pruned: Pruned,
        now: Timestamp,
    ) -> bool {
        if !self.slots.contains_key(named.id()) {
            self.insert(Log::with_key(named.clone(), &self.mesh, key), false);
        }
        self.take_pruned(named.id(), pruned, now)
    }

    /// Joins the word on given up events with what is known.
    pub(super) fn take_pruned(&mut self, log: &LogId, pruned: Pruned, now: Timestamp) -> bool {
        let Some(slot) = self.slots.get_mut(log) else { return false };
        if !slot.facts.join_pruned(pruned) {
            return false;
        }
        slot.log.raise_floor(slot.floor());
        self.decide_earlier(log);
        self.wait(log, now);
        self.note(log);
        true
    }
}
