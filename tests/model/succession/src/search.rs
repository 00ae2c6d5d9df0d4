//! Many histories on several threads, and what was found in them.

use std::collections::BTreeMap as Map;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::checks::Counts;
use crate::coverage::Table;
use crate::rule::{Mode, Rule};
use crate::shrink::{guarded, kind};
use crate::tape;

/// The longest tape, beside the 40 bytes of the shortest.
pub const LENGTH: u64 = 500;

/// A failure of one kind: how often, and the shortest history.
#[derive(Clone, Debug)]
pub struct Found {
    pub times: u64,
    pub seed: u64,
    pub bytes: usize,
    pub text: String,
}

#[derive(Clone, Default, Debug)]
pub struct Findings {
    pub histories: u64,
    pub counts: Counts,
    pub table: Table,
    pub found: Map<String, Found>,
}

impl Findings {
    pub fn add(&mut self, other: Self) {
        self.histories += other.histories;
        self.counts.add(&other.counts);
        self.table.merge(&other.table);
        for (kind, found) in other.found {
            let known = self.found.entry(kind).or_insert_with(|| Found { times: 0, ..found.clone() });
            let times = known.times + found.times;
            if (found.bytes, found.seed) < (known.bytes, known.seed) {
                *known = found;
            }
            known.times = times;
        }
    }

    pub fn times(&self, begins: &str) -> u64 {
        self.found.iter().filter(|(kind, _)| kind.starts_with(begins)).map(|(_, found)| found.times).sum()
    }
}

/// Runs histories of seeds from `first` on. The same seeds give the same findings on any number of threads.
pub fn search(rule: Rule, mode: Mode, first: u64, count: u64, threads: usize) -> Findings {
    const BATCH: u64 = 250;
    let next = AtomicU64::new(0);
    let all = Mutex::new(Findings::default());
    let work = || {
        let mut mine = Findings::default();
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            if from >= count {
                break;
            }
            for seed in first + from..first + (from + BATCH).min(count) {
                let tape = tape::of_seed(seed, LENGTH);
                mine.histories += 1;
                if let Err(text) = guarded(&tape, rule, mode, &mut mine.counts, &mut mine.table) {
                    let text = text.chars().take(300).collect();
                    let found = Found { times: 1, seed, bytes: tape.len(), text };
                    mine.add(Findings { found: [(kind(&found.text), found)].into(), ..Findings::default() });
                }
            }
        }
        all.lock().expect("no thread panics").add(mine);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    all.into_inner().expect("no thread panics")
}
