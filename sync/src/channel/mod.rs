//! The channel: the peer's identity, and messages of several protocols to and fro.
//!
//! ```text
//! mod        a channel between two agents that know each other: messages, keys, liveness
//! ├─ link    a stream of messages over packets that get lost
//! └─ single  messages that are sent once, and may get lost
//! dial       the handshake of one side
//! listen     and of the other
//! handshake  its frames, and the keys that come of it
//! resumption what two remember of each other, to leave signatures out
//! noise      the exchange of ephemeral keys in it
//! protect    the frames after it, sealed
//! cipher     what seals
//! frame      where a frame ends on a stream of bytes
//! error      why a handshake failed
//! ```
//!
//! # Messages
//!
//! A message is a byte, `protocol << 5 | kind`, and a body that the protocol defines. There are [eight](Protocol)
//! protocols of 31 kinds each. A message of a protocol that this side does not speak is passed over, so that another version
//! can bring one along. On the stream a message stands after its length; in a [single](single) packet it goes to the end.
//!
//! A protocol gives messages out when the channel has room, straight into the bytes that are sent ([`Channel::write`]),
//! and takes in those that come ([`Channel::next_message`], and [`Channel::handle_packet`] for single ones).
//!
//! Not here: the meaning of messages, logs, and the set of sessions. The invariant: every byte that is passed on was
//! sealed, and comes from the agent that [`Channel::peer`] names.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod cipher;
mod dial;
mod error;
mod frame;
mod handshake;
mod link;
mod listen;
mod noise;
mod protect;
mod resumption;
mod single;
#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic fails the test")]
mod tests;

use alloc::vec::Vec;

pub(crate) use cipher::Secret;
pub(crate) use dial::Resuming;
pub(crate) use dial::{Dial, Proof};
pub use error::{HandshakeError, Peer, Refusal};
pub use frame::{FRAME_BYTES_MAX, FRAME_BYTES_MIN, FrameDecoder, FrameError, opens_session};
pub(crate) use frame::{Kind, put_frame, read_frame};
pub(crate) use handshake::{HelloName, Membership, SessionKeys, Terms, WINDOW_MAX, WINDOW_MIN};
pub(crate) use listen::{Calm, Listen, Proven};
pub(crate) use resumption::{Left, Resumed, Resumptions};

use crate::codec::{DecodeError, Reader, put_varint};
use frame::HEAD_BYTES_MAX;
use link::{Link, LinkOptions};
use protect::{Opened, Opener, Sealer};
use single::Singles;

/// A handshake that takes longer has failed, in milliseconds.
const HANDSHAKE_MS: u64 = 15_000;
/// The most bytes that a message may have: the largest entry with its proof fits.
pub(crate) const MESSAGE_BYTES_MAX: usize = 72 << 10;
/// The most that stands before a message on the stream: its length.
const LENGTH_BYTES_MAX: usize = 3;

/// Why a frame of a handshake was not taken in.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// It is somebody else's. Nothing changed, and the right one may still come.
    NotAuthentic,
    /// The handshake is over; and the hello that is to be refused, if there is one.
    Failed(HandshakeError, Option<HelloName>),
}

/// One of the protocols whose messages a channel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protocol(u8);

impl Protocol {
    /// How many bits of a message's first byte name the kind.
    const KIND_BITS: u32 = 5;
    const KINDS: u8 = 0x1f;

    /// The protocol with a number, of which the lowest three bits count.
    pub(crate) const fn new(number: u8) -> Self {
        Self(number & 7)
    }
}

/// A message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) protocol: Protocol,
    /// Below 32.
    pub(crate) kind: u8,
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (first, body) = bytes.split_first().ok_or(DecodeError::Truncated)?;
        Ok(Self { protocol: Protocol(first >> Protocol::KIND_BITS), kind: first & Protocol::KINDS, body })
    }
}

/// Why a packet was not taken in. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketError {
    /// It is not the peer's, of this channel.
    NotAuthentic,
    /// It is the peer's, and no packet.
    Malformed(DecodeError),
}

/// Why there is no message where one should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageError {
    /// It is none. The next one follows.
    Malformed(DecodeError),
    /// Where the next one begins is not known any more.
    Lost(DecodeError),
}

/// The peer, the keys, and the limits that both sides have agreed on.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) dials: bool,
    pub(crate) peer: Peer,
    pub(crate) keys: SessionKeys,
    /// The largest frame that both take.
    pub(crate) frame_bytes: usize,
    pub(crate) window: usize,
    pub(crate) peer_window: usize,
    /// Whether the path has to be probed for its capacity.
    pub(crate) datagrams: bool,
    /// The channel is dead when nothing valid came for so long, in milliseconds.
    pub(crate) idle_ms: u64,
}

/// One end of a channel after its handshake.
///
/// After each [`write`](Self::write), [`handle_packet`](Self::handle_packet) and [`handle_timeout`](Self::handle_timeout),
/// [`poll_frame`](Self::poll_frame) until there is none, and then ask for the next [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub(crate) struct Channel {
    peer: Peer,
    sealer: Sealer,
    opener: Opener,
    packet_bytes: usize,
    link: Link,
    /// So many of the link's unread bytes were given out.
    given: usize,
    singles: Singles,
    /// When something valid came last.
    heard: u64,
    idle_ms: u64,
}

impl Channel {
    pub(crate) fn new(agreed: Agreed, ms: u64) -> Self {
        let packet_bytes = agreed.frame_bytes.saturating_sub(HEAD_BYTES_MAX + protect::OVERHEAD);
        let link = LinkOptions {
            packet_bytes,
            window_out: agreed.window,
            window_in: agreed.window,
            // The beginning of a message stays until the rest has come.
            unread_max: MESSAGE_BYTES_MAX + LENGTH_BYTES_MAX,
            peer_window: agreed.peer_window,
            controlled: agreed.datagrams,
        };
        Self {
            peer: agreed.peer,
            sealer: Sealer::new(agreed.keys.of(agreed.dials)),
            opener: Opener::new(agreed.keys.of(!agreed.dials)),
            packet_bytes,
            link: Link::new(link, ms),
            given: 0,
            singles: Singles::default(),
            heard: ms,
            idle_ms: agreed.idle_ms,
        }
    }

    /// The agent on the other side.
    pub(crate) const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether there is room for another message of the stream. A begun message may be written to its end all the same.
    pub(crate) fn has_room(&self) -> bool {
        self.link.room() > 0
    }

    /// How many bytes of the stream were written in all.
    pub(crate) fn written(&self) -> u64 {
        self.link.written()
    }

    /// Whether all that was written to the stream is acknowledged.
    pub(crate) fn is_quiet(&self) -> bool {
        self.link.is_quiet()
    }

    /// Lets a protocol append one message to the stream, its kind first, or nothing. Whether it appended any.
    ///
    /// The vector is the channel's own memory, so the bytes of a message are written once; the protocol leaves the bytes
    /// that are there already as they are.
    pub(crate) fn write(&mut self, protocol: Protocol, message: impl FnOnce(&mut Vec<u8>)) -> bool {
        let queue = self.link.queue();
        let start = queue.len();
        // Most messages are short: if one is longer than its length has room for, it is moved.
        queue.push(0);
        let from = queue.len();
        message(queue);
        let bytes = queue.len().saturating_sub(from);
        debug_assert!(bytes <= MESSAGE_BYTES_MAX, "a message of {bytes} bytes");
        if bytes == 0 {
            queue.truncate(start);
            return false;
        }
        if let Some(kind) = queue.get_mut(from) {
            *kind |= protocol.0 << Protocol::KIND_BITS;
        }
        match (u8::try_from(bytes), queue.get_mut(start)) {
            (Ok(length @ ..0x80), Some(place)) => *place = length,
            _ => {
                let mut length = Vec::with_capacity(LENGTH_BYTES_MAX);
                put_varint(&mut length, bytes as u64);
                queue.splice(start..from, length);
            }
        }
        true
    }

    /// Appends a frame with one message of a protocol, its kind first, that is sent once and may get lost: at most a frame
    /// full. It is not held back when the path is full, so the protocol has to keep to a budget of its own. False if it is
    /// too long.
    #[cfg_attr(not(test), expect(dead_code, reason = "for gossip and presence"))]
    pub(crate) fn put_single(&mut self, protocol: Protocol, message: &[u8], out: &mut Vec<u8>) -> bool {
        let packet_bytes = self.singles.bytes(message);
        let Some((kind, _)) = message.split_first().filter(|_| packet_bytes <= self.packet_bytes) else {
            return false;
        };
        let singles = &mut self.singles;
        let first = kind | protocol.0 << Protocol::KIND_BITS;
        self.sealer.put(Kind::Data, packet_bytes, out, |out| singles.put(first, message, out))
    }

    /// Appends the next frame of the stream, if there is one: poll until there is none, and again after any other call.
    pub(crate) fn poll_frame(&mut self, ms: u64, out: &mut Vec<u8>) -> bool {
        let Some(packet) = self.link.poll_packet(ms) else { return false };
        self.sealer.put(Kind::Data, packet.bytes(), out, |out| self.link.put(&packet, out))
    }

    /// Takes in the body of a data frame, which is decrypted into a buffer. Gives the message of a single packet; messages of
    /// the stream are [polled](Self::next_message). A frame that has come before changes nothing.
    ///
    /// # Errors
    ///
    /// Why it was not taken in. A frame that is malformed was the peer's all the same, and shows that it is there.
    pub(crate) fn handle_packet<'a>(
        &mut self,
        body: &[u8],
        buffer: &'a mut Vec<u8>,
        ms: u64,
    ) -> Result<Option<Message<'a>>, PacketError> {
        let packet = match self.opener.open(Kind::Data, body, buffer) {
            Some(Opened::New(packet)) => packet,
            Some(Opened::Again) => return Ok(None),
            None => return Err(PacketError::NotAuthentic),
        };
        self.heard = ms;
        if packet.first() == Some(&single::FIRST) {
            let message = self.singles.handle(packet).map_err(PacketError::Malformed)?;
            return message.map(Message::read).transpose().map_err(PacketError::Malformed);
        }
        self.link.handle_packet(packet, ms).map_err(PacketError::Malformed)?;
        Ok(None)
    }

    /// The next whole message that came on the stream. Poll it until there is none after each packet.
    ///
    /// # Errors
    ///
    /// Why there is none where one should be.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message<'_>>, MessageError> {
        let mut reader = Reader::new(self.link.unread().get(self.given..).unwrap_or_default());
        let whole = match reader.varint_max(MESSAGE_BYTES_MAX as u64) {
            Ok(len) => reader.take(usize::try_from(len).unwrap_or(usize::MAX)).is_ok(),
            Err(DecodeError::Truncated) => false,
            Err(error) => return Err(MessageError::Lost(error)),
        };
        if !whole {
            self.link.consume(core::mem::take(&mut self.given));
            return Ok(None);
        }
        let start = self.given;
        self.given = start.saturating_add(reader.position());
        let mut reader = Reader::new(self.link.unread().get(start..self.given).unwrap_or_default());
        let message = reader.varint().and_then(|_| reader.take(reader.remaining()));
        message.and_then(Message::read).map(Some).map_err(MessageError::Malformed)
    }

    /// Appends the frame that tells the peer that this is the end.
    pub(crate) fn put_close(&mut self, out: &mut Vec<u8>) {
        self.sealer.put(Kind::Close, 0, out, |_| ());
    }

    /// Whether the body of a close frame is the peer's.
    pub(crate) fn is_close(&mut self, body: &[u8]) -> bool {
        matches!(self.opener.open(Kind::Close, body, &mut Vec::new()), Some(Opened::New([])))
    }

    /// When there is something to do.
    pub(crate) fn poll_timeout(&self) -> u64 {
        let idle = self.heard.saturating_add(self.idle_ms);
        self.link.poll_timeout().unwrap_or(u64::MAX).min(idle)
    }

    /// Takes in that time has passed. False if the peer is gone.
    pub(crate) fn handle_timeout(&mut self, ms: u64) -> bool {
        let alive = ms < self.heard.saturating_add(self.idle_ms);
        if alive {
            self.link.handle_timeout(ms);
        }
        alive
    }

    /// Tries the path now, if something waits for the peer.
    pub(crate) fn nudge(&mut self, ms: u64) {
        self.link.nudge(ms);
    }

    /// How long a frame and its answer take, in milliseconds, if that is known.
    pub(crate) fn round_trip_ms(&self) -> Option<u64> {
        self.link.rtt()
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn memory(&self) -> usize {
        self.link.memory()
    }
}
