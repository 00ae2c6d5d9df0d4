//! What a trace comes to where nothing is concurrent, found without the library: the check that replicas agree on the
//! right thing.
//!
//! With one replica everything happens in the order of the trace. With several, that is still so for the keys that only
//! one of them ever touched, and the set only grows.

use std::collections::{BTreeMap, BTreeSet};

use super::host::Host;
use super::trace::{Change, Event};

pub(crate) struct Plain {
    /// By key: what it was set to last, or that it was removed.
    map: BTreeMap<Vec<u8>, Option<String>>,
    set: BTreeSet<String>,
    /// Keys that were touched at several of the replicas.
    shared: BTreeSet<Vec<u8>>,
}

impl Plain {
    /// Of these events, one after the other, at so many replicas.
    pub(crate) fn new(events: &[Event], replicas: usize) -> Self {
        let mut plain = Self { map: BTreeMap::new(), set: BTreeSet::new(), shared: BTreeSet::new() };
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        let mut touched: BTreeMap<&[u8], u64> = BTreeMap::new();
        for event in events {
            let ordinal = counts.entry(event.agent).or_default();
            *ordinal += 1;
            plain.set.insert(event.agent.to_string());
            let here = event.agent % replicas as u64;
            for change in &event.changes {
                let value = match change {
                    Change::Set(_) => Some(format!("{}@{ordinal}", event.agent)),
                    Change::Remove(_) => None,
                };
                plain.map.insert(change.key().into(), value);
                if *touched.entry(change.key()).or_insert(here) != here {
                    plain.shared.insert(change.key().into());
                }
            }
        }
        plain
    }

    /// Keys of which the outcome is known.
    pub(crate) fn keys(&self) -> u64 {
        (self.map.len() - self.shared.len()) as u64
    }

    /// Whether a replica that has everything has this set, and this map but for keys that were touched at several.
    pub(crate) fn matches(&self, host: &Host) -> Result<bool, String> {
        let (files, agents) = (host.files()?, host.agents()?);
        let expected =
            self.map.iter().filter_map(|(key, value)| Some((key.as_slice(), value.as_ref()?.as_bytes())));
        let expected = expected.filter(|(key, _)| !self.shared.contains(*key));
        let there = files.iter().map(|file| (file.key, file.value));
        let there = there.filter(|(key, _)| !self.shared.contains(*key));
        Ok(expected.eq(there)
            && self.set.iter().map(String::as_bytes).eq(agents.iter().map(|agent| agent.key)))
    }
}
