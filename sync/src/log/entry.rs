//! Entries: their content, their encoding, and the part of them that is hashed.
//!
//! An entry's bytes are the same in memory and on the wire: a header that depends on the entry before it (its base
//! and stamp), and the payload. The header of a small entry right after another has one or two bytes.
//!
//! The invariant: an entry has one spelling for each predecessor, and nothing of the spelling is hashed.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use consilience_base::Hlc;

use super::keys::LogKeys;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::hash::Hash;
use crate::identity::LogKind;

/// How many bytes an entry has at most: payload and citations together (62 KiB). With its proof it fits 64 KiB.
pub const ENTRY_BYTES_MAX: usize = 62 << 10;
/// The greatest size of a log (2⁴⁴ entries): a replica packs a sequence number and 16 bits more into a dot's counter.
pub const LOG_SIZE_MAX: u64 = 1 << 44;
/// How many citations an entry has at most.
pub const CITATIONS_MAX: usize = 64;

/// Bits of an entry that belong to the caller: hashed and carried, and otherwise without meaning here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryFlags(u8);

impl EntryFlags {
    /// None set.
    pub const NONE: Self = Self(0);

    /// From four bits; `None` for 16 and above.
    #[must_use]
    pub const fn new(bits: u8) -> Option<Self> {
        if bits < 16 { Some(Self(bits)) } else { None }
    }

    /// The four bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// The size of another log that a writer had seen, where it matters. Advisory: nothing waits for it, and an entry is
/// valid whatever it cites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Citation {
    /// The first 8 bytes of the cited log's id ([`LogId::alias`](crate::LogId::alias)).
    pub log: [u8; 8],
    /// How many of its entries were seen.
    pub size: u64,
    /// The root at that size: in event logs always, in state logs never.
    pub root: Option<Hash>,
}

/// An entry to be appended.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    /// The writer's stamp. Honest writers let it rise along a log; validity never depends on it.
    pub hlc: Hlc,
    /// Entries below this sequence number are no longer needed by anybody. Never falls, and never lies above the
    /// entry itself.
    pub base: u64,
    /// The caller's own four bits.
    pub flags: EntryFlags,
    /// At most [`CITATIONS_MAX`], strictly ascending by log.
    pub citations: &'a [Citation],
    /// Opaque; with the citations at most [`ENTRY_BYTES_MAX`] bytes.
    pub payload: &'a [u8],
}

impl<'a> NewEntry<'a> {
    /// An entry that leaves the base where it is at 0, without flags or citations.
    #[must_use]
    pub const fn new(hlc: Hlc, payload: &'a [u8]) -> Self {
        Self { hlc, base: 0, flags: EntryFlags::NONE, citations: &[], payload }
    }
}

/// An entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its number, from 0.
    pub seq: u64,
    /// The log's base as of this entry.
    pub base: u64,
    /// The writer's stamp.
    pub hlc: Hlc,
    /// The caller's own four bits.
    pub flags: EntryFlags,
    /// How long the payload is, or was.
    pub payload_len: u32,
    body: Body<'a>,
    cites: &'a [u8],
    kind: LogKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body<'a> {
    Payload(&'a [u8]),
    /// The payload was erased, here or where the entry came from.
    Hash(Hash),
}

impl<'a> Entry<'a> {
    /// The payload; `None` if it was erased.
    #[must_use]
    pub const fn payload(&self) -> Option<&'a [u8]> {
        match self.body {
            Body::Payload(payload) => Some(payload),
            Body::Hash(_) => None,
        }
    }

    /// The sizes of other logs that the writer had seen.
    pub fn citations(&self) -> impl Iterator<Item = Citation> + 'a {
        let mut reader = Reader::new(self.cites);
        let count = if self.cites.is_empty() { 0 } else { reader.varint().unwrap_or(0) };
        let kind = self.kind;
        // They were checked when the entry came in.
        (0..count).map_while(move |_| read_citation(&mut reader, kind).ok())
    }

    /// Its bytes, as those of the first entry of a range that stands alone. Layout: `docs/wire/log.md`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        Before::default().write(self, &mut bytes);
        bytes
    }

    /// Reads the bytes that [`encode`](Self::encode) wrote of the entry with this number.
    ///
    /// # Errors
    ///
    /// The fault in the bytes.
    pub fn decode(bytes: &'a [u8], seq: u64, kind: LogKind) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if seq >= LOG_SIZE_MAX {
            return Err(DecodeError::Limit);
        }
        let entry = Before::default().read(seq, kind, &mut reader)?;
        reader.finish()?;
        Ok(entry)
    }

    /// Its cost where bytes are limited: the payload, and a little for the entry itself.
    pub(crate) const fn cost(&self) -> usize {
        (self.payload_len as usize).saturating_add(16)
    }

    /// The same without the bytes of its payload, which are the last that are written of it; and those.
    pub(crate) const fn split_payload(self) -> (Self, &'a [u8]) {
        match self.body {
            Body::Payload(payload) => (Self { body: Body::Payload(&[]), ..self }, payload),
            Body::Hash(_) => (self, &[]),
        }
    }

    pub(crate) fn payload_hash(&self, keys: &LogKeys) -> Hash {
        match self.body {
            Body::Payload(payload) => keys.payload(payload),
            Body::Hash(hash) => hash,
        }
    }

    /// `flags u32le ‖ seq u64le ‖ base u64le ‖ hlc u64le ‖ len u32le ‖ payload hash [‖ cites hash]`, hashed: 64 bytes,
    /// which is one compression, unless it cites.
    #[inline]
    pub(crate) fn leaf(&self, keys: &LogKeys) -> Hash {
        let cites = !self.cites.is_empty();
        let flags = u32::from(self.flags.0) << 4 | u32::from(cites);
        let mut bytes = [0; 64];
        bytes[..4].copy_from_slice(&flags.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.seq.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.base.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.hlc.to_bits().to_le_bytes());
        bytes[28..32].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[32..].copy_from_slice(self.payload_hash(keys).as_bytes());
        if !cites {
            return keys.leaf(&bytes);
        }
        let mut longer = [0; 96];
        longer[..64].copy_from_slice(&bytes);
        longer[64..].copy_from_slice(keys.cites(self.cites).as_bytes());
        keys.leaf(&longer)
    }

    /// This entry with its payload's hash in place of the payload.
    pub(crate) fn erased(&self, keys: &LogKeys) -> Self {
        Self { body: Body::Hash(self.payload_hash(keys)), ..*self }
    }

    /// This entry with a payload, which must have the hash of the erased one.
    pub(crate) const fn restored(&self, payload: &'a [u8]) -> Self {
        Self { body: Body::Payload(payload), ..*self }
    }
}

/// The predecessor on which an entry's spelling depends: base and stamp of the entry before it. All zero before the
/// first, and where a range has to be read without its predecessor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) base: u64,
    pub(crate) hlc: Hlc,
}

/// How the stamp is written, the shortest that fits.
const HLC_NEXT: u64 = 0;
const HLC_MILLIS: u64 = 1;
const HLC_FULL: u64 = 2;
const HLC_RAW: u64 = 3;

/// Bits of the byte that follows the header, if the entry needs one.
const EXTRA_BASE: u8 = 1;
const EXTRA_CITES: u8 = 1 << 1;
const EXTRA_ERASED: u8 = 1 << 2;
const EXTRA_RESERVED: u8 = 1 << 3;

/// Why an entry cannot be appended. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Payload and citations have more than [`ENTRY_BYTES_MAX`] bytes.
    #[error("payload and citations have {0} bytes, and an entry has at most {ENTRY_BYTES_MAX}")]
    TooLong(usize),
    /// The base falls, or lies above the entry itself.
    #[error("the base falls or lies above its own entry")]
    Base,
    /// More than [`CITATIONS_MAX`] citations, unsorted ones, a root where the kind of log has none, or none where it
    /// has one.
    #[error("the citations are too many, unsorted or of another kind of log")]
    Citations,
    /// The log has [`LOG_SIZE_MAX`] entries. Open the next incarnation.
    #[error("the log is full")]
    Full,
    /// The log is forked, or its writer is not local.
    #[error("the log is forked or not a local writer's")]
    NotWritable,
}

fn read_citation(reader: &mut Reader<'_>, kind: LogKind) -> Result<Citation, DecodeError> {
    let log = reader.array()?;
    let size = reader.varint_max(LOG_SIZE_MAX)?;
    let root = match kind {
        LogKind::Event => Some(Hash::from_bytes(reader.array()?)),
        LogKind::State => None,
    };
    Ok(Citation { log, size, root })
}

fn check_citations(bytes: &[u8], kind: LogKind) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(9)?;
    if count == 0 {
        return Err(DecodeError::NotCanonical);
    }
    if count > CITATIONS_MAX {
        return Err(DecodeError::Limit);
    }
    let mut last = None;
    for _ in 0..count {
        let citation = read_citation(&mut reader, kind)?;
        if last >= Some(citation.log) {
            return Err(DecodeError::NotCanonical);
        }
        last = Some(citation.log);
    }
    reader.finish()
}

/// The bytes of citations that a writer hands in.
pub(crate) fn write_citations(citations: &[Citation], kind: LogKind) -> Result<Vec<u8>, AppendError> {
    let mut bytes = Vec::new();
    if citations.is_empty() {
        return Ok(bytes);
    }
    let sorted = citations.is_sorted_by(|one, next| one.log < next.log);
    let fits = citations
        .iter()
        .all(|citation| citation.root.is_some() == (kind == LogKind::Event) && citation.size <= LOG_SIZE_MAX);
    if citations.len() > CITATIONS_MAX || !sorted || !fits {
        return Err(AppendError::Citations);
    }
    put_varint(&mut bytes, citations.len() as u64);
    for citation in citations {
        bytes.extend_from_slice(&citation.log);
        put_varint(&mut bytes, citation.size);
        if let Some(root) = &citation.root {
            bytes.extend_from_slice(root.as_bytes());
        }
    }
    Ok(bytes)
}

impl Before {
    /// Reads the next entry and moves past it.
    #[inline]
    pub(crate) fn read<'a>(
        &mut self,
        seq: u64,
        kind: LogKind,
        reader: &mut Reader<'a>,
    ) -> Result<Entry<'a>, DecodeError> {
        let header = reader.varint()?;
        let len = header >> 3;
        let payload_len = match u32::try_from(len) {
            Ok(len) if len as usize <= ENTRY_BYTES_MAX => len,
            _ => return Err(DecodeError::Limit),
        };
        let extra = if header & 1 == 1 { reader.byte()? } else { 0 };
        if (header & 1 == 1) == (extra == 0) || extra & EXTRA_RESERVED != 0 {
            return Err(DecodeError::NotCanonical);
        }
        let mut base = self.base;
        if extra & EXTRA_BASE != 0 {
            let rise = reader.varint()?;
            base = base.checked_add(rise).ok_or(DecodeError::Base)?;
            if rise == 0 {
                return Err(DecodeError::NotCanonical);
            }
        }
        if base > seq {
            return Err(DecodeError::Base);
        }
        let hlc = self.read_hlc(header >> 1 & 3, reader)?;
        let mut cites: &[u8] = &[];
        if extra & EXTRA_CITES != 0 {
            let len = reader.count(1)?;
            if len.saturating_add(payload_len as usize) > ENTRY_BYTES_MAX {
                return Err(DecodeError::Limit);
            }
            cites = reader.take(len)?;
            check_citations(cites, kind)?;
        }
        let body = if extra & EXTRA_ERASED == 0 {
            Body::Payload(reader.take(payload_len as usize)?)
        } else if kind == LogKind::Event {
            Body::Hash(Hash::from_bytes(reader.array()?))
        } else {
            // A state is made of payloads: a state log without one would be another state.
            return Err(DecodeError::NotCanonical);
        };
        *self = Self { base, hlc };
        Ok(Entry { seq, base, hlc, flags: EntryFlags(extra >> 4), payload_len, body, cites, kind })
    }

    #[inline]
    fn read_hlc(&self, form: u64, reader: &mut Reader<'_>) -> Result<Hlc, DecodeError> {
        let (form, hlc) = match form {
            HLC_NEXT => (HLC_NEXT, self.hlc.to_bits().checked_add(1).map(Hlc::from_bits)),
            HLC_MILLIS => (HLC_MILLIS, self.after(reader.varint()?, 0)),
            HLC_FULL => {
                let millis = reader.varint()?;
                (HLC_FULL, self.after(millis, reader.varint()?))
            }
            _ => (HLC_RAW, Some(Hlc::from_bits(u64::from_le_bytes(reader.array()?)))),
        };
        match hlc {
            Some(hlc) if self.hlc_form(hlc).0 == form => Ok(hlc),
            _ => Err(DecodeError::NotCanonical),
        }
    }

    /// The stamp so many milliseconds later with this counter.
    fn after(&self, millis: u64, counter: u64) -> Option<Hlc> {
        let millis = (self.hlc.to_bits() >> 16).checked_add(millis).filter(|&millis| millis < 1 << 48)?;
        (counter < 1 << 16).then(|| Hlc::from_bits(millis << 16 | counter))
    }

    /// The spelling of a stamp after this predecessor, with its two numbers.
    #[inline]
    fn hlc_form(&self, hlc: Hlc) -> (u64, u64, u64) {
        let (last, next) = (self.hlc.to_bits(), hlc.to_bits());
        let (millis, counter) = ((next >> 16).checked_sub(last >> 16), next & 0xffff);
        match millis {
            // A full counter that carries into the milliseconds is the next stamp as well, but is not written so.
            Some(0) if Some(next) == last.checked_add(1) => (HLC_NEXT, 0, 0),
            Some(millis @ 1..) if counter == 0 => (HLC_MILLIS, millis, 0),
            Some(millis) if next > last => (HLC_FULL, millis, counter),
            _ => (HLC_RAW, 0, 0),
        }
    }

    /// An entry from a writer's hands. `cites` are from [`write_citations`].
    pub(crate) fn make<'a>(
        &self,
        seq: u64,
        kind: LogKind,
        new: &NewEntry<'a>,
        cites: &'a [u8],
    ) -> Result<Entry<'a>, AppendError> {
        let bytes = new.payload.len().saturating_add(cites.len());
        let payload_len = match u32::try_from(new.payload.len()) {
            Ok(len) if bytes <= ENTRY_BYTES_MAX => len,
            _ => return Err(AppendError::TooLong(bytes)),
        };
        if new.base < self.base || new.base > seq {
            return Err(AppendError::Base);
        }
        let body = Body::Payload(new.payload);
        Ok(Entry { seq, base: new.base, hlc: new.hlc, flags: new.flags, payload_len, body, cites, kind })
    }

    /// Writes an entry after this predecessor and moves past it. The entry's base is not below the predecessor's.
    #[inline]
    pub(crate) fn write(&mut self, entry: &Entry<'_>, bytes: &mut Vec<u8>) {
        let rise = entry.base.saturating_sub(self.base);
        let mut extra = entry.flags.0 << 4;
        if rise > 0 {
            extra |= EXTRA_BASE;
        }
        if !entry.cites.is_empty() {
            extra |= EXTRA_CITES;
        }
        if let Body::Hash(_) = entry.body {
            extra |= EXTRA_ERASED;
        }
        let (form, millis, counter) = self.hlc_form(entry.hlc);
        put_varint(bytes, u64::from(entry.payload_len) << 3 | form << 1 | u64::from(extra != 0));
        if extra != 0 {
            bytes.push(extra);
        }
        if rise > 0 {
            put_varint(bytes, rise);
        }
        match form {
            HLC_NEXT => {}
            HLC_MILLIS => put_varint(bytes, millis),
            HLC_FULL => {
                put_varint(bytes, millis);
                put_varint(bytes, counter);
            }
            _ => bytes.extend_from_slice(&entry.hlc.to_bits().to_le_bytes()),
        }
        if !entry.cites.is_empty() {
            put_varint(bytes, entry.cites.len() as u64);
            bytes.extend_from_slice(entry.cites);
        }
        match &entry.body {
            Body::Payload(payload) => bytes.extend_from_slice(payload),
            Body::Hash(hash) => bytes.extend_from_slice(hash.as_bytes()),
        }
        *self = Self { base: entry.base, hlc: entry.hlc };
    }
}
