//! Reads: the live content of a topic, with authors and stamps.
//!
//! Content that the host's filter does not show is skipped here, and merged all the same. Nothing here changes
//! anything.

mod events;

use alloc::boxed::Box;
use alloc::vec::Vec;

use consilience_crdts::coupling::{CouplingContributions, CouplingView};
use consilience_crdts::{Coupling, CouplingSchema, Hlc, Timestamp, Units};
use consilience_sync::{AgentId, LogSet, Topic};

pub use events::{Event, EventsView, Missing};

use crate::fold::{EventIndex, Fold, LiveDots, Table, TopicState, actor_of};
use crate::notice::{Surface, Surfaced};
use crate::payload::{CollectionId, CollectionKind};

/// A live write: a key with its value, or an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live<'a> {
    /// The key, or the element.
    pub key: &'a [u8],
    /// The value; empty in a set.
    pub value: &'a [u8],
    /// Its author.
    pub author: AgentId,
    /// The stamp of the write.
    pub stamp: Hlc,
}

impl Live<'_> {
    /// The value, read as postcard.
    ///
    /// # Errors
    ///
    /// If it is not one of this type.
    pub fn value_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, postcard::Error> {
        postcard::from_bytes(self.value)
    }
}

/// The things at which views look.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(crate) set: &'a LogSet,
    pub(crate) surface: &'a Surface,
}

/// The state of one topic.
#[derive(Clone, Copy)]
pub struct TopicView<'a> {
    shown: Shown<'a>,
    state: Option<&'a TopicState>,
    events: Option<&'a EventIndex>,
}

impl core::fmt::Debug for TopicView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TopicView").finish_non_exhaustive()
    }
}

impl<'a> TopicView<'a> {
    pub(crate) fn new(shown: Shown<'a>, fold: &'a Fold, topic: &Topic) -> Self {
        Self { shown, state: fold.topic(topic), events: fold.events(topic) }
    }

    /// A map.
    #[must_use]
    pub fn map(&self, name: &str) -> MapView<'a> {
        MapView { rows: self.rows(CollectionKind::Map, name) }
    }

    /// A set.
    #[must_use]
    pub fn set(&self, name: &str) -> SetView<'a> {
        SetView { rows: self.rows(CollectionKind::Set, name) }
    }

    /// A coupling.
    #[must_use]
    pub fn coupling(&self, name: &str, schema: CouplingSchema) -> CouplingRead<'a> {
        let id = CollectionId::new(CollectionKind::Coupling, name, Some(&schema));
        let table = id.and_then(|id| self.state?.collection(&id)).map(|collection| &collection.table);
        let held = match table {
            Some(Table::CouplingTable(couplings)) => Some(couplings.sums()),
            _ => None,
        };
        CouplingRead { held }
    }

    /// The events.
    #[must_use]
    pub const fn events(&self) -> EventsView<'a> {
        EventsView { shown: self.shown, index: self.events }
    }

    /// The collections of which entries say something that may still matter: their kinds, their names, and the schemas of
    /// couplings. One in which nothing is left is none of them; one in which nothing is live may be.
    pub fn collections(
        &self,
    ) -> impl Iterator<Item = (CollectionKind, &'a str, Option<CouplingSchema>)> + use<'a> {
        let all = self.state.into_iter().flat_map(TopicState::sorted);
        all.map(|collection| (collection.id.kind(), collection.id.name(), collection.id.schema()))
    }

    fn rows(&self, kind: CollectionKind, name: &str) -> Option<Rows<'a>> {
        let state = self.state?;
        let collection = state.collection(&CollectionId::new(kind, name, None)?)?;
        let Table::Dots(dots) = &collection.table else { return None };
        Some(Rows { shown: self.shown, state, kind, name: collection.id.name(), dots: &dots.live })
    }
}

/// The live dots of one collection, as they may be shown.
#[derive(Clone, Copy)]
struct Rows<'a> {
    shown: Shown<'a>,
    state: &'a TopicState,
    kind: CollectionKind,
    name: &'a str,
    dots: &'a LiveDots,
}

impl<'a> Rows<'a> {
    fn live(&self, entry: &consilience_crdts::LiveDot<'a>) -> Option<Live<'a>> {
        let (_, member) = self.state.member_of(&entry.dot.actor)?;
        let live = Live { key: entry.key, value: entry.value, author: member.agent, stamp: entry.stamp };
        let surfaced = Surfaced {
            topic: self.state.topic(),
            collection: Some((self.kind, self.name)),
            key: live.key,
            value: live.value,
            author: live.author,
            stamp: live.stamp,
        };
        self.shown.surface.shows(&surfaced).then_some(live)
    }

    fn get(&self, key: &[u8]) -> Option<Live<'a>> {
        if !self.shown.surface.filters() {
            return self.dots.get(key).and_then(|entry| self.live(&entry));
        }
        self.conflicts(key).into_iter().next()
    }

    fn conflicts(&self, key: &[u8]) -> Vec<Live<'a>> {
        self.dots.dots(key).iter().filter_map(|entry| self.live(entry)).collect()
    }

    fn shown(
        self,
        winners: impl Iterator<Item = consilience_crdts::LiveDot<'a>>,
    ) -> impl Iterator<Item = Live<'a>> {
        winners.filter_map(move |entry| match self.live(&entry) {
            None if self.shown.surface.filters() => self.get(entry.key),
            live => live,
        })
    }
}

/// A map, as it is.
#[derive(Clone, Copy)]
pub struct MapView<'a> {
    rows: Option<Rows<'a>>,
}

impl core::fmt::Debug for MapView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MapView").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<'a> MapView<'a> {
    /// How many keys have a value, shown or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.map_or(0, |rows| rows.dots.keys_len())
    }

    /// Whether no key has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key, with its author and stamp: of concurrent writes the one with the greatest stamp.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Live<'a>> {
        self.rows.and_then(|rows| rows.get(key.as_ref()))
    }

    /// The value of a key, read as postcard. `None` if the key has none.
    ///
    /// # Errors
    ///
    /// If the value is not one of this type.
    pub fn get_as<T: serde::de::DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<T>, postcard::Error> {
        self.get(key).map(|live| live.value_as()).transpose()
    }

    /// All writes of a key that nobody has seen and overwritten, the winner first: more than one only after concurrent
    /// writes.
    #[must_use]
    pub fn conflicts(&self, key: impl AsRef<[u8]>) -> Vec<Live<'a>> {
        self.rows.map_or_else(Vec::new, |rows| rows.conflicts(key.as_ref()))
    }

    /// All keys in order, with their values.
    pub fn iter(&self) -> impl Iterator<Item = Live<'a>> + use<'a> {
        self.rows.into_iter().flat_map(|rows| rows.shown(rows.dots.iter()))
    }

    /// The keys that begin with `prefix`, in order.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Box<dyn Iterator<Item = Live<'a>> + 'a> {
        let found = self.rows.map(|rows| (rows, rows.dots.prefix(prefix.as_ref())));
        Box::new(found.into_iter().flat_map(|(rows, found)| rows.shown(found)))
    }
}

/// A set, as it is.
#[derive(Clone, Copy)]
pub struct SetView<'a> {
    rows: Option<Rows<'a>>,
}

impl core::fmt::Debug for SetView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SetView").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<'a> SetView<'a> {
    /// How many elements there are, shown or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.map_or(0, |rows| rows.dots.keys_len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an element is there.
    #[must_use]
    pub fn contains(&self, element: impl AsRef<[u8]>) -> bool {
        self.get(element).is_some()
    }

    /// An element, with the author and stamp of its last addition.
    #[must_use]
    pub fn get(&self, element: impl AsRef<[u8]>) -> Option<Live<'a>> {
        self.rows.and_then(|rows| rows.get(element.as_ref()))
    }

    /// All elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Live<'a>> + use<'a> {
        self.rows.into_iter().flat_map(|rows| rows.shown(rows.dots.iter()))
    }

    /// The elements that begin with `prefix`, in order.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Box<dyn Iterator<Item = Live<'a>> + 'a> {
        let found = self.rows.map(|rows| (rows, rows.dots.prefix(prefix.as_ref())));
        Box::new(found.into_iter().flat_map(|(rows, found)| rows.shown(found)))
    }
}

/// A coupling, as it is.
#[derive(Clone, Copy, Debug)]
pub struct CouplingRead<'a> {
    held: Option<&'a Coupling>,
}

impl<'a> CouplingRead<'a> {
    /// The contributions of one agent: its own view of the relation. `None` if nobody wrote to the coupling.
    #[must_use]
    pub fn by(&self, agent: AgentId) -> Option<CouplingView<'a>> {
        self.held.map(|held| held.by(&actor_of(&agent)))
    }

    /// The sum of all. `None` if nobody wrote to the coupling.
    #[must_use]
    pub fn sum(&self) -> Option<CouplingView<'a>> {
        self.held.map(Coupling::sum)
    }

    /// The greatest of all. `None` if nobody wrote to the coupling.
    #[must_use]
    pub fn max(&self) -> Option<CouplingView<'a>> {
        self.held.map(Coupling::max)
    }

    /// The value of a key in the sum at `now`; 0 where there is none.
    #[must_use]
    pub fn value(&self, key: impl AsRef<[u8]>, now: Timestamp) -> Units {
        self.sum().map_or(Units::ZERO, |sum| sum.value(key.as_ref(), now))
    }

    /// The amount that each contributor has under a key at `now`.
    #[must_use]
    pub fn contributions(&self, key: &[u8], now: Timestamp) -> Option<CouplingContributions<'a>> {
        self.held.map(|held| held.contributions(key, now))
    }
}
