//! `yrs`.
//!
//! Map: a root `MapRef` with the values as buffers. Its conflicts are settled by the order of the document,
//! not by a clock, so the stamps are not used. It has no observed-remove set; as its users do, a set is a
//! map with the elements as keys and `true` as the value. (There an insertion does not always outlive a
//! concurrent removal; no work here depends on that.)
//!
//! A batch is one transaction. Wire form: lib0 v1 updates, the form its documentation and providers use;
//! a delta is the update of one transaction, the whole state is the update against an empty state vector.

use std::sync::Arc;

use yrs::updates::decoder::Decode;
use yrs::{Any, Doc, Map, MapRef, Out, ReadTxn, StateVector, Transact, TransactionMut, Update};

use super::data::{Change, Value};
use super::{Peer, Replica};

pub struct Yrs;

impl Peer for Yrs {
    const NAME: &'static str = "yrs";
    type Map = Document<false>;
    type Set = Document<true>;
}

/// A document with one root map, which stands for a set or is a map.
pub struct Document<const SET: bool> {
    doc: Doc,
    map: MapRef,
}

impl<const SET: bool> Document<SET> {
    fn write(&self, transaction: &mut TransactionMut<'_>, changes: &[Change]) {
        for change in changes {
            let key = change.key.as_str();
            match change.value {
                Some(_) if SET => {
                    self.map.insert(transaction, key, true);
                }
                Some(value) => {
                    self.map.insert(transaction, key, Any::Buffer(Arc::from(value)));
                }
                None => {
                    self.map.remove(transaction, key);
                }
            }
        }
    }
}

impl<const SET: bool> Replica for Document<SET> {
    fn new(actor: u64) -> Self {
        let doc = Doc::with_client_id(actor);
        let map = doc.get_or_insert_map("map");
        Document { doc, map }
    }

    fn change(&mut self, changes: &[Change]) {
        self.write(&mut self.doc.transact_mut(), changes);
    }

    fn change_encoded(&mut self, changes: &[Change]) -> Vec<u8> {
        let mut transaction = self.doc.transact_mut();
        self.write(&mut transaction, changes);
        // Update observers get the bytes after this step, too: it tidies up the list of deletions.
        transaction.commit();
        transaction.encode_update_v1()
    }

    fn save(&mut self) -> Vec<u8> {
        self.doc
            .transact()
            .encode_state_as_update_v1(&StateVector::default())
    }

    fn load(actor: u64, saved: &[u8]) -> Self {
        let mut replica = Self::new(actor);
        replica.apply(saved);
        replica
    }

    fn apply(&mut self, delta: &[u8]) {
        let update = Update::decode_v1(delta).expect("an update");
        self.doc
            .transact_mut()
            .apply_update(update)
            .expect("the update fits");
    }

    fn merge_saved(actor: u64, left: &[u8], right: &[u8]) -> Self {
        // One transaction for both: faster than two, and than merging the updates first.
        let replica = Self::new(actor);
        let mut transaction = replica.doc.transact_mut();
        for saved in [left, right] {
            let update = Update::decode_v1(saved).expect("an update");
            transaction.apply_update(update).expect("the update fits");
        }
        drop(transaction);
        replica
    }

    fn len(&self) -> usize {
        self.map.len(&self.doc.transact()) as usize
    }

    fn has(&self, key: &str) -> bool {
        self.map.contains_key(&self.doc.transact(), key)
    }

    fn holds(&self, key: &str, value: &Value) -> bool {
        match self.map.get(&self.doc.transact(), key) {
            Some(Out::Any(Any::Bool(true))) => SET,
            Some(Out::Any(Any::Buffer(found))) => found[..] == value[..],
            _ => false,
        }
    }
}
