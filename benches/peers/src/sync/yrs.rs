//! `yrs`: state vectors and updates, on documents with one root map. Unsigned.
//!
//! Every change is a transaction, with a client id of 53 random bits for each writer as its own are. Each writer has a
//! document, and both replicas apply updates of all of them. What writers know of each other is not recorded: an entry
//! of a map names only the one it replaces, which here is always by the same writer.
//!
//! Its sync protocol asks both ways; one way is enough here and is what is counted. B sends its state vector, A the
//! update for it: two messages, after which B holds what A does; from the vector A knows too whether it misses
//! anything itself but deletions. An update carries all deletions there ever were, which includes everything that was
//! overwritten; so does the answer to one who misses nothing. What is overwritten is sent as a mere length, not as the
//! value it was. A single change is one message, the update of the transaction; nothing comes back.
//!
//! Updates are in the lib0 form that is smaller: v2 for the answer to a state vector, v1 for a single change.

use std::sync::Arc;

use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{Any, Doc, Map, MapRef, Out, ReadTxn, StateVector, Transact, TransactionMut, Update};

use super::history::{Change, History, LOCAL, Value, WRITERS};
use super::{Cost, Side, Subject};
use crate::measure::seconds;

pub struct Yrs {
    replicas: [Replica; 2],
}

struct Replica {
    doc: Doc,
    map: MapRef,
}

impl Replica {
    fn new(history: &History, writer: usize) -> Self {
        let (id, _) = history.ids[writer].split_first_chunk().expect("32 bytes");
        let doc = Doc::with_client_id(u64::from_le_bytes(*id) >> 11);
        let map = doc.get_or_insert_map("map");
        Replica { doc, map }
    }

    fn put(&self, transaction: &mut TransactionMut<'_>, change: &Change) {
        let value = Any::Buffer(Arc::from(change.value));
        self.map.insert(transaction, change.key.as_str(), value);
    }

    fn apply(&self, update: Update) {
        self.doc
            .transact_mut()
            .apply_update(update)
            .expect("the update fits");
    }
}

impl Yrs {
    /// What brings B to where A is.
    fn pull(&self) -> Cost {
        let [a, b] = &self.replicas;
        let (bytes, took) = seconds(|| {
            let request = b.doc.transact().state_vector().encode_v1();
            let version = StateVector::decode_v1(&request).expect("a state vector");
            let update = a.doc.transact().encode_state_as_update_v2(&version);
            b.apply(Update::decode_v2(&update).expect("an update"));
            request.len() + update.len()
        });
        Cost {
            bytes,
            messages: 2,
            seconds: took,
        }
    }
}

impl Subject for Yrs {
    const NAME: &'static str = "yrs";
    const SIGNED: bool = false;

    fn build(history: &History) -> Self {
        let writers: Vec<Replica> = (0..WRITERS).map(|writer| Replica::new(history, writer)).collect();
        let replicas = LOCAL.map(|writer| Replica::new(history, writer));
        let write = |changes: &[Change], replicas: &[&Replica]| {
            for change in changes {
                let writer = &writers[change.writer];
                writer.put(&mut writer.doc.transact_mut(), change);
            }
            for writer in &writers {
                let update = writer
                    .doc
                    .transact()
                    .encode_state_as_update_v1(&StateVector::default());
                for replica in replicas {
                    replica.apply(Update::decode_v1(&update).expect("an update"));
                }
            }
        };
        let (shared, missed) = history.changes.split_at(history.shared);
        let [a, b] = &replicas;
        write(shared, &[b]);
        write(missed, &[a]);
        Yrs { replicas }
    }

    fn catch_up(&mut self) -> Cost {
        self.pull()
    }

    fn one_change(&mut self, change: &Change) -> Cost {
        let [a, b] = &self.replicas;
        let (bytes, took) = seconds(|| {
            let mut transaction = a.doc.transact_mut();
            a.put(&mut transaction, change);
            // Update observers get the bytes after this step, too: it tidies up the list of deletions.
            transaction.commit();
            let update = transaction.encode_update_v1();
            b.apply(Update::decode_v1(&update).expect("an update"));
            update.len()
        });
        Cost {
            bytes,
            messages: 1,
            seconds: took,
        }
    }

    fn equal(&mut self) -> Cost {
        self.pull()
    }

    fn value(&self, side: Side, key: &str) -> Option<Value> {
        let replica = &self.replicas[side as usize];
        match replica.map.get(&replica.doc.transact(), key) {
            Some(Out::Any(Any::Buffer(found))) => found[..].try_into().ok(),
            _ => None,
        }
    }
}
