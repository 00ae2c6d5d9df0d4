//! What a log says of earlier incarnations of its agent, and what later ones say of it.
//!
//! Not here: which logs follow from that to count (`succession`).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::identity::Incarnation;
use crate::log::{Closure, Log, NewEntry};
use consilience_base::planted::{Fault, planted};

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
    /// In a box: most logs say nothing of others.
    statements: Option<Box<Statements>>,
}

/// Those of a log that says nothing of others.
static NONE: Statements = Statements::none();

impl InSuccession {
    /// What the log says of earlier incarnations.
    pub(super) fn statements(&self) -> &Statements {
        self.statements.as_deref().unwrap_or(&NONE)
    }

    /// Takes in that the retained entries are `[from, to)` now, and returns what changed of what they say.
    pub(super) fn refresh(&mut self, log: &Log, (from, to): (u64, u64), generation: u32) -> Restated {
        if self.statements.is_none() && log.stated(from, to).is_empty() {
            return Restated::default();
        }
        let statements = self.statements.get_or_insert_default();
        let restated = statements.refresh(log, (from, to), generation);
        if statements.closures.is_empty() && statements.finals.is_empty() {
            self.statements = None;
        }
        restated
    }
}

/// What the retained entries of a log say of earlier incarnations. Entries come at the end and go at the front, so the
/// greatest closure of each incarnation is kept as the maximum of a sliding window: each costs what it says, however many
/// are retained.
#[derive(Clone, Debug, Default)]
pub(super) struct Statements {
    /// The entries that were read, and of which copy of the log.
    from: u64,
    to: u64,
    generation: u32,
    /// The closures that none of a later entry covers, by entry: those of one incarnation fall.
    closures: BTreeMap<(Incarnation, u64), u64>,
    /// The same closures in the order of their entries, and some that later ones have covered.
    made: VecDeque<(u64, Incarnation)>,
    /// The finals that none of a later entry covers, by entry: they fall.
    finals: VecDeque<(u64, Incarnation)>,
}

/// What changed of the statements of a log.
#[derive(Debug, Default)]
pub(super) struct Restated {
    /// The incarnations whose greatest closure may be another one.
    pub(super) closures: Vec<Incarnation>,
    pub(super) last_final: bool,
}

impl Restated {
    pub(super) const fn is_empty(&self) -> bool {
        self.closures.is_empty() && !self.last_final
    }
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
    const fn none() -> Self {
        Self {
            from: 0,
            to: 0,
            generation: 0,
            closures: BTreeMap::new(),
            made: VecDeque::new(),
            finals: VecDeque::new(),
        }
    }

    /// Takes in that the retained entries are `[from, to)` now.
    fn refresh(&mut self, log: &Log, (from, to): (u64, u64), generation: u32) -> Restated {
        let mut restated = Restated::default();
        let last_final = self.last_final();
        if generation != self.generation || from < self.from || to < self.to {
            // Another copy, or a part of it that was not read: from the beginning.
            restated.closures.extend(self.made.iter().map(|(_, incarnation)| *incarnation));
            *self = Self { from, to: from, generation, ..Self::default() };
        }
        self.from = from;
        while let Some((seq, incarnation)) = self.made.front().copied().filter(|(seq, _)| *seq < from) {
            self.made.pop_front();
            if self.closures.remove(&(incarnation, seq)).is_some() {
                restated.closures.push(incarnation);
            }
        }
        while self.finals.front().is_some_and(|(seq, _)| *seq < from) {
            self.finals.pop_front();
        }
        for seq in log.stated(self.to.max(from), to) {
            let Some(entry) = log.entry(*seq) else { continue };
            for Closure { incarnation, below } in entry.closures() {
                self.close(*seq, incarnation, below);
                restated.closures.push(incarnation);
            }
            if let Some(said) = entry.last_final() {
                while self.finals.back().is_some_and(|(_, first)| *first <= said) {
                    self.finals.pop_back();
                }
                self.finals.push_back((*seq, said));
            }
        }
        self.to = to.max(from);
        if self.made.capacity() / 4 > self.made.len().saturating_add(4) {
            self.made.shrink_to(self.made.len().saturating_mul(2));
        }
        restated.last_final = last_final != self.last_final();
        restated
    }

    fn close(&mut self, seq: u64, incarnation: Incarnation, below: u64) {
        let of = (incarnation, 0)..=(incarnation, u64::MAX);
        while let Some((last, covered)) = self.closures.range(of.clone()).next_back() {
            if *covered > below {
                break;
            }
            let last = *last;
            self.closures.remove(&last);
        }
        self.closures.insert((incarnation, seq), below);
        self.made.push_back((seq, incarnation));
    }

    /// The greatest closure of each incarnation, ascending.
    pub(super) fn closures(&self) -> impl Iterator<Item = (Incarnation, u64)> {
        let mut last = None;
        let all = self.closures.iter().map(|((incarnation, _), below)| (*incarnation, *below));
        // The first of each is the greatest.
        all.filter(move |(incarnation, _)| last.replace(*incarnation) != Some(*incarnation))
    }

    /// At most so many are made.
    pub(super) fn closures_max(&self) -> usize {
        self.closures.len()
    }

    /// The greatest closure of an incarnation; 0 if there is none.
    pub(super) fn closed_below(&self, incarnation: Incarnation) -> u64 {
        let mut of = self.closures.range((incarnation, 0)..=(incarnation, u64::MAX));
        of.next().map_or(0, |(_, below)| *below)
    }

    /// Logs below are dead.
    pub(super) fn last_final(&self) -> Option<Incarnation> {
        self.finals.front().map(|(_, first)| *first)
    }

    /// The statements of a log's next entry: its own, and those that its base would give up; without closures of logs that
    /// are over.
    pub(super) fn repeated(&self, log: &Log, entry: &NewEntry<'_>) -> (Vec<Closure>, Option<Incarnation>) {
        let mut closures: BTreeMap<Incarnation, u64> = BTreeMap::new();
        let mut last_final = entry.last_final;
        for closure in entry.closures {
            closures.insert(closure.incarnation, closure.below);
        }
        let first = self.made.front().into_iter().chain(self.finals.front());
        let first = first.map(|(seq, _)| *seq).min().filter(|_| !planted(Fault::ClosuresAreNotRepeated));
        if first.is_some_and(|first| first < entry.base) {
            let (stay, final_stays) = greatest(log, log.stated(entry.base, u64::MAX));
            for (incarnation, below) in self.closures() {
                if stay.get(&incarnation).is_none_or(|stays| *stays < below) {
                    let said = closures.entry(incarnation).or_default();
                    *said = below.max(*said);
                }
            }
            if self.last_final() > final_stays {
                last_final = last_final.max(self.last_final());
            }
        }
        let over = last_final.max(self.last_final());
        closures.retain(|incarnation, _| over.is_none_or(|first| *incarnation >= first));
        let closures = closures.into_iter().map(|(incarnation, below)| Closure { incarnation, below });
        (closures.collect(), last_final)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Keypair, LogKind, LogOpening, MeshId, Signer, Topic};
    use consilience_base::{Hlc, Timestamp};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    const fn named(incarnation: u64) -> Incarnation {
        Incarnation::from_u64(incarnation)
    }

    /// A log whose entries close one earlier incarnation each, up to a number, or say nothing of any.
    fn log(closes: &[Option<(u64, u64)>]) -> Log {
        let opening = LogOpening {
            topic: Topic::new("team").unwrap(),
            kind: LogKind::State,
            agent: Keypair::from_seed([1; 32]).agent(),
            incarnation: named(1_000),
        };
        let mut log = Log::new(opening, &MeshId::from_bytes([7; 32])).unwrap();
        for closes in closes {
            let closures =
                closes.map(|(incarnation, below)| Closure { incarnation: named(incarnation), below });
            let entry = NewEntry { closures: closures.as_slice(), ..NewEntry::new(Hlc::new(NOW, 0), b"a") };
            log.append(&entry).unwrap();
        }
        log
    }

    fn closures(statements: &Statements) -> Vec<(u64, u64)> {
        let closed = |incarnation| (incarnation, statements.closed_below(named(incarnation)));
        let closed: Vec<_> = (0..9).map(closed).filter(|(_, below)| *below > 0).collect();
        let listed: Vec<_> =
            closed.iter().map(|(incarnation, below)| (named(*incarnation), *below)).collect();
        assert_eq!(statements.closures().collect::<Vec<_>>(), listed);
        closed
    }

    #[test]
    fn only_what_came_and_what_went_is_read_of_one_copy_and_all_of_another() {
        let held = log(&[Some((1, 5)), Some((2, 3)), Some((1, 2)), None, Some((3, 4))]);
        let mut statements = Statements::default();
        let mut read = |log: &Log, range, generation| {
            let restated = statements.refresh(log, range, generation);
            let restated: Vec<u64> =
                (0..9).filter(|incarnation| restated.closures.contains(&named(*incarnation))).collect();
            (restated, closures(&statements))
        };
        assert_eq!(read(&held, (1, 3), 1), (vec![1, 2], vec![(1, 2), (2, 3)]));
        assert_eq!(read(&held, (1, 3), 1), (vec![], vec![(1, 2), (2, 3)]), "nothing came or went");
        assert_eq!(read(&held, (1, 5), 1), (vec![3], vec![(1, 2), (2, 3), (3, 4)]));
        // Entries before those that were read, and fewer than were read.
        assert_eq!(read(&held, (0, 5), 1), (vec![1, 2, 3], vec![(1, 5), (2, 3), (3, 4)]));
        assert_eq!(read(&held, (0, 4), 1), (vec![1, 2, 3], vec![(1, 5), (2, 3)]));
        assert_eq!(read(&held, (0, 5), 1).0, [3]);
        assert_eq!(read(&held, (2, 5), 1), (vec![1, 2], vec![(1, 2), (3, 4)]));
        // Another copy.
        let other = log(&[None, None, Some((4, 1)), None, None]);
        assert_eq!(read(&other, (2, 5), 2), (vec![1, 3, 4], vec![(4, 1)]));
        assert_eq!(read(&other, (2, 5), 2).0, []);
    }

    #[test]
    fn of_closures_that_say_the_same_the_last_is_kept() {
        let held = log(&[Some((1, 5)), Some((1, 5)), Some((2, 1))]);
        let mut statements = Statements::default();
        assert!(statements.refresh(&held, (0, 0), 0).is_empty());
        assert!(!statements.refresh(&held, (0, 3), 0).is_empty());
        assert_eq!(statements.closures_max(), 2);
        assert!(statements.refresh(&held, (1, 3), 0).is_empty(), "the other says so still");
        assert!(!statements.refresh(&held, (2, 3), 0).is_empty());
        assert_eq!((closures(&statements), statements.closures_max()), (vec![(2, 1)], 1));
    }

    #[test]
    fn room_is_given_up_once_three_quarters_of_it_are_free() {
        let held = log(&(0..64).map(|n| Some((n, 1))).collect::<Vec<_>>());
        let mut statements = Statements::default();
        statements.refresh(&held, (0, 64), 0);
        assert_eq!(statements.made.capacity(), 64);
        statements.refresh(&held, (52, 64), 0);
        assert_eq!((statements.made.capacity(), statements.made.len()), (64, 12));
        statements.refresh(&held, (53, 64), 0);
        assert!(statements.made.capacity() < 64);
    }
}
