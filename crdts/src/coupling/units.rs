//! [`Units`]: an amount of coupling as a fixed-point number. No time and no decay in here.

use core::fmt;

/// An amount in units, as a fixed-point number with 32 bits before and 32 after the point: from 0 to just below 2³²
/// units, in steps of 2⁻³² (2.3e-10).
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Units(u64);

impl Units {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One unit.
    pub const ONE: Self = Self(1 << 32);
    /// The greatest amount, 2⁻³² units below 2³².
    pub const MAX: Self = Self(u64::MAX);

    /// So many whole units.
    #[must_use]
    pub const fn new(whole: u32) -> Self {
        Self((whole as u64) << 32)
    }

    /// `numerator` / `denominator` units, rounded down; `None` if the denominator is 0.
    #[must_use]
    pub const fn from_ratio(numerator: u32, denominator: u32) -> Option<Self> {
        match ((numerator as u64) << 32).checked_div(denominator as u64) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }

    /// From the number of 2⁻³² units.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The number of 2⁻³² units.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The whole units, the fraction cut off.
    #[must_use]
    pub const fn whole(self) -> u32 {
        let [_, _, _, _, a, b, c, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// The sum; saturates at [`Units::MAX`].
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference; saturates at 0.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Units {
    /// As a decimal number: with a precision (`{:.3}`) exactly so many digits after the point, at most 28; without one
    /// up to six, and no zeros at the end. Rounded to the nearest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(6).min(28);
        let scale = (0..digits).fold(1_u128, |scale, _| scale * 10);
        // Below 2³² · 10²⁸, which is below 2¹²⁶.
        let fraction = u128::from(self.0 & 0xffff_ffff) * scale;
        let rounded = (fraction + (1 << 31)) >> 32;
        let whole = u64::from(self.whole()) + u64::from(rounded == scale);
        let fraction = if rounded == scale { 0 } else { rounded };
        if digits == 0 {
            return f.pad_integral(true, "", &alloc::format!("{whole}"));
        }
        let text = alloc::format!("{whole}.{fraction:0digits$}");
        let text = match f.precision() {
            Some(_) => &text,
            None => text.trim_end_matches('0').trim_end_matches('.'),
        };
        // Not `pad`: to it a precision is a length at which text is cut.
        f.pad_integral(true, "", text)
    }
}

impl fmt::Debug for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Units({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn amounts_print_as_decimals() {
        let half = Units::from_ratio(1, 2).unwrap();
        assert_eq!(format!("{half} {half:.0} {half:.3} {half:>6}"), "0.5 1 0.500    0.5");
        assert_eq!(format!("{} {}", Units::new(120), Units::ZERO), "120 0");
        assert_eq!(format!("{} {:.0}", Units::from_bits(1), Units::from_bits(1)), "0 0");
        assert_eq!(format!("{}", Units::from_bits((3 << 32) - 1)), "3");
        assert_eq!(format!("{:.28}", Units::from_bits(1)), "0.0000000002328306436538696289");
        assert_eq!(format!("{} {:.10}", Units::MAX, Units::MAX), "4294967296 4294967295.9999999998");
        assert_eq!(format!("{:?}", Units::from_ratio(1, 3).unwrap()), "Units(0.333333)");
    }

    #[test]
    fn a_ratio_over_zero_is_none() {
        assert_eq!(Units::from_ratio(1, 0), None);
        assert_eq!(Units::from_ratio(6, 2), Some(Units::new(3)));
        assert_eq!(Units::from_ratio(u32::MAX, 1).map(Units::whole), Some(u32::MAX));
    }
}
