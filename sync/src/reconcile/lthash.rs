//! A hash of a set that follows insertions and removals: LtHash16 with 1,024 lanes (Bellare and Micciancio 1997;
//! Lewi, Kim, Maykov and Weis 2019).
//!
//! An id is lifted to 2,048 bytes by BLAKE3 in its extended-output mode and added lane by lane modulo 2^16. Finding two
//! different sets with one sum is as hard as a short-integer-solution problem in 1,024 dimensions, which separates it
//! from an XOR of hashes (linear algebra) and from one 256-bit sum (generalised birthday).
//!
//! The invariant: the sum is that of the ids of the set, less the changes that wait in `dirty`.

use alloc::vec::Vec;
use alloc::{boxed::Box, vec};
use core::fmt;

const LANES: usize = 1_024;
const LIFT_BYTES: usize = LANES * 2;
/// Changes that wait at most. Beyond it they are folded at once, so that a set whose root is never read stays bounded.
const DIRTY_MAX: usize = 1_024;

#[derive(Clone)]
pub(crate) struct LtHash {
    key: [u8; 32],
    lanes: Box<[u16]>,
    /// Changes not yet in the lanes. Lifting is the dearest part of an insertion and most roots are never read.
    dirty: Vec<([u8; 32], bool)>,
}

impl LtHash {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self { key, lanes: vec![0; LANES].into_boxed_slice(), dirty: Vec::new() }
    }

    /// Of no ids, with the same key.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.key)
    }

    /// Notes that the id came or went.
    pub(crate) fn change(&mut self, id: &[u8; 32], added: bool) {
        self.change_within(id, added, DIRTY_MAX);
    }

    /// The same, where fewer changes may wait.
    pub(crate) fn change_within(&mut self, id: &[u8; 32], added: bool, waiting_max: usize) {
        if self.dirty.len() >= waiting_max {
            self.fold();
        }
        self.dirty.push((*id, added));
    }

    /// Brings the lanes up to date.
    fn fold(&mut self) {
        let mut lifted = [0; LIFT_BYTES];
        for (id, added) in self.dirty.drain(..) {
            blake3::Hasher::new_keyed(&self.key).update(&id).finalize_xof().fill(&mut lifted);
            let lanes = self.lanes.iter_mut().zip(lifted.as_chunks::<2>().0);
            if added {
                lanes.for_each(|(lane, bytes)| *lane = lane.wrapping_add(u16::from_le_bytes(*bytes)));
            } else {
                lanes.for_each(|(lane, bytes)| *lane = lane.wrapping_sub(u16::from_le_bytes(*bytes)));
            }
        }
    }

    /// BLAKE3 over the number of items and the lanes.
    pub(crate) fn root(&mut self, len: usize) -> [u8; 32] {
        self.fold();
        let mut bytes = [0; LIFT_BYTES];
        for (to, lane) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(&self.lanes) {
            *to = lane.to_le_bytes();
        }
        let mut hasher = blake3::Hasher::new_derive_key("consilience reconcile root v1");
        hasher.update(&(len as u64).to_le_bytes());
        hasher.update(&bytes);
        *hasher.finalize().as_bytes()
    }
}

impl fmt::Debug for LtHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LtHash").field("waiting", &self.dirty.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_depends_on_the_set_and_not_on_its_history() {
        let id = |n: u32| *blake3::hash(&n.to_le_bytes()).as_bytes();
        let mut one = LtHash::new([1; 32]);
        let mut other = LtHash::new([1; 32]);
        (0..3_000).for_each(|n| one.change(&id(n), true));
        (0..3_500).rev().for_each(|n| other.change(&id(n), true));
        (3_000..3_500).for_each(|n| other.change(&id(n), false));
        assert_eq!(one.root(3_000), other.root(3_000));
        other.change(&id(7), false);
        assert_ne!(one.root(3_000), other.root(2_999));
        assert_ne!(one.root(3_000), one.root(3_001));
        assert_ne!(one.root(3_000), LtHash::new([2; 32]).root(3_000));
    }
}
