//! The other side of a channel, and the reasons for which handshakes fail. Each error says whose fault it is.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use consilience_base::Timestamp;

use crate::codec::DecodeError;
use crate::identity::{AgentId, KeyError, SignError};

/// The agent on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The agent that signed the handshake. If it is a local writer, its key is in two processes or a host has connected
    /// to itself: harmless, as long as each key has one storage.
    pub agent: AgentId,
    /// Whether both sides gave the same channel binding: then the outer channel ends where the session does. Without one
    /// somebody may carry the frames from one channel to another, and reads nothing of them.
    pub bound: bool,
    /// The time by its clock when it shook hands, in whole seconds: it says so, and may be wrong or lie. None if it holds
    /// entries that are later, and so does not know.
    pub time: Option<Timestamp>,
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The other side is of another mesh: one of the two was given the wrong secret or the wrong address.
    #[error("the peer is of another mesh: check the mesh's secret and the address on both sides")]
    WrongMesh,
    /// The other side does not know the mesh's secret, or somebody in between changed the bytes. Nothing changed: it is waited
    /// for the right frame, so no session ends by this.
    #[error(
        "the peer does not prove that it knows the mesh's secret: somebody else answers, or changes the bytes in between"
    )]
    NotAMember,
    /// One side has a channel binding and the other has none.
    #[error("only one side has a channel binding: both hosts have to give one, or neither")]
    Binding,
    /// The signature is not the agent's, or the two ends of the outer channel are not the same: somebody sits in between.
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

/// Why the other side refused a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is of another mesh.
    #[error("it is of another mesh: check the mesh's secret and the address on both sides")]
    WrongMesh,
    /// It could not verify this side.
    #[error("it could not verify this side: check the mesh's secret, the key and the channel binding")]
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
