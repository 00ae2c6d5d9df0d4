//! The bytes of collections, over the one codec of [`consilience_base`]: the limits of keys and values, copying out of
//! a longer run, and serde through the canonical form.
//!
//! Readers, varints and [`DecodeError`] live in the base crate. The invariant: a serde input is checked as a decoded
//! one is.

use alloc::vec::Vec;

pub(crate) use consilience_base::codec::{
    DecodeError, Reader, put_len, put_varint, unzigzag, word_varint, zigzag,
};

/// The longest key or element, in bytes.
pub const KEY_BYTES_MAX: usize = 4_096;
/// The longest value, in bytes (60 KiB).
pub const VALUE_BYTES_MAX: usize = 61_440;

/// Bytes within a longer run. The other bytes after them let them be copied in one wide move instead of a call that
/// looks at their length.
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

    /// Takes `len` bytes from a reader, with the bytes after them.
    #[inline]
    pub(crate) fn take(reader: &mut Reader<'a>, len: usize) -> Result<Self, DecodeError> {
        let run = reader.rest();
        reader.take(len).map(|_| Self::new(run, 0, len))
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        &self.run[self.start..self.start + self.len]
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Copies the bytes to `to[at..]`. The bytes after them there may be overwritten.
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
                deserializer.deserialize_bytes($crate::bytes::CanonicalVisitor(Self::decode))
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
        // The claimed length is not believed: the buffer grows with the bytes that really arrive.
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element::<u8>()? {
            bytes.push(byte);
        }
        self.0(&bytes).map_err(serde::de::Error::custom)
    }
}
