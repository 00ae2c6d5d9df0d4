//! How strongly agents are coupled at the end of a trace, and how strongly they were before.
//!
//! To read the last state at an earlier instant would count what had not happened yet. So somebody is asked when the trace
//! passes those instants.

use crate::process::control::Coupled;
use crate::replay::member::Member;
use crate::trace::Trace;

const DAY_MS: u64 = 86_400_000;

pub(crate) struct Readings([Reading; 2]);

struct Reading {
    /// The event before which it is taken.
    place: usize,
    /// How much is left at the instant of what there was at the last event before it.
    left: f64,
    /// Which process was asked, and the number of the question.
    asked: Option<(usize, u64)>,
}

impl Readings {
    /// Two half-lives and one before the end.
    pub(crate) fn new(trace: &Trace, half_life_days: u64) -> Self {
        let instants: Vec<u64> = trace.instants().iter().map(|instant| instant.as_millis()).collect();
        let end = instants.last().copied().unwrap_or(0);
        let half_life_ms = half_life_days * DAY_MS;
        Self([2, 1].map(|half_lives| {
            let at = end.saturating_sub(half_lives * half_life_ms);
            let place = instants.partition_point(|instant| *instant <= at);
            let last = place.checked_sub(1).map_or(at, |last| instants[last]);
            Reading { place, left: left(at - last, half_life_ms), asked: None }
        }))
    }

    /// Whether somebody is to be asked before this event.
    pub(crate) fn is_due(&self, place: usize) -> bool {
        self.0.iter().any(|reading| reading.place == place)
    }

    /// Notes who was asked before this event, and with which number.
    pub(crate) fn asked(&mut self, place: usize, asked: (usize, u64)) {
        for reading in self.0.iter_mut().filter(|reading| reading.place == place) {
            reading.asked = Some(asked);
        }
    }

    /// The couplings that the first process knows at the end, with what was answered before.
    pub(crate) fn couplings(&self, members: &[Member]) -> Vec<Coupled> {
        let mut couplings = members[0].status.couplings.clone();
        for (number, reading) in self.0.iter().enumerate() {
            let then = reading.asked.and_then(|(process, id)| members[process].couplings.get(&id));
            for coupled in &mut couplings {
                let value = then.and_then(|then| then.iter().find(|other| other.agents == coupled.agents));
                coupled.values[number] = value.map_or(0.0, |value| value.values[2] * reading.left);
            }
            // Those that are forgotten by now.
            for coupled in then.into_iter().flatten() {
                if couplings.iter().all(|other| other.agents != coupled.agents) {
                    let mut values = [0.0; 5];
                    values[number] = coupled.values[2] * reading.left;
                    couplings.push(Coupled { agents: coupled.agents, values });
                }
            }
        }
        couplings
    }
}

/// What is left of one after a time.
#[expect(clippy::cast_precision_loss, reason = "for people and plots")]
fn left(time_ms: u64, half_life_ms: u64) -> f64 {
    (-(time_ms as f64) / half_life_ms as f64).exp2()
}
