//! Real time, by which the run is paced and measured. The libraries read no clock; that is the host's affair.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program may read the clock")]

use std::time::{Duration, Instant};

/// Time since the run began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
