//! The state of one topic, kept up to date entry by entry.
//!
//! The rules are those of the model in `tests/model/`: a log *counts* unless a counting log of the same agent has
//! retired it in its whole size; a counting log answers for its own dots, and for those of lower incarnations below the
//! numbers up to which it retired them; a dot is live if some log answers for it, every log that does lists it alike,
//! and no removal names it. Everything here is a table over the logs that count, changed by the transaction of an entry
//! when the entry comes, and back when it goes (both in `entries`).
//!
//! The invariant: the tables are a function of the entries that are applied, in whatever order they came.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_crdts::ActorId;
use consilience_sync::{AgentId, Entry, Incarnation, Log, LogId, LogKind, LogOpening, LogSet, Topic};

use super::Folded;
use super::collection::{Collection, Table};
use super::coupling_table::CouplingTable;
use super::dots::{Dots, LogIndex};
use super::watch::Watch;
use crate::payload::{CollectionId, CollectionKind, Transaction, counter};

/// One log of the topic, as far as it is known.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: LogId,
    pub(crate) actor: ActorId,
    pub(crate) agent: AgentId,
    pub(crate) incarnation: Incarnation,
    /// The entries that are applied, or would be if the log counted.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) counts: bool,
    pub(crate) invalid: bool,
    /// The base as of the last entry that is applied.
    base: u64,
    /// The log's own entries below this are gone though their writer had not given them up: the log does not answer for
    /// their dots.
    pub(super) hollow: u64,
    /// Of a log whose first entries are missing: how many retained entries set or remove a key. That ends its own
    /// earlier dots, which it could not say by leaving them out.
    pub(super) ends: BTreeMap<(usize, Box<[u8]>), u32>,
    /// Whether other logs list its dots or answer for them.
    pub(super) shared: bool,
    /// Which other logs that count answer for its dots, and up to where.
    pub(super) claims: BTreeMap<LogIndex, u64>,
    /// The retirements in its retained entries: of which log, up to where, how often.
    pub(crate) retires: BTreeMap<LogIndex, BTreeMap<u64, u32>>,
    /// Bytes of payloads that are retained, and a little for each entry.
    pub(crate) stored: u64,
    /// About how many of them list live dots.
    pub(crate) live: u64,
}

impl Member {
    /// Up to where others that count answer for its dots.
    pub(crate) fn claimed(&self) -> u64 {
        self.claims.values().copied().max().unwrap_or(0)
    }

    /// The retirements in its retained entries, whether it counts or not: of which log, up to where.
    pub(crate) fn own_claims(&self) -> BTreeMap<LogIndex, u64> {
        let most = |belows: &BTreeMap<u64, u32>| belows.last_key_value().map_or(0, |(below, _)| *below);
        let all = self.retires.iter().map(|(target, belows)| (*target, most(belows)));
        all.filter(|(_, below)| *below > 0).collect()
    }
}

/// About how many bytes an entry takes beside salt and payload.
pub(crate) const ENTRY_COST: u64 = 6;

/// The bytes that count for listing a key and a value.
pub(crate) const fn listing_cost(key: usize, value: usize) -> u64 {
    (key + value) as u64 + 24
}

#[derive(Clone, Debug)]
pub(crate) struct TopicState {
    topic: Topic,
    seed: u64,
    pub(crate) members: Vec<Member>,
    pub(super) by_id: BTreeMap<LogId, LogIndex>,
    by_incarnation: BTreeMap<(AgentId, Incarnation), LogIndex>,
    pub(super) by_alias: BTreeSet<([u8; 8], LogIndex)>,
    pub(crate) collections: Vec<Collection>,
    pub(super) by_name: BTreeMap<CollectionId, usize>,
    /// The collection that was looked up last: runs on one collection are the rule.
    last: usize,
    pub(crate) watch: Option<Watch>,
}

/// Logs of which it has to be decided anew whether they count.
///
/// A log depends on higher incarnations of its agent alone. So the highest is decided first, and none is decided twice,
/// whatever peers make the logs say of each other: the work is bounded by the logs, and nothing recurses.
type Undecided = BTreeSet<(Incarnation, LogIndex)>;

impl TopicState {
    pub(crate) fn new(topic: Topic, seed: u64) -> Self {
        Self {
            topic,
            seed,
            members: Vec::new(),
            by_id: BTreeMap::new(),
            by_incarnation: BTreeMap::new(),
            by_alias: BTreeSet::new(),
            collections: Vec::new(),
            by_name: BTreeMap::new(),
            last: 0,
            watch: None,
        }
    }

    pub(crate) fn member(&self, log: &LogId) -> Option<(LogIndex, &Member)> {
        let index = *self.by_id.get(log)?;
        Some((index, self.at(index)))
    }

    pub(crate) const fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The log that an actor of the tables stands for.
    pub(crate) fn member_of(&self, actor: &ActorId) -> Option<(LogIndex, &Member)> {
        self.member(&LogId::from_bytes(actor.as_bytes().try_into().ok()?))
    }

    /// An agent's log, by its incarnation.
    pub(crate) fn incarnation_of(&self, agent: &AgentId, incarnation: Incarnation) -> Option<LogIndex> {
        self.by_incarnation.get(&(*agent, incarnation)).copied()
    }

    /// How many keys and elements are live.
    pub(crate) fn keys(&self) -> usize {
        let tables = self.collections.iter().map(|collection| match &collection.table {
            Table::Dots(dots) => dots.live.keys_len(),
            Table::CouplingTable(_) => 0,
        });
        tables.sum()
    }

    pub(crate) fn at(&self, log: LogIndex) -> &Member {
        &self.members[log as usize]
    }

    pub(super) fn at_mut(&mut self, log: LogIndex) -> &mut Member {
        &mut self.members[log as usize]
    }

    /// The place of a log in the table; a new one if it was not met before.
    pub(crate) fn index(&mut self, set: &LogSet, agent: &AgentId, incarnation: Incarnation) -> LogIndex {
        if let Some(index) = self.incarnation_of(agent, incarnation) {
            return index;
        }
        let opening =
            LogOpening { topic: self.topic.clone(), kind: LogKind::State, agent: *agent, incarnation };
        let id = opening.log_id(set.mesh());
        self.index_of(id, agent, incarnation)
    }

    fn index_of(&mut self, id: LogId, agent: &AgentId, incarnation: Incarnation) -> LogIndex {
        if let Some(index) = self.by_id.get(&id) {
            return *index;
        }
        let Ok(index) = LogIndex::try_from(self.members.len()) else {
            unreachable!("fewer than 2^32 logs fit in memory")
        };
        self.members.push(Member {
            id,
            actor: ActorId::from(*id.as_bytes()),
            agent: *agent,
            incarnation,
            from: 0,
            to: 0,
            counts: false,
            invalid: false,
            base: 0,
            hollow: 0,
            ends: BTreeMap::new(),
            shared: false,
            claims: BTreeMap::new(),
            retires: BTreeMap::new(),
            stored: 0,
            live: 0,
        });
        self.by_id.insert(id, index);
        self.by_incarnation.insert((*agent, incarnation), index);
        self.by_alias.insert((id.alias(), index));
        index
    }

    pub(crate) fn collection(&self, id: &CollectionId) -> Option<&Collection> {
        self.by_name.get(id).map(|at| &self.collections[*at])
    }

    /// All collections, in the order of their ids.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = &Collection> {
        self.by_name.values().map(|at| &self.collections[*at])
    }

    pub(super) fn collection_at(&mut self, bytes: &[u8]) -> usize {
        if self.collections.get(self.last).is_some_and(|last| last.id.as_bytes() == bytes) {
            return self.last;
        }
        let id = CollectionId::from_bytes(bytes);
        self.last = match self.by_name.get(&id) {
            Some(at) => *at,
            None => {
                let table = match id.schema() {
                    Some(schema) if id.kind() == CollectionKind::Coupling => {
                        Table::CouplingTable(Box::new(CouplingTable::new(schema)))
                    }
                    _ => Table::Dots(Box::new(Dots::new(self.seed))),
                };
                self.collections.push(Collection { id: id.clone(), table });
                self.by_name.insert(id, self.collections.len() - 1);
                self.collections.len() - 1
            }
        };
        self.last
    }

    // Changes of logs.

    /// Takes in entries that follow on the applied ones of a log, or begin it anew.
    pub(crate) fn extend(&mut self, set: &LogSet, held: &Log, (from, to): (u64, u64), folded: &mut Folded) {
        let (id, opening) = (*held.id(), held.opening());
        let log = self.index_of(id, &opening.agent, opening.incarnation);
        if self.at(log).from == self.at(log).to {
            let member = self.at_mut(log);
            (member.from, member.to) = (from, from);
        }
        // The entries below that are missing although their writer has not given them up.
        let last = held.entry(to.saturating_sub(1)).map_or(from, |last| last.base);
        self.at_mut(log).base = last;
        self.find_hollow(log);
        for entry in held.entries(from, to) {
            let said = Transaction::of(&entry);
            match &said {
                Ok(said) => self.note_retires(set, log, said, true, folded),
                Err(error) => folded.inert.push((id, entry.seq, *error)),
            }
            let member = self.at_mut(log);
            member.to = entry.seq + 1;
            member.stored += u64::from(entry.payload_len) + ENTRY_COST;
            if !self.at(log).counts {
                // If it counts now, this entry was taken in with the others.
                self.decide(set, log, said.as_ref().ok().map(|said| (entry.seq, said)), folded);
                continue;
            }
            if let Ok(said) = &said {
                self.apply(set, log, &entry, said);
            }
            if self.at(log).shared {
                self.refresh_range(log, counter(entry.seq, 0)..counter(entry.seq + 1, 0));
            }
            self.decide(set, log, None, folded);
        }
    }

    /// Takes entries below a new base back.
    pub(crate) fn drop_below(&mut self, set: &LogSet, id: &LogId, below: u64, folded: &mut Folded) {
        let Some(&log) = self.by_id.get(id) else { return };
        let (from, to) = (self.at(log).from, self.at(log).to);
        let below = below.min(to);
        for entry in set.acknowledged_entries(id, from, below) {
            self.forget(set, log, entry, folded);
        }
        let member = self.at_mut(log);
        member.from = member.from.max(below);
        self.find_hollow(log);
    }

    /// Works out from where on a log answers for its own dots.
    fn find_hollow(&mut self, log: LogIndex) {
        let member = self.at_mut(log);
        let hollow = if member.base < member.from { member.from } else { 0 };
        let old = core::mem::replace(&mut member.hollow, hollow);
        if old != hollow && member.shared {
            self.refresh_range(log, 0..counter(old.max(hollow), 0));
        }
    }

    /// Takes all of a log back: it is invalid, or another part takes its place.
    pub(crate) fn clear(&mut self, set: &LogSet, id: &LogId, invalid: bool, folded: &mut Folded) {
        let Some(&log) = self.by_id.get(id) else { return };
        let (from, to) = (self.at(log).from, self.at(log).to);
        if self.at(log).counts {
            let mut undecided = Undecided::new();
            self.switch(set, log, false, None, &mut undecided, folded);
            self.decide_all(set, undecided, folded);
        }
        for entry in set.acknowledged_entries(id, from, to) {
            self.forget(set, log, entry, folded);
        }
        let member = self.at_mut(log);
        (member.from, member.to, member.base, member.hollow) = (0, 0, 0, 0);
        (member.stored, member.live) = (0, 0);
        member.retires.clear();
        member.ends.clear();
        member.invalid = invalid;
    }

    fn forget(&mut self, set: &LogSet, log: LogIndex, entry: Entry<'_>, folded: &mut Folded) {
        // Whether it says anything was reported when it came.
        if (self.at(log).counts || !self.at(log).retires.is_empty())
            && let Ok(said) = Transaction::of(&entry)
        {
            if self.at(log).counts {
                self.revert(set, log, &entry, &said);
            }
            self.note_retires(set, log, &said, false, folded);
        }
        let member = self.at_mut(log);
        member.stored = member.stored.saturating_sub(u64::from(entry.payload_len) + ENTRY_COST);
    }

    /// Notes what an entry retires, or that it is gone; and decides the consequences.
    fn note_retires(
        &mut self,
        set: &LogSet,
        log: LogIndex,
        said: &Transaction<'_>,
        comes: bool,
        folded: &mut Folded,
    ) {
        let mut undecided = Undecided::new();
        for retire in said.retires() {
            self.note_retire(set, log, retire, comes, &mut undecided, folded);
        }
        self.decide_all(set, undecided, folded);
    }

    fn note_retire(
        &mut self,
        set: &LogSet,
        log: LogIndex,
        (incarnation, below): (Incarnation, u64),
        comes: bool,
        undecided: &mut Undecided,
        folded: &mut Folded,
    ) {
        let agent = self.at(log).agent;
        if incarnation >= self.at(log).incarnation {
            return;
        }
        let target = self.index(set, &agent, incarnation);
        let counts = self.at_mut(log).retires.entry(target).or_default();
        let count = counts.entry(below).or_default();
        *count = if comes { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            counts.remove(&below);
        }
        let most = counts.last_key_value().map_or(0, |(below, _)| *below);
        if self.at(log).counts {
            self.claim(set, target, log, most, undecided, folded);
        }
    }

    /// Whether a log has to count: it holds something, is not invalid, and was not retired in its whole size.
    fn has_to_count(&self, log: LogIndex) -> bool {
        let member = self.at(log);
        !member.invalid && member.claimed() < member.to
    }

    /// Decides whether a log counts. The consequences for other logs are decided as well. The content of an entry that was
    /// read already is not read again.
    fn decide(
        &mut self,
        set: &LogSet,
        log: LogIndex,
        read: Option<(u64, &Transaction<'_>)>,
        folded: &mut Folded,
    ) {
        let counts = self.has_to_count(log);
        if counts != self.at(log).counts {
            let mut undecided = Undecided::new();
            self.switch(set, log, counts, read, &mut undecided, folded);
            self.decide_all(set, undecided, folded);
        }
    }

    /// Decides whether these logs count, and those that are claimed by them or not any more, until nothing changes.
    fn decide_all(&mut self, set: &LogSet, mut undecided: Undecided, folded: &mut Folded) {
        while let Some((_, log)) = undecided.pop_last() {
            let counts = self.has_to_count(log);
            if counts != self.at(log).counts {
                self.switch(set, log, counts, None, &mut undecided, folded);
            }
        }
    }

    /// All that a log has enters the tables or leaves them. Whether those count that it claims is left to be decided.
    fn switch(
        &mut self,
        set: &LogSet,
        log: LogIndex,
        counts: bool,
        read: Option<(u64, &Transaction<'_>)>,
        undecided: &mut Undecided,
        folded: &mut Folded,
    ) {
        let (id, from, to) = (self.at(log).id, self.at(log).from, self.at(log).to);
        if counts {
            self.at_mut(log).counts = true;
            for entry in set.acknowledged_entries(&id, from, to) {
                if let Some((_, said)) = read.filter(|(seq, _)| *seq == entry.seq) {
                    self.apply(set, log, &entry, said);
                } else if let Ok(said) = Transaction::of(&entry) {
                    self.apply(set, log, &entry, &said);
                }
            }
        } else {
            for entry in set.acknowledged_entries(&id, from, to) {
                if let Ok(said) = Transaction::of(&entry) {
                    self.revert(set, log, &entry, &said);
                }
            }
            self.at_mut(log).counts = false;
        }
        if self.at(log).shared {
            self.refresh_range(log, 0..u64::MAX);
        }
        for (target, below) in self.at(log).own_claims() {
            self.claim(set, target, log, if counts { below } else { 0 }, undecided, folded);
        }
    }

    /// Notes up to where a log answers for another's dots, a lower incarnation's. Whether that one counts is left to be
    /// decided.
    fn claim(
        &mut self,
        set: &LogSet,
        target: LogIndex,
        log: LogIndex,
        below: u64,
        undecided: &mut Undecided,
        folded: &mut Folded,
    ) {
        let old = self.at(target).claims.get(&log).copied().unwrap_or(0);
        if old == below {
            return;
        }
        if below > 0 {
            self.share(set, target);
            self.at_mut(target).claims.insert(log, below);
        } else {
            self.at_mut(target).claims.remove(&log);
        }
        self.refresh_range(target, counter(old.min(below), 0)..counter(old.max(below), 0));
        folded.claimed.push((self.topic.clone(), self.at(target).id));
        undecided.insert((self.at(target).incarnation, target));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Fold;
    use super::*;
    use crate::payload::Draft;
    use consilience_crdts::Hlc;
    use consilience_sync::{Keypair, Limits, MeshId, NewEntry, Signer};

    /// Logs of one agent, of which each retires the one before in its whole size.
    const CHAIN: u64 = 20_000;

    #[test]
    fn a_chain_of_retirements_turns_over_with_one_decision_a_log() {
        let mut set = LogSet::new(MeshId::from_bytes([7; 32]), Limits::default());
        let agent = Signer::agent(&Keypair::from_seed([1; 32]));
        let topic = Topic::new("tasks").unwrap();
        let mut fold = Fold::new(0);
        let mut folded = Folded::default();
        // From the last on, so that nothing turns over before all are there.
        for number in (1..=CHAIN).rev() {
            let incarnation = Incarnation::from_u64(number);
            let opening = LogOpening { topic: topic.clone(), kind: LogKind::State, agent, incarnation };
            let log = set.open_local(&opening).unwrap();
            let mut draft = Draft::default();
            draft.retire(Incarnation::from_u64(number - 1), 1);
            let payload = draft.encode().unwrap();
            set.append(&log, &NewEntry::new(Hlc::from_bits(1 << 24), &payload)).unwrap();
            while let Some(change) = set.poll_change() {
                fold.take(&set, &change, &mut folded);
            }
        }
        let state = fold.topic_mut(&topic);
        let counts = |state: &TopicState, number| {
            state.at(state.incarnation_of(&agent, Incarnation::from_u64(number)).unwrap()).counts
        };
        let last = state.incarnation_of(&agent, Incarnation::from_u64(CHAIN)).unwrap();
        let last = state.at(last).id;
        assert!((1..=CHAIN).all(|number| counts(state, number) == (number % 2 == CHAIN % 2)));
        folded.claimed.clear();
        state.clear(&set, &last, true, &mut folded);
        assert!((1..CHAIN).all(|number| counts(state, number) == (number % 2 != CHAIN % 2)));
        assert!(!counts(state, CHAIN));
        assert_eq!(folded.claimed.len() as u64, CHAIN, "each claim was made or taken back once");
    }
}
