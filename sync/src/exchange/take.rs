//! The peer's openings, facts and ranges as an exchange takes them in; and the peer's requests.
//!
//! The invariant: a part that is taken in proves itself. One that does not is refused, and shows at most which entries
//! would help. An opening alone proves nothing, and is no more than remembered.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::message::Alias;
use super::{Context, Exchange, Fault, Notice};
use crate::facts::{Facts, PrunedError, UncheckedPruned};
use crate::identity::{LogId, NamedOpening, OpeningError};
use crate::log::{
    EvidenceError, ForkSearch, Gone, LOG_SIZE_MAX, Range, RangeForm, ReceiveError, Received, SearchStep,
    UncheckedEvidence, Want,
};
use crate::logset::{Admission, OpenError, SetError};
use consilience_base::planted::{self, planted};

impl Exchange {
    pub(super) fn take_opening(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Fault> {
        let opening = match NamedOpening::decode(bytes, cx.store.logs().mesh()) {
            Err(error) if error.is_of_later_version() => {
                self.leave_to_later_version(cx);
                return Ok(());
            }
            decoded => decoded?,
        };
        let log = *opening.id();
        if !self.interests.both().matches(&opening.opening().topic) {
            self.level.refuse();
            self.questions.unwanted(&log, false);
            return Ok(());
        }
        let is_new = cx.store.logs().log(&log).is_none();
        if is_new && planted(planted::Fault::CreditByTheFrame) && !self.budget.spend(1) {
            return Err(Fault::Range { log, error: ReceiveError::Budget });
        }
        if let Err(error) = cx.store.admits(&opening, cx.now) {
            return self.not_held(&log, error, cx);
        }
        self.outbox.peer_has(&log, 0);
        if planted(planted::Fault::OpeningTakesAPlace) {
            let _ = cx.store.logs_mut().open(opening.opening(), |_| Admission::Hold);
        }
        if cx.store.logs().log(&log).is_none() {
            self.openings.remember(opening);
        }
        Ok(())
    }

    /// Says to the peer, and to the host if it cannot know it, that a log is not held.
    fn not_held(&mut self, log: &LogId, error: OpenError, cx: &mut Context<'_>) -> Result<(), Fault> {
        self.openings.forget(log);
        self.level.refuse();
        match error {
            OpenError::Key(error) => return Err(OpeningError::Key(error).into()),
            OpenError::Ahead => {
                self.tell_once(Notice::Ahead, cx);
                // Its time may have come when the next round offers it again.
                self.questions.refuse(log, 0);
                return Ok(());
            }
            // A peer that passes logs on is not to blame.
            OpenError::Quota => {
                self.tell_once(Notice::TooManyLogs, cx);
                self.out_of_sync(cx);
            }
            OpenError::Ignored => {}
        }
        self.questions.unwanted(log, error == OpenError::Quota);
        Ok(())
    }

    pub(super) fn take_evidence(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Fault> {
        let evidence = match UncheckedEvidence::parse(bytes, cx.store.logs().mesh()) {
            Err(EvidenceError::Opening(error)) if error.is_of_later_version() => {
                self.leave_to_later_version(cx);
                return Ok(());
            }
            parsed => parsed.map_err(Fault::Evidence)?,
        };
        if !self.interests.both().matches(&evidence.opening().opening().topic) {
            return Ok(());
        }
        let checks = self.budget.checks();
        let taken = cx.store.receive_evidence(&evidence, cx.now, &mut self.budget);
        self.took_fact(evidence.opening().id(), taken, checks, cx, |known| {
            let all = known.forks().is_some_and(|ours| ours.pieces().all(|piece| piece.as_bytes() == bytes));
            all && known.pruned().is_none()
        })
    }

    pub(super) fn take_pruned(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Fault> {
        let pruned = match UncheckedPruned::parse(bytes, cx.store.logs().mesh()) {
            Err(PrunedError::Opening(error)) if error.is_of_later_version() => {
                self.leave_to_later_version(cx);
                return Ok(());
            }
            parsed => parsed.map_err(Fault::Pruned)?,
        };
        if !self.interests.both().matches(&pruned.opening().opening().topic) {
            return Ok(());
        }
        let checks = self.budget.checks();
        let taken = cx.store.receive_pruned(&pruned, cx.now, &mut self.budget);
        self.took_fact(pruned.opening().id(), taken, checks, cx, |known| {
            let all = known.pruned().is_some_and(|ours| ours.below() == pruned.below());
            all && known.forks().is_none()
        })
    }

    /// Notes that something is of a log that a later version made: it is not held.
    fn leave_to_later_version(&mut self, cx: &mut Context<'_>) {
        self.level.refuse();
        self.tell_once(Notice::LaterVersion, cx);
    }

    /// Notes what became of a fact about a log, since there had been so many checks of signatures; `is_all` says whether it
    /// is all that is known.
    fn took_fact(
        &mut self,
        log: &LogId,
        taken: Result<bool, SetError>,
        checks: u64,
        cx: &mut Context<'_>,
        is_all: impl FnOnce(&Facts) -> bool,
    ) -> Result<(), Fault> {
        // Whoever knows of it need not show it another time.
        self.questions.answered(log);
        match taken {
            Ok(news) => {
                self.openings.forget(log);
                if news {
                    // As entries that were not here.
                    self.budget.refund_since(checks);
                }
                let set = cx.store.logs();
                if set.facts(log).is_some_and(is_all) {
                    self.outbox.peer_has_facts(log, set.offer(log).and_then(|offer| offer.facts));
                }
                Ok(())
            }
            Err(SetError::Evidence(EvidenceError::Budget) | SetError::Pruned(PrunedError::Budget)) => {
                self.rounds.put_off();
                Ok(())
            }
            Err(SetError::Evidence(error)) => Err(Fault::Evidence(error)),
            Err(SetError::Pruned(error)) => Err(Fault::Pruned(error)),
            Err(SetError::Open(error)) => self.not_held(log, error, cx),
            Err(_) => {
                self.level.refuse();
                self.questions.unwanted(log, false);
                Ok(())
            }
        }
    }

    pub(super) fn take_range(
        &mut self,
        alias: Alias,
        bytes: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<(), Fault> {
        let held = cx.store.logs().find(&alias);
        let opening = self.openings.find(alias).filter(|_| held.is_none()).cloned();
        let opening = opening.filter(|opening| self.interests.both().matches(&opening.opening().topic));
        let held = held.filter(|log| self.is_about(log, cx));
        let Some(log) = held.or(opening.as_ref().map(|opening| *opening.id())) else {
            // Its opening was refused; or it was held, and let go since, as what came before ended it: as far as that goes.
            self.level.miss();
            return Ok(());
        };
        let range = Range::parse(bytes).map_err(|error| Fault::Range { log, error: error.into() })?;
        let (to, alone) = (range.end(), range.form() == RangeForm::Alone);
        if self.answers_search(&log, &range, cx) {
            return Ok(());
        }
        if alone {
            self.questions.answered_alone(&log);
        }
        let have = cx.store.logs().have(&log).map_or(0, |have| have.size);
        let received = match &opening {
            Some(opening) => cx.store.receive_first(opening, &range, cx.now, &mut self.budget),
            None => cx.store.receive(&log, &range, cx.now, &mut self.budget),
        };
        match received {
            Ok(received) => {
                self.openings.forget(&log);
                self.outbox.peer_has(&log, to);
                if !matches!(received, Received::Nothing | Received::Head) {
                    self.questions.answered(&log);
                }
                Ok(())
            }
            Err(SetError::Receive(error)) => self.refuse(&log, (have, to, alone), error, cx),
            Err(SetError::Forked { .. }) if !planted(planted::Fault::ForkIsNotToldBack) => {
                // It does not know yet.
                let set = cx.store.logs_mut();
                self.outbox.send_facts(set, self.interests.both(), &log);
                Ok(())
            }
            Err(SetError::Open(error)) => self.not_held(&log, error, cx),
            Err(_) => Ok(()),
        }
    }

    /// Asks for entries that help, or tells the peer that a range was of no use.
    fn refuse(
        &mut self,
        log: &LogId,
        (ours, to, alone): (u64, u64, bool),
        error: ReceiveError,
        cx: &Context<'_>,
    ) -> Result<(), Fault> {
        match error {
            ReceiveError::Gap { have } => {
                self.ask(log, Want { from: have, to: LOG_SIZE_MAX, form: RangeForm::Follow }, cx.ms);
            }
            ReceiveError::Stale { have } if to > have => {
                self.ask(log, Want { from: have, to: LOG_SIZE_MAX, form: RangeForm::Follow }, cx.ms);
            }
            ReceiveError::Stale { .. } => self.outbox.peer_has(log, to),
            ReceiveError::Unproven if !alone && planted(planted::Fault::UnprovenIsNotAskedFor) => {}
            // Whether there are two histories shows where both have something.
            ReceiveError::Unproven if !alone && to <= ours => {
                self.ask(log, Want { from: to, to, form: RangeForm::Alone }, cx.ms);
            }
            ReceiveError::Unproven if !alone => {
                self.ask(log, Want { from: ours, to: LOG_SIZE_MAX, form: RangeForm::Alone }, cx.ms);
            }
            ReceiveError::TooLate { ready_to } if ready_to > ours => {
                self.level.refuse();
                self.ask(log, Want { from: ours, to: ready_to, form: RangeForm::Follow }, cx.ms);
            }
            // Entries after a gap are taken in once the gap is filled.
            ReceiveError::TooManyStaged => {
                self.level.refuse();
                self.questions.refuse(log, ours);
            }
            ReceiveError::TooLate { .. } | ReceiveError::TooMuchWork => {
                self.level.refuse();
                self.questions.put_off(log, ours);
            }
            ReceiveError::Budget if !planted(planted::Fault::CreditByTheFrame) => {
                self.questions.put_off(log, ours);
                self.rounds.put_off();
            }
            error => return Err(Fault::Range { log: *log, error }),
        }
        Ok(())
    }

    fn ask(&mut self, log: &LogId, want: Want, ms: u64) {
        self.questions.ask(log, want, ms, self.heartbeat_ms);
    }

    pub(super) fn take_want(&mut self, alias: Alias, want: Want, cx: &Context<'_>) {
        let Some(log) = cx.store.logs().find(&alias).filter(|log| self.is_about(log, cx)) else { return };
        self.outbox.send_range(cx.store.logs(), self.interests.both(), &log, want);
    }

    pub(super) fn take_gone(&mut self, alias: Alias, gone: Gone, cx: &mut Context<'_>) {
        let opened = self.openings.find(alias).map(|opening| *opening.id());
        let log = cx.store.logs().find(&alias).or(opened);
        if let Some(log) = &log {
            self.questions.answered_alone(log);
        }
        if let Some((_, search)) = self.search.as_mut().filter(|(searched, _)| Some(*searched) == log) {
            search.handle_gone(gone);
            self.go_on_searching(cx);
        }
    }

    pub(super) fn begin_search(&mut self, log: &LogId, cx: &mut Context<'_>) {
        if self.search.as_ref().is_some_and(|(searched, _)| searched == log) {
            return;
        }
        let set = cx.store.logs();
        if let (Some(held), Some(evidence)) = (set.log(log), set.evidence(log)) {
            self.search = Some((*log, ForkSearch::new(held, evidence.clone())));
            self.go_on_searching(cx);
        }
    }

    fn go_on_searching(&mut self, cx: &mut Context<'_>) {
        let Some((log, search)) = &self.search else { return };
        match search.step() {
            SearchStep::Ask(want) => {
                self.questions.want(log, want);
            }
            SearchStep::Done(evidence) => {
                self.search = None;
                // It is this side's own finding, and checked.
                let found = UncheckedEvidence::parse(evidence.as_bytes(), cx.store.logs().mesh());
                if let Ok(found) = found {
                    let _ = cx.store.receive_evidence(&found, cx.now, &mut self.budget);
                }
            }
        }
    }

    /// Whether a range answers the search for where two histories part.
    fn answers_search(&mut self, log: &LogId, range: &Range<'_>, cx: &mut Context<'_>) -> bool {
        let Some((_, search)) = self.search.as_mut().filter(|(searched, _)| searched == log) else {
            return false;
        };
        let Some(held) = cx.store.logs().log(log) else { return false };
        if search.handle_range(held, range, &mut self.budget).is_err() {
            return false;
        }
        self.go_on_searching(cx);
        true
    }
}
