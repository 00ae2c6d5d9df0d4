//! Which cells of a sketch an item is in: the mapping of rateless invertible Bloom lookup tables (Yang, Gilad and
//! Alizadeh 2024), in integers only.
//!
//! Cell 0 holds every item, and cell `i` each item with probability `2 / (i + 2)`. Given that an item is in cell `i`,
//! the chance that its next cell is beyond `j` is `(i+1)(i+2) / ((j+1)(j+2))`, so the next cell follows from a uniform
//! draw `u` as the smallest `j` with `(j+1)(j+2) >= (i+1)(i+2) / u`. From cell 0 that is solved exactly; further on
//! as `j + 3/2 >= (i + 3/2) / sqrt(u)`, which is the same to a few parts in a thousand, with the root from a table.
//! All in integers, so that every machine finds the same cells. The exact form everywhere was measured at a third more
//! instructions, with a 64-bit division and a square root in every step.
//!
//! The paper's irregular variant (a mixture of several densities) needs 1.13 instead of 1.36 cells for a difference
//! at ten thousand, but at a hundred its worst draws in a hundred need 2.8 instead of 1.75, and its inverse needs
//! roots that are not square. The regular one is used.

use super::short::mix;

/// Cells are numbered below this.
pub(super) const CELLS_MAX: u32 = 1 << 19;

/// `2^30 / sqrt(m / 1024)` for `m` from 256 to 1,024, rounded down: between 2^30 and 2^31.
const ROOTS: [u32; 769] = {
    let mut roots = [0; 769];
    let mut at = 0_u32;
    while at < 769 {
        // The square root of 2^70 / m.
        let square = (1_u128 << 70) / (at as u128 + 256);
        roots[at as usize] = root(square);
        at += 1;
    }
    roots
};

/// The square root of a number below 2^64, rounded down.
#[expect(clippy::cast_possible_truncation, reason = "the root of 2^62 is 2^31")]
const fn root(square: u128) -> u32 {
    (square as u64).isqrt() as u32
}

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
    fn next(&mut self) -> Option<u32> {
        let this = self.next;
        if this >= CELLS_MAX {
            return None;
        }
        // A Weyl sequence through the bijection: one independent draw for each step.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let draw = mix(self.state);
        self.next = if this == 0 { first(draw) } else { further(this, draw) };
        Some(this)
    }
}

/// The cell after cell 0: the smallest `j` with `(j+1)(j+2) >= 2 / u`, `u` being the draw's upper 32 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the root of 2^33 is below 2^17")]
fn first(draw: u64) -> u32 {
    let draw = (draw >> 32).max(1);
    let bound = (1_u64 << 33).div_ceil(draw);
    let root = bound.isqrt() as u32;
    // The smallest m with m (m + 1) >= bound is j + 1. From u near 1 that would be cell 0 again.
    let m = if u64::from(root) * u64::from(root + 1) >= bound { root } else { root + 1 };
    (m - 1).max(1)
}

/// The cell after cell `this`, which is not 0.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "each value is bounded as its comment says")]
fn further(this: u32, draw: u64) -> u32 {
    // u = m / 4^k with m in [1/4, 1), so that 1 / sqrt(u) = 2^k / sqrt(m). A draw of 0 counts as 1.
    let draw = ((draw >> 32) as u32).max(1);
    let zeros = draw.leading_zeros() & !1;
    let m = draw << zeros;
    // The table has steps of 1/1024; between them the root is interpolated.
    let at = (m >> 22) as usize - 256;
    let part = u64::from(m & 0x003f_ffff);
    let (high, low) = (u64::from(ROOTS[at]), u64::from(ROOTS[at + 1]));
    let inverse = high - (((high - low) * part) >> 22);
    // In halves: 2j + 3 = (2i + 3) / sqrt(u). Below 2^21 times 2^31, shifted by 15 to 30.
    let halves = (u64::from(2 * this + 3) * inverse) >> (30 - zeros / 2);
    // The smallest j with 2j + 3 above that many halves.
    let next = (halves.saturating_sub(1) / 2).min(u64::from(CELLS_MAX)) as u32;
    next.max(this + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

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
    fn the_next_cell_is_the_one_that_real_numbers_give() {
        for short in 0..3_000_u64 {
            let cells: Vec<u32> = Mapping::new(mix(short)).collect();
            let mut state = mix(short);
            for pair in cells.windows(2) {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let u = (mix(state) >> 32) as f64 / 4_294_967_296.0;
                let at = f64::from(pair[0]);
                let next =
                    if pair[0] == 0 { (2.0 / u + 0.25).sqrt() - 1.5 } else { (at + 1.5) / u.sqrt() - 1.5 };
                // Within one cell, and a millionth for the interpolation.
                let off = (f64::from(pair[1]) - next.ceil()).abs();
                assert!(off <= 1.0 + next * 2e-6, "{} after {}, not {next}", pair[1], pair[0]);
            }
        }
    }

    #[test]
    fn these_cells_are_part_of_the_wire() {
        let cells = |short: u64| Mapping::new(short).take_while(|&cell| cell < 10_000).collect::<Vec<u32>>();
        let zero =
            [0, 1, 3, 27, 28, 89, 157, 379, 432, 874, 896, 1424, 1633, 2257, 3030, 3601, 5002, 7155, 8182];
        assert_eq!(cells(0), zero);
        let one =
            [0, 1, 2, 3, 6, 10, 12, 13, 19, 37, 42, 67, 87, 130, 180, 274, 673, 839, 930, 1127, 1199, 4673];
        assert_eq!(cells(1), one);
        let ascending = [0, 4, 5, 14, 18, 278, 981, 1155, 1579, 1600, 4129, 4607, 7146, 9571];
        assert_eq!(cells(0x0123_4567_89ab_cdef), ascending);
        assert_eq!(cells(u64::MAX), [0, 1, 2, 6, 10, 13, 15, 16, 34, 39, 366, 3057, 3405]);
    }
}
