//! `loro`: version vectors and exported updates, on documents with one root map. Unsigned.
//!
//! Every change is a commit, with a random peer id for each writer as its own are. The history is written into one
//! document, whose peer id changes with the writer; both replicas import its updates.
//!
//! It has no protocol of its own for two replicas, only the parts of one. B sends its version vector, A exports the
//! updates since: two messages, after which B holds what A does; from the vector A knows too whether it misses
//! anything itself. Two that hold the same exchange the same two messages. A single change is one message, what the
//! document hands to those who subscribed to local updates; nothing comes back.

use std::sync::{Arc, Mutex};

use loro::{ExportMode, LoroDoc, LoroMap, LoroValue, Subscription, ValueOrContainer, VersionVector};

use super::history::{Change, History, LOCAL, Value};
use super::{Cost, Side, Subject};
use crate::measure::seconds;

pub struct Loro {
    docs: [LoroDoc; 2],
    maps: [LoroMap; 2],
    /// What A has made since it was last sent.
    outgoing: Arc<Mutex<Vec<Vec<u8>>>>,
    _subscription: Subscription,
}

fn peer_id(history: &History, writer: usize) -> u64 {
    let (id, _) = history.ids[writer].split_first_chunk().expect("32 bytes");
    u64::from_le_bytes(*id)
}

fn import(doc: &LoroDoc, updates: &[u8]) {
    let status = doc.import(updates).expect("an import fits");
    assert!(status.pending.is_none(), "everything before was imported");
}

fn put(doc: &LoroDoc, map: &LoroMap, change: &Change) {
    map.insert(&change.key, change.value.to_vec())
        .expect("an attached map can be changed");
    doc.commit();
}

impl Loro {
    /// What brings B to where A is.
    fn pull(&self) -> Cost {
        let [a, b] = &self.docs;
        let (bytes, took) = seconds(|| {
            let request = b.oplog_vv().encode();
            let version = VersionVector::decode(&request).expect("a version vector");
            let updates = a.export(ExportMode::updates(&version)).expect("updates encode");
            import(b, &updates);
            request.len() + updates.len()
        });
        Cost {
            bytes,
            messages: 2,
            seconds: took,
        }
    }
}

impl Subject for Loro {
    const NAME: &'static str = "loro";
    const SIGNED: bool = false;

    fn build(history: &History) -> Self {
        let writer = LoroDoc::new();
        let map = writer.get_map("map");
        let write = |changes: &[Change]| {
            for change in changes {
                writer
                    .set_peer_id(peer_id(history, change.writer))
                    .expect("nothing is uncommitted");
                put(&writer, &map, change);
            }
            writer.export(ExportMode::all_updates()).expect("updates encode")
        };
        let (shared, missed) = history.changes.split_at(history.shared);
        let shared = write(shared);
        let all = write(missed);
        let load = |updates: &[u8], writer| {
            let doc = LoroDoc::new();
            doc.set_peer_id(peer_id(history, writer))
                .expect("a new document takes a peer id");
            import(&doc, updates);
            doc
        };
        let docs = [load(&all, LOCAL[0]), load(&shared, LOCAL[1])];
        let outgoing = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&outgoing);
        let subscription = docs[0].subscribe_local_update(Box::new(move |update| {
            sink.lock().expect("no panic before").push(update.clone());
            true
        }));
        Loro {
            maps: docs.each_ref().map(|doc| doc.get_map("map")),
            docs,
            outgoing,
            _subscription: subscription,
        }
    }

    fn catch_up(&mut self) -> Cost {
        self.pull()
    }

    fn one_change(&mut self, change: &Change) -> Cost {
        let ((bytes, messages), took) = seconds(|| {
            put(&self.docs[0], &self.maps[0], change);
            let updates = std::mem::take(&mut *self.outgoing.lock().expect("no panic before"));
            for update in &updates {
                import(&self.docs[1], update);
            }
            (updates.iter().map(Vec::len).sum(), updates.len())
        });
        Cost {
            bytes,
            messages,
            seconds: took,
        }
    }

    fn equal(&mut self) -> Cost {
        self.pull()
    }

    fn value(&self, side: Side, key: &str) -> Option<Value> {
        match self.maps[side as usize].get(key) {
            Some(ValueOrContainer::Value(LoroValue::Binary(found))) => found[..].try_into().ok(),
            _ => None,
        }
    }
}
