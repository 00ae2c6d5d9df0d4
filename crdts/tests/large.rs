//! Collections of thousands of keys, where joins take their other paths: walks along the whole state, forms of many
//! blocks, batches of look-ups, keys with many concurrent dots, an order that is merged now and then.
//!
//! The model is the textbook join of dot stores: a dot lives if both have it, or one has it that the other has not
//! seen.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a panic is how a test fails, and numbers are small"
)]

extern crate alloc;

use alloc::collections::{BTreeMap, BTreeSet};

use consilience_crdts::{ActorId, Cursor, Dot, DotStore, Hlc, LwwMap, OrSet, Timestamp};
use consilience_test_support::collections::{Bytes, Subject, difference};

/// A small generator, so that a failure is a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[derive(Clone, Default)]
struct Model {
    seen: BTreeSet<Dot>,
    live: BTreeMap<Dot, (Bytes, Bytes, Hlc)>,
}

impl Model {
    fn join(&mut self, other: &Self) {
        let seen = self.seen.clone();
        self.live.retain(|dot, _| other.live.contains_key(dot) || !other.seen.contains(dot));
        for (dot, write) in other.live.iter().filter(|(dot, _)| !seen.contains(dot)) {
            self.live.insert(*dot, write.clone());
        }
        self.seen.extend(&other.seen);
    }

    fn reads(&self) -> Vec<(Bytes, Bytes)> {
        let mut best: BTreeMap<&Bytes, (Hlc, Dot, &Bytes)> = BTreeMap::new();
        for (dot, (key, value, stamp)) in &self.live {
            let write = (*stamp, *dot, value);
            best.entry(key).and_modify(|held| *held = (*held).max(write)).or_insert(write);
        }
        best.into_iter().map(|(key, (_, _, value))| (key.clone(), value.clone())).collect()
    }
}

#[derive(Clone)]
struct Replica<S> {
    subject: S,
    model: Model,
    actor: ActorId,
    minted: u64,
}

fn key(i: u64) -> Bytes {
    match i % 50 {
        0 => format!("long/{}/{i}", "x".repeat(70)).into_bytes(),
        1 => format!("k{i}").into_bytes(),
        _ => format!("agent/{:05}/task/{:04}", i / 100, i % 100).into_bytes(),
    }
}

impl<S: Subject> Replica<S> {
    fn new(actor: u64) -> Self {
        Self { subject: S::new(actor), model: Model::default(), actor: ActorId::from(actor), minted: 0 }
    }

    /// One write or removal; returns its delta.
    fn change(&mut self, random: &mut Random, keys: u64) -> Bytes {
        let key = key(random.below(keys));
        let observed = self.subject.dots(&key);
        for dot in &observed {
            self.model.live.remove(dot);
        }
        if random.below(4) == 0 {
            return self.subject.remove(&key);
        }
        self.minted += 1;
        let dot = Dot { actor: self.actor, counter: self.minted };
        let value = if S::HAS_VALUES { vec![7; random.below(60) as usize] } else { Vec::new() };
        let millis = 1_700_000_000_000 + random.below(1_000_000);
        let logical = if random.below(3) == 0 { random.below(0xffff) as u16 } else { 0 };
        let stamp = if S::HAS_VALUES { Hlc::new(Timestamp::from_millis(millis), logical) } else { Hlc::ZERO };
        self.model.seen.insert(dot);
        self.model.live.insert(dot, (key.clone(), value.clone(), stamp));
        self.subject.add(self.actor, &key, &value, stamp)
    }

    fn check(&self, what: &str) {
        assert_eq!(self.subject.entries(), self.model.reads(), "{what}");
        assert_eq!(self.subject.live_dots(), self.model.live.len(), "{what}");
    }
}

fn large_histories_equal_the_model<S: Subject>(seed: u64) {
    let random = &mut Random(seed);
    let keys = 200 + random.below(3_000);
    let mut replicas: Vec<Replica<S>> = (1..=6).map(Replica::new).collect();
    for round in 0..4 {
        for replica in &mut replicas {
            for _ in 0..random.below(keys) {
                replica.change(random, keys);
            }
            if random.below(2) == 0 {
                replica.check("after local changes");
            }
        }
        for _ in 0..8 {
            let (from, to) = (random.below(6) as usize, random.below(6) as usize);
            if from == to {
                continue;
            }
            let sender = replicas[from].clone();
            let receiver = &mut replicas[to];
            if random.below(3) == 0 {
                // A few more changes that arrive one by one, twice, in reverse.
                let mut sender = sender;
                receiver.subject.merge(&sender.subject.encode()).unwrap();
                let deltas: Vec<Bytes> =
                    (0..random.below(300)).map(|_| sender.change(random, keys)).collect();
                for delta in deltas.iter().rev().chain(&deltas) {
                    receiver.subject.merge(delta).unwrap();
                }
                receiver.model.join(&sender.model);
                replicas[from] = sender;
            } else {
                let whole = sender.subject.delta_since(Cursor::default());
                let before: BTreeMap<Bytes, Bytes> = receiver.model.reads().into_iter().collect();
                receiver.model.join(&sender.model);
                let after: BTreeMap<Bytes, Bytes> = receiver.model.reads().into_iter().collect();
                let (_, changes) = receiver.subject.merge_watched(&whole);
                assert_eq!(changes.len(), changes.iter().collect::<BTreeSet<_>>().len());
                assert_eq!(changes.into_iter().collect::<BTreeSet<_>>(), difference(&before, &after));
            }
            replicas[to].check(&format!("seed {seed} round {round}"));
        }
        let reopened = random.below(6) as usize;
        let bytes = replicas[reopened].subject.encode();
        replicas[reopened].subject = S::decode(&bytes).unwrap();
        assert_eq!(replicas[reopened].subject.encode(), bytes);
    }
    // By walks in one order and by look-ups in another, all come to the same bytes.
    let mut walked = replicas[0].clone();
    for other in &replicas[1..] {
        walked.subject.merge_state(&other.subject);
        walked.model.join(&other.model);
    }
    walked.check("walked");
    let mut looked_up = S::new(99);
    for other in replicas.iter().rev() {
        looked_up = S::decode(&S::join(&looked_up.encode(), &other.subject.encode())).unwrap();
    }
    assert_eq!(looked_up.encode(), walked.subject.encode());
}

#[test]
fn large_maps_equal_the_model_on_every_path() {
    (0..12).for_each(large_histories_equal_the_model::<LwwMap>);
}

#[test]
fn large_sets_equal_the_model_on_every_path() {
    (100..112).for_each(large_histories_equal_the_model::<OrSet>);
}

/// Exact catch-ups, whatever was trimmed from the journal meanwhile.
fn cursors_catch_up<S: Subject>(seed: u64) {
    let random = &mut Random(seed);
    let keys = 100 + random.below(2_000);
    let (mut writer, mut follower) = (Replica::<S>::new(1), Replica::<S>::new(2));
    for _ in 0..12 {
        let cursor = writer.subject.cursor();
        follower.subject.merge(&writer.subject.delta_since(Cursor::default())).unwrap();
        assert_eq!(follower.subject.encode(), writer.subject.encode());
        // From none to many more than the journal keeps.
        let changes = [0, 1, 20, 400, 3_000, 9_000][random.below(6) as usize];
        for _ in 0..changes {
            writer.change(random, keys);
        }
        let delta = writer.subject.delta_since(cursor);
        if changes <= 20 {
            assert!(delta.len() <= 16 + 400 * changes, "{} bytes for {changes} changes", delta.len());
        }
        follower.subject.merge(&delta).unwrap();
        assert_eq!(follower.subject.encode(), writer.subject.encode(), "seed {seed}, {changes} changes");
    }
}

#[test]
fn a_follower_with_a_cursor_always_catches_up_and_pays_for_what_it_missed() {
    (0..6).for_each(cursors_catch_up::<LwwMap>);
    (6..12).for_each(cursors_catch_up::<OrSet>);
}

/// Of more than 26,624 keys, and of ids beyond 65,535, an index has wider elements: it is made anew amid the writes.
#[test]
fn a_store_finds_keys_and_dots_whatever_its_size() {
    let mut store = DotStore::new(1);
    let actor = ActorId::from([3; 32]);
    let dot = |counter| Dot { actor, counter };
    let key = |counter: u64| (counter % 40_000).to_be_bytes();
    // From 40,001 on a second dot of a key, so that slots are more than keys.
    for counter in 1..=70_000_u64 {
        assert!(store.insert(&key(counter), &counter.to_le_bytes(), dot(counter), Hlc::from_bits(counter)));
        if [26_624, 26_625, 53_248, 53_249, 65_535, 65_536, 65_537, 70_000].contains(&counter) {
            for known in (1..=counter).step_by(97).chain([counter]) {
                let entry = store.entry_of(&dot(known)).unwrap();
                assert_eq!((entry.key, entry.value), (&key(known)[..], &known.to_le_bytes()[..]));
                let latest = if known + 40_000 <= counter { known + 40_000 } else { known };
                assert_eq!(store.get(&key(known)).unwrap().dot.counter, latest);
            }
        }
    }
    assert_eq!((store.len(), store.keys_len()), (70_000, 40_000));
    assert!((1..=70_000).all(|counter| store.remove(&dot(counter)) && !store.contains(&dot(counter))));
    assert!(store.is_empty());
}
