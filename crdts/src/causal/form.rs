//! The byte form of maps and sets, whole or in part: dots with the keys and values that they wrote, and the context
//! that covers them.
//!
//! A state and a delta are the same thing: a causal context, and the dots of it that are live. A delta's context names
//! the dots it is about, a state's all that were ever seen. A dot that the context covers and the rows do not list is
//! dead. `docs/wire/collections.md` has the layout to the byte; [`Encoder`](super::encoder::Encoder) writes it.
//!
//! A long form is read twice, so that a refused one has changed nothing: the first reading checks, the second hands the
//! rows out, a block at a time. Memory is that of a block, however long the form is. The invariant: accepted bytes,
//! read and written again, are the same bytes.

use alloc::vec::Vec;

use super::kind::Kind;
use super::lookup::Lookup;
use super::rows::{FormActor, Rows};
use crate::bytes::{DecodeError, Reader};
use crate::context::{Span, read_name, read_spans};

/// The bytes before the rows: the context.
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
    #[inline(always)]
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

    /// Adds an actor, whose name is known otherwise, with its spans, which ascend and do not touch.
    pub(crate) fn push_actor(&mut self, spans: impl Iterator<Item = Span>) {
        let start = self.spans.len();
        for span in spans {
            self.dots = self.dots.saturating_add(span.count());
            self.spans.push(span);
        }
        self.actors.push(FormActor { name: 0..0, spans: start..self.spans.len(), local: 0 });
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
        let mut last: &[u8] = &[];
        for _ in 0..reader.count(4)? {
            let name = read_name(reader)?;
            if last >= name {
                return Err(DecodeError::NotCanonical);
            }
            last = name;
            let end = reader.position();
            let at = end.saturating_sub(name.len())..end;
            let start = self.spans.len();
            read_spans(reader, |span| {
                self.dots = self.dots.saturating_add(span.count());
                self.spans.push(span);
            })?;
            self.actors.push(FormActor { name: at, spans: start..self.spans.len(), local: 0 });
        }
        // A row takes at least a byte: a set's sibling is only a dot.
        self.rows = reader.count(1)?;
        self.index();
        Ok(())
    }
}

/// A form that is being read. Reading another one reuses its memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form {
    pub(crate) head: Head,
    pub(crate) rows: Rows,
    kind: Kind,
}

impl Form {
    /// Reads the context and the number of rows.
    pub(crate) fn open(&mut self, bytes: &[u8], kind: Kind) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        self.kind = kind;
        self.head.read(&mut reader, kind)?;
        self.rewind(reader.position());
        Ok(())
    }

    /// Goes to the first row, which starts at `at`.
    fn rewind(&mut self, at: usize) {
        let Head { actors, spans, rows, .. } = &self.head;
        self.rows.rewind(actors, spans, *rows, at);
    }

    /// Reads and checks the next block of a form that was opened; after the last block, checks that all was read. Until
    /// then the blocks so far may turn out to belong to bytes that must be refused.
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
        let start = self.rows.position();
        self.read_block(bytes)?;
        if !self.rows.is_last() {
            while !self.rows.is_last() {
                self.read_block(bytes)?;
            }
            self.rewind(start);
            self.rows.fill(bytes, kind)?;
        }
        Ok(())
    }

    /// Takes the next block of checked bytes; `false` after the last.
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
            + self.rows.bytes()
    }
}
