//! Compaction: once a log's entries weigh more than twice their live content, each append lists some of the oldest
//! again and raises the base, so that stored bytes follow live bytes and no entry is large. An append after which nothing
//! of the log is live gives up all before it, however little that is: its writer may never come again.
//!
//! Not here: appending. A [`Compaction`] says which entries to make.
//!
//! The invariant: nothing that is live here, and no removal that is still needed, is given up by a base that rises.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use consilience_crdts::{Hlc, Timestamp, Units};
use consilience_sync::planted::{Fault, planted};
use consilience_sync::{AgentId, Entry, Incarnation, LogId, LogSet, Topic};

use crate::fold::{ENTRY_COST, Fold, LocalDot, Member, Table, TopicState, listing_cost, tag_of};
use crate::payload::{
    CollectionId, Draft, EntryTooLarge, LOGS_MAX, Op, PayloadError, Ref, Relisted, Statement, Transaction,
    counter, seq_of,
};

/// At least so many bytes are listed again at a time.
const COMPACTION_BYTES_MIN: usize = 256;
/// Content that is spread over several entries has at most so many bytes in each.
pub(crate) const CHUNK_BYTES: usize = 32 << 10;

/// When older entries are listed again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompactionPolicy {
    pub(crate) per_live: u32,
    pub(crate) slack: u32,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        Self { per_live: 2, slack: 1_024 }
    }
}

impl CompactionPolicy {
    /// Whether entries that weigh so much have to be listed again, given their live bytes.
    const fn is_due(self, stored: u64, live: u64) -> bool {
        let per_live = if self.per_live == 0 { 1 } else { self.per_live };
        stored > live.saturating_mul(per_live as u64) && stored > self.slack as u64
    }
}

/// One thing that an entry says and that has to be said again when it goes.
pub(crate) enum Kept {
    Relist(CollectionId, Relisted),
    /// A value that was written while the clock was ahead, and so cannot be relisted.
    Write(CollectionId, Box<[u8]>, Box<[u8]>),
    End(CollectionId, Ref),
    Couple(CollectionId, Box<[u8]>, bool, u64),
    /// An earlier incarnation's log is closed below this number.
    Close(Incarnation, u64),
    /// All logs below are over.
    Final(Incarnation),
}

impl Kept {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Relist(id, relisted) => {
                id.as_bytes().len() + relisted.key.len() + relisted.value.len() + 32
            }
            Self::Write(id, key, value) => id.as_bytes().len() + key.len() + value.len() + 6,
            Self::End(id, _) => id.as_bytes().len() + 24,
            Self::Couple(id, key, ..) => id.as_bytes().len() + key.len() + 16,
            Self::Close(..) | Self::Final(_) => 20,
        }
    }

    /// The log that it names.
    pub(crate) const fn name(&self) -> Option<[u8; 8]> {
        match self {
            Self::End(_, ended) => Some(ended.alias),
            _ => None,
        }
    }

    pub(crate) fn put(self, draft: &mut Draft) {
        match self {
            Self::Relist(id, relisted) => draft.relist(&id, relisted),
            Self::Write(id, key, value) => draft.write(&id, &key, Some(&value), BTreeSet::new()),
            Self::End(id, ended) => draft.end(&id, ended),
            Self::Couple(id, key, weakens, instant) => draft.couple(&id, &key, weakens, instant),
            Self::Close(incarnation, below) => draft.close(incarnation, below),
            Self::Final(first) => draft.end_below(first),
        }
    }
}

/// The work that an append has to do so that older entries can go.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    /// Entries to append before it, with the base that the log has.
    pub(crate) before: Vec<Draft>,
    /// The base of the entry itself.
    pub(crate) base: u64,
    /// How many bytes are listed again.
    pub(crate) relisted: u64,
}

/// Adds to a draft the content that its entry should list again. Where one old entry has more than fits, entries of
/// their own come before it.
pub(crate) fn compact(
    (set, fold): (&LogSet, &Fold),
    policy: CompactionPolicy,
    (topic, log): (&Topic, &LogId),
    draft: &mut Draft,
    now: Timestamp,
) -> Compaction {
    let mut compaction = Compaction::default();
    let Some(held) = set.log(log) else { return compaction };
    let (mut base, size) = (held.base(), held.size());
    let budget = (2 * draft.bytes()).max(COMPACTION_BYTES_MIN);
    let is_last = leaves_nothing(fold, (topic, log), draft);
    let (mut spent, mut freed) = (0, 0);
    while base < size && spent < budget {
        // While another process of the agent has closed the log, nothing here says what of it is live once this entry has
        // opened it again.
        let counting =
            fold.topic(topic).and_then(|state| state.member(log)).filter(|(_, member)| member.counts);
        let Some((_, member)) = counting else { break };
        let is_due = policy.is_due((member.stored + draft.bytes() as u64).saturating_sub(freed), member.live);
        if !is_due && !is_last {
            break;
        }
        // Reading it takes a walk through its block.
        let entry = held.entry(base);
        let gone = u64::from(entry.map_or(0, |entry| entry.payload_len)) + ENTRY_COST;
        let kept = entry.map_or(Some(Vec::new()), |entry| kept((set, fold), topic, log, entry, draft, now));
        // Nobody here knows yet what such an entry says, so it is not given up.
        let Some(kept) = kept else { break };
        let bytes: usize = kept.iter().map(Kept::bytes).sum();
        if bytes > 0 && !is_due {
            // Removals that others still need stay where they are.
            break;
        }
        let names = kept.iter().filter_map(Kept::name);
        // Of most old entries nothing is kept, and a large draft has room for that.
        let fits = draft.bytes() + bytes <= CHUNK_BYTES && !draft.names_too_many_with(names);
        if bytes > 0 && !fits && spent > 0 {
            break;
        }
        spent += bytes;
        freed += gone;
        base += 1;
        if bytes == 0 || fits {
            kept.into_iter().for_each(|kept| kept.put(draft));
        } else {
            // The state changes with these, so no further entry is looked at before they are appended.
            compaction.before = pack(kept);
            break;
        }
    }
    compaction.base = base;
    compaction.relisted = spent as u64;
    compaction
}

/// Whether nothing that a log lists is live after a draft, which removes keys and does nothing else.
fn leaves_nothing(fold: &Fold, (topic, log): (&Topic, &LogId), draft: &Draft) -> bool {
    let Some(state) = fold.topic(topic) else { return false };
    let (Some((index, member)), Some(removals)) = (state.member(log), draft.removals()) else { return false };
    let actor = member.actor();
    let mut gone = 0;
    for (id, key) in removals {
        let Some(Table::Dots(dots)) = state.collection(id).map(|collection| &collection.table) else {
            continue;
        };
        if !member.shared {
            let own = dots.live.siblings(key).filter(|entry| entry.dot.actor == actor);
            gone += own.map(|entry| listing_cost(key.len(), entry.value.len())).sum::<u64>();
        }
        for place in dots.shared_of_key(index, key) {
            let own = dots.listings(place).iter().filter(|listing| listing.lister == index);
            gone += own.map(|own| listing_cost(key.len(), own.item.value().len())).sum::<u64>();
        }
    }
    gone >= member.live
}

/// The content of an own entry that has to be kept; `None` if it is of a form that this library does not read yet.
fn kept(
    (set, fold): (&LogSet, &Fold),
    topic: &Topic,
    log: &LogId,
    entry: Entry<'_>,
    draft: &Draft,
    now: Timestamp,
) -> Option<Vec<Kept>> {
    let state = fold.topic(topic)?;
    let (index, member) = state.member(log)?;
    let mut reading = Reading { set, state, member, index, entry, draft, now, id: None, kept: Vec::new() };
    match Transaction::of(&entry) {
        Ok(said) => said.items().for_each(|item| reading.take(item)),
        Err(PayloadError::NeedsUpgrade(_) | PayloadError::Opaque) => return None,
        // It says nothing, now and later.
        Err(PayloadError::Malformed(_)) => {}
    }
    Some(reading.kept)
}

/// The entries that have to come before a draft so that it fits into one: those that end the dots of its keys, where these
/// are more than go with it. One key of a set may have as many as there are agents.
///
/// # Errors
///
/// If it does not fit whatever comes before it. Then it is as it was, but for these dots.
pub(crate) fn fit(draft: &mut Draft) -> Result<Vec<Draft>, EntryTooLarge> {
    if draft.check_size().is_ok() {
        return Ok(Vec::new());
    }
    let ends = draft.take_ends();
    draft.check_size()?;
    Ok(pack(ends.into_iter().map(|(id, ended)| Kept::End(id, ended)).collect()))
}

/// Packs the content to be said into as few entries as hold it, the closures into the last: whoever has that has the rest.
pub(crate) fn pack(kept: Vec<Kept>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    let mut draft = Draft::default();
    let (mut last, mut names) = (Vec::new(), BTreeSet::new());
    for kept in kept {
        if matches!(kept, Kept::Close(..) | Kept::Final(_)) && !planted(Fault::ClosureComesFirst) {
            last.push(kept);
            continue;
        }
        let too_many = kept.name().is_some_and(|name| !names.contains(&name) && names.len() == LOGS_MAX);
        if !draft.is_empty() && (draft.bytes() + kept.bytes() > CHUNK_BYTES || too_many) {
            drafts.push(core::mem::take(&mut draft));
            names.clear();
        }
        names.extend(kept.name());
        kept.put(&mut draft);
    }
    let bytes: usize = last.iter().map(Kept::bytes).sum();
    if !draft.is_empty() && draft.bytes() + bytes > CHUNK_BYTES {
        drafts.push(core::mem::take(&mut draft));
    }
    last.into_iter().for_each(|kept| kept.put(&mut draft));
    if !draft.is_empty() {
        drafts.push(draft);
    }
    drafts
}

/// The instant that a log states for a key of a coupling.
pub(crate) fn stated(
    state: &TopicState,
    id: &CollectionId,
    key: &[u8],
    agent: &AgentId,
    log: u32,
    weakens: bool,
) -> u64 {
    match state.collection(id).map(|collection| &collection.table) {
        Some(Table::CouplingTable(couplings)) => couplings.stated(key, agent, log, weakens),
        _ => 0,
    }
}

/// An own entry that is about to go, and the content that was found to be kept of it.
struct Reading<'a> {
    set: &'a LogSet,
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
    fn take(&mut self, item: Statement<'_>) {
        match item {
            Statement::Collection(bytes) => self.id = Some(CollectionId::from_bytes(bytes)),
            Statement::Op(index, op) => {
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
                let place = LocalDot { origin: self.index, counter: counter(seq, index) };
                self.relist(id, place, None, None, (key, value, self.entry.hlc));
                self.end(id, ends);
            }
            Op::Remove { ends, .. } | Op::End { ends } => self.end(id, ends),
            Op::Relist { incarnation, counter, tag, stamp, key, value } => {
                let origin = match incarnation {
                    None => Some(self.index),
                    Some(incarnation) => self.state.incarnation_of(&self.member.agent, incarnation),
                };
                if let Some(origin) = origin {
                    self.relist(
                        id,
                        LocalDot { origin, counter },
                        incarnation,
                        Some(tag),
                        (key, value, stamp),
                    );
                }
            }
            Op::Couple { key, weakens, .. } => {
                let Some(Table::CouplingTable(couplings)) =
                    self.state.collection(id).map(|collection| &collection.table)
                else {
                    return;
                };
                let (agent, stated) = (&self.member.agent, self.draft.coupled(id, key));
                let newer = if weakens { stated.1 } else { stated.0 };
                if let Some(instant) = couplings.stated_at(key, agent, self.index, weakens, seq)
                    && newer == 0
                    && !planted(Fault::CouplingsAreNotRepeated)
                    && couplings.sums().schema().amount_at(instant, self.now) > Units::ZERO
                {
                    self.kept.push(Kept::Couple(id.clone(), key.into(), weakens, instant));
                }
            }
        }
    }

    /// Carries a dot if it is live, this entry is where it is listed, and the draft does not write its key.
    fn relist(
        &mut self,
        id: &CollectionId,
        place: LocalDot,
        incarnation: Option<Incarnation>,
        tag: Option<[u8; 4]>,
        (key, value, stamp): (&[u8], &[u8], Hlc),
    ) {
        let Some(Table::Dots(dots)) = self.state.collection(id).map(|collection| &collection.table) else {
            return;
        };
        let origin = self.state.at(place.origin);
        let dot = consilience_crdts::Dot { actor: origin.actor(), counter: place.counter };
        let listing = dots.listings(place).iter().find(|listing| listing.lister == self.index);
        let at = match listing {
            Some(listing) => listing.at,
            None if place.origin == self.index => dots.listed_at(place),
            None => return,
        };
        let is_needed = !planted(Fault::DotsAreNotRelisted) && dots.live.contains(&dot);
        if at != self.entry.seq || !is_needed || self.draft.writes(id, key) {
            return;
        }
        let own = || tag_of(self.set, &self.member.id, seq_of(place.counter));
        let Some(tag) = tag.or_else(own) else { return };
        let (key, value) = (key.into(), value.into());
        let relisted = Relisted { incarnation, counter: place.counter, tag, stamp, key, value };
        self.kept.push(Kept::Relist(id.clone(), relisted));
    }

    fn end(&mut self, id: &CollectionId, ends: impl Iterator<Item = Ref>) {
        let (set, state) = (&self.set, self.state);
        let ends = ends.filter(|_| !planted(Fault::NamesAreNotRepeated));
        let needed = ends.filter(|found| state.is_needed(set, id.as_bytes(), found));
        self.kept.extend(needed.map(|found| Kept::End(id.clone(), found)));
    }
}
