//! Staging: verified entries wait here that do not connect to the held run.
//!
//! A staged run is kept until the gap before it is filled, or until it holds the entry that raises the base to its
//! start or above. Then nothing before the staged run is needed any more, and it replaces the held run (a
//! *fast-forward*). So a cut transfer leaves the old copy, never half of a new one.
//!
//! An entry whose base is below that of the entry before can only begin a staged run, never extend anything: the
//! entries that such a run replaces are no longer needed by then, so all copies end alike whether they saw the fall or
//! not.
//!
//! The invariant: staged runs are ascending and disjoint, begin after the held run, and do not differ from the runs
//! that they touch and could join.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::boxed::Box;
use alloc::vec::Vec;

use consilience_base::Hlc;
use consilience_base::planted::{Fault, planted};

use super::evidence::{Evidence, Side};
use super::keys::LogKeys;
use super::ready::Ready;
use super::receive::{Allowance, Received};
use super::run::Run;
use super::{Log, Proof, RangeForm, Staged, range};

impl Staged {
    pub(super) fn new(run: Run, proof: Proof, cost: usize) -> Self {
        Self { ready: Ready::from(run.start()), cost, late: cost, run, proof }
    }

    /// Notes that entries were added that [cost](super::Entry::cost) so much.
    pub(super) const fn count(&mut self, cost: usize) {
        self.cost = self.cost.saturating_add(cost);
        self.late = self.late.saturating_add(cost);
    }

    fn drop_below(&mut self, keys: &LogKeys, seq: u64) {
        self.run.drop_below(keys, seq);
        self.ready.raise(seq);
        self.cost = self.run.entries(seq, self.run.end()).map(|entry| entry.cost()).sum();
        self.late = self.ready.late(&self.run);
    }

    /// Whether its writer has signed that nothing before it is needed. Then it is as large as what the log retains, and
    /// no limit of staged bytes applies.
    pub(super) const fn is_declared(&self) -> bool {
        self.proof.head.base >= self.run.start()
    }

    /// Whether it gives way to a fast-forward to `from` that its writer has declared: it lies before that, or waits for
    /// entries that may be gone by then.
    pub(super) const fn yields_to(&self, from: u64) -> bool {
        self.run.end() <= from || !self.is_declared()
    }

    /// Whether nothing before it is needed: its ready part has its base at its start or above, or the evidence of a fork
    /// has said so (`floor`). That its head declares such a base does not suffice: the entry that raises it may lie where a
    /// fork has cut the log.
    fn fast_forwards(&mut self, latest: Hlc, (floor, below): (u64, u64)) -> bool {
        self.ready.go(&self.run, (floor, below), latest, &mut self.late);
        let (start, end) = (self.run.start(), self.ready.to.min(below));
        // Bases do not fall within a run.
        let raised = end > start && self.run.before(end).is_some_and(|before| before.base >= start);
        raised || floor >= start || planted(Fault::FastForwardBeforeBase)
    }
}

impl Log {
    /// The [cost](super::Entry::cost) of the entries that wait after gaps, but for fast-forwards that their writer has
    /// declared.
    pub(crate) fn staged_bytes(&self) -> usize {
        let waiting = self.staged.iter().filter(|staged| !staged.is_declared());
        waiting.map(|staged| staged.cost).sum()
    }

    /// Gives out the entries that wait after gaps, as ranges of about `bytes_max` bytes that
    /// [`LogSet::replay`](crate::LogSet::replay) takes in this order: entries that were stored before may be gone, and
    /// entries that follow come without them.
    pub fn staged_ranges(&self, bytes_max: usize, sink: &mut impl FnMut(&[u8])) {
        for Staged { run, proof, .. } in &self.staged {
            let (mut from, mut form) = (run.start(), RangeForm::Alone);
            let head = (&proof.head, &*proof.beyond);
            let mut bytes = Vec::new();
            while let Some(end) =
                range::write(run, &self.keys, head, (from, run.end()), form, bytes_max, &mut bytes)
            {
                sink(&bytes);
                bytes.clear();
                if end >= run.end() {
                    break;
                }
                (from, form) = (end, RangeForm::Follow);
            }
        }
    }

    pub(crate) fn drop_staged(&mut self) {
        self.staged.clear();
    }

    /// Takes in the staged runs after this one that it reaches. They were compared when it came.
    pub(super) fn join_staged(&mut self, index: usize) {
        let next = index.saturating_add(1);
        while let (Some(one), Some(other)) = (self.staged.get(index), self.staged.get(next)) {
            let touches = other.run.start() == one.run.end()
                && other.run.entry(one.run.end()).is_some_and(|entry| entry.base >= one.run.last().base);
            if other.run.start() >= one.run.end() && !touches {
                break;
            }
            let Staged { run, proof, .. } = self.staged.remove(next);
            let Some(one) = self.staged.get_mut(index) else { break };
            let end = one.run.end();
            for entry in run.entries(end, run.end()) {
                one.run.push(&self.keys, &entry);
                one.count(entry.cost());
            }
            if one.run.end() > end {
                one.proof = proof;
            }
        }
    }

    /// Moves staged runs to the held run where they now follow on it or replace it. Returns the outcome.
    pub(crate) fn absorb_staged(&mut self, allowance: &Allowance) -> Option<Received> {
        let mut absorbed = None;
        let mut index = 0_usize;
        while let Some(staged) = self.staged.get_mut(index) {
            let (start, end) = (self.run.start(), self.run.end());
            let (from, to) = (staged.run.start(), staged.run.end());
            if to <= start || from >= self.valid_below {
                // A fast-forward has passed it, or nothing of it counts.
                self.staged.remove(index);
                continue;
            }
            let fast_forwards = staged.fast_forwards(allowance.latest, (self.floor, self.valid_below));
            if from <= end {
                // It overlaps: the trees must agree where the shorter one ends.
                let size = end.min(to);
                let theirs = staged.run.proofs(&self.keys, &[]).root(size);
                let ours = self.run.proofs(&self.keys, &[]).root(size);
                if theirs != ours && !planted(Fault::StagedAreNotCompared) {
                    let staged = self.staged.remove(index);
                    let evidence = self.staged_evidence(size, &staged);
                    return Some(
                        evidence.map_or(Received::Conflict, |found| Received::Forked(Box::new(found))),
                    );
                }
                if to <= end {
                    self.staged.remove(index);
                    continue;
                }
            }
            let falls =
                from == end && staged.run.entry(end).is_some_and(|entry| entry.base < self.run.last().base);
            let replaces = from > end || falls;
            let late = if replaces {
                staged.late
            } else if self.ready.to < end {
                self.late_bytes.saturating_add(staged.cost)
            } else {
                self.late_bytes.saturating_add(staged.late)
            };
            if (replaces && !fast_forwards) || late > allowance.late_bytes_max {
                if from < end {
                    // The entries that it shares with the held run need not wait twice.
                    staged.drop_below(&self.keys, end);
                }
                index = index.saturating_add(1);
                continue;
            }
            if replaces && self.has_unsigned() {
                // The entries that were appended here would be lost.
                absorbed = absorbed.or(Some(Received::Conflict));
                index = index.saturating_add(1);
                continue;
            }
            let Staged { run, proof, ready, late, .. } = self.staged.remove(index);
            if replaces {
                absorbed = Some(Received::FastForwarded { from, to });
                self.replace_run(run);
                self.ready = ready;
                self.late_bytes = late;
            } else {
                for entry in run.entries(end, to) {
                    self.run.push(&self.keys, &entry);
                    self.late_bytes = self.late_bytes.saturating_add(entry.cost());
                }
                absorbed = absorbed.or(Some(Received::Extended { from: end, to }));
            }
            self.replace_proof(proof);
            self.make_ready(allowance.latest);
            index = 0;
        }
        absorbed
    }

    /// Evidence of a known fork with the head of the held run, if that contradicts one of the two heads in `known`.
    pub(crate) fn evidence_with(&self, known: &Evidence) -> Option<Evidence> {
        let size = known.size();
        let proof = self.proof.as_ref().filter(|proof| proof.head.size >= size)?;
        known.with(&self.mesh, &self.keys, &Side::within(&self.run, &self.keys, proof, size)?)
    }

    fn staged_evidence(&self, size: u64, staged: &Staged) -> Option<Evidence> {
        let proof = self.proof.as_ref().filter(|proof| proof.head.size >= size)?;
        let ours = Side::within(&self.run, &self.keys, proof, size)?;
        let theirs = Side::within(&staged.run, &self.keys, &staged.proof, size)?;
        Evidence::of((&self.opening, &self.mesh), (self.id, &self.keys), size, ours, theirs)
    }
}
