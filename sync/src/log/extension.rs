//! The extension of an entry: what its writer says of other logs, as fields that each have a kind.
//!
//! An extension stands in the header, is hashed into the leaf, and is read by who cannot read the payload. What the
//! fields mean is decided elsewhere; here is their spelling, and the rule for kinds that this library does not know:
//! below [`OPTIONAL`] they are critical, and the entry says nothing; from it on they mean nothing.
//!
//! The invariant: an extension has one spelling, and whether it is valid depends on nothing but its bytes and the log's
//! opening.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::shape::LOG_SIZE_MAX;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::hash::Hash;
use crate::identity::{Incarnation, LogKind, LogOpening};

/// How many citations an entry has at most.
pub const CITATIONS_MAX: usize = 64;
/// How many closures an entry has at most.
pub const CLOSURES_MAX: usize = 4_096;

const CITATIONS: u8 = 1;
const CLOSURES: u8 = 2;
const FINAL: u8 = 3;
/// From this kind on, a field that is not known is skipped.
const OPTIONAL: u8 = 0x80;

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

/// A statement about an earlier log of the same agent, kind and topic: where it ends. Carried and hashed; nothing acts
/// on it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Closure {
    /// The closed log: below the incarnation of the log that says so.
    pub incarnation: Incarnation,
    /// The number below which the closed log counts, 1 to [`LOG_SIZE_MAX`].
    pub below: u64,
}

/// What the validity of an entry depends on, beside its own bytes and the entry before: facts of the log's opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Within {
    pub(crate) kind: LogKind,
    pub(crate) incarnation: Incarnation,
}

impl Within {
    pub(crate) const fn of(opening: &LogOpening) -> Self {
        Self { kind: opening.kind, incarnation: opening.incarnation }
    }
}

/// Which field a writer got wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldFault {
    Citations,
    Closures,
    Final,
}

/// The fields of an extension, in order: kind and content.
struct Fields<'a>(Reader<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u8, &'a [u8]), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| {
            let kind = self.0.byte()?;
            let len = self.0.count(1)?;
            Ok((kind, self.0.take(len)?))
        })
    }
}

/// The content of the field of a kind; empty if there is none. For an extension that was checked.
fn field(extension: &[u8], kind: u8) -> &[u8] {
    let mut fields = Fields(Reader::new(extension)).map_while(Result::ok);
    fields.find(|(found, _)| *found == kind).map_or(&[], |(_, content)| content)
}

/// Checks an extension that is there, and says whether it has a critical field that is not known.
pub(super) fn check(extension: &[u8], within: Within) -> Result<bool, DecodeError> {
    if extension.is_empty() {
        // It would be a second spelling of none.
        return Err(DecodeError::NotCanonical);
    }
    let (mut last, mut opaque) = (None, false);
    for field in Fields(Reader::new(extension)) {
        let (kind, content) = field?;
        if last >= Some(kind) || content.is_empty() {
            return Err(DecodeError::NotCanonical);
        }
        last = Some(kind);
        let state = within.kind == LogKind::State;
        match kind {
            CITATIONS => check_citations(content, within.kind)?,
            CLOSURES if state => check_closures(content, within.incarnation)?,
            FINAL if state => {
                let mut reader = Reader::new(content);
                if read_incarnation(&mut reader)? > within.incarnation {
                    return Err(DecodeError::Limit);
                }
                reader.finish()?;
            }
            CLOSURES | FINAL => return Err(DecodeError::Kind),
            kind => opaque |= kind < OPTIONAL,
        }
    }
    Ok(opaque)
}

fn check_citations(content: &[u8], kind: LogKind) -> Result<(), DecodeError> {
    let mut reader = Reader::new(content);
    let (mut last, mut left) = (None, CITATIONS_MAX);
    while !reader.is_empty() {
        left = left.checked_sub(1).ok_or(DecodeError::Limit)?;
        let citation = read_citation(&mut reader, kind)?;
        if last >= Some(citation.log) {
            return Err(DecodeError::NotCanonical);
        }
        last = Some(citation.log);
    }
    Ok(())
}

fn check_closures(content: &[u8], own: Incarnation) -> Result<(), DecodeError> {
    let mut reader = Reader::new(content);
    let (mut last, mut left) = (None, CLOSURES_MAX);
    while !reader.is_empty() {
        left = left.checked_sub(1).ok_or(DecodeError::Limit)?;
        let closure = read_closure(&mut reader)?;
        if last >= Some(closure.incarnation) {
            return Err(DecodeError::NotCanonical);
        }
        if closure.incarnation >= own || closure.below == 0 {
            return Err(DecodeError::Limit);
        }
        last = Some(closure.incarnation);
    }
    Ok(())
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

fn read_incarnation(reader: &mut Reader<'_>) -> Result<Incarnation, DecodeError> {
    reader.word().map(Incarnation::from_u64)
}

fn read_closure(reader: &mut Reader<'_>) -> Result<Closure, DecodeError> {
    Ok(Closure { incarnation: read_incarnation(reader)?, below: reader.varint_max(LOG_SIZE_MAX)? })
}

/// The citations of an extension that was checked.
pub(super) fn citations(extension: &[u8], kind: LogKind) -> impl Iterator<Item = Citation> + use<'_> {
    let mut reader = Reader::new(field(extension, CITATIONS));
    core::iter::from_fn(move || read_citation(&mut reader, kind).ok())
}

/// The closures of an extension that was checked.
pub(super) fn closures(extension: &[u8]) -> impl Iterator<Item = Closure> + use<'_> {
    let mut reader = Reader::new(field(extension, CLOSURES));
    core::iter::from_fn(move || read_closure(&mut reader).ok())
}

/// The last closed incarnation of an extension that was checked, if it is final.
pub(super) fn last_final(extension: &[u8]) -> Option<Incarnation> {
    read_incarnation(&mut Reader::new(field(extension, FINAL))).ok()
}

/// The extension of an entry from a writer's hands; empty if it says nothing of other logs.
pub(super) fn write(
    citations: &[Citation],
    closures: &[Closure],
    last_final: Option<Incarnation>,
    within: Within,
) -> Result<Vec<u8>, FieldFault> {
    let mut bytes = Vec::new();
    let mut put = |kind: u8, content: &[u8]| {
        bytes.push(kind);
        put_varint(&mut bytes, content.len() as u64);
        bytes.extend_from_slice(content);
    };
    if !citations.is_empty() {
        put(CITATIONS, &write_citations(citations, within.kind)?);
    }
    if !closures.is_empty() {
        put(CLOSURES, &write_closures(closures, within)?);
    }
    if let Some(incarnation) = last_final {
        if within.kind != LogKind::State || incarnation > within.incarnation {
            return Err(FieldFault::Final);
        }
        put(FINAL, &incarnation.as_u64().to_le_bytes());
    }
    Ok(bytes)
}

fn write_citations(citations: &[Citation], kind: LogKind) -> Result<Vec<u8>, FieldFault> {
    let sorted = citations.is_sorted_by(|one, next| one.log < next.log);
    let fits = citations
        .iter()
        .all(|citation| citation.root.is_some() == (kind == LogKind::Event) && citation.size <= LOG_SIZE_MAX);
    if citations.len() > CITATIONS_MAX || !sorted || !fits {
        return Err(FieldFault::Citations);
    }
    let mut bytes = Vec::new();
    for citation in citations {
        bytes.extend_from_slice(&citation.log);
        put_varint(&mut bytes, citation.size);
        if let Some(root) = &citation.root {
            bytes.extend_from_slice(root.as_bytes());
        }
    }
    Ok(bytes)
}

fn write_closures(closures: &[Closure], within: Within) -> Result<Vec<u8>, FieldFault> {
    let sorted = closures.is_sorted_by(|one, next| one.incarnation < next.incarnation);
    let fits = closures.iter().all(|closure| {
        closure.incarnation < within.incarnation && (1..=LOG_SIZE_MAX).contains(&closure.below)
    });
    if within.kind != LogKind::State || closures.len() > CLOSURES_MAX || !sorted || !fits {
        return Err(FieldFault::Closures);
    }
    let mut bytes = Vec::new();
    for closure in closures {
        bytes.extend_from_slice(&closure.incarnation.as_u64().to_le_bytes());
        put_varint(&mut bytes, closure.below);
    }
    Ok(bytes)
}
