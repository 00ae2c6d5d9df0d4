//! The protection of frames after the handshake: [`Sealer`] and [`Opener`], one for each direction.
//!
//! ```text
//! number   2 bytes: the lower half of the lower half of the frame's number, which counts from 0
//! sealed   the packet, and a tag of 16 bytes
//! ```
//!
//! The number is the nonce, and the frame's first byte is authenticated with it, so a data frame is no close frame. A key
//! serves for 4,096 frames; the next one follows from it, and not the other way round.
//!
//! The invariant: of one number at most one frame is given out, and none that the peer did not seal.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::cipher::{Cipher, TAG_BYTES};
use super::frame::{Kind, put_head};

/// How many bits of a number count the frames under one key.
const EPOCH_BITS: u32 = 12;
/// The bytes of a number that a frame says.
const NUMBER_BYTES: usize = 2;
/// Half of the numbers that these tell apart.
const HALF: u64 = 1 << 15;

/// The bytes that protection adds to a packet.
pub(super) const OVERHEAD: usize = NUMBER_BYTES + TAG_BYTES;

/// Seals what one side sends.
#[derive(Debug)]
pub(super) struct Sealer {
    cipher: Cipher,
    next: u64,
}

impl Sealer {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { cipher: Cipher::new(key), next: 0 }
    }

    /// Appends a frame whose packet has so many bytes: each is written once, and encrypted where it stands. False, and
    /// nothing was appended, if all numbers are used up.
    pub(super) fn put(
        &mut self,
        kind: Kind,
        packet_bytes: usize,
        out: &mut Vec<u8>,
        packet: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let number = self.next;
        // The last one is the rekeying's.
        if number == u64::MAX {
            return false;
        }
        self.next = number.saturating_add(1);
        if number > 0 && number.trailing_zeros() >= EPOCH_BITS {
            self.cipher = self.cipher.next();
        }
        put_head(out, kind, packet_bytes.saturating_add(OVERHEAD));
        let [low, high, ..] = number.to_le_bytes();
        out.extend_from_slice(&[low, high]);
        let from = out.len();
        packet(out);
        debug_assert_eq!(out.len().saturating_sub(from), packet_bytes, "the length that was said");
        let tag = self.cipher.seal(number, &[kind.first()], out.get_mut(from..).unwrap_or_default());
        // None is so long that there is no tag; one of zeros is refused at the other end.
        out.extend_from_slice(&tag.unwrap_or_default());
        true
    }
}

/// A packet that the peer sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened<'a> {
    New(&'a [u8]),
    /// It has come before, or is so late that nobody knows.
    Again,
}

/// Opens what the other side sends.
#[derive(Debug)]
pub(super) struct Opener {
    /// Of the key in use.
    epoch: u64,
    cipher: Cipher,
    /// The one before, for frames that come late.
    previous: Option<Cipher>,
    seen: Seen,
}

impl Opener {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { epoch: 0, cipher: Cipher::new(key), previous: None, seen: Seen::default() }
    }

    /// Opens the body of a frame into a buffer, which grows as needed. None if it is not the peer's: then nothing changed.
    pub(super) fn open<'a>(&mut self, kind: Kind, body: &[u8], out: &'a mut Vec<u8>) -> Option<Opened<'a>> {
        let (low, sealed) = body.split_first_chunk::<NUMBER_BYTES>()?;
        let number = self.seen.number(u16::from_le_bytes(*low))?;
        let bytes = sealed.len().checked_sub(TAG_BYTES)?;
        if out.len() < bytes {
            out.resize(bytes, 0);
        }
        let data = [kind.first()];
        let epoch = number >> EPOCH_BITS;
        if epoch > self.epoch {
            // At most 8 keys later: a number is not told apart further ahead.
            let (mut before, mut after) = (None, self.cipher.next());
            for _ in self.epoch.saturating_add(1)..epoch {
                let next = after.next();
                before = Some(core::mem::replace(&mut after, next));
            }
            after.open(number, &data, sealed, out)?;
            let current = core::mem::replace(&mut self.cipher, after);
            self.previous = Some(before.unwrap_or(current));
            self.epoch = epoch;
        } else if epoch == self.epoch {
            self.cipher.open(number, &data, sealed, out)?;
        } else {
            let previous = self.previous.as_ref().filter(|_| epoch.saturating_add(1) == self.epoch)?;
            previous.open(number, &data, sealed, out)?;
        }
        Some(if self.seen.is_new(number) { Opened::New(out.get(..bytes)?) } else { Opened::Again })
    }
}

/// Which numbers have come.
#[derive(Debug, Default)]
struct Seen {
    /// One more than the greatest; before any, 0.
    next: u64,
    /// A bit for each number of the last 16 words of 64, in a ring.
    words: [u64; Self::WORDS],
}

impl Seen {
    const WORDS: usize = 16;
    /// The last place in the ring.
    const LAST: u64 = 0xf;

    /// The number with these lowest bits that is nearest to the next one.
    fn number(&self, low: u16) -> Option<u64> {
        let near = (self.next & !u64::from(u16::MAX)) | u64::from(low);
        let nearest = if self.next.saturating_sub(near) >= HALF {
            near.checked_add(2 * HALF)?
        } else if near.saturating_sub(self.next) > HALF {
            near.checked_sub(2 * HALF).unwrap_or(near)
        } else {
            near
        };
        // The last one is the rekeying's.
        (nearest < u64::MAX).then_some(nearest)
    }

    fn word(&mut self, number: u64) -> Option<&mut u64> {
        usize::try_from((number >> 6) & Self::LAST).ok().and_then(|at| self.words.get_mut(at))
    }

    fn is_new(&mut self, number: u64) -> bool {
        let (last, this) = (self.next.saturating_sub(1) >> 6, number >> 6);
        if this.saturating_add(Self::WORDS as u64) <= last {
            return false;
        }
        // The words that it passes are empty.
        for word in (last.saturating_add(1)..=this).take(self.words.len()) {
            if let Some(word) = self.word(word << 6) {
                *word = 0;
            }
        }
        self.next = self.next.max(number.saturating_add(1));
        let bit = 1 << (number & 63);
        self.word(number).is_some_and(|word| {
            let new = *word & bit == 0;
            *word |= bit;
            new
        })
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;

    /// The body of the next frame with one byte in it, which has a head of two bytes.
    fn next(sealer: &mut Sealer, byte: u8) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(sealer.put(Kind::Data, 1, &mut out, |out| out.push(byte)));
        out.split_off(2)
    }

    fn pair() -> (Sealer, Opener) {
        (Sealer::new(&[7; 32]), Opener::new(&[7; 32]))
    }

    fn open(opener: &mut Opener, body: &[u8]) -> Option<Option<u8>> {
        match opener.open(Kind::Data, body, &mut Vec::new())? {
            Opened::New(packet) => Some(Some(packet[0])),
            Opened::Again => Some(None),
        }
    }

    #[test]
    fn frames_come_in_any_order_over_many_keys_and_each_is_given_out_once() {
        let (mut sealer, mut opener) = pair();
        let mut state = 1_u64;
        let mut waiting: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut given = BTreeSet::new();
        for number in 0..20_000_u64 {
            waiting.push((number, next(&mut sealer, number as u8)));
            if waiting.len() < 500 {
                continue;
            }
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (number, body) = waiting.swap_remove((state >> 33) as usize % waiting.len());
            // One that waited for long is not told from one that has come.
            let late = number + 900 < opener.seen.next;
            let came = open(&mut opener, &body);
            assert!(
                came == Some(Some(number as u8)) || late && matches!(came, Some(None) | None),
                "{number}"
            );
            assert!(came != Some(Some(number as u8)) || given.insert(number));
            assert_ne!(open(&mut opener, &body), Some(Some(number as u8)), "{number} again");
        }
        assert!(given.len() > 15_000 && opener.epoch == 4, "{}", given.len());
    }

    #[test]
    fn losses_of_half_the_numbers_that_two_bytes_tell_apart_do_no_harm() {
        for lost in [0, 1, 4_095, 4_096, 8_191, 8_192, 30_000, 32_767] {
            let (mut sealer, mut opener) = pair();
            for turn in 0..3 {
                let late = next(&mut sealer, 1);
                (0..lost).for_each(|_| drop(next(&mut sealer, 0)));
                let body = next(&mut sealer, 2);
                assert_eq!(open(&mut opener, &body), Some(Some(2)), "{lost} lost, turn {turn}");
                let kept = lost < 900;
                assert_eq!(open(&mut opener, &late).is_some_and(|new| new.is_some()), kept, "{lost} lost");
            }
        }
    }

    #[test]
    fn a_frame_that_was_changed_changes_nothing() {
        let (mut sealer, mut opener) = pair();
        (0..4_095).for_each(|_| assert!(open(&mut opener, &next(&mut sealer, 0)).is_some()));
        let [last, first] = [1, 2].map(|byte| next(&mut sealer, byte));
        for body in [&first, &last] {
            for at in 0..body.len() {
                let mut bad = body.clone();
                bad[at] ^= 1;
                assert_eq!(open(&mut opener, &bad), None, "byte {at}");
                assert_eq!(open(&mut opener, &body[..at]), None);
            }
            assert_eq!(opener.open(Kind::Close, body, &mut Vec::new()), None, "it is no other kind");
        }
        assert_eq!((opener.epoch, opener.seen.next), (0, 4_095));
        assert_eq!(open(&mut opener, &first), Some(Some(2)));
        assert_eq!(open(&mut opener, &last), Some(Some(1)), "with the key before");
        assert_eq!((opener.epoch, opener.seen.next), (1, 4_097));
    }

    #[test]
    fn the_key_that_follows_is_that_of_noise() {
        let cipher = Cipher::new(&[7; 32]);
        let mut sealed = [0; 32];
        cipher.seal(u64::MAX, &[], &mut sealed).unwrap();
        let mut bytes = [[0; 8]; 2];
        let tags =
            [cipher.next().seal(1, b"x", &mut bytes[0]), Cipher::new(&sealed).seal(1, b"x", &mut bytes[1])];
        assert_eq!((bytes[0], tags[0]), (bytes[1], tags[1]));
    }

    #[test]
    fn numbers_come_to_an_end_without_one_coming_twice() {
        let (mut sealer, mut opener) = pair();
        sealer.next = u64::MAX - 1;
        opener.seen.next = u64::MAX - 1;
        opener.epoch = (u64::MAX - 1) >> EPOCH_BITS;
        let body = next(&mut sealer, 3);
        assert_eq!(open(&mut opener, &body), Some(Some(3)));
        assert_eq!(open(&mut opener, &body), Some(None));
        let mut out = Vec::new();
        assert!(!sealer.put(Kind::Data, 1, &mut out, |out| out.push(0)) && out.is_empty());
    }
}
