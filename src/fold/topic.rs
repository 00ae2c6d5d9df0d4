//! The state of one topic, kept up to date entry by entry.
//!
//! Which logs count is the log set's to decide. A log that counts answers for its own dots, for those of earlier incarnations
//! below the numbers up to which it has closed them, and for all dots of the incarnations that it has ended for good; a dot
//! is live if some log answers for it, every log that does lists it alike, and no removal names it. Everything here is a
//! table over the logs that count, changed by the transaction of an entry when the entry comes, and back when it goes (both
//! in `entries`).
//!
//! The invariants: the tables are a function of the entries that are applied, in whatever order they came; and so is their
//! size. A log is in the table of logs while it counts, one that counts lists dots of it, or there are names of its dots
//! that somebody answers for; a collection while an applied entry lists, names or states something in it.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Included};

use consilience_crdts::ActorId;
use consilience_sync::planted::{Fault, planted};
use consilience_sync::{AgentId, Entry, Incarnation, Log, LogId, LogKind, LogOpening, LogSet, Topic};

use super::Folded;
use super::collection::{Collection, Table};
use super::dots::LogIndex;
use super::few::{FewMap, FewSet};
use super::watch::{Watch, Winner};
use crate::payload::{CollectionId, CollectionKind, Transaction, counter};

/// One log of the topic, as far as it is known.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: LogId,
    pub(crate) agent: AgentId,
    pub(crate) incarnation: Incarnation,
    /// The entries that are applied.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Whether anything of it is applied.
    pub(crate) counts: bool,
    /// Whether other logs list its dots or answer for them.
    pub(crate) shared: bool,
    /// Which other logs that count answer for its dots, ascending, and up to where.
    pub(super) claims: Vec<(LogIndex, u64)>,
    /// It answers for all dots of its agent's logs below.
    last_final: Option<Incarnation>,
    /// Bytes of payloads that are retained, and a little for each entry.
    pub(crate) stored: u64,
    /// About how many of them list live dots.
    pub(crate) live: u64,
}

impl Member {
    /// The actor of its dots in the tables.
    pub(crate) fn actor(&self) -> ActorId {
        ActorId::from(*self.id.as_bytes())
    }

    /// Up to where others that count answer for its dots.
    pub(crate) fn claimed(&self) -> u64 {
        self.claims.iter().map(|(_, below)| *below).max().unwrap_or(0)
    }

    fn claim_of(&self, log: LogIndex) -> u64 {
        self.claims.binary_search_by_key(&log, |(claimer, _)| *claimer).map_or(0, |at| self.claims[at].1)
    }

    fn set_claim(&mut self, log: LogIndex, below: u64) {
        match self.claims.binary_search_by_key(&log, |(claimer, _)| *claimer) {
            Ok(at) if below == 0 => {
                self.claims.remove(at);
            }
            Ok(at) => self.claims[at].1 = below,
            Err(_) if below == 0 => {}
            Err(at) => self.claims.insert(at, (log, below)),
        }
    }
}

/// The statements on earlier incarnations in entries that came or went: which may have changed.
#[derive(Debug, Default)]
struct Stated {
    incarnations: Vec<Incarnation>,
}

impl Stated {
    fn note(&mut self, entry: &Entry<'_>) {
        self.incarnations.extend(entry.closures().map(|closure| closure.incarnation));
    }
}

/// About how many bytes an entry takes beside salt and payload.
pub(crate) const ENTRY_COST: u64 = 6;

/// The bytes that count for listing a key and a value.
pub(crate) const fn listing_cost(key: usize, value: usize) -> u64 {
    (key + value) as u64 + 24
}

/// Collections in which there may be nothing any more, and logs of which nothing may be needed: looked at after each entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Loose {
    pub(super) collections: Vec<CollectionId>,
    pub(super) logs: Vec<LogIndex>,
}

/// What logs say of one another's dots.
#[derive(Clone, Debug)]
struct Relations {
    /// How many dots of a log are named, by its alias.
    names: FewMap<[u8; 8], u32>,
    /// The earlier incarnations that logs which count have closed, by alias: most are not in the table of logs.
    closed: FewMap<([u8; 8], LogIndex), Incarnation>,
    /// In which collections shared dots of a log are listed.
    shared_in: FewSet<(LogIndex, CollectionId)>,
}

impl Relations {
    const NONE: Self = Self { names: FewMap::new(), closed: FewMap::new(), shared_in: FewSet::new() };
}

static NONE: Relations = Relations::NONE;

#[derive(Clone, Debug)]
pub(crate) struct TopicState {
    topic: Topic,
    seed: u64,
    /// A map, since a place in a vector could not be given back; of boxes, since the nodes of a tree have room for eleven.
    members: FewMap<LogIndex, Box<Member>>,
    pub(super) by_id: FewMap<LogId, LogIndex>,
    by_incarnation: FewMap<(AgentId, Incarnation), LogIndex>,
    /// Those that count.
    counting: FewMap<(AgentId, Incarnation), LogIndex>,
    /// In no order: when one goes, the last takes its place.
    pub(crate) collections: Vec<Collection>,
    pub(super) by_name: FewMap<CollectionId, usize>,
    /// The collection that was looked up last: runs on one collection are the rule.
    last: usize,
    /// In a box: most topics have none of it.
    relations: Option<Box<Relations>>,
    /// Less than every id of a collection.
    least: CollectionId,
    /// In a box, which goes when all was looked at.
    loose: Option<Box<Loose>>,
    /// How many dots were looked at again, since it was last asked, because of what logs say of one another.
    pub(super) looked_at: u64,
    pub(crate) watch: Option<Watch>,
}

impl TopicState {
    pub(crate) fn new(topic: Topic, seed: u64) -> Self {
        Self {
            topic,
            seed,
            members: FewMap::new(),
            by_id: FewMap::new(),
            by_incarnation: FewMap::new(),
            counting: FewMap::new(),
            collections: Vec::new(),
            by_name: FewMap::new(),
            last: 0,
            relations: None,
            least: CollectionId::from_bytes(&[]),
            loose: None,
            looked_at: 0,
            watch: None,
        }
    }

    /// Whether nothing of the topic is here, and the host has looked at all changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
            && self.collections.is_empty()
            && self.watch.as_ref().is_none_or(Watch::is_empty)
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

    /// How many dots were looked at again since the last call.
    pub(super) const fn take_looked_at(&mut self) -> u64 {
        core::mem::replace(&mut self.looked_at, 0)
    }

    /// The logs of the topic that are known.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(Box::as_ref)
    }

    /// The logs of an agent that are known, by incarnation.
    pub(crate) fn logs_of(&self, agent: &AgentId) -> impl Iterator<Item = (LogIndex, &Member)> {
        let agent = *agent;
        let first = (agent, Incarnation::from_u64(0));
        let logs = self.by_incarnation.range(first..).take_while(move |((whose, _), _)| *whose == agent);
        logs.map(|(_, log)| (*log, self.at(*log)))
    }

    /// A log by its place in the table, which it has as long as something here names it.
    pub(crate) fn at(&self, log: LogIndex) -> &Member {
        match self.members.get(&log) {
            Some(member) => member,
            None => unreachable!("a log that is named is known"),
        }
    }

    pub(super) fn at_mut(&mut self, log: LogIndex) -> &mut Member {
        match self.members.get_mut(&log) {
            Some(member) => member,
            None => unreachable!("a log that is named is known"),
        }
    }

    /// The place of a log in the table; a new one if it was not met before.
    pub(super) fn index(&mut self, set: &LogSet, agent: &AgentId, incarnation: Incarnation) -> LogIndex {
        if let Some(index) = self.incarnation_of(agent, incarnation) {
            return index;
        }
        let id = self.id_of(set, agent, incarnation);
        self.index_of(set, id, agent, incarnation)
    }

    fn id_of(&self, set: &LogSet, agent: &AgentId, incarnation: Incarnation) -> LogId {
        let topic = self.topic.clone();
        LogOpening { topic, kind: LogKind::State, agent: *agent, incarnation }.log_id(set.mesh())
    }

    fn index_of(&mut self, set: &LogSet, id: LogId, agent: &AgentId, incarnation: Incarnation) -> LogIndex {
        if let Some(index) = self.by_id.get(&id) {
            return *index;
        }
        let index = self.free_index();
        let later = (Excluded((*agent, incarnation)), Included((*agent, Incarnation::from_u64(u64::MAX))));
        let claims = self.counting.range(later).filter_map(|(_, log)| {
            // A closure in entries that are not applied yet may never be: then nothing would take the claim back.
            let is_applied = self.relations().closed.contains_key(&(id.alias(), *log));
            let is_over = self.at(*log).last_final > Some(incarnation);
            let is_late = planted(Fault::LateLogIsNotAnswered);
            let below =
                if (is_applied || is_over) && !is_late { self.answered(set, *log, incarnation) } else { 0 };
            (below > 0).then_some((*log, below))
        });
        let mut claims: Vec<(LogIndex, u64)> = claims.collect();
        claims.sort_unstable();
        let member = Member {
            id,
            agent: *agent,
            incarnation,
            from: 0,
            to: 0,
            counts: false,
            shared: !claims.is_empty(),
            claims,
            last_final: None,
            stored: 0,
            live: 0,
        };
        self.members.insert(index, Box::new(member));
        self.by_id.insert(id, index);
        self.by_incarnation.insert((*agent, incarnation), index);
        self.loose().logs.push(index);
        index
    }

    /// A place in the table that no log has.
    fn free_index(&self) -> LogIndex {
        let last = self.members.last_key_value().map(|(last, _)| *last);
        match last.map_or(Some(0), |last| last.checked_add(1)) {
            Some(next) => next,
            // Only after 2^32 logs came and went, and one of the last stayed.
            None => (0..).find(|index| !self.members.contains_key(index)).unwrap_or(0),
        }
    }

    /// Up to where a log answers for the dots of an earlier incarnation of its agent, by its retained entries.
    fn answered(&self, set: &LogSet, log: LogIndex, incarnation: Incarnation) -> u64 {
        let is_over = |member: &Member| member.last_final > Some(incarnation);
        if self.members.get(&log).is_some_and(|member| is_over(member)) {
            return u64::MAX;
        }
        self.closed_below(set, log, incarnation)
    }

    /// The greatest closure of an earlier incarnation in a log's retained entries.
    fn closed_below(&self, set: &LogSet, log: LogIndex, incarnation: Incarnation) -> u64 {
        let counting = self.members.get(&log).filter(|member| member.counts);
        counting.map_or(0, |member| set.closed_below(&member.id, incarnation))
    }

    fn relations(&self) -> &Relations {
        self.relations.as_deref().unwrap_or(&NONE)
    }

    fn relations_mut(&mut self) -> &mut Relations {
        self.relations.get_or_insert_with(|| Box::new(Relations::NONE))
    }

    /// Notes that shared dots of a log are listed in a collection, or are not any more.
    pub(super) fn note_shared_in(&mut self, log: LogIndex, id: &CollectionId, listed: bool) {
        if listed {
            self.relations_mut().shared_in.insert((log, id.clone()), ());
        } else if let Some(relations) = &mut self.relations {
            relations.shared_in.remove(&(log, id.clone()));
        }
    }

    pub(super) fn loose(&mut self) -> &mut Loose {
        self.loose.get_or_insert_default()
    }

    /// Gives up the notes of keys that came and went, or are again as they were, before the host looked.
    fn tidy_watch(&mut self) {
        if let Some(mut watch) = self.watch.take_if(|watch| watch.is_crowded()) {
            watch.retain(|id, key, was| {
                // Of the contributions to a key no copy is kept.
                id.kind() == CollectionKind::Coupling
                    || self.collection(id).and_then(|at| self.winner(at, key)).as_ref() != was
            });
            self.watch = Some(watch);
        }
    }

    /// Gives up what the entries so far have left without meaning.
    fn tidy(&mut self) {
        self.tidy_watch();
        self.relations.take_if(|relations| {
            relations.names.is_empty() && relations.closed.is_empty() && relations.shared_in.is_empty()
        });
        let Some(loose) = self.loose.take() else { return };
        let Loose { collections, logs } = *loose;
        for id in collections {
            let Some(&at) = self.by_name.get(&id) else { continue };
            if !self.collections[at].table.is_empty() {
                continue;
            }
            self.by_name.remove(&id);
            self.collections.swap_remove(at);
            if let Some(moved) = self.collections.get(at)
                && let Some(place) = self.by_name.get_mut(&moved.id)
            {
                *place = at;
            }
            if self.collections.capacity() > 4 * self.collections.len() + 4 {
                self.collections.shrink_to(2 * self.collections.len());
            }
        }
        for log in logs {
            let Some(member) = self.members.get(&log) else { continue };
            // While it is known that somebody answers for its dots, it is known that their names are not needed.
            let is_named =
                !member.claims.is_empty() && self.relations().names.contains_key(&member.id.alias());
            let stays = member.counts || is_named || planted(Fault::MembersStay);
            if stays || self.collections_of(log).next().is_some() {
                continue;
            }
            self.by_id.remove(&member.id);
            self.by_incarnation.remove(&(member.agent, member.incarnation));
            self.members.remove(&log);
        }
    }

    /// The logs that are known by an alias.
    pub(super) fn aliased(&self, alias: [u8; 8]) -> impl Iterator<Item = LogIndex> {
        let id = |fill| {
            let mut bytes = [fill; 32];
            bytes[..8].copy_from_slice(&alias);
            LogId::from_bytes(bytes)
        };
        self.by_id.range(id(0)..=id(u8::MAX)).map(|(_, log)| *log)
    }

    /// Counts a dot of a log that began to be named, or ceased to.
    pub(super) fn count_name(&mut self, alias: [u8; 8], begins: bool) {
        if begins {
            let count = self.relations_mut().names.get_or_insert_with(alias, || 0);
            *count = count.saturating_add(1);
            return;
        }
        let Some(relations) = &mut self.relations else { return };
        let Some(count) = relations.names.get_mut(&alias) else { return };
        *count -= 1;
        if *count == 0 {
            relations.names.remove(&alias);
            let idle: Vec<LogIndex> = self.aliased(alias).collect();
            self.loose().logs.extend(idle);
        }
    }

    /// Whether a log that counts answers for a dot of one that is in no table, by its alias.
    pub(super) fn is_closed(&self, set: &LogSet, alias: [u8; 8], seq: u64) -> bool {
        let mut closed = self.relations().closed.range((alias, LogIndex::MIN)..=(alias, LogIndex::MAX));
        closed.any(|((_, log), incarnation)| self.answered(set, *log, *incarnation) > seq)
    }

    /// The collections in which shared dots of a log are listed.
    pub(super) fn collections_of(&self, log: LogIndex) -> impl Iterator<Item = usize> {
        let listed = self
            .relations()
            .shared_in
            .range((log, self.least.clone())..)
            .take_while(move |((of, _), ())| *of == log);
        listed.filter_map(|((_, id), ())| self.by_name.get(id).copied())
    }

    pub(crate) fn collection(&self, id: &CollectionId) -> Option<&Collection> {
        self.by_name.get(id).map(|at| &self.collections[*at])
    }

    /// All collections, in the order of their ids.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = &Collection> {
        self.by_name.values().map(|at| &self.collections[*at])
    }

    /// The place of a collection, if it is there.
    pub(super) fn find_collection(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.collections.get(self.last).is_none_or(|last| last.id.as_bytes() != bytes) {
            self.last = *self.by_name.get(bytes)?;
        }
        Some(self.last)
    }

    /// The place of a collection, which is made if it is not there.
    pub(super) fn collection_at(&mut self, bytes: &[u8]) -> usize {
        if let Some(at) = self.find_collection(bytes) {
            return at;
        }
        let id = CollectionId::from_bytes(bytes);
        self.last = self.collections.len();
        if self.collections.len() < 4 {
            self.collections.reserve_exact(1);
        }
        self.collections.push(Collection::new(id.clone(), self.seed));
        self.by_name.insert(id, self.last);
        self.last
    }

    /// The same topic with nothing in it, if the host has yet to look at the keys that went.
    pub(crate) fn emptied(mut self) -> Option<Self> {
        let mut watch = self.watch.take().filter(|_| !planted(Fault::PurgedKeysAreNotTold))?;
        for collection in self.sorted() {
            let id = &collection.id;
            match &collection.table {
                Table::Dots(dots) => {
                    dots.live.iter().for_each(|live| {
                        watch.touch(id, live.key, || self.winner(collection, live.key));
                    });
                }
                Table::CouplingTable(couplings) => {
                    couplings.sums().keys().for_each(|key| watch.touch(id, key, || None));
                }
            }
        }
        Some(Self { watch: Some(watch), ..Self::new(self.topic, self.seed) })
            .filter(|state| !state.is_empty())
    }

    /// The winner of a key now.
    pub(crate) fn winner(&self, collection: &Collection, key: &[u8]) -> Option<Winner> {
        let Table::Dots(dots) = &collection.table else { return None };
        let entry = dots.live.get(key)?;
        let (_, member) = self.member_of(&entry.dot.actor)?;
        let (value, dot, stamp) = (entry.value.into(), entry.dot, entry.stamp);
        Some(Winner { value, dot, stamp, author: member.agent })
    }

    // Changes of logs.

    /// Takes in entries that follow on the applied ones of a log, or begin it anew.
    pub(crate) fn extend(&mut self, set: &LogSet, held: &Log, (from, to): (u64, u64), folded: &mut Folded) {
        let (id, opening) = (*held.id(), held.opening());
        let log = self.index_of(set, id, &opening.agent, opening.incarnation);
        self.counting.insert((opening.agent, opening.incarnation), log);
        let member = self.at_mut(log);
        let begins = !core::mem::replace(&mut member.counts, true);
        let counted = if begins { 0 } else { member.to };
        if member.from == member.to {
            (member.from, member.to) = (from, from);
        }
        let mut stated = Stated::default();
        for entry in held.entries(from, to) {
            stated.note(&entry);
            let member = self.at_mut(log);
            member.to = entry.seq + 1;
            member.stored += u64::from(entry.payload_len) + ENTRY_COST;
            match Transaction::of(&entry) {
                Ok(said) => self.apply(set, log, &entry, &said),
                Err(error) => folded.inert.push((id, entry.seq, error)),
            }
            self.tidy();
        }
        if self.at(log).shared {
            // It answers from now on for more of its dots: also for those that only others list, of entries that came, and
            // of entries that were given up before they came.
            self.refresh_range(log, counter(counted, 0)..counter(to, 0));
        }
        self.answer(set, log, stated);
        self.tidy();
    }

    /// Takes entries below a new base back.
    pub(crate) fn drop_below(&mut self, set: &LogSet, id: &LogId, below: u64) {
        let Some(&log) = self.by_id.get(id) else { return };
        let (from, to) = (self.at(log).from, self.at(log).to);
        let below = below.min(to);
        let mut stated = Stated::default();
        for entry in set.acknowledged_entries(id, from, below) {
            stated.note(&entry);
            self.forget(set, log, entry);
        }
        let member = self.at_mut(log);
        member.from = member.from.max(below);
        self.answer(set, log, stated);
        self.tidy();
    }

    /// Takes all of a log back: it does not count any more, or another part takes its place.
    pub(crate) fn clear(&mut self, set: &LogSet, id: &LogId) {
        let Some(&log) = self.by_id.get(id) else { return };
        let (from, to) = (self.at(log).from, self.at(log).to);
        let mut stated = Stated::default();
        for entry in set.acknowledged_entries(id, from, to) {
            stated.note(&entry);
            self.forget(set, log, entry);
        }
        let member = self.at_mut(log);
        (member.from, member.to, member.counts) = (0, 0, false);
        (member.stored, member.live) = (0, 0);
        let (whose, shared) = ((member.agent, member.incarnation), member.shared);
        self.counting.remove(&whose);
        self.loose().logs.push(log);
        if shared && !planted(Fault::ClearedIsNotLookedAt) {
            self.refresh_range(log, 0..u64::MAX);
        }
        self.answer(set, log, stated);
        self.tidy();
    }

    fn forget(&mut self, set: &LogSet, log: LogIndex, entry: Entry<'_>) {
        // Whether it says anything was reported when it came.
        if let Ok(said) = Transaction::of(&entry)
            && !planted(Fault::GivenUpStaysInState)
        {
            self.revert(set, log, &entry, &said);
        }
        let member = self.at_mut(log);
        member.stored = member.stored.saturating_sub(u64::from(entry.payload_len) + ENTRY_COST);
        self.tidy();
    }

    /// Works out anew for whose dots a log answers, after entries with these statements came or went.
    fn answer(&mut self, set: &LogSet, log: LogIndex, mut stated: Stated) {
        let member = self.at(log);
        let (agent, counts, old) = (member.agent, member.counts, member.last_final);
        let new = if counts { set.last_final(&member.id) } else { None };
        self.at_mut(log).last_final = new;
        stated.incarnations.sort_unstable();
        stated.incarnations.dedup();
        for incarnation in &stated.incarnations {
            let alias = self.id_of(set, &agent, *incarnation).alias();
            if self.closed_below(set, log, *incarnation) > 0 {
                self.relations_mut().closed.insert((alias, log), *incarnation);
            } else {
                if let Some(relations) = &mut self.relations {
                    relations.closed.remove(&(alias, log));
                }
            }
        }
        let targets = stated.incarnations.iter();
        let mut targets: BTreeSet<LogIndex> =
            targets.filter_map(|incarnation| self.incarnation_of(&agent, *incarnation)).collect();
        if new != old {
            // All between the two, of which it begins or ceases to answer for everything.
            let bound = |first: Option<Incarnation>| (agent, first.unwrap_or(Incarnation::from_u64(0)));
            let between = self.by_incarnation.range(bound(new.min(old))..bound(new.max(old)));
            targets.extend(between.map(|(_, target)| *target));
        }
        for target in targets {
            let below = self.answered(set, log, self.at(target).incarnation);
            self.claim(set, target, log, below);
        }
    }

    /// Notes up to where a log answers for another's dots, an earlier incarnation's.
    fn claim(&mut self, set: &LogSet, target: LogIndex, log: LogIndex, below: u64) {
        let old = self.at(target).claim_of(log);
        if old == below {
            return;
        }
        if below > 0 {
            self.share(set, target);
        } else {
            self.loose().logs.push(target);
        }
        self.at_mut(target).set_claim(log, below);
        self.refresh_range(target, counter(old.min(below), 0)..counter(old.max(below), 0));
    }
}

#[cfg(test)]
mod tests {
    use consilience_sync::{
        Admission, Answer, Closure, Hlc, Keypair, Limits, MeshId, NewEntry, RangeForm, Signer, Timestamp,
        VerifyBudget, Want,
    };

    use super::*;
    use crate::fold::Fold;
    use crate::payload::Ref;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn keys() -> Keypair {
        Keypair::from_seed([1; 32])
    }

    const fn named(incarnation: u64) -> Incarnation {
        Incarnation::from_u64(incarnation)
    }

    fn opening(incarnation: u64) -> LogOpening {
        let topic = Topic::new("team").unwrap();
        LogOpening { topic, kind: LogKind::State, agent: keys().agent(), incarnation: named(incarnation) }
    }

    fn set() -> LogSet {
        LogSet::new(MeshId::from_bytes([7; 32]), Limits::default())
    }

    /// Entries that say nothing but what is given, signed.
    fn write(set: &mut LogSet, incarnation: u64, entries: &[NewEntry<'_>]) -> LogId {
        let log = set.open_local(&opening(incarnation)).unwrap();
        for entry in entries {
            set.append(&log, entry).unwrap();
        }
        set.sign_head(&log, &keys(), NOW).unwrap();
        log
    }

    const fn plain() -> NewEntry<'static> {
        NewEntry::new(Hlc::new(NOW, 0), b"x")
    }

    fn state(set: &LogSet) -> TopicState {
        Fold::anew(set, 1).topic(&opening(1).topic).unwrap().clone()
    }

    fn nobody(incarnation: u64) -> Member {
        Member {
            id: opening(incarnation).log_id(set().mesh()),
            agent: keys().agent(),
            incarnation: named(incarnation),
            from: 0,
            to: 0,
            counts: false,
            shared: false,
            claims: Vec::new(),
            last_final: None,
            stored: 0,
            live: 0,
        }
    }

    #[test]
    fn others_answer_for_a_log_up_to_the_greatest_of_their_numbers() {
        let mut member = nobody(1);
        assert_eq!(member.claimed(), 0);
        for (log, below) in [(5, 3), (2, 7), (9, 1), (5, 4)] {
            member.set_claim(log, below);
        }
        assert_eq!((member.claims.as_slice(), member.claimed()), (&[(2, 7), (5, 4), (9, 1)][..], 7));
        member.set_claim(2, 0);
        member.set_claim(3, 0);
        assert_eq!((member.claims.as_slice(), member.claimed()), (&[(5, 4), (9, 1)][..], 4));
        assert_eq!((member.claim_of(5), member.claim_of(2)), (4, 0));
    }

    #[test]
    fn a_listing_costs_its_bytes_and_a_little() {
        assert_eq!((listing_cost(0, 0), listing_cost(2, 5), listing_cost(5, 2)), (24, 31, 31));
    }

    #[test]
    fn a_topic_without_anything_is_forgotten() {
        let mut fold = Fold::new(1);
        let topic = opening(1).topic;
        assert!(fold.topic_mut(&topic).is_empty());
        fold.forget_if_empty(&topic);
        assert!(fold.topic(&topic).is_none());
    }

    #[test]
    fn names_are_counted_until_the_last_has_gone() {
        let mut state = TopicState::new(opening(1).topic, 1);
        let counted = |state: &TopicState| state.relations().names.get(&[1; 8]).copied();
        for (begins, count) in
            [(true, Some(1)), (true, Some(2)), (false, Some(1)), (false, None), (false, None)]
        {
            state.count_name([1; 8], begins);
            assert_eq!(counted(&state), count);
        }
    }

    #[test]
    fn a_log_that_does_not_count_stays_while_it_is_named_and_somebody_answers_for_it() {
        for (counts, is_claimed, is_named) in
            [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().flat_map(|(a, b)| [(0, a, b), (1, a, b)])
        {
            let mut state = TopicState::new(opening(1).topic, 1);
            let claims = if is_claimed == 1 { vec![(3, 1)] } else { vec![] };
            let member = Member { counts: counts == 1, claims, ..nobody(1) };
            let id = member.id;
            state.by_id.insert(id, 4);
            state.by_incarnation.insert((member.agent, member.incarnation), 4);
            state.members.insert(4, Box::new(member));
            if is_named == 1 {
                state.count_name(id.alias(), true);
            }
            state.loose().logs.push(4);
            state.tidy();
            let stays = counts == 1 || is_claimed == 1 && is_named == 1;
            assert_eq!(state.member(&id).is_some(), stays, "{counts} {is_claimed} {is_named}");
        }
    }

    #[test]
    fn a_log_answers_for_those_below_its_final_one_and_for_what_it_has_closed() {
        let mut set = set();
        let closures = [Closure { incarnation: named(3), below: 4 }];
        let log =
            write(&mut set, 6, &[NewEntry { closures: &closures, last_final: Some(named(2)), ..plain() }]);
        let mut state = state(&set);
        let (at, _) = state.member(&log).unwrap();
        let answered = |incarnation| state.answered(&set, at, named(incarnation));
        assert_eq!([1, 2, 3, 4].map(answered), [u64::MAX, 0, 4, 0]);
        let closed = |incarnation, seq| state.is_closed(&set, nobody(incarnation).id.alias(), seq);
        assert_eq!([0, 3, 4, 9].map(|seq| closed(3, seq)), [true, true, false, false]);
        assert!(!closed(4, 0));
        // The same is known of a log that comes later.
        for (incarnation, claims) in [(1, vec![(at, u64::MAX)]), (2, vec![]), (3, vec![(at, 4)]), (4, vec![])]
        {
            let later = state.index(&set, &keys().agent(), named(incarnation));
            let member = state.at(later);
            assert_eq!((member.shared, &member.claims), (!claims.is_empty(), &claims), "{incarnation}");
        }
    }

    #[test]
    fn a_name_is_needed_where_nobody_answers_or_a_part_is_on_its_way() {
        let mut source = set();
        let log = write(&mut source, 1, &[plain(), plain(), plain()]);
        let found = |seq| Ref { alias: log.alias(), counter: counter(seq, 0), tag: [0; 4] };
        let is_needed = |set: &LogSet, seq| state(set).is_needed(set, b"", &found(seq));
        // Nothing is listed there.
        assert_eq!([0, 2, 3, 9].map(|seq| is_needed(&source, seq)), [false, false, true, true]);

        write(&mut source, 1, &[plain(), plain(), plain()]);
        let mut part = set();
        part.open(&opening(1), |_| Admission::Hold).unwrap();
        for (from, to, needed) in [(0, 2, true), (4, 6, true), (2, 4, false)] {
            let want = Want { from, to, form: RangeForm::Alone };
            let Answer::Range { bytes, .. } = source.answer(&log, &want, usize::MAX) else {
                panic!("{want:?}")
            };
            part.receive(&log, &bytes, NOW, &mut VerifyBudget::new()).unwrap();
            assert_eq!(is_needed(&part, 1), needed, "{from}..{to}");
        }
    }

    #[test]
    fn what_a_removal_names_is_named_in_its_collection_alone() {
        let mut state = TopicState::new(opening(1).topic, 1);
        let [tasks, notes] =
            ["tasks", "notes"].map(|name| CollectionId::new(CollectionKind::Map, name, None).unwrap());
        let found = Ref { alias: [1; 8], counter: 3, tag: [2; 4] };
        assert!(!state.is_named(&tasks, &found));
        let at = state.collection_at(tasks.as_bytes());
        let Table::Dots(dots) = &mut state.collections[at].table else { panic!("a map has dots") };
        assert!(dots.name(&found));
        assert!(state.is_named(&tasks, &found) && !state.is_named(&notes, &found));
        assert!(!state.is_named(&tasks, &Ref { tag: [3; 4], ..found }));
    }
}
