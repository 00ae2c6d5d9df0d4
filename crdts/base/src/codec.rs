//! Reading and writing of canonical bytes: LEB128 varints with one spelling each, and a reader that checks every length
//! against the bytes that are left before memory is allocated for it.
//!
//! All forms of the library are read and written with it: collections, logs, frames, journals. It is public for
//! payloads: a host that puts a format of its own into entries wants the same rules for it.
//!
//! The fields of any form and their limits do not live here. The invariant: a reader never looks past its input and
//! never panics on it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

/// The reason for which bytes were refused. The state that they were decoded or merged into is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ends inside a field, or claims more than it holds. Nothing changed.
    #[error("the input ends early or claims more than it holds")]
    Truncated,
    /// A varint is longer than it has to be, or does not fit its type. Nothing changed.
    #[error("a varint is over-long or out of range")]
    Varint,
    /// There are bytes after the end. Nothing changed.
    #[error("bytes are left over behind the end")]
    Trailing,
    /// The bytes are of another kind (a set where a map was expected) or of an unknown format version. Nothing changed.
    #[error("the bytes are of another kind or of an unknown version")]
    Kind,
    /// Items (keys, actors, spans, dots, citations) are unsorted or occur twice, or a field is not in its shortest
    /// form. Nothing changed.
    #[error("the bytes are not in canonical form")]
    NotCanonical,
    /// A number or a length (of a key, a value, a name, a counter) is beyond its limit. Nothing changed.
    #[error("a number or a length is beyond its limit")]
    Limit,
    /// Of a log: a base lies above the entry that states it. Nothing changed.
    #[error("a base lies above its own entry")]
    Base,
    /// Of a collection: one dot is listed under two keys. Nothing changed.
    #[error("a dot is listed twice")]
    DuplicateDot,
    /// Of a collection: a dot is listed that the context does not cover. Nothing changed.
    #[error("a dot is listed outside the causal context")]
    Uncovered,
    /// Of a coupling: the schema is not the one of the collection that the bytes were given to. Nothing changed.
    #[error("the schema differs from the collection's")]
    Schema,
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
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { all: bytes, rest: bytes }
    }

    /// From the [`position`](Self::position) that an earlier reader of the same bytes was at. A position beyond the
    /// bytes is their end, and [`position`](Self::position) says so.
    #[must_use]
    #[inline]
    pub fn at(bytes: &'a [u8], position: usize) -> Self {
        Self { all: bytes, rest: bytes.get(position..).unwrap_or_default() }
    }

    /// All bytes, read or not.
    #[must_use]
    #[inline]
    pub const fn all(&self) -> &'a [u8] {
        self.all
    }

    /// The bytes that are left, unread. A caller that looks into them goes on with [`skip`](Self::skip).
    #[must_use]
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Skips so many bytes, which were looked at in [`rest`](Self::rest); all bytes if there are fewer.
    #[inline]
    pub fn skip(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or_default();
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
    #[inline]
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
    #[inline]
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
    /// [`DecodeError::Truncated`] or [`DecodeError::Varint`], with nothing consumed.
    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        if let [one @ ..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*one));
        }
        // In line as well: most numbers of logs have one or two bytes, and a call would cost more than reading them.
        if let [low, high @ 1..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(low & 0x7f) | u64::from(*high) << 7);
        }
        self.varint_of_several()
    }

    #[inline(never)]
    fn varint_of_several(&mut self) -> Result<u64, DecodeError> {
        if let Some(chunk) = self.rest.first_chunk::<8>()
            && let Some((value, len)) = spread_varint(u64::from_le_bytes(*chunk))
        {
            if has_empty_end(value, len) {
                return Err(DecodeError::Varint);
            }
            return self.take(len).map(|_| value);
        }
        let (value, len) = long_varint(self.rest)?;
        self.take(len).map(|_| value)
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
    #[inline]
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
    #[inline]
    pub const fn finish(&self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// The varint in the low bytes of `word`, and its length from 1 to 8; `None` if it is longer. The first byte without a
/// continuation bit ends the varint, and the seven bits of each byte are moved together in three steps: no branch
/// depends on the length.
#[inline]
const fn spread_varint(word: u64) -> Option<(u64, usize)> {
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    // All bits up to the one that ends it.
    let groups = word & (ends ^ ends.wrapping_sub(1)) & 0x7f7f_7f7f_7f7f_7f7f;
    let pairs = (groups & 0x007f_007f_007f_007f) | ((groups & 0x7f00_7f00_7f00_7f00) >> 1);
    let fours = (pairs & 0x0000_3fff_0000_3fff) | ((pairs & 0x3fff_0000_3fff_0000) >> 2);
    let value = (fours & 0x0fff_ffff) | ((fours & 0x0fff_ffff_0000_0000) >> 4);
    Some((value, (ends.trailing_zeros() as usize >> 3).wrapping_add(1)))
}

/// Whether the last group of a varint of several bytes is zero. Such a group adds nothing: the shorter spelling is
/// the only one.
#[inline]
const fn has_empty_end(value: u64, len: usize) -> bool {
    // The last group stands above the seven bits of each byte before it; `len` is at most 8.
    value >> len.wrapping_sub(1).wrapping_mul(7) == 0
}

/// The varint at `at` in a window, and its length, if it is in its shortest form, has at most 8 bytes, and the window
/// goes on for 8 bytes from `at`. `None` says nothing of the input: a [`Reader`] has to look at it.
#[must_use]
#[inline(always)]
pub fn word_varint<const N: usize>(window: &[u8; N], at: usize) -> Option<(u64, usize)> {
    let word = u64::from_le_bytes(*window.get(at..)?.first_chunk::<8>()?);
    if word & 0x80 == 0 {
        return Some((word & 0x7f, 1));
    }
    spread_varint(word).filter(|(value, len)| !has_empty_end(*value, *len))
}

/// A varint at the front of `bytes`, of any length, and that length.
fn long_varint(bytes: &[u8]) -> Result<(u64, usize), DecodeError> {
    let mut value = 0;
    let mut shift = 0_u32;
    for (at, &byte) in bytes.iter().enumerate().take(10) {
        // The tenth byte holds the last single bit of a u64.
        if shift == 63 && byte > 1 {
            return Err(DecodeError::Varint);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            // A zero at the end adds nothing: the shorter spelling is the only one.
            let short = byte != 0 || at == 0;
            return if short { Ok((value, at.saturating_add(1))) } else { Err(DecodeError::Varint) };
        }
        shift = shift.saturating_add(7);
    }
    Err(if bytes.len() < 10 { DecodeError::Truncated } else { DecodeError::Varint })
}

/// Appends a LEB128 varint.
#[inline]
pub fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// How many bytes [`put_varint`] takes: 1 to 10.
#[must_use]
pub const fn varint_bytes(value: u64) -> usize {
    // The number of started groups of seven bits.
    (63_u32.saturating_sub((value | 1).leading_zeros()) as usize / 7).saturating_add(1)
}

/// Appends a length or count as a varint.
#[inline]
pub fn put_len(bytes: &mut Vec<u8>, len: usize) {
    // usize is at most 64 bits on every target of Rust.
    put_varint(bytes, len as u64);
}

/// Appends a count and as many words, as [`Reader::words`] reads them.
pub fn put_words(bytes: &mut Vec<u8>, words: impl ExactSizeIterator<Item = u64>) {
    put_len(bytes, words.len());
    words.for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
}

/// Maps small distances of either sign to small numbers: 0, −1, 1, −2, … to 0, 1, 2, 3, …
#[must_use]
#[inline]
pub const fn zigzag(distance: i64) -> u64 {
    ((distance << 1) ^ (distance >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
#[must_use]
#[inline]
pub const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ (number & 1).cast_signed().wrapping_neg()
}

/// The [`zigzag`] of the distance from `from` to `to`, both below 2⁶³.
#[must_use]
#[inline]
pub const fn zigzag_between(from: u64, to: u64) -> u64 {
    zigzag(to.wrapping_sub(from).cast_signed())
}

/// The number that lies the distance `number` of [`zigzag_between`] from `from`; `None` if it would leave `0..=max`.
#[must_use]
#[inline]
pub const fn unzigzag_from(from: u64, number: u64, max: u64) -> Option<u64> {
    match from.checked_add_signed(unzigzag(number)) {
        Some(to) if to <= max => Some(to),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The edges of every length.
    fn values() -> impl Iterator<Item = u64> {
        (0..64).flat_map(|bit| [1_u64 << bit, (1_u64 << bit).saturating_sub(1), u64::MAX >> bit])
    }

    #[test]
    fn every_varint_has_one_spelling() {
        for value in values() {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
            for cut in 0..bytes.len() {
                assert_eq!(Reader::new(bytes.get(..cut).unwrap()).varint(), Err(DecodeError::Truncated));
            }
            // The same value with a zero group after it is refused.
            *bytes.last_mut().unwrap() |= 0x80;
            bytes.push(0);
            assert_eq!(Reader::new(&bytes).varint(), Err(DecodeError::Varint), "{value}");
        }
        assert_eq!(Reader::new(&[0xff; 10]).varint(), Err(DecodeError::Varint));
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(DecodeError::Varint));
        let beyond = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(Reader::new(&beyond).varint(), Err(DecodeError::Varint));
        assert_eq!(Reader::new(&[0x80]).varint(), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_varint_reads_the_same_whatever_stands_behind_it_and_by_either_way() {
        for value in values() {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let len = bytes.len();
            let mut long = bytes.clone();
            *long.last_mut().unwrap() |= 0x80;
            long.push(0);
            // The short way looks at eight bytes, so it is not taken at the end of the input.
            for behind in [&[][..], &[0; 16], &[0x7f; 16], &[0x80; 16], &[0xff; 16]] {
                let input = [&bytes[..], behind].concat();
                let mut reader = Reader::new(&input);
                assert_eq!((reader.varint(), reader.position()), (Ok(value), len));
                let input = [&long[..], behind].concat();
                let mut reader = Reader::new(&input);
                assert_eq!((reader.varint(), reader.position()), (Err(DecodeError::Varint), 0));
            }
            let window = |bytes: &[u8]| {
                let mut window = [0xa5; 24];
                window.get_mut(3..).unwrap().iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                window
            };
            assert_eq!(word_varint(&window(&bytes), 3), (len <= 8).then_some((value, len)));
            assert_eq!(word_varint(&window(&long), 3), None);
            assert_eq!(word_varint(&window(&bytes), 17), None, "less than eight bytes are left");
        }
    }

    #[test]
    fn the_length_of_a_varint_is_known_beforehand() {
        for value in values() {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_bytes(value));
        }
    }

    #[test]
    fn zigzag_is_its_own_inverse_at_the_edges() {
        for value in [0, -1, 1, -2, i64::MAX, i64::MIN, 1 << 40, -(1 << 40)] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
    }

    #[test]
    fn zigzag_goes_both_ways() {
        for (from, to) in [(0, 0), (5, 3), (3, 5), (0, u64::MAX >> 1), (u64::MAX >> 1, 0), (1, 0)] {
            assert_eq!(unzigzag_from(from, zigzag_between(from, to), u64::MAX), Some(to));
        }
        assert_eq!(unzigzag_from(0, 1, u64::MAX), None);
        assert_eq!(unzigzag_from(0, 20, 9), None);
        assert_eq!(unzigzag_from(0, u64::MAX, u64::MAX), None);
        assert_eq!(unzigzag_from(u64::MAX, 2, u64::MAX), None);
    }

    #[test]
    fn a_count_beyond_the_input_is_refused_before_it_is_believed() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::MAX);
        assert_eq!(Reader::new(&bytes).count(1), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[3, 0, 0]).count(1), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[2, 0, 0]).count(1), Ok(2));
        assert_eq!(Reader::new(&bytes).count_max(1, usize::MAX), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[3, 0, 0]).count_max(1, 10), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[2, 0, 0]).count_max(1, 1), Err(DecodeError::Limit));
        assert_eq!(Reader::new(&[2, 0, 0]).count_max(1, 2), Ok(2));
    }

    #[test]
    fn a_reader_goes_on_where_another_stopped_and_never_beyond_the_end() {
        let bytes = [1, 2, 3, 4];
        let mut reader = Reader::new(&bytes);
        reader.skip(1);
        let mut other = Reader::at(&bytes, reader.position());
        assert_eq!(other.take(2), Ok(&[2, 3][..]));
        assert_eq!((other.since(1), other.rest(), other.all()), (&[2, 3][..], &[4][..], &bytes[..]));
        other.skip(9);
        assert_eq!((other.position(), other.remaining()), (4, 0));
        assert_eq!(Reader::at(&bytes, 9).position(), 4);
        assert_eq!(Reader::at(&bytes, 9).byte(), Err(DecodeError::Truncated));
    }

    #[test]
    fn words_come_back_and_are_counted_against_the_input() {
        let mut bytes = Vec::new();
        put_words(&mut bytes, [1, u64::MAX].into_iter());
        assert_eq!(Reader::new(&bytes).words(2), Ok([1, u64::MAX].into()));
        assert_eq!(Reader::new(&bytes).words(1), Err(DecodeError::Limit));
        assert_eq!(Reader::new(bytes.get(..16).unwrap()).words(2), Err(DecodeError::Truncated));
    }
}
