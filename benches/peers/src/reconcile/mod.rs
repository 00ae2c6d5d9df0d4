//! Finding what two sets of 32-byte ids do not share.
//!
//! Two sets of `n` ids each hold, apart from what they share, half of `d` ids of their own. *Scattered* differences
//! are anywhere in the order, *clustered* ones all in one 65,536th of it. Bytes and messages are counted one way each,
//! until the library has nothing more to say; what it leaves the other side to be told is not added: with `negentropy`
//! and `riblt` only one side has learnt the difference then, with `consilience` both have.
//!
//! `cpu_ms` is the time of both sides from the first message to the last, with everything a library keeps about a set
//! at hand. `build_ns_per_item` makes one set of `n` ids from nothing, ready to reconcile, and `insert_ns` adds one id
//! to it and makes it ready again. Means over the draws; the worst of them, and the ninth of ten, for `consilience`.

mod consilience;
mod negentropy;
mod riblt;

use crate::Options;
use crate::measure::Figure;

pub type Id = [u8; 32];

/// A library under measurement, with the two sets it holds.
pub trait Peer {
    /// Both sides with these ids. Timing and memory of it are taken from one side.
    fn build(ids: &[Id]) -> Self
    where
        Self: Sized;

    /// Adds ids to one side or takes them out again, without the clock running.
    fn change(&mut self, left: &[Id], right: &[Id], add: bool);

    /// Reconciles once, and checks that what was found is the difference: so many ids.
    fn reconcile(&mut self, differences: usize, mode: &str) -> Cost;

    /// Adds one id to the first side and makes it ready to reconcile.
    fn insert(&mut self, id: &Id);
}

/// What one reconciliation took.
pub struct Cost {
    pub bytes: usize,
    pub messages: usize,
    pub seconds: f64,
}

/// A peer as the list below keeps it.
struct Entry {
    name: &'static str,
    modes: &'static [&'static str],
    measure: fn(&Entry, &Options, usize, &mut dyn FnMut(Figure)),
    /// Draws for figures of up to a thousand differences, and above.
    draws: (usize, usize),
}

const PEERS: &[Entry] = &[
    Entry {
        name: "consilience",
        modes: &["sketch", "ranges"],
        measure: measure::<consilience::Sets>,
        draws: (100, 10),
    },
    Entry {
        name: "negentropy",
        modes: &["ranges"],
        measure: measure::<negentropy::Sets>,
        draws: (3, 1),
    },
    Entry {
        name: "riblt",
        modes: &["sketch"],
        measure: measure::<riblt::Sets>,
        draws: (3, 1),
    },
];

const WORKS: &[&str] = &[
    "bytes",
    "messages",
    "cpu_ms",
    "build_ns_per_item",
    "insert_ns",
    "memory_per_item",
];
const DIFFERENCES: [usize; 6] = [0, 2, 10, 100, 1_000, 10_000];

/// The names `--peer` knows.
pub fn peer_names() -> Vec<&'static str> {
    PEERS.iter().map(|peer| peer.name).collect()
}

/// The names `--work` knows.
pub fn work_names() -> Vec<&'static str> {
    WORKS.to_vec()
}

/// Measures what the options ask for and hands out each figure as soon as it is known.
pub fn run(options: &Options, emit: &mut dyn FnMut(Figure)) {
    let sizes: &[usize] = if options.quick() {
        &[1_000, 10_000]
    } else {
        &[10_000, 100_000, 1_000_000]
    };
    for &n in sizes {
        for peer in PEERS.iter().filter(|peer| options.wants_peer(peer.name)) {
            (peer.measure)(peer, options, n, emit);
        }
    }
}

/// An id as hashes are.
fn id(n: u64) -> Id {
    *blake3::hash(&n.to_le_bytes()).as_bytes()
}

fn measure<P: Peer>(entry: &Entry, options: &Options, n: usize, emit: &mut dyn FnMut(Figure)) {
    use crate::measure::{held_bytes, median, seconds};

    let mut figure = |work: &'static str, suffix: &'static str, value: f64, unit, labels: Vec<_>| {
        if options.wants_work(work) {
            let work = match (work, suffix) {
                ("bytes", "worst") => "bytes_worst",
                ("messages", "worst") => "messages_worst",
                ("messages", "p90") => "messages_p90",
                ("cpu_ms", "worst") => "cpu_ms_worst",
                _ => work,
            };
            emit(Figure {
                group: "reconcile",
                work,
                peer: entry.name,
                value,
                unit,
                labels,
                signed: None,
            });
        }
    };
    let size = vec![("n", n.to_string())];
    let ids: Vec<Id> = (0..n as u64).map(id).collect();
    let (_, held) = held_bytes(|| P::build(&ids));
    // Both sides were built.
    figure("memory_per_item", "", held / 2.0 / n as f64, "B", size.clone());
    let (mut sets, took) = seconds(|| P::build(&ids));
    figure(
        "build_ns_per_item",
        "",
        took / 2.0 * 1e9 / n as f64,
        "ns",
        size.clone(),
    );
    let mut inserts = vec![];
    let mut inserted = vec![];
    let batch = if entry.name == "consilience" { 1_000 } else { 1 };
    for run in 0..5_u64 {
        let fresh: Vec<Id> = (0..batch).map(|k| id((1 << 40) + run * batch + k)).collect();
        let (_, took) = seconds(|| fresh.iter().for_each(|id| sets.insert(id)));
        inserts.push(took * 1e9 / batch as f64);
        inserted.extend(fresh);
    }
    figure("insert_ns", "", median(inserts), "ns", size);
    sets.change(&inserted, &[], false);

    let mut next = 1_u64 << 50;
    for d in DIFFERENCES.into_iter().filter(|&d| d <= n) {
        for spread in ["scattered", "clustered"] {
            if d == 0 && spread == "clustered" {
                continue;
            }
            for &mode in entry.modes {
                let draws = if d <= 1_000 { entry.draws.0 } else { entry.draws.1 };
                let draws = if mode == "ranges" { draws.min(10) } else { draws };
                let mut costs = vec![];
                // The first call takes in pages of code: how many follows from how the program was laid out, and says nothing
                // about a draw.
                sets.reconcile(0, mode);
                for _ in 0..draws {
                    let alone: Vec<Id> = (0..d as u64)
                        .map(|k| {
                            let mut id = id(next + k);
                            if spread == "clustered" {
                                id[..2].copy_from_slice(&(next as u16).to_be_bytes());
                            }
                            id
                        })
                        .collect();
                    next += d as u64 + 1;
                    let (left, right) = alone.split_at(d / 2);
                    sets.change(left, right, true);
                    costs.push(sets.reconcile(d, mode));
                    sets.change(left, right, false);
                }
                let labels = || {
                    vec![
                        ("n", n.to_string()),
                        ("d", d.to_string()),
                        ("spread", format!("\"{spread}\"")),
                        ("mode", format!("\"{mode}\"")),
                    ]
                };
                let mean = |of: fn(&Cost) -> f64| costs.iter().map(of).sum::<f64>() / costs.len() as f64;
                let worst = |of: fn(&Cost) -> f64| costs.iter().map(of).fold(0.0, f64::max);
                let bytes = |cost: &Cost| cost.bytes as f64;
                let messages = |cost: &Cost| cost.messages as f64;
                let ms = |cost: &Cost| cost.seconds * 1e3;
                figure("bytes", "", mean(bytes), "B", labels());
                figure("messages", "", mean(messages), "", labels());
                figure(
                    "cpu_ms",
                    "",
                    median(costs.iter().map(ms).collect()),
                    "ms",
                    labels(),
                );
                if costs.len() >= 100 {
                    let mut sorted: Vec<usize> = costs.iter().map(|cost| cost.messages).collect();
                    sorted.sort_unstable();
                    figure("bytes", "worst", worst(bytes), "B", labels());
                    figure(
                        "messages",
                        "p90",
                        sorted[costs.len() * 9 / 10 - 1] as f64,
                        "",
                        labels(),
                    );
                    figure("messages", "worst", worst(messages), "", labels());
                    figure("cpu_ms", "worst", worst(ms), "ms", labels());
                }
            }
        }
    }
}
