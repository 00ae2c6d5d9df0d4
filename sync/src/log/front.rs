//! [`LogFront`]: where a copy of a log begins, so that storage can bring the copy back.
//!
//! A peer is never believed about where a copy begins: its entries have to reach the base first. Storage is believed,
//! for its entries were held before; the entries after them still have to prove against it.
//!
//! The invariant: a front only takes the place of nothing.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::boxed::Box;
use alloc::vec::Vec;

use consilience_base::Hlc;

use super::entry::{Before, Entry};
use super::ready::Ready;
use super::run::Run;
use super::{KeepError, Log, Proof, SignedHead, shape};
use crate::hash::Hash;

/// Where a copy of a log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFront {
    /// The first entry that is there.
    pub start: u64,
    /// Base, stamp and epoch of the entry before, where they came along.
    pub before: Option<(u64, Hlc, u32)>,
    /// The peaks of the tree over the entries before, from left to right.
    pub peaks: Vec<Hash>,
}

impl Log {
    /// Where this copy begins.
    #[must_use]
    pub fn front(&self) -> LogFront {
        let (before, peaks) = self.run.front();
        let before = before.map(|before| (before.base, before.hlc, before.epoch));
        LogFront { start: self.run.start(), before, peaks: peaks.clone() }
    }

    /// Begins an empty copy where an earlier one began.
    pub(crate) fn set_front(&mut self, front: &LogFront) -> Result<(), KeepError> {
        let empty = self.run.is_empty() && self.run.start() == 0 && self.proof.is_none();
        let fits = front.start <= shape::LOG_SIZE_MAX && front.peaks.len() == shape::peaks_len(front.start);
        let base = front.before.is_none_or(|(base, ..)| base < front.start.max(1));
        if !empty || !fits || !base {
            return Err(KeepError::Unknown);
        }
        let before = front.before.map(|(base, hlc, epoch)| Before { base, hlc, epoch });
        self.run = Run::starting_at(self.within(), front.start, front.peaks.clone(), before);
        self.ready = Ready::from(front.start);
        Ok(())
    }

    /// Puts an entry back that was appended here. It may have been erased meanwhile.
    pub(crate) fn append_again(&mut self, entry: &Entry<'_>) -> Result<(), KeepError> {
        if entry.seq != self.run.end() || entry.base < self.run.last().base {
            return Err(KeepError::Unknown);
        }
        self.run.push(&self.keys, entry);
        if self.ready.to == entry.seq {
            self.ready.to = self.run.end();
        } else {
            self.late_bytes = self.late_bytes.saturating_add(entry.cost());
        }
        Ok(())
    }

    /// Makes entries ready that were so before, whatever the clock says now.
    pub(crate) fn ready_again(&mut self, ready: u64) {
        let ready = ready.min(self.run.end());
        if ready > self.ready.to {
            self.ready.raise(ready);
            self.count_late();
        }
    }

    /// Whether this entry is the one that is held under its number, but for an erased payload.
    pub(crate) fn holds(&self, entry: &Entry<'_>) -> bool {
        self.leaf(entry.seq) == Some(entry.leaf(&self.keys))
    }

    /// Remembers a signed head that lies beyond the held run, or before all of it.
    pub(crate) fn see_again(&mut self, head: SignedHead) {
        if head.size < self.run.start() {
            // The entries that it covers were dropped, as a successor of the writer allowed, and the rest is not
            // signed.
            self.proof.get_or_insert(Proof { head, beyond: Vec::new() });
        } else if head.size > self.run.end() && self.furthest_head().is_none_or(|seen| seen.size < head.size)
        {
            self.furthest = Some(Box::new(head));
        }
    }
}
