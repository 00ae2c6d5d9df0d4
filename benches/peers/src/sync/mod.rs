//! What it takes to bring two replicas of one map together.
//!
//! 100 writers made 100,000 changes in all, each of which sets one of 10,000 keys of 21 bytes to a value of 16; how
//! they take turns stands in [`history`]. One change is one transaction, one commit: the least a library can send,
//! sign or acknowledge by itself. Replica A holds all of them, replica B the first 90,000. Of the 10,000 it missed
//! each writer made 100.
//!
//! - `catch-up`: from the moment B connects to A until both hold the same.
//! - `one-change`: both are connected and hold the same; the writer at A changes one key. From the change until B
//!   has it and, where the protocol has acknowledgements, A knows that. The median of 20 such changes in a row.
//! - `equal`: two replicas that hold the same meet, with nothing kept in memory of an earlier connection.
//!
//! Of each: `bytes` and `messages` both ways, and `cpu_ms`, the time of both sides together, who take turns on one
//! thread; from what is sent to what is read, encoding and decoding included. Building the replicas is not counted,
//! nor is the frame that a connection puts around a message. That both replicas read the same values for all keys is
//! checked outside of the timing.
//!
//! A library that only sends what it knows to be missing needs no handshake, and one that leaves delivery to the
//! connection has no acknowledgements: both are counted as they are. What a library sends is said in its file, and
//! whether it is signed stands in every line of JSON.
//!
//! A library takes part through one file with a type that implements [`Subject`], a `mod` line and a line in
//! [`PEERS`].

mod automerge;
mod consilience;
mod history;
mod loro;
mod yrs;

use crate::Options;
use crate::measure::{Figure, median};
use history::{Change, History, Model, Value};

/// Which of the two replicas.
#[derive(Debug, Clone, Copy)]
pub enum Side {
    /// The one with all changes.
    A,
    /// The one that missed some.
    B,
}

/// A library under measurement, with its two replicas and what connects them.
pub trait Subject: Sized {
    /// The name in the output.
    const NAME: &'static str;
    /// Whether a replica takes only what the writer of a change has signed.
    const SIGNED: bool;

    /// The two replicas as processes that have just loaded them hold them, not connected. They stand at the places of
    /// the writers in [`history::LOCAL`].
    fn build(history: &History) -> Self;

    /// Connects B to A and brings both together. They stay connected.
    fn catch_up(&mut self) -> Cost;

    /// Makes a change at A and brings it to B over the connection.
    fn one_change(&mut self, change: &Change) -> Cost;

    /// Ends the connection, without the clock running, and connects the two anew.
    fn equal(&mut self) -> Cost;

    /// The value of a key at one of the replicas.
    fn value(&self, side: Side, key: &str) -> Option<Value>;
}

/// What one exchange took.
pub struct Cost {
    pub bytes: usize,
    pub messages: usize,
    pub seconds: f64,
}

/// A subject as the list below keeps it.
struct Entry {
    name: &'static str,
    signed: bool,
    run: fn(&History, &[Change]) -> Run,
}

const fn entry<S: Subject>() -> Entry {
    Entry {
        name: S::NAME,
        signed: S::SIGNED,
        run: run_once::<S>,
    }
}

const PEERS: &[Entry] = &[
    entry::<consilience::Consilience<true>>(),
    entry::<consilience::Consilience<false>>(),
    entry::<yrs::Yrs>(),
    entry::<loro::Loro>(),
    entry::<automerge::Automerge<false>>(),
    entry::<automerge::Automerge<true>>(),
];

const WORKS: [&str; 3] = ["catch-up", "one-change", "equal"];

/// How many single changes follow one another in a run.
const SINGLES: usize = 20;

/// The names `--peer` knows.
pub fn peer_names() -> Vec<&'static str> {
    PEERS.iter().map(|peer| peer.name).collect()
}

/// The names `--work` knows.
pub fn work_names() -> Vec<&'static str> {
    WORKS.to_vec()
}

/// The costs of one run, in the order of the works.
type Run = [Vec<Cost>; 3];

/// Measures what the options ask for and hands out each figure as soon as it is known.
pub fn run(options: &Options, emit: &mut dyn FnMut(Figure)) {
    if !WORKS.into_iter().any(|work| options.wants_work(work)) {
        return;
    }
    let mut history = History::new(options.quick());
    let singles = history.more(SINGLES);
    let mut peers: Vec<(&Entry, Run)> = (PEERS.iter())
        .filter(|peer| options.wants_peer(peer.name))
        .map(|peer| (peer, Run::default()))
        .collect();
    // The peers take turns, so that a drift of the machine hits all alike.
    for _ in 0..options.runs() {
        for (peer, all) in &mut peers {
            for (all, costs) in all.iter_mut().zip((peer.run)(&history, &singles)) {
                all.extend(costs);
            }
        }
    }
    for (at, work) in WORKS.into_iter().enumerate() {
        if !options.wants_work(work) {
            continue;
        }
        for (peer, all) in &peers {
            let mut figure = |name: &str, unit, of: fn(&Cost) -> f64| {
                emit(Figure {
                    group: "sync",
                    work,
                    peer: peer.name,
                    value: median(all[at].iter().map(of).collect()),
                    unit,
                    labels: vec![("figure", format!("\"{name}\""))],
                    signed: Some(peer.signed),
                });
            };
            figure("bytes", "B", |cost| cost.bytes as f64);
            figure("messages", "", |cost| cost.messages as f64);
            figure("cpu_ms", "ms", |cost| cost.seconds * 1e3);
        }
    }
}

fn run_once<S: Subject>(history: &History, singles: &[Change]) -> Run {
    let mut model = history.model(history.changes.len());
    let mut subject = S::build(history);
    check(&subject, Side::A, &model);
    check(&subject, Side::B, &history.model(history.shared));
    let caught_up = subject.catch_up();
    check(&subject, Side::A, &model);
    check(&subject, Side::B, &model);

    let mut each = Vec::with_capacity(singles.len());
    for change in singles {
        each.push(subject.one_change(change));
        model.insert(change.key.clone(), change.value);
        assert_eq!(subject.value(Side::B, &change.key), Some(change.value));
    }
    let equal = subject.equal();
    check(&subject, Side::A, &model);
    check(&subject, Side::B, &model);
    [vec![caught_up], each, vec![equal]]
}

/// Whether a replica reads what it should.
fn check<S: Subject>(subject: &S, side: Side, model: &Model) {
    for (key, value) in model {
        assert_eq!(
            subject.value(side, key),
            Some(*value),
            "{} at {side:?}: {key}",
            S::NAME
        );
    }
}
