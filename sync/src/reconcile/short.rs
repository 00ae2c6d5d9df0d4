//! Short ids: 64 bits that stand for a 32-byte id in sketches and lists, and the 32-bit check beside them.
//!
//! Short ids are hints. Two ids may share one (an attacker who can publish items finds such a pair with 2^32 hashes),
//! and then a reconciliation costs more bytes; no decision about equality is taken from them. The invariant: the same
//! set key and id give the same short id in every version of the wire.

use core::fmt;

/// Stands for an id between two sets that were made with the same key. Several ids may share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortId(pub(super) u64);

impl ShortId {
    /// How many bytes it takes on the wire.
    pub const BYTES: usize = 8;

    /// From its bytes on the wire (little-endian).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// Its bytes on the wire (little-endian).
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The four words that short ids are keyed with.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShortKey([u64; 4]);

impl ShortKey {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(words(&blake3::derive_key("consilience reconcile short id v1", key)))
    }

    /// A keyed hash of the id. Ids need not look random for it: its input is multiplied with secret words (the NH
    /// function of UMAC, Black et al. 1999, folded to 64 bits) and finished by a bijection that leaves no pattern.
    #[inline]
    pub(super) fn short(&self, id: &[u8; 32]) -> u64 {
        let Self([a, b, c, d]) = self;
        let [w, x, y, z] = words(id);
        mix(fold(w ^ a, x ^ b) ^ fold(y ^ c, z ^ d).rotate_left(32))
    }
}

/// The 32-bit check that stands beside a short id in a cell.
#[inline]
pub(super) const fn check(short: u64) -> u32 {
    (mix(short ^ 0x5bd1_e995_9e37_79b9) >> 32) as u32
}

/// The 128-bit product folded to 64 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A bijection of the 64-bit words without visible structure (the finisher of SplitMix64, Steele et al. 2014).
#[inline]
pub(super) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[inline]
pub(super) const fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let ([a, b, c, d], _) = bytes.as_chunks::<8>() else { return [0; 4] };
    [u64::from_le_bytes(*a), u64::from_le_bytes(*b), u64::from_le_bytes(*c), u64::from_le_bytes(*d)]
}
