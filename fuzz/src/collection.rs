//! One face for the map and the set. An element's value is empty and its stamp zero.

use std::fmt::Debug;

use consilience_crdts::{
    ActorId, CausalContext, Cursor, DecodeError, Dot, Hlc, LwwMap, MapDelta, OrSet, SetDelta, WriteError,
};

pub type Bytes = Vec<u8>;
/// One live write: the greatest `(stamp, dot)` of a key is what it reads.
pub type Write = (Hlc, Dot, Bytes);
/// A key, what it read, what it reads.
pub type Change = (Bytes, Option<Bytes>, Option<Bytes>);

pub trait Collection: Clone + Debug {
    const HAS_VALUES: bool;
    fn new() -> Self;
    fn write(&mut self, actor: ActorId, key: &[u8], value: &[u8], stamp: Hlc) -> Result<Bytes, WriteError>;
    fn remove(&mut self, key: &[u8]) -> Bytes;
    fn merge(&mut self, bytes: &[u8]) -> Result<bool, DecodeError>;
    fn merge_watched(&mut self, bytes: &[u8]) -> Result<(bool, Vec<Change>), DecodeError>;
    fn merge_state(&mut self, other: &Self) -> bool;
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
    fn encode(&self) -> Bytes;
    /// Decodes a delta and gives its bytes back.
    fn delta(bytes: &[u8]) -> Result<Bytes, DecodeError>;
    /// The bytes of the join of two deltas.
    fn join(a: &[u8], b: &[u8]) -> Bytes;
    fn cursor(&self) -> Cursor;
    fn delta_since(&self, cursor: Cursor) -> Bytes;
    fn context(&self) -> CausalContext;
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn live_dots(&self) -> usize;
    fn read(&self, key: &[u8]) -> Option<Bytes>;
    fn keys(&self) -> Vec<Bytes>;
    fn prefixed(&self, prefix: &[u8]) -> Vec<Bytes>;
    /// All live writes of a key, the winner first.
    fn writes(&self, key: &[u8]) -> Vec<Write>;
}

impl Collection for LwwMap {
    const HAS_VALUES: bool = true;

    fn new() -> Self {
        Self::new()
    }

    fn write(&mut self, actor: ActorId, key: &[u8], value: &[u8], stamp: Hlc) -> Result<Bytes, WriteError> {
        self.set(actor, key, value, stamp).map(MapDelta::into_bytes)
    }

    fn remove(&mut self, key: &[u8]) -> Bytes {
        self.remove(key).into_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Result<bool, DecodeError> {
        self.merge_encoded(bytes)
    }

    fn merge_watched(&mut self, bytes: &[u8]) -> Result<(bool, Vec<Change>), DecodeError> {
        let mut changes = Vec::new();
        let changed = self.merge_encoded_with(bytes, |change| {
            changes.push((change.key.into(), change.old.map(Bytes::from), change.new.map(Bytes::from)));
        })?;
        Ok((changed, changes))
    }

    fn merge_state(&mut self, other: &Self) -> bool {
        self.merge_state(other)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }

    fn encode(&self) -> Bytes {
        self.encode()
    }

    fn delta(bytes: &[u8]) -> Result<Bytes, DecodeError> {
        MapDelta::decode(bytes).map(MapDelta::into_bytes)
    }

    fn join(a: &[u8], b: &[u8]) -> Bytes {
        MapDelta::decode(a).unwrap().join(&MapDelta::decode(b).unwrap()).into_bytes()
    }

    fn cursor(&self) -> Cursor {
        self.cursor()
    }

    fn delta_since(&self, cursor: Cursor) -> Bytes {
        self.delta_since(cursor).into_bytes()
    }

    fn context(&self) -> CausalContext {
        self.context()
    }

    fn len(&self) -> usize {
        assert_eq!(self.stats().live, self.len());
        self.len()
    }

    fn live_dots(&self) -> usize {
        self.stats().dots
    }

    fn read(&self, key: &[u8]) -> Option<Bytes> {
        self.get(key).map(Bytes::from)
    }

    fn keys(&self) -> Vec<Bytes> {
        self.iter().map(|entry| entry.key.into()).collect()
    }

    fn prefixed(&self, prefix: &[u8]) -> Vec<Bytes> {
        self.prefix(prefix).map(|entry| entry.key.into()).collect()
    }

    fn writes(&self, key: &[u8]) -> Vec<Write> {
        let writes = self.conflicts(key);
        assert_eq!(writes.first().copied(), self.entry(key), "the winner comes first");
        writes.into_iter().map(|entry| (entry.stamp, entry.dot, entry.value.into())).collect()
    }
}

impl Collection for OrSet {
    const HAS_VALUES: bool = false;

    fn new() -> Self {
        Self::new()
    }

    fn write(&mut self, actor: ActorId, key: &[u8], _: &[u8], _: Hlc) -> Result<Bytes, WriteError> {
        self.insert(actor, key).map(SetDelta::into_bytes)
    }

    fn remove(&mut self, key: &[u8]) -> Bytes {
        self.remove(key).into_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Result<bool, DecodeError> {
        self.merge_encoded(bytes)
    }

    fn merge_watched(&mut self, bytes: &[u8]) -> Result<(bool, Vec<Change>), DecodeError> {
        let mut changes = Vec::new();
        let value = |there: bool| there.then(Bytes::new);
        let changed = self.merge_encoded_with(bytes, |change| {
            changes.push((change.element.into(), value(change.old), value(change.new)));
        })?;
        Ok((changed, changes))
    }

    fn merge_state(&mut self, other: &Self) -> bool {
        self.merge_state(other)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }

    fn encode(&self) -> Bytes {
        self.encode()
    }

    fn delta(bytes: &[u8]) -> Result<Bytes, DecodeError> {
        SetDelta::decode(bytes).map(SetDelta::into_bytes)
    }

    fn join(a: &[u8], b: &[u8]) -> Bytes {
        SetDelta::decode(a).unwrap().join(&SetDelta::decode(b).unwrap()).into_bytes()
    }

    fn cursor(&self) -> Cursor {
        self.cursor()
    }

    fn delta_since(&self, cursor: Cursor) -> Bytes {
        self.delta_since(cursor).into_bytes()
    }

    fn context(&self) -> CausalContext {
        self.context()
    }

    fn len(&self) -> usize {
        assert_eq!(self.stats().live, self.len());
        self.len()
    }

    fn live_dots(&self) -> usize {
        self.stats().dots
    }

    fn read(&self, key: &[u8]) -> Option<Bytes> {
        assert_eq!(self.contains(key), self.get(key).is_some());
        self.contains(key).then(Bytes::new)
    }

    fn keys(&self) -> Vec<Bytes> {
        self.iter().map(Bytes::from).collect()
    }

    fn prefixed(&self, prefix: &[u8]) -> Vec<Bytes> {
        self.prefix(prefix).map(Bytes::from).collect()
    }

    fn writes(&self, key: &[u8]) -> Vec<Write> {
        self.conflicts(key).into_iter().map(|dot| (Hlc::ZERO, dot, Bytes::new())).collect()
    }
}
