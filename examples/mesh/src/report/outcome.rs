//! The outcome of a run: everything that is printed, and whether it is good.

use std::time::Duration;

use consilience::crdts::Timestamp;
use serde::Serialize;

use crate::options::Options;
use crate::process::control::{Coupled, Status};
use crate::replay::fleet::Fleet;
use crate::report::verdict::Verdict;
use crate::trace::Trace;

/// Half-lives from the end of the trace at which couplings are read.
pub(crate) const HALF_LIVES: [i8; 5] = [-2, -1, 0, 1, 2];
/// The couplings shown that are strongest at the end, and of the others those that once were.
const STRONGEST: usize = 5;
const STRONGEST_ONCE: usize = 3;

/// The notes of a run while it goes on.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) marks: Vec<Mark>,
    pub(crate) sleeps: u64,
    pub(crate) cuts: u64,
    /// Processes that were put back from a backup.
    pub(crate) restored: Vec<usize>,
    pub(crate) catch_up: Option<CatchUp>,
    /// All processes came to hold the same, this long after the last event.
    pub(crate) agreed: bool,
    pub(crate) settled: Duration,
    pub(crate) couplings: Vec<Coupled>,
}

/// Something that happened, for the plot.
pub(crate) struct Mark {
    pub(crate) at: Duration,
    pub(crate) process: Option<usize>,
    pub(crate) what: String,
}

/// How the longest sleeper came to hold the entries that the others held when it was woken.
pub(crate) struct CatchUp {
    pub(crate) process: usize,
    pub(crate) time: Duration,
    /// On its links, both ways.
    pub(crate) bytes: u64,
    /// Entries of others that it lacked.
    pub(crate) entries: u64,
    /// Events of its own that it had to do first.
    pub(crate) own: u64,
}

/// A process when it ended.
pub(crate) struct AtProcess {
    pub(crate) name: String,
    pub(crate) is_relay: bool,
    /// How often it was started.
    pub(crate) lives: u32,
    pub(crate) status: Status,
    pub(crate) signatures: u64,
    /// Entries that it held, over time.
    pub(crate) entries: Vec<(Duration, u64)>,
}

pub(crate) struct LinkBytes {
    pub(crate) names: [String; 2],
    pub(crate) bytes: u64,
}

pub(crate) struct Outcome {
    pub(crate) processes: Vec<AtProcess>,
    pub(crate) links: Vec<LinkBytes>,
    pub(crate) events: u64,
    pub(crate) agents: u64,
    pub(crate) span: Option<(Timestamp, Timestamp)>,
    pub(crate) time: Duration,
    pub(crate) kills: u64,
    pub(crate) restarts: u64,
    pub(crate) wire_bytes: u64,
    /// Bytes that no wire could do without: of each entry that a process needed, and of one signature an update.
    pub(crate) floor_bytes: u64,
    /// A bundle of all that is held in the end.
    pub(crate) kept_bytes: u64,
    /// Faults that processes found with their peers; there should be none.
    pub(crate) peer_faults: u64,
    pub(crate) couplings: Vec<Coupled>,
    pub(crate) couplings_once: Vec<Coupled>,
    pub(crate) couplings_alive: u64,
    pub(crate) tally: Tally,
    pub(crate) verdict: Verdict,
}

impl Outcome {
    pub(crate) fn new(trace: &Trace, fleet: &Fleet, mut tally: Tally, verdict: Verdict) -> Self {
        let instants = trace.instants();
        let counters: Vec<_> = fleet.members.iter().map(|member| member.counters()).collect();
        // Each byte is counted where it was written and where it was read. A process that is killed takes with it its
        // counts since it was last asked.
        let written: u64 = counters.iter().map(|counters| counters.written()).sum();
        let read: u64 = counters.iter().map(|counters| counters.read()).sum();
        let links = fleet.links.iter().map(|link| {
            let bytes =
                counters[link.from].links.get(&fleet.members[link.to].addr).copied().unwrap_or_default();
            let name = |process: usize| fleet.members[process].name.clone();
            LinkBytes { names: [name(link.from), name(link.to)], bytes: bytes[0] + bytes[1] }
        });
        let (couplings, couplings_once, couplings_alive) = strongest(std::mem::take(&mut tally.couplings));
        Self {
            links: links.collect(),
            events: trace.events.len() as u64,
            agents: trace
                .events
                .iter()
                .map(|event| event.agent)
                .collect::<std::collections::BTreeSet<_>>()
                .len() as u64,
            span: instants.first().copied().zip(instants.last().copied()),
            time: fleet.clock.now(),
            kills: fleet.kills,
            restarts: fleet.restarts,
            wire_bytes: written.max(read),
            floor_bytes: counters.iter().map(|counters| counters.needed_bytes).sum(),
            kept_bytes: fleet.members.first().map_or(0, |member| member.status.bundle_bytes),
            peer_faults: counters.iter().map(|counters| counters.peer_faults).sum(),
            couplings,
            couplings_once,
            couplings_alive,
            processes: fleet
                .members
                .iter()
                .zip(counters)
                .map(|(member, counters)| AtProcess {
                    name: member.name.clone(),
                    is_relay: member.is_relay,
                    lives: member.life,
                    status: member.status.clone(),
                    signatures: counters.signatures,
                    entries: member.entries.clone(),
                })
                .collect(),
            tally,
            verdict,
        }
    }

    pub(crate) fn agents_processes(&self) -> impl Iterator<Item = &AtProcess> {
        self.processes.iter().filter(|process| !process.is_relay)
    }

    /// Of the first process: of all of them, where they agree.
    pub(crate) fn status(&self) -> &Status {
        &self.processes[0].status
    }

    /// Whether all processes ended in the same state, and their stores say so too.
    pub(crate) fn is_converged(&self) -> bool {
        let digest = &self.status().digest;
        let stores = &self.verdict.digests;
        self.tally.agreed && !stores.is_empty() && stores.iter().all(|stored| stored == digest)
    }

    pub(crate) fn is_good(&self) -> bool {
        self.is_converged() && self.peer_faults == 0 && self.verdict.lost == 0 && self.verdict.wrong == 0
    }

    pub(crate) fn signatures(&self) -> u64 {
        self.processes.iter().map(|process| process.signatures).sum()
    }

    pub(crate) fn forks(&self) -> u64 {
        self.processes.iter().map(|process| process.status.forks).max().unwrap_or(0)
    }

    pub(crate) fn figures(&self, options: &Options) -> Figures<'_> {
        let status = self.status();
        let stored = |process: &AtProcess| process.status.journal_bytes;
        Figures {
            events: self.events,
            agents: self.agents,
            processes: self.agents_processes().count(),
            keys: status.keys,
            set_size: status.set_size,
            converged: self.is_converged(),
            digest: self.is_converged().then_some(&status.digest),
            digests: self.agents_processes().map(|process| process.status.digest.as_str()).collect(),
            lost: self.verdict.lost,
            matches_plain_replay: self.verdict.lost == 0 && self.verdict.wrong == 0,
            plain_keys: self.verdict.plain_keys,
            entries: status.entries,
            signatures_verified: self.signatures(),
            wire_bytes: self.wire_bytes,
            floor_bytes: self.floor_bytes,
            kept_bytes: self.kept_bytes,
            stored_bytes: status.stored_bytes,
            live_bytes: status.live_bytes,
            journal_bytes: self.processes.iter().map(stored).sum(),
            kills: self.kills,
            restarts: self.restarts,
            sleeps: self.tally.sleeps,
            cuts: self.tally.cuts,
            restored: &self.tally.restored,
            forks: self.forks(),
            peer_faults: self.peer_faults,
            catch_up_ms: self.tally.catch_up.as_ref().map(|catch_up| millis(catch_up.time)),
            catch_up_bytes: self.tally.catch_up.as_ref().map(|catch_up| catch_up.bytes),
            settled_ms: millis(self.tally.settled),
            time_ms: millis(self.time),
            half_life_days: options.half_life_days,
            coupling_half_lives: HALF_LIVES,
            couplings: &self.couplings,
            couplings_once: &self.couplings_once,
            seed: options.seed,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The strongest at the end, of the others those that were strongest at the first of [`HALF_LIVES`], and how many are
/// alive at the end.
fn strongest(mut all: Vec<Coupled>) -> (Vec<Coupled>, Vec<Coupled>, u64) {
    let alive = all.iter().filter(|coupled| coupled.values[2] > 0.0).count() as u64;
    let by = |reading: usize| {
        move |one: &Coupled, other: &Coupled| {
            other.values[reading].total_cmp(&one.values[reading]).then(one.agents.cmp(&other.agents))
        }
    };
    all.sort_by(by(2));
    let mut once = all.split_off(all.len().min(STRONGEST));
    all.retain(|coupled| coupled.values[2] > 0.0);
    once.sort_by(by(0));
    once.truncate(STRONGEST_ONCE);
    once.retain(|coupled| coupled.values[0] > 0.0);
    (all, once, alive)
}

/// The object that `--json` prints.
#[derive(Serialize)]
pub(crate) struct Figures<'a> {
    events: u64,
    agents: u64,
    processes: usize,
    keys: u64,
    set_size: u64,
    converged: bool,
    digest: Option<&'a String>,
    digests: Vec<&'a str>,
    lost: u64,
    matches_plain_replay: bool,
    plain_keys: u64,
    entries: u64,
    signatures_verified: u64,
    wire_bytes: u64,
    floor_bytes: u64,
    kept_bytes: u64,
    stored_bytes: u64,
    live_bytes: u64,
    journal_bytes: u64,
    kills: u64,
    restarts: u64,
    sleeps: u64,
    cuts: u64,
    restored: &'a [usize],
    forks: u64,
    peer_faults: u64,
    catch_up_ms: Option<u64>,
    catch_up_bytes: Option<u64>,
    settled_ms: u64,
    time_ms: u64,
    half_life_days: u64,
    coupling_half_lives: [i8; HALF_LIVES.len()],
    couplings: &'a [Coupled],
    couplings_once: &'a [Coupled],
    seed: u64,
}
