//! Which entries are ready: those with which a fold may work.
//!
//! A stamp from the future makes an entry wait. It does not hold back those after it for good: once a later entry has
//! given it up by its base, or evidence of a fork by a floor, nobody needs it, and a copy that was fast-forwarded does not
//! have it. So what is ready follows from the entries and the clock alone, and not from where a copy begins: up to the last
//! entry such that no entry from its base (or the floor) on is from the future.
//!
//! The invariant: of the entries from [`Log::ready_base`] or the floor up to [`Log::ready`] none was from the future when it
//! was looked at.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::boxed::Box;

use consilience_base::Hlc;
use consilience_base::planted::{Fault, planted};

use super::Log;
use super::run::Run;

/// Up to where entries are ready, and how far those after that were looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Ready {
    /// Entries below are ready, or were given up before they were.
    pub(super) to: u64,
    /// The number after the last entry that waited when others after it became ready; 0 if none did.
    passed: u64,
    /// In a box: mostly nothing waits.
    ahead: Option<Box<Ahead>>,
}

/// The entries after the first that waits, as far as they were looked at: none of them gives it up.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    looked: u64,
    /// The last of them that waits.
    waits: u64,
    /// The earliest stamp for which one of them waits. Before that they need not be looked at again.
    due: Hlc,
}

impl Ready {
    /// From an entry on.
    pub(super) const fn from(to: u64) -> Self {
        Self { to, passed: 0, ahead: None }
    }

    /// Goes on to the entries of a run that are ready now, as far as the entries below `below` count, and keeps the cost of
    /// those that are not. Gives the stamp at which there may be more.
    pub(super) fn go(
        &mut self,
        run: &Run,
        (floor, below): (u64, u64),
        latest: Hlc,
        late: &mut usize,
    ) -> Option<Hlc> {
        loop {
            let mut waits = false;
            for entry in run.entries(self.to, run.end()) {
                if entry.hlc > latest {
                    waits = true;
                    break;
                }
                self.to = entry.seq.saturating_add(1);
                *late = late.saturating_sub(entry.cost());
                self.ahead = None;
            }
            if !waits {
                return None;
            }
            if !self.pass(run, (floor, below), latest) {
                return self.due(run);
            }
            *late = self.late(run);
        }
    }

    /// The stamp at which there may be more that is ready.
    pub(super) fn due(&self, run: &Run) -> Option<Hlc> {
        let first = run.entry(self.to)?.hlc;
        Some(self.ahead.as_ref().map_or(first, |ahead| ahead.due.min(first)))
    }

    /// The cost of the entries that are not ready.
    pub(super) fn late(&self, run: &Run) -> usize {
        run.entries(self.to, run.end()).map(|entry| entry.cost()).sum()
    }

    /// Entries below are not needed any more: others may not be held back.
    pub(super) fn raise(&mut self, to: u64) {
        self.to = self.to.max(to);
        self.ahead = None;
    }

    /// Goes on after an entry that waits, if a later one has given it up.
    fn pass(&mut self, run: &Run, (floor, below): (u64, u64), latest: Hlc) -> bool {
        if run.last().base.max(floor) <= self.to || planted(Fault::DeferredIsNotGivenUp) {
            // Nothing has given up the first that waits.
            return false;
        }
        let begin = Ahead { looked: self.to, waits: self.to, due: Hlc::MAX };
        let mut ahead = self.ahead.as_deref().copied().filter(|ahead| latest < ahead.due).unwrap_or(begin);
        let mut found = None;
        for entry in run.entries(ahead.looked, run.end().min(below)) {
            ahead.looked = entry.seq.saturating_add(1);
            if entry.hlc > latest {
                (ahead.waits, ahead.due) = (entry.seq, ahead.due.min(entry.hlc));
            } else if entry.base.max(floor) > ahead.waits {
                found = Some((ahead.looked, ahead.waits));
            }
        }
        let Some((to, waits)) = found else {
            self.ahead = Some(Box::new(ahead));
            return false;
        };
        (self.to, self.passed, self.ahead) = (to, waits.saturating_add(1), None);
        true
    }

    /// What was found of the entries after the first that waits may not hold any more.
    pub(super) fn look_again(&mut self) {
        self.ahead = None;
    }

    /// Entries from `size` on are gone or do not count any more, of a run in which entries from `needed` on count below that.
    /// Those that were given up by what is gone may wait again.
    pub(super) fn cut(&mut self, size: u64, needed: u64, start: u64) {
        self.ahead = None;
        if size < self.to && self.passed > needed && !planted(Fault::PassedStaysReady) {
            *self = Self::from(start);
        }
    }
}

impl Log {
    /// Takes in that time has passed: entries with stamps up to `limit` are ready, and those that were given up before they
    /// were hold back nothing. Gives the stamp at which more may be ready, if anything waits.
    pub fn make_ready(&mut self, limit: Hlc) -> Option<Hlc> {
        self.ready.go(&self.run, (self.floor, self.valid_below), limit, &mut self.late_bytes)
    }

    /// [`make_ready`](Self::make_ready), with the stamp that anything of this log waits for, staged entries included.
    pub(crate) fn wait(&mut self, limit: Hlc) -> Option<Hlc> {
        let staged = self.staged.iter().filter_map(|staged| staged.ready.due(&staged.run)).min();
        self.make_ready(limit).into_iter().chain(staged).min()
    }

    /// Notes that entries below are not needed, by evidence of a fork.
    pub(crate) fn raise_floor(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.ready.look_again();
        }
    }

    /// Notes that entries from here on do not count, as there is evidence of a fork.
    pub(crate) fn set_valid_below(&mut self, valid_below: u64) {
        self.valid_below = valid_below;
        self.cut_ready(valid_below);
    }

    /// Notes that entries from `size` on are gone, or do not count any more.
    pub(super) fn cut_ready(&mut self, size: u64) {
        let needed = self.base_at(size.min(self.run.end())).max(self.floor);
        self.ready.cut(size, needed, self.run.start());
        self.count_late();
    }

    /// The [cost](super::Entry::cost) of the entries that are not ready.
    pub(crate) const fn late_bytes(&self) -> usize {
        self.late_bytes
    }

    pub(super) fn count_late(&mut self) {
        self.late_bytes = self.ready.late(&self.run);
    }
}
