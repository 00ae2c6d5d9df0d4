//! The keys' order: a sorted run of slot ids, and a tail of keys that came since and are sorted by the next read in key
//! order.
//!
//! Keeping a tree would cost every new key a search through cold slots; most writes are never followed by an ordered
//! read of their own. So a read sorts for itself the keys of the tail that it needs, and adds the cost to a counter.
//! Once the counter outweighs a merge of tail and run, the next read leaves the merged order for all reads, and the
//! next write takes it over: ordered reads pay at most a few times their cost with the tail merged at the best time,
//! whether writes come between them or not.
//!
//! Reads have `&self` and may run at once. The room for the merged order is made by writes; its slots are atomics, and
//! every reader computes the same ids for the same places, so readers that fill the room at once do no harm.
//!
//! A removed key's slot stays in the run, dead but with its key readable, until the order is merged: the invariant is
//! that the keys of `sorted` always ascend.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};

use super::slot::{Arena, NONE};

#[derive(Debug, Default)]
pub(crate) struct Order {
    sorted: Vec<u32>,
    fresh: Vec<u32>,
    /// How many ids in either are dead.
    dead: usize,
    /// Slots that ordered reads went through because tail and dead were not merged. A hint: lost updates do no harm.
    debt: AtomicUsize,
    /// As long as `sorted` and `fresh` together, or longer. If `is_merged`, the live ids in order, then `NONE`.
    merged: Vec<AtomicU32>,
    is_merged: AtomicBool,
}

/// Makes room for `len` in all, growing by a quarter: twice the room would be half of it for nothing.
#[inline]
fn reserve<T>(ids: &mut Vec<T>, len: usize) {
    if len > ids.capacity() {
        ids.reserve_exact(len + len / 4 - ids.len());
    }
}

impl Clone for Order {
    fn clone(&self) -> Self {
        let (sorted, fresh) = (self.sorted.clone(), self.fresh.clone());
        let mut clone = Self { sorted, fresh, dead: self.dead, ..Self::default() };
        clone.make_room();
        clone
    }
}

impl Order {
    fn make_room(&mut self) {
        let len = self.sorted.len() + self.fresh.len();
        if self.merged.len() < len {
            reserve(&mut self.merged, len);
            self.merged.resize_with(len, AtomicU32::default);
        }
    }

    /// A key that is not in the order.
    #[inline]
    pub(crate) fn push(&mut self, id: u32) {
        *self.is_merged.get_mut() = false;
        let len = self.fresh.len();
        reserve(&mut self.fresh, len + 1);
        self.fresh.push(id);
        self.make_room();
    }

    /// One of the ids died.
    #[inline]
    pub(crate) fn bury(&mut self) {
        *self.is_merged.get_mut() = false;
        self.dead += 1;
        self.make_room();
    }

    /// Whether the next write should sort: a read has done the work, or dead slots pile up.
    #[inline]
    pub(crate) fn wants_sorting(&mut self) -> bool {
        *self.is_merged.get_mut() || self.dead > 1_024 + (self.sorted.len() + self.fresh.len()) / 2
    }

    /// Whether everything is in one sorted run of live slots.
    pub(crate) const fn is_sorted(&self) -> bool {
        self.fresh.is_empty() && self.dead == 0
    }

    /// Whether keys came since the last sort.
    pub(crate) const fn has_tail(&self) -> bool {
        !self.fresh.is_empty()
    }

    pub(crate) const fn has_dead(&self) -> bool {
        self.dead > 0
    }

    /// Merges tail and run and frees the dead slots.
    pub(crate) fn sort(&mut self, arena: &mut Arena) {
        *self.debt.get_mut() = 0;
        let was_merged = core::mem::take(self.is_merged.get_mut());
        if self.is_sorted() {
            return;
        }
        let merged = if was_merged { self.read_merged() } else { self.merge(arena) };
        if self.dead > 0 {
            for id in self.sorted.iter().chain(&self.fresh) {
                if !arena.slot(*id).is_live() {
                    arena.free(*id);
                }
            }
        }
        (self.sorted, self.dead) = (merged, 0);
        self.fresh.clear();
        self.fresh.shrink_to(self.sorted.len() / 8);
    }

    /// The live ids in order.
    fn merge(&self, arena: &Arena) -> Vec<u32> {
        let live = |id: &u32| arena.slot(*id).is_live();
        let mut fresh: Vec<u32> = self.fresh.iter().copied().filter(live).collect();
        sort_by_key(&mut fresh, arena);
        if self.sorted.is_empty() {
            fresh.shrink_to_fit();
            return fresh;
        }
        // Exact: this list is four bytes of every key's memory.
        let mut merged = Vec::with_capacity(self.sorted.len() + fresh.len());
        let mut rest = self.sorted.as_slice();
        for id in fresh {
            let (before, behind) = rest.split_at(lower_bound(rest, arena, arena.slot(id).key()));
            merged.extend(before.iter().copied().filter(live));
            merged.push(id);
            rest = behind;
        }
        merged.extend(rest.iter().copied().filter(live));
        merged
    }

    /// The ids that a read has merged.
    fn read_merged(&self) -> Vec<u32> {
        let mut merged = Vec::with_capacity(self.sorted.len() + self.fresh.len() - self.dead);
        merged.extend(self.merged.iter().map(|id| id.load(Relaxed)).take_while(|id| *id != NONE));
        merged
    }

    /// The live head with this key, if there is no tail.
    pub(crate) fn search(&self, arena: &Arena, key: &[u8]) -> Option<u32> {
        debug_assert!(self.fresh.is_empty(), "a tail exists only beside an index");
        let at = self.sorted.partition_point(|id| arena.slot(*id).key() < key);
        let id = *self.sorted.get(at)?;
        (arena.slot(id).key() == key && arena.slot(id).is_live()).then_some(id)
    }

    /// Takes the sorted run out; the order must be sorted.
    pub(crate) fn take_sorted(&mut self) -> Vec<u32> {
        debug_assert!(self.is_sorted());
        core::mem::take(&mut self.sorted)
    }

    /// Replaces the run by one of live heads in key order, after all buried slots have been freed.
    pub(crate) fn replace_sorted(&mut self, sorted: Vec<u32>) {
        *self.is_merged.get_mut() = false;
        self.dead = 0;
        self.sorted = sorted;
    }

    /// The live heads for whose keys neither `before` (the key lies before the range) nor `behind` holds, in order.
    pub(crate) fn range<'a>(
        &'a self,
        arena: &'a Arena,
        before: impl Fn(&[u8]) -> bool,
        behind: impl Fn(&[u8]) -> bool,
    ) -> Ordered<'a> {
        let len = self.sorted.len() + self.fresh.len();
        if !self.is_sorted() && !self.is_merged.load(Acquire) && self.debt.load(Relaxed) > 64 + len / 16 {
            let merged = self.merge(arena);
            let ends = core::iter::repeat(NONE);
            self.merged.iter().zip(merged.into_iter().chain(ends)).for_each(|(to, id)| to.store(id, Relaxed));
            self.is_merged.store(true, Release);
        }
        if !self.is_sorted() && self.is_merged.load(Acquire) {
            let len = len - self.dead;
            let ids = &self.merged[..len];
            let start = ids.partition_point(|id| before(arena.slot(id.load(Relaxed)).key()));
            let len = ids[start..].partition_point(|id| !behind(arena.slot(id.load(Relaxed)).key()));
            return Ordered {
                arena,
                run: Run::Merged(ids[start..start + len].iter()),
                fresh: Vec::new().into_iter(),
            };
        }
        let start = self.sorted.partition_point(|id| before(arena.slot(*id).key()));
        let len = self.sorted[start..].partition_point(|id| !behind(arena.slot(*id).key()));
        let mut fresh = Vec::new();
        if !self.fresh.is_empty() {
            fresh.extend(self.fresh.iter().copied().filter(|id| {
                let slot = arena.slot(*id);
                slot.is_live() && !before(slot.key()) && !behind(slot.key())
            }));
            sort_by_key(&mut fresh, arena);
            self.owe(self.fresh.len() + 4 * fresh.len());
        }
        let run = Run::Sorted(self.sorted[start..start + len].iter(), self);
        Ordered { arena, run, fresh: fresh.into_iter() }
    }

    fn owe(&self, cost: usize) {
        self.debt.store(self.debt.load(Relaxed).saturating_add(cost), Relaxed);
    }

    /// Heap bytes held.
    pub(crate) const fn bytes(&self) -> usize {
        (self.sorted.capacity() + self.fresh.capacity() + self.merged.capacity()) * size_of::<u32>()
    }
}

/// The first place in `run` whose key is not below `key`, searched in doubling steps: the next is mostly near.
fn lower_bound(run: &[u32], arena: &Arena, key: &[u8]) -> usize {
    let (mut low, mut step) = (0, 1);
    while low + step <= run.len() && arena.slot(run[low + step - 1]).key() < key {
        low += step;
        step *= 2;
    }
    let high = run.len().min(low + step);
    low + run[low..high].partition_point(|id| arena.slot(*id).key() < key)
}

/// Sorts ids by their slots' keys. Eight bytes of each key, after the prefix that all keys share, are compared first,
/// so that most comparisons stay out of the slots.
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
    run: Run<'a>,
    fresh: alloc::vec::IntoIter<u32>,
}

#[derive(Clone, Debug)]
enum Run<'a> {
    /// Everything, merged by a read.
    Merged(core::slice::Iter<'a, AtomicU32>),
    /// The sorted run, dead ids among it.
    Sorted(core::slice::Iter<'a, u32>, &'a Order),
}

impl Iterator for Ordered<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let (run, order) = match &mut self.run {
            Run::Merged(run) => return run.next().map(|id| id.load(Relaxed)),
            Run::Sorted(run, order) => (run, order),
        };
        loop {
            let Some(&sorted) = run.as_slice().first() else { return self.fresh.next() };
            if !self.arena.slot(sorted).is_live() {
                order.owe(1);
                run.next();
                continue;
            }
            if let Some(&fresh) = self.fresh.as_slice().first()
                && self.arena.slot(fresh).key() < self.arena.slot(sorted).key()
            {
                return self.fresh.next();
            }
            run.next();
            return Some(sorted);
        }
    }
}
