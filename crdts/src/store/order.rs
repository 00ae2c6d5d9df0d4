//! The keys' order: a sorted run of slot ids, and a tail of keys that came since and are sorted when somebody reads
//! in order.
//!
//! Keeping a tree would cost every new key a search through cold slots; most writes are never followed by an ordered
//! read of their own. So reads sort the tail for themselves and leave a note of what that cost them, and once the
//! notes outweigh a merge of tail and run, the next write merges them: ordered reads pay at most about twice what
//! they would have paid with the tail merged at the best time.
//!
//! A removed key's slot stays in the run, dead but with its key readable, until the next merge frees it: the
//! invariant is that the keys of `sorted` always ascend.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::sync::atomic::{self, AtomicUsize};

use super::slot::Arena;

#[derive(Debug, Default)]
pub(crate) struct Order {
    sorted: Vec<u32>,
    fresh: Vec<u32>,
    /// How many ids in either are dead.
    dead: usize,
    /// Slots that ordered reads went through because the tail was not merged. A hint: lost updates do no harm.
    debt: AtomicUsize,
}

impl Clone for Order {
    fn clone(&self) -> Self {
        Self {
            sorted: self.sorted.clone(),
            fresh: self.fresh.clone(),
            dead: self.dead,
            debt: AtomicUsize::new(0),
        }
    }
}

impl Order {
    /// A key that is not in the order.
    #[inline]
    pub(crate) fn push(&mut self, id: u32) {
        self.fresh.push(id);
    }

    /// One of the ids died.
    #[inline]
    pub(crate) fn bury(&mut self) {
        self.dead += 1;
    }

    /// Whether the next write should merge: reads have paid for it, or dead slots pile up.
    #[inline]
    pub(crate) fn wants_settling(&self) -> bool {
        let len = self.sorted.len() + self.fresh.len();
        self.dead > 1_024 + len / 2 || self.debt.load(atomic::Ordering::Relaxed) > 64 + len / 16
    }

    /// Whether everything is in one sorted run of live slots.
    pub(crate) fn is_settled(&self) -> bool {
        self.fresh.is_empty() && self.dead == 0
    }

    pub(crate) const fn has_dead(&self) -> bool {
        self.dead > 0
    }

    /// Merges tail and run and frees what is dead.
    pub(crate) fn settle(&mut self, arena: &mut Arena) {
        self.debt = AtomicUsize::new(0);
        if self.is_settled() {
            return;
        }
        let mut dead = Vec::with_capacity(self.dead);
        let mut keep_live = |ids: &mut Vec<u32>| {
            ids.retain(|id| {
                let live = arena.slot(*id).is_live();
                if !live {
                    dead.push(*id);
                }
                live
            });
        };
        keep_live(&mut self.sorted);
        keep_live(&mut self.fresh);
        self.dead = 0;
        sort_by_key(&mut self.fresh, arena);
        if self.sorted.is_empty() {
            self.sorted = core::mem::take(&mut self.fresh);
            self.sorted.shrink_to_fit();
        } else if !self.fresh.is_empty() {
            self.merge_fresh(arena);
        }
        for id in dead {
            arena.free(id);
        }
    }

    /// Moves the sorted tail into the run from behind, each key to the place found by galloping.
    fn merge_fresh(&mut self, arena: &Arena) {
        let fresh = core::mem::take(&mut self.fresh);
        let mut read = self.sorted.len();
        let mut write = read + fresh.len();
        // Exact: this list is four bytes of every key's memory.
        self.sorted.reserve_exact(fresh.len());
        self.sorted.resize(write, 0);
        for id in fresh.into_iter().rev() {
            let key = arena.slot(id).key();
            let place = lower_bound_from_behind(&self.sorted[..read], arena, key);
            let moved = read - place;
            self.sorted.copy_within(place..read, write - moved);
            write -= moved + 1;
            read = place;
            self.sorted[write] = id;
        }
    }

    /// The live head with this key, if there is no tail.
    pub(crate) fn search(&self, arena: &Arena, key: &[u8]) -> Option<u32> {
        debug_assert!(self.fresh.is_empty(), "a tail exists only beside an index");
        let at = self.sorted.partition_point(|id| arena.slot(*id).key() < key);
        let id = *self.sorted.get(at)?;
        // A dead slot may carry the key of its successor in the tail, never of a live one in the run.
        (arena.slot(id).key() == key && arena.slot(id).is_live()).then_some(id)
    }

    /// Takes the sorted run out; the order must be settled.
    pub(crate) fn take_sorted(&mut self) -> Vec<u32> {
        debug_assert!(self.is_settled());
        core::mem::take(&mut self.sorted)
    }

    /// Replaces the run by one of live heads in key order, after whatever was buried has been freed.
    pub(crate) fn replace_sorted(&mut self, sorted: Vec<u32>) {
        self.dead = 0;
        self.sorted = sorted;
    }

    /// The live heads for whose keys `before` (the key lies before the range) and `behind` do not hold, in order.
    pub(crate) fn range<'a>(
        &'a self,
        arena: &'a Arena,
        before: impl Fn(&[u8]) -> bool,
        behind: impl Fn(&[u8]) -> bool,
    ) -> Ordered<'a> {
        let start = self.sorted.partition_point(|id| before(arena.slot(*id).key()));
        let len = self.sorted[start..].partition_point(|id| !behind(arena.slot(*id).key()));
        let mut fresh = Vec::new();
        if !self.fresh.is_empty() {
            fresh.extend(self.fresh.iter().copied().filter(|id| {
                let slot = arena.slot(*id);
                slot.is_live() && !before(slot.key()) && !behind(slot.key())
            }));
            sort_by_key(&mut fresh, arena);
            let cost = self.fresh.len() + 4 * fresh.len();
            let debt = self.debt.load(atomic::Ordering::Relaxed);
            self.debt.store(debt.saturating_add(cost), atomic::Ordering::Relaxed);
        }
        Ordered { arena, sorted: self.sorted[start..start + len].iter(), fresh: fresh.into_iter() }
    }

    /// Heap bytes held.
    pub(crate) const fn bytes(&self) -> usize {
        (self.sorted.capacity() + self.fresh.capacity()) * size_of::<u32>()
    }
}

/// The first place in `run` whose key is not below `key`, searched from the end in doubling steps.
fn lower_bound_from_behind(run: &[u32], arena: &Arena, key: &[u8]) -> usize {
    let mut step = 1;
    let mut high = run.len();
    while step <= high && arena.slot(run[high - step]).key() >= key {
        high -= step;
        step *= 2;
    }
    let low = high.saturating_sub(step);
    low + run[low..high].partition_point(|id| arena.slot(*id).key() < key)
}

/// Sorts ids by their slots' keys. Eight bytes of each key behind what all keys share are compared first, so that
/// most comparisons stay out of the slots.
fn sort_by_key(ids: &mut [u32], arena: &Arena) {
    let Some((first, rest)) = ids.split_first() else { return };
    let first = arena.slot(*first).key();
    let mut shared = first.len();
    for id in rest {
        let key = arena.slot(*id).key();
        shared = first[..shared].iter().zip(key).take_while(|(a, b)| a == b).count();
    }
    let mut keyed: Vec<(u64, u32)> = ids
        .iter()
        .map(|id| {
            let mut head = [0; 8];
            let tail = &arena.slot(*id).key()[shared..];
            let len = tail.len().min(8);
            head[..len].copy_from_slice(&tail[..len]);
            (u64::from_be_bytes(head), *id)
        })
        .collect();
    keyed.sort_unstable_by(|a, b| match a.0.cmp(&b.0) {
        Ordering::Equal => arena.slot(a.1).key().cmp(arena.slot(b.1).key()),
        unequal => unequal,
    });
    for (id, (_, sorted)) in ids.iter_mut().zip(keyed) {
        *id = sorted;
    }
}

/// Live heads in key order.
#[derive(Clone, Debug)]
pub(crate) struct Ordered<'a> {
    arena: &'a Arena,
    sorted: core::slice::Iter<'a, u32>,
    fresh: alloc::vec::IntoIter<u32>,
}

impl Iterator for Ordered<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        loop {
            let Some(&sorted) = self.sorted.as_slice().first() else { return self.fresh.next() };
            if !self.arena.slot(sorted).is_live() {
                self.sorted.next();
                continue;
            }
            if let Some(&fresh) = self.fresh.as_slice().first()
                && self.arena.slot(fresh).key() < self.arena.slot(sorted).key()
            {
                return self.fresh.next();
            }
            self.sorted.next();
            return Some(sorted);
        }
    }
}
