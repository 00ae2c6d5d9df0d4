//! The fold: what the entries of state logs add up to.
//!
//! `live = listed − named` (the rules are in `topic`, and in the model in `tests/model/`), kept incrementally from the
//! changes that a [`LogSet`] reports. Nothing else is remembered, so the state is a function of the entries that are
//! retained and applicable, and [`Fold::anew`] gives the same from scratch.
//!
//! What does not live here: which entries are applicable (the `LogSet`'s), events, and what local writers write.

mod couples;
mod digest;
mod dots;
mod entries;
mod topic;
mod watch;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use consilience_sync::{Change, LogId, LogKind, LogSet, Topic};

pub(crate) use couples::actor_of;
pub(crate) use dots::Place;
pub(crate) use entries::tag_of;
pub(crate) use topic::{ENTRY_COST, Member, Table, TopicState};
pub(crate) use watch::{Watch, Winner, winner};

use crate::payload::PayloadError;

/// The state of all topics.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    topics: BTreeMap<Topic, TopicState>,
    /// Keys the hashes of the tables.
    seed: u64,
}

/// What the caller has to know of changes that were taken in.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// Entries that say nothing here: the log, the entry's number, and why.
    pub(crate) inert: Vec<(LogId, u64, PayloadError)>,
    /// Logs that others began to answer for or ceased to, in the order in which that happened.
    pub(crate) claimed: Vec<(Topic, LogId)>,
}

impl Fold {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { topics: BTreeMap::new(), seed }
    }

    /// The state that what is applicable in a set adds up to, from scratch.
    pub(crate) fn anew(set: &LogSet, seed: u64) -> Self {
        let mut fold = Self::new(seed);
        let mut folded = Folded::default();
        for log in set.logs().filter(|log| log.opening().kind == LogKind::State) {
            if let Some((from, to)) = set.applicable(log.id())
                && from < to
            {
                fold.topic_mut(&log.opening().topic).extend(set, log, (from, to), &mut folded);
            }
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

    pub(crate) fn remove(&mut self, topic: &Topic) {
        self.topics.remove(topic);
    }

    /// Takes in a change of a state log, and appends to `folded` what the caller has to know of it.
    pub(crate) fn take(&mut self, set: &LogSet, change: &Change, folded: &mut Folded) {
        let Some(log) = set.log(change.log()) else { return };
        let (id, topic) = (log.id(), &log.opening().topic);
        match change {
            Change::Applicable { from, to, .. } => {
                self.topic_mut(topic).extend(set, log, (*from, *to), folded);
            }
            Change::Dropped { below, .. } | Change::Retired { below, .. } => {
                self.topic_mut(topic).drop_below(set, id, *below, folded);
            }
            Change::Replaced { .. } => self.topic_mut(topic).clear(set, id, false, folded),
            Change::Voided { .. } => self.topic_mut(topic).clear(set, id, true, folded),
            _ => {}
        }
    }
}
