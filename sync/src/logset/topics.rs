//! [`TopicRoots`]: a root for each topic that has heads, so that the root of a scope costs its topics and not its heads.
//!
//! The root of a topic is that of the set of its head ids, by the same hash as the root of all heads. It is made when it is
//! asked for, and kept until a head of the topic changes. Where a topic has more than a few heads, their sum is kept as
//! well, and follows each change. Nothing is kept before the first question: a set that is only compared whole pays nothing.
//!
//! Rejected: a hash over the ids in their order, which visits all heads of a topic again when one has changed.
//!
//! The invariant: a root that is kept is that of the topic's heads in the set.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use crate::reconcile::{KeyRange, LtHash, ReconcileSet};

/// So many heads are added up again when one of them has changed: 2 KiB of hash output each. Of more heads the sum is kept,
/// in 2 KiB.
const ADDED_UP_MAX: usize = 8;
/// Changes of a topic's heads that wait to be added to its sum, at most.
const WAITING_MAX: usize = 16;

/// The roots of all topics that have heads.
#[derive(Clone, Debug, Default)]
pub(super) struct TopicRoots {
    /// By the bytes with which the order keys of a topic's logs begin.
    topics: BTreeMap<Vec<u8>, TopicRoot>,
}

#[derive(Clone, Debug, Default)]
struct TopicRoot {
    heads: usize,
    root: Option<[u8; 32]>,
    /// The sum of its ids, if it is kept.
    sum: Option<LtHash>,
}

/// The topic in an order key: without the log.
fn topic_of(key: &[u8]) -> &[u8] {
    key.split_last_chunk::<32>().map_or(key, |(topic, _)| topic)
}

impl TopicRoots {
    /// Of a set of heads.
    pub(super) fn of(set: &ReconcileSet) -> Self {
        let mut roots = Self::default();
        for (key, _) in set.iter() {
            roots.note(topic_of(key), true);
        }
        roots
    }

    /// Counts a head of a topic that came or went. Gives the topic, unless it has none any more.
    fn note(&mut self, topic: &[u8], came: bool) -> Option<&mut TopicRoot> {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_vec(), TopicRoot::default());
        }
        let there = self.topics.get_mut(topic)?;
        there.heads = if came { there.heads.saturating_add(1) } else { there.heads.saturating_sub(1) };
        there.root = None;
        if there.heads == 0 {
            self.topics.remove(topic);
            return None;
        }
        self.topics.get_mut(topic)
    }

    /// Follows a head, with its order key, that came or went.
    pub(super) fn change(&mut self, key: &[u8], id: &[u8; 32], came: bool) {
        let Some(there) = self.note(topic_of(key), came) else { return };
        if there.heads <= ADDED_UP_MAX / 2 {
            there.sum = None;
        } else if let Some(sum) = &mut there.sum {
            sum.change_within(id, came, WAITING_MAX);
        }
    }

    /// Gives the roots of the topics within a range of the order, one after the other.
    pub(super) fn each_within(
        &mut self,
        range: &KeyRange,
        set: &ReconcileSet,
        mut give: impl FnMut(&[u8; 32]),
    ) {
        let upper = range.upper().map_or(Bound::Unbounded, Bound::Excluded);
        for (topic, there) in self.topics.range_mut::<[u8], _>((Bound::Included(range.lower()), upper)) {
            give(there.root(topic, set));
        }
    }
}

impl TopicRoot {
    fn root(&mut self, topic: &[u8], set: &ReconcileSet) -> &[u8; 32] {
        let Self { heads, root, sum } = self;
        root.get_or_insert_with(|| {
            if let Some(sum) = sum {
                return sum.root(*heads);
            }
            let mut added_up = set.empty_sum();
            // A topic's bytes are far shorter than the longest bound.
            let range = KeyRange::prefix(topic).unwrap_or_default();
            for (_, id) in set.range(&range) {
                added_up.change_within(id, true, WAITING_MAX);
            }
            let root = added_up.root(*heads);
            if *heads > ADDED_UP_MAX {
                *sum = Some(added_up);
            }
            root
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "small numbers")]

    use super::*;

    fn id(number: u64) -> [u8; 32] {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    fn key(topic: u64, log: u64) -> Vec<u8> {
        [format!("t\0{topic:03}\0\0").as_bytes(), &id(log)].concat()
    }

    fn roots(roots: &mut TopicRoots, set: &ReconcileSet) -> Vec<[u8; 32]> {
        let mut all = Vec::new();
        roots.each_within(&KeyRange::prefix(b"t\0").unwrap(), set, |root| all.push(*root));
        all
    }

    /// Added up anew, in order.
    fn expected(set: &ReconcileSet) -> Vec<[u8; 32]> {
        let mut topics: BTreeMap<Vec<u8>, ReconcileSet> = BTreeMap::new();
        for (key, id) in set.iter() {
            let topic =
                topics.entry(topic_of(key).to_vec()).or_insert_with(|| ReconcileSet::new(&[7; 32], 2));
            topic.insert(key, id).unwrap();
        }
        topics.values_mut().map(ReconcileSet::root).collect()
    }

    #[test]
    fn the_root_of_a_topic_is_that_of_the_set_of_its_heads_however_they_came() {
        let mut set = ReconcileSet::new(&[7; 32], 1);
        let mut kept = TopicRoots::of(&set);
        let mut state = 5_u64;
        for step in 0..6_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (topic, log) = ((state >> 33) % 7 * ((state >> 50) % 2), (state >> 40) % 200);
            let (key, id) = (key(topic, log), id(log << 8 | topic));
            // More come than go at first, then more go.
            if (state >> 20) % 10 < if step < 3_000 { 8 } else { 1 } {
                if set.insert(&key, &id) == Ok(true) {
                    kept.change(&key, &id, true);
                }
            } else if set.remove(&id) {
                kept.change(&key, &id, false);
            }
            if step % 97 == 0 {
                assert_eq!(roots(&mut kept, &set), expected(&set), "step {step}");
                assert_eq!(roots(&mut TopicRoots::of(&set), &set), expected(&set));
            }
        }
        for (number, (key, id)) in set.clone().iter().enumerate() {
            assert!(set.remove(id));
            kept.change(key, id, false);
            if number % 13 == 0 {
                assert_eq!(roots(&mut kept, &set), expected(&set));
            }
        }
        assert!(kept.topics.is_empty(), "nothing is left of topics without heads");
    }

    #[test]
    fn topics_without_a_change_keep_their_roots() {
        let mut set = ReconcileSet::new(&[7; 32], 1);
        for number in 0..1_000 {
            set.insert(&key(number % 10, number), &id(number)).unwrap();
        }
        let mut kept = TopicRoots::of(&set);
        let before = roots(&mut kept, &set);
        assert!(kept.topics.values().all(|topic| topic.root.is_some() && topic.sum.is_some()));
        assert!(set.remove(&id(3)));
        kept.change(&key(3, 3), &id(3), false);
        let made_anew: Vec<bool> = kept.topics.values().map(|topic| topic.root.is_none()).collect();
        assert_eq!(made_anew, core::array::from_fn::<bool, 10, _>(|at| at == 3));
        let after = roots(&mut kept, &set);
        let changed: Vec<usize> = (0..10).filter(|at| before[*at] != after[*at]).collect();
        assert_eq!(changed, [3]);
    }
}
