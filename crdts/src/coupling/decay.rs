//! The meaning of an instant: the amount of a contribution at a time, and the instant of an amount. Pure functions of a
//! schema, in integers; no keys and no contributors.
//!
//! Time is τ, the half-lives passed since the Unix epoch, as Q40.24 in a u64. A contribution is one such instant, Z:
//! the time at which it will have decayed to a *grain*, the floor's 2¹⁰th part. At τ it amounts to grain · 2^(Z − τ),
//! and to nothing from Z on. All contributions of a collection decay by the same factor, so their order never changes,
//! and the greater of two is the later of two instants, at any time of asking (forward decay, Cormode et al. 2009).
//!
//! Why a grain and not the floor itself: a contribution that ends at the floor takes its rest out of a sum at once.
//! Where many small weakenings stand against one large strengthening, the small ones end first and the value would rise
//! by a floor each, even after a reset. Ending at a grain bounds that by n/1024 floors for n contributors: for fewer
//! than 1,024 of them less than the floor, and so it reads as 0. The price is ten more half-lives until a contribution
//! can be pruned.
//!
//! The invariant: inside this module amounts are Q64.64 in a u128 and at most [`most`](CouplingSchema::most), 2⁹²,
//! so that no sum of contributions that fits in memory overflows.

use consilience_base::Timestamp;
use consilience_base::planted::{Fault, planted};

use super::exp2::{self, FRACTION_BITS, exp2};
use super::schema::CouplingSchema;
use super::units::Units;

/// A floor has 2¹⁰ grains.
const GRAIN_BITS: u32 = 10;
/// One contribution holds at most 2⁸ caps.
const MOST_BITS: u32 = 8;
const FRACTION_MASK: u64 = (1 << FRACTION_BITS) - 1;

/// The choice between the two instants between which an amount lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// Either instant, the nearer more often, by a bit that the inputs decide: no bias in the long run.
    ///
    /// Always to take the nearer instant has a bias. Where regular increments hold their balance with the decay, each
    /// is rounded in the same direction, and the balance rests wherever one increment and one decay round to nothing:
    /// off by as much as half a step for each of the increments that make it up (1e-4 was measured with 14,000 of
    /// them). A bit that looks random lets the errors cancel, as dither does in quantisers (Roberts 1962). Which
    /// instant is written is the contributor's own matter, so no other replica has to draw the same.
    Fair,
    /// The later instant, so that the amount is not less than it should be.
    Up,
}

/// `units` as Q64.64.
pub(super) const fn wide(units: Units) -> u128 {
    (units.to_bits() as u128) << 32
}

/// A Q64.64 amount in units, rounded down; saturates.
pub(super) fn narrow(amount: u128) -> Units {
    Units::from_bits(u64::try_from(amount >> 32).unwrap_or(u64::MAX))
}

impl CouplingSchema {
    /// τ: the half-lives since the epoch as Q40.24, rounded down; saturates.
    #[inline]
    pub(super) fn tau(&self, now: Timestamp) -> u64 {
        let now = if planted(Fault::NothingDecays) { Timestamp::EPOCH } else { now };
        let instant = (u128::from(now.as_millis()) << FRACTION_BITS) / u128::from(self.half_life_ms());
        u64::try_from(instant).unwrap_or(u64::MAX)
    }

    /// The most that one contribution amounts to: 2⁸ caps, as Q64.64.
    #[inline]
    pub(super) const fn most(&self) -> u128 {
        wide(self.cap()) << MOST_BITS
    }

    /// The amount at `tau` of the contribution that ends at `z`, as Q64.64, rounded down.
    #[inline]
    pub(super) const fn amount(&self, z: u64, tau: u64) -> u128 {
        let left = z.saturating_sub(tau);
        if left == 0 {
            return 0;
        }
        if left >= self.span {
            return self.most();
        }
        // Q32.32 · Q63 / 2¹⁰ is Q95 · 2¹⁰, and the result is Q64. A span is at most 38 half-lives (2²⁰ · 2⁸ · 2¹⁰
        // grains), so the shift is at least 3; the product is below 2⁵² · 2⁶⁴.
        let mantissa = exp2(low_fraction(left)) as u128;
        (self.floor().to_bits() as u128 * mantissa) >> (31 + GRAIN_BITS as u64 - (left >> FRACTION_BITS))
    }

    /// The instant at which `own`, this contributor's present instant, plus `by` (Q64.64) will have decayed to a grain.
    /// Never before `own`; the excess over 2⁸ caps is cut off.
    pub(super) fn raised(&self, own: u64, by: u128, tau: u64, rounding: Rounding) -> u64 {
        let total = self.amount(own, tau).saturating_add(by).min(self.most());
        let (whole, mantissa) = self.ratio(total);
        let fraction = match rounding {
            Rounding::Fair => exp2::log2_dithered(mantissa, mixed(own, tau, mantissa)),
            Rounding::Up => exp2::log2_ceil(mantissa),
        };
        let mut z = tau.saturating_add((whole << FRACTION_BITS) + u64::from(fraction));
        // Both the ratio and the amount are rounded down: one more step makes up for either. Amounts rise with z up
        // to `most`, so this ends; at the end of time nothing can be raised any more.
        while rounding == Rounding::Up && z < u64::MAX && self.amount(z, tau) < total {
            z += 1;
        }
        z.max(own)
    }

    /// How long `total` (Q64.64, at least a grain) takes to decay to a grain, in half-lives as Q40.24, rounded up.
    pub(super) const fn span_of(&self, total: u128) -> u64 {
        let (whole, mantissa) = self.ratio(total);
        (whole << FRACTION_BITS) + exp2::log2_ceil(mantissa) as u64
    }

    /// `total` over a grain, as a power of two and a Q63 mantissa, rounded down. An amount below a grain counts as a
    /// grain.
    #[expect(clippy::cast_possible_truncation, reason = "the quotient of two mantissas, scaled to one")]
    const fn ratio(&self, total: u128) -> (u64, u64) {
        let floor = self.floor().to_bits();
        let (total_zeros, floor_zeros) = (total.leading_zeros(), floor.leading_zeros());
        if total_zeros == 128 {
            return (0, 1 << 63);
        }
        let dividend = ((total << total_zeros) >> 64) as u64;
        let divisor = floor << floor_zeros;
        // A grain is floor · 2³² / 2¹⁰ as Q64.64.
        let exponent = (127 + GRAIN_BITS + floor_zeros) as i64 - (63 + 32 + total_zeros) as i64;
        let (exponent, shift) = if dividend >= divisor { (exponent, 63) } else { (exponent - 1, 64) };
        if exponent < 0 {
            return (0, 1 << 63);
        }
        (exponent.cast_unsigned(), (((dividend as u128) << shift) / divisor as u128) as u64)
    }

    /// A sum of strengthenings less a sum of weakenings, both Q64.64, as it is read: 0 below the floor, at most the
    /// cap.
    #[inline]
    pub(super) fn read(&self, strengthened: u128, weakened: u128) -> Units {
        let total = strengthened.saturating_sub(weakened);
        if total < wide(self.floor()) { Units::ZERO } else { narrow(total).min(self.cap()) }
    }

    /// Whether a contribution that ends at `z` could have been made at `stamp`: it then amounts to at most 2⁸ caps.
    ///
    /// A contribution that the mutators of [`Coupling`](super::Coupling) make at `now` is always admitted at `now` and
    /// later. The collection itself believes every instant, and only reads clamp it: to refuse some instants on merge
    /// is for a host that knows when they were stamped.
    #[must_use]
    pub fn admits(&self, z: u64, stamp: Timestamp) -> bool {
        z.saturating_sub(self.tau(stamp)) <= self.span || planted(Fault::InstantsHaveNoBound)
    }

    /// The instant at which a contribution ends that amounts to as much at `to` as the one that ends at `z` does at `from`:
    /// what it should have been where the clock said `from` and it was `to`. Not below 0, the epoch; saturates.
    #[must_use]
    pub fn moved(&self, z: u64, from: Timestamp, to: Timestamp) -> u64 {
        z.saturating_sub(self.tau(from)).saturating_add(self.tau(to))
    }

    /// The amount at `now` of a contribution that ends at the instant `z` (half-lives since the epoch, Q40.24), rounded
    /// down: at most 2⁸ caps, and 0 from the instant on. The floor only counts where contributions are summed up and
    /// read.
    #[must_use]
    pub fn amount_at(&self, z: u64, now: Timestamp) -> Units {
        narrow(self.amount(z, self.tau(now)))
    }
}

/// A number that looks random and depends on all three (the finaliser of SplitMix64: Steele, Lea and Flood 2014).
const fn mixed(own: u64, tau: u64, mantissa: u64) -> u64 {
    let mut bits = own.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ tau.rotate_left(32) ^ mantissa;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[inline]
const fn low_fraction(left: u64) -> u32 {
    (left & FRACTION_MASK) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas() -> [CouplingSchema; 5] {
        [
            CouplingSchema::with_half_life(604_800_000),
            CouplingSchema::with_half_life(CouplingSchema::HALF_LIFE_MS_MAX),
            CouplingSchema::new(1_000, CouplingSchema::FLOOR_MIN, Units::new(16)),
            CouplingSchema::new(1_000, Units::from_bits(65_537), Units::from_bits(65_538)),
            CouplingSchema::new(86_400_000, Units::from_bits((1 << 52) - 1), CouplingSchema::CAP_MAX),
        ]
        .map(|schema| schema.unwrap())
    }

    #[test]
    fn half_lives_halve_and_a_contribution_ends_at_a_grain() {
        for schema in schemas() {
            let grain = wide(schema.floor()) >> GRAIN_BITS;
            assert_eq!(schema.amount(7, 7), 0);
            assert_eq!(schema.amount(6, 7), 0);
            let mut halves = 0;
            while (halves + 1) << FRACTION_BITS < schema.span {
                halves += 1;
                assert_eq!(schema.amount(halves << FRACTION_BITS, 0), grain << halves);
            }
            assert!(halves >= 18);
            assert_eq!(schema.amount(u64::MAX, 0), schema.most());
        }
    }

    #[test]
    fn amounts_never_fall_as_instants_rise() {
        for schema in schemas() {
            let mut last = 0;
            for z in (0..schema.span).step_by(9_973).chain(schema.span - 3..schema.span + 3) {
                let amount = schema.amount(z, 0);
                assert!(amount >= last && amount <= schema.most());
                last = amount;
            }
        }
    }

    #[test]
    fn the_instant_of_an_amount_gives_the_amount_back() {
        for schema in schemas() {
            let tau = 1 << 40;
            for z in (tau + 1..tau + schema.span).step_by(99_991) {
                let amount = schema.amount(z, tau);
                // An amount is rounded down, so its own instant is the one above.
                assert!(z - schema.raised(0, amount, tau, Rounding::Fair) <= 1);
                let up = schema.raised(0, amount, tau, Rounding::Up);
                assert!(up - z <= 1 && schema.amount(up, tau) >= amount);
                let more = schema.raised(0, amount + 1, tau, Rounding::Up);
                assert!(more - z <= 1 && schema.amount(more, tau) > amount);
            }
            let up = schema.raised(0, u128::MAX, tau, Rounding::Up);
            assert_eq!(up, tau + schema.span);
            assert!(schema.raised(0, u128::MAX, tau, Rounding::Fair) <= up);
        }
    }

    #[test]
    fn what_is_made_now_is_admitted_now() {
        for schema in schemas() {
            for millis in [0, 1, 1_700_000_000_000, u64::MAX / 2, u64::MAX] {
                let now = Timestamp::from_millis(millis);
                let tau = schema.tau(now);
                for by in [wide(schema.floor()) * 2, schema.most(), u128::MAX] {
                    let z = schema.raised(0, by, tau, Rounding::Up);
                    assert!(schema.admits(z, now));
                    assert_eq!(schema.admits(z.saturating_add(schema.span), now), z == u64::MAX);
                }
            }
        }
    }
}
