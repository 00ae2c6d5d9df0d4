//! How couplings came and went: the strongest ones at the end of a trace and those of some time before, each read at
//! several instants.
//!
//! Reading the last state at an earlier instant would count what had not happened yet, so the states of those instants
//! are kept.

use consilience::crdts::Timestamp;
use consilience::crdts::coupling::{Coupling, Units};

use super::outcome::{Coupled, HALF_LIVES};
use super::replica;

/// The couplings shown that are strongest at the end.
const STRONGEST: usize = 5;
/// And of the others, those that were strongest at the first reading.
const STRONGEST_ONCE: usize = 3;

/// An instant, and the state of then if it was kept.
struct Reading {
    at: Timestamp,
    then: Option<Coupling>,
}

pub(crate) struct History {
    end: Timestamp,
    readings: [Reading; HALF_LIVES.len()],
}

impl History {
    /// Of a trace that ends at `end`.
    pub(crate) fn new(end: Timestamp, half_life_ms: u64) -> Self {
        let readings = HALF_LIVES.map(|half_lives| {
            let distance = half_life_ms.saturating_mul(u64::from(half_lives.unsigned_abs()));
            let at = if half_lives < 0 {
                Timestamp::from_millis(end.as_millis().saturating_sub(distance))
            } else {
                end.saturating_add_millis(distance)
            };
            Reading { at, then: None }
        });
        Self { end, readings }
    }

    /// To be called before each event with its instant, and with the couplings as they are.
    pub(crate) fn keep(&mut self, now: Timestamp, coupling: &Coupling) {
        for reading in &mut self.readings {
            if reading.then.is_none() && reading.at < now {
                reading.then = Some(coupling.clone());
            }
        }
    }

    /// The couplings that are strongest at the end, when `coupling` is the state, and others that once were.
    pub(crate) fn strongest(&self, coupling: &Coupling) -> (Vec<Coupled>, Vec<Coupled>) {
        let now: Vec<&[u8]> = ranked(coupling, self.end).take(STRONGEST).collect();
        let [first, ..] = &self.readings;
        let once = ranked(first.then.as_ref().unwrap_or(coupling), first.at);
        let once: Vec<&[u8]> = once.filter(|key| !now.contains(key)).take(STRONGEST_ONCE).collect();
        (self.coupled(&now, coupling), self.coupled(&once, coupling))
    }

    fn coupled(&self, keys: &[&[u8]], last: &Coupling) -> Vec<Coupled> {
        let coupled = keys.iter().filter_map(|key| {
            let values = self.readings.each_ref().map(|reading| {
                let state = reading.then.as_ref().unwrap_or(last);
                state.sum().value(key, reading.at)
            });
            Some(Coupled { agents: replica::agents(key)?, values })
        });
        coupled.collect()
    }
}

/// Keys by their value at an instant, the strongest first. Equally strong ones are in the order of their keys.
fn ranked(coupling: &Coupling, at: Timestamp) -> impl Iterator<Item = &[u8]> {
    let mut values: Vec<(&[u8], Units)> = coupling.sum().iter(at).collect();
    values.sort_by(|(_, one), (_, other)| other.cmp(one));
    values.into_iter().map(|(key, _)| key)
}
