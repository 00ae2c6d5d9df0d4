//! `loro`.
//!
//! Map: a root `LoroMap` with the values as binary. Its conflicts are settled by Lamport time, not by a
//! clock, so the stamps are not used. It has no observed-remove set; as its users do, a set is a map with
//! the elements as keys and `true` as the value. (There an insertion does not always outlive a
//! concurrent removal; no work here depends on that.)
//!
//! A batch is one commit. Wire form: its own; a delta is an export of the updates since the version before,
//! the whole state is an export of all updates. A snapshot would do for the state as well. For 100,000
//! entries it is a third larger, and a replica loaded from it applies deltas several times more slowly than
//! one that received updates. Only in the two growth works, all history, is the snapshot smaller: about a
//! quarter of the updates for the set, half for the map.

use loro::{ExportMode, LoroDoc, LoroMap, LoroValue, ValueOrContainer};

use super::data::{Change, Value};
use super::{Peer, Replica};

pub struct Loro;

impl Peer for Loro {
    const NAME: &'static str = "loro";
    type Map = Document<false>;
    type Set = Document<true>;
}

/// A document with one root map, which stands for a set or is a map.
pub struct Document<const SET: bool> {
    doc: LoroDoc,
    map: LoroMap,
}

impl<const SET: bool> Replica for Document<SET> {
    // Fewer than the faster libraries, to keep a whole run short.
    const ONE_OPS: usize = 20_000;
    const ONE_OPS_SMALL: usize = 20_000;

    fn new(actor: u64) -> Self {
        let doc = LoroDoc::new();
        doc.set_peer_id(actor).expect("a new document takes a peer id");
        let map = doc.get_map("map");
        Document { doc, map }
    }

    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            let done = match change.value {
                Some(_) if SET => self.map.insert(&change.key, true),
                Some(value) => self.map.insert(&change.key, value.to_vec()),
                None => self.map.delete(&change.key),
            };
            done.expect("an attached map can be changed");
        }
        self.doc.commit();
    }

    fn change_encoded(&mut self, changes: &[Change]) -> Vec<u8> {
        let before = self.doc.oplog_vv();
        self.change(changes);
        self.doc
            .export(ExportMode::updates(&before))
            .expect("updates encode")
    }

    fn save(&mut self) -> Vec<u8> {
        self.doc
            .export(ExportMode::all_updates())
            .expect("updates encode")
    }

    fn load(actor: u64, saved: &[u8]) -> Self {
        let mut replica = Self::new(actor);
        replica.apply(saved);
        replica
    }

    fn apply(&mut self, delta: &[u8]) {
        let status = self.doc.import(delta).expect("an import fits");
        assert!(status.pending.is_none(), "everything before was imported");
    }

    fn merge_saved(actor: u64, left: &[u8], right: &[u8]) -> Self {
        // One import after the other: `import_batch` takes longer for these two.
        let mut replica = Self::load(actor, left);
        replica.apply(right);
        replica
    }

    fn len(&self) -> usize {
        self.map.len()
    }

    fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some()
    }

    fn holds(&self, key: &str, value: &Value) -> bool {
        match self.map.get(key) {
            Some(ValueOrContainer::Value(LoroValue::Bool(true))) => SET,
            Some(ValueOrContainer::Value(LoroValue::Binary(found))) => found[..] == value[..],
            _ => false,
        }
    }
}
