//! Taking over: a later incarnation lists the dots that an earlier one left, and closes it.
//!
//! The invariant: a log that closes another says of that one, before the closure or with it, everything that is live or
//! still needed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_crdts::{Hlc, Timestamp, Units};
use consilience_sync::planted::{Fault, planted};
use consilience_sync::{Incarnation, LogId, LogSet, Topic};

use crate::author::{Kept, stated};
use crate::fold::{Fold, LocalDot, Member, Table, TopicState};
use crate::payload::{CollectionId, Op, Ref, Relisted, Statement, Transaction, seq_of};

/// A log that has closed more than so many others ends the earlier ones for good,
const CLOSURES_KEPT_MAX: usize = 32;
/// all but so many of the latest.
const CLOSURES_KEPT: usize = 16;

/// The remains of earlier incarnations that a log has not taken over, and the stamp of the entries that take them over: it is
/// not before those of what they list, whatever the clock says now. Others take none that are later than the latest.
pub(crate) fn left_behind(
    (set, fold): (&LogSet, &Fold),
    (topic, log): (&Topic, &LogId),
    (stamp, latest): (Hlc, Timestamp),
    now: Timestamp,
) -> (Vec<Kept>, Hlc) {
    let none = (Vec::new(), stamp);
    let Some(state) = fold.topic(topic) else { return none };
    let Some(opening) = set.log(log).map(|log| log.opening()) else { return none };
    let own = state.member(log);
    let last_final = set.last_final(log);
    let mut closed: BTreeMap<Incarnation, u64> = set.closures(log).collect();
    let mut over = last_final;
    let mut wanted: BTreeMap<u32, u64> = BTreeMap::new();
    let mut tails: Vec<&Member> = Vec::new();
    for (index, member) in state.logs_of(&opening.agent) {
        let lower = member.incarnation < opening.incarnation;
        let partly = set.log(&member.id).is_none_or(|log| !log.gaps().is_empty());
        let below = closed.get(&member.incarnation).copied().unwrap_or(0);
        if !lower || !member.counts || partly || member.to <= below {
            continue;
        }
        tails.push(member);
        wanted.insert(index, member.to);
    }
    if tails.is_empty() {
        return none;
    }
    for member in &tails {
        over = over.max(set.last_final(&member.id));
        for (incarnation, below) in set.closures(&member.id).chain([(member.incarnation, member.to)]) {
            let most = closed.entry(incarnation).or_default();
            if *most < below {
                *most = below;
                if let Some(target) = state.incarnation_of(&opening.agent, incarnation) {
                    let known = wanted.entry(target).or_default();
                    *known = below.max(*known);
                }
            }
        }
    }
    let mut kept = Vec::new();
    let stamp =
        relist_taken_over(set, state, own.map(|(index, _)| index), &wanted, (stamp, latest), &mut kept);
    for member in tails {
        repeat((set, state), member, now, &mut kept);
    }
    // A log's last statement counts, so it must not fall below the log's own earlier ones.
    if let Some((own, member)) = own {
        kept.retain(|kept| match kept {
            Kept::Couple(id, key, weakens, instant) => {
                stated(state, id, key, &member.agent, own, *weakens) < *instant
            }
            _ => true,
        });
    }
    if planted(Fault::EarlierLogsPileUp) {
        return (kept, stamp);
    }
    // Of many closures the latest stay: earlier logs, of which nothing new has turned up for so long, are over for good.
    if closed.len() > CLOSURES_KEPT_MAX {
        over = over.max(closed.keys().rev().nth(CLOSURES_KEPT - 1).copied());
    }
    let above = |incarnation: &Incarnation| over.is_none_or(|first| *incarnation >= first);
    let new = |(incarnation, below): &(Incarnation, u64)| {
        set.closed_below(log, *incarnation) != *below && above(incarnation)
    };
    kept.extend(closed.into_iter().filter(new).map(|(incarnation, below)| Kept::Close(incarnation, below)));
    kept.extend(over.filter(|_| over != last_final).map(Kept::Final));
    (kept, stamp)
}

/// Lists the live dots of the logs taken over that the own log does not list yet, and names those that it lists and
/// that are not live. Those later than others take would not count: their values are written anew. Gives the stamp of the
/// entries.
fn relist_taken_over(
    set: &LogSet,
    state: &TopicState,
    own: Option<u32>,
    wanted: &BTreeMap<u32, u64>,
    (mut stamp, latest): (Hlc, Timestamp),
    kept: &mut Vec<Kept>,
) -> Hlc {
    for collection in state.sorted() {
        let Table::Dots(dots) = &collection.table else { continue };
        let mut ahead: BTreeMap<&[u8], (Hlc, &[u8])> = BTreeMap::new();
        let entries = dots.live.iter().flat_map(|first| dots.live.siblings(first.key));
        for entry in entries {
            let Some((origin, member)) = state.member_of(&entry.dot.actor) else { continue };
            let counter = entry.dot.counter;
            let place = LocalDot { origin, counter };
            let listed = dots.listings(place).iter().any(|listing| Some(listing.lister) == own);
            if listed || wanted.get(&origin).is_none_or(|below| seq_of(counter) >= *below) {
                continue;
            }
            if entry.stamp.time() > latest {
                let latest = ahead.entry(entry.key).or_default();
                *latest = (entry.stamp, entry.value).max(*latest);
                continue;
            }
            let Some(tag) = state.name_of(set, &collection.id, &entry.dot).map(|name| name.tag) else {
                continue;
            };
            stamp = stamp.max(entry.stamp);
            kept.push(Kept::Relist(
                collection.id.clone(),
                Relisted {
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
            let dot = consilience_crdts::Dot { actor: member.actor(), counter: place.counter };
            let listing = dots.listings(place).iter().find(|listing| Some(listing.lister) == own);
            if let Some(listing) = listing.filter(|_| !dots.live.contains(&dot)) {
                let ended = Ref { alias: member.id.alias(), counter: place.counter, tag: listing.item.tag };
                kept.push(Kept::End(collection.id.clone(), ended));
            }
        }
    }
    stamp
}

/// Repeats the removals and contributions of a log that are still needed.
fn repeat((set, state): (&LogSet, &TopicState), member: &Member, now: Timestamp, kept: &mut Vec<Kept>) {
    let mut named: BTreeSet<(Vec<u8>, Ref)> = BTreeSet::new();
    let Some(log) = set.log(&member.id) else { return };
    for entry in log.entries(member.from, member.to) {
        let Ok(said) = Transaction::of(&entry) else { continue };
        let mut id: &[u8] = &[];
        said.items().for_each(|item| match item {
            Statement::Collection(bytes) => id = bytes,
            Statement::Op(_, Op::Set { ends, .. } | Op::Remove { ends, .. } | Op::End { ends }) => {
                named.extend(ends.map(|found| (id.to_vec(), found)));
            }
            Statement::Op(_, Op::Couple { key, weakens, instant }) => {
                let id = CollectionId::from_bytes(id);
                let alive = id.schema().is_some_and(|schema| {
                    schema.admits(instant, entry.hlc.time()) && schema.amount_at(instant, now) > Units::ZERO
                });
                if alive && !planted(Fault::TakenOverWithoutCouplings) {
                    // As in `reissue`, of one that was stated while the clock was ahead.
                    let said = entry.hlc.time();
                    let moved =
                        id.schema().filter(|_| said > now).map(|schema| schema.moved(instant, said, now));
                    kept.push(Kept::Couple(id, key.into(), weakens, moved.unwrap_or(instant)));
                }
            }
            _ => {}
        });
    }
    let named = named.into_iter().filter(|_| !planted(Fault::TakenOverWithoutNames));
    let needed = named.filter(|(id, found)| state.is_needed(set, id, found));
    kept.extend(needed.map(|(id, found)| Kept::End(CollectionId::from_bytes(&id), found)));
}
