//! The notices for the host: keys that changed, events that came, and troubles with logs.
//!
//! Changes of keys are coalesced: however often a key changed since the last poll, one notice has its value before and
//! its value now. The invariant: the queue is bounded by the keys that changed and the logs that are held.

mod surface;

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use consilience_sync::planted::{Fault, planted};
use consilience_sync::{
    AgentId, Change, LogId, LogOpening, OpenError, SetError, Topic, TopicError, TopicFilter,
};

pub(crate) use surface::Surface;
pub use surface::Surfaced;

use crate::fold::{Fold, Watch, Winner};
use crate::journal::{Cut, RecordId};
use crate::payload::{CollectionId, CollectionKind, EntryTooLarge, PayloadError};

/// At most so many notices wait, beside the keys that changed; of older ones only the number is told.
const QUEUE_MAX: usize = 65_536;

/// Why something does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Blocked {
    /// Own entries wait until the host confirms that their records are stored: poll the records, store them, and call
    /// [`Replica::confirm`](crate::Replica::confirm).
    Unconfirmed {
        /// The first record that is not confirmed.
        first: RecordId,
        /// The last.
        last: RecordId,
    },
}

/// Why content that a fork took out of an own log is not written again yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// It does not fit an entry.
    #[error(transparent)]
    TooLarge(EntryTooLarge),
    /// The writer's next log cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The entry cannot be appended.
    #[error(transparent)]
    Append(SetError),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A key of a map, or an element of a set, changed. If it was written again as it was, `old` and `new` are equal.
    Changed {
        /// The topic.
        topic: Topic,
        /// The kind of the collection.
        kind: CollectionKind,
        /// The collection's name.
        collection: String,
        /// The key, or the element.
        key: Vec<u8>,
        /// The value before; `None` if it was not there.
        old: Option<Vec<u8>>,
        /// The value now; `None` if it is gone.
        new: Option<Vec<u8>>,
        /// The author of the value now.
        author: Option<AgentId>,
    },
    /// The contributions to a key of a coupling changed.
    Coupled {
        /// The topic.
        topic: Topic,
        /// The name of the coupling.
        collection: String,
        /// The key.
        key: Vec<u8>,
    },
    /// Events came.
    Events {
        /// The topic.
        topic: Topic,
        /// The log.
        log: LogId,
        /// The first of them.
        from: u64,
        /// The number after the last of them.
        to: u64,
    },
    /// A log is forked: of a state log nothing counts, of an event log the events below the number. Its writer signed
    /// two histories: it was cloned, its storage was put back from a backup without
    /// [`Opened::Restored`](crate::Opened), or it lies. There is nothing to do: a local writer writes again, in its next
    /// incarnation, the content that this replica holds of the log, and [`NotWrittenAgain`](Self::NotWrittenAgain)
    /// says so where it cannot. Names of events that were written again are new.
    Forked {
        /// The log.
        log: LogOpening,
        /// The events that count lie below.
        valid_below: u64,
    },
    /// An own log has another history elsewhere: its storage was cloned or put back from a backup, or two processes have the
    /// key. The writer goes on in its next incarnation. See to it that each key has one storage; after it was put back
    /// from a backup, open it with [`Opened::Restored`](crate::Opened).
    SelfForked {
        /// The log.
        log: LogOpening,
    },
    /// Content of a local writer's logs that a fork took out, or whose stamps were wrong, could not be written again, and
    /// until it is nobody reads it. It is kept and tried again whenever something happens; told once until it succeeds.
    NotWrittenAgain {
        /// The writer.
        agent: AgentId,
        /// The topic.
        topic: Topic,
        /// Why not.
        obstacle: Obstacle,
    },
    /// The last entries of a local writer, or the log that it goes on in, are of a time that the clock here has not reached:
    /// either the clock was ahead then, and others do not take them yet, or it has fallen since. A peer that says the time
    /// decides it, and so does [`Replica::trust_clock`](crate::Replica::trust_clock); until then the writer's stamps follow
    /// on its last. Told once for each log.
    ClockInDoubt {
        /// The log.
        log: LogOpening,
    },
    /// A local writer's clock had been ahead: it goes on in its next incarnation, with its live content stamped anew.
    /// Nothing is left to do, but for events, of which [`EventsAhead`](Self::EventsAhead) tells.
    Restamped {
        /// The writer.
        agent: AgentId,
        /// The topic.
        topic: Topic,
    },
    /// A local writer's clock had been ahead when it appended events: these keep their stamps and wait at others until
    /// then. Append those again that matter. Told when the writer connects or appends another event after its clock was set
    /// back, once for each log.
    EventsAhead {
        /// The log.
        log: LogOpening,
        /// The first that waits; so do all after it.
        from: u64,
    },
    /// Entries wait for their stamps to be past: their writer's clock is ahead of this one, or this one is behind.
    Deferred {
        /// The log.
        log: LogOpening,
        /// The first that waits.
        from: u64,
    },
    /// An entry is no transaction: it says nothing, here and everywhere.
    Malformed {
        /// The log of the entry.
        log: LogOpening,
        /// The entry's number.
        seq: u64,
    },
    /// An entry is of a later version of this library: it counts after an upgrade.
    NeedsUpgrade {
        /// The log of the entry.
        log: LogOpening,
        /// The entry's number.
        seq: u64,
    },
    /// The end of the stored records was torn or damaged and is cut off: the first notice after the start. Peers bring
    /// again what was theirs. Local writers go on in their next incarnations, since their entries in it may have been
    /// sent; such entries come back from peers, if any has them. A process that ended in the middle of a write leaves such
    /// an end, and so does a disk that has changed bytes.
    RecordsCut {
        /// The bytes that were cut off.
        cut: Cut,
    },
    /// Nobody polled while more notices than 65,536 came: so many of the oldest were given up, which told of events and of
    /// logs. Changes of keys are not among them. Whoever follows events looks at the topics anew.
    Missed {
        /// How many.
        notices: u64,
    },
    /// Stored items are as they were written, and the logs refuse them: another version of this library may have written
    /// them. Peers bring the entries in them; if some are own ones, local writers go on in their next incarnations.
    ItemsRefused {
        /// How many.
        items: usize,
    },
}

impl fmt::Display for Notice {
    /// For the log of a program. Keys and values are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { topic, collection, .. } => {
                write!(f, "{topic}: a key of {collection:?} changed")
            }
            Self::Coupled { topic, collection, .. } => {
                write!(f, "{topic}: contributions to a key of {collection:?} changed")
            }
            Self::Events { topic, from, to, .. } => {
                write!(f, "{topic}: {} events came", to.saturating_sub(*from))
            }
            Self::Forked { log, .. } => {
                write!(f, "{}: {} signed two histories of a log", log.topic, log.agent)
            }
            Self::SelfForked { log } => write!(
                f,
                "{}: a log of the local writer {} has another history elsewhere: see to it that each key has one storage",
                log.topic, log.agent
            ),
            Self::NotWrittenAgain { agent, topic, obstacle } => write!(
                f,
                "{topic}: content of the local writer {agent} that a fork took out is not written again: {obstacle}"
            ),
            Self::ClockInDoubt { log } => write!(
                f,
                "{}: the log of the local writer {} is ahead of the clock: that was ahead, or has fallen",
                log.topic, log.agent
            ),
            Self::Restamped { agent, topic } => write!(
                f,
                "{topic}: the clock of the local writer {agent} had been ahead: its live content is stamped anew"
            ),
            Self::EventsAhead { log, .. } => write!(
                f,
                "{}: events of the local writer {} wait at others: its clock had been ahead",
                log.topic, log.agent
            ),
            Self::Deferred { log, .. } => write!(
                f,
                "{}: entries of {} wait: its clock is ahead of this one, or this one is behind",
                log.topic, log.agent
            ),
            Self::Malformed { log, seq } => {
                write!(f, "{}: entry {seq} of a log of {} says nothing", log.topic, log.agent)
            }
            Self::NeedsUpgrade { log, seq } => write!(
                f,
                "{}: entry {seq} of a log of {} counts after an upgrade of this library",
                log.topic, log.agent
            ),
            Self::Missed { notices } => {
                write!(f, "{notices} notices were given up, since nobody polled them")
            }
            Self::RecordsCut { cut } => write!(f, "{cut}, so local writers go on in their next incarnations"),
            Self::ItemsRefused { items } => {
                write!(
                    f,
                    "{items} stored items are whole, but of no form that this version of the library takes"
                )
            }
        }
    }
}

/// A subscription, to end it with [`Replica::unsubscribe`](crate::Replica::unsubscribe).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subscription(u64);

/// Why a pattern was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pattern is a topic, a topic and /*, or * alone: {0}")]
pub struct SubscriptionError(#[from] TopicError);

#[derive(Debug, Default)]
pub(crate) struct Notices {
    queue: VecDeque<Notice>,
    /// How many were given up since that was last told.
    missed: u64,
    filters: Vec<(Subscription, TopicFilter)>,
    next: u64,
    /// Topics in which keys may have changed.
    touched: BTreeSet<Topic>,
    /// Own event logs with stamps ahead of the clock, as it was told.
    ahead: BTreeSet<LogId>,
    /// Own logs that are ahead of the clock, which may have fallen, as it was told.
    doubted: BTreeSet<LogId>,
    /// Whose content could not be written again, as it was told.
    unwritten: BTreeSet<(AgentId, Topic)>,
}

impl Notices {
    pub(crate) fn is_wanted(&self, topic: &Topic) -> bool {
        self.filters.iter().any(|(_, pattern)| pattern.matches(topic))
    }

    fn push(&mut self, notice: Notice) {
        if self.queue.len() >= QUEUE_MAX {
            self.queue.pop_front();
            self.missed = self.missed.saturating_add(1);
        }
        self.queue.push_back(notice);
    }

    pub(crate) fn tell_of(&mut self, topic: &Topic, opening: &LogOpening, change: &Change) {
        if self.is_wanted(topic) {
            self.touched.insert(topic.clone());
        }
        let log = || opening.clone();
        match change {
            Change::Invalidated { .. } => self.push(Notice::Forked { log: log(), valid_below: 0 }),
            Change::Cut { valid_below, .. } => {
                self.push(Notice::Forked { log: log(), valid_below: *valid_below });
            }
            Change::SelfForked { .. } if planted(Fault::SelfForkIsNotTold) => {}
            Change::SelfForked { .. } => self.push(Notice::SelfForked { log: log() }),
            Change::Deferred { from, .. } => self.push(Notice::Deferred { log: log(), from: *from }),
            _ => {}
        }
    }

    /// Notes that the keys of a topic are about to go.
    pub(crate) fn purged(&mut self, topic: &Topic) {
        if self.is_wanted(topic) {
            self.touched.insert(topic.clone());
        }
    }

    pub(crate) fn tell_of_events(&mut self, topic: &Topic, change: &Change) {
        if let Change::Applicable { log, from, to } = change
            && self.is_wanted(topic)
        {
            // The events of one log that come one by one are one notice, if nothing else was told meanwhile.
            if let Some(Notice::Events { log: last, to: end, .. }) = self.queue.back_mut()
                && last == log
                && (end == from || planted(Fault::EventNoticesRunTogether))
            {
                *end = *to;
                return;
            }
            self.push(Notice::Events { topic: topic.clone(), log: *log, from: *from, to: *to });
        }
    }

    /// Tells the findings of an opening.
    pub(crate) fn tell_of_storage(&mut self, cut: Option<Cut>, refused: usize) {
        if let Some(cut) = cut.filter(|_| !planted(Fault::CutIsNotTold)) {
            self.push(Notice::RecordsCut { cut });
        }
        if refused > 0 {
            self.push(Notice::ItemsRefused { items: refused });
        }
    }

    pub(crate) fn not_written_again(&mut self, whose: &(AgentId, Topic), obstacle: Obstacle) {
        if self.unwritten.insert(whose.clone()) {
            let (agent, topic) = whose.clone();
            self.push(Notice::NotWrittenAgain { agent, topic, obstacle });
        }
    }

    pub(crate) fn written_again(&mut self, whose: &(AgentId, Topic)) {
        self.unwritten.remove(whose);
    }

    pub(crate) fn events_ahead(&mut self, opening: &LogOpening, log: &LogId, from: u64) {
        if self.ahead.insert(*log) {
            self.push(Notice::EventsAhead { log: opening.clone(), from });
        }
    }

    pub(crate) fn clock_in_doubt(&mut self, opening: &LogOpening, log: &LogId) {
        if self.doubted.insert(*log) {
            self.push(Notice::ClockInDoubt { log: opening.clone() });
        }
    }

    pub(crate) fn restamped(&mut self, agent: AgentId, topic: Topic) {
        self.push(Notice::Restamped { agent, topic });
    }

    pub(crate) fn inert(&mut self, log: LogOpening, seq: u64, error: PayloadError) {
        self.push(match error {
            PayloadError::NeedsUpgrade(_) | PayloadError::Opaque => Notice::NeedsUpgrade { log, seq },
            PayloadError::Malformed(_) => Notice::Malformed { log, seq },
        });
    }

    /// Begins to watch a topic that somebody subscribed to.
    pub(crate) fn watch(&self, fold: &mut Fold, topic: &Topic) {
        if self.is_wanted(topic) {
            let state = fold.topic_mut(topic);
            if state.watch.is_none() {
                state.watch = Some(Watch::default());
            }
        }
    }

    /// Subscribes to topics from now on.
    pub(crate) fn subscribe(&mut self, fold: &mut Fold, filter: TopicFilter) -> Subscription {
        let topics = fold.topics().map(|(topic, _)| topic).filter(|topic| filter.matches(topic));
        let topics: Vec<Topic> = topics.cloned().collect();
        self.next += 1;
        let subscription = Subscription(self.next);
        self.filters.push((subscription, filter));
        topics.iter().for_each(|topic| self.watch(fold, topic));
        subscription
    }

    /// Ends a subscription; false if it had ended.
    pub(crate) fn unsubscribe(&mut self, fold: &mut Fold, subscription: Subscription) -> bool {
        let before = self.filters.len();
        self.filters.retain(|(there, _)| *there != subscription);
        let topics: Vec<Topic> = fold.topics().map(|(topic, _)| topic.clone()).collect();
        for topic in topics.iter().filter(|topic| !self.is_wanted(topic)) {
            fold.unwatch(topic);
        }
        self.filters.len() < before
    }

    /// The next thing that happened, as far as it may be shown.
    pub(crate) fn poll(&mut self, fold: &mut Fold, surface: &Surface) -> Option<Notice> {
        if self.missed > 0 {
            return Some(Notice::Missed { notices: core::mem::take(&mut self.missed) });
        }
        if let Some(notice) = self.queue.pop_front() {
            return Some(notice);
        }
        while let Some(topic) = self.touched.first().cloned() {
            while let Some((id, key, was)) = fold.pop_touched(&topic) {
                if let Some(notice) = key_notice((fold, surface), &topic, &id, key, was) {
                    return Some(notice);
                }
            }
            self.touched.remove(&topic);
            fold.forget_if_empty(&topic);
        }
        None
    }
}

/// The notice of a key's change, if that is news that may be shown.
fn key_notice(
    (fold, surface): (&Fold, &Surface),
    topic: &Topic,
    id: &CollectionId,
    key: Box<[u8]>,
    was: Option<Winner>,
) -> Option<Notice> {
    let state = fold.topic(topic)?;
    let name = String::from(id.name());
    if id.kind() == CollectionKind::Coupling {
        return Some(Notice::Coupled { topic: topic.clone(), collection: name, key: key.into() });
    }
    let now = state.collection(id).and_then(|collection| state.winner(collection, &key));
    if now == was {
        return None;
    }
    let shown = |winner: Option<Winner>| {
        let winner = winner?;
        let surfaced = Surfaced {
            topic,
            collection: Some((id.kind(), id.name())),
            key: &key,
            value: &winner.value,
            author: winner.author,
            stamp: winner.stamp,
        };
        surface.shows(&surfaced).then(|| (winner.value.to_vec(), winner.author))
    };
    let (old, new) = (shown(was), shown(now));
    if old.is_none() && new.is_none() {
        return None;
    }
    let author = new.as_ref().map(|(_, author)| *author);
    Some(Notice::Changed {
        topic: topic.clone(),
        kind: id.kind(),
        collection: name,
        old: old.map(|(value, _)| value),
        new: new.map(|(value, _)| value),
        author,
        key: key.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_that_nobody_polls_are_counted_beyond_a_limit() {
        let (mut notices, mut fold) = (Notices::default(), Fold::new(1));
        let topic = Topic::new("team").unwrap();
        notices.subscribe(&mut fold, TopicFilter::new("*").unwrap());
        let events = |log: u64, from, to| {
            let log = LogId::from_bytes(*blake3::hash(&log.to_le_bytes()).as_bytes());
            (log, Change::Applicable { log, from, to })
        };
        // Those of one log, one after the other, are one.
        (0..10).for_each(|seq| notices.tell_of_events(&topic, &events(0, seq, seq + 1).1));
        assert_eq!(notices.queue.len(), 1);
        for log in 1..QUEUE_MAX as u64 {
            notices.tell_of_events(&topic, &events(log, 0, 1).1);
        }
        assert_eq!((notices.queue.len(), notices.missed), (QUEUE_MAX, 0), "as many as there is room for");
        assert!(matches!(notices.queue.front(), Some(Notice::Events { from: 0, to: 10, .. })));
        for log in 0..3 {
            notices.tell_of_events(&topic, &events(u64::MAX - log, 0, 1).1);
        }
        let surface = Surface::default();
        let first = notices.poll(&mut fold, &surface);
        assert_eq!(first, Some(Notice::Missed { notices: 3 }));
        let second = notices.poll(&mut fold, &surface);
        let third = Notice::Events { topic, log: events(3, 0, 1).0, from: 0, to: 1 };
        assert_eq!(second, Some(third), "the oldest went");
        let left = core::iter::from_fn(|| notices.poll(&mut fold, &surface)).count();
        assert_eq!(left, QUEUE_MAX - 1);
    }

    #[test]
    fn content_that_is_not_written_again_is_told_of_once_until_it_is() {
        let mut notices = Notices::default();
        let whose = (AgentId::from_bytes([1; 32]), Topic::new("team").unwrap());
        let obstacle = Obstacle::Open(OpenError::Quota);
        let told = |notices: &mut Notices| {
            let all = core::iter::from_fn(|| notices.queue.pop_front());
            all.filter(|notice| matches!(notice, Notice::NotWrittenAgain { .. })).count()
        };
        for _ in 0..3 {
            notices.not_written_again(&whose, obstacle);
        }
        assert_eq!(told(&mut notices), 1);
        notices.written_again(&whose);
        notices.not_written_again(&whose, obstacle);
        assert_eq!(told(&mut notices), 1);
    }
}
