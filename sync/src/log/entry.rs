//! Entries: their content, their encoding, and the part of them that is hashed.
//!
//! An entry's bytes are the same in memory and on the wire: a header that depends on the entry before it (its base,
//! stamp and epoch), the salt and the payload. The header of a small entry right after another has one or two bytes.
//!
//! The salt is 4 bytes that only the writer knows until the entry leaves. The payload's hash covers it, and so the leaf
//! does: nobody can work out the leaf of an entry that is still to come, whatever is known of its payload.
//!
//! What does not live here: the fields of an extension (`extension`). The invariant: an entry has one spelling for each
//! predecessor, and of the spelling nothing but that of the extension is hashed.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use consilience_base::Hlc;

use super::extension::{self, Citation, Closure, FieldFault, Within};
use super::keys::LogKeys;
use super::shape::LOG_SIZE_MAX;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::hash::Hash;
use crate::identity::{Incarnation, LogKind, LogOpening};

/// How many bytes an entry has at most: payload and extension together (62 KiB). With its salt and its proof it fits
/// 64 KiB.
pub const ENTRY_BYTES_MAX: usize = 62 << 10;
/// How many bytes the salt of an entry has.
pub const SALT_BYTES: usize = 4;

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
    /// Which key the payload is encrypted with: 0 if it is not. What the number refers to is not decided yet, and an
    /// entry of a state log with another one says nothing to anybody.
    pub epoch: u32,
    /// At most [`CITATIONS_MAX`](crate::CITATIONS_MAX), strictly ascending by log.
    pub citations: &'a [Citation],
    /// Of state logs: at most [`CLOSURES_MAX`](crate::CLOSURES_MAX), strictly ascending by incarnation.
    pub closures: &'a [Closure],
    /// Of state logs: an incarnation up to the log's own.
    pub last_final: Option<Incarnation>,
    /// Bytes that nobody else can guess before the entry leaves: from the host's randomness, and others for each entry.
    /// They go with the payload when it is erased.
    pub salt: [u8; SALT_BYTES],
    /// Opaque; with the extension that citations, closures and the final incarnation make up at most
    /// [`ENTRY_BYTES_MAX`] bytes.
    pub payload: &'a [u8],
}

impl<'a> NewEntry<'a> {
    /// An entry that leaves the base where it is at 0, in the clear, without flags and extension. Its salt is 0, which
    /// everybody can guess: that is for entries whose leaf need not be a secret before they leave.
    #[must_use]
    pub const fn new(hlc: Hlc, payload: &'a [u8]) -> Self {
        Self {
            hlc,
            base: 0,
            flags: EntryFlags::NONE,
            epoch: 0,
            citations: &[],
            closures: &[],
            last_final: None,
            salt: [0; SALT_BYTES],
            payload,
        }
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
    /// Which key the payload is encrypted with: 0 if it is not.
    pub epoch: u32,
    /// How long the payload is, or was. The salt is not counted.
    pub payload_len: u32,
    body: Body<'a>,
    /// As it is written; empty if there is none.
    extension: &'a [u8],
    kind: LogKind,
    opaque: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body<'a> {
    /// The salt, and the payload.
    Salted(&'a [u8]),
    /// Both were erased, here or where the entry came from.
    Hash(Hash),
}

impl<'a> Entry<'a> {
    /// The payload; `None` if it was erased.
    #[must_use]
    pub const fn payload(&self) -> Option<&'a [u8]> {
        match self.split_salted() {
            Some((_, payload)) => Some(payload),
            None => None,
        }
    }

    /// The salt; `None` if it was erased with the payload.
    #[must_use]
    pub const fn salt(&self) -> Option<[u8; SALT_BYTES]> {
        match self.split_salted() {
            Some((salt, _)) => Some(*salt),
            None => None,
        }
    }

    const fn split_salted(&self) -> Option<(&'a [u8; SALT_BYTES], &'a [u8])> {
        match self.body {
            Body::Salted(salted) => salted.split_first_chunk(),
            Body::Hash(_) => None,
        }
    }

    /// The sizes of other logs that the writer had seen.
    pub fn citations(&self) -> impl Iterator<Item = Citation> + use<'a> {
        extension::citations(self.extension, self.kind)
    }

    /// Where earlier logs of the writer end, ascending by incarnation.
    pub fn closures(&self) -> impl Iterator<Item = Closure> + use<'a> {
        extension::closures(self.extension)
    }

    /// The incarnation that the entry calls final.
    #[must_use]
    pub fn last_final(&self) -> Option<Incarnation> {
        extension::last_final(self.extension)
    }

    /// Whether it closes logs of earlier incarnations, or ends them. That it says to everybody, whatever else it says.
    #[inline]
    pub(crate) fn closes(&self) -> bool {
        !self.extension.is_empty() && (self.last_final().is_some() || self.closures().next().is_some())
    }

    /// Whether its payload says nothing to this library: the extension has a critical field of a kind that is not
    /// known, or it is an entry of a state log with an epoch. It is held and passed on all the same.
    #[must_use]
    pub const fn is_opaque(&self) -> bool {
        self.opaque
    }

    /// Its bytes, as those of the first entry of a range that stands alone. Layout: `docs/wire/log.md`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        Before::default().write(self, &mut bytes);
        bytes
    }

    /// Reads the bytes that [`encode`](Self::encode) wrote of the entry with this number, in the log that was opened so.
    ///
    /// # Errors
    ///
    /// The fault in the bytes.
    pub fn decode(bytes: &'a [u8], seq: u64, opening: &LogOpening) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if seq >= LOG_SIZE_MAX {
            return Err(DecodeError::Limit);
        }
        let entry = Before::default().read(seq, Within::of(opening), &mut reader)?;
        reader.finish()?;
        Ok(entry)
    }

    /// Its cost where bytes are limited: payload and extension, and a little for the entry itself.
    pub(crate) const fn cost(&self) -> usize {
        (self.payload_len as usize).saturating_add(self.extension.len()).saturating_add(16)
    }

    /// The same without the bytes of its salt and payload, which are the last that are written of it; and those.
    pub(crate) const fn split_body(self) -> (Self, &'a [u8]) {
        match self.body {
            Body::Salted(salted) => (Self { body: Body::Salted(&[]), ..self }, salted),
            Body::Hash(_) => (self, &[]),
        }
    }

    pub(crate) fn payload_hash(&self, keys: &LogKeys) -> Hash {
        match self.body {
            Body::Salted(salted) => keys.payload(salted),
            Body::Hash(hash) => hash,
        }
    }

    /// `flags u8 ‖ form u8 ‖ length u16le ‖ epoch u32le ‖ seq u64le ‖ base u64le ‖ hlc u64le ‖ payload hash
    /// [‖ extension hash]`, hashed: 64 bytes, which is one compression, unless it has an extension.
    #[inline]
    pub(crate) fn leaf(&self, keys: &LogKeys) -> Hash {
        let extended = !self.extension.is_empty();
        // Payloads are shorter than 2^16 bytes.
        let [low, high, ..] = self.payload_len.to_le_bytes();
        let mut bytes = [0; 64];
        bytes[..4].copy_from_slice(&[self.flags.0, u8::from(extended), low, high]);
        bytes[4..8].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.hlc.to_bits().to_le_bytes());
        bytes[32..].copy_from_slice(self.payload_hash(keys).as_bytes());
        if !extended {
            return keys.leaf(&bytes);
        }
        let mut longer = [0; 96];
        longer[..64].copy_from_slice(&bytes);
        longer[64..].copy_from_slice(keys.extension(self.extension).as_bytes());
        keys.leaf(&longer)
    }

    /// This entry with the payload's hash in place of salt and payload.
    pub(crate) fn erased(&self, keys: &LogKeys) -> Self {
        Self { body: Body::Hash(self.payload_hash(keys)), ..*self }
    }

    /// This entry with a salt and a payload, which must have the hash of those that were erased.
    pub(crate) const fn restored(&self, salted: &'a [u8]) -> Self {
        Self { body: Body::Salted(salted), ..*self }
    }
}

/// The predecessor on which an entry's spelling depends: base, stamp and epoch of the entry before it. All zero before
/// the first, and where a range has to be read without its predecessor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) base: u64,
    pub(crate) hlc: Hlc,
    pub(crate) epoch: u32,
}

/// How the stamp is written, the shortest that fits.
const HLC_NEXT: u64 = 0;
const HLC_MILLIS: u64 = 1;
const HLC_FULL: u64 = 2;
const HLC_RAW: u64 = 3;

/// Bits of the byte that follows the header, if the entry needs one.
const EXTRA_BASE: u8 = 1;
const EXTRA_EXTENSION: u8 = 1 << 1;
const EXTRA_ERASED: u8 = 1 << 2;
const EXTRA_EPOCH: u8 = 1 << 3;

/// Why an entry cannot be appended. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Payload and extension have more than [`ENTRY_BYTES_MAX`] bytes.
    #[error("payload and extension have {0} bytes, and an entry has at most {ENTRY_BYTES_MAX}")]
    TooLong(usize),
    /// The base falls, or lies above the entry itself.
    #[error("the base falls or lies above its own entry")]
    Base,
    /// More than [`CITATIONS_MAX`](crate::CITATIONS_MAX) citations, unsorted ones, a root where the kind of log has none, or none where it
    /// has one.
    #[error("the citations are too many, unsorted or of another kind of log")]
    Citations,
    /// More than [`CLOSURES_MAX`](crate::CLOSURES_MAX) closures, unsorted ones, one of an incarnation that is not below
    /// the log's own, one below 0 entries or more than [`LOG_SIZE_MAX`], or any in an event log.
    #[error("the closures are too many, unsorted, not of earlier incarnations or in an event log")]
    Closures,
    /// The final incarnation is above the log's own, or stated in an event log.
    #[error("the final incarnation is above the log's own, or stated in an event log")]
    Final,
    /// The log has [`LOG_SIZE_MAX`] entries. Open the next incarnation.
    #[error("the log is full")]
    Full,
    /// The log is forked, or its writer is not local.
    #[error("the log is forked or not a local writer's")]
    NotWritable,
}

impl From<FieldFault> for AppendError {
    fn from(fault: FieldFault) -> Self {
        match fault {
            FieldFault::Citations => Self::Citations,
            FieldFault::Closures => Self::Closures,
            FieldFault::Final => Self::Final,
        }
    }
}

impl Before {
    /// The predecessor that an entry is to the one after it.
    pub(crate) const fn after(entry: &Entry<'_>) -> Self {
        Self { base: entry.base, hlc: entry.hlc, epoch: entry.epoch }
    }

    /// Reads the next entry and moves past it.
    #[inline]
    pub(crate) fn read<'a>(
        &mut self,
        seq: u64,
        within: Within,
        reader: &mut Reader<'a>,
    ) -> Result<Entry<'a>, DecodeError> {
        let header = reader.varint()?;
        let len = header >> 3;
        let payload_len = match u32::try_from(len) {
            Ok(len) if len as usize <= ENTRY_BYTES_MAX => len,
            _ => return Err(DecodeError::Limit),
        };
        let extra = if header & 1 == 1 { reader.byte()? } else { 0 };
        if (header & 1 == 1) == (extra == 0) {
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
        let mut epoch = self.epoch;
        if extra & EXTRA_EPOCH != 0 {
            epoch = u32::from_le_bytes(reader.array()?);
            if epoch == self.epoch {
                return Err(DecodeError::NotCanonical);
            }
        }
        let hlc = self.read_hlc(header >> 1 & 3, reader)?;
        let kind = within.kind;
        let mut opaque = is_encrypted(kind, epoch);
        let mut extension: &[u8] = &[];
        if extra & EXTRA_EXTENSION != 0 {
            let len = reader.count(1)?;
            if len.saturating_add(payload_len as usize) > ENTRY_BYTES_MAX {
                return Err(DecodeError::Limit);
            }
            extension = reader.take(len)?;
            opaque |= extension::check(extension, within)?;
        }
        let body = if extra & EXTRA_ERASED == 0 {
            Body::Salted(reader.take((payload_len as usize).saturating_add(SALT_BYTES))?)
        } else if kind == LogKind::Event {
            Body::Hash(Hash::from_bytes(reader.array()?))
        } else {
            // A state is made of payloads: a state log without one would be another state.
            return Err(DecodeError::NotCanonical);
        };
        *self = Self { base, hlc, epoch };
        let flags = EntryFlags(extra >> 4);
        Ok(Entry { seq, base, hlc, flags, epoch, payload_len, body, extension, kind, opaque })
    }

    #[inline]
    fn read_hlc(&self, form: u64, reader: &mut Reader<'_>) -> Result<Hlc, DecodeError> {
        let (form, hlc) = match form {
            HLC_NEXT => (HLC_NEXT, self.hlc.to_bits().checked_add(1).map(Hlc::from_bits)),
            HLC_MILLIS => (HLC_MILLIS, self.later(reader.varint()?, 0)),
            HLC_FULL => {
                let millis = reader.varint()?;
                (HLC_FULL, self.later(millis, reader.varint()?))
            }
            _ => (HLC_RAW, Some(Hlc::from_bits(u64::from_le_bytes(reader.array()?)))),
        };
        match hlc {
            Some(hlc) if self.hlc_form(hlc).0 == form => Ok(hlc),
            _ => Err(DecodeError::NotCanonical),
        }
    }

    /// The stamp so many milliseconds later with this counter.
    fn later(&self, millis: u64, counter: u64) -> Option<Hlc> {
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

    /// An entry from a writer's hands, with its extension as [`extension::write`] makes it, and its salt and payload in
    /// one piece.
    pub(crate) fn make<'a>(
        &self,
        seq: u64,
        within: Within,
        new: &NewEntry<'_>,
        (extension, salted): (&'a [u8], &'a [u8]),
    ) -> Result<Entry<'a>, AppendError> {
        let bytes = new.payload.len().saturating_add(extension.len());
        let payload_len = match u32::try_from(new.payload.len()) {
            Ok(len) if bytes <= ENTRY_BYTES_MAX => len,
            _ => return Err(AppendError::TooLong(bytes)),
        };
        if new.base < self.base || new.base > seq {
            return Err(AppendError::Base);
        }
        let NewEntry { hlc, base, flags, epoch, .. } = *new;
        let kind = within.kind;
        // A writer of this library writes no field that it does not know.
        let opaque = is_encrypted(kind, epoch);
        let body = Body::Salted(salted);
        Ok(Entry { seq, base, hlc, flags, epoch, payload_len, body, extension, kind, opaque })
    }

    /// Writes an entry after this predecessor and moves past it. The entry's base is not below the predecessor's.
    #[inline]
    pub(crate) fn write(&mut self, entry: &Entry<'_>, bytes: &mut Vec<u8>) {
        let rise = entry.base.saturating_sub(self.base);
        let mut extra = entry.flags.0 << 4;
        if rise > 0 {
            extra |= EXTRA_BASE;
        }
        if !entry.extension.is_empty() {
            extra |= EXTRA_EXTENSION;
        }
        if entry.epoch != self.epoch {
            extra |= EXTRA_EPOCH;
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
        if entry.epoch != self.epoch {
            bytes.extend_from_slice(&entry.epoch.to_le_bytes());
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
        if !entry.extension.is_empty() {
            put_varint(bytes, entry.extension.len() as u64);
            bytes.extend_from_slice(entry.extension);
        }
        match &entry.body {
            Body::Salted(salted) => bytes.extend_from_slice(salted),
            Body::Hash(hash) => bytes.extend_from_slice(hash.as_bytes()),
        }
        *self = Self::after(entry);
    }
}

/// Whether nobody here can read what an entry of this epoch says. An event's payload is the host's own either way.
fn is_encrypted(kind: LogKind, epoch: u32) -> bool {
    kind == LogKind::State && epoch != 0
}
