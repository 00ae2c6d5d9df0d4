//! How many items differ, guessed from the counts of cells that could not be decoded.
//!
//! The count of cell `i` in the difference of two sketches is the sum of +1 for each item only they have and -1 for
//! each only we have, each present with probability `r = 2/(i+2)`. Around its mean `(their len - our len) r` it has
//! the variance `d r (1 - r)`, so each cell gives one estimate of `d`. The cells are averaged with the weights that
//! make the average sharpest. Integers only: the same cells give the same answer everywhere, which tests rely on.
//!
//! A byte tells a count modulo 256, so an estimate of more than some 60,000 is not to be had from 136 cells.

/// A guess, at least `|delta|`; `None` if the counts say no more than "very many". `counts` are those of the first
/// cells in order, `delta` is the peer's number of items less this side's.
pub(super) fn differences(counts: &[i8], delta: i64) -> Option<u64> {
    let least = delta.unsigned_abs();
    if least > 1 << 24 {
        return None;
    }
    // The deviation from the mean in 1/256, modulo 256 in units of the count.
    let squares = || {
        (0_i64..).zip(counts).skip(1).map(|(at, &count)| {
            let mean = delta * 512 / (at + 2);
            let off = (i64::from(count) * 256 - mean).rem_euclid(65_536);
            let off = if off < 32_768 { off } else { off - 65_536 };
            // In units of the square of a count, times 256.
            (u128::from(at.unsigned_abs()), u128::from((off * off).unsigned_abs() >> 8))
        })
    };
    // First the cells with the smallest counts, which wrap last.
    let tail = squares().count().div_ceil(3);
    let skip = squares().count() - tail;
    let (sum, sum_of_estimates) = squares().skip(skip).fold((0, 0), |(sum, estimates), (at, square)| {
        (sum + square, estimates + square * (at + 2) * (at + 2) / (2 * at))
    });
    let tail = tail.max(1) as u128;
    // Counts that are uniform modulo 256 have the variance 5,461; near it nothing can be said.
    if sum / tail > 2_500 * 256 {
        return None;
    }
    let mut guess = (sum_of_estimates / tail / 256).max(1);
    for _ in 0..2 {
        let (mut weights, mut total) = (0_u128, 0_u128);
        for (at, square) in squares() {
            // The expected variance, times 256.
            let variance = guess * 512 * at / ((at + 2) * (at + 2));
            // A standard deviation of 30 leaves four of them before a count wraps.
            if variance > 900 * 256 {
                continue;
            }
            // A cell's own estimate has the relative variance 2 + 1/variance.
            let weight = (variance << 16) / (2 * variance + 256);
            weights += weight;
            total += weight * (square * (at + 2) * (at + 2) / (2 * at));
        }
        guess = (total / weights.max(1) / 256).max(1);
    }
    u64::try_from(guess).ok().map(|guess| guess.max(least))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::mapping::Mapping;
    use super::super::short::mix;
    use super::*;

    /// The counts of a difference of this many items, a share of which only they have.
    fn counts(theirs: u64, ours: u64, cells: usize, seed: u64) -> Vec<i8> {
        let mut counts = alloc::vec![0_i8; cells];
        for n in 0..theirs + ours {
            let sign = if n < theirs { 1 } else { -1 };
            for at in Mapping::new(mix(n ^ seed << 32)) {
                let Some(count) = counts.get_mut(at as usize) else { break };
                *count = count.wrapping_add(sign);
            }
        }
        counts
    }

    #[test]
    fn the_guess_is_within_a_few_standard_deviations() {
        for (theirs, ours) in
            [(30, 30), (50, 50), (100, 0), (500, 500), (10, 900), (5_000, 5_000), (15_000, 10_000)]
        {
            let d = theirs + ours;
            let mut sum = 0;
            for seed in 0..20 {
                let delta = i64::try_from(theirs).unwrap() - i64::try_from(ours).unwrap();
                let guess = differences(&counts(theirs, ours, 136, seed), delta).unwrap();
                assert!(guess * 2 > d && guess < d * 2, "{guess} for {theirs} + {ours}");
                sum += guess;
            }
            let mean = sum / 20;
            assert!(mean.abs_diff(d) * 8 <= d, "mean {mean} for {theirs} + {ours}");
        }
    }

    #[test]
    fn very_many_differences_are_said_to_be_so() {
        assert_eq!(differences(&counts(400_000, 400_000, 136, 1), 0), None);
        assert_eq!(differences(&[0; 136], i64::MAX), None);
        assert_eq!(differences(&[0; 136], i64::MIN), None);
        assert_eq!(differences(&[], 3), Some(3));
        assert_eq!(differences(&[1], 3), Some(3));
        // Whatever a peer makes the counts say, the answer is a number.
        for byte in i8::MIN..=i8::MAX {
            for delta in [-16_000_000, -5, 0, 5, 16_000_000] {
                let _ = differences(&[byte; 200], delta);
            }
        }
    }
}
