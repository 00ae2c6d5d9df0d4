//! Facts: statements about logs that hold for ever.
//!
//! A fact is signed, proves itself without any log, and is never taken back. What is known of one thing joins as a
//! lattice, so replicas that have exchanged their facts know the same, in whatever order these came. The root covers facts
//! as it covers the heads of the logs that count: facts and heads together decide what the state is.
//!
//! There are two kinds so far: evidence that a writer signed two histories of a log, joined to [`Forks`], and [`Pruned`], by
//! which a writer gives up events of earlier logs. Each fact begins with a byte for its kind (`docs/wire/log.md`); one of an
//! unknown kind is not taken in, and the roots differ for as long as one side does not know the kind.
//!
//! A fact is about one log, and has its place in the set by that log, held or not: [`Facts`] is all that is known of one.
//!
//! Not here: which logs count (that is the set's), and the making of evidence (that is the log's, which holds the hashes).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod forks;
mod pruned;

use alloc::boxed::Box;
use alloc::vec::Vec;

use consilience_base::planted::{Fault, planted};
pub use forks::Forks;
pub use pruned::{Pruned, PrunedError, UncheckedPruned};

use crate::hash::Hash;
use crate::log::Evidence;

/// The facts that are known of one log. Of most there are none, so they have boxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Of its forks, if it is forked.
    pub(crate) forks: Option<Box<Forks>>,
    /// Of what its writer has given up by it.
    pub(crate) pruned: Option<Box<Pruned>>,
}

impl Facts {
    /// All that is known of its forks, if it is forked.
    #[must_use]
    pub fn forks(&self) -> Option<&Forks> {
        self.forks.as_deref()
    }

    /// Its writer's word on what is given up of it and of all earlier ones, if it has said that of this log.
    #[must_use]
    pub fn pruned(&self) -> Option<&Pruned> {
        self.pruned.as_deref()
    }

    /// Joins evidence of a fork. Whether it says more than was known.
    pub(crate) fn join_fork(&mut self, evidence: Evidence) -> bool {
        if let Some(forks) = &mut self.forks {
            return forks.join(evidence);
        }
        self.forks = Some(Box::new(Forks::new(evidence)));
        true
    }

    /// Joins a statement about the same log. Whether it says more than was known.
    pub(crate) fn join_pruned(&mut self, pruned: Pruned) -> bool {
        let is_more = |known: &Pruned| known.below() < pruned.below() && !planted(Fault::FirstWordStands);
        let news = self.pruned.as_ref().is_none_or(|known| is_more(known));
        if news {
            self.pruned = Some(Box::new(pruned));
        }
        news
    }

    /// Entries from here on do not count, as the log is forked.
    pub(crate) fn valid_below(&self) -> Option<u64> {
        let more = |forks: &Forks| planted(Fault::CutCountsOneMore) && forks.least().is_of_events();
        self.forks().map(|forks| forks.valid_below().saturating_add(u64::from(more(forks))))
    }

    /// Entries below are needed by nobody, whatever the log says of them.
    pub(crate) fn floor(&self) -> u64 {
        let pruned = self.pruned().filter(|_| !planted(Fault::PrunedIsNoFloor)).map_or(0, Pruned::below);
        self.forks().map_or(0, Forks::floor).max(pruned)
    }

    /// A hash over all of them; `None` if there are none.
    #[must_use]
    pub fn digest(&self) -> Option<Hash> {
        let pruned = self.pruned().map(Pruned::statement);
        let forks = self.forks().filter(|_| !planted(Fault::ForkNotInRoot));
        let least = forks.map(Forks::least).filter(|_| planted(Fault::FloorNotInRoot));
        let forks = forks.into_iter().flat_map(Forks::pieces);
        let forks = forks.filter(|piece| least.is_none_or(|least| least == *piece)).map(Evidence::as_bytes);
        let all: Vec<&[u8]> = forks.chain(pruned.iter().map(|statement| &statement[..])).collect();
        (!all.is_empty()).then(|| Hash::from_bytes(*blake3::hash(&all.concat()).as_bytes()))
    }
}
