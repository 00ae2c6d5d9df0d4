//! Ranges on the wire: some entries, a signed head, and the hashes that tie the one to the other.
//!
//! ```text
//! kind     0x20, +1 with the peaks on the left (never from 0), +2 if the head's size lies after the entries
//! from     varint
//! count    varint
//! peaks    of [0, from)                          only with +1
//! entries  each after the one before; the first after entry from − 1, or after nothing if the peaks are there
//! beyond   varint, size − end                    only with +2
//! base     varint, the head's                    only with +2, or with +1 or from 0 and no entry
//! time     varint, zigzag from the last stamp's milliseconds
//! signature
//! hashes   the cover of [end, size)
//! ```
//!
//! A holder of everything below `from` needs no peaks, and at the tip no hashes at all; the root is never there, for
//! the reader of a range computes it. Without entries and with peaks, a range is a consistency proof; with one entry, a
//! sparse read; with neither, a heartbeat.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use consilience_base::{Hlc, Timestamp};

use super::entry::Before;
use super::extension::Within;
use super::head::{HEAD_MILLIS_MAX, SignedHead};
use super::keys::LogKeys;
use super::run::{Grown, Run};
use super::shape::{self, LOG_SIZE_MAX, Peaks, Subtree};
use crate::codec::{DecodeError, Reader, put_varint, unzigzag_from, zigzag_between};
use crate::hash::Hash;
use crate::identity::Signature;

const KIND: u8 = 0x20;
const PEAKS: u8 = 1;
const BEYOND: u8 = 2;
/// The kind, and the numbers around the entries: four sizes, and a time.
const NUMBERS_BYTES_MAX: usize = 1 + 4 * 10 + 10;

/// A range of which the first bytes were read: which entries it brings, and in which form. They are checked, with its
/// head and signature, where it is taken in ([`LogSet::receive_range`](crate::LogSet::receive_range)).
#[derive(Clone, Debug)]
pub struct Range<'a> {
    bytes: &'a [u8],
    /// The peaks of `[0, from)`, if the range brings them.
    peaks: Option<&'a [[u8; Hash::LEN]]>,
    beyond: bool,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// From the first entry on.
    rest: Reader<'a>,
}

impl<'a> Range<'a> {
    /// Reads the header, which stands before the entries. Allocates nothing.
    ///
    /// # Errors
    ///
    /// If the bytes do not begin as a range does.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut rest = Reader::new(bytes);
        let kind = rest.byte()?;
        if kind & !(PEAKS | BEYOND) != KIND {
            return Err(DecodeError::Kind);
        }
        let from = rest.varint_max(LOG_SIZE_MAX)?;
        let count = rest.count(1)?;
        let to = from.checked_add(count as u64).filter(|&to| to <= LOG_SIZE_MAX).ok_or(DecodeError::Limit)?;
        let peaks = match (from, kind & PEAKS) {
            // There is nothing on the left, and the bit would be a second spelling.
            (0, 0) => Some([].as_slice()),
            (0, _) => return Err(DecodeError::NotCanonical),
            (_, 0) => None,
            _ => Some(rest.take(shape::peaks_len(from).saturating_mul(Hash::LEN))?.as_chunks().0),
        };
        Ok(Self { bytes, peaks, beyond: kind & BEYOND != 0, from, to, rest })
    }

    /// All of its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The number of its first entry.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.from
    }

    /// The number after its last entry: its start if it brings none.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.to
    }

    /// The size of its head, unless that lies beyond the entries and is written after them.
    pub(crate) const fn size(&self) -> Option<u64> {
        if self.beyond { None } else { Some(self.to) }
    }

    /// Whether it brings the peaks of the tree before it, as one from the first entry on does without a byte.
    #[must_use]
    pub const fn form(&self) -> RangeForm {
        if self.peaks.is_some() { RangeForm::Alone } else { RangeForm::Follow }
    }

    /// Whether it proves itself, whatever the receiver holds.
    pub(crate) const fn is_alone(&self) -> bool {
        self.peaks.is_some()
    }

    /// The base of the first entry, where that entry is encoded without a predecessor.
    pub(crate) fn first_base(&self, within: Within) -> Option<u64> {
        let entry = Before::default().read(self.from, within, &mut self.rest.clone()).ok()?;
        (self.is_alone() && self.from < self.to).then_some(entry.base)
    }
}

fn read_hashes(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Hash>, DecodeError> {
    let mut hashes = Vec::with_capacity(count);
    for _ in 0..count {
        hashes.push(Hash::from_bytes(reader.array()?));
    }
    Ok(hashes)
}

/// The receiver's knowledge at the point where a range begins.
#[derive(Debug, Default)]
pub(crate) struct Footing<'a> {
    /// Base, stamp and epoch of the entry before; for a range without peaks.
    pub(crate) before: Before,
    /// The peaks of `[0, from)`; for a range without peaks.
    pub(crate) peaks: Vec<Hash>,
    /// Entries below are known: of them nothing is noted.
    pub(crate) known: u64,
    /// The sizes, ascending, at which the root is to be noted where the entries reach them.
    pub(crate) sizes: &'a [u64],
    /// Entries with later stamps are deferred.
    pub(crate) limit: Hlc,
}

/// A range whose parts are well formed and whose root was computed. The signature is not checked yet.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) head: SignedHead,
    /// The bytes of the entries.
    pub(crate) entries: &'a [u8],
    /// The predecessor on which the first header depends.
    pub(crate) before: Before,
    /// Position and predecessor of the first entry that is not known.
    pub(crate) fresh: (usize, Before),
    /// The peaks of `[0, from)`.
    pub(crate) left: Vec<Hash>,
    /// The cover of the entries after the range, in the tree of the head's size.
    pub(crate) beyond: Vec<(Subtree, Hash)>,
    pub(crate) grown: Grown,
    /// The roots at the sizes that were asked for.
    pub(crate) roots: Vec<(u64, Hash)>,
    /// The [cost](super::Entry::cost) of the entries that are not known.
    pub(crate) fresh_cost: usize,
    /// The first of them that is deferred, and the cost of all from that one on.
    pub(crate) late: Option<(u64, usize)>,
}

/// Why a range was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeFault {
    /// Its own.
    Form(DecodeError),
    /// It breaks a rule after the receiver's own entries. After another history it may be sound.
    Footing,
}

impl From<DecodeError> for RangeFault {
    fn from(error: DecodeError) -> Self {
        Self::Form(error)
    }
}

/// Reads the rest of a range and computes its root.
pub(crate) fn check<'a>(
    keys: &LogKeys,
    within: Within,
    range: &Range<'a>,
    footing: Footing<'_>,
) -> Result<Checked<'a>, RangeFault> {
    let Range { peaks, beyond, from, to, .. } = *range;
    let mut reader = range.rest.clone();
    let alone = range.is_alone();
    let start = reader.position();
    let before = if alone { Before::default() } else { footing.before };
    let left = match peaks {
        Some(peaks) => peaks.iter().copied().map(Hash::from_bytes).collect(),
        None => footing.peaks,
    };
    if left.len() != shape::peaks_len(from) {
        return Err(DecodeError::NotCanonical.into());
    }
    // Stamps, bases and epochs of such a range are written as they differ from an entry that is held here.
    let fault = |error| match error {
        DecodeError::NotCanonical | DecodeError::Base | DecodeError::Limit if !alone => RangeFault::Footing,
        error => RangeFault::Form(error),
    };

    let known = footing.known.clamp(from, to);
    let mut grown = Grown::with_room(known, to, Peaks::new(from, left.clone()), before);
    let mut sizes = footing.sizes.iter().copied().skip_while(|&size| size < from).peekable();
    let mut roots = Vec::new();
    let mut late = None;
    let mut fresh_cost = 0_usize;
    let mut fresh = (0, before);
    let mut behind = before;
    for seq in from..to {
        let at = reader.position().wrapping_sub(start);
        if sizes.next_if_eq(&seq).is_some() {
            roots.extend(grown.peaks.root(keys).map(|root| (seq, root)));
        }
        if seq == known {
            fresh = (at, behind);
        }
        let entry = behind.read(seq, within, &mut reader).map_err(fault)?;
        if seq >= known {
            if late.is_none() && entry.hlc > footing.limit {
                late = Some((seq, fresh_cost));
            }
            fresh_cost = fresh_cost.saturating_add(entry.cost());
        }
        grown.push(keys, &entry, reader.position().wrapping_sub(start), known);
    }
    if sizes.next_if_eq(&to).is_some() {
        roots.extend(grown.peaks.root(keys).map(|root| (to, root)));
    }
    let entries = reader.since(start);
    if known == to {
        fresh = (entries.len(), behind);
    }
    let late = late.map(|(seq, cost_before)| (seq, fresh_cost.saturating_sub(cost_before)));

    let mut size = to;
    if beyond {
        let more = reader.varint()?;
        size = to.checked_add(more).filter(|&size| size <= LOG_SIZE_MAX).ok_or(DecodeError::Limit)?;
        if more == 0 {
            return Err(DecodeError::NotCanonical.into());
        }
    }
    let base = if beyond || (alone && from == to) { reader.varint()? } else { behind.base };
    // The base of the last entry does not lie above it.
    if base >= size {
        return Err(if beyond { DecodeError::Base.into() } else { fault(DecodeError::Base) });
    }
    let time = unzigzag_from(behind.hlc.time().as_millis(), reader.varint()?, HEAD_MILLIS_MAX);
    let time = Timestamp::from_millis(time.ok_or_else(|| fault(DecodeError::Limit))?);
    let signature = Signature::from_bytes(reader.array()?);
    let cover = shape::right_cover(to, size);
    let right = read_hashes(&mut reader, cover.len())?;
    reader.finish()?;
    let root = shape::fold(keys, size, to, grown.peaks.hashes(), &right).ok_or(DecodeError::NotCanonical)?;
    let head = SignedHead { size, base, time, root, signature };
    let beyond = cover.into_iter().zip(right).collect();
    Ok(Checked { from, to, head, entries, before, fresh, left, beyond, grown, roots, fresh_cost, late })
}

/// How much a range brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeForm {
    /// For a holder that holds the log up to where the range begins.
    Follow,
    /// With the peaks before its first entry, for a peer that holds nothing or another branch.
    Alone,
}

/// Appends `[from, to)` to `out`, cut to `bytes_max` but not below one entry, with the proof up to `head`; and returns
/// the end of the range. `None` if the run does not hold `[from, to)` or cannot prove it: then nothing was written.
///
/// The room that it takes is known before it is written, so `out` grows at most once, and an entry is copied once.
pub(crate) fn write(
    run: &Run,
    keys: &LogKeys,
    (head, beyond): (&SignedHead, &[(Subtree, Hash)]),
    (from, to): (u64, u64),
    form: RangeForm,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Option<u64> {
    if from < run.start() || to > run.end().min(head.size) || from > to {
        return None;
    }
    let mut proofs = run.proofs(keys, beyond);
    // From the start on, a range stands alone anyway.
    let alone = form == RangeForm::Alone || from == 0;
    let left = if alone { proofs.peaks(from)? } else { Vec::new() };
    let before = if alone { Before::default() } else { run.before(from)? };

    // Room for all that is not entries: numbers, signature, hashes.
    let room = bytes_max.saturating_sub(128).saturating_sub(left.len().saturating_mul(Hash::LEN));
    let mut at = run.entries(from, to);
    // The first may be encoded after another predecessor than in the run; the others are as they are kept, block by
    // block.
    let mut first_head = Vec::new();
    let first_body = at.next().map(|first| {
        let (head, body) = first.split_body();
        { before }.write(&head, &mut first_head);
        body
    });
    let mut end = from.saturating_add(u64::from(first_body.is_some()));
    let mut entry_bytes = first_head.len().saturating_add(first_body.map_or(0, <[u8]>::len));
    let mut others: Vec<&[u8]> = Vec::new();
    while end < to {
        // The cover of the rest is at most so long.
        let cover = (run.end().max(head.size).ilog2() as usize).saturating_mul(Hash::LEN);
        let left_over = room.saturating_sub(cover).saturating_sub(entry_bytes);
        let (bytes, count) = at.take_bytes(left_over);
        if count == 0 {
            break;
        }
        others.push(bytes);
        entry_bytes = entry_bytes.saturating_add(bytes.len());
        end = end.saturating_add(count);
    }
    let behind = if end == from { before } else { run.before(end)? };
    let right = proofs.right_cover(end, head.size)?;

    let hashes = left.len().saturating_add(right.len()).saturating_mul(Hash::LEN);
    out.reserve(entry_bytes.saturating_add(hashes).saturating_add(NUMBERS_BYTES_MAX + Signature::LEN));
    let more = head.size > end;
    out.push(KIND | if alone && from > 0 { PEAKS } else { 0 } | if more { BEYOND } else { 0 });
    put_varint(out, from);
    put_varint(out, end.saturating_sub(from));
    for hash in &left {
        out.extend_from_slice(hash.as_bytes());
    }
    out.extend_from_slice(&first_head);
    out.extend_from_slice(first_body.unwrap_or_default());
    for bytes in others {
        out.extend_from_slice(bytes);
    }
    if more {
        put_varint(out, head.size.saturating_sub(end));
    }
    if more || (alone && from == end) {
        put_varint(out, head.base);
    }
    put_varint(out, zigzag_between(behind.hlc.time().as_millis(), head.time.as_millis()));
    out.extend_from_slice(head.signature.as_bytes());
    for (_, hash) in &right {
        out.extend_from_slice(hash.as_bytes());
    }
    Some(end)
}
