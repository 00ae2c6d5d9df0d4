//! The parts of logs that a session has to send: those that comparisons and questions gave it, and changes while it is
//! open.
//!
//! Nothing is queued as bytes. An [`Outgoing`] says which entries of which log the peer lacks; the bytes are read from the
//! set when there is room, so entries that came meanwhile go along, and a slow peer costs no memory.
//!
//! The oldest stamp goes first among equally wanted topics, so that entries travel before those that cite them.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::message::{Message, alias_of};
use super::scope::Scope;
use crate::facts::{Facts, Forks};
use crate::identity::LogId;
use crate::log::{Log, RangeForm, Want};
use crate::logset::{LogSet, Offer, Written};
use consilience_base::planted::{Fault, planted};

/// Logs that something is to be sent of, at most: those that do not fit are found again by the next comparison.
pub(crate) const ITEMS_MAX: usize = 512;
/// Logs of which the peer's state is remembered.
const KNOWN_MAX: usize = 384;
/// A range has at most about so many bytes, so that a session goes from log to log.
const RANGE_BYTES: usize = 12 << 10;
/// Changed logs that are looked at in one go.
const CHANGED_MAX: usize = 64;

/// A message that was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// There was none.
    Nothing,
    /// Something that has changed here, and that the peer was not sent before.
    Change,
    /// Something that a comparison or a question of the peer has asked for.
    Answer,
}

/// The peer's state of a log, now or when everything that was sent has come.
#[derive(Clone, Copy, Debug, Default)]
struct PeerState {
    size: u64,
    /// The first bytes of the hash of the facts that it knows.
    facts: Option<[u8; 8]>,
    /// One more than where the stream of messages was when something of it was sent; 0 if nothing was.
    sent_at: u64,
    /// It does not hold the log and does not want it.
    unwanted: bool,
    /// It did not take something in when it had so much: what is new follows on that, and is of no use to it either.
    refused_at: Option<u64>,
    /// When it was used last.
    used: u64,
}

/// The parts of one log that are to be sent.
#[derive(Clone, Copy, Debug, Default)]
struct Outgoing {
    open: bool,
    /// The number of the next fact.
    facts: Option<usize>,
    proof: Option<u64>,
    range: Option<Want>,
    /// A comparison is not done before it was sent.
    of_round: bool,
    /// The peer was sent some of it before.
    again: bool,
    key: (usize, u64),
}

impl Outgoing {
    /// Whether the peer was sent some of it before, or has asked for it.
    const fn is_answer(&self) -> bool {
        self.of_round || self.again
    }

    /// Whether nothing is left to be sent.
    const fn is_empty(&self) -> bool {
        !self.open && self.facts.is_none() && self.proof.is_none() && self.range.is_none()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    items: BTreeMap<LogId, Outgoing>,
    /// The items in the order in which they go.
    order: BTreeSet<(usize, u64, LogId)>,
    known: BTreeMap<LogId, PeerState>,
    uses: u64,
    /// Heads that changed up to this version are compared or queued.
    cursor: u64,
    /// The peer holds all logs of the scope that had a head at this version.
    equal_at: u64,
    /// The peer has refused something since both held the same.
    refused: bool,
    /// Whether changes are sent as they come: not before the first comparison.
    live: bool,
}

impl Outbox {
    /// From now on changes after this version are sent as they come.
    pub(crate) fn go_live(&mut self, version: u64) {
        self.cursor = self.cursor.max(version);
        self.live = true;
    }

    /// Notes that both sides held the same at a version; and whether nothing has changed here since.
    pub(crate) fn equal(&mut self, version: u64, still: bool) {
        self.equal_at = self.equal_at.max(version);
        self.refused = false;
        if still {
            self.items.clear();
            self.order.clear();
            self.known.retain(|_, known| known.unwanted);
        }
        self.go_live(version);
    }

    /// Notes that each side has what either had when a round began.
    pub(crate) const fn level(&mut self) {
        self.refused = false;
    }

    /// Notes that the peer did not take something in of a log, and has so much of it. It is sent no more of the log until a
    /// comparison or a question asks for it.
    pub(crate) fn refused(&mut self, log: &LogId, have: u64) {
        self.refused = true;
        self.peer_has_only(log, have);
        self.peer_state_mut(log).refused_at = (!planted(Fault::RefusedIsSentAgain)).then_some(have);
        let Some(item) = self.items.get_mut(log) else { return };
        // What follows on the refused part. A range from where the peer is may be what it has asked for instead.
        item.range = item.range.filter(|want| want.from <= have);
        if item.is_empty() {
            self.drop_item(log);
        }
    }

    /// Notes that the peer may want other topics from now on.
    pub(crate) const fn change_scope(&mut self) {
        self.equal_at = 0;
    }

    /// Whether everything was sent that a comparison gave to send.
    pub(crate) fn is_round_done(&self) -> bool {
        self.items.values().all(|item| !item.of_round)
    }

    /// Whether there is nothing to be sent now.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether nothing is to be sent and nothing has changed that was not looked at.
    pub(crate) fn is_spent(&self, set: &mut LogSet) -> bool {
        self.live && !self.refused && self.items.is_empty() && set.heads_changed(self.cursor).next().is_none()
    }

    fn peer_state_mut(&mut self, log: &LogId) -> &mut PeerState {
        if !self.known.contains_key(log) && self.known.len() >= KNOWN_MAX {
            // Forgetting costs a question at most.
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used).map(|(log, _)| *log);
            oldest.and_then(|oldest| self.known.remove(&oldest));
        }
        self.uses = self.uses.saturating_add(1);
        let known = self.known.entry(*log).or_default();
        known.used = self.uses;
        known
    }

    /// Notes that the peer has so much of a log.
    pub(crate) fn peer_has(&mut self, log: &LogId, size: u64) {
        let known = self.peer_state_mut(log);
        known.size = known.size.max(size);
        known.unwanted = false;
        known.refused_at = known.refused_at.filter(|at| *at >= size);
    }

    /// Notes that the peer has no more than this of a log, whatever was sent.
    pub(crate) fn peer_has_only(&mut self, log: &LogId, size: u64) {
        self.peer_state_mut(log).size = size;
    }

    /// Notes that the peer knows these facts.
    pub(crate) fn peer_has_facts(&mut self, log: &LogId, facts: Option<[u8; 8]>) {
        self.peer_state_mut(log).facts = facts;
    }

    /// Notes that the peer does not want a log.
    pub(crate) fn unwanted(&mut self, log: &LogId) {
        self.peer_state_mut(log).unwanted = true;
        self.drop_item(log);
    }

    /// Whether the peer does not want a log.
    pub(crate) fn is_unwanted(&self, log: &LogId) -> bool {
        self.known.get(log).is_some_and(|known| known.unwanted)
    }

    /// How much of a log is on its way since the stream of messages was at `mark`.
    pub(crate) fn on_its_way(&self, log: &LogId, mark: u64) -> Option<u64> {
        self.known.get(log).filter(|known| known.sent_at > mark).map(|known| known.size)
    }

    fn drop_item(&mut self, log: &LogId) {
        if let Some(item) = self.items.remove(log) {
            self.order.remove(&(item.key.0, item.key.1, *log));
        }
    }

    /// Changes the parts of a log that are to be sent; false if there is no room for it or the peer does not want it.
    fn with_item(
        &mut self,
        set: &LogSet,
        scope: &Scope,
        log: &LogId,
        change: impl FnOnce(&mut Outgoing),
    ) -> bool {
        let Some(rank) = set.log(log).and_then(|held| scope.rank(&held.opening().topic)) else {
            return false;
        };
        if self.known.get(log).is_some_and(|known| known.unwanted) {
            return false;
        }
        if !self.items.contains_key(log) && self.items.len() >= ITEMS_MAX {
            return false;
        }
        let item = self.items.entry(*log).or_default();
        let old = item.key;
        change(item);
        let from = item.range.map_or(0, |want| want.from);
        let first = set.log(log).and_then(|held| held.entry(from)).map_or(0, |entry| entry.hlc.to_bits());
        item.key = (rank, first);
        self.order.remove(&(old.0, old.1, *log));
        self.order.insert((rank, first, *log));
        true
    }

    pub(crate) fn send_opening(&mut self, set: &LogSet, scope: &Scope, log: &LogId) -> bool {
        self.with_item(set, scope, log, |item| (item.open, item.of_round) = (true, true))
    }

    pub(crate) fn send_facts(&mut self, set: &LogSet, scope: &Scope, log: &LogId) -> bool {
        self.with_item(set, scope, log, |item| (item.facts, item.of_round) = (Some(0), true))
    }

    /// Sends a range, or a proof without entries.
    pub(crate) fn send_range(&mut self, set: &LogSet, scope: &Scope, log: &LogId, want: Want) -> bool {
        if want.from < want.to {
            self.peer_has_only(log, want.from);
            let known = self.peer_state_mut(log);
            known.refused_at = known.refused_at.filter(|at| *at == want.from);
        }
        self.with_item(set, scope, log, |item| {
            item.of_round = true;
            if want.from == want.to {
                item.proof = Some(want.from);
            } else {
                item.range = Some(want);
            }
        })
    }

    /// Queues the logs that have changed since the last look.
    pub(crate) fn look(&mut self, set: &mut LogSet, scope: &Scope) {
        if !self.live || self.items.len() >= ITEMS_MAX {
            return;
        }
        let changed: Vec<_> = set.heads_changed(self.cursor).take(CHANGED_MAX).collect();
        for (version, log, before) in changed {
            if self.items.len() >= ITEMS_MAX {
                break;
            }
            self.cursor = version;
            if let Some(offer) = set.offer(&log) {
                self.push_change(set, scope, &offer, before);
            }
        }
    }

    fn push_change(&mut self, set: &LogSet, scope: &Scope, offer: &Offer, before: u64) {
        let known = self.known.get(&offer.log).copied();
        let (had, facts) = known.map_or((before, None), |known| (known.size, known.facts));
        // Whether the peer holds the log shows when the two are equal, by a comparison, or by what it sends. An opening too
        // many costs less than a range of a log that is not there.
        let open = known.is_none() && (before == 0 || set.head_since(&offer.log) > self.equal_at);
        let follows = had >= offer.start;
        let want = Want {
            from: if follows { had } else { offer.start },
            to: u64::MAX,
            form: if follows { RangeForm::Follow } else { RangeForm::Alone },
        };
        let refused = known.is_some_and(|known| known.refused_at.is_some());
        let (more, news) = (offer.size > had && !refused, offer.facts.is_some() && offer.facts != facts);
        if more || news {
            self.with_item(set, scope, &offer.log, |item| {
                item.open |= open;
                if news {
                    item.facts = Some(0);
                }
                if more && item.range.is_none() {
                    item.range = Some(want);
                    item.again |= want.from < before;
                }
            });
        }
    }

    /// The next message about a log, if there is one: written to `out`. `at` is where the stream of messages is; answers are
    /// left waiting unless they are paid for.
    pub(crate) fn compose(
        &mut self,
        set: &LogSet,
        scope: &Scope,
        (at, paid): (u64, bool),
        out: &mut Vec<u8>,
    ) -> Sent {
        while let Some(next) = self.next(paid) {
            let (_, _, log) = next;
            self.order.remove(&next);
            let Some(mut item) = self.items.remove(&log) else { continue };
            let sent = if item.is_answer() { Sent::Answer } else { Sent::Change };
            // The scope may have become narrower since it was queued.
            let narrowed =
                |held: &Log| !scope.matches(&held.opening().topic) && !planted(Fault::NarrowedIsSent);
            if set.log(&log).is_none_or(narrowed) {
                continue;
            }
            let wrote = self.compose_item(set, &log, &mut item, at, out);
            if !item.is_empty() {
                let from = item.range.map_or(0, |want| want.from);
                let next = set.log(&log).and_then(|held| held.entry(from));
                item.key.1 = next.map_or(item.key.1, |entry| entry.hlc.to_bits());
                self.order.insert((item.key.0, item.key.1, log));
                self.items.insert(log, item);
            }
            if wrote {
                return sent;
            }
        }
        Sent::Nothing
    }

    /// The first item in the order that may go.
    fn next(&self, paid: bool) -> Option<(usize, u64, LogId)> {
        let may_go = |log: &LogId| paid || self.items.get(log).is_none_or(|item| !item.is_answer());
        self.order.iter().find(|(_, _, log)| may_go(log)).copied()
    }

    fn compose_item(
        &mut self,
        set: &LogSet,
        log: &LogId,
        item: &mut Outgoing,
        at: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(held) = set.log(log) else {
            *item = Outgoing::default();
            return false;
        };
        if core::mem::take(&mut item.open) {
            self.peer_state_mut(log).sent_at = at.saturating_add(1);
            Message::Open(&held.opening().encode(set.mesh())).put(out);
            return true;
        }
        if let Some(number) = item.facts.take()
            && let Some(message) = set.facts(log).and_then(|facts| fact(facts, number))
        {
            message.put(out);
            item.facts = Some(number.saturating_add(1));
            self.peer_state_mut(log).facts = set.offer(log).and_then(|offer| offer.facts);
            return true;
        }
        let (want, proof) = match (item.proof.take(), item.range.take()) {
            (Some(size), range) => {
                item.range = range;
                (Want { from: size, to: size, form: RangeForm::Alone }, true)
            }
            (None, Some(want)) => (want, false),
            (None, None) => return false,
        };
        self.compose_range(set, log, (want, proof), item, at, out)
    }

    fn compose_range(
        &mut self,
        set: &LogSet,
        log: &LogId,
        (want, proof): (Want, bool),
        item: &mut Outgoing,
        at: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        // Entries that do not count are not sent.
        let counted = set.offer(log).map_or(0, |offer| offer.size);
        let want = Want { to: if proof { want.to } else { want.to.min(counted) }, ..want };
        if want.from > want.to || (!proof && want.from == want.to) {
            return false;
        }
        let start = out.len();
        Message::put_range_head(&alias_of(log), out);
        match set.write_answer(log, &want, RANGE_BYTES, out) {
            Written::Range { end } => {
                let known = self.peer_state_mut(log);
                known.size = known.size.max(end);
                known.sent_at = at.saturating_add(1);
                // Where it had no room before, one message shows whether it has some now.
                let is_tried = known.refused_at.is_some();
                if !proof && end < want.to && !is_tried {
                    item.range = Some(Want { from: end, to: u64::MAX, form: RangeForm::Follow });
                }
                true
            }
            Written::Gone(gone) => {
                out.truncate(start);
                Message::Gone { alias: alias_of(log), gone }.put(out);
                if !proof {
                    item.range = Some(Want { from: gone.below, to: u64::MAX, form: RangeForm::Alone });
                }
                true
            }
            Written::Nothing => {
                out.truncate(start);
                false
            }
        }
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn memory(&self) -> usize {
        let item = size_of::<(LogId, Outgoing)>().saturating_add(size_of::<(usize, u64, LogId)>());
        let known = size_of::<(LogId, PeerState)>();
        self.items.len().saturating_mul(item).saturating_add(self.known.len().saturating_mul(known))
    }
}

/// The message for one of the facts about a log.
fn fact(facts: &Facts, number: usize) -> Option<Message<'_>> {
    let forks = facts.forks().into_iter().flat_map(Forks::pieces);
    let forks = forks.map(|evidence| Message::Evidence(evidence.as_bytes()));
    forks.chain(facts.pruned().map(|pruned| Message::Pruned(pruned.as_bytes()))).nth(number)
}
