//! [`ReconcileSet`]: the ordered set of ids that a reconciliation compares.
//!
//! The arena, the order, the index, the root and the sketch are files of their own; here they are kept in step. The
//! invariant: all of them describe the same items.

use alloc::vec::Vec;
use core::fmt;

use super::lthash::LtHash;
use super::order::{Order, Position};
use super::range::{KEY_BYTES_MAX, KeyRange};
use super::short::{ShortId, ShortKey};
use super::sketch::{Cell, Sketch};
use super::slots::{ITEMS_MAX, Slots};

/// Why an item was refused. The set is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// The key is longer than [`KEY_BYTES_MAX`]. The host misused the set; nothing changed.
    #[error("the order key is longer than {KEY_BYTES_MAX} bytes")]
    KeyTooLong,
    /// The id is in the set under another key. The host misused the set; nothing changed.
    #[error("the id is in the set under another key")]
    OtherKey,
    /// The set holds 2^32 - 2 items. Nothing changed.
    #[error("the set is full")]
    Full,
}

/// An ordered set of 32-byte ids, each under an order key, that keeps the aids of a reconciliation up to date: a
/// collision-resistant root, the first cells of a sketch, and the way back from a short id to the items that have it.
///
/// Items are ordered by the bytes `key ‖ id`. A set of plain ids gives every item the empty key and pays nothing for
/// keys. **An id must stand for its item and its key**: a collision-resistant hash that covers both. Equality, sketch
/// and fingerprints look at ids alone. One id is held under one key.
///
/// Two sets can be compared only if they were made with the same `key`. It keys the short ids and the root, and should
/// be secret from anybody who may choose ids but is not a member.
///
/// An insertion finds its place in the order, walks some 20 cells at a million ids, and notes the id for the root.
/// Reading the root lifts the ids that changed since, 2 KiB of BLAKE3 output each, and hashes 2 KiB. Memory and time:
/// `benches/peers -- reconcile`.
#[derive(Clone)]
pub struct ReconcileSet {
    slots: Slots,
    order: Order,
    index: super::index::ShortIndex,
    sketch: Sketch,
    sum: LtHash,
    root: Option<[u8; 32]>,
    short_key: ShortKey,
    generation: u64,
}

impl ReconcileSet {
    /// An empty set. `key` is the same on all sides (derived from something they share, such as the id of a mesh);
    /// `seed` is this process's own randomness, and only spreads a table in memory.
    #[must_use]
    pub fn new(key: &[u8; 32], seed: u64) -> Self {
        Self {
            slots: Slots::new(),
            order: Order::new(),
            index: super::index::ShortIndex::new(seed),
            sketch: Sketch::new(),
            sum: LtHash::new(blake3::derive_key("consilience reconcile lift v1", key)),
            root: None,
            short_key: ShortKey::new(key),
            generation: 0,
        }
    }

    /// How many items there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes with every insertion and removal that had an effect.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The short id that stands for an id in sets with this key.
    #[must_use]
    pub fn short_id(&self, id: &[u8; 32]) -> ShortId {
        ShortId(self.short_key.short(id))
    }

    /// Adds an item; `false` if it was there already.
    ///
    /// # Errors
    /// If the key is too long, the id is there under another key, or the set is full. Nothing changed then.
    pub fn insert(&mut self, key: &[u8], id: &[u8; 32]) -> Result<bool, InsertError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(InsertError::KeyTooLong);
        }
        let short = self.short_key.short(id);
        if let Some(handle) = self.handle_of(short, id) {
            return if self.slots.key(handle) == key { Ok(false) } else { Err(InsertError::OtherKey) };
        }
        if self.len() >= ITEMS_MAX {
            return Err(InsertError::Full);
        }
        let mut buffer = [0; KEY_BYTES_MAX + 32];
        let bound = join(&mut buffer, key, id);
        let place = self.order.lower_bound(&self.slots, bound);
        let Some(handle) = self.slots.take(key, id) else { return Err(InsertError::Full) };
        self.order.insert(place, bound, handle);
        let Self { slots, index, short_key, .. } = self;
        index.insert(short, handle, |handle| short_key.short(slots.id(handle)));
        self.sketch.change(short, 1);
        let shorts =
            (self.order.from(self.order.position_of(0))).map(|h| self.short_key.short(self.slots.id(h)));
        self.sketch.fit(self.slots.len(), shorts);
        self.changed(id, true);
        Ok(true)
    }

    /// Takes an item out; `false` if it was not there.
    pub fn remove(&mut self, id: &[u8; 32]) -> bool {
        let short = self.short_key.short(id);
        let Some(handle) = self.handle_of(short, id) else { return false };
        let mut buffer = [0; KEY_BYTES_MAX + 32];
        let bound = join(&mut buffer, self.slots.key(handle), id);
        let place = self.order.lower_bound(&self.slots, bound);
        self.order.remove(place);
        let Self { slots, index, short_key, .. } = self;
        index.remove(short, handle, |handle| short_key.short(slots.id(handle)));
        self.slots.release(handle);
        self.sketch.change(short, -1);
        self.changed(id, false);
        true
    }

    fn changed(&mut self, id: &[u8; 32], added: bool) {
        self.sum.change(id, added);
        self.root = None;
        self.generation = self.generation.wrapping_add(1);
    }

    fn handle_of(&self, short: u64, id: &[u8; 32]) -> Option<u32> {
        self.index.candidates(short).find(|&handle| self.slots.id(handle) == id)
    }

    /// Whether the id is in the set.
    #[must_use]
    pub fn contains(&self, id: &[u8; 32]) -> bool {
        self.handle_of(self.short_key.short(id), id).is_some()
    }

    /// The order key of an id that is in the set.
    #[must_use]
    pub fn key_of(&self, id: &[u8; 32]) -> Option<&[u8]> {
        self.handle_of(self.short_key.short(id), id).map(|handle| self.slots.key(handle))
    }

    /// The ids that a short id stands for: none, one, or more where short ids collide.
    pub fn resolve(&self, short: ShortId) -> impl Iterator<Item = &[u8; 32]> + '_ {
        let ids = self.index.candidates(short.0).map(|handle| self.slots.id(handle));
        ids.filter(move |id| self.short_key.short(id) == short.0)
    }

    /// The collision-resistant root: `BLAKE3(count ‖ LtHash)`. Two sets with the same key have the same root exactly
    /// if they hold the same ids. Costs a lift for each id that changed since it was last read.
    pub fn root(&mut self) -> [u8; 32] {
        let len = self.slots.len();
        *self.root.get_or_insert_with(|| self.sum.root(len))
    }

    /// The sum of no ids, by the hash that the root is made with.
    pub(crate) fn empty_sum(&self) -> LtHash {
        self.sum.emptied()
    }

    /// How many items come before this place in the order (the bytes `key ‖ id`, or any prefix of them).
    #[must_use]
    pub fn rank(&self, bound: &[u8]) -> usize {
        self.order.rank_of(self.order.lower_bound(&self.slots, bound))
    }

    /// The key and id of the item with `rank` others before it.
    #[must_use]
    pub fn select(&self, rank: usize) -> Option<(&[u8], &[u8; 32])> {
        if rank >= self.len() {
            return None;
        }
        let handle = self.order.handle_at(self.order.position_of(rank))?;
        Some((self.slots.key(handle), self.slots.id(handle)))
    }

    /// The keys and ids of the items in a range, in order.
    pub fn range<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = (&'a [u8], &'a [u8; 32])> + 'a {
        let place = self.order.lower_bound(&self.slots, &range.lower);
        let items = self.order.from(place).map(|handle| (self.slots.key(handle), self.slots.id(handle)));
        items.take_while(|(key, id)| {
            range.upper.as_ref().is_none_or(|upper| super::slots::compare(key, id, upper).is_lt())
        })
    }

    /// All keys and ids, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8; 32])> + '_ {
        self.iter_rank(0)
    }

    /// The keys and ids from a rank on.
    pub(super) fn iter_rank(&self, rank: usize) -> impl Iterator<Item = (&[u8], &[u8; 32])> + '_ {
        self.iter_position(self.order.position_of(rank))
    }

    pub(super) fn iter_position(&self, place: Position) -> impl Iterator<Item = (&[u8], &[u8; 32])> + '_ {
        self.order.from(place).map(|handle| (self.slots.key(handle), self.slots.id(handle)))
    }

    /// The first place at or after a bound, and its rank.
    pub(super) fn locate(&self, bound: &[u8]) -> (Position, usize) {
        let place = self.order.lower_bound(&self.slots, bound);
        (place, self.order.rank_of(place))
    }

    /// The rank of a bound that is at or after a place of known rank.
    pub(super) fn rank_from(&self, place: Position, rank: usize, bound: &[u8]) -> usize {
        self.order.rank_from(&self.slots, place, rank, bound)
    }

    /// Whether an id that is in the set lies in the range.
    pub(super) fn is_in(&self, id: &[u8; 32], range: &KeyRange) -> bool {
        let Some(key) = self.key_of(id) else { return false };
        let at_least = super::slots::compare(key, id, &range.lower).is_ge();
        at_least && range.upper.as_ref().is_none_or(|upper| super::slots::compare(key, id, upper).is_lt())
    }

    /// The cached cells of the sketch.
    pub(super) fn cells(&self) -> &[Cell] {
        self.sketch.cells()
    }
}

impl fmt::Debug for ReconcileSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconcileSet")
            .field("len", &self.len())
            .field("generation", &self.generation)
            .finish()
    }
}

/// `key ‖ id` in a buffer.
fn join<'a>(buffer: &'a mut [u8; KEY_BYTES_MAX + 32], key: &[u8], id: &[u8; 32]) -> &'a [u8] {
    let len = key.len() + id.len();
    buffer[..key.len()].copy_from_slice(key);
    buffer[key.len()..len].copy_from_slice(id);
    &buffer[..len]
}

/// `key ‖ id` as a byte string.
pub(super) fn place_bytes(key: &[u8], id: &[u8; 32]) -> Vec<u8> {
    [key, id].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    fn id(n: u64) -> [u8; 32] {
        *blake3::hash(&n.to_le_bytes()).as_bytes()
    }

    /// Keys that share prefixes, contain zeros and are empty.
    fn key(n: u64) -> Vec<u8> {
        match n % 5 {
            0 => Vec::new(),
            1 => b"team".to_vec(),
            2 => b"team\0a".to_vec(),
            3 => [&b"team\0b"[..], &id(n)[..8]].concat(),
            _ => alloc::vec![0xff; KEY_BYTES_MAX],
        }
    }

    #[test]
    fn it_behaves_as_an_ordered_map_does() {
        let mut set = ReconcileSet::new(&[3; 32], 99);
        let mut model: BTreeMap<Vec<u8>, [u8; 32]> = BTreeMap::new();
        let mut state = 5_u64;
        for step in 0..12_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // More insertions than removals at first, then more removals.
            let n = (state >> 40) % 3_000;
            let place = [&key(n)[..], &id(n)].concat();
            let inserts = (state >> 20) % 10 < if step < 6_000 { 8 } else { 3 };
            if inserts {
                assert_eq!(set.insert(&key(n), &id(n)), Ok(model.insert(place, id(n)).is_none()));
            } else {
                assert_eq!(set.remove(&id(n)), model.remove(&place).is_some());
            }
            assert_eq!(set.len(), model.len());
            if step % 500 == 0 {
                let items = set.iter().map(|(key, id)| [key, id].concat());
                assert!(items.eq(model.keys().cloned()));
                for (rank, (place, id)) in model.iter().enumerate().step_by(37) {
                    assert_eq!(set.rank(place), rank);
                    assert_eq!(set.select(rank).map(|item| item.1), Some(id));
                    assert!(set.contains(id) && set.resolve(set.short_id(id)).eq([id]));
                }
                let range = KeyRange::prefix(b"team\0b").unwrap();
                let inside = model.keys().filter(|place| place.starts_with(b"team\0b")).count();
                assert_eq!(set.range(&range).count(), inside);
            }
        }
        assert_eq!(set.select(set.len()), None);
        // The same items by another way give the same root and the same cells.
        let mut other = ReconcileSet::new(&[3; 32], 1);
        for (place, id) in model.iter().rev() {
            let key = &place[..place.len() - 32];
            assert_eq!(other.insert(key, id), Ok(true));
        }
        assert_eq!(set.root(), other.root());
        assert_eq!(set.cells(), other.cells());
    }

    #[test]
    fn the_cells_follow_when_the_set_outgrows_them() {
        let mut set = ReconcileSet::new(&[0; 32], 0);
        for n in 0..5_000 {
            set.insert(&[], &id(n)).unwrap();
        }
        let mut sketch = Sketch::new();
        sketch.fit(5_000, (0..5_000).map(|n| set.short_key.short(&id(n))));
        assert_eq!(set.cells(), sketch.cells());
        assert_eq!(set.cells().len(), 2_048);
        assert_eq!(set.cells()[0].count, 5_000);
    }

    #[test]
    fn misuse_is_refused_and_changes_nothing() {
        let mut set = ReconcileSet::new(&[0; 32], 0);
        set.insert(b"a", &id(1)).unwrap();
        let (root, generation) = (set.root(), set.generation());
        assert_eq!(set.insert(b"b", &id(1)), Err(InsertError::OtherKey));
        assert_eq!(set.insert(&[0; KEY_BYTES_MAX + 1], &id(2)), Err(InsertError::KeyTooLong));
        assert_eq!(set.insert(b"a", &id(1)), Ok(false));
        assert!(!set.remove(&id(2)));
        assert_eq!((set.root(), set.generation(), set.len()), (root, generation, 1));
    }
}
