//! Replicas with storage in memory, and bundles between them.

use std::collections::BTreeSet;

use consilience::journal::RecordId;
use consilience::{Config, EventRef, Imported, Notice, Opened, Replica, Stored, Transaction, Writer};
use consilience_crdts::{CouplingSchema, Timestamp, Units};
use consilience_sync::{Keypair, LogId, LogKind, MeshId, MeshSecret, Signer, Topic};

pub use crate::dice::{Dice, seeds};

/// The time at which everything begins, in milliseconds of the Unix epoch.
pub const START: u64 = 1_700_000_000_000;
/// The name of the one topic.
pub const TOPIC: &str = "team";

/// A time so many milliseconds after [`START`].
pub fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(START + ms)
}

/// The secret of the one mesh.
pub fn secret() -> MeshSecret {
    MeshSecret::from_bytes([9; 32])
}

/// The one mesh.
pub fn mesh() -> MeshId {
    secret().id()
}

/// The one topic.
pub fn topic() -> Topic {
    Topic::new(TOPIC).unwrap()
}

/// The schema of the coupling "trust".
pub fn schema() -> CouplingSchema {
    CouplingSchema::with_half_life(3_600_000).unwrap()
}

/// The key of an agent.
pub fn keys(agent: u8) -> Keypair {
    Keypair::from_seed([agent + 1; 32])
}

/// A configuration whose entropy depends on the seed alone.
pub fn config(seed: u64) -> Config {
    let mut entropy = [7; 32];
    entropy[..8].copy_from_slice(&seed.to_le_bytes());
    // Half of them carry as soon as there is anything to gain.
    let carrying = if seed.is_multiple_of(2) { (1, 0) } else { (2, 200) };
    Config::new(secret(), entropy).with_compaction(carrying.0, carrying.1)
}

/// A replica, its one writer, and what its host has stored.
#[derive(Debug)]
pub struct Node {
    /// The replica.
    pub replica: Replica,
    /// The number of its writer.
    pub writer: Writer,
    /// The number of its agent, as [`keys`] takes it.
    pub agent: u8,
    /// The snapshot that is stored.
    pub snapshot: Option<Vec<u8>>,
    /// The records that are stored after the snapshot.
    pub records: Vec<u8>,
}

/// What a host has on its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// The snapshot that is stored.
    pub snapshot: Option<Vec<u8>>,
    /// The records that are stored after the snapshot.
    pub records: Vec<u8>,
}

/// How a node is opened.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// For the first time.
    Fresh,
    /// From storage that has everything.
    Resumed,
    /// From an older copy of its storage.
    Restored,
    /// Without storage.
    InMemory,
}

/// All notices that wait.
pub fn notices(replica: &mut Replica) -> Vec<Notice> {
    std::iter::from_fn(|| replica.poll_notice()).collect()
}

impl Node {
    /// Whether the state is what the entries add up to, and what it is.
    pub fn state(&self) -> [u8; 32] {
        assert!(self.replica.verify(), "the fold is not what it is from scratch");
        self.replica.digest(&topic())
    }

    /// Takes in bytes that somebody carried here.
    pub fn take(&mut self, bundle: &[u8], now: Timestamp) -> Imported {
        let imported = self.replica.import_bundle(bundle, now).unwrap();
        self.store();
        imported
    }

    /// A transaction.
    pub fn write(&mut self, now: Timestamp, work: impl FnOnce(&mut Transaction<'_>)) -> Option<RecordId> {
        let mut tx = self.replica.transact(self.writer, TOPIC, now).unwrap();
        work(&mut tx);
        tx.commit().unwrap()
    }

    /// All notices that wait.
    pub fn notices(&mut self) -> Vec<Notice> {
        notices(&mut self.replica)
    }

    /// A node that is opened for the first time.
    pub fn fresh(agent: u8, seed: u64) -> Self {
        Self::open(agent, seed, Disk::default(), How::Fresh, at(0))
    }

    /// A node on what is stored.
    pub fn open(agent: u8, seed: u64, disk: Disk, how: How, now: Timestamp) -> Self {
        let stored = Stored { snapshot: disk.snapshot.as_deref(), records: &disk.records };
        let opened = match how {
            How::Fresh => Opened::Fresh,
            How::Resumed => Opened::Resumed(stored),
            How::Restored => Opened::Restored(stored),
            How::InMemory => Opened::InMemory,
        };
        let mut replica = Replica::open(config(seed), opened, now).unwrap();
        let writer = replica.add_writer(keys(agent)).unwrap();
        Self { replica, writer, agent, snapshot: disk.snapshot, records: disk.records }
    }

    /// A copy of what is stored.
    pub fn disk(&self) -> Disk {
        Disk { snapshot: self.snapshot.clone(), records: self.records.clone() }
    }

    /// Stores everything and confirms it.
    pub fn store(&mut self) {
        while let Some(record) = self.replica.poll_record() {
            self.records.extend(record.as_bytes());
            self.replica.confirm(record.id()).unwrap();
        }
    }

    /// Stores a snapshot in place of all records.
    pub fn snapshot(&mut self) {
        let snapshot = self.replica.snapshot();
        self.replica.confirm_snapshot(snapshot.covers()).unwrap();
        self.snapshot = Some(snapshot.into_bytes());
        self.records.clear();
    }

    /// Everything that this one has goes to another.
    pub fn tell(&mut self, other: &mut Self, now: Timestamp) {
        self.store();
        let since = other.replica.summary();
        let bundle = self.replica.export_bundle(|_| true, Some(&since), now).unwrap();
        let imported = other.replica.import_bundle(&bundle, now).unwrap();
        if imported.refused > 0 {
            // What follows on another history than the one that is here shows that only as a whole.
            let bundle = self.replica.export_bundle(|_| true, None, now).unwrap();
            other.replica.import_bundle(&bundle, now).unwrap();
        }
        other.store();
    }

    /// The writer's present state log, and its size.
    pub fn own_log(&self) -> Option<(LogId, u64)> {
        let agent = keys(self.agent).agent();
        let own = self.replica.logs().logs().filter(|log| {
            log.opening().agent == agent
                && log.opening().kind == LogKind::State
                && self.replica.logs().is_local(log.id())
        });
        own.max_by_key(|log| log.opening().incarnation).map(|log| (*log.id(), log.size()))
    }

    /// The values that nobody overwrote, as they are read here.
    pub fn live(&self, map: &str, key: &str) -> BTreeSet<Vec<u8>> {
        let view = self.replica.topic(TOPIC).unwrap().map(map);
        view.conflicts(key).iter().map(|live| live.value.to_vec()).collect()
    }

    /// Sets a key of the map "tasks".
    pub fn set(&mut self, key: &str, value: &str, now: Timestamp) {
        let mut tx = self.replica.transact(self.writer, TOPIC, now).unwrap();
        tx.map("tasks").set(key, value).unwrap();
        tx.commit().unwrap();
        self.store();
    }

    /// Removes a key of the map "tasks".
    pub fn remove(&mut self, key: &str, now: Timestamp) {
        let mut tx = self.replica.transact(self.writer, TOPIC, now).unwrap();
        tx.map("tasks").remove(key).unwrap();
        tx.commit().unwrap();
        self.store();
    }

    /// Strengthens a key of the coupling "trust".
    pub fn strengthen(&mut self, key: &str, by: u32, now: Timestamp) {
        let mut tx = self.replica.transact(self.writer, TOPIC, now).unwrap();
        tx.coupling("trust", schema()).strengthen(key, Units::new(by)).unwrap();
        tx.commit().unwrap();
        self.store();
    }

    /// The value of a key of the map "tasks".
    pub fn get(&self, key: &str) -> Option<String> {
        let view = self.replica.topic(TOPIC).unwrap();
        view.map("tasks").get(key).map(|live| String::from_utf8(live.value.to_vec()).unwrap())
    }

    /// Appends an event; gives its name.
    pub fn event(&mut self, payload: &str, ms: u64) -> EventRef {
        let (event, _) = self.replica.append_event(self.writer, TOPIC, payload.as_bytes(), at(ms)).unwrap();
        self.store();
        event
    }

    /// The payloads of all events of the topic, as they are read merged.
    pub fn events(&self) -> Vec<String> {
        let view = self.replica.topic(TOPIC).unwrap().events();
        let text = |payload: Option<&[u8]>| payload.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        view.iter().map(|event| text(event.payload).unwrap_or_else(|| "erased".into())).collect()
    }
}

/// All tell each other everything until nobody changes.
pub fn converge(nodes: &mut [Node], now: Timestamp) {
    for _ in 0..24 {
        let before: Vec<_> = nodes.iter_mut().map(|node| node.replica.summary()).collect();
        let digests: Vec<_> = nodes.iter().map(|node| node.replica.digest(&topic())).collect();
        for from in 0..nodes.len() {
            for to in (0..nodes.len()).filter(|to| *to != from) {
                let [a, b] = nodes.get_disjoint_mut([from, to]).unwrap();
                a.tell(b, now);
            }
        }
        let after: Vec<_> = nodes.iter_mut().map(|node| node.replica.summary()).collect();
        let now: Vec<_> = nodes.iter().map(|node| node.replica.digest(&topic())).collect();
        if before == after && digests == now {
            return;
        }
    }
    panic!("they go on telling each other news");
}
