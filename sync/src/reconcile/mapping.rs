//! Which cells of a sketch an item is in: the mapping of rateless invertible Bloom lookup tables (Yang, Gilad and
//! Alizadeh 2024), in integers only.
//!
//! Cell 0 holds every item, and cell `i` each item with probability `2 / (i + 2)`. Given that an item is in cell `i`,
//! the chance that its next cell is beyond `j` is `(i+1)(i+2) / ((j+1)(j+2))`; the next cell is found by inverting
//! that with one integer division and one integer square root, so that every machine finds the same one.
//!
//! The paper's irregular variant (a mixture of several densities) needs 1.13 instead of 1.36 cells for a difference
//! at ten thousand, but at a hundred its worst draws in a hundred need 2.8 instead of 1.75, and its inverse needs
//! roots that are not square. The regular one is used.

use super::short::mix;

/// Cells are numbered below this. It keeps the arithmetic within 64 bits.
pub(super) const CELLS_MAX: u32 = 1 << 19;

/// The indices of the cells of one item, ascending, from 0 to below [`CELLS_MAX`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    state: u64,
    next: u32,
}

impl Mapping {
    #[inline]
    pub(super) const fn new(short: u64) -> Self {
        Self { state: short, next: 0 }
    }
}

impl Iterator for Mapping {
    type Item = u32;

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "an index is below 2^32 as the comment shows")]
    fn next(&mut self) -> Option<u32> {
        let this = self.next;
        if this >= CELLS_MAX {
            return None;
        }
        // A Weyl sequence through the bijection: one independent draw for each step.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // 24 bits, from 1 to 2^24 - 1, so the bound below is above (i+1)(i+2) and the index rises.
        let draw = (mix(self.state) >> 40).max(1);
        let at = this as u64;
        // (i+1)(i+2) is at most 2^38 and a little: the shift stays within 64 bits.
        let bound = (((at + 1) * (at + 2)) << 24).div_ceil(draw);
        // The smallest m with m (m + 1) >= bound; the next index is m - 1. The root of a u64 is below 2^32.
        let root = bound.isqrt();
        let m = if root * (root + 1) >= bound { root } else { root + 1 };
        self.next = (m - 1).min(CELLS_MAX as u64) as u32;
        Some(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_rise_and_are_as_dense_as_promised() {
        const ITEMS: u64 = 40_000;
        let mut hits = [0_u64; 200];
        for item in 0..ITEMS {
            let mut last = None;
            for cell in Mapping::new(mix(item)) {
                assert!(last.is_none_or(|last| cell > last) && cell < CELLS_MAX);
                last = Some(cell);
                if let Some(hits) = hits.get_mut(cell as usize) {
                    *hits += 1;
                }
            }
        }
        for (at, &hits) in hits.iter().enumerate() {
            // Within six standard deviations of the binomial.
            let expected = ITEMS * 2 / (at as u64 + 2);
            let spread = 6 * expected.isqrt() + 1;
            assert!(hits.abs_diff(expected) <= spread, "cell {at}: {hits}, expected {expected}");
        }
    }

    #[test]
    fn the_next_cell_is_the_smallest_that_the_draw_allows() {
        for short in 0..2_000 {
            let mut mapping = Mapping::new(short);
            while let Some(at) = mapping.next() {
                let draw = u128::from((mix(mapping.state) >> 40).max(1));
                let next = u128::from(mapping.next);
                let bound = (u128::from(at) + 1) * (u128::from(at) + 2) << 24;
                // Beyond the limit the exact place does not matter.
                if mapping.next < CELLS_MAX {
                    assert!((next + 1) * (next + 2) * draw >= bound);
                    assert!(next * (next + 1) * draw < bound);
                }
            }
        }
    }
}
