//! The fold, from scratch: what held copies and facts mean.

use std::collections::{BTreeMap as Map, BTreeSet as Set};

use crate::log::{Copy, Dot, Item, Log, Name, listing};
use crate::rule::{Clause, Rule};
use crate::verdict::Verdict;

/// A contribution: agent, key, and whether it weakens.
pub type Contribution = (u8, u8, bool);

#[derive(Clone, Default, Debug)]
pub struct State {
    pub live: Map<Dot, Item>,
    pub couplings: Map<Contribution, u32>,
    /// Of each event log its window and the root at its end.
    pub events: Map<Log, (u16, u16, u64)>,
    pub named: Set<Name>,
    /// Every listing of a log that counts: the incarnation that lists, and the item.
    pub listed: Map<Dot, Vec<(u16, Item)>>,
}

impl State {
    /// Whether what can be read is the same.
    pub fn reads_as(&self, other: &Self) -> bool {
        self.live == other.live && self.couplings == other.couplings && self.events == other.events
    }

    pub fn fold(rule: Rule, copies: &Map<Log, Copy>, verdicts: &Map<u8, Verdict>) -> Self {
        let mut state = Self::default();
        for (log, copy) in copies.iter().filter(|(log, _)| log.events) {
            let verdict = verdicts.get(&log.agent);
            let closed = verdict.is_some_and(|v| {
                v.dead > log.inc || v.closed.get(&log.inc).is_some_and(|n| *n >= copy.size())
            });
            if copy.size() > copy.start && (rule.has(Clause::EventsApart) || !closed) {
                state.events.insert(*log, (copy.start, copy.size(), copy.link(copy.size())));
            }
        }
        for (agent, verdict) in verdicts {
            for says in &verdict.counts {
                state.read(rule, *agent, says.inc, &copies[&Log::state(*agent, says.inc)]);
            }
        }
        for (dot, by) in &state.listed {
            let Some(verdict) = verdicts.get(&dot.log.agent) else { continue };
            let mut said: Option<Item> = None;
            let mut alike = true;
            for inc in verdict.answer(rule, dot.log.inc, dot.seq) {
                match (said, by.iter().find(|(lister, _)| *lister == inc)) {
                    (_, None) => alike &= !rule.has(Clause::Deny),
                    (None, Some((_, item))) => said = Some(*item),
                    (Some(known), Some((_, item))) => alike &= known == *item,
                }
            }
            if let (true, Some(item)) = (alike, said)
                && !state.named.contains(&(*dot, item.tag))
            {
                state.live.insert(*dot, item);
            }
        }
        state
    }

    /// Takes in the retained entries of a log that counts.
    fn read(&mut self, rule: Rule, agent: u8, inc: u16, copy: &Copy) {
        for (dot, (item, _)) in listing(&copy.entries) {
            self.listed.entry(dot).or_default().push((inc, item));
        }
        let mut stated: Map<(u8, bool), u32> = Map::new();
        for entry in &copy.entries {
            self.named.extend(entry.names().copied());
            stated.extend(entry.couples());
        }
        for ((key, weakens), until) in stated {
            let known = self.couplings.entry((agent, key, weakens)).or_insert(0);
            *known = if rule.has(Clause::Greatest) { until.max(*known) } else { *known + until };
        }
    }
}
