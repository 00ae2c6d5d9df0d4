//! Reading a payload: one walk that checks all of it.

use alloc::vec::Vec;

use consilience_crdts::{CouplingSchema, Hlc, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use consilience_sync::codec::{DecodeError, Reader};
use consilience_sync::{Incarnation, LOG_SIZE_MAX};

use super::{CollectionKind, NAME_BYTES_MAX, Ref, VERSION, counter};

/// Why a payload says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    /// It was written by a later version of the library.
    #[error("the payload is of version {0}, which this library does not read yet")]
    NeedsUpgrade(u8),
    /// It is no payload.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// One thing that a payload says.
#[derive(Clone, Debug)]
pub(crate) enum Item<'a> {
    /// The writer answers for the dots below `below` of a lower incarnation.
    Retire { incarnation: Incarnation, below: u64 },
    /// The operations that follow are on this collection. The canonical bytes of its id.
    Collection(&'a [u8]),
    /// An operation, and its place in the payload.
    Op(u16, Op<'a>),
}

/// An operation on a collection.
#[derive(Clone, Debug)]
pub(crate) enum Op<'a> {
    /// Mints a dot for a key, or an element, and ends what the writer saw of it.
    Set { key: &'a [u8], value: &'a [u8], ends: Refs<'a> },
    /// Ends what the writer saw of a key or element.
    Remove { key: &'a [u8], ends: Refs<'a> },
    /// Lists a dot again: an own one, or one of a lower incarnation.
    Carry {
        /// `None` for the entry's own log.
        incarnation: Option<Incarnation>,
        counter: u64,
        tag: [u8; 4],
        stamp: Hlc,
        key: &'a [u8],
        value: &'a [u8],
    },
    /// Repeats removals.
    End { ends: Refs<'a> },
    /// States a contribution of the writer: the instant at which it will have decayed.
    Couple { key: &'a [u8], weakens: bool, instant: u64 },
}

/// Dots that an operation names, strictly ascending.
#[derive(Clone, Debug)]
pub(crate) struct Refs<'a> {
    aliases: &'a [u8],
    rest: Reader<'a>,
    left: usize,
}

impl Iterator for Refs<'_> {
    type Item = Ref;

    fn next(&mut self) -> Option<Ref> {
        self.left = self.left.checked_sub(1)?;
        // It was walked before.
        read_ref(&mut self.rest, self.aliases).ok().map(|(_, found)| found)
    }
}

fn read_ref(reader: &mut Reader<'_>, aliases: &[u8]) -> Result<(usize, Ref), DecodeError> {
    let log = usize::try_from(reader.varint()?).map_err(|_| DecodeError::Limit)?;
    let (alias, _) = aliases
        .get(log.saturating_mul(8)..)
        .and_then(|rest| rest.split_first_chunk())
        .ok_or(DecodeError::Limit)?;
    let seq = reader.varint_max(LOG_SIZE_MAX - 1)?;
    let index = reader.varint_max(u64::from(u16::MAX))?;
    let index = u16::try_from(index).map_err(|_| DecodeError::Limit)?;
    Ok((log, Ref { alias: *alias, counter: counter(seq, index), tag: reader.array()? }))
}

/// What was met so far, to know that every name is used.
struct Walk<'a> {
    reader: Reader<'a>,
    aliases: &'a [u8],
    /// Whether each alias was used.
    used: Vec<bool>,
    ops: u32,
}

/// At most this many other logs are named in one payload.
pub(crate) const LOGS_MAX: usize = 4_096;

impl<'a> Walk<'a> {
    fn refs(&mut self) -> Result<Refs<'a>, DecodeError> {
        let count = self.reader.count(7)?;
        let refs = Refs { aliases: self.aliases, rest: self.reader.clone(), left: count };
        let mut last = None;
        for _ in 0..count {
            let (log, found) = read_ref(&mut self.reader, self.aliases)?;
            if last.is_some_and(|last| last >= found) {
                return Err(DecodeError::NotCanonical);
            }
            last = Some(found);
            if let Some(used) = self.used.get_mut(log) {
                *used = true;
            }
        }
        Ok(refs)
    }

    fn bytes(&mut self, max: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.reader.varint_max(max as u64)?;
        self.reader.take(usize::try_from(len).map_err(|_| DecodeError::Limit)?)
    }

    fn value(&mut self, kind: CollectionKind) -> Result<&'a [u8], DecodeError> {
        if kind == CollectionKind::Map { self.bytes(VALUE_BYTES_MAX) } else { Ok(&[]) }
    }

    /// The canonical bytes of a collection's id.
    fn collection(&mut self) -> Result<(CollectionKind, &'a [u8]), DecodeError> {
        let start = self.reader.position();
        let kind = CollectionKind::from_byte(self.reader.byte()?).ok_or(DecodeError::Kind)?;
        let len = usize::from(self.reader.byte()?);
        if !(1..=NAME_BYTES_MAX).contains(&len) {
            return Err(DecodeError::Limit);
        }
        let name = self.reader.take(len)?;
        if !name.is_ascii() {
            core::str::from_utf8(name).map_err(|_| DecodeError::NotCanonical)?;
        }
        if kind == CollectionKind::Coupling {
            let from = self.reader.position();
            for _ in 0..3 {
                self.reader.varint()?;
            }
            CouplingSchema::decode(self.reader.since(from)).map_err(|_| DecodeError::Limit)?;
        }
        Ok((kind, self.reader.since(start)))
    }

    fn op(&mut self, kind: CollectionKind) -> Result<Op<'a>, DecodeError> {
        let code = self.reader.byte()?;
        if kind == CollectionKind::Coupling {
            let weakens = match code {
                4 => false,
                5 => true,
                _ => return Err(DecodeError::Kind),
            };
            let key = self.bytes(KEY_BYTES_MAX)?;
            let instant = u64::from_le_bytes(self.reader.array()?);
            if instant == 0 {
                return Err(DecodeError::NotCanonical);
            }
            return Ok(Op::Couple { key, weakens, instant });
        }
        Ok(match code {
            0 => {
                let key = self.bytes(KEY_BYTES_MAX)?;
                let value = self.value(kind)?;
                Op::Set { key, value, ends: self.refs()? }
            }
            1 => Op::Remove { key: self.bytes(KEY_BYTES_MAX)?, ends: self.refs()? },
            2 => {
                let ends = self.refs()?;
                if ends.left == 0 {
                    return Err(DecodeError::NotCanonical);
                }
                Op::End { ends }
            }
            3 | 6 => {
                let incarnation = match code {
                    3 => None,
                    _ => Some(Incarnation::from_u64(u64::from_le_bytes(self.reader.array()?))),
                };
                let seq = self.reader.varint_max(LOG_SIZE_MAX - 1)?;
                let index = self.reader.varint_max(u64::from(u16::MAX))?;
                let index = u16::try_from(index).map_err(|_| DecodeError::Limit)?;
                let tag = self.reader.array()?;
                let stamp = Hlc::from_bits(u64::from_le_bytes(self.reader.array()?));
                let key = self.bytes(KEY_BYTES_MAX)?;
                let value = self.value(kind)?;
                Op::Carry { incarnation, counter: counter(seq, index), tag, stamp, key, value }
            }
            _ => return Err(DecodeError::Kind),
        })
    }
}

/// Walks a payload, and hands out what it says in order. Callers that must not act on half of one walk it twice.
pub(crate) fn walk<'a>(bytes: &'a [u8], mut visit: impl FnMut(Item<'a>)) -> Result<(), PayloadError> {
    let mut reader = Reader::new(bytes);
    match reader.byte()? {
        VERSION => {}
        0 => return Err(DecodeError::Kind.into()),
        later => return Err(PayloadError::NeedsUpgrade(later)),
    }
    // How many logs are named, and whether any are retired: mostly neither, so they share a byte.
    let head = reader.varint_max(2 * LOGS_MAX as u64 + 1)?;
    let logs = usize::try_from(head >> 1).map_err(|_| DecodeError::Limit)?;
    let aliases = reader.take(logs * 8)?;
    if !aliases.chunks(8).is_sorted_by(|a, b| a < b) {
        return Err(DecodeError::NotCanonical.into());
    }
    let retired = if head & 1 == 1 { reader.count(9)? } else { 0 };
    if head & 1 == 1 && retired == 0 {
        return Err(DecodeError::NotCanonical.into());
    }
    let mut last = None;
    for _ in 0..retired {
        let incarnation = u64::from_le_bytes(reader.array()?);
        let below = reader.varint_max(LOG_SIZE_MAX)?;
        if last.is_some_and(|last| last >= incarnation) || below == 0 {
            return Err(DecodeError::NotCanonical.into());
        }
        last = Some(incarnation);
        visit(Item::Retire { incarnation: Incarnation::from_u64(incarnation), below });
    }
    let mut walk = Walk { reader, aliases, used: alloc::vec![false; logs], ops: 0 };
    let mut last: Option<&[u8]> = None;
    while !walk.reader.is_empty() {
        let (kind, id) = walk.collection()?;
        if last.is_some_and(|last| last >= id) {
            return Err(DecodeError::NotCanonical.into());
        }
        last = Some(id);
        let count = walk.reader.count(3)?;
        if count == 0 {
            return Err(DecodeError::NotCanonical.into());
        }
        visit(Item::Collection(id));
        for _ in 0..count {
            let op = walk.op(kind)?;
            let index = u16::try_from(walk.ops).map_err(|_| DecodeError::Limit)?;
            walk.ops += 1;
            visit(Item::Op(index, op));
        }
    }
    if walk.used.contains(&false) { Err(DecodeError::NotCanonical.into()) } else { Ok(()) }
}
