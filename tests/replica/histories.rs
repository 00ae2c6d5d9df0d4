//! Random histories of two to five replicas: late joiners, bundles cut anywhere, restarts, lost storage, old backups,
//! and clones that fork logs.
//!
//! The oracle is naive: a list of everything that was ever committed, with what its writer saw when it did. Where no log
//! was forked, what is live in the end is what nobody who is still known had seen and ended.

use std::collections::{BTreeMap, BTreeSet};

use consilience::sync::{Log, LogId, Signer};

use super::world::{Dice, Disk, How, Node, TOPIC, at, converge, dice::seeds, keys, schema, topic};
use consilience::crdts::Units;

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// One commit: the entry it became, what it ended, and what it wrote (by collection, key and value).
#[derive(Debug)]
struct Commit {
    log: LogId,
    seq: u64,
    map: usize,
    key: &'static str,
    ends: BTreeSet<Write>,
    writes: Option<Write>,
}

/// What an agent contributed to a key of the coupling after a commit.
#[derive(Debug)]
struct Contribution {
    log: LogId,
    seq: u64,
    agent: u8,
    key: &'static str,
    value: Units,
    ms: u64,
}

/// A map, a key, and a value that is written once; what fills it up is left out.
type Write = (usize, String, u64);

const MAPS: [&str; 2] = ["tasks", "notes"];

#[derive(Debug, Default)]
struct Oracle {
    commits: Vec<Commit>,
    contributions: Vec<Contribution>,
    unique: u64,
}

impl Oracle {
    /// One random transaction.
    fn write(&mut self, dice: &mut Dice, node: &mut Node, ms: u64, store: bool) {
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
    fn lose(&mut self, before: Option<(LogId, u64)>, nodes: &[Node], at: usize) {
        let Some((log, size)) = before else { return };
        if nodes[at].replica.logs().log(&log).is_none() {
            return;
        }
        // What a replica without storage has told others is not lost.
        let known = nodes.iter().filter_map(|node| node.replica.logs().log(&log)).map(Log::size).max();
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

fn live(node: &Node) -> BTreeSet<Write> {
    let mut all = BTreeSet::new();
    for (map, name) in MAPS.iter().enumerate() {
        for key in KEYS {
            all.extend(node.live(name, key).iter().map(|value| (map, key.to_string(), number(value))));
        }
    }
    all
}

/// A bundle from one to another, perhaps cut off.
fn tell(dice: &mut Dice, from: &mut Node, to: &mut Node, ms: u64) {
    if dice.one_in(8) {
        // A head is signed for what is stored only.
        from.store();
    }
    let since = (!dice.one_in(4)).then(|| to.replica.summary());
    let mut bundle = from.replica.export_bundle(|_| true, since.as_deref(), at(ms)).unwrap();
    if dice.one_in(4) {
        bundle.truncate(1 + dice.index(bundle.len()));
    }
    let _ = to.replica.import_bundle(&bundle, at(ms));
    if dice.one_in(2) {
        to.store();
    }
}

fn history(seed: u64, forks: bool) {
    let mut dice = Dice::new(seed * 2 + u64::from(forks));
    let mut oracle = Oracle::default();
    let mut agents = 2 + dice.roll(4) as u8;
    let mut nodes: Vec<Node> =
        (0..agents).map(|agent| Node::fresh(agent, seed * 64 + u64::from(agent))).collect();
    let mut backups: BTreeMap<u8, Disk> = BTreeMap::new();
    let mut ms = 0;
    let mut opened = 0;
    for _ in 0..10 + dice.roll(70) {
        ms += 1 + dice.roll(50);
        let at_node = dice.index(nodes.len());
        match dice.roll(20) {
            0..9 => {
                let store = !dice.one_in(4);
                oracle.write(&mut dice, &mut nodes[at_node], ms, store);
            }
            9..16 => {
                let other = dice.index(nodes.len());
                if other != at_node {
                    let [from, to] = nodes.get_disjoint_mut([at_node, other]).unwrap();
                    tell(&mut dice, from, to, ms);
                }
            }
            16 => {
                if nodes.len() < 6 && dice.one_in(3) {
                    nodes.push(Node::fresh(agents, seed * 64 + u64::from(agents)));
                    agents += 1;
                }
                let node = &mut nodes[at_node];
                if dice.one_in(2) {
                    node.store();
                    node.snapshot();
                }
            }
            17 => {
                nodes[at_node].store();
                backups.insert(nodes[at_node].agent, nodes[at_node].disk());
            }
            18 => {
                // A crash: what was not stored is gone.
                let before = nodes[at_node].own_log();
                opened += 1;
                let (agent, disk) = (nodes[at_node].agent, nodes[at_node].disk());
                nodes[at_node] = Node::open(agent, seed * 64 + 32 + opened, disk, How::Resumed, at(ms));
                oracle.lose(before, &nodes, at_node);
            }
            _ => {
                opened += 1;
                let agent = nodes[at_node].agent;
                let seed = seed * 64 + 32 + opened;
                nodes[at_node] = match (dice.roll(3), backups.get(&agent)) {
                    // Storage is lost.
                    (0, _) => Node::open(agent, seed, Disk::default(), How::InMemory, at(ms)),
                    // A backup that says so; without saying so it forks its own log.
                    (1, Some(disk)) => Node::open(agent, seed, disk.clone(), How::Restored, at(ms)),
                    (2, Some(disk)) if forks => Node::open(agent, seed, disk.clone(), How::Resumed, at(ms)),
                    _ => continue,
                };
                // The first record says which logs were left.
                nodes[at_node].store();
            }
        }
        assert!(nodes[at_node].replica.verify(), "the fold is not what it is from scratch");
    }
    converge(&mut nodes, at(ms));
    let first = nodes[0].replica.digest(&topic());
    for node in &nodes {
        assert!(node.replica.verify());
        assert_eq!(live(node), live(&nodes[0]));
        assert_eq!(node.replica.digest(&topic()), first);
    }
    if !forks {
        let mut sizes = BTreeMap::new();
        for node in &nodes {
            for log in node.replica.logs().logs() {
                assert!(node.replica.logs().evidence(log.id()).is_none(), "nobody forked anything");
                let size = sizes.entry(*log.id()).or_default();
                *size = log.size().max(*size);
            }
        }
        let expected = oracle.live(&sizes);
        assert_eq!(live(&nodes[0]), expected);
        for one in
            oracle.contributions.iter().filter(|one| sizes.get(&one.log).is_some_and(|size| one.seq < *size))
        {
            // Nobody weakens here, so what was there can only have decayed since.
            let (now, then) = (contributed(&nodes[0], one.agent, one.key, ms), one.value);
            let decayed = decayed(then, ms - one.ms);
            assert!(now.to_bits() >= decayed.to_bits() / 1_000 * 999, "{one:?} is {now:?}");
        }
    }
}

#[test]
fn replicas_come_to_what_a_naive_fold_of_everything_says() {
    seeds(400, |seed| history(seed, false));
}

#[test]
fn replicas_agree_whatever_forks() {
    seeds(400, |seed| history(seed, true));
}
