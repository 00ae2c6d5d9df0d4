//! Reissuing state: the content of a state log is written anew, in the next incarnation, when a fork has invalidated
//! the log or its stamps were wrong.
//!
//! The invariant: the later writes of others are newer, so content that is written again keeps its stamps, unless these
//! were wrong.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_crdts::{Dot, Hlc, Timestamp, Units};
use consilience_sync::planted::{Fault, planted};
use consilience_sync::{AgentId, Incarnation, LogId, LogKind, LogSet, Topic};

use crate::author::{CHUNK_BYTES, stated};
use crate::fold::{Fold, LocalDot, Table, TopicState};
use crate::payload::{CollectionId, Draft, Op, Ref, Relisted, Statement, Transaction, seq_of};

/// Something that an invalid log listed.
#[derive(Clone, Debug)]
pub(crate) struct Reissued {
    /// Of the entry that says it again: the later writes of others are newer.
    pub(super) stamp: Hlc,
    what: What,
}

/// The write that first said what is to be said again: its dot, its log, and how a removal names it.
#[derive(Clone, Copy, Debug)]
struct FirstWrite {
    dot: Dot,
    log: LogId,
    agent: AgentId,
    incarnation: Incarnation,
    name: Ref,
    /// Whether there is another history of its log.
    parted: bool,
    /// Whether it was found in its own log, and not in one that took that over.
    own: bool,
    /// Whether its entry is not signed, and never will be.
    goes: bool,
}

impl FirstWrite {
    /// Whether it is live. Another history of its log may have another write in its place.
    fn is_live(&self, (set, state): (&LogSet, &TopicState), id: &CollectionId) -> bool {
        let Some(Table::Dots(dots)) = state.collection(id).map(|collection| &collection.table) else {
            return false;
        };
        dots.live.contains(&self.dot) && state.name_of(set, id, &self.dot) == Some(self.name)
    }

    fn seq(&self) -> u64 {
        seq_of(self.name.counter)
    }

    /// Below which number later incarnations have closed its log.
    fn closed_below(&self, (set, state): (&LogSet, &TopicState)) -> u64 {
        let later = state.logs_of(&self.agent).filter(|(_, member)| member.counts);
        later.map(|(_, member)| set.closed_below(&member.id, self.incarnation)).max().unwrap_or(0)
    }
}

/// A write that is said again ends so many dots in its own entry: the largest leaves no room for more names.
const ENDS_MAX: usize = 4;

#[derive(Clone, Debug)]
enum What {
    /// A value; and the write that it comes from, if that may be live afterwards all the same.
    Write {
        id: CollectionId,
        key: Box<[u8]>,
        value: Box<[u8]>,
        first: Option<FirstWrite>,
        /// Whether it takes the place of writes with later stamps as well, since these are wrong.
        wrong: bool,
    },
    /// With the time by the clock that it was stated by.
    /// A value that others can have taken: it is the same write.
    List {
        id: CollectionId,
        dot: Dot,
        relisted: Relisted,
    },
    Couple {
        id: CollectionId,
        key: Box<[u8]>,
        weakens: bool,
        instant: u64,
        said: Timestamp,
    },
    End {
        id: CollectionId,
        ended: Ref,
    },
    /// The log whose stamps were wrong is closed, and so are those that it had closed.
    Close {
        incarnation: Incarnation,
        below: u64,
    },
    /// The logs below are over, as it had said.
    Final {
        first: Incarnation,
    },
}

impl What {
    /// About how many bytes it takes in an entry.
    const fn bytes(&self) -> usize {
        match self {
            Self::Write { key, value, .. } => key.len() + value.len(),
            Self::List { relisted, .. } => relisted.key.len() + relisted.value.len(),
            Self::Couple { key, .. } => key.len(),
            Self::End { .. } | Self::Close { .. } | Self::Final { .. } => 0,
        }
    }
}

/// The content that goes with an own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Going {
    /// From an entry on: the log goes on otherwise from there.
    From(u64),
    /// All of it is to be said in a log of this incarnation, with a stamp of now or the latest that others take, which is
    /// the last here: what has no later stamp, and is of an earlier log, is listed there, as others may have it and have
    /// ended it since, and the rest is written anew.
    WronglyStamped(Incarnation, Hlc, Timestamp),
    /// All of it, and with it all that its agent's other logs list: which of that others still list shows afterwards.
    Agent,
    /// The statements of the log itself: the rest was taken with another one.
    Statements,
    /// All of it by itself: another process wrote in a copy of the log, or of one that it took over.
    Parted,
}

/// The content of an own log that is about to cease to count, or has to be stamped anew.
pub(super) fn reissues(
    (set, fold): (&LogSet, &Fold),
    log: &LogId,
    going: Going,
) -> Option<((AgentId, Topic), Vec<Reissued>)> {
    let held = set.log(log)?;
    let opening = held.opening().clone();
    let state = fold.topic(&opening.topic).filter(|_| opening.kind == LogKind::State)?;
    let (index, member) = state.member(log)?;
    let (first, wrong) = match going {
        Going::From(first) => (first, false),
        Going::WronglyStamped(..) => (0, true),
        Going::Agent | Going::Statements | Going::Parted => (0, false),
    };
    let actor = member.actor();
    let goes = |dot: Dot| match going {
        Going::Agent | Going::Parted => {
            state.member_of(&dot.actor).is_some_and(|(_, origin)| origin.agent == member.agent)
        }
        Going::Statements => false,
        Going::From(_) | Going::WronglyStamped(..) => dot.actor == actor && seq_of(dot.counter) >= first,
    };
    let mut now = match going {
        Going::WronglyStamped(_, now, _) => now,
        _ => Hlc::ZERO,
    };
    let mut reissued = Vec::new();
    for collection in state.sorted() {
        let Table::Dots(dots) = &collection.table else { continue };
        // The log that takes its place closes it, so the content that it had taken over goes with it.
        let lists = |dot: Dot| {
            let place =
                state.member_of(&dot.actor).map(|(origin, _)| LocalDot { origin, counter: dot.counter });
            place.is_some_and(|place| dots.listings(place).iter().any(|listing| listing.lister == index))
        };
        let is_late = |stamp: Hlc, dot: Dot| match going {
            Going::WronglyStamped(incarnation, _, latest) => {
                stamp.time() > latest
                    || state.member_of(&dot.actor).is_none_or(|(_, origin)| origin.incarnation >= incarnation)
            }
            _ => true,
        };
        for winner in dots.live.iter() {
            let own = || {
                let all = dots.live.siblings(winner.key);
                all.filter(|entry| goes(entry.dot) || wrong && lists(entry.dot))
            };
            if !own().any(|entry| is_late(entry.stamp, entry.dot)) {
                let listed = own().filter_map(|entry| {
                    let (_, origin) = state.member_of(&entry.dot.actor)?;
                    let relisted = Relisted {
                        incarnation: Some(origin.incarnation),
                        counter: entry.dot.counter,
                        tag: state.name_of(set, &collection.id, &entry.dot)?.tag,
                        stamp: entry.stamp,
                        key: entry.key.into(),
                        value: entry.value.into(),
                    };
                    now = now.max(entry.stamp);
                    let what = What::List { id: collection.id.clone(), dot: entry.dot, relisted };
                    Some(Reissued { stamp: entry.stamp, what })
                });
                reissued.extend(listed);
                continue;
            }
            let own = own().filter(|entry| is_late(entry.stamp, entry.dot));
            if let Some(entry) = own.max_by_key(|entry| (entry.stamp, entry.dot.counter)) {
                let (key, value) = (entry.key.into(), entry.value.into());
                let may_stay = matches!(going, Going::Agent | Going::Parted);
                let origin = state.member_of(&entry.dot.actor).filter(|_| may_stay);
                let first = origin.and_then(|(_, origin)| {
                    let name = state.name_of(set, &collection.id, &entry.dot)?;
                    Some(FirstWrite {
                        dot: entry.dot,
                        log: origin.id,
                        agent: origin.agent,
                        incarnation: origin.incarnation,
                        name,
                        parted: going == Going::Parted,
                        own: origin.id == *log,
                        goes: origin.id == *log && seq_of(name.counter) >= held.signed_size(),
                    })
                });
                let what = What::Write { id: collection.id.clone(), key, value, first, wrong };
                reissued.push(Reissued { stamp: entry.stamp, what });
            }
        }
    }
    // Everything that still matters of the dots that the log names and of its statements; their time does not matter.
    let stamp = held.last_hlc();
    let mut kept = Vec::new();
    let (from, to) = (member.from.max(first), member.to);
    for entry in set.acknowledged_entries(log, from, to) {
        let Ok(said) = Transaction::of(&entry) else { continue };
        let mut id: &[u8] = &[];
        said.items().for_each(|item| match item {
            Statement::Collection(bytes) => id = bytes,
            Statement::Op(_, Op::Set { ends, .. } | Op::Remove { ends, .. } | Op::End { ends }) => {
                let what = |ended| What::End { id: CollectionId::from_bytes(id), ended };
                kept.extend(ends.map(|ended| Reissued { stamp, what: what(ended) }));
            }
            Statement::Op(_, Op::Couple { key, weakens, instant }) => {
                let id = CollectionId::from_bytes(id);
                let said = entry.hlc.time();
                kept.push(Reissued {
                    stamp,
                    what: What::Couple { id, key: key.into(), weakens, instant, said },
                });
            }
            _ => {}
        });
    }
    reissued.append(&mut kept);
    if wrong {
        // Nobody else reads it before its time has come, so nobody here may either.
        let all = set.closures(log).chain([(opening.incarnation, member.to)]);
        reissued.extend(
            all.map(|(incarnation, below)| Reissued { stamp: now, what: What::Close { incarnation, below } }),
        );
        let over = |first| Reissued { stamp: now, what: What::Final { first } };
        reissued.extend(set.last_final(log).map(over));
        reissued.iter_mut().for_each(|one| one.stamp = now);
    }
    (!reissued.is_empty()).then_some(((opening.agent, opening.topic), reissued))
}

/// The content that is to be written again in one log, entry by entry: that of each depends on the state after the one
/// before.
#[derive(Debug)]
pub(crate) struct Reissue {
    /// In ascending order of stamps.
    reissued: Vec<Reissued>,
    at: usize,
    /// Up to where logs are known to be the same at those that closed them: after the last write that these list.
    common: BTreeMap<LogId, u64>,
}

/// One entry that says content again.
#[derive(Debug)]
pub(crate) struct ReissueEntry {
    pub(crate) draft: Draft,
    pub(crate) stamp: Hlc,
}

impl Reissue {
    pub(super) fn new(mut reissued: Vec<Reissued>, (set, fold): (&LogSet, &Fold), topic: &Topic) -> Self {
        reissued.sort_by_key(|one| one.stamp);
        let mut common: BTreeMap<LogId, u64> = BTreeMap::new();
        for one in &reissued {
            if let (What::Write { id, first: Some(first), .. }, Some(state)) = (&one.what, fold.topic(topic))
                && first.own
                && first.is_live((set, state), id)
                && first.seq() < first.closed_below((set, state))
            {
                let below = common.entry(first.log).or_default();
                *below = (*below).max(first.seq().saturating_add(1));
            }
        }
        Self { reissued, at: 0, common }
    }

    /// The whole, to be written from its beginning another time: entries written already will be written once more.
    pub(crate) fn into_all(self) -> Vec<Reissued> {
        self.reissued
    }

    /// The next entry, given the state after the one before: as much of one stamp as fits. One write alone always does; the
    /// ends of more dots than go with it come in the entries after it. A stamp that is later than others take is a wrong
    /// one, and becomes the one of now.
    pub(crate) fn next(
        &mut self,
        (set, fold): (&LogSet, &Fold),
        (topic, log): (&Topic, &LogId),
        (now, latest): (Hlc, Timestamp),
    ) -> Option<ReissueEntry> {
        let is_wrong = |stamp: Hlc| stamp.time() > latest || planted(Fault::SaidAgainAsNew);
        let right = |stamp: Hlc| if is_wrong(stamp) { now } else { stamp };
        let mut draft = Draft::default();
        while let Some(one) = self.reissued.get(self.at) {
            let (said, stamp) = (one.stamp, right(one.stamp));
            if !draft.is_empty() && draft.bytes() + one.what.bytes() > CHUNK_BYTES {
                return Some(ReissueEntry { draft, stamp });
            }
            self.at += 1;
            let more = if self.is_settled((set, fold), topic, &one.what) {
                Vec::new()
            } else {
                put((set, fold), (topic, log), &one.what, (said, stamp), &mut draft)
            };
            let more = more.into_iter().map(|what| Reissued { stamp: said, what });
            self.reissued.splice(self.at..self.at, more);
            let full = draft.bytes() > CHUNK_BYTES || draft.names_too_many();
            let last = self.reissued.get(self.at).is_none_or(|next| right(next.stamp) != stamp);
            if full || last && !draft.is_empty() {
                return Some(ReissueEntry { draft, stamp });
            }
        }
        None
    }

    /// Whether a value need not be written again: it is live all the same, a removal has ended it, or one of its agent's
    /// logs has.
    fn is_settled(&self, (set, fold): (&LogSet, &Fold), topic: &Topic, what: &What) -> bool {
        let What::Write { id, first: Some(first), .. } = what else { return false };
        let Some(state) = fold.topic(topic) else { return false };
        let closed = first.closed_below((set, state));
        let stays = !first.parted || !first.goes || first.seq() < closed;
        if stays && first.is_live((set, state), id) || state.is_named(id, &first.name) {
            return true;
        }
        // A later incarnation that has closed the dot's log had seen the dot: it has ended it, or would list it. But of two
        // histories it may have seen the other one, and of this one what both have.
        let common = self.common.get(&first.log).copied().unwrap_or(0);
        let seen = if first.parted { closed.min(common) } else { closed };
        first.seq() < seen && !planted(Fault::SaidAgainThoughEnded)
    }
}

fn put(
    (set, fold): (&LogSet, &Fold),
    (topic, log): (&Topic, &LogId),
    what: &What,
    (said, stamp): (Hlc, Hlc),
    draft: &mut Draft,
) -> Vec<What> {
    let mut more = Vec::new();
    let at = stamp.time();
    let own = set.log(log).map(|log| log.opening().incarnation);
    match what {
        What::Write { id, key, value, first, wrong } => {
            let agent = set.log(log).map(|log| log.opening().agent);
            // The dots that the agent's logs still have there are ended; those that others wrote meanwhile are not, nor are
            // later ones, which another process of the agent may have written without knowing of this one.
            let mut ends = BTreeSet::new();
            if let Some(state) = fold.topic(topic)
                && let Some(Table::Dots(dots)) = state.collection(id).map(|collection| &collection.table)
            {
                let later = |entry: Hlc| !wrong && said < entry && !planted(Fault::SaidAgainEndsLater);
                for entry in dots.live.siblings(key).filter(|entry| !later(entry.stamp)) {
                    let author = state.member_of(&entry.dot.actor).map(|(_, member)| member.agent);
                    if author == agent {
                        // The other history has it as well.
                        if first.is_none() && !wrong && entry.stamp == said && entry.value == &value[..] {
                            return more;
                        }
                        ends.extend(state.name_of(set, id, &entry.dot));
                    }
                }
            }
            let rest: Vec<Ref> = ends.iter().skip(ENDS_MAX).copied().collect();
            for ended in rest {
                ends.remove(&ended);
                more.push(What::End { id: id.clone(), ended });
            }
            draft.write(id, key, Some(value), ends);
        }
        What::List { id, dot, relisted } => {
            let Some(state) = fold.topic(topic) else { return more };
            let own = state.member(log).map(|(index, _)| index);
            let origin = state.member_of(&dot.actor).map(|(origin, _)| origin);
            if let Some(Table::Dots(dots)) = state.collection(id).map(|collection| &collection.table)
                && let Some(origin) = origin
            {
                let listings = dots.listings(LocalDot { origin, counter: dot.counter });
                if dots.live.contains(dot) && !listings.iter().any(|listing| Some(listing.lister) == own) {
                    draft.relist(id, relisted.clone());
                }
            }
        }
        What::Couple { id, key, weakens, instant, said } => {
            // What was stated while the clock was ahead is worth as much now as it was to be then.
            let moved = id.schema().filter(|_| *said > at).map(|schema| schema.moved(*instant, *said, at));
            let instant = &moved.unwrap_or(*instant);
            let own = fold.topic(topic).and_then(|state| {
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
        What::End { id, ended } => {
            let state = fold.topic(topic);
            if state.is_some_and(|state| state.is_needed(set, id.as_bytes(), ended)) {
                draft.end(id, *ended);
            }
        }
        // A log says nothing of later incarnations. One that was begun while the clock was ahead is given up.
        What::Close { incarnation, below } if Some(*incarnation) < own => draft.close(*incarnation, *below),
        What::Close { .. } => {}
        What::Final { first } => draft.end_below(own.map_or(*first, |own| own.min(*first))),
    }
    more
}
