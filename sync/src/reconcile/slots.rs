//! Where ids and order keys are kept: an arena whose places never move, so that the order and the index can name an
//! item in four bytes.
//!
//! Not here: the meaning of items, their order, and the search for them. The invariant: a handle stays good until it is
//! released, and is given out again only after that.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// Ids in a chunk. Only the last chunk grows, so that growing a large set copies at most 128 KiB and wastes as much.
const CHUNK: usize = 4_096;
/// Ends the list of free places.
const NONE: u32 = u32::MAX;
/// The most items of one set: handles are 32 bits, and one of them ends the free list.
pub(super) const ITEMS_MAX: usize = (u32::MAX - 1) as usize;

#[derive(Clone, Debug)]
pub(super) struct Slots {
    chunks: Vec<Vec<[u8; 32]>>,
    /// Parallel to the ids, and empty until the first item with a key: plain ids pay nothing for keys.
    keys: Vec<Box<[u8]>>,
    /// First of the free places. Each holds the next one in its first four bytes.
    free: u32,
    len: usize,
}

impl Slots {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), keys: Vec::new(), free: NONE, len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn id(&self, handle: u32) -> &[u8; 32] {
        let at = handle as usize;
        &self.chunks[at / CHUNK][at % CHUNK]
    }

    #[inline]
    pub(super) fn key(&self, handle: u32) -> &[u8] {
        self.keys.get(handle as usize).map_or(&[], |key| key)
    }

    /// Compares the item's place in the order with a byte string.
    #[inline]
    pub(super) fn compare(&self, handle: u32, bound: &[u8]) -> Ordering {
        compare(self.key(handle), self.id(handle), bound)
    }

    /// Takes a place for an item; `None` when the set is full.
    pub(super) fn take(&mut self, key: &[u8], id: &[u8; 32]) -> Option<u32> {
        if self.len >= ITEMS_MAX {
            return None;
        }
        let handle = if self.free == NONE { self.push(*id)? } else { self.reuse(*id) };
        self.len += 1;
        let at = handle as usize;
        if at < self.keys.len() {
            self.keys[at] = key.into();
        } else if !key.is_empty() {
            self.keys.resize_with(at + 1, Box::default);
            self.keys[at] = key.into();
        }
        Some(handle)
    }

    fn push(&mut self, id: [u8; 32]) -> Option<u32> {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::new());
        }
        let at = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut()?;
        let handle = u32::try_from(at + chunk.len()).ok()?;
        chunk.push(id);
        Some(handle)
    }

    fn reuse(&mut self, id: [u8; 32]) -> u32 {
        let handle = self.free;
        let at = handle as usize;
        let place = &mut self.chunks[at / CHUNK][at % CHUNK];
        let [a, b, c, d, ..] = *place;
        self.free = u32::from_le_bytes([a, b, c, d]);
        *place = id;
        handle
    }

    /// Gives the place back.
    pub(super) fn release(&mut self, handle: u32) {
        let at = handle as usize;
        let place = &mut self.chunks[at / CHUNK][at % CHUNK];
        place[..4].copy_from_slice(&self.free.to_le_bytes());
        self.free = handle;
        self.len -= 1;
        if let Some(key) = self.keys.get_mut(at) {
            *key = Box::default();
        }
    }
}

/// Compares the byte string `key ‖ id` with another.
#[inline]
pub(super) fn compare(key: &[u8], id: &[u8; 32], bound: &[u8]) -> Ordering {
    match bound.split_at_checked(key.len()) {
        Some((head, tail)) => key.cmp(head).then_with(|| id.as_slice().cmp(tail)),
        // The bound ends inside the key.
        None => key[..bound.len()].cmp(bound).then(Ordering::Greater),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_compare_as_their_concatenation_does() {
        let keys: [&[u8]; 5] = [b"", b"a", b"a\0", b"ab", &[0xff; 40]];
        let mut bounds: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
        for key in keys {
            bounds.push([key, &[7; 32]].concat());
            bounds.push([key, &[7; 31]].concat());
            bounds.push([key, &[7; 33]].concat());
        }
        for key in keys {
            for bound in &bounds {
                let whole = [key, &[7; 32]].concat();
                assert_eq!(compare(key, &[7; 32], bound), whole.as_slice().cmp(bound));
            }
        }
    }

    #[test]
    fn released_places_are_given_out_again() {
        let mut slots = Slots::new();
        let handles: Vec<u32> = (0..10_u8).map(|n| slots.take(&[], &[n; 32]).unwrap()).collect();
        slots.release(handles[3]);
        slots.release(handles[7]);
        assert_eq!(slots.len(), 8);
        let again = [slots.take(b"k", &[20; 32]).unwrap(), slots.take(&[], &[21; 32]).unwrap()];
        assert_eq!(again, [7, 3]);
        assert_eq!((slots.key(7), slots.key(3), slots.key(9)), (&b"k"[..], &b""[..], &b""[..]));
        assert_eq!(slots.take(&[], &[22; 32]), Some(10));
    }
}
