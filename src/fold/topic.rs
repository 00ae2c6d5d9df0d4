//! The state of one topic, kept up to date entry by entry.
//!
//! Which logs count is the log set's to decide. A log that counts answers for its own dots, for those of earlier incarnations
//! below the numbers up to which it has closed them, and for all dots of the incarnations that it has ended for good; a dot
//! is live if some log answers for it, every log that does lists it alike, and no removal names it. Everything here is a
//! table over the logs that count, changed by the transaction of an entry when the entry comes, and back when it goes (both
//! in `entries`).
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
    /// The entries that are applied.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Whether anything of it is applied.
    pub(crate) counts: bool,
    /// Whether other logs list its dots or answer for them.
    pub(super) shared: bool,
    /// Which other logs that count answer for its dots, and up to where.
    pub(super) claims: BTreeMap<LogIndex, u64>,
    /// For whose dots it answers beside its own, and up to where.
    pub(crate) closes: BTreeMap<LogIndex, u64>,
    /// It answers for all dots of its agent's logs below.
    last_final: Option<Incarnation>,
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
            shared: false,
            claims: BTreeMap::new(),
            closes: BTreeMap::new(),
            last_final: None,
            stored: 0,
            live: 0,
        });
        self.by_id.insert(id, index);
        self.by_incarnation.insert((*agent, incarnation), index);
        self.by_alias.insert((id.alias(), index));
        let over = self.by_incarnation.range((*agent, incarnation)..).map_while(|((whose, _), later)| {
            (whose == agent).then_some((*later, self.at(*later).last_final))
        });
        let over: Vec<LogIndex> =
            over.filter(|(_, first)| *first > Some(incarnation)).map(|(later, _)| later).collect();
        for later in over {
            self.at_mut(index).claims.insert(later, u64::MAX);
            self.at_mut(index).shared = true;
            self.at_mut(later).closes.insert(index, u64::MAX);
        }
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
        let member = self.at_mut(log);
        if member.from == member.to {
            (member.from, member.to) = (from, from);
        }
        let begins = !core::mem::replace(&mut member.counts, true);
        for entry in held.entries(from, to) {
            let member = self.at_mut(log);
            member.to = entry.seq + 1;
            member.stored += u64::from(entry.payload_len) + ENTRY_COST;
            match Transaction::of(&entry) {
                Ok(said) => self.apply(set, log, &entry, &said),
                Err(error) => folded.inert.push((id, entry.seq, error)),
            }
            if self.at(log).shared && !begins {
                self.refresh_range(log, counter(entry.seq, 0)..counter(entry.seq + 1, 0));
            }
        }
        if self.at(log).shared && begins {
            // It answers from now on also for those of its dots that only others list.
            self.refresh_range(log, 0..u64::MAX);
        }
        self.answer(set, log);
    }

    /// Takes entries below a new base back.
    pub(crate) fn drop_below(&mut self, set: &LogSet, id: &LogId, below: u64) {
        let Some(&log) = self.by_id.get(id) else { return };
        let (from, to) = (self.at(log).from, self.at(log).to);
        let below = below.min(to);
        for entry in set.acknowledged_entries(id, from, below) {
            self.forget(set, log, entry);
        }
        let member = self.at_mut(log);
        member.from = member.from.max(below);
        self.answer(set, log);
    }

    /// Takes all of a log back: it does not count any more, or another part takes its place.
    pub(crate) fn clear(&mut self, set: &LogSet, id: &LogId) {
        let Some(&log) = self.by_id.get(id) else { return };
        let (from, to) = (self.at(log).from, self.at(log).to);
        for entry in set.acknowledged_entries(id, from, to) {
            self.forget(set, log, entry);
        }
        let member = self.at_mut(log);
        (member.from, member.to, member.counts) = (0, 0, false);
        (member.stored, member.live) = (0, 0);
        if member.shared {
            self.refresh_range(log, 0..u64::MAX);
        }
        self.answer(set, log);
    }

    fn forget(&mut self, set: &LogSet, log: LogIndex, entry: Entry<'_>) {
        // Whether it says anything was reported when it came.
        if let Ok(said) = Transaction::of(&entry) {
            self.revert(set, log, &entry, &said);
        }
        let member = self.at_mut(log);
        member.stored = member.stored.saturating_sub(u64::from(entry.payload_len) + ENTRY_COST);
    }

    /// Works out for whose dots a log answers, by the closures in its retained entries.
    fn answer(&mut self, set: &LogSet, log: LogIndex) {
        let member = self.at(log);
        let (id, agent) = (member.id, member.agent);
        let (closures, last_final) = if member.counts { set.closures(&id) } else { (&[][..], None) };
        if closures.is_empty() && last_final.is_none() && member.closes.is_empty() {
            return;
        }
        let mut closes: BTreeMap<LogIndex, u64> = BTreeMap::new();
        for (incarnation, below) in closures {
            closes.insert(self.index(set, &agent, *incarnation), *below);
        }
        self.at_mut(log).last_final = last_final;
        if let Some(first) = last_final {
            let all = self.by_incarnation.range((agent, Incarnation::from_u64(0))..(agent, first));
            closes.extend(all.map(|(_, target)| (*target, u64::MAX)));
        }
        let old = core::mem::replace(&mut self.at_mut(log).closes, closes.clone());
        for target in old.into_keys().filter(|target| !closes.contains_key(target)) {
            self.claim(set, target, log, 0);
        }
        for (target, below) in closes {
            self.claim(set, target, log, below);
        }
    }

    /// Notes up to where a log answers for another's dots, an earlier incarnation's.
    fn claim(&mut self, set: &LogSet, target: LogIndex, log: LogIndex, below: u64) {
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
    }
}
