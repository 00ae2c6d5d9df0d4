//! Session events, and the reasons for which something is refused. Each says whose fault it is.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use core::fmt;

use crate::channel::{FrameError, HandshakeError, Peer, Refusal};
use crate::exchange::{Fault, Notice};
use crate::identity::LogId;

/// A session of one replica or relay. Never used again within one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) u64);

impl SessionId {
    /// Its number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// Something that happened in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// The handshake is done.
    Connected(Peer),
    /// The session is about fewer topics than this host asked for: the peer wants, or lets this side see, only some of them,
    /// or this host's own gate lets the peer see only some. [`Sessions::scope`](super::Sessions::scope) says which; of the
    /// others nothing is sent, taken in or told. Told again when they change.
    Narrowed,
    /// Both sides hold, of the session's scope, everything that either held when the last comparison began: the same, if
    /// nothing was written since. Told again after the scope has changed, and after [`OutOfSync`](Self::OutOfSync); entries
    /// written meanwhile are sent without a word.
    InSync,
    /// Several comparisons did not bring the two sides to that, or one has no room for a log of the other: the peer does not
    /// hold, or does not send, the entries that it offers, or this side does not hold them. Told once until they are in sync
    /// again.
    OutOfSync,
    /// The peer has logs that the limits leave no room for, of one agent or in all. They are left out, and the peer is told.
    /// Told once, with [`OutOfSync`](Self::OutOfSync) if that was not told.
    TooManyLogs,
    /// The peer has logs that were begun at a time further ahead of the clock than entries may be without waiting
    /// ([`Limits::max_drift_ms`](crate::Limits::max_drift_ms)): the clock of their writer was wrong, or this one is. They are left
    /// out; once that time has come, the next round that something new brings about, or another session, takes them in. Told
    /// once.
    AheadOfClock,
    /// The peer has logs that a later version of this library made, of a suite or a form that is not known here. They are
    /// left out. Told once.
    LaterVersion,
    /// The peer says that its limits leave no room for a log, which may be one of this host's own: none of its entries is
    /// there, nor will be. Told once for each log, of up to 8 logs of others in a session and 64 in all, with
    /// [`OutOfSync`](Self::OutOfSync) if that was not told.
    NoRoomAtPeer(LogId),
    /// The peer sent something that no honest program sends. It was not taken in.
    Fault(Fault),
    /// It is over; the id is not known any more.
    Ended(EndReason),
}

impl From<Notice> for SessionEvent {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::InSync => Self::InSync,
            Notice::OutOfSync => Self::OutOfSync,
            Notice::Narrowed => Self::Narrowed,
            Notice::TooManyLogs => Self::TooManyLogs,
            Notice::Ahead => Self::AheadOfClock,
            Notice::LaterVersion => Self::LaterVersion,
            Notice::NoRoomAtPeer(log) => Self::NoRoomAtPeer(log),
        }
    }
}

impl fmt::Display for SessionEvent {
    /// For a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected(peer) => write!(f, "connected to {}", peer.agent),
            Self::Narrowed => f.write_str("the session is about fewer topics than were asked for"),
            Self::InSync => f.write_str("in sync"),
            Self::OutOfSync => f.write_str("out of sync: several exchanges did not make the two sides equal"),
            Self::TooManyLogs => f.write_str("the peer has logs that the limits leave no room for"),
            Self::AheadOfClock => {
                f.write_str("the peer has logs that were begun at a time ahead of the clock")
            }
            Self::LaterVersion => f.write_str("the peer has logs that a later version of this library made"),
            Self::NoRoomAtPeer(log) => write!(f, "the peer's limits leave no room for the log {log:?}"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Ended(reason) => reason.fmt(f),
        }
    }
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// This host ended it.
    #[error("this side ended the session")]
    Disconnected,
    /// The other host ended it.
    #[error("the peer ended the session")]
    PeerDisconnected,
    /// Nothing valid came for too long: the network or the peer is gone. Connect again.
    #[error(
        "nothing came from the peer for too long: check the address and that one side dials while the other listens, or \
         connect again when the network is back"
    )]
    TimedOut,
    /// The handshake failed on this side.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The other side refused the handshake.
    #[error("the peer refused: {0}")]
    Refused(Refusal),
    /// The host's gate did not let the peer in.
    #[error("this host does not let the peer in")]
    NotAdmitted,
    /// This host's scope and its gate have more than 128 filters in common, which no peer takes.
    #[error("the scope and the gate of this host have more than 128 filters in common")]
    TooManyFilters,
    /// The peer sent more than a few things that no honest program sends.
    #[error("the peer keeps sending messages that no honest program sends")]
    Misbehaved,
}

/// Why input was not taken in. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// There is no such session: it has ended. The host should drop the connection.
    #[error("there is no such session: it has ended, and its connection can be closed")]
    Unknown,
    /// The bytes are no frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that is not authentic: of another session, changed on the way, or made up. Harmless, if the transport is
    /// one that everybody can write to; on a stream it says that somebody changes bytes.
    #[error("the frame is not of this session, or was changed on the way")]
    NotAuthentic,
}
