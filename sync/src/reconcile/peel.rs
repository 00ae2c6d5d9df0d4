//! Reading a difference out of cells: peeling (Goodrich and Mitzenmacher 2011; Yang et al. 2024).
//!
//! The findings are hints until the roots agree: cells come from the peer, and short ids may collide. The invariant:
//! the work is bounded by the number of cells received, whatever they hold.

use alloc::vec::Vec;

use super::mapping::Mapping;
use super::short::check;
use super::sketch::Cell;

/// A cell as it travels: 8 bytes sum, 4 bytes check, 1 byte of the count.
pub(super) const CELL_BYTES: usize = 13;

/// Appends a cell.
pub(super) fn put_cell(out: &mut Vec<u8>, cell: &Cell) {
    out.extend_from_slice(&cell.sum.to_le_bytes());
    out.extend_from_slice(&cell.check.to_le_bytes());
    out.push(cell.count.to_le_bytes()[0]);
}

/// A cell that was appended so; its count is known modulo 256.
pub(super) fn cell_of(bytes: &[u8; CELL_BYTES]) -> Cell {
    let [a, b, c, d, e, f, g, h, check @ .., count] = *bytes;
    Cell {
        sum: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        check: u32::from_le_bytes(check),
        count: i32::from(count),
    }
}

/// Someone has a short id that the other lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) short: u64,
    pub(super) theirs: bool,
}

/// The difference of two sketches, peeled as far as it goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Peeler {
    /// The peer's cells less this side's, less the findings. Only the low byte of a count means anything.
    pub(super) cells: Vec<Cell>,
    /// The counts before anything was peeled, from which an estimate is made.
    pub(super) counts: Vec<i8>,
    pub(super) found: Vec<Found>,
}

impl Peeler {
    /// Takes in the next cells of both sides and peels on. `has` tells whether this side holds the short id. Returns
    /// whether everything was found, and adds the cells and items visited to `work`.
    pub(super) fn extend(
        &mut self,
        theirs: impl ExactSizeIterator<Item = Cell>,
        ours: &[Cell],
        has: impl Fn(u64) -> bool,
        work: &mut u64,
    ) -> bool {
        let start = self.cells.len();
        *work = work.saturating_add(theirs.len() as u64);
        for (theirs, ours) in theirs.zip(ours) {
            let count = low_byte(theirs.count.wrapping_sub(ours.count));
            self.counts.push(count);
            self.cells.push(Cell {
                sum: theirs.sum ^ ours.sum,
                check: theirs.check ^ ours.check,
                count: i32::from(count),
            });
        }
        // Items that were found before are in the new cells too.
        for Found { short, theirs } in self.found.iter().copied() {
            let check = check(short);
            let count = if theirs { -1 } else { 1 };
            for at in Mapping::new(short).skip_while(|&at| (at as usize) < start) {
                let Some(cell) = self.cells.get_mut(at as usize) else { break };
                cell.add(short, check, count);
                *work = work.saturating_add(1);
            }
        }
        self.peel(start, has, work)
    }

    fn peel(&mut self, start: usize, has: impl Fn(u64) -> bool, work: &mut u64) -> bool {
        let mut queue: Vec<usize> = (start..self.cells.len()).rev().collect();
        while let Some(at) = queue.pop() {
            let Some(cell) = self.cells.get(at).copied() else { continue };
            let theirs = match low_byte(cell.count) {
                1 => true,
                -1 => false,
                _ => continue,
            };
            let short = cell.sum;
            // The check, and knowing which items are held here, leave one chance in 2^32 for a sum of several. An id
            // that is said to be held here and is not, or the reverse, is a lie or a collision: leaving it in stalls
            // the peeling, and ranges take over.
            if check(short) != cell.check || has(short) == theirs {
                continue;
            }
            // No honest difference holds more items than cells that decode; lies would go on for ever.
            if self.found.len() >= self.cells.len() {
                return false;
            }
            if !self.take_out(short, theirs, at, &mut queue, work) {
                continue;
            }
            self.found.push(Found { short, theirs });
        }
        self.is_complete()
    }

    /// Takes an item out of its cells, and returns whether `at` was one of them. If it was not, nothing changed.
    fn take_out(
        &mut self,
        short: u64,
        theirs: bool,
        at: usize,
        queue: &mut Vec<usize>,
        work: &mut u64,
    ) -> bool {
        let check = check(short);
        let count = if theirs { -1 } else { 1 };
        let mut hit = false;
        let queued = queue.len();
        for index in Mapping::new(short) {
            let index = index as usize;
            let Some(cell) = self.cells.get_mut(index) else { break };
            cell.add(short, check, count);
            hit |= index == at;
            *work = work.saturating_add(1);
            if matches!(low_byte(cell.count), 1 | -1) {
                queue.push(index);
            }
        }
        if !hit {
            // The sum of several items that looked like one.
            queue.truncate(queued);
            for index in Mapping::new(short) {
                let Some(cell) = self.cells.get_mut(index as usize) else { break };
                cell.add(short, check, -count);
            }
        }
        hit
    }

    /// Whether all cells are empty. Every item is in cell 0, so it is looked at first.
    fn is_complete(&mut self) -> bool {
        let empty = |cell: &Cell| cell.sum == 0 && cell.check == 0 && low_byte(cell.count) == 0;
        if !self.cells.first().is_some_and(empty) || !self.cells.iter().all(empty) {
            return false;
        }
        // An item that was found twice cancels itself in the cells: only a liar makes such.
        self.found.sort_unstable();
        self.found.windows(2).all(|pair| !matches!(pair, [a, b] if a.short == b.short))
    }
}

/// A count modulo 256, with a sign.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low byte is meant")]
const fn low_byte(count: i32) -> i8 {
    count as i8
}

#[cfg(test)]
mod tests {
    use super::super::short::mix;
    use super::super::sketch::Sketch;
    use super::*;

    /// The cells of a set of short ids.
    fn cells(shorts: impl Iterator<Item = u64>, len: usize) -> Vec<Cell> {
        let mut sketch = Sketch::new();
        sketch.fit(70_000, core::iter::empty());
        shorts.for_each(|short| sketch.change(short, 1));
        sketch.cells().iter().take(len).copied().collect()
    }

    #[test]
    fn differences_are_found_whole_or_in_pieces() {
        for (ours, theirs) in [(0, 1), (1, 0), (5, 5), (0, 300), (200, 150), (2_000, 1_000)] {
            let own = (0..1_000).chain(1 << 20..(1 << 20) + ours).map(mix);
            let other = (0..1_000).chain(1 << 30..(1 << 30) + theirs).map(mix);
            let len = 3 * usize::try_from(ours + theirs).unwrap() + 40;
            let (own_cells, their_cells) = (cells(own.clone(), len), cells(other, len));
            for piece in [1, 7, len] {
                let mut peeler = Peeler::default();
                let mut work = 0;
                let mut complete = false;
                while !complete && peeler.cells.len() < len {
                    let start = peeler.cells.len();
                    let end = (start + piece).min(len);
                    let has = |short| own.clone().any(|own| own == short);
                    let theirs = their_cells.get(start..end).unwrap().iter().copied();
                    complete = peeler.extend(theirs, own_cells.get(start..).unwrap(), has, &mut work);
                }
                assert!(complete);
                let found = |theirs: bool| peeler.found.iter().filter(|found| found.theirs == theirs).count();
                assert_eq!((found(false) as u64, found(true) as u64), (ours, theirs));
            }
        }
    }

    #[test]
    fn an_item_that_is_found_twice_is_no_difference() {
        // Cells that hold one item twice from the peer and once from this side, in whatever way it comes about.
        let mut peeler = Peeler::default();
        let short = mix(9);
        peeler.found = [true, true].map(|theirs| Found { short, theirs }).into();
        peeler.cells = alloc::vec![Cell::default(); 30];
        assert!(!peeler.is_complete());
        peeler.found.pop();
        assert!(peeler.is_complete());
    }
}
