//! The works on last-writer-wins maps (`lww_…`) and observed-remove sets (`orset_…`).
//!
//! A library takes part through one file with a type that implements [`Peer`], a `mod` line and a line in
//! [`PEERS`]. `consilience` itself is one of them.

mod automerge;
mod consilience;
mod crdt_kit;
mod crdts;
mod data;
mod loro;
mod works;
mod yrs;

use crate::Options;
use crate::measure::{Figure, median, seconds};
use data::{Change, Scale, Value};
use works::Run;

/// A library under measurement.
pub trait Peer {
    /// The name in the output.
    const NAME: &'static str;
    /// Works the library cannot do; the reason stands where they are named.
    const SKIPS: &'static [&'static str] = &[];
    /// Its last-writer-wins map.
    type Map: Replica;
    /// Its observed-remove set.
    type Set: Replica;
}

/// One replica of a map or a set.
///
/// Bytes made by one replica are only ever read by replicas of the same type.
pub trait Replica: Sized + 'static {
    /// How many one-op deltas are applied on the base of 100,000 entries. Fewer for a slow library: the
    /// figure is a rate.
    const ONE_OPS: usize = 100_000;
    /// The same on the base of 1,000 entries.
    const ONE_OPS_SMALL: usize = 100_000;
    /// How many changes the one big delta holds. Again fewer only for a slow library.
    const DELTA_CHANGES: usize = 10_000;

    /// An empty replica of this actor.
    fn new(actor: u64) -> Self;

    /// Makes these changes locally, as one batch where the library has batches.
    fn change(&mut self, changes: &[Change]);

    /// Makes these changes locally and returns one encoded delta that holds them and nothing else. The
    /// replica has sent everything before that already.
    fn change_encoded(&mut self, changes: &[Change]) -> Vec<u8>;

    /// The whole state, encoded.
    fn save(&mut self) -> Vec<u8>;

    /// A replica of this actor from the whole state of another.
    fn load(actor: u64, saved: &[u8]) -> Self;

    /// Decodes a delta and applies it.
    fn apply(&mut self, delta: &[u8]);

    /// Decodes two whole states and merges them into a replica of this actor.
    fn merge_saved(actor: u64, left: &[u8], right: &[u8]) -> Self;

    /// Number of live entries.
    fn len(&self) -> usize;

    /// Whether the key or element is there.
    fn has(&self, key: &str) -> bool;

    /// Whether the key is there with this value. A set has no values to compare.
    fn holds(&self, key: &str, value: &Value) -> bool;
}

/// A peer as the list below keeps it.
struct Entry {
    name: &'static str,
    skips: &'static [&'static str],
    prepare: fn(&str, &Scale) -> Run,
}

const fn entry<P: Peer>() -> Entry {
    Entry {
        name: P::NAME,
        skips: P::SKIPS,
        prepare: works::prepare::<P>,
    }
}

const PEERS: &[Entry] = &[
    entry::<consilience::Consilience>(),
    entry::<crdts::Crdts>(),
    entry::<crdt_kit::CrdtKit>(),
    entry::<yrs::Yrs>(),
    entry::<loro::Loro>(),
    entry::<automerge::Automerge>(),
];

/// After this many seconds in one work a library makes no further runs of it, so that one slow case does not
/// hold up the rest. Said on stderr when it happens.
const PATIENCE: f64 = 15.0;

/// The names `--peer` knows.
pub fn peer_names() -> Vec<&'static str> {
    PEERS.iter().map(|peer| peer.name).collect()
}

/// The names `--work` knows.
pub fn work_names() -> Vec<&'static str> {
    works::WORKS.iter().map(|work| work.name).collect()
}

/// Measures what the options ask for and hands out each figure as soon as it is known.
pub fn run(options: &Options, emit: &mut dyn FnMut(Figure)) {
    let scale = Scale::new(options.quick());
    for work in works::WORKS.iter().filter(|work| options.wants_work(work.name)) {
        let mut peers: Vec<(&Entry, Run, Vec<f64>)> = Vec::new();
        for peer in PEERS {
            if options.wants_peer(peer.name) && !peer.skips.contains(&work.name) {
                peers.push((peer, (peer.prepare)(work.name, &scale), Vec::new()));
            }
        }
        // Sizes and byte counts come out the same every time: once is enough.
        let runs = if work.timed { options.runs() } else { 1 };
        // The peers take turns within a run, so that a drift of the machine hits all alike.
        let mut spent = vec![0.0; peers.len()];
        for _ in 0..runs {
            for ((_, run, values), spent) in peers.iter_mut().zip(&mut spent) {
                if *spent < PATIENCE {
                    let (value, took) = seconds(run);
                    values.push(value);
                    *spent += took;
                }
            }
        }
        for (peer, _, values) in peers {
            if values.len() < runs {
                eprintln!(
                    "{} of {}: {} of {runs} runs, it takes long",
                    work.name,
                    peer.name,
                    values.len()
                );
            }
            let value = median(values);
            emit(Figure {
                group: "crdt",
                work: work.name,
                peer: peer.name,
                value,
                unit: work.unit,
                labels: vec![],
            });
        }
    }
}
