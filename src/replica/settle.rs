//! Settling: the steps that follow each change of the logs, one after the other, until none has anything left to do.
//!
//! ```text
//! fold     the changes of the logs
//! leave    own logs of which another history turned up
//! reissue  own state that was invalidated or wrongly stamped; own events that a fork took out
//! ```
//!
//! A step that makes entries folds each of them before the next, and does not settle in between.
//!
//! The invariant: no step calls another; the loop does.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use consilience_crdts::{Hlc, Timestamp};
use consilience_sync::journal::RecordId;
use consilience_sync::planted::{Fault, planted};
use consilience_sync::{AgentId, Change, Log, LogId, LogKind, LogOpening, NewEntry, SetError, Topic};

use super::Replica;
use super::error::CommitError;
use crate::author::{Kept, OwnLog, pack};
use crate::fold::Folded;
use crate::notice::Obstacle;
use crate::payload::Draft;
use crate::repair::{Reissue, ReissuedEvent, Source, is_there, left_behind};

/// The stamp of an own entry.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stamp {
    /// The clock's.
    Now(Timestamp),
    /// That of the content that it says again, or the next after the log's last: so the content keeps its place if
    /// nothing later is in the log.
    Again(Hlc),
}

impl Replica {
    /// Folds the changes, and takes the steps that follow from them.
    pub(super) fn settle(&mut self, now: Timestamp, source: Source) {
        self.repair.advance(now);
        // State that cannot be written now comes before the writer's next entry.
        let mut tried: BTreeSet<(AgentId, Topic)> = BTreeSet::new();
        loop {
            self.fold_changes(source);
            if self.repair.leave_forked((&mut self.store, &self.fold), &mut self.author) {
                continue;
            }
            if let Some(whose) = self.repair.state_waiting(&tried) {
                match self.reissue_state(&whose, now) {
                    Ok(()) => self.notices.written_again(&whose),
                    Err(error) => self.notices.not_written_again(&whose, obstacle(error)),
                }
                tried.insert(whose);
                continue;
            }
            break;
        }
        if self.repair.events_are_due() {
            self.reissue_events(|_| true);
        }
    }

    /// Folds all changes of the logs, and notes the news to be reported and the forks to be repaired.
    pub(super) fn fold_changes(&mut self, source: Source) {
        let mut folded = Folded::default();
        while let Some(change) = self.store.poll_change() {
            self.fold_change(&change, source, &mut folded);
            for log in self.repair.cited_otherwise() {
                self.store.disown(log);
            }
        }
        self.repair.folded();
        for (agent, topic, dots) in folded.looked_at {
            self.store.charge(&agent, &topic, dots);
        }
        for (log, seq, error) in folded.inert {
            let Some(opening) = self.store.logs().log(&log).map(|log| log.opening().clone()) else {
                continue;
            };
            self.notices.inert(opening, seq, error);
        }
    }

    fn fold_change(&mut self, change: &Change, source: Source, folded: &mut Folded) {
        let set = self.store.logs();
        let Some(log) = set.log(change.log()) else { return };
        let opening = log.opening();
        if let Change::Applicable { to, .. } = change {
            let last = log.entries(to.saturating_sub(1), *to).last();
            self.author.observe(last.map_or(Hlc::ZERO, |entry| entry.hlc));
        }
        self.notices.tell_of(&opening.topic, opening, change);
        let own = self.author.has(&opening.agent);
        self.repair.observe((set, &self.fold), change, own, source);
        match opening.kind {
            LogKind::Event => self.notices.tell_of_events(&opening.topic, change),
            LogKind::State => self.notices.watch(&mut self.fold, &opening.topic),
        }
        self.fold.take(set, change, folded);
    }

    /// The log that a writer goes on with in a topic. If that is another one because its clock had been ahead, the live
    /// content is queued to be stamped anew; of events the host is told.
    pub(super) fn own_log(
        &mut self,
        agent: &AgentId,
        topic: &Topic,
        kind: LogKind,
        now: Timestamp,
    ) -> Result<LogId, consilience_sync::OpenError> {
        let OwnLog { log, ahead } = self.author.own_log(&mut self.store, agent, topic, kind, now)?;
        match (ahead, kind) {
            (Some(ahead), LogKind::State) => {
                let set = self.store.logs();
                let mut logs = self.author.begun_ahead(set, agent, topic, now);
                if !logs.contains(&ahead) {
                    logs.push(ahead);
                }
                let (stamp, latest) = (self.author.next_stamp(set, &log, now), self.author.latest(set, now));
                for ahead in logs.into_iter().filter(|_| !planted(Fault::AheadIsNotSaidAgain)) {
                    self.repair.queue_restamped((set, &self.fold), &ahead, (&log, stamp), latest);
                }
                self.notices.restamped(*agent, topic.clone());
            }
            (Some(ahead), LogKind::Event) => self.tell_events_ahead(&ahead, now),
            (None, _) => {
                let set = self.store.logs();
                if self.author.is_in_doubt(set, &log, now)
                    && let Some(held) = set.log(&log)
                {
                    self.notices.clock_in_doubt(held.opening(), &log);
                }
            }
        }
        Ok(log)
    }

    /// Tells the host of own events that others do not take yet.
    pub(super) fn tell_events_ahead(&mut self, log: &LogId, now: Timestamp) {
        let set = self.store.logs();
        let latest = self.author.latest(set, now);
        let begun_ahead = self.author.was_begun_ahead(set, log, now);
        let Some(held) = set.log(log) else { return };
        let mut events = held.entries(held.start(), held.size());
        if let Some(first) = events.find(|event| begun_ahead || event.hlc.time() > latest) {
            self.notices.events_ahead(held.opening(), log, first.seq);
        }
    }

    /// Appends an own entry, with a salt of this start. It is not folded yet.
    pub(super) fn append<'p>(
        &mut self,
        log: &LogId,
        stamp: Stamp,
        entry: impl FnOnce(Hlc) -> NewEntry<'p>,
    ) -> Result<(u64, RecordId), SetError> {
        let hlc = match stamp {
            Stamp::Now(now) => self.author.next_stamp(self.store.logs(), log, now),
            Stamp::Again(stamp) => {
                let mut last = self.store.logs().log(log).map_or(Hlc::ZERO, Log::last_hlc);
                if stamp > last { stamp } else { last.tick(stamp.time()) }
            }
        };
        let salt = self.author.salt(self.store.logs(), log);
        let appended = self.store.append(log, &NewEntry { salt, ..entry(hlc) })?;
        if matches!(stamp, Stamp::Now(_)) {
            self.author.stamped(hlc);
        }
        if !self.store.has_storage() {
            // It may leave now, and nobody will confirm it.
            self.sessions.wake();
        }
        Ok(appended)
    }

    /// Appends a draft with a base, or with the one that the log has, and folds it.
    pub(super) fn append_draft(
        &mut self,
        log: &LogId,
        draft: &Draft,
        base: Option<u64>,
        stamp: Stamp,
    ) -> Result<RecordId, CommitError> {
        let payload = draft.encode()?;
        let base = base.unwrap_or_else(|| self.store.logs().log(log).map_or(0, Log::base));
        let (closures, last_final) = (draft.closures(), draft.last_final());
        let (_, record) = self.append(log, stamp, |hlc| NewEntry {
            base,
            closures: &closures,
            last_final,
            ..NewEntry::new(hlc, &payload)
        })?;
        self.fold_changes(Source::Host);
        Ok(record)
    }

    /// Writes the content of a writer's state logs in a topic again.
    fn reissue_state(&mut self, whose: &(AgentId, Topic), now: Timestamp) -> Result<(), CommitError> {
        let (agent, topic) = whose;
        // The later writes of others are newer, so content that is written again keeps its stamps: in a log without
        // later ones.
        if let Some(log) = self.author.log(agent, topic, LogKind::State) {
            let last = self.store.logs().log(&log).map_or(Hlc::ZERO, Log::last_hlc);
            if self.repair.is_older(whose, last) {
                self.author.leave(agent, &log);
            }
        }
        let log = self.own_log(agent, topic, LogKind::State, now)?;
        self.prepare(agent, topic, &log, now).map(|_| ())
    }

    /// The work before a writer's next entry: writing the content of its own logs again, and taking over the remains of
    /// earlier incarnations. Whether there was any of it.
    pub(super) fn prepare(
        &mut self,
        agent: &AgentId,
        topic: &Topic,
        log: &LogId,
        now: Timestamp,
    ) -> Result<bool, CommitError> {
        let mut prepared = false;
        let whose = (*agent, topic.clone());
        if let Some(mut reissue) = self.repair.take_state(&whose, (self.store.logs(), &self.fold)) {
            if let Err(error) = self.write_again(&mut reissue, topic, log, now) {
                self.repair.put_back_state(whose, reissue);
                return Err(error);
            }
            self.repair.written_again(&mut self.store, &whose);
            // Their content is in this log now, which cannot close them.
            let ahead = self.author.begun_ahead(self.store.logs(), agent, topic, now);
            for ahead in ahead.into_iter().filter(|ahead| ahead != log) {
                self.store.abandon(&ahead);
            }
            self.fold_changes(Source::Host);
            self.repair.note_written(&mut self.store);
            prepared = true;
        }
        if self.repair.has_met() {
            let set = self.store.logs();
            let stamp = self.author.next_stamp(set, log, now);
            let latest = self.author.latest(set, now);
            let (kept, stamp) = left_behind((set, &self.fold), (topic, log), (stamp, latest), now);
            if !kept.is_empty() {
                let restamped = kept.iter().any(|kept| matches!(kept, Kept::Write(..)));
                for draft in pack(kept) {
                    self.append_draft(log, &draft, None, Stamp::Again(stamp))?;
                    self.store.seal();
                }
                if restamped {
                    self.notices.restamped(*agent, topic.clone());
                }
                prepared = true;
            }
        }
        Ok(prepared)
    }

    /// Takes over the remains of earlier incarnations that came since the last time, in the topics in which their writers have
    /// written since they started: an agent that starts without storage, writes, meets somebody and ends would leave a log
    /// each time. Who only reads leaves nothing, and writes nothing here.
    pub(super) fn take_over_what_came(&mut self) {
        while let Some((agent, topic)) = self.repair.next_came() {
            let now = self.repair.now();
            let Some(log) = self.author.present_log(self.store.logs(), &agent, &topic, now) else { continue };
            // What cannot be written now comes before the writer's next entry.
            let _ = self.prepare(&agent, &topic, &log, now);
        }
    }

    fn write_again(
        &mut self,
        reissue: &mut Reissue,
        topic: &Topic,
        log: &LogId,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        let set = self.store.logs();
        let now = (self.author.next_stamp(set, log, now), self.author.latest(set, now));
        while let Some(entry) = reissue.next((self.store.logs(), &self.fold), (topic, log), now) {
            self.append_draft(log, &entry.draft, None, Stamp::Again(entry.stamp))?;
            self.store.seal();
        }
        Ok(())
    }

    /// Appends the events again that a fork took out of some logs, in their writers' next incarnations, at the times that
    /// they had.
    pub(super) fn reissue_events(&mut self, which: impl Fn(&LogOpening) -> bool) {
        let waiting = self.repair.take_events(self.store.logs(), which);
        if waiting.is_empty() {
            return;
        }
        for (whose, events) in waiting {
            let mut log = None;
            let mut events = events.into_iter();
            let mut failed = None;
            for event in events.by_ref() {
                if let Err(error) = self.reissue_event(&whose, &event, &mut log) {
                    failed = Some((event, error));
                    break;
                }
            }
            match failed {
                None => self.notices.written_again(&whose),
                Some((event, error)) => {
                    self.notices.not_written_again(&whose, obstacle(error));
                    // Again when something happens.
                    let left: Vec<_> = core::iter::once(event).chain(events).collect();
                    self.repair.put_back_events(whose, left);
                }
            }
        }
        self.fold_changes(Source::Host);
    }

    /// Appends an event again, in the log that those before it went to, unless it is there.
    fn reissue_event(
        &mut self,
        (agent, topic): &(AgentId, Topic),
        event: &ReissuedEvent,
        log: &mut Option<LogId>,
    ) -> Result<(), CommitError> {
        if is_there((self.store.logs(), &self.fold), (agent, topic), event) {
            return Ok(());
        }
        let log = match *log {
            Some(log) => log,
            None => *log.insert(self.log_for_again(agent, topic, event.hlc)?),
        };
        let base = self.store.logs().log(&log).map_or(0, Log::base);
        let ReissuedEvent { epoch, citations, payload, .. } = event;
        let entry = |hlc| NewEntry { base, epoch: *epoch, citations, ..NewEntry::new(hlc, payload) };
        self.append(&log, Stamp::Again(event.hlc), entry)?;
        self.store.seal();
        Ok(())
    }

    /// The log in which a writer's events are appended again, the first of them with this stamp: where the writer has gone
    /// on with later stamps, a further one, so that they keep their places among others.
    fn log_for_again(
        &mut self,
        agent: &AgentId,
        topic: &Topic,
        first: Hlc,
    ) -> Result<LogId, consilience_sync::OpenError> {
        let now = self.repair.now();
        let log = self.own_log(agent, topic, LogKind::Event, now)?;
        if self.store.logs().log(&log).is_none_or(|log| log.last_hlc() < first) {
            return Ok(log);
        }
        self.author.leave(agent, &log);
        self.own_log(agent, topic, LogKind::Event, now)
    }
}

/// The reason for which content is not written again, for the host.
fn obstacle(error: CommitError) -> Obstacle {
    match error {
        CommitError::TooLarge(error) => Obstacle::TooLarge(error),
        CommitError::Open(error) => Obstacle::Open(error),
        CommitError::Append(error) => Obstacle::Append(error),
        // Neither comes up for content that a log had.
        CommitError::UnknownWriter | CommitError::Topic(_) => Obstacle::Append(SetError::Unknown),
    }
}
