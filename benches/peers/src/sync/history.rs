//! The generated changes: the same for every library, from a fixed seed.
//!
//! The writers take turns. In every round each of them changes one key, in an order drawn anew for each round, and
//! knows of all changes before its own, as writers do who are connected. A library that records what a change follows
//! has one change of another writer to name each time; it would have less to say of writers who never heard of each
//! other. The keys are divided among the writers and nobody writes one of another's, so the outcome is the same by
//! every rule for conflicts.

use std::collections::BTreeMap;

use crate::random::Random;

/// A value of the map: 16 random bytes.
pub type Value = [u8; 16];

/// What a replica is expected to hold.
pub type Model = BTreeMap<String, Value>;

pub const WRITERS: usize = 100;

/// The writers at whose places the two replicas stand; the second one never writes after they part.
pub const LOCAL: [usize; 2] = [0, 1];

/// The time of the first change, in milliseconds; every further change is one later.
const START: u64 = 1_700_000_000_000;

/// One key set by one writer.
#[derive(Debug, Clone)]
pub struct Change {
    pub writer: usize,
    /// 21 bytes.
    pub key: String,
    pub value: Value,
    /// For libraries that take the time from outside, in milliseconds.
    pub stamp: u64,
}

/// Everything that was written before the two replicas meet.
pub struct History {
    /// For each writer the random bytes from which a library takes as many as its ids have.
    pub ids: Vec<[u8; 32]>,
    pub changes: Vec<Change>,
    /// How many of them both replicas hold. The first replica holds the others as well.
    pub shared: usize,
    keys_each: usize,
    random: Random,
}

impl History {
    /// A twentieth of the size if asked for, by as many writers.
    pub fn new(quick: bool) -> Self {
        let divisor = if quick { 20 } else { 1 };
        let (changes, missed, keys) = (100_000 / divisor, 10_000 / divisor, 10_000 / divisor);
        let mut random = Random::new(0x5EED_0F0B_5E55_1075);
        let mut id = || {
            let mut id = [0; 32];
            for part in id.chunks_exact_mut(8) {
                part.copy_from_slice(&random.next().to_le_bytes());
            }
            id
        };
        let ids = (0..WRITERS).map(|_| id()).collect();
        let mut history = History {
            ids,
            changes: Vec::with_capacity(changes),
            shared: changes - missed,
            keys_each: keys / WRITERS,
            random,
        };
        let mut order: Vec<usize> = (0..WRITERS).collect();
        while history.changes.len() < changes {
            for last in (1..WRITERS).rev() {
                order.swap(last, history.below(last + 1));
            }
            for &writer in &order {
                let change = history.next(writer);
                history.changes.push(change);
            }
        }
        history
    }

    /// A number below `limit`; the bias is far below what a benchmark could notice.
    fn below(&mut self, limit: usize) -> usize {
        (self.random.next() % limit as u64) as usize
    }

    fn next(&mut self, writer: usize) -> Change {
        let index = writer * self.keys_each + self.below(self.keys_each);
        let mut value = Value::default();
        value[..8].copy_from_slice(&self.random.next().to_le_bytes());
        value[8..].copy_from_slice(&self.random.next().to_le_bytes());
        Change {
            writer,
            key: format!("agent-{writer:03}/entry-{index:05}"),
            value,
            stamp: START + self.changes.len() as u64,
        }
    }

    /// `count` further changes, made one after the other by the writer at the first replica.
    pub fn more(&mut self, count: usize) -> Vec<Change> {
        (0..count as u64)
            .map(|number| {
                let mut change = self.next(LOCAL[0]);
                change.stamp += number;
                change
            })
            .collect()
    }

    /// What the first `count` changes lead to.
    pub fn model(&self, count: usize) -> Model {
        (self.changes[..count].iter())
            .map(|change| (change.key.clone(), change.value))
            .collect()
    }
}
