//! The contributions to one coupling: those that each log states, and the greatest of each agent's.
//!
//! A log's contribution to a key is the one that it stated last; an agent's is the greatest of its logs'. The readable
//! side is a [`Coupling`] whose contributors are agents.
//!
//! The invariant: under every key and agent, `sums` holds the greatest of the instants in `parts`.

use alloc::boxed::Box;

use consilience_crdts::{ActorId, Coupling, CouplingSchema};
use consilience_sync::AgentId;
use consilience_sync::planted::{Fault, planted};

use super::dots::LogIndex;
use super::few::FewMap;

/// One log's contribution: under a key, of an agent, by a log, one side.
type Contribution = (Box<[u8]>, AgentId, LogIndex, bool);

#[derive(Clone, Debug)]
pub(crate) struct CouplingTable {
    /// The instant, and the entry that stated it.
    parts: FewMap<Contribution, (u64, u64)>,
    sums: Coupling,
}

pub(crate) fn actor_of(agent: &AgentId) -> ActorId {
    ActorId::from(*agent.as_bytes())
}

impl CouplingTable {
    pub(crate) fn new(schema: CouplingSchema) -> Self {
        Self { parts: FewMap::new(), sums: Coupling::new(schema) }
    }

    /// Whether no retained entry states anything here.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(crate) const fn sums(&self) -> &Coupling {
        &self.sums
    }

    /// Takes in the statement of an entry; true if the log had stated nothing there yet.
    pub(crate) fn state(
        &mut self,
        key: &[u8],
        agent: &AgentId,
        log: LogIndex,
        weakens: bool,
        instant: u64,
        at: u64,
    ) -> bool {
        let new = self.parts.insert((key.into(), *agent, log, weakens), (instant, at)).is_none();
        self.sum(key, agent);
        new
    }

    /// Takes back the statement of an entry, unless the log has made a later one; true if it was taken back.
    pub(crate) fn retract(
        &mut self,
        key: &[u8],
        agent: &AgentId,
        log: LogIndex,
        weakens: bool,
        at: u64,
    ) -> bool {
        let part = (key.into(), *agent, log, weakens);
        let is_other = |stated: u64| stated != at && !planted(Fault::OldStatementTakesNew);
        if self.parts.get(&part).is_none_or(|(_, stated)| is_other(*stated)) {
            return false;
        }
        self.parts.remove(&part);
        self.sum(key, agent);
        true
    }

    /// The instant that a log states; 0 if it states none.
    pub(crate) fn stated(&self, key: &[u8], agent: &AgentId, log: LogIndex, weakens: bool) -> u64 {
        self.parts.get(&(key.into(), *agent, log, weakens)).map_or(0, |(instant, _)| *instant)
    }

    /// The instant that a log states, if it stated it at this entry.
    pub(crate) fn stated_at(
        &self,
        key: &[u8],
        agent: &AgentId,
        log: LogIndex,
        weakens: bool,
        at: u64,
    ) -> Option<u64> {
        let part = self.parts.get(&(key.into(), *agent, log, weakens));
        part.filter(|(_, stated)| *stated == at).map(|(instant, _)| *instant)
    }

    fn sum(&mut self, key: &[u8], agent: &AgentId) {
        let first = (Box::from(key), *agent, LogIndex::MIN, false);
        let last = (Box::from(key), *agent, LogIndex::MAX, true);
        let (mut strengthened, mut weakened) = (0, 0);
        for ((_, _, _, weakens), (instant, _)) in self.parts.range(first..=last) {
            let side = if *weakens { &mut weakened } else { &mut strengthened };
            *side = if planted(Fault::CouplingsTakeTheLast) { *instant } else { (*side).max(*instant) };
        }
        // The key was checked when it was read.
        let _ = self.sums.put(&actor_of(agent), key, strengthened, weakened);
    }
}
