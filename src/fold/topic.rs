//! The state of one topic, kept up to date entry by entry.
//!
//! The rules are those of the model in `tests/model/`: a log *counts* unless a counting log of the same agent has
//! retired it in its whole size; a counting log answers for its own dots, and for those of lower incarnations below
//! what it retired of them; a dot is live if somebody answers for it, everybody who does lists it alike, and nobody
//! names it. Everything here is a table over the logs that count, changed by what an entry says when it comes
//! and taken back when it goes (both in `entries`).
//!
//! The invariant: the tables are a function of the entries that are applied, in whatever order they came.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_crdts::ActorId;
use consilience_sync::{AgentId, Entry, Incarnation, LogId, LogKind, LogOpening, LogSet, Topic};

use super::couples::Couples;
use super::dots::{Dots, LogIndex};
use super::watch::Watch;
use crate::payload::{CollectionId, CollectionKind, Item, PayloadError, counter, walk};

/// What is known of one log of the topic.
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
    pub(crate) void: bool,
    /// The base as of the last entry that is applied.
    base: u64,
    /// Its own entries below are gone though their writer had not given them up: it does not answer for their dots.
    pub(super) hollow: u64,
    /// Of a log whose front is missing: how many retained entries set or remove a key. That ends its own earlier dots,
    /// which it could not say by leaving them out.
    pub(super) ends: BTreeMap<(usize, Box<[u8]>), u32>,
    /// Whether other logs list its dots or answer for them.
    pub(super) shared: bool,
    /// Which other logs that count answer for its dots, and up to where.
    pub(super) claims: BTreeMap<LogIndex, u64>,
    /// What its retained entries retire: of which log, up to where, how often.
    pub(crate) retires: BTreeMap<LogIndex, BTreeMap<u64, u32>>,
    /// Bytes of payloads that are retained, and a little for each entry.
    pub(crate) stored: u64,
    /// About how many of them list what is live.
    pub(crate) live: u64,
}

impl Member {
    /// Up to where others that count answer for its dots.
    pub(crate) fn claimed(&self) -> u64 {
        self.claims.values().copied().max().unwrap_or(0)
    }

    /// What its retained entries retire, whether it counts or not: of which log, up to where.
    pub(crate) fn own_claims(&self) -> BTreeMap<LogIndex, u64> {
        let most = |belows: &BTreeMap<u64, u32>| belows.last_key_value().map_or(0, |(below, _)| *below);
        let all = self.retires.iter().map(|(target, belows)| (*target, most(belows)));
        all.filter(|(_, below)| *below > 0).collect()
    }
}

/// About how many bytes an entry takes beside its payload.
pub(crate) const ENTRY_COST: u64 = 6;

/// What it counts to list a key and a value.
pub(crate) const fn listing_cost(key: usize, value: usize) -> u64 {
    (key + value) as u64 + 24
}

#[derive(Clone, Debug)]
pub(crate) enum Table {
    Dots(Box<Dots>),
    Couples(Box<Couples>),
}

#[derive(Clone, Debug)]
pub(crate) struct Collection {
    pub(crate) id: CollectionId,
    pub(crate) table: Table,
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
    /// Logs that were claimed, or claimed less, since the caller looked.
    pub(crate) claimed: Vec<LogId>,
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
            claimed: Vec::new(),
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
            Table::Couples(_) => 0,
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
            void: false,
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
                        Table::Couples(Box::new(Couples::new(schema)))
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

    // What happens to logs.

    /// Takes in entries that follow on what is applied of a log, or begin it anew.
    pub(crate) fn extend(
        &mut self,
        set: &LogSet,
        opening: &LogOpening,
        id: LogId,
        (from, to): (u64, u64),
        mut inert: impl FnMut(u64, PayloadError),
    ) {
        let log = self.index_of(id, &opening.agent, opening.incarnation);
        let Some(held) = set.log(&id) else { return };
        if self.at(log).from == self.at(log).to {
            let member = self.at_mut(log);
            (member.from, member.to) = (from, from);
        }
        // What is missing below although its writer has not given it up.
        let last = held.entry(to.saturating_sub(1)).map_or(from, |last| last.base);
        self.at_mut(log).base = last;
        self.find_hollow(log);
        for entry in held.entries(from, to) {
            let read = self.read_retires(set, log, &entry, true);
            let member = self.at_mut(log);
            member.to = entry.seq + 1;
            member.stored += u64::from(entry.payload_len) + ENTRY_COST;
            let says = read.is_ok();
            if let Err(error) = read {
                inert(entry.seq, error);
            }
            if !self.at(log).counts {
                self.decide(set, log);
                // If it counts now, this entry was taken in with the others.
                continue;
            }
            if says {
                self.apply(set, log, entry);
            }
            if self.at(log).shared {
                self.refresh_range(log, counter(entry.seq, 0)..counter(entry.seq + 1, 0));
            }
            self.decide(set, log);
        }
    }

    /// Takes entries below a new base back.
    pub(crate) fn drop_below(&mut self, set: &LogSet, id: &LogId, below: u64) {
        let Some(&log) = self.by_id.get(id) else { return };
        let (from, to) = (self.at(log).from, self.at(log).to);
        let below = below.min(to);
        for entry in set.told_entries(id, from, below) {
            self.forget(set, log, entry);
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

    /// Takes all of a log back: it is void, or another part takes its place.
    pub(crate) fn clear(&mut self, set: &LogSet, id: &LogId, void: bool) {
        let Some(&log) = self.by_id.get(id) else { return };
        let (from, to) = (self.at(log).from, self.at(log).to);
        if self.at(log).counts {
            self.switch(set, log, false);
        }
        for entry in set.told_entries(id, from, to) {
            self.forget(set, log, entry);
        }
        let member = self.at_mut(log);
        (member.from, member.to, member.base, member.hollow) = (0, 0, 0, 0);
        (member.stored, member.live) = (0, 0);
        member.retires.clear();
        member.ends.clear();
        member.void = void;
    }

    fn forget(&mut self, set: &LogSet, log: LogIndex, entry: Entry<'_>) {
        if self.at(log).counts {
            self.revert(set, log, entry);
        }
        if !self.at(log).retires.is_empty() {
            // Whether it says anything was told when it came.
            let _ = self.read_retires(set, log, &entry, false);
        }
        let member = self.at_mut(log);
        member.stored = member.stored.saturating_sub(u64::from(entry.payload_len) + ENTRY_COST);
    }

    /// Checks a payload, and notes what it retires.
    fn read_retires(
        &mut self,
        set: &LogSet,
        log: LogIndex,
        entry: &Entry<'_>,
        comes: bool,
    ) -> Result<(), PayloadError> {
        let payload = entry.payload().unwrap_or_default();
        let mut retires = false;
        walk(payload, |item| retires |= matches!(item, Item::Retire { .. }))?;
        if !retires {
            return Ok(());
        }
        walk(payload, |item| {
            if let Item::Retire { incarnation, below } = item {
                self.note_retire(set, log, incarnation, below, comes);
            }
        })
    }

    /// Notes what an entry retires, or that it is gone.
    fn note_retire(
        &mut self,
        set: &LogSet,
        log: LogIndex,
        incarnation: Incarnation,
        below: u64,
        comes: bool,
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
            self.claim(set, target, log, most);
        }
    }

    /// Whether a log counts: it holds something, is not void, and was not retired in its whole size.
    fn decide(&mut self, set: &LogSet, log: LogIndex) {
        let member = self.at(log);
        let retired = member.claims.values().copied().max().unwrap_or(0);
        let counts = !member.void && retired < member.to;
        if counts != member.counts {
            self.switch(set, log, counts);
        }
    }

    /// All that a log has enters the tables or leaves them.
    fn switch(&mut self, set: &LogSet, log: LogIndex, counts: bool) {
        let (id, from, to) = (self.at(log).id, self.at(log).from, self.at(log).to);
        if counts {
            self.at_mut(log).counts = true;
            for entry in set.told_entries(&id, from, to) {
                if walk(entry.payload().unwrap_or_default(), |_| ()).is_ok() {
                    self.apply(set, log, entry);
                }
            }
        } else {
            for entry in set.told_entries(&id, from, to) {
                self.revert(set, log, entry);
            }
            self.at_mut(log).counts = false;
        }
        if self.at(log).shared {
            self.refresh_range(log, 0..u64::MAX);
        }
        let claims: Vec<(LogIndex, u64)> = (self.at(log).retires.iter())
            .map(|(target, belows)| (*target, belows.last_key_value().map_or(0, |(below, _)| *below)))
            .collect();
        for (target, below) in claims {
            self.claim(set, target, log, if counts { below } else { 0 });
        }
    }

    /// Notes up to where a log answers for another's dots.
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
        self.claimed.push(self.at(target).id);
        self.decide(set, target);
    }
}
