//! How many bytes may be on their way: as many as fill the path and let a few packets wait before its narrowest link.
//!
//! The measure is the time that packets wait, and not their loss. A radio loses one packet in a hundred whatever is sent, and
//! a sender that halves its window for each loss (RFC 5681) moves 1.2 packets / √0.01 = 12 packets a round trip over such a
//! path, however wide that is. So the window follows the round trip, after FAST TCP (Wei, Jin, Low and Hegde 2006): once a
//! round it goes half of the way to `window · base / round trip + a few packets`, `base` being the round trip of an empty
//! path. Where much waits, the window shrinks by what waits; at rest those few packets are what waits; and where nothing waits
//! it grows, by more in each such round. A new path is tried out by slow start, until packets wait (after RFC 9406).
//!
//! A queue that is too short for its wait to be seen loses what does not fit; so a round that loses more than a sixteenth
//! shrinks the window by the share that was lost.
//!
//! *A round* goes from a transmission to the acknowledgement of a later one, so it takes about a round trip. Of its round
//! trips the shortest counts: a peer may wait before it acknowledges, and a burst waits for itself.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// What an acknowledgement says of the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acked {
    /// The bytes that it is the first to name.
    pub(super) bytes: usize,
    /// How many were on their way before it came.
    pub(super) in_flight: usize,
    /// The latest transmission that it names, and the number of the next one to come.
    pub(super) latest: u64,
    pub(super) next: u64,
    /// The round trip of that transmission in milliseconds, if it is known, and the smoothed one.
    pub(super) rtt: Option<u64>,
    pub(super) smoothed: Option<u64>,
    pub(super) now: u64,
}

#[derive(Debug)]
pub(super) struct Congestion {
    controlled: bool,
    packet: usize,
    window: usize,
    slow_start: bool,
    /// In so many rounds in a row nothing waited.
    idle: u32,
    base: Base,
    round: Round,
    pace: Pace,
}

/// What may go out at once, in bytes: as a window that leaves in one burst waits for itself, and for bursts of the other
/// direction, bytes are given out at the rate of a window a round trip, and somewhat more (RFC 9002, section 7.7).
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    ready: usize,
    at: u64,
    /// The smoothed round trip in milliseconds; 0 before there is one, and nothing is held back.
    rtt: u64,
}

/// What happened since a round began.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// It ends when this transmission or a later one has arrived.
    end: u64,
    acked: usize,
    lost: usize,
    /// The shortest round trip in it, and of how many.
    rtt: Option<u64>,
    samples: u32,
    /// Whether the window held anything back: one that nobody fills is not tried out.
    filled: bool,
}

/// The round trip of an empty path: the shortest of the last 10 to 20 seconds, since paths change.
#[derive(Clone, Copy, Debug, Default)]
struct Base {
    since: u64,
    now: Option<u64>,
    before: Option<u64>,
}

impl Base {
    const HALF_MS: u64 = 10_000;

    fn sample(&mut self, rtt: u64, now: u64) {
        if now.saturating_sub(self.since) >= Self::HALF_MS {
            *self = Self { since: now, now: None, before: self.now };
        }
        self.now = Some(self.now.map_or(rtt, |least| least.min(rtt)));
    }

    fn get(&self) -> Option<u64> {
        self.now.into_iter().chain(self.before).min()
    }
}

impl Congestion {
    const PACKETS_FIRST: usize = 10;
    const PACKETS_FLOOR: usize = 4;
    const PACKETS_FLOOR_LONG: usize = 2;
    /// Ten packets of the length that most paths carry. Longer ones, over a transport that orders them
    /// itself, begin with fewer (RFC 9002, section 7.2): on a slow path they would all time out before the
    /// first is through.
    const BYTES_FIRST: usize = 14_720;
    /// At least so many packets may wait, and a twelfth of the window.
    const PACKETS_WAIT: usize = 4;
    const WINDOW_WAITS: usize = 12;
    /// Where nothing waits, the growth doubles so many times at most: to half of the window a round.
    const IDLE_MAX: u32 = 4;
    /// More than one byte in so many is too much to lose, beside two packets, which say nothing.
    const LOSS: usize = 16;
    /// Bytes are given out at 5/4 windows a round trip, or at 3 in slow start.
    const PACE: usize = 5;
    const PACE_SLOW_START: usize = 12;
    const PACE_BASE: usize = 4;
    /// A wait below this is a clock's blur, in milliseconds.
    const GRAIN_MS: u64 = 4;
    /// The longest wait at which slow start goes on, in milliseconds, and after so many round trips it is known: RFC 9406.
    const SLOW_START_MS: u64 = 16;
    const SLOW_START_SAMPLES: u32 = 8;

    /// Not `controlled` on a transport that holds back by itself: then only the peer's window counts.
    pub(super) fn new(packet: usize, controlled: bool) -> Self {
        let window = if controlled {
            let window = Self::BYTES_FIRST.max(packet.saturating_mul(Self::PACKETS_FLOOR_LONG));
            window.min(packet.saturating_mul(Self::PACKETS_FIRST))
        } else {
            usize::MAX
        };
        Self {
            controlled,
            packet,
            window,
            slow_start: true,
            idle: 0,
            base: Base::default(),
            round: Round::default(),
            pace: Pace::default(),
        }
    }

    /// Whether so many bytes more may go out. Something always may.
    pub(super) const fn allows(&self, in_flight: usize, bytes: usize) -> bool {
        in_flight == 0 || in_flight.saturating_add(bytes) <= self.window
    }

    /// When so many bytes may go out, if that is not now. They are [noted](Self::sent) after they went out.
    pub(super) fn due(&mut self, bytes: usize, now: u64) -> Option<u64> {
        if !self.controlled || self.pace.rtt == 0 {
            return None;
        }
        let gain = if self.slow_start { Self::PACE_SLOW_START } else { Self::PACE };
        let rate = self.window.saturating_mul(gain) / Self::PACE_BASE;
        let burst = self.packet.saturating_mul(Self::PACKETS_FIRST).min(Self::BYTES_FIRST);
        let burst = burst.max(self.packet.saturating_mul(Self::PACKETS_FLOOR_LONG)).max(bytes);
        let passed = now.saturating_sub(self.pace.at);
        self.pace.ready = self.pace.ready.saturating_add(share(rate, passed, self.pace.rtt)).min(burst);
        self.pace.at = now;
        if self.pace.ready >= bytes {
            return None;
        }
        // Not a timer for each packet.
        let wanted = bytes.max(burst / 2).saturating_sub(self.pace.ready);
        let wait = share(usize::try_from(self.pace.rtt).unwrap_or(usize::MAX), wanted as u64, rate as u64);
        Some(now.saturating_add(wait as u64).saturating_add(1))
    }

    /// So many bytes went out.
    pub(super) const fn sent(&mut self, bytes: usize) {
        self.pace.ready = self.pace.ready.saturating_sub(bytes);
    }

    /// Takes an acknowledgement in that named something new, after what it shows to be [lost](Self::lost).
    pub(super) fn acknowledged(&mut self, acked: &Acked) {
        if !self.controlled {
            return;
        }
        self.round.acked = self.round.acked.saturating_add(acked.bytes);
        self.round.filled |= acked.in_flight.saturating_add(self.packet) >= self.window;
        self.pace.rtt = acked.smoothed.unwrap_or_default();
        if let Some(rtt) = acked.rtt {
            self.base.sample(rtt, acked.now);
            self.round.rtt = Some(self.round.rtt.map_or(rtt, |least| least.min(rtt)));
            self.round.samples = self.round.samples.saturating_add(1);
        }
        if self.slow_start && self.round.samples >= Self::SLOW_START_SAMPLES {
            let base = self.base.get().unwrap_or_default();
            let most = (base / 8).clamp(Self::GRAIN_MS, Self::SLOW_START_MS);
            self.slow_start = self.round.rtt.is_none_or(|rtt| rtt.saturating_sub(base) <= most);
        }
        if self.slow_start && self.round.filled {
            self.window = self.window.saturating_add(acked.bytes);
        }
        if acked.latest >= self.round.end {
            self.end_round();
            self.round = Round { end: acked.next, ..Round::default() };
        }
    }

    fn end_round(&mut self) {
        let Round { acked, lost, rtt, filled, .. } = self.round;
        let all = acked.saturating_add(lost);
        let few = (all / Self::LOSS).saturating_add(self.packet.saturating_mul(2));
        if lost > few {
            (self.slow_start, self.idle) = (false, 0);
            let share = share(self.window, lost as u64, all as u64);
            self.set(self.window.saturating_sub(share.min(self.window / 2)));
            return;
        }
        let (Some(rtt), Some(base)) = (rtt, self.base.get()) else { return };
        if self.slow_start {
            return;
        }
        let waited = rtt.saturating_sub(base);
        let seen = waited > Self::GRAIN_MS;
        let waits = if seen { share(self.window, waited, rtt) } else { 0 };
        let may_wait = self.packet.saturating_mul(Self::PACKETS_WAIT).max(self.window / Self::WINDOW_WAITS);
        let target = self.window.saturating_sub(waits).saturating_add(may_wait);
        // A window that is not filled says nothing of how large it might be.
        if target <= self.window || filled {
            // The longer nothing waits, the further away is the size at which something does.
            let more = may_wait.saturating_mul(1_usize << self.idle.min(Self::IDLE_MAX));
            let half_way = (self.window / 2).saturating_add(target / 2);
            self.set(if seen { half_way } else { self.window.saturating_add(more / 2) });
            self.idle = if seen { 0 } else { self.idle.saturating_add(1) };
        }
    }

    /// So many bytes were found to be lost.
    pub(super) const fn lost(&mut self, bytes: usize) {
        self.round.lost = self.round.lost.saturating_add(bytes);
    }

    /// Nothing came in time. What the path carries has to be tried out again.
    pub(super) fn timed_out(&mut self, next: u64) {
        if self.controlled {
            self.window = self.floor();
            (self.slow_start, self.idle) = (true, 0);
            self.round = Round { end: next, ..Round::default() };
        }
    }

    fn set(&mut self, window: usize) {
        self.window = window.max(self.floor());
    }

    fn floor(&self) -> usize {
        let least = Self::BYTES_FIRST.max(self.packet.saturating_mul(Self::PACKETS_FLOOR_LONG));
        self.packet.saturating_mul(Self::PACKETS_FLOOR).min(least)
    }
}

/// The share `part / whole` of some bytes.
fn share(bytes: usize, part: u64, whole: u64) -> usize {
    let bytes = u128::try_from(bytes).unwrap_or_default();
    let share = bytes.saturating_mul(part.into()).checked_div(whole.into()).unwrap_or_default();
    usize::try_from(share).unwrap_or(usize::MAX)
}
