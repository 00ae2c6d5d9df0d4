//! The messages: their bytes, and the checks that need nothing but the bytes and the limits.
//!
//! `docs/wire/reconcile.md` gives the layout. The invariant: a message that decodes encodes to the very bytes it came
//! from, and nothing is allocated that the message does not pay for.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::error::MessageError;
use super::fingerprint::PRIME;
use super::limits::Limits;
use super::peel::{CELL_BYTES, cell_of};
use super::range::{BOUND_BYTES_MAX, KeyRange};
use super::sketch::Cell;
use crate::codec::{Reader, put_len, put_varint, put_words, varint_bytes};

const OPEN: u8 = 0x10;
const CELLS: u8 = 0x11;
const MORE: u8 = 0x12;
const SAME: u8 = 0x13;
const RANGES: u8 = 0x14;
const STOP: u8 = 0x15;

/// Flags of an opening.
const SCOPED: u8 = 1;
const RANGES_ONLY: u8 = 2;
const ROOT_ALONE: u8 = 4;
/// Flags of a range message: its sender has more to say, and wants nothing that can wait.
const MORE_TO_SAY: u8 = 1;
const FULL_UP: u8 = 2;

/// The longest opening message's head besides bounds and cells.
pub(super) const HEAD_BYTES_MAX: usize = 16;

/// The content of a message. Its number in the conversation stands before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Open(Open),
    Cells {
        /// How many items the sender's set has.
        len: u64,
        start: u32,
        cells: Vec<Cell>,
    },
    /// Asks for cells up to this number.
    More {
        end: u32,
    },
    /// The roots are equal.
    Same,
    Ranges(Ranges),
    /// The sender ends here; the number gives the reason.
    Stop {
        reason: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// How many items there are in the scope.
    pub(super) len: u64,
    pub(super) summary: Summary,
    pub(super) body: OpenBody,
}

/// The means by which equality is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Summary {
    /// The whole set: its root.
    Root([u8; 32]),
    /// A part of it: the bounds and the salted fingerprint.
    Scope(KeyRange, u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpenBody {
    /// Nothing more: the two were equal last time.
    RootAlone,
    /// The answer is to come in ranges.
    RangesOnly,
    /// The first cells, and the counts of some after them; how many cells the sender has in all.
    Sketch { available: u32, cells: Vec<Cell>, counts: Vec<u8> },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// The sender has more to say on earlier questions.
    pub(super) more: bool,
    /// It has so much waiting that the receiver is to answer, and to leave older tasks for later.
    pub(super) full: bool,
    /// Short ids the sender lacks and asks for.
    pub(super) asks: Vec<u64>,
    /// Short ids the sender has and the receiver seems to lack.
    pub(super) tells: Vec<u64>,
    /// Ascending and disjoint.
    pub(super) entries: Vec<Claim>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) range: KeyRange,
    pub(super) body: Body,
}

/// The statement about a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// How many items, and their fingerprint. A range that differs is answered.
    Fingerprint { count: u64, fingerprint: u64 },
    /// The short ids of all items: a range that is known to differ.
    List(Vec<u64>),
    /// The receiver, which has few items there, is asked to list them.
    Ask,
    /// All ids: a range that differs although its short ids do not.
    Full(Vec<[u8; 32]>),
}

const SKIP: u8 = 0;
const FINGERPRINT: u8 = 1;
const LIST: u8 = 2;
const ASK: u8 = 3;
const FULL: u8 = 4;
/// A suffix this long or longer has its length after the tag.
const SUFFIX_LONG: u8 = 31;

/// Writes a message's kind and number.
fn head(kind: u8, number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.push(kind);
    put_varint(&mut out, number);
    out
}

impl Message {
    /// `scope` is the range to which the bounds of ranges are relative.
    pub(super) fn encode(&self, number: u64, scope: &KeyRange) -> Vec<u8> {
        match self {
            Self::Open(open) => {
                let mut out = head(OPEN, number);
                open.encode(&mut out);
                out
            }
            Self::Cells { len, start, cells } => {
                let mut out = head(CELLS, number);
                put_varint(&mut out, *len);
                put_varint(&mut out, u64::from(*start));
                put_len(&mut out, cells.len());
                cells.iter().for_each(|cell| super::peel::put_cell(&mut out, cell));
                out
            }
            Self::More { end } => {
                let mut out = head(MORE, number);
                put_varint(&mut out, u64::from(*end));
                out
            }
            Self::Same => head(SAME, number),
            Self::Ranges(ranges) => {
                let mut writer = ClaimEncoder::new(scope);
                for entry in &ranges.entries {
                    writer.entry(entry, usize::MAX);
                }
                encode_ranges(number, ranges.more, ranges.full, &ranges.asks, &ranges.tells, &writer)
            }
            Self::Stop { reason } => {
                let mut out = head(STOP, number);
                out.push(*reason);
                out
            }
        }
    }

    /// The message's number and content.
    pub(super) fn decode(
        bytes: &[u8],
        scope: &KeyRange,
        limits: &Limits,
    ) -> Result<(u64, Self), MessageError> {
        if bytes.len() > limits.message_bytes {
            return Err(MessageError::Limit);
        }
        let mut reader = Reader::new(bytes);
        let kind = reader.byte()?;
        let number = reader.varint()?;
        let message = match kind {
            OPEN => Self::Open(Open::decode(&mut reader, limits)?),
            CELLS => {
                let len = reader.varint()?;
                let start = number_32(&mut reader)?;
                let cells = cells(&mut reader, limits)?;
                Self::Cells { len, start, cells }
            }
            MORE => Self::More { end: number_32(&mut reader)? },
            SAME => Self::Same,
            RANGES => Self::Ranges(Ranges::decode(&mut reader, scope, limits)?),
            STOP => Self::Stop { reason: reader.byte()? },
            _ => return Err(MessageError::Kind),
        };
        reader.finish()?;
        Ok((number, message))
    }
}

fn number_32(reader: &mut Reader<'_>) -> Result<u32, MessageError> {
    u32::try_from(reader.varint()?).map_err(|_| MessageError::Limit)
}

fn cells(reader: &mut Reader<'_>, limits: &Limits) -> Result<Vec<Cell>, MessageError> {
    let count = reader.count_max(CELL_BYTES, limits.cells)?;
    let bytes = reader.take(count.saturating_mul(CELL_BYTES))?;
    Ok(bytes.as_chunks::<CELL_BYTES>().0.iter().map(cell_of).collect())
}

impl Open {
    fn encode(&self, out: &mut Vec<u8>) {
        let scoped = if matches!(self.summary, Summary::Scope(..)) { SCOPED } else { 0 };
        out.push(
            scoped
                | match self.body {
                    OpenBody::RootAlone => ROOT_ALONE,
                    OpenBody::RangesOnly => RANGES_ONLY,
                    OpenBody::Sketch { .. } => 0,
                },
        );
        put_varint(out, self.len);
        match &self.summary {
            Summary::Root(root) => out.extend_from_slice(root),
            Summary::Scope(range, fingerprint) => {
                put_len(out, range.lower.len());
                out.extend_from_slice(&range.lower);
                // Zero is no upper bound: an upper bound is above something, so it is never empty.
                let upper = range.upper.as_deref().unwrap_or(&[]);
                put_len(out, upper.len());
                out.extend_from_slice(upper);
                out.extend_from_slice(&fingerprint.to_le_bytes());
            }
        }
        if let OpenBody::Sketch { available, cells, counts } = &self.body {
            put_varint(out, u64::from(*available));
            put_len(out, cells.len());
            cells.iter().for_each(|cell| super::peel::put_cell(out, cell));
            put_len(out, counts.len());
            out.extend_from_slice(counts);
        }
    }

    fn decode(reader: &mut Reader<'_>, limits: &Limits) -> Result<Self, MessageError> {
        let flags = reader.byte()?;
        let len = reader.varint()?;
        let scoped = flags & SCOPED != 0;
        let summary = if scoped {
            let lower = bound(reader)?;
            let upper = bound(reader)?;
            let upper = if upper.is_empty() { None } else { Some(upper) };
            let range = KeyRange::between(lower, upper).ok_or(MessageError::NotCanonical)?;
            Summary::Scope(range, fingerprint(reader)?)
        } else {
            Summary::Root(reader.array()?)
        };
        let body = match flags & !SCOPED {
            ROOT_ALONE => OpenBody::RootAlone,
            RANGES_ONLY => OpenBody::RangesOnly,
            // The sketch is that of the whole set.
            0 if !scoped => {
                let available = number_32(reader)?;
                let cells = cells(reader, limits)?;
                let count = reader.count_max(1, limits.cells)?;
                OpenBody::Sketch { available, cells, counts: reader.take(count)?.into() }
            }
            _ => return Err(MessageError::NotCanonical),
        };
        Ok(Self { len, summary, body })
    }
}

fn bound<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], MessageError> {
    let len = reader.count_max(1, BOUND_BYTES_MAX)?;
    Ok(reader.take(len)?)
}

fn fingerprint(reader: &mut Reader<'_>) -> Result<u64, MessageError> {
    let value = reader.word()?;
    if value < PRIME { Ok(value) } else { Err(MessageError::NotCanonical) }
}

/// A range message from entries that were written already.
pub(super) fn encode_ranges(
    number: u64,
    more: bool,
    full: bool,
    asks: &[u64],
    tells: &[u64],
    writer: &ClaimEncoder,
) -> Vec<u8> {
    let mut out = head(RANGES, number);
    let ids = asks.len().saturating_add(tells.len()).saturating_mul(8);
    out.reserve(writer.bytes.len().saturating_add(ids).saturating_add(HEAD_BYTES_MAX));
    out.push(if more { MORE_TO_SAY } else { 0 } | if full { FULL_UP } else { 0 });
    put_words(&mut out, asks.iter().copied());
    put_words(&mut out, tells.iter().copied());
    out.extend_from_slice(&writer.bytes);
    out
}

/// Writes claims in order. A bound is written as the suffix that it does not share with the one before it.
#[derive(Clone, Debug, Default)]
pub(super) struct ClaimEncoder {
    bytes: Vec<u8>,
    /// Where the last entry ended.
    at: Vec<u8>,
    /// The end of the scope.
    end: Option<Vec<u8>>,
    ended: bool,
    count: usize,
}

impl ClaimEncoder {
    pub(super) fn new(scope: &KeyRange) -> Self {
        Self { at: scope.lower.clone(), end: scope.upper.clone(), ..Self::default() }
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Whether an entry that begins here can still follow.
    pub(super) fn fits_after(&self, lower: &[u8]) -> bool {
        !self.ended && *self.at <= *lower
    }

    /// How many bytes an entry up to `upper` takes besides its body, at most.
    pub(super) fn bounds_bytes(&self, range: &KeyRange) -> usize {
        let skip = if self.at == range.lower { 0 } else { range.lower.len().saturating_add(5) };
        skip.saturating_add(range.upper.as_ref().map_or(0, Vec::len)).saturating_add(5)
    }

    /// Writes an entry if that leaves no more than `room` bytes written; otherwise changes nothing.
    pub(super) fn entry(&mut self, entry: &Claim, room: usize) -> bool {
        let before = self.bytes.len();
        if self.at != entry.range.lower {
            let at = core::mem::take(&mut self.at);
            self.bound(SKIP, Some(&entry.range.lower), &at);
            self.at = at;
        }
        let kind = match entry.body {
            Body::Fingerprint { .. } => FINGERPRINT,
            Body::List(_) => LIST,
            Body::Ask => ASK,
            Body::Full(_) => FULL,
        };
        let upper = entry.range.upper.as_deref().filter(|_| entry.range.upper != self.end);
        self.bound(kind, upper, &entry.range.lower);
        match &entry.body {
            Body::Fingerprint { count, fingerprint } => {
                put_varint(&mut self.bytes, *count);
                self.bytes.extend_from_slice(&fingerprint.to_le_bytes());
            }
            Body::List(shorts) => put_words(&mut self.bytes, shorts.iter().copied()),
            Body::Ask => {}
            Body::Full(ids) => {
                put_len(&mut self.bytes, ids.len());
                ids.iter().for_each(|id| self.bytes.extend_from_slice(id));
            }
        }
        if self.bytes.len() > room {
            self.bytes.truncate(before);
            return false;
        }
        self.count = self.count.saturating_add(1);
        match &entry.range.upper {
            Some(upper) if entry.range.upper != self.end => self.at.clone_from(upper),
            _ => self.ended = true,
        }
        true
    }

    /// Writes a tag, and of a bound the suffix that it does not share with `from`. No bound is the end of the scope.
    fn bound(&mut self, kind: u8, bound: Option<&[u8]>, from: &[u8]) {
        let tag = kind << 5;
        let Some(bound) = bound else {
            self.bytes.push(tag);
            self.bytes.push(0);
            return;
        };
        let shared = from.iter().zip(bound).take_while(|(a, b)| a == b).count();
        let suffix = bound.get(shared..).unwrap_or(&[]);
        match u8::try_from(suffix.len()) {
            Ok(len @ ..SUFFIX_LONG) => self.bytes.push(tag | len),
            _ => {
                self.bytes.push(tag | SUFFIX_LONG);
                put_len(&mut self.bytes, suffix.len());
            }
        }
        put_len(&mut self.bytes, shared);
        self.bytes.extend_from_slice(suffix);
    }
}

impl Ranges {
    fn decode(reader: &mut Reader<'_>, scope: &KeyRange, limits: &Limits) -> Result<Self, MessageError> {
        let flags = reader.byte()?;
        let (more, full) = (flags & MORE_TO_SAY != 0, flags & FULL_UP != 0);
        // A side that has so much waiting has more to say.
        if flags & !(MORE_TO_SAY | FULL_UP) != 0 || (full && !more) {
            return Err(MessageError::NotCanonical);
        }
        let asks = reader.words(limits.ids)?;
        let mut ids_left = limits.ids.saturating_sub(asks.len());
        let tells = reader.words(ids_left)?;
        ids_left = ids_left.saturating_sub(tells.len());
        let mut ranges = Self { more, full, asks, tells, entries: Vec::new() };
        let mut lower = scope.lower.clone();
        let mut skipped = false;
        while !reader.is_empty() {
            let tag = reader.byte()?;
            let upper = read_bound(reader, tag, &lower)?;
            // The end has a form of its own, and nothing lies after it.
            if upper.is_some() && scope.upper.is_some() && upper >= scope.upper {
                return Err(MessageError::NotCanonical);
            }
            let kind = tag >> 5;
            if kind == SKIP {
                // A skip leads somewhere, and one is enough.
                match upper {
                    Some(upper) if !skipped => lower = upper,
                    _ => return Err(MessageError::NotCanonical),
                }
                skipped = true;
                continue;
            }
            skipped = false;
            if ranges.entries.len() >= limits.ranges {
                return Err(MessageError::Limit);
            }
            let body = match kind {
                FINGERPRINT => {
                    Body::Fingerprint { count: reader.varint()?, fingerprint: fingerprint(reader)? }
                }
                LIST => Body::List(reader.words(ids_left)?),
                ASK => Body::Ask,
                FULL => {
                    let count = reader.count_max(32, ids_left)?;
                    let bytes = reader.take(count.saturating_mul(32))?;
                    Body::Full(bytes.as_chunks::<32>().0.to_vec())
                }
                _ => return Err(MessageError::Kind),
            };
            let ids = match &body {
                Body::List(shorts) => shorts.len(),
                Body::Full(ids) => ids.len(),
                Body::Fingerprint { .. } | Body::Ask => 0,
            };
            ids_left = ids_left.saturating_sub(ids);
            let next = upper.clone();
            let upper = upper.or_else(|| scope.upper.clone());
            ranges.entries.push(Claim { range: KeyRange { lower, upper }, body });
            match next {
                Some(next) => lower = next,
                // Nothing follows the end.
                None => return reader.finish().map(|()| ranges).map_err(|_| MessageError::NotCanonical),
            }
        }
        if skipped { Err(MessageError::NotCanonical) } else { Ok(ranges) }
    }
}

/// A bound above `from`, in its only form; `None` is the end.
fn read_bound(reader: &mut Reader<'_>, tag: u8, from: &[u8]) -> Result<Option<Vec<u8>>, MessageError> {
    let suffix_len = match tag & SUFFIX_LONG {
        SUFFIX_LONG => {
            let len = reader.count_max(1, BOUND_BYTES_MAX)?;
            if len < usize::from(SUFFIX_LONG) {
                return Err(MessageError::NotCanonical);
            }
            len
        }
        short => usize::from(short),
    };
    let shared = usize::try_from(reader.varint()?).map_err(|_| MessageError::Limit)?;
    if suffix_len == 0 {
        return if shared == 0 { Ok(None) } else { Err(MessageError::NotCanonical) };
    }
    let suffix = reader.take(suffix_len)?;
    let Some((kept, replaced)) = from.split_at_checked(shared) else {
        return Err(MessageError::NotCanonical);
    };
    if shared.saturating_add(suffix_len) > BOUND_BYTES_MAX {
        return Err(MessageError::Limit);
    }
    // Above the bound before it, and as much shared with it as there is.
    match (suffix.first(), replaced.first()) {
        (Some(new), Some(old)) if new <= old => Err(MessageError::NotCanonical),
        _ => Ok(Some([kept, suffix].concat())),
    }
}

/// How many bytes a fingerprint takes after its bound.
pub(super) const fn fingerprint_bytes(count: u64) -> usize {
    varint_bytes(count).saturating_add(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn messages() -> Vec<(KeyRange, Message)> {
        let all = KeyRange::all();
        let topic = KeyRange::prefix(b"topic").unwrap();
        let cell = Cell { sum: 77, check: 5, count: 200 };
        let bound = |bytes: &[u8]| Some(bytes.to_vec());
        let range = |lower: &[u8], upper: Option<Vec<u8>>| KeyRange { lower: lower.into(), upper };
        let entry = |range: KeyRange, body: Body| Claim { range, body };
        let sketch = OpenBody::Sketch { available: 256, cells: vec![cell; 3], counts: vec![9, 8] };
        let long = [&b"topic"[..], &[7; 60]].concat();
        let ranges = Ranges {
            more: true,
            full: true,
            asks: vec![1, u64::MAX],
            tells: vec![3],
            entries: vec![
                entry(range(b"topic", bound(b"topica")), Body::Fingerprint { count: 300, fingerprint: 12 }),
                entry(range(b"topica", bound(b"topicb")), Body::List(vec![5, 6])),
                entry(range(b"topicc", bound(b"topicca")), Body::Full(vec![[8; 32]])),
                entry(range(b"topiccb", topic.upper.clone()), Body::Ask),
            ],
        };
        let lengthy =
            Ranges { entries: vec![entry(range(&topic.lower, Some(long)), Body::Ask)], ..Ranges::default() };
        vec![
            (all.clone(), Message::Open(Open { len: 5, summary: Summary::Root([1; 32]), body: sketch })),
            (
                all.clone(),
                Message::Open(Open { len: 5, summary: Summary::Root([1; 32]), body: OpenBody::RootAlone }),
            ),
            (
                all.clone(),
                Message::Open(Open {
                    len: 1 << 40,
                    summary: Summary::Scope(topic.clone(), 3),
                    body: OpenBody::RangesOnly,
                }),
            ),
            (all.clone(), Message::Cells { len: 9, start: 300, cells: vec![cell; 2] }),
            (all.clone(), Message::More { end: 70_000 }),
            (all.clone(), Message::Same),
            (all.clone(), Message::Ranges(Ranges::default())),
            (all, Message::Stop { reason: 2 }),
            (topic.clone(), Message::Ranges(ranges)),
            (topic, Message::Ranges(lengthy)),
        ]
    }

    #[test]
    fn frames_survive_their_bytes() {
        for (scope, message) in messages() {
            let bytes = message.encode(300, &scope);
            assert_eq!(Message::decode(&bytes, &scope, &Limits::default()), Ok((300, message)));
        }
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes() {
        let mut accepted = 0;
        for (scope, message) in messages() {
            let bytes = message.encode(1, &scope);
            for at in 0..bytes.len() {
                for value in 0..=u8::MAX {
                    let mut changed = bytes.clone();
                    *changed.get_mut(at).unwrap() = value;
                    if let Ok((number, message)) = Message::decode(&changed, &scope, &Limits::default()) {
                        accepted += 1;
                        assert_eq!(message.encode(number, &scope), changed);
                    }
                }
            }
        }
        assert!(accepted > 10_000, "{accepted}");
    }
}
