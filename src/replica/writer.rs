//! Local writers: whose keys are here, and which logs they write.
//!
//! The invariant: a writer appends only to a log that nobody else can have continued otherwise, as far as is known here.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use consilience_crdts::Timestamp;
use consilience_sync::{
    AgentId, Incarnation, KeyError, LogId, LogKind, LogOpening, OpenError, Signer, Topic,
};

use super::{Replica, Source};

/// A local writer: an agent whose key is in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer(pub(super) AgentId);

impl Writer {
    /// The agent's name: its public key.
    #[must_use]
    pub const fn id(&self) -> AgentId {
        self.0
    }
}

/// Why a writer was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriterError {
    /// Its key is not admitted.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The logs that a local writer goes on with.
pub(super) type OwnLogs = BTreeMap<(Topic, LogKind), LogId>;

impl Replica {
    /// Adds a local writer, which goes on with its logs if they are stored here. After a restart add every writer again, even
    /// those that have nothing more to say: what they had stored and not signed leaves only then.
    ///
    /// # Errors
    ///
    /// If the agent's key is not admitted.
    pub fn add_writer(&mut self, signer: impl Signer + Send + 'static) -> Result<Writer, WriterError> {
        let agent = self.store.add_signer(signer)?;
        let mut logs: BTreeMap<(Topic, LogKind), LogId> = BTreeMap::new();
        for log in self.store.logs().logs().filter(|log| log.opening().agent == agent) {
            let opening = log.opening();
            if !self.store.logs().is_local(log.id()) || self.left.contains(log.id()) {
                continue;
            }
            let name = (opening.topic.clone(), opening.kind);
            let newer = logs
                .get(&name)
                .and_then(|known| self.store.logs().log(known))
                .map(|log| log.opening().incarnation);
            if newer.is_none_or(|newer| newer < opening.incarnation) {
                logs.insert(name, *log.id());
            }
        }
        self.locals.insert(agent, logs);
        Ok(Writer(agent))
    }

    /// The local writers.
    pub fn writers(&self) -> impl Iterator<Item = Writer> + '_ {
        self.locals.keys().copied().map(Writer)
    }

    /// Whether the last stamp of a log lies further ahead than others would take.
    fn is_ahead(&self, log: &LogId, now: Timestamp) -> bool {
        let latest = now.saturating_add_millis(self.store.logs().limits().max_drift_ms);
        self.store.logs().log(log).is_some_and(|log| log.last_hlc().time() > latest)
    }

    /// The state log that [`own_log`](Self::own_log) would give without opening one.
    pub(super) fn present_log(&self, agent: &AgentId, topic: &Topic, now: Timestamp) -> Option<LogId> {
        let log = *self.locals.get(agent)?.get(&(topic.clone(), LogKind::State))?;
        (self.store.logs().is_writable(&log) && !self.is_ahead(&log, now)).then_some(log)
    }

    /// The log that a writer goes on with; opens its next incarnation if it has none, or must leave the one it has.
    pub(super) fn own_log(
        &mut self,
        agent: &AgentId,
        topic: &Topic,
        kind: LogKind,
        now: Timestamp,
    ) -> Result<LogId, OpenError> {
        let name = (topic.clone(), kind);
        if let Some(log) = self.locals.get(agent).and_then(|logs| logs.get(&name)).copied() {
            let ahead = self.is_ahead(&log, now);
            if self.store.logs().is_writable(&log) && !ahead {
                return Ok(log);
            }
            if ahead && kind == LogKind::State {
                // The clock was wrong: what is live is stamped anew.
                self.rescue(&log, 0, true);
                self.notices.restamped(*agent, topic.clone());
            }
        }
        let family = self.store.logs().logs_in(topic).map(|log| log.opening());
        let family = family.filter(|opening| opening.agent == *agent && opening.kind == kind);
        let last = family.map(|opening| opening.incarnation).max();
        let [low, high, ..] = self.random.next();
        let incarnation = Incarnation::next(last, now, [low, high]);
        let opening = LogOpening { topic: topic.clone(), kind, agent: *agent, incarnation };
        let log = self.store.open_local(&opening)?;
        if let Some(logs) = self.locals.get_mut(agent) {
            logs.insert(name, log);
        }
        Ok(log)
    }

    /// Has those writers go on in their next incarnation, with what is live stamped anew, whose last stamps others would
    /// not take yet.
    pub(super) fn restamp_ahead(&mut self, now: Timestamp) {
        let own = self.locals.iter().flat_map(|(agent, logs)| logs.iter().map(move |own| (agent, own)));
        let ahead = own.filter(|(_, ((_, kind), log))| *kind == LogKind::State && self.is_ahead(log, now));
        let ahead: Vec<_> = ahead.map(|(agent, ((topic, _), _))| (*agent, topic.clone())).collect();
        for (agent, topic) in &ahead {
            // Where that is not possible now, the writer's next write tells.
            let _ = self.own_log(agent, topic, LogKind::State, now);
        }
        if !ahead.is_empty() {
            self.settle(now, Source::Host);
        }
    }

    /// Another history of an own log turned up. What was not signed yet is taken back, to be written again in the next
    /// incarnation; what was signed stays, unless it is void.
    pub(super) fn self_forked(&mut self, log: LogId) {
        let Some(opening) = self.store.logs().log(&log).map(|log| log.opening().clone()) else { return };
        if self.store.logs().evidence(&log).is_none() {
            // What a backup had is a part of what its writer went on with; anything else is known only here.
            if opening.kind == LogKind::State && !self.left.contains(&log) {
                let signed = self.store.logs().log(&log).map_or(0, consilience_sync::Log::signed_size);
                self.rescue(&log, signed, false);
            }
            self.store.discard_unsigned(&log);
        }
        self.left.insert(log);
        self.record_left();
        if let Some(logs) = self.locals.get_mut(&opening.agent) {
            logs.retain(|_, own| *own != log);
        }
    }
}
