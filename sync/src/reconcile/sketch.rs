//! Cells, and the first cells of a set kept up to date (the encoder of Yang et al. 2024, with its coded symbols
//! stored instead of made on demand).
//!
//! Reading a difference out of cells is in `peel`. The invariant: cell `i` of the cache is the sum over the items of
//! the set whose mapping has `i`.

use alloc::vec;
use alloc::vec::Vec;

use super::mapping::Mapping;
use super::short::check;

/// The XOR of the short ids and checks of some items, and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) sum: u64,
    pub(super) check: u32,
    /// Wraps. Only differences of counts are ever read, and of these the low bits.
    pub(super) count: i32,
}

impl Cell {
    #[inline]
    pub(super) const fn add(&mut self, short: u64, check: u32, count: i32) {
        self.sum ^= short;
        self.check ^= check;
        self.count = self.count.wrapping_add(count);
    }
}

/// Cells kept for a set of up to so many items: at most one for two items beyond the smallest sets, so that they cost
/// at most 8 bytes an item, and one byte at a million. Each step visits all items once.
const STEPS: [(usize, usize); 4] = [(4_096, 256), (65_536, 2_048), (524_288, 16_384), (usize::MAX, 65_536)];

#[derive(Clone, Debug)]
pub(super) struct Sketch {
    cells: Vec<Cell>,
    /// The set outgrows the cells above this many items.
    len_max: usize,
}

impl Sketch {
    pub(super) fn new() -> Self {
        Self { cells: vec![Cell::default(); STEPS[0].1], len_max: STEPS[0].0 }
    }

    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// Adds an item, or takes one out with a `count` of -1.
    #[inline]
    pub(super) fn change(&mut self, short: u64, count: i32) {
        let check = check(short);
        for at in Mapping::new(short) {
            let Some(cell) = self.cells.get_mut(at as usize) else { break };
            cell.add(short, check, count);
        }
    }

    /// Gives a set of this size its cells. It keeps them when it shrinks again.
    pub(super) fn fit(&mut self, len: usize, shorts: impl Iterator<Item = u64>) {
        if len <= self.len_max {
            return;
        }
        let step = STEPS.iter().find(|(len_max, _)| len <= *len_max);
        let Some(&(len_max, cells)) = step else { return };
        *self = Self { cells: vec![Cell::default(); cells], len_max };
        for short in shorts {
            self.change(short, 1);
        }
    }
}
