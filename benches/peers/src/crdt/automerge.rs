//! `automerge`.
//!
//! Map: the root map of an `AutoCommit` document with the values as bytes. Its conflicts are settled by
//! Lamport time, not by a clock, so the stamps are not used. It has no observed-remove set; as its users
//! do, a set is a map with the elements as keys and `true` as the value. (A removal there does not touch
//! concurrent insertions it has not seen, so this does follow add-wins.)
//!
//! A batch is one change. Wire form: its own; a delta is `save_after` the heads before, read by
//! `load_incremental`; the whole state is `save`, read by `load`.

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ROOT, ReadDoc, ScalarValue, Value as Content};

use super::data::{Change, Value};
use super::{Peer, Replica};

pub struct Automerge;

impl Peer for Automerge {
    const NAME: &'static str = "automerge";
    type Map = Document<false>;
    type Set = Document<true>;
}

/// A document whose root map stands for a set or is a map.
pub struct Document<const SET: bool> {
    doc: AutoCommit,
}

fn actor_id(actor: u64) -> ActorId {
    ActorId::from(actor.to_be_bytes())
}

impl<const SET: bool> Replica for Document<SET> {
    // Applying a change takes time in proportion to the size of the document, so fewer of them.
    const ONE_OPS: usize = 100;
    const ONE_OPS_SMALL: usize = 1_000;

    fn new(actor: u64) -> Self {
        Document {
            doc: AutoCommit::new().with_actor(actor_id(actor)),
        }
    }

    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            let key = change.key.as_str();
            let done = match change.value {
                Some(_) if SET => self.doc.put(ROOT, key, true),
                Some(value) => self.doc.put(ROOT, key, ScalarValue::Bytes(value.to_vec())),
                None => self.doc.delete(ROOT, key),
            };
            done.expect("the root map can be changed");
        }
        self.doc.commit();
    }

    fn change_encoded(&mut self, changes: &[Change]) -> Vec<u8> {
        let before = self.doc.get_heads();
        self.change(changes);
        self.doc.save_after(&before)
    }

    fn save(&mut self) -> Vec<u8> {
        self.doc.save()
    }

    fn load(actor: u64, saved: &[u8]) -> Self {
        Document {
            doc: AutoCommit::load(saved)
                .expect("a saved document")
                .with_actor(actor_id(actor)),
        }
    }

    fn apply(&mut self, delta: &[u8]) {
        self.doc.load_incremental(delta).expect("changes fit");
    }

    fn merge_saved(actor: u64, left: &[u8], right: &[u8]) -> Self {
        let mut replica = Self::load(actor, left);
        replica
            .doc
            .merge(&mut AutoCommit::load(right).expect("a saved document"))
            .expect("documents merge");
        replica
    }

    fn len(&self) -> usize {
        self.doc.length(ROOT)
    }

    fn has(&self, key: &str) -> bool {
        matches!(self.doc.get(ROOT, key), Ok(Some(_)))
    }

    fn holds(&self, key: &str, value: &Value) -> bool {
        match self.doc.get(ROOT, key) {
            Ok(Some((Content::Scalar(found), _))) => match found.as_ref() {
                ScalarValue::Boolean(true) => SET,
                ScalarValue::Bytes(found) => found[..] == value[..],
                _ => false,
            },
            _ => false,
        }
    }
}
