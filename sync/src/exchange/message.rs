//! The messages of an exchange: the statements of two sides about the logs that they hold.
//!
//! Not here: how a message says where it ends, and which protocol it is of; that is the channel's part. The
//! invariant: a message has one spelling.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::level::Took;
use super::scope::Scope;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::identity::LogId;
use crate::log::{Gone, LOG_SIZE_MAX, Want};
use crate::logset::Offer;
use crate::part::{LogRef, Part};

/// The most offers in a message.
pub(crate) const OFFERS_MAX: usize = 512;

// Kinds below are parts.
const SUBSCRIBE: u8 = Part::KINDS;
const ROOT: u8 = Part::KINDS + 1;
const SAME: u8 = Part::KINDS + 2;
const COMPARE: u8 = Part::KINDS + 3;
const OFFERS: u8 = Part::KINDS + 4;
const WANT: u8 = Part::KINDS + 5;
const GONE: u8 = Part::KINDS + 6;
const UNWANTED: u8 = Part::KINDS + 7;
const REFUSED: u8 = Part::KINDS + 8;
const DONE: u8 = Part::KINDS + 9;
const TOOK: u8 = Part::KINDS + 10;

/// Why a log is not held: a limit. Nothing stands there if it is not wanted.
const NO_ROOM: u8 = 1;

/// A log, by the first bytes of its id. Two logs with one alias are 2^64 ids away, or both of one writer that looked for
/// them: then neither is found by it.
pub(crate) type Alias = [u8; 8];

pub(crate) fn alias_of(log: &LogId) -> Alias {
    log.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// An id for a log of which nothing is known here but its alias.
pub(crate) fn placeholder(alias: Alias) -> LogId {
    let mut id = [0; 32];
    if let Some(first) = id.first_chunk_mut() {
        *first = alias;
    }
    LogId::from_bytes(id)
}

/// The first bytes of a root: enough to name one that both sides had.
pub(crate) type RootPrefix = [u8; 8];

/// Which logs some offers are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All in the session's scope: a log that is not named is not there.
    All,
    /// All whose heads changed since the root that the question named.
    Changed,
    /// All whose heads the other lacks, as a comparison has shown.
    Differing,
    /// Those on which the other has to act, in answer to its offers.
    Answer,
}

impl Extent {
    const fn code(self) -> u8 {
        match self {
            Self::All => 0,
            Self::Changed => 1,
            Self::Differing => 2,
            Self::Answer => 3,
        }
    }

    const fn from_code(code: u8) -> Result<Self, DecodeError> {
        Ok(match code {
            0 => Self::All,
            1 => Self::Changed,
            2 => Self::Differing,
            3 => Self::Answer,
            _ => return Err(DecodeError::Kind),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// The topics that the sender wants.
    Subscribe(Scope),
    /// The root of the sender's heads; and the beginning of the root at which the two were equal before.
    Root { round: u64, root: [u8; 32], since: Option<RootPrefix> },
    /// The roots are equal.
    Same { round: u64 },
    /// A message of the reconciliation of one range of the scope.
    Compare { round: u64, scope_range: usize, message: &'a [u8] },
    /// The sender's offers of some logs. Of logs that are not held here, the id is a placeholder.
    Offers { round: u64, extent: Extent, offers: Vec<Offer> },
    /// A log's opening.
    Open(&'a [u8]),
    /// Evidence of a fork.
    Evidence(&'a [u8]),
    /// A writer's word that it has given up events.
    Pruned(&'a [u8]),
    /// Entries.
    Range { alias: Alias, bytes: &'a [u8] },
    /// The sender asks for entries.
    Want { alias: Alias, want: Want },
    /// The sender does not have the entries any more that were asked for.
    Gone { alias: Alias, gone: Gone },
    /// The sender does not hold this log and does not want it, or has no room for it.
    Unwanted { alias: Alias, no_room: bool },
    /// The sender could not take a range in; so much it has.
    Refused { alias: Alias, have: u64 },
    /// The sender has sent all that the round gave it to send; whether that brought it anything, and whether more
    /// differs than the round had room for.
    Done { round: u64, gained: bool, more: bool },
    /// Whether the sender has taken in, at the end of a round, all that the receiver had at its beginning.
    Took { round: u64, took: Took },
    /// A kind that this version does not know.
    Unknown,
}

impl<'a> Message<'a> {
    /// Appends the bytes that stand before those of a range.
    pub(crate) fn put_range_head(alias: &Alias, out: &mut Vec<u8>) {
        Part::Range(LogRef::Alias(*alias), &[]).write(out);
    }

    /// Appends the message: its kind and the rest.
    pub(crate) fn put(&self, body: &mut Vec<u8>) {
        match self {
            Self::Subscribe(scope) => {
                body.push(SUBSCRIBE);
                scope.write(body);
            }
            Self::Root { round, root, since } => {
                numbered(body, ROOT, *round);
                body.extend_from_slice(root);
                body.extend(since.iter().flatten());
            }
            Self::Same { round } => numbered(body, SAME, *round),
            Self::Compare { round, scope_range, message } => {
                numbered(body, COMPARE, *round);
                put_varint(body, *scope_range as u64);
                body.extend_from_slice(message);
            }
            Self::Offers { round, extent, offers } => {
                numbered(body, OFFERS, *round);
                body.push(extent.code());
                offers.iter().for_each(|offer| put_offer(body, offer));
            }
            Self::Open(bytes) => Part::Opening(bytes).write(body),
            Self::Evidence(bytes) => Part::Evidence(bytes).write(body),
            Self::Pruned(bytes) => Part::Pruned(bytes).write(body),
            Self::Range { alias, bytes } => Part::Range(LogRef::Alias(*alias), bytes).write(body),
            Self::Want { alias, want } => about(body, WANT, alias, &want.encode()),
            Self::Gone { alias, gone } => about(body, GONE, alias, &gone.encode()),
            Self::Unwanted { alias, no_room } => {
                about(body, UNWANTED, alias, if *no_room { &[NO_ROOM] } else { &[] });
            }
            Self::Refused { alias, have } => {
                about(body, REFUSED, alias, &[]);
                put_varint(body, *have);
            }
            Self::Done { round, gained, more } => {
                numbered(body, DONE, *round);
                body.push(u8::from(*gained) | u8::from(*more) << 1);
            }
            Self::Took { round, took } => {
                numbered(body, TOOK, *round);
                body.push(took.code());
            }
            Self::Unknown => {}
        }
    }

    /// Reads the bytes after the kind.
    pub(crate) fn read(kind: u8, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = match kind {
            SUBSCRIBE => Self::Subscribe(Scope::read(&mut reader)?),
            ROOT => {
                let (round, root) = (reader.varint()?, reader.array()?);
                let since = if reader.is_empty() { None } else { Some(reader.array()?) };
                Self::Root { round, root, since }
            }
            SAME => Self::Same { round: reader.varint()? },
            COMPARE => {
                let round = reader.varint()?;
                let scope_range = reader.varint_max(Scope::RANGES_MAX as u64)?;
                let scope_range = usize::try_from(scope_range).map_err(|_| DecodeError::Limit)?;
                Self::Compare { round, scope_range, message: rest(&mut reader)? }
            }
            OFFERS => {
                let (round, extent) = (reader.varint()?, Extent::from_code(reader.byte()?)?);
                let mut offers = Vec::new();
                while !reader.is_empty() {
                    if offers.len() >= OFFERS_MAX {
                        return Err(DecodeError::Limit);
                    }
                    offers.push(read_offer(&mut reader)?);
                }
                Self::Offers { round, extent, offers }
            }
            WANT => Self::Want { alias: reader.array()?, want: Want::decode(rest(&mut reader)?)? },
            GONE => Self::Gone { alias: reader.array()?, gone: Gone::decode(rest(&mut reader)?)? },
            UNWANTED => {
                let alias = reader.array()?;
                let no_room = !reader.is_empty();
                if no_room && reader.byte()? != NO_ROOM {
                    return Err(DecodeError::Kind);
                }
                Self::Unwanted { alias, no_room }
            }
            TOOK => {
                let round = reader.varint()?;
                Self::Took { round, took: Took::from_code(reader.byte()?).ok_or(DecodeError::Kind)? }
            }
            REFUSED => Self::Refused { alias: reader.array()?, have: reader.varint_max(LOG_SIZE_MAX)? },
            DONE => {
                let round = reader.varint()?;
                let flags = reader.byte()?;
                if flags > 3 {
                    return Err(DecodeError::Kind);
                }
                Self::Done { round, gained: flags & 1 != 0, more: flags & 2 != 0 }
            }
            _ => return Self::read_part(kind, bytes),
        };
        reader.finish()?;
        Ok(message)
    }
}

impl<'a> Message<'a> {
    fn read_part(kind: u8, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        match Part::read_rest(kind, bytes) {
            Ok(Some(Part::Opening(bytes))) => Ok(Self::Open(bytes)),
            Ok(Some(Part::Evidence(bytes))) => Ok(Self::Evidence(bytes)),
            Ok(Some(Part::Pruned(bytes))) => Ok(Self::Pruned(bytes)),
            Ok(Some(Part::Range(LogRef::Alias(alias), bytes))) => Ok(Self::Range { alias, bytes }),
            // Heads come in ranges, and a range names its log by its alias.
            Ok(Some(_)) => Err(DecodeError::Kind),
            Ok(None) => Ok(Self::Unknown),
            // A later version's part.
            Err(DecodeError::Kind) if kind > 0 => Ok(Self::Unknown),
            Err(error) => Err(error),
        }
    }
}

fn rest<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    reader.take(reader.remaining())
}

fn numbered(body: &mut Vec<u8>, kind: u8, number: u64) {
    body.push(kind);
    put_varint(body, number);
}

fn about(body: &mut Vec<u8>, kind: u8, alias: &Alias, bytes: &[u8]) {
    body.push(kind);
    body.extend_from_slice(alias);
    body.extend_from_slice(bytes);
}

/// An offer takes 18 bytes or a few more.
fn put_offer(body: &mut Vec<u8>, offer: &Offer) {
    body.extend_from_slice(&alias_of(&offer.log));
    // Sizes have 44 bits.
    put_varint(body, offer.start << 1 | u64::from(offer.facts.is_some()));
    put_varint(body, offer.size.saturating_sub(offer.start));
    if offer.size > 0 {
        body.extend_from_slice(&offer.root);
    }
    body.extend(offer.facts.iter().flatten());
}

fn read_offer(reader: &mut Reader<'_>) -> Result<Offer, DecodeError> {
    let log = placeholder(reader.array()?);
    let first = reader.varint()?;
    let start = first >> 1;
    let size = start.checked_add(reader.varint()?).filter(|&size| size <= LOG_SIZE_MAX);
    let size = size.ok_or(DecodeError::Limit)?;
    let root = if size > 0 { reader.array()? } else { [0; 8] };
    let facts = if first & 1 == 1 { Some(reader.array()?) } else { None };
    Ok(Offer { log, start, size, root, facts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::RangeForm;

    #[test]
    fn messages_have_one_spelling() {
        let offer = |size, facts| Offer { log: placeholder([3; 8]), start: 2, size, root: [5; 8], facts };
        let nothing = Offer { log: placeholder([4; 8]), start: 0, size: 0, root: [0; 8], facts: None };
        let want = Want { from: 3, to: 9, form: RangeForm::Alone };
        for message in [
            Message::Subscribe(Scope::everything()),
            Message::Root { round: 300, root: [1; 32], since: None },
            Message::Root { round: 1, root: [1; 32], since: Some([2; 8]) },
            Message::Same { round: 1 },
            Message::Compare { round: 1, scope_range: 64, message: b"message" },
            Message::Offers {
                round: 2,
                extent: Extent::Answer,
                offers: alloc::vec![offer(9, None), offer(9, Some([6; 8])), nothing],
            },
            Message::Open(b"opening"),
            Message::Evidence(b"evidence"),
            Message::Pruned(b"pruned"),
            Message::Range { alias: [1; 8], bytes: b"range" },
            Message::Want { alias: [1; 8], want },
            Message::Gone { alias: [1; 8], gone: Gone { below: 4 } },
            Message::Unwanted { alias: [1; 8], no_room: false },
            Message::Took { round: 300, took: Took::NotYet },
            Message::Refused { alias: [1; 8], have: 7 },
            Message::Done { round: 3, gained: true, more: false },
            Message::Done { round: 4, gained: false, more: true },
        ] {
            let mut bytes = Vec::new();
            message.put(&mut bytes);
            let (kind, body) = bytes.split_first().unwrap();
            assert!((1..32).contains(kind), "a channel has room for so many kinds");
            assert_eq!(Message::read(*kind, body).as_ref(), Ok(&message));
            for end in 0..body.len() {
                // A cut message is another one or none.
                assert_ne!(Message::read(*kind, body.get(..end).unwrap()).as_ref(), Ok(&message));
            }
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                *changed.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
                let (kind, body) = changed.split_first().unwrap();
                // With a bit changed it is none, or one that is written as it was read.
                if let Ok(other) = Message::read(*kind, body)
                    && other != Message::Unknown
                {
                    let mut again = Vec::new();
                    other.put(&mut again);
                    assert_eq!(again, changed, "{message:?} with bit {bit} changed");
                }
            }
        }
        let no_room = Message::Unwanted { alias: [1; 8], no_room: true };
        assert_eq!(Message::read(UNWANTED, &[1, 1, 1, 1, 1, 1, 1, 1, NO_ROOM]), Ok(no_room.clone()));
        let mut bytes = Vec::new();
        no_room.put(&mut bytes);
        assert_eq!(bytes, [UNWANTED, 1, 1, 1, 1, 1, 1, 1, 1, NO_ROOM]);
        assert_eq!(Message::read(UNWANTED, &[1, 1, 1, 1, 1, 1, 1, 1, 2]), Err(DecodeError::Kind));
        assert_eq!(Message::read(TOOK, &[1, 3]), Err(DecodeError::Kind));
        // Of the exchange's own kinds and of parts.
        for kind in [31, 15] {
            assert_eq!(Message::read(kind, &[1, 2]), Ok(Message::Unknown));
        }
        for part in [Part::Head(b"head"), Part::Range(LogRef::Id(placeholder([3; 8])), b"range")] {
            let mut bytes = Vec::new();
            part.write(&mut bytes);
            let (kind, body) = bytes.split_first().unwrap();
            assert_eq!(
                Message::read(*kind, body),
                Err(DecodeError::Kind),
                "of parts that no exchange carries"
            );
        }
        assert_eq!(Message::read(0, &[]), Err(DecodeError::Kind));
    }
}
