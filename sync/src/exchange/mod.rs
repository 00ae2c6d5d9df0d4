//! The exchange: two log stores become equal over a channel. The first of the protocols that a channel carries.
//!
//! ```text
//! mod          messages in, messages out
//! ├─ interests the topics that each side wants
//! ├─ round     the differences: roots, lists, sketches, ranges, offers
//! ├─ outbox    the entries that the peer lacks, the most wanted first
//! ├─ take      openings, facts and ranges that come
//! ├─ openings  those of logs of which nothing signed came yet
//! ├─ answers   how many bytes the peer's questions pay for
//! ├─ questions requests, and refusals of ranges and logs
//! ├─ level     whether both hold what either held when a round began
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

mod answers;
mod checkpoints;
mod event;
mod interests;
mod level;
mod message;
mod openings;
mod outbox;
mod questions;
mod round;
mod scope;
mod take;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use consilience_base::Timestamp;
use consilience_base::planted::{self, planted};

pub(crate) use checkpoints::{Checkpoint, Memory};
pub(crate) use event::Notice;
pub use event::{Fault, RoundsEnded};
pub use scope::{Scope, ScopeError};

use crate::budget::VerifyBudget;
use crate::identity::{AgentId, LogId};
use crate::log::ForkSearch;
use crate::logset::LogSet;
use crate::store::LogStore;
use answers::Answers;
use checkpoints::Checkpoints;
use interests::Interests;
use level::{Judgement, Level, Took};
use message::Message;
use openings::Openings;
use outbox::{Outbox, Sent};
use questions::Questions;
use round::{Field, RoundOutcome, Rounds};

/// After so many rounds in a row that brought nothing, the host is told.
const USELESS_MAX: u32 = 2;
/// So many rounds follow each other at once because the peer says that they bring it something: enough for all logs that
/// a set holds unless told otherwise. Then they wait for the heartbeat, until one brings something here.
const AT_ONCE_MAX: u32 = 160;
/// The host is told of so many logs of others for which the peer has no room, and of so many in all.
const NO_ROOM_MAX: usize = 8;
const NO_ROOM_OWN_MAX: usize = 64;
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
    /// The topics that the host asked for.
    pub(crate) asked: Scope,
    /// Those of them that the peer may see.
    pub(crate) scope: Scope,
    /// Whether the handshake said that this side wants everything, and that the peer does.
    pub(crate) want_everything: (bool, bool),
    pub(crate) heartbeat_ms: u64,
    /// The largest frame that both take.
    pub(crate) frame_bytes: usize,
}

/// The notices that the host was given, so that it is given each once.
#[derive(Debug, Default)]
struct Told {
    in_sync: Option<bool>,
    /// Those that are given once in a session.
    once: Vec<Notice>,
    /// Logs for which the peer has no room.
    no_room: BTreeSet<LogId>,
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
    level: Level,
    search: Option<(LogId, ForkSearch)>,
    budget: VerifyBudget,
    answers: Answers,
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
            interests: Interests::new(&setup.asked, setup.scope, setup.want_everything),
            rounds: Rounds::new(setup.dials, setup.salt),
            next_round: ms,
            at_once: 0,
            outbox: Outbox::default(),
            questions: Questions::default(),
            openings: Openings::default(),
            level: Level::default(),
            search: None,
            budget: VerifyBudget::sparing(),
            answers: Answers::new(setup.frame_bytes, setup.heartbeat_ms, ms),
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
        if changed && !planted(planted::Fault::ScopeChangeStaysInSync) {
            // Whether they are equal in this is not known yet.
            self.told.in_sync = None;
            self.outbox.change_scope();
            self.level.reset();
        }
        self.next_round = ms;
        // Questions and rounds may be about more. The side that dials begins anew.
        self.questions.abandon();
        self.search = None;
        self.level.begin();
        if self.dials {
            self.rounds.begin();
        } else {
            self.rounds.abandon();
        }
    }

    /// Changes the topics that this side wants: those that the host asks for, and of them the ones that the peer may see.
    pub(crate) fn set_scope(&mut self, asked: &Scope, scope: Scope, ms: u64) {
        let changed = self.interests.set_ours(asked, scope);
        self.begin_anew(changed, ms);
    }

    /// Notes that a message of so many bytes came from the peer, before it is handled: they pay for the checking of
    /// signatures, and for answers.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.budget.received(bytes);
        self.answers.received(bytes);
    }

    /// Takes in a message.
    ///
    /// # Errors
    ///
    /// The peer's [`Fault`]. The useless part of the message was not taken in.
    pub(crate) fn handle(&mut self, kind: u8, body: &[u8], cx: &mut Context<'_>) -> Result<(), Fault> {
        let message = Message::read(kind, body)?;
        // What may come again and again, as an answer or a part that is not kept, changes no head: it is no reason for
        // another round.
        let version = cx.store.logs_mut().heads_version();
        let handled = self.handle_message(message, cx);
        if cx.store.logs_mut().heads_version() > version || planted(planted::Fault::RoundsFollowRounds) {
            self.rounds.gained();
        }
        handled
    }

    fn handle_message(&mut self, message: Message<'_>, cx: &mut Context<'_>) -> Result<(), Fault> {
        match message {
            Message::Subscribe(theirs) => {
                let changed = self.interests.set_theirs(theirs);
                self.begin_anew(changed, cx.ms);
            }
            Message::Root { round, root, since } => {
                if self.rounds.asked(round, root, since) {
                    self.level.begin();
                }
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
            Message::Took { round, took } => {
                self.level.told(round, took);
                self.judge(cx);
                // It asks for more, and this side begins the rounds.
                if took == Took::NotYet && self.dials {
                    self.begin_at_once();
                }
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
            Message::Unwanted { alias, no_room } => {
                if let Some(log) = cx.store.logs().find(&alias) {
                    self.questions.answered(&log);
                    self.outbox.unwanted(&log);
                    if no_room && self.is_about(&log, cx) {
                        self.no_room_at_peer(log, cx);
                    }
                }
            }
            Message::Refused { alias, have } => {
                if let Some(log) = cx.store.logs().find(&alias) {
                    self.outbox.refused(&log, have);
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
        if outcome == RoundOutcome::Going {
            return;
        }
        let heartbeat = cx.ms.saturating_add(self.heartbeat_ms);
        let was_level = self.level.is_reached();
        let took = self.note_taken(outcome, cx);
        match outcome {
            RoundOutcome::Going => {}
            RoundOutcome::Equal => {
                self.next_round = heartbeat;
                self.at_once = 0;
                self.mark_equal(cx);
                self.in_sync(cx);
            }
            // They were in sync, and are still: those who write all the time are not compared all the time.
            RoundOutcome::Gained { .. } if was_level && took == Took::All => self.next_round = heartbeat,
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
        self.judge(cx);
        if self.rounds.is_asking() {
            self.level.begin();
        }
    }

    /// Notes how much of what the peer had at the beginning of the round that has ended is here.
    fn note_taken(&mut self, outcome: RoundOutcome, cx: &Context<'_>) -> Took {
        let Some(ended) = self.rounds.take_ended() else { return Took::NotYet };
        let set = cx.store.logs();
        let missed = self.level.take_missed() && !planted(planted::Fault::MissesAreForgotten);
        let refused = self.level.has_refused() && !planted(planted::Fault::RefusalsAreForgotten);
        let more = ended.more && !planted(planted::Fault::MoreIsForgotten);
        let open = (self.search.is_some() || self.questions.are_open() || !self.outbox.is_round_done())
            && !planted(planted::Fault::OpenQuestionsAreForgotten);
        let took = if refused || ended.lacks && !planted(planted::Fault::LacksAreForgotten) {
            Took::Not
        } else if more || missed || open {
            Took::NotYet
        } else if outcome == RoundOutcome::Useless && !planted(planted::Fault::UselessIsInSync) {
            // The roots differ, and the offers do not say why.
            Took::NotYet
        } else if ended.offers.iter().all(|offer| {
            set.has_offered(offer)
                || planted(planted::Fault::OffersAreNotChecked)
                || planted(planted::Fault::PartsLowerIsForgotten) && set.parts_lower(offer)
        }) {
            Took::All
        } else if ended.offers.iter().all(|offer| set.has_offered(offer) || set.parts_lower(offer)) {
            Took::NotYet
        } else {
            Took::Not
        };
        let partial = ended.partial && !planted(planted::Fault::ChangesAreBelieved);
        self.level.ended(ended.number, partial, took);
        took
    }

    /// Compares now, and not only at the heartbeat: the path may be back. A round that goes on is left alone, and whoever
    /// listens leaves it to the other side to begin one.
    pub(crate) fn nudge(&mut self, ms: u64) {
        if self.dials && self.rounds.is_idle() {
            self.next_round = self.next_round.min(ms);
        }
    }

    /// Begins another round without waiting for the heartbeat, if none goes on and not too many of them followed each other.
    fn begin_at_once(&mut self) {
        if self.rounds.is_idle() && self.at_once < AT_ONCE_MAX {
            self.at_once = self.at_once.saturating_add(1);
            self.rounds.begin();
            self.level.begin();
        }
    }

    /// Sees to another round if something is not here, or not any more, that the peer may believe to be here.
    fn compare_again(&mut self, cx: &mut Context<'_>) {
        if !self.rounds.is_idle() {
            return;
        }
        let forgotten = self.level.has_forgotten(cx.store.forgotten_logs());
        if !(self.level.take_missed() || forgotten) {
            return;
        }
        if forgotten && self.told.in_sync == Some(true) {
            self.out_of_sync(cx);
        }
        if self.dials {
            self.begin_at_once();
        } else {
            self.level.take_back();
        }
    }

    /// Tells the host what both sides' words on a round add up to.
    fn judge(&mut self, cx: &mut Context<'_>) {
        match self.level.judge() {
            Judgement::InSync => {
                self.rounds.level();
                self.outbox.level();
                self.in_sync(cx);
            }
            Judgement::Doubtful if self.told.in_sync != Some(true) => self.rounds.doubt(),
            Judgement::OutOfSync => self.out_of_sync(cx),
            Judgement::Doubtful | Judgement::Open => {}
        }
    }

    /// Tells the host that the two are in sync, unless it knows.
    fn in_sync(&mut self, cx: &mut Context<'_>) {
        if self.told.in_sync.replace(true) != Some(true) {
            cx.notices.push(Notice::InSync);
        }
    }

    /// Tells the host that the two are not in sync, unless it knows.
    fn out_of_sync(&mut self, cx: &mut Context<'_>) {
        if self.told.in_sync.replace(false) != Some(false) {
            cx.notices.push(Notice::OutOfSync);
        }
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

    /// Tells the host that the peer has no room for a log.
    fn no_room_at_peer(&mut self, log: LogId, cx: &mut Context<'_>) {
        // Of nothing the peer need not hold anything.
        if !cx.store.logs().offer(&log).is_some_and(|offer| offer.size > 0 || offer.facts.is_some()) {
            return;
        }
        let max = if cx.store.logs().is_local(&log) { NO_ROOM_OWN_MAX } else { NO_ROOM_MAX };
        let is_told = planted(planted::Fault::NoRoomIsNotTold) || self.told.no_room.len() >= max;
        if !is_told && self.told.no_room.insert(log) {
            cx.notices.push(Notice::NoRoomAtPeer(log));
        }
        self.out_of_sync(cx);
    }

    /// Appends the next message, if there is one: its kind and the rest.
    pub(crate) fn compose(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        if self.interests.take_narrowed() {
            cx.notices.push(Notice::Narrowed);
        }
        if let Some(ours) = self.interests.take_unreported() {
            Message::Subscribe(ours.clone()).put(out);
            return;
        }
        if !self.interests.are_known() {
            return;
        }
        self.compare_again(cx);
        let start = out.len();
        if let Some((round, took)) = self.level.take_unsaid() {
            Message::Took { round, took }.put(out);
            return;
        }
        let asks = self.rounds.is_asking();
        let paid = self.answers.are_paid(cx.store.logs_mut(), self.interests.both(), cx.ms);
        if asks || paid {
            let outcome = self.in_round(cx, |rounds, field| rounds.compose(field, out));
            self.end_round(outcome, cx);
            if out.len() > start {
                self.touch_round(cx.ms);
                if !asks {
                    self.answers.answered(out.len().saturating_sub(start));
                }
                return;
            }
        }
        // Each is shorter than the message that it is about.
        self.questions.compose(out);
        if out.len() > start {
            return;
        }
        if self.outbox.is_empty() || !paid {
            self.outbox.look(cx.store.logs_mut(), self.interests.both());
        }
        let sent = self.outbox.compose(cx.store.logs(), self.interests.both(), (cx.written, paid), out);
        if sent == Sent::Answer {
            self.answers.answered(out.len().saturating_sub(start));
        }
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
            self.level.begin();
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
