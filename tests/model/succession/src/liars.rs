//! Members that lie. They know one another's keys and entries, sign what they like in their own names, and hand any part
//! of any log to anybody.

use std::rc::Rc;

use crate::coverage::Feature;
use crate::facts::{Closing, Cut, Pin};
use crate::log::{Copy, Dot, Entry, Item, Log, Op};
use crate::replica::Replica;
use crate::world::{Branch, World, say};

impl World<'_> {
    pub fn add_liars(&mut self, count: usize) {
        for agent in (200..).take(count) {
            self.liars.insert(agent);
            for inc in 1..=3 {
                self.branches.push(Branch { log: Log::state(agent, inc), entries: vec![] });
            }
            self.branches.push(Branch { log: Log::events(agent, 1), entries: vec![] });
        }
    }

    /// One entry of a liar.
    pub fn lie(&mut self, honest: &[Replica]) {
        self.clock += 1;
        let at = self.tape.below(self.branches.len());
        let (log, seq) = (self.branches[at].log, self.branches[at].entries.len() as u16);
        let base = self.branches[at].entries.last().map_or(0, |entry| entry.base);
        let base = match self.tape.below(6) {
            0 | 1 => (base + self.tape.below(4) as u16).min(seq),
            2 if self.tape.percent(20) => self.tape.below(seq as usize + 1) as u16,
            _ => base,
        };
        let mut entry = Entry {
            log,
            seq,
            base,
            stamp: 0,
            ops: vec![],
            closures: vec![],
            last: 0,
            cites: vec![],
            link: 0,
            tag: 0,
            before: None,
        };
        for _ in 0..if log.events { 0 } else { 1 + self.tape.below(2) } {
            let other = &honest[self.tape.below(honest.len())];
            self.lie_in(&mut entry, other);
        }
        let entry = self.seal(entry, self.branches[at].entries.last().cloned());
        say!(self, "lie in branch {at} {entry:?}");
        self.branches[at].entries.push(entry);
    }

    fn lie_in(&mut self, entry: &mut Entry, other: &Replica) {
        let log = entry.log;
        match self.tape.below(9) {
            0..=2 => entry.ops.push(Op::Set(self.tape.below(3) as u8, self.nonce * 10 + 1, vec![])),
            3 => {
                let state = other.state();
                let live: Vec<(&Dot, &Item)> = state.live.iter().collect();
                if live.is_empty() {
                    return;
                }
                let (dot, item) = live[self.tape.below(live.len())];
                let end = self.tape.percent(50) || !self.liars.contains(&dot.log.agent);
                entry.ops.push(if end { Op::End(vec![(*dot, item.tag)]) } else { Op::Relist(*dot, *item) });
            }
            4 => {
                // Lists a dot of a lower log, rightly or not.
                let lower = |b: &&Branch| b.log.agent == log.agent && !b.log.events && b.log.inc <= log.inc;
                let all: Vec<Rc<Entry>> =
                    self.branches.iter().filter(lower).flat_map(|b| b.entries.iter().cloned()).collect();
                if all.is_empty() {
                    return;
                }
                let of = &all[self.tape.below(all.len())];
                for (place, op) in (0..).zip(&of.ops) {
                    if let Op::Set(key, value, _) = op {
                        let key = if self.tape.percent(20) { 2 } else { *key };
                        let item = Item { key, value: *value, stamp: of.stamp, tag: of.tag };
                        entry.ops.push(Op::Relist(Dot { log: of.log, seq: of.seq, place }, item));
                        break;
                    }
                }
            }
            5 => entry.ops.push(Op::Remove(self.tape.below(3) as u8, vec![])),
            6 if self.mode.finals && self.tape.percent(40) => {
                entry.last = self.tape.below(log.inc as usize + 1) as u16;
            }
            7 => {
                let until = self.clock + self.tape.below(120) as u32;
                entry.ops.push(Op::Couple(self.tape.below(3) as u8, self.tape.percent(50), until));
            }
            _ => {
                let closure = (self.tape.below(log.inc as usize) as u16, 1 + self.tape.below(5) as u16);
                if closure.0 > 0 && entry.closures.iter().all(|(inc, _)| *inc != closure.0) {
                    entry.closures.push(closure);
                }
            }
        }
    }

    /// A liar begins a second history of a log.
    pub fn fork_branch(&mut self) {
        let at = self.tape.below(self.branches.len());
        let (log, entries) = (self.branches[at].log, self.branches[at].entries.clone());
        say!(self, "fork of branch {at} at {}", entries.len());
        self.branches.push(Branch { log, entries });
    }

    /// Any part of any branch to anybody.
    pub fn hand_over(&mut self, to: &mut Replica) {
        let at = self.tape.below(self.branches.len());
        let (log, size) = (self.branches[at].log, self.branches[at].entries.len());
        let from = if self.tape.percent(50) { 0 } else { self.tape.below(size + 1) };
        let end = from + self.tape.below(size - from + 1);
        let (from, end) = if self.tape.percent(50) { (from, size) } else { (from, end) };
        if end == 0 {
            return;
        }
        if from > 0 || end < size {
            self.coverage.note(log.agent, Feature::Partial);
        }
        let part = Copy::part(&self.branches[at].entries, from, end);
        let taken = self.deliver(to, log, &part, &part);
        say!(self, "branch {at} {log:?} [{from},{end}) to {}: {taken:?}", to.agent);
        self.note_reopened(to);
    }

    /// Evidence against a liar's event log, at the first difference or above it.
    pub fn lie_evidence(&mut self, to: &mut Replica) {
        let at = self.tape.below(self.branches.len());
        let log = self.branches[at].log;
        let others = (0..self.branches.len()).filter(|i| *i != at && self.branches[*i].log == log);
        let others: Vec<usize> = others.collect();
        if others.is_empty() {
            return;
        }
        let other = others[self.tape.below(others.len())];
        let (a, b) = (&self.branches[at].entries, &self.branches[other].entries);
        let least = a.iter().zip(b).position(|(a, b)| a.link != b.link);
        let Some(least) = least else { return };
        let most = a.len().min(b.len());
        if !log.events {
            to.fork_state(log, &[]);
            return;
        }
        let size = least + 1 + self.tape.below(most - least);
        let (i, j) = (size + self.tape.below(a.len() - size + 1), size + self.tape.below(b.len() - size + 1));
        let floor = a[i - 1].base.max(b[j - 1].base);
        let new = to.fork_events(log, Cut { end: size as u16 - 1, floor });
        say!(self, "evidence {log:?} cut {} floor {floor} to {}: {new}", size - 1, to.agent);
    }

    /// A liar gives up events, or departs with pins of its choice, differently to everybody.
    pub fn lie_facts(&mut self, honest: &[Replica], to: &mut Replica) {
        let agents: Vec<u8> = self.liars.iter().copied().collect();
        let liar = agents[self.tape.below(agents.len())];
        if self.tape.percent(50) {
            let below = 1 + self.tape.below(6) as u16;
            let inc = 1 + self.tape.below(3) as u16;
            let new = to.prune(Log::events(liar, inc), below);
            say!(self, "liar {liar} prunes below {below} at {}: {new}", to.agent);
            return;
        }
        // A liar with the right to remove others pins what it has seen of them.
        let agent = if self.tape.percent(70) { liar } else { honest[self.tape.below(honest.len())].agent };
        let mut closing = Closing::default();
        let mut pin = |log: Log, copy: &Copy, size: u16| {
            if let Some(base) = copy.base_at(size) {
                closing.pins.insert(log, Pin { size, link: copy.link(size), floor: base });
            }
        };
        if agent == liar {
            for at in 0..self.branches.len() {
                let (log, entries) = (self.branches[at].log, &self.branches[at].entries);
                if log.agent == agent && !entries.is_empty() && self.tape.percent(70) {
                    let copy = Copy::part(entries, 0, entries.len());
                    pin(log, &copy, 1 + self.tape.below(entries.len()) as u16);
                }
            }
        } else {
            let of = &honest[self.tape.below(honest.len())];
            for (log, copy) in &of.copies {
                let Some(copy) = of.offer(log).filter(|_| log.agent == agent).map(|_| copy) else { continue };
                if self.tape.percent(70) && !copy.entries.is_empty() && !of.signed.contains_key(log) {
                    let below = self.tape.below(copy.entries.len()) as u16;
                    pin(*log, copy, copy.size() - below);
                }
            }
        }
        let new = to.close(agent, &closing);
        say!(self, "liar {liar} closes {agent} at {} with {:?}: {new}", to.agent, closing.pins);
        self.departures.entry(agent).or_default().by_liar = true;
    }
}
