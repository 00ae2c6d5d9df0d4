//! Fixed, seeded work, whose cost is counted instead of timed: `cargo bench --bench workloads -- WORKLOAD [N]`. One JSON line.
//!
//! `commit`, `fold`, `catchup` and `open` are for callgrind (`benches/instructions WORKLOAD [N]`): it counts the part inside
//! of [`counted_part`] and nothing else, so what prepares the work is left out. `copies` counts allocated bytes, `relay`
//! stored ones, `scope_root` microseconds, and `heap` and `restarts` what a replica keeps allocated.
//!
//! Everything goes through the public face, so that older and newer code do the same work; all that knows a relay's face
//! is in `relay`. The invariant: a workload does the same for the same arguments, whatever the machine, and fails if its
//! replicas do not come to the same state.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a benchmark: inputs made here"
)]

mod heap;
mod peer;
mod relay;
mod scope;
mod state;

use std::env;
use std::hint::black_box;

use allocation_counter::measure;
use consilience::crdts::Timestamp;
use consilience::{Opened, Replica, Stored};
use serde_json::{Value, json};

use peer::{Meeting, Node, Peer};
use state::{Dice, TOPICS, config, digests, write_state};

const KEYS: u64 = 10_000;
const MAPS: [&str; 3] = ["tasks", "owners", "notes"];

/// The milliseconds since the work began, as the wall clock has it.
fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + ms)
}

/// The part of a workload that is counted.
#[inline(never)]
fn counted_part<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// A key of 16 bytes.
fn key(number: u64) -> [u8; 16] {
    *format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).as_bytes().first_chunk().unwrap()
}

/// Commits of one key each, of 10,000 keys in four topics and twelve maps, with values of 100 bytes. Counted: the
/// transaction, and its record polled and confirmed.
fn commit(commits: u64) -> Value {
    let mut node = Node::open(1, Opened::Fresh);
    let mut dice = Dice::new(1);
    let mut records = 0;
    for ms in 0..commits {
        let number = dice.below(KEYS);
        let (key, value) = (key(number), dice.bytes::<100>());
        let (topic, map) = (TOPICS[number as usize % 4], MAPS[number as usize / 4 % 3]);
        records += counted_part(|| {
            let mut tx = node.replica.transact(node.writer, topic, at(ms)).unwrap();
            tx.map(map).set(key, value).unwrap();
            tx.commit().unwrap();
            node.store()
        });
    }
    json!({ "commits": commits, "keys": node.replica.stats(None).keys, "records": records })
}

/// A session between two replicas, of which one writes in a topic: one to 32 commits, and then the frames. Counted: at the
/// other replica each frame taken in, and the records and notices that come of it.
fn fold(commits: u64) -> Value {
    let (mut from, mut to) = (Node::open(1, Opened::Fresh), Node::open(2, Opened::Fresh));
    to.replica.subscribe("*").unwrap();
    let meeting = Meeting::begin(&mut from, &mut to, 0);
    meeting.run(&mut from, &mut to, 0);
    let mut dice = Dice::new(2);
    let (mut written, mut ms, mut notices) = (0, 0, 0);
    while written < commits {
        for _ in 0..dice.below(32) + 1 {
            ms += 1;
            written += 1;
            let number = dice.below(KEYS);
            let map = MAPS[number as usize % 3];
            let mut tx = from.replica.transact(from.writer, TOPICS[0], at(ms)).unwrap();
            tx.map(map).set(key(number), dice.bytes::<100>()).unwrap();
            tx.commit().unwrap();
            from.store();
        }
        ms += 20;
        let Meeting { here, there } = meeting;
        meeting.pass(&mut from, &mut to, ms, |from, to, frame, direction| match direction {
            peer::Direction::There => counted_part(|| {
                to.input(there, frame, ms);
                while let Some(notice) = to.replica.poll_notice() {
                    notices += 1;
                    black_box(notice);
                }
            }),
            peer::Direction::Here => from.input(here, frame, ms),
        });
    }
    assert_eq!(digests(&from.replica), digests(&to.replica), "the reader has everything");
    json!({ "commits": written, "keys": to.replica.stats(None).keys, "notices": notices })
}

/// A fresh replica meets one with 10,000 entries that are still needed, of a few more. Counted: the whole meeting, both sides.
fn catchup(entries: u64) -> Value {
    let (mut from, mut to) = (Node::open(1, Opened::Fresh), Node::open(2, Opened::Fresh));
    let ms = write_state(&mut from, entries, |_, _| ());
    let meeting = Meeting::begin(&mut from, &mut to, ms);
    counted_part(|| meeting.run(&mut from, &mut to, ms));
    assert_eq!(digests(&from.replica), digests(&to.replica), "the newcomer has everything");
    let retained: u64 = to.replica.logs().logs().map(|log| log.size() - log.start()).sum();
    json!({ "written": entries, "entries": retained, "logs": to.replica.stats(None).logs })
}

/// The same state is opened from a snapshot and the records of its last fifth. Counted: the opening, and one read of each
/// topic, so that nothing is only put off.
fn open(entries: u64) -> Value {
    let mut node = Node::open(1, Opened::Fresh);
    let (mut snapshot, mut records) = (None, Vec::new());
    write_state(&mut node, entries, |node, written| {
        if written == entries / 5 * 4 {
            let taken = node.replica.snapshot();
            node.replica.confirm_snapshot(taken.covers()).unwrap();
            snapshot = Some(taken.into_bytes());
            node.records.clear();
        }
    });
    records.append(&mut node.records);
    let opened = counted_part(|| {
        let stored = Stored { snapshot: snapshot.as_deref(), records: &records };
        let opened = Replica::open(config(3), Opened::Resumed(stored), at(entries)).unwrap();
        for topic in TOPICS {
            black_box(opened.topic(topic).unwrap().map("tasks").get(key(1)));
        }
        opened
    });
    assert_eq!(digests(&node.replica), digests(&opened), "everything is back");
    json!({ "written": entries, "snapshot": snapshot.map(|bytes| bytes.len()), "records": records.len() })
}

/// Events of 60,000 bytes and map values of 61,440 bytes go to a peer. Counted: the bytes that `poll_transmit` allocates,
/// for each byte of payload; the frame itself is one of them.
fn copies(payloads: u64) -> Value {
    let (mut from, mut to) = (Node::open(1, Opened::InMemory), Node::open(2, Opened::InMemory));
    let mut bytes = 0;
    for number in 0..payloads {
        let payload = vec![number as u8; if number % 2 == 0 { 60_000 } else { 61_440 }];
        bytes += payload.len() as u64;
        if number % 2 == 0 {
            from.replica.append_event(from.writer, TOPICS[0], &payload, at(number)).unwrap();
        } else {
            let mut tx = from.replica.transact(from.writer, TOPICS[0], at(number)).unwrap();
            tx.map("blobs").set(key(number), &payload).unwrap();
            tx.commit().unwrap();
        }
    }
    let meeting = Meeting::begin(&mut from, &mut to, payloads);
    let (mut allocated, mut frames) = (0, 0);
    loop {
        let mut quiet = true;
        loop {
            let (mut frame, mut sent) = (Vec::new(), false);
            let info = measure(|| sent = from.transmit(meeting.here, payloads, &mut frame));
            allocated += info.bytes_total;
            if !sent {
                break;
            }
            quiet = false;
            frames += 1;
            to.input(meeting.there, &frame, payloads);
        }
        let mut frame = Vec::new();
        while to.transmit(meeting.there, payloads, &mut frame) {
            from.input(meeting.here, &frame, payloads);
            frame.clear();
            quiet = false;
        }
        if quiet {
            break;
        }
    }
    assert_eq!(digests(&from.replica), digests(&to.replica), "the peer has everything");
    let ratio = (allocated as f64 / bytes as f64 * 1_000.0).round() / 1_000.0;
    json!({ "copies": ratio, "allocated": allocated, "payload": bytes, "frames": frames })
}

fn main() {
    // Cargo adds `--bench`.
    let words: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let number = |default| words.get(1).map_or(default, |word| word.parse().unwrap());
    let Some(name) = words.first() else {
        // `cargo bench` runs every bench: then a little of each.
        for (name, figures) in [
            ("commit", commit(200)),
            ("fold", fold(200)),
            ("catchup", catchup(200)),
            ("open", open(200)),
            ("copies", copies(8)),
            ("relay", relay::relay(200)),
            ("scope_root", scope::scope_root(200)),
            ("heap", heap::heap(None, 20)),
            ("restarts", heap::restarts(100)),
        ] {
            print(name, figures);
        }
        return;
    };
    let figures = match name.as_str() {
        "commit" => commit(number(30_000)),
        "fold" => fold(number(10_000)),
        "catchup" => catchup(number(10_600)),
        "open" => open(number(10_600)),
        "copies" => copies(number(120)),
        "relay" => relay::relay(number(100_000)),
        "scope_root" => scope::scope_root(number(60_000)),
        "heap" => heap::heap(words.get(1).map(String::as_str), 1),
        "restarts" => heap::restarts(number(1_000)),
        other => panic!("no such workload: {other}"),
    };
    print(name, figures);
}

fn print(name: &str, mut figures: Value) {
    figures["workload"] = json!(name);
    println!("{figures}");
}
