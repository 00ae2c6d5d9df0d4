//! [`Replica`]: the logs that one process holds, and the state that they mean.
//!
//! A face over owners: the log store (the entries that are held, stored and signed), the sessions, the fold (the
//! meaning of entries), the author (how own entries are made), the repair (how own forks are dealt with), the notices
//! and the surface (which content may be shown). Each call works on these and then *settles*: the changes of the
//! store's logs are folded, and the steps that follow from them are done (`settle`).
//!
//! The invariants: the state is a function of the retained entries; nothing derived from an own entry leaves before its
//! record was confirmed; an error changes nothing.

mod config;
mod error;
mod events;
mod peers;
mod persist;
mod settle;
mod transaction;
mod writer;

use alloc::vec::Vec;
use core::fmt;

use consilience_crdts::Timestamp;
use consilience_sync::planted::{Fault, planted};
use consilience_sync::session::Sessions;
use consilience_sync::{LogSet, LogStore, MeshId, Recovery, Topic, TopicError, TopicFilter};

pub use config::Config;
pub use error::{AppendEventError, CommitError};
pub use peers::ConnectError;
pub use persist::ReplicaError;
pub use transaction::{CouplingTx, MapTx, SetTx, Transaction, WriteError};
pub use writer::{Writer, WriterError};

use crate::author::Author;
use crate::fold::{Fold, TopicState};
use crate::notice::{Blocked, Notice, Notices, Subscription, SubscriptionError, Surface, Surfaced};
use crate::read::{Shown, TopicView};
use crate::repair::{Repair, Source};

/// The size of a topic, or of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaStats {
    /// Logs that are held.
    pub logs: usize,
    /// Bytes of the payloads of state logs that are retained, and a little for each entry.
    pub stored: u64,
    /// About how many of them list live dots.
    pub live: u64,
    /// Bytes that local writers wrote again since the replica was opened, so that older entries could go.
    pub relisted: u64,
    /// Live keys and elements.
    pub keys: usize,
    /// Events.
    pub events: usize,
}

/// One process's copy of a mesh's shared state, with any number of local writers. See the crate's documentation.
pub struct Replica {
    store: LogStore,
    sessions: Sessions,
    fold: Fold,
    author: Author,
    repair: Repair,
    notices: Notices,
    surface: Surface,
    recovery: Recovery,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let writers: Vec<_> = self.author.writers().collect();
        f.debug_struct("Replica")
            .field("logs", &self.logs().stats().logs)
            .field("writers", &writers)
            .finish_non_exhaustive()
    }
}

impl Replica {
    /// The mesh.
    #[must_use]
    pub const fn mesh(&self) -> &MeshId {
        self.logs().mesh()
    }

    /// The logs that are held.
    #[must_use]
    pub const fn logs(&self) -> &LogSet {
        self.store.logs()
    }

    /// Tells the replica that there is nobody else: local writers need not wait for a peer before they take over the
    /// remains of their earlier incarnations.
    pub const fn declare_alone(&mut self) {
        self.repair.meet();
    }

    /// The size of all topics, or of one.
    #[must_use]
    pub fn stats(&self, topic: Option<&Topic>) -> ReplicaStats {
        let mut stats = ReplicaStats { relisted: self.author.relisted(), ..ReplicaStats::default() };
        let wanted = |there: &Topic| topic.is_none_or(|topic| topic == there);
        stats.logs = self.logs().logs().filter(|log| wanted(&log.opening().topic)).count();
        for (_, state) in self.fold.topics().filter(|(there, _)| wanted(there)) {
            stats.add(state);
        }
        stats.events = self.fold.events_len().filter(|(there, _)| wanted(there)).map(|(_, len)| len).sum();
        stats
    }

    /// A hash of the state of a topic: equal where two replicas mean the same. Looks at all of it.
    #[must_use]
    pub fn digest(&self, topic: &Topic) -> [u8; 32] {
        self.fold.digest(self.logs(), topic)
    }

    /// The root over all that counts here; see [`LogSet::heads_root`](crate::sync::LogSet::heads_root). Two replicas or relays
    /// with the same root hold the same; entries that are not signed yet, or wait for their time, are apart from that.
    #[must_use]
    pub fn heads_root(&mut self) -> [u8; 32] {
        self.store.heads_root()
    }

    /// Whether state and events are those to which the retained entries add up: they are made anew and compared. For tests
    /// and audits; as long as opening takes.
    #[must_use]
    pub fn verify(&self) -> bool {
        self.fold.verify(self.logs())
    }

    /// The content of a topic. A topic that nobody wrote to is empty.
    ///
    /// # Errors
    ///
    /// If the name is no topic's.
    pub fn topic(&self, topic: &str) -> Result<TopicView<'_>, TopicError> {
        let shown = Shown { set: self.logs(), surface: &self.surface };
        Ok(TopicView::new(shown, &self.fold, &Topic::new(topic)?))
    }

    /// The topics that something is held of.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        let mut last = None;
        let topics = self.logs().logs().map(|log| &log.opening().topic);
        topics.filter(move |topic| last.replace(*topic) != Some(*topic))
    }

    /// Sets the filter that keeps content from being read and reported; such content is merged, stored and passed on
    /// all the same, so that all replicas stay equal.
    pub fn set_filter(&mut self, filter: impl Fn(&Surfaced<'_>) -> bool + Send + 'static) {
        self.surface.set(filter);
    }

    /// Asks for notices of the changes from now on in a topic (`team/planning`), in a topic and all below it
    /// (`team/*`), or in all (`*`).
    ///
    /// # Errors
    ///
    /// If the pattern is none of these.
    pub fn subscribe(&mut self, pattern: &str) -> Result<Subscription, SubscriptionError> {
        Ok(self.notices.subscribe(&mut self.fold, TopicFilter::new(pattern)?))
    }

    /// Ends a subscription; false if it had ended.
    pub fn unsubscribe(&mut self, subscription: Subscription) -> bool {
        self.notices.unsubscribe(&mut self.fold, subscription)
    }

    /// The next notice. Poll until there is none, after anything that changes the replica. Of notices on other things
    /// than keys at most 65,536 wait, and the oldest go first.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.poll(&mut self.fold, &self.surface)
    }

    /// Why own entries do not leave, if something keeps them.
    #[must_use]
    pub fn blocked(&self) -> Option<Blocked> {
        let (first, last) = self.store.unconfirmed()?;
        Some(Blocked::Unconfirmed { first, last })
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, if ever. A host that does not ask never learns
    /// that a peer is gone, and sends nothing again that was lost.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let due = [self.store.poll_timeout(), self.repair.poll_timeout(), self.sessions.poll_timeout()];
        due.into_iter().flatten().min()
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.note_time(now);
        self.store.handle_timeout(now);
        self.settle(now, Source::Host);
        self.sessions.handle_timeout(now);
    }

    /// Forgets a topic and everything in it. Its logs come back from peers if they are admitted again, and at once over
    /// sessions whose [scope](Self::set_scope) has the topic: these are told that they are out of sync. Whoever subscribed to
    /// the topic is told of each key that went.
    pub fn purge(&mut self, topic: &Topic) {
        let logs = self.store.forget_topic(topic);
        self.notices.purged(topic);
        self.fold.remove(topic);
        self.author.forget_topic(topic);
        if !planted(Fault::PurgeLeavesRepair) {
            self.repair.forget_topic(topic, &logs);
        }
        self.store.seal();
    }
}

impl ReplicaStats {
    fn add(&mut self, state: &TopicState) {
        for member in state.members() {
            self.stored += member.stored;
            self.live += member.live;
        }
        self.keys += state.keys();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_may_move_between_threads() {
        const fn send<T: Send>() {}
        send::<Replica>();
        send::<Config>();
    }
}
