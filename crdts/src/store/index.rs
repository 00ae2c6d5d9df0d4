//! An open-addressing index from 32 hash bits to slot ids: linear probing, deletion by shifting back.
//!
//! An element of the table is `hash bits ‖ id + 1`, zero for empty, so growing needs no keys. As long as ids and table are
//! small, an element has 16 bits of each, and else 32: most collections stay small, and this is a large part of their
//! memory. Only the caller knows the key or dot for which a hash stands: it compares the slot. The invariant: between an
//! element's home and its place no element is empty.

use alloc::vec::Vec;

/// One element of a table: half hash bits, half id plus one.
trait Element: Copy + Eq + Default {
    fn pack(hash: u32, id: u32) -> Self;
    /// The id of an element that is not empty.
    fn id(self) -> u32;
    /// The hash bits of which the home is made.
    fn home(self) -> usize;
    fn has_hash(self, hash: u32) -> bool;
}

impl Element for u32 {
    #[inline]
    fn pack(hash: u32, id: u32) -> Self {
        hash << 16 | (id + 1) & 0xffff
    }

    #[inline]
    fn id(self) -> u32 {
        (self & 0xffff).wrapping_sub(1)
    }

    #[inline]
    fn home(self) -> usize {
        (self >> 16) as usize
    }

    #[inline]
    fn has_hash(self, hash: u32) -> bool {
        self >> 16 == hash & 0xffff
    }
}

impl Element for u64 {
    #[inline]
    fn pack(hash: u32, id: u32) -> Self {
        Self::from(hash) << 32 | (Self::from(id) + 1)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the id plus one")]
    fn id(self) -> u32 {
        (self as u32).wrapping_sub(1)
    }

    #[inline]
    fn home(self) -> usize {
        (self >> 32) as usize
    }

    #[inline]
    fn has_hash(self, hash: u32) -> bool {
        self >> 32 == Self::from(hash)
    }
}

/// Ids from here on, and tables longer than this, need wide elements.
const NARROW_MAX: usize = 0xffff;

/// Empty, or a power of two long.
#[derive(Clone, Debug)]
enum Table {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

#[derive(Clone, Debug)]
pub(crate) struct Index {
    table: Table,
    len: usize,
    built: bool,
}

impl Default for Index {
    fn default() -> Self {
        Self { table: Table::Narrow(Vec::new()), len: 0, built: false }
    }
}

fn capacity_for(ids: usize) -> usize {
    (ids * 16).div_ceil(13).max(8).next_power_of_two()
}

#[inline]
fn find<E: Element>(table: &[E], hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
    let mask = table.len().checked_sub(1)?;
    let mut at = hash as usize & mask;
    loop {
        let element = *table.get(at)?;
        if element == E::default() {
            return None;
        }
        if element.has_hash(hash) && is(element.id()) {
            return Some(element.id());
        }
        at = (at + 1) & mask;
    }
}

#[inline]
fn put<E: Element>(table: &mut [E], element: E) {
    let mask = table.len() - 1;
    let mut at = element.home() & mask;
    while table[at] != E::default() {
        at = (at + 1) & mask;
    }
    table[at] = element;
}

/// Whether it was there.
#[inline]
fn remove<E: Element>(table: &mut [E], element: E) -> bool {
    let mask = table.len() - 1;
    let mut hole = element.home() & mask;
    while table[hole] != element {
        debug_assert!(table[hole] != E::default(), "only an inserted id is removed");
        if table[hole] == E::default() {
            return false;
        }
        hole = (hole + 1) & mask;
    }
    // Close the hole: every element of the run that may sit further up moves there.
    let mut at = hole;
    loop {
        at = (at + 1) & mask;
        let next = table[at];
        if next == E::default() {
            break;
        }
        let home = next.home() & mask;
        if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
            table[hole] = next;
            hole = at;
        }
    }
    table[hole] = E::default();
    true
}

#[cold]
fn grow<E: Element>(table: &mut Vec<E>, needed: usize) {
    let old = core::mem::replace(table, alloc::vec![E::default(); capacity_for(needed)]);
    old.into_iter().filter(|element| *element != E::default()).for_each(|element| put(table, element));
}

impl Index {
    /// Whether the index is kept at all; it is made when it is first needed.
    #[inline]
    pub(crate) const fn is_built(&self) -> bool {
        self.built
    }

    /// Starts keeping the index anew, with room for `len` ids, none of which is above `last`.
    pub(crate) fn build(&mut self, len: usize, last: u32) {
        let is_wide = capacity_for(len) > NARROW_MAX || last as usize >= NARROW_MAX;
        let table = if is_wide { Table::Wide(Vec::new()) } else { Table::Narrow(Vec::new()) };
        *self = Self { table, len: 0, built: true };
        self.reserve(len);
    }

    /// Whether one more id, this one, needs wider elements: then the index has to be [built](Self::build) anew.
    #[inline]
    pub(crate) fn is_too_narrow_for(&self, id: u32) -> bool {
        match &self.table {
            Table::Wide(_) => false,
            Table::Narrow(table) => {
                id as usize >= NARROW_MAX
                    || (self.len + 1) * 16 > table.len() * 13 && capacity_for(self.len + 1) > NARROW_MAX
            }
        }
    }

    /// The first id with these hash bits for which `is` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u32, is: impl FnMut(u32) -> bool) -> Option<u32> {
        match &self.table {
            Table::Narrow(table) => find(table, hash, is),
            Table::Wide(table) => find(table, hash, is),
        }
    }

    /// The first id with these hash bits, without looking at its slot: a guess that is nearly always right, for batches
    /// that load the index first and the slots later.
    #[inline]
    pub(crate) fn guess(&self, hash: u32) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// Adds an id that is not there yet, and for which the index is not too narrow.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u32, id: u32) {
        debug_assert!(!self.is_too_narrow_for(id), "an id that fits");
        self.reserve(1);
        match &mut self.table {
            Table::Narrow(table) => put(table, u32::pack(hash, id)),
            Table::Wide(table) => put(table, u64::pack(hash, id)),
        }
        self.len += 1;
    }

    /// Removes the id, which is there.
    #[inline]
    pub(crate) fn remove(&mut self, hash: u32, id: u32) {
        let was_there = match &mut self.table {
            Table::Narrow(table) => remove(table, u32::pack(hash, id)),
            Table::Wide(table) => remove(table, u64::pack(hash, id)),
        };
        self.len -= usize::from(was_there);
    }

    /// Makes room for `more` ids at a load of at most 13/16.
    #[inline]
    fn reserve(&mut self, more: usize) {
        let needed = self.len + more;
        match &mut self.table {
            Table::Narrow(table) if needed * 16 > table.len() * 13 => grow(table, needed),
            Table::Wide(table) if needed * 16 > table.len() * 13 => grow(table, needed),
            _ => {}
        }
    }

    /// Heap bytes held.
    pub(crate) const fn bytes(&self) -> usize {
        match &self.table {
            Table::Narrow(table) => table.capacity() * size_of::<u32>(),
            Table::Wide(table) => table.capacity() * size_of::<u64>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    #[test]
    fn the_index_equals_a_map_under_colliding_hashes() {
        // Narrow, and wide from the beginning.
        for (colliding, last) in [(1_u64, 0), (7, 0), (1 << 32, 0), (7, 1 << 20), (1 << 32, 1 << 20)] {
            let mut index = Index::default();
            index.build(0, last);
            assert_eq!(matches!(index.table, Table::Wide(_)), last > 0);
            let mut model = BTreeMap::new();
            let mut state = 1_u64;
            for id in 0..3_000_u32 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let hash = u32::try_from((state >> 32) % colliding).unwrap();
                index.insert(hash, id);
                model.insert(id, hash);
                if state % 5 < 2 {
                    let (&old, &hash) =
                        model.range(u32::try_from(state % u64::from(id + 1)).unwrap()..).next().unwrap();
                    index.remove(hash, old);
                    model.remove(&old);
                    assert_eq!(index.find(hash, |found| found == old), None);
                }
            }
            assert_eq!(index.len, model.len());
            for (id, hash) in model {
                assert_eq!(index.find(hash, |found| found == id), Some(id));
            }
        }
    }

    /// Up to the last id and the last element that 16 bits hold, and one further.
    #[test]
    fn an_index_says_when_it_is_too_narrow() {
        let mut index = Index::default();
        index.build(0, 0);
        assert!(!index.is_too_narrow_for(0xfffe) && index.is_too_narrow_for(0xffff));
        index.insert(5, 0xfffe);
        assert_eq!(index.find(5, |_| true), Some(0xfffe));
        let mut ids = 0_u32;
        while !index.is_too_narrow_for(ids) {
            index.insert(ids.wrapping_mul(0x9e37_79b9), ids);
            ids += 1;
        }
        // A table of 32,768, full.
        assert_eq!(index.len, 32_768 * 13 / 16);
        assert!((0..ids).all(|id| index.find(id.wrapping_mul(0x9e37_79b9), |found| found == id) == Some(id)));
        index.build(index.len + 1, ids);
        assert!(matches!(index.table, Table::Wide(_)) && !index.is_too_narrow_for(u32::MAX - 2));
    }
}
