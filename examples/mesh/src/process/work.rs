//! The effects of a trace's event here: transactions and an event, once, however often the process is killed meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use consilience::Writer;
use consilience::crdts::{Timestamp, Units};
use consilience::sync::AgentId;

use crate::process::control::Change;
use crate::process::host::{Host, id_of};
use crate::process::text;

/// Everything happens in one topic.
pub(crate) const TOPIC: &str = "work";
/// Its collections: the last agent to touch each key, the agents seen at work, and their meetings.
pub(crate) const FILES: &str = "files";
pub(crate) const AGENTS: &str = "agents";
pub(crate) const MET: &str = "met";
/// How far each agent has come. It is written in the transaction that it speaks of, so it is never wrong.
const DONE: &str = "done";

/// A transaction is one entry, so an event that is too large for one is done in several.
const PART_KEYS_MAX: usize = 128;
const PART_BYTES_MAX: usize = 16 << 10;

/// An event of the trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work<'a> {
    pub(crate) agent: u64,
    /// Which of the agent's events it is, from 1.
    pub(crate) ordinal: u64,
    pub(crate) at: Timestamp,
    pub(crate) changes: &'a [Change],
}

impl Host {
    /// Makes an event happen here, or the rest of it that is still missing.
    pub(crate) fn play(&mut self, work: &Work<'_>) -> Result<(), String> {
        let writer = self.writer(work.agent)?;
        let parts = parts(work.changes);
        for (part, changes) in parts.iter().enumerate().skip(self.parts_done(work)?) {
            let last = part + 1 == parts.len();
            let done = if last { work.ordinal.to_string() } else { format!("{}/{}", work.ordinal, part + 1) };
            self.commit(writer, work, changes, &done)?;
        }
        if self.last_told(writer.id())? < work.ordinal {
            self.replica.append_event(writer, TOPIC, work.name().as_bytes(), work.at).map_err(text)?;
        }
        Ok(())
    }

    /// Adds the agents that worked here before the process ended. Entries stored and not signed then can leave only when
    /// their writers are there again, and of some of them nothing more comes.
    pub(crate) fn add_writers(&mut self) -> Result<(), String> {
        let logs = self.replica.logs();
        let local = logs.logs().filter(|log| logs.is_local(log.id()));
        let local: BTreeSet<AgentId> = local.map(|log| log.opening().agent).collect();
        let done = self.replica.topic(TOPIC).map_err(text)?.map(DONE);
        let agents = done.iter().filter_map(|done| std::str::from_utf8(done.key).ok()?.parse().ok());
        let agents: Vec<u64> = agents.filter(|agent| local.contains(&id_of(*agent))).collect();
        agents.into_iter().try_for_each(|agent| self.writer(agent).map(drop))
    }

    fn commit(
        &mut self,
        writer: Writer,
        work: &Work<'_>,
        changes: &[Change],
        done: &str,
    ) -> Result<(), String> {
        let met = self.met(writer, changes)?;
        let mut tx = self.replica.transact(writer, TOPIC, work.at).map_err(text)?;
        for change in changes {
            match change {
                Change::Set(key) => tx.map(FILES).set(key, work.name()),
                Change::Remove(key) => tx.map(FILES).remove(key),
            }
            .map_err(text)?;
        }
        let agent = work.agent.to_string();
        tx.set(AGENTS).insert(&agent).map_err(text)?;
        tx.map(DONE).set(&agent, done).map_err(text)?;
        for (other, keys) in met {
            let mut coupling = tx.coupling(MET, self.schema);
            coupling.strengthen(pair(writer.id(), other), Units::new(keys)).map_err(text)?;
        }
        tx.commit().map(drop).map_err(text)
    }

    /// The other agents that touched these keys last: one unit for each key, contributed by the second to come to it.
    fn met(&self, writer: Writer, changes: &[Change]) -> Result<BTreeMap<AgentId, u32>, String> {
        let files = self.replica.topic(TOPIC).map_err(text)?.map(FILES);
        let keys: BTreeSet<&str> = changes.iter().map(Change::key).collect();
        let mut met = BTreeMap::new();
        for author in keys.into_iter().filter_map(|key| files.get(key)).map(|file| file.author) {
            if author != writer.id() {
                *met.entry(author).or_default() += 1;
            }
        }
        Ok(met)
    }

    /// How many parts of an event have been committed.
    fn parts_done(&self, work: &Work<'_>) -> Result<usize, String> {
        let done = self.replica.topic(TOPIC).map_err(text)?.map(DONE).get(work.agent.to_string());
        let Some(done) = done else { return Ok(0) };
        let done = std::str::from_utf8(done.value).map_err(text)?;
        let (ordinal, parts) = done.split_once('/').unwrap_or((done, "all"));
        Ok(match ordinal.parse::<u64>().map_err(text)?.cmp(&work.ordinal) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => parts.parse().unwrap_or(usize::MAX),
            std::cmp::Ordering::Greater => usize::MAX,
        })
    }

    /// The last of an agent's events that is in a log of its.
    fn last_told(&self, agent: AgentId) -> Result<u64, String> {
        let events = self.replica.topic(TOPIC).map_err(text)?.events();
        let logs = self.replica.logs();
        let mut last = 0;
        for log in self.tally.events_of(agent) {
            let end = logs.applicable(log).map_or(0, |(_, end)| end);
            for event in events.of_log(log, end.saturating_sub(1), end) {
                let name = event.payload.and_then(|payload| std::str::from_utf8(payload).ok());
                let ordinal = name.and_then(|name| name.split_once('@')?.1.parse().ok());
                last = last.max(ordinal.unwrap_or(0));
            }
        }
        Ok(last)
    }
}

impl Work<'_> {
    /// The value of its keys, and the text of its event.
    fn name(&self) -> String {
        format!("{}@{}", self.agent, self.ordinal)
    }
}

/// The changes, cut where a transaction would be too large: always at the same places. At least one part.
fn parts(changes: &[Change]) -> Vec<&[Change]> {
    let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, change) in changes.iter().enumerate() {
        if at - start == PART_KEYS_MAX || (at > start && bytes + change.key().len() > PART_BYTES_MAX) {
            parts.push(&changes[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += change.key().len();
    }
    parts.push(&changes[start..]);
    parts
}

/// The coupling's key for two agents, in whichever order.
fn pair(one: AgentId, other: AgentId) -> Vec<u8> {
    [one.min(other).as_bytes().as_slice(), one.max(other).as_bytes()].concat()
}

/// The agents of a coupling's key.
pub(crate) fn agents_of(pair: &[u8]) -> Option<[AgentId; 2]> {
    let (one, other) = pair.split_at_checked(32)?;
    Some([AgentId::from_bytes(one.try_into().ok()?), AgentId::from_bytes(other.try_into().ok()?)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(lengths: &[usize]) -> Vec<Change> {
        lengths.iter().map(|length| Change::Set("k".repeat(*length))).collect()
    }

    #[test]
    fn a_large_event_is_cut_where_a_transaction_would_be_too_large() {
        let lengths =
            |lengths: &[usize]| parts(&sets(lengths)).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [0]);
        assert_eq!(lengths(&[5; PART_KEYS_MAX]), [PART_KEYS_MAX]);
        assert_eq!(lengths(&[5; 2 * PART_KEYS_MAX + 1]), [PART_KEYS_MAX, PART_KEYS_MAX, 1]);
        assert_eq!(lengths(&[4_096; 9]), [4, 4, 1]);
        assert_eq!(lengths(&[PART_BYTES_MAX + 1, 1]), [1, 1]);
    }

    #[test]
    fn a_pair_has_one_name() {
        let [one, other] = [1, 2].map(id_of);
        assert_eq!(pair(one, other), pair(other, one));
        assert_eq!(agents_of(&pair(one, other)), Some([one.min(other), one.max(other)]));
        assert_eq!(agents_of(b"short"), None);
    }
}
