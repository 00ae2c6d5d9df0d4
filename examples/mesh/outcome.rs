//! What came of a replay: everything that is printed, and whether it is good.

use consilience::crdts::Timestamp;
use consilience::crdts::coupling::Units;
use serde::Serialize;

use super::host::Size;
use super::link::Traffic;
use super::options::Options;
use super::stopwatch::Stopwatch;
use super::verdict::{self, Digest};

/// Half-lives from the end of the trace at which couplings are read.
pub(crate) const HALF_LIVES: [i8; 5] = [-2, -1, 0, 1, 2];

pub(crate) struct Outcome {
    pub(crate) replicas: Vec<AtReplica>,
    pub(crate) events: u64,
    pub(crate) agents: u64,
    /// Keys that were ever set or removed.
    pub(crate) keys_ever: u64,
    pub(crate) keys: u64,
    pub(crate) set_size: u64,
    pub(crate) span: Option<(Timestamp, Timestamp)>,
    /// The strongest at the end.
    pub(crate) couplings: Vec<Coupled>,
    /// Of the others, the strongest at the first of [`HALF_LIVES`].
    pub(crate) couplings_once: Vec<Coupled>,
    pub(crate) couplings_alive: u64,
    pub(crate) traffic: Traffic,
    pub(crate) bytes: Bytes,
    /// Bundles taken in.
    pub(crate) merges: Stopwatch,
    /// Of the ranges in them, those that came before what they follow on.
    pub(crate) refused: u64,
    /// Rounds of repair until nobody lacked anything; `None` if the limit came first.
    pub(crate) rounds: Option<u64>,
    /// Whether the state is that of a plain replay, as far as that is known.
    pub(crate) plain: bool,
    /// Of how many keys it is.
    pub(crate) plain_keys: u64,
}

pub(crate) struct AtReplica {
    /// Events that happened there.
    pub(crate) events: u64,
    pub(crate) size: Size,
    /// What was put on its disk.
    pub(crate) disk_bytes: u64,
    /// Whether it comes back from there in the same state.
    pub(crate) comes_back: bool,
    pub(crate) digest: Digest,
}

/// Two agents, and how strongly they were coupled at the instants of [`HALF_LIVES`].
pub(crate) struct Coupled {
    pub(crate) agents: [u64; 2],
    pub(crate) values: [Units; HALF_LIVES.len()],
}

/// Bytes handed to links, lost ones included; a copy that a link made itself is not counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bytes {
    pub(crate) changes: u64,
    pub(crate) summaries: u64,
    pub(crate) repairs: u64,
    /// What the changes would have cost, had each been a bundle of all that its replica holds, to the same peers. Repairs
    /// would have been needless then, so none are counted.
    pub(crate) full_states: u64,
}

impl Bytes {
    pub(crate) const fn sent(&self) -> u64 {
        self.changes + self.summaries + self.repairs
    }
}

impl Outcome {
    /// The digest that all replicas have in common, if they do.
    pub(crate) fn digest(&self) -> Option<Digest> {
        let digests: Vec<Digest> = self.replicas.iter().map(|replica| replica.digest).collect();
        verdict::common(&digests)
    }

    pub(crate) fn is_good(&self) -> bool {
        let come_back = self.replicas.iter().all(|replica| replica.comes_back);
        self.digest().is_some() && self.rounds.is_some() && self.plain && come_back
    }

    /// What the logs take, at the first replica: at all of them, where they agree.
    pub(crate) fn size(&self) -> Size {
        self.replicas.first().map(|replica| replica.size).unwrap_or_default()
    }

    pub(crate) fn figures(&self, options: &Options) -> Figures {
        let size = self.size();
        Figures {
            events: self.events,
            agents: self.agents,
            replicas: self.replicas.len(),
            keys: self.keys,
            set_size: self.set_size,
            converged: self.digest().is_some(),
            digest: self.digest().map(Digest::to_hex),
            digests: self.replicas.iter().map(|replica| replica.digest.to_hex()).collect(),
            matches_plain_replay: self.plain,
            plain_keys: self.plain_keys,
            entries: size.entries,
            entries_kept: size.entries_kept,
            stored_bytes: size.stored,
            live_bytes: size.live,
            journal_bytes: self.replicas.iter().map(|replica| replica.disk_bytes).sum(),
            repair_rounds: self.rounds,
            bytes_sent: self.bytes.sent(),
            changes_bytes: self.bytes.changes,
            summary_bytes: self.bytes.summaries,
            repair_bytes: self.bytes.repairs,
            full_state_bytes: self.bytes.full_states,
            frames: self.traffic.sent,
            lost: self.traffic.lost,
            cut: self.traffic.cut,
            duplicated: self.traffic.duplicated,
            overtaken: self.traffic.overtaken,
            merges: self.merges.calls,
            refused: self.refused,
            merged_bytes: self.merges.bytes,
            merges_per_s: self.merges.per_second(),
            half_life_days: options.half_life_days,
            coupling_half_lives: HALF_LIVES,
            couplings: coupled_figures(&self.couplings),
            couplings_once: coupled_figures(&self.couplings_once),
            loss: options.loss,
            duplicate: options.duplicate,
            partition: options.partition,
            seed: options.seed,
        }
    }
}

fn coupled_figures(couplings: &[Coupled]) -> Vec<CoupledFigures> {
    let figures = couplings
        .iter()
        .map(|coupled| CoupledFigures { agents: coupled.agents, values: coupled.values.map(decimal) });
    figures.collect()
}

/// For people and plots; three digits are enough.
fn decimal(units: Units) -> f64 {
    format!("{units:.3}").parse().unwrap_or(f64::NAN)
}

/// The object that `--json` prints. Equal for equal options and traces, but for `merges_per_s`.
#[derive(Serialize)]
pub(crate) struct Figures {
    events: u64,
    agents: u64,
    replicas: usize,
    keys: u64,
    set_size: u64,
    converged: bool,
    digest: Option<String>,
    digests: Vec<String>,
    matches_plain_replay: bool,
    plain_keys: u64,
    entries: u64,
    entries_kept: u64,
    stored_bytes: u64,
    live_bytes: u64,
    journal_bytes: u64,
    repair_rounds: Option<u64>,
    bytes_sent: u64,
    changes_bytes: u64,
    summary_bytes: u64,
    repair_bytes: u64,
    full_state_bytes: u64,
    frames: u64,
    lost: u64,
    cut: u64,
    duplicated: u64,
    overtaken: u64,
    merges: u64,
    refused: u64,
    merged_bytes: u64,
    merges_per_s: u64,
    half_life_days: u64,
    coupling_half_lives: [i8; HALF_LIVES.len()],
    couplings: Vec<CoupledFigures>,
    couplings_once: Vec<CoupledFigures>,
    loss: f64,
    duplicate: f64,
    partition: f64,
    seed: u64,
}

#[derive(Serialize)]
struct CoupledFigures {
    agents: [u64; 2],
    values: [f64; HALF_LIVES.len()],
}
