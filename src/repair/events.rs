//! Reissuing events: the events that a fork took out of an own event log are appended again, in the next incarnation.
//!
//! The invariant: the events of one log are appended again in their order, once it is known from where on its histories
//! differ, or after [`SEARCH_MS`].

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_crdts::{Hlc, Timestamp};
use consilience_sync::planted::{Fault, planted};
use consilience_sync::{AgentId, Change, Citation, Entry, Evidence, Log, LogId, LogOpening, LogSet, Topic};

use super::Source;
use crate::fold::Fold;

/// How long, in milliseconds, sessions may search for the number at which two histories of an own log part, before the
/// events that the fork took out are appended again.
const SEARCH_MS: u64 = 5_000;

/// An own event that does not count any more where it is.
#[derive(Clone, Debug)]
pub(crate) struct ReissuedEvent {
    pub(crate) hlc: Hlc,
    pub(crate) epoch: u32,
    pub(crate) citations: Vec<Citation>,
    pub(crate) payload: Vec<u8>,
}

/// Own events of a log in whose places others come, with their numbers: compared with those before they are appended again.
#[derive(Clone, Debug, Default)]
struct Pending {
    /// How much of the log was left when they went.
    kept: u64,
    events: Vec<(u64, ReissuedEvent)>,
}

impl PartialEq<Entry<'_>> for ReissuedEvent {
    fn eq(&self, entry: &Entry<'_>) -> bool {
        (self.hlc, self.epoch) == (entry.hlc, entry.epoch)
            && !entry.is_opaque()
            && entry.payload() == Some(&self.payload[..])
    }
}

impl ReissuedEvent {
    /// None of an event whose payload was erased, or of which a part cannot be read.
    fn of(entry: &Entry<'_>) -> Option<Self> {
        let payload = entry.payload().filter(|_| !entry.is_opaque())?.into();
        Some(Self { hlc: entry.hlc, epoch: entry.epoch, citations: entry.citations().collect(), payload })
    }
}

/// Own events that are to be appended again.
#[derive(Debug, Default)]
pub(super) struct EventReissues {
    /// By log: events not yet compared with those that came in their places.
    pending: BTreeMap<LogId, Pending>,
    /// Those of these logs are to be appended again, and when at the latest.
    due: BTreeSet<LogId>,
    due_at: Option<Timestamp>,
    /// In the order in which they are appended.
    queue: BTreeMap<(AgentId, Topic), Vec<ReissuedEvent>>,
}

impl EventReissues {
    /// When the events that are due are appended again, if they wait for a search.
    pub(super) const fn due_at(&self) -> Option<Timestamp> {
        self.due_at
    }

    /// Takes in a change of an own event log, before the fold does.
    pub(super) fn observe(
        &mut self,
        (set, fold): (&LogSet, &Fold),
        change: &Change,
        source: Source,
        now: Timestamp,
    ) {
        match change {
            Change::Replaced { log, from } if set.is_local(log) => self.hold_back((set, fold), log, *from),
            Change::Cut { log, valid_below } if set.is_local(log) && !planted(Fault::CutEventsAreLost) => {
                self.hold_back((set, fold), log, *valid_below);
                // Unless some before them went as well: then those have to come first.
                if set.log(log).is_some_and(|held| held.size() >= *valid_below) {
                    self.reissue_soon(log, source, now);
                }
            }
            Change::Applicable { log, to, .. } => self.compare(set, log, *to, source, now),
            _ => {}
        }
    }

    /// Notes the own events from a number on that a change takes out of their log.
    fn hold_back(&mut self, (set, fold): (&LogSet, &Fold), log: &LogId, from: u64) {
        let Some(held) = set.log(log) else { return };
        let (_, end) = fold.events(&held.opening().topic).map_or((0, 0), |events| events.bounds(log));
        let taken = set.acknowledged_entries(log, from, end);
        let mut taken: Vec<_> =
            taken.filter_map(|entry| Some((entry.seq, ReissuedEvent::of(&entry)?))).collect();
        let there = self.pending.entry(*log).or_default();
        there.kept = set.left_of_acknowledged(log);
        let pending = &mut there.events;
        // A fork that turns out to lie lower.
        if pending.first().is_some_and(|(first, _)| taken.last().is_some_and(|(last, _)| last < first)) {
            core::mem::swap(pending, &mut taken);
        }
        pending.append(&mut taken);
    }

    /// Compares pending events with those that came in their places, up to a number: many entries of a backup were
    /// signed after it was made. Those from the first that differs on are to be appended again, but for those that were
    /// given up.
    fn compare(&mut self, set: &LogSet, log: &LogId, to: u64, source: Source, now: Timestamp) {
        let Some(Pending { kept, events: pending }) = self.pending.get_mut(log) else { return };
        let Some(held) = set.log(log) else { return };
        let base = set.applicable(log).map_or(0, |(base, _)| base);
        let same =
            |(seq, event): &(u64, ReissuedEvent)| held.entry(*seq).is_some_and(|entry| *event == entry);
        let known = |event: &(u64, ReissuedEvent)| event.0 < base || (event.0 < to && same(event));
        let shared = pending.iter().take_while(|event| known(event)).count();
        pending.drain(..shared);
        let valid_below = set.evidence(log).map_or(u64::MAX, Evidence::valid_below);
        // The events that came say the same, and nobody is known to have more.
        let complete = to > *kept && held.furthest_head().is_none_or(|head| head.size <= to);
        if complete || pending.first().is_none_or(|(seq, _)| *seq < to || to >= valid_below) {
            self.reissue_soon(log, source, now);
        }
    }

    /// Has pending events appended again, once it is known where the histories part: sessions search for that, and
    /// events that turn out to be taken out as well would have to come first.
    fn reissue_soon(&mut self, log: &LogId, source: Source, now: Timestamp) {
        self.due.insert(*log);
        if source == Source::Session {
            self.due_at.get_or_insert(now.saturating_add_millis(SEARCH_MS));
        }
    }

    /// Takes in the time of sessions. If the clock has fallen, nothing is due later than it would be if it began to wait now.
    pub(super) fn note_time(&mut self, now: Timestamp) {
        self.due_at = self.due_at.map(|at| at.min(now.saturating_add_millis(SEARCH_MS)));
    }

    /// Queues the events of some logs that are due.
    pub(super) fn release(&mut self, set: &LogSet, which: impl Fn(&LogOpening) -> bool) {
        for log in core::mem::take(&mut self.due) {
            let Some(opening) = set.log(&log).map(Log::opening) else { continue };
            if !which(opening) {
                self.due.insert(log);
                continue;
            }
            let whose = (opening.agent, opening.topic.clone());
            let pending = self.pending.remove(&log).into_iter().flat_map(|pending| pending.events);
            self.queue.entry(whose).or_default().extend(pending.map(|(_, event)| event));
        }
        if self.due.is_empty() {
            self.due_at = None;
        }
    }

    /// All events that are queued, to be appended now; those that cannot be are [put back](Self::put_back).
    pub(super) fn take_queue(&mut self) -> BTreeMap<(AgentId, Topic), Vec<ReissuedEvent>> {
        core::mem::take(&mut self.queue)
    }

    pub(super) fn put_back(&mut self, whose: (AgentId, Topic), events: Vec<ReissuedEvent>) {
        self.queue.insert(whose, events);
    }

    /// Forgets everything of a topic, whose logs these were.
    pub(super) fn forget_topic(&mut self, topic: &Topic, logs: &[LogId]) {
        for log in logs {
            self.pending.remove(log);
            self.due.remove(log);
        }
        self.queue.retain(|(_, there), _| there != topic);
    }
}

/// Whether an event was appended again before a restart.
pub(crate) fn is_there(
    (set, fold): (&LogSet, &Fold),
    (agent, topic): (&AgentId, &Topic),
    event: &ReissuedEvent,
) -> bool {
    use core::ops::Bound::Included;
    let index = fold.events(topic).filter(|_| !planted(Fault::EventsAreSaidTwice));
    let Some(index) = index else { return false };
    let mut same = index.within(Included(event.hlc), Included(event.hlc));
    same.any(|(_, log, seq)| {
        let log = set.log(log).filter(|log| log.opening().agent == *agent);
        log.and_then(|log| log.entry(seq)).is_some_and(|entry| *event == entry)
    })
}
