//! The dots of one map or set: which are listed, which of them are named, and so which are live.
//!
//! Most logs are the only one that answers for their dots. Such a dot is *plain*: it is in `live`, or in `hidden` if a
//! removal names it, and nothing else is kept of it. Dots that several incarnations of an agent answer for are
//! *shared*: every listing of them is kept, with its content.
//!
//! What does not live here: entries, which logs count, and for which dots they answer (that is `topic`).
//!
//! The invariants: a plain dot is in exactly one of `live` and `hidden`; a shared dot is in `live` or not there at all.
//! Everything here stands for a listing or a name in a retained entry, and goes with it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use consilience_crdts::{ActorId, Dot, Hlc, LiveDot};
use consilience_sync::planted::{Fault, planted};

use super::few::{FewMap, FewSet};
use super::live::LiveDots;
use crate::payload::{Ref, seq_of};

/// A log, by its place in the topic's table. Local: never compared with another replica's.
pub(crate) type LogIndex = u32;

/// A tag: the first bytes of the leaf hash of the entry that minted a dot.
pub(crate) type Tag = [u8; 4];

/// A dot by its log's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LocalDot {
    pub(crate) origin: LogIndex,
    pub(crate) counter: u64,
}

/// The content of a listing of a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The key, and the value after it.
    bytes: Box<[u8]>,
    key_len: u16,
    pub(crate) tag: Tag,
    pub(crate) stamp: Hlc,
}

impl Listed {
    pub(crate) fn new((key, value, stamp): (&[u8], &[u8], Hlc), tag: Tag) -> Self {
        // Keys have at most 4,096 bytes.
        let key_len = u16::try_from(key.len()).unwrap_or(u16::MAX);
        Self { bytes: [key, value].concat().into(), key_len, tag, stamp }
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.key_len)).unwrap_or_default()
    }

    pub(crate) fn value(&self) -> &[u8] {
        self.bytes.get(usize::from(self.key_len)..).unwrap_or_default()
    }
}

/// One log's listing of a shared dot.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) lister: LogIndex,
    /// The entry that listed it last.
    pub(crate) at: u64,
    pub(crate) item: Listed,
}

#[derive(Clone, Debug)]
pub(crate) struct Dots {
    pub(crate) live: LiveDots,
    /// There only while it holds something.
    hidden: Option<Box<LiveDots>>,
    /// In a box: most collections have none of it.
    tables: Option<Box<Tables>>,
}

/// Dots of which more is kept than that they are live.
#[derive(Clone, Debug)]
struct Tables {
    /// Plain dots that are listed elsewhere than where they were minted: by which entry, and their tags.
    moved: FewMap<LocalDot, (u64, Tag)>,
    shared: FewMap<LocalDot, Vec<Listing>>,
    /// The shared dots that a log lists for a key.
    by_key: FewSet<(LogIndex, Box<[u8]>, LocalDot)>,
    /// The dots that removals name, with how many retained entries name them.
    named: FewMap<([u8; 8], u64, Tag), u32>,
}

const NOTHING: Tables =
    Tables { moved: FewMap::new(), shared: FewMap::new(), by_key: FewSet::new(), named: FewMap::new() };

/// Those of a collection that has nothing in them.
static NONE: Tables = NOTHING;

impl Tables {
    fn is_empty(&self) -> bool {
        self.moved.is_empty() && self.shared.is_empty() && self.by_key.is_empty() && self.named.is_empty()
    }
}

impl Dots {
    pub(crate) const LEAST: LocalDot = LocalDot { origin: LogIndex::MIN, counter: 0 };
    pub(crate) const GREATEST: LocalDot = LocalDot { origin: LogIndex::MAX, counter: u64::MAX };

    pub(crate) fn new(seed: u64) -> Self {
        Self { live: LiveDots::new(seed), hidden: None, tables: None }
    }

    fn tables(&self) -> &Tables {
        self.tables.as_deref().unwrap_or(&NONE)
    }

    fn tables_mut(&mut self) -> &mut Tables {
        self.tables.get_or_insert_with(|| Box::new(NOTHING))
    }

    /// Whether no retained entry lists or names anything here.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.hidden.is_none() && self.tables().is_empty()
    }

    /// Gives back the memory of dots that are gone.
    pub(crate) fn shrink(&mut self) {
        self.tables.take_if(|tables| tables.is_empty());
        self.live.shrink();
        if let Some(hidden) = &mut self.hidden {
            hidden.shrink();
        }
    }

    pub(crate) fn is_named(&self, alias: [u8; 8], counter: u64, tag: Tag) -> bool {
        let named =
            self.tables.as_ref().is_some_and(|tables| tables.named.contains_key(&(alias, counter, tag)));
        named || planted(Fault::TagsAreNotCompared) && self.has_names(alias, counter)
    }

    /// Whether anything names the dot, whatever the tag.
    pub(crate) fn has_names(&self, alias: [u8; 8], counter: u64) -> bool {
        let all = (alias, counter, [0; 4])..=(alias, counter, [u8::MAX; 4]);
        self.tables.as_ref().is_some_and(|tables| tables.named.range(all).next().is_some())
    }

    /// Counts a removal; true if it is the first of its kind.
    pub(crate) fn name(&mut self, found: &Ref) -> bool {
        let count = self.tables_mut().named.get_or_insert_with((found.alias, found.counter, found.tag), || 0);
        *count = count.saturating_add(1);
        *count == 1
    }

    /// Takes a removal back; true if it was the last of its kind.
    pub(crate) fn unname(&mut self, found: &Ref) -> bool {
        let key = (found.alias, found.counter, found.tag);
        let Some(tables) = &mut self.tables else { return false };
        let Some(count) = tables.named.get_mut(&key) else { return false };
        *count -= 1;
        let is_last = *count == 0 || planted(Fault::OneNameGoesForAll);
        if is_last {
            tables.named.remove(&key);
        }
        is_last
    }

    fn hidden_mut(&mut self) -> &mut LiveDots {
        self.hidden.get_or_insert_with(|| Box::new(self.live.another()))
    }

    /// Takes a dot out of those that are hidden.
    fn remove_hidden(&mut self, dot: &Dot) -> bool {
        let Some(hidden) = &mut self.hidden else { return false };
        let was_there = hidden.remove(dot);
        if hidden.is_empty() {
            self.hidden = None;
        }
        was_there
    }

    /// A plain dot that is hidden.
    pub(crate) fn hidden_entry(&self, dot: &Dot) -> Option<LiveDot<'_>> {
        self.hidden.as_ref()?.entry_of(dot)
    }

    /// A plain dot, hidden or not.
    pub(crate) fn plain_entry(&self, dot: &Dot) -> Option<LiveDot<'_>> {
        self.live.entry_of(dot).or_else(|| self.hidden_entry(dot))
    }

    /// The entry and the tag of a plain dot that is not listed where it was minted.
    pub(crate) fn moved(&self, place: LocalDot) -> Option<(u64, Tag)> {
        self.tables.as_ref()?.moved.get(&place).copied()
    }

    /// The entry that lists a plain dot.
    pub(crate) fn listed_at(&self, place: LocalDot) -> u64 {
        self.moved(place).map_or(seq_of(place.counter), |(at, _)| at)
    }

    /// Lists a plain dot, hidden if it is named. An earlier listing of it is replaced.
    pub(crate) fn list_plain(
        &mut self,
        place: LocalDot,
        dot: Dot,
        at: u64,
        item: (&[u8], &[u8], Hlc),
        tag: Option<Tag>,
        hidden: bool,
    ) {
        if let Some(tag) = tag {
            // Only a dot that is relisted can be listed already.
            self.unlist_plain(place, &dot);
            self.tables_mut().moved.insert(place, (at, tag));
        }
        let (key, value, stamp) = item;
        let store = if hidden { self.hidden_mut() } else { &mut self.live };
        store.insert(key, value, dot, stamp);
    }

    /// Lists a plain dot that an entry mints, in the place of the dot that its log lists for the key: the common case
    /// of ending that one and listing this one, with one search. Tells of the length of each value that was live and is
    /// not any more. False, and nothing changed, if it is not that case.
    pub(crate) fn set_plain(
        &mut self,
        place: LocalDot,
        (alias, dot): ([u8; 8], Dot),
        (key, value, stamp): (&[u8], &[u8], Hlc),
        mut ended: impl FnMut(usize),
    ) -> bool {
        if !self.tables().by_key.is_empty() || self.has_names(alias, place.counter) {
            return false;
        }
        let mut moved = self.tables.as_mut().map(|tables| &mut tables.moved);
        let mut unmove = |dot: &Dot| {
            if let Some(moved) = &mut moved {
                moved.remove(&LocalDot { counter: dot.counter, ..place });
            }
        };
        let is_new = self.live.replace_own(key, value, dot, stamp, |entry| {
            ended(entry.value.len());
            unmove(&entry.dot);
        });
        if is_new && let Some(hidden) = &self.hidden {
            let own = hidden.siblings(key).map(|entry| entry.dot);
            let own: Vec<Dot> = own.filter(|hidden| hidden.actor == dot.actor).collect();
            own.iter().for_each(unmove);
            for dot in own {
                self.remove_hidden(&dot);
            }
        }
        is_new
    }

    /// Ends the listing of a plain dot; true if there was one.
    pub(crate) fn unlist_plain(&mut self, place: LocalDot, dot: &Dot) -> bool {
        if let Some(tables) = &mut self.tables {
            tables.moved.remove(&place);
        }
        self.live.remove(dot) || self.remove_hidden(dot)
    }

    /// Hides a plain dot, or shows it again.
    pub(crate) fn hide(&mut self, dot: &Dot, hide: bool) {
        if hide {
            let mut hidden = self.hidden.take().unwrap_or_else(|| Box::new(self.live.another()));
            if let Some(entry) = self.live.entry_of(dot) {
                hidden.insert(entry.key, entry.value, *dot, entry.stamp);
                self.live.remove(dot);
            }
            self.hidden = Some(hidden).filter(|hidden| !hidden.is_empty());
        } else if let Some(entry) = self.hidden.as_ref().and_then(|hidden| hidden.entry_of(dot)) {
            self.live.insert(entry.key, entry.value, *dot, entry.stamp);
            self.remove_hidden(dot);
        }
    }

    /// The plain dots of a key that are a log's own.
    pub(crate) fn own_dots(&self, key: &[u8], actor: &ActorId, out: &mut Vec<Dot>) {
        out.extend(self.live.siblings(key).map(|entry| entry.dot).filter(|dot| dot.actor == *actor));
        if let Some(hidden) = &self.hidden {
            out.extend(hidden.siblings(key).map(|entry| entry.dot).filter(|dot| dot.actor == *actor));
        }
    }

    /// Lists a shared dot.
    pub(crate) fn list_shared(&mut self, place: LocalDot, lister: LogIndex, at: u64, item: Listed) {
        self.unlist_shared(place, lister);
        let tables = self.tables_mut();
        tables.by_key.insert((lister, item.key().into(), place), ());
        let listings = tables.shared.get_or_insert_with(place, Vec::new);
        let place = listings.partition_point(|listing| listing.lister < lister);
        listings.reserve_exact(1);
        listings.insert(place, Listing { lister, at, item });
    }

    /// Ends a log's listing of a shared dot, and returns its content if there was one.
    pub(crate) fn unlist_shared(&mut self, place: LocalDot, lister: LogIndex) -> Option<Listed> {
        let tables = self.tables.as_mut()?;
        let listings = tables.shared.get_mut(&place)?;
        let at = listings.binary_search_by_key(&lister, |listing| listing.lister).ok()?;
        let listing = listings.remove(at);
        if listings.is_empty() {
            tables.shared.remove(&place);
        }
        tables.by_key.remove(&(lister, listing.item.key().into(), place));
        Some(listing.item)
    }

    /// Whether shared dots of a log are listed here.
    pub(crate) fn has_shared_of(&self, origin: LogIndex) -> bool {
        let of = |counter| LocalDot { origin, counter };
        self.tables().shared.range(of(0)..=of(u64::MAX)).next().is_some()
    }

    /// All listings of a shared dot, in the order of the logs that list it.
    pub(crate) fn listings(&self, place: LocalDot) -> &[Listing] {
        self.tables().shared.get(&place).map_or(&[], Vec::as_slice)
    }

    /// The shared dots of one log whose counters lie in a range.
    pub(crate) fn shared_in(&self, origin: LogIndex, counters: core::ops::Range<u64>) -> Vec<LocalDot> {
        if counters.is_empty() {
            return Vec::new();
        }
        let place = |counter| LocalDot { origin, counter };
        self.tables()
            .shared
            .range(place(counters.start)..place(counters.end))
            .map(|(place, _)| *place)
            .collect()
    }

    /// The shared dots that a log lists for a key.
    pub(crate) fn shared_of_key(&self, lister: LogIndex, key: &[u8]) -> Vec<LocalDot> {
        let Some(tables) = &self.tables else { return Vec::new() };
        let all = (lister, key.into(), Self::LEAST)..=(lister, key.into(), Self::GREATEST);
        tables.by_key.range(all).map(|((.., place), ())| *place).collect()
    }

    /// All shared dots that a log lists.
    pub(crate) fn shared_of(&self, lister: LogIndex) -> impl Iterator<Item = LocalDot> + '_ {
        let listed = self.tables().by_key.range((lister, Box::default(), Self::LEAST)..);
        listed.take_while(move |((log, ..), ())| *log == lister).map(|((.., place), ())| *place)
    }

    /// Puts a shared dot into `live`, or takes it out.
    pub(crate) fn show_shared(&mut self, dot: Dot, item: Option<&Listed>) {
        match (self.live.entry_of(&dot), item) {
            (Some(entry), Some(item))
                if entry.key == item.key() && entry.value == item.value() && entry.stamp == item.stamp => {}
            (was, item) => {
                if was.is_some() {
                    self.live.remove(&dot);
                }
                if let Some(item) = item {
                    self.live.insert(item.key(), item.value(), dot, item.stamp);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilience_crdts::Timestamp;

    const HERE: LocalDot = LocalDot { origin: 1, counter: 1 };

    fn dot(counter: u64) -> Dot {
        Dot { actor: ActorId::from([1; 32]), counter }
    }

    const fn stamp(millis: u64) -> Hlc {
        Hlc::new(Timestamp::from_millis(millis), 0)
    }

    #[test]
    fn a_shared_dot_is_shown_as_it_is_listed_now() {
        let mut dots = Dots::new(1);
        let listings: [(&[u8], &[u8], u64); 5] =
            [(b"a", b"x", 1), (b"b", b"x", 1), (b"b", b"y", 1), (b"b", b"y", 2), (b"b", b"y", 2)];
        for (key, value, millis) in listings {
            let item = (key, value, stamp(millis));
            dots.show_shared(dot(1), Some(&Listed::new(item, [0; 4])));
            let entry = dots.live.entry_of(&dot(1)).unwrap();
            assert_eq!((entry.key, entry.value, entry.stamp), item);
            assert_eq!(dots.live.keys_len(), 1);
        }
        dots.show_shared(dot(1), None);
        assert!(dots.live.is_empty());
    }

    #[test]
    fn a_dot_that_gives_way_to_a_new_one_of_its_key_leaves_nothing_behind() {
        let mut dots = Dots::new(1);
        dots.list_plain(HERE, dot(1), 9, (b"a", b"x", stamp(1)), Some([3; 4]), false);
        assert_eq!((dots.moved(HERE), dots.listed_at(HERE)), (Some((9, [3; 4])), 9));
        let (mut gone, next) = (Vec::new(), LocalDot { counter: 1 << 20, ..HERE });
        let name = ([1; 8], dot(next.counter));
        assert!(dots.set_plain(next, name, (b"a", b"yy", stamp(2)), |value| gone.push(value)));
        assert_eq!((gone, dots.moved(HERE)), (Vec::from([1]), None));
        assert!(dots.tables().is_empty());
    }
}
