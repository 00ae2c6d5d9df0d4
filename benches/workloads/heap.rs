//! The heap of a replica beside the signed bytes that it retains: histories of several kinds are played to one that takes
//! them all in, and after each step, and at the highest point within it, the heap is compared with 12 times the signed
//! bytes that are retained and 16 KiB for the set of logs.
//!
//! Counted is what the replica's calls allocate and have not given back, in the sizes that were asked for. A step is an
//! import with the records that come of it. Retained of a log are the entries from its base on, its head with the opening,
//! and evidence. The invariant: nothing that is counted was allocated by a writer or by the history itself.

use std::collections::BTreeMap;

use allocation_counter::measure;
use consilience::crdts::{CouplingSchema, Units};
use consilience::sync::{Log, LogId};
use consilience::{Config, Opened, Replica, Stored};
use serde_json::{Value, json};

use crate::peer::Node;
use crate::state::{Dice, agent, config};
use crate::{at, key};

const TOPIC: &str = "team/planning";
/// Bytes of heap for each signed byte that is retained, and for the set of logs.
const PER_BYTE: f64 = 12.0;
const PER_SET: f64 = 16_384.0;

/// The replica whose heap is counted.
struct Hub {
    replica: Replica,
    heap: i64,
    signed: BTreeMap<LogId, u64>,
    worst: Worst,
    /// Steps since the retained bytes were last counted, and after how many they are.
    steps: u64,
    every: u64,
}

/// Where the heap was greatest beside its bound.
#[derive(Clone, Copy, Default)]
struct Worst {
    ratio: f64,
    heap: i64,
    signed: u64,
    logs: usize,
}

/// The signed bytes that are retained of each log.
fn retained(replica: &Replica) -> BTreeMap<LogId, u64> {
    let logs = replica.logs();
    let of = |log: &Log| {
        let entries = log.entries(log.base().max(log.start()), log.size());
        let entries: usize = entries.map(|entry| entry.encode().len()).sum();
        let head = log.head().map_or(0, |head| head.encode(log.opening(), logs.mesh()).len());
        let evidence = logs.evidence(log.id()).map_or(0, |evidence| evidence.as_bytes().len());
        (*log.id(), (entries + head + evidence) as u64)
    };
    logs.logs().map(of).collect()
}

impl Hub {
    fn open(every: u64) -> Self {
        let mut replica = None;
        let info = measure(|| replica = Some(Replica::open(config(1), Opened::Fresh, at(0)).unwrap()));
        let (heap, worst) = (info.bytes_current, Worst::default());
        Self { replica: replica.unwrap(), heap, signed: BTreeMap::new(), worst, steps: 0, every }
    }

    fn take(&mut self, bundle: &[u8], ms: u64) {
        let (before, replica) = (self.heap, &mut self.replica);
        let info = measure(|| {
            replica.import_bundle(bundle, at(ms)).unwrap();
            while let Some(record) = replica.poll_record() {
                replica.confirm(record.id()).unwrap();
            }
        });
        self.heap = before + info.bytes_current;
        self.steps += 1;
        if self.steps.is_multiple_of(self.every) {
            self.look(before + info.bytes_max as i64);
        }
    }

    /// Compares the heap with its bound, and its highest point meanwhile: then a log that came was retained beside one that
    /// went because of it.
    fn look(&mut self, highest: i64) {
        let mut meanwhile = core::mem::replace(&mut self.signed, retained(&self.replica));
        for (log, signed) in &self.signed {
            let most = meanwhile.entry(*log).or_default();
            *most = (*most).max(*signed);
        }
        self.compare(self.heap, self.signed.values().sum());
        self.compare(highest, meanwhile.values().sum());
    }

    fn compare(&mut self, heap: i64, signed: u64) {
        let ratio = heap as f64 / PER_BYTE.mul_add(signed as f64, PER_SET);
        if ratio > self.worst.ratio {
            self.worst = Worst { ratio, heap, signed, logs: self.replica.logs().stats().logs };
        }
    }

    /// What a writer has and the hub has not.
    fn hear(&mut self, from: &mut Node, ms: u64) {
        from.store();
        let since = self.replica.summary();
        let bundle = from.replica.export_bundle(|_| true, Some(&since), at(ms)).unwrap();
        self.take(&bundle, ms);
    }

    fn tell(&mut self, to: &mut Node, ms: u64) {
        let since = to.replica.summary();
        // Writes nothing of its own: there is nothing unsigned here.
        let bundle = self.replica.export_bundle(|_| true, Some(&since), at(ms)).unwrap();
        to.replica.import_bundle(&bundle, at(ms)).unwrap();
        to.store();
    }
}

fn writer(number: u64) -> Node {
    Node::open(number, Opened::Fresh)
}

/// One whose every commit gives up the entries of which nothing is live.
fn eager(number: u64) -> Node {
    let tidy: Config = config(number).with_compaction(1, 0);
    let mut replica = Replica::open(tidy, Opened::Fresh, at(0)).unwrap();
    let writer = replica.add_writer(agent(number)).unwrap();
    Node { replica, writer, records: Vec::new() }
}

fn random_keys(hub: &mut Hub, size: u64) {
    let mut dice = Dice::new(1);
    let mut nodes: Vec<Node> = (10..14).map(writer).collect();
    for ms in 1..=size {
        let node = &mut nodes[dice.below(4) as usize];
        let mut tx = node.replica.transact(node.writer, TOPIC, at(ms)).unwrap();
        tx.map("tasks").set(key(dice.below(10_000)), dice.bytes::<100>()).unwrap();
        tx.commit().unwrap();
        if ms % 8 == 0 {
            hub.hear(node, ms);
        }
    }
}

fn overwrites(hub: &mut Hub, size: u64) {
    let mut dice = Dice::new(2);
    let mut nodes: Vec<Node> = (10..12).map(writer).collect();
    for ms in 1..=size {
        let node = &mut nodes[dice.below(2) as usize];
        let mut tx = node.replica.transact(node.writer, TOPIC, at(ms)).unwrap();
        tx.map("tasks").set(key(dice.below(64)), dice.bytes::<40>()).unwrap();
        tx.commit().unwrap();
        if ms % 4 == 0 {
            hub.hear(node, ms);
        }
        if ms % 100 == 0 {
            hub.tell(node, ms);
        }
    }
}

/// Keys that are written and removed again, all but one; by their writer, and by another.
fn removals(hub: &mut Hub, size: u64) {
    let (mut node, mut other) = (writer(10), writer(11));
    let mut ms = 0;
    for chunk in 0..size / 20 {
        ms += 1;
        let mut tx = node.replica.transact(node.writer, TOPIC, at(ms)).unwrap();
        (0..20).for_each(|place| tx.map("tasks").set(key(20 * chunk + place), b"value".repeat(4)).unwrap());
        tx.commit().unwrap();
        hub.hear(&mut node, ms);
    }
    hub.tell(&mut other, ms);
    for chunk in 0..size / 20 {
        ms += 1;
        let node = if chunk % 2 == 0 { &mut node } else { &mut other };
        let mut tx = node.replica.transact(node.writer, TOPIC, at(ms)).unwrap();
        (0..20).filter(|place| 20 * chunk + place > 0).for_each(|place| {
            tx.map("tasks").remove(key(20 * chunk + place)).unwrap();
        });
        tx.commit().unwrap();
        hub.hear(node, ms);
    }
    hub.tell(&mut node, ms);
    for number in 0..200 {
        let mut tx = node.replica.transact(node.writer, TOPIC, at(ms + number)).unwrap();
        tx.map("tasks").set("last", number.to_le_bytes()).unwrap();
        tx.commit().unwrap();
        hub.hear(&mut node, ms + number);
    }
}

fn sets(hub: &mut Hub, size: u64) {
    let mut node = writer(10);
    for chunk in 0..size / 20 {
        let mut tx = node.replica.transact(node.writer, TOPIC, at(chunk)).unwrap();
        (0..20).for_each(|place| tx.set("members").insert(format!("m{:05}", 20 * chunk + place)).unwrap());
        tx.commit().unwrap();
        hub.hear(&mut node, chunk);
    }
    for chunk in (0..size / 20).filter(|chunk| chunk % 3 > 0) {
        let ms = size + chunk;
        let mut tx = node.replica.transact(node.writer, TOPIC, at(ms)).unwrap();
        (0..20).for_each(|place| tx.set("members").remove(format!("m{:05}", 20 * chunk + place)).unwrap());
        tx.commit().unwrap();
        hub.hear(&mut node, ms);
    }
}

/// Strengthened over a month, with a half-life of an hour.
fn couplings(hub: &mut Hub, size: u64) {
    let schema = CouplingSchema::with_half_life(3_600_000).unwrap();
    let mut dice = Dice::new(3);
    let mut nodes: Vec<Node> = (10..13).map(writer).collect();
    for number in 1..=size {
        let ms = number * (30 * 86_400_000 / size);
        let node = &mut nodes[dice.below(3) as usize];
        let mut tx = node.replica.transact(node.writer, TOPIC, at(ms)).unwrap();
        tx.coupling("trust", schema).strengthen(key(dice.below(300)), Units::new(8)).unwrap();
        tx.commit().unwrap();
        if number % 4 == 0 {
            hub.hear(node, ms);
        }
    }
}

fn events(hub: &mut Hub, size: u64) {
    let (mut node, mut dice) = (writer(10), Dice::new(4));
    for ms in 1..=size {
        let payload = dice.bytes::<60>();
        if ms % 500 == 0 {
            node.replica.append_event_pruning(node.writer, TOPIC, &payload, ms - 10, at(ms)).unwrap();
        } else {
            node.replica.append_event(node.writer, TOPIC, &payload, at(ms)).unwrap();
        }
        if ms % 4 == 0 {
            hub.hear(&mut node, ms);
        }
    }
}

/// An agent that starts without storage again and again.
fn closing_logs(hub: &mut Hub, size: u64) {
    for start in 0..size {
        let mut replica = Replica::open(config(100 + start), Opened::InMemory, at(start * 1_000)).unwrap();
        let writer = replica.add_writer(agent(10)).unwrap();
        let mut node = Node { replica, writer, records: Vec::new() };
        hub.tell(&mut node, start * 1_000);
        for number in 0..20 {
            let mut tx = node.replica.transact(node.writer, TOPIC, at(start * 1_000 + number)).unwrap();
            tx.map("tasks").set(key(number), start.to_le_bytes()).unwrap();
            tx.commit().unwrap();
        }
        hub.hear(&mut node, start * 1_000 + 20);
    }
}

/// Agents of which two processes write in one log.
fn forks(hub: &mut Hub, size: u64) {
    for number in 0..size {
        let mut first = writer(10 + number);
        for ms in 0..10 {
            let mut tx = first.replica.transact(first.writer, TOPIC, at(ms)).unwrap();
            tx.map("tasks").set(key(10 * number + ms), "first").unwrap();
            tx.commit().unwrap();
        }
        first.store();
        let stored = Stored { snapshot: None, records: &first.records };
        let mut replica = Replica::open(config(10 + number), Opened::Resumed(stored), at(20)).unwrap();
        let writer = replica.add_writer(agent(10 + number)).unwrap();
        let mut second = Node { replica, writer, records: Vec::new() };
        for (node, value) in [(&mut first, "first"), (&mut second, "second")] {
            let mut tx = node.replica.transact(node.writer, TOPIC, at(30)).unwrap();
            tx.map("tasks").set(key(10 * number), value).unwrap();
            tx.commit().unwrap();
            // Whole: a bundle that begins where the hub's copy ends would not show the fork.
            node.store();
            let bundle = node.replica.export_bundle(|_| true, None, at(31)).unwrap();
            hub.take(&bundle, 31);
        }
    }
}

/// Each entry writes a key in a collection of its own, and gives up the one before.
fn bases(hub: &mut Hub, size: u64) {
    let mut node = eager(10);
    for ms in 1..=size {
        let mut tx = node.replica.transact(node.writer, TOPIC, at(ms)).unwrap();
        tx.map(&format!("m{}", ms - 1)).remove("k").unwrap();
        tx.map(&format!("m{ms}")).set("k", "v").unwrap();
        tx.commit().unwrap();
        hub.hear(&mut node, ms);
    }
}

/// Collections of one key each, a hundred in an entry.
fn collections(hub: &mut Hub, size: u64) {
    let mut node = writer(10);
    for chunk in 0..size / 100 {
        let mut tx = node.replica.transact(node.writer, TOPIC, at(chunk)).unwrap();
        for place in 0..100 {
            tx.map(&format!("collection/{}", 100 * chunk + place)).set("key", dice_value(place)).unwrap();
        }
        tx.commit().unwrap();
        hub.hear(&mut node, chunk);
    }
}

fn dice_value(place: u64) -> [u8; 16] {
    let mut dice = Dice::new(place);
    dice.bytes()
}

/// Topics with one element of a set each.
fn topics(hub: &mut Hub, size: u64) {
    let mut node = writer(10);
    for number in 0..size {
        let mut tx = node.replica.transact(node.writer, &format!("topic/{number}"), at(number)).unwrap();
        tx.set("members").insert("ada").unwrap();
        tx.commit().unwrap();
        if number % 10 == 9 {
            hub.hear(&mut node, number);
        }
    }
}

/// Agents that write one key, remove it, and leave.
fn agents(hub: &mut Hub, size: u64) {
    for number in 0..size {
        let mut node = writer(10 + number);
        for value in [Some("here"), None] {
            let mut tx = node.replica.transact(node.writer, TOPIC, at(number)).unwrap();
            match value {
                Some(value) => tx.map("present").set(key(number), value).unwrap(),
                None => tx.map("present").remove(key(number)).unwrap(),
            }
            tx.commit().unwrap();
            hub.hear(&mut node, number);
        }
    }
}

/// A history of so many steps, more or less.
type History = fn(&mut Hub, u64);

const HISTORIES: [(&str, History, u64, u64); 12] = [
    ("random_keys", random_keys, 6_000, 4),
    ("overwrites", overwrites, 6_000, 1),
    ("removals", removals, 4_000, 1),
    ("sets", sets, 6_000, 1),
    ("couplings", couplings, 3_000, 1),
    ("events", events, 4_000, 4),
    ("closing_logs", closing_logs, 40, 1),
    ("forks", forks, 40, 1),
    ("bases", bases, 3_000, 1),
    ("collections", collections, 10_000, 1),
    ("topics", topics, 1_000, 1),
    ("agents", agents, 1_000, 8),
];

/// The histories that are named, or all, to a part of their size. Counted: the heap of the replica that takes them in.
pub fn heap(only: Option<&str>, part: u64) -> Value {
    let mut figures = json!({});
    let mut worst: f64 = 0.0;
    for (name, history, size, every) in HISTORIES {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let mut hub = Hub::open(every);
        history(&mut hub, (size / part).max(100));
        hub.look(hub.heap);
        let Worst { ratio, heap, signed, logs } = hub.worst;
        worst = worst.max(ratio);
        figures[name] = json!({
            "worst": round(ratio), "heap": heap, "signed": signed, "logs": logs,
            "end_heap": hub.heap, "end_signed": hub.signed.values().sum::<u64>(),
        });
    }
    figures["ratio"] = json!(round(worst));
    figures
}

/// An agent that starts without storage again and again, in 16 topics. Counted: logs, stored bytes and heap of the peer that
/// it meets, after all starts beside those after a tenth of them.
pub fn restarts(starts: u64) -> Value {
    let mut hub = Hub::open(u64::MAX);
    let mut early = [0; 3];
    let mut kept = [0; 3];
    for start in 0..starts {
        let ms = start * 1_000;
        let mut replica = Replica::open(config(100 + start), Opened::InMemory, at(ms)).unwrap();
        let writer = replica.add_writer(agent(10)).unwrap();
        let mut node = Node { replica, writer, records: Vec::new() };
        hub.tell(&mut node, ms);
        for topic in 0..16 {
            let mut tx = node.replica.transact(writer, &format!("topic/{topic}"), at(ms + topic)).unwrap();
            tx.map("state").set("start", start.to_le_bytes()).unwrap();
            tx.commit().unwrap();
        }
        hub.hear(&mut node, ms + 100);
        let stats = hub.replica.stats(None);
        kept = [stats.logs as u64, stats.stored, u64::try_from(hub.heap).unwrap()];
        if start + 1 == starts / 10 {
            early = kept;
        }
    }
    let flat = kept.iter().zip(early).map(|(kept, early)| *kept as f64 / early as f64).fold(0.0, f64::max);
    let [logs, stored, heap] = kept;
    json!({ "flat": round(flat), "starts": starts, "logs": logs, "stored": stored, "heap": heap })
}

fn round(ratio: f64) -> f64 {
    (ratio * 1_000.0).round() / 1_000.0
}
