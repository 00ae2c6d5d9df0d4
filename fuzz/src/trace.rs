//! Histories: three replicas that write, remove, lose, repeat, reorder and catch up. Each is held against the model
//! as it goes, and in the end all are alike, to the byte.

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use consilience_crdts::{ActorId, Cursor, Dot, Hlc, Timestamp};

use crate::collection::{Bytes, Change, Collection};
use crate::model::{Model, Op};

const REPLICAS: usize = 3;
/// So long a trace shows what it can; longer ones only take time.
const STEPS_MAX: usize = 128;
/// So many operations, of which a step may be many.
const OPS_MAX: usize = 1_500;

/// A step of a history. Numbers are indices, taken modulo how many there are.
#[derive(Clone, Debug, Arbitrary)]
pub enum Step {
    Write {
        replica: u8,
        key: u8,
        value: u8,
        clock: u8,
    },
    Remove {
        replica: u8,
        key: u8,
    },
    /// Write or remove `count` neighbouring keys.
    Many {
        replica: u8,
        first: u8,
        count: u8,
        remove: bool,
    },
    /// Deliver the delta of any one operation: late, twice, out of order.
    Deliver {
        op: u16,
        to: u8,
    },
    /// Deliver the join of two such deltas.
    DeliverJoined {
        ops: [u16; 2],
        to: u8,
    },
    /// All that `to` has missed of `from` since the last such exchange; perhaps the link loses it.
    CatchUp {
        from: u8,
        to: u8,
        lost: bool,
    },
    MergeState {
        from: u8,
        to: u8,
    },
    /// Stop, and start again from the bytes.
    Reopen {
        replica: u8,
    },
    /// Compare everything with the model.
    Compare {
        replica: u8,
    },
}

/// Replicas of one kind, and the history they made.
struct Mesh<C> {
    replicas: Vec<C>,
    models: Vec<Model>,
    history: Vec<Op>,
    deltas: Vec<Bytes>,
    minted: [u64; REPLICAS],
    /// `cursors[from][to]`: up to where `to` has followed `from`.
    cursors: [[Cursor; REPLICAS]; REPLICAS],
}

/// Runs a history and panics where the collection and the model part.
pub fn run<C: Collection>(steps: &[Step]) {
    let mut mesh = Mesh::<C> {
        replicas: vec![C::new(); REPLICAS],
        models: vec![Model::default(); REPLICAS],
        history: Vec::new(),
        deltas: Vec::new(),
        minted: [0; REPLICAS],
        cursors: [[Cursor::default(); REPLICAS]; REPLICAS],
    };
    for step in steps.iter().take(STEPS_MAX) {
        mesh.step(step);
    }
    mesh.converge();
}

fn index(number: u8) -> usize {
    usize::from(number) % REPLICAS
}

/// Names whose order is not that of the replicas, of different lengths.
fn actor(replica: usize) -> ActorId {
    ActorId::new([&b"m"[..], b"zz", b"a\0"][replica]).unwrap()
}

/// Keys of which one is a prefix of another, one is empty, and some are longer than what is held in place.
fn key(number: u8) -> Bytes {
    match number % 8 {
        0 if number < 64 => Vec::new(),
        1 => format!("k/{number:08}").into_bytes(),
        2 => format!("k/{:08}", number / 16).into_bytes(),
        3 => [&b"k/0000000"[..], &vec![b'x'; usize::from(number)]].concat(),
        _ => vec![b'k', number / 8],
    }
}

fn clock(clock: u8) -> Hlc {
    let millis = match clock % 4 {
        0 => 1_700_000_000_000,
        1 => 1_700_000_000_000 + u64::from(clock),
        2 => 5,
        _ => u64::MAX,
    };
    Hlc::new(Timestamp::from_millis(millis), u16::from(clock / 32))
}

impl<C: Collection> Mesh<C> {
    fn write(&mut self, replica: usize, key: Bytes, value: u8, stamp: u8) {
        let (value, stamp) = if C::HAS_VALUES {
            (vec![value; usize::from(value % 5) * 14], clock(stamp))
        } else {
            (Vec::new(), Hlc::ZERO)
        };
        self.minted[replica] += 1;
        let dot = Dot { actor: actor(replica), counter: self.minted[replica] };
        let ends = self.models[replica].dots(&key);
        let delta = self.replicas[replica].write(dot.actor, &key, &value, stamp).unwrap();
        self.note(replica, Op { key, write: Some((dot, stamp, value)), ends }, delta);
    }

    fn remove(&mut self, replica: usize, key: Bytes) {
        let ends = self.models[replica].dots(&key);
        let delta = self.replicas[replica].remove(&key);
        self.note(replica, Op { key, write: None, ends }, delta);
    }

    fn note(&mut self, replica: usize, op: Op, delta: Bytes) {
        assert_eq!(C::delta(&delta).as_ref(), Ok(&delta), "what is written is canonical");
        self.history.push(op);
        self.deltas.push(delta);
        self.models[replica].hear(&self.history, self.history.len() - 1);
    }

    /// Merges bytes that carry the operations `ops`, and compares what is reported with what the model sees.
    fn merge(&mut self, to: usize, bytes: &[u8], ops: &BTreeSet<usize>) {
        let (_, mut reported) = self.replicas[to].merge_watched(bytes).unwrap();
        let before = self.models[to].clone();
        let after = &mut self.models[to];
        ops.iter().for_each(|op| after.hear(&self.history, *op));
        let keys: BTreeSet<Bytes> = before.keys().into_iter().chain(after.keys()).collect();
        let changes = keys.into_iter().map(|key| (before.read(&key), after.read(&key), key));
        let expected: Vec<Change> =
            changes.filter(|(old, new, _)| old != new).map(|(old, new, key)| (key, old, new)).collect();
        reported.sort();
        assert_eq!(reported, expected, "the changes reported are those made");
        assert_eq!(self.replicas[to].merge(bytes), Ok(false), "the second time nothing is new");
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write { replica, key: number, value, clock } => {
                self.write(index(replica), key(number), value, clock);
            }
            Step::Remove { replica, key: number } => self.remove(index(replica), key(number)),
            Step::Many { replica, first, count, remove } => {
                for number in first..=first.saturating_add(count) {
                    if self.history.len() > OPS_MAX {
                        break;
                    }
                    let key = format!("k/{number:08}").into_bytes();
                    match remove {
                        true => self.remove(index(replica), key),
                        false => self.write(index(replica), key, count, number),
                    }
                }
            }
            Step::Deliver { op, to } => {
                if let Some(op) = usize::from(op).checked_rem(self.history.len()) {
                    let delta = self.deltas[op].clone();
                    self.merge(index(to), &delta, &[op].into());
                }
            }
            Step::DeliverJoined { ops, to } => {
                if !self.history.is_empty() {
                    let ops = ops.map(|op| usize::from(op) % self.history.len());
                    let joined = C::join(&self.deltas[ops[0]], &self.deltas[ops[1]]);
                    self.merge(index(to), &joined, &ops.into());
                }
            }
            Step::CatchUp { from, to, lost } => self.catch_up(index(from), index(to), lost),
            Step::MergeState { from, to } => {
                let (from, to) = (index(from), index(to));
                let bytes = self.replicas[from].encode();
                let ops = self.models[from].heard.clone();
                self.merge(to, &bytes, &ops);
                self.cursors[from][to] = self.replicas[from].cursor();
            }
            Step::Reopen { replica } => {
                let replica = index(replica);
                let bytes = self.replicas[replica].encode();
                self.replicas[replica] = C::decode(&bytes).unwrap();
                assert_eq!(self.replicas[replica].encode(), bytes);
                // It counts its changes anew, so its peers start again.
                self.cursors[replica] = [Cursor::default(); REPLICAS];
            }
            Step::Compare { replica } => self.models[index(replica)].compare(&self.replicas[index(replica)]),
        }
    }

    fn catch_up(&mut self, from: usize, to: usize, lost: bool) {
        let delta = self.replicas[from].delta_since(self.cursors[from][to]);
        assert_eq!(C::delta(&delta).as_ref(), Ok(&delta), "what is written is canonical");
        if !lost {
            let ops = self.models[from].heard.clone();
            self.merge(to, &delta, &ops);
            self.cursors[from][to] = self.replicas[from].cursor();
        }
    }

    /// Everybody hears everything, one by one and back; nothing that anybody wrote is missing then.
    fn converge(&mut self) {
        for (from, to) in [(0, 1), (1, 2), (2, 1), (1, 0)] {
            self.catch_up(from, to, false);
        }
        let bytes = self.replicas[0].encode();
        for (replica, model) in self.replicas.iter().zip(&self.models) {
            assert_eq!(model.heard.len(), self.history.len());
            model.compare(replica);
            assert_eq!(replica.encode(), bytes, "equal states have equal bytes");
        }
        // So do the deltas alone, in any order.
        let mut joined = C::new();
        for delta in self.deltas.iter().rev() {
            joined.merge(delta).unwrap();
        }
        assert_eq!(joined.encode(), bytes, "a state is the join of its deltas");
    }
}
