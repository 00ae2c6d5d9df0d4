//! The effect of entries on the state of a topic: their operations are taken in, and back.
//!
//! Every change of a table is made here: a dot listed or not any more, a removal counted or taken back. Which entries
//! are taken in is decided in `topic`.
//!
//! The invariant: [`revert`](TopicState::revert) takes back the changes that [`apply`](TopicState::apply) made, unless
//! a later entry of the log has replaced them.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::Range;

use consilience_crdts::{Dot, Hlc};
use consilience_sync::planted::{Fault, planted};
use consilience_sync::{AgentId, Entry, Incarnation, LogId, LogSet};

use super::collection::{Collection, Table};
use super::dots::{Dots, Listed, LocalDot, LogIndex, Tag};
use super::topic::{TopicState, listing_cost};
use crate::payload::{CollectionId, Op, Ref, Refs, Statement, Transaction, counter, seq_of};

/// The entry whose operations are being taken in or back.
struct At<'a> {
    set: &'a LogSet,
    log: LogIndex,
    entry: &'a Entry<'a>,
    collection: usize,
    tag: Option<Tag>,
}

impl TopicState {
    /// Takes in the transaction of an entry.
    pub(super) fn apply(&mut self, set: &LogSet, log: LogIndex, entry: &Entry<'_>, said: &Transaction<'_>) {
        let mut at = At { set, log, entry, collection: 0, tag: None };
        for item in said.items() {
            match item {
                Statement::Collection(id) => {
                    self.leave_collection(at.collection);
                    at.collection = self.collection_at(id);
                }
                Statement::Op(index, op) => self.apply_op(&mut at, index, op),
            }
        }
        self.leave_collection(at.collection);
    }

    /// Takes back the transaction of an entry.
    pub(super) fn revert(&mut self, set: &LogSet, log: LogIndex, entry: &Entry<'_>, said: &Transaction<'_>) {
        let mut at = At { set, log, entry, collection: 0, tag: None };
        let mut is_there = false;
        for item in said.items() {
            match item {
                Statement::Collection(id) => {
                    self.leave_collection(at.collection);
                    let found = self.find_collection(id);
                    is_there = found.is_some();
                    at.collection = found.unwrap_or_default();
                }
                // Of a collection that is gone, nothing is left to be taken back.
                Statement::Op(..) if !is_there => {}
                Statement::Op(index, op) => self.revert_op(&at, index, op),
            }
        }
        self.leave_collection(at.collection);
    }

    /// Gives up the memory of content that went from a collection, and notes whether anything is left of it.
    fn leave_collection(&mut self, collection: usize) {
        let Some(collection) = self.collections.get_mut(collection) else { return };
        if collection.table.is_empty() && !planted(Fault::EmptyCollectionsStay) {
            let id = collection.id.clone();
            self.loose().collections.push(id);
        } else {
            collection.table.shrink();
        }
    }

    fn apply_op(&mut self, at: &mut At<'_>, index: u16, op: Op<'_>) {
        match op {
            Op::Set { key, value, ends } => {
                self.name_all(at, ends);
                let place = LocalDot { origin: at.log, counter: counter(at.entry.seq, index) };
                let item = (key, value, at.entry.hlc);
                if !self.set_plain(at, place, item) {
                    self.end_key(at, key);
                    self.list(at, place, item, None);
                }
            }
            Op::Remove { key, ends } => {
                self.end_key(at, key);
                self.name_all(at, ends);
            }
            Op::End { ends } => self.name_all(at, ends),
            Op::Relist { incarnation, counter, tag, stamp, key, value } => {
                if stamp <= at.entry.hlc
                    && let Some(origin) = self.relisted_of(at, incarnation, counter)
                {
                    let origin = match origin {
                        None => at.log,
                        Some((agent, incarnation)) => self.index(at.set, &agent, incarnation),
                    };
                    self.list(at, LocalDot { origin, counter }, (key, value, stamp), Some(tag));
                }
            }
            Op::Couple { key, weakens, instant } => {
                let (log, agent) = (at.log, self.at(at.log).agent);
                let Table::CouplingTable(couplings) = &mut self.collections[at.collection].table else {
                    return;
                };
                // An instant that nobody could have made at the entry's own stamp does not count.
                if !couplings.sums().schema().admits(instant, at.entry.hlc.time()) {
                    return;
                }
                if couplings.state(key, &agent, log, weakens, instant, at.entry.seq) {
                    self.at_mut(log).live += listing_cost(key.len(), 0);
                }
                self.touch(at.collection, key);
            }
        }
    }

    fn revert_op(&mut self, at: &At<'_>, index: u16, op: Op<'_>) {
        match op {
            Op::Set { ends, .. } => {
                let place = LocalDot { origin: at.log, counter: counter(at.entry.seq, index) };
                self.unlist_at(at, place);
                self.unname_all(at, ends);
            }
            Op::Remove { ends, .. } | Op::End { ends } => self.unname_all(at, ends),
            Op::Relist { incarnation, counter, stamp, .. } => {
                if stamp <= at.entry.hlc
                    && let Some(origin) = self.relisted_of(at, incarnation, counter)
                {
                    let known = |(agent, incarnation)| self.incarnation_of(&agent, incarnation);
                    if let Some(origin) = origin.map_or(Some(at.log), known) {
                        self.unlist_at(at, LocalDot { origin, counter });
                    }
                }
            }
            Op::Couple { key, weakens, .. } => {
                let (log, agent) = (at.log, self.at(at.log).agent);
                let Table::CouplingTable(couplings) = &mut self.collections[at.collection].table else {
                    return;
                };
                if couplings.retract(key, &agent, log, weakens, at.entry.seq) {
                    let member = self.at_mut(log);
                    member.live = member.live.saturating_sub(listing_cost(key.len(), 0));
                    self.touch(at.collection, key);
                }
            }
        }
    }

    /// Whose dot an entry relists, if it may: an earlier one of its own log (`Some(None)`), or one of a lower incarnation.
    fn relisted_of(
        &self,
        at: &At<'_>,
        incarnation: Option<Incarnation>,
        counter: u64,
    ) -> Option<Option<(AgentId, Incarnation)>> {
        let Some(incarnation) = incarnation else {
            return (seq_of(counter) < at.entry.seq).then_some(None);
        };
        let member = self.at(at.log);
        (incarnation < member.incarnation).then_some(Some((member.agent, incarnation)))
    }

    fn dots(&self, collection: usize) -> Option<&Dots> {
        match &self.collections.get(collection)?.table {
            Table::Dots(dots) => Some(dots),
            Table::CouplingTable(_) => None,
        }
    }

    fn dots_mut(&mut self, collection: usize) -> Option<&mut Dots> {
        match &mut self.collections.get_mut(collection)?.table {
            Table::Dots(dots) => Some(dots),
            Table::CouplingTable(_) => None,
        }
    }

    fn dot(&self, place: LocalDot) -> Dot {
        Dot { actor: self.at(place.origin).actor(), counter: place.counter }
    }

    /// The tag of the entry whose operations are taken in.
    fn entry_tag(&self, at: &mut At<'_>) -> Option<Tag> {
        if at.tag.is_none() {
            at.tag = tag_of(at.set, &self.at(at.log).id, at.entry.seq);
        }
        at.tag
    }

    /// The common case of [`end_key`](Self::end_key) and [`list`](Self::list); false if it is not that.
    fn set_plain(&mut self, at: &At<'_>, place: LocalDot, item: (&[u8], &[u8], Hlc)) -> bool {
        if self.at(at.log).shared {
            return false;
        }
        let (key, value, _) = item;
        self.touch(at.collection, key);
        let member = self.at(at.log);
        let name = (member.id.alias(), Dot { actor: member.actor(), counter: place.counter });
        let Some(dots) = self.dots_mut(at.collection) else { return false };
        let mut gone = 0;
        if !dots.set_plain(place, name, item, |value| gone += listing_cost(key.len(), value)) {
            return false;
        }
        let member = self.at_mut(at.log);
        member.live = member.live.saturating_sub(gone) + listing_cost(key.len(), value.len());
        true
    }

    fn list(
        &mut self,
        at: &mut At<'_>,
        place: LocalDot,
        (key, value, stamp): (&[u8], &[u8], Hlc),
        relisted: Option<Tag>,
    ) {
        let member = self.at(place.origin);
        let alias = member.id.alias();
        if place.origin == at.log && !member.shared {
            let Some(dots) = self.dots(at.collection) else { return };
            let may_hide = !planted(Fault::EarlyRemovalIsLost) && dots.has_names(alias, place.counter);
            let hidden = may_hide && {
                let tag = relisted.or_else(|| self.entry_tag(at)).unwrap_or_default();
                self.dots(at.collection).is_some_and(|dots| dots.is_named(alias, place.counter, tag))
            };
            let dot = self.dot(place);
            if relisted.is_some() {
                // It may be listed already, under whatever key.
                self.unlist_plain(at.collection, place, &dot);
            }
            self.touch(at.collection, key);
            let seq = at.entry.seq;
            let Some(dots) = self.dots_mut(at.collection) else { return };
            dots.list_plain(place, dot, seq, (key, value, stamp), relisted, hidden);
            if !hidden {
                self.at_mut(at.log).live += listing_cost(key.len(), value.len());
            }
            return;
        }
        self.share(at.set, place.origin);
        let Some(tag) = relisted.or_else(|| self.entry_tag(at)) else { return };
        let item = Listed::new((key, value, stamp), tag);
        self.unlist_shared(at.collection, place, at.log);
        self.list_shared(at.collection, place, (at.log, at.entry.seq), item);
        self.refresh(at.collection, place);
    }

    /// Ends a plain dot's listing, wherever it is.
    fn unlist_plain(&mut self, collection: usize, place: LocalDot, dot: &Dot) {
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

    fn list_shared(
        &mut self,
        collection: usize,
        place: LocalDot,
        (lister, at): (LogIndex, u64),
        item: Listed,
    ) {
        let Some(Collection { id, table: Table::Dots(dots) }) = self.collections.get_mut(collection) else {
            return;
        };
        let cost = listing_cost(item.key().len(), item.value().len());
        let is_first = !dots.has_shared_of(place.origin);
        dots.list_shared(place, lister, at, item);
        if is_first {
            let id = id.clone();
            self.note_shared_in(place.origin, &id, true);
        }
        self.at_mut(lister).live += cost;
    }

    fn unlist_shared(&mut self, collection: usize, place: LocalDot, lister: LogIndex) {
        let Some(Collection { id, table: Table::Dots(dots) }) = self.collections.get_mut(collection) else {
            return;
        };
        let Some(item) = dots.unlist_shared(place, lister) else { return };
        if !dots.has_shared_of(place.origin) {
            let id = id.clone();
            self.note_shared_in(place.origin, &id, false);
            self.loose().logs.push(place.origin);
        }
        let member = self.at_mut(lister);
        member.live = member.live.saturating_sub(listing_cost(item.key().len(), item.value().len()));
    }

    /// A set or a removal ends the dots that its log lists for the key.
    fn end_key(&mut self, at: &At<'_>, key: &[u8]) {
        let member = self.at(at.log);
        let mut own = Vec::new();
        let Some(dots) = self.dots(at.collection) else { return };
        if !member.shared {
            dots.own_dots(key, &member.actor(), &mut own);
        }
        let shared = dots.shared_of_key(at.log, key);
        for dot in own {
            self.unlist_plain(at.collection, LocalDot { origin: at.log, counter: dot.counter }, &dot);
        }
        for place in shared {
            self.unlist_shared(at.collection, place, at.log);
            self.refresh(at.collection, place);
        }
    }

    /// Ends a listing if it is still the one that the entry made.
    fn unlist_at(&mut self, at: &At<'_>, place: LocalDot) {
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

    fn name_all(&mut self, at: &At<'_>, ends: Refs<'_>) {
        for found in ends {
            if self.dots_mut(at.collection).is_some_and(|dots| dots.name(&found)) {
                self.count_name(found.alias, true);
                self.renamed(at.set, at.collection, &found, true);
            }
        }
    }

    fn unname_all(&mut self, at: &At<'_>, ends: Refs<'_>) {
        for found in ends {
            if self.dots_mut(at.collection).is_some_and(|dots| dots.unname(&found)) {
                self.count_name(found.alias, false);
                self.renamed(at.set, at.collection, &found, false);
            }
        }
    }

    /// A removal began to count, or ceased to.
    fn renamed(&mut self, set: &LogSet, collection: usize, found: &Ref, hide: bool) {
        // Mostly there is one, or none.
        for nth in 0.. {
            let origin = self.aliased(found.alias).nth(nth);
            let Some(origin) = origin else { return };
            let place = LocalDot { origin, counter: found.counter };
            if self.at(origin).shared {
                self.refresh(collection, place);
                continue;
            }
            let dot = self.dot(place);
            let Some(dots) = self.dots(collection) else { return };
            let entry = if hide { dots.live.entry_of(&dot) } else { dots.hidden_entry(&dot) };
            let Some(entry) = entry else { continue };
            let cost = listing_cost(entry.key.len(), entry.value.len());
            if self.tag(set, collection, place) != Some(found.tag) && !planted(Fault::TagsAreNotCompared) {
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

    /// The tag of a plain dot. The entry that minted it may have given way in the set already, if it was applied here.
    fn tag(&self, set: &LogSet, collection: usize, place: LocalDot) -> Option<Tag> {
        if let Some((_, tag)) = self.dots(collection)?.moved(place) {
            return Some(tag);
        }
        let leaf = set.acknowledged_leaf(&self.at(place.origin).id, seq_of(place.counter))?;
        leaf.as_bytes().first_chunk().copied()
    }

    /// How a removal names a live dot.
    pub(crate) fn name_of(&self, set: &LogSet, collection: &CollectionId, dot: &Dot) -> Option<Ref> {
        let at = *self.by_name.get(collection)?;
        let id = LogId::from_bytes(dot.actor.as_bytes().try_into().ok()?);
        let origin = *self.by_id.get(&id)?;
        let place = LocalDot { origin, counter: dot.counter };
        let tag = if self.at(origin).shared {
            self.dots(at)?.listings(place).first()?.item.tag
        } else {
            self.tag(set, at, place)?
        };
        Some(Ref { alias: id.alias(), counter: dot.counter, tag })
    }

    /// Whether a log that counts removes a dot, by its name.
    pub(crate) fn is_named(&self, collection: &CollectionId, found: &Ref) -> bool {
        let dots = self.by_name.get(collection).and_then(|at| self.dots(*at));
        dots.is_some_and(|dots| dots.is_named(found.alias, found.counter, found.tag))
    }

    /// Whether a removal still has something to hide: some log that counts lists that dot with that tag.
    pub(crate) fn is_needed(&self, set: &LogSet, collection: &[u8], found: &Ref) -> bool {
        let table = self.by_name.get(collection).copied();
        let mut logs = self.aliased(found.alias).peekable();
        if logs.peek().is_none() {
            // Nobody lists it. If nobody is known to answer for it, nothing can be said of it.
            return !self.is_closed(set, found.alias, seq_of(found.counter));
        }
        logs.any(|origin| self.is_listed(set, table, origin, found))
    }

    fn is_listed(&self, set: &LogSet, table: Option<usize>, origin: LogIndex, found: &Ref) -> bool {
        let place = LocalDot { origin, counter: found.counter };
        let (member, seq) = (self.at(origin), seq_of(found.counter));
        // Nobody answers for it yet, or not any more, or a part of the log is on its way.
        let own = member.counts && seq < member.to;
        let comes = set.log(&member.id).is_some_and(|log| !log.gaps().is_empty());
        if !own && member.claimed() <= seq || comes && !planted(Fault::PartsNeedNoNames) {
            return true;
        }
        let Some((at, dots)) = table.and_then(|at| Some((at, self.dots(at)?))) else { return false };
        if member.shared {
            return dots.listings(place).iter().any(|listing| listing.item.tag == found.tag);
        }
        let dot = self.dot(place);
        dots.plain_entry(&dot).is_some() && self.tag(set, at, place) == Some(found.tag)
    }

    /// Makes a log's dots shared: others list them too, or answer for them.
    pub(super) fn share(&mut self, set: &LogSet, log: LogIndex) {
        if self.at(log).shared {
            return;
        }
        let (id, from, to) = (self.at(log).id, self.at(log).from, self.at(log).to);
        let mut found: BTreeSet<(usize, LocalDot)> = BTreeSet::new();
        if self.at(log).counts {
            for entry in set.acknowledged_entries(&id, from, to) {
                let Ok(said) = Transaction::of(&entry) else { continue };
                let mut collection = None;
                for item in said.items() {
                    let Some(collection) = (match item {
                        Statement::Collection(bytes) => {
                            collection = self.find_collection(bytes);
                            continue;
                        }
                        Statement::Op(..) => collection,
                    }) else {
                        continue;
                    };
                    match item {
                        Statement::Op(index, Op::Set { .. }) => {
                            let counter = counter(entry.seq, index);
                            found.insert((collection, LocalDot { origin: log, counter }));
                        }
                        Statement::Op(_, Op::Relist { incarnation: None, counter, .. }) => {
                            found.insert((collection, LocalDot { origin: log, counter }));
                        }
                        Statement::Collection(_) | Statement::Op(..) => {}
                    }
                }
            }
        }
        let mut listed = Vec::new();
        for (collection, place) in found {
            let dot = self.dot(place);
            let Some(dots) = self.dots(collection) else { continue };
            let Some(entry) = dots.plain_entry(&dot) else { continue };
            let at = dots.listed_at(place);
            let Some(tag) = self.tag(set, collection, place) else { continue };
            listed.push((collection, place, at, Listed::new((entry.key, entry.value, entry.stamp), tag)));
        }
        for (collection, place, at, item) in listed {
            let dot = self.dot(place);
            self.unlist_plain(collection, place, &dot);
            self.list_shared(collection, place, (log, at), item);
        }
        self.at_mut(log).shared = true;
        self.refresh_range(log, 0..u64::MAX);
    }

    pub(super) fn refresh_range(&mut self, origin: LogIndex, counters: Range<u64>) {
        if counters.is_empty() {
            return;
        }
        for collection in self.collections_of(origin).collect::<Vec<_>>() {
            let Some(dots) = self.dots(collection) else { continue };
            let places = dots.shared_in(origin, counters.clone());
            self.looked_at += places.len() as u64;
            for place in places {
                self.refresh(collection, place);
            }
            self.leave_collection(collection);
        }
    }

    /// Whether a shared dot is live: some log answers for it, every log that does lists it alike, and no removal names
    /// it.
    fn refresh(&mut self, collection: usize, place: LocalDot) {
        let Some(dots) = self.dots(collection) else { return };
        let origin = self.at(place.origin);
        let seq = seq_of(place.counter);
        let own = (origin.counts && seq < origin.to).then_some(place.origin);
        let others = origin.claims.iter().filter(|(_, below)| seq < *below).map(|(log, _)| *log);
        // Both in the order of the logs.
        let mut listings = dots.listings(place).iter();
        let (mut said, mut agreed) = (None, true);
        if let Some(own) = own {
            said = dots.listings(place).iter().find(|listing| listing.lister == own).map(|own| &own.item);
            agreed = said.is_some() || planted(Fault::OneAnswerSuffices);
        }
        for log in others {
            let item = listings.find(|listing| listing.lister >= log).filter(|found| found.lister == log);
            match (said, item.map(|listing| &listing.item)) {
                (None, Some(item)) if agreed => said = Some(item),
                (Some(other), Some(item)) if other == item => {}
                _ if planted(Fault::OneAnswerSuffices) => {}
                _ => {
                    agreed = false;
                    break;
                }
            }
        }
        let alias = origin.id.alias();
        let counts = |item: &&Listed| agreed && !dots.is_named(alias, place.counter, item.tag);
        let live = said.filter(counts).cloned();
        let dot = self.dot(place);
        let was = dots.live.entry_of(&dot).map(|entry| entry.key.to_vec());
        if was.is_none() && live.is_none() {
            return;
        }
        for key in was.iter().map(Vec::as_slice).chain(live.iter().map(Listed::key)) {
            self.touch(collection, key);
        }
        if let Some(dots) = self.dots_mut(collection) {
            dots.show_shared(dot, live.as_ref());
        }
    }

    /// Notes that reads under the key of a plain dot are about to change.
    fn touch_dot(&mut self, collection: usize, dot: &Dot) {
        if self.watch.is_none() {
            return;
        }
        let key =
            self.dots(collection).and_then(|dots| dots.plain_entry(dot)).map(|entry| entry.key.to_vec());
        if let Some(key) = key {
            self.touch(collection, &key);
        }
    }

    /// Notes that reads under a key are about to change.
    fn touch(&mut self, collection: usize, key: &[u8]) {
        if let Some(mut watch) = self.watch.take() {
            if let Some(at) = self.collections.get(collection) {
                watch.touch(&at.id, key, || self.winner(at, key));
            }
            self.watch = Some(watch);
        }
    }
}

/// The tag of the dots that an entry mints.
pub(crate) fn tag_of(set: &LogSet, log: &LogId, seq: u64) -> Option<Tag> {
    let leaf = set.log(log)?.leaf(seq)?;
    leaf.as_bytes().first_chunk().copied()
}
