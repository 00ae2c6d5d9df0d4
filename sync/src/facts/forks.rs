//! [`Forks`]: what is known of the forks of one log.

use alloc::vec::Vec;

use crate::log::Evidence;
use consilience_base::planted::{Fault, planted};

/// What is known of the forks of one log: where its histories part, and what the writer has given up in any of them.
///
/// Of all evidence that came, two pieces say everything: the least, whose roots differ at the smallest size, and the one of
/// the greatest base. The second is left out where the first says as much, and for state logs, of which nothing counts once
/// they are forked. Joining is associative, commutative and idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forks {
    least: Evidence,
    /// Only with a base above that of the least.
    floor: Option<Evidence>,
}

impl Forks {
    /// Of the first evidence.
    #[must_use]
    pub const fn new(evidence: Evidence) -> Self {
        Self { least: evidence, floor: None }
    }

    /// Joins evidence about the same log. Whether it says more than was known.
    pub fn join(&mut self, evidence: Evidence) -> bool {
        if planted(Fault::FirstEvidenceStands) {
            return false;
        }
        let mut pieces: Vec<Evidence> = self.pieces().cloned().chain([evidence]).collect();
        pieces.sort_unstable();
        let mut pieces = pieces.into_iter();
        let Some(least) = pieces.next() else { return false };
        // Of those with the greatest base the least: in this order it is the last.
        let floor = pieces.rev().max_by_key(Evidence::base);
        let floor = floor.filter(|floor| floor.is_of_events() && floor.base() > least.base());
        let floor = floor.filter(|_| !planted(Fault::ForkHasNoFloor));
        let joined = Self { least, floor };
        let news = joined != *self;
        *self = joined;
        news
    }

    /// The evidence at the smallest size.
    #[must_use]
    pub const fn least(&self) -> &Evidence {
        &self.least
    }

    /// The pieces of evidence that say all of it, one or two. That of the greater base comes first: a copy of the log that
    /// begins there is not taken for an incomplete one while they come.
    pub fn pieces(&self) -> impl Iterator<Item = &Evidence> {
        self.floor.iter().chain([&self.least])
    }

    /// Entries from here on do not count.
    #[must_use]
    pub const fn valid_below(&self) -> u64 {
        self.least.valid_below()
    }

    /// Entries of an event log below this number do not count: the writer has signed in one of its histories that nobody
    /// needs them. Not above [`valid_below`](Self::valid_below).
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor.as_ref().unwrap_or(&self.least).base().min(self.valid_below())
    }
}
