//! Which things befell one agent's logs of a topic in one history, and how often each two of them met.

use std::collections::BTreeMap as Map;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// A range from the middle, or one cut short.
    Partial,
    /// A log forked above which, or below which, the agent has another.
    SuccessorForked,
    /// A closed log was opened again somewhere.
    TakenBack,
    /// A month passed where logs of several incarnations are known.
    Month,
    /// The process ended and began again.
    Restart,
    /// A backup was put back, and opened as restored.
    BackupSaid,
    /// A backup was put back, and opened as resumed.
    BackupUnsaid,
}

pub const FEATURES: [(Feature, &str); 7] = [
    (Feature::Partial, "partial range"),
    (Feature::SuccessorForked, "fork of a successor"),
    (Feature::TakenBack, "taken back"),
    (Feature::Month, "month"),
    (Feature::Restart, "restart"),
    (Feature::BackupSaid, "backup, said"),
    (Feature::BackupUnsaid, "backup, not said"),
];

#[derive(Clone, Debug, Default)]
pub struct Coverage(Map<u8, u8>);

impl Coverage {
    pub fn note(&mut self, agent: u8, feature: Feature) {
        *self.0.entry(agent).or_default() |= 1 << feature as u8;
    }

    fn met(&self, a: usize, b: usize) -> bool {
        let both = 1 << a | 1 << b;
        self.0.values().any(|met| met & both == both)
    }
}

/// In how many histories each two met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Table([[u64; 7]; 7]);

impl Table {
    pub fn add(&mut self, coverage: &Coverage) {
        for a in 0..7 {
            for b in 0..=a {
                self.0[a][b] += u64::from(coverage.met(a, b));
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (row, theirs) in self.0.iter_mut().zip(other.0) {
            for (cell, more) in row.iter_mut().zip(theirs) {
                *cell += more;
            }
        }
    }

    /// Of the rarest pair.
    pub fn least(&self) -> u64 {
        (0..7).flat_map(|a| (0..a).map(move |b| self.0[a][b])).min().unwrap_or(0)
    }

    pub fn print(&self) {
        print!("{:20}", "histories with both");
        for (_, name) in FEATURES {
            print!(" {:>19}", name);
        }
        println!();
        for (a, (_, name)) in FEATURES.iter().enumerate() {
            print!("{name:20}");
            for b in 0..=a {
                print!(" {:>19}", self.0[a][b]);
            }
            println!();
        }
    }
}
