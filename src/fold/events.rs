//! [`EventIndex`]: the applicable events of a topic, by log and merged by stamp.
//!
//! What does not live here: the events themselves (those are in their logs), and their meaning. The invariant: the
//! index has exactly the events that are applicable.

use alloc::collections::{BTreeMap, VecDeque};
use core::ops::Bound;

use consilience_crdts::Hlc;
use consilience_sync::planted::{Fault, planted};
use consilience_sync::{Change, LogId, LogSet};

use super::few::{FewMap, FewSet};

/// The name of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventRef {
    /// Its log.
    pub log: LogId,
    /// Its number in the log.
    pub seq: u64,
}

/// The applicable events of one log.
#[derive(Clone, Debug)]
struct EventLog {
    id: LogId,
    /// The number of the first event, and the stamps from there on.
    first: u64,
    stamps: VecDeque<Hlc>,
}

/// The applicable events of a topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventIndex {
    /// Those that have events. A map: a place in a vector could not be given back.
    logs: FewMap<u32, EventLog>,
    places: FewMap<LogId, u32>,
    by_stamp: FewSet<(Hlc, u32, u64)>,
    /// By the first bytes of a log's id how much of it was cited, and by how many events.
    cited: FewMap<([u8; 8], u64), u32>,
}

impl EventIndex {
    pub(crate) fn len(&self) -> usize {
        self.by_stamp.len()
    }

    /// Whether no log has events.
    pub(crate) fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    pub(crate) fn take(&mut self, set: &LogSet, change: &Change) {
        match change {
            Change::Applicable { log, from, to } => self.extend(set, log, *from, *to),
            Change::Dropped { log, below } => {
                let (first, end) = self.bounds(log);
                self.forget(set, log, first, end.min(*below));
            }
            Change::Cut { log, valid_below } if !planted(Fault::CutEventsStay) => {
                self.cut(set, log, *valid_below)
            }
            Change::Replaced { log, .. } | Change::Invalidated { log } => self.cut(set, log, 0),
            _ => {}
        }
    }

    fn extend(&mut self, set: &LogSet, log: &LogId, from: u64, to: u64) {
        let place = match self.places.get(log) {
            Some(place) => *place,
            None => self.add(*log, from),
        };
        let Some(events) = self.logs.get_mut(&place) else { return };
        for entry in set.log(log).into_iter().flat_map(|log| log.entries(from, to)) {
            events.stamps.push_back(entry.hlc);
            if entry.is_opaque() {
                // It has its place among the others of its log, and says nothing.
                continue;
            }
            self.by_stamp.insert((entry.hlc, place, entry.seq), ());
            for citation in entry.citations() {
                let count = self.cited.get_or_insert_with((citation.log, citation.size), || 0);
                *count = count.saturating_add(1);
            }
        }
    }

    fn add(&mut self, id: LogId, first: u64) -> u32 {
        let last = self.logs.last_key_value().map(|(last, _)| *last);
        let place = match last.map_or(Some(0), |last| last.checked_add(1)) {
            Some(next) => next,
            None => (0..).find(|place| !self.logs.contains_key(place)).unwrap_or(0),
        };
        self.logs.insert(place, EventLog { id, first, stamps: VecDeque::new() });
        self.places.insert(id, place);
        place
    }

    fn cut(&mut self, set: &LogSet, log: &LogId, below: u64) {
        let (first, end) = self.bounds(log);
        self.forget(set, log, first.max(below), end);
    }

    /// Takes the events `[from, to)` of a log out, which are its first or its last; and the log with its last.
    fn forget(&mut self, set: &LogSet, log: &LogId, from: u64, to: u64) {
        let Some(place) = self.places.get(log).copied() else { return };
        for entry in set.acknowledged_entries(log, from, to).filter(|entry| !entry.is_opaque()) {
            for citation in entry.citations() {
                let name = (citation.log, citation.size);
                let Some(count) = self.cited.get_mut(&name) else { continue };
                *count -= 1;
                if *count == 0 {
                    self.cited.remove(&name);
                }
            }
        }
        let Some(events) = self.logs.get_mut(&place) else { return };
        let end = events.first + events.stamps.len() as u64;
        let gone = to.saturating_sub(from).min(end.saturating_sub(events.first));
        let are_first = from == events.first && to < end;
        for _ in 0..gone {
            let (stamp, seq) = if are_first {
                events.first += 1;
                (events.stamps.pop_front(), events.first - 1)
            } else {
                (events.stamps.pop_back(), events.first + events.stamps.len() as u64)
            };
            let Some(stamp) = stamp else { break };
            self.by_stamp.remove(&(stamp, place, seq));
        }
        if events.stamps.is_empty() {
            self.logs.remove(&place);
            self.places.remove(log);
        } else if events.stamps.capacity() > 4 * events.stamps.len() + 16 {
            events.stamps.shrink_to(2 * events.stamps.len());
        }
    }

    /// Which events of a log there are: `[first, end)`.
    pub(crate) fn bounds(&self, log: &LogId) -> (u64, u64) {
        let events = self.places.get(log).and_then(|place| self.logs.get(place));
        events.map_or((0, 0), |events| (events.first, events.first + events.stamps.len() as u64))
    }

    /// The events whose stamps lie within bounds, in their order: stamp, log, number. Logs of one stamp are in no order.
    pub(crate) fn within(
        &self,
        start: Bound<Hlc>,
        end: Bound<Hlc>,
    ) -> impl Iterator<Item = (Hlc, &LogId, u64)> {
        let start = match start {
            Bound::Included(stamp) => Bound::Included((stamp, 0, 0)),
            Bound::Excluded(stamp) => Bound::Excluded((stamp, u32::MAX, u64::MAX)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let end = match end {
            Bound::Included(stamp) => Bound::Included((stamp, u32::MAX, u64::MAX)),
            Bound::Excluded(stamp) => Bound::Excluded((stamp, 0, 0)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let found = self.by_stamp.range((start, end));
        found.filter_map(|((stamp, place, seq), ())| Some((*stamp, &self.logs.get(place)?.id, *seq)))
    }

    /// How much of other logs was cited, by the first bytes of their ids.
    pub(crate) fn cited(&self) -> BTreeMap<[u8; 8], u64> {
        // Ascending, so the greatest of each stays.
        self.cited.keys().copied().collect()
    }

    /// BLAKE3 over the logs that have events, by id: where they begin and end, and the root. Looks at every log.
    pub(crate) fn digest(&self, set: &LogSet) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("consilience events digest v1");
        for log in self.places.keys() {
            let (first, end) = self.bounds(log);
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

#[cfg(test)]
mod tests {
    use consilience_sync::{
        Incarnation, Keypair, Limits, LogKind, LogOpening, MeshId, NewEntry, Signer, Timestamp, Topic,
    };

    use super::*;

    #[test]
    fn the_room_of_stamps_follows_the_events_that_are_left_and_is_given_back_in_large_parts() {
        let agent = Keypair::from_seed([1; 32]).agent();
        let topic = Topic::new("team").unwrap();
        let opening =
            LogOpening { topic, kind: LogKind::Event, agent, incarnation: Incarnation::from_u64(1) };
        let mut set = LogSet::new(MeshId::from_bytes([7; 32]), Limits::default());
        let log = set.open_local(&opening).unwrap();
        let stamp = Hlc::new(Timestamp::from_millis(1_700_000_000_000), 0);
        for _ in 0..1_000 {
            set.append(&log, &NewEntry::new(stamp, b"x")).unwrap();
        }
        let mut events = EventIndex::default();
        while let Some(change) = set.poll_change() {
            events.take(&set, &change);
        }
        assert_eq!((events.len(), events.bounds(&log)), (1_000, (0, 1_000)));
        let room = |events: &EventIndex| events.logs.values().map(|log| log.stamps.capacity()).sum::<usize>();
        let mut given_back = 0;
        for end in 1..1_000 {
            let before = room(&events);
            events.forget(&set, &log, end - 1, end);
            assert_eq!((events.bounds(&log), events.is_empty()), ((end, 1_000), false));
            assert!(room(&events) <= 4 * events.len() + 16, "{end}");
            given_back += usize::from(room(&events) < before);
        }
        assert!((3..10).contains(&given_back), "{given_back}");
        events.forget(&set, &log, 999, 1_000);
        assert!(events.is_empty());
        assert_eq!(room(&events), 0);
    }
}
