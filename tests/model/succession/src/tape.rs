//! The bytes from which a history takes its choices. A shorter tape is a shorter history, so shrinking works on it.

pub struct Tape<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tape<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        byte
    }

    pub fn below(&mut self, n: usize) -> usize {
        let byte = self.next().unwrap_or(0) as usize;
        if n == 0 { 0 } else { byte % n }
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub fn percent(&mut self, percent: usize) -> bool {
        self.next().unwrap_or(255) as usize * 100 < percent * 256
    }

    pub fn ended(&self) -> bool {
        self.at >= self.bytes.len()
    }
}

/// A tape for a seed, by splitmix64 (Steele, Lea, Flood 2014).
pub fn of_seed(seed: u64, most: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x0123_4567;
    let mut next = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let n = 40 + next() % most;
    (0..n).map(|_| next() as u8).collect()
}
