//! The state of one topic, kept up to date entry by entry.
//!
//! The rules are those of the model in `tests/model/`: a log *counts* unless a counting log of the same agent has
//! retired it in its whole size; a counting log answers for its own dots, and for those of lower incarnations below
//! what it retired of them; a dot is live if somebody answers for it, everybody who does lists it alike, and nobody
//! names it. Everything here is a table over the logs that count, changed by what an entry says when it comes
//! ([`apply`](TopicState::apply)) and taken back when it goes ([`revert`](TopicState::revert)).
//!
//! The invariant: the tables are a function of the entries that are applied, in whatever order they came.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_crdts::{ActorId, Dot};
use consilience_sync::{AgentId, Entry, Incarnation, LogId, LogKind, LogOpening, LogSet, Topic};

use super::couples::Couples;
use super::dots::{Dots, Item as Listed, LogIndex, Place, Tag};
use super::watch::Watch;
use crate::payload::{
    CollectionId, CollectionKind, Item, Op, PayloadError, Ref, Refs, counter, seq_of, walk,
};

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
    hollow: u64,
    /// Of a log whose front is missing: how many retained entries set or remove a key. That ends its own earlier dots,
    /// which it could not say by leaving them out.
    ends: BTreeMap<(usize, Box<[u8]>), u32>,
    /// Whether other logs list its dots or answer for them.
    shared: bool,
    /// Which other logs that count answer for its dots, and up to where.
    claims: BTreeMap<LogIndex, u64>,
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
    by_id: BTreeMap<LogId, LogIndex>,
    by_alias: BTreeSet<([u8; 8], LogIndex)>,
    pub(crate) collections: Vec<Collection>,
    by_name: BTreeMap<CollectionId, usize>,
    /// The collection that was looked up last: runs on one collection are the rule.
    last: usize,
    pub(crate) watch: Option<Watch>,
    /// Logs that were claimed, or claimed less, since the caller looked.
    pub(crate) claimed: Vec<LogId>,
}

/// The entry whose operations are being taken in or back.
struct At<'a> {
    set: &'a LogSet,
    log: LogIndex,
    entry: Entry<'a>,
    collection: usize,
    tag: Option<Tag>,
}

impl TopicState {
    pub(crate) fn new(topic: Topic, seed: u64) -> Self {
        Self {
            topic,
            seed,
            members: Vec::new(),
            by_id: BTreeMap::new(),
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
        let found = (0..).zip(&self.members);
        let mut found =
            found.filter(|(_, member)| member.agent == *agent && member.incarnation == incarnation);
        found.next().map(|(index, _)| index)
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

    fn at_mut(&mut self, log: LogIndex) -> &mut Member {
        &mut self.members[log as usize]
    }

    /// The place of a log in the table; a new one if it was not met before.
    pub(crate) fn index(&mut self, set: &LogSet, agent: &AgentId, incarnation: Incarnation) -> LogIndex {
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

    fn collection_at(&mut self, bytes: &[u8]) -> usize {
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
        self.find_hollow(set, log);
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
                self.refresh_range(set, log, counter(entry.seq, 0)..counter(entry.seq + 1, 0));
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
        self.find_hollow(set, log);
    }

    /// Works out from where on a log answers for its own dots.
    fn find_hollow(&mut self, set: &LogSet, log: LogIndex) {
        let member = self.at_mut(log);
        let hollow = if member.base < member.from { member.from } else { 0 };
        let old = core::mem::replace(&mut member.hollow, hollow);
        if old != hollow && member.shared {
            self.refresh_range(set, log, 0..counter(old.max(hollow), 0));
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
        // Whether it says anything was told when it came.
        let _ = self.read_retires(set, log, &entry, false);
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
            self.refresh_range(set, log, 0..u64::MAX);
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
        self.refresh_range(set, target, counter(old.min(below), 0)..counter(old.max(below), 0));
        self.claimed.push(self.at(target).id);
        self.decide(set, target);
    }

    // What entries say.

    /// Takes in what an entry says, whose payload was checked.
    fn apply(&mut self, set: &LogSet, log: LogIndex, entry: Entry<'_>) {
        let payload = entry.payload().unwrap_or_default();
        let mut at = At { set, log, entry, collection: 0, tag: None };
        let _ = walk(payload, |item| match item {
            Item::Retire { .. } => {}
            Item::Collection(id) => at.collection = self.collection_at(id),
            Item::Op(index, op) => self.apply_op(&mut at, index, op),
        });
    }

    fn revert(&mut self, set: &LogSet, log: LogIndex, entry: Entry<'_>) {
        let payload = entry.payload().unwrap_or_default();
        if walk(payload, |_| ()).is_err() {
            return;
        }
        let mut at = At { set, log, entry, collection: 0, tag: None };
        let _ = walk(payload, |item| match item {
            Item::Retire { .. } => {}
            Item::Collection(id) => at.collection = self.collection_at(id),
            Item::Op(index, op) => self.revert_op(&at, index, op),
        });
    }

    fn apply_op(&mut self, at: &mut At<'_>, index: u16, op: Op<'_>) {
        match op {
            Op::Set { key, value, ends } => {
                self.end_missing(at, key, true);
                self.name_all(at, ends);
                let place = Place { origin: at.log, counter: counter(at.entry.seq, index) };
                let item = (key, value, at.entry.hlc);
                if !self.set_plain(at, place, item) {
                    self.end_key(at, key);
                    self.list(at, place, item, None);
                }
            }
            Op::Remove { key, ends } => {
                self.end_missing(at, key, true);
                self.end_key(at, key);
                self.name_all(at, ends);
            }
            Op::End { ends } => self.name_all(at, ends),
            Op::Carry { incarnation, counter, tag, stamp, key, value } => {
                if let Some(place) = self.carried_place(at, incarnation, counter)
                    && stamp <= at.entry.hlc
                {
                    self.list(at, place, (key, value, stamp), Some(tag));
                }
            }
            Op::Couple { key, weakens, instant } => {
                let (log, agent) = (at.log, self.at(at.log).agent);
                let Table::Couples(couples) = &mut self.collections[at.collection].table else { return };
                // What nobody could have made at the entry's own stamp does not count.
                if !couples.sums().schema().admits(instant, at.entry.hlc.time()) {
                    return;
                }
                if couples.state(key, &agent, log, weakens, instant, at.entry.seq) {
                    self.at_mut(log).live += listing_cost(key.len(), 0);
                }
                self.touch(at.collection, key);
            }
        }
    }

    fn revert_op(&mut self, at: &At<'_>, index: u16, op: Op<'_>) {
        match op {
            Op::Set { key, ends, .. } => {
                let place = Place { origin: at.log, counter: counter(at.entry.seq, index) };
                self.unlist_at(at, place);
                self.unname_all(at, ends);
                self.end_missing(at, key, false);
            }
            Op::Remove { key, ends } => {
                self.unname_all(at, ends);
                self.end_missing(at, key, false);
            }
            Op::End { ends } => self.unname_all(at, ends),
            Op::Carry { incarnation, counter, stamp, .. } => {
                if let Some(place) = self.carried_place(at, incarnation, counter)
                    && stamp <= at.entry.hlc
                {
                    self.unlist_at(at, place);
                }
            }
            Op::Couple { key, weakens, .. } => {
                let (log, agent) = (at.log, self.at(at.log).agent);
                let Table::Couples(couples) = &mut self.collections[at.collection].table else { return };
                if couples.retract(key, &agent, log, weakens, at.entry.seq) {
                    let member = self.at_mut(log);
                    member.live = member.live.saturating_sub(listing_cost(key.len(), 0));
                    self.touch(at.collection, key);
                }
            }
        }
    }

    /// Whose dot an entry carries, if it may: an earlier one of its own log, or one of a lower incarnation.
    fn carried_place(
        &mut self,
        at: &At<'_>,
        incarnation: Option<Incarnation>,
        counter: u64,
    ) -> Option<Place> {
        let Some(incarnation) = incarnation else {
            return (seq_of(counter) < at.entry.seq).then_some(Place { origin: at.log, counter });
        };
        let agent = self.at(at.log).agent;
        if incarnation >= self.at(at.log).incarnation {
            return None;
        }
        Some(Place { origin: self.index(at.set, &agent, incarnation), counter })
    }

    fn dots(&self, collection: usize) -> Option<&Dots> {
        match &self.collections[collection].table {
            Table::Dots(dots) => Some(dots),
            Table::Couples(_) => None,
        }
    }

    fn dots_mut(&mut self, collection: usize) -> Option<&mut Dots> {
        match &mut self.collections[collection].table {
            Table::Dots(dots) => Some(dots),
            Table::Couples(_) => None,
        }
    }

    fn dot(&self, place: Place) -> Dot {
        Dot { actor: self.at(place.origin).actor, counter: place.counter }
    }

    /// The tag of the entry whose operations are taken in.
    fn entry_tag(&self, at: &mut At<'_>) -> Option<Tag> {
        if at.tag.is_none() {
            at.tag = tag_of(at.set, &self.at(at.log).id, at.entry.seq);
        }
        at.tag
    }

    /// The common case of [`end_key`](Self::end_key) and [`list`](Self::list); false if it is not that.
    fn set_plain(&mut self, at: &At<'_>, place: Place, item: (&[u8], &[u8], consilience_crdts::Hlc)) -> bool {
        if self.at(at.log).shared {
            return false;
        }
        let (key, value, _) = item;
        self.touch(at.collection, key);
        let member = &mut self.members[at.log as usize];
        let Table::Dots(dots) = &mut self.collections[at.collection].table else { return false };
        let dot = Dot { actor: member.actor, counter: place.counter };
        let mut gone = 0;
        let name = (member.id.alias(), dot);
        if !dots.set_plain(place, name, item, |value| gone += listing_cost(key.len(), value)) {
            return false;
        }
        member.live = member.live.saturating_sub(gone) + listing_cost(key.len(), value.len());
        true
    }

    fn list(
        &mut self,
        at: &mut At<'_>,
        place: Place,
        (key, value, stamp): (&[u8], &[u8], consilience_crdts::Hlc),
        carried: Option<Tag>,
    ) {
        let member = self.at(place.origin);
        let alias = member.id.alias();
        if place.origin == at.log && !member.shared {
            let Some(dots) = self.dots(at.collection) else { return };
            let hidden = dots.has_names(alias, place.counter) && {
                let tag = carried.or_else(|| self.entry_tag(at)).unwrap_or_default();
                self.dots(at.collection).is_some_and(|dots| dots.is_named(alias, place.counter, tag))
            };
            let dot = self.dot(place);
            if carried.is_some() {
                // It may be listed already, under whatever key.
                self.unlist_plain(at.collection, place, &dot);
            }
            self.touch(at.collection, key);
            let seq = at.entry.seq;
            let Some(dots) = self.dots_mut(at.collection) else { return };
            dots.list_plain(place, dot, seq, (key, value, stamp), carried, hidden);
            if !hidden {
                self.at_mut(at.log).live += listing_cost(key.len(), value.len());
            }
            return;
        }
        self.share(at.set, place.origin);
        let Some(tag) = carried.or_else(|| self.entry_tag(at)) else { return };
        let item = Listed { key: key.into(), value: value.into(), stamp, tag };
        self.unlist_shared(at.collection, place, at.log);
        let (log, seq) = (at.log, at.entry.seq);
        let Some(dots) = self.dots_mut(at.collection) else { return };
        dots.list_shared(place, log, seq, item);
        self.at_mut(log).live += listing_cost(key.len(), value.len());
        self.refresh(at.collection, place);
    }

    /// Ends a plain dot's listing, wherever it is.
    fn unlist_plain(&mut self, collection: usize, place: Place, dot: &Dot) {
        let Some(dots) = self.dots(collection) else { return };
        if let Some(entry) = dots.live.entry_of(dot) {
            let cost = listing_cost(entry.key.len(), entry.value.len());
            self.touch_dot(collection, dot);
            let member = self.at_mut(place.origin);
            member.live = member.live.saturating_sub(cost);
        }
        if let Some(dots) = self.dots_mut(collection) {
            dots.unlist_plain(place, dot);
        }
    }

    fn unlist_shared(&mut self, collection: usize, place: Place, lister: LogIndex) {
        let Some(dots) = self.dots_mut(collection) else { return };
        let listing = dots.listings(place).iter().find(|listing| listing.lister == lister);
        let Some(cost) =
            listing.map(|listing| listing_cost(listing.item.key.len(), listing.item.value.len()))
        else {
            return;
        };
        dots.unlist_shared(place, lister);
        let member = self.at_mut(lister);
        member.live = member.live.saturating_sub(cost);
    }

    /// A set or a removal ends what its log lists for the key.
    fn end_key(&mut self, at: &At<'_>, key: &[u8]) {
        let member = self.at(at.log);
        let mut own = Vec::new();
        let Some(dots) = self.dots(at.collection) else { return };
        if !member.shared {
            dots.own_dots(key, &member.actor, &mut own);
        }
        let shared = dots.shared_of_key(at.log, key);
        for dot in own {
            self.unlist_plain(at.collection, Place { origin: at.log, counter: dot.counter }, &dot);
        }
        for place in shared {
            self.unlist_shared(at.collection, place, at.log);
            self.refresh(at.collection, place);
        }
    }

    /// Ends a listing if it is still the one that the entry made.
    fn unlist_at(&mut self, at: &At<'_>, place: Place) {
        let Some(dots) = self.dots(at.collection) else { return };
        if place.origin == at.log && !self.at(place.origin).shared {
            if dots.listed_at(place) == at.entry.seq {
                self.unlist_plain(at.collection, place, &self.dot(place));
            }
            return;
        }
        let listed = dots.listings(place).iter().find(|listing| listing.lister == at.log);
        if listed.is_some_and(|listing| listing.at == at.entry.seq) {
            self.unlist_shared(at.collection, place, at.log);
            self.refresh(at.collection, place);
        }
    }

    /// What a log whose front is missing says of a key ends its dots there that are missing, wherever they are listed.
    fn end_missing(&mut self, at: &At<'_>, key: &[u8], comes: bool) {
        let (log, collection) = (at.log, at.collection);
        let member = self.at_mut(log);
        let hollow = member.hollow;
        if hollow == 0 && member.ends.is_empty() {
            return;
        }
        let name = (collection, Box::from(key));
        if comes && hollow > 0 && at.entry.seq >= hollow {
            *member.ends.entry(name).or_default() += 1;
        } else if let Some(count) = member.ends.get_mut(&name).filter(|_| !comes) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                member.ends.remove(&name);
            }
        } else {
            return;
        }
        let Some(dots) = self.dots(collection) else { return };
        let missing = dots.shared_in(log, 0..counter(hollow, 0)).into_iter();
        let of_key = |place: &Place| dots.listings(*place).iter().any(|listing| *listing.item.key == *key);
        for place in missing.filter(of_key).collect::<Vec<_>>() {
            self.refresh(collection, place);
        }
    }

    fn name_all(&mut self, at: &At<'_>, ends: Refs<'_>) {
        for found in ends {
            if self.dots_mut(at.collection).is_some_and(|dots| dots.name(&found)) {
                self.renamed(at.set, at.collection, &found, true);
            }
        }
    }

    fn unname_all(&mut self, at: &At<'_>, ends: Refs<'_>) {
        for found in ends {
            if self.dots_mut(at.collection).is_some_and(|dots| dots.unname(&found)) {
                self.renamed(at.set, at.collection, &found, false);
            }
        }
    }

    /// A removal began to count, or ceased to.
    fn renamed(&mut self, set: &LogSet, collection: usize, found: &Ref, hide: bool) {
        let mut next = 0;
        while let Some((_, origin)) =
            self.by_alias.range((found.alias, next)..=(found.alias, LogIndex::MAX)).next().copied()
        {
            next = origin + 1;
            let place = Place { origin, counter: found.counter };
            if self.at(origin).shared {
                self.refresh(collection, place);
                continue;
            }
            let dot = self.dot(place);
            let Some(dots) = self.dots(collection) else { return };
            let store = if hide { &dots.live } else { &dots.hidden };
            let Some(entry) = store.entry_of(&dot) else { continue };
            let cost = listing_cost(entry.key.len(), entry.value.len());
            if self.tag(set, collection, place) != Some(found.tag) {
                continue;
            }
            self.touch_dot(collection, &dot);
            let member = self.at_mut(origin);
            member.live = if hide { member.live.saturating_sub(cost) } else { member.live + cost };
            if let Some(dots) = self.dots_mut(collection) {
                dots.hide(&dot, hide);
            }
        }
    }

    /// The tag of a plain dot.
    fn tag(&self, set: &LogSet, collection: usize, place: Place) -> Option<Tag> {
        let moved = self.dots(collection)?.moved(place);
        moved.map(|(_, tag)| tag).or_else(|| tag_of(set, &self.at(place.origin).id, seq_of(place.counter)))
    }

    /// How a removal names a live dot.
    pub(crate) fn name_of(&self, set: &LogSet, collection: &CollectionId, dot: &Dot) -> Option<Ref> {
        let at = *self.by_name.get(collection)?;
        let id = LogId::from_bytes(dot.actor.as_bytes().try_into().ok()?);
        let origin = *self.by_id.get(&id)?;
        let place = Place { origin, counter: dot.counter };
        let tag = if self.at(origin).shared {
            self.dots(at)?.listings(place).first()?.item.tag
        } else {
            self.tag(set, at, place)?
        };
        Some(Ref { alias: id.alias(), counter: dot.counter, tag })
    }

    /// Whether a removal still has something to hide: some log that counts lists that dot with that tag.
    pub(crate) fn is_needed(&self, set: &LogSet, collection: &[u8], found: &Ref) -> bool {
        let table = self.by_name.get(&CollectionId::from_bytes(collection)).copied();
        let mut logs = self.by_alias.range((found.alias, 0)..=(found.alias, LogIndex::MAX)).peekable();
        // Of a log that is not known here nothing can be said.
        logs.peek().is_none() || logs.any(|(_, origin)| self.is_listed(set, table, *origin, found))
    }

    fn is_listed(&self, set: &LogSet, table: Option<usize>, origin: LogIndex, found: &Ref) -> bool {
        let place = Place { origin, counter: found.counter };
        let (member, seq) = (self.at(origin), seq_of(found.counter));
        if member.void {
            return false;
        }
        // Nobody answers for it yet, or a part of the log is on its way.
        let own = member.counts && seq < member.to;
        if !own && member.claimed() <= seq || set.log(&member.id).is_some_and(|log| !log.gaps().is_empty()) {
            return true;
        }
        let Some((at, dots)) = table.and_then(|at| Some((at, self.dots(at)?))) else { return false };
        if member.shared {
            return dots.listings(place).iter().any(|listing| listing.item.tag == found.tag);
        }
        let dot = self.dot(place);
        (dots.hidden.contains(&dot) || dots.live.contains(&dot))
            && self.tag(set, at, place) == Some(found.tag)
    }

    /// Makes a log's dots shared: others list them too, or answer for them.
    fn share(&mut self, set: &LogSet, log: LogIndex) {
        if self.at(log).shared {
            return;
        }
        let (id, from, to) = (self.at(log).id, self.at(log).from, self.at(log).to);
        let mut found: BTreeSet<(usize, Place)> = BTreeSet::new();
        if self.at(log).counts {
            for entry in set.told_entries(&id, from, to) {
                let (mut collection, payload) = (0, entry.payload().unwrap_or_default());
                if walk(payload, |_| ()).is_err() {
                    continue;
                }
                let _ = walk(payload, |item| match item {
                    Item::Collection(bytes) => collection = self.collection_at(bytes),
                    Item::Op(index, Op::Set { .. }) => {
                        found.insert((collection, Place { origin: log, counter: counter(entry.seq, index) }));
                    }
                    Item::Op(_, Op::Carry { incarnation: None, counter, .. }) => {
                        found.insert((collection, Place { origin: log, counter }));
                    }
                    _ => {}
                });
            }
        }
        let mut listed = Vec::new();
        for (collection, place) in found {
            let dot = self.dot(place);
            let Some(dots) = self.dots(collection) else { continue };
            let Some(entry) = dots.live.entry_of(&dot).or_else(|| dots.hidden.entry_of(&dot)) else {
                continue;
            };
            let (key, value, stamp) = (entry.key.into(), entry.value.into(), entry.stamp);
            let at = dots.listed_at(place);
            let Some(tag) = self.tag(set, collection, place) else { continue };
            listed.push((collection, place, at, Listed { key, value, stamp, tag }));
        }
        for (collection, place, at, item) in listed {
            let dot = self.dot(place);
            self.unlist_plain(collection, place, &dot);
            let cost = listing_cost(item.key.len(), item.value.len());
            if let Some(dots) = self.dots_mut(collection) {
                dots.list_shared(place, log, at, item);
            }
            self.at_mut(log).live += cost;
        }
        self.at_mut(log).shared = true;
        self.refresh_range(set, log, 0..u64::MAX);
    }

    fn refresh_range(&mut self, _set: &LogSet, origin: LogIndex, counters: core::ops::Range<u64>) {
        for collection in 0..self.collections.len() {
            let Some(dots) = self.dots(collection) else { continue };
            for place in dots.shared_in(origin, counters.clone()) {
                self.refresh(collection, place);
            }
        }
    }

    /// Whether a shared dot is live: somebody answers for it, everybody who does lists it alike, and nobody names it.
    fn refresh(&mut self, collection: usize, place: Place) {
        let Some(dots) = self.dots(collection) else { return };
        let origin = self.at(place.origin);
        let seq = seq_of(place.counter);
        let own = (origin.counts && seq < origin.to && seq >= origin.hollow).then_some(place.origin);
        let others = origin.claims.iter().filter(|(_, below)| seq < **below).map(|(log, _)| *log);
        let listings = dots.listings(place);
        let mut said = None;
        let mut agreed = true;
        for log in own.into_iter().chain(others) {
            let item = listings.iter().find(|listing| listing.lister == log).map(|listing| &listing.item);
            match (said, item) {
                (_, None) => agreed = false,
                (None, item) => said = item,
                (Some(other), Some(item)) => agreed &= other == item,
            }
        }
        let alias = origin.id.alias();
        let missing = seq < origin.hollow;
        let ended = |key: &[u8]| missing && origin.ends.contains_key(&(collection, key.into()));
        let counts =
            |item: &&Listed| agreed && !dots.is_named(alias, place.counter, item.tag) && !ended(&item.key);
        let live = said.filter(counts).cloned();
        let dot = self.dot(place);
        let was = dots.live.entry_of(&dot).map(|entry| entry.key.to_vec());
        if was.is_none() && live.is_none() {
            return;
        }
        for key in was.iter().map(Vec::as_slice).chain(live.iter().map(|item| &*item.key)) {
            self.touch(collection, key);
        }
        if let Some(dots) = self.dots_mut(collection) {
            dots.show_shared(dot, live.as_ref());
        }
    }

    /// Notes that what is read under the key of a plain dot is about to change.
    fn touch_dot(&mut self, collection: usize, dot: &Dot) {
        if let Some(watch) = &mut self.watch {
            let at = &self.collections[collection];
            let Table::Dots(dots) = &at.table else { return };
            if let Some(entry) = dots.live.entry_of(dot).or_else(|| dots.hidden.entry_of(dot)) {
                watch.touch(collection, entry.key, at);
            }
        }
    }

    /// Notes that what is read under a key is about to change.
    fn touch(&mut self, collection: usize, key: &[u8]) {
        if let Some(watch) = &mut self.watch {
            watch.touch(collection, key, &self.collections[collection]);
        }
    }
}

/// The tag of the dots that an entry mints.
pub(crate) fn tag_of(set: &LogSet, log: &LogId, seq: u64) -> Option<Tag> {
    let leaf = set.log(log)?.leaf(seq)?;
    leaf.as_bytes().first_chunk().copied()
}
