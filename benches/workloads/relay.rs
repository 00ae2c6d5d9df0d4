//! A relay that stores, and the bytes that it has stored after many overwrites. The only file here that knows a relay's face.

use consilience::Opened;
use consilience::sync::session::{SessionId, SessionOptions};
use consilience::sync::{Limits, MeshSecret, Relay};
use serde_json::{Value, json};

use crate::peer::{Meeting, Node, Peer};
use crate::state::{Dice, TOPICS, agent};
use crate::{at, key};

const KEYS: u64 = 64;
const EVERY: u64 = 16;
/// The least that an entry of one value takes beside its key and value: 3 bytes of header, and 13 of its transaction.
const ENTRY_HEAD: u64 = 16;

/// A relay, the bytes that its host has stored, and those that it has written for it.
struct Store {
    relay: Relay,
    written: u64,
    written_as_records: u64,
    records: u64,
    snapshot: u64,
}

impl Store {
    fn open() -> Self {
        let mesh = MeshSecret::from_bytes([1; 32]);
        let relay = Relay::open(mesh, Limits::default(), agent(2), [9; 32], Opened::Fresh, at(0)).unwrap();
        Self { relay, written: 0, written_as_records: 0, records: 0, snapshot: 0 }
    }

    fn store(&mut self) {
        while let Some(record) = self.relay.poll_record() {
            let bytes = record.as_bytes().len() as u64;
            self.records += bytes;
            self.written += bytes;
            self.written_as_records += bytes;
            self.relay.confirm(record.id()).unwrap();
        }
        if self.relay.wants_snapshot() {
            let snapshot = self.relay.snapshot();
            self.relay.confirm_snapshot(snapshot.covers()).unwrap();
            (self.records, self.snapshot) = (0, snapshot.as_bytes().len() as u64);
            self.written += self.snapshot;
        }
    }

    fn logs(&self) -> u64 {
        self.relay.logs().stats().logs as u64
    }
}

impl Peer for Store {
    fn connect(&mut self, options: SessionOptions, ms: u64) -> SessionId {
        self.relay.connect(options, at(ms))
    }

    fn disconnect(&mut self, session: SessionId) {
        self.relay.disconnect(session);
    }

    fn input(&mut self, session: SessionId, frame: &[u8], ms: u64) {
        self.relay.handle_input(session, frame, at(ms)).unwrap();
        self.store();
    }

    fn transmit(&mut self, session: SessionId, ms: u64, frame: &mut Vec<u8>) -> bool {
        let sent = self.relay.poll_transmit(session, at(ms), frame);
        self.store();
        sent
    }

    fn tick(&mut self, ms: u64) {
        if self.relay.poll_timeout().is_some_and(|due| due <= at(ms)) {
            self.relay.handle_timeout(at(ms));
            self.store();
        }
    }
}

/// One agent overwrites 64 keys, so many times in all, with values of 100 bytes, and meets the relay after every 16 writes.
/// Counted: the most that was stored after any of the last hundred meetings, so that no snapshot taken in time flatters.
pub fn relay(updates: u64) -> Value {
    let (mut node, mut store) = (Node::open(1, Opened::Fresh), Store::open());
    let (mut dice, mut stored) = (Dice::new(4), 0);
    for ms in 1..=updates {
        let mut tx = node.replica.transact(node.writer, TOPICS[0], at(ms)).unwrap();
        tx.map("tasks").set(key(dice.below(KEYS)), dice.bytes::<100>()).unwrap();
        tx.commit().unwrap();
        node.store();
        node.records.clear();
        if ms % EVERY == 0 || ms == updates {
            let meeting = Meeting::begin(&mut node, &mut store, ms);
            meeting.run(&mut node, &mut store, ms);
            node.disconnect(meeting.here);
            store.disconnect(meeting.there);
            // Each says goodbye, and nobody listens any more.
            let mut frame = Vec::new();
            while node.transmit(meeting.here, ms, &mut frame) {}
            while store.transmit(meeting.there, ms, &mut frame) {}
            if ms + 100 * EVERY > updates {
                stored = stored.max(store.records + store.snapshot);
            }
        }
    }
    let view = node.replica.topic(TOPICS[0]).unwrap();
    let live: u64 =
        view.map("tasks").iter().map(|live| (live.key.len() + live.value.len()) as u64 + ENTRY_HEAD).sum();
    let logs = store.logs();
    let reach = 3 * live + 1_024 * logs;
    json!({
        "updates": updates, "stored": stored, "live": live, "logs": logs, "writer": node.replica.stats(None).stored,
        "written_per_recorded": (store.written as f64 / store.written_as_records as f64 * 100.0).round() / 100.0,
        "stored_to_reach": (stored as f64 / reach as f64 * 1_000.0).round() / 1_000.0,
    })
}
