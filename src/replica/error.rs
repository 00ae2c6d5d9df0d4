//! Why local writers' entries were not made. Each says that nothing changed.

use consilience_sync::{OpenError, SetError, TopicError};

use crate::payload::EntryTooLarge;

/// Why a transaction was not begun or not committed. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The path is no topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The writer is not one of this replica's: [`Replica::add_writer`](super::Replica::add_writer) comes first.
    #[error("the writer is not one of this replica's; add it first")]
    UnknownWriter,
    /// The transaction does not fit an entry. Commit several smaller ones.
    #[error(transparent)]
    TooLarge(#[from] EntryTooLarge),
    /// The writer's log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The entry cannot be appended.
    #[error(transparent)]
    Append(#[from] SetError),
}

/// Why an event was not appended. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendEventError {
    /// The path is no topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The writer is not one of this replica's.
    #[error("the writer is not one of this replica's; add it first")]
    UnknownWriter,
    /// The cited entries are not here.
    #[error("a cited entry is not here")]
    UnknownCitation,
    /// The writer's log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The event cannot be appended: mostly, it is too large.
    #[error(transparent)]
    Append(#[from] SetError),
}
