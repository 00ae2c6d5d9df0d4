//! The host's choices before a reconciliation, and the results of each step and at the end.

use alloc::vec::Vec;

use super::limits::Limits;
use super::range::KeyRange;
use super::short::ShortId;

/// How differences are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// By the sketch, and by ranges where the sketch does not reach. The default.
    #[default]
    Auto,
    /// By ranges alone: for a part of the order, and after rounds that ended without the roots being equal, since
    /// ranges are salted anew and short ids that collide do not mislead them for good.
    Ranges,
}

/// The subject of a reconciliation, on this side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// 32 bytes that both sides know and neither chose alone: a hash of a nonce of each, drawn for this session (and
    /// hashed with a counter for each further round). Fingerprints and their bound depend on it.
    pub salt: [u8; 32],
    /// On the side that opens: the range to reconcile. On the other: the range that the peer may ask about.
    pub scope: KeyRange,
    /// How to look for differences.
    pub mode: Mode,
    /// The opening side: the two sets were equal when last compared, so open with the root alone.
    pub equal_last_time: bool,
    /// Whether the side that finds a difference also names the ids it is about to push, 8 bytes each. Without it that
    /// side still learns everything, but the other learns of the items that it lacks only by receiving them.
    pub announce: bool,
    /// The limits of its cost.
    pub limits: Limits,
}

/// The outcome of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Step {
    /// To be sent to the peer, if anything.
    pub message: Option<Vec<u8>>,
    /// Ids of this set that the peer lacks: the host sends the items.
    pub push: Vec<[u8; 32]>,
    /// Short ids of items that this set lacks. The peer learns that it has to push them, if it does not know.
    pub want: Vec<ShortId>,
    /// The next step.
    pub status: Status,
}

/// The next step of a reconciliation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// The peer's next message is to be handled.
    #[default]
    Waiting,
    /// The granted work is used up, or the step already holds 65,536 ids: take the ids that it holds,
    /// [`grant`](super::Reconciliation::grant) more and [`resume`](super::Reconciliation::resume), or drop the
    /// reconciliation.
    NeedsBudget,
    /// It has ended. A message of this step still has to be sent.
    Done(Report),
}

/// How a reconciliation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The roots (or, of a part, the salted fingerprints) are equal.
    Equal,
    /// Differences were found and handed out. When the items have travelled, compare the roots again: they decide.
    #[default]
    Differences,
    /// This side ended it.
    Stopped(StopReason),
    /// The peer ended it.
    PeerStopped(StopReason),
}

/// Why a reconciliation was ended early. The results before stay true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// A limit of bytes, messages or waiting ranges was reached.
    Limit,
    /// The scope that was asked for is not one that the peer may see.
    Scope,
    /// The peer kept the conversation going without saying anything.
    Stalled,
    /// A reason that this version does not know.
    Other(u8),
}

impl StopReason {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Limit => 1,
            Self::Scope => 2,
            Self::Stalled => 3,
            Self::Other(code) => code,
        }
    }

    pub(super) const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Limit,
            2 => Self::Scope,
            3 => Self::Stalled,
            other => Self::Other(other),
        }
    }
}

/// The results and costs of a reconciliation, as this side saw them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Ids handed out to push.
    pub pushed: u64,
    /// Short ids handed out as wanted.
    pub wanted: u64,
    /// Short ids the peer asked for that this set does not have: the set changed, or the peer was misled or lied.
    pub unresolved: u64,
    /// Message bytes sent.
    pub bytes_sent: u64,
    /// Message bytes received.
    pub bytes_received: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Items and cells visited.
    pub work: u64,
    /// Whether ranges were used.
    pub ranges: bool,
    /// Whether this set changed meanwhile, so that another round may be needed.
    pub changed: bool,
    /// The peer's root when it opened, if this side received it.
    pub peer_root: Option<[u8; 32]>,
}
