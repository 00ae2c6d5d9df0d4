//! SplitMix64 (Steele, Lea, Flood 2014): enough to roll dice with, and the same on every machine.

#[derive(Clone, Debug)]
pub(crate) struct Prng(u64);

impl Prng {
    /// Streams of different numbers have nothing to do with one another.
    pub(crate) const fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self(seed);
        let seed = mixed.next();
        let mut mixed = Self(stream);
        Self(seed ^ mixed.next().rotate_left(32))
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `bound`; 0 if that is 0. The bias is below `bound` / 2⁶⁴.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// As [`below`](Self::below), with small numbers the likeliest.
    pub(crate) const fn skewed(&mut self, bound: u64) -> u64 {
        let most = self.below(bound) + 1;
        if bound == 0 { 0 } else { self.below(most) }
    }

    /// One of `items`; `None` if there are none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let bound = u64::try_from(items.len()).unwrap_or(u64::MAX);
        items.get(usize::try_from(self.below(bound)).unwrap_or(0))
    }
}
