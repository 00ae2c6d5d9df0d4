//! What a log says of earlier incarnations of its agent, and what later ones say of it.
//!
//! Not here: which logs follow from that to count (`succession`).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::identity::Incarnation;
use crate::log::{Closure, Log, NewEntry};

/// Whether a log counts, as far as other logs of its agent decide it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    #[default]
    Counts,
    /// A later incarnation has closed all of it that is held.
    Closed,
    /// A later incarnation is forked, or has named it among those that are over; or its writer has given up its events.
    Dead,
}

/// The place of a log among those of its agent in a topic.
#[derive(Clone, Debug, Default)]
pub(super) struct InSuccession {
    pub(super) standing: Standing,
    /// Below which number later incarnations that count have closed it.
    pub(super) closed_below: u64,
    pub(super) dead: bool,
    /// Its local writer has said its content again in a log that cannot close it, as it is of a lower incarnation.
    pub(super) is_abandoned: bool,
    /// Whether the entries that say so are signed. Unsigned ones may yet be taken back, and nobody else has heard of them.
    pub(super) is_settled: bool,
    pub(super) statements: Statements,
}

/// What the retained entries of a log say of earlier incarnations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statements {
    /// The entries that make them, first and last, how many, and of which copy of the log: where these are the same, so is
    /// the rest.
    made_by: Option<(u64, u64, usize, u32)>,
    /// The greatest closure of each.
    pub(super) closures: Vec<(Incarnation, u64)>,
    /// Logs below are dead.
    pub(super) last_final: Option<Incarnation>,
}

/// The greatest closure of each incarnation in these entries, and the greatest final one.
fn greatest(log: &Log, stated: &[u64]) -> (BTreeMap<Incarnation, u64>, Option<Incarnation>) {
    let (mut closures, mut last_final) = (BTreeMap::new(), None);
    for entry in stated.iter().filter_map(|seq| log.entry(*seq)) {
        for closure in entry.closures() {
            let below = closures.entry(closure.incarnation).or_insert(0);
            *below = closure.below.max(*below);
        }
        last_final = last_final.max(entry.last_final());
    }
    (closures, last_final)
}

impl Statements {
    /// Reads those of the entries `[from, to)`, unless the same entries made them before. Whether they were read.
    pub(super) fn refresh(&mut self, log: &Log, (from, to): (u64, u64), generation: u32) -> bool {
        let stated = log.stated(from, to);
        let made_by = match (stated.first(), stated.last()) {
            (Some(first), Some(last)) => Some((*first, *last, stated.len(), generation)),
            _ => None,
        };
        if made_by == self.made_by {
            return false;
        }
        let (closures, last_final) = greatest(log, stated);
        *self = Self { made_by, closures: closures.into_iter().collect(), last_final };
        true
    }

    /// The statements of a log's next entry: its own, and those that its base would give up; without closures of logs that
    /// are over.
    pub(super) fn repeated(&self, log: &Log, entry: &NewEntry<'_>) -> (Vec<Closure>, Option<Incarnation>) {
        let mut closures: BTreeMap<Incarnation, u64> = BTreeMap::new();
        let mut last_final = entry.last_final;
        for closure in entry.closures {
            closures.insert(closure.incarnation, closure.below);
        }
        let gives_up = self.made_by.is_some_and(|(first, ..)| first < entry.base);
        if gives_up {
            let (stay, final_stays) = greatest(log, log.stated(entry.base, u64::MAX));
            for (incarnation, below) in &self.closures {
                if stay.get(incarnation).is_none_or(|stays| stays < below) {
                    let said = closures.entry(*incarnation).or_default();
                    *said = (*below).max(*said);
                }
            }
            if self.last_final > final_stays {
                last_final = last_final.max(self.last_final);
            }
        }
        let over = last_final.max(self.last_final);
        closures.retain(|incarnation, _| over.is_none_or(|first| *incarnation >= first));
        let closures = closures.into_iter().map(|(incarnation, below)| Closure { incarnation, below });
        (closures.collect(), last_final)
    }

    /// Below which number they close an incarnation; 0 if they do not.
    pub(super) fn closes(&self, incarnation: Incarnation) -> u64 {
        let at = self.closures.binary_search_by_key(&incarnation, |(closed, _)| *closed).ok();
        at.and_then(|at| self.closures.get(at)).map_or(0, |(_, below)| *below)
    }

    pub(super) const fn get(&self) -> (&[(Incarnation, u64)], Option<Incarnation>) {
        (self.closures.as_slice(), self.last_final)
    }
}
