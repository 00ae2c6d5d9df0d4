//! Powers of two and their logarithms, in integers, as an exact pair: [`log2_floor`] undoes [`exp2`] exactly, for all
//! 2²⁴ fractions.
//!
//! Three tables of 256 numbers hold 2^(i/2⁸), 2^(i/2¹⁶) and 2^(i/2²⁴), so that a power is the product of three of them.
//! The tables are made at compile time from repeated square roots of two. Amounts, instants and floors are not known
//! here.
//!
//! The invariant: `exp2` rises strictly. Two neighbours differ by a factor of 1 + 4.1e-8, and each value is right to
//! 1e-17, so no rounding can reorder them; the logarithm only has to find its way back.

/// How many bits a fraction has.
pub(super) const FRACTION_BITS: u32 = 24;
/// One in Q63, the format of all mantissas.
const ONE: u64 = 1 << 63;
/// log2(e) in Q63.
const LOG2_E: u64 = 0xB8AA_3B29_5C17_F0BC;
const LAST: u32 = (1 << FRACTION_BITS) - 1;

static HIGH: [u64; 256] = powers(8);
static MIDDLE: [u64; 256] = powers(16);
static LOW: [u64; 256] = powers(24);

/// The product of two mantissas whose product is below two, rounded to the nearest.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the callers multiply numbers whose product is below 2 in Q63"
)]
const fn product(a: u64, b: u64) -> u64 {
    ((a as u128 * b as u128 + (1 << 62)) >> 63) as u64
}

/// The square root of a number from one to two, both included, in Q63, rounded to the nearest.
#[expect(clippy::cast_possible_truncation, reason = "the root of at most 2 is below 2 in Q63")]
const fn root(square: u128) -> u64 {
    let square = square << 63;
    let floor = square.isqrt();
    // (floor + 1/2)² = floor² + floor + 1/4
    if square - floor * floor > floor { (floor + 1) as u64 } else { floor as u64 }
}

/// 2^(i / 2^`depth`) for i below 256: the product of those roots of two whose bits i has. Each of the at most eight
/// factors is right to one unit of the last place, and so the product to twelve.
const fn powers(depth: u32) -> [u64; 256] {
    let mut table = [ONE; 256];
    let mut root_of_two = 1 << 64;
    let mut bit = depth;
    while bit > 0 {
        bit -= 1;
        let next = root(root_of_two);
        root_of_two = next as u128;
        let mut i = 0;
        while bit < 8 && i < 256 {
            if i >> bit & 1 == 1 {
                table[i] = product(table[i], next);
            }
            i += 1;
        }
    }
    table
}

/// 2^(`fraction` / 2²⁴) in Q63, from 2⁶³ to below 2⁶⁴. Right to 2⁻⁵⁷ of itself. Bits beyond 24 are not looked at.
#[inline]
pub(super) const fn exp2(fraction: u32) -> u64 {
    let [low, middle, high, _] = fraction.to_le_bytes();
    product(product(HIGH[high as usize], MIDDLE[middle as usize]), LOW[low as usize])
}

/// The greatest fraction whose power does not exceed `mantissa`, which is at least 2⁶³.
///
/// The first eight bits come from the table; the remaining factor is at most 1.0028, for which three terms of the
/// series of the logarithm are right to less than a thousandth of a unit. The estimate is then corrected against
/// [`exp2`] itself, so the answer does not depend on the estimate's quality: that only decides that a step or two is
/// enough.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a product of Q63 numbers, shifted back to below 2 in Q63"
)]
pub(super) const fn log2_floor(mantissa: u64) -> u32 {
    debug_assert!(mantissa >= ONE);
    let mut high = 0;
    let mut step = 128;
    while step > 0 {
        if HIGH[high + step] <= mantissa {
            high += step;
        }
        step >>= 1;
    }
    // 2^(-high/256) is 2^((256-high)/256) / 2: a product instead of a division.
    let rest =
        if high == 0 { mantissa } else { ((mantissa as u128 * HIGH[256 - high] as u128) >> 64) as u64 };
    // ln(1 + x) = x - x²/2 + x³/3 - …
    let x = rest.saturating_sub(ONE);
    let square = ((x as u128 * x as u128) >> 63) as u64;
    let cube = ((square as u128 * x as u128) >> 63) as u64;
    let ln = x - square / 2 + cube / 3;
    let log2 = ((ln as u128 * LOG2_E as u128) >> 63) as u64;
    let estimate = ((high as u64) << 16) + (log2 >> (63 - FRACTION_BITS));
    let mut fraction = if estimate > LAST as u64 { LAST } else { estimate as u32 };
    while fraction < LAST && exp2(fraction + 1) <= mantissa {
        fraction += 1;
    }
    while fraction > 0 && exp2(fraction) > mantissa {
        fraction -= 1;
    }
    fraction
}

/// One of the two fractions, from 0 to 2²⁴ (which stands for a full doubling), between whose powers `mantissa` lies:
/// the upper one for that part of all values of `dither` that `mantissa` is above the lower one's power. For an exact
/// power it is that power's fraction, for every `dither`.
pub(super) const fn log2_dithered(mantissa: u64, dither: u64) -> u32 {
    let below = log2_floor(mantissa);
    let power = exp2(below);
    // Two, the power of a full doubling, does not fit Q63: its complement does.
    let next = if below == LAST { 0 } else { exp2(below + 1) };
    let threshold = (next.wrapping_sub(power) as u128 * dither as u128) >> 64;
    if (mantissa - power) as u128 > threshold { below + 1 } else { below }
}

/// The least fraction, from 0 to 2²⁴ (which stands for a full doubling), whose power is at least `mantissa`.
pub(super) const fn log2_ceil(mantissa: u64) -> u32 {
    let below = log2_floor(mantissa);
    if exp2(below) == mantissa { below } else { below + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All fractions in a release build, which continuous integration runs too. Without optimisation that takes
    /// half a minute, so a debug build looks at every 251st and at the edges of the tables.
    fn fractions() -> impl Iterator<Item = u32> {
        let all = cfg!(not(debug_assertions));
        (0..=LAST).filter(move |f| all || f % 251 == 0 || f & 0xff < 2 || f & 0xff == 0xff)
    }

    #[test]
    fn log2_is_the_exact_inverse_of_exp2() {
        for f in fractions() {
            let power = exp2(f);
            assert_eq!(log2_floor(power), f);
            assert_eq!((log2_dithered(power, 0), log2_dithered(power, u64::MAX)), (f, f));
            assert_eq!(log2_ceil(power), f);
            // A mantissa between two powers belongs to the lower one.
            assert_eq!(log2_floor(power + 1), f);
            if f > 0 {
                assert_eq!(log2_floor(power - 1), f - 1);
            }
        }
        assert_eq!((log2_floor(u64::MAX), log2_ceil(u64::MAX)), (LAST, LAST + 1));
        assert_eq!((log2_dithered(u64::MAX, 0), log2_dithered(u64::MAX, u64::MAX)), (LAST + 1, LAST));
    }

    #[test]
    fn exp2_rises_strictly() {
        assert_eq!(exp2(0), ONE);
        for f in fractions().filter(|f| *f < LAST) {
            assert!(exp2(f) < exp2(f + 1), "{f}");
        }
    }

    #[test]
    fn exp2_agrees_with_floating_point() {
        for f in fractions() {
            let reference = 2_f64.powf(f64::from(f) / f64::from(1 << 24));
            let ratio = exp2(f) as f64 / ONE as f64 / reference;
            assert!((ratio - 1.0).abs() < 1e-15, "{f}: {ratio}");
        }
    }

    #[test]
    fn a_squared_power_is_the_power_of_the_double() {
        for f in fractions() {
            // Q126, and Q63 shifted up to it; at and beyond one half the double has overflowed into a factor of two.
            let square = u128::from(exp2(f)) * u128::from(exp2(f));
            let double = u128::from(exp2((f << 1) & LAST)) << if f > LAST / 2 { 64 } else { 63 };
            assert!(square.abs_diff(double) < square >> 56, "{f}");
        }
    }

    #[test]
    fn a_dithered_logarithm_is_fair_between_two_neighbours() {
        for f in fractions().filter(|f| *f < LAST) {
            let (low, high) = (exp2(f), exp2(f + 1));
            let third = low + (high - low) / 3;
            assert_eq!(log2_dithered(third, u64::MAX / 100 * 33), f + 1);
            assert_eq!(log2_dithered(third, u64::MAX / 100 * 34), f);
            assert_eq!(log2_ceil(low + 1), f + 1);
        }
    }
}
