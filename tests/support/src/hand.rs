//! A member that writes its logs by hand: payloads byte by byte, handed over as a bundle.

use consilience_crdts::{CouplingSchema, Hlc, Timestamp};
use consilience_sync::codec::put_varint;
use consilience_sync::{
    Answer, Closure, Incarnation, Keypair, Limits, LogId, LogKind, LogOpening, LogSet, MeshId, NewEntry,
    RangeForm, Signer, Want,
};

use crate::replicas::{keys, mesh, topic};

/// A removal's name of a dot: which alias, entry, operation, tag.
pub type Name = (u64, u64, u64, [u8; 4]);

/// A varint of the wire format.
pub fn varint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, value);
    bytes
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn names(names: &[Name]) -> Vec<u8> {
    let mut bytes = varint(names.len() as u64);
    for (log, seq, index, tag) in names {
        bytes.extend([varint(*log), varint(*seq), varint(*index), tag.to_vec()].concat());
    }
    bytes
}

/// Writes a key and ends dots.
pub fn op_set(key: &str, value: &str, ends: &[Name]) -> Vec<u8> {
    [vec![0], counted(key.as_bytes()), counted(value.as_bytes()), names(ends)].concat()
}

/// Removes a key: ends dots.
pub fn op_remove(key: &str, ends: &[Name]) -> Vec<u8> {
    [vec![1], counted(key.as_bytes()), names(ends)].concat()
}

/// Ends dots of any key.
pub fn op_end(ends: &[Name]) -> Vec<u8> {
    [vec![2], names(ends)].concat()
}

/// Lists a dot of a lower incarnation again.
pub fn op_carry(
    incarnation: u64,
    seq: u64,
    index: u64,
    tag: [u8; 4],
    hlc: Hlc,
    key: &str,
    value: &str,
) -> Vec<u8> {
    let name = [incarnation.to_le_bytes().to_vec(), varint(seq), varint(index), tag.to_vec()].concat();
    let item =
        [hlc.to_bits().to_le_bytes().to_vec(), counted(key.as_bytes()), counted(value.as_bytes())].concat();
    [vec![6], name, item].concat()
}

/// Strengthens a key of a coupling up to an instant.
pub fn op_strengthen(key: &str, instant: u64) -> Vec<u8> {
    [vec![4], counted(key.as_bytes()), instant.to_le_bytes().to_vec()].concat()
}

/// The id of a map in a payload.
pub fn map_id(name: &str) -> Vec<u8> {
    [vec![0, name.len() as u8], name.as_bytes().to_vec()].concat()
}

/// The id of a coupling in a payload.
pub fn coupling_id(name: &str, schema: &CouplingSchema) -> Vec<u8> {
    [vec![2, name.len() as u8], name.as_bytes().to_vec(), schema.encode()].concat()
}

/// The bytes of a payload.
pub fn payload(aliases: &[[u8; 8]], sections: &[(Vec<u8>, Vec<Vec<u8>>)]) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(varint(aliases.len() as u64));
    bytes.extend(aliases.iter().flatten());
    for (id, ops) in sections {
        bytes.extend(id);
        bytes.extend(varint(ops.len() as u64));
        bytes.extend(ops.iter().flatten());
    }
    bytes
}

/// One operation on the map "tasks".
pub fn on_tasks(aliases: &[[u8; 8]], op: Vec<u8>) -> Vec<u8> {
    payload(aliases, &[(map_id("tasks"), vec![op])])
}

/// A bundle: the tag of its mesh, and parts, each with its kind and what follows that.
pub fn bundle(mesh: &MeshId, parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0x30];
    bytes.extend(&mesh.discovery_key().as_bytes()[..8]);
    for (kind, part) in parts {
        bytes.extend(varint(1 + part.len() as u64));
        bytes.push(*kind);
        bytes.extend(part);
    }
    bytes
}

/// A member with a raw set of logs.
#[derive(Clone, Debug)]
pub struct Hand {
    /// The logs that it writes.
    pub set: LogSet,
    agent: u8,
    /// Its one log.
    pub log: LogId,
}

impl Hand {
    /// A member with one state log.
    pub fn new(agent: u8, incarnation: u64) -> Self {
        Self::of_kind(agent, incarnation, LogKind::State)
    }

    /// A member with one log of a kind, in the topic of [`replicas`](crate::replicas).
    pub fn of_kind(agent: u8, incarnation: u64, kind: LogKind) -> Self {
        let mut set = LogSet::new(mesh(), Limits::default());
        let opening = LogOpening {
            topic: topic(),
            kind,
            agent: keys(agent).agent(),
            incarnation: Incarnation::from_u64(incarnation),
        };
        let log = set.open_local(&opening).unwrap();
        Self { set, agent, log }
    }

    /// The key that it signs with.
    pub fn keys(&self) -> Keypair {
        keys(self.agent)
    }

    /// Appends a payload as it is; gives its number.
    pub fn append(&mut self, payload: &[u8], hlc: Hlc) -> u64 {
        self.set.append(&self.log, &NewEntry::new(hlc, payload)).unwrap()
    }

    /// Appends a payload as it is with a base; gives its number.
    pub fn append_with_base(&mut self, payload: &[u8], base: u64, hlc: Hlc) -> u64 {
        self.set.append(&self.log, &NewEntry { base, ..NewEntry::new(hlc, payload) }).unwrap()
    }

    /// Appends an entry as it is; gives its number.
    pub fn append_entry(&mut self, entry: &NewEntry<'_>) -> u64 {
        self.set.append(&self.log, entry).unwrap()
    }

    /// Appends a payload as it is, in an entry that closes logs of earlier incarnations: which, and below which number.
    pub fn close(&mut self, closures: &[(u64, u64)], payload: &[u8], hlc: Hlc) -> u64 {
        let closures = closures.iter().map(|(incarnation, below)| Closure {
            incarnation: Incarnation::from_u64(*incarnation),
            below: *below,
        });
        let closures: Vec<Closure> = closures.collect();
        let entry = NewEntry { closures: &closures, ..NewEntry::new(hlc, payload) };
        self.set.append(&self.log, &entry).unwrap()
    }

    /// The tag of the dots that an entry mints.
    pub fn tag(&self, seq: u64) -> [u8; 4] {
        *self.set.log(&self.log).unwrap().leaf(seq).unwrap().as_bytes().first_chunk().unwrap()
    }

    /// Everything, signed.
    pub fn bundle(&mut self, now: Timestamp) -> Vec<u8> {
        self.sign(now);
        let log = self.set.log(&self.log).unwrap();
        let (from, to) = (log.start(), log.signed_size());
        let form = if from == 0 { RangeForm::Follow } else { RangeForm::Alone };
        bundle(&mesh(), &self.parts(&Want { from, to, form }))
    }

    /// Signs what is there.
    pub fn sign(&mut self, now: Timestamp) {
        let keys = self.keys();
        // What is signed already has nothing new to sign.
        let _ = self.set.sign_head(&self.log, &keys, now);
    }

    /// The parts of a bundle that carry signed entries: the log's opening, and a range.
    pub fn parts(&self, want: &Want) -> [(u8, Vec<u8>); 2] {
        let opening = self.set.log(&self.log).unwrap().opening().encode(&mesh());
        let Answer::Range { bytes, end } = self.set.answer(&self.log, want, usize::MAX) else {
            panic!("what is asked for is there")
        };
        assert_eq!(end, want.to);
        [(1, opening), (3, [&self.log.alias()[..], &bytes].concat())]
    }
}
