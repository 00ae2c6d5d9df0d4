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
mod few;
mod live;
mod topic;
mod watch;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_sync::planted::{Fault, planted};
use consilience_sync::{AgentId, Change, LogId, LogKind, LogSet, Topic};

pub(crate) use collection::Table;
pub(crate) use coupling_table::actor_of;
pub(crate) use dots::LocalDot;
pub(crate) use entries::tag_of;
pub(crate) use events::EventIndex;
pub use events::EventRef;
pub(crate) use live::LiveDots;
pub(crate) use topic::{ENTRY_COST, Member, TopicState, listing_cost};
pub(crate) use watch::{Watch, Winner};

use crate::payload::{CollectionId, PayloadError};

/// The state of all topics.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    topics: BTreeMap<Topic, Box<TopicState>>,
    events: BTreeMap<Topic, EventIndex>,
    /// Keys the hashes of the tables.
    seed: u64,
}

/// The news for the caller of changes that were taken in.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// Entries that say nothing here: the log, the entry's number, and why.
    pub(crate) inert: Vec<(LogId, u64, PayloadError)>,
    /// How many dots were looked at again because of what an agent's logs in a topic say of one another.
    pub(crate) looked_at: Vec<(AgentId, Topic, u64)>,
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
        fold.take_all(set, log);
        fold
    }

    /// The state to which the entries of one log add up by themselves.
    pub(crate) fn of_one(set: &LogSet, log: &LogId, seed: u64) -> Self {
        let mut fold = Self::new(seed);
        fold.take_all(set, log);
        fold
    }

    /// Takes in all retained entries of a log, whether it counts or not.
    fn take_all(&mut self, set: &LogSet, log: &LogId) {
        if let Some(held) = set.log(log) {
            let (from, to) = (held.base().max(held.start()), held.size());
            let change = Change::Applicable { log: *log, from: from.min(to), to };
            self.take(set, &change, &mut Folded::default());
        }
    }

    pub(crate) fn topic(&self, topic: &Topic) -> Option<&TopicState> {
        self.topics.get(topic).map(Box::as_ref)
    }

    pub(crate) fn topic_mut(&mut self, topic: &Topic) -> &mut TopicState {
        let seed = self.seed;
        self.topics.entry(topic.clone()).or_insert_with(|| Box::new(TopicState::new(topic.clone(), seed)))
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = (&Topic, &TopicState)> {
        self.topics.iter().map(|(topic, state)| (topic, state.as_ref()))
    }

    /// The events of a topic.
    pub(crate) fn events(&self, topic: &Topic) -> Option<&EventIndex> {
        self.events.get(topic)
    }

    /// How many events there are, by topic.
    pub(crate) fn events_len(&self) -> impl Iterator<Item = (&Topic, usize)> {
        self.events.iter().map(|(topic, events)| (topic, events.len()))
    }

    /// The next key of a topic that was touched: its collection, itself, and the winner before.
    pub(crate) fn pop_touched(&mut self, topic: &Topic) -> Option<(CollectionId, Box<[u8]>, Option<Winner>)> {
        self.topics.get_mut(topic)?.watch.as_mut()?.pop()
    }

    /// Ends the watch of a topic's keys.
    pub(crate) fn unwatch(&mut self, topic: &Topic) {
        if let Some(state) = self.topics.get_mut(topic) {
            state.watch = None;
        }
        self.forget_if_empty(topic);
    }

    /// Forgets a topic of which nothing is here. The host may yet have to look at changes of one of which nothing is left.
    pub(crate) fn forget_if_empty(&mut self, topic: &Topic) {
        if self.topics.get(topic).is_some_and(|state| state.is_empty()) {
            self.topics.remove(topic);
        }
    }

    /// Forgets all of a topic, but for the keys that went and that the host has yet to look at.
    pub(crate) fn remove(&mut self, topic: &Topic) {
        if let Some(left) = self.topics.remove(topic).and_then(|state| state.emptied()) {
            self.topics.insert(topic.clone(), Box::new(left));
        }
        if !planted(Fault::PurgeLeavesEvents) {
            self.events.remove(topic);
        }
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
            return self.take_events(set, topic, change);
        }
        if matches!(change, Change::Applicable { .. }) {
            // It may be the first of the topic.
            self.topic_mut(topic);
        }
        let Some(state) = self.topics.get_mut(topic) else { return };
        match change {
            Change::Applicable { from, to, .. } => state.extend(set, log, (*from, *to), folded),
            Change::Dropped { below, .. } => state.drop_below(set, id, *below),
            Change::Replaced { .. } | Change::Closed { .. } | Change::Invalidated { .. } => {
                state.clear(set, id);
            }
            _ => {}
        }
        let looked_at = state.take_looked_at();
        if looked_at > 0 {
            folded.looked_at.push((log.opening().agent, topic.clone(), looked_at));
        }
        self.forget_if_empty(topic);
    }

    fn take_events(&mut self, set: &LogSet, topic: &Topic, change: &Change) {
        if !self.events.contains_key(topic) {
            if !matches!(change, Change::Applicable { .. }) {
                return;
            }
            self.events.insert(topic.clone(), EventIndex::default());
        }
        let Some(events) = self.events.get_mut(topic) else { return };
        events.take(set, change);
        if events.is_empty() {
            self.events.remove(topic);
        }
    }
}
