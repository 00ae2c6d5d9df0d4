//! The heads of a set's logs as a set to be reconciled: one id for each log, that stands for all that counts of it.
//!
//! The key of an item is its topic and its log, so a topic, and a topic with all below it, are ranges. Its id is a
//! keyed hash of size, root (which covers the base) and evidence: two replicas that hold the same entries but not the
//! same evidence differ. Ids are made anew when the set is read, for the logs that changed since. The roots of single topics
//! are in `topics`.
//!
//! Not here: the search for the difference (that is [`reconcile`](crate::reconcile)), and the transfer that follows
//! from it (that is `offer`).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::LogSet;
use super::slot::Slot;
use super::topics::TopicRoots;
use crate::hash::Hash;
use crate::identity::{LogId, MeshId, Topic};
use crate::log::Log;
use crate::reconcile::{KeyRange, MessageError, Options, ReconcileSet, Reconciliation, Status, Step};

/// The outcome of one message of a reconciliation of heads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct HeadStep {
    /// To be sent to the peer, if anything.
    pub message: Option<Vec<u8>>,
    /// Logs of this set whose head the peer does not have; [`LogSet::plan`] says which of their entries to send, once
    /// the peer has made its offers.
    pub differ: Vec<LogId>,
    /// How many heads the peer has that this set does not.
    pub lacking: usize,
    /// The next step.
    pub status: Status,
}

#[derive(Clone, Debug)]
pub(super) struct Heads {
    key: [u8; 32],
    set: ReconcileSet,
    /// From the first time that the root of a scope is asked for.
    topics: Option<TopicRoots>,
    /// Logs that may have changed since their ids were made.
    stale: BTreeSet<LogId>,
    /// Which log's id changed when: each once, by a number that rises.
    versions: BTreeMap<u64, LogId>,
    version: u64,
    marked: u64,
}

impl Heads {
    pub(super) fn new(mesh: &MeshId, seed: u64) -> Self {
        let set_key = blake3::derive_key("consilience heads set v1", mesh.as_bytes());
        let seed_key = blake3::derive_key("consilience heads seed v1", mesh.as_bytes());
        // Where the host gives no randomness, at least nobody who does not know the mesh can choose ids against the table.
        let seed = blake3::keyed_hash(&seed_key, &seed.to_le_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *seed.as_bytes();
        Self {
            key: blake3::derive_key("consilience head id v1", mesh.as_bytes()),
            set: ReconcileSet::new(&set_key, u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            topics: None,
            stale: BTreeSet::new(),
            versions: BTreeMap::new(),
            version: 0,
            marked: 0,
        }
    }

    /// Notes that something about a log may have changed.
    pub(super) fn touch(&mut self, log: &LogId) {
        self.stale.insert(*log);
    }

    /// Gives a log whose id has changed the next version.
    fn version_of(&mut self, slot: &mut Slot, log: LogId) {
        self.versions.remove(&slot.head.version);
        self.version = self.version.saturating_add(1);
        self.versions.insert(self.version, log);
        slot.note_version(self.version, self.marked);
    }

    /// Takes a log out that is no longer held.
    pub(super) fn forget(&mut self, log: &LogId, head: Option<[u8; 32]>, version: u64) {
        self.stale.remove(log);
        self.versions.remove(&version);
        if let Some(head) = head {
            self.take_out(&head);
        }
    }

    fn take_out(&mut self, head: &[u8; 32]) {
        if let (Some(topics), Some(key)) = (&mut self.topics, self.set.key_of(head)) {
            topics.change(key, head, false);
        }
        self.set.remove(head);
    }

    /// Whether there was room for it.
    fn put_in(&mut self, key: &[u8], head: &[u8; 32]) -> bool {
        let Ok(is_new) = self.set.insert(key, head) else { return false };
        if let Some(topics) = self.topics.as_mut().filter(|_| is_new) {
            topics.change(key, head, true);
        }
        true
    }

    /// The id of a log's head, if there is anything to tell others.
    fn id(&self, log: &Log, (size, root): (u64, Option<Hash>), facts: Option<Hash>) -> Option<[u8; 32]> {
        if size == 0 && facts.is_none() {
            return None;
        }
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(log.id().as_bytes());
        hasher.update(&size.to_le_bytes());
        // The base is that of the last entry, which the root covers.
        hasher.update(root.unwrap_or_else(|| Hash::from_bytes([0; 32])).as_bytes());
        if let Some(facts) = facts {
            hasher.update(facts.as_bytes());
        }
        Some(*hasher.finalize().as_bytes())
    }
}

/// The bytes that a topic's logs are ordered by: `/` as 0x00, so that a topic stands before those below it.
fn topic_key(topic: &Topic) -> Vec<u8> {
    topic.as_str().bytes().map(|byte| if byte == b'/' { 0 } else { byte }).collect()
}

/// No level of a topic is empty, so two zeros end it.
fn order_key(topic: &Topic, log: &LogId) -> Vec<u8> {
    let mut key = topic_key(topic);
    key.extend([0, 0]);
    key.extend(log.as_bytes());
    key
}

/// The log in an order key.
fn log_in(key: &[u8]) -> Option<LogId> {
    key.last_chunk().copied().map(LogId::from_bytes)
}

impl LogSet {
    /// The range of the heads of one topic, for [`Options::scope`].
    #[must_use]
    pub fn scope_of(topic: &Topic) -> KeyRange {
        let mut key = topic_key(topic);
        key.extend([0, 0]);
        // Shorter than a key by far.
        KeyRange::prefix(&key).unwrap_or_default()
    }

    /// The range of the heads of a topic and of all topics below it, for [`Options::scope`].
    #[must_use]
    pub fn scope_within(topic: &Topic) -> KeyRange {
        let mut key = topic_key(topic);
        key.push(0);
        KeyRange::prefix(&key).unwrap_or_default()
    }

    /// The collision-resistant root over the heads of all logs that count, and the evidence of forks. Two sets with the same
    /// root hold, of every log that counts, the same signed entries from its base on, and the same evidence; and since these
    /// decide what counts, all that their entries add up to is the same. Nothing else has a meaning: entries that are not
    /// signed yet, those from the future, and logs that do not count may differ.
    #[must_use]
    pub fn heads_root(&mut self) -> [u8; 32] {
        self.fresh_heads().root()
    }

    /// Opens a reconciliation of heads; see [`Reconciliation::start`].
    #[must_use]
    pub fn reconcile(&mut self, config: Options) -> (Reconciliation, Vec<u8>) {
        Reconciliation::start(self.fresh_heads(), config)
    }

    /// Handles a message of a reconciliation of heads; see [`Reconciliation::handle`].
    ///
    /// # Errors
    ///
    /// Why the message was refused. Nothing changed then.
    pub fn handle_reconcile(
        &mut self,
        reconciliation: &mut Reconciliation,
        message: &[u8],
    ) -> Result<HeadStep, MessageError> {
        let step = reconciliation.handle(self.fresh_heads(), message)?;
        Ok(self.head_step(step))
    }

    /// Goes on after [`Status::NeedsBudget`]; see [`Reconciliation::resume`].
    ///
    /// # Errors
    ///
    /// If nothing waits for budget. Nothing changed then.
    pub fn resume_reconcile(
        &mut self,
        reconciliation: &mut Reconciliation,
    ) -> Result<HeadStep, MessageError> {
        let step = reconciliation.resume(self.fresh_heads())?;
        Ok(self.head_step(step))
    }

    fn head_step(&self, step: Step) -> HeadStep {
        let logs = step.push.iter().filter_map(|id| self.heads.set.key_of(id)).filter_map(log_in);
        HeadStep {
            message: step.message,
            differ: logs.collect(),
            lacking: step.want.len(),
            status: step.status,
        }
    }

    /// The set of heads as it is now.
    fn fresh_heads(&mut self) -> &mut ReconcileSet {
        while let Some(id) = self.heads.stale.pop_first() {
            let Some(slot) = self.slots.get(&id) else { continue };
            let head = self.heads.id(&slot.log, slot.counted(), slot.facts_digest());
            if head == slot.head.id {
                continue;
            }
            let key = order_key(&slot.log.opening().topic, &id);
            if let Some(old) = slot.head.id {
                self.heads.take_out(&old);
            }
            // A key fits, an id covers its log, and there are fewer logs than a set has room for.
            let held = head.filter(|head| self.heads.put_in(&key, head));
            if let Some(slot) = self.slots.get_mut(&id) {
                let is_new = slot.head.id.is_none();
                slot.head.id = held;
                self.heads.version_of(slot, id);
                if is_new {
                    slot.head.since = self.heads.version;
                }
            }
        }
        &mut self.heads.set
    }

    /// Has a log change now that has changed already, and of which a part counted before.
    pub(super) fn change_again(&mut self, log: &LogId, before: u64) {
        self.fresh_heads();
        if let Some(slot) = self.slots.get_mut(log).filter(|slot| slot.head.id.is_some()) {
            slot.head.counted = before;
            self.heads.version_of(slot, *log);
            if before == 0 {
                slot.head.since = self.heads.version;
            }
        }
    }

    /// A number that rises whenever the head of a log changes: where [`heads_changed`](Self::heads_changed) goes on.
    #[must_use]
    pub fn heads_version(&mut self) -> u64 {
        self.fresh_heads();
        self.heads.version
    }

    /// The logs whose heads changed after a version, each once and the longest unchanged first, with the version of its
    /// last change and how much of it counted before that became more or less: nothing, if it had no head at the version that
    /// is asked about.
    pub fn heads_changed(&mut self, after: u64) -> impl Iterator<Item = (u64, LogId, u64)> + '_ {
        self.fresh_heads();
        let Self { heads, slots, .. } = self;
        heads.versions.range(after.saturating_add(1)..).filter_map(move |(version, id)| {
            let head = &slots.get(id)?.head;
            Some((*version, *id, if head.since > after { 0 } else { head.before }))
        })
    }

    /// The version at which a log came to have a head.
    pub(crate) fn head_since(&self, log: &LogId) -> u64 {
        self.slots.get(log).map_or(0, |slot| slot.head.since)
    }

    /// Remembers, for each log that changes after a version, how much of it counted then: see
    /// [`size_at_version`](Self::size_at_version).
    pub fn mark_version(&mut self, version: u64) {
        self.heads.marked = self.heads.marked.max(version);
    }

    /// How much of a log counted at a version that was [marked](Self::mark_version). Too much, if the log has changed
    /// after many marks since.
    #[must_use]
    pub fn size_at_version(&self, log: &LogId, version: u64) -> Option<u64> {
        self.slots.get(log).map(|slot| slot.head.size_at(version))
    }

    /// A hash over the heads of some topics, as [`heads_root`](Self::heads_root) is one over all heads: of
    /// [`scope_of`](Self::scope_of) and [`scope_within`](Self::scope_within), in ascending order, where none overlaps another.
    /// Of a range that ends within a topic, the whole topic counts if its first place lies inside.
    ///
    /// It visits each of the topics, and heads only of those that have changed. A topic that is asked about for the first
    /// time is visited once.
    #[must_use]
    pub fn heads_root_within(&mut self, ranges: &[KeyRange]) -> [u8; 32] {
        self.fresh_heads();
        let Heads { key, set, topics, .. } = &mut self.heads;
        let topics = topics.get_or_insert_with(|| TopicRoots::of(set));
        let mut hasher = blake3::Hasher::new_keyed(key);
        for range in ranges {
            for bound in [range.lower(), range.upper().unwrap_or_default()] {
                hasher.update(&(bound.len() as u64).to_le_bytes()).update(bound);
            }
            topics.each_within(range, set, |root| {
                hasher.update(root);
            });
        }
        *hasher.finalize().as_bytes()
    }

    /// About how many bytes it takes to send everything that is held, once. Looks at every log.
    pub(crate) fn bytes_to_send(&self) -> u64 {
        self.slots.values().map(|slot| slot.bytes_to_send()).fold(0, u64::saturating_add)
    }

    /// The same of the logs with a head within a range of the order.
    pub(crate) fn bytes_to_send_within(&mut self, range: &KeyRange) -> u64 {
        self.fresh_heads();
        let logs = self.heads.set.range(range).filter_map(|(key, _)| self.slots.get(&log_in(key)?));
        logs.map(|slot| slot.bytes_to_send()).fold(0, u64::saturating_add)
    }

    /// How many logs have a head.
    #[must_use]
    pub fn heads_len(&mut self) -> usize {
        self.fresh_heads().len()
    }

    /// The logs with a head within a range of the order.
    pub fn heads_within<'a>(&'a mut self, range: &'a KeyRange) -> impl Iterator<Item = LogId> + 'a {
        self.fresh_heads().range(range).filter_map(|(key, _)| log_in(key))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "small numbers")]

    use super::*;

    #[test]
    fn a_topic_and_what_is_below_it_are_ranges_of_keys() {
        let topic = |name| Topic::new(name).unwrap();
        let log = LogId::from_bytes([0xff; 32]);
        let inside = |scope: &KeyRange, name| {
            let key = order_key(&topic(name), &log);
            key.as_slice() >= scope.lower() && scope.upper().is_none_or(|upper| key.as_slice() < upper)
        };
        let (own, within) = (LogSet::scope_of(&topic("a/b")), LogSet::scope_within(&topic("a/b")));
        let names = ["a", "a/a", "a/b", "a/b/c", "a/b/\u{10ffff}", "a/b ", "a/bc", "a/c", "b"];
        let held: Vec<_> = names.iter().map(|name| (inside(&own, name), inside(&within, name))).collect();
        let mut expected = [(false, false); 9];
        expected[2] = (true, true);
        expected[3] = (false, true);
        expected[4] = (false, true);
        assert_eq!(held, expected);
        assert_eq!(log_in(&order_key(&topic("a"), &log)), Some(log));
        let longest = topic(&"x".repeat(Topic::BYTES_MAX));
        assert!(order_key(&longest, &log).len() <= crate::reconcile::KEY_BYTES_MAX);
    }

    #[test]
    fn a_head_is_there_since_the_version_at_which_something_counted_first() {
        use crate::{Incarnation, Keypair, Limits, LogKind, LogOpening, MeshId, NewEntry, Signer};
        use consilience_base::{Hlc, Timestamp};

        let keys = Keypair::from_seed([1; 32]);
        let mut set = LogSet::new(MeshId::from_bytes([7; 32]), Limits::default());
        let logs = [1, 2, 3].map(|incarnation| {
            let opening = LogOpening {
                topic: Topic::new("team").unwrap(),
                kind: LogKind::Event,
                agent: keys.agent(),
                incarnation: Incarnation::from_u64(incarnation),
            };
            set.open_local(&opening).unwrap()
        });
        let mut versions = Vec::new();
        for log in [0, 1, 2, 1, 2] {
            let now = Timestamp::from_millis(1_700_000_000_000);
            set.append(&logs[log], &NewEntry::new(Hlc::new(now, 0), b"a")).unwrap();
            set.sign_head(&logs[log], &keys, now).unwrap();
            versions.push(set.heads_version());
        }
        assert!(versions.is_sorted() && versions[1] > 1);
        assert_eq!(logs.map(|log| set.head_since(&log)).as_slice(), &versions[..3]);
        assert_eq!(set.head_since(&LogId::from_bytes([1; 32])), 0);
    }
}
