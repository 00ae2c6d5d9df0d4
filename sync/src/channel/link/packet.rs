//! The bytes of a packet, and none of their effects. The invariant: a packet has one spelling.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::codec::{DecodeError, Reader, put_varint};
use alloc::vec::Vec;

/// How far behind the first missing chunk an acknowledgement can name one, and so how far ahead a sender may
/// be.
///
/// With packets of 1,200 bytes this is 300 KB on their way. A bitmap of one word would be 76 KB, which is a
/// slow transfer on a long path; the short bitmaps have the same bytes either way.
pub(super) const AHEAD_MAX: u64 = 252;

const CHUNK: u8 = 1;
const HELD: u8 = 2;

/// The chunks that are held behind a gap, by their distance from the one after the first missing.
///
/// On the wire it is a varint that may be longer than others: seven bits a byte, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SelectiveAck {
    groups: [u8; Self::BYTES_MAX],
    len: usize,
}

impl Default for SelectiveAck {
    fn default() -> Self {
        Self { groups: [0; Self::BYTES_MAX], len: 0 }
    }
}

impl SelectiveAck {
    pub(super) const BYTES_MAX: usize = 36;

    /// Adds a distance below [`AHEAD_MAX`].
    pub(super) fn insert(&mut self, distance: u64) {
        let Ok(at) = usize::try_from(distance / 7) else { return };
        if let (Some(group), Some(bit)) = (self.groups.get_mut(at), BITS.get((distance % 7) as usize)) {
            *group |= bit;
            self.len = self.len.max(at.saturating_add(1));
        }
    }

    /// The distances, the smallest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        let groups = self.groups.iter().take(self.len);
        let bits = groups.flat_map(|group| BITS.iter().map(move |bit| group & bit != 0));
        (0..).zip(bits).filter_map(|(distance, held)| held.then_some(distance))
    }

    /// How many bytes it takes; none if it is empty.
    pub(super) const fn bytes(&self) -> usize {
        self.len
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut held = Self::default();
        for group in &mut held.groups {
            let byte = reader.byte()?;
            held.len = held.len.saturating_add(1);
            *group = byte & 0x7f;
            if byte == 0 {
                return Err(if held.len == 1 { DecodeError::NotCanonical } else { DecodeError::Varint });
            }
            if byte < 0x80 {
                return Ok(held);
            }
        }
        Err(DecodeError::Varint)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let last = self.len.saturating_sub(1);
        let groups = self.groups.iter().take(self.len).enumerate();
        out.extend(groups.map(|(at, group)| if at < last { group | 0x80 } else { *group }));
    }
}

const BITS: [u8; 7] = [1, 2, 4, 8, 16, 32, 64];

/// A packet of the peer's.
#[derive(Clone, Debug)]
pub(super) struct Packet<'a> {
    /// The first chunk that the peer does not have.
    pub(super) ack: u64,
    pub(super) held: SelectiveAck,
    /// Its number and its bytes, of which there is one at least.
    pub(super) chunk: Option<(u64, &'a [u8])>,
}

impl<'a> Packet<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let flags = reader.byte()?;
        if flags & !(CHUNK | HELD) != 0 {
            return Err(DecodeError::Kind);
        }
        let ack = reader.varint()?;
        let held =
            if flags & HELD != 0 { SelectiveAck::decode(&mut reader)? } else { SelectiveAck::default() };
        let mut chunk = None;
        if flags & CHUNK != 0 {
            let number = reader.varint()?;
            match reader.take(reader.remaining())? {
                [] => return Err(DecodeError::Truncated),
                bytes => chunk = Some((number, bytes)),
            }
        }
        reader.finish()?;
        Ok(Self { ack, held, chunk })
    }
}

/// Appends all of a packet but its chunk.
pub(super) fn put_header(ack: u64, held: &SelectiveAck, chunk: bool, out: &mut Vec<u8>) {
    let flags = if chunk { CHUNK } else { 0 };
    out.push(if held.bytes() > 0 { flags | HELD } else { flags });
    put_varint(out, ack);
    held.encode(out);
}
