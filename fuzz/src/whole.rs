//! Whole replicas: they write, append and prune events, hear bundles and sessions that break off, are restarted from what they
//! stored, from a backup or without storage, are copied, forget their topic, and hear a hostile member.
//!
//! Whatever happens: nothing panics, each state is what its entries add up to, storage brings back what was there, and in the end
//! all hold the same and go on. Who was not copied and came back from no old storage has forked nothing.

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use consilience::sync::session::{SessionEvent, SessionOptions};
use consilience::{Opened, Stored};
use consilience_crdts::Units;
use consilience_sync::{AgentId, Signer};

use crate::replicas::{Hostile, KEYS, MALLORY, Mallory, Node, TOPIC, keys, now, schema, topic};

/// So long a history shows what it can.
const STEPS_MAX: usize = 48;
const REPLICAS: usize = 3;
const COPIES_MAX: usize = 1;
/// The frames of a session that does not end by itself.
const FRAMES_MAX: usize = 600;
/// All know all after so many rounds, whatever was forked and closed.
const ROUNDS_MAX: usize = 24;

/// A step of a history. Numbers are indices, taken modulo how many there are.
#[derive(Clone, Debug, Arbitrary)]
pub enum Step {
    Write {
        who: u8,
        key: u8,
        value: Option<u8>,
    },
    Couple {
        who: u8,
        key: u8,
        by: u8,
    },
    Event {
        who: u8,
        len: u8,
    },
    Prune {
        who: u8,
        below: u8,
    },
    /// A bundle: what the other lacks, or everything.
    Tell {
        from: u8,
        to: u8,
        all: bool,
    },
    /// A bundle of which a byte has changed.
    Changed {
        from: u8,
        to: u8,
        at: u16,
        by: u8,
    },
    /// A session; it breaks off after so many frames, if not zero.
    Meet {
        from: u8,
        to: u8,
        frames: u8,
    },
    /// A hostile member's next entry.
    Hostile {
        to: u8,
        entry: Hostile,
    },
    Restart {
        who: u8,
        how: Restart,
    },
    Snapshot {
        who: u8,
    },
    /// From now on the snapshot and the records that are stored are an old copy too.
    Backup {
        who: u8,
    },
    /// A second process on a copy of the storage.
    Copy {
        who: u8,
    },
    Purge {
        who: u8,
    },
    Wait(u16),
}

/// What a replica comes back from.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Restart {
    Resumed,
    Restored,
    /// Nothing.
    Fresh,
    InMemory,
    /// The backup that was made last; as one, or by mistake as if it had everything.
    Backup {
        resumed: bool,
    },
}

/// What is stored.
#[derive(Clone, Default)]
struct Disk {
    snapshot: Option<Vec<u8>>,
    records: Vec<u8>,
}

struct Host {
    node: Node,
    agent: u8,
    /// Whether records of all that happens are stored.
    stores: bool,
    snapshot: Option<Vec<u8>>,
    backup: Disk,
}

struct World {
    hosts: Vec<Host>,
    mallory: Mallory,
    /// The agents whose keys two histories may have been signed with.
    may_fork: BTreeSet<AgentId>,
    ms: u64,
    opened: u8,
}

/// Runs a history and panics where something does not hold.
pub fn run(steps: &[Step]) {
    let fresh = |agent: u8| Host {
        node: Node::new(agent, agent, Opened::Fresh),
        agent,
        stores: true,
        snapshot: None,
        backup: Disk::default(),
    };
    let mut world = World {
        hosts: (1..=REPLICAS as u8).map(fresh).collect(),
        mallory: MALLORY.clone(),
        may_fork: BTreeSet::from([keys(8).agent()]),
        ms: 0,
        opened: 20,
    };
    for step in steps.iter().take(STEPS_MAX) {
        world.ms += 1;
        world.step(step);
    }
    world.finish();
}

impl Host {
    fn disk(&self) -> Disk {
        Disk { snapshot: self.snapshot.clone(), records: self.node.records.clone() }
    }
}

impl World {
    fn index(&self, number: u8) -> usize {
        usize::from(number) % self.hosts.len()
    }

    fn pair(&self, from: u8, to: u8) -> Option<[usize; 2]> {
        let pair = [self.index(from), self.index(to)];
        (pair[0] != pair[1]).then_some(pair)
    }

    fn bundle(&mut self, [from, to]: [usize; 2], all: bool) -> Vec<u8> {
        let since = self.hosts[to].node.replica.summary();
        self.hosts[from].node.store();
        let since = (!all).then_some(&since[..]);
        self.hosts[from].node.replica.export_bundle(|_| true, since, now(self.ms)).unwrap()
    }

    fn step(&mut self, step: &Step) {
        let ms = self.ms;
        match step {
            Step::Write { who, key, value } => {
                let who = self.index(*who);
                let value = value.map(|value| [value; 3]);
                self.hosts[who].node.put(
                    ms,
                    KEYS[usize::from(key % 4)],
                    value.as_ref().map(|value| &value[..]),
                );
            }
            Step::Couple { who, key, by } => {
                let who = self.index(*who);
                let node = &mut self.hosts[who].node;
                let mut tx = node.replica.transact(node.writer, TOPIC, now(ms)).unwrap();
                let by = Units::new(1 + u32::from(by % 9));
                tx.coupling("trust", schema()).strengthen(KEYS[usize::from(key % 4)], by).unwrap();
                tx.commit().unwrap();
                node.store();
            }
            Step::Event { who, len } => {
                let who = self.index(*who);
                let node = &mut self.hosts[who].node;
                node.replica.append_event(node.writer, TOPIC, &vec![7; usize::from(*len)], now(ms)).unwrap();
                node.store();
            }
            Step::Prune { who, below } => {
                let who = self.index(*who);
                let node = &mut self.hosts[who].node;
                let below = u64::from(below % 4);
                // More than there is, perhaps.
                let _ = node.replica.append_event_pruning(node.writer, TOPIC, b"pruned", below, now(ms));
                node.store();
            }
            Step::Tell { from, to, all } => {
                if let Some(pair) = self.pair(*from, *to) {
                    let bundle = self.bundle(pair, *all);
                    self.hosts[pair[1]].node.take(&bundle, ms);
                }
            }
            Step::Changed { from, to, at, by } => {
                if let Some(pair) = self.pair(*from, *to) {
                    let mut bundle = self.bundle(pair, true);
                    let at = usize::from(*at) % bundle.len();
                    bundle[at] ^= by;
                    let node = &mut self.hosts[pair[1]].node;
                    let _ = node.replica.import_bundle(&bundle, now(ms));
                    node.store();
                }
            }
            Step::Meet { from, to, frames } => {
                if let Some(pair) = self.pair(*from, *to) {
                    let frames = if *frames == 0 { FRAMES_MAX } else { usize::from(*frames) };
                    self.meet(pair, frames);
                }
            }
            Step::Hostile { to, entry } => {
                let bundle = self.mallory.append(entry);
                let to = self.index(*to);
                // What does not follow is refused.
                let _ = self.hosts[to].node.replica.import_bundle(&bundle, now(2_000 + ms));
                self.hosts[to].node.store();
            }
            Step::Restart { who, how } => self.restart(self.index(*who), *how),
            Step::Snapshot { who } => {
                let who = self.index(*who);
                let host = &mut self.hosts[who];
                host.node.store();
                let snapshot = host.node.replica.snapshot();
                host.node.replica.confirm_snapshot(snapshot.covers()).unwrap();
                host.snapshot = Some(snapshot.into_bytes());
                host.node.records.clear();
                host.node.store();
            }
            Step::Backup { who } => {
                let who = self.index(*who);
                self.hosts[who].backup = self.hosts[who].disk();
            }
            Step::Copy { who } => {
                let who = self.index(*who);
                if self.hosts.len() < REPLICAS + COPIES_MAX {
                    let (agent, disk) = (self.hosts[who].agent, self.hosts[who].disk());
                    self.may_fork.insert(keys(agent).agent());
                    self.opened += 1;
                    let node = open(ms, agent, self.opened, &disk, Restart::Resumed);
                    self.hosts.push(Host {
                        node,
                        agent,
                        stores: true,
                        snapshot: disk.snapshot,
                        backup: Disk::default(),
                    });
                }
            }
            Step::Purge { who } => {
                let who = self.index(*who);
                let node = &mut self.hosts[who].node;
                node.replica.purge(&topic());
                assert_eq!(node.replica.topics().count(), 0, "all of it is forgotten");
                node.store();
            }
            Step::Wait(ms) => self.ms += u64::from(*ms),
        }
    }

    fn restart(&mut self, who: usize, how: Restart) {
        self.opened = self.opened.wrapping_add(1);
        let host = &mut self.hosts[who];
        host.node.store();
        let disk = match how {
            Restart::Resumed | Restart::Restored => host.disk(),
            Restart::Fresh | Restart::InMemory => Disk::default(),
            Restart::Backup { resumed } => {
                if resumed {
                    self.may_fork.insert(keys(host.agent).agent());
                }
                host.backup.clone()
            }
        };
        let before = host.node.replica.digest(&topic());
        let mut node = open(self.ms, host.agent, self.opened, &disk, how);
        node.records = disk.records;
        if matches!(how, Restart::Resumed) && host.stores {
            assert_eq!(node.replica.digest(&topic()), before, "storage brings it back");
        }
        node.store();
        host.stores = !matches!(how, Restart::InMemory);
        (host.node, host.snapshot) = (node, disk.snapshot);
    }

    /// Two speak until both are quiet, or the connection breaks.
    fn meet(&mut self, pair: [usize; 2], frames_max: usize) {
        let time = now(self.ms);
        let [a, b] = self.hosts.get_disjoint_mut(pair).unwrap();
        let [a, b] = [&mut a.node, &mut b.node];
        let dials = a.replica.connect(a.writer, SessionOptions::dial(), time).unwrap();
        let listens = b.replica.connect(b.writer, SessionOptions::listen(), time).unwrap();
        let (mut frame, mut frames) = (Vec::new(), 0);
        loop {
            let before = frames;
            while frames < frames_max && a.replica.poll_transmit(dials, time, &mut frame) {
                let _ = b.replica.handle_input(listens, &frame, time);
                b.store();
                frame.clear();
                frames += 1;
            }
            while frames < frames_max && b.replica.poll_transmit(listens, time, &mut frame) {
                let _ = a.replica.handle_input(dials, &frame, time);
                a.store();
                frame.clear();
                frames += 1;
            }
            if frames == before {
                break;
            }
        }
        for (node, session) in [(&mut *a, dials), (&mut *b, listens)] {
            node.replica.disconnect(session);
            while node.replica.poll_transmit(session, time, &mut frame) {}
            while let Some((_, event)) = node.replica.poll_event() {
                assert!(!matches!(event, SessionEvent::Fault(_)), "honest sides: {event:?}");
            }
            node.store();
        }
    }

    /// All hear all until nobody hears anything new; then they hold the same.
    fn settle(&mut self) {
        self.ms += 10_000;
        let everything: Vec<Vec<u8>> = self.mallory.everything();
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "they go on telling each other news");
            let before: Vec<_> = self.hosts.iter_mut().map(|host| host.node.replica.heads_root()).collect();
            for to in 0..self.hosts.len() {
                for bundle in &everything {
                    let node = &mut self.hosts[to].node;
                    let _ = node.replica.import_bundle(bundle, now(self.ms));
                    node.store();
                }
                for from in (0..self.hosts.len()).filter(|from| *from != to) {
                    let bundle = self.bundle([from, to], round % 2 == 1);
                    self.hosts[to].node.take(&bundle, self.ms);
                }
            }
            let after: Vec<_> = self.hosts.iter_mut().map(|host| host.node.replica.heads_root()).collect();
            if round > 0 && before == after && after.iter().all(|root| *root == after[0]) {
                break;
            }
        }
        let digest = self.hosts[0].node.replica.digest(&topic());
        for host in &self.hosts {
            assert!(host.node.replica.verify(), "the state is what the entries add up to");
            assert_eq!(host.node.replica.digest(&topic()), digest, "the same entries, the same state");
            let logs = host.node.replica.logs();
            for log in logs.logs().filter(|log| logs.evidence(log.id()).is_some()) {
                assert!(self.may_fork.contains(&log.opening().agent), "an honest log is forked");
            }
        }
    }

    fn finish(&mut self) {
        self.settle();
        for who in 0..self.hosts.len() {
            self.restart(who, Restart::Resumed);
            self.hosts[who].node.put(self.ms, KEYS[who % 4], Some(b"after"));
        }
        self.settle();
    }
}

fn open(ms: u64, agent: u8, seed: u8, disk: &Disk, how: Restart) -> Node {
    let stored = Stored { snapshot: disk.snapshot.as_deref(), records: &disk.records };
    let opened = match how {
        Restart::Resumed | Restart::Backup { resumed: true } => Opened::Resumed(stored),
        Restart::Restored | Restart::Backup { resumed: false } => Opened::Restored(stored),
        Restart::Fresh => Opened::Fresh,
        Restart::InMemory => Opened::InMemory,
    };
    let mut node = Node::at(ms, agent, seed, opened);
    node.records.clone_from(&disk.records);
    node
}
