//! Wall time, summed up over many short calls, and what they took in. The libraries read no clock; measuring is the host's affair.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program may read the clock")]

use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    pub(crate) calls: u64,
    /// Bytes that the calls were given.
    pub(crate) bytes: u64,
    pub(crate) total: Duration,
}

impl Stopwatch {
    /// Runs `work` on `input`.
    pub(crate) fn time<T>(&mut self, input: &[u8], work: impl FnOnce(&[u8]) -> T) -> T {
        let start = Instant::now();
        let done = work(input);
        self.total += start.elapsed();
        self.calls += 1;
        self.bytes += input.len() as u64;
        done
    }

    /// Whole calls a second; 0 if none took any time.
    pub(crate) fn per_second(&self) -> u64 {
        let calls_in_nanos = u128::from(self.calls) * 1_000_000_000;
        let rate = calls_in_nanos.checked_div(self.total.as_nanos()).unwrap_or(0);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}
