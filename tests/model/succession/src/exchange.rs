//! Two replicas meet: facts and ranges in any order, stopped anywhere.

use std::rc::Rc;

use crate::coverage::Feature;
use crate::facts::Cut;
use crate::log::{Copy, Log};
use crate::replica::{Replica, Taken};
use crate::world::World;

#[derive(Clone, Copy)]
enum Part {
    Fork(Log),
    Cut(Log),
    Pruned(u8),
    Closing(u8),
    Range(Log),
}

impl World<'_> {
    /// `to` learns from `from`, so much as a limit admits. True if anything changed.
    pub fn meet(&mut self, from: &mut Replica, to: &mut Replica, limit: Option<usize>) -> bool {
        if self.tape.percent(70) {
            from.sign();
        }
        let mut left = limit.unwrap_or(usize::MAX);
        let mut changed = false;
        let facts = &from.facts;
        let mut parts: Vec<Part> = facts.forked.iter().map(|log| Part::Fork(*log)).collect();
        parts.extend(facts.cuts.keys().map(|log| Part::Cut(*log)));
        parts.extend(facts.pruned.keys().map(|agent| Part::Pruned(*agent)));
        parts.extend(facts.closings.keys().map(|agent| Part::Closing(*agent)));
        parts.extend(from.copies.keys().map(|log| Part::Range(*log)));
        if limit.is_some() || self.tape.percent(50) {
            for i in (1..parts.len()).rev() {
                parts.swap(i, self.tape.below(i + 1));
            }
        }
        for part in parts {
            if left == 0 {
                break;
            }
            let new = match part {
                Part::Fork(log) => {
                    let new = to.fork_state(log, &[]);
                    self.note_fork(log, new);
                    new
                }
                Part::Cut(log) => {
                    from.facts.cuts.get(&log).copied().is_some_and(|cut| to.fork_events(log, cut))
                }
                Part::Pruned(agent) => {
                    let known = from.facts.pruned.get(&agent).copied();
                    known.is_some_and(|(inc, below)| to.prune(Log::events(agent, inc), below))
                }
                Part::Closing(agent) => {
                    let closing = from.facts.closings.get(&agent).cloned();
                    closing.is_some_and(|closing| to.close(agent, &closing))
                }
                Part::Range(log) => {
                    let sent = self.send(from, to, log, left);
                    left = left.saturating_sub(sent.saturating_sub(1));
                    sent > 0
                }
            };
            if new {
                left = left.saturating_sub(1);
                changed = true;
            }
        }
        if limit.is_none() && from.met {
            to.met = true;
        }
        self.note_reopened(from);
        self.note_reopened(to);
        changed
    }

    /// Sends of one log what the other lacks; gives how many entries changed anything, at least 1 if something did.
    fn send(&mut self, from: &mut Replica, to: &mut Replica, log: Log, left: usize) -> usize {
        let Some(offer) = from.offer(&log).cloned() else { return 0 };
        if to.dead(&log) {
            return 0;
        }
        let held = to.copies.get(&log).map_or(0, Copy::size);
        let staged = to.staged.get(&log).map_or(0, Copy::size);
        let known = held.max(staged).max(offer.start);
        let n = ((known - offer.start) as usize).saturating_add(left).min(offer.entries.len());
        if n < offer.entries.len() || offer.start > 0 && held < offer.start {
            self.coverage.note(log.agent, Feature::Partial);
        }
        let part = offer.first(n);
        let mine = to.offer(&log).cloned();
        // What is compared is the whole of it, as a head covers it.
        match self.deliver(to, log, &part, &offer) {
            Taken::Nothing => 0,
            Taken::Changed => n.saturating_sub((known - offer.start) as usize).max(1),
            Taken::Forked(_) => {
                let branches: Vec<Copy> = mine.into_iter().chain([offer]).collect();
                self.show_fork(from, log, &branches);
                1
            }
        }
    }

    /// Gives a part of a log to a replica; a fork that it shows becomes evidence there.
    pub fn deliver(&mut self, to: &mut Replica, log: Log, part: &Copy, whole: &Copy) -> Taken {
        let mut taken = to.take(log, part);
        if taken == Taken::Nothing {
            let held = to.offer(&log).filter(|_| to.accepts_forks(&log));
            if let Some(size) = held.and_then(|held| held.contradicts(whole, to.rule.sight())) {
                taken = Taken::Forked(size);
            }
        }
        if matches!(taken, Taken::Forked(_)) {
            let mine = to.offer(&log).cloned();
            let branches: Vec<Copy> = mine.into_iter().chain([whole.clone()]).collect();
            self.show_fork(to, log, &branches);
        }
        taken
    }

    /// Evidence from two branches. Of an event log it gives the least size at which they can be seen to differ, or, as the
    /// first evidence often does, a greater one.
    fn show_fork(&mut self, to: &mut Replica, log: Log, branches: &[Copy]) {
        if !log.events {
            let new = to.fork_state(log, branches);
            self.note_fork(log, new);
            return;
        }
        let [a, b] = branches else { return };
        let Some(least) = a.first_difference(b, to.rule.sight()) else { return };
        let most = a.contradicts(b, to.rule.sight()).unwrap_or(least);
        let size = if self.tape.percent(50) { least } else { most };
        to.fork_events(log, Cut { end: size - 1, floor: a.base().max(b.base()) });
    }

    fn note_fork(&mut self, log: Log, new: bool) {
        let other = |l: &Log| l.agent == log.agent && !l.events && l.inc != log.inc;
        let known = self.history.keys().any(other) || self.branches.iter().any(|b| other(&b.log));
        if new && known {
            self.coverage.note(log.agent, Feature::SuccessorForked);
        }
    }

    pub fn note_reopened(&mut self, replica: &mut Replica) {
        for agent in std::mem::take(&mut replica.ghost.reopened) {
            self.coverage.note(agent, Feature::TakenBack);
        }
    }

    /// Anybody relays a part of what somebody holds, from the middle or not to the end.
    pub fn relay(&mut self, of: &Replica, to: &mut Replica) {
        let logs: Vec<Log> = of.copies.keys().copied().collect();
        if logs.is_empty() {
            return;
        }
        let log = logs[self.tape.below(logs.len())];
        let Some(offer) = of.offer(&log).cloned() else { return };
        let from = offer.start + self.tape.below(offer.entries.len() + 1) as u16;
        let part = offer.from(from);
        let part = part.first(self.tape.below(part.entries.len() + 1));
        if part.entries.is_empty() {
            return;
        }
        if from > 0 || part.size() < offer.size() {
            self.coverage.note(log.agent, Feature::Partial);
        }
        debug_assert!(part.entries.iter().zip(part.start..).all(|(entry, seq)| Rc::clone(entry).seq == seq));
        self.deliver(to, log, &part, &part);
        self.note_reopened(to);
    }
}
