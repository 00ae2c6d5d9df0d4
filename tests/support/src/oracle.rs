//! What random histories are held against: a list of everything that was ever committed, with what its writer saw when it
//! did. Where no log was forked, what is live in the end is what nobody who is still known had seen and ended.

use std::collections::{BTreeMap, BTreeSet};

use consilience_crdts::Units;
use consilience_sync::{LogId, LogOpening, LogSet, Signer};

use crate::replicas::{Dice, Node, TOPIC, at, keys, schema};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// One commit: the entry it became, what it ended, and what it wrote (by collection, key and value).
#[derive(Debug)]
pub struct Commit {
    log: LogId,
    seq: u64,
    map: usize,
    key: &'static str,
    ends: BTreeSet<Write>,
    writes: Option<Write>,
}

/// What an agent contributed to a key of the coupling after a commit.
#[derive(Debug)]
pub struct Contribution {
    log: LogId,
    seq: u64,
    agent: u8,
    key: &'static str,
    value: Units,
    ms: u64,
}

/// A map, a key, and a value that is written once; what fills it up is left out.
pub type Write = (usize, String, u64);

const MAPS: [&str; 2] = ["tasks", "notes"];

/// Everything that was ever committed, by all nodes.
#[derive(Debug, Default)]
pub struct Oracle {
    commits: Vec<Commit>,
    contributions: Vec<Contribution>,
    unique: u64,
}

impl Oracle {
    /// One random transaction.
    pub fn write(&mut self, dice: &mut Dice, node: &mut Node, ms: u64, store: bool) {
        let mut commits = Vec::new();
        let mut touched = BTreeSet::new();
        for _ in 0..1 + dice.roll(3) {
            let (map, key) = (dice.index(2), KEYS[dice.index(4)]);
            if !touched.insert((map, key)) {
                continue;
            }
            self.unique += 1;
            let writes = (!dice.one_in(3)).then(|| (map, key.to_string(), self.unique));
            commits.push((map, key, writes));
        }
        // What the writer sees, and so ends.
        let seen: Vec<BTreeSet<_>> = commits
            .iter()
            .map(|(map, key, _)| {
                let live = node.live(MAPS[*map], key);
                live.into_iter().map(|value| (*map, (*key).to_string(), number(&value))).collect()
            })
            .collect();
        let mut tx = node.replica.transact(node.writer, TOPIC, at(ms)).unwrap();
        for (map, key, writes) in &commits {
            match writes {
                Some((_, _, number)) => tx.map(MAPS[*map]).set(key, value_of(*number)).unwrap(),
                None => tx.map(MAPS[*map]).remove(key).unwrap(),
            }
        }
        let coupled = dice.one_in(3).then(|| KEYS[dice.index(4)]);
        if let Some(key) = coupled {
            tx.coupling("trust", schema()).strengthen(key, Units::new(1 + dice.roll(9) as u32)).unwrap();
        }
        if tx.commit().unwrap().is_some() {
            let (log, size) = node.own_log().unwrap();
            let seq = size - 1;
            for ((map, key, writes), ends) in commits.into_iter().zip(seen) {
                self.commits.push(Commit { log, seq, map, key, ends, writes });
            }
            if let Some(key) = coupled {
                let (agent, value) = (node.agent, contributed(node, node.agent, key, ms));
                self.contributions.push(Contribution { log, seq, agent, key, value, ms });
            }
        }
        if store {
            node.store();
        }
    }

    /// A node crashed and came back: what it had not stored never happened, and its numbers are given again.
    pub fn lose(&mut self, before: Option<(LogId, u64)>, held: &[&LogSet], at: usize) {
        let Some((log, size)) = before else { return };
        if held[at].log(&log).is_none() {
            return;
        }
        // What a replica without storage has told others is not lost.
        let known = held.iter().filter_map(|set| known_sizes(set).remove(&log)).max();
        let lost = known.unwrap_or(0)..size;
        self.commits.retain(|commit| commit.log != log || !lost.contains(&commit.seq));
        self.contributions.retain(|one| one.log != log || !lost.contains(&one.seq));
    }

    /// What should be live, given how far each log is known.
    fn live(&self, sizes: &BTreeMap<LogId, u64>) -> BTreeSet<Write> {
        let known = |commit: &&Commit| sizes.get(&commit.log).is_some_and(|size| commit.seq < *size);
        let ended: BTreeSet<_> =
            self.commits.iter().filter(known).flat_map(|commit| commit.ends.iter().cloned()).collect();
        // A writer's later transaction on a key also ends what it wrote there before and no longer saw, because somebody
        // whose word is lost since had ended it.
        let last = |commit: &Commit| {
            let mut later = self.commits.iter().filter(known).filter(|other| other.log == commit.log);
            !later.any(|other| other.seq > commit.seq && (other.map, &other.key) == (commit.map, &commit.key))
        };
        let written = self.commits.iter().filter(known).filter(|commit| last(commit));
        let written = written.filter_map(|commit| commit.writes.clone());
        written.filter(|write| !ended.contains(write)).collect()
    }

    /// Whether replicas that hold the same are in the state that everything which is known adds up to.
    pub fn check(&self, nodes: &[&Node], ms: u64) {
        let mut sizes = BTreeMap::new();
        for node in nodes {
            let set = node.replica.logs();
            assert!(set.logs().all(|log| set.evidence(log.id()).is_none()), "nobody forked anything");
            for (log, known) in known_sizes(set) {
                let size = sizes.entry(log).or_default();
                *size = known.max(*size);
            }
        }
        assert_eq!(live(nodes[0]), self.live(&sizes));
        for one in
            self.contributions.iter().filter(|one| sizes.get(&one.log).is_some_and(|size| one.seq < *size))
        {
            // Nobody weakens here, so what was there can only have decayed since.
            let (now, then) = (contributed(nodes[0], one.agent, one.key, ms), one.value);
            let decayed = decayed(then, ms - one.ms);
            assert!(now.to_bits() >= decayed.to_bits() / 1_000 * 999, "{one:?} is {now:?}");
        }
    }
}

/// How far each log is known: as far as it is held, or as a later incarnation has closed it, which had seen so much of it.
fn known_sizes(set: &LogSet) -> BTreeMap<LogId, u64> {
    let mut sizes: BTreeMap<LogId, u64> = set.logs().map(|log| (*log.id(), log.size())).collect();
    for log in set.logs() {
        for (incarnation, below) in set.closures(log.id()) {
            let closed = LogOpening { incarnation, ..log.opening().clone() };
            let size = sizes.entry(closed.log_id(set.mesh())).or_default();
            *size = below.max(*size);
        }
    }
    sizes
}

/// What is left of an amount after some milliseconds, of an hour's half-life: rounded down to a straight line.
fn decayed(value: Units, ms: u64) -> Units {
    Units::from_bits(value.to_bits() / 3_600_000 * 3_600_000_u64.saturating_sub(ms))
}

/// What an agent contributes to a key, as it is read here.
fn contributed(node: &Node, agent: u8, key: &str, ms: u64) -> Units {
    let view = node.replica.topic(TOPIC).unwrap().coupling("trust", schema());
    view.by(keys(agent).agent()).map_or(Units::ZERO, |view| view.value(key.as_bytes(), at(ms)))
}

/// Some values are large, so that logs are carried along.
fn value_of(number: u64) -> Vec<u8> {
    let filling = if number.is_multiple_of(9) { 300 } else { 0 };
    [number.to_string().into_bytes(), vec![b'x'; filling]].concat()
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().trim_end_matches('x').parse().unwrap()
}

/// The values that nobody overwrote, of all maps and keys.
pub fn live(node: &Node) -> BTreeSet<Write> {
    let mut all = BTreeSet::new();
    for (map, name) in MAPS.iter().enumerate() {
        for key in KEYS {
            all.extend(node.live(name, key).iter().map(|value| (map, key.to_string(), number(value))));
        }
    }
    all
}
