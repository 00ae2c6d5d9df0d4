//! [`JournalItem`]: one thing that a record or a snapshot holds.
//!
//! The spelling lives here. The invariant: an item has one spelling, and bytes that decode encode to the same bytes.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use crate::codec::{Reader, put_varint};
use crate::part::{LogRef, Part};
use crate::{DecodeError, Hash, LogFront, LogId, SALT_BYTES};
use consilience_base::{Hlc, Timestamp};

// Items that prove themselves are parts; these are the journal's own.
const OPENING_LOCAL: u8 = Part::KINDS;
const APPEND: u8 = 17;
const ERASED: u8 = 18;
const RESTORED: u8 = 19;
const FORGOTTEN: u8 = 20;
const NOTE: u8 = 22;
/// Only of use in snapshots, where the records that led to them are no longer there.
const FRONT: u8 = 32;
const FRONT_AFTER: u8 = 33;
const KEPT: u8 = 34;
const READY: u8 = 35;
const SELF_FORKED: u8 = 36;
const STAGED: u8 = 37;

/// One thing that must not be forgotten. The bytes are borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalItem<'a> {
    /// A log is held.
    Opening {
        /// Whether the log is local.
        local: bool,
        /// [`LogOpening::encode`](crate::LogOpening::encode).
        bytes: &'a [u8],
    },
    /// A local writer appended an entry, which is not signed yet.
    Append {
        /// The log.
        log: LogId,
        /// The entry's number.
        seq: u64,
        /// [`Entry::encode`](crate::Entry::encode).
        entry: &'a [u8],
    },
    /// A range, as it was received; or one without entries, which proves an own head.
    Range {
        /// The log.
        log: LogId,
        /// The bytes that [`LogSet::receive`](crate::LogSet::receive) took.
        bytes: &'a [u8],
    },
    /// Evidence of a fork.
    Evidence {
        /// [`Evidence::as_bytes`](crate::Evidence::as_bytes).
        bytes: &'a [u8],
    },
    /// A writer's word that it has given up events.
    Pruned {
        /// [`Pruned::as_bytes`](crate::Pruned::as_bytes).
        bytes: &'a [u8],
    },
    /// The payload of an event was erased here.
    Erased {
        /// The log.
        log: LogId,
        /// The entry's number.
        seq: u64,
    },
    /// The payload of an erased event was put back.
    Restored {
        /// The log.
        log: LogId,
        /// The entry's number.
        seq: u64,
        /// The salt.
        salt: [u8; SALT_BYTES],
        /// The payload.
        payload: &'a [u8],
    },
    /// A log is no longer held.
    Forgotten {
        /// The log.
        log: LogId,
    },
    /// A fact that only the replica knows the meaning of.
    Note {
        /// Which kind of fact.
        kind: u8,
        /// The content of the fact.
        bytes: &'a [u8],
    },
    /// In snapshots: where the copy of a log begins.
    Front {
        /// The log.
        log: LogId,
        /// The start of the copy.
        front: LogFront,
    },
    /// In snapshots: a signed head beyond the entries held, or before them where only unsigned entries are left.
    Head {
        /// [`SignedHead::encode`](crate::SignedHead::encode).
        bytes: &'a [u8],
    },
    /// In snapshots: evidence, and until when the entries of the forked log are kept for its writer.
    Kept {
        /// Until when.
        until: Timestamp,
        /// [`Evidence::as_bytes`](crate::Evidence::as_bytes).
        evidence: &'a [u8],
    },
    /// In snapshots: which entries were ready.
    Ready {
        /// The log.
        log: LogId,
        /// The number after the last that is ready.
        ready: u64,
    },
    /// In snapshots: a local writer must not go on in this log.
    SelfForked {
        /// The log.
        log: LogId,
    },
    /// In snapshots: entries that wait behind a gap.
    Staged {
        /// The log.
        log: LogId,
        /// A range, as [`Log::staged_ranges`](crate::Log::staged_ranges) gives it.
        bytes: &'a [u8],
    },
}

impl<'a> JournalItem<'a> {
    /// Whether a local writer made it, and nothing derived from it may leave before it is durable.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        matches!(self, Self::Append { .. })
    }

    /// Appends its bytes, after their length.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        if let Some(part) = self.part() {
            return part.put(bytes);
        }
        let mut item = Vec::with_capacity(self.payload().len().saturating_add(64));
        self.write_plain(&mut item);
        put_varint(bytes, item.len() as u64);
        bytes.append(&mut item);
    }

    fn payload(&self) -> &'a [u8] {
        match self {
            Self::Opening { bytes, .. }
            | Self::Range { bytes, .. }
            | Self::Staged { bytes, .. }
            | Self::Evidence { bytes }
            | Self::Pruned { bytes }
            | Self::Note { bytes, .. }
            | Self::Head { bytes } => bytes,
            Self::Append { entry, .. } => entry,
            Self::Restored { payload, .. } => payload,
            Self::Kept { evidence, .. } => evidence,
            _ => &[],
        }
    }

    /// The item as a part, if it proves itself.
    const fn part(&self) -> Option<Part<'a>> {
        Some(match self {
            Self::Opening { local: false, bytes } => Part::Opening(bytes),
            Self::Head { bytes } => Part::Head(bytes),
            Self::Range { log, bytes } => Part::Range(LogRef::Id(*log), bytes),
            Self::Evidence { bytes } => Part::Evidence(bytes),
            Self::Pruned { bytes } => Part::Pruned(bytes),
            _ => return None,
        })
    }

    fn write_plain(&self, bytes: &mut Vec<u8>) {
        let of_log = |kind: u8, log: &LogId, bytes: &mut Vec<u8>| {
            bytes.push(kind);
            bytes.extend_from_slice(log.as_bytes());
        };
        match self {
            Self::Opening { .. } => bytes.push(OPENING_LOCAL),
            // These items are parts.
            Self::Range { .. } | Self::Evidence { .. } | Self::Pruned { .. } | Self::Head { .. } => {}
            Self::Append { log, seq, .. } => {
                of_log(APPEND, log, bytes);
                put_varint(bytes, *seq);
            }
            Self::Erased { log, seq } => {
                of_log(ERASED, log, bytes);
                put_varint(bytes, *seq);
            }
            Self::Restored { log, seq, salt, .. } => {
                of_log(RESTORED, log, bytes);
                put_varint(bytes, *seq);
                bytes.extend_from_slice(salt);
            }
            Self::Forgotten { log } => of_log(FORGOTTEN, log, bytes),
            Self::Note { kind, .. } => bytes.extend_from_slice(&[NOTE, *kind]),
            Self::Front { log, front } => {
                of_log(if front.before.is_some() { FRONT_AFTER } else { FRONT }, log, bytes);
                put_varint(bytes, front.start);
                if let Some((base, hlc, epoch)) = front.before {
                    put_varint(bytes, base);
                    bytes.extend_from_slice(&hlc.to_bits().to_le_bytes());
                    bytes.extend_from_slice(&epoch.to_le_bytes());
                }
                front.peaks.iter().for_each(|peak| bytes.extend_from_slice(peak.as_bytes()));
            }
            Self::Kept { until, .. } => {
                bytes.push(KEPT);
                put_varint(bytes, until.as_millis());
            }
            Self::Ready { log, ready } => {
                of_log(READY, log, bytes);
                put_varint(bytes, *ready);
            }
            Self::SelfForked { log } => of_log(SELF_FORKED, log, bytes),
            Self::Staged { log, .. } => of_log(STAGED, log, bytes),
        }
        bytes.extend_from_slice(self.payload());
    }

    /// Reads the next item of a body.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let len = reader.count(1)?;
        Self::read_plain(reader.take(len)?)
    }

    fn read_plain(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        match Part::read(bytes)? {
            Some(Part::Opening(bytes)) => return Ok(Self::Opening { local: false, bytes }),
            Some(Part::Head(bytes)) => return Ok(Self::Head { bytes }),
            Some(Part::Range(LogRef::Id(log), bytes)) => return Ok(Self::Range { log, bytes }),
            Some(Part::Evidence(bytes)) => return Ok(Self::Evidence { bytes }),
            Some(Part::Pruned(bytes)) => return Ok(Self::Pruned { bytes }),
            // Its log may not be the only one of that alias.
            Some(Part::Range(LogRef::Alias(_), _)) => return Err(DecodeError::Kind),
            None => {}
        }
        let mut reader = Reader::new(bytes);
        let rest = |reader: &Reader<'a>| bytes.get(reader.position()..).unwrap_or_default();
        let log = |reader: &mut Reader<'a>| reader.array().map(LogId::from_bytes);
        let item = match reader.byte()? {
            OPENING_LOCAL => return Ok(Self::Opening { local: true, bytes: rest(&reader) }),
            APPEND => {
                let (log, seq) = (log(&mut reader)?, reader.varint()?);
                return Ok(Self::Append { log, seq, entry: rest(&reader) });
            }
            ERASED => Self::Erased { log: log(&mut reader)?, seq: reader.varint()? },
            RESTORED => {
                let (log, seq, salt) = (log(&mut reader)?, reader.varint()?, reader.array()?);
                return Ok(Self::Restored { log, seq, salt, payload: rest(&reader) });
            }
            FORGOTTEN => Self::Forgotten { log: log(&mut reader)? },
            NOTE => {
                let kind = reader.byte()?;
                return Ok(Self::Note { kind, bytes: rest(&reader) });
            }
            kind @ (FRONT | FRONT_AFTER) => {
                let log = log(&mut reader)?;
                Self::Front { log, front: read_front(&mut reader, kind == FRONT_AFTER)? }
            }
            KEPT => {
                let until = Timestamp::from_millis(reader.varint()?);
                return Ok(Self::Kept { until, evidence: rest(&reader) });
            }
            READY => Self::Ready { log: log(&mut reader)?, ready: reader.varint()? },
            SELF_FORKED => Self::SelfForked { log: log(&mut reader)? },
            STAGED => {
                let log = log(&mut reader)?;
                return Ok(Self::Staged { log, bytes: rest(&reader) });
            }
            _ => return Err(DecodeError::Kind),
        };
        reader.finish()?;
        Ok(item)
    }
}

fn read_front(reader: &mut Reader<'_>, behind: bool) -> Result<LogFront, DecodeError> {
    let start = reader.varint()?;
    let before = if behind {
        let (base, hlc) = (reader.varint()?, Hlc::from_bits(reader.word()?));
        Some((base, hlc, u32::from_le_bytes(reader.array()?)))
    } else {
        None
    };
    let mut peaks = Vec::new();
    while !reader.is_empty() {
        peaks.push(Hash::from_bytes(reader.array()?));
    }
    Ok(LogFront { start, before, peaks })
}

/// The items of a body, whose form was checked.
pub(super) fn items(body: &[u8]) -> impl Iterator<Item = JournalItem<'_>> {
    let mut reader = Reader::new(body);
    core::iter::from_fn(move || JournalItem::read(&mut reader).ok())
}

/// Checks the form of all items of a body.
pub(super) fn check(body: &[u8]) -> Result<(), DecodeError> {
    let mut reader = Reader::new(body);
    while !reader.is_empty() {
        JournalItem::read(&mut reader)?;
    }
    Ok(())
}
