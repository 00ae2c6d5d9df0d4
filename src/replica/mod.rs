//! [`Replica`]: the logs that one process holds, and the state that they mean.
//!
//! Its parts are files: local writers and their logs (`writer`), transactions (`transaction`), what writers carry along
//! and take over (`compact`), events (`events`), reads (`read`), what the host is told (`notice`), what has to be
//! stored (`persist`), files of entries that are carried by hand (`bundle`), and peers (`session`).
//!
//! What does not live here: what entries mean (`fold`), what is held and what counts (the `LogSet`), and what peers say
//! to each other (`Sessions`).
//!
//! The invariants: the state is a function of the retained entries; nothing derived from an own entry leaves before its
//! record was confirmed; an error changes nothing.

mod compact;
mod events;
mod notice;
mod persist;
mod read;
mod session;
mod transaction;
mod writer;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

use consilience_crdts::{Hlc, Timestamp};
use consilience_sync::journal::Cut;
use consilience_sync::session::{Gate, Peer, Scope, Sessions};
use consilience_sync::{
    Admission, AgentId, Change, Limits, LogId, LogKind, LogOpening, LogSet, LogStore, MeshId, Opened,
    Recovery, Topic,
};

pub use consilience_sync::{BundleError, Imported};
pub use events::{AppendEventError, Event, EventRef, EventsView, Missing};
pub use notice::{Blocked, Notice, Subscription, SubscriptionError};
pub use persist::ReplicaError;
pub use read::{CouplingRead, Live, MapView, SetView, Surfaced, TopicView};
pub use session::ConnectError;
pub use transaction::{CommitError, CouplingTx, MapTx, SetTx, Transaction, WriteError};
pub use writer::{Writer, WriterError};

use crate::fold::{Fold, Folded, TopicState};
use compact::Rescued;
use events::{Displaced, EventIndex, Outcast};
use notice::Notices;
use writer::OwnLogs;

/// What a replica is opened with.
pub struct Config {
    pub(crate) mesh: MeshId,
    pub(crate) entropy: [u8; 32],
    pub(crate) limits: Limits,
    pub(crate) admit: Box<dyn FnMut(&LogOpening) -> Admission + Send>,
    pub(crate) carrying: Carrying,
    pub(crate) gate: Option<Gate>,
}

impl Config {
    /// For a mesh, with 32 bytes of the operating system's randomness, drawn anew at each start. All logs are admitted
    /// that the default [`Limits`] allow.
    #[must_use]
    pub fn new(mesh: MeshId, entropy: [u8; 32]) -> Self {
        Self {
            mesh,
            entropy,
            limits: Limits::default(),
            admit: Box::new(|_| Admission::Hold),
            carrying: Carrying::default(),
            gate: None,
        }
    }

    /// With other limits on what is held.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Writers carry older entries along once a log's entries weigh more than `per_live` times what they list, and more
    /// than `slack` bytes. 2 and 1,024 by default: fewer stored bytes cost more carried ones. At least 1 and 0.
    #[must_use]
    pub const fn with_carrying(mut self, per_live: u32, slack: u32) -> Self {
        self.carrying = Carrying { per_live, slack };
        self
    }

    /// With a say in which logs are held. Replicas that hold the same logs come to the same state.
    #[must_use]
    pub fn with_admission(mut self, admit: impl FnMut(&LogOpening) -> Admission + Send + 'static) -> Self {
        self.admit = Box::new(admit);
        self
    }

    /// With a say in which peers may come in, and to which topics. Everybody who knows the mesh, and to all, by default.
    /// What a [`Peer`] is called is only to be relied on if it is [bound](Peer::bound).
    #[must_use]
    pub fn with_gate(mut self, gate: impl FnMut(&Peer) -> Option<Scope> + Send + 'static) -> Self {
        self.gate = Some(Box::new(gate));
        self
    }
}

/// When older entries are carried along.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carrying {
    per_live: u32,
    slack: u32,
}

impl Default for Carrying {
    fn default() -> Self {
        Self { per_live: 2, slack: 1_024 }
    }
}

impl Carrying {
    /// Whether entries that weigh so much have to be carried, given what they list.
    const fn is_due(self, stored: u64, live: u64) -> bool {
        let per_live = if self.per_live == 0 { 1 } else { self.per_live };
        stored > live.saturating_mul(per_live as u64) && stored > self.slack as u64
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Numbers that nobody outside can guess: a keyed hash of a counter.
#[derive(Debug)]
struct Random {
    key: [u8; 32],
    count: u64,
}

impl Random {
    fn next(&mut self) -> [u8; 32] {
        self.count += 1;
        *blake3::keyed_hash(&self.key, &self.count.to_le_bytes()).as_bytes()
    }
}

/// Who brought what is to be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A session, whose peer may know more.
    Session,
    /// The host: a local write, a bundle, a start, the time.
    Host,
}

/// The host's word on what is shown.
type Filter = Box<dyn Fn(&Surfaced<'_>) -> bool + Send>;

/// What a topic, or all of them, take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaStats {
    /// Logs that are held.
    pub logs: usize,
    /// Bytes of the payloads of state logs that are retained, and a little for each entry.
    pub stored: u64,
    /// About how many of them list what is live.
    pub live: u64,
    /// Bytes that local writers wrote again since the replica was opened, so that older entries could go.
    pub carried: u64,
    /// Live keys and elements.
    pub keys: usize,
    /// Events.
    pub events: usize,
}

/// One process's copy of a mesh's shared state, with any number of local writers. See the crate's documentation.
pub struct Replica {
    store: LogStore,
    fold: Fold,
    events: BTreeMap<Topic, EventIndex>,
    locals: BTreeMap<AgentId, OwnLogs>,
    surface: Option<Filter>,
    notices: Notices,
    random: Random,
    /// The latest stamp met.
    clock: Hlc,
    now: Timestamp,
    /// Local writers open their next incarnation.
    renew: bool,
    /// Own logs that writers do not go on with.
    left: BTreeSet<LogId>,
    /// Whether a peer was met since, so that what earlier incarnations left is known well enough to take it over.
    met: bool,
    /// What void own logs listed, to be written again.
    rescued: BTreeMap<(AgentId, Topic), Vec<Rescued>>,
    displaced: BTreeMap<LogId, Displaced>,
    /// Those of these logs are to be appended again, and when at the latest.
    cast: BTreeSet<LogId>,
    cast_at: Option<Timestamp>,
    /// Own events that a fork took out of their logs, to be appended again.
    outcast: BTreeMap<(AgentId, Topic), Vec<Outcast>>,
    /// Own logs of which another history turned up.
    self_forks: Vec<LogId>,
    /// Since when a log does not count because it was retired.
    retired: BTreeMap<LogId, Timestamp>,
    retired_keep_ms: u64,
    carried: u64,
    carrying: Carrying,
    cut: Option<Cut>,
    good_to: usize,
    sessions: Sessions,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("logs", &self.store.logs().stats().logs)
            .field("writers", &self.locals.keys())
            .finish_non_exhaustive()
    }
}

impl Replica {
    fn with(config: Config, opened: Opened<'_>, now: Timestamp) -> Result<(Self, Recovery), ReplicaError> {
        let mut random = Random {
            key: blake3::derive_key("consilience replica randomness v1", &config.entropy),
            count: 0,
        };
        let mut sessions = Sessions::new(&config.mesh, &random.next());
        if let Some(gate) = config.gate {
            sessions.set_gate(gate);
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = random.next();
        let mut limits = config.limits;
        limits.seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let retired_keep_ms = limits.void_keep_ms;
        let (store, recovery) = LogStore::open(config.mesh, limits, config.admit, opened, now)?;
        sessions.restore(&recovery.marks);
        let replica = Self {
            retired_keep_ms,
            store,
            fold: Fold::new(u64::from_le_bytes([i, j, k, l, m, n, o, p])),
            events: BTreeMap::new(),
            locals: BTreeMap::new(),
            surface: None,
            notices: Notices::default(),
            random,
            clock: Hlc::ZERO,
            now: Timestamp::EPOCH,
            renew: false,
            left: BTreeSet::new(),
            met: false,
            rescued: BTreeMap::new(),
            displaced: BTreeMap::new(),
            cast: BTreeSet::new(),
            cast_at: None,
            outcast: BTreeMap::new(),
            self_forks: Vec::new(),
            retired: BTreeMap::new(),
            carried: 0,
            carrying: config.carrying,
            cut: recovery.cut,
            good_to: recovery.good_to,
            sessions,
        };
        Ok((replica, recovery))
    }

    /// The mesh.
    #[must_use]
    pub const fn mesh(&self) -> &MeshId {
        self.store.logs().mesh()
    }

    /// The logs that are held.
    #[must_use]
    pub const fn logs(&self) -> &LogSet {
        self.store.logs()
    }

    /// Tells the replica that there is nobody else: local writers need not wait for a peer before they take over what
    /// their earlier incarnations left.
    pub const fn declare_alone(&mut self) {
        self.met = true;
    }

    /// What all topics take, or one.
    #[must_use]
    pub fn stats(&self, topic: Option<&Topic>) -> ReplicaStats {
        let mut stats = ReplicaStats { carried: self.carried, ..ReplicaStats::default() };
        let wanted = |there: &Topic| topic.is_none_or(|topic| topic == there);
        stats.logs = self.store.logs().logs().filter(|log| wanted(&log.opening().topic)).count();
        for (_, state) in self.fold.topics().filter(|(there, _)| wanted(there)) {
            stats.add(state);
        }
        stats.events =
            self.events.iter().filter(|(there, _)| wanted(there)).map(|(_, events)| events.len()).sum();
        stats
    }

    /// A hash of the state of a topic: equal where two replicas mean the same. A pass over all of it.
    #[must_use]
    pub fn digest(&self, topic: &Topic) -> [u8; 32] {
        let state = self.fold.topic(topic).map_or_else(TopicState::digest_of_nothing, TopicState::digest);
        let events = self.events.get(topic).map_or_else(
            || EventIndex::default().digest(&self.store.logs()),
            |events| events.digest(&self.store.logs()),
        );
        let mut hasher = blake3::Hasher::new_derive_key("consilience replica digest v1");
        hasher.update(&state).update(&events);
        *hasher.finalize().as_bytes()
    }

    /// Whether the state is what the retained entries add up to: it is made anew from them and compared. For tests and
    /// audits; as long as opening takes.
    #[must_use]
    pub fn verify(&self) -> bool {
        let anew = Fold::anew(&self.store.logs(), 1);
        let empty = TopicState::digest_of_nothing();
        let digest = |fold: &Fold, topic: &Topic| fold.topic(topic).map_or(empty, TopicState::digest);
        let topics: BTreeSet<&Topic> =
            self.fold.topics().chain(anew.topics()).map(|(topic, _)| topic).collect();
        topics.into_iter().all(|topic| digest(&self.fold, topic) == digest(&anew, topic))
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, if ever. A host that does not ask never learns
    /// that a peer is gone, and sends nothing again that was lost.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let retired =
            self.retired.values().min().map(|since| since.saturating_add_millis(self.retired_keep_ms));
        let sessions = self.sessions.poll_timeout();
        self.store.poll_timeout().into_iter().chain(retired).chain(sessions).chain(self.cast_at).min()
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.store.handle_timeout(now);
        self.settle(now, Source::Host);
        let due = |since: &Timestamp| since.saturating_add_millis(self.retired_keep_ms) <= now;
        let logs: Vec<LogId> =
            self.retired.iter().filter(|(_, since)| due(since)).map(|(log, _)| *log).collect();
        for log in logs {
            self.retired.remove(&log);
            self.drop_retired(&log);
        }
        self.settle(now, Source::Host);
        self.sessions.handle_timeout(now);
    }

    /// Gives up the entries of a log that was retired in its whole size long ago.
    fn drop_retired(&mut self, log: &LogId) {
        let Some(topic) = self.store.logs().log(log).map(|log| log.opening().topic.clone()) else { return };
        let Some((_, member)) = self.fold.topic(&topic).and_then(|state| state.member(log)) else { return };
        if !member.counts && !member.void {
            let below = member.to;
            self.store.retire(log, below);
        }
    }

    /// Follows what changed in the set of logs.
    fn settle(&mut self, now: Timestamp, source: Source) {
        self.now = self.now.max(now);
        let mut folded = Folded::default();
        self.follow_all(source, &mut folded);
        // Only now, since it changes the set: what a change speaks of is there until the next is polled.
        for log in core::mem::take(&mut self.self_forks) {
            self.self_forked(log);
        }
        self.follow_all(source, &mut folded);
        self.report_inert(folded);
        self.write_all_rescued(now);
        if self.cast_at.is_none_or(|at| at <= self.now) {
            self.cast_out_all();
        }
    }

    /// Follows all changes, those included that logs cause which are retired by them.
    fn follow_all(&mut self, source: Source, folded: &mut Folded) {
        loop {
            while let Some(change) = self.store.poll_change() {
                self.follow(&change, source, folded);
            }
            if folded.claimed.is_empty() {
                break;
            }
            for (topic, log) in core::mem::take(&mut folded.claimed) {
                self.note_claimed(&topic, &log);
            }
        }
    }

    fn follow(&mut self, change: &Change, source: Source, folded: &mut Folded) {
        let Some(log) = self.store.logs().log(change.log()) else { return };
        let opening = log.opening();
        if let Change::Applicable { to, .. } = change {
            let last = log.entries(to.saturating_sub(1), *to).last();
            self.clock.observe(last.map_or(Hlc::ZERO, |entry| entry.hlc));
        }
        let topic = opening.topic.clone();
        let local = self.locals.contains_key(&opening.agent);
        self.notices.tell_of(&topic, opening, change);
        match opening.kind {
            LogKind::Event => {
                match change {
                    Change::Replaced { log, from } if self.store.logs().is_local(log) => {
                        self.displace(log, *from)
                    }
                    Change::Cut { log, valid_below } if self.store.logs().is_local(log) => {
                        self.displace(log, *valid_below);
                        // Unless some that lie before went as well: then those have to come first.
                        if self.store.logs().log(log).is_some_and(|held| held.size() >= *valid_below) {
                            self.cast_out_soon(log, source);
                        }
                    }
                    Change::Applicable { log, to, .. } => self.compare_displaced(log, *to, source),
                    _ => {}
                }
                self.events.entry(topic.clone()).or_default().take(self.store.logs(), change);
                self.notices.tell_of_events(&topic, change);
            }
            LogKind::State => {
                if local && matches!(change, Change::Voided { .. }) {
                    self.rescue(change.log(), 0, false);
                }
                self.watch(&topic);
                self.fold.take(self.store.logs(), change, folded);
            }
        }
        if let Change::SelfForked { log } = change {
            self.self_forks.push(*log);
        }
    }

    /// Begins to watch a topic that somebody subscribed to.
    fn watch(&mut self, topic: &Topic) {
        if self.notices.is_wanted(topic) {
            let state = self.fold.topic_mut(topic);
            if state.watch.is_none() {
                state.watch = Some(crate::fold::Watch::default());
            }
        }
    }

    /// Notes whether a log that others began to answer for, or ceased to, does not count because it was retired; and lets
    /// it begin where they took it over.
    fn note_claimed(&mut self, topic: &Topic, log: &LogId) {
        let Some((_, member)) = self.fold.topic(topic).and_then(|state| state.member(log)) else { return };
        let below = member.claimed();
        let (here, gone) = (member.to, !member.counts && !member.void);
        if !member.void && (here == 0 || gone && here < below) {
            // Not all of it is here, and what comes may begin where it was taken over.
            self.store.allow_start(log, below);
        }
        if gone && here > 0 {
            self.retired.entry(*log).or_insert(self.now);
        } else if here > 0 || member.void {
            self.retired.remove(log);
        }
    }

    fn report_inert(&mut self, folded: Folded) {
        for (log, seq, error) in folded.inert {
            let Some(opening) = self.store.logs().log(&log).map(|log| log.opening().clone()) else {
                continue;
            };
            self.notices.inert(opening, seq, error);
        }
    }

    /// Forgets a topic and everything in it. Its logs come back from peers if they are admitted again.
    pub fn purge(&mut self, topic: &Topic) {
        let claimed = self.fold.topic(topic).into_iter().flat_map(|state| &state.members);
        let claimed: Vec<LogId> = claimed.map(|member| member.id).collect();
        for log in self.store.forget_topic(topic) {
            self.retired.remove(&log);
            self.left.remove(&log);
            self.displaced.remove(&log);
            self.cast.remove(&log);
        }
        claimed.iter().for_each(|log| self.store.allow_start(log, 0));
        self.fold.remove(topic);
        self.events.remove(topic);
        for local in self.locals.values_mut() {
            local.retain(|(there, _), _| there != topic);
        }
        self.rescued.retain(|(_, there), _| there != topic);
        self.outcast.retain(|(_, there), _| there != topic);
        self.store.seal();
    }
}

impl ReplicaStats {
    fn add(&mut self, state: &TopicState) {
        for member in &state.members {
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
