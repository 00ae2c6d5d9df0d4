//! The small messages about a log: what somebody has, wants, and has no more. Which log they are about is said by
//! whatever carries them.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::RangeForm;
use super::entry::LOG_SIZE_MAX;
use crate::codec::{DecodeError, Reader, put_varint};

const HAVE: u8 = 0x2c;
const WANT: u8 = 0x2d;
const GONE: u8 = 0x2e;

/// What a holder has: entries `[start, size)`, and the base as of the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Have {
    /// The first entry that is there.
    pub start: u64,
    /// Behind the last.
    pub size: u64,
    /// Entries below are needed by nobody.
    pub base: u64,
}

/// Entries that somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The first of them.
    pub from: u64,
    /// Behind the last; 2⁴⁴ for all there are. Equal to `from` for the proof alone.
    pub to: u64,
    /// Whether the asker can check them against what it holds.
    pub form: RangeForm,
}

/// The answer when what was asked for is no longer there: nothing below is to be had here.
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

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes.
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

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes.
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

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes.
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
