//! The generated input: the same for every library, from a fixed seed.

use std::collections::BTreeMap;

use crate::random::Random;

/// A value of a map: 16 random bytes.
pub type Value = [u8; 16];

/// The time of the first write, in milliseconds; every further write is one later.
const START: u64 = 1_700_000_000_000;

/// One write or removal of a key or element.
#[derive(Debug, Clone)]
pub struct Change {
    /// The key; of a set the element.
    pub key: String,
    /// `None` removes the key. A set looks only at whether it is there.
    pub value: Option<Value>,
    /// For libraries that take the time from outside, in milliseconds.
    pub stamp: u64,
}

/// How big everything is.
#[derive(Debug, Clone)]
pub struct Scale {
    pub entries: usize,
    /// The base of the `…_1k` works. The same in a quick run: it is small already.
    pub small: usize,
    pub growth_entries: usize,
    pub growth_rounds: usize,
    /// What the counts of changes are divided by.
    pub divisor: usize,
}

impl Scale {
    pub fn new(quick: bool) -> Self {
        let divisor = if quick { 10 } else { 1 };
        Scale {
            entries: 100_000 / divisor,
            small: 1_000,
            growth_entries: 1_000,
            growth_rounds: 100 / divisor,
            divisor,
        }
    }
}

/// Which keys are made and what a change of existing content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Keys of 21 bytes; a change overwrites an existing key.
    Map,
    /// Elements of 16 bytes; changes alternately insert a new element and remove an existing one.
    Set,
}

/// The expected content of a replica.
pub type Model = BTreeMap<String, Value>;

/// Writes down what the changes lead to.
pub fn apply_to(model: &mut Model, changes: &[Change]) {
    for change in changes {
        match change.value {
            Some(value) => model.insert(change.key.clone(), value),
            None => model.remove(&change.key),
        };
    }
}

/// The source of changes for one work: a random generator and a clock.
pub struct Source {
    kind: Kind,
    random: Random,
    stamp: u64,
    /// The index of the next element no one has inserted yet.
    fresh: usize,
}

impl Source {
    pub fn new(kind: Kind) -> Self {
        Source {
            kind,
            random: Random::new(0x5EED_0F0B_5E55_1075),
            stamp: START,
            fresh: 0,
        }
    }

    /// A number below `limit`; the bias is far below what a benchmark could notice.
    fn below(&mut self, limit: usize) -> usize {
        (self.random.next() % limit as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    fn key(&self, index: usize) -> String {
        match self.kind {
            Kind::Map => format!("agent/{:05}/task/{:04}", index / 100, index % 100),
            Kind::Set => format!("member/{index:09}"),
        }
    }

    pub fn put(&mut self, key: String) -> Change {
        let mut value = Value::default();
        value[..8].copy_from_slice(&self.random.next().to_le_bytes());
        value[8..].copy_from_slice(&self.random.next().to_le_bytes());
        self.stamp += 1;
        Change {
            key,
            value: Some(value),
            stamp: self.stamp,
        }
    }

    pub fn remove(&mut self, key: String) -> Change {
        self.stamp += 1;
        Change {
            key,
            value: None,
            stamp: self.stamp,
        }
    }

    fn insert_fresh(&mut self) -> Change {
        let key = self.key(self.fresh);
        self.fresh += 1;
        self.put(key)
    }

    /// The first content: this many entries, in key order.
    pub fn base(&mut self, entries: usize) -> Vec<Change> {
        (0..entries).map(|_| self.insert_fresh()).collect()
    }

    /// The first content written in random order, stamped in the order of writing.
    pub fn base_shuffled(&mut self, entries: usize) -> Vec<Change> {
        let mut order: Vec<usize> = (0..entries).collect();
        self.shuffle(&mut order);
        self.fresh = entries;
        order.into_iter().map(|index| self.put(self.key(index))).collect()
    }

    /// `lists` lists of `count` changes of the base; no existing entry is touched twice, neither within a
    /// list nor by two lists, so that the outcome of merging them is the same in every library.
    pub fn changes(&mut self, base: &[Change], lists: usize, count: usize) -> Vec<Vec<Change>> {
        let mut order: Vec<usize> = (0..base.len()).collect();
        self.shuffle(&mut order);
        let mut picked = order.into_iter();
        let mut pick = || {
            base[picked.next().expect("fewer changes than entries")]
                .key
                .clone()
        };
        let mut made = Vec::with_capacity(lists);
        for _ in 0..lists {
            let mut list = Vec::with_capacity(count);
            for number in 0..count {
                list.push(match self.kind {
                    Kind::Map => self.put(pick()),
                    Kind::Set if number % 2 == 0 => self.insert_fresh(),
                    Kind::Set => self.remove(pick()),
                });
            }
            made.push(list);
        }
        made
    }

    /// Changes that follow one another: random keys, the same one possibly again and again; of a set the
    /// removed element is any that is there at that moment, also one inserted by an earlier change.
    pub fn stream(&mut self, base: &[Change], count: usize) -> Vec<Change> {
        let mut live: Vec<String> = base.iter().map(|change| change.key.clone()).collect();
        let mut made = Vec::with_capacity(count);
        for number in 0..count {
            let at = self.below(live.len());
            made.push(match self.kind {
                Kind::Map => self.put(live[at].clone()),
                Kind::Set if number % 2 == 0 => {
                    let change = self.insert_fresh();
                    live.push(change.key.clone());
                    change
                }
                Kind::Set => self.remove(live.swap_remove(at)),
            });
        }
        made
    }
}
