//! Events, as they are: by log, and merged by stamp.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::ops::{Bound, RangeBounds};

use consilience_crdts::Hlc;
use consilience_sync::{AgentId, Citation, LogId};

use super::Shown;
use crate::fold::{EventIndex, EventRef};
use crate::notice::Surfaced;

/// A part of a log that an event cites and that is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Missing {
    /// The first 8 bytes of the log's id.
    pub log: [u8; 8],
    /// How many of its entries the citing writer had seen.
    pub size: u64,
}

/// The events of one topic.
#[derive(Clone, Copy)]
pub struct EventsView<'a> {
    pub(super) shown: Shown<'a>,
    pub(super) index: Option<&'a EventIndex>,
}

impl core::fmt::Debug for EventsView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EventsView").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its name.
    pub name: EventRef,
    /// Its author.
    pub author: AgentId,
    /// The stamp of its entry.
    pub stamp: Hlc,
    /// Its payload; `None` if that was erased.
    pub payload: Option<&'a [u8]>,
}

impl<'a> EventsView<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.map_or(0, EventIndex::len)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The events whose stamps lie in a range, merged in their order; those of one stamp by author and log.
    pub fn range(&self, range: impl RangeBounds<Hlc>) -> Box<dyn Iterator<Item = Event<'a>> + 'a> {
        let view = *self;
        let inverted = match (range.start_bound(), range.end_bound()) {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(end) | Bound::Excluded(end),
            ) => start >= end,
            _ => false,
        };
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        let index = self.index.filter(|_| !inverted);
        let places = index.into_iter().flat_map(move |index| index.within(bounds.0, bounds.1));
        let mut places = places.peekable();
        let mut group: VecDeque<Event<'a>> = VecDeque::new();
        Box::new(core::iter::from_fn(move || {
            while group.is_empty() {
                // Those of one stamp are told apart by names, which are the same everywhere.
                let stamp = places.peek()?.0;
                let mut same = Vec::new();
                while let Some((_, log, seq)) = places.next_if(|(there, ..)| *there == stamp) {
                    same.extend(view.event(log, seq));
                }
                same.sort_by_key(|event| (event.author, event.name));
                group.extend(same);
            }
            group.pop_front()
        }))
    }

    /// All events, merged in the order of their stamps.
    pub fn iter(&self) -> impl Iterator<Item = Event<'a>> + use<'a> {
        self.range(..)
    }

    /// The events `[from, to)` of one log.
    pub fn of_log(&self, log: &LogId, from: u64, to: u64) -> impl Iterator<Item = Event<'a>> + use<'a> {
        let view = *self;
        let log = *log;
        let (first, end) = self.index.map_or((0, 0), |index| index.bounds(&log));
        (from.max(first)..to.min(end)).filter_map(move |seq| view.event(&log, seq))
    }

    /// One event.
    #[must_use]
    pub fn get(&self, name: &EventRef) -> Option<Event<'a>> {
        self.of_log(&name.log, name.seq, name.seq.saturating_add(1)).next()
    }

    /// The entries that events of the topic cite and that this replica does not have: as long as there are any, answers
    /// may be here without the events that they answer. Looks at every log.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing = self.index.map_or_else(BTreeMap::new, EventIndex::cited);
        for log in self.shown.set.logs() {
            let alias = log.id().alias();
            if missing.get(&alias).is_some_and(|size| *size <= log.size()) {
                missing.remove(&alias);
            }
        }
        missing.into_iter().map(|(log, size)| Missing { log, size }).collect()
    }

    /// The citations of an event.
    #[must_use]
    pub fn citations(&self, name: &EventRef) -> Vec<Citation> {
        let entry = self.shown.set.log(&name.log).and_then(|log| log.entry(name.seq));
        entry.map_or_else(Vec::new, |entry| entry.citations().collect())
    }

    fn event(&self, log: &LogId, seq: u64) -> Option<Event<'a>> {
        let log = self.shown.set.log(log)?;
        let entry = log.entry(seq).filter(|entry| !entry.is_opaque())?;
        let event = Event {
            name: EventRef { log: *log.id(), seq },
            author: log.opening().agent,
            stamp: entry.hlc,
            payload: entry.payload(),
        };
        let surfaced = Surfaced {
            topic: &log.opening().topic,
            collection: None,
            key: &[],
            value: event.payload.unwrap_or_default(),
            author: event.author,
            stamp: event.stamp,
        };
        self.shown.surface.shows(&surfaced).then_some(event)
    }
}
