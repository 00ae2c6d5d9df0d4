//! Which logs of one agent count, and what they say of lower ones.
//!
//! The invariant: a verdict reads the held copies and facts of its agent, and nothing else.

use std::collections::BTreeMap as Map;

use crate::facts::Facts;
use crate::log::{Copy, Log};
use crate::rule::{Clause, Rule};

/// What a log that counts says of lower incarnations.
#[derive(Clone, Debug, Default)]
pub struct Says {
    pub inc: u16,
    pub size: u16,
    /// The first of the own dots that it answers for: 0, but for partial copies in today's rule.
    pub from: u16,
    pub last: u16,
    pub closures: Map<u16, u16>,
}

#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Logs below it are dead.
    pub dead: u16,
    /// Those that count, from the highest incarnation down.
    pub counts: Vec<Says>,
    /// The greatest n that a log that counts says of a lower one.
    pub closed: Map<u16, u16>,
}

impl Verdict {
    pub fn judge(rule: Rule, agent: u8, copies: &Map<Log, Copy>, facts: &Facts) -> Self {
        let mut verdict = Self::default();
        let pins = facts.closings.get(&agent);
        let departed = pins.is_some() && rule.has(Clause::PinFork);
        if rule.has(Clause::Kill) && !rule.today && !departed {
            verdict.dead = facts.forked_inc(agent).map_or(0, |inc| inc + 1);
        }
        for (log, copy) in copies.range(Log::state(agent, 0)..=Log::state(agent, u16::MAX)).rev() {
            let forked = !departed && facts.forked.contains(log);
            let unpinned =
                rule.has(Clause::Unpinned) && pins.is_some_and(|closing| !closing.pins.contains_key(log));
            if copy.size() == 0 || log.inc < verdict.dead || forked || unpinned {
                continue;
            }
            let closed = verdict.closed.get(&log.inc).is_some_and(|n| *n >= copy.size());
            if closed && rule.has(Clause::Counting) {
                continue;
            }
            let mut says = Says { inc: log.inc, size: copy.size(), ..Says::default() };
            if rule.today && copy.base() < copy.start {
                says.from = copy.start;
            }
            for entry in &copy.entries {
                for (inc, n) in &entry.closures {
                    if *inc < log.inc {
                        let known = says.closures.entry(*inc).or_default();
                        *known = (*known).max(*n);
                    }
                }
                if entry.last <= log.inc {
                    says.last = says.last.max(entry.last);
                }
            }
            for (inc, n) in &says.closures {
                let known = verdict.closed.entry(*inc).or_default();
                *known = (*known).max(*n);
            }
            if !rule.today {
                verdict.dead = verdict.dead.max(says.last);
            }
            if !closed {
                verdict.counts.push(says);
            }
        }
        verdict
    }

    pub fn says(&self, inc: u16) -> Option<&Says> {
        self.counts.iter().find(|says| says.inc == inc)
    }

    /// The incarnations that answer for a dot of this agent.
    pub fn answer(&self, rule: Rule, inc: u16, seq: u16) -> impl Iterator<Item = u16> + '_ {
        let own_final = rule.has(Clause::OwnFinal);
        self.counts
            .iter()
            .filter(move |says| {
                if says.inc == inc {
                    return seq >= says.from && seq < says.size;
                }
                let below = if own_final { inc < says.last } else { inc < self.dead };
                says.inc > inc && (below || says.closures.get(&inc).is_some_and(|n| *n > seq))
            })
            .map(|says| says.inc)
    }
}
