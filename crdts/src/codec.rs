//! Reading and writing of canonical bytes: LEB128 varints with one spelling each, and a reader that checks every
//! length against what is left before anybody allocates for it.
//!
//! What lives here knows nothing of dots or rows. The invariant: a reader never looks past its input and never
//! panics on it.

use alloc::vec::Vec;

/// The longest key or element, in bytes.
pub const KEY_BYTES_MAX: usize = 4_096;
/// The longest value, in bytes (60 KiB).
pub const VALUE_BYTES_MAX: usize = 61_440;

/// Why bytes were refused. Whatever was being decoded into or merged is unchanged.
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
    /// The bytes are of another kind (a set where a map was expected) or of an unknown version. Nothing changed.
    #[error("the bytes are of another kind or of an unknown version")]
    Kind,
    /// Keys, actors, spans or dots are unsorted or occur twice, or a field is not in its shortest form.
    /// Nothing changed.
    #[error("the bytes are not in canonical form")]
    NotCanonical,
    /// One dot is listed under two keys. Nothing changed.
    #[error("a dot is listed twice")]
    DuplicateDot,
    /// A dot is listed that the context does not cover. Nothing changed.
    #[error("a dot is listed outside the causal context")]
    Uncovered,
    /// A key, value, actor or counter is beyond its limit. Nothing changed.
    #[error("a key, value, actor or counter is beyond its limit")]
    Limit,
    /// The schema is not the one of the collection it was given to. Nothing changed.
    #[error("the schema differs from the collection's")]
    Schema,
}

/// A cursor over untrusted bytes.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, rest: bytes }
    }

    /// From a position that an earlier reader was at.
    pub(crate) fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, rest: bytes.get(at..).unwrap_or_default() }
    }

    /// How many bytes were consumed.
    #[inline]
    pub(crate) const fn position(&self) -> usize {
        // The rest is always a tail of the bytes.
        self.bytes.len().wrapping_sub(self.rest.len())
    }

    /// All bytes, read or not.
    #[inline]
    pub(crate) const fn all(&self) -> &'a [u8] {
        self.bytes
    }

    /// What is left.
    #[inline]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Passes over bytes that were looked at in [`rest`](Self::rest).
    #[inline]
    pub(crate) fn skip(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or_default();
    }

    /// How many bytes are left.
    #[inline]
    pub(crate) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) const fn byte(&mut self) -> Result<u8, DecodeError> {
        let [byte, rest @ ..] = self.rest else { return Err(DecodeError::Truncated) };
        self.rest = rest;
        Ok(*byte)
    }

    #[inline]
    pub(crate) const fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else { return Err(DecodeError::Truncated) };
        self.rest = rest;
        Ok(taken)
    }

    /// [`take`](Self::take), with what stands behind it.
    #[inline]
    pub(crate) const fn window(&mut self, len: usize) -> Result<Window<'a>, DecodeError> {
        let run = self.rest;
        match self.take(len) {
            Ok(_) => Ok(Window::new(run, 0, len)),
            Err(error) => Err(error),
        }
    }

    /// A LEB128 varint in its shortest form.
    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        if let [one @ ..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*one));
        }
        self.varint_of_several()
    }

    #[inline(never)]
    fn varint_of_several(&mut self) -> Result<u64, DecodeError> {
        if let Some(chunk) = self.rest.first_chunk::<8>()
            && let Some((value, len)) = spread_varint(u64::from_le_bytes(*chunk))
        {
            // A zero group at the end adds nothing: the shorter spelling is the only one.
            if value >> (7 * (len - 1)) == 0 {
                return Err(DecodeError::Varint);
            }
            return self.take(len).map(|_| value);
        }
        let (value, len) = long_varint(self.rest)?;
        self.take(len).map(|_| value)
    }

    /// A varint that counts items of at least `item_bytes_min` bytes each, all of them still in the input.
    pub(crate) fn count(&mut self, item_bytes_min: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
        match count.checked_mul(item_bytes_min) {
            Some(least) if least <= self.remaining() => Ok(count),
            _ => Err(DecodeError::Truncated),
        }
    }

    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        if self.remaining() == 0 { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// The varint in the low bytes of `word`, and its length from 1 to 8; `None` if it is longer. The first byte without
/// a continuation bit ends it, and the seven bits of each byte are moved together in three steps: no branch depends
/// on the length.
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
    Some((value, (ends.trailing_zeros() as usize >> 3) + 1))
}

/// The varint at `at` in a window, if it is canonical, has 8 bytes at most and is followed by enough to tell.
#[inline(always)]
pub(crate) fn word_varint<const N: usize>(window: &[u8; N], at: usize) -> Option<(u64, usize)> {
    let word = u64::from_le_bytes(*window.get(at..)?.first_chunk::<8>()?);
    if word & 0x80 == 0 {
        return Some((word & 0x7f, 1));
    }
    spread_varint(word).filter(|(value, len)| value >> (7 * (len - 1)) != 0)
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

/// Bytes that stand somewhere in a longer run. That there are others behind them lets them be copied in one wide
/// move instead of a call that looks at their length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window<'a> {
    run: &'a [u8],
    start: usize,
    len: usize,
}

impl<'a> Window<'a> {
    #[inline]
    pub(crate) const fn new(run: &'a [u8], start: usize, len: usize) -> Self {
        Self { run, start, len }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        &self.run[self.start..self.start + self.len]
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Copies the bytes to `to[at..]`. What stands behind them there may be overwritten.
    #[inline(always)]
    pub(crate) fn copy_to(&self, to: &mut [u8], at: usize) {
        let short = self.len <= 16 && self.copy_wide::<16>(to, at);
        let copied = short || (self.len <= 32 && self.copy_wide::<32>(to, at));
        if !copied {
            to[at..at + self.len].copy_from_slice(self.bytes());
        }
    }

    /// Copies `WIDE` bytes if both sides have them.
    #[inline(always)]
    fn copy_wide<const WIDE: usize>(&self, to: &mut [u8], at: usize) -> bool {
        let Some(from) = self.run.get(self.start..).and_then(<[u8]>::first_chunk::<WIDE>) else {
            return false;
        };
        let Some(to) = to.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<WIDE>) else { return false };
        *to = *from;
        true
    }
}

impl<'a> From<&'a [u8]> for Window<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { run: bytes, start: 0, len: bytes.len() }
    }
}

/// Copies within one buffer, `from` before `at`, as [`Window::copy_to`].
#[inline(always)]
pub(crate) fn copy_forward(buffer: &mut [u8], from: usize, len: usize, at: usize) {
    let wide = if len <= 32 { buffer.get(from..).and_then(<[u8]>::first_chunk::<32>).copied() } else { None };
    match (wide, buffer.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<32>)) {
        (Some(wide), Some(to)) => *to = wide,
        _ => buffer.copy_within(from..from + len, at),
    }
}

/// Appends `value` as a LEB128 varint.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
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
#[inline]
pub(crate) fn put_len(out: &mut Vec<u8>, len: usize) {
    // usize is at most 64 bits on every target of Rust.
    put_varint(out, len as u64);
}

/// Maps small distances of either sign to small numbers: 0, -1, 1, -2, … to 0, 1, 2, 3, …
#[inline]
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
#[inline]
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg()
}

/// Implements serde for a type with `encode` and `decode`: one byte string, the canonical form.
macro_rules! serde_as_canonical_bytes {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.encode())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_bytes($crate::codec::CanonicalVisitor(Self::decode))
            }
        }
    };
}
pub(crate) use serde_as_canonical_bytes;

/// Hands a byte string, or a sequence of bytes where a format has no byte strings (JSON), to a decoder.
pub(crate) struct CanonicalVisitor<T>(pub(crate) fn(&[u8]) -> Result<T, DecodeError>);

impl<'de, T> serde::de::Visitor<'de> for CanonicalVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the canonical bytes of a collection")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<T, E> {
        self.0(bytes).map_err(E::custom)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        // The claimed length is not believed: the buffer grows with what really arrives.
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element::<u8>()? {
            bytes.push(byte);
        }
        self.0(&bytes).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_varint_has_one_spelling() {
        for value in (0..64).flat_map(|bit| [1_u64 << bit, (1_u64 << bit) - 1, u64::MAX >> bit]) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
            // The same value with a zero group behind it is refused.
            let mut long = bytes.clone();
            *long.last_mut().unwrap() |= 0x80;
            long.push(0);
            assert_eq!(Reader::new(&long).varint(), Err(DecodeError::Varint));
            for cut in 0..bytes.len() {
                assert_eq!(Reader::new(&bytes[..cut]).varint(), Err(DecodeError::Truncated));
            }
        }
        assert_eq!(Reader::new(&[0xff; 10]).varint(), Err(DecodeError::Varint));
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(DecodeError::Varint));
    }

    #[test]
    fn zigzag_is_its_own_inverse_at_the_edges() {
        for value in [0, -1, 1, -2, i64::MAX, i64::MIN, 1 << 40, -(1 << 40)] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
    }

    #[test]
    fn a_count_beyond_the_input_is_refused_before_it_is_believed() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::MAX);
        assert_eq!(Reader::new(&bytes).count(1), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[3, 0, 0]).count(1), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[2, 0, 0]).count(1), Ok(2));
    }
}
