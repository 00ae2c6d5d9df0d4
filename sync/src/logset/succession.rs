//! Which of an agent's logs in a topic count.
//!
//! An agent that starts without storage, from a backup or after a fork goes on in a log of a later incarnation, and
//! *closes* the earlier ones once it has taken their content over: a [`Closure`] in an entry of the later log names the
//! earlier one and how many of its entries were seen. The rules (`docs/decisions/succession.md` argues them):
//!
//! - a log counts if it is held, is not forked, is not dead, and no log that counts retains a closure of it that covers
//!   its size;
//! - a log is dead if it lies below the agent's latest forked log, or below the *final* incarnation that a log which counts
//!   names.
//!
//! So what counts follows from the retained entries of the logs that count and from the evidence of forks, latest
//! incarnation first, and from nothing else: not from the order in which entries came, not from time, and not from the
//! logs that somebody has kept. A log that does not count may be dropped at any time.
//!
//! Event logs are not closed: an event log is dead if it lies below the one that the agent's word on
//! [given up events](crate::Pruned) names, and counts else.
//!
//! The invariant: after each call that changes a log, every slot of its succession says whether it counts.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use super::LogSet;
use super::slot::Slot;
use crate::identity::{AgentId, Incarnation, LogId, LogKind, LogOpening, Topic};

/// Logs of one agent and kind in one topic.
pub(super) type Family = (AgentId, Topic, LogKind);

/// The logs of a family that are held.
#[derive(Clone, Debug, Default)]
pub(super) struct Succession {
    logs: BTreeMap<Incarnation, LogId>,
    /// Logs below are dead.
    alive_from: Option<Incarnation>,
}

impl LogSet {
    /// The closures that the retained entries of a state log make, the greatest of each incarnation and ascending, and the
    /// incarnation below which they end all; whether the log counts or not.
    #[must_use]
    pub fn closures(&self, log: &LogId) -> (&[(Incarnation, u64)], Option<Incarnation>) {
        self.slots.get(log).map_or((&[], None), |slot| slot.succession.statements.get())
    }

    /// Notes that a log is held, which does not count yet.
    pub(super) fn enter_succession(&mut self, log: &LogId) {
        let Some(whose) = self.succession_of(log) else { return };
        let Some(incarnation) = self.log(log).map(|log| log.opening().incarnation) else { return };
        self.successions.entry(whose.clone()).or_default().logs.insert(incarnation, *log);
        self.decide_all(&whose);
    }

    /// Notes that the local writer of a state log has said its content again in a log of a lower incarnation, because this
    /// one was begun while the clock was far ahead: others take it only when its time has come, and nothing follows on it
    /// before. A lower incarnation cannot close it, so its owner gives it up: nothing of it counts here any more, and it is
    /// dropped. Nothing happens if the log is not a local writer's state log.
    pub fn abandon(&mut self, log: &LogId) {
        let Some(slot) = self.slots.get_mut(log).filter(|slot| slot.local) else { return };
        if slot.log.opening().kind != LogKind::State {
            return;
        }
        slot.is_left = true;
        slot.succession.is_abandoned = true;
        if let Some(whose) = self.succession_of(log) {
            self.decide_all(&whose);
        }
        self.queue(log);
    }

    /// Notes that a log is not held any more.
    pub(super) fn leave_succession(&mut self, opening: &LogOpening) {
        let whose = family(opening);
        let Some(succession) = self.successions.get_mut(&whose) else { return };
        succession.logs.remove(&opening.incarnation);
        if succession.logs.is_empty() {
            self.successions.remove(&whose);
        } else {
            self.decide_all(&whose);
        }
    }

    fn succession_of(&self, log: &LogId) -> Option<Family> {
        self.log(log).map(|log| family(log.opening()))
    }

    /// Whether a log would be dead if it were held.
    pub(super) fn is_dead(&self, opening: &LogOpening) -> bool {
        // Looked at for logs that are not held, so not often enough for a look-up without a copy of the topic.
        let succession = self.successions.get(&family(opening));
        succession.is_some_and(|succession| succession.alive_from > Some(opening.incarnation))
    }

    /// Below which number later incarnations that count have closed a log that is not held.
    pub(super) fn closed_below(&self, opening: &LogOpening) -> u64 {
        let succession = self.successions.get(&family(opening));
        let later = succession.into_iter().flat_map(|succession| {
            succession.logs.range((Bound::Excluded(opening.incarnation), Bound::Unbounded))
        });
        let closing = later.filter_map(|(_, log)| self.slots.get(log)).filter(|slot| slot.answers());
        closing.map(|slot| slot.succession.statements.closes(opening.incarnation)).max().unwrap_or(0)
    }

    /// Decides whether a log counts that has changed, and the logs on which that has a bearing.
    pub(super) fn decide(&mut self, log: &LogId) {
        let Some(slot) = self.slots.get_mut(log) else { return };
        if slot.log.opening().kind != LogKind::State {
            return;
        }
        // The common case: a log that says nothing of others, of which others say nothing new.
        let said = slot.refresh_statements();
        if !said && slot.succession.standing == slot.standing_now() && slot.facts.forks.is_none() {
            return;
        }
        let Some(whose) = self.succession_of(log) else { return };
        self.decide_all(&whose);
    }

    /// Decides which earlier logs a fact about this one has ended.
    pub(super) fn decide_earlier(&mut self, log: &LogId) {
        if let Some(whose) = self.succession_of(log) {
            self.decide_all(&whose);
        }
    }

    /// Takes in that entries of a local writer's log are signed now, which may have closed others.
    pub(super) fn settle_closures(&mut self, log: &LogId) {
        let closes = self.slots.get(log).is_some_and(|slot| slot.log.closes());
        if let Some(whose) = self.succession_of(log).filter(|_| closes) {
            self.decide_all(&whose);
        }
    }

    /// Decides which logs of a succession count, latest incarnation first: each depends on later ones alone.
    fn decide_all(&mut self, whose: &Family) {
        let Some(succession) = self.successions.get_mut(whose) else { return };
        let mut latest = succession.logs.iter().rev();
        let ends = latest.find(|(_, log)| self.slots.get(*log).is_some_and(Slot::ends_earlier));
        let mut alive_from = ends.map(|(incarnation, _)| *incarnation);
        let mut closed: BTreeMap<Incarnation, u64> = BTreeMap::new();
        let mut changed = Vec::new();
        let mut is_settled = true;
        for (incarnation, log) in succession.logs.iter().rev() {
            let Some(slot) = self.slots.get_mut(log) else { continue };
            let closed_below = closed.get(incarnation).copied().unwrap_or(0);
            slot.succession.closed_below = if slot.succession.is_abandoned { u64::MAX } else { closed_below };
            slot.succession.dead = alive_from > Some(*incarnation);
            let standing = slot.standing_now();
            if standing != slot.succession.standing || is_settled != slot.succession.is_settled {
                slot.succession.standing = standing;
                slot.succession.is_settled = is_settled;
                changed.push(*log);
            }
            is_settled &= !slot.says_unsigned();
            if slot.answers() {
                for (target, below) in &slot.succession.statements.closures {
                    let most = closed.entry(*target).or_default();
                    *most = (*below).max(*most);
                }
                alive_from = alive_from.max(slot.succession.statements.last_final);
            }
        }
        succession.alive_from = alive_from;
        for log in changed {
            self.queue(&log);
        }
    }
}

fn family(opening: &LogOpening) -> Family {
    (opening.agent, opening.topic.clone(), opening.kind)
}
