//! How long a round trip takes, and how long to wait for one (RFC 6298).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Times in milliseconds; the averages are kept in eighths and quarters of one, which the weights of the RFC
/// divide.
#[derive(Debug)]
pub(super) struct Rtt {
    /// Whether packets get lost on the way. A transport that repeats them itself is only slow, and whatever is sent again
    /// there waits behind the first.
    lossy: bool,
    /// The smoothed round trip, its variation, and the shortest one; none before the first sample.
    known: Option<Estimate>,
    /// How often the wait has doubled since anything was acknowledged, and whether the first, short one is
    /// over.
    backoff: u32,
    probed: bool,
    /// Since the last sample: how long a chunk took that was sent again, and how many there were.
    unsure: u64,
    unsure_chunks: u32,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    eighths: u64,
    var_quarters: u64,
    latest: u64,
    least: u64,
}

impl Rtt {
    const TIMEOUT_FIRST: u64 = 1_000;
    const TIMEOUT_MIN: u64 = 200;
    /// Where packets get lost only if the host drops them.
    const TIMEOUT_MIN_ORDERED: u64 = 5_000;
    const TIMEOUT_MAX: u64 = 30_000;
    /// A path on which nothing came is tried again at least so often, or each second timeout if that is longer: it may be back
    /// at any moment, and nobody tells.
    const PROBE_MAX: u64 = 1_000;
    /// The blur of clocks and schedulers.
    const GRAIN: u64 = 5;
    /// The time that a peer may take for an answer.
    const ANSWER: u64 = 25;
    const UNSURE_CHUNKS_MAX: u32 = 4;
    /// Enough to reach the longest wait from the shortest timeout.
    const BACKOFF_MAX: u32 = 8;

    pub(super) const fn new(lossy: bool) -> Self {
        Self { lossy, known: None, backoff: 0, probed: false, unsure: 0, unsure_chunks: 0 }
    }

    /// A chunk that was sent once was acknowledged after so long. Of one that was sent again it is not known
    /// which transmission arrived, so it says nothing (Karn and Partridge 1987).
    pub(super) fn sample(&mut self, rtt: u64) {
        // Longer than any timeout says no more than that, and keeps the sums small.
        let rtt = rtt.min(Self::TIMEOUT_MAX);
        self.backoff = 0;
        self.probed = false;
        self.unsure = 0;
        self.unsure_chunks = 0;
        self.known = Some(match self.known {
            None => Estimate {
                eighths: rtt.saturating_mul(8),
                var_quarters: rtt.saturating_mul(2),
                latest: rtt,
                least: rtt,
            },
            Some(known) => {
                let off = (known.eighths / 8).abs_diff(rtt);
                let var_quarters = known.var_quarters.saturating_sub(known.var_quarters / 4);
                let eighths = known.eighths.saturating_sub(known.eighths / 8);
                Estimate {
                    eighths: eighths.saturating_add(rtt),
                    var_quarters: var_quarters.saturating_add(off),
                    latest: rtt,
                    least: known.least.min(rtt),
                }
            }
        });
    }

    /// A chunk that was sent again was acknowledged so long after it was first sent.
    ///
    /// The RFC keeps the doubled wait until there is a sample. On a path that loses much that is long, and it
    /// is enough to wait as long as this took: if the path has become slower, the next chunk is not sent
    /// again and gives a sample.
    pub(super) fn sample_at_most(&mut self, rtt: u64) {
        self.backoff = 0;
        self.unsure = rtt.saturating_add(Self::ANSWER).min(Self::TIMEOUT_MAX);
        self.unsure_chunks = self.unsure_chunks.saturating_add(1);
        // Nor does one that the short wait sends again give any.
        self.probed = self.unsure_chunks >= Self::UNSURE_CHUNKS_MAX;
    }

    pub(super) fn smoothed(&self) -> Option<u64> {
        self.known.map(|known| known.eighths / 8)
    }

    /// The shortest round trip so far; 0 if there was none.
    pub(super) fn least(&self) -> u64 {
        self.known.map_or(0, |known| known.least)
    }

    /// How long after a chunk was sent it is lost, if a later one arrived. After RFC 8985 and RFC 9002: a
    /// round trip and the time by which packets may be out of order, for which the variation is a better measure
    /// than a fixed share of it.
    pub(super) fn reordering(&self) -> u64 {
        self.known.map_or(Self::TIMEOUT_FIRST, |known| {
            let rtt = known.latest.max(known.eighths / 8);
            rtt.saturating_add((rtt / 8).max(known.var_quarters / 4).max(Self::GRAIN))
        })
    }

    /// How long to wait for any acknowledgement.
    ///
    /// At first two round trips if that is less than the timeout (RFC 8985, section 7): the loss of the last
    /// chunk, or of an acknowledgement, need not stop a fast path for the shortest timeout.
    pub(super) fn wait(&self) -> u64 {
        self.short_wait().unwrap_or_else(|| {
            let factor = 1_u64.checked_shl(self.backoff).unwrap_or(u64::MAX);
            let timeout = self.timeout();
            let most = timeout.saturating_mul(2).clamp(Self::PROBE_MAX, Self::TIMEOUT_MAX);
            timeout.saturating_mul(factor).min(most)
        })
    }

    /// The path may be back: the wait begins anew.
    pub(super) const fn nudge(&mut self) {
        self.backoff = 0;
        self.probed = false;
    }

    /// Nothing came in time. Whether that was a whole timeout.
    pub(super) fn waited(&mut self) -> bool {
        let whole = self.short_wait().is_none();
        if whole {
            self.backoff = self.backoff.saturating_add(1).min(Self::BACKOFF_MAX);
        }
        self.probed = true;
        whole
    }

    fn short_wait(&self) -> Option<u64> {
        let known = self.known.filter(|_| self.lossy && !self.probed)?;
        let rtt = known.eighths / 8;
        let wait = rtt.saturating_add(rtt.max(known.var_quarters)).saturating_add(Self::ANSWER);
        (wait < self.timeout()).then_some(wait)
    }

    fn timeout(&self) -> u64 {
        let timeout = self.known.map_or(Self::TIMEOUT_FIRST, |known| {
            // Kept in quarters, the variation is four times as large.
            (known.eighths / 8).saturating_add(known.var_quarters.max(Self::GRAIN))
        });
        let least = if self.lossy { Self::TIMEOUT_MIN } else { Self::TIMEOUT_MIN_ORDERED };
        timeout.max(self.unsure).clamp(least, Self::TIMEOUT_MAX)
    }
}
