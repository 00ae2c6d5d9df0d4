//! Frames: the units of bytes that a session hands to its host and takes from it.
//!
//! A frame says where it ends, so frames can follow each other on a stream of bytes; over datagrams each is one. Their
//! content is the matter of `handshake` and `link`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, put_varint};

/// The version of the frames, in the upper half of the first byte.
pub(crate) const VERSION: u8 = 1;
/// The largest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 1 << 16;
/// The smallest size that a session can be told to keep its frames to, in bytes.
pub const FRAME_BYTES_MIN: usize = 256;
/// The most that stands before a body: the first byte, and a length of three.
pub(crate) const HEAD_BYTES_MAX: usize = 4;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The side that dials opens.
    Hello,
    /// The other answers.
    Answer,
    /// The side that dials proves its identity.
    Proof,
    /// The other does not want to go on.
    Refusal,
    /// Everything after that.
    Data,
    /// The end.
    Close,
    /// The other wants a hello that was made for it, before it answers.
    Challenge,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Answer => 2,
            Self::Proof => 3,
            Self::Refusal => 4,
            Self::Data => 5,
            Self::Close => 6,
            Self::Challenge => 7,
        }
    }

    /// The first byte of a frame of this kind.
    pub(crate) const fn first(self) -> u8 {
        VERSION << 4 | self.code()
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Hello,
            2 => Self::Answer,
            3 => Self::Proof,
            4 => Self::Refusal,
            5 => Self::Data,
            6 => Self::Close,
            7 => Self::Challenge,
            _ => return None,
        })
    }
}

/// Appends the head of a frame, and makes room for its body.
pub(crate) fn put_head(out: &mut Vec<u8>, kind: Kind, body_bytes: usize) {
    out.reserve(body_bytes.saturating_add(HEAD_BYTES_MAX));
    out.push(kind.first());
    put_varint(out, body_bytes as u64);
}

/// Appends a frame.
pub(crate) fn put_frame(out: &mut Vec<u8>, kind: Kind, body: &[u8]) {
    put_head(out, kind, body.len());
    out.extend_from_slice(body);
}

/// Why bytes are not frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// They are no frames of this library: something else talks on this connection, or a stream was cut in the middle.
    #[error(
        "these bytes are no whole frame ({0}): cut streams with a FrameDecoder, or something else talks here"
    )]
    Decode(#[from] DecodeError),
    /// They are frames of another version of the protocol.
    #[error(
        "these are frames of version {0} of the protocol, or something else talks here: upgrade, or check the address"
    )]
    Version(u8),
}

/// A frame: its kind, `None` if this version does not know it, and its body.
pub(crate) type Frame<'a> = (Option<Kind>, &'a [u8]);

/// Reads the first frame of some bytes.
pub(crate) fn read_frame<'a>(reader: &mut Reader<'a>) -> Result<Frame<'a>, FrameError> {
    let first = reader.byte()?;
    if first >> 4 != VERSION {
        return Err(FrameError::Version(first >> 4));
    }
    let len = reader.varint_max(FRAME_BYTES_MAX as u64)?;
    let body = reader.take(usize::try_from(len).map_err(|_| DecodeError::Limit)?)?;
    Ok((Kind::from_code(first & 0xf), body))
}

/// Whether a frame opens a session: a host that listens for datagrams asks this before it connects a new one.
#[must_use]
pub fn opens_session(frame: &[u8]) -> bool {
    read_frame(&mut Reader::new(frame)).is_ok_and(|(kind, _)| kind == Some(Kind::Hello))
}

/// Finds the frames in a stream of bytes that comes in pieces, cut anywhere.
///
/// Holds at most one unfinished frame: [`FRAME_BYTES_MAX`] bytes and a few, beside the piece that was pushed last.
#[derive(Clone, Debug, Default)]
pub struct FrameDecoder {
    bytes: Vec<u8>,
    /// So many of them were given out.
    used: usize,
}

impl FrameDecoder {
    /// At the beginning of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), used: 0 }
    }

    /// Takes in the next piece. Ask for [frames](Self::next_frame) until there is none before the next is pushed.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole frame, if it is there.
    ///
    /// # Errors
    ///
    /// If the bytes are no frames. There is no way to find the next one: the connection has to be closed.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = self.bytes.get(self.used..).unwrap_or_default();
        let mut reader = Reader::new(rest);
        match read_frame(&mut reader) {
            Ok(_) => {
                let len = reader.position();
                self.used = self.used.saturating_add(len);
                Ok(rest.get(..len))
            }
            Err(FrameError::Decode(DecodeError::Truncated)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_wherever_a_stream_is_cut() {
        let mut stream = Vec::new();
        let bodies: Vec<Vec<u8>> =
            [0_usize, 1, 127, 128, 300].iter().map(|len| alloc::vec![7; *len]).collect();
        for body in &bodies {
            put_frame(&mut stream, Kind::Data, body);
        }
        // A kind that this version does not know is a frame as well.
        stream.extend([VERSION << 4 | 15, 1, 9]);
        for size in 1..stream.len() {
            let mut decoder = FrameDecoder::new();
            let mut found: Vec<Vec<u8>> = Vec::new();
            for piece in stream.chunks(size) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    found.push(frame.to_vec());
                }
            }
            assert_eq!(found.concat(), stream);
            assert_eq!(found.len(), bodies.len() + 1);
        }
    }

    #[test]
    fn what_is_no_frame_ends_a_stream() {
        let mut decoder = FrameDecoder::new();
        decoder.push(b"GET / HTTP/1.1");
        assert_eq!(decoder.next_frame(), Err(FrameError::Version(4)));
        let mut decoder = FrameDecoder::new();
        decoder.push(&[VERSION << 4 | 5, 0xff, 0xff, 0xff, 1]);
        assert_eq!(decoder.next_frame(), Err(DecodeError::Limit.into()));
        let mut decoder = FrameDecoder::new();
        decoder.push(&[VERSION << 4 | 5, 0x80, 0]);
        assert_eq!(decoder.next_frame(), Err(DecodeError::Varint.into()));
    }

    #[test]
    fn only_a_hello_opens() {
        for (kind, opens) in [(Kind::Hello, true), (Kind::Data, false)] {
            let mut frame = Vec::new();
            put_frame(&mut frame, kind, b"body");
            assert_eq!(opens_session(&frame), opens);
            assert!(!opens_session(frame.get(..3).unwrap()));
        }
    }
}
