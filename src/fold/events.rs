//! [`EventIndex`]: the applicable events of a topic, by log and merged by stamp.
//!
//! What does not live here: the events themselves (those are in their logs), and their meaning. The invariant: the
//! index has exactly the events that are applicable.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::ops::Bound;

use consilience_crdts::Hlc;
use consilience_sync::{Change, LogId, LogSet};

/// The name of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventRef {
    /// Its log.
    pub log: LogId,
    /// Its number in the log.
    pub seq: u64,
}

/// The applicable events of a topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventIndex {
    logs: Vec<LogId>,
    places: BTreeMap<LogId, u32>,
    /// By log: the number of the first event, and the stamps from there on.
    stamps: Vec<(u64, VecDeque<Hlc>)>,
    by_stamp: BTreeSet<(Hlc, u32, u64)>,
    /// How much of other logs was cited, by the first bytes of their ids.
    cited: BTreeMap<[u8; 8], u64>,
}

impl EventIndex {
    pub(crate) fn len(&self) -> usize {
        self.by_stamp.len()
    }

    pub(crate) fn take(&mut self, set: &LogSet, change: &Change) {
        match change {
            Change::Applicable { log, from, to } => self.extend(set, log, *from, *to),
            Change::Dropped { log, below } => {
                let Some(place) = self.places.get(log).copied() else { return };
                let (first, stamps) = &mut self.stamps[place as usize];
                while *first < *below {
                    let Some(stamp) = stamps.pop_front() else { break };
                    self.by_stamp.remove(&(stamp, place, *first));
                    *first += 1;
                }
            }
            Change::Cut { log, valid_below } => self.cut(log, *valid_below),
            Change::Replaced { log, .. } | Change::Invalidated { log } => self.cut(log, 0),
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
            if entry.is_opaque() {
                // It has its place among the others of its log, and says nothing.
                continue;
            }
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

    /// Which events of a log there are: `[first, end)`.
    pub(crate) fn bounds(&self, log: &LogId) -> (u64, u64) {
        let stamps = self.places.get(log).map(|place| &self.stamps[*place as usize]);
        stamps.map_or((0, 0), |(first, stamps)| (*first, first + stamps.len() as u64))
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
        found.map(|(stamp, place, seq)| (*stamp, &self.logs[*place as usize], *seq))
    }

    /// How much of other logs was cited, by the first bytes of their ids.
    pub(crate) const fn cited(&self) -> &BTreeMap<[u8; 8], u64> {
        &self.cited
    }

    /// BLAKE3 over the logs that have events, by id: where they begin and end, and the root. Looks at every log.
    pub(crate) fn digest(&self, set: &LogSet) -> [u8; 32] {
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
