//! Traces, wherever they come from, and the clock that they are replayed by.

pub(crate) mod generate;
pub(crate) mod git;
pub(crate) mod lines;

use std::collections::BTreeMap;

use consilience::crdts::Timestamp;

pub(crate) use crate::process::control::Change;

/// 9999-12-31T23:59:59Z. A later second is a mistake in the trace, and hybrid logical clocks end in 10889.
pub(crate) const TIME_S_MAX: u64 = 253_402_300_799;

/// The changes that an agent made at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Seconds since the Unix epoch, as the trace has it.
    pub(crate) time_s: u64,
    pub(crate) agent: u64,
    pub(crate) changes: Vec<Change>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    /// Its title, for the table.
    pub(crate) title: String,
    pub(crate) events: Vec<Event>,
    /// The agents' names, where they have any.
    pub(crate) names: BTreeMap<u64, String>,
    /// Paths that are too long for a key or are not UTF-8, which only a git repository may have.
    pub(crate) left_out: u64,
}

impl Trace {
    /// The instants at which the events happen in the replay.
    pub(crate) fn instants(&self) -> Vec<Timestamp> {
        let mut clock = VirtualClock::default();
        self.events.iter().map(|event| clock.advance(event.time_s)).collect()
    }
}

/// Trace time, made to rise: the running maximum, and at least a millisecond after the event before. Authors' clocks
/// disagree, so the times of a real trace fall back here and there.
#[derive(Debug, Default)]
struct VirtualClock {
    /// The earliest instant that is still free.
    next_ms: u64,
}

impl VirtualClock {
    const fn advance(&mut self, time_s: u64) -> Timestamp {
        let wanted = Timestamp::from_secs(time_s).as_millis();
        let now_ms = if wanted > self.next_ms { wanted } else { self.next_ms };
        self.next_ms = now_ms + 1;
        Timestamp::from_millis(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_rises_where_trace_time_falls_back() {
        let mut clock = VirtualClock::default();
        let instants = [0, 0, 5, 5, 3, 6, 0].map(|time_s| clock.advance(time_s).as_millis());
        assert_eq!(instants, [0, 1, 5_000, 5_001, 5_002, 6_000, 6_001]);
    }
}
