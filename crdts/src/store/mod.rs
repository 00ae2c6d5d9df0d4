//! The arena under the LWW map and the OR-set: keys, values, dots, winners and ordered iteration.
//!
//! [`DotStore`] holds the dots that are *live*, and nothing about why the others are not. The reason is the caller's
//! knowledge, and there are two ways to have it: a causal context (`causal`, beside this module), or a reference count
//! of the removals that name a dot, kept outside by the fold of logs. Both call the same four operations: insert a dot
//! under a key, remove a dot, look a key up, look a dot up.
//!
//! Memory follows the live dots: a few are gone through instead of indexed, and once most of the room is that of dots
//! which are gone, the rest moves to a place of its own size ([`shrink`](DotStore::shrink)).
//!
//! The dots of one key form a chain of slots whose first is the winner. The invariants: a key's first slot keeps its
//! id as long as the key has a live dot; no dot is live twice; the index of keys, once built, has exactly the heads.

mod index;
mod order;
mod slot;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::hash::Hasher;
use core::ops::{Bound, RangeBounds};

use consilience_base::Hlc;
use consilience_base::planted::{Fault, planted};
use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

use crate::bytes::{KEY_BYTES_MAX, VALUE_BYTES_MAX, Window};
use crate::dot::{ActorId, COUNTER_MAX, Dot};
use index::Index;
use order::{Order, Ordered};
use slot::Arena;
pub(crate) use slot::{NONE, Slot};

/// So many slots, or names, are gone through as fast as an index finds one of them.
const FEW: usize = 8;

/// The actors met, interned. Indices are local: never compared across replicas, never written to bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Actors {
    ids: Vec<ActorId>,
    /// Empty as long as there are few.
    by_id: BTreeMap<ActorId, u32>,
    last: u32,
}

impl Actors {
    /// The index of a name of 1 to 32 bytes.
    #[inline]
    pub(crate) fn intern(&mut self, name: &[u8]) -> u32 {
        // Runs of writes by one actor are the rule.
        if self.ids.get(self.last as usize).is_none_or(|last| last.as_bytes() != name) {
            self.last = self.look_up(name);
        }
        self.last
    }

    #[inline(never)]
    fn look_up(&mut self, name: &[u8]) -> u32 {
        let Some(actor) = ActorId::new(name) else { unreachable!("names were checked") };
        self.search(&actor).unwrap_or_else(|| self.add(actor))
    }

    fn search(&self, actor: &ActorId) -> Option<u32> {
        if !self.by_id.is_empty() {
            return self.by_id.get(actor).copied();
        }
        (0..).zip(&self.ids).find(|(_, id)| *id == actor).map(|(index, _)| index)
    }

    #[cold]
    fn add(&mut self, actor: ActorId) -> u32 {
        let Ok(index) = u32::try_from(self.ids.len()) else {
            unreachable!("fewer than 2^32 actors fit in memory")
        };
        if self.ids.len() < FEW {
            self.ids.reserve_exact(1);
        } else if self.by_id.is_empty() {
            self.by_id = self.ids.iter().copied().zip(0..).collect();
        }
        self.ids.push(actor);
        if self.ids.len() > FEW {
            self.by_id.insert(actor, index);
        }
        index
    }

    #[inline]
    pub(crate) fn id(&self, index: u32) -> &ActorId {
        &self.ids[index as usize]
    }

    pub(crate) fn index(&self, actor: &ActorId) -> Option<u32> {
        if self.ids.get(self.last as usize) == Some(actor) {
            return Some(self.last);
        }
        self.search(actor)
    }

    pub(crate) const fn len(&self) -> usize {
        self.ids.len()
    }

    /// The actors in the order of their names, each with its index.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = (&ActorId, u32)> {
        let mut few = [0_u32; FEW];
        let len = if self.by_id.is_empty() { self.ids.len() } else { 0 };
        few.iter_mut().zip(0..).for_each(|(to, index)| *to = index);
        few[..len].sort_unstable_by(|a, b| self.id(*a).cmp(self.id(*b)));
        let few = few.into_iter().take(len).map(|index| (self.id(index), index));
        few.chain(self.by_id.iter().map(|(id, index)| (id, *index)))
    }
}

/// A live dot of a key: the value written, by which actor, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveDot<'a> {
    /// The key (of a map) or element (of a set).
    pub key: &'a [u8],
    /// The value; empty in a set.
    pub value: &'a [u8],
    /// The write's name: its actor, and the actor's count.
    pub dot: Dot,
    /// The write's stamp; zero in a set.
    pub stamp: Hlc,
}

/// Counts and sizes of a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Keys or elements that are there.
    pub live: usize,
    /// Live dots or contributions: more than `live` only where writes were concurrent.
    pub dots: usize,
    /// Heap bytes held, allocator overhead not counted.
    pub bytes: usize,
}

/// Keys with their live dots. See the module's documentation for the knowledge that the store leaves to its caller.
#[derive(Clone, Debug)]
pub struct DotStore {
    pub(crate) actors: Actors,
    pub(crate) arena: Arena,
    order: Order,
    keys: Index,
    dots: Index,
    seed: u64,
    /// Made from the seed too: the hash is a product, and a peer that knows one factor can make the product zero.
    factors: SharedSeed,
    live_keys: usize,
    live_dots: usize,
    /// By actor: an actor without live dots has none that a peer could end, however many the peer names.
    live_by_actor: Vec<u32>,
    /// How many actors have live dots.
    actors_used: usize,
}

impl Default for DotStore {
    fn default() -> Self {
        Self::new(0)
    }
}

impl DotStore {
    /// An empty store. `seed` keys the hash of the index: where strangers choose keys, give it 64 random bits, so
    /// that they cannot choose keys that collide.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            actors: Actors::default(),
            arena: Arena::default(),
            order: Order::default(),
            keys: Index::default(),
            dots: Index::default(),
            seed: seed ^ 0x1319_8a2e_0370_7344,
            // From zero all factors would come out alike; the digits of pi have nothing to hide.
            factors: SharedSeed::from_u64((seed ^ 0x243f_6a88_85a3_08d3) | 1),
            live_keys: 0,
            live_dots: 0,
            live_by_actor: Vec::new(),
            actors_used: 0,
        }
    }

    /// Makes `dot` live under `key`. Returns `false`, and changes nothing, if it is live already (under any key), if
    /// its counter is 0 or beyond [`COUNTER_MAX`], or if key or value are beyond [`KEY_BYTES_MAX`] or
    /// [`VALUE_BYTES_MAX`].
    pub fn insert(&mut self, key: &[u8], value: &[u8], dot: Dot, stamp: Hlc) -> bool {
        let counts = (1..=COUNTER_MAX).contains(&dot.counter);
        if !counts || key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return false;
        }
        self.tidy();
        self.build();
        let actor = self.actors.intern(dot.actor.as_bytes());
        if self.find_dot((actor, dot.counter)).is_some() {
            return false;
        }
        let (hash, head) = self.find_to_change(key);
        self.put(hash, head, (actor, dot.counter), stamp.to_bits(), key, value);
        true
    }

    /// Makes `dot` live under `key` and ends the other live dots that its actor has there, as [`remove`](Self::remove)
    /// and [`insert`](Self::insert) would, with fewer searches. `ended` is called with the value of each before that
    /// goes. Returns `false` where `insert` would, and then has ended nothing.
    pub fn replace_own(
        &mut self,
        key: &[u8],
        value: &[u8],
        dot: Dot,
        stamp: Hlc,
        mut ended: impl FnMut(LiveDot<'_>),
    ) -> bool {
        let counts = (1..=COUNTER_MAX).contains(&dot.counter);
        if !counts || key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return false;
        }
        self.tidy();
        self.build();
        let actor = self.actors.intern(dot.actor.as_bytes());
        let name = (actor, dot.counter);
        if self.find_dot(name).is_some() {
            return false;
        }
        let (hash, head) = self.find_to_change(key);
        let Some(head) = head else {
            self.put(hash, None, name, stamp.to_bits(), key, value);
            return true;
        };
        let slot = self.slot(head);
        if slot.next == NONE {
            if slot.actor == actor {
                ended(self.entry(head));
                self.replace(head, name, stamp.to_bits(), value.into());
            } else {
                self.add_sibling(head, name, stamp.to_bits(), value);
            }
            return true;
        }
        for id in self.chain(head).filter(|id| self.slot(*id).actor == actor) {
            ended(LiveDot { key: self.slot(head).key(), ..self.entry(id) });
        }
        // The new dot first, so that the key keeps its head.
        self.add_sibling(head, name, stamp.to_bits(), value);
        self.retain_chain(head, |kept| kept.0 != actor || kept == name, |_| {});
        true
    }

    /// Adds a dot that is not live to a key, whose head this is if it has one.
    #[inline]
    fn put(&mut self, hash: u32, head: Option<u32>, dot: (u32, u64), stamp: u64, key: &[u8], value: &[u8]) {
        match head {
            Some(head) => self.add_sibling(head, dot, stamp, value),
            None => {
                let id = self.add_key(hash, dot, stamp, key.into(), value.into());
                self.order.push(id);
            }
        }
    }

    /// Ends a dot. Returns `false` if it is not live.
    pub fn remove(&mut self, dot: &Dot) -> bool {
        let Some(actor) = self.actors.index(&dot.actor) else { return false };
        self.tidy();
        if !self.arena.has_few(FEW) {
            self.build_dots();
        }
        let Some(slot) = self.find_dot((actor, dot.counter)) else { return false };
        self.remove_slot(slot);
        true
    }

    /// Gives back the memory of dots that are gone, and of actors without live dots, if it is more than that of the live
    /// ones. To be called after changes: it takes a look at a few counts, and as long as it takes to go through the live
    /// dots once for each time that as many have gone.
    pub fn shrink(&mut self) {
        let dead = self.arena.dead_bytes() > self.arena.boxed_bytes() / 2 + 64 * self.live_dots + 512;
        let loose = self.arena.capacity() > 2 * self.live_dots + 4 || dead;
        if loose || self.actors.len() > 2 * self.actors_used + 4 {
            self.rebuild(false);
        }
    }

    /// Moves the live dots to memory of their own size. The names of actors go with their dots, unless they are kept: a
    /// causal context counts actors as they are here.
    #[cold]
    fn rebuild(&mut self, keep_actors: bool) {
        self.sort();
        let heads = self.order.take_sorted();
        let room = Arena::with_room(self.live_dots);
        let mut from = core::mem::replace(&mut self.arena, room);
        let ids = if keep_actors { Actors::default() } else { core::mem::take(&mut self.actors) };
        let (arena, actors) = (&mut self.arena, &mut self.actors);
        let mut renamed = alloc::vec![NONE; ids.len()];
        let mut rename = |actor: u32| match renamed.get_mut(actor as usize) {
            Some(to) if *to == NONE => {
                *to = actors.intern(ids.id(actor).as_bytes());
                *to
            }
            Some(to) => *to,
            None => actor,
        };
        let order = heads.into_iter().map(|head| arena.take_chain(&mut from, head, &mut rename)).collect();
        self.order = Order::default();
        self.order.replace_sorted(order);
        (self.keys, self.dots) = (Index::default(), Index::default());
        self.live_by_actor = alloc::vec![0; self.actors.len()];
        for (_, slot) in self.arena.live() {
            self.live_by_actor[slot.actor as usize] += 1;
        }
        self.actors_used = self.live_by_actor.iter().filter(|dots| **dots > 0).count();
    }

    /// Whether the dot is live. O(1) once dots were inserted or removed by name; until then all of the arena is gone
    /// through.
    #[must_use]
    pub fn contains(&self, dot: &Dot) -> bool {
        let Some(actor) = self.actors.index(&dot.actor) else { return false };
        self.find_dot((actor, dot.counter)).is_some()
    }

    /// The winning dot of a key: of its live dots the one with the greatest `(stamp, actor, counter)`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<LiveDot<'_>> {
        self.find(key).map(|id| self.entry(id))
    }

    /// All live dots of a key, the winner first, the others in descending order.
    #[must_use]
    pub fn dots(&self, key: &[u8]) -> Vec<LiveDot<'_>> {
        let Some(head) = self.find(key) else { return Vec::new() };
        let key = self.slot(head).key();
        let mut entries: Vec<LiveDot<'_>> =
            self.chain(head).map(|id| LiveDot { key, ..self.entry(id) }).collect();
        entries.sort_unstable_by_key(|entry| core::cmp::Reverse((entry.stamp, entry.dot)));
        entries
    }

    /// All live dots of a key, the winner first, the others in no order.
    pub fn siblings(&self, key: &[u8]) -> impl Iterator<Item = LiveDot<'_>> {
        let head = self.find(key);
        let chain = head.into_iter().flat_map(|head| self.chain(head).map(move |id| (head, id)));
        chain.map(|(head, id)| LiveDot { key: self.slot(head).key(), ..self.entry(id) })
    }

    /// The key, value and stamp that were written as a dot, if the dot is live. As fast as
    /// [`contains`](Self::contains).
    #[must_use]
    pub fn entry_of(&self, dot: &Dot) -> Option<LiveDot<'_>> {
        let actor = self.actors.index(&dot.actor)?;
        let id = self.find_dot((actor, dot.counter))?;
        let head = self.slot(id).head().unwrap_or(id);
        Some(LiveDot { key: self.slot(head).key(), ..self.entry(id) })
    }

    /// The winning dots in key order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { store: self, ids: self.order.range(&self.arena, |_| false, |_| false) }
    }

    /// The winning dots of the keys that start with `prefix`, in key order.
    pub fn prefix(&self, prefix: &[u8]) -> Iter<'_> {
        let behind = |key: &[u8]| key > prefix && !key.starts_with(prefix);
        Iter { store: self, ids: self.order.range(&self.arena, |key| key < prefix, behind) }
    }

    /// The winning dots of the keys in `range`, in key order. An inverted range is empty.
    pub fn range<'k>(&self, range: impl RangeBounds<&'k [u8]>) -> Iter<'_> {
        let before = |key: &[u8]| match range.start_bound() {
            Bound::Included(start) => key < *start,
            Bound::Excluded(start) => key <= *start,
            Bound::Unbounded => false,
        };
        // A key before the start is not after the end either: an inverted range keeps both runs ordered.
        let behind = |key: &[u8]| match range.end_bound() {
            Bound::Included(end) => key > *end,
            Bound::Excluded(end) => key >= *end,
            Bound::Unbounded => false,
        };
        Iter { store: self, ids: self.order.range(&self.arena, before, behind) }
    }

    /// How many dots are live.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.live_dots
    }

    /// How many keys have a live dot.
    #[must_use]
    pub const fn keys_len(&self) -> usize {
        self.live_keys
    }

    /// Whether no dot is live.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live_dots == 0
    }

    /// Live keys, live dots, heap bytes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let actors = self.actors.len() * (2 * size_of::<ActorId>() + size_of::<u32>());
        Stats {
            live: self.live_keys,
            dots: self.live_dots,
            bytes: self.arena.bytes()
                + self.order.bytes()
                + self.keys.bytes()
                + self.dots.bytes()
                + self.live_by_actor.capacity() * size_of::<u32>()
                + actors,
        }
    }

    pub(crate) const fn live_keys(&self) -> usize {
        self.live_keys
    }

    pub(crate) const fn live_dots(&self) -> usize {
        self.live_dots
    }

    #[inline]
    pub(crate) fn slot(&self, id: u32) -> &Slot {
        self.arena.slot(id)
    }

    /// The live dot of a head. (Of a slot after a head, the key is missing.)
    pub(crate) fn entry(&self, id: u32) -> LiveDot<'_> {
        let slot = self.slot(id);
        LiveDot {
            key: slot.key(),
            value: slot.value(),
            dot: Dot { actor: *self.actors.id(slot.actor), counter: slot.counter },
            stamp: Hlc::from_bits(slot.stamp),
        }
    }

    /// The ids of a key's chain from its head on.
    pub(crate) fn chain(&self, head: u32) -> impl Iterator<Item = u32> + '_ {
        core::iter::successors(Some(head), |id| Some(self.slot(*id).next).filter(|next| *next != NONE))
    }

    /// The heads in key order.
    pub(crate) fn heads(&self) -> Ordered<'_> {
        self.order.range(&self.arena, |_| false, |_| false)
    }

    #[inline]
    pub(crate) fn hash_key(&self, key: &[u8]) -> u32 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.factors);
        hasher.write(key);
        spread(hasher.finish())
    }

    #[inline]
    fn hash_dot(&self, dot: (u32, u64)) -> u32 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.factors);
        hasher.write_u32(dot.0);
        hasher.write_u64(dot.1);
        spread(hasher.finish())
    }

    /// The head of a key. By the index, or by binary search as long as no point write has needed one; of the few slots of
    /// a small store, by a look at each.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        if self.keys.is_built() {
            self.find_hashed(self.hash_key(key), key)
        } else if self.order.has_tail() {
            self.scan(key)
        } else {
            self.order.search(&self.arena, key)
        }
    }

    #[inline(never)]
    fn scan(&self, key: &[u8]) -> Option<u32> {
        self.arena.live().find(|(_, slot)| slot.head().is_none() && slot.key() == key).map(|(id, _)| id)
    }

    /// Makes the indices that changes by key and dot need, unless all slots are gone through as fast.
    #[inline]
    fn build(&mut self) {
        if !self.arena.has_few(FEW) {
            self.build_dots();
            self.build_keys();
        }
    }

    /// The hash of a key, where there is an index, and its head.
    #[inline]
    fn find_to_change(&self, key: &[u8]) -> (u32, Option<u32>) {
        if !self.keys.is_built() {
            return (0, self.scan(key));
        }
        let hash = self.hash_key(key);
        (hash, self.find_hashed(hash, key))
    }

    /// The head of a key; the index of keys must be built.
    #[inline]
    pub(crate) fn find_hashed(&self, hash: u32, key: &[u8]) -> Option<u32> {
        debug_assert!(self.keys.is_built());
        self.keys.find(hash, |id| self.slot(id).key() == key)
    }

    /// The probable head of the key with this hash; the index of keys must be built.
    #[inline]
    pub(crate) fn guess(&self, hash: u32) -> Option<u32> {
        self.keys.guess(hash)
    }

    pub(crate) const fn has_keys_index(&self) -> bool {
        self.keys.is_built()
    }

    pub(crate) const fn has_dots_index(&self) -> bool {
        self.dots.is_built()
    }

    /// The slot of a live dot: by the index of dots, or as long as there is none by a look at each slot.
    #[inline]
    pub(crate) fn find_dot(&self, dot: (u32, u64)) -> Option<u32> {
        if self.dots.is_built() {
            return self.dots.find(self.hash_dot(dot), |id| self.slot(id).dot() == dot);
        }
        self.arena.live().find(|(_, slot)| slot.dot() == dot).map(|(id, _)| id)
    }

    /// Makes the index of keys, which point operations need.
    #[inline]
    pub(crate) fn build_keys(&mut self) {
        if !self.keys.is_built() {
            self.build_keys_now();
        }
    }

    #[cold]
    fn build_keys_now(&mut self) {
        self.keys.build(self.live_keys, self.arena.last());
        for id in self.order.range(&self.arena, |_| false, |_| false) {
            let hash = self.hash_key(self.arena.slot(id).key());
            self.keys.insert(hash, id);
        }
    }

    /// Makes the index of keys anew, of all heads that there are.
    #[cold]
    fn index_keys_anew(&mut self) {
        self.keys.build(self.live_keys + 1, self.arena.last());
        for (id, slot) in self.arena.live().filter(|(_, slot)| slot.head().is_none()) {
            let hash = self.hash_key(slot.key());
            self.keys.insert(hash, id);
        }
    }

    /// Makes the index of dots anew, of all that there are.
    #[cold]
    fn index_dots_anew(&mut self) {
        self.dots.build(self.live_dots + 1, self.arena.last());
        for (id, slot) in self.arena.live() {
            let hash = self.hash_dot(slot.dot());
            self.dots.insert(hash, id);
        }
    }

    /// Prepares an empty store for `dots` dots, whose index is made along with them: keys' always, and dots' where
    /// removals by name are the rule.
    pub(crate) fn prepare(&mut self, dots: usize, by_name: bool) {
        let last = u32::try_from(dots).unwrap_or(u32::MAX);
        self.keys.build(dots, last);
        if by_name {
            self.dots.build(dots, last);
        }
    }

    /// Makes the index of dots, which removals by name need.
    pub(crate) fn build_dots(&mut self) {
        if !self.dots.is_built() {
            self.index_dots_anew();
        }
    }

    /// How many live dots an actor has.
    pub(crate) fn live_dots_of(&self, actor: u32) -> u32 {
        self.live_by_actor.get(actor as usize).copied().unwrap_or(0)
    }

    /// Takes note of a dot that comes alive.
    #[inline]
    fn index_dot(&mut self, dot: (u32, u64), id: u32) {
        if self.live_by_actor.len() <= dot.0 as usize {
            self.live_by_actor.resize(dot.0 as usize + 1, 0);
        }
        let live = &mut self.live_by_actor[dot.0 as usize];
        *live += 1;
        self.actors_used += usize::from(*live == 1);
        if !self.dots.is_built() {
            return;
        }
        if self.dots.is_too_narrow_for(id) {
            // The slot is there already.
            return self.index_dots_anew();
        }
        let hash = self.hash_dot(dot);
        self.dots.insert(hash, id);
    }

    /// Takes note of a dot that dies, or moves.
    #[inline]
    fn unindex_dot(&mut self, dot: (u32, u64), id: u32) {
        let live = &mut self.live_by_actor[dot.0 as usize];
        *live -= 1;
        self.actors_used -= usize::from(*live == 0);
        if self.dots.is_built() {
            let hash = self.hash_dot(dot);
            self.dots.remove(hash, id);
        }
    }

    /// Adds a key that is not there. The caller puts the id in the order. `hash` is looked at only if the index of
    /// keys is built.
    #[inline(always)]
    pub(crate) fn add_key(
        &mut self,
        hash: u32,
        dot: (u32, u64),
        stamp: u64,
        key: Window<'_>,
        value: Window<'_>,
    ) -> u32 {
        let id = self.arena.alloc(dot, stamp, key, value);
        if self.keys.is_built() {
            if self.keys.is_too_narrow_for(id) {
                // The slot is there already.
                self.index_keys_anew();
            } else {
                self.keys.insert(hash, id);
            }
        }
        self.index_dot(dot, id);
        self.live_keys += 1;
        self.live_dots += 1;
        id
    }

    /// Puts a key added last at the end of the order's tail.
    #[inline]
    pub(crate) fn order_push(&mut self, id: u32) {
        self.order.push(id);
    }

    /// Replaces the only dot of a key by another, in place.
    #[inline]
    pub(crate) fn replace(&mut self, head: u32, dot: (u32, u64), stamp: u64, value: Window<'_>) {
        debug_assert_eq!(self.slot(head).next, NONE);
        self.unindex_dot(self.slot(head).dot(), head);
        self.arena.overwrite(head, dot, stamp, value);
        self.index_dot(dot, head);
    }

    /// Adds a dot to a key that has some.
    pub(crate) fn add_sibling(&mut self, head: u32, dot: (u32, u64), stamp: u64, value: &[u8]) {
        let id = self.arena.alloc_behind(head, dot, stamp, value);
        self.index_dot(dot, id);
        self.live_dots += 1;
        let is_first = planted(Fault::TiesByArrival) && self.slot(id).stamp == self.slot(head).stamp;
        if !is_first && self.rank(id) > self.rank(head) {
            self.exchange(head, id);
        }
    }

    /// Ends one dot. For a slot after a head, the chain is not gone through.
    pub(crate) fn remove_slot(&mut self, slot: u32) {
        let dot = self.slot(slot).dot();
        if self.slot(slot).head().is_some() {
            self.end_dot(dot, slot);
            self.arena.unlink(slot);
        } else {
            self.retain_chain(slot, |kept| kept != dot, |_| {});
        }
    }

    /// Ends the dots of a key for which `keep` does not hold, and hands them out; the key goes with its last dot. The
    /// chain is gone through once, however long it is.
    pub(crate) fn retain_chain(
        &mut self,
        head: u32,
        keep: impl Fn((u32, u64)) -> bool,
        mut ended: impl FnMut((u32, u64)),
    ) {
        let (mut id, mut best) = (self.slot(head).next, NONE);
        while id != NONE {
            let next = self.slot(id).next;
            let dot = self.slot(id).dot();
            if !keep(dot) {
                self.end_dot(dot, id);
                self.arena.unlink(id);
                ended(dot);
            } else if best == NONE || self.rank(id) > self.rank(best) {
                best = id;
            }
            id = next;
        }
        let dot = self.slot(head).dot();
        if keep(dot) {
            return;
        }
        ended(dot);
        if best != NONE {
            // The head's id stands for the key, so the best dot moves there and the slot from which it came goes.
            self.exchange(head, best);
            self.end_dot(dot, best);
            self.arena.unlink(best);
            return;
        }
        self.end_dot(dot, head);
        self.live_keys -= 1;
        if self.keys.is_built() {
            let hash = self.hash_key(self.slot(head).key());
            self.keys.remove(hash, head);
        }
        // The order still reads the key here; it frees the slot when it is merged.
        self.arena.bury(head);
        self.order.bury();
    }

    fn end_dot(&mut self, dot: (u32, u64), id: u32) {
        self.unindex_dot(dot, id);
        self.live_dots -= 1;
    }

    /// Exchanges a head's dot with that of a slot after it, and brings the index of dots up to date.
    fn exchange(&mut self, head: u32, behind: u32) {
        let [first, second] = [head, behind].map(|id| self.slot(id).dot());
        self.unindex_dot(first, head);
        self.unindex_dot(second, behind);
        self.arena.exchange(head, behind);
        self.index_dot(second, head);
        self.index_dot(first, behind);
    }

    /// The rank that decides between live dots of one key. It has the actor's name, never its index: indices differ by
    /// replica.
    #[inline]
    pub(crate) fn rank(&self, id: u32) -> (u64, &ActorId, u64) {
        let slot = self.slot(id);
        (slot.stamp, self.actors.id(slot.actor), slot.counter)
    }

    /// Takes over an order that a reader made, or makes one if too many slots are dead; and gives memory back if three
    /// quarters of it are not in use. Called before changes, never amid them.
    #[inline]
    pub(crate) fn tidy(&mut self) {
        if self.arena.capacity() > 4 * self.live_dots + 1_024 && !planted(Fault::TablesDoNotShrink) {
            self.rebuild(true);
        } else if self.order.wants_sorting() {
            self.sort();
        }
    }

    /// Merges the order's tail now.
    pub(crate) fn sort(&mut self) {
        self.order.sort(&mut self.arena);
    }

    /// Takes the order of a sorted store; the caller hands back a new one.
    pub(crate) fn take_order(&mut self) -> Vec<u32> {
        self.sort();
        self.order.take_sorted()
    }

    /// Hands the order back: heads in key order, some of which may have died meanwhile.
    pub(crate) fn put_order(&mut self, mut heads: Vec<u32>) {
        let arena = &mut self.arena;
        if self.order.has_dead() {
            heads.retain(|id| {
                let live = arena.slot(*id).is_live();
                if !live {
                    arena.free(*id);
                }
                live
            });
        }
        heads.shrink_to_fit();
        self.order.replace_sorted(heads);
    }
}

/// The 32 bits of a hash that the index keeps. It takes a place from the lowest of them, and those of the fast hash
/// are its weakest: consecutive counters would crowd together.
#[inline]
const fn spread(hash: u64) -> u32 {
    (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// The winning dots of some keys, in key order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    store: &'a DotStore,
    ids: Ordered<'a>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = LiveDot<'a>;

    fn next(&mut self) -> Option<LiveDot<'a>> {
        self.ids.next().map(|id| self.store.entry(id))
    }
}
