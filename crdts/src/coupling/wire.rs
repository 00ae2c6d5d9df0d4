//! The canonical bytes of couplings: one form for states and deltas, an encoder, and a reader of untrusted bytes.
//!
//! ```text
//! 0x14
//! schema      half-life in ms, floor and cap in 2⁻³² units                            three varints
//! actors      count, then each: length 1..=32, bytes                                  strictly ascending, all used
//! rows        count, then each:                                                       keys strictly ascending
//!   key       bytes shared with the key before, bytes of its own, those bytes
//!   contributions, each: steps << 3 | more << 2 | weakened << 1 | strengthened        actors strictly ascending
//!             then the instants that are there, strengthened first, as zigzag distance from the instant before
//! ```
//! Numbers are varints in their shortest form. `steps` counts the actors passed over since the last contribution of the
//! row; `more` says that another one follows. A contribution has at least one instant, and no instant is 0. A key
//! shares all that it has in common with the one before, or nothing where [`sharing_allowed`] says no.
//!
//! The invariant: the reader accepts exactly the bytes that the encoder writes. Schema rules, limits and order are
//! checked here; which schema a collection accepts is not.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;
use core::iter::Peekable;

use super::schema::CouplingSchema;
use crate::bytes::{DecodeError, KEY_BYTES_MAX, Reader, put_len, put_varint, unzigzag, zigzag};
use crate::dot::ActorId;

const KIND: u8 = 0x14;
const STRENGTHENED: u64 = 1;
const WEAKENED: u64 = 2;
const MORE: u64 = 4;
/// A row is at least: shared, own length, one token and one instant.
const ROW_BYTES_MIN: usize = 4;
/// An actor is at least a length and a byte.
const ACTOR_BYTES_MIN: usize = 2;

/// One contributor's two instants in a row; 0 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowContribution {
    /// The contributor's place in the table of actors.
    pub(super) actor: usize,
    pub(super) strengthened: u64,
    pub(super) weakened: u64,
}

/// A key and its contributions, as the reader lends them.
pub(super) type WireRow<'w> = (&'w [u8], &'w [RowContribution]);

/// Whether a key may share bytes with the one before: when that leaves the bytes of all keys, `decoded`, within 64
/// times the bytes in which they are written, and 4,096. Otherwise a few bytes could claim keys without end.
const fn sharing_allowed(decoded: usize, encoded: usize) -> bool {
    decoded <= encoded.saturating_mul(64).saturating_add(KEY_BYTES_MAX)
}

/// How many bytes `key` shares with the one before it, and how many bytes of keys there are then: both sides follow
/// this rule.
fn shared_bytes(before: &[u8], key: &[u8], decoded: usize, encoded: usize) -> usize {
    let common = before.iter().zip(key).take_while(|(a, b)| a == b).count();
    if sharing_allowed(decoded.saturating_add(common), encoded) { common } else { 0 }
}

/// Writes a table of actors and rows, both in order.
#[derive(Debug)]
pub(super) struct Encoder<'k> {
    out: Vec<u8>,
    before: &'k [u8],
    decoded: usize,
    instant: u64,
}

impl<'k> Encoder<'k> {
    /// `actors` strictly ascending, all of them used by the `rows` that follow.
    pub(super) fn new<'a>(
        schema: &CouplingSchema,
        actors: impl ExactSizeIterator<Item = &'a ActorId>,
        rows: usize,
    ) -> Self {
        // Enough for a mutator's delta: one contribution under a key of 40 bytes.
        let mut out = Vec::with_capacity(128);
        out.push(KIND);
        schema.put(&mut out);
        put_len(&mut out, actors.len());
        for actor in actors {
            put_len(&mut out, actor.as_bytes().len());
            out.extend_from_slice(actor.as_bytes());
        }
        put_len(&mut out, rows);
        Self { out, before: &[], decoded: 0, instant: 0 }
    }

    /// Keys strictly ascending; at least one contribution, actors strictly ascending.
    pub(super) fn row(&mut self, key: &'k [u8], parts: impl Iterator<Item = RowContribution>) {
        let shared = shared_bytes(self.before, key, self.decoded, self.out.len());
        let own = key.get(shared..).unwrap_or_default();
        put_len(&mut self.out, shared);
        put_len(&mut self.out, own.len());
        self.out.extend_from_slice(own);
        self.decoded = self.decoded.saturating_add(key.len());
        self.before = key;
        self.parts(parts.peekable());
    }

    fn parts(&mut self, mut parts: Peekable<impl Iterator<Item = RowContribution>>) {
        let mut next = 0;
        while let Some(part) = parts.next() {
            let steps = part.actor.saturating_sub(next) as u64;
            next = part.actor.saturating_add(1);
            let more = if parts.peek().is_some() { MORE } else { 0 };
            let strengthened = if part.strengthened > 0 { STRENGTHENED } else { 0 };
            let weakened = if part.weakened > 0 { WEAKENED } else { 0 };
            put_varint(&mut self.out, steps << 3 | more | weakened | strengthened);
            for instant in [part.strengthened, part.weakened] {
                if instant > 0 {
                    put_varint(&mut self.out, zigzag(instant.wrapping_sub(self.instant).cast_signed()));
                    self.instant = instant;
                }
            }
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Reads untrusted bytes, row by row. Holds the table of actors and one row; no claim is believed before its bytes are
/// there.
#[derive(Debug)]
pub(super) struct RowReader<'a> {
    reader: Reader<'a>,
    /// Where the rows begin, and how many there are.
    start: (Reader<'a>, usize),
    pub(super) schema: CouplingSchema,
    pub(super) actors: Vec<ActorId>,
    used: Vec<bool>,
    pub(super) rows_left: usize,
    first: bool,
    key: Vec<u8>,
    decoded: usize,
    instant: u64,
    parts: Vec<RowContribution>,
}

impl<'a> RowReader<'a> {
    /// Reads everything in front of the rows.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != KIND {
            return Err(DecodeError::Kind);
        }
        let schema = CouplingSchema::take(&mut reader)?;
        let count = reader.count(ACTOR_BYTES_MIN)?;
        let mut actors: Vec<ActorId> = Vec::with_capacity(count);
        for _ in 0..count {
            let len = usize::try_from(reader.varint()?).map_err(|_| DecodeError::Limit)?;
            if len > ActorId::BYTES_MAX {
                return Err(DecodeError::Limit);
            }
            let actor = ActorId::new(reader.take(len)?).ok_or(DecodeError::Limit)?;
            if actors.last().is_some_and(|last| *last >= actor) {
                return Err(DecodeError::NotCanonical);
            }
            actors.push(actor);
        }
        let rows_left = reader.count(ROW_BYTES_MIN)?;
        Ok(Self {
            start: (reader.clone(), rows_left),
            reader,
            schema,
            used: alloc::vec![false; actors.len()],
            actors,
            rows_left,
            first: true,
            key: Vec::new(),
            decoded: 0,
            instant: 0,
            parts: Vec::new(),
        })
    }

    /// Reads to the end and goes back to the first row. Errors if the input is not canonical as a whole.
    pub(super) fn check(&mut self) -> Result<(), DecodeError> {
        while self.advance()?.is_some() {}
        (self.reader, self.rows_left) = self.start.clone();
        (self.first, self.decoded, self.instant) = (true, 0, 0);
        self.key.clear();
        Ok(())
    }

    /// The next row, or `None` at the end of an input that is canonical as a whole.
    pub(super) fn advance(&mut self) -> Result<Option<WireRow<'_>>, DecodeError> {
        let Some(rows_left) = self.rows_left.checked_sub(1) else {
            self.reader.finish()?;
            let all_used = self.used.iter().all(|used| *used);
            return if all_used { Ok(None) } else { Err(DecodeError::NotCanonical) };
        };
        self.rows_left = rows_left;
        self.take_key()?;
        self.take_parts()?;
        Ok(Some((&self.key, &self.parts)))
    }

    fn take_key(&mut self) -> Result<(), DecodeError> {
        let encoded = self.reader.position();
        let shared = self.length()?;
        let own_len = self.length()?;
        let own = self.reader.take(own_len)?;
        let tail = self.key.get(shared..).ok_or(DecodeError::NotCanonical)?;
        if shared.saturating_add(own_len) > KEY_BYTES_MAX {
            return Err(DecodeError::Limit);
        }
        // With `shared` bytes in common, the order of the keys is that of their rests.
        if !self.first && own <= tail {
            return Err(DecodeError::NotCanonical);
        }
        // The shared bytes are now those that both keys have in common, unless the claim was short.
        let common = tail.iter().zip(own).take_while(|(a, b)| a == b).count().saturating_add(shared);
        let allowed = sharing_allowed(self.decoded.saturating_add(common), encoded);
        if shared != if allowed { common } else { 0 } {
            return Err(DecodeError::NotCanonical);
        }
        self.first = false;
        self.key.truncate(shared);
        self.key.extend_from_slice(own);
        self.decoded = self.decoded.saturating_add(self.key.len());
        Ok(())
    }

    fn take_parts(&mut self) -> Result<(), DecodeError> {
        self.parts.clear();
        let mut next = 0_usize;
        loop {
            let token = self.reader.varint()?;
            let steps = usize::try_from(token >> 3).map_err(|_| DecodeError::NotCanonical)?;
            let actor = next.saturating_add(steps);
            *self.used.get_mut(actor).ok_or(DecodeError::NotCanonical)? = true;
            if token & (STRENGTHENED | WEAKENED) == 0 {
                return Err(DecodeError::NotCanonical);
            }
            let strengthened = if token & STRENGTHENED == 0 { 0 } else { self.take_instant()? };
            let weakened = if token & WEAKENED == 0 { 0 } else { self.take_instant()? };
            self.parts.push(RowContribution { actor, strengthened, weakened });
            if token & MORE == 0 {
                return Ok(());
            }
            next = actor.saturating_add(1);
        }
    }

    fn take_instant(&mut self) -> Result<u64, DecodeError> {
        let distance = unzigzag(self.reader.varint()?);
        self.instant = self.instant.wrapping_add(distance.cast_unsigned());
        // Absent is 0, and absent is not written.
        if self.instant == 0 { Err(DecodeError::NotCanonical) } else { Ok(self.instant) }
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        match usize::try_from(self.reader.varint()?) {
            Ok(length) if length <= KEY_BYTES_MAX => Ok(length),
            _ => Err(DecodeError::Limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> CouplingSchema {
        CouplingSchema::with_half_life(1_000).unwrap()
    }

    /// The front matter of `actors` actors of one byte and `rows` rows, and then `body`.
    fn bytes(actors: &[u8], rows: u64, body: &[u8]) -> Vec<u8> {
        let mut out = alloc::vec![KIND];
        schema().put(&mut out);
        put_len(&mut out, actors.len());
        actors.iter().for_each(|actor| out.extend_from_slice(&[1, *actor]));
        put_varint(&mut out, rows);
        out.extend_from_slice(body);
        out
    }

    fn check(actors: &[u8], rows: u64, body: &[u8]) -> Result<(), DecodeError> {
        RowReader::open(&bytes(actors, rows, body)).and_then(|mut walk| walk.check())
    }

    #[test]
    fn every_rule_of_the_form_has_an_input_that_breaks_it() {
        // Rows here: shared, own length, own bytes, token, zigzag instant.
        assert_eq!(check(b"a", 1, &[0, 1, b'k', 1, 2]), Ok(()));
        assert_eq!(check(b"a", 1, &[0, 0, 1, 2]), Ok(()), "an empty key");
        assert_eq!(check(b"ab", 1, &[0, 1, b'k', 1 | 4, 2, 2, 2]), Ok(()));
        assert_eq!(check(b"ab", 2, &[0, 1, b'k', 1, 2, 1, 1, b'k', 8 | 3, 0, 2]), Ok(()));
        use DecodeError::{Limit, NotCanonical, Trailing, Truncated, Varint};
        assert_eq!(check(b"", 0, &[0]), Err(Trailing));
        assert_eq!(check(b"a", 0, &[]), Err(NotCanonical), "an actor without a part");
        assert_eq!(check(b"ba", 1, &[0, 1, b'k', 1 | 4, 2, 1, 2]), Err(NotCanonical), "actors unsorted");
        assert_eq!(check(b"aa", 1, &[0, 1, b'k', 1 | 4, 2, 1, 2]), Err(NotCanonical), "an actor twice");
        assert_eq!(check(b"a", 1, &[0, 1, b'k', 8 | 1, 2]), Err(NotCanonical), "an actor that is not there");
        assert_eq!(check(b"a", 1, &[0, 1, b'k', 1]), Err(Truncated), "a part without its instant");
        assert_eq!(check(b"a", 1, &[0, 1, b'k', 0, 2]), Err(NotCanonical), "a part without instants");
        assert_eq!(check(b"a", 1, &[0, 1, b'k', 1, 0]), Err(NotCanonical), "instant 0");
        assert_eq!(check(b"a", 1, &[0, 1, b'k', 1 | 4, 2]), Err(Truncated), "more, but no more");
        assert_eq!(check(b"a", 1, &[1, 1, b'k', 1, 2]), Err(NotCanonical), "shared with nothing");
        assert_eq!(check(b"a", 2, &[0, 1, b'k', 1, 2, 0, 1, b'k', 1, 2]), Err(NotCanonical), "a key twice");
        assert_eq!(check(b"a", 2, &[0, 1, b'k', 1, 2, 1, 0, 1, 2]), Err(NotCanonical), "a key twice, shared");
        assert_eq!(check(b"a", 2, &[0, 1, b'k', 1, 2, 0, 1, b'j', 1, 2]), Err(NotCanonical), "unsorted");
        assert_eq!(
            check(b"a", 2, &[0, 1, b'k', 1, 2, 0, 2, b'k', b'l', 1, 2]),
            Err(NotCanonical),
            "not shared"
        );
        assert_eq!(check(b"a", 1, &[0x80, 0, 1, b'k', 1, 2]), Err(Varint), "over-long");
        assert_eq!(check(b"a", u64::MAX, &[0, 1, b'k', 1, 2]), Err(Truncated), "rows without end");
        assert_eq!(check(b"a", 1, &[0, 0x81, 0x20, 1, 2]), Err(Limit), "a key too long");
        assert_eq!(check(b"a", 1, &[0, 9, b'k', 1, 2]), Err(Truncated), "a key beyond the end");
        assert_eq!(RowReader::open(&[0x13]).map(|_| ()), Err(DecodeError::Kind));
        assert_eq!(RowReader::open(&[]).map(|_| ()), Err(Truncated));
    }

    #[test]
    fn keys_stop_sharing_where_they_would_outgrow_the_bytes() {
        let actor = ActorId::from(1);
        let rows = 2_000_u32;
        let long = alloc::vec![b'k'; 4_000];
        let keys: Vec<Vec<u8>> = (0..rows).map(|row| [&long[..], &row.to_be_bytes()].concat()).collect();
        let mut writer = Encoder::new(&schema(), [actor].iter(), keys.len());
        for key in &keys {
            writer.row(key, core::iter::once(RowContribution { actor: 0, strengthened: 5, weakened: 0 }));
        }
        let bytes = writer.finish();
        let mut walk = RowReader::open(&bytes).unwrap();
        let (mut decoded, mut seen) = (0, 0);
        while let Some((key, parts)) = walk.advance().unwrap() {
            assert_eq!(key, [&long[..], &u32::to_be_bytes(seen)].concat());
            assert_eq!(parts, [RowContribution { actor: 0, strengthened: 5, weakened: 0 }]);
            decoded += key.len();
            seen += 1;
        }
        assert_eq!(seen, rows);
        assert!(decoded <= 64 * bytes.len() + 4_096);
        assert!(bytes.len() < decoded / 30, "{} of {decoded}", bytes.len());
    }
}
