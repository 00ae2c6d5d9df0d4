//! [`Author`]: how local writers make entries: in which log, with which stamp, and which content they list again with
//! them.
//!
//! The dots that a transaction's entry ends are worked out in `transaction`, and those that it lists again, so that
//! older entries can go, in `compact`.
//!
//! What does not live here: signing and storing (the `LogStore`'s), and how writers deal with forks of their logs and
//! with their earlier incarnations (`repair`).
//!
//! The invariant: a writer appends only to a log that nobody else can have continued otherwise, as far as is known here.

mod compact;
mod transaction;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_crdts::{Hlc, Timestamp};
use consilience_sync::{
    AgentId, Incarnation, Log, LogId, LogKind, LogOpening, LogSet, LogStore, OpenError, Topic,
};

pub(crate) use compact::{CHUNK_BYTES, Compaction, CompactionPolicy, Kept, compact, pack, stated};
pub(crate) use transaction::{coupled, end_seen};

/// The logs that a local writer goes on with.
type OwnLogs = BTreeMap<(Topic, LogKind), LogId>;

/// Numbers that nobody outside can guess: a keyed hash of a counter.
#[derive(Debug)]
pub(crate) struct Random {
    key: [u8; 32],
    count: u64,
}

impl Random {
    /// From 32 bytes of the host's entropy, drawn anew at each start.
    pub(crate) fn new(entropy: &[u8; 32]) -> Self {
        Self { key: blake3::derive_key("consilience replica randomness v1", entropy), count: 0 }
    }

    pub(crate) fn next(&mut self) -> [u8; 32] {
        self.count += 1;
        *blake3::keyed_hash(&self.key, &self.count.to_le_bytes()).as_bytes()
    }
}

/// Where a writer goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnLog {
    pub(crate) log: LogId,
    /// The log that it leaves for that, since its last stamps lie ahead of the clock: the live content of a state log has
    /// to be stamped anew, and of an event log the host has to be told.
    pub(crate) ahead: Option<LogId>,
}

/// The local writers: which logs they go on with, the clock that stamps their entries, and how they compact.
#[derive(Debug)]
pub(crate) struct Author {
    logs: BTreeMap<AgentId, OwnLogs>,
    random: Random,
    /// The latest stamp met.
    clock: Hlc,
    policy: CompactionPolicy,
    /// Bytes that were listed again.
    relisted: u64,
}

impl Author {
    pub(crate) const fn new(random: Random, policy: CompactionPolicy) -> Self {
        Self { logs: BTreeMap::new(), random, clock: Hlc::ZERO, policy, relisted: 0 }
    }

    /// Adds a writer, which goes on with the latest of its logs in each topic, unless it has left them.
    pub(crate) fn add(&mut self, set: &LogSet, left: &BTreeSet<LogId>, agent: AgentId) {
        let mut logs = OwnLogs::new();
        for log in set.logs().filter(|log| log.opening().agent == agent) {
            let opening = log.opening();
            if !set.is_local(log.id()) || left.contains(log.id()) {
                continue;
            }
            let name = (opening.topic.clone(), opening.kind);
            let newer = logs.get(&name).and_then(|known| set.log(known)).map(|log| log.opening().incarnation);
            if newer.is_none_or(|newer| newer < opening.incarnation) {
                logs.insert(name, *log.id());
            }
        }
        self.logs.insert(agent, logs);
    }

    pub(crate) fn has(&self, agent: &AgentId) -> bool {
        self.logs.contains_key(agent)
    }

    pub(crate) fn writers(&self) -> impl Iterator<Item = AgentId> + '_ {
        self.logs.keys().copied()
    }

    /// Bytes that were listed again since the start.
    pub(crate) const fn relisted(&self) -> u64 {
        self.relisted
    }

    pub(crate) const fn policy(&self) -> CompactionPolicy {
        self.policy
    }

    pub(crate) const fn note_relisted(&mut self, bytes: u64) {
        self.relisted += bytes;
    }

    /// Notes a stamp that was met.
    pub(crate) fn observe(&mut self, stamp: Hlc) {
        self.clock.observe(stamp);
    }

    /// The stamp of a log's next entry.
    pub(crate) fn next_stamp(&self, set: &LogSet, log: &LogId, now: Timestamp) -> Hlc {
        // A stamp from far ahead is one from when this clock was wrong: nobody else's counts before its time has come.
        let latest = now.saturating_add_millis(set.limits().max_drift_ms);
        let mut clock = if self.clock.time() > latest { Hlc::ZERO } else { self.clock };
        clock.observe(set.log(log).map_or(Hlc::ZERO, Log::last_hlc));
        clock.tick(now)
    }

    /// Notes the stamp that an entry was given.
    pub(crate) const fn stamped(&mut self, stamp: Hlc) {
        self.clock = stamp;
    }

    /// The log that a writer has in a topic, whether it may go on with it or not.
    pub(crate) fn log(&self, agent: &AgentId, topic: &Topic, kind: LogKind) -> Option<LogId> {
        self.logs.get(agent)?.get(&(topic.clone(), kind)).copied()
    }

    /// The state log that [`own_log`](Self::own_log) would give without opening one.
    pub(crate) fn present_log(
        &self,
        set: &LogSet,
        agent: &AgentId,
        topic: &Topic,
        now: Timestamp,
    ) -> Option<LogId> {
        let log = self.log(agent, topic, LogKind::State)?;
        (set.is_writable(&log) && !is_ahead(set, &log, now)).then_some(log)
    }

    /// The log that a writer goes on with; opens its next incarnation if it has none, or must leave the one it has.
    pub(crate) fn own_log(
        &mut self,
        store: &mut LogStore,
        agent: &AgentId,
        topic: &Topic,
        kind: LogKind,
        now: Timestamp,
    ) -> Result<OwnLog, OpenError> {
        let set = store.logs();
        let mut left = None;
        if let Some(log) = self.log(agent, topic, kind) {
            let ahead = is_ahead(set, &log, now);
            if set.is_writable(&log) && !ahead {
                return Ok(OwnLog { log, ahead: None });
            }
            left = ahead.then_some(log);
        }
        let family = set.logs_in(topic).map(|log| log.opening());
        let family = family.filter(|opening| opening.agent == *agent && opening.kind == kind);
        let last = family.map(|opening| opening.incarnation).max();
        let [low, high, ..] = self.random.next();
        let incarnation = Incarnation::next(last, now, [low, high]);
        let opening = LogOpening { topic: topic.clone(), kind, agent: *agent, incarnation };
        let log = store.open_local(&opening)?;
        if let Some(logs) = self.logs.get_mut(agent) {
            logs.insert((opening.topic, kind), log);
        }
        Ok(OwnLog { log, ahead: left })
    }

    /// Writers, topics, and the kinds of their logs there whose last stamps lie further ahead than others would take.
    pub(crate) fn ahead(&self, set: &LogSet, now: Timestamp) -> Vec<(AgentId, Topic, LogKind)> {
        let own = self.logs.iter().flat_map(|(agent, logs)| logs.iter().map(move |own| (agent, own)));
        let ahead = own.filter(|(_, (_, log))| is_ahead(set, log, now));
        ahead.map(|(agent, ((topic, kind), _))| (*agent, topic.clone(), *kind)).collect()
    }

    /// Has a writer not go on with a log.
    pub(crate) fn leave(&mut self, agent: &AgentId, log: &LogId) {
        if let Some(logs) = self.logs.get_mut(agent) {
            logs.retain(|_, own| own != log);
        }
    }

    /// Forgets which logs writers have in a topic.
    pub(crate) fn forget_topic(&mut self, topic: &Topic) {
        for logs in self.logs.values_mut() {
            logs.retain(|(there, _), _| there != topic);
        }
    }
}

/// Whether the last stamp of a log lies further ahead than others would take.
fn is_ahead(set: &LogSet, log: &LogId, now: Timestamp) -> bool {
    let latest = now.saturating_add_millis(set.limits().max_drift_ms);
    set.log(log).is_some_and(|log| log.last_hlc().time() > latest)
}
