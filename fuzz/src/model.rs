//! The naive model of one replica of a map or set: what it has heard of, with tombstones kept for ever.

use std::collections::{BTreeMap, BTreeSet};

use consilience_crdts::{Dot, Hlc};

use crate::collection::{Bytes, Collection, Write};

/// One write or removal.
#[derive(Clone, Debug)]
pub struct Op {
    pub key: Bytes,
    /// The dot, stamp and value of a write; `None` of a removal.
    pub write: Option<(Dot, Hlc, Bytes)>,
    /// The dots of the key that its replica saw.
    pub ends: Vec<Dot>,
}

/// What one replica has heard of.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub heard: BTreeSet<usize>,
    dead: BTreeSet<Dot>,
    live: BTreeMap<Bytes, BTreeMap<Dot, (Hlc, Bytes)>>,
}

impl Model {
    /// Hears of the operation `number` of `history`, perhaps once more.
    pub fn hear(&mut self, history: &[Op], number: usize) {
        let op = &history[number];
        if !self.heard.insert(number) {
            return;
        }
        if let Some((dot, stamp, value)) = op.write.as_ref().filter(|(dot, ..)| !self.dead.contains(dot)) {
            self.live.entry(op.key.clone()).or_default().insert(*dot, (*stamp, value.clone()));
        }
        for dot in &op.ends {
            self.dead.insert(*dot);
            if let Some(writes) = self.live.get_mut(&op.key) {
                writes.remove(dot);
                if writes.is_empty() {
                    self.live.remove(&op.key);
                }
            }
        }
    }

    /// The dots that are live for a key.
    pub fn dots(&self, key: &[u8]) -> Vec<Dot> {
        self.live.get(key).into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    /// The live writes of a key, the winner first.
    pub fn writes(&self, key: &[u8]) -> Vec<Write> {
        let writes = self.live.get(key).into_iter().flatten();
        let mut writes: Vec<Write> =
            writes.map(|(dot, (stamp, value))| (*stamp, *dot, value.clone())).collect();
        writes.sort_by(|a, b| b.cmp(a));
        writes
    }

    pub fn read(&self, key: &[u8]) -> Option<Bytes> {
        self.writes(key).into_iter().next().map(|(_, _, value)| value)
    }

    pub fn keys(&self) -> Vec<Bytes> {
        self.live.keys().cloned().collect()
    }

    /// Panics unless `collection` shows what the model does.
    pub fn compare<C: Collection>(&self, collection: &C) {
        let keys = self.keys();
        assert_eq!(collection.keys(), keys);
        assert_eq!(collection.len(), keys.len());
        assert_eq!(collection.live_dots(), self.live.values().map(BTreeMap::len).sum::<usize>());
        for key in &keys {
            assert_eq!(collection.writes(key), self.writes(key));
            assert_eq!(collection.read(key), self.read(key));
        }
        for prefix in [&b"k"[..], b"k/0", b"k/00000000"] {
            let prefixed: Vec<Bytes> = keys.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
            assert_eq!(collection.prefixed(prefix), prefixed);
        }
        // The dead are covered too: they do not come back.
        let context = collection.context();
        assert!(self.dead.iter().all(|dot| context.contains(dot)));
    }
}
