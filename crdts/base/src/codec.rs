//! Reading and writing of canonical bytes: LEB128 varints with one spelling each, and a reader that checks every
//! length against what is left before anybody allocates for it.
//!
//! Public for payloads: whoever puts a format of its own into entries wants the same rules for it.
//!
//! What lives here knows nothing of logs. The invariant: a reader never looks past its input and never panics on it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

/// Why bytes are not a form of this library. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ends inside a field, or claims more than it holds. Nothing changed.
    #[error("the input ends early or claims more than it holds")]
    Truncated,
    /// A varint is longer than it has to be, or does not fit its type. Nothing changed.
    #[error("a varint is over-long or out of range")]
    Varint,
    /// There are bytes behind the end. Nothing changed.
    #[error("bytes are left over behind the end")]
    Trailing,
    /// The bytes are of another kind or of an unknown version. Nothing changed.
    #[error("the bytes are of another kind or of an unknown version")]
    Kind,
    /// A field is not in its shortest form, or items are unsorted or occur twice. Nothing changed.
    #[error("the bytes are not in canonical form")]
    NotCanonical,
    /// A number or a length is beyond its limit. Nothing changed.
    #[error("a number or a length is beyond its limit")]
    Limit,
    /// A base lies above the entry that states it. Nothing changed.
    #[error("a base lies above its own entry")]
    Base,
}

/// A cursor over untrusted bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    all: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// From the first byte on.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { all: bytes, rest: bytes }
    }

    /// How many bytes were consumed.
    #[must_use]
    #[inline]
    pub const fn position(&self) -> usize {
        // The rest is always a tail of the whole.
        self.all.len().wrapping_sub(self.rest.len())
    }

    /// The bytes from an earlier [`position`](Self::position) to here.
    #[must_use]
    pub fn since(&self, position: usize) -> &'a [u8] {
        self.all.get(position..self.position()).unwrap_or_default()
    }

    /// How many bytes are left.
    #[must_use]
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether all was consumed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`].
    #[inline]
    pub const fn byte(&mut self) -> Result<u8, DecodeError> {
        let [byte, rest @ ..] = self.rest else { return Err(DecodeError::Truncated) };
        self.rest = rest;
        Ok(*byte)
    }

    /// So many bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`].
    #[inline]
    pub const fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else { return Err(DecodeError::Truncated) };
        self.rest = rest;
        Ok(taken)
    }

    /// A fixed number of bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`].
    #[inline]
    pub const fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated);
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// A LEB128 varint in its shortest form.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] or [`DecodeError::Varint`].
    #[inline]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        if let [one @ ..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*one));
        }
        if let [low, high @ 1..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(low & 0x7f) | u64::from(*high) << 7);
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = self.byte()?;
            // The tenth byte holds the last single bit of a u64, and a zero at the end adds nothing: the shorter
            // spelling is the only one.
            if (shift == 63 && byte > 1) || (byte == 0 && shift > 0) {
                return Err(DecodeError::Varint);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// A varint of at most `max`.
    ///
    /// # Errors
    ///
    /// As [`varint`](Self::varint), and [`DecodeError::Limit`] above `max`.
    pub fn varint_max(&mut self, max: u64) -> Result<u64, DecodeError> {
        match self.varint()? {
            value if value <= max => Ok(value),
            _ => Err(DecodeError::Limit),
        }
    }

    /// A varint that counts items of at least `item_bytes_min` bytes each, all of them still in the input.
    ///
    /// # Errors
    ///
    /// As [`varint`](Self::varint), and [`DecodeError::Truncated`] if they cannot all be there.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
        match count.checked_mul(item_bytes_min) {
            Some(least) if least <= self.remaining() => Ok(count),
            _ => Err(DecodeError::Truncated),
        }
    }

    /// A varint that counts items of at least `item_bytes_min` bytes each, all of them still in the input and at most
    /// `max`.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count), and [`DecodeError::Limit`] above `max`.
    pub fn count_max(&mut self, item_bytes_min: usize, max: usize) -> Result<usize, DecodeError> {
        match self.count(item_bytes_min)? {
            count if count <= max => Ok(count),
            _ => Err(DecodeError::Limit),
        }
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`].
    pub fn word(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of at most `max`, and as many [words](Self::word).
    ///
    /// # Errors
    ///
    /// As [`count_max`](Self::count_max).
    pub fn words(&mut self, max: usize) -> Result<Vec<u64>, DecodeError> {
        let count = self.count_max(8, max)?;
        let bytes = self.take(count.saturating_mul(8))?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    }

    /// Makes sure that nothing is left.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Trailing`].
    pub const fn finish(&self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// Appends a LEB128 varint.
#[inline]
pub fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        bytes.push(low | 0x80);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    bytes.push(low);
}

/// How many bytes [`put_varint`] takes: 1 to 10.
#[must_use]
pub const fn varint_bytes(value: u64) -> usize {
    // The number of started groups of seven bits.
    (63_u32.saturating_sub((value | 1).leading_zeros()) as usize / 7).saturating_add(1)
}

/// Appends a length or count as a varint.
pub fn put_len(bytes: &mut Vec<u8>, len: usize) {
    // usize is at most 64 bits on every target of Rust.
    put_varint(bytes, len as u64);
}

/// Appends a count and as many words, as [`Reader::words`] reads them.
pub fn put_words(bytes: &mut Vec<u8>, words: impl ExactSizeIterator<Item = u64>) {
    put_len(bytes, words.len());
    words.for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
}

/// The distance from `from` to `to` as a number without a sign: 0, −1, 1, −2, … become 0, 1, 2, 3, …. Both below 2⁶³.
#[must_use]
pub const fn zigzag(from: u64, to: u64) -> u64 {
    if to >= from { to.wrapping_sub(from) << 1 } else { (from.wrapping_sub(to) << 1).wrapping_sub(1) }
}

/// What [`zigzag`] made; `None` if it would leave `0..=max`.
#[must_use]
pub const fn unzigzag(from: u64, distance: u64, max: u64) -> Option<u64> {
    let half = distance >> 1;
    let to = if distance & 1 == 0 {
        from.checked_add(half)
    } else {
        match half.checked_add(1) {
            Some(down) => from.checked_sub(down),
            None => None,
        }
    };
    match to {
        Some(to) if to <= max => Some(to),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn varints_have_one_spelling() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = vec![];
                put_varint(&mut bytes, value);
                let mut reader = Reader::new(&bytes);
                assert_eq!(reader.varint(), Ok(value));
                assert_eq!(reader.finish(), Ok(()));
                // The same value with a zero group behind it.
                *bytes.last_mut().unwrap() |= 0x80;
                bytes.push(0);
                assert_eq!(Reader::new(&bytes).varint(), Err(DecodeError::Varint), "{value}");
            }
        }
        let beyond = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(Reader::new(&beyond).varint(), Err(DecodeError::Varint));
        assert_eq!(Reader::new(&[0x80]).varint(), Err(DecodeError::Truncated));
    }

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

    #[test]
    fn zigzag_goes_both_ways() {
        for (from, to) in [(0, 0), (5, 3), (3, 5), (0, u64::MAX >> 1), (u64::MAX >> 1, 0), (1, 0)] {
            assert_eq!(unzigzag(from, zigzag(from, to), u64::MAX), Some(to));
        }
        assert_eq!(unzigzag(0, 1, u64::MAX), None);
        assert_eq!(unzigzag(0, 20, 9), None);
    }
}
