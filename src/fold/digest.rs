//! The digest of a topic's state: equal exactly where two replicas mean the same.

use alloc::vec::Vec;

use consilience_crdts::LiveDot;

use super::collection::Table;
use super::topic::TopicState;

const CONTEXT: &str = "consilience topic digest v1";

impl TopicState {
    /// The digest of a topic that nothing was written to.
    pub(crate) fn digest_of_nothing() -> [u8; 32] {
        *blake3::Hasher::new_derive_key(CONTEXT).finalize().as_bytes()
    }

    /// BLAKE3 over the collections that hold anything, in the order of their ids: of maps and sets every live dot with
    /// its log, counter, stamp, key and value; of couplings their canonical bytes. Looks at everything.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        for collection in self.sorted() {
            match &collection.table {
                Table::Dots(dots) if !dots.live.is_empty() => {
                    put(&mut hasher, collection.id.as_bytes());
                    hasher.update(&(dots.live.len() as u64).to_le_bytes());
                    for first in dots.live.iter() {
                        let mut siblings: Vec<LiveDot<'_>> = dots.live.siblings(first.key).collect();
                        siblings.sort_unstable_by_key(|entry| entry.dot);
                        for entry in siblings {
                            hasher.update(entry.dot.actor.as_bytes());
                            hasher.update(&entry.dot.counter.to_le_bytes());
                            hasher.update(&entry.stamp.to_bits().to_le_bytes());
                            put(&mut hasher, entry.key);
                            put(&mut hasher, entry.value);
                        }
                    }
                }
                Table::CouplingTable(couplings) if couplings.sums().stats().live > 0 => {
                    put(&mut hasher, collection.id.as_bytes());
                    put(&mut hasher, &couplings.sums().encode());
                }
                _ => {}
            }
        }
        *hasher.finalize().as_bytes()
    }
}

fn put(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
