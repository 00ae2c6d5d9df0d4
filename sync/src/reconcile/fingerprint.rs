//! Fingerprints of ranges: salted, and with a proven bound.
//!
//! An item `x`, as five limbs of at most 52 bits, is the field element `f(x) = s₀ + s₁x₁ + … + s₅x₅` modulo
//! `p = 2^61 - 1`, and the fingerprint of a set is the product of its elements. Distinct ids give distinct linear
//! polynomials in the salts, which are irreducible, so two different sets give two different polynomials of a degree
//! that is at most the larger set's size `n`, and by Schwartz (1980) and Zippel (1979) they agree at random salts with
//! probability at most `n / p`. That holds for **any** two sets, however they were chosen, as long as the salts were
//! drawn afterwards. A sum of keyed hashes that are linear in the item, which is cheaper still, does not have this
//! property: sets whose limbs have equal sums collide under every salt.
//!
//! Products divide, so prefix products made in one visit of all items give the fingerprint of any range for one
//! inversion. The invariant: an empty range is distinguished from all others by its count, which stands beside every
//! fingerprint.

use alloc::vec::Vec;

use super::set::ReconcileSet;
use super::short::words;

/// 2^61 - 1.
pub(super) const PRIME: u64 = (1 << 61) - 1;
/// Items between two marks: 0.25 bytes an item, and at most this many items are hashed at either end of a range.
const STRIDE: usize = 32;

/// The salts of one round of one session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Salts([u64; 6]);

impl Salts {
    /// From the session's salt, drawn by both sides after the items were fixed.
    pub(super) fn new(salt: &[u8; 32]) -> Self {
        let mut bytes = [0; 96];
        let mut hasher = blake3::Hasher::new_derive_key("consilience reconcile fingerprint v1");
        hasher.update(salt).finalize_xof().fill(&mut bytes);
        let mut salts = [0; 6];
        // 128 bits modulo p: as good as uniform.
        for (salt, bytes) in salts.iter_mut().zip(bytes.as_chunks::<16>().0) {
            *salt = reduce(u128::from_le_bytes(*bytes) >> 6);
        }
        Self(salts)
    }

    /// The item as a field element. Zero, which has no inverse, becomes one.
    #[inline]
    pub(super) fn element(&self, id: &[u8; 32]) -> u64 {
        const LIMB: u64 = (1 << 52) - 1;
        let [a, b, c, d] = words(id);
        let limbs = [
            a & LIMB,
            (a >> 52 | b << 12) & LIMB,
            (b >> 40 | c << 24) & LIMB,
            (c >> 28 | d << 36) & LIMB,
            d >> 16,
        ];
        let [constant, salts @ ..] = &self.0;
        // Five products of 61 and 52 bits and one number of 61: below 2^116.
        let sum = salts
            .iter()
            .zip(limbs)
            .fold(u128::from(*constant), |sum, (&salt, limb)| sum + u128::from(salt) * u128::from(limb));
        reduce(sum).max(1)
    }
}

/// Modulo p, of a number below 2^122.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "both halves are below 2^62")]
const fn reduce(value: u128) -> u64 {
    let folded = (value as u64 & PRIME) + (value >> 61) as u64;
    let folded = (folded & PRIME) + (folded >> 61);
    if folded >= PRIME { folded - PRIME } else { folded }
}

#[inline]
pub(super) const fn times(a: u64, b: u64) -> u64 {
    reduce(a as u128 * b as u128)
}

/// The inverse of a number that is not zero: its power p - 2 = 2^61 - 3.
const fn inverse(value: u64) -> u64 {
    // Powers 2^k - 1 by doubling k; 2^61 - 3 = (2^59 - 1) * 4 + 1.
    const fn squared(mut value: u64, times_: u32) -> u64 {
        let mut left = times_;
        while left > 0 {
            value = times(value, value);
            left -= 1;
        }
        value
    }
    let two = times(squared(value, 1), value);
    let three = times(squared(two, 1), value);
    let six = times(squared(three, 3), three);
    let seven = times(squared(six, 1), value);
    let fourteen = times(squared(seven, 7), seven);
    let twenty_eight = times(squared(fourteen, 14), fourteen);
    let fifty_six = times(squared(twenty_eight, 28), twenty_eight);
    let fifty_nine = times(squared(fifty_six, 3), three);
    times(squared(fifty_nine, 2), value)
}

/// The product of some ids' elements.
pub(super) fn product<'a>(salts: &Salts, ids: impl Iterator<Item = &'a [u8; 32]>) -> u64 {
    ids.fold(1, |product, id| times(product, salts.element(id)))
}

/// The product of a full stride, in one number. The ids are fetched before any is used: they lie anywhere in memory,
/// and so the waits for them overlap.
fn stride<'a>(salts: &Salts, ids: &mut impl Iterator<Item = &'a [u8; 32]>) -> u64 {
    let mut fetched = [[0; 32]; STRIDE];
    let mut len = 0;
    for (to, id) in fetched.iter_mut().zip(ids) {
        *to = *id;
        len += 1;
    }
    // Four chains, as a product waits for the one before it.
    let mut chains = [1; 4];
    for four in fetched[..len].chunks(4) {
        for (chain, id) in chains.iter_mut().zip(four) {
            *chain = times(*chain, salts.element(id));
        }
    }
    chains.into_iter().fold(1, times)
}

/// Prefix products of a stretch of a set at every thirty-second item, for one generation of the set. A cache: it can
/// be dropped at any time.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    generation: u64,
    first: usize,
    last: usize,
    products: Vec<u64>,
}

/// The ranks that have marks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    first: usize,
}

impl Grid {
    /// The rank at or after `rank` that has a mark.
    pub(super) const fn round_up(self, rank: usize) -> usize {
        self.first + (rank - self.first).next_multiple_of(STRIDE)
    }
}

impl Marks {
    /// Visits once the items with ranks from `first` to below `last`.
    pub(super) fn new(set: &ReconcileSet, salts: &Salts, first: usize, last: usize) -> Self {
        let len = last.saturating_sub(first);
        let mut products = Vec::with_capacity(len / STRIDE + 1);
        let mut so_far = 1;
        let mut ids = set.iter_rank(first).take(len).map(|item| item.1);
        for _ in 0..len / STRIDE {
            products.push(so_far);
            so_far = times(so_far, stride(salts, &mut ids));
        }
        products.push(so_far);
        Self { generation: set.generation(), first, last, products }
    }

    /// Whether it still describes the set and covers these ranks.
    pub(super) fn covers(&self, set: &ReconcileSet, from: usize, to: usize) -> bool {
        self.generation == set.generation() && self.first <= from && to <= self.last
    }

    /// Which ranks have marks.
    pub(super) const fn grid(&self) -> Grid {
        Grid { first: self.first }
    }

    /// The fingerprint of a covered range of ranks, and how many items were visited for it.
    pub(super) fn range(&self, set: &ReconcileSet, salts: &Salts, from: usize, to: usize) -> (u64, usize) {
        let low = self.grid().round_up(from);
        let high = to - (to - self.first) % STRIDE;
        if low >= high {
            return (product(salts, set.iter_rank(from).take(to - from).map(|item| item.1)), to - from);
        }
        let edges = (low - from) + (to - high);
        let mark = |rank: usize| self.products.get((rank - self.first) / STRIDE).copied().unwrap_or(1);
        let mut result = times(mark(high), inverse(mark(low)));
        for (rank, len) in [(from, low - from), (high, to - high)] {
            if len > 0 {
                result = times(result, product(salts, set.iter_rank(rank).take(len).map(|item| item.1)));
            }
        }
        (result, edges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_that_of_the_field() {
        let slow = |a: u64, b: u64| u64::try_from(u128::from(a) * u128::from(b) % u128::from(PRIME)).unwrap();
        let mut value = 1_u64;
        for _ in 0..2_000 {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (a, b) = (value % PRIME, (value >> 3) % PRIME);
            assert_eq!(times(a, b), slow(a, b));
            assert_eq!(times(a.max(1), inverse(a.max(1))), 1);
        }
        assert_eq!(times(PRIME - 1, PRIME - 1), 1);
        assert_eq!(inverse(1), 1);
        assert_eq!(reduce(u128::from(PRIME)), 0);
        assert_eq!(reduce(u128::from(PRIME) * u128::from(PRIME)), 0);
    }

    #[test]
    fn limbs_lose_no_bit_of_the_id() {
        let salts = Salts::new(&[5; 32]);
        let base = [0xa5; 32];
        for bit in 0..256 {
            let mut id = base;
            id[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(salts.element(&id), salts.element(&base), "bit {bit}");
        }
    }

    #[test]
    fn marks_give_the_product_of_any_range() {
        let salts = Salts::new(&[9; 32]);
        let mut set = ReconcileSet::new(&[1; 32], 7);
        for n in 0..1_500_u32 {
            set.insert(&[], blake3::hash(&n.to_le_bytes()).as_bytes()).unwrap();
        }
        let ids: Vec<[u8; 32]> = set.iter().map(|item| *item.1).collect();
        for (first, last) in [(0, 1_500), (17, 1_201), (64, 1_088)] {
            let marks = Marks::new(&set, &salts, first, last);
            for from in (first..last).step_by(13) {
                for to in (from..=last).step_by(29).chain([last]) {
                    let expected = product(&salts, ids[from..to].iter());
                    assert!(marks.covers(&set, from, to));
                    let (got, visited) = marks.range(&set, &salts, from, to);
                    assert_eq!(got, expected, "{from}..{to} of {first}..{last}");
                    assert!(visited < 2 * STRIDE);
                }
            }
        }
    }
}
