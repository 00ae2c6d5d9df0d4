//! What sessions tell their host, and why something was refused. Each says whose fault it is.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use core::fmt;

use crate::channel::frame::FrameError;
use crate::codec::DecodeError;
use crate::identity::{AgentId, KeyError, LogId, OpeningError, SignError};
use crate::log::{EvidenceError, ReceiveError};

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

/// Who is on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The agent that signed the handshake. If it is a local writer, its key is in two processes or a host has connected
    /// to itself: harmless, as long as each key has one storage.
    pub agent: AgentId,
    /// Whether both sides gave the same channel binding. Without one somebody may sit in between and pass everything
    /// on, so what depends on who reads should not be decided by the agent's name.
    pub bound: bool,
}

/// Rounds of comparison have ended since this was polled last; see [`Sessions::poll_rounds`](super::Sessions::poll_rounds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoundsEnded {
    /// One of them brought nothing more: what its peer knows of where histories part is known here.
    pub exhausted: bool,
    any: bool,
}

impl RoundsEnded {
    /// Notes that a round has ended.
    pub(crate) const fn note(&mut self, gained: bool) {
        self.any = true;
        self.exhausted |= !gained;
    }

    /// What was noted since the last call.
    pub(crate) fn take(&mut self) -> Option<Self> {
        Some(core::mem::take(self)).filter(|rounds| rounds.any)
    }
}

/// Something that happened in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// The handshake is done.
    Connected(Peer),
    /// Both sides hold the same of what the session is about, as of now. Told again after the scope
    /// has changed, and after [`OutOfSync`](Self::OutOfSync); what is written meanwhile is sent without a word.
    InSync,
    /// Several exchanges did not make the two sides equal: the peer does not hold, or does not send, what it says that
    /// it has, or this side does not hold it. Told once until they are equal again.
    OutOfSync,
    /// The peer has logs that the limits leave no room for, of one agent or in all. They are left out. Told once.
    TooManyLogs,
    /// The peer sent something that no honest program sends. It was not taken in.
    Fault(Fault),
    /// It is over; the id is not known any more.
    Ended(EndReason),
}

impl fmt::Display for SessionEvent {
    /// For a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected(peer) => write!(f, "connected to {}", peer.agent),
            Self::InSync => f.write_str("in sync"),
            Self::OutOfSync => f.write_str("out of sync: several exchanges did not make the two sides equal"),
            Self::TooManyLogs => f.write_str("the peer has logs that the limits leave no room for"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Ended(reason) => reason.fmt(f),
        }
    }
}

/// What a peer did that an honest one does not. Nothing of it was taken in.
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
        /// What is wrong with it.
        error: ReceiveError,
    },
    /// Evidence that shows nothing.
    #[error("the peer sent evidence that shows no fork: {0}")]
    Evidence(EvidenceError),
    /// A frame of a reconciliation that cannot come now.
    #[error("the peer sent a frame of a reconciliation that cannot be: {0}")]
    Reconcile(crate::reconcile::FrameError),
    /// More signatures than its bytes pay for.
    #[error("the peer makes this side check more signatures than its bytes pay for")]
    Signatures,
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The other side is of another mesh: one of the two was given the wrong mesh id or the wrong address.
    #[error("the peer is of another mesh: check the mesh id and the address on both sides")]
    WrongMesh,
    /// The other side does not know the mesh id, or somebody in between changed the bytes.
    #[error(
        "the peer does not prove that it knows the mesh id: somebody else answers, or changes the bytes in between"
    )]
    NotAMember,
    /// One side has a channel binding and the other has none.
    #[error("only one side has a channel binding: both hosts have to give one, or neither")]
    Binding,
    /// The signature is not the agent's, or the two ends of the channel are not the same: somebody sits in between.
    #[error("the peer does not prove that it is the agent whose name it gives, on this channel")]
    Signature,
    /// The agent's key is not admitted.
    #[error("the peer's key is not admitted: {0}")]
    Key(#[from] KeyError),
    /// Another agent than the host expected.
    #[error("the peer is another agent than was expected")]
    UnexpectedAgent,
    /// The other side dials as well.
    #[error("both sides dial: one of the two hosts has to listen on this connection")]
    BothDial,
    /// The bytes are no frame of a handshake.
    #[error("the peer sent a malformed handshake: {0}")]
    Decode(#[from] DecodeError),
    /// This side's own key did not sign.
    #[error("this side's own key did not sign the handshake: {0}")]
    Sign(SignError),
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
    /// The peer sent more than a few things that no honest program sends.
    #[error("the peer keeps sending what no honest program sends")]
    Misbehaved,
}

/// Why the other side refused a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is of another mesh.
    #[error("it is of another mesh: check the mesh id and the address on both sides")]
    WrongMesh,
    /// It could not check what this side sent.
    #[error("it could not verify this side: check the mesh id, the key and the channel binding")]
    Unproven,
    /// Its host does not let this agent in.
    #[error("its host does not let this agent in")]
    NotAdmitted,
    /// Its own key did not sign.
    #[error("its own key is out of reach: try again later")]
    Unavailable,
    /// A reason that this version does not know.
    #[error("for a reason that this version does not know ({0})")]
    Other(u8),
}

impl Refusal {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::WrongMesh => 1,
            Self::Unproven => 2,
            Self::NotAdmitted => 3,
            Self::Unavailable => 4,
            Self::Other(code) => code,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::WrongMesh,
            2 => Self::Unproven,
            3 => Self::NotAdmitted,
            4 => Self::Unavailable,
            other => Self::Other(other),
        }
    }
}

impl From<&HandshakeError> for Refusal {
    fn from(error: &HandshakeError) -> Self {
        match error {
            HandshakeError::WrongMesh => Self::WrongMesh,
            HandshakeError::UnexpectedAgent => Self::NotAdmitted,
            HandshakeError::Sign(_) => Self::Unavailable,
            _ => Self::Unproven,
        }
    }
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
