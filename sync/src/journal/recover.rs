//! [`recover`]: from the bytes that storage gives back to the items that count.
//!
//! Ids rise by one from the last one that the snapshot covers. Where they do not, or bytes are no record, something is
//! missing; a later record knows whether it had been confirmed. If so, storage lost bytes that it had promised to keep.
//! If not, it is a torn write, and everything from there on goes: later records may build on it, and were not confirmed
//! either.
//!
//! The invariant: every byte is looked at a fixed number of times, and every item given out has been checked.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::damage::{Area, Damage, JournalCorrupt, damage_of};
use super::envelope::{Key, Segment, Whole, segments};
use super::item::{self, JournalItem};
use super::queue::Journal;
use super::record::RecordId;
use super::snapshot;
use crate::MeshId;
use consilience_base::planted::{Fault, planted};

/// The end of the records was cut off. No record that is left says that any of it had been confirmed; the last
/// confirmation is in no record, so some of it may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// From which byte on: [`Recovered::good_to`].
    pub offset: usize,
    /// How many bytes.
    pub bytes: usize,
    /// The first record that may have been there.
    pub first: RecordId,
    /// How many of the records after it are whole. They go too, since they build on it.
    pub whole: usize,
}

impl core::fmt::Display for Cut {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { offset, bytes, first, whole } = self;
        let first = first.as_u64();
        write!(f, "the stored records are cut at byte {offset}: {bytes} bytes, record {first} and ")?;
        write!(f, "{whole} whole ones after it, are torn or damaged; they may have been confirmed")
    }
}

/// The findings of [`examine`].
#[derive(Debug)]
pub(crate) struct Examined<'a> {
    pub(crate) records: Vec<Whole<'a>>,
    pub(crate) last: u64,
    pub(crate) good_to: usize,
    pub(crate) cut: Option<Cut>,
}

/// Checks and orders records after a snapshot that covers those up to `covers`.
pub(crate) fn examine<'a>(key: &Key, bytes: &'a [u8], covers: u64) -> Result<Examined<'a>, JournalCorrupt> {
    let corrupt = |offset, damage| JournalCorrupt { part: Area::Records, offset, damage };
    let mut found = Examined { records: Vec::new(), last: covers, good_to: 0, cut: None };
    // Damaged bytes that a record follows which is next in order were a failed attempt, and do no harm.
    let mut damaged = None;
    let mut fault: Option<usize> = None;
    let mut after_fault = 0_usize;
    for (at, segment) in segments(key, bytes) {
        let whole = match segment {
            Segment::Whole(whole) => whole,
            Segment::OtherMesh => return Err(corrupt(at, Damage::OtherMesh)),
            Segment::Damaged => {
                damaged = damaged.or(Some(at));
                continue;
            }
        };
        if fault.is_none() && found.takes(&whole, covers) {
            damaged = None;
            found.good_to = whole.end;
            if whole.id > found.last {
                found.last = whole.id;
                found.records.push(whole);
            }
            continue;
        }
        let from = *fault.get_or_insert(damaged.unwrap_or(at));
        if whole.confirmed > found.last {
            return Err(corrupt(from, Damage::Lost));
        }
        after_fault = after_fault.saturating_add(1);
    }
    if let Some(offset) = fault.or(damaged) {
        let first = RecordId::from_u64(found.last).next();
        found.good_to = offset;
        let bytes = bytes.len().saturating_sub(offset);
        found.cut = Some(Cut { offset, bytes, first, whole: after_fault });
    }
    Ok(found)
}

impl Examined<'_> {
    /// Whether a record is the next one, or is known.
    fn takes(&self, whole: &Whole<'_>, covers: u64) -> bool {
        match whole.id.checked_sub(covers) {
            None | Some(0) => true,
            Some(number) if whole.id <= self.last => {
                let at = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
                self.records.get(at).is_some_and(|known| known.body() == whole.body())
            }
            Some(_) => whole.id.checked_sub(1) == Some(self.last) || planted(Fault::GapsInRecordsAreTaken),
        }
    }
}

/// The content of storage. Borrows from its bytes.
#[derive(Debug)]
pub struct Recovered<'a> {
    key: Key,
    snapshot: &'a [u8],
    covers: RecordId,
    records: Vec<(u64, alloc::borrow::Cow<'a, [u8]>)>,
    last: RecordId,
    good_to: usize,
    cut: Option<Cut>,
}

/// Checks the bytes that storage gives back: the snapshot, if there is one, and all records in the order in which they
/// were written. Records that the snapshot covers may be there or not. All of it has to be durable: bytes that were
/// merely written when a program ended have to be synced before they are handed in.
///
/// Cut bytes ([`Recovered::cut`]) may have held a record that was confirmed and that no later record vouches for. So
/// local writers go on in their next incarnation then.
///
/// # Errors
///
/// [`JournalCorrupt`], and where, if something that was confirmed is missing or changed, or does not belong here.
pub fn recover<'a>(
    mesh: &MeshId,
    snapshot: Option<&'a [u8]>,
    records: &'a [u8],
) -> Result<Recovered<'a>, JournalCorrupt> {
    let key = Key::new(mesh);
    let (covers, body) = match snapshot {
        Some(bytes) => snapshot::open(&key, bytes)?,
        None => (0, &[][..]),
    };
    let Examined { records: found, last, good_to, cut } = examine(&key, records, covers)?;
    let mut bodies = Vec::with_capacity(found.len());
    for whole in found {
        let (id, end) = (whole.id, whole.end);
        let body = whole.into_body();
        item::check(&body).map_err(|error| JournalCorrupt {
            part: Area::Records,
            offset: end,
            damage: damage_of(error),
        })?;
        bodies.push((id, body));
    }
    Ok(Recovered {
        key,
        snapshot: body,
        covers: RecordId::from_u64(covers),
        records: bodies,
        last: RecordId::from_u64(last),
        good_to,
        cut,
    })
}

impl Recovered<'_> {
    /// All items, those of the snapshot first.
    pub fn items(&self) -> impl Iterator<Item = JournalItem<'_>> {
        item::items(self.snapshot).chain(self.records.iter().flat_map(|(_, body)| item::items(body)))
    }

    /// The last record that the snapshot covers.
    #[must_use]
    pub const fn covers(&self) -> RecordId {
        self.covers
    }

    /// The last record that is there or covered.
    #[must_use]
    pub const fn last(&self) -> RecordId {
        self.last
    }

    /// Up to which byte the records are good. The host cuts the rest off before it appends again.
    #[must_use]
    pub const fn good_to(&self) -> usize {
        self.good_to
    }

    /// The end that was cut off, if any.
    #[must_use]
    pub const fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// Whether storage had nothing at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.last.as_u64() == 0 && self.snapshot.is_empty() && self.cut.is_none()
    }

    /// The journal that goes on after the recovered records.
    #[must_use]
    pub fn journal(&self) -> Journal {
        Journal::behind(self.key.clone(), self.last)
    }
}
