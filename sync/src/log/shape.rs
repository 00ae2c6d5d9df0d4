//! The shape of the tree over a log: RFC 6962 §2.1 (and RFC 9162 §2.1), as arithmetic over sizes.
//!
//! A tree of `n` leaves has on its left a full tree over the greatest power of two below `n`, and on its right the
//! tree over the rest. So it is a *mountain range*: full trees (*peaks*), one for each bit of `n`, the greatest first,
//! bagged from the right. Nothing here hashes anything but through the function it is given.
//!
//! The invariant: all proofs are the hashes of disjoint subtrees, left to right, and their number follows from sizes
//! alone, so none is on the wire.
#![warn(clippy::indexing_slicing)]

use alloc::vec::Vec;

use super::keys::LogKeys;
use crate::hash::Hash;

/// The greatest size of a log (2⁴⁴ entries): a replica packs a sequence number and 16 bits more into a dot's counter.
pub const LOG_SIZE_MAX: u64 = 1 << 44;

/// A full subtree: the leaves `[index << level, (index + 1) << level)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) level: u32,
    pub(crate) index: u64,
}

impl Node {
    pub(crate) const fn end(self) -> u64 {
        (self.index + 1) << self.level
    }

    pub(crate) const fn children(self) -> (Self, Self) {
        let (level, index) = (self.level - 1, self.index << 1);
        (Self { level, index }, Self { level, index: index | 1 })
    }
}

/// A subtree of the shape: the leaves `[start, end)`. Full, or at the right edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subtree {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Subtree {
    /// The full node that it is, if it is one.
    pub(crate) const fn full(self) -> Option<Node> {
        let len = self.end - self.start;
        if len.is_power_of_two() {
            let level = len.trailing_zeros();
            Some(Node { level, index: self.start >> level })
        } else {
            None
        }
    }

    /// Its two halves; for two leaves or more.
    pub(crate) const fn halves(self) -> (Self, Self) {
        let mid = self.start + split(self.end - self.start);
        (Self { start: self.start, end: mid }, Self { start: mid, end: self.end })
    }
}

/// The greatest power of two below `n`, for `n ≥ 2`: the number of leaves on the left.
const fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// The peaks of a tree of `size` leaves, from the left.
pub(crate) fn peaks(size: u64) -> impl DoubleEndedIterator<Item = Node> {
    (0..u64::BITS)
        .rev()
        .filter(move |level| size >> level & 1 == 1)
        // The bits above the peak's own count the leaves on its left.
        .map(move |level| Node { level, index: (size >> level) - 1 })
}

/// How many peaks a tree of `size` leaves has.
pub(crate) const fn peaks_len(size: u64) -> usize {
    size.count_ones() as usize
}

/// The subtrees of a tree of `size` leaves that make up `[from, size)`, from the left: the fewest.
pub(crate) fn right_cover(from: u64, size: u64) -> Vec<Subtree> {
    let mut cover = Vec::new();
    let mut at = Subtree { start: 0, end: size };
    while from < at.end {
        if from <= at.start {
            cover.push(at);
            break;
        }
        let (left, right) = at.halves();
        if from < left.end {
            cover.push(right);
            at = left;
        } else {
            at = right;
        }
    }
    cover.reverse();
    cover
}

/// The root over peaks: bagged from the right. `None` over nothing.
pub(crate) fn bag(keys: &LogKeys, peaks: &[Hash]) -> Option<Hash> {
    peaks.iter().rev().copied().reduce(|right, left| keys.node(&left, &right))
}

/// The root of a tree of `size` leaves from the peaks of its first `known` leaves and the hashes of
/// [`right_cover`]`(known, size)`. `None` unless there are exactly as many as the shape asks for.
pub(crate) fn fold(keys: &LogKeys, size: u64, known: u64, peaks: &[Hash], right: &[Hash]) -> Option<Hash> {
    if peaks.len() != peaks_len(known) || known > size {
        return None;
    }
    if known == size {
        return if right.is_empty() { bag(keys, peaks) } else { None };
    }
    let mut hashes = peaks.iter();
    let mut right = right.iter();
    let root = fold_subtree(keys, Subtree { start: 0, end: size }, known, &mut hashes, &mut right)?;
    (hashes.len() == 0 && right.len() == 0).then_some(root)
}

/// As deep as the tree: at most 44 levels.
fn fold_subtree<'a>(
    keys: &LogKeys,
    subtree: Subtree,
    known: u64,
    peaks: &mut impl Iterator<Item = &'a Hash>,
    right: &mut impl Iterator<Item = &'a Hash>,
) -> Option<Hash> {
    if subtree.end <= known {
        return peaks.next().copied();
    }
    if subtree.start >= known {
        return right.next().copied();
    }
    let (left, rest) = subtree.halves();
    let left = fold_subtree(keys, left, known, peaks, right)?;
    let rest = fold_subtree(keys, rest, known, peaks, right)?;
    Some(keys.node(&left, &rest))
}

/// Whether `hashes` show that a tree of `size` leaves with `root` continues one of `from` leaves with `from_root`: the
/// peaks of the first, then the cover of the rest (the hashes of RFC 9162 §2.1.4, from left to right).
pub(crate) fn consistent(
    keys: &LogKeys,
    (from, from_root): (u64, &Hash),
    (size, root): (u64, &Hash),
    hashes: &[Hash],
) -> bool {
    let Some((peaks, right)) = hashes.split_at_checked(peaks_len(from)) else { return false };
    from > 0
        && bag(keys, peaks).as_ref() == Some(from_root)
        && fold(keys, size, from, peaks, right).as_ref() == Some(root)
}

/// Peaks that grow leaf by leaf.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peaks {
    size: u64,
    hashes: Vec<Hash>,
}

impl Peaks {
    /// From the peaks of a tree of `size` leaves, which must be as many as it has.
    pub(crate) fn new(size: u64, hashes: Vec<Hash>) -> Self {
        debug_assert_eq!(hashes.len(), peaks_len(size), "one peak a bit");
        Self { size, hashes }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    pub(crate) fn root(&self, keys: &LogKeys) -> Option<Hash> {
        bag(keys, &self.hashes)
    }

    /// Adds a leaf, and gives every full tree that it completes to `full`, the smallest first.
    #[inline]
    pub(crate) fn push(&mut self, keys: &LogKeys, leaf: Hash, mut full: impl FnMut(u32, Hash)) {
        let mut hash = leaf;
        // One carry for each low bit that is set, as in a binary counter.
        for level in 0..self.size.trailing_ones() {
            let Some(left) = self.hashes.pop() else { break };
            hash = keys.node(&left, &hash);
            full(level + 1, hash);
        }
        // There are at most as many as a size has bits, and mostly few.
        self.hashes.reserve_exact(1);
        self.hashes.push(hash);
        self.size += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_and_cover_tile_the_tree() {
        for size in 1..130_u64 {
            for from in 0..=size {
                let mut at = 0;
                for peak in peaks(from) {
                    assert_eq!(peak.index << peak.level, at);
                    at = peak.end();
                }
                assert_eq!(at, from);
                for subtree in right_cover(from, size) {
                    assert_eq!(subtree.start, at);
                    at = subtree.end;
                }
                assert_eq!(at, size);
            }
        }
    }
}
