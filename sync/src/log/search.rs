//! [`ForkSearch`]: where two holders' histories of a forked log first differ, in O(log n) exchanges.
//!
//! That roots differ is monotone in the size: below the first difference they are equal, and above they never are
//! again. So it is a bisection. Each step asks the other holder for a proof without entries at one size, which is two
//! peaks' worth of hashes under its head; every answer that differs is better evidence than the one before.

use super::{Evidence, Gone, Log, Range, RangeForm, ReceiveError, Want};
use crate::budget::VerifyBudget;

/// A search in progress. Holds no borrow of the log: the log is passed to each step, and must stay as it is.
#[derive(Clone, Debug)]
pub struct ForkSearch {
    /// Roots are equal at all sizes below that can be compared.
    low: u64,
    /// Sizes from here on cannot be compared here, or no head here vouches for them.
    end: u64,
    /// They differ here.
    evidence: Evidence,
}

/// The next step of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchStep {
    /// Ask the other holder for this, and hand the answer to [`ForkSearch::handle`] or [`ForkSearch::handle_gone`].
    Ask(Want),
    /// This is the best evidence that the two copies can give.
    Done(Evidence),
}

impl ForkSearch {
    /// Begins from evidence that a range has shown ([`Received::Forked`](super::Received::Forked)).
    #[must_use]
    pub fn new(log: &Log, evidence: Evidence) -> Self {
        Self { low: log.start().max(1), end: log.signed_size().saturating_add(1), evidence }
    }

    /// The next step. The same until an answer is handled.
    #[must_use]
    pub fn step(&self) -> SearchStep {
        let high = self.evidence.size().min(self.end);
        if self.low >= high {
            return SearchStep::Done(self.evidence.clone());
        }
        let at = self.low + (high - self.low) / 2;
        SearchStep::Ask(Want { from: at, to: at, form: RangeForm::Alone })
    }

    /// Takes an answer in: a range without entries at the size asked for.
    ///
    /// # Errors
    ///
    /// If it is none, or does not prove. Nothing changed; ask again, or another holder.
    pub fn handle(
        &mut self,
        log: &Log,
        answer: &[u8],
        budget: &mut VerifyBudget,
    ) -> Result<(), ReceiveError> {
        match self.step() {
            SearchStep::Ask(_) => self.handle_range(log, &Range::parse(answer)?, budget),
            SearchStep::Done(_) => Ok(()),
        }
    }

    /// [`handle`](Self::handle) for an answer of which the first bytes were read.
    pub(crate) fn handle_range(
        &mut self,
        log: &Log,
        answer: &Range<'_>,
        budget: &mut VerifyBudget,
    ) -> Result<(), ReceiveError> {
        let SearchStep::Ask(want) = self.step() else { return Ok(()) };
        match log.compare(answer, want.from, budget)? {
            Some(evidence) => self.evidence = evidence,
            None => self.low = want.from + 1,
        }
        Ok(())
    }

    /// Takes in that the other holder has nothing below a size.
    pub fn handle_gone(&mut self, gone: Gone) {
        self.low = self.low.max(gone.below);
    }
}
