//! What the tests of map and set share: one face for both, and the naive model they are held against.

use std::collections::{BTreeMap, BTreeSet};

use consilience_crdts::{ActorId, Cursor, DecodeError, Dot, Hlc, LwwMap, MapDelta, OrSet, SetDelta};

/// How many cases a property runs: `CONSILIENCE_CASES`, else 10,000.
pub fn cases() -> u32 {
    std::env::var("CONSILIENCE_CASES")
        .map_or(10_000, |text| text.parse().expect("CONSILIENCE_CASES is a number"))
}

/// Keys, values and encoded deltas.
pub type Bytes = Vec<u8>;
/// A key, what it read, what it reads.
pub type Change = (Bytes, Option<Bytes>, Option<Bytes>);

/// A map or a set. A set's values are empty.
#[expect(clippy::len_without_is_empty, reason = "a test asks for the number")]
pub trait Subject: Clone + PartialEq + core::fmt::Debug {
    /// Whether keys have values.
    const HAS_VALUES: bool;
    /// An empty one whose index has this seed.
    fn new(seed: u64) -> Self;
    /// Writes a key and gives the delta. A set leaves value and stamp out.
    fn add(&mut self, actor: ActorId, key: &[u8], value: &[u8], stamp: Hlc) -> Bytes;
    /// Removes a key and gives the delta.
    fn remove(&mut self, key: &[u8]) -> Bytes;
    /// Merges an encoded delta; true if anything changed. An error changes nothing.
    fn merge(&mut self, delta: &[u8]) -> Result<bool, DecodeError>;
    /// Merges an encoded delta that is valid; also gives the changes that were reported.
    fn merge_watched(&mut self, delta: &[u8]) -> (bool, Vec<Change>);
    /// Merges another state; true if anything changed.
    fn merge_state(&mut self, other: &Self) -> bool;
    /// The join of two encoded deltas.
    fn join(a: &[u8], b: &[u8]) -> Bytes;
    /// Decodes a state.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
    /// Encodes the state.
    fn encode(&self) -> Bytes;
    /// The point up to which deltas were seen.
    fn cursor(&self) -> Cursor;
    /// The changes after a cursor, encoded.
    fn delta_since(&self, cursor: Cursor) -> Bytes;
    /// The value of a key; an empty one for an element of a set.
    fn read(&self, key: &[u8]) -> Option<Bytes>;
    /// The live dots of a key, the winner first.
    fn dots(&self, key: &[u8]) -> Vec<Dot>;
    /// All live keys with their values, in order.
    fn entries(&self) -> Vec<(Bytes, Bytes)>;
    /// All live keys with a prefix, in order.
    fn prefixed(&self, prefix: &[u8]) -> Vec<Bytes>;
    /// All live keys from `start` up to and without `end`, in order.
    fn between(&self, start: &[u8], end: &[u8]) -> Vec<Bytes>;
    /// The number of live keys.
    fn len(&self) -> usize;
    /// The number of live dots.
    fn live_dots(&self) -> usize;
}

impl Subject for LwwMap {
    const HAS_VALUES: bool = true;
    fn new(seed: u64) -> Self {
        Self::with_seed(seed)
    }
    fn add(&mut self, actor: ActorId, key: &[u8], value: &[u8], stamp: Hlc) -> Bytes {
        self.set(actor, key, value, stamp).unwrap().into_bytes()
    }
    fn remove(&mut self, key: &[u8]) -> Bytes {
        self.remove(key).into_bytes()
    }
    fn merge(&mut self, delta: &[u8]) -> Result<bool, DecodeError> {
        self.merge_encoded(delta)
    }
    fn merge_watched(&mut self, delta: &[u8]) -> (bool, Vec<Change>) {
        let mut changes = Vec::new();
        let delta = MapDelta::decode(delta).unwrap();
        let changed = self.merge_with(&delta, |change| {
            changes.push((change.key.into(), change.old.map(Into::into), change.new.map(Into::into)));
        });
        (changed, changes)
    }
    fn merge_state(&mut self, other: &Self) -> bool {
        self.merge_state(other)
    }
    fn join(a: &[u8], b: &[u8]) -> Bytes {
        MapDelta::decode(a).unwrap().join(&MapDelta::decode(b).unwrap()).into_bytes()
    }
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }
    fn encode(&self) -> Bytes {
        self.encode()
    }
    fn cursor(&self) -> Cursor {
        self.cursor()
    }
    fn delta_since(&self, cursor: Cursor) -> Bytes {
        self.delta_since(cursor).into_bytes()
    }
    fn read(&self, key: &[u8]) -> Option<Bytes> {
        self.get(key).map(Into::into)
    }
    fn dots(&self, key: &[u8]) -> Vec<Dot> {
        let entries = self.conflicts(key);
        assert!(entries.iter().all(|entry| entry.key == key));
        assert_eq!(entries.first().copied(), self.entry(key), "the winner comes first");
        entries.iter().map(|entry| entry.dot).collect()
    }
    fn entries(&self) -> Vec<(Bytes, Bytes)> {
        self.iter().map(|entry| (entry.key.into(), entry.value.into())).collect()
    }
    fn prefixed(&self, prefix: &[u8]) -> Vec<Bytes> {
        self.prefix(prefix).map(|entry| entry.key.into()).collect()
    }
    fn between(&self, start: &[u8], end: &[u8]) -> Vec<Bytes> {
        self.range(start..end).map(|entry| entry.key.into()).collect()
    }
    fn len(&self) -> usize {
        assert_eq!(self.stats().live, self.len());
        self.len()
    }
    fn live_dots(&self) -> usize {
        self.stats().dots
    }
}

impl Subject for OrSet {
    const HAS_VALUES: bool = false;
    fn new(seed: u64) -> Self {
        Self::with_seed(seed)
    }
    fn add(&mut self, actor: ActorId, key: &[u8], _: &[u8], _: Hlc) -> Bytes {
        self.insert(actor, key).unwrap().into_bytes()
    }
    fn remove(&mut self, key: &[u8]) -> Bytes {
        self.remove(key).into_bytes()
    }
    fn merge(&mut self, delta: &[u8]) -> Result<bool, DecodeError> {
        self.merge_encoded(delta)
    }
    fn merge_watched(&mut self, delta: &[u8]) -> (bool, Vec<Change>) {
        let mut changes = Vec::new();
        let delta = SetDelta::decode(delta).unwrap();
        let changed = self.merge_with(&delta, |change| {
            assert_ne!(change.old, change.new);
            let as_value = |there: bool| there.then(Vec::new);
            changes.push((change.element.into(), as_value(change.old), as_value(change.new)));
        });
        (changed, changes)
    }
    fn merge_state(&mut self, other: &Self) -> bool {
        self.merge_state(other)
    }
    fn join(a: &[u8], b: &[u8]) -> Bytes {
        SetDelta::decode(a).unwrap().join(&SetDelta::decode(b).unwrap()).into_bytes()
    }
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }
    fn encode(&self) -> Bytes {
        self.encode()
    }
    fn cursor(&self) -> Cursor {
        self.cursor()
    }
    fn delta_since(&self, cursor: Cursor) -> Bytes {
        self.delta_since(cursor).into_bytes()
    }
    fn read(&self, key: &[u8]) -> Option<Bytes> {
        assert_eq!(self.contains(key), self.get(key).is_some());
        self.contains(key).then(Vec::new)
    }
    fn dots(&self, key: &[u8]) -> Vec<Dot> {
        self.conflicts(key)
    }
    fn entries(&self) -> Vec<(Bytes, Bytes)> {
        self.iter().map(|element| (element.into(), Vec::new())).collect()
    }
    fn prefixed(&self, prefix: &[u8]) -> Vec<Bytes> {
        self.prefix(prefix).map(Into::into).collect()
    }
    fn between(&self, start: &[u8], end: &[u8]) -> Vec<Bytes> {
        self.range(start..end).map(Into::into).collect()
    }
    fn len(&self) -> usize {
        assert_eq!(self.stats().live, self.len());
        self.len()
    }
    fn live_dots(&self) -> usize {
        self.stats().dots
    }
}

/// One write or removal, as the model remembers it for ever.
#[derive(Clone, Debug)]
pub struct Op {
    /// The dot it minted and what it wrote, if it is a write.
    pub write: Option<(Dot, Bytes, Bytes, Hlc)>,
    /// The dots it had observed for its key.
    pub ends: BTreeSet<Dot>,
}

/// The naive model of one replica: the numbers of the operations it has heard of. Everything else is computed from
/// the full history each time.
#[derive(Clone, Debug, Default)]
pub struct Heard(pub BTreeSet<usize>);

impl Heard {
    /// The live writes: those heard of that nothing heard of has ended.
    pub fn live(&self, history: &[Op]) -> BTreeMap<Bytes, Vec<(Hlc, Dot, Bytes)>> {
        let ended: BTreeSet<Dot> = self.0.iter().flat_map(|op| history[*op].ends.iter().copied()).collect();
        let mut live: BTreeMap<Bytes, Vec<(Hlc, Dot, Bytes)>> = BTreeMap::new();
        for (dot, key, value, stamp) in self.0.iter().filter_map(|op| history[*op].write.as_ref()) {
            if !ended.contains(dot) {
                live.entry(key.clone()).or_default().push((*stamp, *dot, value.clone()));
            }
        }
        for writes in live.values_mut() {
            writes.sort_by_key(|write| core::cmp::Reverse((write.0, write.1)));
        }
        live
    }

    /// What each key reads.
    pub fn reads(&self, history: &[Op]) -> BTreeMap<Bytes, Bytes> {
        self.live(history).into_iter().map(|(key, writes)| (key, writes[0].2.clone())).collect()
    }
}

/// The changes between two readings.
pub fn difference(old: &BTreeMap<Bytes, Bytes>, new: &BTreeMap<Bytes, Bytes>) -> BTreeSet<Change> {
    let keys: BTreeSet<&Bytes> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| (key.clone(), old.get(key).cloned(), new.get(key).cloned()))
        .collect()
}
