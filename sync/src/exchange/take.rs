//! The peer's openings, facts and ranges as an exchange takes them in; and the peer's requests.
//!
//! The invariant: a part that is taken in proves itself. One that does not is refused, and shows at most which entries
//! would help.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::message::Alias;
use super::{Context, Exchange, Fault};
use crate::facts::{Facts, PrunedError, UncheckedPruned};
use crate::identity::{LogId, NamedOpening, OpeningError};
use crate::log::{
    EvidenceError, ForkSearch, Gone, LOG_SIZE_MAX, Range, RangeForm, ReceiveError, Received, SearchStep,
    UncheckedEvidence, Want,
};
use crate::logset::{OpenError, SetError};

impl Exchange {
    pub(super) fn take_opening(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Fault> {
        let opening = NamedOpening::decode(bytes, cx.store.logs().mesh())?;
        let log = *opening.id();
        if self.interests.both().matches(&opening.opening().topic) {
            if cx.store.logs().log(&log).is_none() && !self.budget.spend(1) {
                // What an honest peer sends pays for itself. The next round finds the log again.
                self.rounds.put_off();
                return Ok(());
            }
            match cx.store.hold(&opening) {
                Ok(log) => {
                    self.outbox.peer_has(&log, 0);
                    return Ok(());
                }
                Err(OpenError::Key(error)) => return Err(OpeningError::Key(error).into()),
                Err(error) => self.do_without(&log, error == OpenError::Quota, cx),
            }
        } else {
            self.do_without(&log, false, cx);
        }
        Ok(())
    }

    pub(super) fn take_evidence(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Fault> {
        let evidence = UncheckedEvidence::parse(bytes, cx.store.logs().mesh()).map_err(Fault::Evidence)?;
        if !self.interests.both().matches(&evidence.opening().opening().topic) {
            return Ok(());
        }
        let log = *evidence.opening().id();
        // Whoever knows of the fork need not show it another time.
        self.questions.answered(&log);
        let checks = self.budget.checks();
        match cx.store.receive_evidence(&evidence, cx.now, &mut self.budget) {
            Ok(news) => {
                if news {
                    self.rounds.gained();
                    // As entries that were not here.
                    self.budget.refund_since(checks);
                }
                let set = cx.store.logs();
                let known = set.facts(&log).filter(|facts| facts.pruned().is_none()).and_then(Facts::forks);
                if known.is_some_and(|ours| ours.pieces().all(|piece| piece.as_bytes() == bytes)) {
                    self.outbox.peer_has_facts(&log, set.offer(&log).and_then(|offer| offer.facts));
                }
                Ok(())
            }
            Err(SetError::Evidence(EvidenceError::Budget)) => {
                self.rounds.put_off();
                Ok(())
            }
            Err(SetError::Evidence(error)) => Err(Fault::Evidence(error)),
            Err(error) => {
                self.do_without(&log, error == SetError::Open(OpenError::Quota), cx);
                Ok(())
            }
        }
    }

    pub(super) fn take_pruned(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Fault> {
        let pruned = UncheckedPruned::parse(bytes, cx.store.logs().mesh()).map_err(Fault::Pruned)?;
        if !self.interests.both().matches(&pruned.opening().opening().topic) {
            return Ok(());
        }
        let log = *pruned.opening().id();
        self.questions.answered(&log);
        let checks = self.budget.checks();
        match cx.store.receive_pruned(&pruned, cx.now, &mut self.budget) {
            Ok(news) => {
                if news {
                    self.rounds.gained();
                    self.budget.refund_since(checks);
                }
                let set = cx.store.logs();
                let known = set.facts(&log).filter(|facts| facts.forks().is_none()).and_then(Facts::pruned);
                if known.is_some_and(|ours| ours.below() == pruned.below()) {
                    self.outbox.peer_has_facts(&log, set.offer(&log).and_then(|offer| offer.facts));
                }
                Ok(())
            }
            Err(SetError::Pruned(PrunedError::Budget)) => {
                self.rounds.put_off();
                Ok(())
            }
            Err(SetError::Pruned(error)) => Err(Fault::Pruned(error)),
            Err(error) => {
                self.do_without(&log, error == SetError::Open(OpenError::Quota), cx);
                Ok(())
            }
        }
    }

    /// Says that a log of which something came is not held.
    fn do_without(&mut self, log: &LogId, no_room: bool, cx: &mut Context<'_>) {
        if no_room {
            self.too_many_logs(cx);
        }
        self.level.refuse();
        self.questions.unwanted(log, no_room);
    }

    pub(super) fn take_range(
        &mut self,
        alias: Alias,
        bytes: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<(), Fault> {
        // Its opening was refused, or is about something else.
        let Some(log) = cx.store.logs().find(&alias).filter(|log| self.is_about(log, cx)) else {
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
        match cx.store.receive(&log, &range, cx.now, &mut self.budget) {
            Ok(received) => {
                self.outbox.peer_has(&log, to);
                if !matches!(received, Received::Nothing | Received::Head) {
                    self.questions.answered(&log);
                    self.rounds.gained();
                }
                Ok(())
            }
            Err(SetError::Receive(error)) => self.refuse(&log, (have, to, alone), error, cx),
            Err(SetError::Forked { .. }) => {
                // It does not know yet.
                let set = cx.store.logs_mut();
                self.outbox.send_facts(set, self.interests.both(), &log);
                Ok(())
            }
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
            // Whether there are two histories shows where both have something.
            ReceiveError::Unproven if !alone && to <= ours => {
                self.ask(log, Want { from: to, to, form: RangeForm::Alone }, cx.ms);
            }
            ReceiveError::Unproven if !alone => {
                self.ask(log, Want { from: ours, to: LOG_SIZE_MAX, form: RangeForm::Alone }, cx.ms);
            }
            ReceiveError::TooLate { ready_to } if ready_to > ours => {
                self.ask(log, Want { from: ours, to: ready_to, form: RangeForm::Follow }, cx.ms);
            }
            ReceiveError::TooLate { .. } | ReceiveError::TooManyStaged => {
                self.level.refuse();
                self.questions.refuse(log, ours);
            }
            ReceiveError::Budget => {
                self.questions.refuse(log, ours);
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
        let log = cx.store.logs().find(&alias);
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
                if found.is_ok_and(|found| {
                    cx.store.receive_evidence(&found, cx.now, &mut self.budget) == Ok(true)
                }) {
                    self.rounds.gained();
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
        self.rounds.gained();
        self.go_on_searching(cx);
        true
    }
}
