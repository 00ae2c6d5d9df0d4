//! Random histories that a seed replays.

/// Xorshift: random enough for histories, and replayed by its seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// Dice whose rolls depend on the seed alone.
    pub fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            dice.roll(2);
        }
        dice
    }

    /// A number below `sides`, which is at least 1.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    /// An index into a list of `len` items, which is at least 1.
    pub fn index(&mut self, len: usize) -> usize {
        self.roll(len as u64) as usize
    }

    /// True once in `sides` rolls.
    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    /// Puts items in a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.index(at + 1));
        }
    }
}

/// Runs seeds 0 to `cases`; `CONSILIENCE_CASES` sets another number, and `CONSILIENCE_SEED` replays one.
pub fn seeds(cases: u64, mut run: impl FnMut(u64)) {
    struct Failing(u64);
    impl Drop for Failing {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("replay with CONSILIENCE_SEED={}", self.0);
            }
        }
    }
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let all = match number("CONSILIENCE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CONSILIENCE_CASES").unwrap_or(cases),
    };
    for seed in all {
        let failing = Failing(seed);
        run(seed);
        drop(failing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_its_rolls_and_another_seed_has_others() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            (0..16).map(|_| dice.roll(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(rolls(1), rolls(1));
        assert_ne!(rolls(1), rolls(2));
        assert!(rolls(3).iter().all(|roll| *roll < 1_000));
    }
}
