//! Reading and writing of canonical bytes: LEB128 varints with one spelling each, and a reader that checks every
//! length against what is left before anybody allocates for it.
//!
//! The invariant: the reader never looks past its input and never panics on it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

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

/// A cursor over untrusted bytes.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) const fn byte(&mut self) -> Result<u8, FrameError> {
        let [byte, rest @ ..] = self.0 else { return Err(FrameError::Truncated) };
        self.0 = rest;
        Ok(*byte)
    }

    pub(super) const fn take(&mut self, len: usize) -> Result<&'a [u8], FrameError> {
        let Some((taken, rest)) = self.0.split_at_checked(len) else { return Err(FrameError::Truncated) };
        self.0 = rest;
        Ok(taken)
    }

    pub(super) const fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], FrameError> {
        let Some((taken, rest)) = self.0.split_first_chunk::<N>() else { return Err(FrameError::Truncated) };
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn word(&mut self) -> Result<u64, FrameError> {
        self.array().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// A LEB128 varint in its shortest form.
    pub(super) fn varint(&mut self) -> Result<u64, FrameError> {
        let mut value = 0_u64;
        for shift in (0..64_u32).step_by(7) {
            let byte = self.byte()?;
            // The tenth byte holds the last single bit of a u64, and a zero at the end adds nothing.
            if (shift == 63 && byte > 1) || (byte == 0 && shift > 0) {
                return Err(FrameError::Varint);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(FrameError::Varint)
    }

    /// A varint that counts items of `item_bytes` each, all of them still in the input and at most `max`.
    pub(super) fn count(&mut self, item_bytes: usize, max: usize) -> Result<usize, FrameError> {
        let count = usize::try_from(self.varint()?).map_err(|_| FrameError::Truncated)?;
        match count.checked_mul(item_bytes) {
            Some(bytes) if bytes <= self.0.len() => {}
            _ => return Err(FrameError::Truncated),
        }
        if count <= max { Ok(count) } else { Err(FrameError::Limit) }
    }

    /// As many words as [`count`](Self::count) says.
    pub(super) fn words(&mut self, max: usize) -> Result<Vec<u64>, FrameError> {
        let count = self.count(8, max)?;
        let bytes = self.take(count.saturating_mul(8))?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    }

    pub(super) const fn finish(&self) -> Result<(), FrameError> {
        if self.is_empty() { Ok(()) } else { Err(FrameError::Trailing) }
    }
}

/// Appends `value` as a LEB128 varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0];
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
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
    fn every_varint_has_one_spelling() {
        for value in (0..64).flat_map(|bit| [1_u64 << bit, (1_u64 << bit) - 1, u64::MAX >> bit]) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_bytes(value));
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
            let mut long = bytes.clone();
            *long.last_mut().unwrap() |= 0x80;
            long.push(0);
            assert_eq!(Reader::new(&long).varint(), Err(FrameError::Varint));
            for cut in 0..bytes.len() {
                assert_eq!(Reader::new(bytes.get(..cut).unwrap()).varint(), Err(FrameError::Truncated));
            }
        }
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(FrameError::Varint));
    }

    #[test]
    fn a_count_beyond_the_input_is_refused_before_it_is_believed() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::MAX);
        assert_eq!(Reader::new(&bytes).count(1, usize::MAX), Err(FrameError::Truncated));
        assert_eq!(Reader::new(&[3, 0, 0]).count(1, 10), Err(FrameError::Truncated));
        assert_eq!(Reader::new(&[2, 0, 0]).count(1, 1), Err(FrameError::Limit));
        assert_eq!(Reader::new(&[2, 0, 0]).count(1, 2), Ok(2));
    }
}
