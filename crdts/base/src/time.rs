//! Two kinds of time: [`Timestamp`], a reading of the host's clock, and [`Hlc`], the hybrid logical clock that orders
//! writes. Nothing here reads a clock: the host passes `now` in.

use core::fmt;

/// Milliseconds since the Unix epoch, any `u64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The last representable instant.
    pub const MAX: Self = Self(u64::MAX);

    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// From seconds since the Unix epoch; saturates.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This instant moved by `millis` into the future; saturates.
    #[must_use]
    pub const fn saturating_add_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

#[cfg(feature = "std")]
impl From<std::time::SystemTime> for Timestamp {
    /// Instants before the epoch become the epoch; instants beyond `u64` milliseconds saturate.
    fn from(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A hybrid logical clock reading: 48 bits of milliseconds above a 16-bit counter, ordered as one `u64`
/// (Kulkarni et al. 2014).
///
/// As a stamp it only chooses between *concurrent* writes: a write that saw another one always beats it, so a stamp
/// from a wrong clock cannot hold a key. As a clock, [`tick`](Self::tick) and [`observe`](Self::observe) keep it
/// rising. Milliseconds saturate at 2⁴⁸ − 1 (the year 10889), and so does the counter there.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Hlc(u64);

impl Hlc {
    /// The smallest reading.
    pub const ZERO: Self = Self(0);
    /// The greatest reading, at which the clock stands still.
    pub const MAX: Self = Self(u64::MAX);
    const MILLIS_MAX: u64 = (1 << 48) - 1;

    /// From a wall-clock reading and a logical counter; milliseconds beyond 48 bits saturate.
    #[must_use]
    pub const fn new(time: Timestamp, logical: u16) -> Self {
        let millis = if time.0 > Self::MILLIS_MAX { Self::MILLIS_MAX } else { time.0 };
        Self((millis << 16) | logical as u64)
    }

    /// From its 64 bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its 64 bits: milliseconds in the upper 48, the counter in the lower 16.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The wall-clock part.
    #[must_use]
    pub const fn time(self) -> Timestamp {
        Timestamp(self.0 >> 16)
    }

    /// The logical counter.
    #[must_use]
    pub const fn logical(self) -> u16 {
        let [low, high, ..] = self.0.to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// The next reading at `now`, for a write: later than every reading before. A full counter borrows one
    /// millisecond from the future; at [`Hlc::MAX`] the clock stands still instead of wrapping.
    pub const fn tick(&mut self, now: Timestamp) -> Self {
        let wall = Self::new(now, 0);
        // The counter sits below the milliseconds, so adding one carries into them by itself.
        self.0 = if wall.0 > self.0 { wall.0 } else { self.0.saturating_add(1) };
        *self
    }

    /// Takes a remote reading in, so that the next [`tick`](Self::tick) is later than it.
    ///
    /// The remote reading is believed as it is. A host that talks to strangers refuses or defers readings far ahead
    /// of its own clock before it calls this.
    pub const fn observe(&mut self, remote: Self) {
        if remote.0 > self.0 {
            self.0 = remote.0;
        }
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hlc({} ms + {})", self.time().0, self.logical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hlc_counter_overflow_borrows_a_millisecond() {
        let now = Timestamp::from_millis(1_000);
        let mut clock = Hlc::new(now, u16::MAX);
        let before = clock;
        let next = clock.tick(now);
        assert!(next > before);
        assert_eq!((next.time().as_millis(), next.logical()), (1_001, 0));
    }

    #[test]
    fn hlc_rises_while_the_wall_clock_stands_or_falls() {
        let mut clock = Hlc::ZERO;
        let mut last = Hlc::ZERO;
        for now in [5, 5, 5, 3, 0, 6, 6, 2] {
            let stamp = clock.tick(Timestamp::from_millis(now));
            assert!(stamp > last);
            last = stamp;
        }
    }

    #[test]
    fn u64_max_stamps_saturate() {
        assert_eq!(Hlc::new(Timestamp::MAX, u16::MAX), Hlc::MAX);
        let mut clock = Hlc::MAX;
        assert_eq!(clock.tick(Timestamp::MAX), Hlc::MAX);
        clock.observe(Hlc::MAX);
        assert_eq!(clock, Hlc::MAX);
        assert_eq!(Timestamp::MAX.saturating_add_millis(1), Timestamp::MAX);
        assert_eq!(Timestamp::from_secs(u64::MAX), Timestamp::MAX);
    }

    #[test]
    fn a_reading_observed_is_passed_by_the_next_tick() {
        let mut clock = Hlc::ZERO;
        let remote = Hlc::new(Timestamp::from_millis(9_000), 7);
        clock.observe(remote);
        assert!(clock.tick(Timestamp::from_millis(1)) > remote);
    }
}
