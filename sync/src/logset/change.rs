//! The changes that a [`LogSet`](super::LogSet) reports to its caller.

use crate::identity::LogId;

/// Something that a fold over the logs has to take in. Changes of one log come in an order in which each makes sense;
/// those that were not polled yet are joined, so they take no more room than there are logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Entries `[from, to)` became applicable. They follow on the entries that were acknowledged before, or on those
    /// that were [dropped](Self::Dropped).
    Applicable {
        /// Of which log.
        log: LogId,
        /// The first of them.
        from: u64,
        /// The number after the last of them.
        to: u64,
    },
    /// The base rose: entries below no longer count. They can be read until the next change is polled.
    Dropped {
        /// Of which log.
        log: LogId,
        /// The new base.
        below: u64,
    },
    /// Another part of the log took the place of the acknowledged one: nothing of the old part counts any more. The
    /// applicable entries begin at `from`.
    Replaced {
        /// Of which log.
        log: LogId,
        /// Where it begins now.
        from: u64,
    },
    /// A later incarnation of the writer has taken a state log over: nothing of it counts any more. If that one takes its
    /// word back, or more of the log turns up, the log counts again, and its entries are [applicable](Self::Applicable) anew.
    Closed {
        /// Which log.
        log: LogId,
    },
    /// A state log is forked, or a later incarnation of its writer is, or has ended it for good: nothing of it counts, here
    /// or anywhere.
    Invalidated {
        /// Which log.
        log: LogId,
    },
    /// An event log is forked: its events from `valid_below` on do not count, here or anywhere. Of a local writer's
    /// log, unsigned entries that lie below go as well, and [`Replaced`](Self::Replaced) follows; see
    /// [`LogSet::acknowledged_entries`](super::LogSet::acknowledged_entries).
    Cut {
        /// Which log.
        log: LogId,
        /// The first event that may differ.
        valid_below: u64,
    },
    /// A local writer's log has another history elsewhere: a backup or a clone. It must go on in its next
    /// incarnation. Comes beside [`Invalidated`](Self::Invalidated) or [`Cut`](Self::Cut) if both were signed.
    SelfForked {
        /// Which log.
        log: LogId,
    },
    /// Entries from `from` on have stamps from the future and wait.
    Deferred {
        /// Of which log.
        log: LogId,
        /// The first that waits.
        from: u64,
    },
}

impl Change {
    /// Of which log.
    #[must_use]
    pub const fn log(&self) -> &LogId {
        match self {
            Self::Applicable { log, .. }
            | Self::Dropped { log, .. }
            | Self::Replaced { log, .. }
            | Self::Closed { log }
            | Self::Invalidated { log }
            | Self::Cut { log, .. }
            | Self::SelfForked { log }
            | Self::Deferred { log, .. } => log,
        }
    }
}
