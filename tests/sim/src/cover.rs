//! Which kinds of faults stood beside which features, and one another, in how many worlds. What counts are the steps that could
//! be taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value, json};

use crate::step::Step;

/// The kinds of faults, and the features, of a world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met {
    faults: BTreeSet<&'static str>,
    features: BTreeSet<&'static str>,
}

impl Met {
    /// Notes a step that was taken.
    pub(crate) fn note(&mut self, step: &Step) {
        self.faults.extend(step.faults());
        self.features.extend(step.feature());
    }
}

/// The pairs, and in how many worlds each was met.
#[derive(Debug)]
pub(crate) struct Cover {
    pairs: BTreeMap<(&'static str, &'static str), u64>,
}

impl Default for Cover {
    /// All pairs that there are, met in no world.
    fn default() -> Self {
        let mut pairs = BTreeMap::new();
        for (number, fault) in Step::FAULTS.into_iter().enumerate() {
            for other in Step::FEATURES.into_iter().chain(Step::FAULTS.into_iter().skip(number + 1)) {
                pairs.insert((fault, other), 0);
            }
        }
        Self { pairs }
    }
}

impl Cover {
    /// Counts the pairs of a world, each once.
    pub(crate) fn note(&mut self, met: &Met) {
        for ((fault, other), worlds) in &mut self.pairs {
            let is_other = met.features.contains(other) || met.faults.contains(other);
            *worlds += u64::from(met.faults.contains(fault) && is_other);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (pair, worlds) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += worlds;
        }
    }

    /// The pair that was met in the fewest worlds, and in how many.
    pub(crate) fn least(&self) -> (String, u64) {
        let least = self.pairs.iter().min_by_key(|(_, worlds)| **worlds);
        least.map(|((fault, other), worlds)| (format!("{fault} x {other}"), *worlds)).unwrap_or_default()
    }

    /// The table: a line a kind of fault.
    pub(crate) fn json(&self) -> Value {
        let mut table: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        for ((fault, other), worlds) in &self.pairs {
            table.entry(fault).or_default().insert(other, *worlds);
        }
        json!(table)
    }
}

impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((fault, other), worlds) in &self.pairs {
            writeln!(f, "{fault:>18} × {other:<18} {worlds}")?;
        }
        let (pair, worlds) = self.least();
        write!(f, "least: {pair}, in {worlds} worlds")
    }
}
