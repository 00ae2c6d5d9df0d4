//! [`Part`]: the one spelling of things that prove themselves: a log's opening, a signed head, a range of entries,
//! facts. Sessions, bundles and journals (a relay's too) carry parts among items of their own.
//!
//! ```text
//! 1  opening    LogOpening::encode
//! 2  head       SignedHead::encode
//! 3  range      alias of the log, 8 bytes ‖ Log::range
//! 4  range      id of the log, 32 bytes ‖ Log::range
//! 5  evidence   Evidence::as_bytes
//! 6  pruned     Pruned::as_bytes
//! ```
//!
//! A container says before each part, as before each item of its own, how long it is; the container's own kinds begin
//! at [`Part::KINDS`]. Where somebody may have made two logs of one alias, and entries lost by that would not come
//! again, a range has its log's id: in journals.
//!
//! Not here: whether a part is true.
//!
//! The invariant: a part has one spelling, and bytes that decode encode to the same bytes.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, put_varint};
use crate::identity::LogId;

const OPENING: u8 = 1;
const HEAD: u8 = 2;
const RANGE: u8 = 3;
const RANGE_OF_ID: u8 = 4;
const EVIDENCE: u8 = 5;
const PRUNED: u8 = 6;

/// Which log a range is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRef {
    /// The first 8 bytes of its id: one of the logs that both sides hold.
    Alias([u8; 8]),
    /// Its id.
    Id(LogId),
}

/// Something that proves itself. The bytes are borrowed, and were not looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part<'a> {
    /// [`LogOpening::encode`](crate::LogOpening::encode).
    Opening(&'a [u8]),
    /// [`SignedHead::encode`](crate::SignedHead::encode).
    Head(&'a [u8]),
    /// [`Log::range`](crate::Log::range), of a log.
    Range(LogRef, &'a [u8]),
    /// [`Evidence::as_bytes`](crate::Evidence::as_bytes).
    Evidence(&'a [u8]),
    /// [`Pruned::as_bytes`](crate::Pruned::as_bytes).
    Pruned(&'a [u8]),
}

impl<'a> Part<'a> {
    /// Kinds below are parts'; a container's own begin here.
    pub const KINDS: u8 = 16;

    /// Its kind, and the bytes between that and its content.
    const fn head(&self) -> (u8, &[u8]) {
        match self {
            Self::Opening(_) => (OPENING, &[]),
            Self::Head(_) => (HEAD, &[]),
            Self::Range(LogRef::Alias(alias), _) => (RANGE, alias),
            Self::Range(LogRef::Id(log), _) => (RANGE_OF_ID, log.as_bytes()),
            Self::Evidence(_) => (EVIDENCE, &[]),
            Self::Pruned(_) => (PRUNED, &[]),
        }
    }

    const fn content(&self) -> &'a [u8] {
        match self {
            Self::Opening(bytes)
            | Self::Head(bytes)
            | Self::Range(_, bytes)
            | Self::Evidence(bytes)
            | Self::Pruned(bytes) => bytes,
        }
    }

    /// Appends its bytes. They do not say where they end.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        let (kind, log) = self.head();
        bytes.push(kind);
        bytes.extend_from_slice(log);
        bytes.extend_from_slice(self.content());
    }

    /// Appends its length, a varint, and its bytes.
    pub fn put(&self, bytes: &mut Vec<u8>) {
        let len = self.head().1.len().saturating_add(self.content().len()).saturating_add(1);
        bytes.reserve(len.saturating_add(10));
        put_varint(bytes, len as u64);
        self.write(bytes);
    }

    /// Reads the bytes of one part; `None` if their kind is a container's own.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`], or [`DecodeError::Kind`] if the kind is that of a later version's part.
    pub fn read(bytes: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        let (kind, rest) = bytes.split_first().ok_or(DecodeError::Truncated)?;
        Self::read_rest(*kind, rest)
    }

    /// Reads the bytes after the kind.
    pub(crate) fn read_rest(kind: u8, rest: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(rest);
        let rest = |reader: &mut Reader<'a>| reader.take(reader.remaining());
        Ok(Some(match kind {
            OPENING => Self::Opening(rest(&mut reader)?),
            HEAD => Self::Head(rest(&mut reader)?),
            RANGE => {
                let alias = reader.array()?;
                Self::Range(LogRef::Alias(alias), rest(&mut reader)?)
            }
            RANGE_OF_ID => {
                let log = LogId::from_bytes(reader.array()?);
                Self::Range(LogRef::Id(log), rest(&mut reader)?)
            }
            EVIDENCE => Self::Evidence(rest(&mut reader)?),
            PRUNED => Self::Pruned(rest(&mut reader)?),
            0..Self::KINDS => return Err(DecodeError::Kind),
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_one_spelling() {
        let log = LogId::from_bytes([7; 32]);
        for part in [
            Part::Opening(b"opening"),
            Part::Head(b"head"),
            Part::Range(LogRef::Alias([1; 8]), b"range"),
            Part::Range(LogRef::Id(log), b""),
            Part::Evidence(b"evidence"),
            Part::Pruned(b"pruned"),
        ] {
            let mut bytes = Vec::new();
            part.write(&mut bytes);
            assert_eq!(Part::read(&bytes), Ok(Some(part)));
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                *changed.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
                if let Ok(Some(other)) = Part::read(&changed) {
                    let mut again = Vec::new();
                    other.write(&mut again);
                    assert_eq!(again, changed, "{part:?} with bit {bit} changed");
                }
            }
            let mut put = Vec::new();
            part.put(&mut put);
            assert_eq!(put.split_first(), Some((&u8::try_from(bytes.len()).unwrap(), &bytes[..])));
        }
    }

    #[test]
    fn kinds_that_are_no_parts_are_the_containers_or_unknown() {
        assert_eq!(Part::read(&[Part::KINDS, 1]), Ok(None));
        assert_eq!(Part::read(&[255]), Ok(None));
        for kind in [0, 7, Part::KINDS - 1] {
            assert_eq!(Part::read(&[kind, 1, 2]), Err(DecodeError::Kind));
        }
        assert_eq!(Part::read(&[]), Err(DecodeError::Truncated));
        assert_eq!(Part::read(&[RANGE, 1, 2, 3, 4, 5, 6, 7]), Err(DecodeError::Truncated));
    }
}
