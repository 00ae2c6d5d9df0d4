//! One log in a set: the copy, its verdict, and the changes that the caller has acknowledged.
//!
//! The invariant: [`Slot::next_change`] compares the present state with the acknowledged one, and nothing else
//! remembers changes.

use alloc::vec::Vec;

use consilience_base::planted::{Fault, planted};
use consilience_base::{Hlc, Timestamp};

use super::change::Change;
use super::statements::{InSuccession, Restated, Standing};
use crate::facts::{Facts, Forks, Pruned};
use crate::hash::Hash;
use crate::identity::LogKind;
use crate::log::Log;

/// Entries that may lie below the base before they are dropped: dropping rewrites the front of a block.
const DROP_LAG: u64 = 8;

/// An opening, an offer, and a signed head with its proof: about so many bytes.
const LOG_BYTES: u64 = 384;

/// Marked versions at which a log remembers its size.
const ANCHORS_MAX: usize = 8;

/// The state of the log that the caller has acknowledged.
#[derive(Clone, Copy, Debug, Default)]
struct Acknowledged {
    /// Applicable entries `[base, end)`.
    base: u64,
    end: u64,
    generation: u32,
    invalid: bool,
    valid_below: Option<u64>,
    self_forked: bool,
    deferred: Option<u64>,
}

/// The head of a log in the set of heads, and some facts about earlier heads.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadHistory {
    /// Its id, as last made.
    pub(super) id: Option<[u8; 32]>,
    /// When that last changed: by a number that rises over all logs of the set.
    pub(super) version: u64,
    /// The version at which it came to have an id.
    pub(super) since: u64,
    /// How much of the log counted when the id was made, and how much before that last changed.
    pub(super) counted: u64,
    pub(super) before: u64,
    /// For some versions that were marked, how much of it counted then: noted when it changed for the first time after
    /// one.
    anchors: Vec<(u64, u64)>,
}

impl HeadHistory {
    fn note(&mut self, version: u64, marked: u64, counted: u64) {
        if self.version <= marked {
            if self.anchors.len() >= ANCHORS_MAX {
                self.anchors.remove(0);
            }
            self.anchors.push((marked, self.counted));
        }
        self.version = version;
        // Who has not looked since it changed in size must hear of that, though only facts have changed after it.
        if counted != self.counted {
            self.before = core::mem::replace(&mut self.counted, counted);
        }
    }

    /// How much of the log counted at a version that was marked; too much, if that is long ago.
    pub(super) fn size_at(&self, version: u64) -> u64 {
        let anchor = self.anchors.iter().find(|(marked, _)| *marked >= version && self.version > version);
        anchor.map_or(self.counted, |(_, size)| *size)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) log: Log,
    /// A local writer appends to it.
    pub(super) local: bool,
    pub(super) facts: Facts,
    pub(super) head: HeadHistory,
    /// When the entries of an invalidated log are dropped.
    pub(super) invalid_until: Option<Timestamp>,
    pub(super) succession: InSuccession,
    /// Its local writer goes on in another log.
    pub(super) is_left: bool,
    /// Counts how often the held run was replaced.
    pub(super) generation: u32,
    /// A local writer must not go on.
    pub(super) self_forked: bool,
    /// The stamp for which something of it waits.
    pub(super) waiting: Option<Hlc>,
    /// Its place in the queue of changed logs.
    pub(super) queued: Option<u64>,
    /// Its share of the set's totals.
    pub(super) late: usize,
    pub(super) staged: usize,
    acknowledged: Acknowledged,
}

impl Slot {
    pub(super) fn new(log: Log, local: bool) -> Self {
        let mut slot = Self {
            log,
            local: false,
            facts: Facts::default(),
            head: HeadHistory::default(),
            invalid_until: None,
            succession: InSuccession::default(),
            is_left: false,
            generation: 0,
            self_forked: false,
            waiting: None,
            queued: None,
            late: 0,
            staged: 0,
            acknowledged: Acknowledged::default(),
        };
        if local {
            slot.set_local();
        }
        slot
    }

    /// Gives the log to a local writer.
    pub(super) const fn set_local(&mut self) {
        self.local = true;
        self.self_forked = self.facts.forks.is_some();
        // Its own entries are there to be read before they go, even if nobody has polled for them yet.
        self.log.set_consumer();
    }

    /// About how many bytes it takes to send all of it to somebody that has nothing: its entries in ranges, with what is
    /// offered and opened, and facts.
    pub(super) fn bytes_to_send(&self) -> u64 {
        let forks = self
            .facts
            .forks()
            .into_iter()
            .flat_map(Forks::pieces)
            .map(|evidence| evidence.as_bytes().len() as u64);
        let pruned = self.facts.pruned.as_ref().map_or(0, |pruned| pruned.as_bytes().len() as u64);
        let facts = forks.fold(pruned, u64::saturating_add);
        let entries = self.log.entry_bytes();
        entries.saturating_add(entries / 16).saturating_add(facts).saturating_add(LOG_BYTES)
    }

    /// Notes that the id of its head has changed.
    pub(super) fn note_version(&mut self, version: u64, marked: u64) {
        let counted = self.counted().0;
        self.head.note(version, marked, counted);
    }

    /// Whether nothing of it counts.
    pub(super) fn is_invalid(&self) -> bool {
        self.facts.forks.is_some() && self.log.opening().kind == LogKind::State
    }

    /// Entries from here on do not count, in a forked event log.
    pub(super) fn valid_below(&self) -> Option<u64> {
        self.facts.valid_below()
    }

    /// Entries below are needed by nobody, whatever the entries that came say: facts say so.
    pub(super) fn floor(&self) -> u64 {
        self.facts.floor()
    }

    /// Whether all earlier logs of its agent, of the same topic and kind, are over by what is known of this one.
    pub(super) fn ends_earlier(&self) -> bool {
        match self.log.opening().kind {
            LogKind::State => self.facts.forks.is_some() && !planted(Fault::ForkKeepsEarlier),
            LogKind::Event => self.facts.pruned.is_some() && !planted(Fault::PrunedKeepsEarlier),
        }
    }

    /// A hash over the facts that have a meaning; of a log that is over none has.
    pub(super) fn facts_digest(&self) -> Option<Hash> {
        if self.standing() == Standing::Dead { None } else { self.facts.digest() }
    }

    /// Whether its statements on earlier incarnations are of effect.
    pub(super) fn answers(&self) -> bool {
        (self.standing() == Standing::Counts || planted(Fault::ClosedLogsClose)) && !self.is_invalid()
    }

    pub(super) const fn standing(&self) -> Standing {
        self.succession.standing
    }

    /// Whether it counts, by what later incarnations say of it and by its size now.
    pub(super) fn standing_now(&self) -> Standing {
        let closed_below = self.succession.closed_below;
        if self.succession.dead {
            Standing::Dead
        } else if closed_below > 0 && (closed_below >= self.log.size() || planted(Fault::ClosureIgnoresTail))
        {
            Standing::Closed
        } else {
            Standing::Counts
        }
    }

    /// Whether a later incarnation has closed more of it than its local writer knows of: another process wrote in it as well,
    /// from a copy of the storage. What the two have in one place differs, and entries below the closure count for nothing.
    pub(super) fn is_outgrown(&self) -> bool {
        self.local
            && !self.is_left
            && self.standing() == Standing::Closed
            && !planted(Fault::OutgrownIsGoneOnWith)
            && self.succession.closed_below > self.log.size()
    }

    /// Reads the statements of its retained entries on earlier incarnations again, and returns what changed of them.
    pub(super) fn refresh_statements(&mut self) -> Restated {
        // Of a forked log they are of no effect, but its writer repeats them.
        let all = (self.log.base().max(self.log.start()), self.log.size());
        let range = if self.is_invalid() { all } else { self.applicable() };
        self.succession.refresh(&self.log, range, self.generation)
    }

    /// Whether it says something of earlier incarnations that is not signed yet.
    pub(super) fn says_unsigned(&self) -> bool {
        self.local && !self.log.stated(self.log.signed_size(), u64::MAX).is_empty()
    }

    /// Whether nobody needs anything of it: nothing of it counts, no more of it is on its way, and no local writer may go
    /// on with it or has yet to sign some of it.
    pub(super) fn is_over(&self) -> bool {
        let over = match self.standing() {
            Standing::Counts => return false,
            Standing::Dead => true,
            Standing::Closed => {
                self.log.furthest_head().is_none_or(|head| head.size <= self.succession.closed_below)
                    && self.facts.forks.is_none()
            }
        };
        // Nobody goes on with an event log that is over.
        let is_left = self.is_left || self.log.opening().kind == LogKind::Event;
        over && self.succession.is_settled
            && (!self.local || is_left)
            && (self.succession.is_abandoned || !self.log.has_unsigned())
            && !self.owes()
    }

    /// How much of it counts for others, and the root over that. Nothing, where the root is not known: a size alone
    /// would make two histories one.
    pub(super) fn counted(&self) -> (u64, Option<Hash>) {
        if self.standing() != Standing::Counts {
            return (0, None);
        }
        let valid_below = self.valid_below().filter(|_| !planted(Fault::ForkNotInRoot));
        let size = self.log.signed_size().min(valid_below.unwrap_or(u64::MAX));
        if self.floor() >= size {
            return (0, None);
        }
        match self.log.root_at(size) {
            Some(root) => (size, Some(root)),
            None => (0, None),
        }
    }

    /// The applicable entries.
    pub(super) fn applicable(&self) -> (u64, u64) {
        let mut end = self.log.ready().min(self.valid_below().unwrap_or(u64::MAX));
        if self.facts.forks.is_some() {
            // A fork leaves only signed entries.
            end = end.min(self.log.signed_size());
        }
        let base = self.log.base_at(end).max(self.log.start()).max(self.floor()).min(end);
        (base, end)
    }

    /// Sees to it that the held copy of a forked event log has all entries that count: those from the base as of the last
    /// of them on, or from the floor, up to where the histories part. Facts and copies of others may bring that base down
    /// again, if the entry that had raised it does not count any more.
    ///
    /// A copy that lacks some of these entries reaches beyond them, to the entry that had raised the base. So its head
    /// contradicts one of the two in the evidence, and makes evidence of its own with that, whose base is part of the floor
    /// for everybody: else it might be that nobody could complete his copy.
    pub(super) fn refit(&mut self) {
        let Some(below) = self.valid_below().filter(|_| !self.is_invalid() && self.log.size() > 0) else {
            return;
        };
        if self.lacks_entries()
            && self.log.start() < below
            && let Some(forks) = &mut self.facts.forks
            && let Some(evidence) = self.log.evidence_with(forks.least())
        {
            forks.join(evidence);
            self.log.raise_floor(self.floor());
        }
        if below <= self.log.start() || self.lacks_entries() {
            // As if nothing had been held: the entries that count have to be fetched.
            self.log.forget();
            self.replaced(0);
        } else if self.acknowledged.base > self.applicable().0 {
            // The entries between count again.
            self.generation = self.generation.wrapping_add(1);
        }
    }

    /// Whether a forked event log begins here after entries that count.
    fn lacks_entries(&self) -> bool {
        let end = self.log.signed_size().min(self.valid_below().unwrap_or(u64::MAX));
        !planted(Fault::WindowMayLackEntries)
            && self.log.start() > self.log.base_at(end).max(self.floor()).min(end)
    }

    /// Notes that another part of the log took the place of the held one. A local writer does not go on from there: its
    /// own entries cannot be compared with the new part, and have to be reissued in its next incarnation.
    pub(super) const fn fast_forwarded(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.self_forked = self.self_forked || self.local;
    }

    /// Notes that the entries above `kept` are gone, and that other entries may follow instead. Where only the lost
    /// entries had raised the base, it falls again.
    fn replaced(&mut self, kept: u64) {
        self.generation = self.generation.wrapping_add(1);
        let base = self.acknowledged.base.min(self.log.base_at(kept));
        if self.acknowledged.base == self.acknowledged.end {
            // No acknowledged entry would have to be replaced.
            self.acknowledged.end = base;
        }
        self.acknowledged.base = base;
    }

    /// Drops the entries that a local writer has appended and not signed. Returns the first number that is free again.
    pub(super) fn discard_unsigned(&mut self) -> u64 {
        let size = self.log.size();
        let kept = self.log.discard_unsigned();
        if kept < size {
            self.replaced(kept);
        }
        kept
    }

    /// Drops the unsigned tail of a forked event log, if some of it lies where signed entries count: nobody will ever
    /// sign it, and it would stand in the way of those. A tail that lies after all that counts stays for its writer.
    pub(super) fn drop_tail(&mut self) {
        let below = self.valid_below().unwrap_or(0);
        let stays = self.is_invalid() || planted(Fault::TailOfForkStays);
        if !stays && self.log.has_unsigned() && self.log.signed_size() < below {
            self.discard_unsigned();
        }
    }

    /// Lets a local writer go on if its log has no other signed history.
    pub(super) const fn allow_again(&mut self) {
        self.self_forked = self.facts.forks.is_some();
        self.acknowledged.self_forked = self.self_forked;
    }

    /// Whether the caller has still to learn that acknowledged entries were replaced or do not count.
    fn owes(&self) -> bool {
        if self.is_invalid() || self.standing() != Standing::Counts {
            let unaware = self.is_invalid() && !self.acknowledged.invalid;
            return unaware || self.acknowledged.base < self.acknowledged.end;
        }
        self.generation != self.acknowledged.generation || self.valid_below() != self.acknowledged.valid_below
    }

    /// Drops the acknowledged entries that nobody needs. Gives how many bytes they took.
    pub(super) fn drop_acknowledged(&mut self) -> u64 {
        if !self.owes() {
            self.log.drop_replaced();
        }
        let mut below = self.acknowledged.base.min(self.applicable().0);
        if self.local && !planted(Fault::UnsignedBaseDrops) {
            // Others still need entries that only an unsigned entry has given up.
            let signed = self.log.signed_size();
            let base = self.log.base_at(self.log.ready().min(signed)).max(self.floor());
            // Unsigned entries have no proof: a log that began after its head could never be compared.
            below = below.min(base.min(signed));
        }
        if self.facts.forks.is_some() {
            // Evidence to come may bring the base down again, but not below this.
            below = below.min(self.facts.pruned().map_or(0, Pruned::below));
        }
        let lag = if below == self.log.size() { 0 } else { DROP_LAG };
        if below < self.log.start() + lag || planted(Fault::GivenUpIsKept) {
            return 0;
        }
        self.log.drop_all_below(below)
    }

    /// The next change that the caller has not acknowledged.
    pub(super) fn next_change(&mut self) -> Option<Change> {
        let log = *self.log.id();
        if (self.self_forked || self.is_outgrown()) && !self.acknowledged.self_forked {
            self.acknowledged.self_forked = true;
            return Some(Change::SelfForked { log });
        }
        if self.is_invalid() || self.standing() != Standing::Counts {
            self.acknowledged.generation = self.generation;
            let (base, end) = (self.acknowledged.base, self.acknowledged.end);
            (self.acknowledged.base, self.acknowledged.end) = (0, 0);
            if self.is_invalid() {
                let acknowledged = core::mem::replace(&mut self.acknowledged.invalid, true);
                return (!acknowledged || base < end).then_some(Change::Invalidated { log });
            }
            return (base < end).then_some(match (self.standing(), self.log.opening().kind) {
                (Standing::Dead, LogKind::State) => Change::Invalidated { log },
                // Its writer has given them all up.
                (Standing::Dead, LogKind::Event) => Change::Dropped { log, below: end },
                _ => Change::Closed { log },
            });
        }
        let valid_below = self.valid_below();
        if valid_below != self.acknowledged.valid_below {
            self.acknowledged.valid_below = valid_below;
            if let Some(valid_below) = valid_below {
                self.acknowledged.end = self.acknowledged.end.min(valid_below);
                self.acknowledged.base = self.acknowledged.base.min(self.acknowledged.end);
                return Some(Change::Cut { log, valid_below });
            }
        }
        let (base, end) = self.applicable();
        if self.generation != self.acknowledged.generation {
            self.acknowledged.generation = self.generation;
            let nothing = self.acknowledged.base == self.acknowledged.end;
            self.acknowledged.base = base;
            self.acknowledged.end = base;
            if nothing {
                // The entries that follow are read from the held run.
                self.log.drop_replaced();
            } else {
                return Some(Change::Replaced { log, from: base });
            }
        }
        if base > self.acknowledged.base {
            let acknowledged = core::mem::replace(&mut self.acknowledged.base, base);
            let counted = acknowledged < self.acknowledged.end;
            self.acknowledged.end = self.acknowledged.end.max(base);
            if counted {
                return Some(Change::Dropped { log, below: base });
            }
        }
        if end > self.acknowledged.end {
            let from = core::mem::replace(&mut self.acknowledged.end, end);
            self.log.set_consumer();
            return Some(Change::Applicable { log, from, to: end });
        }
        let deferred = (self.log.late_bytes() > 0).then(|| self.log.ready());
        if deferred != self.acknowledged.deferred {
            self.acknowledged.deferred = deferred;
            return deferred.map(|from| Change::Deferred { log, from });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Closure, NewEntry};
    use crate::{Incarnation, Keypair, Limits, LogId, LogOpening, LogSet, MeshId, Signer, Topic};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn keys() -> Keypair {
        Keypair::from_seed([1; 32])
    }

    /// A local writer's log of a kind with so many signed entries.
    fn written(kind: LogKind, entries: u64) -> (LogSet, LogId) {
        let mut set = LogSet::new(MeshId::from_bytes([7; 32]), Limits::default());
        let opening = LogOpening {
            topic: Topic::new("team").unwrap(),
            kind,
            agent: keys().agent(),
            incarnation: Incarnation::from_u64(5),
        };
        let log = set.open_local(&opening).unwrap();
        append(&mut set, &log, entries, b"a");
        (set, log)
    }

    fn append(set: &mut LogSet, log: &LogId, entries: u64, payload: &[u8]) {
        for _ in 0..entries {
            set.append(log, &NewEntry::new(Hlc::new(NOW, 0), payload)).unwrap();
        }
        if entries > 0 {
            set.sign_head(log, &keys(), NOW).unwrap();
        }
    }

    fn slot(set: &LogSet, log: &LogId) -> Slot {
        (**set.slots.get(log).unwrap()).clone()
    }

    /// The evidence of two histories that part after so many entries.
    fn forks(kind: LogKind, after: u64) -> Forks {
        let (mut one, log) = written(kind, after);
        let mut other = one.clone();
        append(&mut one, &log, 1, b"b");
        append(&mut other, &log, 1, b"c");
        let want = crate::Want { from: after, to: after + 1, form: crate::RangeForm::Alone };
        let crate::Answer::Range { bytes, .. } = other.answer(&log, &want, usize::MAX) else {
            panic!("{want:?}")
        };
        one.receive(&log, &bytes, NOW, &mut crate::VerifyBudget::new()).unwrap();
        one.forks(&log).unwrap().clone()
    }

    #[test]
    fn only_a_log_that_counts_answers_for_others() {
        let (set, log) = written(LogKind::State, 2);
        let mut slot = slot(&set, &log);
        assert!(slot.answers());
        for standing in [Standing::Closed, Standing::Dead] {
            slot.succession.standing = standing;
            assert!(!slot.answers());
        }
        slot.succession.standing = Standing::Counts;
        slot.facts.forks = Some(forks(LogKind::State, 2).into());
        assert!(!slot.answers());
    }

    #[test]
    fn what_a_writer_says_of_others_is_unsigned_until_it_signs() {
        let (mut set, log) = written(LogKind::State, 1);
        assert!(!slot(&set, &log).says_unsigned());
        set.append(&log, &NewEntry::new(Hlc::new(NOW, 0), b"b")).unwrap();
        assert!(!slot(&set, &log).says_unsigned(), "it says nothing of others");
        let closures = [Closure { incarnation: Incarnation::from_u64(1), below: 3 }];
        set.append(&log, &NewEntry { closures: &closures, ..NewEntry::new(Hlc::new(NOW, 0), b"b") }).unwrap();
        assert!(slot(&set, &log).says_unsigned());
        set.sign_head(&log, &keys(), NOW).unwrap();
        assert!(!slot(&set, &log).says_unsigned());
    }

    #[test]
    fn something_is_owed_until_what_was_told_is_as_it_is() {
        let (set, log) = written(LogKind::State, 3);
        let mut counts = slot(&set, &log);
        while counts.next_change().is_some() {}
        assert!(!counts.owes());
        let replaced = Slot { generation: counts.generation + 1, ..counts.clone() };
        assert!(replaced.owes());
        let mut closed = counts.clone();
        closed.succession.standing = Standing::Closed;
        assert!(closed.owes(), "entries that were told of do not count");
        assert_eq!(closed.next_change(), Some(Change::Closed { log }));
        assert!(!closed.owes());
        let mut dead = counts.clone();
        dead.succession.standing = Standing::Dead;
        assert_eq!(dead.next_change(), Some(Change::Invalidated { log }));
        assert!(!dead.owes());
        counts.facts.forks = Some(forks(LogKind::State, 3).into());
        assert!(counts.owes());
        counts.acknowledged = Acknowledged { invalid: true, ..counts.acknowledged };
        assert!(counts.owes(), "entries that were told of do not count");
        assert_eq!(counts.next_change(), Some(Change::Invalidated { log }));
        counts.acknowledged = Acknowledged::default();
        assert!(counts.owes(), "the fork was not told");
        assert_eq!(counts.next_change(), Some(Change::Invalidated { log }));
        assert!(!counts.owes() && counts.next_change().is_none());

        // Nothing was told, so there is nothing to be taken back.
        let mut untold = slot(&set, &log);
        untold.succession.standing = Standing::Closed;
        assert!(!untold.owes() && untold.next_change().is_none());
    }

    #[test]
    fn a_fork_replaces_what_was_told_only_where_entries_count_again() {
        let (set, log) = written(LogKind::Event, 8);
        let mut here = slot(&set, &log);
        while here.next_change().is_some() {}
        here.facts.forks = Some(forks(LogKind::Event, 6).into());
        assert_eq!(here.valid_below(), Some(6));
        let mut alike = here.clone();
        alike.refit();
        assert_eq!(alike.generation, here.generation, "the base is where it was");
        let mut raised = here.clone();
        raised.acknowledged.base = 3;
        raised.refit();
        assert_eq!(raised.generation, here.generation + 1);

        // Of a log of which nothing is held nothing is replaced.
        let (set, log) = written(LogKind::Event, 0);
        let mut empty = slot(&set, &log);
        empty.facts.forks = Some(forks(LogKind::Event, 0).into());
        let generation = empty.generation;
        empty.refit();
        assert_eq!((empty.valid_below(), empty.generation), (Some(0), generation));
        // Where the first entry is another nothing is left.
        let (set, log) = written(LogKind::Event, 2);
        let mut void = Slot { facts: empty.facts, ..slot(&set, &log) };
        void.refit();
        assert_eq!((void.log.size(), void.generation), (0, generation + 1));
    }

    #[test]
    fn a_copy_that_begins_within_what_counts_makes_evidence_of_its_base() {
        for start in [4, 6] {
            let (mut set, log) = written(LogKind::Event, 6);
            set.append(&log, &NewEntry { base: start, ..NewEntry::new(Hlc::new(NOW, 0), b"d") }).unwrap();
            set.sign_head(&log, &keys(), NOW).unwrap();
            let want = crate::Want { from: start, to: 7, form: crate::RangeForm::Alone };
            let crate::Answer::Range { bytes, .. } = set.answer(&log, &want, usize::MAX) else {
                panic!("{want:?}")
            };
            let mut part = LogSet::new(*set.mesh(), Limits::default());
            part.open(set.log(&log).unwrap().opening(), |_| crate::Admission::Hold).unwrap();
            part.receive(&log, &bytes, NOW, &mut crate::VerifyBudget::new()).unwrap();
            let mut slot = slot(&part, &log);
            assert_eq!((slot.log.start(), slot.log.size()), (start, 7));
            slot.facts.forks = Some(forks(LogKind::Event, 6).into());
            let known = slot.facts.clone();
            assert_eq!((slot.floor(), slot.valid_below()), (0, Some(6)));
            slot.refit();
            // One that begins where the histories part has nothing that counts.
            let expected = if start == 4 { (4, 7, 4) } else { (0, 0, 0) };
            assert_eq!((slot.log.start(), slot.log.size(), slot.floor()), expected);
            assert_eq!(slot.facts == known, start == 6);
        }
    }

    #[test]
    fn a_tail_that_lies_after_all_that_counts_stays_for_its_writer() {
        for (parted, size) in [(2, 4), (3, 4), (4, 3)] {
            let (mut set, log) = written(LogKind::Event, 3);
            set.append(&log, &NewEntry::new(Hlc::new(NOW, 0), b"tail")).unwrap();
            let mut slot = slot(&set, &log);
            slot.facts.forks = Some(forks(LogKind::Event, parted).into());
            let generation = slot.generation;
            slot.drop_tail();
            assert_eq!((slot.log.size(), slot.generation), (size, generation + u32::from(size == 3)));
            let kept = slot.discard_unsigned();
            assert_eq!((kept, slot.generation), (3, generation + 1), "once, and not for nothing");
        }
    }

    #[test]
    fn a_part_that_took_the_place_of_another_leaves_no_writer_in_its_log() {
        let (set, log) = written(LogKind::Event, 3);
        for local in [true, false] {
            let mut slot = Slot { local, ..slot(&set, &log) };
            slot.fast_forwarded();
            assert_eq!(slot.self_forked, local);
        }
    }

    #[test]
    fn entries_go_once_eight_of_them_are_needed_by_nobody() {
        for (base, start) in [(7, 0), (8, 8)] {
            let (mut set, log) = written(LogKind::State, 9);
            set.append(&log, &NewEntry { base, ..NewEntry::new(Hlc::new(NOW, 0), b"b") }).unwrap();
            set.sign_head(&log, &keys(), NOW).unwrap();
            while set.poll_change().is_some() {}
            assert_eq!(set.log(&log).unwrap().start(), start);
        }
    }
}
