//! [`Window`]: which of the logs that differ a round is about.
//!
//! The invariant: a window holds the logs that follow its beginning first, so rounds that begin where the last one ended come
//! to all of them, whoever has filled the first places.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::BTreeSet;

use super::super::message::OFFERS_MAX;
use crate::identity::LogId;

/// Some of the logs that differ, as many as one round has room for: the first of those after a log, around the end of all
/// ids and on from their beginning.
#[derive(Debug)]
pub(super) struct Window {
    after: LogId,
    logs: BTreeSet<LogId>,
    full: bool,
}

impl Window {
    pub(super) const fn new(after: LogId) -> Self {
        Self { after, logs: BTreeSet::new(), full: false }
    }

    fn last(&self) -> Option<LogId> {
        self.logs.range(..=self.after).next_back().or_else(|| self.logs.last()).copied()
    }

    /// The last log of this window, if there are more after it that had no turn yet: where the next window begins.
    pub(super) fn next_after(&self) -> Option<LogId> {
        // Around the end: everything had its turn.
        self.last().filter(|last| self.full && *last > self.after)
    }

    /// The logs, in the order of their ids.
    pub(super) fn into_logs(self) -> impl Iterator<Item = LogId> {
        self.logs.into_iter()
    }

    /// About how many bytes it takes in memory.
    pub(super) fn memory(&self) -> usize {
        self.logs.len().saturating_mul(48)
    }
}

impl Extend<LogId> for Window {
    fn extend<T: IntoIterator<Item = LogId>>(&mut self, logs: T) {
        for log in logs {
            self.logs.insert(log);
            if self.logs.len() > OFFERS_MAX {
                self.full = true;
                let last = self.last();
                last.map(|last| self.logs.remove(&last));
            }
        }
    }
}
