//! The lattice laws of map and set, and their equality with a naive model that remembers every operation, under
//! random concurrent histories. `CONSILIENCE_CASES` sets the number of cases of each property.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

extern crate alloc;

use alloc::collections::BTreeSet;

use consilience_crdts::{ActorId, Cursor, Dot, Hlc, LwwMap, OrSet, Timestamp};
use consilience_test_support::collections::{Bytes, Heard, Op, Subject, cases, difference};
use proptest::prelude::*;

/// A step of a history. Replicas, keys and operations are indices, taken modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    Write {
        replica: usize,
        key: usize,
        value: u8,
        clock: u8,
    },
    Remove {
        replica: usize,
        key: usize,
    },
    /// Deliver the delta of one earlier operation, whichever: late, twice, out of order.
    Deliver {
        op: usize,
        to: usize,
    },
    /// Deliver the join of two such deltas.
    DeliverJoined {
        ops: [usize; 2],
        to: usize,
    },
    MergeState {
        from: usize,
        to: usize,
    },
    /// What `to` has missed since the last such exchange.
    CatchUp {
        from: usize,
        to: usize,
    },
    /// Stop and start again from the bytes.
    Reopen {
        replica: usize,
    },
    /// Look at everything in key order.
    Read {
        replica: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let i = 0_usize..64;
    prop_oneof![
        4 => (i.clone(), i.clone(), any::<u8>(), any::<u8>())
            .prop_map(|(replica, key, value, clock)| Step::Write { replica, key, value, clock }),
        2 => (i.clone(), i.clone()).prop_map(|(replica, key)| Step::Remove { replica, key }),
        4 => (i.clone(), i.clone()).prop_map(|(op, to)| Step::Deliver { op, to }),
        1 => ([i.clone(), i.clone()], i.clone()).prop_map(|(ops, to)| Step::DeliverJoined { ops, to }),
        1 => (i.clone(), i.clone()).prop_map(|(from, to)| Step::MergeState { from, to }),
        2 => (i.clone(), i.clone()).prop_map(|(from, to)| Step::CatchUp { from, to }),
        1 => i.clone().prop_map(|replica| Step::Reopen { replica }),
        1 => i.prop_map(|replica| Step::Read { replica }),
    ]
}

/// Keys of which one is a prefix of another, one is empty and some do not fit a slot.
fn key(index: usize) -> Bytes {
    match index % 7 {
        0 => Vec::new(),
        1 => b"task".to_vec(),
        2 => b"task/1".to_vec(),
        3 => b"task/10".to_vec(),
        4 => vec![0xff; 3],
        5 => [&b"task/1"[..], &[b'x'; 60]].concat(),
        _ => [&b"task/1"[..], &[b'y'; 60]].concat(),
    }
}

/// Values around the size that fits a slot.
fn value(value: u8) -> Bytes {
    vec![value; usize::from(value % 5) * 14]
}

/// Clocks that disagree by a day, by decades, and by all there is.
fn clock(clock: u8) -> Hlc {
    let millis = match clock % 4 {
        0 => 1_700_000_000_000 + u64::from(clock),
        1 => 1_700_086_400_000,
        2 => 2_015_000_000_000 - u64::from(clock) * 1_000,
        _ => u64::MAX,
    };
    Hlc::new(Timestamp::from_millis(millis), u16::from(clock / 64))
}

fn actor(replica: usize) -> ActorId {
    // Names whose order differs from the order in which anybody meets them.
    ActorId::new([&b"mm"[..], b"a", b"zz/long", b"k", b"z"][replica]).unwrap()
}

/// Replicas of one kind, the history they made, and what each has heard of.
struct Mesh<S> {
    replicas: Vec<S>,
    heard: Vec<Heard>,
    history: Vec<Op>,
    deltas: Vec<Bytes>,
    minted: Vec<u64>,
    /// `cursors[from][to]`: up to where `to` has followed `from`.
    cursors: Vec<Vec<Cursor>>,
}

impl<S: Subject> Mesh<S> {
    fn new(count: usize) -> Self {
        Self {
            replicas: (0..count).map(|replica| S::new(replica as u64)).collect(),
            heard: vec![Heard::default(); count],
            history: Vec::new(),
            deltas: Vec::new(),
            minted: vec![0; count],
            cursors: vec![vec![Cursor::default(); count]; count],
        }
    }

    fn run(count: usize, steps: &[Step]) -> Self {
        let mut mesh = Self::new(count);
        for step in steps {
            mesh.step(step);
        }
        mesh
    }

    fn note(&mut self, replica: usize, op: Op, delta: Bytes) {
        self.heard[replica].0.insert(self.history.len());
        self.history.push(op);
        self.deltas.push(delta);
    }

    /// Merges bytes that carry the operations `ops`, and holds the reported changes against the model's.
    fn merge(&mut self, to: usize, bytes: &[u8], ops: &BTreeSet<usize>) {
        let before = self.heard[to].reads(&self.history);
        self.heard[to].0.extend(ops);
        let after = self.heard[to].reads(&self.history);
        let mut unwatched = self.replicas[to].clone();
        let changed = unwatched.merge(bytes).unwrap();
        let (watched, changes) = self.replicas[to].merge_watched(bytes);
        assert_eq!(
            (changed, unwatched.encode()),
            (watched, self.replicas[to].encode()),
            "watching changes nothing"
        );
        let reported: BTreeSet<_> = changes.iter().cloned().collect();
        assert_eq!(reported.len(), changes.len(), "each key is reported once");
        assert_eq!(reported, difference(&before, &after), "the changes reported are those made");
        assert!(!self.replicas[to].merge(bytes).unwrap(), "the second time nothing is new");
    }

    fn step(&mut self, step: &Step) {
        let count = self.replicas.len();
        let touched = match *step {
            Step::Write { replica, key: k, value: v, clock: c } => {
                let replica = replica % count;
                let key = key(k);
                let (value, stamp) =
                    if S::HAS_VALUES { (value(v), clock(c)) } else { (Vec::new(), Hlc::ZERO) };
                let ends = self.replicas[replica].dots(&key).into_iter().collect();
                self.minted[replica] += 1;
                let dot = Dot { actor: actor(replica), counter: self.minted[replica] };
                let delta = self.replicas[replica].add(dot.actor, &key, &value, stamp);
                self.note(replica, Op { write: Some((dot, key, value, stamp)), ends }, delta);
                replica
            }
            Step::Remove { replica, key: k } => {
                let replica = replica % count;
                let ends = self.replicas[replica].dots(&key(k)).into_iter().collect();
                let delta = self.replicas[replica].remove(&key(k));
                self.note(replica, Op { write: None, ends }, delta);
                replica
            }
            Step::Deliver { op, to } => {
                let to = to % count;
                if !self.history.is_empty() {
                    let op = op % self.history.len();
                    self.merge(to, &self.deltas[op].clone(), &[op].into());
                }
                to
            }
            Step::DeliverJoined { ops, to } => {
                let to = to % count;
                if !self.history.is_empty() {
                    let ops = ops.map(|op| op % self.history.len());
                    let joined = S::join(&self.deltas[ops[0]], &self.deltas[ops[1]]);
                    self.merge(to, &joined, &ops.into());
                }
                to
            }
            Step::MergeState { from, to } => {
                let (from, to) = (from % count, to % count);
                let other = self.replicas[from].clone();
                let ops = self.heard[from].0.clone();
                if from != to {
                    self.replicas[to].merge_state(&other);
                    self.heard[to].0.extend(&ops);
                    self.cursors[from][to] = other.cursor();
                }
                to
            }
            Step::CatchUp { from, to } => {
                let (from, to) = (from % count, to % count);
                if from != to {
                    let delta = self.replicas[from].delta_since(self.cursors[from][to]);
                    let ops = self.heard[from].0.clone();
                    self.merge(to, &delta, &ops);
                    self.cursors[from][to] = self.replicas[from].cursor();
                }
                to
            }
            Step::Reopen { replica } => {
                let replica = replica % count;
                let bytes = self.replicas[replica].encode();
                self.replicas[replica] = S::decode(&bytes).unwrap();
                assert_eq!(self.replicas[replica].encode(), bytes);
                // The journal began anew, so peers start again.
                self.cursors[replica] = vec![Cursor::default(); count];
                replica
            }
            Step::Read { replica } => {
                let replica = replica % count;
                self.check_order(replica);
                replica
            }
        };
        self.check(touched);
    }

    /// Point reads equal the model's.
    fn check(&self, replica: usize) {
        let subject = &self.replicas[replica];
        let live = self.heard[replica].live(&self.history);
        assert_eq!(subject.len(), live.len());
        assert_eq!(subject.live_dots(), live.values().map(Vec::len).sum::<usize>());
        for k in 0..7 {
            let writes = live.get(&key(k));
            let dots: Vec<Dot> = writes.into_iter().flatten().map(|(_, dot, _)| *dot).collect();
            assert_eq!(subject.dots(&key(k)), dots);
            assert_eq!(subject.read(&key(k)), writes.map(|writes| writes[0].2.clone()));
        }
    }

    /// Ordered reads equal the model's.
    fn check_order(&self, replica: usize) {
        let subject = &self.replicas[replica];
        let reads = self.heard[replica].reads(&self.history);
        assert_eq!(subject.entries(), reads.clone().into_iter().collect::<Vec<_>>());
        for a in 0..7 {
            let prefixed: Vec<Bytes> =
                reads.keys().filter(|key_| key_.starts_with(&key(a))).cloned().collect();
            assert_eq!(subject.prefixed(&key(a)), prefixed);
            for b in 0..7 {
                let between: Vec<Bytes> =
                    reads.keys().filter(|k| **k >= key(a) && **k < key(b)).cloned().collect();
                assert_eq!(subject.between(&key(a), &key(b)), between);
            }
        }
    }

    /// Everybody hears everything, by states or by catching up; all end alike, to the byte.
    fn converge(&mut self) {
        let count = self.replicas.len();
        for round in 0..2 {
            for from in 0..count {
                for to in (0..count).filter(|to| *to != from) {
                    let step = if (from + to + round) % 2 == 0 {
                        Step::CatchUp { from, to }
                    } else {
                        Step::MergeState { from, to }
                    };
                    self.step(&step);
                }
            }
        }
        let bytes = self.replicas[0].encode();
        for replica in 0..count {
            assert_eq!(self.heard[replica].0, self.heard[0].0);
            assert_eq!(self.replicas[replica].encode(), bytes, "equal states have equal bytes");
            self.check_order(replica);
        }
        // All deltas, lossless and in any order, give that state too.
        let mut from_deltas = S::new(9);
        for delta in self.deltas.iter().rev() {
            from_deltas.merge(delta).unwrap();
        }
        let heard_all = Heard((0..self.history.len()).collect());
        if heard_all.0 == self.heard[0].0 {
            assert_eq!(from_deltas.encode(), bytes);
        }
    }
}

fn laws_of_join<S: Subject>(steps: &[Step]) {
    let mesh = Mesh::<S>::run(3, steps);
    let states: Vec<Bytes> = mesh.replicas.iter().map(S::encode).collect();
    let mut parts: Vec<&[u8]> = states.iter().map(Vec::as_slice).collect();
    // States and deltas are of one kind: the laws hold for any three of them.
    if let [a, .., b] = mesh.deltas.as_slice() {
        parts = vec![&states[0], a, b];
    }
    let (a, b, c) = (parts[0], parts[1], parts[2]);
    assert_eq!(S::join(a, b), S::join(b, a), "commutative");
    assert_eq!(S::join(&S::join(a, b), c), S::join(a, &S::join(b, c)), "associative");
    assert_eq!(S::join(a, a), a, "idempotent");
    let joined = S::join(&states[1], &states[2]);
    assert_eq!(S::join(&joined, &states[1]), joined, "absorbing");
    let mut merged = mesh.replicas[1].clone();
    merged.merge_state(&mesh.replicas[2]);
    assert_eq!(merged.encode(), joined, "merging is joining");
}

fn lossy_links_are_repaired<S: Subject>(steps: &[Step], fates: &[u8]) {
    // One writer each; of its deltas, some are lost, some come twice, and they come in a shuffled order.
    let mut mesh = Mesh::<S>::run(3, steps);
    let mut receiver = S::new(4);
    let mut order: Vec<usize> = (0..mesh.deltas.len()).collect();
    order.sort_by_key(|op| ((usize::from(fates[op % fates.len()]) * 31 + op) % 256, *op));
    for op in order {
        let times = fates[op % fates.len()] % 3;
        for _ in 0..times {
            receiver.merge(&mesh.deltas[op]).unwrap();
        }
    }
    mesh.converge();
    receiver.merge(&mesh.replicas[0].delta_since(Cursor::default())).unwrap();
    assert_eq!(receiver.encode(), mesh.replicas[0].encode(), "repaired by the whole");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_map_equals_the_model_under_any_history(count in 2..6_usize, steps in steps()) {
        Mesh::<LwwMap>::run(count, &steps).converge();
    }

    #[test]
    fn the_set_equals_the_model_under_any_history(count in 2..6_usize, steps in steps()) {
        Mesh::<OrSet>::run(count, &steps).converge();
    }

    #[test]
    fn joins_of_maps_and_their_deltas_form_a_semilattice(steps in steps()) {
        laws_of_join::<LwwMap>(&steps);
    }

    #[test]
    fn joins_of_sets_and_their_deltas_form_a_semilattice(steps in steps()) {
        laws_of_join::<OrSet>(&steps);
    }

    #[test]
    fn maps_converge_over_links_that_lose_repeat_and_reorder(steps in steps(), fates in prop::collection::vec(any::<u8>(), 1..48)) {
        lossy_links_are_repaired::<LwwMap>(&steps, &fates);
    }

    #[test]
    fn sets_converge_over_links_that_lose_repeat_and_reorder(steps in steps(), fates in prop::collection::vec(any::<u8>(), 1..48)) {
        lossy_links_are_repaired::<OrSet>(&steps, &fates);
    }
}
