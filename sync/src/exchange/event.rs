//! The notices, rounds and faults that an exchange reports to its session.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::codec::DecodeError;
use crate::facts::PrunedError;
use crate::identity::{LogId, OpeningError};
use crate::log::{EvidenceError, ReceiveError};

/// Something that the host has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Both sides hold the same in the session's scope.
    InSync,
    /// Several rounds did not make the two sides equal.
    OutOfSync,
    /// The common scope has not all the topics that the host asked for.
    Narrowed,
    /// The peer has logs that the limits leave no room for.
    TooManyLogs,
    /// The peer has logs whose incarnation is of a time ahead of the clock.
    Ahead,
    /// The peer has logs that a later version of this library made.
    LaterVersion,
    /// The peer's limits leave no room for a log.
    NoRoomAtPeer(LogId),
}

/// Rounds of comparison have ended since this was polled last; see [`Sessions::poll_rounds`](crate::session::Sessions::poll_rounds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoundsEnded {
    /// One of them brought nothing more: all that its peer knows of forks is known here.
    pub exhausted: bool,
    any: bool,
}

impl RoundsEnded {
    /// Notes that a round has ended.
    pub(crate) const fn note(&mut self, gained: bool) {
        self.any = true;
        self.exhausted |= !gained;
    }

    /// The notes since the last call.
    pub(crate) fn take(&mut self) -> Option<Self> {
        Some(core::mem::take(self)).filter(|rounds| rounds.any)
    }
}

/// An act of a peer that no honest program does. Nothing of it was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A message that is none.
    #[error("the peer sent a malformed message: {0}")]
    Message(#[from] DecodeError),
    /// A log's opening that is none, of another mesh, or of an agent whose key is not admitted.
    #[error("the peer opened a log that cannot be: {0}")]
    Opening(#[from] OpeningError),
    /// A range that does not prove.
    #[error("the peer sent entries of {log:?} that do not prove: {error}")]
    Range {
        /// Of which log.
        log: LogId,
        /// The fault in it.
        error: ReceiveError,
    },
    /// Evidence that shows nothing.
    #[error("the peer sent evidence that shows no fork: {0}")]
    Evidence(EvidenceError),
    /// A statement about given up events that its writer has not signed.
    #[error("the peer sent a statement about given up events that is none: {0}")]
    Pruned(PrunedError),
    /// A message of a reconciliation that cannot come now.
    #[error("the peer sent a message of a reconciliation that cannot be: {0}")]
    Reconcile(crate::reconcile::MessageError),
}
