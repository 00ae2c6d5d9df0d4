//! `consilience`.
//!
//! Map: `LwwMap`; set: `OrSet`. A mutator returns its delta, which is what a one-op delta is here; the delta of a batch
//! is everything since a cursor from before it, as a peer that was away would get it.
//!
//! Wire form: the library's own, which the deltas and states hold already. Merging decodes and checks as it goes.

use consilience::crdts::{ActorId, Hlc, LwwMap, OrSet, Timestamp};

use super::data::{Change, Value};
use super::{Peer, Replica};

pub struct Consilience;

impl Peer for Consilience {
    const NAME: &'static str = "consilience";
    type Map = Map;
    type Set = Set;
}

pub struct Map {
    actor: ActorId,
    map: LwwMap,
}

impl Map {
    fn write(&mut self, change: &Change) -> Vec<u8> {
        let key = change.key.as_bytes();
        let delta = match change.value {
            Some(value) => {
                let stamp = Hlc::new(Timestamp::from_millis(change.stamp), 0);
                self.map
                    .set(self.actor, key, &value, stamp)
                    .expect("a key and a value within the limits")
            }
            None => self.map.remove(key),
        };
        delta.into_bytes()
    }
}

impl Replica for Map {
    fn new(actor: u64) -> Self {
        Map {
            actor: ActorId::from(actor),
            map: LwwMap::new(),
        }
    }

    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            self.write(change);
        }
    }

    fn change_encoded(&mut self, changes: &[Change]) -> Vec<u8> {
        if let [change] = changes {
            return self.write(change);
        }
        let before = self.map.cursor();
        self.change(changes);
        self.map.delta_since(before).into_bytes()
    }

    fn save(&mut self) -> Vec<u8> {
        self.map.encode()
    }

    fn load(actor: u64, saved: &[u8]) -> Self {
        Map {
            actor: ActorId::from(actor),
            map: LwwMap::decode(saved).expect("a saved map"),
        }
    }

    fn apply(&mut self, delta: &[u8]) {
        self.map.merge_encoded(delta).expect("a delta");
    }

    fn merge_saved(actor: u64, left: &[u8], right: &[u8]) -> Self {
        let mut merged = Self::load(actor, left);
        merged.map.merge_encoded(right).expect("a saved map");
        merged
    }

    fn len(&self) -> usize {
        self.map.len()
    }

    fn has(&self, key: &str) -> bool {
        self.map.get(key.as_bytes()).is_some()
    }

    fn holds(&self, key: &str, value: &Value) -> bool {
        self.map.get(key.as_bytes()).is_some_and(|found| found == value)
    }
}

pub struct Set {
    actor: ActorId,
    set: OrSet,
}

impl Set {
    fn write(&mut self, change: &Change) -> Vec<u8> {
        let element = change.key.as_bytes();
        let delta = match change.value {
            Some(_) => self
                .set
                .insert(self.actor, element)
                .expect("an element within the limits"),
            None => self.set.remove(element),
        };
        delta.into_bytes()
    }
}

impl Replica for Set {
    fn new(actor: u64) -> Self {
        Set {
            actor: ActorId::from(actor),
            set: OrSet::new(),
        }
    }

    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            self.write(change);
        }
    }

    fn change_encoded(&mut self, changes: &[Change]) -> Vec<u8> {
        if let [change] = changes {
            return self.write(change);
        }
        let before = self.set.cursor();
        self.change(changes);
        self.set.delta_since(before).into_bytes()
    }

    fn save(&mut self) -> Vec<u8> {
        self.set.encode()
    }

    fn load(actor: u64, saved: &[u8]) -> Self {
        Set {
            actor: ActorId::from(actor),
            set: OrSet::decode(saved).expect("a saved set"),
        }
    }

    fn apply(&mut self, delta: &[u8]) {
        self.set.merge_encoded(delta).expect("a delta");
    }

    fn merge_saved(actor: u64, left: &[u8], right: &[u8]) -> Self {
        let mut merged = Self::load(actor, left);
        merged.set.merge_encoded(right).expect("a saved set");
        merged
    }

    fn len(&self) -> usize {
        self.set.len()
    }

    fn has(&self, key: &str) -> bool {
        self.set.contains(key.as_bytes())
    }

    fn holds(&self, key: &str, _value: &Value) -> bool {
        self.has(key)
    }
}
