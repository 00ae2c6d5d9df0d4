//! A round: finding the difference of two sides, and seeing that each gets the entries that it lacks.
//!
//! ```text
//! dials   → root                                    and the root at which the two were equal before
//! listens → same                                    if it has that root: equal
//!         → offers (all, or the changes since)      if the set is small or that earlier root is known
//!         → compare … compare …                     else: a sketch, or ranges, until both know which heads differ
//! dials   → offers (differing)                      after a comparison
//! the other → offers (in answer)                    of logs that it does not send itself because the first has to
//! both    → entries that the other lacks, → done
//! ```
//!
//! The side that dials begins a round: when the session opens, when one has brought something (to see that the roots are
//! equal now), and at each heartbeat. Everything is a hint but the roots: an error costs bytes, and shows in the next
//! round.
//!
//! ```text
//!           begin            root sent           offers (all, changed)
//! dials    ──────→ Asking ──────────→ Asked ───────────────────────────────────────→ Exchanging → over
//!                                       │ compare                    offers sent          ↑ answer
//!                                       └────────→ Comparing → Offering ──→ Offered ──────┘
//!             root came                    offers (all, changed) sent            answer
//! listens    ──────→ Questioned ─────────────────────────────→ Offered ─────────────────→ Exchanging → over
//!                         │ compare sent                        offers (differing)            ↑
//!                         └────────────→ Comparing ───────────────────────────────────────────┘
//! ```
//!
//! Not here: the parts of logs that are sent (the outbox), and when rounds begin. The invariant: messages of another
//! round than the one that goes on change nothing.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod compare;
mod history;
mod plan;
mod window;

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::checkpoints::Checkpoints;
use super::message::{Extent, Message, OFFERS_MAX, RootPrefix};
use super::outbox::Outbox;
use super::scope::Scope;
use crate::identity::LogId;
use crate::logset::{LogSet, Offer};
use crate::reconcile::MessageError;
use compare::{Comparison, Seed, bytes_of};
use history::{Ended, History, Roots};
use plan::{Plan, changed_since, offer_at, plan, resolve};

/// Up to so many logs are listed rather than compared by a sketch: one message, at some 18 bytes each.
const LIST_MAX: usize = 256;

/// The state that a round works on.
pub(super) struct Field<'a> {
    pub(super) set: &'a mut LogSet,
    pub(super) scope: &'a Scope,
    pub(super) outbox: &'a mut Outbox,
    pub(super) checkpoints: Checkpoints<'a>,
    /// Where the stream of messages is.
    pub(super) at: u64,
    /// Whether this side has still to learn where two histories part: what it finds is the round's, and the peer is told of
    /// it before the next one.
    pub(super) searching: bool,
}

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoundOutcome {
    /// The round goes on.
    Going,
    /// The two sides hold the same.
    Equal,
    /// It has ended, and either side got something that it did not have (`here`: this one), or has more that differs than
    /// fitted.
    Gained { here: bool },
    /// It has ended and brought nothing, though the roots differ.
    Useless,
}

/// A round that goes on.
#[derive(Debug)]
struct Round {
    /// It brought this side something.
    gained: bool,
    state: State,
}

/// How far a round is.
#[derive(Debug)]
enum State {
    /// This side is about to ask.
    Asking,
    Asked(Asked),
    Questioned(Questioned),
    Comparing(Comparing),
    Offering(Offering),
    Offered(Offered),
    Exchanging(Exchanging),
}

/// This side has told its root.
#[derive(Clone, Copy, Debug)]
struct Asked {
    root: [u8; 32],
    /// The version of the heads that had it.
    version: u64,
    /// Where the stream of messages was then: parts that were sent since then are on their way.
    mark: u64,
}

/// The peer has told its root.
#[derive(Clone, Copy, Debug)]
struct Questioned {
    root: [u8; 32],
    since: Option<RootPrefix>,
}

/// Both find out which heads differ.
#[derive(Debug)]
struct Comparing {
    roots: Roots,
    /// As in [`Asked`], when this side told its root.
    mark: u64,
    comparison: Comparison,
}

/// The comparison is over, and this side is about to offer the differing logs.
#[derive(Debug)]
struct Offering {
    roots: Roots,
    /// The last messages of the comparison.
    messages: VecDeque<(usize, Vec<u8>)>,
    offers: Vec<Offer>,
    /// More differs than this round has room for.
    more: bool,
}

/// This side has made its offers, and waits for the answer.
#[derive(Clone, Copy, Debug)]
struct Offered {
    roots: Roots,
    /// As in [`Asked`], when it made them.
    mark: u64,
    /// It offered only changes since the two were equal.
    partial: bool,
    more: bool,
}

/// Both know the logs to send.
#[derive(Debug)]
struct Exchanging {
    roots: Roots,
    partial: bool,
    more: bool,
    /// Something is not sent that the peer lacks: it does not want it.
    lacks: bool,
    /// The peer's offers of parts that were not here.
    offered: Vec<Offer>,
    /// Offers on which the peer has to act and which it does not know yet.
    answer: Option<Vec<Offer>>,
    /// This side has sent all, and has said so.
    done: bool,
    /// The peer's statement when it had sent all: whether it gained something, and whether more differs.
    peer_done: Option<(bool, bool)>,
}

/// A round that both sides have said that they are done with.
#[derive(Debug)]
pub(super) struct EndedRound {
    pub(super) number: u64,
    /// It was only about changes since the two were equal.
    pub(super) partial: bool,
    /// More differs than it had room for.
    pub(super) more: bool,
    /// The peer lacks something that it does not want.
    pub(super) lacks: bool,
    /// The peer's offers of parts that were not here when they came.
    pub(super) offers: Vec<Offer>,
}

/// The rounds of a session, one after the other.
#[derive(Debug)]
pub(super) struct Rounds {
    dials: bool,
    salt: [u8; 32],
    /// Of the round that goes on, or of the last.
    number: u64,
    round: Option<Round>,
    history: History,
    /// Until it is looked at, directly afterwards.
    ended: Option<EndedRound>,
}

impl Rounds {
    pub(super) const fn new(dials: bool, salt: [u8; 32]) -> Self {
        Self { dials, salt, number: 0, round: None, history: History::new(), ended: None }
    }

    /// Begins the next round; for the side that dials.
    pub(super) fn begin(&mut self) {
        self.start(self.number.saturating_add(1), State::Asking);
    }

    fn start(&mut self, number: u64, state: State) {
        self.number = number;
        self.round = Some(Round { gained: false, state });
    }

    /// Whether no round goes on.
    pub(super) const fn is_idle(&self) -> bool {
        self.round.is_none()
    }

    /// Whether the next message is this side's root, which nobody has asked for.
    pub(super) const fn is_asking(&self) -> bool {
        matches!(self.round, Some(Round { state: State::Asking, .. }))
    }

    /// How many rounds in a row brought nothing.
    pub(super) const fn useless(&self) -> u32 {
        self.history.useless()
    }

    /// How many of them did while this side had nothing new either.
    pub(super) const fn stuck(&self) -> u32 {
        self.history.stuck()
    }

    /// Notes that something came that was not here.
    pub(super) const fn gained(&mut self) {
        if let Some(round) = &mut self.round {
            round.gained = true;
        }
    }

    /// The round that was ended by the last step, if both sides have said that they are done.
    pub(super) const fn take_ended(&mut self) -> Option<EndedRound> {
        self.ended.take()
    }

    /// Notes that each side has what either had when a round began.
    pub(super) const fn level(&mut self) {
        self.history.level();
    }

    /// Notes that only changes were compared, and that this cannot be relied on.
    pub(super) const fn doubt(&mut self) {
        self.history.doubt();
    }

    /// Notes that something was not taken in for now: the round that goes on has more than it had room for.
    pub(super) const fn put_off(&mut self) {
        if let Some(Round { state: State::Exchanging(exchanging), .. }) = &mut self.round {
            exchanging.more = true;
        }
    }

    const fn seed(&self) -> Seed {
        Seed { salt: self.salt, round: self.number, in_ranges: self.history.needs_ranges() }
    }

    /// Writes this side's next message, if it can be sent now.
    pub(super) fn compose(&mut self, field: &mut Field<'_>, out: &mut Vec<u8>) -> RoundOutcome {
        let Some(Round { gained, state }) = self.round.take() else { return RoundOutcome::Going };
        let number = self.number;
        let next = match state {
            State::Asking => State::Asked(self.ask(field, out)),
            State::Questioned(question) => match self.reply(&question, field, out) {
                Ok(next) => next,
                Err(outcome) => return outcome,
            },
            State::Comparing(mut comparing) => {
                if let Some((scope_range, message)) = comparing.comparison.next_message() {
                    Message::Compare { round: number, scope_range, message: &message }.put(out);
                }
                State::Comparing(comparing)
            }
            State::Offering(mut offering) => match offering.messages.pop_front() {
                Some((scope_range, message)) => {
                    Message::Compare { round: number, scope_range, message: &message }.put(out);
                    State::Offering(offering)
                }
                None => {
                    let Offering { roots, offers, more, .. } = offering;
                    Message::Offers { round: number, extent: Extent::Differing, offers }.put(out);
                    State::Offered(Offered { roots, mark: field.at, partial: false, more })
                }
            },
            State::Exchanging(mut exchanging) => {
                if let Some(offers) = exchanging.answer.take() {
                    Message::Offers { round: number, extent: Extent::Answer, offers }.put(out);
                } else if !(exchanging.done || field.searching) && field.outbox.is_round_done() {
                    exchanging.done = true;
                    Message::Done { round: number, gained, more: exchanging.more }.put(out);
                    return self.go_on_or_end(gained, exchanging);
                }
                State::Exchanging(exchanging)
            }
            state => state,
        };
        self.round = Some(Round { gained, state: next });
        RoundOutcome::Going
    }

    /// Tells the root of this side's heads.
    fn ask(&self, field: &mut Field<'_>, out: &mut Vec<u8>) -> Asked {
        let root = field.scope.root(field.set);
        let version = field.set.heads_version();
        let since = if self.history.trusts_memory() { field.checkpoints.last_with_peer() } else { None };
        Message::Root { round: self.number, root, since }.put(out);
        Asked { root, version, mark: field.at }
    }

    /// Answers the peer's root. Gives how the round goes on, or its outcome.
    fn reply(
        &mut self,
        question: &Questioned,
        field: &mut Field<'_>,
        out: &mut Vec<u8>,
    ) -> Result<State, RoundOutcome> {
        let (round, theirs) = (self.number, question.root);
        let ours = field.scope.root(field.set);
        let version = field.set.heads_version();
        if theirs == ours {
            Message::Same { round }.put(out);
            self.equal(&ours, version, version, field);
            return Err(RoundOutcome::Equal);
        }
        let roots = Roots { theirs: Some(theirs), ours };
        if self.history.is_hopeless(&roots) {
            // Neither side has changed since that did not help.
            Message::Done { round, gained: false, more: false }.put(out);
            return Err(RoundOutcome::Useless);
        }
        let mark = field.at;
        field.outbox.go_live(version);
        if let Some((extent, offers)) = self.list(question.since, field) {
            Message::Offers { round, extent, offers }.put(out);
            let partial = extent == Extent::Changed;
            return Ok(State::Offered(Offered { roots, mark, partial, more: false }));
        }
        let mut comparison = Comparison::new(field.scope.ranges(), self.history.window());
        comparison.open_range(&self.seed(), field.set);
        if let Some((scope_range, message)) = comparison.next_message() {
            Message::Compare { round, scope_range, message: &message }.put(out);
        }
        Ok(State::Comparing(Comparing { roots, mark, comparison }))
    }

    /// The offers that say it all in one message, if there are few enough.
    fn list(&self, since: Option<RootPrefix>, field: &mut Field<'_>) -> Option<(Extent, Vec<Offer>)> {
        let offers = |set: &LogSet, logs: Vec<LogId>| logs.iter().filter_map(|log| set.offer(log)).collect();
        let since = since.filter(|_| self.history.trusts_root());
        if let Some(version) = since.and_then(|since| field.checkpoints.version_of(since)) {
            let changed = changed_since(field, version, OFFERS_MAX);
            if changed.len() <= OFFERS_MAX {
                return Some((Extent::Changed, offers(field.set, changed)));
            }
        }
        if self.history.needs_ranges() {
            return None;
        }
        let logs = field.scope.logs(field.set, LIST_MAX);
        (logs.len() <= LIST_MAX).then(|| (Extent::All, offers(field.set, logs)))
    }

    /// Takes in that the peer asks with its root. Whether a round begins.
    pub(super) fn asked(&mut self, number: u64, root: [u8; 32], since: Option<RootPrefix>) -> bool {
        let begins = !self.dials && number > self.number;
        if begins {
            self.start(number, State::Questioned(Questioned { root, since }));
        }
        begins
    }

    /// Takes in that the roots are equal.
    pub(super) fn same(&mut self, number: u64, field: &mut Field<'_>) -> RoundOutcome {
        match &self.round {
            Some(Round { state: State::Asked(asked), .. }) if number == self.number => {
                let Asked { root, version, .. } = *asked;
                let now = field.set.heads_version();
                self.equal(&root, version, now, field);
                RoundOutcome::Equal
            }
            _ => RoundOutcome::Going,
        }
    }

    fn equal(&mut self, root: &[u8; 32], version: u64, now: u64, field: &mut Field<'_>) {
        field.checkpoints.equal(root, version, version == now);
        field.set.mark_version(version);
        field.outbox.equal(version, version == now);
        self.history.equal();
        self.round = None;
    }

    /// Takes in a message of a comparison.
    ///
    /// # Errors
    ///
    /// If it cannot come now. The round was given up.
    pub(super) fn compare(
        &mut self,
        number: u64,
        scope_range: usize,
        message: &[u8],
        field: &mut Field<'_>,
    ) -> Result<(), MessageError> {
        // One that was given up here may go on there for a while.
        let Some(round) = self.round.take_if(|_| number == self.number) else { return Ok(()) };
        match self.compare_in(round.state, (scope_range, message), field) {
            Ok(state) => {
                self.round = Some(Round { state, ..round });
                Ok(())
            }
            Err(error) => {
                self.history.gave_up();
                Err(error)
            }
        }
    }

    fn compare_in(
        &mut self,
        state: State,
        (scope_range, message): (usize, &[u8]),
        field: &mut Field<'_>,
    ) -> Result<State, MessageError> {
        let mut comparing = match state {
            State::Comparing(comparing) => comparing,
            State::Asked(Asked { root, version, mark }) if scope_range == 0 => {
                field.outbox.go_live(version);
                let comparison = Comparison::new(field.scope.ranges(), self.history.window());
                Comparing { roots: Roots { theirs: None, ours: root }, mark, comparison }
            }
            _ => return Err(MessageError::Unexpected),
        };
        let seed = self.seed();
        if !comparing.comparison.handle((scope_range, message), self.dials, &seed, field.set)? {
            return Ok(State::Comparing(comparing));
        }
        let (differ, messages) = comparing.comparison.into_found();
        let (differ, more) = self.history.moved(differ);
        let offers = differ.iter().filter_map(|log| field.set.offer(log)).collect();
        Ok(State::Offering(Offering { roots: comparing.roots, messages, offers, more }))
    }

    /// Takes in the peer's offers. Gives the logs that are forked and have to be searched.
    pub(super) fn offered(
        &mut self,
        number: u64,
        extent: Extent,
        offers: Vec<Offer>,
        field: &mut Field<'_>,
    ) -> Vec<LogId> {
        let Some(Round { gained, state }) = self.round.take_if(|_| number == self.number) else {
            return Vec::new();
        };
        let (exchanging, mark, ours, theirs) = match (state, extent) {
            (State::Asked(asked), Extent::All | Extent::Changed) => {
                let (ours, theirs, more) = self.listed(extent, offers, field);
                let roots = Roots { theirs: None, ours: asked.root };
                (Exchanging::of(roots, extent == Extent::Changed, more), asked.mark, ours, theirs)
            }
            (State::Comparing(comparing), Extent::Differing) if !self.dials => {
                let (differ, _) = comparing.comparison.into_found();
                let (ours, more) = self.history.moved(differ);
                (Exchanging::of(comparing.roots, false, more), comparing.mark, ours, resolve(field, offers))
            }
            (State::Offered(Offered { roots, mark, partial, more }), Extent::Answer) => {
                let theirs = resolve(field, offers);
                // Of these it has nothing.
                let lacked = |offer: &Offer| offer.size == 0 && offer.facts.is_none();
                let ours = theirs.iter().filter(|offer| lacked(offer)).map(|offer| offer.log).collect();
                let theirs = theirs.into_iter().filter(|offer| !lacked(offer)).collect();
                (Exchanging::of(roots, partial, more), mark, ours, theirs)
            }
            (state, _) => {
                self.round = Some(Round { gained, state });
                return Vec::new();
            }
        };
        let offered = theirs.iter().filter(|offer| !field.set.has_offered(offer)).copied().collect();
        let Plan { answers, searches, more, lacks } = plan(mark, &ours, theirs, field);
        let exchanging = Exchanging {
            answer: (extent != Extent::Answer).then_some(answers),
            offered,
            more: exchanging.more || more,
            lacks,
            ..exchanging
        };
        self.round = Some(Round { gained, state: State::Exchanging(exchanging) });
        searches
    }

    /// The differences from the peer's list: logs of this side, and offers of the peer; and whether there are more.
    fn listed(
        &mut self,
        extent: Extent,
        offers: Vec<Offer>,
        field: &mut Field<'_>,
    ) -> (Vec<LogId>, Vec<Offer>, bool) {
        let version = field.set.heads_version();
        let theirs = resolve(field, offers);
        let listed: BTreeSet<LogId> = theirs.iter().map(|offer| offer.log).collect();
        let since = field.checkpoints.last_with_peer();
        let since = since.and_then(|since| field.checkpoints.version_of(since));
        let mut ours = match (extent, since) {
            (Extent::All, _) => field.scope.logs(field.set, usize::MAX.wrapping_sub(1)),
            (_, Some(since)) => changed_since(field, since, usize::MAX),
            (_, None) => Vec::new(),
        };
        field.outbox.go_live(version);
        ours.retain(|log| !listed.contains(log));
        let mut window = self.history.window();
        window.extend(ours);
        let (ours, more) = self.history.moved(window);
        let differs = |offer: &Offer| field.set.offer(&offer.log).is_none_or(|ours| !ours.counts_as(offer));
        let mut theirs: Vec<Offer> = theirs.into_iter().filter(differs).collect();
        if let Some(since) = since.filter(|_| extent == Extent::Changed) {
            // The logs that the peer does not list it has as they were when the two were equal.
            theirs.extend(ours.iter().filter_map(|log| offer_at(field.set, log, since)));
        }
        (ours, theirs, more)
    }

    /// Takes in that the peer has sent everything.
    pub(super) fn done(&mut self, number: u64, gained: bool, more: bool) -> RoundOutcome {
        let Some(round) = self.round.take_if(|_| number == self.number) else { return RoundOutcome::Going };
        match round.state {
            State::Asked(_) => {
                self.history.gave_up();
                RoundOutcome::Useless
            }
            State::Exchanging(mut exchanging) => {
                exchanging.peer_done = Some((gained, more));
                self.go_on_or_end(round.gained, exchanging)
            }
            state => {
                self.round = Some(Round { state, ..round });
                RoundOutcome::Going
            }
        }
    }

    /// Ends a round that both sides are done with.
    fn go_on_or_end(&mut self, gained: bool, exchanging: Exchanging) -> RoundOutcome {
        let Some((peer_gained, peer_more)) = exchanging.peer_done.filter(|_| exchanging.done) else {
            self.round = Some(Round { gained, state: State::Exchanging(exchanging) });
            return RoundOutcome::Going;
        };
        let Exchanging { roots, partial, more, lacks, offered: offers, .. } = exchanging;
        let more = more || peer_more;
        self.ended = Some(EndedRound { number: self.number, partial, more, lacks, offers });
        self.history.ended(&Ended { roots, partial, gained: (gained, peer_gained), more })
    }

    /// Ends a round that goes nowhere.
    pub(super) fn give_up(&mut self) {
        self.history.gave_up();
        self.abandon();
    }

    /// Ends a round that is about something else by now.
    pub(super) fn abandon(&mut self) {
        self.round = None;
    }

    /// About how many bytes it takes in memory.
    pub(super) fn memory(&self) -> usize {
        let offer_bytes = |offers: &Vec<Offer>| offers.len().saturating_mul(size_of::<Offer>());
        match self.round.as_ref().map(|round| &round.state) {
            Some(State::Comparing(comparing)) => comparing.comparison.memory(),
            Some(State::Offering(offering)) => {
                bytes_of(&offering.messages).saturating_add(offer_bytes(&offering.offers))
            }
            Some(State::Exchanging(exchanging)) => {
                let answer = exchanging.answer.as_ref().map_or(0, offer_bytes);
                answer.saturating_add(offer_bytes(&exchanging.offered))
            }
            _ => 0,
        }
    }
}

impl Exchanging {
    /// With nothing said yet.
    const fn of(roots: Roots, partial: bool, more: bool) -> Self {
        Self {
            roots,
            partial,
            more,
            lacks: false,
            offered: Vec::new(),
            answer: None,
            done: false,
            peer_done: None,
        }
    }
}
