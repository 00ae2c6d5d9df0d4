//! What frames need beside the crate's reader and varints: counts with a limit, words, and why a frame was refused.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

pub(super) use crate::codec::{Reader, put_varint};

use crate::codec::DecodeError;

/// Why a frame was refused. The reconciliation is unchanged, and goes on when the right frame comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame ends inside a field, or claims more than it holds. The peer misbehaved; nothing changed.
    #[error("the frame ends early or claims more than it holds")]
    Truncated,
    /// A varint is longer than it has to be, or does not fit its type. The peer misbehaved; nothing changed.
    #[error("a varint is over-long or out of range")]
    Varint,
    /// There are bytes behind the end. The peer misbehaved; nothing changed.
    #[error("bytes are left over behind the end")]
    Trailing,
    /// The frame is of no known kind. The peer is newer or misbehaved; nothing changed.
    #[error("the frame is of no known kind")]
    Kind,
    /// Bounds are not ascending, or a field is not in its only form. The peer misbehaved; nothing changed.
    #[error("the frame is not in canonical form")]
    NotCanonical,
    /// The frame, or what it counts, is above the limits this side set. Nothing changed.
    #[error("the frame is beyond the limits")]
    Limit,
    /// The frame is not the next one of this conversation: an old one, a later one, one of our own, or one of a kind
    /// that cannot come now. Nothing changed.
    #[error("the frame is not the one that comes next")]
    Unexpected,
    /// The reconciliation has ended. Nothing changed.
    #[error("the reconciliation has ended")]
    Ended,
    /// An earlier frame waits for budget: the host has to grant some and resume first. Nothing changed.
    #[error("an earlier frame waits for budget")]
    Waiting,
}

impl From<DecodeError> for FrameError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Truncated => Self::Truncated,
            DecodeError::Varint => Self::Varint,
            DecodeError::Trailing => Self::Trailing,
            DecodeError::Kind => Self::Kind,
            DecodeError::Limit => Self::Limit,
            // Bases are an affair of logs.
            DecodeError::NotCanonical | DecodeError::Base => Self::NotCanonical,
        }
    }
}

impl Reader<'_> {
    /// Eight bytes, little-endian.
    pub(super) fn word(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A varint that counts items of `item_bytes` each, all of them still in the input and at most `max`.
    pub(super) fn count_max(&mut self, item_bytes: usize, max: usize) -> Result<usize, DecodeError> {
        match self.count(item_bytes)? {
            count if count <= max => Ok(count),
            _ => Err(DecodeError::Limit),
        }
    }

    /// As many words as [`count_max`](Self::count_max) says.
    pub(super) fn words(&mut self, max: usize) -> Result<Vec<u64>, DecodeError> {
        let count = self.count_max(8, max)?;
        let bytes = self.take(count.saturating_mul(8))?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    }
}

/// Appends a length or count as a varint.
pub(super) fn put_len(out: &mut Vec<u8>, len: usize) {
    // usize is at most 64 bits on every target of Rust.
    put_varint(out, len as u64);
}

/// Appends a count and that many words.
pub(super) fn put_words(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = u64>) {
    put_len(out, words.len());
    words.for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

/// How many bytes [`put_varint`] takes.
pub(super) const fn varint_bytes(value: u64) -> usize {
    // 1 to 10: the number of started groups of seven bits.
    (63_u32.saturating_sub((value | 1).leading_zeros()) as usize / 7).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_varint_is_known_beforehand() {
        for value in (0..64).flat_map(|bit| [1_u64 << bit, (1_u64 << bit) - 1, u64::MAX >> bit]) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_bytes(value));
            for cut in 0..bytes.len() {
                assert_eq!(Reader::new(bytes.get(..cut).unwrap()).varint(), Err(DecodeError::Truncated));
            }
        }
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(DecodeError::Varint));
    }

    #[test]
    fn a_count_beyond_the_input_is_refused_before_it_is_believed() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::MAX);
        assert_eq!(Reader::new(&bytes).count_max(1, usize::MAX), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[3, 0, 0]).count_max(1, 10), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[2, 0, 0]).count_max(1, 1), Err(DecodeError::Limit));
        assert_eq!(Reader::new(&[2, 0, 0]).count_max(1, 2), Ok(2));
    }
}
