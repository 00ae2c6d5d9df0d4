//! What a relay has stored follows what is live, for a host that makes a snapshot when the relay asks for it.

use consilience::sync::{Keypair, Limits, MeshSecret, Relay};
use consilience::{Config, Opened, Replica};
use consilience_test_support::meetings::meet;
use consilience_test_support::replicas::{Dice, Node, TOPIC, at};

/// The least that an entry of one value takes beside its key and value: 3 bytes of header, and 13 of its transaction.
const ENTRY_HEAD: u64 = 16;
/// What a relay may store beside three times what is live.
const PER_LOG: u64 = 1_024;

/// One agent, a relay that it meets, and the bytes that the relay's host has stored.
struct Pair {
    node: Node,
    relay: Relay,
    records: u64,
    snapshot: u64,
}

impl Pair {
    fn new() -> Self {
        let (mesh, keys) = (MeshSecret::from_bytes([9; 32]), |number| Keypair::from_seed([number; 32]));
        let mut replica = Replica::open(Config::new(mesh, [1; 32]), Opened::Fresh, at(0)).unwrap();
        let writer = replica.add_writer(keys(1)).unwrap();
        let relay = Relay::open(mesh, Limits::default(), keys(2), [2; 32], Opened::Fresh, at(0)).unwrap();
        let node = Node { replica, writer, agent: 0, snapshot: None, records: Vec::new() };
        Self { node, relay, records: 0, snapshot: 0 }
    }

    fn meet(&mut self, ms: u64) {
        let Self { node, relay, records, snapshot } = self;
        let met = meet(node, relay, ms, usize::MAX, |relay| {
            while let Some(record) = relay.poll_record() {
                *records += record.as_bytes().len() as u64;
                relay.confirm(record.id()).unwrap();
            }
            if relay.wants_snapshot() {
                let made = relay.snapshot();
                relay.confirm_snapshot(made.covers()).unwrap();
                (*records, *snapshot) = (0, made.as_bytes().len() as u64);
            }
        });
        assert!(met.in_sync(), "at {ms}");
        // Nobody opens the agent again.
        node.records.clear();
    }

    const fn stored(&self) -> u64 {
        self.records + self.snapshot
    }

    /// What may be stored: values and events that are live, three times, and something for each log.
    fn most(&self) -> u64 {
        let there = self.node.replica.topic(TOPIC).unwrap();
        let values = there.map("tasks");
        let values = values.iter().map(|live| live.key.len() + live.value.len());
        let events = there.events();
        let events = events.iter().map(|event| event.payload.map_or(0, <[u8]>::len));
        let live: u64 = values.chain(events).map(|bytes| bytes as u64 + ENTRY_HEAD).sum();
        3 * live + PER_LOG * self.relay.logs().stats().logs as u64
    }
}

#[test]
fn what_a_relay_has_stored_follows_what_is_live_however_often_it_is_overwritten() {
    let (mut pair, mut dice) = (Pair::new(), Dice::new(4));
    for number in 1..=10_000_u64 {
        let key = format!("task/{:02}", dice.roll(64));
        let value: Vec<u8> = (0..13).flat_map(|_| dice.roll(u64::MAX).to_le_bytes()).collect();
        pair.node.write(at(number), |tx| tx.map("tasks").set(&key, &value).unwrap());
        pair.node.store();
        if number % 16 == 0 {
            pair.meet(number);
            let meetings = number / 16;
            let (stored, most) = (pair.stored(), pair.most());
            assert!(
                meetings <= 100 || stored <= most,
                "{stored} stored after {number} writes, {most} at most"
            );
        }
    }
}

#[test]
fn what_a_relay_has_stored_shrinks_with_the_events_that_are_pruned() {
    let mut pair = Pair::new();
    for (round, events) in [(1, 400), (2, 40), (3, 4_000), (4, 400)] {
        let from = round * 1_000_000;
        for number in 0..events {
            let payload = format!("{number:06} {}", "x".repeat(100));
            pair.node.event(&payload, from + number);
            if number % 16 == 15 {
                pair.meet(from + number);
            }
        }
        let held = pair.stored();
        assert!(held >= events * 100, "round {round}: {held} stored of {events} events");
        // All but the last ten go.
        let ms = from + events;
        let last = pair.node.event("last", ms);
        let Node { replica, writer, .. } = &mut pair.node;
        replica.append_event_pruning(*writer, TOPIC, b"prunes", last.seq - 10, at(ms)).unwrap();
        pair.meet(ms + 1);
        let (stored, most) = (pair.stored(), pair.most());
        assert!(stored <= most, "round {round}: {stored} stored after {events} events went, {most} at most");
    }
}
