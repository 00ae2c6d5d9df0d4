//! `crdt-kit`.
//!
//! Map: `LWWMap`; set: `ORSet`. Both have deltas of their own (`delta` and `apply_delta`). `delta` compares
//! two whole replicas; for the map, whose entries stand alone, the delta of a few writes is made from a map
//! that holds just these writes, which gives the same bytes and is quick to prepare.
//!
//! Wire form: the types' serde form in `postcard`, which keeps times and counters short. Keys and values
//! are byte strings through `serde_bytes`, which copies them at once.
//!
//! `ORSet::apply_delta` walks the whole set once for each removed tag in the delta and once more at its
//! end, so the numbers of changes are cut; the rates hardly depend on them. `merge` does the same, so a
//! full merge takes tens of seconds and is run once.

use crdt_kit::clock::HybridTimestamp;
use crdt_kit::{Crdt, DeltaCrdt, LWWMap, LWWMapDelta, ORSet, ORSetDelta};
use serde_bytes::ByteBuf;

use super::data::{Change, Value};
use super::{Peer, Replica};

pub struct CrdtKit;

impl Peer for CrdtKit {
    const NAME: &'static str = "crdt-kit";
    type Map = Map;
    type Set = Set;
}

fn bytes(text: &str) -> ByteBuf {
    ByteBuf::from(text.as_bytes())
}

type Entries = LWWMap<ByteBuf, ByteBuf>;

pub struct Map {
    actor: u64,
    map: Entries,
}

fn write(actor: u64, map: &mut Entries, change: &Change) {
    // The library keeps 16 bits of the actor in a timestamp.
    let timestamp = HybridTimestamp {
        physical: change.stamp,
        logical: 0,
        node_id: actor as u16,
    };
    match change.value {
        Some(value) => map.insert(bytes(&change.key), ByteBuf::from(value), timestamp),
        None => {
            map.remove(&bytes(&change.key), timestamp);
        }
    }
}

impl Replica for Map {
    fn new(actor: u64) -> Self {
        Map {
            actor,
            map: LWWMap::new(),
        }
    }

    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            write(self.actor, &mut self.map, change);
        }
    }

    fn change_encoded(&mut self, changes: &[Change]) -> Vec<u8> {
        self.change(changes);
        let mut changed = LWWMap::new();
        for change in changes {
            write(self.actor, &mut changed, change);
        }
        postcard::to_allocvec(&changed.delta(&LWWMap::new())).expect("a delta encodes")
    }

    fn save(&mut self) -> Vec<u8> {
        postcard::to_allocvec(&self.map).expect("a map encodes")
    }

    fn load(actor: u64, saved: &[u8]) -> Self {
        Map {
            actor,
            map: postcard::from_bytes(saved).expect("a saved map"),
        }
    }

    fn apply(&mut self, delta: &[u8]) {
        let delta: LWWMapDelta<ByteBuf, ByteBuf> = postcard::from_bytes(delta).expect("a delta");
        self.map.apply_delta(&delta);
    }

    fn merge_saved(actor: u64, left: &[u8], right: &[u8]) -> Self {
        let mut merged = Self::load(actor, left);
        merged.map.merge(&Self::load(actor, right).map);
        merged
    }

    fn len(&self) -> usize {
        self.map.len()
    }

    fn has(&self, key: &str) -> bool {
        self.map.contains_key(&bytes(key))
    }

    fn holds(&self, key: &str, value: &Value) -> bool {
        self.map.get(&bytes(key)).is_some_and(|found| found == value)
    }
}

pub struct Set {
    set: ORSet<ByteBuf>,
}

impl Replica for Set {
    // The reason for these three is in the text at the top.
    const ONE_OPS: usize = 200;
    const ONE_OPS_SMALL: usize = 2_000;
    const DELTA_CHANGES: usize = 200;

    fn new(actor: u64) -> Self {
        Set {
            set: ORSet::new(actor),
        }
    }

    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            if change.value.is_some() {
                self.set.insert(bytes(&change.key));
            } else {
                self.set.remove(&bytes(&change.key));
            }
        }
    }

    fn change_encoded(&mut self, changes: &[Change]) -> Vec<u8> {
        let before = self.set.clone();
        self.change(changes);
        postcard::to_allocvec(&self.set.delta(&before)).expect("a delta encodes")
    }

    fn save(&mut self) -> Vec<u8> {
        postcard::to_allocvec(&self.set).expect("a set encodes")
    }

    fn load(actor: u64, saved: &[u8]) -> Self {
        // The actor is part of the saved set and cannot be changed, so another actor takes the content over.
        let mut set = ORSet::new(actor);
        set.merge(&postcard::from_bytes(saved).expect("a saved set"));
        Set { set }
    }

    fn apply(&mut self, delta: &[u8]) {
        let delta: ORSetDelta<ByteBuf> = postcard::from_bytes(delta).expect("a delta");
        self.set.apply_delta(&delta);
    }

    fn merge_saved(_actor: u64, left: &[u8], right: &[u8]) -> Self {
        let mut set: ORSet<ByteBuf> = postcard::from_bytes(left).expect("a saved set");
        set.merge(&postcard::from_bytes(right).expect("a saved set"));
        Set { set }
    }

    fn len(&self) -> usize {
        self.set.len()
    }

    fn has(&self, key: &str) -> bool {
        self.set.contains(&bytes(key))
    }

    fn holds(&self, key: &str, _value: &Value) -> bool {
        self.has(key)
    }
}
