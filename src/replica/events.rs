//! Events: what writers put into event logs, by log and merged by stamp.
//!
//! What does not live here: the events themselves (those are in their logs), and what they mean. The invariant: the
//! index has exactly the events that are applicable.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::ops::{Bound, RangeBounds};

use consilience_crdts::{Hlc, Timestamp};
use consilience_sync::{
    AgentId, Change, Citation, Entry, Log, LogId, LogKind, LogOpening, LogSet, NewEntry, OpenError, SetError,
    Topic, TopicError,
};

use super::{Replica, Source, Surfaced, Writer};
use crate::fold::Folded;
use crate::journal::RecordId;

/// How long sessions may search for where two histories of an own log part, in milliseconds, before what this took out of it
/// is appended again.
const SEARCH_MS: u64 = 5_000;

/// Why an event was not appended. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendEventError {
    /// That is no topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The writer is not one of this replica's.
    #[error("the writer is not one of this replica's; add it first")]
    UnknownWriter,
    /// What is cited is not here.
    #[error("what is cited is not here")]
    UnknownCitation,
    /// The writer's log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The event cannot be appended: mostly, it is too large.
    #[error(transparent)]
    Append(#[from] SetError),
}

/// The name of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventRef {
    /// Its log.
    pub log: LogId,
    /// Its number in the log.
    pub seq: u64,
}

/// A part of a log that an event cites and that is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Missing {
    /// The first 8 bytes of the log's id.
    pub log: [u8; 8],
    /// How many of its entries were seen by whoever cited it.
    pub size: u64,
}

/// An own event that does not count any more where it is.
#[derive(Clone, Debug)]
pub(super) struct Outcast {
    hlc: Hlc,
    citations: Vec<Citation>,
    payload: Vec<u8>,
}

/// Own events of a log in whose places others come, with their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Displaced {
    /// How much of the log was left when they went.
    kept: u64,
    events: Vec<(u64, Outcast)>,
}

impl PartialEq<Entry<'_>> for Outcast {
    fn eq(&self, entry: &Entry<'_>) -> bool {
        self.hlc == entry.hlc && entry.payload() == Some(&self.payload[..])
    }
}

impl Outcast {
    /// None of one whose payload was erased.
    fn of(entry: &Entry<'_>) -> Option<Self> {
        let citations = entry.citations().collect();
        Some(Self { hlc: entry.hlc, citations, payload: entry.payload()?.into() })
    }
}

/// The applicable events of a topic.
#[derive(Clone, Debug, Default)]
pub(super) struct EventIndex {
    logs: Vec<LogId>,
    places: BTreeMap<LogId, u32>,
    /// By log: the number of the first event, and the stamps from there on.
    stamps: Vec<(u64, VecDeque<Hlc>)>,
    by_stamp: BTreeSet<(Hlc, u32, u64)>,
    /// How much of other logs was cited, by the first bytes of their ids.
    cited: BTreeMap<[u8; 8], u64>,
}

impl EventIndex {
    pub(super) fn len(&self) -> usize {
        self.by_stamp.len()
    }

    pub(super) fn take(&mut self, set: &LogSet, change: &Change) {
        match change {
            Change::Applicable { log, from, to } => self.extend(set, log, *from, *to),
            Change::Dropped { log, below } | Change::Retired { log, below } => {
                let Some(place) = self.places.get(log).copied() else { return };
                let (first, stamps) = &mut self.stamps[place as usize];
                while *first < *below {
                    let Some(stamp) = stamps.pop_front() else { break };
                    self.by_stamp.remove(&(stamp, place, *first));
                    *first += 1;
                }
            }
            Change::Cut { log, valid_below } => self.cut(log, *valid_below),
            Change::Replaced { log, .. } | Change::Voided { log } => self.cut(log, 0),
            _ => {}
        }
    }

    fn extend(&mut self, set: &LogSet, log: &LogId, from: u64, to: u64) {
        let place = match self.places.get(log) {
            Some(place) => *place,
            None => {
                let Ok(place) = u32::try_from(self.logs.len()) else {
                    unreachable!("fewer than 2^32 logs fit in memory")
                };
                self.logs.push(*log);
                self.stamps.push((from, VecDeque::new()));
                self.places.insert(*log, place);
                place
            }
        };
        let (first, stamps) = &mut self.stamps[place as usize];
        if stamps.is_empty() {
            *first = from;
        }
        for entry in set.log(log).into_iter().flat_map(|log| log.entries(from, to)) {
            stamps.push_back(entry.hlc);
            self.by_stamp.insert((entry.hlc, place, entry.seq));
            for citation in entry.citations() {
                let size = self.cited.entry(citation.log).or_default();
                *size = citation.size.max(*size);
            }
        }
    }

    fn cut(&mut self, log: &LogId, below: u64) {
        let Some(place) = self.places.get(log).copied() else { return };
        let (first, stamps) = &mut self.stamps[place as usize];
        while *first + (stamps.len() as u64) > below {
            let Some(stamp) = stamps.pop_back() else { break };
            self.by_stamp.remove(&(stamp, place, *first + stamps.len() as u64));
        }
    }

    /// Behind the last event of a log.
    fn end_of(&self, log: &LogId) -> u64 {
        let stamps = self.places.get(log).map(|place| &self.stamps[*place as usize]);
        stamps.map_or(0, |(first, stamps)| *first + stamps.len() as u64)
    }

    /// BLAKE3 over the logs that have events, by id: where they begin and end, and the root. A pass over the logs.
    pub(super) fn digest(&self, set: &LogSet) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("consilience events digest v1");
        for (log, place) in &self.places {
            let (first, stamps) = &self.stamps[*place as usize];
            let end = first + stamps.len() as u64;
            if stamps.is_empty() {
                continue;
            }
            hasher.update(log.as_bytes());
            hasher.update(&first.to_le_bytes());
            hasher.update(&end.to_le_bytes());
            if let Some(root) = set.log(log).and_then(|log| log.root_at(end)) {
                hasher.update(root.as_bytes());
            }
        }
        *hasher.finalize().as_bytes()
    }
}

impl Replica {
    /// Appends an event to the writer's event log of a topic. It is readable here at once, and sent once its record is
    /// [confirmed](Self::confirm).
    ///
    /// # Errors
    ///
    /// Why it was not appended. Nothing changed then.
    pub fn append_event(
        &mut self,
        writer: Writer,
        topic: &str,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<(EventRef, RecordId), AppendEventError> {
        self.append_event_citing(writer, topic, payload, &[], now)
    }

    /// As [`append_event`](Self::append_event), for an event that answers others: it cites their logs as they were up
    /// to them, with the root, so that nobody can change what was answered.
    ///
    /// # Errors
    ///
    /// Also [`AppendEventError::UnknownCitation`].
    pub fn append_event_citing(
        &mut self,
        writer: Writer,
        topic: &str,
        payload: &[u8],
        cites: &[EventRef],
        now: Timestamp,
    ) -> Result<(EventRef, RecordId), AppendEventError> {
        let mut citations: BTreeMap<[u8; 8], Citation> = BTreeMap::new();
        for cited in cites {
            let log = self.store.logs().log(&cited.log).ok_or(AppendEventError::UnknownCitation)?;
            let size = cited.seq.checked_add(1).ok_or(AppendEventError::UnknownCitation)?;
            let root = log.root_at(size).ok_or(AppendEventError::UnknownCitation)?;
            let citation = Citation { log: cited.log.alias(), size, root: Some(root) };
            let known = citations.entry(citation.log).or_insert(citation);
            if known.size < size {
                *known = citation;
            }
        }
        let citations: Vec<Citation> = citations.into_values().collect();
        self.put_event(writer, topic, payload, &citations, 0, now)
    }

    /// Gives up the events of a local writer below a number: with its next event, everybody drops them.
    ///
    /// # Errors
    ///
    /// As [`append_event`](Self::append_event).
    pub fn append_event_pruning(
        &mut self,
        writer: Writer,
        topic: &str,
        payload: &[u8],
        below: u64,
        now: Timestamp,
    ) -> Result<(EventRef, RecordId), AppendEventError> {
        self.put_event(writer, topic, payload, &[], below, now)
    }

    fn put_event(
        &mut self,
        writer: Writer,
        topic: &str,
        payload: &[u8],
        citations: &[Citation],
        below: u64,
        now: Timestamp,
    ) -> Result<(EventRef, RecordId), AppendEventError> {
        let topic = Topic::new(topic)?;
        if !self.locals.contains_key(&writer.0) {
            return Err(AppendEventError::UnknownWriter);
        }
        self.settle(now, Source::Host);
        // What it appends comes behind them.
        self.cast_out_those(|opening| opening.agent == writer.0 && opening.topic == topic);
        let log = self.own_log(&writer.0, &topic, LogKind::Event, now)?;
        let base = self.store.logs().log(&log).map_or(0, |log| log.base().max(below.min(log.size())));
        let entry = |hlc| NewEntry { base, citations, ..NewEntry::new(hlc, payload) };
        let (seq, record) = self.append_entry(&log, entry, now)?;
        self.settle(now, Source::Host);
        Ok((EventRef { log, seq }, record))
    }

    /// Notes the own events from a number on that a change takes out of their log.
    pub(super) fn displace(&mut self, log: &LogId, from: u64) {
        let Some(held) = self.store.logs().log(log) else { return };
        let end = self.events.get(&held.opening().topic).map_or(0, |events| events.end_of(log));
        let taken = self.store.logs().told_entries(log, from, end);
        let mut taken: Vec<_> = taken.filter_map(|entry| Some((entry.seq, Outcast::of(&entry)?))).collect();
        let there = self.displaced.entry(*log).or_default();
        there.kept = held.size();
        let displaced = &mut there.events;
        // A fork that turns out to lie lower.
        if displaced.first().is_some_and(|(first, _)| taken.last().is_some_and(|(last, _)| last < first)) {
            core::mem::swap(displaced, &mut taken);
        }
        displaced.append(&mut taken);
    }

    /// Compares displaced events with those that came in their places, up to a number: a backup has much that was signed
    /// after it was made. Those from the first that differs on are to be appended again, but for what was given up.
    pub(super) fn compare_displaced(&mut self, log: &LogId, to: u64, source: Source) {
        let Some(Displaced { kept, events: displaced }) = self.displaced.get_mut(log) else { return };
        let Some(held) = self.store.logs().log(log) else { return };
        let base = self.store.logs().applicable(log).map_or(0, |(base, _)| base);
        let same = |(seq, event): &(u64, Outcast)| held.entry(*seq).is_some_and(|entry| *event == entry);
        let known = |event: &(u64, Outcast)| event.0 < base || (event.0 < to && same(event));
        let shared = displaced.iter().take_while(|event| known(event)).count();
        displaced.drain(..shared);
        let valid_below =
            self.store.logs().evidence(log).map_or(u64::MAX, consilience_sync::Evidence::valid_below);
        // What came says the same, and nobody is known to have more.
        let complete = to > *kept && held.furthest_head().is_none_or(|head| head.size <= to);
        if complete || displaced.first().is_none_or(|(seq, _)| *seq < to || to >= valid_below) {
            self.cast_out_soon(log, source);
        }
    }

    /// Has displaced events appended again, once it is known where the histories part: sessions search for that, and what
    /// turned out to be displaced as well would have to come first.
    pub(super) fn cast_out_soon(&mut self, log: &LogId, source: Source) {
        self.cast.insert(*log);
        if source == Source::Session {
            self.cast_at.get_or_insert(self.now.saturating_add_millis(SEARCH_MS));
        }
    }

    /// Has them appended again now.
    pub(super) fn cast_out_all(&mut self) {
        self.cast_out_those(|_| true);
    }

    /// The same, but only those of some logs.
    fn cast_out_those(&mut self, which: impl Fn(&LogOpening) -> bool) {
        for log in core::mem::take(&mut self.cast) {
            if self.store.logs().log(&log).is_none_or(|held| which(held.opening())) {
                self.cast_out(&log);
            } else {
                self.cast.insert(log);
            }
        }
        if self.cast.is_empty() {
            self.cast_at = None;
        }
        self.append_all_outcast();
    }

    fn cast_out(&mut self, log: &LogId) {
        let Some(opening) = self.store.logs().log(log).map(Log::opening) else { return };
        let whose = (opening.agent, opening.topic.clone());
        let displaced = self.displaced.remove(log).into_iter().flat_map(|displaced| displaced.events);
        self.outcast.entry(whose).or_default().extend(displaced.map(|(_, event)| event));
    }

    /// Appends them in their writers' next incarnations, at the times that they had.
    fn append_all_outcast(&mut self) {
        for ((agent, topic), outcast) in core::mem::take(&mut self.outcast) {
            let mut outcast = outcast.into_iter();
            while let Some(event) = outcast.next() {
                if self.append_outcast(&agent, &topic, &event).is_err() {
                    // Again when something happens.
                    let left = core::iter::once(event).chain(outcast).collect();
                    self.outcast.insert((agent, topic), left);
                    break;
                }
            }
        }
        let mut folded = Folded::default();
        self.follow_all(Source::Host, &mut folded);
        self.report_inert(folded);
    }

    fn append_outcast(
        &mut self,
        agent: &AgentId,
        topic: &Topic,
        event: &Outcast,
    ) -> Result<(), AppendEventError> {
        if !self.locals.contains_key(agent) {
            return Err(AppendEventError::UnknownWriter);
        }
        if self.is_there(agent, topic, event) {
            return Ok(());
        }
        let log = self.own_log(agent, topic, LogKind::Event, self.now)?;
        let base = self.store.logs().log(&log).map_or(0, Log::base);
        let entry =
            |hlc| NewEntry { base, citations: &event.citations, ..NewEntry::new(hlc, &event.payload) };
        self.append_at(&log, event.hlc, entry).map(|_| ())?;
        Ok(())
    }

    /// Appends what is older at its own stamp, so that it keeps its place, if nothing later is in the log.
    pub(super) fn append_at<'p>(
        &mut self,
        log: &LogId,
        stamp: Hlc,
        entry: impl FnOnce(Hlc) -> NewEntry<'p>,
    ) -> Result<u64, SetError> {
        let mut last = self.store.logs().log(log).map_or(Hlc::ZERO, Log::last_hlc);
        let hlc = if stamp > last { stamp } else { last.tick(stamp.time()) };
        Ok(self.append_recorded(log, &entry(hlc))?.0)
    }

    fn append_recorded(&mut self, log: &LogId, entry: &NewEntry<'_>) -> Result<(u64, RecordId), SetError> {
        let appended = self.store.append(log, entry)?;
        if !self.store.has_storage() {
            // It may leave now, and nobody will confirm it.
            self.sessions.wake();
        }
        Ok(appended)
    }

    /// Whether an outcast was appended again before a restart.
    fn is_there(&self, agent: &AgentId, topic: &Topic, event: &Outcast) -> bool {
        let Some(index) = self.events.get(topic) else { return false };
        let mut same = index.by_stamp.range((event.hlc, 0, 0)..=(event.hlc, u32::MAX, u64::MAX));
        same.any(|(_, place, seq)| {
            let log = index.logs.get(*place as usize).and_then(|log| self.store.logs().log(log));
            log.is_some_and(|log| {
                log.opening().agent == *agent && log.entry(*seq).is_some_and(|entry| *event == entry)
            })
        })
    }

    /// The stamp of a log's next entry.
    pub(super) fn next_stamp(&self, log: &LogId, now: Timestamp) -> Hlc {
        // A stamp from far ahead is one from when this clock was wrong: nobody else's counts before its time has come.
        let latest = now.saturating_add_millis(self.store.logs().limits().max_drift_ms);
        let mut clock = if self.clock.time() > latest { Hlc::ZERO } else { self.clock };
        clock.observe(self.store.logs().log(log).map_or(Hlc::ZERO, Log::last_hlc));
        clock.tick(now)
    }

    /// Appends an entry at the next stamp.
    pub(super) fn append_entry<'p>(
        &mut self,
        log: &LogId,
        entry: impl FnOnce(Hlc) -> NewEntry<'p>,
        now: Timestamp,
    ) -> Result<(u64, RecordId), SetError> {
        let hlc = self.next_stamp(log, now);
        let appended = self.append_recorded(log, &entry(hlc))?;
        self.clock = hlc;
        Ok(appended)
    }

    /// Erases the payload of one event here, for good; its hash stays, so everything around it can still be proven.
    ///
    /// # Errors
    ///
    /// If it is not here or not an event's.
    pub fn erase_event(&mut self, event: &EventRef) -> Result<RecordId, SetError> {
        self.store.erase(&event.log, event.seq)
    }
}

/// The events of one topic.
#[derive(Clone, Copy)]
pub struct EventsView<'a> {
    pub(super) replica: &'a Replica,
    pub(super) index: Option<&'a EventIndex>,
}

impl core::fmt::Debug for EventsView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EventsView").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its name.
    pub name: EventRef,
    /// Who wrote it.
    pub author: AgentId,
    /// When.
    pub stamp: Hlc,
    /// What it says; `None` if that was erased.
    pub payload: Option<&'a [u8]>,
}

impl<'a> EventsView<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.map_or(0, EventIndex::len)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The events whose stamps lie in a range, merged in their order; those of one stamp by author and log.
    pub fn range(&self, range: impl RangeBounds<Hlc>) -> Box<dyn Iterator<Item = Event<'a>> + 'a> {
        let start = match range.start_bound() {
            Bound::Included(stamp) => Bound::Included((*stamp, 0, 0)),
            Bound::Excluded(stamp) => Bound::Excluded((*stamp, u32::MAX, u64::MAX)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let end = match range.end_bound() {
            Bound::Included(stamp) => Bound::Included((*stamp, u32::MAX, u64::MAX)),
            Bound::Excluded(stamp) => Bound::Excluded((*stamp, 0, 0)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let view = *self;
        let inverted = match (range.start_bound(), range.end_bound()) {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(end) | Bound::Excluded(end),
            ) => start >= end,
            _ => false,
        };
        let places = self
            .index
            .filter(|_| !inverted)
            .into_iter()
            .flat_map(move |index| index.by_stamp.range((start, end)));
        let mut places = places.peekable();
        let mut group: VecDeque<Event<'a>> = VecDeque::new();
        Box::new(core::iter::from_fn(move || {
            while group.is_empty() {
                // Those of one stamp are told apart by names, which are the same everywhere.
                let (stamp, ..) = places.peek()?;
                let mut same = Vec::new();
                while let Some((_, place, seq)) = places.next_if(|(there, ..)| *there == *stamp) {
                    same.extend(view.event(*place, *seq));
                }
                same.sort_by_key(|event| (event.author, event.name));
                group.extend(same);
            }
            group.pop_front()
        }))
    }

    /// All events, merged in the order of their stamps.
    pub fn iter(&self) -> impl Iterator<Item = Event<'a>> + use<'a> {
        self.range(..)
    }

    /// The events `[from, to)` of one log.
    pub fn of_log(&self, log: &LogId, from: u64, to: u64) -> impl Iterator<Item = Event<'a>> + use<'a> {
        let view = *self;
        let place = self.index.and_then(|index| index.places.get(log).copied());
        place.into_iter().flat_map(move |place| {
            let bounds = view.index.map_or((0, 0), |index| {
                let (first, stamps) = &index.stamps[place as usize];
                (from.max(*first), to.min(first + stamps.len() as u64))
            });
            (bounds.0..bounds.1).filter_map(move |seq| view.event(place, seq))
        })
    }

    /// One event.
    #[must_use]
    pub fn get(&self, name: &EventRef) -> Option<Event<'a>> {
        self.of_log(&name.log, name.seq, name.seq.saturating_add(1)).next()
    }

    /// What events of the topic cite and this replica does not have: as long as there is anything, answers may be here
    /// without what they answer. Looks at every log.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing: BTreeMap<[u8; 8], u64> =
            self.index.map_or_else(BTreeMap::new, |index| index.cited.clone());
        for log in self.replica.store.logs().logs() {
            let alias = log.id().alias();
            if missing.get(&alias).is_some_and(|size| *size <= log.size()) {
                missing.remove(&alias);
            }
        }
        missing.into_iter().map(|(log, size)| Missing { log, size }).collect()
    }

    /// What an event cites.
    #[must_use]
    pub fn citations(&self, name: &EventRef) -> Vec<Citation> {
        let entry = self.replica.store.logs().log(&name.log).and_then(|log| log.entry(name.seq));
        entry.map_or_else(Vec::new, |entry| entry.citations().collect())
    }

    fn event(&self, place: u32, seq: u64) -> Option<Event<'a>> {
        let log = self.replica.store.logs().log(self.index?.logs.get(place as usize)?)?;
        let entry = log.entry(seq)?;
        let event = Event {
            name: EventRef { log: *log.id(), seq },
            author: log.opening().agent,
            stamp: entry.hlc,
            payload: entry.payload(),
        };
        let surfaced = Surfaced::of_event(&log.opening().topic, &event);
        self.replica.shows(&surfaced).then_some(event)
    }
}
