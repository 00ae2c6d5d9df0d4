//! Memory follows the entries that are retained: each test plays a history to a replica and counts the bytes that its calls
//! allocate and have not given back.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a panic is how a test fails")]

use allocation_counter::measure;
use consilience::crdts::{CouplingSchema, Hlc, Timestamp, Units};
use consilience::sync::{
    Closure, Incarnation, Keypair, Log, LogKind, LogOpening, NewEntry, RangeForm, Signer, Topic,
};
use consilience::{Config, Opened, Replica, Transaction, Writer};
use consilience_test_support::hand::{bundle, map_id, op_carry, payload};
use consilience_test_support::replicas::{mesh, secret};

const TOPIC: &str = "team";
/// The bytes that a replica may keep beside those of what is live: spare room of tables, and of the journal.
const SPARE: i64 = 16 << 10;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + ms)
}

fn config(number: u64) -> Config {
    let mut entropy = [7; 32];
    entropy[..8].copy_from_slice(&number.to_le_bytes());
    Config::new(secret(), entropy)
}

fn keys(number: u64) -> Keypair {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    Keypair::from_seed(seed)
}

/// A replica with a writer, in memory.
struct Agent {
    replica: Replica,
    writer: Writer,
}

impl Agent {
    fn new(number: u64) -> Self {
        Self::start(config(number), number, 0)
    }

    /// One whose every commit gives up the entries of which nothing is live.
    fn eager(number: u64) -> Self {
        Self::start(config(number).with_compaction(1, 0), number, 0)
    }

    fn start(config: Config, number: u64, ms: u64) -> Self {
        let mut replica = Replica::open(config, Opened::InMemory, at(ms)).unwrap();
        let writer = replica.add_writer(keys(number)).unwrap();
        Self { replica, writer }
    }

    fn write(&mut self, topic: &str, ms: u64, work: impl FnOnce(&mut Transaction<'_>)) {
        let mut tx = self.replica.transact(self.writer, topic, at(ms)).unwrap();
        work(&mut tx);
        tx.commit().unwrap();
    }

    /// What this one has and the other has not.
    fn news_for(&mut self, other: &Replica, ms: u64) -> Vec<u8> {
        self.replica.export_bundle(|_| true, Some(&other.summary()), at(ms)).unwrap()
    }
}

/// A replica whose heap is counted.
struct Counted {
    replica: Replica,
    heap: i64,
}

impl Counted {
    fn new() -> Self {
        let replica = Replica::open(config(0), Opened::InMemory, at(0)).unwrap();
        Self { replica, heap: 0 }
    }

    fn hear(&mut self, from: &mut Agent, ms: u64) {
        let bundle = from.news_for(&self.replica, ms);
        let replica = &mut self.replica;
        let info = measure(|| {
            let imported = replica.import_bundle(&bundle, at(ms)).unwrap();
            assert_eq!(imported.refused, 0);
        });
        self.heap += info.bytes_current;
    }

    /// Nothing of what is kept is kept for nothing: the same entries fold to the same state.
    fn check(&self) {
        assert!(self.replica.verify());
    }
}

#[test]
fn entries_that_each_give_up_the_one_before_leave_nothing() {
    let (mut ada, mut bob) = (Agent::eager(1), Counted::new());
    let mut early = 0;
    for ms in 1..=3_000_u64 {
        ada.write(TOPIC, ms, |tx| {
            tx.map(&format!("collection {}", ms - 1)).remove("k").unwrap();
            tx.map(&format!("collection {ms}")).set("k", "v").unwrap();
        });
        bob.hear(&mut ada, ms);
        if ms == 100 {
            early = bob.heap;
        }
    }
    bob.check();
    let view = bob.replica.topic(TOPIC).unwrap();
    assert_eq!(view.collections().count(), 1, "the others are gone");
    assert!(bob.heap < early + SPARE, "{} after 3,000 entries, {early} after 100", bob.heap);
}

#[test]
fn a_collection_that_was_used_and_emptied_costs_nothing() {
    let schema = CouplingSchema::with_half_life(1_000).unwrap();
    let (mut ada, mut bob) = (Agent::eager(1), Counted::new());
    let mut own = 0;
    for round in 0..600_u64 {
        let ms = round * 600_000;
        let writes = |ada: &mut Agent| {
            ada.write(TOPIC, ms, |tx| {
                (0..8).for_each(|key| tx.map(&format!("map {round}")).set(format!("k{key}"), "v").unwrap());
                (0..8).for_each(|key| tx.set(&format!("set {round}")).insert(format!("k{key}")).unwrap());
                tx.coupling(&format!("coupling {round}"), schema).strengthen("k", Units::new(4)).unwrap();
            });
            ada.write(TOPIC, ms + 1, |tx| {
                (0..8).for_each(|key| tx.map(&format!("map {round}")).remove(format!("k{key}")).unwrap());
                (0..8).for_each(|key| tx.set(&format!("set {round}")).remove(format!("k{key}")).unwrap());
            });
        };
        let info = measure(|| writes(&mut ada));
        bob.hear(&mut ada, ms + 2);
        if round >= 100 {
            own += info.bytes_current;
        } else {
            bob.heap = 0;
        }
    }
    bob.check();
    assert!(ada.replica.verify());
    // 1,500 collections came and went, of which the last few entries still say something.
    assert!(own < SPARE && bob.heap < SPARE, "{own} bytes at their writer, {} at a peer", bob.heap);
}

#[test]
fn memory_shrinks_with_the_keys_that_go() {
    let (mut ada, mut bob) = (Agent::eager(1), Counted::new());
    let before = {
        ada.write(TOPIC, 0, |tx| tx.map("tasks").set("first", "v").unwrap());
        bob.hear(&mut ada, 0);
        bob.heap
    };
    for chunk in 0..200_u64 {
        let ms = 1 + chunk;
        ada.write(TOPIC, ms, |tx| {
            (0..100).for_each(|key| tx.map("tasks").set(format!("key {}", 100 * chunk + key), "v").unwrap());
        });
        bob.hear(&mut ada, ms);
    }
    let full = bob.heap;
    for chunk in 0..200_u64 {
        let ms = 1_000 + chunk;
        ada.write(TOPIC, ms, |tx| {
            (0..100).for_each(|key| tx.map("tasks").remove(format!("key {}", 100 * chunk + key)).unwrap());
        });
        bob.hear(&mut ada, ms);
    }
    bob.check();
    assert_eq!(bob.replica.stats(None).keys, 1);
    assert!(full > before + 1_000_000, "20,000 keys took {full}");
    let held: usize = bob.replica.logs().logs().map(Log::memory).sum();
    println!("{} of {full} bytes stay for one key, {held} of them in logs; {before} before", bob.heap);
    assert!(bob.heap < before + 2 * SPARE, "{} of {full} bytes stay for one key", bob.heap);
}

#[test]
fn keys_that_come_and_go_before_a_host_polls_leave_no_notices() {
    let (mut ada, mut bob) = (Agent::eager(1), Counted::new());
    bob.replica.subscribe("*").unwrap();
    ada.write(TOPIC, 0, |tx| tx.map("tasks").set("stays", "v").unwrap());
    bob.hear(&mut ada, 0);
    let before = bob.heap;
    for ms in 1..=5_000_u64 {
        ada.write(TOPIC, ms, |tx| {
            tx.map("tasks").remove(format!("key {}", ms - 1)).unwrap();
            tx.map("tasks").set(format!("key {ms}"), "v").unwrap();
        });
        bob.hear(&mut ada, ms);
    }
    bob.check();
    assert!(bob.heap < before + SPARE, "{} bytes after 5,000 keys, {before} before", bob.heap);
    let told = core::iter::from_fn(|| bob.replica.poll_notice()).count();
    assert_eq!(told, 2, "the key that stays, and the last one");
}

#[test]
fn an_agent_that_wrote_one_key_and_removed_it_leaves_one_entry() {
    let (mut ada, mut bob) = (Agent::new(1), Counted::new());
    for (ms, value) in [(1, Some("here")), (2, None), (3, Some("again")), (4, None)] {
        ada.write(TOPIC, ms, |tx| match value {
            Some(value) => tx.map("present").set("ada", value).unwrap(),
            None => tx.map("present").remove("ada").unwrap(),
        });
        bob.hear(&mut ada, ms);
    }
    let log = bob.replica.logs().logs().next().unwrap();
    assert_eq!((log.base(), log.size()), (3, 4), "the others are needed by nobody");
    assert_eq!(bob.replica.topic(TOPIC).unwrap().collections().count(), 0);
    bob.check();
    // Whoever comes later needs nothing else.
    let mut eve = Counted::new();
    let mut bob = Agent { writer: ada.writer, replica: bob.replica };
    eve.hear(&mut bob, 5);
    assert_eq!(eve.replica.stats(None).keys, 0);
    eve.check();
}

#[test]
fn of_a_thousand_agents_that_came_and_left_little_stays_at_a_peer() {
    let mut bob = Counted::new();
    for number in 1..=1_000_u64 {
        let mut ada = Agent::new(number);
        for value in [Some("here"), None] {
            ada.write(TOPIC, number, |tx| match value {
                Some(value) => tx.map("present").set(format!("agent {number}"), value).unwrap(),
                None => tx.map("present").remove(format!("agent {number}")).unwrap(),
            });
            bob.hear(&mut ada, number);
        }
    }
    bob.check();
    let each = bob.heap / 1_000;
    println!("{each} bytes for each agent");
    assert!(each <= 3_000, "{each} bytes for each agent");
}

#[test]
fn what_an_agent_costs_does_not_depend_on_how_often_it_started() {
    let topics: Vec<String> = (0..16).map(|number| format!("topic {number}")).collect();
    let mut bob = Counted::new();
    let (mut early, mut stored) = (0, 0);
    for start in 0..200_u64 {
        let ms = start * 1_000;
        let mut ada = Agent::start(config(1_000 + start), 1, ms);
        let bundle = bob.replica.export_bundle(|_| true, Some(&ada.replica.summary()), at(ms)).unwrap();
        ada.replica.import_bundle(&bundle, at(ms)).unwrap();
        for (place, topic) in topics.iter().enumerate() {
            ada.write(topic, ms + place as u64, |tx| {
                tx.map("state").set("start", start.to_le_bytes()).unwrap();
            });
        }
        bob.hear(&mut ada, ms + 100);
        assert_eq!(bob.replica.logs().stats().logs, 16, "the latest of each topic");
        if start == 60 {
            (early, stored) = (bob.heap, bob.replica.stats(None).stored);
        }
    }
    bob.check();
    let last = bob.replica.stats(None).stored;
    println!("{stored} bytes stored after 60 starts, {last} after 200; heap {early} and {}", bob.heap);
    assert!(last <= stored + 1_024, "{last} bytes stored after 200 starts, {stored} after 60");
    assert!(bob.heap <= early + SPARE, "{} of heap after 200 starts, {early} after 60", bob.heap);
}

/// Names of dots are given up as soon as nobody lists what they end.
#[test]
fn what_others_removed_of_a_writer_goes_with_its_entries() {
    let (mut ada, mut eve, mut bob) = (Agent::eager(1), Agent::eager(2), Counted::new());
    let mut early = 0;
    for round in 0..300_u64 {
        let ms = round * 10;
        ada.write(TOPIC, ms, |tx| tx.map("tasks").set(format!("t{round}"), "ada's").unwrap());
        let bundle = ada.news_for(&eve.replica, ms);
        eve.replica.import_bundle(&bundle, at(ms)).unwrap();
        eve.write(TOPIC, ms + 1, |tx| tx.map("tasks").remove(format!("t{round}")).unwrap());
        let bundle = eve.news_for(&ada.replica, ms);
        ada.replica.import_bundle(&bundle, at(ms + 2)).unwrap();
        bob.hear(&mut ada, ms + 3);
        bob.hear(&mut eve, ms + 3);
        if round == 100 {
            early = bob.heap;
        }
    }
    bob.check();
    assert!(bob.heap < early + SPARE, "{} after 300 rounds, {early} after 100", bob.heap);
}

/// A log in the hands of a writer that says in it what it likes: the layer above would repeat closures that a base gives up.
struct Liar {
    log: Log,
    ms: u64,
}

impl Liar {
    fn new(incarnation: u64) -> Self {
        let opening = LogOpening {
            topic: Topic::new(TOPIC).unwrap(),
            kind: LogKind::State,
            agent: keys(1).agent(),
            incarnation: Incarnation::from_u64(incarnation),
        };
        Self { log: Log::new(opening, &mesh()).unwrap(), ms: incarnation }
    }

    fn append(&mut self, base: u64, closures: &[Closure], payload: &[u8]) {
        self.ms += 1;
        let hlc = Hlc::new(at(self.ms), 0);
        let entry = NewEntry { base, closures, ..NewEntry::new(hlc, payload) };
        self.log.append(&entry).unwrap();
    }

    /// The entries from a number on, as a bundle.
    fn bundle(&mut self, from: u64) -> Vec<u8> {
        let _ = self.log.sign_head(&keys(1), at(self.ms));
        let mesh = mesh();
        let form = if from == 0 { RangeForm::Follow } else { RangeForm::Alone };
        let (range, _) = self.log.range(from, self.log.size(), form, usize::MAX).unwrap();
        let opening = self.log.opening().encode(&mesh);
        bundle(&mesh, &[(1, opening), (3, [&self.log.id().alias()[..], &range].concat())])
    }
}

/// A payload that lists so many dots of the earlier incarnation again, from a number on.
fn listings(incarnation: u64, from: u64, count: u64) -> Vec<u8> {
    let op = |dot: u64| op_carry(incarnation, dot, 0, [1; 4], Hlc::new(at(0), 0), &format!("k{dot}"), "");
    payload(&[], &[(map_id("tasks"), (from..from + count).map(op).collect())])
}

#[test]
fn an_agent_that_closes_and_opens_its_logs_in_turn_is_held_off() {
    let dots = 40_000;
    let mut bob = Counted::new();
    // The first log is nowhere. The second lists its dots and closes it, and the third closes it in turn and does not.
    let closure = [Closure { incarnation: Incarnation::from_u64(1), below: dots }];
    let mut lists = Liar::new(2);
    for chunk in 0..dots / 1_000 {
        let closures = if chunk == 0 { &closure[..] } else { &[] };
        lists.append(0, closures, &listings(1, 1_000 * chunk, 1_000));
    }
    let listed = lists.bundle(0);
    bob.replica.import_bundle(&listed, at(1_000)).unwrap();
    assert_eq!(bob.replica.stats(None).keys, dots as usize);
    let mut turns = Liar::new(3);
    let (mut work, mut bytes, mut refused) = (0, listed.len() as u64, 0);
    for turn in 0..400_u64 {
        turns.append(turn, if turn % 2 == 0 { &closure } else { &[] }, &[1, 0]);
        let bundle = turns.bundle(turn);
        bytes += bundle.len() as u64;
        let replica = &mut bob.replica;
        // A dot that ends or comes back is copied, so allocations count such dots.
        let info = measure(|| refused += replica.import_bundle(&bundle, at(1_000)).unwrap().refused);
        work += info.count_total;
    }
    bob.check();
    println!("{work} allocations for {bytes} bytes in 400 turns, {refused} refused");
    assert!(refused > 300, "{refused} of 400 turns were refused");
    assert!(work < 20 * (bytes + 65_536), "{work} allocations for {bytes} bytes");
    // Another agent is not affected.
    let mut eve = Agent::new(5);
    eve.write(TOPIC, 2_000, |tx| tx.map("tasks").set("eve", "here").unwrap());
    bob.hear(&mut eve, 2_001);
    assert!(bob.replica.topic(TOPIC).unwrap().map("tasks").get("eve").is_some());
}
