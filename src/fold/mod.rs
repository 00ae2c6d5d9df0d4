//! The fold: the sum of the entries, that is the state of state logs and the index of event logs.
//!
//! `live = listed − named` (the rules are in `topic`, and in the model in `tests/model/`), kept incrementally from the
//! changes that a [`LogSet`] reports. Nothing else is remembered, so the state is a function of the entries that are
//! retained and applicable, and [`Fold::anew`] gives the same from scratch.
//!
//! What does not live here: which entries are applicable (the `LogSet`'s), and the writes of local writers.

mod collection;
mod coupling_table;
mod digest;
mod dots;
mod entries;
mod events;
mod topic;
mod watch;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_sync::{Change, LogId, LogKind, LogSet, Topic};

pub(crate) use collection::Table;
pub(crate) use coupling_table::actor_of;
pub(crate) use dots::LocalDot;
pub(crate) use entries::tag_of;
pub(crate) use events::EventIndex;
pub use events::EventRef;
pub(crate) use topic::{ENTRY_COST, Member, TopicState};
pub(crate) use watch::{Watch, Winner, winner};

use crate::payload::PayloadError;

/// The state of all topics.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    topics: BTreeMap<Topic, TopicState>,
    events: BTreeMap<Topic, EventIndex>,
    /// Keys the hashes of the tables.
    seed: u64,
}

/// The news for the caller of changes that were taken in.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// Entries that say nothing here: the log, the entry's number, and why.
    pub(crate) inert: Vec<(LogId, u64, PayloadError)>,
    /// Logs that others began to answer for or ceased to, in the order in which that happened.
    pub(crate) claimed: Vec<(Topic, LogId)>,
}

impl Fold {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { topics: BTreeMap::new(), events: BTreeMap::new(), seed }
    }

    /// The state and the events to which the applicable entries of a set add up, made from scratch.
    pub(crate) fn anew(set: &LogSet, seed: u64) -> Self {
        let mut fold = Self::new(seed);
        let mut folded = Folded::default();
        for log in set.logs() {
            if let Some((from, to)) = set.applicable(log.id())
                && from < to
            {
                fold.take(set, &Change::Applicable { log: *log.id(), from, to }, &mut folded);
            }
        }
        fold
    }

    /// The same, as if a log that is forked were not.
    pub(crate) fn as_if_valid(set: &LogSet, log: &LogId, seed: u64) -> Self {
        let mut fold = Self::anew(set, seed);
        if let Some(held) = set.log(log) {
            let (from, to) = (held.base().max(held.start()), held.size());
            let change = Change::Applicable { log: *log, from: from.min(to), to };
            fold.take(set, &change, &mut Folded::default());
        }
        fold
    }

    pub(crate) fn topic(&self, topic: &Topic) -> Option<&TopicState> {
        self.topics.get(topic)
    }

    pub(crate) fn topic_mut(&mut self, topic: &Topic) -> &mut TopicState {
        let seed = self.seed;
        self.topics.entry(topic.clone()).or_insert_with(|| TopicState::new(topic.clone(), seed))
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = (&Topic, &TopicState)> {
        self.topics.iter()
    }

    /// The events of a topic.
    pub(crate) fn events(&self, topic: &Topic) -> Option<&EventIndex> {
        self.events.get(topic)
    }

    /// How many events there are, by topic.
    pub(crate) fn events_len(&self) -> impl Iterator<Item = (&Topic, usize)> {
        self.events.iter().map(|(topic, events)| (topic, events.len()))
    }

    pub(crate) fn remove(&mut self, topic: &Topic) {
        self.topics.remove(topic);
        self.events.remove(topic);
    }

    /// A hash of the state of a topic: equal where two replicas mean the same. Looks at all of it.
    pub(crate) fn digest(&self, set: &LogSet, topic: &Topic) -> [u8; 32] {
        let state = self.topic(topic).map_or_else(TopicState::digest_of_nothing, TopicState::digest);
        let none = EventIndex::default();
        let events = self.events(topic).unwrap_or(&none).digest(set);
        let mut hasher = blake3::Hasher::new_derive_key("consilience replica digest v1");
        hasher.update(&state).update(&events);
        *hasher.finalize().as_bytes()
    }

    /// Whether states and events are those to which the retained entries add up: they are made anew and compared.
    pub(crate) fn verify(&self, set: &LogSet) -> bool {
        let anew = Self::anew(set, 1);
        let folds = [self, &anew];
        let topics: BTreeSet<&Topic> =
            folds.iter().flat_map(|fold| fold.topics.keys().chain(fold.events.keys())).collect();
        topics.into_iter().all(|topic| self.digest(set, topic) == anew.digest(set, topic))
    }

    /// Takes in a change of a log, and appends to `folded` the news of it for the caller.
    pub(crate) fn take(&mut self, set: &LogSet, change: &Change, folded: &mut Folded) {
        let Some(log) = set.log(change.log()) else { return };
        let (id, topic) = (log.id(), &log.opening().topic);
        if log.opening().kind == LogKind::Event {
            return self.events.entry(topic.clone()).or_default().take(set, change);
        }
        match change {
            Change::Applicable { from, to, .. } => {
                self.topic_mut(topic).extend(set, log, (*from, *to), folded);
            }
            Change::Dropped { below, .. } | Change::Retired { below, .. } => {
                self.topic_mut(topic).drop_below(set, id, *below, folded);
            }
            Change::Replaced { .. } => self.topic_mut(topic).clear(set, id, false, folded),
            Change::Invalidated { .. } => self.topic_mut(topic).clear(set, id, true, folded),
            _ => {}
        }
    }
}
