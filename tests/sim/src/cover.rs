//! Which kinds of faults stand beside which features, and one another, in the histories of how many worlds. A step that could
//! not be taken counts as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::step::Step;

#[derive(Debug, Default)]
pub(crate) struct Cover {
    pairs: BTreeMap<(&'static str, &'static str), u64>,
}

impl Cover {
    /// Counts the pairs of a history, each once.
    pub(crate) fn note(&mut self, steps: &[Step]) {
        let faults: BTreeSet<&str> = steps.iter().filter_map(Step::fault).collect();
        let features: BTreeSet<&str> = steps.iter().filter_map(Step::feature).collect();
        for fault in &faults {
            for other in features.iter().chain(faults.iter().filter(|other| *other > fault)) {
                *self.pairs.entry((fault, other)).or_default() += 1;
            }
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (pair, worlds) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += worlds;
        }
    }

    /// The pair that was met in the fewest worlds.
    pub(crate) fn least(&self) -> Option<(&(&'static str, &'static str), &u64)> {
        self.pairs.iter().min_by_key(|(_, worlds)| **worlds)
    }
}

impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((fault, other), worlds) in &self.pairs {
            writeln!(f, "{fault:>18} × {other:<18} {worlds}")?;
        }
        if let Some(((fault, other), worlds)) = self.least() {
            write!(f, "least: {fault} × {other}, in {worlds} worlds")?;
        }
        Ok(())
    }
}
