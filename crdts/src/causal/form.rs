//! The byte form of maps and sets, whole or in part: dots with what they wrote, and the context that covers them.
//!
//! A state and a delta are the same thing: a causal context, and the dots of it that are live. A delta's context
//! names the dots it is about, a state's all that were ever seen. What the context covers and the rows do not list
//! is dead. [`Form`] is the decoded shape, [`Writer`] writes; `docs/WIRE.md` has the layout to the byte.
//!
//! The invariant: what [`Form::read`] accepts, [`Writer`] writes back to the same bytes.

use alloc::vec::Vec;
use core::ops::Range;

use super::lookup::Lookup;
use crate::codec::{
    DecodeError, KEY_BYTES_MAX, Reader, VALUE_BYTES_MAX, put_len, put_varint, unzigzag, zigzag,
};
use crate::context::{Span, put_actor, read_actor, read_spans};
use crate::dot::{ActorId, COUNTER_MAX};

/// What the rows hold beside keys and dots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Stamps and values.
    #[default]
    Map = 0x11,
    /// Nothing.
    Set = 0x12,
}

/// Keys share a prefix with the key before only while what has been decoded stays within this many times the bytes
/// it came from (and [`SHARING_FREE`] more), so that a few bytes cannot unfold into a flood of long keys.
const SHARING_RATIO: usize = 64;
const SHARING_FREE: usize = 4_096;

const fn sharing_allowed(decoded: usize, encoded: usize) -> bool {
    decoded <= SHARING_FREE.saturating_add(encoded.saturating_mul(SHARING_RATIO))
}

/// One actor of a form and its part of the form's context.
#[derive(Clone, Debug)]
pub(crate) struct FormActor {
    pub(crate) id: ActorId,
    /// Where its spans lie in [`Form::spans`].
    pub(crate) spans: Range<usize>,
}

/// A live dot: where its key and value lie in [`Form::blob`], one behind the other. A sibling, a further dot of the
/// key of the rows before it, has a value only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) counter: u64,
    pub(crate) stamp: u64,
    start: u32,
    /// Index into [`Form::actors`].
    pub(crate) actor: u32,
    key_len: u16,
    value_len: u16,
    pub(crate) sibling: bool,
}

/// A decoded form. Reading into one again reuses its memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form {
    pub(crate) actors: Vec<FormActor>,
    pub(crate) spans: Vec<Span>,
    pub(crate) rows: Vec<Row>,
    blob: Vec<u8>,
    /// How many dots the context covers; saturates.
    pub(crate) dots: u64,
    pub(crate) lookup: Lookup,
    /// Per actor, the counter that the next one is coded against.
    last: Vec<u64>,
}

impl Form {
    #[inline]
    pub(crate) fn key(&self, row: &Row) -> &[u8] {
        &self.blob[row.start as usize..][..usize::from(row.key_len)]
    }

    #[inline]
    pub(crate) fn value(&self, row: &Row) -> &[u8] {
        &self.blob[row.start as usize + usize::from(row.key_len)..][..usize::from(row.value_len)]
    }

    /// The key with the value behind it, and the key's length.
    #[inline]
    pub(crate) fn body(&self, row: &Row) -> (&[u8], usize) {
        let key_len = usize::from(row.key_len);
        (&self.blob[row.start as usize..][..key_len + usize::from(row.value_len)], key_len)
    }

    /// Whether the context covers the dot.
    #[inline]
    pub(crate) fn covers(&self, actor: u32, counter: u64) -> bool {
        let spans = &self.spans[self.actors[actor as usize].spans.clone()];
        match spans {
            [only] => only.contains(counter),
            _ => self.lookup.covers(spans, actor, counter),
        }
    }

    /// Whether the dot is among the rows.
    #[inline]
    pub(crate) fn lists(&self, actor: u32, counter: u64) -> bool {
        self.lookup.lists(&self.rows, actor, counter)
    }

    pub(crate) fn clear(&mut self) {
        self.actors.clear();
        self.spans.clear();
        self.rows.clear();
        self.blob.clear();
        self.last.clear();
        self.dots = 0;
    }

    /// Heap bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.actors.capacity() * size_of::<FormActor>()
            + self.spans.capacity() * size_of::<Span>()
            + self.rows.capacity() * size_of::<Row>()
            + self.blob.capacity()
            + self.last.capacity() * size_of::<u64>()
            + self.lookup.bytes()
    }

    /// Adds an actor with its spans, which ascend and do not touch. Actors are added in the order of their names.
    pub(crate) fn push_actor(&mut self, id: ActorId, spans: impl Iterator<Item = Span>) {
        let start = self.spans.len();
        for span in spans {
            self.dots = self.dots.saturating_add(span.count());
            self.spans.push(span);
        }
        self.actors.push(FormActor { id, spans: start..self.spans.len() });
    }

    /// Makes [`covers`](Self::covers) quick after actors were pushed.
    pub(crate) fn index_spans(&mut self) {
        let checked = self.lookup.build(&self.actors, &self.spans, &[]);
        debug_assert!(checked.is_ok(), "no rows, nothing to find fault with");
    }

    /// Decodes `bytes`, all of them.
    ///
    /// # Errors
    /// Anything but the canonical bytes of a form of this kind. What the form held is gone then.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    pub(crate) fn read(&mut self, bytes: &[u8], kind: Kind) -> Result<(), DecodeError> {
        self.clear();
        let mut reader = Reader::new(bytes);
        if reader.byte()? != kind as u8 {
            return Err(DecodeError::Kind);
        }
        // An actor takes at least four bytes: a length, a name, a count and a span.
        for _ in 0..reader.count(4)? {
            self.read_actor(&mut reader)?;
        }
        self.read_rows(&mut reader, kind)?;
        reader.finish()?;
        self.lookup.build(&self.actors, &self.spans, &self.rows)
    }

    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    fn read_actor(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let id = read_actor(reader)?;
        if self.actors.last().is_some_and(|last| last.id >= id) {
            return Err(DecodeError::NotCanonical);
        }
        let start = self.spans.len();
        let mut last = 0;
        read_spans(reader, |span| {
            self.dots = self.dots.saturating_add(span.count());
            last = span.end;
            self.spans.push(span);
        })?;
        self.actors.push(FormActor { id, spans: start..self.spans.len() });
        self.last.push(last);
        Ok(())
    }

    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    fn read_rows(&mut self, reader: &mut Reader<'_>, kind: Kind) -> Result<(), DecodeError> {
        // A row takes at least a byte: a set's sibling is only a dot.
        let count = reader.count(1)?;
        self.rows.reserve(count);
        let mut previous = Row::FIRST;
        let mut old_key = 0..0;
        let mut more = false;
        for _ in 0..count {
            let mut row = previous;
            row.sibling = more;
            let start = self.blob.len();
            row.start = u32::try_from(start).map_err(|_| DecodeError::Limit)?;
            if more {
                row.key_len = 0;
            } else {
                old_key = self.read_key(reader, old_key)?;
                row.key_len = u16::try_from(old_key.len()).map_err(|_| DecodeError::Limit)?;
            }
            more = self.read_dot(reader, &mut row)?;
            if row.sibling && (row.actor, row.counter) <= (previous.actor, previous.counter) {
                return Err(DecodeError::NotCanonical);
            }
            if kind == Kind::Map {
                self.read_write(reader, &mut row)?;
            }
            self.rows.push(row);
            previous = row;
        }
        if more { Err(DecodeError::NotCanonical) } else { Ok(()) }
    }

    /// Reads a key that lies strictly behind the one at `old`, appends it to the blob and says where it is.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    #[inline]
    fn read_key(&mut self, reader: &mut Reader<'_>, old: Range<usize>) -> Result<Range<usize>, DecodeError> {
        let encoded = reader.position();
        let lead = reader.byte()?;
        let drop = read_nibble(reader, lead >> 4)?;
        let suffix = reader_take_suffix(reader, lead & 15)?;
        let start = old.start;
        let old = self.blob.get(old).unwrap_or_default();
        let shared = old.len().checked_sub(drop).ok_or(DecodeError::NotCanonical)?;
        let key_len = shared.saturating_add(suffix.len());
        if key_len > KEY_BYTES_MAX {
            return Err(DecodeError::Limit);
        }
        if self.rows.is_empty() {
            // The first key stands whole, and may be empty.
        } else if sharing_allowed(self.blob.len(), encoded) {
            // Strictly greater, and not a byte less shared than could be: the first byte behind what is shared is
            // greater than the old key's there, or the old key is the whole shared part.
            match (suffix.first(), old.get(shared)) {
                (Some(new), Some(old)) if new > old => {}
                (Some(_), None) => {}
                _ => return Err(DecodeError::NotCanonical),
            }
        } else if shared != 0 || suffix <= old {
            return Err(DecodeError::NotCanonical);
        }
        let key = self.blob.len();
        self.blob.extend_from_within(start..start.saturating_add(shared));
        self.blob.extend_from_slice(suffix);
        Ok(key..self.blob.len())
    }

    /// Reads a dot into the row and says whether another dot of the same key follows.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    #[inline]
    fn read_dot(&mut self, reader: &mut Reader<'_>, row: &mut Row) -> Result<bool, DecodeError> {
        let head = reader.varint()?;
        if head & 2 != 0 {
            let actor = u32::try_from(reader.varint()?).map_err(|_| DecodeError::NotCanonical)?;
            if actor == row.actor {
                return Err(DecodeError::NotCanonical);
            }
            row.actor = actor;
        }
        let last = self.last.get_mut(row.actor as usize).ok_or(DecodeError::NotCanonical)?;
        let counter = last.checked_add_signed(unzigzag(head >> 2)).ok_or(DecodeError::Limit)?;
        if counter == 0 || counter > COUNTER_MAX {
            return Err(DecodeError::Limit);
        }
        *last = counter;
        row.counter = counter;
        Ok(head & 1 != 0)
    }

    /// Reads a stamp and a value into the row, which still holds the previous ones.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    #[inline]
    fn read_write(&mut self, reader: &mut Reader<'_>, row: &mut Row) -> Result<(), DecodeError> {
        let head = reader.varint()?;
        let millis = (row.stamp >> 16).checked_add_signed(unzigzag(head >> 2)).ok_or(DecodeError::Limit)?;
        if millis >> 48 != 0 {
            return Err(DecodeError::Limit);
        }
        let logical = if head & 2 == 0 {
            0
        } else {
            match u16::try_from(reader.varint()?) {
                Ok(0) => return Err(DecodeError::NotCanonical),
                logical => logical.map_err(|_| DecodeError::Limit)?,
            }
        };
        row.stamp = (millis << 16) | u64::from(logical);
        if head & 1 != 0 {
            let len = u16::try_from(reader.varint()?).map_err(|_| DecodeError::Limit)?;
            if len == row.value_len {
                return Err(DecodeError::NotCanonical);
            }
            if usize::from(len) > VALUE_BYTES_MAX {
                return Err(DecodeError::Limit);
            }
            row.value_len = len;
        }
        self.blob.extend_from_slice(reader.take(usize::from(row.value_len))?);
        Ok(())
    }
}

impl Row {
    const FIRST: Self =
        Self { counter: 0, stamp: 0, start: 0, actor: 0, key_len: 0, value_len: 0, sibling: false };
}

#[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#[inline]
fn read_nibble(reader: &mut Reader<'_>, nibble: u8) -> Result<usize, DecodeError> {
    if nibble < 15 {
        return Ok(usize::from(nibble));
    }
    let rest = usize::try_from(reader.varint()?).map_err(|_| DecodeError::Limit)?;
    rest.checked_add(15).ok_or(DecodeError::Limit)
}

#[inline]
fn reader_take_suffix<'a>(reader: &mut Reader<'a>, nibble: u8) -> Result<&'a [u8], DecodeError> {
    let len = read_nibble(reader, nibble)?;
    reader.take(len)
}

/// Writes a form: the actors in the order of their names, then the rows in key order.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
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

impl<'a> Writer<'a> {
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

    /// The number of rows, once behind the actors.
    pub(crate) fn rows(&mut self, count: usize) {
        self.out.reserve(count.saturating_mul(8));
        put_len(&mut self.out, count);
    }

    /// One live dot. `key` is `None` behind a row with `more`, for the same key; its dots ascend by actor and
    /// counter. `actor` counts the actors written.
    #[inline]
    pub(crate) fn row(
        &mut self,
        key: Option<&'a [u8]>,
        more: bool,
        actor: u32,
        counter: u64,
        stamp: u64,
        value: &[u8],
    ) {
        if let Some(key) = key {
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
        self.decoded += key.map_or(0, <[u8]>::len) + value.len();
        let last = core::mem::replace(&mut self.last[actor as usize], counter);
        let distance = zigzag(counter.cast_signed() - last.cast_signed());
        let other = actor != core::mem::replace(&mut self.actor, actor);
        put_varint(&mut self.out, (distance << 2) | (u64::from(other) << 1) | u64::from(more));
        if other {
            put_varint(&mut self.out, u64::from(actor));
        }
        if self.kind == Kind::Map {
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
