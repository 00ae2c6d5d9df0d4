//! How couplings came and went: the strongest ones at the end of a trace and those of some time before, each read at
//! several instants.
//!
//! Reading the last state at an earlier instant would count what had not happened yet, so the values of those instants
//! are read before the trace goes past them.

use std::collections::BTreeMap;

use consilience::CouplingRead;
use consilience::crdts::{Timestamp, Units};
use consilience::sync::AgentId;

use super::host;
use super::outcome::{Coupled, HALF_LIVES};

/// The couplings shown that are strongest at the end.
const STRONGEST: usize = 5;
/// And of the others, those that were strongest at the first reading.
const STRONGEST_ONCE: usize = 3;

/// The values of all couplings at one instant, by the agents' numbers.
type Values = BTreeMap<[u64; 2], Units>;

/// An instant, and the values there once they are known.
struct Reading {
    at: Timestamp,
    values: Option<Values>,
}

pub(crate) struct History {
    numbers: BTreeMap<AgentId, u64>,
    end: Timestamp,
    readings: [Reading; HALF_LIVES.len()],
}

impl History {
    /// Of a trace by these agents that ends at `end`.
    pub(crate) fn new(agents: impl Iterator<Item = u64>, end: Timestamp, half_life_ms: u64) -> Self {
        let readings = HALF_LIVES.map(|half_lives| {
            let distance = half_life_ms.saturating_mul(u64::from(half_lives.unsigned_abs()));
            let at = if half_lives < 0 {
                Timestamp::from_millis(end.as_millis().saturating_sub(distance))
            } else {
                end.saturating_add_millis(distance)
            };
            Reading { at, values: None }
        });
        Self { numbers: agents.map(|agent| (host::id_of(agent), agent)).collect(), end, readings }
    }

    /// To be called before each event with its instant, and with the couplings as they are.
    pub(crate) fn keep(&mut self, now: Timestamp, couplings: CouplingRead<'_>) {
        for reading in &mut self.readings {
            if reading.values.is_none() && reading.at < now {
                reading.values = Some(values(&self.numbers, couplings, reading.at));
            }
        }
    }

    /// The couplings that are strongest at the end, when `couplings` is the last state, and others that once were.
    pub(crate) fn strongest(mut self, couplings: CouplingRead<'_>) -> (Vec<Coupled>, Vec<Coupled>) {
        let last = values(&self.numbers, couplings, self.end);
        // No event is behind these instants.
        self.keep(Timestamp::MAX, couplings);
        let readings = self.readings.map(|reading| reading.values.unwrap_or_default());
        let now: Vec<[u64; 2]> = ranked(&last).take(STRONGEST).collect();
        let [first, ..] = &readings;
        let once = ranked(first).filter(|agents| !now.contains(agents)).take(STRONGEST_ONCE).collect();
        let coupled = |all: Vec<[u64; 2]>| {
            let value = |values: &Values, agents| values.get(&agents).copied().unwrap_or(Units::ZERO);
            let coupled = all.into_iter().map(|agents| Coupled {
                agents,
                values: readings.each_ref().map(|values| value(values, agents)),
            });
            coupled.collect()
        };
        (coupled(now), coupled(once))
    }
}

fn values(numbers: &BTreeMap<AgentId, u64>, couplings: CouplingRead<'_>, at: Timestamp) -> Values {
    let all = couplings.sum().into_iter().flat_map(|sum| sum.iter(at));
    let numbered = all.filter_map(|(pair, value)| {
        let [one, other] = host::agents_of(pair)?;
        let (one, other) = (*numbers.get(&one)?, *numbers.get(&other)?);
        Some(([one.min(other), one.max(other)], value))
    });
    numbered.collect()
}

/// Pairs by their value, the strongest first. Equally strong ones are in the order of their numbers.
fn ranked(values: &Values) -> impl Iterator<Item = [u64; 2]> {
    let mut values: Vec<([u64; 2], Units)> = values.iter().map(|(pair, value)| (*pair, *value)).collect();
    values.sort_by(|(_, one), (_, other)| other.cmp(one));
    values.into_iter().map(|(pair, _)| pair)
}
