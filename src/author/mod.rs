//! [`Author`]: how local writers make entries: in which log, with which stamp, and which content they list again with
//! them.
//!
//! The dots that a transaction's entry ends are worked out in `transaction`, and those that it lists again, so that
//! older entries can go, in `compact`.
//!
//! Not here: signing and storing (the `LogStore`'s), and how writers deal with forks of their logs and
//! with their earlier incarnations (`repair`).
//!
//! The invariant: a writer appends only to a log that nobody else can have continued otherwise, as far as is known here.

mod compact;
mod transaction;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

use consilience_crdts::{Hlc, Timestamp};
use consilience_sync::planted::{Fault, planted};
use consilience_sync::{
    AgentId, Incarnation, Log, LogId, LogKind, LogOpening, LogSet, LogStore, OpenError, SALT_BYTES, Topic,
};

pub(crate) use compact::{CHUNK_BYTES, Compaction, CompactionPolicy, Kept, compact, fit, pack, stated};
pub(crate) use transaction::{coupled, end_seen};

/// A clock that falls by more, in milliseconds, tells nothing of the time elsewhere any more.
const FALL_MS: u64 = 60_000;

/// The logs that a local writer goes on with.
type OwnLogs = BTreeMap<(Topic, LogKind), LogId>;

/// Numbers that nobody outside can guess: a keyed hash of a counter, and the salts of entries.
pub(crate) struct Random {
    key: [u8; 32],
    count: u64,
    salts: [u8; 32],
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever knows the keys knows the salts that are to come.
        f.write_str("Random")
    }
}

impl Random {
    /// From 32 bytes of the host's entropy, drawn anew at each start.
    pub(crate) fn new(entropy: &[u8; 32]) -> Self {
        Self {
            key: blake3::derive_key("consilience replica randomness v1", entropy),
            count: 0,
            salts: blake3::derive_key("consilience replica salts v1", entropy),
        }
    }

    /// The salt of an entry that is written in this start. Other starts have other salts, so an entry that was given up
    /// before it left says nothing of the one in its place.
    fn salt(&self, log: &LogId, seq: u64) -> [u8; SALT_BYTES] {
        if planted(Fault::SaltsAreKnown) {
            return [0; SALT_BYTES];
        }
        let mut entry = [0; 40];
        entry[..32].copy_from_slice(log.as_bytes());
        entry[32..].copy_from_slice(&seq.to_le_bytes());
        let [a, b, c, d, ..] = *blake3::keyed_hash(&self.salts, &entry).as_bytes();
        [a, b, c, d]
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
    /// The log that it leaves for that, since its last stamps or its incarnation lie ahead of the clock: the live content of
    /// a state log has to be stamped anew, and of an event log the host has to be told.
    pub(crate) ahead: Option<LogId>,
}

/// The local writers: which logs they go on with, the clock that stamps their entries, and how they compact.
#[derive(Debug)]
pub(crate) struct Author {
    logs: BTreeMap<AgentId, OwnLogs>,
    random: Random,
    /// The latest stamp met.
    clock: Hlc,
    /// The time of sessions, as it was passed in last: a host may commit at instants of another clock, which lie before it.
    session_time: Timestamp,
    /// The time elsewhere, and the one here when it was learned.
    elsewhere: Option<(Timestamp, Timestamp)>,
    /// The host chooses the instants of writes, and they need not rise.
    own_instants: bool,
    policy: CompactionPolicy,
    /// Bytes that were listed again.
    relisted: u64,
}

impl Author {
    pub(crate) const fn new(random: Random, policy: CompactionPolicy, own_instants: bool) -> Self {
        Self {
            logs: BTreeMap::new(),
            random,
            clock: Hlc::ZERO,
            session_time: Timestamp::EPOCH,
            elsewhere: None,
            own_instants,
            policy,
            relisted: 0,
        }
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

    /// The latest time of which others take entries now, as far as is known here: nothing is known of it before a peer has
    /// said the time, or the host that its clock is right, and when this clock has fallen since. Content that was written
    /// while the clock was ahead has to be written again, and while the clock is behind must not be: it would bring back
    /// what others have ended since. Nothing here tells the two apart.
    pub(crate) fn latest(&self, set: &LogSet, now: Timestamp) -> Timestamp {
        let drift = set.limits().max_drift_ms;
        if self.own_instants {
            return now.saturating_add_millis(drift);
        }
        let trusted = planted(Fault::FallenClockIsTrusted).then_some((now, now));
        let Some((there, here)) = self.elsewhere.or(trusted) else { return Timestamp::MAX };
        let now = now.max(self.session_time);
        let passed = now.as_millis().saturating_sub(here.as_millis());
        now.max(there.saturating_add_millis(passed)).saturating_add_millis(drift)
    }

    /// Whether others would wait with a log, or with its last entries, until their time has come: its last stamp, or its
    /// incarnation, is of a time further ahead than they take.
    fn has_to_wait(&self, set: &LogSet, log: &LogId, now: Timestamp) -> bool {
        if planted(Fault::AheadIsGoneOnWith) {
            return false;
        }
        let latest = self.latest(set, now);
        set.log(log).is_some_and(|held| held.last_hlc().time() > latest)
            || self.was_begun_ahead(set, log, now)
    }

    /// Whether a log is ahead of this clock, and nothing tells whether that was ahead or has fallen.
    pub(crate) fn is_in_doubt(&self, set: &LogSet, log: &LogId, now: Timestamp) -> bool {
        let latest = now.saturating_add_millis(set.limits().max_drift_ms);
        let is_ahead =
            |held: &Log| held.last_hlc().time() > latest || held.opening().incarnation.is_ahead(latest, 0);
        set.log(log).is_some_and(is_ahead) && !self.own_instants && !self.has_to_wait(set, log, now)
    }

    /// The logs that writers go on with that are ahead of this clock, which may have fallen.
    pub(crate) fn in_doubt(&self, set: &LogSet, now: Timestamp) -> Vec<LogId> {
        let own = self.logs.values().flat_map(BTreeMap::values);
        own.filter(|log| self.is_in_doubt(set, log, now)).copied().collect()
    }

    /// Whether others would hold nothing of a log until its time has come.
    pub(crate) fn was_begun_ahead(&self, set: &LogSet, log: &LogId, now: Timestamp) -> bool {
        // A log that was begun at a later instant is none from the future.
        let latest = self.latest(set, if self.own_instants { now.max(self.session_time) } else { now });
        set.log(log).is_some_and(|log| log.opening().incarnation.is_ahead(latest, 0))
    }

    /// A writer's state logs in a topic that were begun while the clock was further ahead than others take, the earliest
    /// first.
    pub(crate) fn begun_ahead(
        &self,
        set: &LogSet,
        agent: &AgentId,
        topic: &Topic,
        now: Timestamp,
    ) -> Vec<LogId> {
        let state = |log: &&Log| log.opening().agent == *agent && log.opening().kind == LogKind::State;
        let own = set.logs_in(topic).filter(state).filter(|log| set.is_local(log.id()));
        let mut ahead: Vec<&Log> = own.filter(|log| self.was_begun_ahead(set, log.id(), now)).collect();
        ahead.sort_by_key(|log| log.opening().incarnation);
        ahead.into_iter().map(|log| *log.id()).collect()
    }

    /// Notes the time of sessions. One that falls tells nothing of the time elsewhere any more.
    pub(crate) fn note_time(&mut self, now: Timestamp) {
        self.elsewhere = self.elsewhere.filter(|_| now.saturating_add_millis(FALL_MS) >= self.session_time);
        self.session_time = now;
    }

    /// Notes the time elsewhere. The earliest that is known counts: somebody would not take what is later.
    pub(crate) fn note_elsewhere(&mut self, there: Timestamp, now: Timestamp) {
        let known = self.elsewhere.map(|(known, here)| {
            known.saturating_add_millis(now.as_millis().saturating_sub(here.as_millis()))
        });
        self.elsewhere = Some((known.map_or(there, |known| known.min(there)), now));
    }

    /// Notes a stamp that was met.
    pub(crate) fn observe(&mut self, stamp: Hlc) {
        self.clock.observe(stamp);
    }

    /// The stamp of a log's next entry.
    pub(crate) fn next_stamp(&self, set: &LogSet, log: &LogId, now: Timestamp) -> Hlc {
        // A stamp from far ahead is one from when this clock was wrong: nobody else's counts before its time has come.
        let latest = self.latest(set, now);
        let mut clock = if self.clock.time() > latest { Hlc::ZERO } else { self.clock };
        clock.observe(set.log(log).map_or(Hlc::ZERO, Log::last_hlc));
        clock.tick(now)
    }

    /// The salt of a log's next entry.
    pub(crate) fn salt(&self, set: &LogSet, log: &LogId) -> [u8; SALT_BYTES] {
        self.random.salt(log, set.log(log).map_or(0, Log::size))
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
        (set.is_writable(&log) && !self.has_to_wait(set, &log, now)).then_some(log)
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
            let given_up =
                kind == LogKind::Event && set.facts(&log).is_some_and(|facts| facts.pruned().is_some());
            let ahead = self.has_to_wait(set, &log, now) && !given_up;
            if set.is_writable(&log) && !ahead {
                return Ok(OwnLog { log, ahead: None });
            }
            left = ahead.then_some(log);
        }
        if left.is_none() && kind == LogKind::State {
            // Nobody else takes its content over, as its incarnation is later than that of any log that follows.
            left = self.begun_ahead(set, agent, topic, now).last().copied();
        }
        // Others hold no log that was begun far ahead of their clocks, so what follows does not follow on those.
        let family = set.logs_in(topic).filter(|log| {
            let opening = log.opening();
            opening.agent == *agent && opening.kind == kind && !self.was_begun_ahead(set, log.id(), now)
        });
        let last = family.max_by_key(|log| log.opening().incarnation);
        // After a restart, the one that took the place of a log that was begun ahead.
        let goes_on = |log: &&Log| {
            let log = log.id();
            set.is_local(log) && set.is_writable(log) && !set.is_left(log) && !self.has_to_wait(set, log, now)
        };
        let begun_ahead = left.is_some_and(|left| self.was_begun_ahead(set, &left, now));
        let log = match last.filter(goes_on).filter(|_| begun_ahead).map(|log| *log.id()) {
            Some(log) => log,
            None => {
                let last = last.map(|log| log.opening().incarnation);
                // Those that the log had closed may be held elsewhere, and the next one closes them as well.
                let latest = self.latest(set, now);
                let closed =
                    left.iter().flat_map(|log| set.closures(log)).map(|(incarnation, _)| incarnation);
                let last = last.max(closed.filter(|incarnation| !incarnation.is_ahead(latest, 0)).max());
                let last = last.max(given_up_before(set, agent, topic).filter(|_| kind == LogKind::Event));
                let [low, high, ..] = self.random.next();
                let random = if planted(Fault::IncarnationsAreNotRandom) { [0; 2] } else { [low, high] };
                let incarnation = Incarnation::next(last, now, random);
                store.open_local(&LogOpening { topic: topic.clone(), kind, agent: *agent, incarnation })?
            }
        };
        if let Some(logs) = self.logs.get_mut(agent) {
            logs.insert((topic.clone(), kind), log);
        }
        Ok(OwnLog { log, ahead: left })
    }

    /// Writers, topics, and the kinds of their logs there with which others would wait.
    pub(crate) fn ahead(&self, set: &LogSet, now: Timestamp) -> Vec<(AgentId, Topic, LogKind)> {
        let own = self.logs.iter().flat_map(|(agent, logs)| logs.iter().map(move |own| (agent, own)));
        let ahead = own.filter(|(_, (_, log))| self.has_to_wait(set, log, now));
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

/// The incarnation before which a writer has given up all its events in a topic: those of an earlier log would be given up from
/// the start, so it goes on in this log or in a later one, though others may wait with that until its time has come.
fn given_up_before(set: &LogSet, agent: &AgentId, topic: &Topic) -> Option<Incarnation> {
    let events = set.logs_in(topic).filter(|log| log.opening().agent == *agent);
    let pruned = events.filter(|log| set.facts(log.id()).is_some_and(|facts| facts.pruned().is_some()));
    pruned.map(|log| log.opening().incarnation).max()
}
