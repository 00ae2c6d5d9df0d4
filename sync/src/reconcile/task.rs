//! [`Task`]: the work that waits on one range.
//!
//! Ranges are answered in `ranging`. The invariant: a task states the memory that it takes, so that the keeper of tasks
//! can bound them.

use alloc::vec::Vec;

use super::range::KeyRange;

/// A range that waits to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// The peer's fingerprint, to be compared.
    Compare { range: KeyRange, count: u64, fingerprint: u64 },
    /// Known to differ. `theirs` is how many items the peer has there, `guess` how many differ, where known.
    Split { range: KeyRange, theirs: u64, guess: Option<u64> },
    /// To be listed.
    List { range: KeyRange },
    /// The peer's list, sorted: the first `asked` were looked up here, and our items were matched up to `rest`.
    Match { range: KeyRange, rest: KeyRange, shorts: Vec<u64>, asked: usize, differs: bool },
    /// To be listed in full: its short ids are equal and its fingerprints are not.
    Full { range: KeyRange },
    /// The peer's full list, sorted.
    MatchFull { range: KeyRange, rest: KeyRange, ids: Vec<[u8; 32]>, asked: usize },
}

impl Task {
    pub(super) const fn range(&self) -> &KeyRange {
        match self {
            Self::Compare { range, .. }
            | Self::Split { range, .. }
            | Self::List { range }
            | Self::Match { range, .. }
            | Self::Full { range }
            | Self::MatchFull { range, .. } => range,
        }
    }

    /// The bytes it takes in memory, about.
    pub(super) fn memory(&self) -> usize {
        let bounds = |range: &KeyRange| range.lower.len() + range.upper.as_ref().map_or(0, Vec::len);
        let lists = match self {
            Self::Match { rest, shorts, .. } => bounds(rest) + shorts.len() * 8,
            Self::MatchFull { rest, ids, .. } => bounds(rest) + ids.len() * 32,
            _ => 0,
        };
        size_of::<Self>() + bounds(self.range()) + lists
    }
}
