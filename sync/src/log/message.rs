//! The small messages about a log: the entries that a side has, wants, and has no more. The carrier of a message names
//! the log that it is about.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::RangeForm;
use super::shape::LOG_SIZE_MAX;
use crate::codec::{DecodeError, Reader, put_varint};

const HAVE: u8 = 0x2c;
const WANT: u8 = 0x2d;
const GONE: u8 = 0x2e;

/// The entries that a holder has: `[start, size)`, and the base as of the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Have {
    /// The first entry that is there.
    pub start: u64,
    /// The number after the last.
    pub size: u64,
    /// Entries below are needed by nobody.
    pub base: u64,
}

/// Entries that a peer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The first of them.
    pub from: u64,
    /// The number after the last; 2⁴⁴ for all there are. Equal to `from` for the proof alone.
    pub to: u64,
    /// The form of the range: whether the asker can check it against its own entries.
    pub form: RangeForm,
}

/// The answer when the wanted entries are no longer there: this side has nothing below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The first entry that there is.
    pub below: u64,
}

impl Have {
    /// Its canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        numbers(HAVE, &[self.start, self.size.saturating_sub(self.start), self.base])
    }

    /// Reads the bytes that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// The fault in the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let [start, count, base] = read_numbers(HAVE, bytes)?;
        let size = start.checked_add(count).filter(|&size| size <= LOG_SIZE_MAX).ok_or(DecodeError::Limit)?;
        if base > size {
            return Err(DecodeError::Base);
        }
        Ok(Self { start, size, base })
    }
}

impl Want {
    /// Its canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let form = u64::from(self.form == RangeForm::Alone);
        numbers(WANT, &[self.from, self.to.saturating_sub(self.from), form])
    }

    /// Reads the bytes that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// The fault in the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let [from, count, form] = read_numbers(WANT, bytes)?;
        let to = from.checked_add(count).filter(|&to| to <= LOG_SIZE_MAX).ok_or(DecodeError::Limit)?;
        let form = match form {
            0 => RangeForm::Follow,
            1 => RangeForm::Alone,
            _ => return Err(DecodeError::Kind),
        };
        Ok(Self { from, to, form })
    }
}

impl Gone {
    /// Its canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        numbers(GONE, &[self.below])
    }

    /// Reads the bytes that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// The fault in the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let [below] = read_numbers(GONE, bytes)?;
        if below > LOG_SIZE_MAX {
            return Err(DecodeError::Limit);
        }
        Ok(Self { below })
    }
}

fn numbers(kind: u8, numbers: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.push(kind);
    for &number in numbers {
        put_varint(&mut bytes, number);
    }
    bytes
}

fn read_numbers<const N: usize>(kind: u8, bytes: &[u8]) -> Result<[u64; N], DecodeError> {
    let mut reader = Reader::new(bytes);
    if reader.byte()? != kind {
        return Err(DecodeError::Kind);
    }
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = reader.varint()?;
    }
    reader.finish()?;
    Ok(numbers)
}
