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

use super::LogSet;
use super::statements::Restated;
use crate::identity::{AgentId, Incarnation, LogId, LogKind, LogOpening, Topic};
use crate::log::Log;
use consilience_base::planted::{Fault, planted};

/// Logs of one agent and kind in one topic.
pub(super) type Family = (AgentId, Topic, LogKind);

/// The logs of a family that are held.
#[derive(Clone, Debug, Default)]
pub(super) struct Succession {
    /// Ascending. Nearly always there is one: a tree would have room for eleven.
    logs: Vec<(Incarnation, LogId)>,
    /// Logs below are dead.
    alive_from: Option<Incarnation>,
    /// How many bytes of ranges came for them, refused ones included; and how many dots a consumer had to look at again
    /// because of statements on one another.
    received: u64,
    looked_at: u64,
}

/// So many dots are looked at again before the bytes of an agent's logs in a topic have to pay for it, a byte each. An honest
/// agent that takes its earlier logs over lists each of their dots in more than twenty bytes.
const DOTS_AHEAD: u64 = 1 << 16;

impl LogSet {
    /// The closures that the retained entries of a state log make, the greatest of each incarnation and ascending; whether
    /// the log counts or not.
    pub fn closures(&self, log: &LogId) -> impl Iterator<Item = (Incarnation, u64)> {
        self.slots.get(log).into_iter().flat_map(|slot| slot.succession.statements().closures())
    }

    /// The greatest closure of an earlier incarnation that the retained entries of a state log make; 0 if there is none.
    #[must_use]
    pub fn closed_below(&self, log: &LogId, incarnation: Incarnation) -> u64 {
        self.slots.get(log).map_or(0, |slot| slot.succession.statements().closed_below(incarnation))
    }

    /// The incarnation below which the retained entries of a state log end all logs of its agent.
    #[must_use]
    pub fn last_final(&self, log: &LogId) -> Option<Incarnation> {
        self.slots.get(log)?.succession.statements().last_final()
    }

    /// Notes that a consumer had to look at so many dots again because of what an agent's logs in a topic say of one another:
    /// a closure of few bytes may end, or bring back, the values that any number of entries list. Once that is more than the
    /// bytes of these logs pay for, further ranges of them are refused until they do.
    pub fn charge(&mut self, agent: &AgentId, topic: &Topic, dots: u64) {
        if let Some(succession) = self.successions.get_mut(&(*agent, topic.clone(), LogKind::State)) {
            succession.looked_at = succession.looked_at.saturating_add(dots);
        }
    }

    /// Notes that so many bytes came for a log; whether such bytes have paid for all the work that they caused.
    pub(super) fn pay(&mut self, log: &LogId, bytes: usize) -> bool {
        let Some(whose) = self.succession_of(log).filter(|(.., kind)| *kind == LogKind::State) else {
            return true;
        };
        let Some(succession) = self.successions.get_mut(&whose) else { return true };
        succession.received = succession.received.saturating_add(bytes as u64);
        let is_paid = succession.looked_at <= succession.received.saturating_add(DOTS_AHEAD);
        is_paid || planted(Fault::WorkIsNotPaid)
    }

    /// Notes that a log is held, which does not count yet.
    pub(super) fn enter_succession(&mut self, log: &LogId) {
        let Some(whose) = self.succession_of(log) else { return };
        let Some(incarnation) = self.log(log).map(|log| log.opening().incarnation) else { return };
        let logs = &mut self.successions.entry(whose.clone()).or_default().logs;
        if let Err(place) = logs.binary_search_by_key(&incarnation, |(known, _)| *known) {
            logs.reserve_exact(1);
            logs.insert(place, (incarnation, *log));
        }
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
        succession.logs.retain(|(incarnation, _)| *incarnation != opening.incarnation);
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
    pub(super) fn closed_by_later(&self, opening: &LogOpening) -> u64 {
        let logs = self.successions.get(&family(opening)).into_iter().flat_map(|succession| &succession.logs);
        let later = logs.filter(|(incarnation, _)| *incarnation > opening.incarnation);
        let closing = later.filter_map(|(_, log)| self.slots.get(log)).filter(|slot| slot.answers());
        closing.map(|slot| slot.succession.statements().closed_below(opening.incarnation)).max().unwrap_or(0)
    }

    /// Decides whether a log counts that has changed, and the logs on which that has a bearing.
    pub(super) fn decide(&mut self, log: &LogId) {
        let Some(slot) = self.slots.get_mut(log) else { return };
        if slot.log.opening().kind != LogKind::State {
            return;
        }
        let said = slot.refresh_statements();
        let is_new = slot.succession.standing != slot.standing_now() || slot.facts.forks.is_some();
        // The common case: a log that says nothing of others, of which others say nothing new.
        if !is_new && said.is_empty() {
            return;
        }
        let wide = is_new || said.last_final || slot.local;
        let Some(whose) = self.succession_of(log) else { return };
        if wide || self.close_again(&whose, said) {
            self.decide_all(&whose);
        }
    }

    /// Works out anew below which number some logs are closed; whether one of them counts now that did not, or the other
    /// way round. So closures of logs that are not held cost nothing, and of the others what there is to be compared.
    fn close_again(&mut self, whose: &Family, mut said: Restated) -> bool {
        let Some(succession) = self.successions.get(whose) else { return false };
        said.closures.sort_unstable();
        said.closures.dedup();
        for incarnation in said.closures {
            let place = succession.logs.partition_point(|(known, _)| *known < incarnation);
            let Some(((known, log), later)) =
                succession.logs.get(place..).and_then(|logs| logs.split_first())
            else {
                continue;
            };
            if *known != incarnation {
                continue;
            }
            let closed = later.iter().filter_map(|(_, log)| {
                let slot = self.slots.get(log).filter(|slot| slot.answers())?;
                Some(slot.succession.statements().closed_below(incarnation))
            });
            let closed_below = closed.max().unwrap_or(0);
            let Some(slot) = self.slots.get_mut(log) else { continue };
            slot.succession.closed_below = closed_below;
            if slot.standing_now() != slot.succession.standing {
                return true;
            }
        }
        false
    }

    /// The logs of lower incarnations of the same agent, topic and kind that are held.
    pub fn earlier(&self, log: &LogId) -> impl Iterator<Item = &Log> {
        let opening = self.log(log).map(Log::opening);
        let succession = opening.and_then(|opening| self.successions.get(&family(opening)));
        let earlier = succession.into_iter().flat_map(|succession| &succession.logs);
        let earlier = earlier.take_while(move |(_, earlier)| earlier != log);
        earlier.filter_map(|(_, earlier)| self.log(earlier))
    }

    /// Whether an earlier log of the same family is held.
    pub(super) fn has_earlier(&self, opening: &LogOpening) -> bool {
        let succession = self.successions.get(&family(opening));
        succession.is_some_and(|succession| {
            succession.logs.iter().any(|(earlier, _)| *earlier < opening.incarnation)
        })
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
        let ends = latest.find(|(_, log)| self.slots.get(log).is_some_and(|slot| slot.ends_earlier()));
        let mut alive_from = ends.map(|(incarnation, _)| *incarnation);
        let mut closed: BTreeMap<Incarnation, u64> = BTreeMap::new();
        let mut changed = Vec::new();
        let mut is_settled = true;
        for (incarnation, log) in succession.logs.iter().rev() {
            let Some(slot) = self.slots.get_mut(log) else { continue };
            let closed_below = closed.get(incarnation).copied().unwrap_or(0);
            slot.succession.closed_below = if slot.succession.is_abandoned { u64::MAX } else { closed_below };
            slot.succession.dead = alive_from > Some(*incarnation);
            if planted(Fault::ClosureIsFloor) {
                slot.log.raise_floor(closed_below);
            }
            let standing = slot.standing_now();
            if standing != slot.succession.standing || is_settled != slot.succession.is_settled {
                slot.succession.standing = standing;
                slot.succession.is_settled = is_settled;
                changed.push(*log);
            }
            is_settled &= !slot.says_unsigned();
            if slot.answers() {
                let statements = slot.succession.statements();
                let mut close = |target: Incarnation, below: u64| {
                    let most = closed.entry(target).or_default();
                    *most = below.max(*most);
                };
                // Those of logs that are not held say nothing here.
                if statements.closures_max() <= succession.logs.len() {
                    statements.closures().for_each(|(target, below)| close(target, below));
                } else {
                    let lower = succession.logs.iter().take_while(|(lower, _)| lower < incarnation);
                    lower.for_each(|(lower, _)| close(*lower, statements.closed_below(*lower)));
                }
                let last_final = statements.last_final().filter(|_| !planted(Fault::FinalEndsNothing));
                alive_from = alive_from.max(last_final);
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
