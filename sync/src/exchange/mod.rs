//! The exchange: two log stores become equal over a channel. The first of the protocols that a channel carries.
//!
//! ```text
//! mod          messages in, messages out
//! ├─ interests the topics that each side wants
//! ├─ round     the differences: roots, lists, sketches, ranges, offers
//! ├─ outbox    the entries that the peer lacks, the most wanted first
//! ├─ take      openings, facts and ranges that come
//! ├─ openings  those of logs of which nothing signed came yet
//! ├─ questions requests, and refusals of ranges and logs
//! ├─ checkpoints  when two sides were equal
//! └─ message   how it is spelled
//! ```
//!
//! It answers the peer's questions, sends the entries that the peer lacks, and takes in those that come. Nothing waits as
//! bytes: a message is made when there is room for it, so a peer that asks a thousand times before it listens is answered
//! once.
//!
//! Not here: frames, keys, packets and the link. An exchange is given messages ([`Exchange::handle`]) and gives
//! them out ([`Exchange::compose`]); of their way it knows how many bytes were written to it.
//!
//! The invariant: a peer's statements are hints at the logs to look at and to send. Every part that is taken in proves
//! itself, and only roots decide equality.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod checkpoints;
mod event;
mod interests;
mod message;
mod openings;
mod outbox;
mod questions;
mod round;
mod scope;
mod take;

use alloc::vec::Vec;

use consilience_base::Timestamp;

pub(crate) use checkpoints::{Checkpoint, Memory};
pub(crate) use event::Notice;
pub use event::{Fault, RoundsEnded};
pub use scope::Scope;

use crate::budget::VerifyBudget;
use crate::identity::{AgentId, LogId};
use crate::log::ForkSearch;
use crate::logset::LogSet;
use crate::store::LogStore;
use checkpoints::Checkpoints;
use interests::Interests;
use message::Message;
use openings::Openings;
use outbox::Outbox;
use questions::Questions;
use round::{Field, RoundOutcome, Rounds};

/// After so many rounds in a row that brought nothing, the host is told.
const USELESS_MAX: u32 = 2;
/// So many rounds follow each other at once because the peer says that they bring it something: enough for all logs that
/// a set holds unless told otherwise. Then they wait for the heartbeat, until one brings something here.
const AT_ONCE_MAX: u32 = 160;
/// The store notes that the two are equal at most every so many milliseconds.
const EQUAL_MS: u64 = 1_000;

/// The state outside of an exchange that it works with.
pub(crate) struct Context<'a> {
    pub(crate) store: &'a mut LogStore,
    pub(crate) rounds: &'a mut RoundsEnded,
    pub(crate) memory: &'a mut Memory,
    /// Notices for the host: the caller takes them out.
    pub(crate) notices: Vec<Notice>,
    /// How many bytes were written to the stream of messages in all.
    pub(crate) written: u64,
    pub(crate) now: Timestamp,
    /// Milliseconds of a clock that only rises.
    pub(crate) ms: u64,
}

/// How an exchange begins.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Whether this side begins the rounds.
    pub(crate) dials: bool,
    pub(crate) peer: AgentId,
    /// Bytes that both sides know and neither chose alone.
    pub(crate) salt: [u8; 32],
    pub(crate) scope: Scope,
    /// Whether the handshake said that this side wants everything, and that the peer does.
    pub(crate) want_everything: (bool, bool),
    pub(crate) heartbeat_ms: u64,
}

/// The notices that the host was given, so that it is given each once.
#[derive(Debug, Default)]
struct Told {
    in_sync: Option<bool>,
    /// Those that are given once in a session.
    once: Vec<Notice>,
}

/// One end of an exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    dials: bool,
    peer: AgentId,
    heartbeat_ms: u64,
    interests: Interests,
    rounds: Rounds,
    /// When the next round begins; or, while one goes on, when it is given up.
    next_round: u64,
    /// Rounds that followed each other at once and brought nothing here.
    at_once: u32,
    outbox: Outbox,
    questions: Questions,
    openings: Openings,
    search: Option<(LogId, ForkSearch)>,
    budget: VerifyBudget,
    told: Told,
    /// When the store may note again that the two are equal.
    mark_equal_at: u64,
}

impl Exchange {
    pub(crate) fn new(setup: Setup, ms: u64) -> Self {
        let mut exchange = Self {
            dials: setup.dials,
            peer: setup.peer,
            heartbeat_ms: setup.heartbeat_ms,
            interests: Interests::new(setup.scope, setup.want_everything),
            rounds: Rounds::new(setup.dials, setup.salt),
            next_round: ms,
            at_once: 0,
            outbox: Outbox::default(),
            questions: Questions::default(),
            openings: Openings::default(),
            search: None,
            budget: VerifyBudget::new(),
            told: Told::default(),
            mark_equal_at: ms,
        };
        exchange.begin_anew(false, ms);
        exchange
    }

    /// Begins anew, because the scope may have changed.
    fn begin_anew(&mut self, changed: bool, ms: u64) {
        if !self.interests.are_known() {
            return;
        }
        if changed {
            // Whether they are equal in this is not known yet.
            self.told.in_sync = None;
        }
        self.next_round = ms;
        // Questions and rounds may be about more. The side that dials begins anew.
        self.questions.abandon();
        self.search = None;
        if self.dials {
            self.rounds.begin();
        } else {
            self.rounds.abandon();
        }
    }

    /// Changes the topics that this side wants.
    pub(crate) fn set_scope(&mut self, scope: Scope, ms: u64) {
        let changed = self.interests.set_ours(scope);
        self.begin_anew(changed, ms);
    }

    /// Notes that so many bytes came from the peer: they pay for the checking of signatures.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.budget.received(bytes);
    }

    /// Takes in a message.
    ///
    /// # Errors
    ///
    /// The peer's [`Fault`]. The useless part of the message was not taken in.
    pub(crate) fn handle(&mut self, kind: u8, body: &[u8], cx: &mut Context<'_>) -> Result<(), Fault> {
        match Message::read(kind, body)? {
            Message::Subscribe(theirs) => {
                let changed = self.interests.set_theirs(theirs);
                self.begin_anew(changed, cx.ms);
            }
            Message::Root { round, root, since } => {
                self.rounds.asked(round, root, since);
                if !self.dials {
                    self.next_round = cx.ms.saturating_add(self.heartbeat_ms);
                }
            }
            Message::Same { round } => {
                let outcome = self.in_round(cx, |rounds, field| rounds.same(round, field));
                self.end_round(outcome, cx);
            }
            Message::Compare { round, scope_range, message } => {
                self.touch_round(cx.ms);
                self.in_round(cx, |rounds, field| rounds.compare(round, scope_range, message, field))
                    .map_err(Fault::Reconcile)?;
            }
            Message::Offers { round, extent, offers } => {
                self.touch_round(cx.ms);
                let searches =
                    self.in_round(cx, |rounds, field| rounds.offered(round, extent, offers, field));
                if let Some(log) = searches.first() {
                    self.begin_search(log, cx);
                }
            }
            Message::Done { round, gained, more } => {
                let outcome = self.rounds.done(round, gained, more);
                self.end_round(outcome, cx);
            }
            Message::Unknown => {}
            Message::Open(bytes) => return self.take_opening(bytes, cx),
            Message::Evidence(bytes) => return self.take_evidence(bytes, cx),
            Message::Pruned(bytes) => return self.take_pruned(bytes, cx),
            Message::Range { alias, bytes } => {
                self.touch_round(cx.ms);
                return self.take_range(alias, bytes, cx);
            }
            Message::Want { alias, want } => self.take_want(alias, want, cx),
            Message::Gone { alias, gone } => self.take_gone(alias, gone, cx),
            Message::Unwanted { alias } => {
                if let Some(log) = cx.store.logs().find(&alias) {
                    self.questions.answered(&log);
                    self.outbox.unwanted(&log);
                }
            }
            Message::Refused { alias, have } => {
                if let Some(log) = cx.store.logs().find(&alias) {
                    self.outbox.peer_has_only(&log, have);
                }
            }
        }
        Ok(())
    }

    /// Whether the session is about a log that is held.
    fn is_about(&self, log: &LogId, cx: &Context<'_>) -> bool {
        cx.store.logs().log(log).is_some_and(|held| self.interests.both().matches(&held.opening().topic))
    }

    fn in_round<T>(
        &mut self,
        cx: &mut Context<'_>,
        step: impl FnOnce(&mut Rounds, &mut Field<'_>) -> T,
    ) -> T {
        let scope = self.interests.both_name();
        let mut field = Field {
            set: cx.store.logs_mut(),
            scope: self.interests.both(),
            outbox: &mut self.outbox,
            checkpoints: Checkpoints { memory: cx.memory, peer: self.peer, scope },
            at: cx.written,
            searching: self.search.is_some() || self.questions.await_proof(),
        };
        step(&mut self.rounds, &mut field)
    }

    /// Gives a round that something came of more time.
    const fn touch_round(&mut self, ms: u64) {
        if !self.rounds.is_idle() {
            self.next_round = ms.saturating_add(self.heartbeat_ms);
        }
    }

    /// Acts on the end of a round, if it has ended.
    fn end_round(&mut self, outcome: RoundOutcome, cx: &mut Context<'_>) {
        let heartbeat = cx.ms.saturating_add(self.heartbeat_ms);
        match outcome {
            RoundOutcome::Going => return,
            RoundOutcome::Equal => {
                self.next_round = heartbeat;
                self.at_once = 0;
                self.mark_equal(cx);
                if self.told.in_sync != Some(true) {
                    self.told.in_sync = Some(true);
                    cx.notices.push(Notice::InSync);
                }
            }
            // Whether that made them equal is seen at once.
            RoundOutcome::Gained { here } if self.dials && self.at_once < AT_ONCE_MAX => {
                self.at_once = if here { 0 } else { self.at_once.saturating_add(1) };
                self.rounds.begin();
            }
            RoundOutcome::Gained { here } => {
                self.next_round = heartbeat;
                if here {
                    self.at_once = 0;
                }
            }
            RoundOutcome::Useless => {
                self.next_round = heartbeat;
                if self.rounds.useless() == 1 && self.dials {
                    // Perhaps it began with knowledge that was out of date.
                    self.rounds.begin();
                } else if self.is_news_that_useless() {
                    cx.notices.push(Notice::OutOfSync);
                }
            }
        }
        self.questions.end_round();
        cx.rounds.note(matches!(outcome, RoundOutcome::Gained { .. }));
    }

    /// Has the store mark that the two are equal, unless it did. Not more often than a peer may make a disk work.
    fn mark_equal(&mut self, cx: &mut Context<'_>) {
        if cx.ms >= self.mark_equal_at
            && let Some(checkpoint) = cx.memory.unmarked(&self.peer)
        {
            self.mark_equal_at = cx.ms.saturating_add(EQUAL_MS);
            cx.store.mark(&checkpoint.to_bytes());
        }
    }

    /// Whether the host has to be told that rounds are of no use.
    fn is_news_that_useless(&mut self) -> bool {
        self.rounds.stuck() >= USELESS_MAX && self.told.in_sync.replace(false) != Some(false)
    }

    /// Gives the host a notice, once in this session.
    fn tell_once(&mut self, notice: Notice, cx: &mut Context<'_>) {
        if !self.told.once.contains(&notice) {
            self.told.once.push(notice);
            cx.notices.push(notice);
        }
    }

    /// Appends the next message, if there is one: its kind and the rest.
    pub(crate) fn compose(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        if let Some(ours) = self.interests.take_unreported() {
            Message::Subscribe(ours.clone()).put(out);
            return;
        }
        if !self.interests.are_known() {
            return;
        }
        let start = out.len();
        let outcome = self.in_round(cx, |rounds, field| rounds.compose(field, out));
        self.end_round(outcome, cx);
        if out.len() > start {
            self.touch_round(cx.ms);
            return;
        }
        self.questions.compose(out);
        if out.len() > start {
            return;
        }
        if self.outbox.is_empty() {
            self.outbox.look(cx.store.logs_mut(), self.interests.both());
        }
        self.outbox.compose(cx.store.logs(), self.interests.both(), cx.written, out);
    }

    /// When there is something to do.
    pub(crate) const fn poll_timeout(&self) -> u64 {
        let waits = self.interests.are_known() && (self.dials || !self.rounds.is_idle());
        if waits { self.next_round } else { u64::MAX }
    }

    /// Takes in that time has passed; and whether the peer has acknowledged all that was written. Gives a notice for the
    /// host, if there is one.
    pub(crate) fn handle_timeout(&mut self, ms: u64, is_quiet: bool) -> Option<Notice> {
        if ms < self.next_round || !self.interests.are_known() {
            return None;
        }
        self.next_round = ms.saturating_add(self.heartbeat_ms);
        let mut notice = None;
        if !self.rounds.is_idle() {
            if !is_quiet {
                // It goes on, only slowly.
                return None;
            }
            self.search = None;
            self.questions.end_round();
            self.rounds.give_up();
            notice = self.is_news_that_useless().then_some(Notice::OutOfSync);
        }
        if self.dials {
            self.rounds.begin();
        }
        notice
    }

    /// The topics that both want, after the peer has stated its own.
    pub(crate) fn scope(&self) -> Option<&Scope> {
        self.interests.are_known().then(|| self.interests.both())
    }

    /// Whether the two were equal and all that this side has had to say since was given out.
    pub(crate) fn is_spent(&self, set: &mut LogSet) -> bool {
        self.told.in_sync == Some(true)
            && self.rounds.is_idle()
            && !self.interests.are_unreported()
            && self.outbox.is_spent(set)
    }

    /// How many signatures were checked for the peer.
    pub(crate) const fn signatures_checked(&self) -> u64 {
        self.budget.checks()
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn memory(&self) -> usize {
        let waiting = self.questions.memory().saturating_add(self.openings.memory());
        self.outbox.memory().saturating_add(self.rounds.memory()).saturating_add(waiting)
    }
}
