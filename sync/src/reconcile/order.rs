//! The order of the items: blocks of handles, sorted by `key ‖ id`.
//!
//! A handle stands beside the first four bytes of its item's place in the order, so that a search mostly stays within
//! one block and touches the arena only at its end. The meaning of handles is the arena's business. The invariant: no
//! block is empty, and the blocks one after another are the whole order.

use alloc::vec::Vec;
use core::cmp::Ordering;

use super::slots::Slots;

/// Entries of a full block: 4 KiB, which an insertion moves half of at most.
const BLOCK: usize = 512;

#[derive(Clone, Copy, Debug)]
struct Hinted {
    /// The first bytes of `key ‖ id`, most significant first.
    hint: u32,
    handle: u32,
}

/// Where an item stands, or would stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    block: usize,
    at: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    blocks: Vec<Vec<Hinted>>,
    /// The blocks' lengths, side by side: a rank is the sum of a few thousand numbers in a row.
    lens: Vec<u32>,
}

/// The first four bytes of a byte string that is at least as long as an id, or of a bound, padded with zeros.
#[inline]
fn hint_of(bound: &[u8]) -> u32 {
    let mut bytes = [0; 4];
    let len = bound.len().min(4);
    bytes[..len].copy_from_slice(&bound[..len]);
    u32::from_be_bytes(bytes)
}

/// Whether an entry stands before the bound.
#[inline]
fn below<'a>(slots: &'a Slots, bound: &'a [u8]) -> impl Fn(&Hinted) -> bool + 'a {
    let hint = hint_of(bound);
    // A padded hint of a bound can equal an item's although the bound is shorter: the full comparison decides.
    move |entry| match entry.hint.cmp(&hint) {
        Ordering::Equal => slots.compare(entry.handle, bound) == Ordering::Less,
        unequal => unequal == Ordering::Less,
    }
}

impl Order {
    pub(super) const fn new() -> Self {
        Self { blocks: Vec::new(), lens: Vec::new() }
    }

    /// The first place whose item is not below `bound`.
    #[inline]
    pub(super) fn lower_bound(&self, slots: &Slots, bound: &[u8]) -> Position {
        let below = below(slots, bound);
        // The last block whose first item is below the bound is the only one that can hold the place inside.
        let block = self.blocks.partition_point(|block| block.first().is_some_and(&below)).saturating_sub(1);
        let at = self.blocks.get(block).map_or(0, |entries| entries.partition_point(&below));
        Position { block, at }
    }

    #[inline]
    pub(super) fn handle_at(&self, place: Position) -> Option<u32> {
        let block = self.blocks.get(place.block)?;
        match block.get(place.at) {
            Some(entry) => Some(entry.handle),
            // The end of a block is the beginning of the next.
            None => self.blocks.get(place.block + 1)?.first().map(|entry| entry.handle),
        }
    }

    /// Puts a handle at the place that [`lower_bound`](Self::lower_bound) found for its item.
    pub(super) fn insert(&mut self, place: Position, bound: &[u8], handle: u32) {
        let entry = Hinted { hint: hint_of(bound), handle };
        let Some(block) = self.blocks.get_mut(place.block) else {
            self.blocks.push(alloc::vec![entry]);
            self.lens.push(1);
            return;
        };
        block.insert(place.at, entry);
        self.lens[place.block] += 1;
        if block.len() >= BLOCK {
            let tail = block.split_off(BLOCK / 2);
            self.lens[place.block] = length(block);
            self.lens.insert(place.block + 1, length(&tail));
            self.blocks.insert(place.block + 1, tail);
        }
    }

    /// Removes the item at the place.
    pub(super) fn remove(&mut self, place: Position) {
        let mut at = place;
        if self.blocks.get(at.block).is_some_and(|block| at.at >= block.len()) {
            at = Position { block: at.block + 1, at: 0 };
        }
        let Some(block) = self.blocks.get_mut(at.block) else { return };
        block.remove(at.at);
        self.lens[at.block] -= 1;
        if block.is_empty() {
            self.blocks.remove(at.block);
            self.lens.remove(at.block);
        } else {
            // Two neighbours that fit into half a block become one, so that removals do not leave crumbs.
            self.join(at.block);
            if at.block > 0 {
                self.join(at.block - 1);
            }
        }
    }

    fn join(&mut self, first: usize) {
        let (Some(left), Some(right)) = (self.lens.get(first), self.lens.get(first + 1)) else { return };
        if (*left + *right) as usize <= BLOCK / 2 {
            let right = self.blocks.remove(first + 1);
            self.blocks[first].extend_from_slice(&right);
            self.lens.remove(first + 1);
            self.lens[first] = length(&self.blocks[first]);
        }
    }

    /// How many items stand before the place.
    pub(super) fn rank_of(&self, place: Position) -> usize {
        let before: u64 = self.lens.iter().take(place.block).map(|&len| u64::from(len)).sum();
        usize::try_from(before).unwrap_or(usize::MAX) + place.at
    }

    /// How many items stand before a bound that is at or after a place of known rank: cheap if it is close.
    pub(super) fn rank_from(&self, slots: &Slots, place: Position, rank: usize, bound: &[u8]) -> usize {
        let mut before = rank;
        let mut from = place.at;
        // Most ranges are short: the bound is in this block or the next few.
        for entries in self.blocks.iter().skip(place.block).take(3) {
            let entries = entries.get(from..).unwrap_or(&[]);
            let below = Self::count_below(slots, entries, bound);
            before += below;
            if below < entries.len() {
                return before;
            }
            from = 0;
        }
        if self.blocks.len() <= place.block + 3 {
            return before;
        }
        self.rank_of(self.lower_bound(slots, bound))
    }

    /// How many of these entries are below the bound, looking near the front first.
    fn count_below(slots: &Slots, entries: &[Hinted], bound: &[u8]) -> usize {
        let below = below(slots, bound);
        let mut end = 8;
        while end < entries.len() && below(&entries[end]) {
            end *= 2;
        }
        let from = if end == 8 { 0 } else { end / 2 };
        let to = end.min(entries.len());
        from + entries[from..to].partition_point(below)
    }

    /// The place of the item with this many before it.
    pub(super) fn position_of(&self, rank: usize) -> Position {
        let mut left = rank;
        for (block, &len) in self.lens.iter().enumerate() {
            if left < len as usize {
                return Position { block, at: left };
            }
            left -= len as usize;
        }
        self.end()
    }

    /// The place after the last item.
    pub(super) fn end(&self) -> Position {
        match self.blocks.last() {
            Some(last) => Position { block: self.blocks.len() - 1, at: last.len() },
            None => Position { block: 0, at: 0 },
        }
    }

    /// The handles from a place on.
    pub(super) fn from(&self, place: Position) -> impl Iterator<Item = u32> + '_ {
        let first =
            self.blocks.get(place.block).map_or(&[][..], |block| block.get(place.at..).unwrap_or(&[]));
        let rest = self.blocks.get(place.block + 1..).unwrap_or(&[]);
        first.iter().chain(rest.iter().flatten()).map(|entry| entry.handle)
    }
}

/// A block's length: never above [`BLOCK`].
#[expect(clippy::cast_possible_truncation, reason = "a block holds at most 512 entries")]
const fn length(block: &[Hinted]) -> u32 {
    block.len() as u32
}
