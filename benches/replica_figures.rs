//! What a replica takes in memory and in storage: `cargo bench --bench replica_figures`. One JSON line a figure; nothing
//! here is timed (that is `replica`), since every allocation is counted.
//!
//! `CONSILIENCE_TRACE` names a file of JSON lines (`agent`, `keys`; a key with `-` in front is removed) to be written and
//! exchanged as well, and `CONSILIENCE_UPDATES` sets another number of updates than a million.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a benchmark: inputs made here"
)]

use std::collections::BTreeSet;

use allocation_counter::measure;
use consilience::crdts::Timestamp;
use consilience::sync::{Keypair, Log, MeshSecret};
use consilience::{Config, Opened, Replica, Stored, Writer};
use serde_json::{Value, json};

const TOPIC: &str = "bench";

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + ms)
}

fn agent(number: u64) -> Keypair {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    Keypair::from_seed(seed)
}

fn config(number: u64) -> Config {
    let mut entropy = [7; 32];
    entropy[..8].copy_from_slice(&number.to_le_bytes());
    Config::new(MeshSecret::from_bytes([1; 32]), entropy)
}

/// 20 bytes.
fn key(number: u64) -> String {
    format!("team/task/{:010}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 10_000_000_000)
}

fn set(replica: &mut Replica, writer: Writer, key: &str, ms: u64) {
    let mut tx = replica.transact(writer, TOPIC, at(ms)).unwrap();
    tx.map("tasks").set(key, u128::from(ms).to_le_bytes()).unwrap();
    tx.commit().unwrap();
}

fn memory_of_logs(replica: &Replica) -> usize {
    replica.logs().logs().map(Log::memory).sum()
}

/// What `build` makes, and the heap bytes that it leaves behind.
fn held<T>(build: impl FnOnce() -> T) -> (T, i64) {
    let mut built = None;
    let info = measure(|| built = Some(build()));
    (built.unwrap(), info.bytes_current)
}

/// A million keys of 20 bytes with values of 16, one in an entry, in the writer's process and in one that has read them.
fn memory(keys: u64) {
    let print = |work: &str, replica: &Replica, bytes: i64| {
        assert_eq!(replica.stats(None).keys as u64, keys);
        let per_key = |bytes: f64| (bytes / keys as f64 * 10.0).round() / 10.0;
        let logs = memory_of_logs(replica);
        println!(
            "{}",
            json!({
                "group": "replica", "work": work, "unit": "B a live key", "value": per_key(bytes as f64),
                "log": per_key(logs as f64), "tables": per_key(bytes as f64 - logs as f64),
                "body": 36, "keys": keys,
            })
        );
    };
    let ((mut replica, records), bytes) = held(|| {
        let mut replica = Replica::open(config(0), Opened::Fresh, at(0)).unwrap();
        let writer = replica.add_writer(agent(0)).unwrap();
        let mut records = 0;
        for number in 0..keys {
            set(&mut replica, writer, &key(number), number);
            while let Some(record) = replica.poll_record() {
                records += record.as_bytes().len();
                replica.confirm(record.id()).unwrap();
            }
        }
        (replica, records)
    });
    print("memory, written here", &replica, bytes);
    let bundle = replica.export_bundle(|_| true, None, at(keys)).unwrap();
    let ((snapshot, _), _) = held(|| (replica.snapshot().into_bytes(), ()));
    println!(
        "{}",
        json!({
            "group": "replica", "work": "storage", "unit": "B a live key", "keys": keys,
            "value": snapshot.len() as f64 / keys as f64,
            "records": records as f64 / keys as f64, "bundle": bundle.len() as f64 / keys as f64,
        })
    );
    drop(replica);
    let (replica, bytes) = held(|| {
        let mut replica = Replica::open(config(1), Opened::InMemory, at(0)).unwrap();
        replica.import_bundle(&bundle, at(keys)).unwrap();
        replica
    });
    print("memory, imported", &replica, bytes);
    drop((replica, bundle));
    let (replica, bytes) = held(|| {
        let stored = Stored { snapshot: Some(&snapshot), records: &[] };
        Replica::open(config(2), Opened::Resumed(stored), at(keys)).unwrap()
    });
    print("memory, opened", &replica, bytes);
}

/// Replicas that write, each for some agents, and tell each other what is missing.
struct Mesh {
    replicas: Vec<Replica>,
    ms: u64,
    /// Everything that was written, its keys and values alone.
    written: u64,
    bundles: u64,
}

impl Mesh {
    fn new(replicas: u64) -> Self {
        let open = |number| Replica::open(config(number), Opened::InMemory, at(0)).unwrap();
        Self { replicas: (0..replicas).map(open).collect(), ms: 0, written: 0, bundles: 0 }
    }

    /// Each tells the next, all the way round.
    fn tell(&mut self) {
        for from in 0..self.replicas.len() {
            let to = (from + 1) % self.replicas.len();
            if from != to {
                let since = self.replicas[to].summary();
                let bundle = self.replicas[from].export_bundle(|_| true, Some(&since), at(self.ms)).unwrap();
                self.bundles += bundle.len() as u64;
                self.replicas[to].import_bundle(&bundle, at(self.ms)).unwrap();
            }
        }
    }

    fn print(&mut self, work: &str, labels: &[(&str, u64)]) {
        // Twice round, and all have everything.
        self.tell();
        self.tell();
        let digest = |replica: &Replica| replica.digest(&consilience::sync::Topic::new(TOPIC).unwrap());
        let digests: BTreeSet<_> = self.replicas.iter().map(digest).collect();
        assert_eq!(digests.len(), 1, "all have the same state");
        let (replica, relisted) = (
            &self.replicas[0],
            self.replicas.iter().map(|replica| replica.stats(None).relisted).sum::<u64>(),
        );
        let stats = replica.stats(None);
        let view = replica.topic(TOPIC).unwrap();
        let bodies: usize = view.map("tasks").iter().map(|live| live.key.len() + live.value.len()).sum();
        let logs = || replica.logs().logs();
        let retained: u64 = logs().map(|log| log.size() - log.start()).sum();
        let payloads: u64 = logs()
            .flat_map(|log| log.entries(log.start(), log.size()))
            .map(|entry| u64::from(entry.payload_len))
            .sum();
        let mut line = json!({
            "group": "replica", "work": work, "unit": "x live",
            "value": (stats.stored as f64 / stats.live as f64 * 100.0).round() / 100.0,
            "stored": stats.stored, "live": stats.live, "bodies": bodies, "keys": stats.keys,
            "payloads": payloads, "entries": retained, "logs": stats.logs, "memory": memory_of_logs(replica),
            "relisted": relisted, "written": self.written, "bundles": self.bundles,
        });
        for (label, value) in labels {
            line[*label] = json!(value);
        }
        println!("{line}");
    }
}

/// Updates of 64 keys by four writers, each on its own replica, who overwrite one another and tell each other after
/// every so many updates.
fn overwriting(updates: u64, every: u64) {
    let mut mesh = Mesh::new(4);
    let writers: Vec<Writer> = (0..4)
        .zip(&mut mesh.replicas)
        .map(|(number, replica)| replica.add_writer(agent(number)).unwrap())
        .collect();
    let mut state = 1_u64;
    for number in 0..updates {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (key, at) = (key(state >> 58), (state >> 40) as usize % 4);
        mesh.ms += 1;
        set(&mut mesh.replicas[at], writers[at], &key, mesh.ms);
        mesh.written += key.len() as u64 + 16;
        if (number + 1) % every == 0 {
            mesh.tell();
        }
    }
    mesh.print("stored, 64 keys overwritten", &[("updates", updates), ("every", every)]);
}

/// A trace of who changed which keys, by as many writers, or by one for every agent that it names.
fn trace(lines: &str, writers: Option<u64>) {
    let mut mesh = Mesh::new(4);
    let mut added = BTreeSet::new();
    let mut updates = 0;
    for (number, line) in lines.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let who = line["agent"].as_u64().unwrap();
        let who = writers.map_or(who, |writers| who % writers);
        let replica = &mut mesh.replicas[who as usize % 4];
        let keys = agent(who);
        if added.insert(who) {
            replica.add_writer(agent(who)).unwrap();
        }
        let writer =
            replica.writers().find(|writer| writer.id() == consilience::sync::Signer::agent(&keys)).unwrap();
        mesh.ms += 1;
        let mut tx = replica.transact(writer, TOPIC, at(mesh.ms)).unwrap();
        for key in line["keys"].as_array().unwrap() {
            let key = key.as_str().unwrap();
            updates += 1;
            match key.strip_prefix('-') {
                Some(gone) => tx.map("tasks").remove(gone).unwrap(),
                None => {
                    tx.map("tasks").set(key, u128::from(mesh.ms).to_le_bytes()).unwrap();
                    mesh.written += key.len() as u64 + 16;
                }
            }
        }
        tx.commit().unwrap();
        if number % 20 == 0 {
            mesh.tell();
        }
    }
    let writers = added.len() as u64;
    mesh.print("stored, trace", &[("updates", updates), ("writers", writers), ("every", 20)]);
}

fn main() {
    // `cargo test --benches` runs this as well, to see that it starts.
    if std::env::args().all(|argument| argument != "--bench") {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let updates = number("CONSILIENCE_UPDATES").unwrap_or(1_000_000);
    memory(updates);
    for every in [16, 100, 1_000] {
        overwriting(updates, every);
    }
    if let Ok(path) = std::env::var("CONSILIENCE_TRACE") {
        let lines = std::fs::read_to_string(path).unwrap();
        for writers in [Some(4), Some(64), None] {
            trace(&lines, writers);
        }
    }
}
