//! The moves of each side after both know which of their heads differ.
//!
//! Here: from two sides' offers to the logs that this side sends, asks for and searches. Not here: which side offers which
//! logs, and when (the round). The invariant: it changes nothing but the outbox.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::super::message::{OFFERS_MAX, alias_of};
use super::Field;
use crate::identity::LogId;
use crate::log::Want;
use crate::logset::{LogSet, Move, Offer};

/// The moves that are not this side's, or cannot be made.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The offers on which the peer has to act.
    pub(super) answers: Vec<Offer>,
    /// Forked logs to be searched.
    pub(super) searches: Vec<LogId>,
    /// There was no room to queue all that the peer lacks.
    pub(super) more: bool,
    /// The peer lacks logs that it does not want.
    pub(super) lacks: bool,
}

/// Queues the parts that this side has to send. Parts sent after `mark` of the stream of messages, the peer did not have yet
/// when it made its offers.
pub(super) fn plan(mark: u64, ours: &[LogId], mut theirs: Vec<Offer>, field: &mut Field<'_>) -> Plan {
    let set = &*field.set;
    theirs.retain_mut(|offer| {
        let on_its_way = field.outbox.on_its_way(&offer.log, mark);
        if let Some(size) = on_its_way.filter(|size| *size > offer.size) {
            offer.size = size;
            return set.offer(&offer.log).is_some_and(|ours| ours.size > size || ours.facts.is_some());
        }
        true
    });
    let coming: BTreeMap<LogId, Offer> = theirs.iter().map(|offer| (offer.log, *offer)).collect();
    let ours: Vec<LogId> = ours
        .iter()
        .copied()
        .filter(|log| coming.contains_key(log) || field.outbox.on_its_way(log, mark).is_none())
        .collect();
    let Plan { mut answers, mut searches, mut more, mut lacks } = Plan::default();
    for step in set.plan(&ours, &theirs) {
        let (log, queued) = match step {
            Move::Open(log) => (log, field.outbox.send_opening(set, field.scope, &log)),
            Move::Facts(log) => (log, field.outbox.send_facts(set, field.scope, &log)),
            Move::Send(log, want) => {
                let all = Want { to: if want.from == want.to { want.to } else { u64::MAX }, ..want };
                (log, field.outbox.send_range(set, field.scope, &log, all))
            }
            Move::Search(log) => {
                searches.push(log);
                continue;
            }
            Move::Expect(log, _) if answers.len() < OFFERS_MAX => {
                answers.push(set.offer(&log).unwrap_or(nothing(log)));
                continue;
            }
            Move::Expect(log, _) => (log, false),
        };
        if !queued {
            let unwanted = field.outbox.is_unwanted(&log);
            lacks |= unwanted;
            more |= !unwanted;
        }
    }
    let answered: BTreeSet<LogId> = answers.iter().map(|answer| answer.log).collect();
    let forked = theirs.iter().filter(|offer| offer.facts.is_some() && !answered.contains(&offer.log));
    let answer = |offer: &Offer| {
        let ours = set.offer(&offer.log).unwrap_or(nothing(offer.log));
        // The peer sends its facts after it knows that this side has none, or another. Where both know of a fork, the
        // side with the smaller root searches, and may not know yet that it has to.
        let searches = ours.size == offer.size && ours.root > offer.root;
        (ours.facts != offer.facts || searches).then_some(ours)
    };
    let room = OFFERS_MAX.saturating_sub(answers.len());
    answers.extend(forked.filter_map(answer).take(room));
    Plan { answers, searches, more, lacks }
}

/// The offer of a log by a side that does not hold it.
const fn nothing(log: LogId) -> Offer {
    Offer { log, start: 0, size: 0, root: [0; 8], facts: None }
}

/// The logs of the scope whose heads changed after a version, up to `max` and one.
pub(super) fn changed_since(field: &mut Field<'_>, version: u64, max: usize) -> Vec<LogId> {
    let changed: Vec<LogId> = field.set.heads_changed(version).map(|(_, log, _)| log).collect();
    let set = &*field.set;
    let within = |log: &LogId| set.log(log).is_some_and(|held| field.scope.matches(&held.opening().topic));
    changed.into_iter().filter(within).take(max.saturating_add(1)).collect()
}

/// The offer of a log as it was at a version, unless nothing of it was held then.
pub(super) fn offer_at(set: &LogSet, log: &LogId, version: u64) -> Option<Offer> {
    let size = set.size_at_version(log, version).filter(|size| *size > 0)?;
    let offer = set.offer(log)?;
    let root = set.log(log)?.root_at(size).and_then(|root| root.as_bytes().first_chunk().copied());
    Some(Offer { size, start: offer.start.min(size), root: root.unwrap_or_default(), facts: None, ..offer })
}

/// Puts the ids of the logs that are held here in the place of their aliases. Logs outside the scope are left out.
pub(super) fn resolve(field: &Field<'_>, offers: Vec<Offer>) -> Vec<Offer> {
    let set = &*field.set;
    let known = offers.into_iter().map(|offer| match set.find(&alias_of(&offer.log)) {
        Some(log) => Offer { log, ..offer },
        None => offer,
    });
    let wanted =
        |offer: &Offer| set.log(&offer.log).is_none_or(|held| field.scope.matches(&held.opening().topic));
    known.filter(wanted).collect()
}
