//! Replicas' configurations, numbers that look random, and the state of many writers that `catchup` and `open` work on.

use consilience::sync::{Keypair, MeshSecret, Topic};
use consilience::{Config, Replica};

use crate::peer::Node;
use crate::{at, key};

pub const TOPICS: [&str; 5] =
    ["team/planning", "team/design", "ops/alerts", "ops/deploys", "research/agents/memory"];
const WRITERS: u64 = 20;
const KEYS: u64 = 9_000;

pub fn config(number: u64) -> Config {
    let mut entropy = [7; 32];
    entropy[..8].copy_from_slice(&number.to_le_bytes());
    Config::new(MeshSecret::from_bytes([1; 32]), entropy)
}

pub fn agent(number: u64) -> Keypair {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    Keypair::from_seed(seed)
}

/// The state of every topic.
pub fn digests(replica: &Replica) -> Vec<[u8; 32]> {
    TOPICS.iter().map(|topic| replica.digest(&Topic::new(topic).unwrap())).collect()
}

/// Splitmix64 (Steele, Lea and Flood, 2014).
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

/// Twenty writers write so many entries, one in a millisecond, in five topics: values of maps of random keys, some of them
/// written before, removals, elements of sets, and events. `then` sees the node after each. Gives the time.
pub fn write_state(node: &mut Node, entries: u64, mut then: impl FnMut(&mut Node, u64)) -> u64 {
    let mut dice = Dice::new(3);
    let writers: Vec<_> =
        (0..WRITERS).map(|number| node.replica.add_writer(agent(100 + number)).unwrap()).collect();
    for ms in 1..=entries {
        let writer = writers[dice.below(WRITERS) as usize];
        let topic = TOPICS[dice.below(TOPICS.len() as u64) as usize];
        let key = key(dice.below(KEYS));
        let now = at(ms);
        match dice.below(16) {
            0..3 => {
                node.replica.append_event(writer, topic, &dice.bytes::<200>(), now).unwrap();
            }
            choice => {
                let mut tx = node.replica.transact(writer, topic, now).unwrap();
                match choice {
                    3 => tx.map("tasks").remove(key).unwrap(),
                    4..6 => tx.set("members").insert(key).unwrap(),
                    _ => tx.map("tasks").set(key, dice.bytes::<100>()).unwrap(),
                }
                tx.commit().unwrap();
            }
        }
        node.store();
        then(node, ms);
    }
    entries
}
