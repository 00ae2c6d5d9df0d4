//! [`Tally`]: counters over the logs that a process holds, kept up to date from the records that it stores.
//!
//! Here are sums over all logs: entries, forks, a hash that says whether two processes hold the same, and the least bytes
//! that the entries that came could have taken. The invariant: a look at changes ([`settle`](Tally::settle), and
//! [`refresh`](Tally::refresh) before a status) never is one at all logs; and the sums are those of a pass over everything
//! ([`Tally::of`]).

use std::collections::{BTreeMap, BTreeSet};

use consilience::journal::{self, JournalItem, Record, RecordId, SnapshotWriter};
use consilience::sync::{AgentId, Log, LogId, LogKind, LogSet, NamedOpening, UncheckedEvidence};

use crate::process::control::Status;
use crate::process::{hex, text};

/// Bytes of a signature.
const SIGNATURE_BYTES: u64 = 64;

/// A hash that logs are added to and taken out of: the sum of theirs, in four parts. Nobody here is an enemy.
type Root = [u64; 4];

/// The counters of one log.
#[derive(Clone, Debug, Default)]
struct Counted {
    entries: u64,
    /// How many of them were signed.
    signed: u64,
    root: Root,
    /// Ranges of it that came since it was last looked at: each brought a signature.
    ranges: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    logs: BTreeMap<LogId, Counted>,
    /// Logs to be looked at.
    changed: BTreeSet<LogId>,
    /// The event logs of each agent.
    events: BTreeMap<AgentId, BTreeSet<LogId>>,
    forked: BTreeSet<LogId>,
    /// Logs of which not all was signed when they were looked at.
    unsigned: BTreeSet<LogId>,
    root: Root,
    entries: u64,
    needed_bytes: u64,
    /// Rises whenever something changes.
    changes: u64,
    /// How many logs were looked at.
    #[cfg(test)]
    looks: u64,
}

impl Tally {
    /// Of all that is held. Nothing of it came.
    pub(crate) fn of(logs: &LogSet) -> Self {
        let mut tally = Self::default();
        for log in logs.logs() {
            tally.logs.insert(*log.id(), Counted { entries: log.size(), ..Counted::default() });
            tally.entries += log.size();
            tally.changed(log.id());
        }
        tally.settle(logs);
        tally
    }

    /// Looks at changed logs, and at those that may have changed although nothing was stored: signing is not, and the
    /// entries of a forked log go when their time is over.
    pub(crate) fn refresh(&mut self, logs: &LogSet) {
        self.settle(logs);
        let signed = |log: &&LogId| {
            let counted = self.logs.get(*log).map(|counted| counted.signed);
            logs.log(log).map(Log::signed_size) != counted
        };
        let due: Vec<LogId> = self.unsigned.iter().filter(signed).chain(&self.forked).copied().collect();
        due.iter().for_each(|log| self.look_at(log, logs));
    }

    /// Something of a log changed. Entries that are new came from elsewhere.
    pub(crate) fn changed(&mut self, log: &LogId) {
        self.changed.insert(*log);
    }

    /// As [`changed`](Self::changed), by a range that came.
    pub(crate) fn received(&mut self, log: &LogId) {
        self.changed(log);
        self.logs.entry(*log).or_default().ranges += 1;
    }

    /// A local writer appended the entries below `size`, so far as they did not come before.
    pub(crate) fn appended(&mut self, log: &LogId, size: u64, logs: &LogSet) {
        let before = size.saturating_sub(1);
        if let Some(held) = logs.log(log) {
            self.need(held, before);
        }
        self.changed(log);
        let counted = self.logs.entry(*log).or_default();
        self.entries += size.saturating_sub(counted.entries);
        counted.entries = counted.entries.max(size);
    }

    /// Counts the items of a record that are about logs.
    pub(crate) fn count(&mut self, record: &Record, logs: &LogSet) -> Result<(), String> {
        let mesh = logs.mesh();
        // It is read as the record after a snapshot of all before it.
        let before = RecordId::from_u64(record.id().as_u64().saturating_sub(1));
        let empty = SnapshotWriter::new(mesh, before).finish();
        let record = journal::recover(mesh, Some(empty.as_bytes()), record.as_bytes()).map_err(text)?;
        for item in record.items() {
            match item {
                JournalItem::Append { log, seq, .. } => self.appended(&log, seq + 1, logs),
                JournalItem::Range { log, .. } => self.received(&log),
                JournalItem::Opening { bytes, .. } => {
                    self.changed(NamedOpening::decode(bytes, mesh).map_err(text)?.id());
                }
                JournalItem::Evidence { bytes } => {
                    let evidence = UncheckedEvidence::parse(bytes, mesh).map_err(text)?;
                    self.changed(evidence.opening().id());
                }
                JournalItem::Forgotten { log } => self.changed(&log),
                _ => {}
            }
        }
        Ok(())
    }

    /// Looks at the logs that stored records have changed.
    pub(crate) fn settle(&mut self, logs: &LogSet) {
        let due = std::mem::take(&mut self.changed);
        self.changes += u64::from(!due.is_empty());
        due.iter().for_each(|log| self.look_at(log, logs));
    }

    fn look_at(&mut self, log: &LogId, logs: &LogSet) {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        match logs.log(log) {
            Some(held) => self.look(held, logs),
            None => self.forget(log),
        }
    }

    fn look(&mut self, log: &Log, logs: &LogSet) {
        self.need(log, log.size());
        let id = *log.id();
        let root = root_of(log, logs);
        let counted = self.logs.entry(id).or_default();
        counted.ranges = 0;
        self.changes += u64::from(counted.root != root);
        self.root = plus(minus(self.root, counted.root), root);
        // It falls if a history is given up.
        self.entries = self.entries + log.size() - counted.entries;
        *counted = Counted { entries: log.size(), signed: log.signed_size(), root, ranges: 0 };
        if logs.evidence(&id).is_some() {
            self.forked.insert(id);
        }
        if log.signed_size() < log.size() {
            self.unsigned.insert(id);
        } else {
            self.unsigned.remove(&id);
        }
        if log.opening().kind == LogKind::Event {
            self.events.entry(log.opening().agent).or_default().insert(id);
        }
    }

    /// Counts entries below `to` that came and were not counted.
    fn need(&mut self, log: &Log, to: u64) {
        let counted = self.logs.entry(*log.id()).or_default();
        if to <= counted.entries {
            return;
        }
        // Those that were dropped meanwhile are not needed.
        let came = log.entries(counted.entries, to).map(|entry| entry.encode().len() as u64);
        let (mut count, mut bytes) = (0, 0);
        came.for_each(|len| (count, bytes) = (count + 1, bytes + len));
        self.needed_bytes += bytes + SIGNATURE_BYTES * counted.ranges.min(count);
        self.entries += to - counted.entries;
        (counted.entries, counted.ranges) = (to, 0);
    }

    fn forget(&mut self, log: &LogId) {
        self.forked.remove(log);
        self.unsigned.remove(log);
        for logs in self.events.values_mut() {
            logs.remove(log);
        }
        if let Some(counted) = self.logs.remove(log) {
            self.root = minus(self.root, counted.root);
            self.entries -= counted.entries;
        }
    }

    /// The event logs of an agent, as of the last time that it was settled.
    pub(crate) fn events_of(&self, agent: AgentId) -> impl Iterator<Item = &LogId> {
        self.events.get(&agent).into_iter().flatten()
    }

    /// A number that is another one if something has changed.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    /// How many logs were looked at so far.
    #[cfg(test)]
    pub(crate) const fn looks(&self) -> u64 {
        self.looks
    }

    /// Reports the sums. They have to be [refreshed](Self::refresh).
    pub(crate) fn report(&self, status: &mut Status) {
        status.root = hex(&self.root.map(u64::to_be_bytes).concat());
        status.entries = self.entries;
        status.forks = self.forked.len() as u64;
        status.needed_bytes = self.needed_bytes;
    }

    /// An error if the sums are not those of a pass over everything.
    pub(crate) fn check(&self, logs: &LogSet) -> Result<(), String> {
        let anew = Self::of(logs);
        let sums = |tally: &Self| (tally.root, tally.entries, tally.forked.len(), tally.logs.len());
        if sums(self) == sums(&anew) {
            Ok(())
        } else {
            Err(format!("the counters say {:?}, and a pass over all logs {:?}", sums(self), sums(&anew)))
        }
    }
}

/// Hash over the signed entries of a log that count; nothing if there are none.
fn root_of(log: &Log, logs: &LogSet) -> Root {
    let evidence = logs.evidence(log.id());
    let size = match evidence {
        None => log.signed_size(),
        // Of an invalid log each may hold another part.
        Some(_) if log.opening().kind == LogKind::State => 0,
        Some(evidence) => log.signed_size().min(evidence.valid_below()),
    };
    if size == 0 && evidence.is_none() {
        return Root::default();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(log.id().as_bytes()).update(&size.to_le_bytes());
    hasher.update(&[u8::from(evidence.is_some())]);
    if let Some(root) = log.root_at(size) {
        hasher.update(root.as_bytes());
    }
    let hash = hasher.finalize();
    let (parts, _) = hash.as_bytes().as_chunks::<8>();
    core::array::from_fn(|part| u64::from_le_bytes(parts[part]))
}

fn plus(root: Root, other: Root) -> Root {
    core::array::from_fn(|part| root[part].wrapping_add(other[part]))
}

fn minus(root: Root, other: Root) -> Root {
    core::array::from_fn(|part| root[part].wrapping_sub(other[part]))
}
