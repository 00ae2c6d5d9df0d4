//! Writing of the byte form that `form` reads.

use alloc::vec::Vec;

use super::kind::{Kind, sharing_allowed};
use crate::bytes::{put_len, put_varint, zigzag};
use crate::context::{Span, put_actor};
use crate::dot::ActorId;

/// Writes a form: the actors in the order of their names, then the rows in key order.
#[derive(Debug)]
pub(crate) struct Encoder<'a> {
    kind: Kind,
    out: Vec<u8>,
    key: &'a [u8],
    first: bool,
    decoded: usize,
    last: Vec<u64>,
    actor: u32,
    millis: u64,
    value_len: usize,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(kind: Kind, actors: usize) -> Self {
        // Room for a small delta, so that it is one allocation.
        let mut out = Vec::with_capacity(96);
        out.push(kind as u8);
        put_len(&mut out, actors);
        let last = Vec::with_capacity(actors);
        Self { kind, out, key: &[], first: true, decoded: 0, last, actor: 0, millis: 0, value_len: 0 }
    }

    /// The next actor and its spans, which ascend and do not touch.
    pub(crate) fn actor(&mut self, id: &ActorId, spans: impl Iterator<Item = Span> + Clone) {
        self.last.push(spans.clone().last().map_or(0, |span| span.end));
        put_actor(&mut self.out, id, spans);
    }

    /// The number of rows, written once, after the actors.
    pub(crate) fn rows(&mut self, count: usize) {
        self.out.reserve(count.saturating_mul(8));
        put_len(&mut self.out, count);
    }

    /// One live dot. `key` is `None` after a row with `more`, for the same key; its dots ascend by actor and counter.
    /// `actor` counts the actors written.
    #[inline]
    pub(crate) fn row(
        &mut self,
        key: Option<&'a [u8]>,
        more: bool,
        (actor, counter): (u32, u64),
        stamp: u64,
        value: &[u8],
    ) {
        if let Some(key) = key {
            self.put_key(key);
        }
        self.decoded += key.map_or(0, <[u8]>::len) + value.len();
        let last = core::mem::replace(&mut self.last[actor as usize], counter);
        let distance = zigzag(counter.cast_signed() - last.cast_signed());
        let other = actor != core::mem::replace(&mut self.actor, actor);
        put_varint(&mut self.out, (distance << 2) | (u64::from(other) << 1) | u64::from(more));
        if other {
            put_varint(&mut self.out, u64::from(actor));
        }
        if self.kind == Kind::Map {
            self.put_write(stamp, value);
        }
    }

    #[inline]
    fn put_key(&mut self, key: &'a [u8]) {
        let allowed = !self.first && sharing_allowed(self.decoded, self.out.len());
        let shared = if allowed { shared_prefix(self.key, key) } else { 0 };
        self.first = false;
        let drop = self.key.len() - shared;
        let suffix = &key[shared..];
        self.out.push((nibble(drop) << 4) | nibble(suffix.len()));
        for len in [drop, suffix.len()] {
            if len >= 15 {
                put_len(&mut self.out, len - 15);
            }
        }
        self.out.extend_from_slice(suffix);
        self.key = key;
    }

    #[inline]
    fn put_write(&mut self, stamp: u64, value: &[u8]) {
        let (millis, logical) = (stamp >> 16, stamp & 0xffff);
        let before = core::mem::replace(&mut self.millis, millis);
        let distance = zigzag(millis.cast_signed() - before.cast_signed());
        let resized = value.len() != core::mem::replace(&mut self.value_len, value.len());
        put_varint(&mut self.out, (distance << 2) | (u64::from(logical > 0) << 1) | u64::from(resized));
        if logical > 0 {
            put_varint(&mut self.out, logical);
        }
        if resized {
            put_len(&mut self.out, value.len());
        }
        self.out.extend_from_slice(value);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }
}

#[inline]
fn nibble(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(15).min(15)
}

#[inline]
fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
