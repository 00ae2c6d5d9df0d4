//! The byte form of maps and sets, whole or in part: dots with what they wrote, and the context that covers them.
//!
//! A state and a delta are the same thing: a causal context, and the dots of it that are live. A delta's context
//! names the dots it is about, a state's all that were ever seen. What the context covers and the rows do not list
//! is dead. `docs/WIRE.md` has the layout to the byte; [`Writer`](super::writer::Writer) writes it.
//!
//! Reading takes two passes where a form is long, so that a refused one has changed nothing: the first checks, the
//! second hands the rows out, a block at a time. Memory is that of a block, whatever the length. The invariant: what
//! is accepted is written back to the same bytes.

use alloc::vec::Vec;
use core::ops::Range;

use super::lookup::Lookup;
use crate::codec::{DecodeError, KEY_BYTES_MAX, Reader, VALUE_BYTES_MAX, Window, copy_forward, unzigzag};
use crate::context::{Span, read_actor, read_spans};
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

/// Whether a key may share a prefix with the one before: `decoded` bytes of keys and values came out of `encoded`.
#[inline]
pub(crate) const fn sharing_allowed(decoded: usize, encoded: usize) -> bool {
    decoded <= SHARING_FREE.saturating_add(encoded.saturating_mul(SHARING_RATIO))
}

/// One actor of a form and its part of the form's context.
#[derive(Clone, Debug)]
pub(crate) struct FormActor {
    pub(crate) id: ActorId,
    /// Where its spans lie in [`Head::spans`].
    pub(crate) spans: Range<usize>,
    /// Its index in the state that the form is joined into.
    pub(crate) local: u32,
}

/// What comes before the rows: the context.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) actors: Vec<FormActor>,
    pub(crate) spans: Vec<Span>,
    /// How many dots the context covers; saturates.
    pub(crate) dots: u64,
    /// How many rows follow.
    pub(crate) rows: usize,
    pub(crate) lookup: Lookup,
}

impl Head {
    /// Whether the context covers the dot.
    #[inline]
    pub(crate) fn covers(&self, actor: u32, counter: u64) -> bool {
        match self.spans_of(actor) {
            [only] => only.contains(counter),
            spans => self.lookup.covers(spans, actor, counter),
        }
    }

    /// Whether the dot is among the rows.
    #[inline]
    pub(crate) fn lists(&self, actor: u32, counter: u64) -> bool {
        self.lookup.lists(actor, counter)
    }

    #[inline]
    pub(crate) fn spans_of(&self, actor: u32) -> &[Span] {
        &self.spans[self.actors[actor as usize].spans.clone()]
    }

    fn clear(&mut self) {
        self.actors.clear();
        self.spans.clear();
        (self.dots, self.rows) = (0, 0);
    }

    /// Adds an actor with its spans, which ascend and do not touch. Actors are added in the order of their names.
    pub(crate) fn push_actor(&mut self, id: ActorId, spans: impl Iterator<Item = Span>) {
        let start = self.spans.len();
        for span in spans {
            self.dots = self.dots.saturating_add(span.count());
            self.spans.push(span);
        }
        self.actors.push(FormActor { id, spans: start..self.spans.len(), local: 0 });
    }

    /// Prepares [`covers`](Self::covers) once the actors are there.
    pub(crate) fn index(&mut self) {
        self.lookup.prepare(&self.actors, &self.spans, self.rows);
    }

    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    fn read(&mut self, reader: &mut Reader<'_>, kind: Kind) -> Result<(), DecodeError> {
        self.clear();
        if reader.byte()? != kind as u8 {
            return Err(DecodeError::Kind);
        }
        // An actor takes at least four bytes: a length, a name, a count and a span.
        for _ in 0..reader.count(4)? {
            let id = read_actor(reader)?;
            if self.actors.last().is_some_and(|last| last.id >= id) {
                return Err(DecodeError::NotCanonical);
            }
            let start = self.spans.len();
            read_spans(reader, |span| {
                self.dots = self.dots.saturating_add(span.count());
                self.spans.push(span);
            })?;
            self.actors.push(FormActor { id, spans: start..self.spans.len(), local: 0 });
        }
        // A row takes at least a byte: a set's sibling is only a dot.
        self.rows = reader.count(1)?;
        self.index();
        Ok(())
    }
}

/// A live dot. A sibling is a further dot of the key of the row before it, and repeats no key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    pub(crate) counter: u64,
    pub(crate) stamp: u64,
    /// In the form's bytes.
    value_start: usize,
    /// In the block's keys.
    key_start: u32,
    /// Index into [`Head::actors`].
    pub(crate) actor: u32,
    key_len: u16,
    value_len: u16,
    pub(crate) sibling: bool,
}

impl Row {
    /// The value, in the bytes that the form was read from.
    #[inline]
    pub(crate) const fn value<'a>(&self, form: &'a [u8]) -> Window<'a> {
        Window::new(form, self.value_start, self.value_len as usize)
    }
}

/// So many rows are handed out together; more only if they are of one key.
const BLOCK_ROWS: usize = 128;

/// Reads rows, and holds those of one block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    /// The block: whole keys, each with all its dots.
    pub(crate) block: Vec<Row>,
    /// The block's keys, with room behind them.
    keys: Vec<u8>,
    keys_len: usize,
    /// Where the last key stands in `keys`.
    key: Range<usize>,
    /// The last row read.
    previous: Row,
    /// Whether the next row is a sibling.
    more: bool,
    /// Whether no key has been read.
    first: bool,
    /// Rows still to read.
    left: usize,
    /// Where the next row starts in the form's bytes.
    at: usize,
    /// Bytes of keys and values decoded before.
    decoded: usize,
    /// Per actor, the counter that the next one is coded against.
    last: Vec<u64>,
}

impl Rows {
    #[inline]
    pub(crate) fn key(&self, row: &Row) -> Window<'_> {
        Window::new(&self.keys, row.key_start as usize, usize::from(row.key_len))
    }

    /// Whether no rows follow this block's.
    #[inline]
    pub(crate) const fn is_last(&self) -> bool {
        self.left == 0
    }

    /// Starts reading at the first row.
    fn rewind(&mut self, head: &Head, at: usize) {
        self.previous = Row::default();
        self.key = 0..0;
        (self.more, self.first) = (false, true);
        (self.left, self.at, self.decoded) = (head.rows, at, 0);
        self.last.clear();
        let ends = head.actors.iter().map(|actor| {
            let spans = head.spans.get(actor.spans.clone());
            spans.and_then(<[Span]>::last).map_or(0, |span| span.end)
        });
        self.last.extend(ends);
    }

    /// Reads the next block of rows, empty behind the last.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    fn fill(&mut self, bytes: &[u8], kind: Kind) -> Result<(), DecodeError> {
        let mut reader = Reader::at(bytes, self.at);
        // The last key goes to the front: the next one may share a prefix with it.
        let key = self.key.clone();
        self.keys.copy_within(key.clone(), 0);
        self.key = 0..key.len();
        self.keys_len = key.len();
        self.block.clear();
        while self.left > 0 && (self.more || self.block.len() < BLOCK_ROWS) {
            let mut row = self.previous;
            row.sibling = self.more;
            if self.more {
                row.key_len = 0;
            } else {
                self.read_key(&mut reader)?;
                row.key_start = u32::try_from(self.key.start).map_err(|_| DecodeError::Limit)?;
                row.key_len = u16::try_from(self.key.len()).map_err(|_| DecodeError::Limit)?;
                self.decoded = self.decoded.saturating_add(self.key.len());
            }
            self.more = self.read_dot(&mut reader, &mut row)?;
            if row.sibling && (row.actor, row.counter) <= (self.previous.actor, self.previous.counter) {
                return Err(DecodeError::NotCanonical);
            }
            if kind == Kind::Map {
                read_write(&mut reader, &mut row)?;
                self.decoded = self.decoded.saturating_add(usize::from(row.value_len));
            }
            self.block.push(row);
            self.previous = row;
            self.left = self.left.saturating_sub(1);
        }
        self.at = reader.position();
        if self.left == 0 {
            if self.more {
                return Err(DecodeError::NotCanonical);
            }
            reader.finish()?;
        }
        Ok(())
    }

    /// Reads a key that lies strictly behind the last one, and appends it to the block's keys.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    #[inline]
    fn read_key(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let encoded = reader.position();
        let lead = reader.byte()?;
        let drop = read_nibble(reader, lead >> 4)?;
        let suffix_len = read_nibble(reader, lead & 15)?;
        let suffix = reader.window(suffix_len)?;
        let old = self.keys.get(self.key.clone()).unwrap_or_default();
        let shared = old.len().checked_sub(drop).ok_or(DecodeError::NotCanonical)?;
        let key_len = shared.saturating_add(suffix.len());
        if key_len > KEY_BYTES_MAX {
            return Err(DecodeError::Limit);
        }
        if core::mem::take(&mut self.first) {
            // The first key stands whole, and may be empty: what it would share with is.
        } else if sharing_allowed(self.decoded, encoded) {
            // Strictly greater, and not a byte less shared than could be: the first byte behind what is shared is
            // greater than the old key's there, or the old key is the whole of what is shared.
            match (suffix.bytes().first(), old.get(shared)) {
                (Some(new), Some(old)) if new > old => {}
                (Some(_), None) => {}
                _ => return Err(DecodeError::NotCanonical),
            }
        } else if shared != 0 || suffix.bytes() <= old {
            return Err(DecodeError::NotCanonical);
        }
        self.append_key(shared, suffix);
        Ok(())
    }

    /// Appends a key made of the last one's first `shared` bytes and `suffix`.
    #[inline]
    fn append_key(&mut self, shared: usize, suffix: Window<'_>) {
        let start = self.keys_len;
        let end = start + shared + suffix.len();
        if end + KEYS_SLACK > self.keys.len() {
            self.keys.resize((end + KEYS_SLACK).max(2 * self.keys.len()), 0);
        }
        copy_forward(&mut self.keys, self.key.start, shared, start);
        suffix.copy_to(&mut self.keys, start + shared);
        self.keys_len = end;
        self.key = start..end;
    }

    /// Reads a dot into the row, which still holds the previous one, and says whether a sibling follows.
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
        let last = self.last.get_mut(row.actor as usize).ok_or(DecodeError::Uncovered)?;
        let counter = last.checked_add_signed(unzigzag(head >> 2)).ok_or(DecodeError::Limit)?;
        if counter == 0 || counter > COUNTER_MAX {
            return Err(DecodeError::Limit);
        }
        *last = counter;
        row.counter = counter;
        Ok(head & 1 != 0)
    }
}

/// Room behind the last key of a block, so that wide moves have somewhere to go.
const KEYS_SLACK: usize = 64;

/// Reads a stamp and a value into the row, which still holds the previous ones.
#[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#[inline]
fn read_write(reader: &mut Reader<'_>, row: &mut Row) -> Result<(), DecodeError> {
    let head = reader.varint()?;
    let millis = (row.stamp >> 16).checked_add_signed(unzigzag(head >> 2)).ok_or(DecodeError::Limit)?;
    if millis >> 48 != 0 {
        return Err(DecodeError::Limit);
    }
    let mut logical = 0;
    if head & 2 != 0 {
        logical = u16::try_from(reader.varint()?).map_err(|_| DecodeError::Limit)?;
        if logical == 0 {
            return Err(DecodeError::NotCanonical);
        }
    }
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
    row.value_start = reader.position();
    reader.take(usize::from(row.value_len)).map(|_| ())
}

/// A length: four bits, and a varint for what lies beyond 14.
#[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#[inline]
fn read_nibble(reader: &mut Reader<'_>, nibble: u8) -> Result<usize, DecodeError> {
    if nibble < 15 {
        return Ok(usize::from(nibble));
    }
    let rest = usize::try_from(reader.varint()?).map_err(|_| DecodeError::Limit)?;
    rest.checked_add(15).ok_or(DecodeError::Limit)
}

/// A form that is being read. Reading another one reuses its memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form {
    pub(crate) head: Head,
    pub(crate) rows: Rows,
    kind: Kind,
}

impl Form {
    /// Reads what comes before the rows.
    pub(crate) fn open(&mut self, bytes: &[u8], kind: Kind) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        self.kind = kind;
        self.head.read(&mut reader, kind)?;
        self.rows.rewind(&self.head, reader.position());
        Ok(())
    }

    /// Reads and checks the next block of a form that was opened; behind the last, that all was read. Until then
    /// what came before may turn out to be part of bytes that must be refused.
    pub(crate) fn read_block(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.rows.fill(bytes, self.kind)?;
        let Head { actors, spans, lookup, .. } = &mut self.head;
        lookup.note(actors, spans, &self.rows.block)?;
        if self.rows.is_last() { lookup.finish() } else { Ok(()) }
    }

    /// Checks `bytes`, all of them. Then the first block is there.
    ///
    /// # Errors
    /// Anything but the canonical bytes of a form of this kind.
    pub(crate) fn check(&mut self, bytes: &[u8], kind: Kind) -> Result<(), DecodeError> {
        self.open(bytes, kind)?;
        let start = self.rows.at;
        self.read_block(bytes)?;
        if !self.rows.is_last() {
            while !self.rows.is_last() {
                self.read_block(bytes)?;
            }
            self.rows.rewind(&self.head, start);
            self.rows.fill(bytes, kind)?;
        }
        Ok(())
    }

    /// Takes the next block of checked bytes; `false` behind the last.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> bool {
        let more = !self.rows.is_last();
        if more && self.rows.fill(bytes, self.kind).is_err() {
            unreachable!("the same bytes were checked before");
        }
        more
    }

    /// Heap bytes held.
    pub(crate) const fn bytes(&self) -> usize {
        self.head.actors.capacity() * size_of::<FormActor>()
            + self.head.spans.capacity() * size_of::<Span>()
            + self.head.lookup.bytes()
            + self.rows.block.capacity() * size_of::<Row>()
            + self.rows.keys.capacity()
            + self.rows.last.capacity() * size_of::<u64>()
    }
}
