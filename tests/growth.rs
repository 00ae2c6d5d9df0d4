//! Stored bytes follow live bytes, whoever sleeps or has left; and no entry grows too large when it is carried along.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a panic is how a test fails")]

#[path = "growth/relay.rs"]
mod relay;

use consilience::crdts::{KEY_BYTES_MAX, Timestamp, VALUE_BYTES_MAX};
use consilience::sync::{ENTRY_BYTES_MAX, Keypair, MeshSecret, Topic};
use consilience::{CommitError, Config, Opened, Replica, WriteError, Writer};

const TOPIC: &str = "team";
/// What a writer may store beside three times what is live: the slack, the entry that is about to be appended, and what
/// is carried with it.
const PER_WRITER: u64 = 2_048;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + ms)
}

/// Replicas with a writer each. They tell each other what is missing, each the next.
struct Mesh {
    nodes: Vec<(Replica, Writer)>,
    ms: u64,
    dice: u64,
}

impl Mesh {
    fn new(writers: u8) -> Self {
        let nodes = (1..=writers).map(|number| {
            let config = Config::new(MeshSecret::from_bytes([9; 32]), [number; 32]);
            let mut replica = Replica::open(config, Opened::InMemory, at(0)).unwrap();
            let writer = replica.add_writer(Keypair::from_seed([number; 32])).unwrap();
            (replica, writer)
        });
        Self { nodes: nodes.collect(), ms: 0, dice: 1 }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides
    }

    fn write(&mut self, node: usize, key: &str, value: Option<&[u8]>) {
        self.ms += 1;
        let (replica, writer) = &mut self.nodes[node];
        let mut tx = replica.transact(*writer, TOPIC, at(self.ms)).unwrap();
        match value {
            Some(value) => tx.map("tasks").set(key, value).unwrap(),
            None => tx.map("tasks").remove(key).unwrap(),
        }
        tx.commit().unwrap();
    }

    /// Random updates of 64 keys by the writers among `awake`, one in sixteen a removal.
    fn update(&mut self, updates: u64, awake: core::ops::Range<usize>) {
        for number in 0..updates {
            let node = awake.start + self.roll(awake.len() as u64) as usize;
            let key = format!("task/{:02}", self.roll(64));
            let value = (self.roll(16) > 0).then(|| self.ms.to_le_bytes().repeat(2));
            self.write(node, &key, value.as_deref());
            if number % 64 == 63 {
                self.tell(awake.clone());
            }
        }
    }

    fn tell(&mut self, awake: core::ops::Range<usize>) {
        let (first, len) = (awake.start, awake.len());
        for from in 0..len {
            let (from, to) = (first + from, first + (from + 1) % len);
            let since = self.nodes[to].0.summary();
            let bundle = self.nodes[from].0.export_bundle(|_| true, Some(&since), at(self.ms)).unwrap();
            let imported = self.nodes[to].0.import_bundle(&bundle, at(self.ms)).unwrap();
            assert_eq!(imported.refused, 0);
        }
    }

    /// All tell each other everything, and mean the same.
    fn converge(&mut self) {
        let all = 0..self.nodes.len();
        self.tell(all.clone());
        self.tell(all);
        let topic = Topic::new(TOPIC).unwrap();
        let digest = self.nodes[0].0.digest(&topic);
        for (replica, _) in &self.nodes {
            assert_eq!(replica.digest(&topic), digest);
            assert!(replica.verify());
        }
    }

    fn assert_small(&self) {
        for (replica, _) in &self.nodes {
            let stats = replica.stats(None);
            let most = 3 * stats.live + PER_WRITER * self.nodes.len() as u64;
            assert!(stats.stored <= most, "{} stored for {} live", stats.stored, stats.live);
            // What is held is what counts, and a few entries that were given up a moment ago.
            let held: u64 = (replica.logs().logs())
                .flat_map(|log| log.entries(log.start(), log.size()))
                .map(|entry| u64::from(entry.payload_len))
                .sum();
            assert!(held <= most, "{held} held for {} live", stats.live);
        }
    }
}

#[test]
fn stored_bytes_follow_live_bytes() {
    let mut mesh = Mesh::new(4);
    for _ in 0..4 {
        mesh.update(20_000, 0..4);
        mesh.converge();
        mesh.assert_small();
    }
    let carried: u64 = mesh.nodes.iter().map(|(replica, _)| replica.stats(None).relisted).sum();
    assert!(carried < 80_000 * 60, "{carried} bytes carried by 80,000 updates");
}

#[test]
fn a_writer_that_sleeps_or_has_left_does_no_harm() {
    let mut mesh = Mesh::new(4);
    mesh.update(4_000, 0..4);
    // The last one sleeps. The others overwrite what it wrote, and carry that along for as long as it sleeps.
    for _ in 0..3 {
        mesh.update(10_000, 0..3);
        mesh.tell(0..3);
        mesh.assert_small();
    }
    mesh.converge();
    mesh.assert_small();
    mesh.update(4_000, 0..4);
    mesh.converge();
    mesh.assert_small();
}

#[test]
fn the_largest_values_are_carried_along_in_entries_that_are_not_larger() {
    let mut mesh = Mesh::new(2);
    let large = |byte: u8| vec![byte; VALUE_BYTES_MAX];
    for round in 0..40_u8 {
        // Two large ones stay, two are written over and over by both, and small ones in between have others carried.
        if round == 0 {
            mesh.write(0, "stays/0", Some(&large(0)));
            mesh.write(0, "stays/1", Some(&large(1)));
        }
        let node = usize::from(round % 2);
        mesh.write(node, "large", Some(&large(round)));
        mesh.write(node, "small", Some(&[round]));
        mesh.write(1 - node, "other", Some(&large(round)));
        if round % 4 == 3 {
            mesh.tell(0..2);
        }
    }
    mesh.converge();
    for (replica, _) in &mesh.nodes {
        let entries = || replica.logs().logs().flat_map(|log| log.entries(log.start(), log.size()));
        assert!(entries().all(|entry| entry.payload_len as usize <= ENTRY_BYTES_MAX));
        assert!(replica.logs().logs().any(|log| log.start() > 0), "something was carried along");
        let view = replica.topic(TOPIC).unwrap();
        assert_eq!(view.map("tasks").get("stays/1").unwrap().value, large(1));
        assert_eq!(view.map("tasks").get("large").unwrap().value, large(39));
        let stats = replica.stats(None);
        // Two writers, and room for a value that is about to be written and one that is about to go.
        assert!(stats.stored <= 3 * stats.live + 4 * ENTRY_BYTES_MAX as u64, "{stats:?}");
    }
}

#[test]
fn a_value_of_60_kib_fits_and_more_is_refused() {
    let mut mesh = Mesh::new(1);
    mesh.write(0, &"k".repeat(1_024), Some(&[7; VALUE_BYTES_MAX]));
    let (replica, writer) = &mut mesh.nodes[0];
    let mut tx = replica.transact(*writer, TOPIC, at(9)).unwrap();
    let refused = tx.map("tasks").set("k", [7; VALUE_BYTES_MAX + 1]);
    assert_eq!(refused, Err(WriteError::ValueTooLarge { bytes: VALUE_BYTES_MAX + 1 }));
    let refused = tx.map("tasks").set([7; KEY_BYTES_MAX + 1], "v");
    assert_eq!(refused, Err(WriteError::KeyTooLong { bytes: KEY_BYTES_MAX + 1 }));
    assert!(tx.is_empty());
    // Each fits, and both together do not.
    tx.map("tasks").set([7; KEY_BYTES_MAX], [7; VALUE_BYTES_MAX]).unwrap();
    assert!(matches!(tx.commit(), Err(CommitError::TooLarge(too)) if too.bytes > ENTRY_BYTES_MAX));
    assert_eq!(replica.stats(None).keys, 1);
    assert!(replica.verify());
}
