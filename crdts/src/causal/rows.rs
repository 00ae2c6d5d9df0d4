//! The rows of a form, read a block at a time.
//!
//! There are two readers of one row. The general one takes field by field. The fast one takes the usual row (a short
//! change of key, small numbers) out of a window of fixed length, in which every field is known to fit, and gives way
//! to the general one wherever something does not fit. The invariant: where both can read, both read the same.

use alloc::vec::Vec;
use core::ops::Range;

use super::kind::{Kind, sharing_allowed};
use crate::bytes::{
    DecodeError, KEY_BYTES_MAX, Reader, VALUE_BYTES_MAX, Window, copy_forward, unzigzag, word_varint,
};
use crate::context::Span;
use crate::dot::COUNTER_MAX;

/// One actor of a form and its spans in the form's context.
#[derive(Clone, Debug)]
pub(crate) struct FormActor {
    /// Where its name lies in the form's bytes.
    pub(crate) name: Range<usize>,
    /// Where its spans lie in [`Head::spans`](super::form::Head::spans).
    pub(crate) spans: Range<usize>,
    /// Its index in the state that the form is joined into.
    pub(crate) local: u32,
}

/// A live dot. A sibling is a further dot of the key of the row before it, and repeats no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) counter: u64,
    pub(crate) stamp: u64,
    /// In the form's bytes.
    value_start: usize,
    /// In the form's bytes if the key stands whole there, else in the block's keys.
    key_start: usize,
    /// Index into [`Head::actors`](super::form::Head::actors).
    pub(crate) actor: u32,
    key_len: u16,
    value_len: u16,
    whole: bool,
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
/// Room after the last key of a block, so that wide moves have somewhere to go.
const KEYS_SLACK: usize = 64;
/// The longest change of key in a usual row.
const SUFFIX: usize = 32;
/// The window of a usual row: a lead and its two lengths, a change of key, a dot of 8 bytes and its actor, and 8
/// bytes for each of the three numbers that precede a value.
const WINDOW: usize = 3 + SUFFIX + 9 + 3 * 8;

/// Reads rows, and holds those of one block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    /// The block: whole keys, each with all its dots.
    pub(crate) block: Vec<Row>,
    /// Those of the block's keys that share a prefix with the key before, with room after them.
    keys: Vec<u8>,
    state: State,
    /// Per actor, the counter that the next one is coded against.
    last: Vec<u64>,
    #[cfg(test)]
    general_only: bool,
}

/// The numbers and the key against which the next row is read.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Where the row starts in the form's bytes.
    at: usize,
    /// Rows still to read.
    left: usize,
    /// Bytes of keys and values decoded so far.
    decoded: usize,
    /// Where the last key stands: in the form's bytes if it is whole there, else in [`Rows::keys`].
    key_start: usize,
    key_end: usize,
    whole: bool,
    /// Where the block's keys end.
    keys_end: usize,
    counter: u64,
    stamp: u64,
    actor: u32,
    value_len: u16,
    /// Whether the row is a sibling.
    more: bool,
    /// Whether no key has been read.
    first: bool,
}

impl Rows {
    /// A row's key; `form` has the bytes from which it was read.
    #[inline]
    pub(crate) fn key<'a>(&'a self, row: &Row, form: &'a [u8]) -> Window<'a> {
        Window::new(if row.whole { form } else { &self.keys }, row.key_start, usize::from(row.key_len))
    }

    /// Whether no rows follow this block's.
    #[inline]
    pub(crate) const fn is_last(&self) -> bool {
        self.state.left == 0
    }

    /// Where the next row starts in the form's bytes.
    pub(super) const fn position(&self) -> usize {
        self.state.at
    }

    /// Heap bytes held.
    pub(super) const fn bytes(&self) -> usize {
        self.block.capacity() * size_of::<Row>()
            + self.keys.capacity()
            + self.last.capacity() * size_of::<u64>()
    }

    /// Starts reading at the first of `rows` rows, which starts at `at`. Actors and spans are the form's.
    pub(super) fn rewind(&mut self, actors: &[FormActor], spans: &[Span], rows: usize, at: usize) {
        self.state = State { at, left: rows, first: true, ..State::default() };
        self.last.clear();
        let ends = actors.iter().map(|actor| {
            let spans = spans.get(actor.spans.clone());
            spans.and_then(<[Span]>::last).map_or(0, |span| span.end)
        });
        self.last.extend(ends);
    }

    /// Reads the next block of rows, empty after the last.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    pub(super) fn fill(&mut self, bytes: &[u8], kind: Kind) -> Result<(), DecodeError> {
        // In registers while the block is read.
        let mut state = self.state;
        let mut reader = Reader::at(bytes, state.at);
        // The last key goes to the front: the next one may share a prefix with it.
        state.keys_end = 0;
        if !state.whole {
            self.keys.copy_within(state.key_start..state.key_end, 0);
            state.key_end = state.key_end.saturating_sub(state.key_start);
            (state.key_start, state.keys_end) = (0, state.key_end);
        }
        self.block.clear();
        while state.left > 0 && (state.more || self.block.len() < BLOCK_ROWS) {
            let sibling = state.more;
            let value_start = match self.read_usual(&mut reader, &mut state, kind) {
                Some(value_start) => value_start,
                None => self.read_any(&mut reader, &mut state, kind)?,
            };
            let key_len = if sibling { 0 } else { state.key_end.saturating_sub(state.key_start) };
            self.block.push(Row {
                counter: state.counter,
                stamp: state.stamp,
                value_start,
                key_start: state.key_start,
                actor: state.actor,
                key_len: u16::try_from(key_len).map_err(|_| DecodeError::Limit)?,
                value_len: state.value_len,
                whole: state.whole,
                sibling,
            });
            state.left = state.left.saturating_sub(1);
        }
        state.at = reader.position();
        if state.left == 0 {
            if state.more {
                return Err(DecodeError::NotCanonical);
            }
            reader.finish()?;
        }
        self.state = state;
        Ok(())
    }

    /// Reads a usual row and returns where its value starts. `None`, with nothing consumed, if the row is not a usual
    /// one or is wrong.
    #[deny(clippy::indexing_slicing)]
    #[inline]
    fn read_usual(&mut self, reader: &mut Reader<'_>, state: &mut State, kind: Kind) -> Option<usize> {
        #[cfg(test)]
        if self.general_only {
            return None;
        }
        let rest = reader.rest();
        let padded;
        let window = match rest.first_chunk::<WINDOW>() {
            Some(window) => window,
            None => {
                padded = pad(rest);
                &padded
            }
        };
        if state.more {
            return None;
        }
        let [lead, ..] = *window;
        let (mut drop, mut suffix, mut start) = (usize::from(lead >> 4), usize::from(lead & 15), 1);
        if drop == 15 {
            drop += usize::from(*window.get(start).filter(|more| **more < 0x80)?);
            start += 1;
        }
        if suffix == 15 {
            suffix += usize::from(*window.get(start)?);
            start += 1;
        }
        if suffix > SUFFIX {
            return None;
        }
        // Positions: the key's change ends at 35 at most, each field after it takes 8 at most.
        let mut at = start + suffix;
        let (dot, len) = word_varint(window, at)?;
        at += len;
        let mut actor = state.actor;
        if dot & 2 != 0 {
            actor = u32::from(*window.get(at).filter(|actor| **actor < 0x80)?);
            at += 1;
        }
        let (mut stamp, mut value_len) = (state.stamp, state.value_len);
        if kind == Kind::Map {
            let (head, len) = word_varint(window, at)?;
            at += len;
            let millis = (stamp >> 16).wrapping_add_signed(unzigzag(head >> 2));
            let mut logical = 0;
            if head & 2 != 0 {
                let (read, len) = word_varint(window, at)?;
                (logical, at) = (read, at + len);
            }
            if head & 1 != 0 {
                let (read, len) = word_varint(window, at)?;
                at += len;
                value_len = check_value_len(read, value_len).ok()?;
            }
            stamp = check_stamp(millis, head & 2 != 0, logical).ok()?;
        }
        let end = at + usize::from(value_len);
        let change = Window::new(window, start, suffix);
        if end > rest.len() || !self.is_next_key(state, reader, reader.position(), drop, change.bytes()) {
            return None;
        }
        let counter = self.counter(dot, actor, state)?;
        // Nothing was changed up to here.
        *self.last.get_mut(actor as usize)? = counter;
        self.append_key(state, reader, reader.position() + start, drop, change);
        *state = State { counter, stamp, actor, value_len, more: dot & 1 != 0, ..*state };
        state.decoded = state.decoded.saturating_add(usize::from(value_len));
        let value_start = reader.position() + at;
        reader.skip(end);
        Some(value_start)
    }

    /// Reads a row of any shape and returns where its value starts.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    #[inline(never)]
    fn read_any(
        &mut self,
        reader: &mut Reader<'_>,
        state: &mut State,
        kind: Kind,
    ) -> Result<usize, DecodeError> {
        let (sibling, before) = (state.more, (state.actor, state.counter));
        if !sibling {
            let encoded = reader.position();
            let lead = reader.byte()?;
            let drop = read_nibble(reader, lead >> 4)?;
            let len = read_nibble(reader, lead & 15)?;
            let suffix = Window::take(reader, len)?;
            if drop > state.key_end.saturating_sub(state.key_start) || suffix.len() > KEY_BYTES_MAX {
                return Err(DecodeError::Limit);
            }
            if !self.is_next_key(state, reader, encoded, drop, suffix.bytes()) {
                return Err(DecodeError::NotCanonical);
            }
            self.append_key(state, reader, reader.position().saturating_sub(len), drop, suffix);
        }
        let dot = reader.varint()?;
        let mut actor = state.actor;
        if dot & 2 != 0 {
            actor = u32::try_from(reader.varint()?).map_err(|_| DecodeError::NotCanonical)?;
        }
        let counter = self.counter(dot, actor, state).ok_or(DecodeError::NotCanonical)?;
        *self.last.get_mut(actor as usize).ok_or(DecodeError::NotCanonical)? = counter;
        state.counter = counter;
        (state.actor, state.more) = (actor, dot & 1 != 0);
        if sibling && (state.actor, state.counter) <= before {
            return Err(DecodeError::NotCanonical);
        }
        if kind == Kind::Map {
            let head = reader.varint()?;
            let millis = (state.stamp >> 16).wrapping_add_signed(unzigzag(head >> 2));
            let logical = if head & 2 == 0 { 0 } else { reader.varint()? };
            state.stamp = check_stamp(millis, head & 2 != 0, logical)?;
            if head & 1 != 0 {
                state.value_len = check_value_len(reader.varint()?, state.value_len)?;
            }
            state.decoded = state.decoded.saturating_add(usize::from(state.value_len));
        }
        let value_start = reader.position();
        reader.take(usize::from(state.value_len))?;
        Ok(value_start)
    }

    /// Whether a key comes strictly after the last one and shares all it can with it, within the limit. `drop` is how
    /// many of the last key's bytes it does not share.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    #[inline(always)]
    fn is_next_key(
        &self,
        state: &State,
        reader: &Reader<'_>,
        encoded: usize,
        drop: usize,
        suffix: &[u8],
    ) -> bool {
        let run = if state.whole { reader.all() } else { &self.keys };
        let Some(old) = run.get(state.key_start..state.key_end) else { return false };
        let Some(shared) = old.len().checked_sub(drop) else { return false };
        if shared.saturating_add(suffix.len()) > KEY_BYTES_MAX {
            return false;
        }
        if state.first {
            // The first key stands whole, for there is no key to share with; and it may be empty itself.
            true
        } else if sharing_allowed(state.decoded, encoded) {
            // The first byte after the shared prefix is greater than the old key's there, or the old key is the whole
            // shared prefix.
            match (suffix.first(), old.get(shared)) {
                (Some(new), Some(old)) => new > old,
                (new, _) => new.is_some(),
            }
        } else {
            shared == 0 && suffix > old
        }
    }

    /// Takes a key that was checked; its change stands at `at` in the form's bytes.
    #[inline(always)]
    fn append_key(
        &mut self,
        state: &mut State,
        reader: &Reader<'_>,
        at: usize,
        drop: usize,
        suffix: Window<'_>,
    ) {
        let shared = state.key_end - state.key_start - drop;
        let len = shared + suffix.len();
        state.first = false;
        state.decoded = state.decoded.saturating_add(len);
        if shared == 0 {
            (state.key_start, state.key_end, state.whole) = (at, at + len, true);
            return;
        }
        let start = state.keys_end;
        let end = start + len;
        if end + KEYS_SLACK > self.keys.len() {
            self.make_room(end + KEYS_SLACK);
        }
        if state.whole {
            Window::new(reader.all(), state.key_start, shared).copy_to(&mut self.keys, start);
        } else {
            copy_forward(&mut self.keys, state.key_start, shared, start);
        }
        suffix.copy_to(&mut self.keys, start + shared);
        (state.key_start, state.key_end, state.whole) = (start, end, false);
        state.keys_end = end;
    }

    #[cold]
    fn make_room(&mut self, len: usize) {
        self.keys.resize(len.max(2 * self.keys.len()), 0);
    }

    /// The counter of a dot, coded against the actor's last one.
    #[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    #[inline]
    fn counter(&self, dot: u64, actor: u32, state: &State) -> Option<u64> {
        let same_actor_named = dot & 2 != 0 && actor == state.actor;
        // Both are below 2^62: a sum out of range, below zero or above, is beyond the greatest counter.
        let counter = self.last.get(actor as usize)?.wrapping_add_signed(unzigzag(dot >> 2));
        (!same_actor_named && counter.wrapping_sub(1) < COUNTER_MAX).then_some(counter)
    }
}

/// The last bytes as a window. Zeros after them read as small numbers, and the row as longer than the bytes there are.
#[inline(never)]
fn pad(rest: &[u8]) -> [u8; WINDOW] {
    let mut window = [0; WINDOW];
    if let Some(front) = window.get_mut(..rest.len()) {
        front.copy_from_slice(rest);
    }
    window
}

/// The bits of a stamp.
#[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#[inline]
pub(super) fn check_stamp(millis: u64, has_logical: bool, logical: u64) -> Result<u64, DecodeError> {
    // A sum of a 48-bit and a 62-bit number that is out of range, on either side, has bits above the 48th.
    if millis >> 48 != 0 || logical > 0xffff {
        return Err(DecodeError::Limit);
    }
    if has_logical && logical == 0 { Err(DecodeError::NotCanonical) } else { Ok((millis << 16) | logical) }
}

/// The length of a value that differs from the last one's.
#[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#[inline]
pub(super) fn check_value_len(len: u64, last: u16) -> Result<u16, DecodeError> {
    match u16::try_from(len) {
        Ok(len) if usize::from(len) > VALUE_BYTES_MAX => Err(DecodeError::Limit),
        Ok(len) if len == last => Err(DecodeError::NotCanonical),
        len => len.map_err(|_| DecodeError::Limit),
    }
}

/// A length: four bits, and a varint for the excess over 14.
#[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#[inline]
pub(super) fn read_nibble(reader: &mut Reader<'_>, nibble: u8) -> Result<usize, DecodeError> {
    if nibble < 15 {
        return Ok(usize::from(nibble));
    }
    let rest = usize::try_from(reader.varint()?).map_err(|_| DecodeError::Limit)?;
    rest.checked_add(15).ok_or(DecodeError::Limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causal::form::Form;
    use crate::{ActorId, Hlc, LwwMap, OrSet, Timestamp};
    use alloc::string::String;

    /// All rows with their keys, or the error.
    fn read(bytes: &[u8], kind: Kind, general_only: bool) -> Result<Vec<(Row, Vec<u8>)>, DecodeError> {
        let mut form = Form::default();
        form.rows.general_only = general_only;
        form.check(bytes, kind)?;
        let mut all = Vec::new();
        loop {
            let rows = &form.rows;
            all.extend(rows.block.iter().map(|row| (*row, rows.key(row, bytes).bytes().to_vec())));
            if !form.advance(bytes) {
                return Ok(all);
            }
        }
    }

    #[test]
    fn both_readers_read_the_same_and_refuse_the_same() {
        let (mut map, mut set) = (LwwMap::new(), OrSet::new());
        let mut state = 1_u64;
        for i in 0..400_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let [a, b, c, ..] = state.to_be_bytes();
            let key = alloc::format!("k/{}/{:x}", a % 16, u32::from(b) * u32::from(c % 16));
            let key = if c < 20 { String::from("long/") + &key.repeat(3) } else { key };
            let value = alloc::vec![b; usize::from(if a < 200 { 8 } else { b % 80 })];
            let logical = if b < 40 { u16::from(c) * 200 } else { 0 };
            let millis = if a == 3 { u64::MAX } else { 1_700_000_000_000 + i * u64::from(c) };
            let actor = ActorId::from(u64::from(a % 3));
            let stamp = Hlc::new(Timestamp::from_millis(millis), logical);
            map.set(actor, key.as_bytes(), &value, stamp).unwrap();
            set.insert(actor, key.as_bytes()).unwrap();
        }
        for (bytes, kind) in [(map.encode(), Kind::Map), (set.encode(), Kind::Set)] {
            let rows = read(&bytes, kind, false).unwrap();
            assert!(rows.len() > BLOCK_ROWS, "several blocks");
            assert_eq!(read(&bytes, kind, true).unwrap(), rows);
            for at in 0..bytes.len() {
                for change in [1, 2, 0x10, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] ^= change;
                    // Which of several faults is named may differ.
                    assert_eq!(
                        read(&changed, kind, false).ok(),
                        read(&changed, kind, true).ok(),
                        "byte {at}"
                    );
                }
            }
        }
    }
}
