//! The run: events go to the processes of their agents, scheduled faults happen, and in the end all have to hold
//! the same. Couplings are read on the way, when the trace passes the instants of interest ([`Readings`]): to read the
//! last state at an earlier instant would count events that had not happened yet.

pub(crate) mod backlog;
pub(crate) mod faults;
pub(crate) mod fleet;
pub(crate) mod links;
pub(crate) mod member;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::interrupt::Interrupt;
use crate::options::Options;
use crate::process::control::{Coupled, Detail};
use crate::replay::backlog::Backlog;
use crate::replay::faults::{Fault, Schedule};
use crate::replay::fleet::{Fleet, LOOK};
use crate::replay::member::{Member, Signal, State};
use crate::report::outcome::{CatchUp, Mark, Outcome, Tally};
use crate::report::verdict::Verdict;
use crate::trace::Trace;

/// A trace is spread over this time at least, so that there is time for things to go wrong in.
const SPREAD: Duration = Duration::from_secs(20);
/// But an event takes no longer than this.
const PACE_MAX: Duration = Duration::from_millis(5);
/// From one question for everybody's status to the next.
const SAMPLE: Duration = Duration::from_millis(200);

struct Run<'a> {
    fleet: Fleet,
    options: &'a Options,
    /// Processes of agents; the relay's number is the next one, if there is one.
    processes: usize,
    schedule: std::iter::Peekable<std::vec::IntoIter<(usize, Fault)>>,
    /// Woken sleepers that are still alone with the work of their agents meanwhile.
    rejoining: Vec<usize>,
    /// Where the trace was when directories were copied.
    copied: BTreeMap<usize, usize>,
    /// The bytes on the longest sleeper's links when it fell asleep.
    bytes_before: u64,
    next_sample: Duration,
    tally: Tally,
}

/// Replays `trace` with the stores in `dir`. `progress` is given the fleet to show. Errors if a process or the machine
/// fails; whether the outcome is good is for the outcome to say.
pub(crate) fn replay(
    trace: &Trace,
    options: &Options,
    dir: &Path,
    interrupt: &Interrupt,
    progress: &dyn Fn(&Fleet),
) -> Result<Outcome, String> {
    let backlog = Backlog::new(trace, options.processes);
    let fleet = Fleet::start(options, dir, backlog, interrupt.clone())?;
    let agents_links = fleet.links.iter().filter(|link| link.to < options.processes).count();
    let schedule: Schedule =
        faults::schedule(options.faults, trace.events.len(), options.processes, agents_links, options.seed);
    let mut run = Run {
        fleet,
        options,
        processes: options.processes,
        schedule: schedule.into_iter().peekable(),
        rejoining: Vec::new(),
        copied: BTreeMap::new(),
        bytes_before: 0,
        next_sample: Duration::ZERO,
        tally: Tally::default(),
    };
    run.replay(trace, progress).map_err(|why| format!("{why}{}", run.fleet.complaints()))
}

impl Run<'_> {
    fn replay(&mut self, trace: &Trace, progress: &dyn Fn(&Fleet)) -> Result<Outcome, String> {
        let events = self.fleet.backlog.len();
        let mut readings = Readings::new(trace, self.options.half_life_days);
        let spread = SPREAD.checked_div(u32::try_from(events).unwrap_or(u32::MAX)).unwrap_or_default();
        let pace = if self.options.lockstep { Duration::ZERO } else { spread.min(PACE_MAX) };
        let mut due = self.fleet.clock.now();
        for place in 0..events {
            self.go_wrong(place, progress)?;
            if readings.is_due(place) {
                let asked = self.ask_couplings();
                readings.asked(place, asked);
            }
            due = (due + pace).max(self.fleet.clock.now().saturating_sub(pace * 20));
            self.pump(due)?;
            self.until("the events that another waits for do not happen", |run| run.is_free(place))?;
            self.give(place);
            if self.options.lockstep {
                self.fleet.pump(Duration::ZERO)?;
                self.agree()?;
            }
            progress(&self.fleet);
        }
        self.go_wrong(events, progress)?;
        self.fleet.wait("for the last events to happen", |fleet| fleet.backlog.done() == events)?;
        self.settle_sleepers()?;
        let last = self.fleet.clock.now();
        self.mark(None, "the trace ends");
        let agreed = self.fleet.agree(&self.fleet.all(), Detail::Full)?;
        self.tally.settled = self.fleet.clock.now() - last;
        self.tally.agreed = agreed;
        self.fleet.statuses(&self.fleet.all(), Detail::Couplings)?;
        self.tally.couplings = readings.couplings(&self.fleet.members);
        self.fleet.stop()?;
        progress(&self.fleet);
        let stores: Vec<&Path> =
            self.fleet.members.iter().filter(|member| !member.is_relay).map(|member| &*member.dir).collect();
        let mut verdict =
            Verdict::new(trace, self.options, &self.tally.restored, &stores, &self.fleet.interrupt)?;
        if !agreed {
            verdict.complaints.extend(self.fleet.members.iter().map(|member| {
                let status = &member.status;
                let (entries, sessions) = (status.entries, status.sessions);
                format!("{}: {entries} entries, {sessions} sessions, {} in sync", member.name, status.in_sync)
            }));
        }
        Ok(Outcome::new(trace, &self.fleet, std::mem::take(&mut self.tally), verdict))
    }

    fn is_free(&self, place: usize) -> bool {
        let alone = |process: usize| self.fleet.members[process].isolated;
        self.fleet.backlog.is_free(place, alone)
    }

    fn give(&mut self, place: usize) {
        self.fleet.backlog.give(place);
        let process = self.fleet.backlog.process(place);
        self.fleet.members[process].queue.push_back(place);
    }

    /// Lets the processes work until `due`, and joins those that have done their waiting work.
    fn pump(&mut self, due: Duration) -> Result<(), String> {
        loop {
            let now = self.fleet.clock.now();
            if now >= self.next_sample {
                self.next_sample = now + SAMPLE;
                self.fleet.ask(self.fleet.all().into_iter(), Detail::Brief);
            }
            self.fleet.pump(due.saturating_sub(now))?;
            let fleet = &self.fleet;
            let back = self.rejoining.iter().copied().find(|process| fleet.members[*process].is_drained());
            if let Some(process) = back {
                self.rejoining.retain(|other| *other != process);
                self.fleet.isolate(process, false)?;
            }
            if self.fleet.clock.now() >= due {
                return Ok(());
            }
        }
    }

    fn settle_sleepers(&mut self) -> Result<(), String> {
        self.until("a sleeper does not do its work", |run| run.rejoining.is_empty())
    }

    /// Lets the processes work until something is so. An error if nothing moves meanwhile.
    fn until(&mut self, complaint: &str, so: impl Fn(&Self) -> bool) -> Result<(), String> {
        let mut patience = self.fleet.patience();
        while !so(self) {
            if self.fleet.is_over(&mut patience) {
                return Err(complaint.into());
            }
            self.pump(self.fleet.clock.now() + LOOK)?;
        }
        Ok(())
    }

    fn agree(&mut self) -> Result<(), String> {
        if self.fleet.agree(&self.fleet.all(), Detail::Full)? {
            Ok(())
        } else {
            Err("the processes do not come to hold the same".into())
        }
    }

    /// Lets everything go wrong that is to go wrong before this event.
    fn go_wrong(&mut self, place: usize, progress: &dyn Fn(&Fleet)) -> Result<(), String> {
        while let Some((_, fault)) = self.schedule.next_if(|(at, _)| *at <= place) {
            self.fault(fault, place)?;
            progress(&self.fleet);
        }
        Ok(())
    }

    fn fault(&mut self, fault: Fault, place: usize) -> Result<(), String> {
        let relay = links::relay(self.processes).unwrap_or(0);
        match fault {
            Fault::Cut { link } => {
                let (from, to) = (self.fleet.links[link].from, self.fleet.links[link].to);
                self.mark(Some(from), &format!("link {from} - {to} cut"));
                self.tally.cuts += 1;
                self.fleet.cut(link, true);
            }
            Fault::Mend { link } => self.fleet.cut(link, false),
            Fault::Sleep { process } => {
                self.awake(process)?;
                self.fleet.isolate(process, true)?;
                self.bytes_before = self.link_bytes(process);
                self.mark(Some(process), "asleep");
                self.tally.sleeps += 1;
                self.fleet.signal(process, Signal::Stop)?;
            }
            Fault::Wake { process, longest: false } => {
                self.mark(Some(process), "awake");
                self.fleet.signal(process, Signal::Continue)?;
                self.rejoining.push(process);
            }
            Fault::Wake { process, longest: true } => self.wake_longest(process)?,
            Fault::Kill { process } if self.fleet.members[process].state == State::Awake => {
                self.mark(Some(process), "killed");
                self.fleet.kill(process, false, |_| Ok(()))?;
            }
            Fault::Kill { .. } => {}
            Fault::Copy { process } => {
                self.awake(process)?;
                self.fleet
                    .wait("for a process to do its work", |fleet| fleet.members[process].is_drained())?;
                self.mark(Some(process), "copied");
                self.copied.insert(process, place);
                self.fleet.signal(process, Signal::Stop)?;
                let dir = &self.fleet.members[process].dir;
                copy(dir, &backup_of(dir))?;
                self.fleet.signal(process, Signal::Continue)?;
            }
            Fault::PutBack { process } => self.put_back(process, true)?,
            Fault::Fork { process } => {
                self.put_back(process, false)?;
                // From an outbox of their own, as agents have it. One that the backup does not know has nothing to go on with.
                let copied = self.copied.get(&process).copied().unwrap_or(place);
                let again = (copied..place).filter(|place| {
                    self.fleet.backlog.process(*place) == process && self.fleet.backlog.first(*place) < copied
                });
                self.fleet.members[process].queue = again.collect();

                self.rejoining.push(process);
            }
            Fault::RelaySleep => {
                self.mark(Some(relay), "asleep");
                self.tally.sleeps += 1;
                self.fleet.signal(relay, Signal::Stop)?;
            }
            Fault::RelayWake => {
                self.mark(Some(relay), "awake");
                self.fleet.signal(relay, Signal::Continue)?;
            }
            Fault::RelayKill => {
                self.mark(Some(relay), "killed");
                self.fleet.kill(relay, false, |_| Ok(()))?;
            }
        }
        Ok(())
    }

    /// A process that is awake and among the others.
    fn awake(&mut self, process: usize) -> Result<(), String> {
        self.settle_sleepers()?;
        self.fleet.wait("for a process to start", |fleet| fleet.members[process].state == State::Awake)
    }

    /// The longest sleeper does the work of its agents meanwhile, and then meets the others. The trace stands still until
    /// it holds the same as they do.
    fn wake_longest(&mut self, process: usize) -> Result<(), String> {
        self.settle_sleepers()?;
        let others: Vec<usize> = self.fleet.all().into_iter().filter(|other| *other != process).collect();
        let agreed = self.fleet.agree(&others, Detail::Full)?;
        let held = self.fleet.members[process].status.entries;
        let own = self.fleet.members[process].queue.len() as u64;
        let entries = self.fleet.members[others[0]].status.entries;
        let start = self.fleet.clock.now();
        self.mark(Some(process), "awake");
        self.fleet.signal(process, Signal::Continue)?;
        self.fleet.wait("for a sleeper to do its work", |fleet| fleet.members[process].is_drained())?;
        self.fleet.isolate(process, false)?;
        let agreed = self.fleet.agree(&self.fleet.all(), Detail::Full)? && agreed;
        self.tally.catch_up = agreed.then(|| CatchUp {
            process,
            time: self.fleet.clock.now() - start,
            bytes: self.link_bytes(process).saturating_sub(self.bytes_before),
            entries: entries.saturating_sub(held),
            own,
        });
        Ok(())
    }

    /// A directory is put back from its copy, after all that was in it is elsewhere. The process is told, or is without
    /// links.
    fn put_back(&mut self, process: usize, told: bool) -> Result<(), String> {
        self.awake(process)?;
        let peers: Vec<usize> = self.peers(process).collect();
        let peer =
            peers.first().copied().ok_or("nobody else is awake to hold the entries that a backup lacks")?;
        if !self.fleet.agree(&[process, peer], Detail::Full)? {
            return Err("no other process comes to hold the entries that a backup lacks".into());
        }
        self.mark(Some(process), if told { "put back" } else { "forked" });
        self.tally.restored.push(process);
        if !told {
            self.fleet.isolate(process, true)?;
        }
        self.fleet.kill(process, told, |dir| {
            let backup = backup_of(dir);
            let moved = std::fs::remove_dir_all(dir).and_then(|()| std::fs::rename(&backup, dir));
            moved.map_err(|error| format!("{}: {error}", dir.display()))
        })?;
        Ok(())
    }

    /// Neighbours of a process that are awake and connected with it now, or else others that are awake.
    fn peers(&self, process: usize) -> impl Iterator<Item = usize> {
        let up = |other: usize| {
            let other = &self.fleet.members[other];
            !other.is_relay && other.state == State::Awake && !other.isolated
        };
        let links = self.fleet.links.iter().filter(move |link| link.has(process) && !link.cut);
        let neighbours = links.map(move |link| if link.from == process { link.to } else { link.from });
        neighbours
            .chain((0..self.processes).filter(move |other| *other != process))
            .filter(move |other| up(*other))
    }

    fn link_bytes(&self, process: usize) -> u64 {
        let counters = self.fleet.members[process].counters();
        counters.written() + counters.read()
    }

    fn mark(&mut self, process: Option<usize>, what: &str) {
        self.tally.marks.push(Mark { at: self.fleet.clock.now(), process, what: what.into() });
    }

    /// Asks somebody who is up to date how strong couplings are now.
    fn ask_couplings(&mut self) -> (usize, u64) {
        let up = |process: &usize| {
            let member = &self.fleet.members[*process];
            member.state == State::Awake && !member.isolated
        };
        let process = (0..self.processes).find(up).unwrap_or(0);
        (process, self.fleet.ask(std::iter::once(process), Detail::Couplings))
    }
}

fn backup_of(dir: &Path) -> PathBuf {
    dir.with_extension("backup")
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let copied = (|| {
        std::fs::create_dir(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    })();
    copied.map_err(|error: std::io::Error| format!("{}: {error}", to.display()))
}

const DAY_MS: u64 = 86_400_000;

pub(crate) struct Readings([Reading; 2]);

struct Reading {
    /// The event before which it is taken.
    place: usize,
    /// The share of a coupling's strength at the last event before it that is left at the instant.
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

    /// Notes which process was asked before this event, and with which number.
    pub(crate) fn asked(&mut self, place: usize, asked: (usize, u64)) {
        for reading in self.0.iter_mut().filter(|reading| reading.place == place) {
            reading.asked = Some(asked);
        }
    }

    /// The couplings that the first process knows at the end, with the earlier answers.
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

/// The share of one that is left after a time.
#[expect(clippy::cast_precision_loss, reason = "for people and plots")]
fn left(time_ms: u64, half_life_ms: u64) -> f64 {
    (-(time_ms as f64) / half_life_ms as f64).exp2()
}
