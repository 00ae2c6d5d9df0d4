//! The answers of a set to its caller: the reason of a refusal, the ranges there are to send, and its numbers.

use alloc::vec::Vec;

use crate::facts::PrunedError;
use crate::identity::{KeyError, SignError};
use crate::log::{AppendError, EvidenceError, Gone, KeepError, ReceiveError};

/// Why a log is not held. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The writer's key is not admitted.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The host does not want it.
    #[error("the host does not hold this log")]
    Ignored,
    /// Its incarnation is of a time further ahead of the clock than entries may be without waiting: the clock of its writer
    /// was wrong, or this one is. It is held when that time has come.
    #[error("the log's incarnation is of a time that is ahead of the clock")]
    Ahead,
    /// There are as many logs, of this agent or in all, as the limits allow.
    #[error("no more logs are held, of this agent or in all")]
    Quota,
}

/// Why something about a log was refused. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// No such log is held.
    #[error("no such log is held")]
    Unknown,
    /// The log is forked, and entries from `valid_below` on do not count. There is [evidence](super::LogSet::evidence).
    #[error("the log is forked: entries from {valid_below} on do not count")]
    Forked {
        /// 0 for a state log.
        valid_below: u64,
    },
    /// The range was refused.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The evidence was refused.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The statement about given up events was refused.
    #[error(transparent)]
    Pruned(#[from] PrunedError),
    /// The log of the fact is not held.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The entry was refused.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The head was not signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The entry has to be kept, or is not there.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// The answer to a peer that wants entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A range that ends at `end`; less than was wanted if the bytes did not suffice.
    Range {
        /// The range that [`LogSet::receive`](super::LogSet::receive) takes.
        bytes: Vec<u8>,
        /// The number after its last entry.
        end: u64,
    },
    /// The wanted entries are no longer here.
    Gone(Gone),
    /// Nothing that was wanted is here.
    Nothing,
}

/// An [`Answer`] whose range is where the caller wanted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// A range was written, and ends here.
    Range { end: u64 },
    /// The wanted entries are no longer here.
    Gone(Gone),
    /// Nothing that was wanted is here.
    Nothing,
}

/// The contents of a set, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetStats {
    /// Logs.
    pub logs: usize,
    /// Bytes of their entries, hashes and tables.
    pub bytes: usize,
    /// Payload bytes of entries that wait after gaps, and 16 for each; but for fast-forwards that their writer has
    /// declared by the base of a signed head, which are as large as the retained log.
    pub staged_bytes: usize,
    /// Payload bytes of deferred entries, and 16 for each.
    pub late_bytes: usize,
}
