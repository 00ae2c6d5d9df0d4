//! What writers write again, so that what is older can go.
//!
//! *Carrying*: once a log's entries weigh more than twice what they list, each append lists some of the oldest again and
//! raises the base, so that stored bytes follow live bytes and no entry is large. *Taking over*: a later incarnation
//! lists what an earlier one left, and retires it. *Rescuing*: what a void log listed is written anew.
//!
//! The invariant: nothing that is live here, and no removal that is still needed, is given up by a base that rises.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_crdts::{Hlc, Timestamp, Units};
use consilience_sync::{AgentId, Entry, Incarnation, Log, LogId, LogKind, NewEntry, Topic};

use super::transaction::CommitError;
use super::{Replica, Source};
use crate::fold::{ENTRY_COST, Member, Place, Table, TopicState, tag_of};
use crate::payload::{Carried, CollectionId, Draft, Item, LOGS_MAX, Op, Ref, counter, seq_of, walk};

/// At least so many bytes are carried at a time.
const CARRY_BYTES_MIN: usize = 256;
/// What several entries are made of has at most so many bytes in each.
const CHUNK_BYTES: usize = 32 << 10;

/// Something that a void log listed.
#[derive(Clone, Debug)]
pub(super) struct Rescued {
    /// Of the entry that says it again: what others wrote since is newer. None if the stamps were wrong; then it is now.
    stamp: Option<Hlc>,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Write { id: CollectionId, key: Box<[u8]>, value: Box<[u8]> },
    Couple { id: CollectionId, key: Box<[u8]>, weakens: bool, instant: u64 },
    End { id: CollectionId, ended: Ref },
    Retire { incarnation: Incarnation, below: u64 },
}

/// One thing that an entry says and that has to be said again when it goes.
enum Kept {
    Carry(CollectionId, Carried),
    /// What was written while the clock was ahead, and so cannot be carried.
    Write(CollectionId, Box<[u8]>, Box<[u8]>),
    End(CollectionId, Ref),
    Couple(CollectionId, Box<[u8]>, bool, u64),
    Retire(Incarnation, u64),
}

impl Kept {
    fn bytes(&self) -> usize {
        match self {
            Self::Carry(id, carried) => id.as_bytes().len() + carried.key.len() + carried.value.len() + 32,
            Self::Write(id, key, value) => id.as_bytes().len() + key.len() + value.len() + 6,
            Self::End(id, _) => id.as_bytes().len() + 24,
            Self::Couple(id, key, ..) => id.as_bytes().len() + key.len() + 16,
            Self::Retire(..) => 16,
        }
    }

    /// The log that it names.
    const fn name(&self) -> Option<[u8; 8]> {
        match self {
            Self::End(_, ended) => Some(ended.alias),
            _ => None,
        }
    }

    fn put(self, draft: &mut Draft) {
        match self {
            Self::Carry(id, carried) => draft.carry(&id, carried),
            Self::Write(id, key, value) => draft.write(&id, &key, Some(&value), BTreeSet::new()),
            Self::End(id, ended) => draft.end(&id, ended),
            Self::Couple(id, key, weakens, instant) => draft.couple(&id, &key, weakens, instant),
            Self::Retire(incarnation, below) => draft.retire(incarnation, below),
        }
    }
}

impl Replica {
    /// Adds what should be carried along to a draft; gives the base of the entry that it becomes. Where one old entry has
    /// more than fits, entries of their own are appended for it.
    pub(super) fn carry_along(
        &mut self,
        topic: &Topic,
        log: &LogId,
        draft: &mut Draft,
        now: Timestamp,
    ) -> Result<u64, CommitError> {
        let Some(held) = self.store.logs().log(log) else { return Ok(0) };
        let (mut base, size) = (held.base(), held.size());
        let budget = (2 * draft.bytes()).max(CARRY_BYTES_MIN);
        let (mut spent, mut freed) = (0, 0);
        while base < size && spent < budget {
            let Some((stored, live)) = self.weight(topic, log) else { break };
            if !self.carrying.is_due((stored + draft.bytes() as u64).saturating_sub(freed), live) {
                break;
            }
            // Reading it takes a walk through its block.
            let entry = self.store.logs().log(log).and_then(|log| log.entry(base));
            let gone = u64::from(entry.map_or(0, |entry| entry.payload_len)) + ENTRY_COST;
            let kept = entry.map_or_else(Vec::new, |entry| self.kept(topic, log, entry, draft, now));
            let bytes: usize = kept.iter().map(Kept::bytes).sum();
            let names = kept.iter().filter_map(Kept::name);
            // Of most old entries nothing is kept, and a large draft has room for that.
            if bytes > 0 && (draft.bytes() + bytes > CHUNK_BYTES || draft.names_too_many_with(names)) {
                if spent > 0 {
                    break;
                }
                // Written again in entries of its own, which come before this one.
                self.append_kept(log, kept, now)?;
            } else {
                kept.into_iter().for_each(|kept| kept.put(draft));
            }
            spent += bytes;
            freed += gone;
            base += 1;
        }
        self.carried += spent as u64;
        Ok(base)
    }

    /// What a log's entries weigh, and what of that lists what is live.
    fn weight(&self, topic: &Topic, log: &LogId) -> Option<(u64, u64)> {
        let (_, member) = self.fold.topic(topic)?.member(log)?;
        Some((member.stored, member.live))
    }

    /// What has to be kept of an own entry.
    fn kept(&self, topic: &Topic, log: &LogId, entry: Entry<'_>, draft: &Draft, now: Timestamp) -> Vec<Kept> {
        let Some(state) = self.fold.topic(topic) else { return Vec::new() };
        let Some((index, member)) = state.member(log) else { return Vec::new() };
        let mut reading =
            Reading { replica: self, state, member, index, entry, draft, now, id: None, kept: Vec::new() };
        // What is malformed says nothing.
        let payload = entry.payload().unwrap_or_default();
        if walk(payload, |_| ()).is_ok() {
            let _ = walk(payload, |item| reading.take(item));
        }
        reading.kept
    }

    fn append_kept(&mut self, log: &LogId, kept: Vec<Kept>, now: Timestamp) -> Result<(), CommitError> {
        let mut draft = Draft::default();
        let (mut last, mut names) = (Vec::new(), BTreeSet::new());
        for kept in kept {
            if matches!(kept, Kept::Retire(..)) {
                last.push(kept);
                continue;
            }
            let too_many = kept.name().is_some_and(|name| !names.contains(&name) && names.len() == LOGS_MAX);
            if !draft.is_empty() && (draft.bytes() + kept.bytes() > CHUNK_BYTES || too_many) {
                self.append_again(log, &core::mem::take(&mut draft), now)?;
                names.clear();
            }
            names.extend(kept.name());
            kept.put(&mut draft);
        }
        let bytes: usize = last.iter().map(Kept::bytes).sum();
        if !draft.is_empty() && draft.bytes() + bytes > CHUNK_BYTES {
            self.append_again(log, &core::mem::take(&mut draft), now)?;
        }
        last.into_iter().for_each(|kept| kept.put(&mut draft));
        if draft.is_empty() { Ok(()) } else { self.append_again(log, &draft, now) }
    }

    fn append_again(&mut self, log: &LogId, draft: &Draft, now: Timestamp) -> Result<(), CommitError> {
        let base = self.store.logs().log(log).map_or(0, Log::base);
        self.append_draft(log, draft, base, now).map(|_| ())
    }

    /// What comes before a writer's next entry: writing again what void logs listed, and taking over what earlier
    /// incarnations left. Whether there was any of it.
    pub(super) fn prepare(
        &mut self,
        agent: &AgentId,
        topic: &Topic,
        log: &LogId,
        now: Timestamp,
    ) -> Result<bool, CommitError> {
        let mut prepared = false;
        let whose = (*agent, topic.clone());
        if let Some(rescued) = self.rescued.remove(&whose) {
            if let Err(error) = self.write_rescued(topic, log, &rescued, now) {
                // Nothing of it is forgotten: what was written already will be written once more.
                self.rescued.insert(whose, rescued);
                return Err(error);
            }
            prepared = true;
        }
        if self.met {
            let kept = self.left_behind(topic, log, now);
            if !kept.is_empty() {
                let restamped = kept.iter().any(|kept| matches!(kept, Kept::Write(..)));
                self.append_kept(log, kept, now)?;
                if restamped {
                    self.notices.restamped(*agent, topic.clone());
                }
                prepared = true;
            }
        }
        Ok(prepared)
    }

    /// Writes again at once what forks voided: so it is stored in the same record as what showed the fork, or behind it.
    pub(super) fn write_all_rescued(&mut self, now: Timestamp) {
        let whose: Vec<(AgentId, Topic)> = self.rescued.keys().cloned().collect();
        for (agent, topic) in whose {
            // What others wrote since is newer, so what is written again keeps its stamps: in a log without later ones.
            let own = self.locals.get(&agent).and_then(|logs| logs.get(&(topic.clone(), LogKind::State)));
            let last = own.and_then(|log| self.store.logs().log(log)).map_or(Hlc::ZERO, Log::last_hlc);
            let stamps = self.rescued.get(&(agent, topic.clone())).into_iter().flatten();
            if stamps.filter_map(|one| one.stamp).any(|stamp| stamp <= last)
                && let Some(logs) = self.locals.get_mut(&agent)
            {
                logs.remove(&(topic.clone(), LogKind::State));
            }
            if let Ok(log) = self.own_log(&agent, &topic, LogKind::State, now) {
                // What cannot be written now comes before the writer's next entry.
                let _ = self.prepare(&agent, &topic, &log, now);
            }
        }
    }

    /// What earlier incarnations left and a log has not taken over.
    fn left_behind(&self, topic: &Topic, log: &LogId, now: Timestamp) -> Vec<Kept> {
        let none = Vec::new();
        let Some(state) = self.fold.topic(topic) else { return none };
        let Some(opening) = self.store.logs().log(log).map(|log| log.opening()) else { return none };
        let own = state.member(log);
        let claims = own.map(|(_, member)| member.own_claims()).unwrap_or_default();
        let mut wanted: BTreeMap<u32, u64> = BTreeMap::new();
        let mut tails: Vec<&Member> = Vec::new();
        for (index, member) in (0..).zip(&state.members) {
            let lower = member.agent == opening.agent && member.incarnation < opening.incarnation;
            let partly = self.store.logs().log(&member.id).is_none_or(|log| !log.gaps().is_empty());
            if !lower || !member.counts || partly || member.to <= claims.get(&index).copied().unwrap_or(0) {
                continue;
            }
            tails.push(member);
            let below = wanted.entry(index).or_default();
            *below = member.to.max(*below);
            for (target, below) in member.own_claims() {
                let known = wanted.entry(target).or_default();
                *known = below.max(*known);
            }
        }
        wanted.retain(|target, below| *below > claims.get(target).copied().unwrap_or(0));
        if tails.is_empty() {
            return none;
        }
        let mut kept = Vec::new();
        let stamp = self.next_stamp(log, now);
        self.carry_covered(state, own.map(|(index, _)| index), &wanted, stamp, &mut kept);
        for member in tails {
            self.repeat(state, member, now, &mut kept);
        }
        // A log's last word counts, so it must not fall back behind what it said itself.
        if let Some((own, member)) = own {
            kept.retain(|kept| match kept {
                Kept::Couple(id, key, weakens, instant) => {
                    stated(state, id, key, &member.agent, own, *weakens) < *instant
                }
                _ => true,
            });
        }
        kept.extend(wanted.iter().map(|(target, below)| Kept::Retire(state.at(*target).incarnation, *below)));
        kept
    }

    /// Lists the live dots of what is taken over that the own log does not list yet, and names those that it lists and
    /// that are not live. Those later than the entry's stamp would not count: what they hold is written anew.
    fn carry_covered(
        &self,
        state: &TopicState,
        own: Option<u32>,
        wanted: &BTreeMap<u32, u64>,
        stamp: Hlc,
        kept: &mut Vec<Kept>,
    ) {
        for collection in &state.collections {
            let Table::Dots(dots) = &collection.table else { continue };
            let mut ahead: BTreeMap<&[u8], (Hlc, &[u8])> = BTreeMap::new();
            let entries = dots.live.iter().flat_map(|first| dots.live.siblings(first.key));
            for entry in entries {
                let Some((origin, member)) = state.member_of(&entry.dot.actor) else { continue };
                let counter = entry.dot.counter;
                let place = Place { origin, counter };
                let listed = dots.listings(place).iter().any(|listing| Some(listing.lister) == own);
                if listed || wanted.get(&origin).is_none_or(|below| seq_of(counter) >= *below) {
                    continue;
                }
                if entry.stamp > stamp {
                    let latest = ahead.entry(entry.key).or_default();
                    *latest = (entry.stamp, entry.value).max(*latest);
                    continue;
                }
                let Some(tag) =
                    state.name_of(&self.store.logs(), &collection.id, &entry.dot).map(|name| name.tag)
                else {
                    continue;
                };
                kept.push(Kept::Carry(
                    collection.id.clone(),
                    Carried {
                        incarnation: Some(member.incarnation),
                        counter,
                        tag,
                        stamp: entry.stamp,
                        key: entry.key.into(),
                        value: entry.value.into(),
                    },
                ));
            }
            let anew = ahead.into_iter();
            kept.extend(
                anew.map(|(key, (_, value))| Kept::Write(collection.id.clone(), key.into(), value.into())),
            );
            for place in own.into_iter().flat_map(|own| dots.shared_of(own)) {
                let member = state.at(place.origin);
                let dot = consilience_crdts::Dot { actor: member.actor, counter: place.counter };
                let listing = dots.listings(place).iter().find(|listing| Some(listing.lister) == own);
                if let Some(listing) = listing.filter(|_| !dots.live.contains(&dot)) {
                    let ended =
                        Ref { alias: member.id.alias(), counter: place.counter, tag: listing.item.tag };
                    kept.push(Kept::End(collection.id.clone(), ended));
                }
            }
        }
    }

    /// Repeats the removals and contributions of a log that are still needed.
    fn repeat(&self, state: &TopicState, member: &Member, now: Timestamp, kept: &mut Vec<Kept>) {
        let mut named: BTreeSet<(Vec<u8>, Ref)> = BTreeSet::new();
        let Some(log) = self.store.logs().log(&member.id) else { return };
        for entry in log.entries(member.from, member.to) {
            let payload = entry.payload().unwrap_or_default();
            if walk(payload, |_| ()).is_err() {
                continue;
            }
            let mut id: &[u8] = &[];
            let _ = walk(payload, |item| match item {
                Item::Collection(bytes) => id = bytes,
                Item::Op(_, Op::Set { ends, .. } | Op::Remove { ends, .. } | Op::End { ends }) => {
                    named.extend(ends.map(|found| (id.to_vec(), found)));
                }
                Item::Op(_, Op::Couple { key, weakens, instant }) => {
                    let id = CollectionId::from_bytes(id);
                    let alive = id.schema().is_some_and(|schema| {
                        schema.admits(instant, entry.hlc.time())
                            && schema.amount_at(instant, now) > Units::ZERO
                    });
                    if alive {
                        kept.push(Kept::Couple(id, key.into(), weakens, instant));
                    }
                }
                _ => {}
            });
        }
        let needed = named.into_iter().filter(|(id, found)| state.is_needed(&self.store.logs(), id, found));
        kept.extend(needed.map(|(id, found)| Kept::End(CollectionId::from_bytes(&id), found)));
    }

    /// Notes what an own log lists from an entry on that is about to be void, or has to be written anew, at stamps of now
    /// if its own are wrong.
    pub(super) fn rescue(&mut self, log: &LogId, first: u64, wrong: bool) {
        let Some(held) = self.store.logs().log(log) else { return };
        let opening = held.opening().clone();
        let Some(state) = self.fold.topic(&opening.topic).filter(|_| opening.kind == LogKind::State) else {
            return;
        };
        let Some((index, member)) = state.member(log) else { return };
        // Of a log of which nothing stays also what it took over: what it retired counts again then, or is not there any more.
        let whole = first == 0 && !wrong;
        let mut rescued = Vec::new();
        for collection in &state.collections {
            let Table::Dots(dots) = &collection.table else { continue };
            let lists = |dot: consilience_crdts::Dot| {
                let place =
                    state.member_of(&dot.actor).map(|(origin, _)| Place { origin, counter: dot.counter });
                place.is_some_and(|place| dots.listings(place).iter().any(|listing| listing.lister == index))
            };
            for winner in dots.live.iter() {
                let own = dots.live.siblings(winner.key).filter(|entry| {
                    let own = entry.dot.actor == member.actor && seq_of(entry.dot.counter) >= first;
                    own || whole && lists(entry.dot)
                });
                if let Some(entry) = own.max_by_key(|entry| (entry.stamp, entry.dot.counter)) {
                    let (key, value) = (entry.key.into(), entry.value.into());
                    let stamp = (!wrong).then_some(entry.stamp);
                    let what = What::Write { id: collection.id.clone(), key, value };
                    rescued.push(Rescued { stamp, what });
                }
            }
        }
        // Of what it names and states, everything that still matters; when it was said does not.
        let stamp = (!wrong).then_some(held.last_hlc());
        let mut kept = Vec::new();
        let (from, to) = (member.from.max(first), member.to);
        for entry in self.store.logs().told_entries(log, from, to) {
            let payload = entry.payload().unwrap_or_default();
            if walk(payload, |_| ()).is_err() {
                continue;
            }
            let mut id: &[u8] = &[];
            let _ = walk(payload, |item| match item {
                Item::Collection(bytes) => id = bytes,
                Item::Op(_, Op::Set { ends, .. } | Op::Remove { ends, .. } | Op::End { ends }) => {
                    for ended in ends.filter(|found| state.is_needed(&self.store.logs(), id, found)) {
                        kept.push(Rescued {
                            stamp,
                            what: What::End { id: CollectionId::from_bytes(id), ended },
                        });
                    }
                }
                Item::Op(_, Op::Couple { key, weakens, instant }) => {
                    let id = CollectionId::from_bytes(id);
                    kept.push(Rescued {
                        stamp,
                        what: What::Couple { id, key: key.into(), weakens, instant },
                    });
                }
                _ => {}
            });
        }
        rescued.append(&mut kept);
        if whole {
            let retired = member.own_claims().into_iter();
            rescued.extend(retired.map(|(target, below)| {
                let incarnation = state.at(target).incarnation;
                Rescued { stamp, what: What::Retire { incarnation, below } }
            }));
        }
        if !rescued.is_empty() {
            self.rescued.entry((opening.agent, opening.topic)).or_default().append(&mut rescued);
        }
    }

    fn write_rescued(
        &mut self,
        topic: &Topic,
        log: &LogId,
        rescued: &[Rescued],
        now: Timestamp,
    ) -> Result<(), CommitError> {
        let mut rescued: Vec<&Rescued> = rescued.iter().collect();
        rescued.sort_by_key(|one| one.stamp);
        for at_once in rescued.chunk_by(|one, next| one.stamp == next.stamp) {
            let stamp = at_once.first().and_then(|one| one.stamp);
            self.write_at_once(topic, log, at_once.iter().copied(), stamp, now)?;
        }
        Ok(())
    }

    /// Writes in as few entries as fit, of this stamp or of now.
    fn write_at_once<'r>(
        &mut self,
        topic: &Topic,
        log: &LogId,
        rescued: impl Iterator<Item = &'r Rescued>,
        stamp: Option<Hlc>,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        let mut draft = Draft::default();
        for one in rescued {
            self.put_rescued(topic, log, &one.what, stamp.map_or(now, |stamp| stamp.time()), &mut draft);
            if draft.bytes() > CHUNK_BYTES || draft.names_too_many() {
                self.append_rescued(log, &core::mem::take(&mut draft), stamp, now)?;
            }
        }
        if draft.is_empty() { Ok(()) } else { self.append_rescued(log, &draft, stamp, now) }
    }

    fn append_rescued(
        &mut self,
        log: &LogId,
        draft: &Draft,
        stamp: Option<Hlc>,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        let Some(stamp) = stamp else { return self.append_again(log, draft, now) };
        let base = self.store.logs().log(log).map_or(0, Log::base);
        let payload = draft.encode()?;
        self.append_at(log, stamp, |hlc| NewEntry { base, ..NewEntry::new(hlc, &payload) })?;
        self.settle(now, Source::Host);
        Ok(())
    }

    fn put_rescued(&self, topic: &Topic, log: &LogId, what: &What, at: Timestamp, draft: &mut Draft) {
        match what {
            What::Write { id, key, value } => {
                // What the old log still has of it is ended; what others wrote meanwhile is not.
                let mut ends = BTreeSet::new();
                if let Some(state) = self.fold.topic(topic)
                    && let Some(Table::Dots(dots)) = state.collection(id).map(|collection| &collection.table)
                {
                    let agent = self.store.logs().log(log).map(|log| log.opening().agent);
                    for entry in dots.live.siblings(key) {
                        let author = state.member_of(&entry.dot.actor).map(|(_, member)| member.agent);
                        if author == agent {
                            ends.extend(state.name_of(&self.store.logs(), id, &entry.dot));
                        }
                    }
                }
                draft.write(id, key, Some(value), ends);
            }
            What::Couple { id, key, weakens, instant } => {
                let own = self.fold.topic(topic).and_then(|state| {
                    let (index, member) = state.member(log)?;
                    Some(stated(state, id, key, &member.agent, index, *weakens))
                });
                let alive = id.schema().is_some_and(|schema| {
                    schema.admits(*instant, at) && schema.amount_at(*instant, at) > Units::ZERO
                });
                if alive && own.unwrap_or(0) < *instant {
                    draft.couple(id, key, *weakens, *instant);
                }
            }
            What::End { id, ended } => draft.end(id, *ended),
            What::Retire { incarnation, below } => draft.retire(*incarnation, *below),
        }
    }
}

/// The instant that a log states for a key of a coupling.
fn stated(
    state: &TopicState,
    id: &CollectionId,
    key: &[u8],
    agent: &AgentId,
    log: u32,
    weakens: bool,
) -> u64 {
    match state.collection(id).map(|collection| &collection.table) {
        Some(Table::Couples(couples)) => couples.stated(key, agent, log, weakens),
        _ => 0,
    }
}

/// An own entry that is about to go, and what was found to be kept of it.
struct Reading<'a> {
    replica: &'a Replica,
    state: &'a TopicState,
    member: &'a Member,
    index: u32,
    entry: Entry<'a>,
    draft: &'a Draft,
    now: Timestamp,
    id: Option<CollectionId>,
    kept: Vec<Kept>,
}

impl Reading<'_> {
    fn take(&mut self, item: Item<'_>) {
        match item {
            Item::Collection(bytes) => self.id = Some(CollectionId::from_bytes(bytes)),
            Item::Retire { incarnation, .. } => {
                let target = self.state.incarnation_of(&self.member.agent, incarnation);
                let below = target.and_then(|target| self.member.own_claims().get(&target).copied());
                self.kept.extend(below.map(|below| Kept::Retire(incarnation, below)));
            }
            Item::Op(index, op) => {
                if let Some(id) = self.id.take() {
                    self.take_op(&id, index, op);
                    self.id = Some(id);
                }
            }
        }
    }

    fn take_op(&mut self, id: &CollectionId, index: u16, op: Op<'_>) {
        let seq = self.entry.seq;
        match op {
            Op::Set { key, value, ends } => {
                let place = Place { origin: self.index, counter: counter(seq, index) };
                self.carry(id, place, None, None, (key, value, self.entry.hlc));
                self.end(id, ends);
            }
            Op::Remove { ends, .. } | Op::End { ends } => self.end(id, ends),
            Op::Carry { incarnation, counter, tag, stamp, key, value } => {
                let origin = match incarnation {
                    None => Some(self.index),
                    Some(incarnation) => self.state.incarnation_of(&self.member.agent, incarnation),
                };
                if let Some(origin) = origin {
                    self.carry(id, Place { origin, counter }, incarnation, Some(tag), (key, value, stamp));
                }
            }
            Op::Couple { key, weakens, .. } => {
                let Some(Table::Couples(couples)) =
                    self.state.collection(id).map(|collection| &collection.table)
                else {
                    return;
                };
                let (agent, stated) = (&self.member.agent, self.draft.coupled(id, key));
                let newer = if weakens { stated.1 } else { stated.0 };
                if let Some(instant) = couples.stated_at(key, agent, self.index, weakens, seq)
                    && newer == 0
                    && couples.sums().schema().amount_at(instant, self.now) > Units::ZERO
                {
                    self.kept.push(Kept::Couple(id.clone(), key.into(), weakens, instant));
                }
            }
        }
    }

    /// Carries a dot if it is live, this entry is where it is listed, and the draft does not write its key.
    fn carry(
        &mut self,
        id: &CollectionId,
        place: Place,
        incarnation: Option<Incarnation>,
        tag: Option<[u8; 4]>,
        (key, value, stamp): (&[u8], &[u8], Hlc),
    ) {
        let Some(Table::Dots(dots)) = self.state.collection(id).map(|collection| &collection.table) else {
            return;
        };
        let origin = self.state.at(place.origin);
        let dot = consilience_crdts::Dot { actor: origin.actor, counter: place.counter };
        let listing = dots.listings(place).iter().find(|listing| listing.lister == self.index);
        let at = match listing {
            Some(listing) => listing.at,
            None if place.origin == self.index => dots.listed_at(place),
            None => return,
        };
        if at != self.entry.seq || !dots.live.contains(&dot) || self.draft.writes(id, key) {
            return;
        }
        let own = || tag_of(&self.replica.store.logs(), &self.member.id, seq_of(place.counter));
        let Some(tag) = tag.or_else(own) else { return };
        let (key, value) = (key.into(), value.into());
        let carried = Carried { incarnation, counter: place.counter, tag, stamp, key, value };
        self.kept.push(Kept::Carry(id.clone(), carried));
    }

    fn end(&mut self, id: &CollectionId, ends: impl Iterator<Item = Ref>) {
        let (set, state) = (&self.replica.store.logs(), self.state);
        let needed = ends.filter(|found| state.is_needed(set, id.as_bytes(), found));
        self.kept.extend(needed.map(|found| Kept::End(id.clone(), found)));
    }
}
