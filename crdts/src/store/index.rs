//! An open-addressing index from 32 hash bits to slot ids: linear probing, deletion by shifting back.
//!
//! An element of the table is `hash bits ‖ id + 1` in a `u64`, zero for empty, so growing needs no keys. Only the
//! caller knows the key or dot for which a hash stands: it compares the slot. The invariant: between an element's home
//! and its place no element is empty.

use alloc::vec::Vec;

#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Empty, or a power of two long.
    table: Vec<u64>,
    len: usize,
    built: bool,
}

impl Index {
    /// Whether the index is kept at all; it is made when it is first needed.
    #[inline]
    pub(crate) const fn is_built(&self) -> bool {
        self.built
    }

    /// Starts keeping the index, with room for `len` ids.
    pub(crate) fn build(&mut self, len: usize) {
        self.built = true;
        self.reserve(len);
    }

    #[inline]
    const fn pack(hash: u32, id: u32) -> u64 {
        ((hash as u64) << 32) | (id as u64 + 1)
    }

    /// The id of an element that is not empty.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the id plus one")]
    const fn id(entry: u64) -> u32 {
        (entry as u32).wrapping_sub(1)
    }

    /// The first id with these hash bits for which `is` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.table.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        loop {
            let entry = *self.table.get(at)?;
            if entry == 0 {
                return None;
            }
            if (entry >> 32) as usize == hash as usize && is(Self::id(entry)) {
                return Some(Self::id(entry));
            }
            at = (at + 1) & mask;
        }
    }

    /// The first id with these hash bits, without looking at its slot: a guess that is nearly always right, for batches
    /// that load the index first and the slots later.
    #[inline]
    pub(crate) fn guess(&self, hash: u32) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// Adds an id that is not there yet.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u32, id: u32) {
        self.reserve(1);
        self.put(Self::pack(hash, id));
        self.len += 1;
    }

    #[inline]
    fn put(&mut self, entry: u64) {
        let mask = self.table.len() - 1;
        let mut at = (entry >> 32) as usize & mask;
        while self.table[at] != 0 {
            at = (at + 1) & mask;
        }
        self.table[at] = entry;
    }

    /// Removes the id, which is there.
    #[inline]
    pub(crate) fn remove(&mut self, hash: u32, id: u32) {
        let entry = Self::pack(hash, id);
        let mask = self.table.len() - 1;
        let mut hole = hash as usize & mask;
        while self.table[hole] != entry {
            debug_assert_ne!(self.table[hole], 0, "only an inserted id is removed");
            if self.table[hole] == 0 {
                return;
            }
            hole = (hole + 1) & mask;
        }
        self.len -= 1;
        // Close the hole: every element of the run that may sit further up moves there.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let next = self.table[at];
            if next == 0 {
                break;
            }
            let home = (next >> 32) as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.table[hole] = next;
                hole = at;
            }
        }
        self.table[hole] = 0;
    }

    /// Makes room for `more` ids at a load of at most 13/16.
    #[inline]
    pub(crate) fn reserve(&mut self, more: usize) {
        let needed = self.len + more;
        if needed * 16 > self.table.len() * 13 {
            self.grow(needed);
        }
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        let capacity = (needed * 16).div_ceil(13).max(8).next_power_of_two();
        let old = core::mem::replace(&mut self.table, alloc::vec![0; capacity]);
        for entry in old.into_iter().filter(|entry| *entry != 0) {
            self.put(entry);
        }
    }

    /// Heap bytes held.
    pub(crate) const fn bytes(&self) -> usize {
        self.table.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    #[test]
    fn the_index_equals_a_map_under_colliding_hashes() {
        for colliding in [1_u64, 7, 1 << 32] {
            let mut index = Index::default();
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
}
