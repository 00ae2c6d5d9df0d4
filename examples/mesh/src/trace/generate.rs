//! A made-up trace, for machines without one: agents that come one after the other, work mostly in an area of their
//! own, meet in a few files that everybody touches, create, delete and bring back, and whose clocks disagree.

use crate::trace::{Change, Event, Trace};

const AREAS: [&str; 10] =
    ["api", "auth", "billing", "docs", "index", "plan", "search", "storage", "sync", "ui"];
const KINDS: [&str; 6] = ["client", "config", "model", "queue", "state", "view"];
/// Touched by everybody.
const SHARED: [&str; 5] =
    ["CHANGELOG.md", "README.md", "plan/goals.md", "plan/open-questions.md", "schema.json"];
/// Agents at work from the beginning.
const FOUNDERS: u64 = 6;
/// 2024-01-01T08:00:00Z.
const START_S: u64 = 1_704_096_000;
const STREAM: u64 = 1;

#[derive(Default)]
struct Area {
    live: Vec<String>,
    deleted: Vec<String>,
    made: u64,
}

impl Area {
    fn create(&mut self, name: &str, prng: &mut Prng) -> Change {
        let kind = prng.pick(&KINDS).unwrap_or(&"notes");
        let path = format!("{name}/{kind}-{:02}.rs", self.made);
        self.made += 1;
        self.live.push(path.clone());
        Change::Set(path)
    }

    /// An agent's change of one file of the area.
    fn work(&mut self, name: &str, prng: &mut Prng) -> Change {
        match prng.below(100) {
            0..5 if self.live.len() > 4 => {
                let at = usize::try_from(prng.below(self.live.len() as u64)).unwrap_or(0);
                let path = self.live.remove(at);
                self.deleted.push(path.clone());
                Change::Remove(path)
            }
            5..7 if !self.deleted.is_empty() => {
                let at = usize::try_from(prng.below(self.deleted.len() as u64)).unwrap_or(0);
                let path = self.deleted.remove(at);
                self.live.push(path.clone());
                Change::Set(path)
            }
            7..15 => self.create(name, prng),
            // The oldest files are the hottest.
            _ => match self.live.get(usize::try_from(prng.skewed(self.live.len() as u64)).unwrap_or(0)) {
                Some(path) => Change::Set(path.clone()),
                None => self.create(name, prng),
            },
        }
    }
}

pub(crate) fn generate(events: u64, agents: u64, seed: u64) -> Trace {
    let mut prng = Prng::new(seed, STREAM);
    let mut areas: Vec<Area> = AREAS.iter().map(|_| Area::default()).collect();
    let mut now_s = START_S;
    let mut trace = Trace { title: format!("a generated trace, seed {seed}"), ..Trace::default() };
    for number in 0..events {
        now_s += match prng.below(50) {
            0 => prng.below(200_000),
            1..11 => prng.below(20_000),
            _ => prng.below(1_500),
        };
        // The last ones come when two thirds of the trace are over. A few agents do most of the work.
        let arrived = agents.min(FOUNDERS + (agents * number * 3 / (events * 2)));
        let agent = if prng.below(8) == 0 { prng.below(arrived) } else { prng.skewed(arrived) };
        let mut changes: Vec<Change> = Vec::new();
        for _ in 0..=prng.skewed(7) {
            let home = usize::try_from(agent).unwrap_or(0);
            let at = if prng.below(4) == 0 { usize::try_from(prng.next() >> 32).unwrap_or(0) } else { home };
            let at = at % AREAS.len();
            let change = match prng.pick(&SHARED) {
                Some(path) if prng.below(20) == 0 => Change::Set((*path).into()),
                _ => areas[at].work(AREAS[at], &mut prng),
            };
            // One event says one thing of a key.
            changes.retain(|earlier| earlier.key() != change.key());
            changes.push(change);
        }
        // Some clocks are up to an hour behind.
        let behind_s = if prng.below(40) == 0 { prng.below(3_600) } else { 0 };
        trace.events.push(Event { time_s: now_s - behind_s, agent, changes });
    }
    trace
}

/// Numbers of a seed, the same on every machine: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(crate) struct Prng(u64);

impl Prng {
    /// Streams of different numbers have nothing to do with one another.
    pub(crate) const fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self(seed);
        let seed = mixed.next();
        let mut mixed = Self(stream);
        Self(seed ^ mixed.next().rotate_left(32))
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `bound`; 0 if that is 0. The bias is below `bound` / 2⁶⁴.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// As [`below`](Self::below), with small numbers the likeliest.
    pub(crate) const fn skewed(&mut self, bound: u64) -> u64 {
        let most = self.below(bound) + 1;
        if bound == 0 { 0 } else { self.below(most) }
    }

    /// One of `items`; `None` if there are none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let bound = u64::try_from(items.len()).unwrap_or(u64::MAX);
        items.get(usize::try_from(self.below(bound)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_trace_has_what_a_real_one_has() {
        let trace = generate(2_000, 40, 3);
        let changes = || trace.events.iter().flat_map(|event| &event.changes);
        let removed = |key: &str| changes().any(|change| *change == Change::Remove(key.into()));
        assert!(trace.events.windows(2).any(|pair| pair[1].time_s < pair[0].time_s));
        assert!(changes().any(|change| matches!(change, Change::Remove(_))));
        let sets = |key: &str| changes().filter(|change| **change == Change::Set(key.into())).count();
        assert!(changes().any(|change| removed(change.key()) && sets(change.key()) > 1));
        assert!(sets("README.md") > 50);
        assert_eq!(trace.events, generate(2_000, 40, 3).events);
        assert_ne!(trace.events, generate(2_000, 40, 4).events);
    }
}
