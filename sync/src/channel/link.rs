//! [`Link`]: a reliable, ordered stream of bytes each way, over packets that may be lost, doubled, reordered
//! or late.
//!
//! Here: cutting the stream into numbered chunks, acknowledging them, sending the lost ones again, and holding
//! back when the path is full. Not here: keys and the check that a packet is the peer's, the meaning of the
//! bytes, and the end of a session. The one invariant: a number names the same bytes for ever,
//! so it does not matter which transmission of a chunk arrives.
//!
//! Numbers count chunks and not bytes. They are shorter, and a packet that carries a few bytes has three of
//! overhead.
//!
//! Time is milliseconds of a clock of the caller's; one that goes back stands still here.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod congestion;
mod packet;
mod receive;
mod rtt;
mod send;
#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a panic fails the test"
)]
mod tests;

use self::packet::{Packet, SelectiveAck, put_header};
use self::receive::Receiver;
use self::send::{Chunk, Sender};
use crate::codec::{DecodeError, put_varint, varint_bytes};
use alloc::vec::Vec;

/// The sizes that a link keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkOptions {
    /// How long a packet may be: 64 to 65,000 bytes, and taken as the nearer of these beyond them.
    pub(crate) packet_bytes: usize,
    /// How many bytes of the stream are kept, those that are queued and those that are not acknowledged.
    pub(crate) window_out: usize,
    /// How many bytes are kept that arrived before their turn.
    pub(crate) window_in: usize,
    /// How many bytes the peer keeps that arrive there before their turn.
    pub(crate) peer_window: usize,
    /// With more bytes than this unread, nothing further is accepted.
    pub(crate) unread_max: usize,
    /// Whether the path has to be probed for its capacity; a transport that holds back by itself does that.
    pub(crate) controlled: bool,
}

/// A packet that is to be sent: how many bytes it has is known before they are written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    ack: u64,
    held: SelectiveAck,
    chunk: Option<Chunk>,
}

impl Outgoing {
    /// How many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        let chunk =
            self.chunk.as_ref().map_or(0, |chunk| varint_bytes(chunk.number).saturating_add(chunk.len));
        varint_bytes(self.ack).saturating_add(1).saturating_add(self.held.bytes()).saturating_add(chunk)
    }
}

/// One end of the stream.
///
/// After each write to the [`queue`](Self::queue), [`handle_packet`](Self::handle_packet) and
/// [`handle_timeout`](Self::handle_timeout), [`poll_packet`](Self::poll_packet) until it has none, and then
/// ask for the next [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub(crate) struct Link {
    packet_bytes: usize,
    send: Sender,
    receive: Receiver,
    now: u64,
}

impl Link {
    const PACKET_BYTES_MIN: usize = 64;
    const PACKET_BYTES_MAX: usize = 65_000;
    /// The bytes that a chunk leaves for the acknowledgement beside it. That may be longer when the chunk is sent
    /// again, and the chunk cannot be cut a second time.
    const ACK_BYTES: usize = 5;

    pub(crate) fn new(config: LinkOptions, now: u64) -> Self {
        let packet_bytes = config.packet_bytes.clamp(Self::PACKET_BYTES_MIN, Self::PACKET_BYTES_MAX);
        Self {
            packet_bytes,
            send: Sender::new(packet_bytes, config.window_out, config.peer_window, config.controlled),
            receive: Receiver::new(config.window_in, config.unread_max),
            now,
        }
    }

    /// How many more bytes there is room for. A begun message may be written to its end all the same:
    /// the queue gets longer for it, the flight does not.
    pub(crate) fn room(&self) -> usize {
        self.send.room()
    }

    /// The queue of bytes for the peer: to be appended to; the bytes that are there already are not to be changed.
    pub(crate) const fn queue(&mut self) -> &mut Vec<u8> {
        self.send.queue()
    }

    /// The next packet to send, if there is one: put it [out](Self::put) before anything else is done with the link.
    ///
    /// Lost chunks come first, then new ones as far as the path and the peer have room, then an
    /// acknowledgement that is due. One that is not due goes along with a chunk. Poll until there is none, and again after any other call that changes
    /// something.
    pub(crate) fn poll_packet(&mut self, now: u64) -> Option<Outgoing> {
        let now = self.advance(now);
        let ack = self.receive.next();
        let held = self.receive.held();
        // A new chunk is cut so that the whole acknowledgement fits beside it.
        let ack_bytes = varint_bytes(ack).saturating_add(1).max(Self::ACK_BYTES);
        let around = ack_bytes.saturating_add(held.bytes()).saturating_add(1);
        let Some(chunk) = self.send.poll_chunk(self.packet_bytes.saturating_sub(around), now) else {
            return self.receive.owes_ack(now).then(|| {
                self.receive.acknowledged();
                Outgoing { ack, held, chunk: None }
            });
        };
        // An old one was cut when less was held, perhaps. A bitmap that does not fit goes in the next packet.
        let whole = Outgoing { ack, held, chunk: Some(chunk) };
        if whole.bytes() <= self.packet_bytes {
            self.receive.acknowledged();
            return Some(whole);
        }
        Some(Outgoing { held: SelectiveAck::default(), ..whole })
    }

    /// Appends a packet that was just polled.
    pub(crate) fn put(&self, packet: &Outgoing, out: &mut Vec<u8>) {
        put_header(packet.ack, &packet.held, packet.chunk.is_some(), out);
        if let Some(chunk) = &packet.chunk {
            put_varint(out, chunk.number);
            self.send.put_chunk(chunk, out);
        }
    }

    /// Takes a packet of the peer's in; [`unread`](Self::unread) may be longer then.
    ///
    /// # Errors
    ///
    /// If the packet is malformed, acknowledges chunks that were never sent, or is further ahead than any peer may
    /// be. Nothing changed.
    pub(crate) fn handle_packet(&mut self, body: &[u8], now: u64) -> Result<(), DecodeError> {
        let packet = Packet::decode(body)?;
        if !self.send.was_sent(packet.ack, &packet.held) {
            return Err(DecodeError::Limit);
        }
        if packet.chunk.is_some_and(|(number, _)| !self.receive.may_come(number)) {
            return Err(DecodeError::Limit);
        }
        let now = self.advance(now);
        self.send.handle_ack(packet.ack, &packet.held, now);
        if let Some((number, chunk)) = packet.chunk {
            self.receive.handle_chunk(number, chunk, now);
        }
        Ok(())
    }

    /// The bytes that arrived in order and were not [consumed](Self::consume).
    ///
    /// The beginning of a message may stay here until the rest has come, if `unread_max` is longer than any
    /// message.
    pub(crate) fn unread(&self) -> &[u8] {
        self.receive.unread()
    }

    /// Drops so many bytes from the front of [`unread`](Self::unread).
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.receive.consume(bytes);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and to [poll](Self::poll_packet) again; `None` as long as
    /// neither side waits for the other.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.send.poll_timeout().into_iter().chain(self.receive.ack_due()).min()
    }

    /// Finds the chunks that are lost by now, and the acknowledgement that is due. Does nothing before
    /// [`poll_timeout`](Self::poll_timeout), and however late it comes, it does it once.
    pub(crate) fn handle_timeout(&mut self, now: u64) {
        let now = self.advance(now);
        self.send.handle_timeout(now);
        self.receive.handle_timeout(now);
    }

    /// Tries the path now, if something waits for the peer: it may be back.
    pub(crate) fn nudge(&mut self, now: u64) {
        let now = self.advance(now);
        self.send.nudge(now);
    }

    /// Whether all that was written is acknowledged.
    pub(crate) fn is_quiet(&self) -> bool {
        self.send.is_quiet()
    }

    /// How many bytes of the stream the peer has, without a gap.
    #[cfg(test)]
    pub(crate) const fn delivered(&self) -> u64 {
        self.send.delivered()
    }

    /// How many bytes were written in all.
    pub(crate) fn written(&self) -> u64 {
        self.send.written()
    }

    /// How many bytes the buffers hold, without the room that the allocator holds for them to grow into.
    pub(crate) fn memory(&self) -> usize {
        self.send.memory().saturating_add(self.receive.memory())
    }

    /// The smoothed round trip in milliseconds, if there was one.
    pub(crate) fn rtt(&self) -> Option<u64> {
        self.send.rtt()
    }

    fn advance(&mut self, now: u64) -> u64 {
        self.now = self.now.max(now);
        self.now
    }
}
