//! The dots of one map or set: which are listed, which of them are named, and so which are live.
//!
//! Most logs are the only one that answers for their dots. Such a dot is *plain*: it is in `live`, or in `hidden` if a
//! removal names it, and nothing else is kept of it. Dots that several incarnations of an agent answer for are
//! *shared*: every listing of them is kept, with its content.
//!
//! What does not live here: entries, which logs count, and for which dots they answer (that is `topic`).
//!
//! The invariant: a plain dot is in exactly one of `live` and `hidden`; a shared dot is in `live` or not there at all.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_crdts::{ActorId, Dot, DotStore, Hlc};

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
    pub(crate) key: Box<[u8]>,
    pub(crate) value: Box<[u8]>,
    pub(crate) stamp: Hlc,
    pub(crate) tag: Tag,
}

/// One log's listing of a shared dot.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) lister: LogIndex,
    /// The entry that listed it last.
    pub(crate) at: u64,
    pub(crate) item: Listed,
}

/// The tags that a dot is named by, and by how many retained entries.
type Names = Vec<(Tag, u32)>;

#[derive(Clone, Debug)]
pub(crate) struct Dots {
    pub(crate) live: DotStore,
    pub(crate) hidden: DotStore,
    /// Plain dots that are listed elsewhere than where they were minted: by which entry, and their tags.
    moved: BTreeMap<LocalDot, (u64, Tag)>,
    shared: BTreeMap<LocalDot, Vec<Listing>>,
    /// The shared dots that a log lists for a key.
    by_key: BTreeMap<(LogIndex, Box<[u8]>), BTreeSet<LocalDot>>,
    /// The dots that removals name, with how many retained entries name them.
    named: BTreeMap<([u8; 8], u64), Names>,
}

impl Dots {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            live: DotStore::new(seed),
            hidden: DotStore::new(seed),
            moved: BTreeMap::new(),
            shared: BTreeMap::new(),
            by_key: BTreeMap::new(),
            named: BTreeMap::new(),
        }
    }

    pub(crate) fn is_named(&self, alias: [u8; 8], counter: u64, tag: Tag) -> bool {
        !self.named.is_empty()
            && self
                .named
                .get(&(alias, counter))
                .is_some_and(|tags| tags.iter().any(|(named, _)| *named == tag))
    }

    /// Whether anything names the dot, whatever the tag.
    pub(crate) fn has_names(&self, alias: [u8; 8], counter: u64) -> bool {
        !self.named.is_empty() && self.named.contains_key(&(alias, counter))
    }

    /// Counts a removal; true if it is the first of its kind.
    pub(crate) fn name(&mut self, found: &Ref) -> bool {
        let tags = self.named.entry((found.alias, found.counter)).or_default();
        match tags.iter_mut().find(|(tag, _)| *tag == found.tag) {
            Some((_, count)) => {
                *count = count.saturating_add(1);
                false
            }
            None => {
                tags.reserve_exact(1);
                tags.push((found.tag, 1));
                true
            }
        }
    }

    /// Takes a removal back; true if it was the last of its kind.
    pub(crate) fn unname(&mut self, found: &Ref) -> bool {
        let key = (found.alias, found.counter);
        let Some(tags) = self.named.get_mut(&key) else { return false };
        let Some(at) = tags.iter().position(|(tag, _)| *tag == found.tag) else { return false };
        if tags[at].1 > 1 {
            tags[at].1 -= 1;
            return false;
        }
        tags.swap_remove(at);
        if tags.is_empty() {
            self.named.remove(&key);
        }
        true
    }

    /// The entry and the tag of a plain dot that is not listed where it was minted.
    pub(crate) fn moved(&self, place: LocalDot) -> Option<(u64, Tag)> {
        if self.moved.is_empty() { None } else { self.moved.get(&place).copied() }
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
            self.moved.insert(place, (at, tag));
        }
        let (key, value, stamp) = item;
        let store = if hidden { &mut self.hidden } else { &mut self.live };
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
        if !self.by_key.is_empty() || self.has_names(alias, place.counter) {
            return false;
        }
        let moved = &mut self.moved;
        let mut unmove = |dot: &Dot| {
            if !moved.is_empty() {
                moved.remove(&LocalDot { counter: dot.counter, ..place });
            }
        };
        let is_new = self.live.replace_own(key, value, dot, stamp, |entry| {
            ended(entry.value.len());
            unmove(&entry.dot);
        });
        if is_new && !self.hidden.is_empty() {
            let own = self.hidden.siblings(key).map(|entry| entry.dot);
            let own: Vec<Dot> = own.filter(|hidden| hidden.actor == dot.actor).collect();
            for dot in own {
                unmove(&dot);
                self.hidden.remove(&dot);
            }
        }
        is_new
    }

    /// Ends the listing of a plain dot; true if there was one.
    pub(crate) fn unlist_plain(&mut self, place: LocalDot, dot: &Dot) -> bool {
        if !self.moved.is_empty() {
            self.moved.remove(&place);
        }
        self.live.remove(dot) || (!self.hidden.is_empty() && self.hidden.remove(dot))
    }

    /// Hides a plain dot, or shows it again.
    pub(crate) fn hide(&mut self, dot: &Dot, hide: bool) {
        let (from, to) =
            if hide { (&mut self.live, &mut self.hidden) } else { (&mut self.hidden, &mut self.live) };
        if let Some(entry) = from.entry_of(dot) {
            to.insert(entry.key, entry.value, *dot, entry.stamp);
            from.remove(dot);
        }
    }

    /// The plain dots of a key that are a log's own.
    pub(crate) fn own_dots(&self, key: &[u8], actor: &ActorId, out: &mut Vec<Dot>) {
        out.extend(self.live.siblings(key).map(|entry| entry.dot).filter(|dot| dot.actor == *actor));
        if !self.hidden.is_empty() {
            out.extend(self.hidden.siblings(key).map(|entry| entry.dot).filter(|dot| dot.actor == *actor));
        }
    }

    /// Lists a shared dot.
    pub(crate) fn list_shared(&mut self, place: LocalDot, lister: LogIndex, at: u64, item: Listed) {
        self.unlist_shared(place, lister);
        self.by_key.entry((lister, item.key.clone())).or_default().insert(place);
        self.shared.entry(place).or_default().push(Listing { lister, at, item });
    }

    /// Ends a log's listing of a shared dot; true if there was one.
    pub(crate) fn unlist_shared(&mut self, place: LocalDot, lister: LogIndex) -> bool {
        let Some(listings) = self.shared.get_mut(&place) else { return false };
        let Some(at) = listings.iter().position(|listing| listing.lister == lister) else { return false };
        let listing = listings.swap_remove(at);
        if listings.is_empty() {
            self.shared.remove(&place);
        }
        let key = (lister, listing.item.key);
        if let Some(places) = self.by_key.get_mut(&key) {
            places.remove(&place);
            if places.is_empty() {
                self.by_key.remove(&key);
            }
        }
        true
    }

    /// All listings of a shared dot.
    pub(crate) fn listings(&self, place: LocalDot) -> &[Listing] {
        self.shared.get(&place).map_or(&[], Vec::as_slice)
    }

    /// The shared dots of one log whose counters lie in a range.
    pub(crate) fn shared_in(&self, origin: LogIndex, counters: core::ops::Range<u64>) -> Vec<LocalDot> {
        if counters.is_empty() {
            return Vec::new();
        }
        let place = |counter| LocalDot { origin, counter };
        self.shared.range(place(counters.start)..place(counters.end)).map(|(place, _)| *place).collect()
    }

    /// The shared dots that a log lists for a key.
    pub(crate) fn shared_of_key(&self, lister: LogIndex, key: &[u8]) -> Vec<LocalDot> {
        if self.by_key.is_empty() {
            return Vec::new();
        }
        let places = self.by_key.get(&(lister, key.into()));
        places.into_iter().flatten().copied().collect()
    }

    /// All shared dots that a log lists.
    pub(crate) fn shared_of(&self, lister: LogIndex) -> impl Iterator<Item = LocalDot> + '_ {
        let listed =
            self.by_key.range((lister, Box::default())..).take_while(move |((log, _), _)| *log == lister);
        listed.flat_map(|(_, places)| places.iter().copied())
    }

    /// Puts a shared dot into `live`, or takes it out.
    pub(crate) fn show_shared(&mut self, dot: Dot, item: Option<&Listed>) {
        match (self.live.entry_of(&dot), item) {
            (Some(entry), Some(item))
                if *entry.key == *item.key && *entry.value == *item.value && entry.stamp == item.stamp => {}
            (was, item) => {
                if was.is_some() {
                    self.live.remove(&dot);
                }
                if let Some(item) = item {
                    self.live.insert(&item.key, &item.value, dot, item.stamp);
                }
            }
        }
    }
}
