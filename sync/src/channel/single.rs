//! Single packets: messages that are sent once, and get lost, doubled or late as the path likes.
//!
//! ```text
//! first    0x04, which no packet of the stream begins with
//! number   varint: those of one sender ascend
//! message  its kind and the rest, to the end of the packet
//! ```
//!
//! The invariant: of one number at most one packet is passed on. So a repeated frame repeats no message.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use crate::codec::varint_bytes;
use crate::codec::{DecodeError, Reader, put_varint};

/// The first byte of a single packet.
pub(super) const FIRST: u8 = 4;

/// The single packets of both directions.
#[derive(Debug, Default)]
pub(super) struct Singles {
    sent: u64,
    /// One more than the greatest number that came; before any, 0.
    next: u64,
    /// Which of the 64 numbers below `next` came, the greatest first.
    came: u64,
}

impl Singles {
    /// How many bytes a packet with this message has.
    pub(super) fn bytes(&self, message: &[u8]) -> usize {
        varint_bytes(self.sent).saturating_add(1).saturating_add(message.len())
    }

    /// Appends the packet of a message, with another first byte.
    pub(super) fn put(&mut self, first: u8, message: &[u8], out: &mut Vec<u8>) {
        out.push(FIRST);
        put_varint(out, self.sent);
        out.push(first);
        out.extend_from_slice(message.get(1..).unwrap_or_default());
        self.sent = self.sent.saturating_add(1);
    }

    /// The message of a packet, unless it has come before or is so late that nobody knows.
    ///
    /// # Errors
    ///
    /// If it is no single packet. Nothing changed.
    pub(super) fn handle<'a>(&mut self, packet: &'a [u8]) -> Result<Option<&'a [u8]>, DecodeError> {
        let mut reader = Reader::new(packet);
        if reader.byte()? != FIRST {
            return Err(DecodeError::Kind);
        }
        let number = reader.varint_max(u64::MAX - 1)?;
        let message = reader.take(reader.remaining())?;
        if message.is_empty() {
            return Err(DecodeError::Truncated);
        }
        Ok(self.is_new(number).then_some(message))
    }

    fn is_new(&mut self, number: u64) -> bool {
        let shift =
            |bits: u64, by: u64| u32::try_from(by).ok().and_then(|by| bits.checked_shl(by)).unwrap_or(0);
        if number >= self.next {
            let next = number.saturating_add(1);
            self.came = shift(self.came, next.saturating_sub(self.next)) | 1;
            self.next = next;
            return true;
        }
        let bit = shift(1, self.next.saturating_sub(1).saturating_sub(number));
        let new = bit != 0 && self.came & bit == 0;
        self.came |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_passed_on_once_and_not_when_it_is_too_late_to_tell() {
        let mut singles = Singles::default();
        let packet = |number| {
            let mut packet = alloc::vec![FIRST];
            put_varint(&mut packet, number);
            packet.push(33);
            packet
        };
        let mut take = |number| singles.handle(&packet(number)).unwrap().is_some();
        assert!(take(3) && !take(3) && take(1) && take(0) && !take(1));
        assert!(take(64) && take(2) && !take(0), "those 63 below the greatest are told apart");
        assert!(take(65) && !take(1) && take(200) && take(137) && !take(136) && !take(137));
        assert!(take(u64::MAX - 1) && !take(u64::MAX - 1));
        assert!(Singles::default().handle(&packet(u64::MAX)).is_err());
        for bad in [&[][..], &[FIRST], &[FIRST, 1], &[3, 1, 1], &[FIRST, 0x80, 0, 1]] {
            assert!(Singles::default().handle(bad).is_err(), "{bad:?}");
        }
    }
}
