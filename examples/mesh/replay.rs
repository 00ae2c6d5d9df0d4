//! The replay: events happen at their replicas, frames fly, replicas repair one another, and in the end all are
//! compared. One thread; everything but wall time follows from the trace, the options and the seed.

use std::collections::{BTreeMap, BTreeSet};

use consilience::crdts::{CouplingSchema, Timestamp};

use super::history::History;
use super::host::{Host, HostConfig};
use super::link::{Arrival, Network};
use super::message::{Inbox, Message};
use super::options::Options;
use super::outcome::{AtReplica, Bytes, Outcome};
use super::plain::Plain;
use super::stopwatch::Stopwatch;
use super::trace::{Change, Event, Trace};

/// Steps from one repair of a replica to its next.
const REPAIR_STEPS: u64 = 64;
/// All that a replica holds is bundled this many times in the course of a trace to find how much it was.
const SAMPLES: u64 = 256;
const DAY_MS: u64 = 86_400_000;

struct Mesh {
    hosts: Vec<Host>,
    /// For each link what has arrived on it: by receiver and sender.
    inboxes: BTreeMap<(usize, usize), Inbox>,
    /// Messages sent so far.
    messages: u64,
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
    // By agent, how many events it has had.
    let mut counts: BTreeMap<u64, u64> = trace.events.iter().map(|event| (event.agent, 0)).collect();
    let mut history = History::new(counts.keys().copied(), end, half_life_ms);
    let events = trace.events.len() as u64;
    let config = |number| HostConfig { number, seed: options.seed, schema };
    let mut mesh = Mesh {
        hosts: (0..options.replicas as u64)
            .map(|number| Host::new(config(number)))
            .collect::<Result<_, _>>()?,
        inboxes: BTreeMap::new(),
        messages: 0,
        network: Network::new(options, events),
        bytes: Bytes::default(),
        merges: Stopwatch::default(),
    };
    let sample_steps = (events / SAMPLES).max(1);
    let mut state_bytes = 0;

    for ((step, event), now) in (0_u64..).zip(&trace.events).zip(&instants) {
        mesh.deliver(step, *now)?;
        history.keep(*now, mesh.hosts[0].met()?);
        let ordinal = counts.entry(event.agent).or_default();
        *ordinal += 1;
        let here = mesh.happen(step, event, *ordinal, *now)?;
        mesh.repair_in_turn(step)?;
        if step % sample_steps == 0 {
            state_bytes = mesh.hosts[here].everything(*now)?.len() as u64;
        }
        mesh.bytes.full_states += state_bytes * (options.replicas as u64 - 1);
        if step % 32 == 0 {
            progress(step);
        }
    }
    let rounds = mesh.settle(events, end)?;

    let first = &mesh.hosts[0];
    let plain = Plain::new(&trace.events, options.replicas);
    let (couplings, couplings_once) = history.strongest(first.met()?);
    Ok(Outcome {
        events,
        agents: counts.len() as u64,
        keys_ever: keys_ever(&trace.events),
        keys: first.files()?.len() as u64,
        set_size: first.agents()?.len() as u64,
        span: instants.first().map(|start| (*start, end)),
        couplings,
        couplings_once,
        couplings_alive: first.met()?.sum().map_or(0, |sum| sum.iter(end).count() as u64),
        traffic: mesh.network.traffic(),
        bytes: mesh.bytes,
        rounds,
        plain: plain.matches(first)?,
        plain_keys: plain.keys(),
        replicas: mesh.hosts.iter().map(|host| at_replica(host, end)).collect::<Result<_, _>>()?,
        refused: mesh.hosts.iter().map(|host| host.refused).sum(),
        merges: mesh.merges,
    })
}

impl Mesh {
    /// Makes an event happen where its agent lives, and tells all peers. Returns where that is.
    fn happen(&mut self, step: u64, event: &Event, ordinal: u64, now: Timestamp) -> Result<usize, String> {
        let count = self.hosts.len();
        let here = usize::try_from(event.agent % count as u64).map_err(|error| error.to_string())?;
        let message = self.hosts[here].play(event, ordinal, now)?;
        for peer in (0..count).filter(|peer| *peer != here) {
            self.send(step, here, peer, &message)?;
        }
        Ok(here)
    }

    fn send(&mut self, step: u64, from: usize, to: usize, message: &Message) -> Result<(), String> {
        self.messages += 1;
        let bytes = match message {
            Message::Changes(_) => &mut self.bytes.changes,
            Message::Summary(_) => &mut self.bytes.summaries,
            Message::Repair(_) => &mut self.bytes.repairs,
        };
        for frame in message.to_frames(self.messages)? {
            *bytes += frame.len() as u64;
            self.network.send(step, from, to, &frame.into());
        }
        Ok(())
    }

    /// Hands over what arrives at `step`, and sends the answers.
    fn deliver(&mut self, step: u64, now: Timestamp) -> Result<(), String> {
        while let Some(Arrival { from, to, bytes }) = self.network.arrival(step) {
            let Some(message) = self.inboxes.entry((to, from)).or_default().take(&bytes)? else { continue };
            if let Some(answer) = self.hosts[to].receive(&message, now, &mut self.merges)? {
                self.send(step, to, from, &answer)?;
            }
        }
        Ok(())
    }

    /// Lets the replica ask whose turn it is; the turns are spread evenly.
    fn repair_in_turn(&mut self, step: u64) -> Result<(), String> {
        let count = self.hosts.len() as u64;
        for (number, host) in (0_u64..).zip(0..self.hosts.len()) {
            if step % REPAIR_STEPS == (number * REPAIR_STEPS) / count {
                self.ask(step, host)?;
            }
        }
        Ok(())
    }

    /// Lets a replica ask the next one on a ring for what it lacks. That is enough to bring everything everywhere, since
    /// the answer has all that the next one holds, from whomever it came.
    fn ask(&mut self, step: u64, here: usize) -> Result<(), String> {
        let next = (here + 1) % self.hosts.len();
        if next == here {
            return Ok(());
        }
        let summary = self.hosts[here].ask();
        self.send(step, here, next, &summary)
    }

    /// The links heal, and replicas ask one another in rounds until nobody lacks anything. Returns the number of rounds
    /// in which somebody did; `None` if that did not end.
    fn settle(&mut self, step: u64, now: Timestamp) -> Result<Option<u64>, String> {
        self.network.heal();
        let mut step = self.quiesce(step, now)?;
        // Once round the ring for the news, once more in case of bad luck, and one round to see that nothing is left.
        let rounds_max = 2 * self.hosts.len() as u64 + 1;
        for round in 0..=rounds_max {
            let before = self.bytes.repairs;
            for host in 0..self.hosts.len() {
                self.ask(step, host)?;
            }
            step = self.quiesce(step, now)?;
            if self.bytes.repairs == before {
                return Ok(Some(round));
            }
        }
        Ok(None)
    }

    /// Waits until no frame is in flight any more.
    fn quiesce(&mut self, step: u64, now: Timestamp) -> Result<u64, String> {
        let mut step = step;
        while let Some(due) = self.network.last_due() {
            // One by one: an answer may arrive before the last frame that is in flight now.
            while step <= due {
                self.deliver(step, now)?;
                step += 1;
            }
        }
        Ok(step)
    }
}

fn at_replica(host: &Host, now: Timestamp) -> Result<AtReplica, String> {
    Ok(AtReplica {
        events: host.events,
        size: host.size(),
        disk_bytes: host.disk_bytes() as u64,
        comes_back: host.comes_back(now)?,
        digest: host.digest(),
    })
}

fn keys_ever(events: &[Event]) -> u64 {
    let changes = events.iter().flat_map(|event| &event.changes);
    changes.map(Change::key).collect::<BTreeSet<_>>().len() as u64
}
