//! The reasons for which a message is refused. None of them changes the reconciliation.

use crate::codec::DecodeError;

/// Why a message was refused. The reconciliation is unchanged, and goes on when the right message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The message ends inside a field, or claims more than it holds. The peer misbehaved; nothing changed.
    #[error("the message ends early or claims more than it holds")]
    Truncated,
    /// A varint is longer than it has to be, or does not fit its type. The peer misbehaved; nothing changed.
    #[error("a varint is over-long or out of range")]
    Varint,
    /// There are bytes after the end. The peer misbehaved; nothing changed.
    #[error("bytes are left over behind the end")]
    Trailing,
    /// The message is of no known kind. The peer is newer or misbehaved; nothing changed.
    #[error("the message is of no known kind")]
    Kind,
    /// Bounds are not ascending, or a field is not in its only form. The peer misbehaved; nothing changed.
    #[error("the message is not in canonical form")]
    NotCanonical,
    /// The message, or a number in it, is above the limits this side set. Nothing changed.
    #[error("the message is beyond the limits")]
    Limit,
    /// The message is not the next one of this conversation: an old one, a later one, one of our own, or one of a kind
    /// that cannot come now. Nothing changed.
    #[error("the message is not the one that comes next")]
    Unexpected,
    /// The reconciliation has ended. Nothing changed.
    #[error("the reconciliation has ended")]
    Ended,
    /// An earlier message waits for budget: the host has to grant some and resume first. Nothing changed.
    #[error("an earlier message waits for budget")]
    Waiting,
}

impl From<DecodeError> for MessageError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Truncated => Self::Truncated,
            DecodeError::Varint => Self::Varint,
            DecodeError::Trailing => Self::Trailing,
            DecodeError::Kind => Self::Kind,
            DecodeError::Limit => Self::Limit,
            // The others are an affair of logs and collections.
            _ => Self::NotCanonical,
        }
    }
}
