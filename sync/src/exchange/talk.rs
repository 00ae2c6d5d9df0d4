//! [`Talk`]: a session after its handshake. Messages in, messages out.
//!
//! It answers what the peer asks, sends what the peer lacks, and takes in what comes. Nothing waits as bytes but what is
//! on its way: what there is to say is worked out when the link has room, so a peer that asks a thousand times before it
//! listens is answered once.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use consilience_base::Timestamp;

use super::checkpoints::{Checkpoints, Memory};
use super::message::{MESSAGE_BYTES_MAX, Message, Name, name_of};
use super::outbox::Outbox;
use super::pass::{Field, Outcome, Pass};
use super::scope::Scope;
use crate::budget::VerifyBudget;
use crate::channel::frame::HEAD_BYTES_MAX;
use crate::channel::handshake::SessionKeys;
use crate::channel::link::{Link, LinkConfig};
use crate::codec::{DecodeError, Reader};
use crate::identity::{LogId, NamedOpening, OpeningError};
use crate::log::{
    EvidenceError, ForkSearch, LOG_SIZE_MAX, Range, RangeForm, ReceiveError, Received, SearchStep,
    UncheckedEvidence, Want,
};
use crate::logset::{LogSet, OpenError, SetError};
use crate::session::{EndReason, Fault, Peer, RoundsEnded, SessionEvent, SessionId};
use crate::store::LogStore;

/// A peer that does so many things that no honest one does is not talked to any longer.
const FAULTS_MAX: u32 = 16;
/// Questions and refusals that wait to be sent, of each kind.
const WAITING_MAX: usize = 64;
/// Bytes of a MAC on each frame.
pub(crate) const MAC_BYTES: usize = 8;
/// After so many passes in a row that brought nothing, the host is told.
const USELESS_MAX: u32 = 2;
/// So many passes follow each other at once because the peer says that they bring it something: enough for all logs that
/// a set holds unless told otherwise. Then they wait for the heartbeat, until one brings something here.
const AT_ONCE_MAX: u32 = 160;
/// The store notes that the two are equal at most every so many milliseconds.
const EQUAL_MS: u64 = 1_000;

/// What a session works with beside its own.
pub(crate) struct Context<'a> {
    pub(crate) store: &'a mut LogStore,
    pub(crate) rounds: &'a mut RoundsEnded,
    pub(crate) memory: &'a mut Memory,
    pub(crate) events: &'a mut VecDeque<(SessionId, SessionEvent)>,
    pub(crate) session: SessionId,
    pub(crate) now: Timestamp,
    /// Milliseconds of a clock that only rises.
    pub(crate) ms: u64,
}

/// What a session was agreed to be.
pub(crate) struct Agreed {
    pub(crate) dials: bool,
    pub(crate) peer: Peer,
    pub(crate) keys: SessionKeys,
    pub(crate) frame_bytes: usize,
    pub(crate) window: usize,
    pub(crate) peer_window: usize,
    pub(crate) datagrams: bool,
    pub(crate) ours: Scope,
    /// Whether the handshake said that this side wants everything.
    pub(crate) told_everything: bool,
    /// The peer's, if it is known already.
    pub(crate) theirs: Option<Scope>,
    pub(crate) heartbeat_ms: u64,
    pub(crate) idle_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Talk {
    dials: bool,
    pub(crate) peer: Peer,
    pub(crate) keys: SessionKeys,
    link: Link,
    /// The beginning of a message that has not come whole.
    inbox: Vec<u8>,
    ours: Scope,
    theirs: Option<Scope>,
    /// What both want.
    scope: Scope,
    scope_name: Name,
    tell_scope: bool,
    pass: Pass,
    outbox: Outbox,
    wants: BTreeMap<Name, Want>,
    refused: BTreeMap<Name, u64>,
    unwanted: BTreeSet<Name>,
    /// What was asked for of a log, and when: not asked for again as long as nothing has come.
    asked: BTreeMap<LogId, (Want, u64)>,
    search: Option<(LogId, ForkSearch)>,
    budget: VerifyBudget,
    faults: u32,
    /// Passes that followed each other at once and brought nothing here.
    at_once: u32,
    told_of_quota: bool,
    heard: u64,
    /// When the next pass begins; or, while one goes on, when it is given up.
    next_pass: u64,
    heartbeat_ms: u64,
    idle_ms: u64,
    in_sync: Option<bool>,
    /// When the store may note again that the two are equal.
    tell_equal_at: u64,
}

impl Talk {
    pub(crate) fn new(agreed: Agreed, ms: u64) -> Self {
        let packet_bytes = agreed.frame_bytes.saturating_sub(HEAD_BYTES_MAX + MAC_BYTES);
        let link = LinkConfig {
            packet_bytes,
            window_out: agreed.window,
            window_in: agreed.window,
            peer_window: agreed.peer_window,
            controlled: agreed.datagrams,
        };
        let mut talk = Self {
            dials: agreed.dials,
            peer: agreed.peer,
            link: Link::new(link, ms),
            inbox: Vec::new(),
            pass: Pass::new(agreed.dials, agreed.keys.salt),
            keys: agreed.keys,
            scope: Scope::from_filters([]),
            scope_name: Name::default(),
            tell_scope: !(agreed.told_everything && agreed.ours.is_everything()),
            ours: agreed.ours,
            theirs: agreed.theirs,
            outbox: Outbox::default(),
            wants: BTreeMap::new(),
            refused: BTreeMap::new(),
            unwanted: BTreeSet::new(),
            asked: BTreeMap::new(),
            search: None,
            budget: VerifyBudget::new(),
            faults: 0,
            at_once: 0,
            told_of_quota: false,
            heard: ms,
            next_pass: ms,
            heartbeat_ms: agreed.heartbeat_ms,
            idle_ms: agreed.idle_ms,
            in_sync: None,
            tell_equal_at: ms,
        };
        talk.agree(ms);
        talk
    }

    /// Works out what both want.
    fn agree(&mut self, ms: u64) {
        let Some(theirs) = &self.theirs else { return };
        let scope = self.ours.meet(theirs);
        if scope != self.scope {
            // Whether they are equal in this is not known yet.
            self.in_sync = None;
        }
        self.scope = scope;
        self.scope_name = self.scope.name();
        self.next_pass = ms;
        // What was begun may be about more. The side that dials begins anew.
        self.wants.clear();
        self.asked.clear();
        self.search = None;
        if self.dials {
            self.pass.begin();
        } else {
            self.pass.abandon();
        }
    }

    /// Changes what this side wants.
    pub(crate) fn set_scope(&mut self, scope: Scope, ms: u64) {
        self.ours = scope;
        self.tell_scope = true;
        self.agree(ms);
    }

    /// Takes in the body of a frame whose MAC was right.
    pub(crate) fn handle_packet(&mut self, packet: &[u8], cx: &mut Context<'_>) -> Result<(), EndReason> {
        self.heard = cx.ms;
        self.budget.received(packet.len());
        if let Err(error) = self.link.handle_packet(packet, cx.ms) {
            return self.fault(error.into(), cx);
        }
        let unread = self.link.unread();
        let fresh = unread.len();
        if fresh == 0 {
            return Ok(());
        }
        let mut stream = core::mem::take(&mut self.inbox);
        stream.extend_from_slice(unread);
        self.link.consume(fresh);
        let used = self.handle_stream(&stream, cx)?;
        stream.drain(..used);
        self.inbox = stream;
        Ok(())
    }

    /// Takes in the whole messages at the beginning of some bytes. Gives how many bytes they are.
    fn handle_stream(&mut self, stream: &[u8], cx: &mut Context<'_>) -> Result<usize, EndReason> {
        let mut reader = Reader::new(stream);
        loop {
            let used = reader.position();
            let len = match reader.varint_max(MESSAGE_BYTES_MAX as u64) {
                Ok(len) => usize::try_from(len).unwrap_or(usize::MAX),
                Err(DecodeError::Truncated) => return Ok(used),
                Err(error) => {
                    // Where the next message begins is not known any more.
                    self.fault(error.into(), cx)?;
                    return Err(EndReason::Misbehaved);
                }
            };
            let Ok(body) = reader.take(len) else { return Ok(used) };
            match Message::read(body) {
                Ok(message) => self.handle(message, cx)?,
                Err(error) => self.fault(error.into(), cx)?,
            }
        }
    }

    fn handle(&mut self, message: Message<'_>, cx: &mut Context<'_>) -> Result<(), EndReason> {
        match message {
            Message::Subscribe(theirs) => {
                self.theirs = Some(theirs);
                self.agree(cx.ms);
            }
            Message::Root { pass, root, since } => {
                self.pass.asked(pass, root, since);
                if !self.dials {
                    self.next_pass = cx.ms.saturating_add(self.heartbeat_ms);
                }
            }
            Message::Same { pass } => {
                let outcome = self.in_pass(cx, |pass_state, field| pass_state.same(pass, field));
                self.follow(outcome, cx);
            }
            Message::Compare { pass, part, frame } => {
                self.touch_pass(cx.ms);
                if let Err(error) = self.in_pass(cx, |this, field| this.compare(pass, part, frame, field)) {
                    self.pass.give_up();
                    return self.fault(Fault::Reconcile(error), cx);
                }
            }
            Message::Offers { pass, extent, offers } => {
                self.touch_pass(cx.ms);
                let searches = self.in_pass(cx, |this, field| this.offered(pass, extent, offers, field));
                if let Some(log) = searches.first() {
                    self.begin_search(log, cx);
                }
            }
            Message::Done { pass, gained, more } => {
                let outcome = self.pass.done(pass, gained, more);
                self.follow(outcome, cx);
            }
            Message::Unknown => {}
            Message::Open(bytes) => return self.take_opening(bytes, cx),
            Message::Evidence(bytes) => return self.take_evidence(bytes, cx),
            Message::Range { name, bytes } => {
                self.touch_pass(cx.ms);
                return self.take_range(name, bytes, cx);
            }
            Message::Want { name, want } => self.take_want(name, want, cx),
            Message::Gone { name, gone } => {
                let log = cx.store.logs().find(&name);
                if let Some((_, search)) = self.search.as_mut().filter(|(searched, _)| Some(*searched) == log)
                {
                    search.handle_gone(gone);
                    self.go_on_searching(cx);
                }
            }
            Message::Unwanted { name } => {
                if let Some(log) = cx.store.logs().find(&name) {
                    self.outbox.unwanted(&log);
                }
            }
            Message::Refused { name, have } => {
                if let Some(log) = cx.store.logs().find(&name) {
                    self.outbox.peer_has_only(&log, have);
                }
            }
        }
        Ok(())
    }

    /// Whether the session is about a log that is held.
    fn is_about(&self, log: &LogId, cx: &Context<'_>) -> bool {
        cx.store.logs().log(log).is_some_and(|held| self.scope.matches(&held.opening().topic))
    }

    fn in_pass<T>(&mut self, cx: &mut Context<'_>, step: impl FnOnce(&mut Pass, &mut Field<'_>) -> T) -> T {
        let checkpoints = Checkpoints { memory: cx.memory, peer: self.peer.agent, scope: self.scope_name };
        let mut field = Field {
            set: cx.store.logs_mut(),
            scope: &self.scope,
            outbox: &mut self.outbox,
            checkpoints,
            at: self.link.written(),
            searching: self.search.is_some(),
        };
        step(&mut self.pass, &mut field)
    }

    /// Gives a pass that something came of more time.
    const fn touch_pass(&mut self, ms: u64) {
        if !self.pass.is_idle() {
            self.next_pass = ms.saturating_add(self.heartbeat_ms);
        }
    }

    /// Does what the end of a pass asks for.
    fn follow(&mut self, outcome: Outcome, cx: &mut Context<'_>) {
        let heartbeat = cx.ms.saturating_add(self.heartbeat_ms);
        match outcome {
            Outcome::Going => return,
            Outcome::Equal => {
                self.next_pass = heartbeat;
                self.at_once = 0;
                self.tell_equal(cx);
                if self.in_sync != Some(true) {
                    self.in_sync = Some(true);
                    cx.events.push_back((cx.session, SessionEvent::InSync));
                }
            }
            // Whether that made them equal is seen at once.
            Outcome::Gained if self.dials && self.at_once < AT_ONCE_MAX => {
                self.at_once = if self.pass.has_gained() { 0 } else { self.at_once.saturating_add(1) };
                self.pass.begin();
            }
            Outcome::Gained => {
                self.next_pass = heartbeat;
                if self.pass.has_gained() {
                    self.at_once = 0;
                }
            }
            Outcome::Useless => {
                self.next_pass = heartbeat;
                let again = self.pass.useless() == 1 && self.dials;
                if again {
                    // Perhaps what it began with was out of date.
                    self.pass.begin();
                } else if self.is_news_that_useless() {
                    cx.events.push_back((cx.session, SessionEvent::OutOfSync));
                }
            }
        }
        self.asked.clear();
        cx.rounds.note(matches!(outcome, Outcome::Gained));
    }

    /// Has the store mark that the two are equal, unless it did. Not more often than a peer may make a disk work.
    fn tell_equal(&mut self, cx: &mut Context<'_>) {
        if cx.ms >= self.tell_equal_at
            && let Some(checkpoint) = cx.memory.untold(&self.peer.agent)
        {
            self.tell_equal_at = cx.ms.saturating_add(EQUAL_MS);
            cx.store.mark(&checkpoint.to_bytes());
        }
    }

    /// Whether the host has to be told that passes are of no use.
    fn is_news_that_useless(&mut self) -> bool {
        self.pass.stuck() >= USELESS_MAX && self.in_sync.replace(false) != Some(false)
    }

    /// Notes that the peer did what no honest one does.
    fn fault(&mut self, fault: Fault, cx: &mut Context<'_>) -> Result<(), EndReason> {
        self.faults = self.faults.saturating_add(1);
        cx.events.push_back((cx.session, SessionEvent::Fault(fault)));
        if self.faults >= FAULTS_MAX { Err(EndReason::Misbehaved) } else { Ok(()) }
    }

    /// Tells the host, once, that there is no room for what the peer has. Whoever passes logs on is not to blame.
    fn too_many_logs(&mut self, cx: &mut Context<'_>) {
        if !core::mem::replace(&mut self.told_of_quota, true) {
            cx.events.push_back((cx.session, SessionEvent::TooManyLogs));
        }
    }

    fn take_opening(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), EndReason> {
        let opening = match NamedOpening::decode(bytes, cx.store.logs().mesh()) {
            Ok(opening) => opening,
            Err(error) => return self.fault(error.into(), cx),
        };
        let log = *opening.id();
        if self.scope.matches(&opening.opening().topic) {
            if cx.store.logs().log(&log).is_none() && !self.budget.spend(1) {
                return self.fault(Fault::Signatures, cx);
            }
            match cx.store.hold(&opening) {
                Ok(log) => {
                    self.outbox.peer_has(&log, 0);
                    return Ok(());
                }
                Err(OpenError::Key(error)) => return self.fault(OpeningError::Key(error).into(), cx),
                Err(OpenError::Quota) => self.too_many_logs(cx),
                Err(OpenError::Ignored) => {}
            }
        }
        insert(&mut self.unwanted, name_of(&log));
        Ok(())
    }

    fn take_evidence(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), EndReason> {
        let evidence = match UncheckedEvidence::parse(bytes, cx.store.logs().mesh()) {
            Ok(evidence) => evidence,
            Err(error) => return self.fault(Fault::Evidence(error), cx),
        };
        if !self.scope.matches(&evidence.opening().opening().topic) {
            return Ok(());
        }
        let log = *evidence.opening().id();
        match cx.store.receive_evidence(&evidence, cx.now, &mut self.budget) {
            Ok(news) => {
                if news {
                    self.pass.gained();
                }
                let set = cx.store.logs();
                if set.evidence(&log).is_some_and(|ours| ours.as_bytes() == bytes) {
                    self.outbox.peer_has_evidence(&log, set.offer(&log).and_then(|offer| offer.evidence));
                }
                Ok(())
            }
            Err(SetError::Evidence(EvidenceError::Budget)) => self.fault(Fault::Signatures, cx),
            Err(SetError::Evidence(error)) => self.fault(Fault::Evidence(error), cx),
            Err(error) => {
                if matches!(error, SetError::Open(OpenError::Quota)) {
                    self.too_many_logs(cx);
                }
                insert(&mut self.unwanted, name_of(&log));
                Ok(())
            }
        }
    }

    fn take_range(&mut self, name: Name, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), EndReason> {
        // Its opening was refused, or is about something else.
        let Some(log) = cx.store.logs().find(&name).filter(|log| self.is_about(log, cx)) else {
            return Ok(());
        };
        let Ok(range) = Range::parse(bytes) else {
            let error = ReceiveError::Decode(DecodeError::Kind);
            return self.fault(Fault::Range { log, error }, cx);
        };
        let (to, alone) = (range.end(), range.form() == RangeForm::Alone);
        if self.answers_search(&log, &range, cx) {
            return Ok(());
        }
        if alone && self.asked.get(&log).is_some_and(|(asked, _)| asked.form == RangeForm::Alone) {
            // Here it is, whatever it is worth.
            self.asked.remove(&log);
        }
        let have = cx.store.logs().have(&log).map_or(0, |have| have.size);
        match cx.store.receive(&log, &range, cx.now, &mut self.budget) {
            Ok(received) => {
                self.outbox.peer_has(&log, to);
                if !matches!(received, Received::Nothing | Received::Head) {
                    self.asked.remove(&log);
                    self.pass.gained();
                }
                Ok(())
            }
            Err(SetError::Receive(error)) => self.refuse(&log, (have, to, alone), error, cx),
            Err(SetError::Forked { .. }) => {
                // It does not know yet.
                let set = cx.store.logs_mut();
                self.outbox.send_evidence(set, &self.scope, &log);
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// Asks for what helps, or tells the peer that a range was of no use.
    fn refuse(
        &mut self,
        log: &LogId,
        (ours, to, alone): (u64, u64, bool),
        error: ReceiveError,
        cx: &mut Context<'_>,
    ) -> Result<(), EndReason> {
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
                put(&mut self.refused, name_of(log), ours);
            }
            ReceiveError::Budget => {
                put(&mut self.refused, name_of(log), ours);
                return self.fault(Fault::Signatures, cx);
            }
            error => return self.fault(Fault::Range { log: *log, error }, cx),
        }
        Ok(())
    }

    fn ask(&mut self, log: &LogId, want: Want, ms: u64) {
        let pending = self.asked.get(log).filter(|(_, at)| ms < at.saturating_add(self.heartbeat_ms));
        // What stands alone shows where histories part, which is what the others that wait for it lack.
        let alone = |asked: &Want| asked.form == RangeForm::Alone && want.form == RangeForm::Follow;
        if pending.is_some_and(|(asked, _)| *asked == want || alone(asked)) {
            return;
        }
        if put(&mut self.asked, *log, (want, ms)) {
            put(&mut self.wants, name_of(log), want);
        }
    }

    fn take_want(&mut self, name: Name, want: Want, cx: &Context<'_>) {
        let Some(log) = cx.store.logs().find(&name).filter(|log| self.is_about(log, cx)) else { return };
        self.outbox.send_range(cx.store.logs(), &self.scope, &log, want);
    }

    fn begin_search(&mut self, log: &LogId, cx: &mut Context<'_>) {
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
                put(&mut self.wants, name_of(log), want);
            }
            SearchStep::Done(evidence) => {
                self.search = None;
                // It is this side's own finding, and checked.
                let found = UncheckedEvidence::parse(evidence.as_bytes(), cx.store.logs().mesh());
                if found.is_ok_and(|found| {
                    cx.store.receive_evidence(&found, cx.now, &mut self.budget) == Ok(true)
                }) {
                    self.pass.gained();
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
        self.pass.gained();
        self.go_on_searching(cx);
        true
    }

    /// The next frame's body, without its MAC. False if there is nothing to send now.
    pub(crate) fn poll_packet(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> bool {
        if self.link.room() > 0 {
            cx.store.sign_heads(cx.now);
        }
        let mut message = Vec::new();
        while self.link.room() > 0 {
            message.clear();
            if !self.compose(cx, &mut message) {
                break;
            }
            self.link.write(&message);
        }
        self.link.poll_packet(cx.ms, out)
    }

    /// Writes the next message, if there is one.
    fn compose(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> bool {
        if core::mem::take(&mut self.tell_scope) {
            Message::Subscribe(self.ours.clone()).put(out);
            return true;
        }
        if self.theirs.is_none() {
            return false;
        }
        let outcome = self.in_pass(cx, |pass, field| pass.compose(field, out));
        self.follow(outcome, cx);
        if !out.is_empty() {
            self.touch_pass(cx.ms);
            return true;
        }
        if let Some((name, want)) = self.wants.pop_first() {
            Message::Want { name, want }.put(out);
        } else if let Some((name, have)) = self.refused.pop_first() {
            Message::Refused { name, have }.put(out);
        } else if let Some(name) = self.unwanted.pop_first() {
            Message::Unwanted { name }.put(out);
        } else {
            if self.outbox.is_empty() {
                self.outbox.look(cx.store.logs_mut(), &self.scope);
            }
            self.outbox.compose(cx.store.logs(), &self.scope, self.link.written(), out);
        }
        !out.is_empty()
    }

    /// When there is something to do.
    pub(crate) fn poll_timeout(&self) -> u64 {
        let idle = self.heard.saturating_add(self.idle_ms);
        let pass = if self.dials || !self.pass.is_idle() { self.next_pass } else { u64::MAX };
        let pass = if self.theirs.is_some() { pass } else { u64::MAX };
        self.link.poll_timeout().unwrap_or(u64::MAX).min(idle).min(pass)
    }

    /// Takes in that time has passed. Gives what the host has to be told.
    pub(crate) fn handle_timeout(&mut self, ms: u64) -> Result<Option<SessionEvent>, EndReason> {
        if ms >= self.heard.saturating_add(self.idle_ms) {
            return Err(EndReason::TimedOut);
        }
        self.link.handle_timeout(ms);
        let mut told = None;
        if ms >= self.next_pass && self.theirs.is_some() {
            if !self.pass.is_idle() && !self.link.is_quiet() {
                // It goes on, only slowly.
                self.next_pass = ms.saturating_add(self.heartbeat_ms);
                return Ok(None);
            }
            if !self.pass.is_idle() {
                self.search = None;
                self.pass.give_up();
                told = self.is_news_that_useless().then_some(SessionEvent::OutOfSync);
            }
            self.next_pass = ms.saturating_add(self.heartbeat_ms);
            if self.dials {
                self.pass.begin();
            }
        }
        Ok(told)
    }

    /// What both want, once the peer has said what it wants.
    pub(crate) fn scope(&self) -> Option<&Scope> {
        self.theirs.as_ref().map(|_| &self.scope)
    }

    /// Whether the two were equal and the peer has taken in all that this side has had to say since.
    pub(crate) fn peer_has_all(&self, set: &mut LogSet) -> bool {
        self.in_sync == Some(true)
            && self.pass.is_idle()
            && !self.tell_scope
            && self.link.is_quiet()
            && self.outbox.is_spent(set)
    }

    pub(crate) const fn signatures_checked(&self) -> u64 {
        self.budget.checks()
    }

    pub(crate) fn round_trip_ms(&self) -> Option<u64> {
        self.link.rtt()
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn memory(&self) -> usize {
        let asked = self.asked.len().saturating_mul(96);
        let waiting = self.wants.len().saturating_add(self.refused.len()).saturating_add(self.unwanted.len());
        self.link
            .memory()
            .saturating_add(self.inbox.len())
            .saturating_add(self.outbox.memory())
            .saturating_add(self.pass.memory())
            .saturating_add(asked)
            .saturating_add(waiting.saturating_mul(48))
    }
}

/// Adds to a set that has a limit.
fn insert(set: &mut BTreeSet<Name>, name: Name) {
    if set.len() < WAITING_MAX {
        set.insert(name);
    }
}

/// Adds to a map that has a limit; false if there is no room.
fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    let room = map.len() < WAITING_MAX || map.contains_key(&key);
    if room {
        map.insert(key, value);
    }
    room
}
