//! How many bytes may be on their way: slow start, then a packet more each round trip, and half after a loss
//! (RFC 5681, with the recovery periods of RFC 9002).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[derive(Debug)]
pub(super) struct Congestion {
    controlled: bool,
    packet: usize,
    window: usize,
    /// Slow start ends here.
    threshold: usize,
    /// Acknowledged bytes that did not yet count; a whole window of them adds a packet to it.
    credit: usize,
    /// Transmissions before this one were sent into a window that has been reduced since.
    recovery: u64,
}

impl Congestion {
    const PACKETS_FIRST: usize = 10;
    const PACKETS_FLOOR: usize = 4;
    const PACKETS_FLOOR_LONG: usize = 2;
    /// Ten packets of the length that most paths carry. Longer ones, over a transport that orders them
    /// itself, begin with fewer (RFC 9002, section 7.2): on a slow path they would all time out before the
    /// first is through.
    const BYTES_FIRST: usize = 14_720;

    /// Not `controlled` on a transport that holds back by itself: then only the peer's window counts.
    pub(super) fn new(packet: usize, controlled: bool) -> Self {
        if !controlled {
            let window = usize::MAX;
            return Self { controlled, packet, window, threshold: window, credit: 0, recovery: 0 };
        }
        let window = Self::BYTES_FIRST.max(packet.saturating_mul(Self::PACKETS_FLOOR_LONG));
        let window = window.min(packet.saturating_mul(Self::PACKETS_FIRST));
        Self { controlled, packet, window, threshold: usize::MAX, credit: 0, recovery: 0 }
    }

    /// Whether so many bytes more may go out. Something always may.
    pub(super) const fn allows(&self, in_flight: usize, bytes: usize) -> bool {
        in_flight == 0 || in_flight.saturating_add(bytes) <= self.window
    }

    /// Whether an acknowledged transmission was sent since the last reduction, and counts for growth.
    pub(super) const fn counts(&self, transmission: u64) -> bool {
        transmission >= self.recovery
    }

    /// So many bytes that count were acknowledged, when so many had been on their way.
    pub(super) fn acknowledged(&mut self, bytes: usize, in_flight: usize) {
        if !self.controlled {
            return;
        }
        let slow_start = self.window < self.threshold;
        // A window that nobody fills was not tried out.
        let tried = if slow_start { self.window / 2 } else { self.window.saturating_sub(self.packet) };
        if in_flight < tried {
            return;
        }
        if slow_start {
            self.window = self.window.saturating_add(bytes).min(self.threshold);
            return;
        }
        self.credit = self.credit.saturating_add(bytes);
        if self.credit >= self.window {
            self.credit = self.credit.saturating_sub(self.window).min(self.window);
            self.window = self.window.saturating_add(self.packet);
        }
    }

    /// A transmission is lost, and `next` is the one to come. Reduces once in a round trip.
    pub(super) fn lost(&mut self, transmission: u64, next: u64) {
        if self.controlled && self.counts(transmission) {
            self.window = (self.window / 2).max(self.floor());
            self.threshold = self.window;
            self.credit = 0;
            self.recovery = next;
        }
    }

    /// Nothing came in time.
    pub(super) fn timed_out(&mut self, next: u64) {
        if !self.controlled {
            return;
        }
        // Only the first of several in a row: afterwards the window says nothing of the path.
        if self.window > self.floor() {
            self.threshold = (self.window / 2).max(self.floor());
        }
        self.window = self.floor();
        self.credit = 0;
        self.recovery = next;
    }

    fn floor(&self) -> usize {
        let least = Self::BYTES_FIRST.max(self.packet.saturating_mul(Self::PACKETS_FLOOR_LONG));
        self.packet.saturating_mul(Self::PACKETS_FLOOR).min(least)
    }
}
