//! A pass: finding out what two sides do not share, and seeing that each gets it.
//!
//! ```text
//! dials   → root                                    and the root at which the two were equal before
//! listens → same                                    if it has that root: equal
//!         → offers (all, or what changed since)     if the set is small or that earlier root is known
//!         → compare … compare …                     else: a sketch, or ranges, until both know which heads differ
//! dials   → offers (what differs)                   after a comparison
//! the other → offers (in answer)                    what it does not send itself because the first has to
//! both    → what the other lacks, → done
//! ```
//!
//! Whoever dials begins a pass: when the session opens, when one has brought something (to see that the roots are equal
//! now), and at each heartbeat. Everything is a hint but the roots: what goes wrong costs bytes, and shows in the next
//! pass. Messages of an earlier pass are not looked at.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::checkpoints::Checkpoints;
use super::message::{Extent, Message, Name, OFFERS_MAX, name_of};
use super::outbox::Outbox;
use super::scope::Scope;
use crate::identity::LogId;
use crate::log::Want;
use crate::logset::{HeadStep, LogSet, Move, Offer};
use crate::reconcile::{Config, FrameError, KeyRange, Limits, Mode, Reconciliation, Status};

/// Up to so many logs are listed rather than compared by a sketch: one message, at some 18 bytes each.
const LIST_MAX: usize = 256;
/// A pair of roots that could not be made equal is tried again every so many heartbeats.
const RETRY: u32 = 8;

/// What a pass works on.
pub(crate) struct Field<'a> {
    pub(crate) set: &'a mut LogSet,
    pub(crate) scope: &'a Scope,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) checkpoints: Checkpoints<'a>,
    /// Where the stream of messages is.
    pub(crate) at: u64,
    /// Whether this side still searches for where two histories part.
    pub(crate) searching: bool,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The pass goes on.
    Going,
    /// The two sides hold the same.
    Equal,
    /// It has ended, and either side got something that it did not have, or has more that differs than fitted.
    Gained,
    /// It has ended and brought nothing, though the roots differ.
    Useless,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// This side is about to ask.
    ToAsk,
    /// It has told its root, as of a turn.
    Asked {
        root: [u8; 32],
        turn: u64,
    },
    /// It was asked.
    Questioned {
        root: [u8; 32],
        since: Option<Name>,
    },
    Comparing(Comparison),
    /// It has said what it has, and waits for the answer.
    Offered,
    /// Both know what to send.
    Exchanging,
}

#[derive(Debug)]
struct Comparison {
    ranges: Vec<KeyRange>,
    part: usize,
    machine: Option<Box<Reconciliation>>,
    differ: Window,
}

/// Some of the logs that differ, as many as one pass has room for: the first of those behind a log, around the end of all
/// ids and on from their beginning. So one pass after the other comes to all of them, whoever has filled the first places.
#[derive(Debug)]
struct Window {
    after: LogId,
    logs: BTreeSet<LogId>,
    full: bool,
}

impl Window {
    const fn new(after: LogId) -> Self {
        Self { after, logs: BTreeSet::new(), full: false }
    }

    fn last(&self) -> Option<LogId> {
        self.logs.range(..=self.after).next_back().or_else(|| self.logs.last()).copied()
    }
}

impl Extend<LogId> for Window {
    fn extend<T: IntoIterator<Item = LogId>>(&mut self, logs: T) {
        for log in logs {
            self.logs.insert(log);
            if self.logs.len() > OFFERS_MAX {
                self.full = true;
                let last = self.last();
                last.map(|last| self.logs.remove(&last));
            }
        }
    }
}

pub(crate) struct Pass {
    dials: bool,
    salt: [u8; 32],
    number: u64,
    stage: Stage,
    frames: VecDeque<(usize, Vec<u8>)>,
    offers: Option<(Extent, Vec<Offer>)>,
    /// Where the stream of messages was when this side last said what it has: what was sent since is on its way.
    mark: u64,
    /// Passes in a row that brought nothing.
    useless: u32,
    /// How many of the last of these found this side with one root, and which.
    stuck: u32,
    stuck_at: Option<[u8; 32]>,
    /// The roots that could not be made equal, the peer's first; and how often they were asked about since.
    failed: Option<([u8; 32], [u8; 32], u32)>,
    /// The roots that this pass began with.
    roots: ([u8; 32], [u8; 32]),
    /// This pass only looks at what changed since the two were equal.
    partial: bool,
    /// One of these brought nothing: whatever one side remembers, or both, is not so.
    mistaken: bool,
    gained: bool,
    told_done: bool,
    /// What the peer said in the end: whether it gained something, and whether more differs.
    peer_done: Option<(bool, bool)>,
    /// Where a pass goes on that has more to say than fits into one: behind this log.
    after: LogId,
    /// More differs than this pass has room for.
    more: bool,
}

impl core::fmt::Debug for Pass {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pass")
            .field("number", &self.number)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Pass {
    pub(crate) const fn new(dials: bool, salt: [u8; 32]) -> Self {
        Self {
            dials,
            salt,
            number: 0,
            stage: Stage::Idle,
            frames: VecDeque::new(),
            offers: None,
            mark: 0,
            useless: 0,
            stuck: 0,
            stuck_at: None,
            failed: None,
            roots: ([0; 32], [0; 32]),
            partial: false,
            mistaken: false,
            gained: false,
            told_done: false,
            peer_done: None,
            after: LogId::from_bytes([0; 32]),
            more: false,
        }
    }

    /// Begins the next pass; for the side that dials.
    pub(crate) fn begin(&mut self) {
        self.start(self.number.saturating_add(1), Stage::ToAsk);
    }

    fn start(&mut self, number: u64, stage: Stage) {
        self.number = number;
        self.stage = stage;
        self.frames.clear();
        self.offers = None;
        (self.gained, self.told_done, self.peer_done, self.more) = (false, false, None, false);
        self.partial = false;
    }

    pub(crate) const fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    pub(crate) const fn useless(&self) -> u32 {
        self.useless
    }

    /// How many passes in a row brought nothing while this side had nothing new either.
    pub(crate) const fn stuck(&self) -> u32 {
        self.stuck
    }

    /// Notes that something came that was not here.
    pub(crate) const fn gained(&mut self) {
        self.gained = true;
    }

    /// Whether this pass brought this side something.
    pub(crate) const fn has_gained(&self) -> bool {
        self.gained
    }

    /// What this side has to say next, if it can say it now.
    pub(crate) fn compose(&mut self, field: &mut Field<'_>, out: &mut Vec<u8>) -> Outcome {
        match core::mem::take(&mut self.stage) {
            Stage::ToAsk => {
                let root = field.scope.root(field.set);
                let turn = field.set.heads_turn();
                let trusts = self.useless == 0 && !self.mistaken;
                let since = if trusts { field.checkpoints.last_with_peer() } else { None };
                Message::Root { pass: self.number, root, since }.put(out);
                self.mark = field.at;
                self.stage = Stage::Asked { root, turn };
                return Outcome::Going;
            }
            Stage::Questioned { root, since } => return self.reply(&root, since, field, out),
            stage => self.stage = stage,
        }
        if let Some((part, frame)) = self.frames.pop_front() {
            Message::Compare { pass: self.number, part, frame: &frame }.put(out);
        } else if let Some((extent, offers)) = self.offers.take() {
            self.mark = field.at;
            Message::Offers { pass: self.number, extent, offers }.put(out);
        } else if matches!(self.stage, Stage::Exchanging)
            && !(self.told_done || field.searching)
            && field.outbox.is_pass_done()
        {
            self.told_done = true;
            Message::Done { pass: self.number, gained: self.gained, more: self.more }.put(out);
            return self.end_if_done();
        }
        Outcome::Going
    }

    /// Answers the peer's root.
    fn reply(
        &mut self,
        theirs: &[u8; 32],
        since: Option<Name>,
        field: &mut Field<'_>,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let ours = field.scope.root(field.set);
        let turn = field.set.heads_turn();
        if *theirs == ours {
            Message::Same { pass: self.number }.put(out);
            self.equal(&ours, turn, turn, field);
            return Outcome::Equal;
        }
        // One that was useless may have begun with what was out of date; two have not.
        if self.useless > 1
            && let Some((failed_theirs, failed_ours, asked)) = &mut self.failed
            && (&*failed_theirs, &*failed_ours) == (theirs, &ours)
        {
            *asked = asked.wrapping_add(1);
            if !asked.is_multiple_of(RETRY) {
                // Neither side has changed since that did not help.
                Message::Done { pass: self.number, gained: false, more: false }.put(out);
                return Outcome::Useless;
            }
        }
        self.roots = (*theirs, ours);
        self.mark = field.at;
        field.outbox.go_live(turn);
        if let Some((extent, offers)) = self.list(since, field) {
            self.partial = extent == Extent::Changed;
            Message::Offers { pass: self.number, extent, offers }.put(out);
            self.stage = Stage::Offered;
            return Outcome::Going;
        }
        let ranges = field.scope.ranges();
        let differ = Window::new(self.after);
        let mut comparison = Comparison { ranges, part: 0, machine: None, differ };
        self.open_part(&mut comparison, field.set);
        self.stage = Stage::Comparing(comparison);
        if let Some((part, frame)) = self.frames.pop_front() {
            Message::Compare { pass: self.number, part, frame: &frame }.put(out);
        }
        Outcome::Going
    }

    /// The offers that say it all in one message, if there are few enough.
    fn list(&self, since: Option<Name>, field: &mut Field<'_>) -> Option<(Extent, Vec<Offer>)> {
        let offers = |set: &LogSet, logs: Vec<LogId>| logs.iter().filter_map(|log| set.offer(log)).collect();
        let since = since.filter(|_| !self.mistaken);
        if let Some(turn) = since.and_then(|since| field.checkpoints.turn_of(since)) {
            let changed = changed_since(field, turn, OFFERS_MAX);
            if changed.len() <= OFFERS_MAX {
                return Some((Extent::Changed, offers(field.set, changed)));
            }
        }
        // A list may call two histories equal that a writer has made for it; a comparison does not.
        if self.useless > 1 {
            return None;
        }
        let logs = field.scope.logs(field.set, LIST_MAX);
        (logs.len() <= LIST_MAX).then(|| (Extent::All, offers(field.set, logs)))
    }

    /// Takes in that the peer asks with its root.
    pub(crate) fn asked(&mut self, pass: u64, root: [u8; 32], since: Option<Name>) {
        if !self.dials && pass > self.number {
            self.start(pass, Stage::Questioned { root, since });
        }
    }

    /// Takes in that the roots are equal.
    pub(crate) fn same(&mut self, pass: u64, field: &mut Field<'_>) -> Outcome {
        let Stage::Asked { root, turn } = self.stage else { return Outcome::Going };
        if pass != self.number {
            return Outcome::Going;
        }
        let now = field.set.heads_turn();
        self.equal(&root, turn, now, field);
        Outcome::Equal
    }

    fn equal(&mut self, root: &[u8; 32], turn: u64, now: u64, field: &mut Field<'_>) {
        field.checkpoints.equal(root, turn, turn == now);
        field.set.mark_turn(turn);
        if turn == now {
            field.outbox.equal(turn);
        } else {
            field.outbox.go_live(turn);
        }
        (self.useless, self.stuck) = (0, 0);
        self.failed = None;
        self.mistaken = false;
        self.stage = Stage::Idle;
    }

    /// Opens the comparison of a part of the scope; for the side that listens.
    fn open_part(&mut self, comparison: &mut Comparison, set: &mut LogSet) {
        if let Some(range) = comparison.ranges.get(comparison.part) {
            let (machine, frame) = set.reconcile(self.config(comparison.part, range));
            comparison.machine = Some(Box::new(machine));
            self.frames.push_back((comparison.part, frame));
        }
    }

    fn config(&self, part: usize, range: &KeyRange) -> Config {
        let mut hasher = blake3::Hasher::new_keyed(&self.salt);
        hasher.update(&self.number.to_le_bytes()).update(&(part as u64).to_le_bytes());
        Config {
            salt: *hasher.finalize().as_bytes(),
            scope: range.clone(),
            mode: if self.useless > 1 { Mode::Ranges } else { Mode::Auto },
            limits: comparison_limits(),
            ..Config::default()
        }
    }

    /// Takes in a frame of a comparison.
    ///
    /// # Errors
    ///
    /// If it cannot come now. The pass has ended.
    pub(crate) fn compare(
        &mut self,
        pass: u64,
        part: usize,
        frame: &[u8],
        field: &mut Field<'_>,
    ) -> Result<(), FrameError> {
        // One that was given up here may go on there for a while.
        if pass != self.number || self.is_idle() {
            return Ok(());
        }
        if !self.frames.is_empty() {
            // It cannot have seen what it answers. To take it in would let answers pile up.
            return Err(FrameError::Unexpected);
        }
        let mut comparison = match core::mem::take(&mut self.stage) {
            Stage::Comparing(comparison) => comparison,
            Stage::Asked { root, turn } if part == 0 => {
                self.roots = (self.roots.0, root);
                field.outbox.go_live(turn);
                let ranges = field.scope.ranges();
                Comparison { ranges, part: 0, machine: None, differ: Window::new(self.after) }
            }
            stage => {
                self.stage = stage;
                return Err(FrameError::Unexpected);
            }
        };
        if self.dials && comparison.machine.is_none() {
            let range = comparison.ranges.get(part).filter(|_| part == comparison.part);
            let range = range.ok_or(FrameError::Unexpected)?.clone();
            comparison.machine = Some(Box::new(Reconciliation::accept(self.config(part, &range))));
        }
        let machine = comparison.machine.as_mut().filter(|_| part == comparison.part);
        let machine = machine.ok_or(FrameError::Unexpected)?;
        let mut step = field.set.handle_reconcile(machine, frame)?;
        let mut ended = take_step(&mut step, &mut comparison.differ, part, &mut self.frames);
        while step.status == Status::NeedsBudget {
            machine.grant(1 << 22);
            step = field.set.resume_reconcile(machine)?;
            ended = take_step(&mut step, &mut comparison.differ, part, &mut self.frames);
        }
        if ended {
            self.part_ended(comparison, field);
        } else {
            self.stage = Stage::Comparing(comparison);
        }
        Ok(())
    }

    fn part_ended(&mut self, mut comparison: Comparison, field: &mut Field<'_>) {
        comparison.machine = None;
        comparison.part = comparison.part.saturating_add(1);
        let last = comparison.part >= comparison.ranges.len();
        if !self.dials {
            self.open_part(&mut comparison, field.set);
        } else if last {
            let differ = self.moved(comparison.differ);
            let offers = differ.iter().filter_map(|log| field.set.offer(log)).collect();
            self.offers = Some((Extent::Differing, offers));
            self.stage = Stage::Offered;
            return;
        }
        self.stage = Stage::Comparing(comparison);
    }

    /// Notes where the next pass goes on. Gives the logs of this one.
    fn moved(&mut self, window: Window) -> Vec<LogId> {
        let last = window.last().filter(|_| window.full);
        // Around the end: everything had its turn.
        let last = last.filter(|last| *last > self.after);
        self.more = last.is_some();
        self.after = last.unwrap_or(LogId::from_bytes([0; 32]));
        window.logs.into_iter().collect()
    }

    /// Takes in what the peer has of some logs.
    pub(crate) fn offered(
        &mut self,
        pass: u64,
        extent: Extent,
        offers: Vec<Offer>,
        field: &mut Field<'_>,
    ) -> Vec<LogId> {
        if pass != self.number {
            return Vec::new();
        }
        let turn = field.set.heads_turn();
        let (ours, theirs) = match (core::mem::take(&mut self.stage), extent) {
            (Stage::Asked { root, .. }, Extent::All | Extent::Changed) => {
                self.roots = (self.roots.0, root);
                self.partial = extent == Extent::Changed;
                let theirs = resolve(field, offers);
                let listed: BTreeSet<LogId> = theirs.iter().map(|offer| offer.log).collect();
                let since = field.checkpoints.last_with_peer();
                let since = since.and_then(|since| field.checkpoints.turn_of(since));
                let mut ours = match (extent, since) {
                    (Extent::All, _) => field.scope.logs(field.set, usize::MAX.wrapping_sub(1)),
                    (_, Some(since)) => changed_since(field, since, usize::MAX),
                    (_, None) => Vec::new(),
                };
                field.outbox.go_live(turn);
                ours.retain(|log| !listed.contains(log));
                let mut window = Window::new(self.after);
                window.extend(ours);
                let ours = self.moved(window);
                let differs = |offer: &Offer| field.set.offer(&offer.log).as_ref() != Some(offer);
                let mut theirs: Vec<Offer> = theirs.into_iter().filter(differs).collect();
                if let Some(since) = since.filter(|_| extent == Extent::Changed) {
                    // What the peer does not list it has as it was when the two were equal.
                    theirs.extend(ours.iter().filter_map(|log| offer_at(field.set, log, since)));
                }
                (ours, theirs)
            }
            (Stage::Comparing(comparison), Extent::Differing) if !self.dials => {
                (self.moved(comparison.differ), resolve(field, offers))
            }
            (Stage::Offered, Extent::Answer) => {
                let theirs = resolve(field, offers);
                // Of these it has nothing.
                let lacked = |offer: &Offer| offer.size == 0 && offer.evidence.is_none();
                let ours = theirs.iter().filter(|offer| lacked(offer)).map(|offer| offer.log).collect();
                (ours, theirs.into_iter().filter(|offer| !lacked(offer)).collect())
            }
            (stage, _) => {
                self.stage = stage;
                return Vec::new();
            }
        };
        let (answers, searches) = self.plan(&ours, theirs, field);
        if extent != Extent::Answer {
            self.offers = Some((Extent::Answer, answers));
        }
        self.stage = Stage::Exchanging;
        searches
    }

    /// Queues what this side has to send. Gives what the peer has to act upon, and forked logs to be searched.
    fn plan(
        &self,
        ours: &[LogId],
        mut theirs: Vec<Offer>,
        field: &mut Field<'_>,
    ) -> (Vec<Offer>, Vec<LogId>) {
        let set = &*field.set;
        theirs.retain_mut(|offer| {
            let on_its_way = field.outbox.on_its_way(&offer.log, self.mark);
            if let Some(size) = on_its_way.filter(|size| *size > offer.size) {
                offer.size = size;
                return set.offer(&offer.log).is_some_and(|ours| ours.size > size || ours.evidence.is_some());
            }
            true
        });
        let coming: BTreeMap<LogId, Offer> = theirs.iter().map(|offer| (offer.log, *offer)).collect();
        let ours: Vec<LogId> = ours
            .iter()
            .copied()
            .filter(|log| coming.contains_key(log) || field.outbox.on_its_way(log, self.mark).is_none())
            .collect();
        let (mut answers, mut searches) = (Vec::new(), Vec::new());
        for step in set.plan(&ours, &theirs) {
            match step {
                Move::Open(log) => {
                    field.outbox.send_opening(set, field.scope, &log);
                }
                Move::Evidence(log) => {
                    field.outbox.send_evidence(set, field.scope, &log);
                }
                Move::Send(log, want) => {
                    let all = Want { to: if want.from == want.to { want.to } else { u64::MAX }, ..want };
                    field.outbox.send_range(set, field.scope, &log, all);
                }
                Move::Search(log) => searches.push(log),
                Move::Expect(log, _) if answers.len() < OFFERS_MAX => {
                    let nothing = Offer { log, start: 0, size: 0, root: [0; 8], evidence: None };
                    answers.push(set.offer(&log).unwrap_or(nothing));
                }
                Move::Expect(..) => {}
            }
        }
        // Where both know of a fork, who has the smaller root searches, and may not know yet that it has to.
        let parted = |offer: &Offer| {
            let ours = set.offer(&offer.log).filter(|ours| ours.evidence.is_some())?;
            let same = (ours.size, ours.evidence) == (offer.size, offer.evidence);
            (same && ours.root > offer.root).then_some(ours)
        };
        let room = OFFERS_MAX.saturating_sub(answers.len());
        answers.extend(theirs.iter().filter_map(parted).take(room));
        (answers, searches)
    }

    /// Takes in that the peer has sent everything.
    pub(crate) fn done(&mut self, pass: u64, gained: bool, more: bool) -> Outcome {
        if pass != self.number {
            return Outcome::Going;
        }
        match self.stage {
            Stage::Asked { .. } => {
                self.stage = Stage::Idle;
                self.useless = self.useless.saturating_add(1);
                self.stuck = self.stuck.saturating_add(1);
                Outcome::Useless
            }
            Stage::Exchanging => {
                self.peer_done = Some((gained, more));
                self.end_if_done()
            }
            _ => Outcome::Going,
        }
    }

    fn end_if_done(&mut self) -> Outcome {
        let Some((peer_gained, peer_more)) = self.peer_done.filter(|_| self.told_done) else {
            return Outcome::Going;
        };
        self.stage = Stage::Idle;
        if self.gained || peer_gained {
            (self.useless, self.stuck) = (0, 0);
            return Outcome::Gained;
        }
        if self.more || peer_more {
            return Outcome::Gained;
        }
        // Unless what this side holds has changed: then another session brought it what the roots differed in.
        let changed = self.stuck_at != Some(self.roots.1);
        self.stuck_at = Some(self.roots.1);
        self.stuck = if changed { 1 } else { self.stuck.saturating_add(1) };
        if self.partial && !self.mistaken {
            // Most of what they hold was not looked at.
            self.mistaken = true;
            self.useless = 1;
            return Outcome::Useless;
        }
        self.useless = self.useless.saturating_add(1);
        if self.useless > 1 {
            self.failed = Some((self.roots.0, self.roots.1, 0));
        }
        Outcome::Useless
    }

    /// Ends a pass that goes nowhere.
    pub(crate) fn give_up(&mut self) {
        self.useless = self.useless.saturating_add(1);
        self.stuck = self.stuck.saturating_add(1);
        self.abandon();
    }

    /// Ends a pass that is about something else by now.
    pub(crate) fn abandon(&mut self) {
        self.start(self.number, Stage::Idle);
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn memory(&self) -> usize {
        let frames = self.frames.iter().map(|(_, frame)| frame.len()).sum::<usize>();
        let offers = self.offers.as_ref().map_or(0, |(_, offers)| offers.len());
        let (differ, machine) = match &self.stage {
            Stage::Comparing(comparison) => {
                let machine = comparison.machine.as_ref().map_or(0, |machine| machine.memory());
                (comparison.differ.logs.len(), machine)
            }
            _ => (0, 0),
        };
        frames
            .saturating_add(offers.saturating_mul(size_of::<Offer>()))
            .saturating_add(differ.saturating_mul(48))
            .saturating_add(machine)
    }
}

/// What a comparison may take. The ranges of a frame wait for an answer while those they are split into go back and forth,
/// at some 250 bytes each, three or four deep: what may wait has to have room for that, or two honest sides stop.
fn comparison_limits() -> Limits {
    Limits {
        frame_bytes: 16 << 10,
        cells: 2_048,
        ranges: 96,
        ids: 1_024,
        waiting_bytes: 64 << 10,
        rounds: 4_096,
        bytes: 64 << 20,
        ..Limits::default()
    }
}

/// Notes what a step of a comparison brought. Whether the comparison has ended.
fn take_step(
    step: &mut HeadStep,
    differ: &mut Window,
    part: usize,
    frames: &mut VecDeque<(usize, Vec<u8>)>,
) -> bool {
    differ.extend(step.differ.drain(..));
    frames.extend(step.frame.take().map(|frame| (part, frame)));
    matches!(step.status, Status::Done(_))
}

/// The logs of the scope whose heads changed after a turn, up to `max` and one.
fn changed_since(field: &mut Field<'_>, turn: u64, max: usize) -> Vec<LogId> {
    let changed: Vec<LogId> = field.set.heads_changed(turn).map(|(_, log, _)| log).collect();
    let set = &*field.set;
    let within = |log: &LogId| set.log(log).is_some_and(|held| field.scope.matches(&held.opening().topic));
    changed.into_iter().filter(within).take(max.saturating_add(1)).collect()
}

/// What somebody has of a log who has not changed since a turn, unless that is nothing.
fn offer_at(set: &LogSet, log: &LogId, turn: u64) -> Option<Offer> {
    let size = set.size_at_turn(log, turn).filter(|size| *size > 0)?;
    let offer = set.offer(log)?;
    let root = set.log(log)?.root_at(size).and_then(|root| root.as_bytes().first_chunk().copied());
    Some(Offer {
        size,
        start: offer.start.min(size),
        root: root.unwrap_or_default(),
        evidence: None,
        ..offer
    })
}

/// Puts the ids of the logs that are held here in the place of their names. What the session is not about is left out.
fn resolve(field: &Field<'_>, offers: Vec<Offer>) -> Vec<Offer> {
    let set = &*field.set;
    let known = offers.into_iter().map(|offer| match set.find(&name_of(&offer.log)) {
        Some(log) => Offer { log, ..offer },
        None => offer,
    });
    let wanted =
        |offer: &Offer| set.log(&offer.log).is_none_or(|held| field.scope.matches(&held.opening().topic));
    known.filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "small numbers")]

    use super::*;
    use crate::reconcile::{Outcome, ReconcileSet};

    fn id(number: u64) -> [u8; 32] {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    /// As heads are: a topic, and a log's id.
    fn insert(set: &mut ReconcileSet, number: u64, version: u64) {
        let mut key = b"team/work\0\0".to_vec();
        key.extend(id(number));
        set.insert(&key, &id((number << 8) | version)).unwrap();
    }

    /// Frames and the most memory that either side took.
    fn compare(ours: &mut ReconcileSet, theirs: &mut ReconcileSet, mode: Mode) -> (u64, usize) {
        let config = Config { mode, limits: comparison_limits(), ..Config::default() };
        let mut machines = [None, Some(Reconciliation::accept(config.clone()))];
        let (first, frame) = Reconciliation::start(ours, config);
        machines[0] = Some(first);
        let (mut frame, mut frames, mut memory) = (Some(frame), 0, 0);
        let mut pushed = [0, 0];
        let mut turn = 1;
        while let Some(bytes) = frame.take() {
            frames += 1;
            let machine = machines[turn].as_mut().unwrap();
            let set = if turn == 0 { &mut *ours } else { &mut *theirs };
            let step = machine.handle(set, &bytes).unwrap();
            pushed[turn] += step.push.len();
            memory = memory.max(machine.memory());
            if let Status::Done(report) = &step.status {
                assert_eq!(report.outcome, Outcome::Differences, "{report:?}");
            }
            frame = step.frame;
            turn = 1 - turn;
        }
        let lacking = |a: &ReconcileSet, b: &ReconcileSet| a.iter().filter(|(_, id)| !b.contains(id)).count();
        assert_eq!(pushed, [lacking(ours, theirs), lacking(theirs, ours)]);
        (frames, memory)
    }

    #[test]
    fn two_honest_sides_never_reach_the_limits_of_a_comparison() {
        for (logs, changed, extra) in [
            (2_000, 100, 200),
            (2_000, 1_800, 0),
            (5_000, 2_500, 1_000),
            (40_000, 4_000, 4_000),
            (80_000, 80_000, 0),
        ] {
            for mode in [Mode::Auto, Mode::Ranges] {
                let mut sets = [1, 2].map(|seed| ReconcileSet::new(&[7; 32], seed));
                for number in 0..logs {
                    insert(&mut sets[0], number, 0);
                    insert(&mut sets[1], number, u64::from(id(number)[1..3] < share(changed, logs)[..]));
                }
                for number in logs..logs + extra {
                    insert(&mut sets[(number % 3 / 2) as usize], number, 0);
                }
                let [ours, theirs] = &mut sets;
                let (frames, memory) = compare(ours, theirs, mode);
                assert!(
                    memory <= 68 << 10,
                    "{logs} {changed} {extra} {mode:?}: {memory} bytes, {frames} frames"
                );
            }
        }
    }

    fn share(part: u64, whole: u64) -> [u8; 2] {
        u16::try_from(part * 65_535 / whole).unwrap().to_be_bytes()
    }
}
