//! From a short id to the items that have it: open addressing over `(tag, handle)`, eight bytes a place.
//!
//! Short ids are computed from the arena when they are needed and not stored again. The invariant: an item is found
//! by walking from its home place to the first empty one.

use alloc::vec;
use alloc::vec::Vec;

/// The fewest places of a table that is not empty; a power of two.
const PLACES_MIN: usize = 16;

#[derive(Clone, Debug)]
pub(super) struct ShortIndex {
    /// `tag << 32 | handle + 1`; zero is empty. The tag is the low half of the short id.
    places: Vec<u64>,
    len: usize,
    /// Odd. Spreads short ids in a way that only this process knows (multiply-shift, Dietzfelbinger et al. 1997), so
    /// that a peer cannot choose items that crowd one place.
    multiplier: u64,
}

impl ShortIndex {
    pub(super) const fn new(seed: u64) -> Self {
        Self { places: Vec::new(), len: 0, multiplier: seed | 1 }
    }

    #[inline]
    fn home(&self, short: u64) -> usize {
        let bits = self.places.len().trailing_zeros();
        // At least sixteen places, so the shift is below 64; the result is below their number.
        usize::try_from(short.wrapping_mul(self.multiplier) >> (64 - bits)).unwrap_or(0)
    }

    #[inline]
    const fn place(short: u64, handle: u32) -> u64 {
        (short << 32) | (handle as u64 + 1)
    }

    /// The handles whose tag is that of `short`. The caller compares the rest.
    #[inline]
    pub(super) fn candidates(&self, short: u64) -> impl Iterator<Item = u32> + '_ {
        let mask = self.places.len().wrapping_sub(1);
        let mut at = if self.places.is_empty() { 0 } else { self.home(short) };
        core::iter::from_fn(move || {
            loop {
                let place = *self.places.get(at)?;
                if place == 0 {
                    return None;
                }
                at = (at + 1) & mask;
                if place >> 32 == short & 0xffff_ffff {
                    return Some(handle_of(place));
                }
            }
        })
    }

    /// `short_of` gives the short id of a handle that is in the table.
    pub(super) fn insert(&mut self, short: u64, handle: u32, short_of: impl Fn(u32) -> u64) {
        // Seven eighths: linear probing stays short and the table small.
        if (self.len + 1) * 8 > self.places.len() * 7 {
            self.grow(short_of);
        }
        self.put(short, handle);
        self.len += 1;
    }

    fn put(&mut self, short: u64, handle: u32) {
        let mask = self.places.len() - 1;
        let mut at = self.home(short);
        while self.places[at] != 0 {
            at = (at + 1) & mask;
        }
        self.places[at] = Self::place(short, handle);
    }

    fn grow(&mut self, short_of: impl Fn(u32) -> u64) {
        let places = (self.places.len() * 2).max(PLACES_MIN);
        let old = core::mem::replace(&mut self.places, vec![0; places]);
        for place in old.into_iter().filter(|&place| place != 0) {
            let handle = handle_of(place);
            self.put(short_of(handle), handle);
        }
    }

    /// Removes an item that is in the table, closing the gap after it.
    pub(super) fn remove(&mut self, short: u64, handle: u32, short_of: impl Fn(u32) -> u64) {
        let mask = self.places.len().wrapping_sub(1);
        let wanted = Self::place(short, handle);
        let mut gap = self.home(short);
        while self.places[gap] != wanted {
            if self.places[gap] == 0 {
                return;
            }
            gap = (gap + 1) & mask;
        }
        self.len -= 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let place = self.places[at];
            if place == 0 {
                break;
            }
            let home = self.home(short_of(handle_of(place)));
            // It may move into the gap unless its home lies after the gap.
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                self.places[gap] = place;
                gap = at;
            }
        }
        self.places[gap] = 0;
    }
}

/// The handle of a place that is not empty.
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn handle_of(place: u64) -> u32 {
    (place as u32).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_found_until_it_is_removed() {
        // Short ids that crowd a few places, some of them equal.
        let shorts: Vec<u64> = (0..500_u64).map(|n| (n % 40) << 58 | (n % 7)).collect();
        let short_of = |handle: u32| shorts[handle as usize];
        let mut index = ShortIndex::new(12_345);
        let mut live = vec![false; shorts.len()];
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(state >> 33).unwrap() % shorts.len();
            let handle = u32::try_from(at).unwrap();
            if live[at] {
                index.remove(shorts[at], handle, short_of);
            } else {
                index.insert(shorts[at], handle, short_of);
            }
            live[at] = !live[at];
            let found: Vec<u32> =
                index.candidates(shorts[at]).filter(|&h| short_of(h) == shorts[at]).collect();
            let expected = (0..).zip(&live).filter(|(h, live)| **live && short_of(*h) == shorts[at]);
            let mut found_sorted = found.clone();
            found_sorted.sort_unstable();
            assert_eq!(found_sorted, expected.map(|(h, _)| h).collect::<Vec<u32>>());
        }
        assert_eq!(index.len, live.iter().filter(|live| **live).count());
    }
}
