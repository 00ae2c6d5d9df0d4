//! [`Openings`]: openings that came, of logs that have no place yet. A range of such a log comes after its opening and names
//! it by the alias alone, so the opening has to be remembered until then.
//!
//! The invariant: what is remembered here belongs to one session, has a limit, and is nothing but the peer's claim.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::VecDeque;

use super::message::Alias;
use crate::identity::{LogId, LogOpening, NamedOpening};

/// So many openings wait for something signed. A sender has few on their way between an opening and its range; those that do
/// not fit are found again by the next round.
const WAITING_MAX: usize = 64;

/// Openings without anything signed, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Openings(VecDeque<NamedOpening>);

impl Openings {
    /// Remembers one, in the place of the oldest if there is no room.
    pub(super) fn remember(&mut self, opening: NamedOpening) {
        let alias = opening.id().alias();
        self.0.retain(|known| known.id().alias() != alias);
        if self.0.len() >= WAITING_MAX {
            self.0.pop_front();
        }
        self.0.push_back(opening);
    }

    /// The one of a log that ranges name so.
    pub(super) fn find(&self, alias: Alias) -> Option<&NamedOpening> {
        self.0.iter().find(|known| known.id().alias() == alias)
    }

    /// Forgets that of a log: it has a place now, or gets none.
    pub(super) fn forget(&mut self, log: &LogId) {
        self.0.retain(|known| known.id() != log);
    }

    /// The most bytes that they take in memory.
    pub(super) fn memory(&self) -> usize {
        self.0.len().saturating_mul(size_of::<NamedOpening>().saturating_add(LogOpening::BYTES_MAX))
    }
}
