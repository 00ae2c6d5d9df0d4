//! [`Repair`]: how an agent deals with forks of its own logs, and with the logs of its earlier incarnations.
//!
//! It watches the changes of the log store before the fold takes them in, and keeps the content that has to be said
//! again: that of a state log which a fork invalidated (`reissue`), and events that a fork took out of an event log
//! (`events`). The remains of earlier incarnations are worked out anew each time (`take_over`).
//!
//! What does not live here: appending. The replica asks for one step after the other, and makes the entries.
//!
//! The invariant: content that was taken from an own log and is not said again yet is in one of the queues here.

mod events;
mod reissue;
mod take_over;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use consilience_crdts::{Hlc, Timestamp};
use consilience_sync::planted::{Fault, planted};
use consilience_sync::{AgentId, Change, Log, LogId, LogKind, LogOpening, LogSet, LogStore, Topic};

pub(crate) use events::{ReissuedEvent, is_there};
pub(crate) use reissue::{Reissue, Reissued};
pub(crate) use take_over::left_behind;

use crate::author::Author;
use crate::fold::{Fold, tag_of};
use crate::payload::{Op, Statement, Transaction, seq_of};
use events::EventReissues;
use reissue::Going;

/// The note of the log store that names logs that local writers have left: they go on in their next incarnation.
const LEFT: u8 = 1;
/// The note that names own state logs that a fork took out and whose content is written again: that of the others is, after
/// a restart.
const WRITTEN_AGAIN: u8 = 4;

/// The source of the entries that are taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A session, whose peer may know more.
    Session,
    /// The host: a local write, a bundle, a start, the time.
    Host,
}

/// A replica's knowledge of forks and earlier incarnations of its own writers' logs, and the work that is left to do
/// about them.
#[derive(Debug)]
pub(crate) struct Repair {
    /// The latest time that was passed in.
    now: Timestamp,
    /// Own logs that writers do not go on with.
    left: BTreeSet<LogId>,
    /// Whether a peer was met since the start, so that the remains of earlier incarnations are known well enough to
    /// take them over.
    met: bool,
    /// Writers and topics in which state of other logs of theirs came since these were last looked at.
    came: BTreeSet<(AgentId, Topic)>,
    /// Own logs of which another history turned up, not looked at yet.
    forked: Vec<LogId>,
    /// How much there was of own logs when the process started: what follows it wrote itself.
    began: BTreeMap<LogId, u64>,
    /// Own logs that later incarnations cite otherwise than they are here, and the latest of these.
    cited_otherwise: BTreeMap<LogId, LogId>,
    /// The content of own state logs that is to be written again.
    state: BTreeMap<(AgentId, Topic), Vec<Reissued>>,
    /// Own state logs that a fork took out and whose content is written again, and whether the store has to note them: the
    /// process may end before that.
    written: BTreeSet<LogId>,
    written_changed: bool,
    /// Writers and topics whose whole content was queued in this run of changes.
    taken: BTreeSet<(AgentId, Topic)>,
    events: EventReissues,
}

impl Repair {
    pub(crate) fn new() -> Self {
        Self {
            now: Timestamp::EPOCH,
            left: BTreeSet::new(),
            met: false,
            came: BTreeSet::new(),
            forked: Vec::new(),
            began: BTreeMap::new(),
            cited_otherwise: BTreeMap::new(),
            state: BTreeMap::new(),
            written: BTreeSet::new(),
            written_changed: false,
            taken: BTreeSet::new(),
            events: EventReissues::default(),
        }
    }

    /// Takes back in which logs writers had left, from the notes of the store; and with `renew`, that they leave all.
    pub(crate) fn restore(&mut self, store: &mut LogStore, notes: &[(u8, Vec<u8>)], renew: bool) {
        for (_, bytes) in notes.iter().filter(|(kind, _)| *kind == LEFT) {
            let (logs, _) = bytes.as_chunks();
            self.left.extend(logs.iter().map(|log| LogId::from_bytes(*log)));
        }
        for (_, bytes) in notes.iter().filter(|(kind, _)| *kind == WRITTEN_AGAIN) {
            let (logs, _) = bytes.as_chunks();
            self.written.extend(logs.iter().map(|log| LogId::from_bytes(*log)));
        }
        self.written.retain(|log| store.logs().log(log).is_some());
        self.left.iter().for_each(|log| store.leave(log));
        let own = store.logs().logs().filter(|log| store.logs().is_local(log.id()));
        self.began = own.map(|log| (*log.id(), log.size())).collect();
        if renew {
            let set = store.logs();
            self.left = set.logs().map(|log| *log.id()).filter(|log| set.is_local(log)).collect();
            self.left.iter().for_each(|log| store.leave(log));
            self.note_left(store);
        }
    }

    fn note_left(&self, store: &mut LogStore) {
        if !self.left.is_empty() && !planted(Fault::LeftIsNotStored) {
            store.note(LEFT, &bytes_of(self.left.iter()));
            store.seal();
        }
    }

    /// Notes in the store of which logs the content is written again, if that has changed.
    pub(crate) fn note_written(&mut self, store: &mut LogStore) {
        if core::mem::take(&mut self.written_changed) {
            store.note(WRITTEN_AGAIN, &bytes_of(self.written.iter()));
        }
    }

    /// The notes for a snapshot of the store: the logs that writers have left, and others; and those whose content is
    /// written again.
    pub(crate) fn notes(&self, others: &[LogId]) -> Vec<(u8, Vec<u8>)> {
        let left: BTreeSet<&LogId> = self.left.iter().chain(others).collect();
        let notes = [(LEFT, bytes_of(left.into_iter())), (WRITTEN_AGAIN, bytes_of(self.written.iter()))];
        notes.into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect()
    }

    /// Queues again the content that a fork took out of own logs, where the process ended before all of it was written.
    /// Whether there is any.
    pub(crate) fn recall(&mut self, set: &LogSet) -> bool {
        let logs = set.logs().filter(|log| log.opening().kind == LogKind::State && log.start() < log.size());
        let taken = logs.map(Log::id).filter(|log| set.is_local(log) && set.evidence(log).is_some());
        let mut any = false;
        for log in taken.filter(|log| !self.written.contains(*log)).copied().collect::<Vec<_>>() {
            if self.queue_reissue((set, &Fold::as_if_valid(set, &log, 1)), &log, Going::Agent) {
                any = true;
            } else {
                self.written_changed |= self.written.insert(log);
            }
        }
        any
    }

    /// The logs that writers have left.
    pub(crate) const fn left(&self) -> &BTreeSet<LogId> {
        &self.left
    }

    /// Takes in the time.
    pub(crate) const fn advance(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Takes in the time of sessions: a write may be made at an instant that lies before it.
    pub(crate) fn note_time(&mut self, now: Timestamp) {
        self.events.note_time(now);
    }

    /// The time that was passed in last.
    pub(crate) const fn now(&self) -> Timestamp {
        self.now
    }

    /// Notes that a peer was met, or that there is none.
    pub(crate) const fn meet(&mut self) {
        self.met = true;
    }

    /// The next writer and topic in which state of another log of its own came.
    pub(crate) fn next_came(&mut self) -> Option<(AgentId, Topic)> {
        self.came.pop_first()
    }

    /// Whether the remains of earlier incarnations may be taken over.
    pub(crate) const fn has_met(&self) -> bool {
        self.met
    }

    /// Takes in a change of the store's logs, before the fold does. `own` says whether the log is of an agent that is a
    /// local writer now; a log that a local writer made is dealt with as well, though the host has yet to add that writer.
    pub(crate) fn observe(
        &mut self,
        (set, fold): (&LogSet, &Fold),
        change: &Change,
        own: bool,
        source: Source,
    ) {
        let Some(kind) = set.log(change.log()).map(|log| log.opening().kind) else { return };
        match (kind, change) {
            (LogKind::Event, change) => self.events.observe((set, fold), change, source, self.now),
            (LogKind::State, Change::Invalidated { log })
                if (own || set.is_local(log)) && !planted(Fault::ForkedIsNotSaidAgain) =>
            {
                self.queue_all((set, fold), log);
            }
            (LogKind::State, Change::Replaced { log, .. }) if set.is_local(log) => {
                self.queue_replaced((set, fold), log);
            }
            (LogKind::State, Change::Applicable { log, from, to }) => {
                self.compare(set, log, (*from, *to));
                if own && !set.is_local(log) {
                    self.came
                        .extend(set.log(log).map(|log| (log.opening().agent, log.opening().topic.clone())));
                }
            }
            _ => {}
        }
        if let Change::SelfForked { log } = change {
            self.forked.push(*log);
        }
    }

    /// Looks for writes of own logs that a later incarnation lists, and that are others here: then another process wrote in
    /// a copy of that log, and it took over what that one wrote.
    fn compare(&mut self, set: &LogSet, later: &LogId, (from, to): (u64, u64)) {
        let own: Vec<&Log> =
            set.earlier(later).filter(|log| set.is_local(log.id()) && !set.is_left(log.id())).collect();
        let Some(held) = set.log(later).filter(|_| !own.is_empty()) else { return };
        for entry in held.entries(from, to) {
            let Ok(said) = Transaction::of(&entry) else { continue };
            said.items().for_each(|item| {
                if let Statement::Op(_, Op::Relist { incarnation: Some(incarnation), counter, tag, .. }) =
                    item
                    && let Some(log) = own.iter().find(|log| log.opening().incarnation == incarnation)
                    && tag_of(set, log.id(), seq_of(counter)).is_some_and(|here| here != tag)
                    && !planted(Fault::OtherWritesAreNotSeen)
                {
                    self.cited_otherwise.insert(*log.id(), *later);
                }
            });
        }
    }

    /// Own logs that later incarnations cite otherwise than they are here.
    pub(crate) fn cited_otherwise(&self) -> impl Iterator<Item = &LogId> {
        self.cited_otherwise.keys()
    }

    /// Queues the content of an own log that does not count any more, and with the first of several all that its agent's
    /// logs list: as it was before, for a log that goes may show values again that another one had ended.
    fn queue_all(&mut self, (set, fold): (&LogSet, &Fold), log: &LogId) {
        let Some(opening) = set.log(log).map(Log::opening) else { return };
        // Of one that never counted here nothing goes, and the logs that go after it take their content along.
        if fold.topic(&opening.topic).is_none_or(|state| state.member(log).is_none()) {
            return;
        }
        let first = self.taken.insert((opening.agent, opening.topic.clone()));
        self.queue_reissue((set, fold), log, if first { Going::Agent } else { Going::Statements });
    }

    /// Queues what this process wrote in an own log, if a longer history took the place of all of it, of which only the last
    /// entries are held: whether the two part, and where, cannot be told. What was there before the process started is
    /// left to the longer one, which may well go on from it: the store may be a backup.
    fn queue_replaced(&mut self, (set, fold): (&LogSet, &Fold), log: &LogId) {
        let Some(held) = set.log(log) else { return };
        let state = fold.topic(&held.opening().topic);
        let Some((_, member)) = state.and_then(|state| state.member(log)) else { return };
        let all_went = held.start() >= member.to || held.start() > set.left_of_acknowledged(log);
        if all_went && set.is_self_forked(log) {
            let first = self.began.get(log).copied().unwrap_or(0);
            self.queue_reissue((set, fold), log, Going::From(first));
        }
    }

    /// Notes that all changes so far were folded.
    pub(crate) fn folded(&mut self) {
        self.taken.clear();
    }

    /// Queues the live content of an own log to be said in another one with a stamp, where others take none that are later
    /// than the latest. Whether there is any.
    pub(crate) fn queue_restamped(
        &mut self,
        (set, fold): (&LogSet, &Fold),
        log: &LogId,
        (other, stamp): (&LogId, Hlc),
        latest: Timestamp,
    ) -> bool {
        set.log(other).map(|log| log.opening().incarnation).is_some_and(|incarnation| {
            self.queue_reissue((set, fold), log, Going::WronglyStamped(incarnation, stamp, latest))
        })
    }

    fn queue_reissue(&mut self, state: (&LogSet, &Fold), log: &LogId, going: Going) -> bool {
        let reissues = reissue::reissues(state, log, going);
        let any = reissues.is_some();
        if let Some((whose, mut reissued)) = reissues {
            self.state.entry(whose).or_default().append(&mut reissued);
        }
        any
    }

    /// When the events that wait for a search are due.
    pub(crate) const fn poll_timeout(&self) -> Option<Timestamp> {
        self.events.due_at()
    }

    /// The next own log of which another history turned up, if there is one: entries not signed yet are taken back, to
    /// be written again in the next incarnation; signed ones stay, unless the log is invalidated.
    pub(crate) fn leave_forked(
        &mut self,
        (store, fold): (&mut LogStore, &Fold),
        author: &mut Author,
    ) -> bool {
        // The entries of which a change speaks are there until the next change is polled, so the logs change only after
        // all were polled.
        if self.forked.is_empty() {
            return false;
        }
        let log = self.forked.remove(0);
        let Some(opening) = store.logs().log(&log).map(|log| log.opening().clone()) else { return true };
        let later = self.cited_otherwise.remove(&log);
        let is_forked = store.logs().evidence(&log).is_some();
        let counts = fold
            .topic(&opening.topic)
            .is_some_and(|state| state.member(&log).is_some_and(|(_, member)| member.counts));
        // A later incarnation that closes it with the other history may have come in the same call: what it says is not live
        // here any more then.
        let is_closed = opening.kind == LogKind::State && !counts && !self.left.contains(&log);
        if !is_forked && (later.is_some() || is_closed || store.logs().is_outgrown(&log)) {
            // It is left once its content is written again: if the process ends before, all this happens anew. Where it counts
            // all the same, what the later one lists of it otherwise is live nowhere.
            let set = store.logs();
            let mut any = false;
            for log in [Some(log), later].into_iter().flatten() {
                any |= self.queue_reissue((set, &Fold::of_one(set, &log, 1)), &log, Going::Parted);
            }
            if !any {
                self.leave(store, &log);
            }
            author.leave(&opening.agent, &log);
            return true;
        }
        if !is_forked {
            // The entries of a backup are among those with which its writer went on; any others are known only here.
            let is_lost = planted(Fault::UnsignedTailIsLost);
            if opening.kind == LogKind::State && !self.left.contains(&log) && !is_lost {
                let signed = store.logs().log(&log).map_or(0, Log::signed_size);
                self.queue_reissue((store.logs(), fold), &log, Going::From(signed));
            }
            store.discard_unsigned(&log);
        }
        self.leave(store, &log);
        author.leave(&opening.agent, &log);
        true
    }

    /// Notes that writers do not go on with an own log.
    fn leave(&mut self, store: &mut LogStore, log: &LogId) {
        self.left.insert(*log);
        store.leave(log);
        self.note_left(store);
    }

    /// The first writer and topic with state to be written again, but for some.
    pub(crate) fn state_waiting(&self, but: &BTreeSet<(AgentId, Topic)>) -> Option<(AgentId, Topic)> {
        self.state.keys().find(|whose| !but.contains(*whose)).cloned()
    }

    /// Whether a log has later stamps than the content of a writer's state in a topic that is to be written again,
    /// which keeps its own stamps.
    pub(crate) fn is_older(&self, whose: &(AgentId, Topic), last: Hlc) -> bool {
        let mut stamps = self.state.get(whose).into_iter().flatten();
        stamps.any(|one| one.stamp <= last)
    }

    /// The content of a writer's state in a topic that is to be written again.
    pub(crate) fn take_state(
        &mut self,
        whose: &(AgentId, Topic),
        state: (&LogSet, &Fold),
    ) -> Option<Reissue> {
        self.state.remove(whose).map(|reissued| Reissue::new(reissued, state, &whose.1))
    }

    /// Notes that all of it was written.
    pub(crate) fn written_again(&mut self, store: &mut LogStore, (agent, topic): &(AgentId, Topic)) {
        let set = store.logs();
        let of_writer = set.logs_in(topic).filter(|log| log.opening().agent == *agent);
        let own = of_writer.map(Log::id).filter(|log| set.is_local(log));
        let (taken, others): (Vec<LogId>, Vec<LogId>) = own.partition(|log| set.evidence(log).is_some());
        for log in taken {
            self.written_changed |= self.written.insert(log);
        }
        for log in others {
            let set = store.logs();
            if !self.left.contains(&log) && (set.is_outgrown(&log) || set.is_self_forked(&log)) {
                store.discard_unsigned(&log);
                self.leave(store, &log);
            }
        }
    }

    /// Puts it back, since not all of it could be written.
    pub(crate) fn put_back_state(&mut self, whose: (AgentId, Topic), reissue: Reissue) {
        self.state.insert(whose, reissue.into_all());
    }

    /// The events of some logs that are to be appended again now, by writer and topic.
    pub(crate) fn take_events(
        &mut self,
        set: &LogSet,
        which: impl Fn(&LogOpening) -> bool,
    ) -> BTreeMap<(AgentId, Topic), Vec<ReissuedEvent>> {
        self.events.release(set, which);
        self.events.take_queue()
    }

    /// Whether events that were to wait for a search need not wait any longer, or none wait.
    pub(crate) fn events_are_due(&self) -> bool {
        self.events.due_at().is_none_or(|at| at <= self.now)
    }

    /// Puts events back that could not be appended.
    pub(crate) fn put_back_events(&mut self, whose: (AgentId, Topic), events: Vec<ReissuedEvent>) {
        self.events.put_back(whose, events);
    }

    /// Forgets everything of a topic, whose logs these were.
    pub(crate) fn forget_topic(&mut self, topic: &Topic, logs: &[LogId]) {
        for log in logs {
            self.left.remove(log);
            self.written.remove(log);
            self.cited_otherwise.remove(log);
            self.began.remove(log);
        }
        self.state.retain(|(_, there), _| there != topic);
        self.events.forget_topic(topic, logs);
    }
}

fn bytes_of<'a>(logs: impl Iterator<Item = &'a LogId>) -> Vec<u8> {
    logs.flat_map(|log| *log.as_bytes()).collect()
}
