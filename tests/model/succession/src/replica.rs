//! One replica: what it holds, knows and owes; how it takes in entries and facts.
//!
//! The invariant: a copy in `copies` is held in the sense of the rule (clauses 3, 24, 28), whatever came in which order.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap as Map, BTreeSet as Set};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use crate::facts::{Closing, Cut, Facts};
use crate::log::{Copy, Dot, Item, Log, Name, Sight, listing};
use crate::rule::{Clause, Rule};
use crate::state::State;
use crate::verdict::Verdict;

/// What became of entries that were offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    Nothing,
    Changed,
    /// They contradict the held copy at this size.
    Forked(u16),
}

/// What a fork, a final or a tail that gave way took from the own logs: to be written anew.
#[derive(Clone, Default, Debug)]
pub struct Reissue {
    pub dots: Map<Name, Item>,
    pub names: Set<Name>,
    pub couplings: Map<(u8, bool), u32>,
}

/// Kept for the checks alone.
#[derive(Clone, Default, Debug)]
pub struct Ghost {
    /// The greatest size of each log that was held here.
    pub seen: Map<Log, u16>,
    /// The entries that this process wrote.
    pub wrote: Set<(Log, u16)>,
    /// Logs that were closed when last looked at.
    closed: Set<Log>,
    /// Agents of which a closed log was opened again, since this was last asked.
    pub reopened: Set<u8>,
    /// Logs whose copy was replaced by one of another history that nothing showed to be one.
    pub unseen: Set<Log>,
}

#[derive(Clone)]
pub struct Replica {
    pub rule: Rule,
    pub agent: u8,
    pub inc: u16,
    pub copies: Map<Log, Copy>,
    pub staged: Map<Log, Copy>,
    pub facts: Facts,
    pub verdicts: Map<u8, Verdict>,
    /// Of own logs with a tail that is not signed: the copy as it was signed.
    pub signed: Map<Log, Copy>,
    pub reissue: Reissue,
    /// The own log came back longer or different than this process wrote it.
    pub outrun: bool,
    /// Whether closed logs stay.
    pub keep: bool,
    /// Whether a peer was met since the last start.
    pub met: bool,
    /// 0: holds all; 1: refuses every second incarnation; 2: holds two state logs of an agent at most.
    pub limits: u8,
    pub ghost: Ghost,
    /// Today's rule: where copies may begin.
    floors: Map<Log, u16>,
    state: RefCell<Option<Rc<State>>>,
    root: Cell<Option<u64>>,
    meaning: Cell<Option<u64>>,
}

impl Replica {
    pub fn new(rule: Rule, agent: u8, inc: u16) -> Self {
        Self {
            rule,
            agent,
            inc,
            copies: Map::new(),
            staged: Map::new(),
            facts: Facts::default(),
            verdicts: Map::new(),
            signed: Map::new(),
            reissue: Reissue::default(),
            outrun: false,
            keep: false,
            met: true,
            limits: 0,
            ghost: Ghost::default(),
            floors: Map::new(),
            state: RefCell::new(None),
            root: Cell::new(None),
            meaning: Cell::new(None),
        }
    }

    pub fn log(&self) -> Log {
        Log::state(self.agent, self.inc)
    }

    pub fn departed(&self, agent: u8) -> bool {
        self.facts.closings.contains_key(&agent)
    }

    pub fn verdict(&self, agent: u8) -> Option<&Verdict> {
        self.verdicts.get(&agent)
    }

    /// Whether nothing that comes of the log can count.
    pub fn dead(&self, log: &Log) -> bool {
        if let Some(closing) = self.facts.closings.get(&log.agent)
            && self.rule.has(Clause::Unpinned)
            && !closing.pins.contains_key(log)
        {
            return true;
        }
        if log.events {
            return self.facts.pruned.get(&log.agent).is_some_and(|(inc, _)| *inc > log.inc);
        }
        let evidence = !(self.departed(log.agent) && self.rule.has(Clause::PinFork));
        self.verdict(log.agent).is_some_and(|v| v.dead > log.inc)
            || evidence && self.facts.forked.contains(log)
    }

    /// Whether a log that counts closes this one in the size that is held.
    pub fn closed(&self, log: &Log) -> bool {
        let n = self.closed_at(log);
        !log.events && n > 0 && n >= self.copies.get(log).map_or(0, Copy::size)
    }

    /// The greatest n that a log that counts says of this one, 0 if none does.
    pub fn closed_at(&self, log: &Log) -> u16 {
        self.verdict(log.agent).and_then(|v| v.closed.get(&log.inc)).copied().unwrap_or(0)
    }

    pub fn state(&self) -> Rc<State> {
        let mut kept = self.state.borrow_mut();
        let made = || Rc::new(State::fold(self.rule, &self.copies, &self.verdicts));
        Rc::clone(kept.get_or_insert_with(made))
    }

    /// Clauses 11 and 12.
    pub fn root(&self) -> u64 {
        if let Some(root) = self.root.get() {
            return root;
        }
        let mut sum = DefaultHasher::new();
        for (log, copy) in &self.copies {
            let counts = if log.events {
                copy.size() > copy.start
            } else if self.rule.today || !self.rule.has(Clause::Root) {
                copy.size() > 0
            } else {
                self.verdict(log.agent).is_some_and(|v| v.says(log.inc).is_some())
            };
            let copy = if self.rule.has(Clause::Tail) { copy } else { self.signed.get(log).unwrap_or(copy) };
            if counts && copy.size() > 0 {
                (log, copy.size(), copy.link(copy.size())).hash(&mut sum);
            }
        }
        if self.rule.has(Clause::Evidence) {
            self.facts.forked.hash(&mut sum);
        }
        if self.rule.has(Clause::EventRoot) {
            self.facts.cuts.hash(&mut sum);
            self.facts.pruned.hash(&mut sum);
        }
        self.facts.closings.hash(&mut sum);
        let root = sum.finish();
        self.root.set(Some(root));
        root
    }

    /// The heads that count, by the definition and from scratch, with the facts: what the root has to stand for.
    pub fn meaning(&self) -> u64 {
        if let Some(meaning) = self.meaning.get() {
            return meaning;
        }
        let mut sum = DefaultHasher::new();
        let agents: Set<u8> = self.copies.keys().map(|log| log.agent).collect();
        for agent in agents {
            let verdict = Verdict::judge(self.rule, agent, &self.copies, &self.facts);
            for (log, copy) in self.copies.iter().filter(|(log, _)| log.agent == agent) {
                if log.events && copy.size() > copy.start || !log.events && verdict.says(log.inc).is_some() {
                    (log, copy.size(), copy.link(copy.size())).hash(&mut sum);
                }
            }
        }
        let Facts { forked, cuts, pruned, closings } = &self.facts;
        (forked, cuts, pruned, closings).hash(&mut sum);
        let meaning = sum.finish();
        self.meaning.set(Some(meaning));
        meaning
    }

    fn unsettled(&self) {
        self.state.replace(None);
        self.root.set(None);
        self.meaning.set(None);
    }

    /// Clause 17.
    pub fn needed(&self, state: &State, (dot, tag): &Name) -> bool {
        if state.listed.get(dot).is_some_and(|by| by.iter().any(|(_, item)| item.tag == *tag)) {
            return true;
        }
        if self.dead(&dot.log) && !self.rule.has(Clause::Names) {
            return false;
        }
        if self.answered(dot) {
            return false;
        }
        let Some(closing) = self.facts.closings.get(&dot.log.agent) else { return true };
        closing.pins.keys().any(|pinned| {
            !pinned.events && !self.copies.contains_key(pinned) && !self.dead(pinned) && !self.closed(pinned)
        })
    }

    fn answered(&self, dot: &Dot) -> bool {
        let verdict = self.verdict(dot.log.agent);
        verdict.is_some_and(|v| v.answer(self.rule, dot.log.inc, dot.seq).next().is_some())
    }

    /// The sizes on which it rests that a name is not needed: those of the logs that answer for the dot.
    pub fn rests_on(&self, dot: &Dot) -> Vec<(Log, u16)> {
        let Some(verdict) = self.verdict(dot.log.agent) else { return vec![] };
        let answer = verdict.answer(self.rule, dot.log.inc, dot.seq);
        answer
            .map(|inc| Log::state(dot.log.agent, inc))
            .filter(|log| log.agent != self.agent)
            .map(|log| (log, self.copies[&log].size()))
            .collect()
    }

    /// Whether an entry that counts rests on a longer copy of a log than is here.
    pub fn incomplete(&self) -> bool {
        self.verdicts.iter().any(|(agent, verdict)| {
            verdict.counts.iter().any(|says| {
                let entries = &self.copies[&Log::state(*agent, says.inc)].entries;
                entries.iter().flat_map(|entry| &entry.cites).any(|(log, size)| {
                    !self.dead(log)
                        && self.closed_at(log) < *size
                        && self.copies.get(log).is_none_or(|copy| copy.size() < *size)
                })
            })
        })
    }

    /// What others are shown of a log: of own ones what is signed.
    pub fn offer(&self, log: &Log) -> Option<&Copy> {
        self.signed.get(log).or_else(|| self.copies.get(log)).filter(|copy| copy.size() > 0)
    }

    pub fn sign(&mut self) {
        self.signed.clear();
        self.unsettled();
    }

    /// Whether evidence about the log would say anything here.
    pub fn accepts_forks(&self, log: &Log) -> bool {
        let departed = self.departed(log.agent) && self.rule.has(Clause::PinFork);
        !self.dead(log) && !departed
    }

    fn refuses(&self, log: &Log) -> bool {
        if log.agent == self.agent || self.limits == 0 {
            return false;
        }
        if self.limits == 1 {
            return log.inc.is_multiple_of(2);
        }
        let range = Log::state(log.agent, 0)..=Log::state(log.agent, u16::MAX);
        !log.events && !self.copies.contains_key(log) && self.copies.range(range).count() >= 2
    }

    /// The size beyond which nothing of the log counts.
    fn limit(&self, log: &Log) -> Option<u16> {
        if let Some(closing) = self.facts.closings.get(&log.agent) {
            if let Some(pin) = closing.pins.get(log) {
                return Some(pin.size);
            }
            if self.rule.has(Clause::PinFork) {
                return None;
            }
        }
        self.facts.cuts.get(log).map(|cut| cut.end)
    }

    /// The first entry that is needed to hold a copy in its size; none if it cannot be held in it.
    fn start_of(&self, log: &Log, copy: &Copy) -> Option<u16> {
        let size = copy.size();
        let mut floor = self.facts.pruned_below(log);
        let closing = self.facts.closings.get(&log.agent);
        if let Some(pin) = closing.and_then(|closing| closing.pins.get(log)) {
            if self.rule.has(Clause::Exact) && (size, copy.link(size)) != (pin.size, pin.link) {
                return None;
            }
            floor = floor.max(pin.floor);
        } else if let Some(cut) = self.facts.cuts.get(log) {
            floor = floor.max(cut.floor);
        }
        if floor >= size {
            return Some(size);
        }
        copy.base_at(size).map(|base| base.max(floor))
    }

    /// Takes in entries of a log.
    pub fn take(&mut self, log: Log, given: &Copy) -> Taken {
        if log.agent != self.agent {
            return self.take_any(log, given);
        }
        let mut taken = Taken::Nothing;
        self.noting(|replica| taken = replica.take_own(log, given));
        if taken == Taken::Changed {
            let known: Vec<Name> = self.reissue.dots.keys().copied().collect();
            for (dot, tag) in known {
                if self.closed_at(&dot.log) > dot.seq {
                    self.reissue.dots.remove(&(dot, tag));
                }
            }
        }
        taken
    }

    /// Clause 20.
    fn take_own(&mut self, log: Log, given: &Copy) -> Taken {
        let Some(signed) = self.signed.get(&log).cloned() else {
            let taken = self.take_any(log, given);
            self.outrun |= taken == Taken::Changed && log.inc == self.inc;
            return taken;
        };
        if signed.size() > 0
            && let Some(size) = signed.contradicts(given, self.rule.sight())
        {
            return Taken::Forked(size);
        }
        if given.size() <= signed.size() {
            return Taken::Nothing;
        }
        let tail = &self.copies[&log];
        let size = tail.size().min(given.size());
        // The owner still has what its unsigned entries pass (13), so it can compare at any size.
        let alike = given.known(size, Sight::Peaks).is_some_and(|root| root == tail.truth(size));
        self.outrun |= log.inc == self.inc;
        if alike && given.size() >= tail.size() {
            self.signed.remove(&log);
            self.take_any(log, given);
            return Taken::Changed;
        }
        if alike {
            let mut grown = signed;
            if given.start <= grown.size() {
                let known = (grown.size() - given.start) as usize;
                grown.entries.extend(given.entries[known..].iter().cloned());
                self.signed.insert(log, grown);
            }
            return Taken::Nothing;
        }
        // The tail gives way.
        let gone: Vec<_> = tail.entries.iter().filter(|e| e.seq >= signed.size()).cloned().collect();
        if !log.events {
            let named: Set<Name> = gone.iter().flat_map(|e| e.names().copied()).collect();
            for (dot, (item, _)) in listing(&gone) {
                if dot.log == log && !named.contains(&(dot, item.tag)) {
                    self.reissue.dots.insert((dot, item.tag), item);
                }
            }
            self.reissue.names.extend(named);
            for entry in &gone {
                self.reissue.couplings.extend(entry.couples());
            }
        }
        self.signed.remove(&log);
        if signed.size() > 0 {
            self.copies.insert(log, signed);
        } else {
            self.copies.remove(&log);
        }
        self.settle(log.agent);
        self.take_any(log, given);
        Taken::Changed
    }

    fn take_any(&mut self, log: Log, given: &Copy) -> Taken {
        if self.dead(&log) || self.refuses(&log) || given.size() == 0 {
            return Taken::Nothing;
        }
        let cut;
        let mut given = given;
        if let Some(limit) = self.limit(&log).filter(|limit| *limit < given.size()) {
            if limit <= given.start {
                return Taken::Nothing;
            }
            cut = given.first((limit - given.start) as usize);
            given = &cut;
        }
        let pinned = self.departed(log.agent) && self.rule.has(Clause::PinFork);
        if let Some(held) = self.copies.get(&log) {
            if let Some(size) = held.contradicts(given, self.rule.sight()) {
                return if pinned { Taken::Nothing } else { Taken::Forked(size) };
            }
            if given.size() <= held.size() {
                return Taken::Nothing;
            }
        }
        let mut changed = false;
        let mut rest = given.clone();
        if let Some(held) = self.copies.get_mut(&log).filter(|held| held.size() >= given.start) {
            let mut next = (held.size() - given.start) as usize;
            while given.entries.get(next).is_some_and(|entry| entry.base >= held.base()) {
                held.entries.push(Rc::clone(&given.entries[next]));
                if !log.events {
                    let base = held.base();
                    held.drop_to(base);
                }
                next += 1;
                changed = true;
            }
            rest = given.from(given.start + next as u16);
        }
        if !rest.entries.is_empty() || self.rule.today && given.entries.is_empty() {
            changed |= self.stage(log, rest);
        }
        if changed {
            self.changed(log);
            Taken::Changed
        } else {
            Taken::Nothing
        }
    }

    /// Entries that do not follow on what is held wait until they are a whole copy; true if they are.
    fn stage(&mut self, log: Log, rest: Copy) -> bool {
        let mut staged = match self.staged.remove(&log) {
            Some(staged)
                if staged.start == rest.start && staged.contradicts(&rest, Sight::Peaks).is_none() =>
            {
                staged
            }
            _ => rest.first(0),
        };
        let known = staged.entries.len().min(rest.entries.len());
        for entry in &rest.entries[known..] {
            if entry.base < staged.base() && !staged.entries.is_empty() {
                let mut again = staged.clone();
                again.drop_to(staged.size());
                staged = again;
            }
            staged.entries.push(Rc::clone(entry));
        }
        if let Some(limit) = self.limit(&log).filter(|limit| *limit < staged.size()) {
            staged.cut_to(limit);
        }
        let held = self.copies.get(&log).map_or(0, Copy::size);
        let mut whole = self.start_of(&log, &staged).is_some_and(|start| staged.start <= start);
        if self.rule.today && !log.events {
            whole &= !staged.entries.is_empty();
            whole |= self.floors.get(&log).is_some_and(|floor| *floor >= staged.start);
        } else if !self.rule.has(Clause::Base) && !log.events {
            whole |= self.closed_at(&log) >= staged.start && !staged.entries.is_empty();
        }
        let useful =
            staged.size() > held && (self.rule.today || staged.size() > self.closed_at(&log) || log.events);
        if !whole || !useful {
            self.staged.insert(log, staged);
            return false;
        }
        if let Some(old) = self.copies.get(&log)
            && !staged.entries.is_empty()
            && staged.truth(old.size()) != old.link(old.size())
        {
            self.ghost.unseen.insert(log);
        }
        if !log.events {
            let base = staged.base();
            staged.drop_to(base);
        }
        self.copies.insert(log, staged);
        true
    }

    /// After a held copy changed.
    pub fn changed(&mut self, log: Log) {
        self.fit(log);
        if let Some(copy) = self.copies.get(&log) {
            let seen = self.ghost.seen.entry(log).or_default();
            *seen = copy.size().max(*seen);
        }
        self.settle(log.agent);
    }

    /// Cuts a held copy to what facts leave of it. If it lacks a part of that, it is not held (25, 28).
    fn fit(&mut self, log: Log) {
        let Some(mut copy) = self.copies.remove(&log) else { return };
        if let Some(limit) = self.limit(&log).filter(|limit| *limit < copy.size()) {
            self.signed.remove(&log);
            if limit < copy.start {
                return;
            }
            copy.cut_to(limit);
        }
        let facts = log.events || self.departed(log.agent);
        let start = if facts { self.start_of(&log, &copy) } else { Some(copy.start) };
        let Some(start) = start else {
            self.signed.remove(&log);
            self.staged.insert(log, copy);
            return;
        };
        if copy.start > start && self.rule.has(Clause::Window) {
            self.signed.remove(&log);
            return;
        }
        copy.drop_to(start);
        if copy.size() > copy.start || !facts {
            self.copies.insert(log, copy);
        } else {
            self.signed.remove(&log);
        }
    }

    /// Brings all copies of an agent's logs to the windows that the facts known here give.
    pub fn fit_all(&mut self, agent: u8) {
        let logs: Vec<Log> = self.copies.keys().filter(|log| log.agent == agent).copied().collect();
        for log in logs {
            self.fit(log);
        }
    }

    /// Judges an agent's logs anew, and drops those that do not count.
    pub fn settle(&mut self, agent: u8) {
        let verdict = Verdict::judge(self.rule, agent, &self.copies, &self.facts);
        for (inc, n) in &verdict.closed {
            let log = Log::state(agent, *inc);
            if self.ghost.seen.get(&log).is_some_and(|seen| seen <= n) {
                self.ghost.closed.insert(log);
            }
        }
        let seen = &self.ghost.seen;
        let (ghost_closed, reopened) = (&mut self.ghost.closed, &mut self.ghost.reopened);
        ghost_closed.retain(|log| {
            if log.agent != agent {
                return true;
            }
            let still = verdict.closed.get(&log.inc).is_some_and(|n| seen.get(log).is_none_or(|s| s <= n));
            if !still && log.inc >= verdict.dead {
                reopened.insert(agent);
            }
            still
        });
        self.verdicts.insert(agent, verdict);
        if !self.rule.today {
            let me = self.log();
            // What an own entry closes or kills stays until that entry is signed: it may get lost (13).
            let unsigned = agent == self.agent && self.signed.keys().any(|log| !log.events);
            let gone: Vec<Log> = self
                .copies
                .keys()
                .filter(|log| log.agent == agent && (!unsigned || log.events || self.departed(agent)))
                .filter(|log| self.dead(log) || !self.keep && **log != me && self.closed(log))
                .copied()
                .collect();
            for log in gone {
                self.copies.remove(&log);
                self.signed.remove(&log);
            }
            let gone: Vec<Log> = self.staged.keys().filter(|log| self.dead(log)).copied().collect();
            for log in gone {
                self.staged.remove(&log);
            }
        } else {
            for (inc, n) in &self.verdicts[&agent].closed {
                let floor = self.floors.entry(Log::state(agent, *inc)).or_default();
                *floor = (*n).max(*floor);
            }
        }
        self.unsettled();
    }

    pub fn settle_all(&mut self) {
        let agents: Set<u8> = self.copies.keys().chain(self.staged.keys()).map(|log| log.agent).collect();
        for agent in agents {
            self.settle(agent);
        }
    }

    /// Does something that may end own logs, and notes what was lost by it (21).
    fn noting(&mut self, step: impl FnOnce(&mut Self)) {
        let agent = self.agent;
        let own = |log: &&Log| log.agent == agent && !log.events;
        let alive: Vec<Log> = self.copies.keys().filter(own).filter(|log| !self.dead(log)).copied().collect();
        let (before, root) = (self.state(), self.root());
        let copies: Vec<(Log, Copy)> = alive.iter().map(|log| (*log, self.copies[log].clone())).collect();
        step(self);
        self.settle(agent);
        if self.root() == root || self.departed(agent) {
            return;
        }
        let dead: Vec<&Copy> =
            copies.iter().filter(|(log, _)| self.dead(log)).map(|(_, copy)| copy).collect();
        if dead.is_empty() {
            return;
        }
        let after = self.state();
        for (dot, item) in before.live.iter().filter(|(dot, _)| dot.log.agent == agent) {
            if after.live.get(dot) != Some(item) {
                self.reissue.dots.insert((*dot, item.tag), *item);
            }
        }
        for entry in dead.iter().flat_map(|copy| &copy.entries) {
            self.reissue.names.extend(entry.names().copied());
            self.reissue.couplings.extend(entry.couples());
        }
    }

    /// Takes in a fork of a state log, with the branches that are at hand.
    pub fn fork_state(&mut self, log: Log, branches: &[Copy]) -> bool {
        let departed = self.departed(log.agent) && self.rule.has(Clause::PinFork);
        if departed || self.facts.forked.contains(&log) {
            return false;
        }
        let mut new = false;
        self.noting(|replica| {
            new = replica.facts.fork(log, replica.rule);
            if new {
                replica.signed.remove(&log);
                replica.staged.remove(&log);
                if replica.rule.today || !replica.rule.has(Clause::Kill) {
                    replica.copies.remove(&log);
                }
            }
            replica.settle(log.agent);
        });
        if new && log.agent == self.agent {
            for branch in branches {
                let named: Set<Name> = branch.entries.iter().flat_map(|e| e.names().copied()).collect();
                for (dot, (item, _)) in listing(&branch.entries) {
                    if dot.log == log && !named.contains(&(dot, item.tag)) {
                        self.reissue.dots.insert((dot, item.tag), item);
                    }
                }
                self.reissue.names.extend(named);
                for entry in &branch.entries {
                    self.reissue.couplings.extend(entry.couples());
                }
            }
        }
        new
    }

    pub fn fork_events(&mut self, log: Log, cut: Cut) -> bool {
        if self.departed(log.agent) && self.rule.has(Clause::PinFork) || self.dead(&log) {
            return false;
        }
        let mut new = self.facts.cut(log, cut, self.rule);
        // A longer head contradicts one of the two in the evidence, so with that one it is evidence of its own base (25). That
        // is made where the copy would lack a part of its window without it.
        let head = self.offer(&log).filter(|copy| {
            let reaches = copy.size() > cut.end && copy.start <= cut.end;
            reaches && {
                let left = copy.first((cut.end - copy.start) as usize);
                self.start_of(&log, &left).is_none_or(|start| start < copy.start)
            }
        });
        if let Some(floor) = head.map(Copy::base).filter(|_| self.rule.has(Clause::Floor)) {
            new |= self.facts.cut(log, Cut { end: cut.end, floor }, self.rule);
        }
        if new {
            self.outrun |= log.agent == self.agent && log.inc == self.inc;
            self.staged.remove(&log);
            self.fit(log);
            self.settle(log.agent);
        }
        new
    }

    pub fn prune(&mut self, log: Log, below: u16) -> bool {
        let new = self.facts.prune(log, below);
        if new {
            self.staged
                .retain(|staged, _| !staged.events || staged.agent != log.agent || staged.inc >= log.inc);
            self.fit_all(log.agent);
            self.settle(log.agent);
        }
        new
    }

    pub fn close(&mut self, agent: u8, closing: &Closing) -> bool {
        let new = self.facts.close(agent, closing);
        if !new {
            return false;
        }
        if self.rule.has(Clause::PinFork) {
            self.facts.forked.retain(|log| log.agent != agent);
            self.facts.cuts.retain(|log, _| log.agent != agent);
        }
        if agent == self.agent {
            self.signed.clear();
        }
        // A pin may fall, so what is staged up to the one before is of no use, and what is held may be longer.
        self.verdicts.remove(&agent);
        self.fit_all(agent);
        self.settle(agent);
        new
    }

    /// A month passes: what means nothing goes. In today's rule the entries of retired logs are given up.
    pub fn month(&mut self) {
        if self.rule.today {
            let logs: Vec<Log> = self.copies.keys().filter(|log| !log.events).copied().collect();
            for log in logs {
                let counts = self.verdict(log.agent).is_some_and(|v| v.says(log.inc).is_some());
                let copy = self.copies.get_mut(&log).expect("a key of the map");
                if !counts && !copy.entries.is_empty() {
                    let size = copy.size();
                    copy.drop_to(size);
                }
            }
        } else {
            self.keep = false;
        }
        self.staged.clear();
        self.settle_all();
    }

    /// Drops one log of another agent, as a limit may.
    pub fn evict(&mut self, log: Log) {
        self.copies.remove(&log);
        self.staged.remove(&log);
        self.ghost.seen.remove(&log);
        self.settle(log.agent);
    }

    /// Drops all copies, and the facts or not. Own logs go too, so the writer needs a new incarnation.
    pub fn purge(&mut self, facts: bool) {
        let agents: Vec<u8> = self.verdicts.keys().copied().collect();
        let fresh = Self::new(self.rule, self.agent, self.inc);
        let old = std::mem::replace(self, fresh);
        self.keep = old.keep;
        self.limits = old.limits;
        self.met = false;
        if !facts {
            self.facts = old.facts;
        }
        for agent in agents {
            self.settle(agent);
        }
    }
}
