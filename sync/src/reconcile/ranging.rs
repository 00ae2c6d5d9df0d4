//! Answering ranges (Meyer 2023): compare, split, list, match.
//!
//! The waiting work is a stack of [`Task`]s with the lowest range on top; a message is filled from it until it is full,
//! and the rest waits for the next message. So small messages cost turns in proportion to the bytes, and nothing is
//! said twice. The invariant: a task that is put back covers exactly the part of its range that has not been said.

use alloc::vec::Vec;

use super::config::{Outcome, Status, Step, StopReason};
use super::fingerprint::{Marks, product, times};
use super::machine::{Phase, Reconciliation};
use super::message::{Body, Claim, ClaimEncoder, HEAD_BYTES_MAX, encode_ranges, fingerprint_bytes};
use super::order::Position;
use super::plan;
use super::range::KeyRange;
use super::set::{ReconcileSet, place_bytes};
use super::short::ShortId;
use super::task::Task;

/// A message being filled.
struct Filling {
    writer: ClaimEncoder,
    asks: Vec<u64>,
    tells: Vec<u64>,
    room: usize,
    ids_left: usize,
    ranges_left: usize,
    /// Ids pushed that were not announced, which no message bounds.
    pushes_left: usize,
}

/// A side whose tasks take more than this part of the memory for tasks asks for no more than answers. The rest is for
/// the ranges that these are split into.
const FULL_SHARE: usize = 2;

/// Ids handed out in one step at most, where no message bounds them.
const PUSHES_MAX: usize = 65_536;

impl Filling {
    fn is_empty(&self) -> bool {
        self.writer.count() == 0 && self.asks.is_empty() && self.tells.is_empty()
    }

    fn room_left(&self) -> usize {
        let ids = (self.asks.len() + self.tells.len()) * 8;
        self.room.saturating_sub(self.writer.len() + ids)
    }

    /// How many more short ids may be asked for or announced.
    fn shorts_left(&self) -> usize {
        (self.room_left() / 8).min(self.ids_left)
    }

    fn id(&mut self, short: u64, asked: bool) {
        if asked {
            self.asks.push(short)
        } else {
            self.tells.push(short)
        }
        self.ids_left = self.ids_left.saturating_sub(1);
    }

    fn entry(&mut self, entry: &Claim) -> bool {
        let ids = match &entry.body {
            Body::List(shorts) => shorts.len(),
            Body::Full(ids) => ids.len(),
            Body::Fingerprint { .. } | Body::Ask => 0,
        };
        if self.ranges_left == 0 || ids > self.ids_left {
            return false;
        }
        let room = self.writer.len() + self.room_left();
        let fits = self.writer.entry(entry, room);
        if fits {
            self.ranges_left -= 1;
            self.ids_left -= ids;
        }
        fits
    }
}

/// A range in terms of ranks.
struct Located {
    first: usize,
    place: Position,
    last: usize,
}

impl Located {
    const fn len(&self) -> usize {
        self.last - self.first
    }
}

impl Reconciliation {
    /// Fills a message with the waiting work, and sends it if there is anything to say or the peer waits for an answer.
    ///
    /// The lowest `waited` tasks are older than the peer's last message. Two sides that both go on with old tasks can
    /// give one another ranges faster than they answer them. So while the peer has much waiting, no more is said of
    /// them than a message needs to say anything.
    pub(super) fn compose(&mut self, set: &ReconcileSet, waited: usize, step: &mut Step) {
        let limits = &self.config.limits;
        // Counts before the ids take at most 3 bytes each in a message of 1 MiB.
        let mut filling = Filling {
            writer: ClaimEncoder::new(&self.scope),
            asks: Vec::new(),
            tells: Vec::new(),
            room: self.room().saturating_sub(HEAD_BYTES_MAX + 6),
            ids_left: limits.ids,
            ranges_left: limits.ranges,
            pushes_left: PUSHES_MAX,
        };
        self.drain_ids(&mut filling);
        while self.asks.is_empty() && self.tells.is_empty() {
            let Some(task) = self.tasks.last() else { break };
            if !filling.writer.fits_after(&task.range().lower) {
                break;
            }
            if self.turn.peer_full && self.tasks.len() <= waited {
                if !filling.is_empty() {
                    break;
                }
                (filling.ranges_left, filling.ids_left) = (1, filling.ids_left.min(plan::LIST_MAX));
            }
            if self.work_left == 0 || filling.pushes_left == 0 {
                // A message that has something in it is sent; only an empty one can wait.
                if filling.is_empty() {
                    self.phase = Phase::Paused;
                    step.status = Status::NeedsBudget;
                    return;
                }
                break;
            }
            let Some(task) = self.pop_task() else { break };
            self.spend(1);
            if let Some(rest) = self.answer(set, task, &mut filling, step) {
                self.push_task(rest);
                if filling.pushes_left > 0 {
                    break;
                }
            }
        }
        self.send_filled(&filling, step);
    }

    /// Moves the short ids that wait to be asked for and announced into the message.
    fn drain_ids(&mut self, filling: &mut Filling) {
        while filling.shorts_left() > 0 {
            if let Some(short) = self.asks.pop_front() {
                filling.id(short, true);
            } else if let Some(short) = self.tells.pop_front() {
                filling.id(short, false);
            } else {
                break;
            }
        }
    }

    fn send_filled(&mut self, filling: &Filling, step: &mut Step) {
        let more = !self.tasks.is_empty() || !self.asks.is_empty() || !self.tells.is_empty();
        let entries = filling.writer.count() > 0;
        let silent = filling.is_empty();
        if silent && more {
            // Not even one thing fits: the bytes that may be sent are used up.
            self.stop(step, StopReason::Limit);
            return;
        }
        if silent && !self.turn.question && !self.turn.promised {
            self.finish(step, Outcome::Differences);
            return;
        }
        let full = self.waiting_bytes > self.config.limits.waiting_bytes / FULL_SHARE;
        let bytes = encode_ranges(self.number, more, full, &filling.asks, &filling.tells, &filling.writer);
        self.count_sent(&bytes);
        self.turn.promised = more;
        self.report.ranges |= entries;
        step.message = Some(bytes);
        if !entries && !more && !self.turn.peer_more {
            // Nothing in the message wants an answer, and nothing else is open.
            self.finish(step, Outcome::Differences);
        } else {
            self.phase = Phase::Ranging;
        }
    }

    /// Answers one task. The part that did not fit comes back.
    fn answer(
        &mut self,
        set: &ReconcileSet,
        task: Task,
        filling: &mut Filling,
        step: &mut Step,
    ) -> Option<Task> {
        match task {
            Task::Compare { range, count, fingerprint } => {
                if self.is_equal(set, &range, count, fingerprint) {
                    return None;
                }
                self.split(set, range, count, None, filling)
            }
            Task::Split { range, theirs, guess } => self.split(set, range, theirs, guess, filling),
            Task::List { range } => self.list(set, range, filling),
            Task::Match { range, rest, shorts, asked, differs } => {
                self.match_list(set, range, rest, shorts, asked, differs, filling, step)
            }
            Task::Full { range } => self.list_full(set, range, filling),
            Task::MatchFull { range, rest, ids, asked } => {
                self.match_full(set, range, rest, ids, asked, filling, step)
            }
        }
    }

    fn locate(set: &ReconcileSet, range: &KeyRange) -> Located {
        let (place, first) = set.locate(&range.lower);
        let last = range.upper.as_ref().map_or(set.len(), |upper| set.rank_from(place, first, upper));
        Located { first, place, last }
    }

    /// Count and fingerprint of a range of this side's set.
    pub(super) fn fingerprint(&mut self, set: &ReconcileSet, range: &KeyRange) -> (u64, u64) {
        let located = Self::locate(set, range);
        (located.len() as u64, self.fingerprint_of(set, &located))
    }

    fn is_equal(&mut self, set: &ReconcileSet, range: &KeyRange, count: u64, fingerprint: u64) -> bool {
        let located = Self::locate(set, range);
        // Counts that differ need no fingerprint.
        located.len() as u64 == count && self.fingerprint_of(set, &located) == fingerprint
    }

    fn fingerprint_of(&mut self, set: &ReconcileSet, at: &Located) -> u64 {
        if at.len() <= 96 {
            self.spend(at.len() as u64);
            return product(&self.salts, set.iter_position(at.place).take(at.len()).map(|item| item.1));
        }
        let salts = self.salts;
        let (result, visited) = self.marks(set, at.first, at.last).range(set, &salts, at.first, at.last);
        self.spend(visited as u64);
        result
    }

    /// Prefix products over the scope, made when first needed and again when the set changed.
    fn marks(&mut self, set: &ReconcileSet, first: usize, last: usize) -> &Marks {
        let marks = match self.marks.take() {
            Some(marks) if marks.covers(set, first, last) => marks,
            _ => {
                let scope = Self::locate(set, &self.scope);
                self.spend(scope.len() as u64);
                Marks::new(set, &self.salts, scope.first, scope.last)
            }
        };
        self.marks.insert(marks)
    }

    /// Splits a range that differs, or lists it.
    fn split(
        &mut self,
        set: &ReconcileSet,
        range: KeyRange,
        theirs: u64,
        guess: Option<u64>,
        filling: &mut Filling,
    ) -> Option<Task> {
        let at = Self::locate(set, &range);
        let own = at.len();
        // Nearly everything differs: lists are shorter than fingerprints that will not match. The smaller side lists.
        let mostly = guess.is_some_and(|guess| guess.saturating_mul(4) >= own as u64);
        if own <= plan::LIST_MAX || (mostly && own as u64 <= theirs) {
            return self.list(set, range, filling);
        }
        if theirs == 0 {
            let task =
                Task::Match { rest: range.clone(), range, shorts: Vec::new(), asked: 0, differs: true };
            self.push_task(task);
            return None;
        }
        if theirs <= plan::LIST_MAX as u64 || mostly {
            let fits = filling.entry(&Claim { range: range.clone(), body: Body::Ask });
            return (!fits).then_some(Task::Split { range, theirs, guess });
        }
        let first = guess.map_or(plan::BRANCH, |guess| {
            usize::try_from(guess).map_or(plan::BRANCH_FIRST_MAX, |guess| guess.min(plan::BRANCH_FIRST_MAX))
        });
        let children = (own / plan::CHILD_MIN).min(first.max(plan::BRANCH)).max(2);
        self.fingerprints(set, range, &at, children, filling)
    }

    /// Writes the fingerprints of so many parts of a range. The part that does not fit is to be split again.
    fn fingerprints(
        &mut self,
        set: &ReconcileSet,
        range: KeyRange,
        at: &Located,
        children: usize,
        filling: &mut Filling,
    ) -> Option<Task> {
        let own = at.len();
        // Large children end where prefix products are at hand.
        let grid = (own / children > 64).then(|| self.marks(set, at.first, at.last).grid());
        let mut lower = range.lower;
        let mut from = at.first;
        let mut items = set.iter_position(at.place).peekable();
        for child in 1..=children {
            let mut to = at.first + share(own, child, children);
            let inner = child < children;
            let (so_far, upper) = if let Some(grid) = &grid {
                if inner {
                    to = grid.round_up(to).min(at.last);
                }
                let salts = self.salts;
                let (so_far, visited) = self.marks(set, from, to).range(set, &salts, from, to);
                self.spend(visited as u64);
                (so_far, separator_at(set, to))
            } else {
                self.spend((to - from) as u64);
                let mut so_far = 1;
                let mut last = None;
                for item in items.by_ref().take(to - from) {
                    so_far = times(so_far, self.salts.element(item.1));
                    last = Some(item);
                }
                (so_far, last.zip(items.peek()).map(|(last, next)| separator(last, *next)))
            };
            let upper = if inner { upper } else { range.upper.clone() };
            let part = KeyRange { lower, upper };
            let count = (to - from) as u64;
            let entry = Claim { range: part, body: Body::Fingerprint { count, fingerprint: so_far } };
            if filling.room_left() < fingerprint_bytes(count) || !filling.entry(&entry) {
                let range = KeyRange { lower: entry.range.lower, upper: range.upper };
                return Some(Task::Split { range, theirs: u64::MAX, guess: None });
            }
            from = to;
            match entry.range.upper {
                Some(upper) if inner => lower = upper,
                _ => return None,
            }
        }
        None
    }

    /// Lists a range, or as much of it as fits.
    fn list(&mut self, set: &ReconcileSet, range: KeyRange, filling: &mut Filling) -> Option<Task> {
        let (part, rest) = self.portion(set, &range, 8, filling);
        let Some((part, at)) = part else { return Some(Task::List { range }) };
        let ids = set.iter_position(at.place).take(at.len()).map(|item| set.short_id(item.1).0);
        let body = Body::List(ids.collect());
        if filling.entry(&Claim { range: part, body }) {
            rest.map(|range| Task::List { range })
        } else {
            Some(Task::List { range })
        }
    }

    /// Lists a range in full, or as much of it as fits.
    fn list_full(&mut self, set: &ReconcileSet, range: KeyRange, filling: &mut Filling) -> Option<Task> {
        let (part, rest) = self.portion(set, &range, 32, filling);
        let Some((part, at)) = part else { return Some(Task::Full { range }) };
        let ids = set.iter_position(at.place).take(at.len()).map(|item| *item.1);
        let body = Body::Full(ids.collect());
        if filling.entry(&Claim { range: part, body }) {
            rest.map(|range| Task::Full { range })
        } else {
            Some(Task::Full { range })
        }
    }

    /// The beginning of a range whose items, at so many bytes each, fit into the message, and the rest of it.
    fn portion(
        &mut self,
        set: &ReconcileSet,
        range: &KeyRange,
        item_bytes: usize,
        filling: &Filling,
    ) -> (Option<(KeyRange, Located)>, Option<KeyRange>) {
        let mut at = Self::locate(set, range);
        let room = |bounds: usize| {
            let bytes = filling.room_left().saturating_sub(bounds + 3);
            (bytes / item_bytes).min(filling.ids_left)
        };
        let whole = at.len();
        let fits = room(filling.writer.bounds_bytes(range));
        if whole <= fits {
            self.spend(whole as u64);
            return (Some((range.clone(), at)), None);
        }
        let mut cut = fits.min(whole - 1);
        while cut > 0 {
            let Some(upper) = separator_at(set, at.first + cut) else { break };
            let part = KeyRange { lower: range.lower.clone(), upper: Some(upper.clone()) };
            let fits = room(filling.writer.bounds_bytes(&part));
            if cut <= fits {
                at.last = at.first + cut;
                self.spend(cut as u64);
                return (Some((part, at)), Some(KeyRange { lower: upper, upper: range.upper.clone() }));
            }
            // The bound of the cut is longer than that of the range: a little less fits.
            cut = fits;
        }
        (None, None)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one task, taken apart")]
    fn match_list(
        &mut self,
        set: &ReconcileSet,
        range: KeyRange,
        rest: KeyRange,
        shorts: Vec<u64>,
        mut asked: usize,
        mut differs: bool,
        filling: &mut Filling,
        step: &mut Step,
    ) -> Option<Task> {
        while let Some(&short) = shorts.get(asked) {
            // An item elsewhere with the same short id is another item.
            let here = set.resolve(ShortId(short)).any(|id| set.is_in(id, &range));
            if !here {
                if filling.shorts_left() == 0 {
                    return Some(Task::Match { range, rest, shorts, asked, differs });
                }
                differs = true;
                filling.id(short, true);
                self.want(short, step);
            }
            self.spend(1);
            asked += 1;
        }
        let lacks = |short: u64, _: &[u8; 32]| shorts.binary_search(&short).is_err();
        let (stopped, pushed) = self.match_items(set, &rest, lacks, filling, step);
        differs |= pushed;
        match stopped {
            Some(rest) => Some(Task::Match { range, rest, shorts, asked, differs }),
            None if differs => None,
            // The range is known to differ, yet its short ids do not.
            None => self.list_full(set, range, filling),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one task, taken apart")]
    fn match_full(
        &mut self,
        set: &ReconcileSet,
        range: KeyRange,
        rest: KeyRange,
        ids: Vec<[u8; 32]>,
        mut asked: usize,
        filling: &mut Filling,
        step: &mut Step,
    ) -> Option<Task> {
        while let Some(id) = ids.get(asked) {
            if !set.contains(id) {
                if filling.shorts_left() == 0 {
                    return Some(Task::MatchFull { range, rest, ids, asked });
                }
                let short = set.short_id(id).0;
                filling.id(short, true);
                self.want(short, step);
            }
            self.spend(1);
            asked += 1;
        }
        let lacks = |_: u64, id: &[u8; 32]| ids.binary_search(id).is_err();
        let (stopped, _) = self.match_items(set, &rest, lacks, filling, step);
        stopped.map(|rest| Task::MatchFull { range, rest, ids, asked })
    }

    /// Pushes this side's items of a range that the peer lacks. Returns the rest of the range when the message is full,
    /// and whether anything was pushed.
    fn match_items(
        &mut self,
        set: &ReconcileSet,
        range: &KeyRange,
        lacks: impl Fn(u64, &[u8; 32]) -> bool,
        filling: &mut Filling,
        step: &mut Step,
    ) -> (Option<KeyRange>, bool) {
        let at = Self::locate(set, range);
        let mut pushed = 0_u64;
        for (visited, (key, id)) in set.iter_position(at.place).take(at.len()).enumerate() {
            let short = set.short_id(id).0;
            if !lacks(short, id) {
                continue;
            }
            let full = if self.config.announce { filling.shorts_left() } else { filling.pushes_left };
            if full == 0 {
                self.spend(visited as u64);
                self.report.pushed = self.report.pushed.saturating_add(pushed);
                let rest = KeyRange { lower: place_bytes(key, id), upper: range.upper.clone() };
                return (Some(rest), pushed > 0);
            }
            if self.config.announce {
                filling.id(short, false);
            }
            filling.pushes_left = filling.pushes_left.saturating_sub(1);
            step.push.push(*id);
            pushed += 1;
        }
        self.spend(at.len() as u64);
        self.report.pushed = self.report.pushed.saturating_add(pushed);
        (None, pushed > 0)
    }
}

/// `len * part / parts`, whose product may be above the greatest `usize` of 32 bits.
fn share(len: usize, part: usize, parts: usize) -> usize {
    usize::try_from(len as u64 * part as u64 / parts as u64).unwrap_or(len)
}

/// The shortest bound between two neighbours: above the first, at most the second.
fn separator(before: (&[u8], &[u8; 32]), after: (&[u8], &[u8; 32])) -> Vec<u8> {
    fn bytes<'a>(item: (&'a [u8], &'a [u8; 32])) -> impl Iterator<Item = u8> + 'a {
        item.0.iter().chain(item.1).copied()
    }
    let shared = bytes(before).zip(bytes(after)).take_while(|(a, b)| a == b).count();
    bytes(after).take(shared + 1).collect()
}

/// The shortest bound before the item of this rank, which is not the first.
fn separator_at(set: &ReconcileSet, rank: usize) -> Option<Vec<u8>> {
    let mut items = set.iter_rank(rank.checked_sub(1)?);
    Some(separator(items.next()?, items.next()?))
}
