//! The replay: events happen at their replicas, frames fly, replicas repair one another, and in the end all are
//! compared. One thread; everything but wall time follows from the trace, the options and the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use consilience::crdts::Timestamp;
use consilience::crdts::coupling::CouplingSchema;

use super::history::History;
use super::link::Network;
use super::options::Options;
use super::outcome::{AtReplica, Bytes, Outcome};
use super::plain;
use super::replica::Replica;
use super::stopwatch::Stopwatch;
use super::trace::{Change, Event, Trace};
use super::verdict::Digest;

/// Steps from one repair of a replica to its next.
const REPAIR_STEPS: u64 = 64;
/// States are encoded this many times in the course of a trace to find how large they were.
const SAMPLES: u64 = 256;
const DAY_MS: u64 = 86_400_000;

struct Mesh {
    replicas: Vec<Replica>,
    network: Network,
    bytes: Bytes,
    merges: Stopwatch,
}

/// Replays `trace`. `progress` is told how many events have happened. Errors if the library refused something.
pub(crate) fn replay(trace: &Trace, options: &Options, progress: &dyn Fn(u64)) -> Result<Outcome, String> {
    let half_life_ms = options.half_life_days * DAY_MS;
    let schema = CouplingSchema::with_half_life(half_life_ms).map_err(|error| error.to_string())?;
    let instants = trace.instants();
    let end = instants.last().copied().unwrap_or_default();
    let mut history = History::new(end, half_life_ms);
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let events = trace.events.len() as u64;
    let mut mesh = Mesh {
        replicas: (0..options.replicas).map(|_| Replica::new(schema)).collect(),
        network: Network::new(options, events),
        bytes: Bytes::default(),
        merges: Stopwatch::default(),
    };
    let sample_steps = (events / SAMPLES).max(1);
    let mut state_bytes = 0;

    for ((step, event), now) in (0_u64..).zip(&trace.events).zip(&instants) {
        mesh.deliver(step)?;
        history.keep(*now, &mesh.replicas[0].coupling);
        let ordinal = counts.entry(event.agent).or_default();
        *ordinal += 1;
        let here = mesh.happen(step, event, *ordinal, *now)?;
        mesh.repair_in_turn(step, *now)?;
        if step % sample_steps == 0 {
            state_bytes = mesh.replicas[here].encode().len() as u64;
        }
        mesh.bytes.full_states += state_bytes * (options.replicas as u64 - 1);
        if step % 32 == 0 {
            progress(step);
        }
    }
    let rounds = mesh.settle(events, end)?;

    let first = &mesh.replicas[0];
    let (couplings, couplings_once) = history.strongest(&first.coupling);
    Ok(Outcome {
        events,
        agents: counts.len() as u64,
        keys_ever: keys_ever(&trace.events),
        keys: first.map.len() as u64,
        set_size: first.set.len() as u64,
        span: instants.first().map(|start| (*start, end)),
        couplings,
        couplings_once,
        couplings_alive: first.coupling.sum().iter(end).count() as u64,
        traffic: mesh.network.traffic(),
        bytes: mesh.bytes,
        rounds,
        plain: (options.replicas == 1).then(|| plain::matches(&trace.events, first)),
        replicas: mesh.replicas.iter().map(at_replica).collect(),
        merges: mesh.merges,
    })
}

impl Mesh {
    /// Makes an event happen where its agent lives, and tells all peers. Returns where that is.
    fn happen(&mut self, step: u64, event: &Event, ordinal: u64, now: Timestamp) -> Result<usize, String> {
        let count = self.replicas.len();
        let here = usize::try_from(event.agent % count as u64).map_err(|error| error.to_string())?;
        let frame: Rc<[u8]> = self.replicas[here].play(event, ordinal, now)?.into();
        for peer in (0..count).filter(|peer| *peer != here) {
            self.bytes.changes += frame.len() as u64;
            self.network.send(step, here, peer, &frame);
        }
        Ok(here)
    }

    /// Hands over what arrives at `step`.
    fn deliver(&mut self, step: u64) -> Result<(), String> {
        while let Some(arrival) = self.network.arrival(step) {
            let answer = self.replicas[arrival.to].receive(&arrival.bytes, &mut self.merges)?;
            if let Some(answer) = answer {
                self.bytes.confirmations += answer.len() as u64;
                self.network.send(step, arrival.to, arrival.from, &answer.into());
            }
        }
        Ok(())
    }

    /// Lets the replica repair whose turn it is; the turns are spread evenly.
    fn repair_in_turn(&mut self, step: u64, now: Timestamp) -> Result<(), String> {
        let count = self.replicas.len() as u64;
        for (number, replica) in (0_u64..).zip(0..self.replicas.len()) {
            if step % REPAIR_STEPS == (number * REPAIR_STEPS) / count {
                self.repair(step, replica, now)?;
            }
        }
        Ok(())
    }

    /// Sends what changed at `replica` to the next one on a ring. That is enough to bring everything everywhere, since
    /// what a replica has merged is among what changed there. Returns whether there was anything.
    fn repair(&mut self, step: u64, replica: usize, now: Timestamp) -> Result<bool, String> {
        let next = (replica + 1) % self.replicas.len();
        if next == replica {
            return Ok(false);
        }
        let Some(frame) = self.replicas[replica].repair(now)? else {
            return Ok(false);
        };
        self.bytes.repairs += frame.len() as u64;
        self.network.send(step, replica, next, &frame.into());
        Ok(true)
    }

    /// The links heal, and replicas repair one another in rounds until nobody has anything to say. Returns the number
    /// of rounds in which somebody had; `None` if that did not end.
    fn settle(&mut self, step: u64, now: Timestamp) -> Result<Option<u64>, String> {
        self.network.heal();
        let mut step = self.quiesce(step)?;
        // Once round the ring for the news, once more for its return to where it came from, and one round for luck.
        let rounds_max = 2 * self.replicas.len() as u64 + 1;
        for round in 0..=rounds_max {
            let mut spoken = false;
            for replica in 0..self.replicas.len() {
                spoken |= self.repair(step, replica, now)?;
            }
            if !spoken {
                return Ok(Some(round));
            }
            step = self.quiesce(step)?;
        }
        Ok(None)
    }

    /// Waits until no frame is in flight any more.
    fn quiesce(&mut self, step: u64) -> Result<u64, String> {
        let mut step = step;
        while let Some(due) = self.network.last_due() {
            // One by one: an answer may arrive before the last frame that is in flight now.
            while step <= due {
                self.deliver(step)?;
                step += 1;
            }
        }
        Ok(step)
    }
}

fn at_replica(replica: &Replica) -> AtReplica {
    let state = replica.encode();
    AtReplica { events: replica.events, state_bytes: state.len() as u64, digest: Digest::of(&state) }
}

fn keys_ever(events: &[Event]) -> u64 {
    let changes = events.iter().flat_map(|event| &event.changes);
    changes.map(Change::key).collect::<BTreeSet<_>>().len() as u64
}
