//! The half of a link that takes chunks in: the missing ones, those held after a gap, and the bytes that are
//! ready to be read.
//!
//! The invariant: a chunk that was once acknowledged, in a bitmap too, is never dropped again, for the peer
//! does not send it a second time.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::packet::{AHEAD_MAX, SelectiveAck};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

#[derive(Debug)]
pub(super) struct Receiver {
    window: usize,
    unread_max: usize,
    /// The first chunk that is missing.
    next: u64,
    /// Chunks behind it, at most [`AHEAD_MAX`] and of at most `window` bytes.
    held: BTreeMap<u64, Box<[u8]>>,
    held_bytes: usize,
    /// The bytes that came in order, and how many at their front were consumed.
    ready: Vec<u8>,
    consumed: usize,
    owed: Owed,
}

/// The acknowledgement that is owed, if one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// One chunk came in its turn: a packet that leaves by this time says so, and else one of its own.
    By(u64),
    /// More came, or one out of its turn, or again: the sender waits for the word.
    Now,
}

impl Receiver {
    /// An empty buffer longer than this is given back: most links are idle most of the time.
    const SPARE_BYTES_MAX: usize = 4096;
    /// So long an acknowledgement waits for a packet to go along with, in milliseconds: a sender counts on it
    /// (`Rtt::ANSWER`).
    pub(super) const ACK_DELAY_MS: u64 = 20;

    pub(super) const fn new(window: usize, unread_max: usize) -> Self {
        Self {
            window,
            unread_max,
            next: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            ready: Vec::new(),
            consumed: 0,
            owed: Owed::Nothing,
        }
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn held(&self) -> SelectiveAck {
        let mut held = SelectiveAck::default();
        let first = self.next.saturating_add(1);
        for number in self.held.keys() {
            held.insert(number.saturating_sub(first));
        }
        held
    }

    /// Whether an acknowledgement has to go out now, with or without a chunk.
    pub(super) const fn owes_ack(&self, now: u64) -> bool {
        match self.owed {
            Owed::Nothing => false,
            Owed::By(due) => due <= now,
            Owed::Now => true,
        }
    }

    /// When one has to go out.
    pub(super) const fn ack_due(&self) -> Option<u64> {
        match self.owed {
            Owed::By(due) => Some(due),
            Owed::Nothing | Owed::Now => None,
        }
    }

    /// Takes in that time has passed. Whoever has no room for a packet has no timer for it either.
    pub(super) const fn handle_timeout(&mut self, now: u64) {
        if self.owes_ack(now) {
            self.owed = Owed::Now;
        }
    }

    /// A packet with the whole acknowledgement was sent.
    pub(super) const fn acknowledged(&mut self) {
        self.owed = Owed::Nothing;
    }

    /// Whether a peer that keeps to the rules can send this chunk now.
    pub(super) fn may_come(&self, number: u64) -> bool {
        number.saturating_sub(self.next) <= AHEAD_MAX
    }

    pub(super) fn handle_chunk(&mut self, number: u64, chunk: &[u8], now: u64) {
        let first = self.owed == Owed::Nothing && number == self.next && self.held.is_empty();
        // At once for an old one too: it came again because the acknowledgement was lost.
        self.owed = Owed::Now;
        if number == self.next {
            if self.unread().len() > self.unread_max {
                return;
            }
            if first {
                self.owed = Owed::By(now.saturating_add(Self::ACK_DELAY_MS));
            }
            self.ready.extend_from_slice(chunk);
            self.next = self.next.saturating_add(1);
            while let Some(chunk) = self.held.remove(&self.next) {
                self.held_bytes = self.held_bytes.saturating_sub(chunk.len());
                self.ready.extend_from_slice(&chunk);
                self.next = self.next.saturating_add(1);
            }
        } else if number > self.next && self.may_come(number) && !self.held.contains_key(&number) {
            let bytes = self.held_bytes.saturating_add(chunk.len());
            if bytes <= self.window {
                self.held_bytes = bytes;
                self.held.insert(number, chunk.into());
            }
        }
    }

    pub(super) fn unread(&self) -> &[u8] {
        self.ready.get(self.consumed..).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.consumed = self.consumed.saturating_add(bytes).min(self.ready.len());
        let unread = self.ready.len().saturating_sub(self.consumed);
        // Never more to move than was consumed.
        if unread <= self.consumed {
            self.ready.drain(..self.consumed);
            self.consumed = 0;
        }
        if self.ready.is_empty() && self.ready.capacity() > Self::SPARE_BYTES_MAX {
            self.ready = Vec::new();
        }
    }

    pub(super) fn memory(&self) -> usize {
        let numbers = self.held.len().saturating_mul(size_of::<(u64, Box<[u8]>)>());
        self.ready.len().saturating_add(self.held_bytes).saturating_add(numbers)
    }
}
