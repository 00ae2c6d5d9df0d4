//! `crdts`.
//!
//! Map: its own `Map` needs values with causal removal, which `LWWReg` is not, so the map is what its users
//! build: a `HashMap` of registers, merged key by key. (A `BTreeMap` takes half the time for a full merge,
//! which then meets the keys in order, and twice the time or more for deltas.) The marker is the time and the actor; a removed key is a register without a value. `LWWReg` is its own op,
//! so a delta is a list of keys with registers.
//!
//! Set: `Orswot`. A delta is a list of its ops: one `Add` for each inserted element, as every element needs
//! a dot of its own for merging to be sound (`validate_merge` refuses elements that share one), and one
//! `Rm` for all elements removed in a batch.
//!
//! Wire form: the types' serde form in `postcard`. `bincode` takes half as many bytes again; it is up to a
//! third faster on one-op deltas and no faster on the big ones. Keys and values are byte strings through
//! `serde_bytes`, which copies them at once.

use std::collections::HashMap;

use crdts::{CmRDT, CvRDT, LWWReg, Orswot, VClock, orswot};
use serde_bytes::{ByteBuf, Bytes};

use super::data::{Change, Value};
use super::{Peer, Replica};

pub struct Crdts;

impl Peer for Crdts {
    const NAME: &'static str = "crdts";
    type Map = Registers;
    type Set = Set;
}

/// The value, or `None` once removed, and the time with the actor to break ties.
type Register = LWWReg<Option<ByteBuf>, (u64, u64)>;

fn bytes(text: &str) -> ByteBuf {
    ByteBuf::from(text.as_bytes())
}

pub struct Registers {
    actor: u64,
    keys: HashMap<ByteBuf, Register>,
}

impl Registers {
    fn register(&self, change: &Change) -> (ByteBuf, Register) {
        let val = change.value.map(ByteBuf::from);
        (
            bytes(&change.key),
            LWWReg {
                val,
                marker: (change.stamp, self.actor),
            },
        )
    }

    fn merge_key(&mut self, key: ByteBuf, register: Register) {
        use std::collections::hash_map::Entry;
        match self.keys.entry(key) {
            Entry::Occupied(mut known) => known.get_mut().merge(register),
            Entry::Vacant(place) => {
                place.insert(register);
            }
        }
    }
}

impl Replica for Registers {
    fn new(actor: u64) -> Self {
        Registers {
            actor,
            keys: HashMap::new(),
        }
    }

    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            let (key, register) = self.register(change);
            self.merge_key(key, register);
        }
    }

    fn change_encoded(&mut self, changes: &[Change]) -> Vec<u8> {
        self.change(changes);
        let delta: Vec<(ByteBuf, Register)> = changes.iter().map(|change| self.register(change)).collect();
        postcard::to_allocvec(&delta).expect("registers encode")
    }

    fn save(&mut self) -> Vec<u8> {
        postcard::to_allocvec(&self.keys).expect("a map encodes")
    }

    fn load(actor: u64, saved: &[u8]) -> Self {
        Registers {
            actor,
            keys: postcard::from_bytes(saved).expect("a saved map"),
        }
    }

    fn apply(&mut self, delta: &[u8]) {
        let delta: Vec<(ByteBuf, Register)> = postcard::from_bytes(delta).expect("a delta");
        for (key, register) in delta {
            self.merge_key(key, register);
        }
    }

    fn merge_saved(actor: u64, left: &[u8], right: &[u8]) -> Self {
        let mut merged = Self::load(actor, left);
        for (key, register) in Self::load(actor, right).keys {
            merged.merge_key(key, register);
        }
        merged
    }

    fn len(&self) -> usize {
        self.keys
            .values()
            .filter(|register| register.val.is_some())
            .count()
    }

    fn has(&self, key: &str) -> bool {
        self.keys
            .get(Bytes::new(key.as_bytes()))
            .is_some_and(|register| register.val.is_some())
    }

    fn holds(&self, key: &str, value: &Value) -> bool {
        self.keys
            .get(Bytes::new(key.as_bytes()))
            .and_then(|register| register.val.as_ref())
            .is_some_and(|val| val == value)
    }
}

type Op = orswot::Op<ByteBuf, u64>;

pub struct Set {
    actor: u64,
    set: Orswot<ByteBuf, u64>,
}

impl Set {
    /// Makes the changes and returns their ops.
    fn ops(&mut self, changes: &[Change]) -> Vec<Op> {
        let mut ops = Vec::new();
        let mut removed = Vec::new();
        let mut seen = VClock::new();
        for change in changes {
            let element = bytes(&change.key);
            if change.value.is_some() {
                let context = self.set.read_ctx().derive_add_ctx(self.actor);
                let op = self.set.add(element, context);
                self.set.apply(op.clone());
                ops.push(op);
            } else {
                let context = self.set.contains(&element).derive_rm_ctx();
                seen.merge(context.clock);
                removed.push(element);
            }
        }
        // No batch here inserts and removes the same element, so the removals may come last.
        if !removed.is_empty() {
            let op = Op::Rm {
                clock: seen,
                members: removed,
            };
            self.set.apply(op.clone());
            ops.push(op);
        }
        ops
    }
}

impl Replica for Set {
    fn new(actor: u64) -> Self {
        Set {
            actor,
            set: Orswot::new(),
        }
    }

    fn change(&mut self, changes: &[Change]) {
        self.ops(changes);
    }

    fn change_encoded(&mut self, changes: &[Change]) -> Vec<u8> {
        postcard::to_allocvec(&self.ops(changes)).expect("ops encode")
    }

    fn save(&mut self) -> Vec<u8> {
        postcard::to_allocvec(&self.set).expect("a set encodes")
    }

    fn load(actor: u64, saved: &[u8]) -> Self {
        Set {
            actor,
            set: postcard::from_bytes(saved).expect("a saved set"),
        }
    }

    fn apply(&mut self, delta: &[u8]) {
        let ops: Vec<Op> = postcard::from_bytes(delta).expect("a delta");
        for op in ops {
            self.set.apply(op);
        }
    }

    fn merge_saved(actor: u64, left: &[u8], right: &[u8]) -> Self {
        let mut merged = Self::load(actor, left);
        merged.set.merge(Self::load(actor, right).set);
        merged
    }

    fn len(&self) -> usize {
        self.set.iter().count()
    }

    fn has(&self, key: &str) -> bool {
        self.set.contains(&bytes(key)).val
    }

    fn holds(&self, key: &str, _value: &Value) -> bool {
        self.has(key)
    }
}
