//! What is known for ever of logs and agents: forks, pruned events, departures. Each kind joins as a lattice.

use std::collections::{BTreeMap as Map, BTreeSet as Set};

use crate::log::Log;
use crate::rule::{Clause, Rule};

/// Evidence about an event log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Cut {
    /// The events below this one count.
    pub end: u16,
    /// Events below this one are not needed: the greater base of the two heads.
    pub floor: u16,
}

impl Cut {
    pub fn join(&mut self, other: Self, rule: Rule) {
        if rule.has(Clause::Floor) {
            self.end = self.end.min(other.end);
            self.floor = self.floor.max(other.floor);
        } else if (other.end, other.floor) < (self.end, self.floor) {
            *self = other;
        }
    }
}

/// The head at which a closing pins a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pin {
    pub size: u16,
    pub link: u64,
    /// The greatest base of all heads that closings pinned.
    pub floor: u16,
}

/// A departure: what counts of an agent.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Closing {
    pub pins: Map<Log, Pin>,
}

impl Closing {
    pub fn join(&mut self, other: &Self) {
        self.pins.retain(|log, _| other.pins.contains_key(log));
        for (log, pin) in &mut self.pins {
            let theirs = other.pins[log];
            let floor = pin.floor.max(theirs.floor);
            *pin = Pin { floor, ..(*pin).min(theirs) };
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Forked state logs: of each agent the highest (without `Kill`, and in today's rule, all).
    pub forked: Set<Log>,
    pub cuts: Map<Log, Cut>,
    /// By agent: all event logs of earlier incarnations are given up, and of this one the events below a number.
    pub pruned: Map<u8, (u16, u16)>,
    pub closings: Map<u8, Closing>,
}

impl Facts {
    /// Takes in a fork of a state log; false if it says nothing new.
    pub fn fork(&mut self, log: Log, rule: Rule) -> bool {
        if rule.today || !rule.has(Clause::Kill) {
            return self.forked.insert(log);
        }
        if self.forked_inc(log.agent).is_some_and(|known| known >= log.inc) {
            return false;
        }
        self.forked.retain(|known| known.agent != log.agent);
        self.forked.insert(log)
    }

    /// The highest incarnation of which a fork is known.
    pub fn forked_inc(&self, agent: u8) -> Option<u16> {
        self.forked.range(Log::state(agent, 0)..=Log::state(agent, u16::MAX)).next_back().map(|log| log.inc)
    }

    pub fn cut(&mut self, log: Log, cut: Cut, rule: Rule) -> bool {
        let before = self.cuts.get(&log).copied();
        self.cuts.entry(log).or_insert(cut).join(cut, rule);
        before != self.cuts.get(&log).copied()
    }

    pub fn prune(&mut self, log: Log, below: u16) -> bool {
        let known = self.pruned.entry(log.agent).or_insert((0, 0));
        let new = (log.inc, below) > *known;
        if new {
            *known = (log.inc, below);
            self.cuts.retain(|cut, _| cut.agent != log.agent || cut.inc >= log.inc);
        }
        new
    }

    /// The events of a log below this number are given up by a fact.
    pub fn pruned_below(&self, log: &Log) -> u16 {
        match self.pruned.get(&log.agent) {
            Some((inc, _)) if *inc > log.inc && log.events => u16::MAX,
            Some((inc, below)) if *inc == log.inc && log.events => *below,
            _ => 0,
        }
    }

    pub fn close(&mut self, agent: u8, closing: &Closing) -> bool {
        let Some(known) = self.closings.get_mut(&agent) else {
            self.closings.insert(agent, closing.clone());
            return true;
        };
        let before = known.clone();
        known.join(closing);
        *known != before
    }
}
