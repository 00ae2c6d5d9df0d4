//! Reading a payload: [`Transaction::parse`] checks all of it, once. Its [items](Transaction::items) are read after that
//! without another look at order, names or use.
//!
//! The form is spelt in one place, [`read_collection`] and [`read_op`]; only the parse brings checks along.

use alloc::vec::Vec;

use consilience_crdts::{CouplingSchema, Hlc, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use consilience_sync::codec::{DecodeError, Reader};
use consilience_sync::{Entry, Incarnation, LOG_SIZE_MAX};

use super::{CollectionKind, NAME_BYTES_MAX, Ref, VERSION, counter};

/// At most this many other logs are named in one payload.
pub(crate) const LOGS_MAX: usize = 4_096;

/// Why a payload says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    /// A later version of the library wrote the payload.
    #[error("the payload is of version {0}, which this library does not read yet")]
    NeedsUpgrade(u8),
    /// The entry says in its header that this library cannot read it: the payload is encrypted, or a field is critical
    /// that is not known.
    #[error("the entry is of a form that this library does not read yet")]
    Opaque,
    /// The bytes are no payload.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// One thing that a payload says of collections.
#[derive(Clone, Debug)]
pub(crate) enum Statement<'a> {
    /// The operations that follow are on this collection. The canonical bytes of its id.
    Collection(&'a [u8]),
    /// An operation, and its place in the payload.
    Op(u16, Op<'a>),
}

/// An operation on a collection.
#[derive(Clone, Debug)]
pub(crate) enum Op<'a> {
    /// Mints a dot for a key, or an element, and ends the dots that the writer saw of it.
    Set { key: &'a [u8], value: &'a [u8], ends: Refs<'a> },
    /// Ends the dots that the writer saw of a key or element.
    Remove { key: &'a [u8], ends: Refs<'a> },
    /// Lists a dot again: an own one, or one of a lower incarnation.
    Relist {
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
    aliases: &'a [[u8; 8]],
    rest: Reader<'a>,
    left: usize,
}

impl Iterator for Refs<'_> {
    type Item = Ref;

    #[inline]
    fn next(&mut self) -> Option<Ref> {
        self.left = self.left.checked_sub(1)?;
        // It was read before.
        read_ref(&mut self.rest, self.aliases).ok().map(|(_, found)| found)
    }
}

/// A payload that was checked: one transaction of its writer.
#[derive(Clone, Debug)]
pub(crate) struct Transaction<'a> {
    /// The logs that it names, ascending.
    aliases: &'a [[u8; 8]],
    /// The bytes of the collections and their operations.
    items: &'a [u8],
}

impl<'a> Transaction<'a> {
    /// What an entry says; see [`parse`](Self::parse).
    ///
    /// # Errors
    ///
    /// Also if the entry is opaque, whatever its payload looks like.
    #[inline]
    pub(crate) fn of(entry: &Entry<'a>) -> Result<Self, PayloadError> {
        if entry.is_opaque() {
            return Err(PayloadError::Opaque);
        }
        Self::parse(entry.payload().unwrap_or_default())
    }

    /// Checks a payload. Allocates nothing, unless it names more than 64 logs.
    ///
    /// # Errors
    ///
    /// If the payload is of a later version, or not in the one spelling of anything.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(payload);
        match reader.byte()? {
            VERSION => {}
            0 => return Err(DecodeError::Kind.into()),
            later => return Err(PayloadError::NeedsUpgrade(later)),
        }
        let logs = usize::try_from(reader.varint_max(LOGS_MAX as u64)?).map_err(|_| DecodeError::Limit)?;
        let (aliases, _) = reader.take(logs * 8)?.as_chunks();
        if !aliases.is_sorted_by(|a, b| a < b) {
            return Err(DecodeError::NotCanonical.into());
        }
        let start = reader.position();
        check_items(&mut reader, aliases)?;
        Ok(Self { aliases, items: reader.since(start) })
    }

    /// Collections, each followed by the operations on it.
    pub(crate) fn items(&self) -> Items<'a> {
        Items {
            aliases: self.aliases,
            reader: Reader::new(self.items),
            kind: CollectionKind::Map,
            left: 0,
            index: 0,
        }
    }
}

/// The statements of a checked payload on collections, in order.
#[derive(Clone, Debug)]
pub(crate) struct Items<'a> {
    aliases: &'a [[u8; 8]],
    reader: Reader<'a>,
    /// The kind of the collection that is read, and the number of further operations on it.
    kind: CollectionKind,
    left: usize,
    /// The index of the next operation.
    index: u16,
}

impl<'a> Iterator for Items<'a> {
    type Item = Statement<'a>;

    #[inline]
    fn next(&mut self) -> Option<Statement<'a>> {
        // All of it was read before: nothing fails here.
        if self.left == 0 {
            if self.reader.is_empty() {
                return None;
            }
            let (kind, id) = read_collection(&mut self.reader, |_| Ok(()), |_| Ok(())).ok()?;
            (self.kind, self.left) = (kind, self.reader.count(OP_BYTES_MIN).ok()?);
            return Some(Statement::Collection(id));
        }
        self.left -= 1;
        let index = self.index;
        self.index = index.wrapping_add(1);
        let op = read_op(&mut self.reader, self.aliases, self.kind, |_, _, _| Ok(())).ok()?;
        Some(Statement::Op(index, op))
    }
}

/// No operation is shorter.
const OP_BYTES_MIN: usize = 3;
/// No name of a dot is shorter.
const REF_BYTES_MIN: usize = 7;

/// Which of the logs that a payload names were met in its operations.
struct Used {
    /// The first 64 aliases, a bit each: mostly there are no more.
    first: u64,
    rest: Vec<bool>,
}

impl Used {
    fn none_of(logs: usize) -> Self {
        // Aliases that do not exist count as met.
        let first = u32::try_from(logs).ok().and_then(|logs| u64::MAX.checked_shl(logs)).unwrap_or(0);
        Self { first, rest: alloc::vec![false; logs.saturating_sub(64)] }
    }

    fn note(&mut self, log: usize) {
        if log < 64 {
            self.first |= 1 << log;
        } else if let Some(used) = self.rest.get_mut(log - 64) {
            *used = true;
        }
    }

    fn is_all(&self) -> bool {
        self.first == u64::MAX && !self.rest.contains(&false)
    }
}

/// Checks everything after the names of logs.
fn check_items<'a>(reader: &mut Reader<'a>, aliases: &'a [[u8; 8]]) -> Result<(), DecodeError> {
    let mut used = Used::none_of(aliases.len());
    let mut ops = 0_usize;
    let mut last: Option<&[u8]> = None;
    while !reader.is_empty() {
        let (kind, id) = read_collection(reader, check_name, check_schema)?;
        if last.is_some_and(|last| last >= id) {
            return Err(DecodeError::NotCanonical);
        }
        last = Some(id);
        let count = reader.count(OP_BYTES_MIN)?;
        if count == 0 {
            return Err(DecodeError::NotCanonical);
        }
        for _ in 0..count {
            read_op(reader, aliases, kind, |before, log, found| {
                used.note(log);
                if before.is_some_and(|before| before >= found) {
                    Err(DecodeError::NotCanonical)
                } else {
                    Ok(())
                }
            })?;
            if ops > usize::from(u16::MAX) {
                return Err(DecodeError::Limit);
            }
            ops += 1;
        }
    }
    if used.is_all() { Ok(()) } else { Err(DecodeError::NotCanonical) }
}

fn check_name(name: &[u8]) -> Result<(), DecodeError> {
    if name.is_ascii() || core::str::from_utf8(name).is_ok() {
        Ok(())
    } else {
        Err(DecodeError::NotCanonical)
    }
}

fn check_schema(schema: &[u8]) -> Result<(), DecodeError> {
    CouplingSchema::decode(schema).map(|_| ()).map_err(|_| DecodeError::Limit)
}

/// A collection's kind, and the canonical bytes of its id.
#[inline]
fn read_collection<'a>(
    reader: &mut Reader<'a>,
    check_name: impl FnOnce(&[u8]) -> Result<(), DecodeError>,
    check_schema: impl FnOnce(&[u8]) -> Result<(), DecodeError>,
) -> Result<(CollectionKind, &'a [u8]), DecodeError> {
    let start = reader.position();
    let kind = CollectionKind::from_byte(reader.byte()?).ok_or(DecodeError::Kind)?;
    let len = usize::from(reader.byte()?);
    if !(1..=NAME_BYTES_MAX).contains(&len) {
        return Err(DecodeError::Limit);
    }
    check_name(reader.take(len)?)?;
    if kind == CollectionKind::Coupling {
        let from = reader.position();
        for _ in 0..3 {
            reader.varint()?;
        }
        check_schema(reader.since(from))?;
    }
    Ok((kind, reader.since(start)))
}

/// An operation on a collection of a kind. `check` sees each dot that it names: the one before, which of the logs, and
/// the dot.
#[inline]
fn read_op<'a>(
    reader: &mut Reader<'a>,
    aliases: &'a [[u8; 8]],
    kind: CollectionKind,
    check: impl FnMut(Option<Ref>, usize, Ref) -> Result<(), DecodeError>,
) -> Result<Op<'a>, DecodeError> {
    let code = reader.byte()?;
    if kind == CollectionKind::Coupling {
        let weakens = match code {
            4 => false,
            5 => true,
            _ => return Err(DecodeError::Kind),
        };
        let key = read_bytes(reader, KEY_BYTES_MAX)?;
        let instant = u64::from_le_bytes(reader.array()?);
        if instant == 0 {
            return Err(DecodeError::NotCanonical);
        }
        return Ok(Op::Couple { key, weakens, instant });
    }
    let read_value = |reader: &mut Reader<'a>| -> Result<&'a [u8], DecodeError> {
        if kind == CollectionKind::Map { read_bytes(reader, VALUE_BYTES_MAX) } else { Ok(&[]) }
    };
    Ok(match code {
        0 => {
            let key = read_bytes(reader, KEY_BYTES_MAX)?;
            let value = read_value(reader)?;
            Op::Set { key, value, ends: read_refs(reader, aliases, check)? }
        }
        1 => {
            let key = read_bytes(reader, KEY_BYTES_MAX)?;
            Op::Remove { key, ends: read_refs(reader, aliases, check)? }
        }
        2 => {
            let ends = read_refs(reader, aliases, check)?;
            if ends.left == 0 {
                return Err(DecodeError::NotCanonical);
            }
            Op::End { ends }
        }
        3 | 6 => {
            let incarnation = match code {
                3 => None,
                _ => Some(Incarnation::from_u64(u64::from_le_bytes(reader.array()?))),
            };
            let counter = read_counter(reader)?;
            let tag = reader.array()?;
            let stamp = Hlc::from_bits(u64::from_le_bytes(reader.array()?));
            let key = read_bytes(reader, KEY_BYTES_MAX)?;
            Op::Relist { incarnation, counter, tag, stamp, key, value: read_value(reader)? }
        }
        _ => return Err(DecodeError::Kind),
    })
}

#[inline]
fn read_bytes<'a>(reader: &mut Reader<'a>, max: usize) -> Result<&'a [u8], DecodeError> {
    let len = reader.varint_max(max as u64)?;
    reader.take(usize::try_from(len).map_err(|_| DecodeError::Limit)?)
}

#[inline]
fn read_refs<'a>(
    reader: &mut Reader<'a>,
    aliases: &'a [[u8; 8]],
    mut check: impl FnMut(Option<Ref>, usize, Ref) -> Result<(), DecodeError>,
) -> Result<Refs<'a>, DecodeError> {
    let count = reader.count(REF_BYTES_MIN)?;
    let refs = Refs { aliases, rest: reader.clone(), left: count };
    let mut last = None;
    for _ in 0..count {
        let (log, found) = read_ref(reader, aliases)?;
        check(last, log, found)?;
        last = Some(found);
    }
    Ok(refs)
}

fn read_ref(reader: &mut Reader<'_>, aliases: &[[u8; 8]]) -> Result<(usize, Ref), DecodeError> {
    let log = usize::try_from(reader.varint()?).map_err(|_| DecodeError::Limit)?;
    let alias = *aliases.get(log).ok_or(DecodeError::Limit)?;
    let counter = read_counter(reader)?;
    Ok((log, Ref { alias, counter, tag: reader.array()? }))
}

/// The number of an entry, and which of its operations.
fn read_counter(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let seq = reader.varint_max(LOG_SIZE_MAX - 1)?;
    let index = reader.varint_max(u64::from(u16::MAX))?;
    Ok(counter(seq, u16::try_from(index).map_err(|_| DecodeError::Limit)?))
}
