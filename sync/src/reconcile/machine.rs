//! [`Reconciliation`]: one side of a conversation that finds the difference of two sets.
//!
//! The two sides take turns, one message each, and a message carries its number: an old, repeated or reflected one is
//! refused without effect. Here are the turns, the sketch and the limits; ranges are answered in `ranging`. The
//! invariant: a message is checked in full before anything changes, and every message received lets at most one be
//! sent.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::config::{Mode, Options, Outcome, Report, Status, Step, StopReason};
use super::error::MessageError;
use super::estimate;
use super::fingerprint::{Marks, Salts};
use super::limits::Limits;
use super::message::{Body, HEAD_BYTES_MAX, Message, Open, OpenBody, Ranges, Summary};
use super::peel::{CELL_BYTES, Peeler};
use super::plan;
use super::range::KeyRange;
use super::set::ReconcileSet;
use super::short::ShortId;
use super::task::Task;

/// One side of a reconciliation. Both sides run the same machine: one [`start`](Self::start)s it, the other
/// [`accept`](Self::accept)s, and each handles the other's messages until its status is [`Status::Done`].
///
/// It borrows nothing: the set may change between messages. Differences in ranges compared before a change may then be
/// missed, which the roots show, and another round repairs.
#[derive(Clone, Debug)]
pub struct Reconciliation {
    pub(super) config: Options,
    pub(super) salts: Salts,
    pub(super) marks: Option<Marks>,
    pub(super) scope: KeyRange,
    pub(super) phase: Phase,
    /// The number of the next message of the conversation, from whichever side.
    pub(super) number: u64,
    pub(super) turn: Turn,
    /// Ranges to be answered, the lowest last: a stack, so that the ranges of a message are answered before those that
    /// waited longer, and little waits.
    pub(super) tasks: Vec<Task>,
    /// The memory that they take.
    pub(super) waiting_bytes: usize,
    pub(super) asks: VecDeque<u64>,
    pub(super) tells: VecDeque<u64>,
    pub(super) peeler: Peeler,
    /// The work that may still be done.
    pub(super) work_left: u64,
    /// The set's generation at the last message.
    pub(super) generation: Option<u64>,
    pub(super) report: Report,
}

/// The state of the alternation, while ranges go back and forth.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// The peer has more to say on earlier ranges.
    pub(super) peer_more: bool,
    /// The peer wants nothing now that can wait.
    pub(super) peer_full: bool,
    /// This side's last message said that more would come, so the peer waits for it.
    pub(super) promised: bool,
    /// The last message has to be answered.
    pub(super) question: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for an opening.
    Accepting,
    /// Has opened with the root alone.
    OpenedWithRoot,
    /// Has opened.
    Opened,
    /// Sends cells; so many are sent.
    Serving(u32),
    /// Receives cells.
    Decoding,
    /// Ranges go back and forth, or the findings of a sketch are being announced.
    Ranging,
    /// An answer is due and waits for budget.
    Paused,
    Done,
}

impl Reconciliation {
    /// Opens a reconciliation. Returns the first message, at most 512 bytes and as many as the two bounds of a scope.
    pub fn start(set: &mut ReconcileSet, config: Options) -> (Self, Vec<u8>) {
        let mut this = Self::new(config);
        this.scope = this.config.scope.clone();
        this.generation = Some(set.generation());
        let whole = this.scope.is_all();
        let body = match this.config.mode {
            _ if this.config.equal_last_time => OpenBody::RootAlone,
            Mode::Auto if whole => this.opening_cells(set),
            _ => OpenBody::RangesOnly,
        };
        this.phase = if body == OpenBody::RootAlone { Phase::OpenedWithRoot } else { Phase::Opened };
        let message = this.opening(set, body);
        let bytes = this.send(&message);
        (this, bytes)
    }

    /// Waits for the peer to open one.
    #[must_use]
    pub fn accept(config: Options) -> Self {
        Self::new(config)
    }

    fn new(mut config: Options) -> Self {
        let limits = &mut config.limits;
        limits.message_bytes = limits.message_bytes.clamp(Limits::FRAME_BYTES_MIN, Limits::FRAME_BYTES_MAX);
        Self {
            salts: Salts::new(&config.salt),
            marks: None,
            scope: KeyRange::all(),
            phase: Phase::Accepting,
            number: 0,
            turn: Turn::default(),
            tasks: Vec::new(),
            waiting_bytes: 0,
            asks: VecDeque::new(),
            tells: VecDeque::new(),
            peeler: Peeler::default(),
            work_left: config.limits.work,
            generation: None,
            report: Report::default(),
            config,
        }
    }

    /// Handles the peer's next message.
    ///
    /// # Errors
    /// If the message is malformed, beyond the limits, or not the one that comes next. Nothing changed then, and the
    /// right message may still come.
    pub fn handle(&mut self, set: &mut ReconcileSet, bytes: &[u8]) -> Result<Step, MessageError> {
        match self.phase {
            Phase::Done => return Err(MessageError::Ended),
            Phase::Paused => return Err(MessageError::Waiting),
            _ => {}
        }
        let (number, message) = Message::decode(bytes, &self.scope, &self.config.limits)?;
        if number != self.number || !self.expects(set, &message) {
            return Err(MessageError::Unexpected);
        }
        // From here on the message counts.
        self.number = self.number.saturating_add(1);
        self.report.messages_received = self.report.messages_received.saturating_add(1);
        self.report.bytes_received = self.report.bytes_received.saturating_add(bytes.len() as u64);
        let generation = self.generation.replace(set.generation());
        let changed = generation.is_some_and(|before| before != set.generation());
        self.report.changed |= changed;
        let mut step = Step::default();
        if self.report.messages_received > self.config.limits.rounds
            || self.report.bytes_received.saturating_add(self.report.bytes_sent) > self.config.limits.bytes
        {
            self.stop(&mut step, StopReason::Limit);
            return Ok(step);
        }
        // All messages but those of ranges, which say so themselves, are waited for with an answer.
        self.turn.question = true;
        match message {
            Message::Open(open) => self.handle_open(set, open, &mut step),
            Message::Cells { len, start: _, cells } => {
                self.handle_cells(set, len, &cells, changed, &mut step)
            }
            Message::More { end } => self.handle_more(set, end, changed, &mut step),
            Message::Same => self.finish(&mut step, Outcome::Equal),
            Message::Ranges(ranges) => self.handle_ranges(set, ranges, &mut step),
            Message::Stop { reason } => {
                self.finish(&mut step, Outcome::PeerStopped(StopReason::from_code(reason)));
            }
        }
        Ok(step)
    }

    /// Allows this much more work, in items and cells visited.
    pub const fn grant(&mut self, work: u64) {
        self.work_left = self.work_left.saturating_add(work);
    }

    /// Goes on after [`Status::NeedsBudget`].
    ///
    /// # Errors
    /// If nothing waits for budget. Nothing changed then.
    pub fn resume(&mut self, set: &mut ReconcileSet) -> Result<Step, MessageError> {
        match self.phase {
            Phase::Paused => {}
            Phase::Done => return Err(MessageError::Ended),
            _ => return Err(MessageError::Unexpected),
        }
        self.phase = Phase::Ranging;
        let mut step = Step::default();
        self.compose(set, 0, &mut step);
        Ok(step)
    }

    /// About how many bytes its buffers take in memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        let ids = self.asks.len().saturating_add(self.tells.len()).saturating_mul(size_of::<u64>());
        let cells = self.peeler.cells.len().saturating_mul(size_of::<super::sketch::Cell>());
        size_of::<Self>().saturating_add(self.waiting_bytes).saturating_add(ids).saturating_add(cells)
    }

    /// Its findings and costs so far.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// Whether a message of this kind can come now. Looks only.
    fn expects(&self, set: &ReconcileSet, message: &Message) -> bool {
        match (message, self.phase) {
            (Message::Open(open), Phase::Accepting) => {
                !matches!(&open.body, OpenBody::Sketch { cells, .. } if cells.is_empty())
            }
            (Message::Open(open), Phase::OpenedWithRoot) => {
                // The answer to a root is a root with cells.
                matches!(&open.body, OpenBody::Sketch { cells, .. } if !cells.is_empty())
            }
            (Message::Cells { start, cells, .. }, Phase::Opened | Phase::Decoding) => {
                let have = self.peeler.cells.len();
                let end = have.saturating_add(cells.len());
                *start as usize == have && !cells.is_empty() && end <= self.cells_available(set)
            }
            (Message::More { end }, Phase::Serving(sent)) => *end > sent,
            (Message::Same, Phase::Opened | Phase::OpenedWithRoot) => true,
            (Message::Ranges(_), phase) => !matches!(phase, Phase::Accepting | Phase::Paused | Phase::Done),
            (Message::Stop { .. }, phase) => phase != Phase::Accepting,
            _ => false,
        }
    }

    /// How many cells this side can compare.
    fn cells_available(&self, set: &ReconcileSet) -> usize {
        set.cells().len().min(self.config.limits.cells)
    }

    fn opening(&mut self, set: &mut ReconcileSet, body: OpenBody) -> Message {
        let (len, summary) = self.summary(set);
        Message::Open(Open { len, summary, body })
    }

    fn opening_cells(&self, set: &ReconcileSet) -> OpenBody {
        let cells = set.cells();
        let available = u32::try_from(self.cells_available(set)).unwrap_or(u32::MAX);
        let head = cells.iter().take(plan::OPENING_CELLS).copied().collect();
        let counts = cells.iter().take(plan::OPENING_COUNTS).skip(plan::OPENING_CELLS);
        let counts = counts.map(|cell| cell.count.to_le_bytes()[0]).collect();
        OpenBody::Sketch { available, cells: head, counts }
    }

    /// Size and summary of this side's scope.
    fn summary(&mut self, set: &mut ReconcileSet) -> (u64, Summary) {
        if self.scope.is_all() {
            return (set.len() as u64, Summary::Root(set.root()));
        }
        let scope = self.scope.clone();
        let (count, fingerprint) = self.fingerprint(set, &scope);
        (count, Summary::Scope(scope, fingerprint))
    }

    fn handle_open(&mut self, set: &mut ReconcileSet, open: Open, step: &mut Step) {
        let scope = match &open.summary {
            Summary::Root(_) => KeyRange::all(),
            Summary::Scope(range, _) => range.clone(),
        };
        let allowed = if self.phase == Phase::Accepting { &self.config.scope } else { &self.scope };
        if !allowed.contains(&scope) {
            self.stop(step, StopReason::Scope);
            return;
        }
        self.scope = scope;
        let (len, summary) = self.summary(set);
        if let Summary::Root(root) = open.summary {
            self.report.peer_root = Some(root);
        }
        if len == open.len && summary == open.summary {
            self.reply(step, &Message::Same);
            self.finish(step, Outcome::Equal);
            return;
        }
        match open.body {
            OpenBody::RootAlone if self.config.mode == Mode::Auto && self.scope.is_all() => {
                let body = self.opening_cells(set);
                let message = self.opening(set, body);
                self.phase = Phase::Opened;
                self.reply(step, &message);
            }
            OpenBody::Sketch { available, cells, counts } if self.config.mode == Mode::Auto => {
                self.handle_sketch(set, open.len, available, &cells, &counts, step);
            }
            _ => self.go_to_ranges(set, open.len, None, step),
        }
    }

    /// The peer's first cells: the whole difference, or the basis of an estimate of it.
    fn handle_sketch(
        &mut self,
        set: &ReconcileSet,
        their_len: u64,
        available: u32,
        cells: &[super::sketch::Cell],
        counts: &[u8],
        step: &mut Step,
    ) {
        let ours = set.cells();
        let mut peeler = Peeler::default();
        let mut work = 0;
        let has = |short| set.resolve(ShortId(short)).next().is_some();
        let complete = peeler.extend(cells.iter().copied(), ours, has, &mut work);
        self.spend(work);
        if complete && !peeler.found.is_empty() {
            self.peeler = peeler;
            self.take_findings(set, step);
            return;
        }
        if complete {
            // Equal cells of sets that are not: short ids collide. Ranges tell them apart.
            self.go_to_ranges(set, their_len, None, step);
            return;
        }
        let more = counts.iter().zip(ours.iter().skip(cells.len()));
        peeler.counts.extend(
            more.map(|(&theirs, ours)| theirs.wrapping_sub(ours.count.to_le_bytes()[0]).cast_signed()),
        );
        let guess = estimate::differences(&peeler.counts, difference(their_len, set.len()));
        let available = self.cells_available(set).min(available as usize);
        match plan::first_cells(guess, available) {
            Some(end) => self.serve(set, 0, end, step),
            None => self.go_to_ranges(set, their_len, guess, step),
        }
    }

    /// Sends cells from `start` to at most `end`, as many as a message takes.
    fn serve(&mut self, set: &ReconcileSet, start: usize, end: usize, step: &mut Step) {
        let room = self.room().saturating_sub(HEAD_BYTES_MAX + 10) / CELL_BYTES;
        let end = end.min(start.saturating_add(room)).min(self.cells_available(set));
        let Some(cells) = set.cells().get(start..end).filter(|cells| !cells.is_empty()) else {
            self.stop(step, StopReason::Limit);
            return;
        };
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let message = Message::Cells { len: set.len() as u64, start: number(start), cells: cells.to_vec() };
        self.spend(cells.len() as u64);
        self.phase = Phase::Serving(number(end));
        self.reply(step, &message);
    }

    fn handle_cells(
        &mut self,
        set: &ReconcileSet,
        their_len: u64,
        cells: &[super::sketch::Cell],
        changed: bool,
        step: &mut Step,
    ) {
        let start = self.peeler.cells.len();
        if changed && start > 0 {
            // The cells before were compared with another set of this side.
            self.go_to_ranges(set, their_len, None, step);
            return;
        }
        let mut work = 0;
        let has = |short| set.resolve(ShortId(short)).next().is_some();
        let ours = set.cells().get(start..).unwrap_or(&[]);
        let complete = self.peeler.extend(cells.iter().copied(), ours, has, &mut work);
        self.spend(work);
        if complete && !self.peeler.found.is_empty() {
            self.take_findings(set, step);
            return;
        }
        let guess = estimate::differences(&self.peeler.counts, difference(their_len, set.len()));
        let have = self.peeler.cells.len();
        let next = if complete { None } else { plan::more_cells(guess, have, self.cells_available(set)) };
        match next {
            Some(end) => {
                self.phase = Phase::Decoding;
                self.reply(step, &Message::More { end: u32::try_from(end).unwrap_or(u32::MAX) });
            }
            None => self.go_to_ranges(set, their_len, guess, step),
        }
    }

    fn handle_more(&mut self, set: &ReconcileSet, end: u32, changed: bool, step: &mut Step) {
        let Phase::Serving(sent) = self.phase else { return };
        if changed || sent as usize >= self.cells_available(set) {
            self.go_to_ranges(set, set.len() as u64, None, step);
        } else {
            self.serve(set, sent as usize, end as usize, step);
        }
    }

    /// Hands out the findings of the sketch, and announces them to the peer.
    fn take_findings(&mut self, set: &ReconcileSet, step: &mut Step) {
        for found in core::mem::take(&mut self.peeler).found {
            if found.theirs {
                self.want(found.short, step);
                self.asks.push_back(found.short);
            } else {
                self.push(set, found.short, step);
                if self.config.announce {
                    self.tells.push_back(found.short);
                }
            }
        }
        self.phase = Phase::Ranging;
        self.compose(set, 0, step);
    }

    pub(super) fn want(&mut self, short: u64, step: &mut Step) {
        step.want.push(ShortId(short));
        self.report.wanted = self.report.wanted.saturating_add(1);
    }

    /// Hands out the ids that a short id stands for; `false` if there are none.
    fn push(&mut self, set: &ReconcileSet, short: u64, step: &mut Step) -> bool {
        let before = step.push.len();
        step.push.extend(set.resolve(ShortId(short)));
        let pushed = step.push.len().saturating_sub(before);
        self.report.pushed = self.report.pushed.saturating_add(pushed as u64);
        pushed > 0
    }

    /// Leaves the sketch for ranges over the whole scope.
    fn go_to_ranges(&mut self, set: &ReconcileSet, their_len: u64, guess: Option<u64>, step: &mut Step) {
        self.peeler = Peeler::default();
        self.phase = Phase::Ranging;
        self.push_task(Task::Split { range: self.scope.clone(), theirs: their_len, guess });
        self.compose(set, 0, step);
    }

    fn handle_ranges(&mut self, set: &ReconcileSet, ranges: Ranges, step: &mut Step) {
        self.phase = Phase::Ranging;
        self.peeler = Peeler::default();
        (self.turn.peer_more, self.turn.peer_full) = (ranges.more, ranges.full);
        self.turn.question = ranges.more || !ranges.entries.is_empty();
        self.report.ranges |= !ranges.entries.is_empty();
        if ranges.more && ranges.entries.is_empty() && ranges.asks.is_empty() && ranges.tells.is_empty() {
            // A side that promises more has to say something now.
            self.stop(step, StopReason::Stalled);
            return;
        }
        self.spend(ranges.asks.len().saturating_add(ranges.tells.len()) as u64);
        for short in distinct(ranges.asks) {
            if !self.push(set, short, step) {
                self.report.unresolved = self.report.unresolved.saturating_add(1);
            }
        }
        for short in distinct(ranges.tells) {
            // Items that arrived meanwhile by another way are not wanted any more.
            if set.resolve(ShortId(short)).next().is_none() {
                self.want(short, step);
            }
        }
        let waited = self.tasks.len();
        for entry in ranges.entries.into_iter().rev() {
            let range = entry.range;
            self.push_task(match entry.body {
                Body::Fingerprint { count, fingerprint } => Task::Compare { range, count, fingerprint },
                Body::List(mut shorts) => {
                    shorts.sort_unstable();
                    shorts.dedup();
                    Task::Match { rest: range.clone(), range, shorts, asked: 0, differs: false }
                }
                Body::Ask => Task::List { range },
                Body::Full(mut ids) => {
                    ids.sort_unstable();
                    ids.dedup();
                    Task::MatchFull { rest: range.clone(), range, ids, asked: 0 }
                }
            });
        }
        if self.waiting_bytes > self.config.limits.waiting_bytes {
            self.stop(step, StopReason::Limit);
            return;
        }
        self.compose(set, waited, step);
    }

    pub(super) fn push_task(&mut self, task: Task) {
        self.waiting_bytes = self.waiting_bytes.saturating_add(task.memory());
        self.tasks.push(task);
    }

    pub(super) fn pop_task(&mut self) -> Option<Task> {
        let task = self.tasks.pop()?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(task.memory());
        Some(task)
    }

    /// Notes work done.
    pub(super) const fn spend(&mut self, work: u64) {
        self.report.work = self.report.work.saturating_add(work);
        self.work_left = self.work_left.saturating_sub(work);
    }

    /// How many bytes the next message may have.
    pub(super) fn room(&self) -> usize {
        let sent = self.report.bytes_sent;
        let limits = &self.config.limits;
        let in_all = limits.bytes.saturating_sub(sent.saturating_add(self.report.bytes_received));
        let message = limits.message_bytes as u64;
        let room = limits.amplification.map_or(message, |times| {
            self.report.bytes_received.saturating_mul(times).saturating_add(message).saturating_sub(sent)
        });
        usize::try_from(room.min(in_all)).map_or(limits.message_bytes, |room| room.min(limits.message_bytes))
    }

    fn send(&mut self, message: &Message) -> Vec<u8> {
        let bytes = message.encode(self.number, &self.scope);
        self.count_sent(&bytes);
        bytes
    }

    fn reply(&mut self, step: &mut Step, message: &Message) {
        let bytes = self.send(message);
        step.message = Some(bytes);
    }

    pub(super) const fn count_sent(&mut self, bytes: &[u8]) {
        self.number = self.number.saturating_add(1);
        self.report.messages_sent = self.report.messages_sent.saturating_add(1);
        self.report.bytes_sent = self.report.bytes_sent.saturating_add(bytes.len() as u64);
    }

    pub(super) fn stop(&mut self, step: &mut Step, reason: StopReason) {
        self.reply(step, &Message::Stop { reason: reason.code() });
        self.finish(step, Outcome::Stopped(reason));
    }

    pub(super) fn finish(&mut self, step: &mut Step, outcome: Outcome) {
        self.phase = Phase::Done;
        self.report.outcome = outcome;
        self.tasks = Vec::new();
        self.asks = VecDeque::new();
        self.tells = VecDeque::new();
        self.peeler = Peeler::default();
        self.marks = None;
        step.status = Status::Done(self.report.clone());
    }
}

/// Each once: a peer that repeats an id in a message is not handed it as often.
fn distinct(mut shorts: Vec<u64>) -> Vec<u64> {
    shorts.sort_unstable();
    shorts.dedup();
    shorts
}

/// The peer's number of items less this side's.
fn difference(theirs: u64, ours: usize) -> i64 {
    let theirs = i64::try_from(theirs).unwrap_or(i64::MAX);
    theirs.saturating_sub(i64::try_from(ours).unwrap_or(i64::MAX))
}
