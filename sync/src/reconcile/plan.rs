//! The numbers chosen by measurement: how many cells to open with and to send, and how ranges are split.
//! `docs/decisions/reconciliation.md` has the reasons, `docs/BENCHMARKS.md` the measurements.

/// Cells of an opening: differences of up to about a dozen are decoded from these.
pub(super) const OPENING_CELLS: usize = 24;
/// After them only the counts, a byte each, up to this cell: they sharpen the estimate from 29 % to 12 %.
pub(super) const OPENING_COUNTS: usize = 136;

/// Ranges of up to this many own items are listed.
pub(super) const LIST_MAX: usize = 8;
/// Children of a range that is split.
pub(super) const BRANCH: usize = 16;
/// The least items in a child.
pub(super) const CHILD_MIN: usize = 4;
/// Children of the whole scope at most, when a guess says that nearly all will differ anyway.
pub(super) const BRANCH_FIRST_MAX: usize = 4_096;

/// Cells that decode about nine in ten differences of this size, in 1/64 of a cell a difference.
const CELLS_FOR: [(u64, u64); 8] =
    [(10, 220), (20, 175), (50, 142), (100, 126), (200, 112), (500, 101), (2_000, 93), (u64::MAX, 90)];

/// The most cells to begin with where the estimate says that all of them may not do. So many make a better one.
const TRIAL_CELLS: usize = 4_096;

/// How many cells to send for a difference that was guessed from an opening; `None` where cells do not reach.
pub(super) fn first_cells(guess: Option<u64>, available: usize) -> Option<usize> {
    let guess = guess?;
    if let Some(cells) = cells_for(guess, available) {
        return Some(cells);
    }
    // The guess is off by an eighth, often. Where it is not far beyond the reach of the cells, some cells decide: they
    // cost 50 kB, and ranges for so many differences cost megabytes.
    let reach = reached_by(available);
    (guess <= reach.saturating_add(reach / 2)).then(|| available.min(TRIAL_CELLS))
}

/// The largest difference that so many cells decode: large differences need 1.35 cells each.
fn reached_by(cells: usize) -> u64 {
    (cells as u64).saturating_mul(64) / 86
}

fn cells_for(differences: u64, available: usize) -> Option<usize> {
    if differences > reached_by(available) {
        return None;
    }
    let rate = CELLS_FOR.iter().find(|(most, _)| differences <= *most).map_or(90, |(_, rate)| *rate);
    let cells = usize::try_from(differences.saturating_mul(rate).div_ceil(64)).ok()?.max(OPENING_CELLS);
    Some(cells.min(available))
}

/// How many cells to ask for when `have` did not do.
pub(super) fn more_cells(guess: Option<u64>, have: usize, available: usize) -> Option<usize> {
    // A tenth and some more at least: the number of rounds is bounded whatever the counts say.
    let least = have.saturating_add((have / 10).max(64)).min(available);
    let cells = cells_for(guess?, available)?.max(least);
    (cells > have).then_some(cells)
}
