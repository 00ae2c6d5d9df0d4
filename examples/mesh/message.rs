//! What replicas say to one another, and the frames that carry it. A link knows who is at its other end, so nothing
//! here names its sender.
//!
//! A frame has at most [`FRAME_BYTES_MAX`] bytes, so a long message travels in pieces. If one of them is lost, the
//! message is: what it had to say comes with the next repair.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// As much as a datagram holds.
pub(crate) const FRAME_BYTES_MAX: usize = 65_000;
/// A frame's head has at most so many bytes more.
const HEAD_BYTES_MAX: usize = 24;
/// Messages of one peer of which pieces are missing; when there are more, the oldest one is given up.
const INCOMPLETE_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// A bundle: what one event changed.
    Changes(Vec<u8>),
    /// A summary: what the sender has. Whoever receives it answers with what else there is.
    Summary(Vec<u8>),
    /// A bundle: what was missing in a summary.
    Repair(Vec<u8>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Frame<'a> {
    /// Which message of the sender's it belongs to.
    message: u64,
    /// Which piece of it.
    piece: u32,
    pieces: u32,
    #[serde(borrow)]
    bytes: &'a [u8],
}

impl Message {
    /// The frames for the `number`-th message of a sender.
    pub(crate) fn to_frames(&self, number: u64) -> Result<Vec<Vec<u8>>, String> {
        let bytes = postcard::to_allocvec(self).map_err(|error| error.to_string())?;
        let chunks = bytes.chunks(FRAME_BYTES_MAX - HEAD_BYTES_MAX);
        let pieces = u32::try_from(chunks.len()).map_err(|error| error.to_string())?;
        let frames = (0..pieces).zip(chunks).map(|(piece, bytes)| {
            let frame = Frame { message: number, piece, pieces, bytes };
            postcard::to_allocvec(&frame).map_err(|error| error.to_string())
        });
        frames.collect()
    }
}

/// What has arrived of one peer's messages.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    incomplete: BTreeMap<u64, BTreeMap<u32, Vec<u8>>>,
}

impl Inbox {
    /// Takes a frame in. Returns the message that it completes, if it does.
    pub(crate) fn take(&mut self, frame: &[u8]) -> Result<Option<Message>, String> {
        let frame: Frame<'_> =
            postcard::from_bytes(frame).map_err(|error| format!("a frame cannot be decoded: {error}"))?;
        let pieces = self.incomplete.entry(frame.message).or_default();
        pieces.insert(frame.piece, frame.bytes.into());
        if pieces.len() as u64 == u64::from(frame.pieces) {
            let pieces = self.incomplete.remove(&frame.message).unwrap_or_default();
            let bytes: Vec<u8> = pieces.into_values().flatten().collect();
            let message = postcard::from_bytes(&bytes);
            return message.map(Some).map_err(|error| format!("a message cannot be decoded: {error}"));
        }
        if self.incomplete.len() > INCOMPLETE_MAX {
            self.incomplete.pop_first();
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_message_is_one_frame() {
        for message in [Message::Changes(vec![1; 300]), Message::Summary(vec![]), Message::Repair(vec![9])] {
            let [frame] = message.to_frames(u64::MAX).unwrap().try_into().unwrap();
            let mut inbox = Inbox::default();
            assert_eq!(inbox.take(&frame), Ok(Some(message.clone())));
            assert_eq!(inbox.take(&frame), Ok(Some(message)), "a link may deliver it twice");
        }
        assert!(Inbox::default().take(b"\xff").is_err());
    }

    #[test]
    fn pieces_may_come_in_any_order_and_again_but_all_must_come() {
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let message = Message::Repair(bytes);
        let frames = message.to_frames(u64::MAX).unwrap();
        assert!(frames.len() > 10 && frames.iter().all(|frame| frame.len() <= FRAME_BYTES_MAX));
        let mut inbox = Inbox::default();
        let (last, others) = frames.split_last().unwrap();
        for frame in others.iter().rev().chain(others) {
            assert_eq!(inbox.take(frame), Ok(None));
        }
        assert_eq!(inbox.take(last), Ok(Some(message)));
    }

    #[test]
    fn incomplete_messages_are_bounded() {
        let message = Message::Repair(vec![7; 2 * FRAME_BYTES_MAX]);
        let mut inbox = Inbox::default();
        let all: Vec<_> = (0..100).map(|number| message.to_frames(number).unwrap()).collect();
        assert!(all.iter().all(|frames| inbox.take(&frames[0]) == Ok(None)));
        assert_eq!(inbox.incomplete.len(), INCOMPLETE_MAX);
        let mut complete = |frames: &[Vec<u8>]| inbox.take(&frames[1]).and(inbox.take(&frames[2]));
        assert_eq!(complete(&all[0]), Ok(None));
        assert_eq!(complete(&all[99]), Ok(Some(message)));
    }
}
