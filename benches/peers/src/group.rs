//! What a group of works is made of, and the loop that measures it.

use crate::Options;
use crate::measure::{Figure, median, seconds};

/// One run of a prepared work.
pub type Run = Box<dyn FnMut() -> f64>;

/// What a work is called and what its figure counts.
pub struct Work {
    pub name: &'static str,
    pub unit: &'static str,
    /// Whether runs differ.
    timed: bool,
}

/// A work whose figure comes from the clock.
pub const fn timed(name: &'static str, unit: &'static str) -> Work {
    Work {
        name,
        unit,
        timed: true,
    }
}

/// A work that counts bytes.
pub const fn size(name: &'static str) -> Work {
    Work {
        name,
        unit: "B",
        timed: false,
    }
}

/// A library as the list of a group keeps it.
pub struct Entry {
    pub name: &'static str,
    /// Works it cannot do.
    pub skips: &'static [&'static str],
    /// Builds the input of a work, a tenth of the size if asked for.
    pub prepare: fn(work: &str, quick: bool) -> Run,
}

/// After this many seconds in one work a library makes no further runs of it, so that one slow case does not
/// hold up the rest. Said on stderr when it happens.
const PATIENCE: f64 = 15.0;

/// Measures what the options ask for and hands out each figure as soon as it is known.
pub fn measure(
    group: &'static str,
    works: &[Work],
    entries: &[Entry],
    options: &Options,
    emit: &mut dyn FnMut(Figure),
) {
    for work in works.iter().filter(|work| options.wants_work(work.name)) {
        let mut peers: Vec<(&Entry, Run, Vec<f64>)> = Vec::new();
        for peer in entries {
            if options.wants_peer(peer.name) && !peer.skips.contains(&work.name) {
                peers.push((peer, (peer.prepare)(work.name, options.quick()), Vec::new()));
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
            emit(Figure {
                group,
                work: work.name,
                peer: peer.name,
                value: median(values),
                unit: work.unit,
                labels: vec![],
                signed: None,
            });
        }
    }
}
