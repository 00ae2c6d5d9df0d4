//! What a trace comes to where there is one replica and nothing is concurrent, found without the library: the check
//! that replicas agree on the right thing.

use std::collections::{BTreeMap, BTreeSet};

use super::replica::Replica;
use super::trace::{Change, Event};

/// Whether the replica's map and set hold what the events, one after the other, leave in a plain map and set.
pub(crate) fn matches(events: &[Event], replica: &Replica) -> bool {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let mut map: BTreeMap<&[u8], String> = BTreeMap::new();
    let mut set: BTreeSet<Vec<u8>> = BTreeSet::new();
    for event in events {
        let ordinal = counts.entry(event.agent).or_default();
        *ordinal += 1;
        set.insert(event.agent.to_string().into_bytes());
        for change in &event.changes {
            match change {
                Change::Set(key) => map.insert(key, format!("{}@{ordinal}", event.agent)),
                Change::Remove(key) => map.remove(key.as_slice()),
            };
        }
    }
    let map = map.iter().map(|(key, value)| (*key, value.as_bytes()));
    map.eq(replica.map.iter().map(|entry| (entry.key, entry.value)))
        && set.iter().map(Vec::as_slice).eq(replica.set.iter())
}
