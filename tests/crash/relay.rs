//! What a relay does while its storage is watched, and what has to hold when it comes back: agents write, overwrite, remove,
//! append and prune events, and one of them runs twice; the relay meets them, one after the other, and sometimes a
//! connection breaks.
//!
//! The agents' own storage loses nothing. So all of them together, without the relay, say what there is to be known.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use consilience::journal::{JournalCorrupt, Record, RecordId, Snapshot, recover};
use consilience::sync::{Hash, Limits, LogId, LogKind, LogOpening, LogSet, Relay, Signer as _};
use consilience::{Opened, Stored};

use crate::meetings::{Met, meet};
use crate::watch::{Effect, Left, Seen, Survive, Watch, left};
use crate::world::{Disk, How, Node, TOPIC, at, converge, keys, mesh, secret, topic};

/// Agents, by their places.
const ADA: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;
/// Carol once more, from a copy of her storage.
const CLONE: usize = 3;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Set(usize, &'static str),
    Remove(usize, &'static str),
    /// Values of some size, each of which overwrites the one before, in several keys.
    Fill(usize),
    Event(usize),
    /// An event that takes those below out.
    Prune(usize, u64),
    /// Carol's storage is copied, and both go on.
    Clone,
    /// An agent's storage is gone, and it starts without.
    Lose(usize),
    /// An agent forgets the topic.
    Purge(usize),
    /// An agent and the relay meet, until both have all.
    Meet(usize),
    /// They meet, and the connection breaks after so many frames.
    Break(usize, usize),
    /// Hands what is to be stored to storage.
    Write,
    /// Makes it durable, and confirms it.
    Sync,
    /// Puts a snapshot in the place of the records.
    Snapshot,
    /// The same, if the relay asks for it.
    Compact,
    /// Ends, and comes back from what is stored.
    Resume,
    /// The same, as if from a backup.
    Restore,
    /// The time for which entries of forks are kept passes.
    Expire,
}

use Step::*;

const STEPS: &[Step] = &[
    Set(ADA, "a"),
    Event(ADA),
    Meet(ADA),
    Write,
    Sync,
    Set(BOB, "b"),
    Set(BOB, "a"),
    Event(BOB),
    Meet(BOB),
    Write,
    Set(ADA, "c"),
    Meet(ADA),
    Write,
    Sync,
    Fill(ADA),
    Event(ADA),
    // Some of it comes to the relay of one seed, and is stored.
    Break(ADA, 62),
    Write,
    Meet(ADA),
    Write,
    Sync,
    Compact,
    Remove(BOB, "a"),
    Event(ADA),
    Prune(ADA, 2),
    Meet(BOB),
    Meet(ADA),
    Write,
    Sync,
    Snapshot,
    Set(CAROL, "carol"),
    Event(CAROL),
    Meet(CAROL),
    Write,
    Sync,
    Resume,
    Fill(BOB),
    Meet(BOB),
    Write,
    Sync,
    Fill(BOB),
    Meet(BOB),
    // Some of what it covers was never written.
    Compact,
    Clone,
    Set(CAROL, "first"),
    Event(CAROL),
    Set(CLONE, "second"),
    Event(CLONE),
    Meet(CAROL),
    Write,
    Sync,
    Set(ADA, "d"),
    Meet(ADA),
    Write,
    // The fork is found out.
    Meet(CLONE),
    Write,
    Sync,
    Meet(CAROL),
    Write,
    Meet(BOB),
    Write,
    Sync,
    Restore,
    Write,
    Sync,
    Snapshot,
    Fill(ADA),
    Prune(ADA, 4),
    // Here to that of the other.
    Break(ADA, 30),
    Write,
    Sync,
    Resume,
    Meet(ADA),
    Meet(BOB),
    Write,
    Sync,
    Set(BOB, "d"),
    Meet(BOB),
    Write,
    // The entries of the forked logs go, in memory at once and in storage with the next snapshot.
    Expire,
    Set(ADA, "e"),
    Meet(ADA),
    Write,
    Sync,
    Snapshot,
    Meet(CAROL),
    Write,
    Meet(ADA),
    Meet(BOB),
    Meet(ADA),
    Write,
    Sync,
    // Whoever starts without storage closes what it wrote before.
    Lose(BOB),
    Set(BOB, "b"),
    Event(BOB),
    Meet(BOB),
    Write,
    Meet(ADA),
    Write,
    Sync,
    Purge(ADA),
    Set(ADA, "a"),
    Meet(ADA),
    Write,
    Sync,
    Meet(BOB),
    Write,
];

/// What a relay holds of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    opening: LogOpening,
    /// The entries that count, and the root up to the last of them.
    counts: (u64, u64),
    root: Option<Hash>,
    /// Which entries are there that count or come after. Those of a fork go in time, and those below the base not at once.
    held: Vec<(u64, u64)>,
    evidence: Option<Vec<u8>>,
}

/// What a relay holds.
type View = BTreeMap<LogId, Held>;

fn view(relay: &Relay) -> View {
    let logs = relay.logs();
    let held = logs.logs().map(|log| {
        let counts = logs.applicable(log.id()).unwrap();
        let evidence = logs.evidence(log.id()).map(|evidence| evidence.as_bytes().to_vec());
        let held = log.held().map(|(from, to)| (from.max(counts.0), to)).filter(|(from, to)| from < to);
        let held = held.filter(|_| evidence.is_none()).collect();
        (
            *log.id(),
            Held { opening: log.opening().clone(), counts, root: log.root_at(counts.1), held, evidence },
        )
    });
    held.collect()
}

/// Fails unless a relay holds at least what `before` says.
fn assert_holds(relay: &Relay, before: &View, name: &str) {
    let logs = relay.logs();
    for (log, before) in before {
        let Some(there) = logs.log(log) else {
            assert!(is_over(logs, before), "{name}: {log:?} is gone");
            continue;
        };
        let evidence = logs.evidence(log);
        assert!(before.evidence.is_none() || evidence.is_some(), "{name}: evidence of {log:?} is gone");
        if evidence.is_some() == before.evidence.is_some() {
            let (_, to) = logs.applicable(log).unwrap();
            assert!(to >= before.counts.1, "{name}: {log:?} has {to} of {before:?}");
            if there.start() <= before.counts.1 {
                assert_eq!(there.root_at(before.counts.1), before.root, "{name}: {log:?}");
            }
        }
    }
}

/// Whether a later incarnation that is there has closed or ended what was held of a log, or is forked.
fn is_over(logs: &LogSet, before: &Held) -> bool {
    let Held { opening, counts: (_, size), .. } = before;
    let later = logs.logs().filter(|log| {
        let other = log.opening();
        opening.kind == LogKind::State
            && (other.kind, other.agent, &other.topic) == (opening.kind, opening.agent, &opening.topic)
            && other.incarnation > opening.incarnation
    });
    later.into_iter().any(|log| {
        let closed = logs.closed_below(log.id(), opening.incarnation) >= *size;
        closed || logs.last_final(log.id()) > Some(opening.incarnation) || logs.evidence(log.id()).is_some()
    })
}

fn heads(logs: &LogSet) -> [u8; 32] {
    logs.clone().heads_root()
}

/// What an agent can read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    live: BTreeMap<String, BTreeSet<String>>,
    events: BTreeSet<String>,
}

fn read(node: &Node) -> Read {
    let there = node.replica.topic(TOPIC).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let names = there.map("tasks").iter().map(|live| text(live.key)).collect::<Vec<_>>();
    let live = names.into_iter().map(|key| {
        let values = node.live("tasks", &key).iter().map(|value| text(value)).collect();
        (key, values)
    });
    Read { live: live.collect(), events: node.events().into_iter().collect() }
}

fn open(seed: u64, opened: Opened<'_>, ms: u64) -> Result<Relay, JournalCorrupt> {
    let mut entropy = [5; 32];
    entropy[..8].copy_from_slice(&seed.to_le_bytes());
    Relay::open(secret(), Limits::default(), keys(9), entropy, opened, at(ms))
}

fn stored(disk: &Disk) -> Stored<'_> {
    Stored { snapshot: disk.snapshot.as_deref(), records: &disk.records }
}

/// The relay that is watched, and the agents that it meets.
#[derive(Debug)]
pub struct Watched {
    relay: Relay,
    agents: Vec<Node>,
    /// Records that were polled after each frame, and wait for storage.
    waiting: Vec<Record>,
    /// What was held when a record was the last.
    views: BTreeMap<u64, View>,
    /// The last record that was confirmed.
    confirmed: u64,
    ms: u64,
    opened: u64,
    seed: u64,
}

impl Watched {
    fn come_again(&mut self, disk: &Disk, restores: bool) {
        self.opened += 1;
        let opened = if restores { Opened::Restored(stored(disk)) } else { Opened::Resumed(stored(disk)) };
        self.relay = open(self.seed + 100 * self.opened, opened, self.ms).unwrap();
        self.waiting.clear();
        // What came back is durable, and what did not come back never happened.
        let recovered = recover(&mesh(), disk.snapshot.as_deref(), &disk.records).unwrap();
        self.confirmed = recovered.last().as_u64();
        self.views.retain(|id, _| *id < self.confirmed);
        self.views.insert(self.confirmed, view(&self.relay));
    }

    fn meet(&mut self, agent: usize, frames_max: usize) -> Met {
        // Half of them poll after each frame, so that more is known of what each record says.
        let polls = self.seed.is_multiple_of(2);
        let Self { relay, waiting, views, .. } = self;
        meet(&mut self.agents[agent], relay, self.ms, frames_max, |relay| {
            if polls {
                poll(relay, waiting, views);
            }
        })
    }
}

fn poll(relay: &mut Relay, waiting: &mut Vec<Record>, views: &mut BTreeMap<u64, View>) {
    waiting.extend(std::iter::from_fn(|| relay.poll_record()));
    if let Some(last) = waiting.last() {
        // What is held now is what they say in the end.
        views.insert(last.id().as_u64(), view(relay));
    }
}

impl Watch for Watched {
    type Step = Step;
    type Aftermath = Aftermath;
    const STEPS: &'static [Step] = STEPS;
    const GOES_ON: &'static [Step] = &[
        Set(ADA, "a"),
        Remove(BOB, "b"),
        Event(CAROL),
        Fill(BOB),
        Meet(ADA),
        Meet(BOB),
        Meet(CAROL),
        Break(BOB, 36),
    ];

    fn new(seed: u64) -> Self {
        let relay = open(seed, Opened::Fresh, 0).unwrap();
        let agents = (0..3).map(|agent| Node::fresh(agent, seed + 1_000 * (u64::from(agent) + 1))).collect();
        let views = BTreeMap::from([(0, View::new())]);
        Self { relay, agents, waiting: Vec::new(), views, confirmed: 0, ms: 1, opened: 0, seed }
    }

    fn effect(&self, step: Step) -> Effect {
        match step {
            Write => Effect::Write,
            Sync => Effect::Sync,
            Compact if !self.relay.wants_snapshot() => Effect::Nothing,
            Snapshot | Compact => Effect::Snapshot,
            Resume => Effect::Resume,
            Restore => Effect::Restore,
            _ => Effect::Nothing,
        }
    }

    fn act(&mut self, step: Step) {
        self.ms += 10;
        let (ms, now) = (self.ms, at(self.ms));
        let value = format!("at {ms}");
        match step {
            Set(agent, key) => self.agents[agent].set(key, &value, now),
            Remove(agent, key) => self.agents[agent].remove(key, now),
            Fill(agent) => {
                for round in 0..12 {
                    let key = format!("fill {agent} {}", round % 4);
                    self.agents[agent].set(&key, &format!("{value} {round} {}", "x".repeat(300)), now);
                }
            }
            Event(agent) => {
                self.agents[agent].event(&format!("{agent} {value} {}", "x".repeat(250)), ms);
            }
            Prune(agent, below) => {
                let node = &mut self.agents[agent];
                node.replica.append_event_pruning(node.writer, TOPIC, b"pruned", below, now).unwrap();
                node.store();
            }
            Clone => {
                let disk = self.agents[CAROL].disk();
                self.agents.push(Node::open(2, self.seed + 9_000, disk, How::Resumed, now));
            }
            Lose(agent) => {
                let seed = self.seed + 9_500 + ms;
                let number = self.agents[agent].agent;
                self.agents[agent] = Node::open(number, seed, Disk::default(), How::Fresh, now);
            }
            Purge(agent) => {
                self.agents[agent].replica.purge(&topic());
                self.agents[agent].store();
            }
            Meet(agent) => {
                assert!(self.meet(agent, usize::MAX).in_sync(), "{step:?} at {ms}");
                assert_eq!(heads(self.relay.logs()), heads(self.agents[agent].replica.logs()), "{step:?}");
            }
            Break(agent, frames) => {
                self.meet(agent, frames);
            }
            Expire => {
                let held = |relay: &Relay| relay.logs().stats().bytes;
                let before = held(&self.relay);
                self.ms += Limits::default().invalid_keep_ms + 1_000;
                self.relay.handle_timeout(at(self.ms));
                assert!(held(&self.relay) < before, "{step:?}: nothing went");
            }
            Write | Sync | Snapshot | Compact | Resume | Restore => {}
        }
    }

    /// What a relay passes on leaves without its storage.
    fn leak(&mut self) {}

    fn poll(&mut self) -> Vec<Record> {
        poll(&mut self.relay, &mut self.waiting, &mut self.views);
        std::mem::take(&mut self.waiting)
    }

    fn confirmed(&self) -> u64 {
        self.confirmed
    }

    fn confirm(&mut self, id: RecordId) {
        self.relay.confirm(id).unwrap();
        self.confirmed = self.confirmed.max(id.as_u64());
    }

    fn snapshot(&mut self) -> Snapshot {
        let snapshot = self.relay.snapshot();
        self.waiting.clear();
        self.views.insert(snapshot.covers().as_u64(), view(&self.relay));
        snapshot
    }

    fn confirm_snapshot(&mut self, covers: RecordId) {
        self.relay.confirm_snapshot(covers).unwrap();
        self.confirmed = self.confirmed.max(covers.as_u64());
    }

    fn open_again(&mut self, disk: &Disk, restores: bool) {
        self.come_again(disk, restores);
        assert!(self.relay.cut().is_none());
    }

    fn come_back(&mut self, disk: &Disk) {
        self.ms += 1_000;
        self.seed += 10_000;
        self.come_again(disk, false);
    }

    fn refusal(disk: &Disk) -> Option<JournalCorrupt> {
        open(9, Opened::Resumed(stored(disk)), 0).err()
    }

    fn aftermath(&self) -> Aftermath {
        Aftermath {
            views: self.views.clone(),
            confirmed: self.confirmed,
            agents: self.agents.iter().map(|node| (node.agent, node.disk())).collect(),
            ms: self.ms,
            seed: self.seed,
            all: OnceCell::new(),
            seen: Seen::default(),
        }
    }
}

/// What is known where the power failed.
#[derive(Clone, Debug)]
pub struct Aftermath {
    views: BTreeMap<u64, View>,
    confirmed: u64,
    agents: Vec<(u8, Disk)>,
    ms: u64,
    seed: u64,
    /// What the agents read once they have told each other everything, without a relay.
    all: OnceCell<Read>,
    /// What survived already.
    seen: Seen,
}

impl Aftermath {
    fn agents(&self, seed: u64) -> Vec<Node> {
        let agents = self.agents.iter().zip(0..);
        let opens = |((agent, disk), number): (&(u8, Disk), u64)| {
            Node::open(
                *agent,
                self.seed + seed + 1_000 * number,
                disk.clone(),
                How::Resumed,
                at(self.ms + 1_000),
            )
        };
        agents.map(opens).collect()
    }

    fn all(&self) -> &Read {
        self.all.get_or_init(|| {
            let mut agents = self.agents(50_000);
            converge(&mut agents, at(self.ms + 1_000));
            read(&agents[ADA])
        })
    }
}

impl Survive for Aftermath {
    /// A relay signs nothing of what it stores, so a backup is as good as what was stored last.
    fn as_backup(&self) -> Self {
        self.clone()
    }

    fn has_confirmed(&self) -> bool {
        self.confirmed > 0
    }

    /// It holds what was confirmed and what its last record says; a newcomer that meets it takes all of it; and it becomes
    /// equal with the agents, to whom nothing is lost.
    fn survive(&self, disk: &Disk, damaged: bool, name: &str) {
        let Some(found) = left(disk, (damaged, self.confirmed), &self.seen, name) else { return };
        let Left { last, good_to, is_cut, disk: left } = found;
        let mut ms = self.ms + 1_000;
        let mut relay = open(self.seed + 50_000, Opened::Resumed(stored(disk)), ms).unwrap();
        assert_eq!((relay.good_to(), relay.cut().is_some()), (good_to, is_cut), "{name}");
        if let Some(expected) = self.views.get(&last) {
            assert_eq!(view(&relay), *expected, "{name}: after record {last}");
        }
        if !damaged {
            assert_holds(&relay, &self.views[&self.confirmed], name);
        }
        // Who holds nothing takes all of it, and checks it.
        let mut newcomer = Node::fresh(5, self.seed + 60_000);
        let met = meet(&mut newcomer, &mut relay, ms, usize::MAX, |_| ());
        assert!(met.in_sync(), "{name}: a newcomer, {met:?}");
        assert_eq!(heads(newcomer.replica.logs()), heads(relay.logs()), "{name}: a newcomer");
        assert!(newcomer.replica.verify(), "{name}: a newcomer");
        // Each agent becomes equal with it, and in the end all of them.
        let mut agents = self.agents(70_000);
        let mut host = left;
        let mut equal = false;
        for _ in 0..4 {
            for node in &mut agents {
                ms += 10;
                let met = meet(node, &mut relay, ms, usize::MAX, |_| ());
                assert!(met.in_sync(), "{name}: agent {}, {met:?}", node.agent);
                assert_eq!(heads(node.replica.logs()), heads(relay.logs()), "{name}: agent {}", node.agent);
                store(&mut relay, &mut host);
            }
            equal = agents.iter().all(|node| heads(node.replica.logs()) == heads(relay.logs()));
            if equal {
                break;
            }
        }
        assert!(equal, "{name}: the agents go on telling the relay news");
        for node in &agents {
            assert!(node.replica.verify(), "{name}: agent {}", node.agent);
            assert_eq!(node.state(), agents[ADA].state(), "{name}: agent {}", node.agent);
            assert_eq!(read(node), *self.all(), "{name}: agent {}", node.agent);
        }
        // No log of one who wrote alone is forked.
        for log in relay.logs().logs().filter(|log| log.opening().agent != keys(2).agent()) {
            assert!(relay.logs().evidence(log.id()).is_none(), "{name}: a log is forked");
        }
        // It goes on from there.
        let again = open(self.seed + 80_000, Opened::Resumed(stored(&host)), ms).unwrap();
        assert!(again.cut().is_none(), "{name}");
        assert_eq!(view(&again), view(&relay), "{name}: opened once more");
        assert_eq!(heads(again.logs()), heads(relay.logs()), "{name}: opened once more");
        assert_eq!(agents[ADA].replica.digest(&topic()), agents[BOB].replica.digest(&topic()), "{name}");
    }
}

/// The relay's host stores everything.
fn store(relay: &mut Relay, host: &mut Disk) {
    while let Some(record) = relay.poll_record() {
        host.records.extend(record.as_bytes());
        relay.confirm(record.id()).unwrap();
    }
}

/// Else the other tests would say less than they seem to.
#[test]
fn the_relay_that_is_watched_compacts_meets_broken_connections_and_finds_a_fork() {
    for seed in [2, 3] {
        let mut watched = Watched::new(seed);
        let mut disk = Disk::default();
        // How often a snapshot was asked for; how often some came over a connection, and not all.
        let (mut compacted, mut broken, mut closed) = (0, 0, false);
        for step in STEPS.iter().copied() {
            let effect = watched.effect(step);
            let before = heads(watched.relay.logs());
            watched.act(step);
            match effect {
                Effect::Write => {
                    watched.poll().iter().for_each(|record| disk.records.extend(record.as_bytes()))
                }
                Effect::Snapshot => {
                    compacted += u32::from(matches!(step, Compact));
                    let snapshot = watched.snapshot();
                    watched.confirm_snapshot(snapshot.covers());
                    disk = Disk { snapshot: Some(snapshot.into_bytes()), records: Vec::new() };
                }
                Effect::Resume | Effect::Restore => watched.open_again(&disk, effect == Effect::Restore),
                Effect::Sync | Effect::Nothing => {}
                Effect::Copy | Effect::Lose => unreachable!("{step:?}"),
            }
            closed |= watched
                .relay
                .logs()
                .logs()
                .any(|log| watched.relay.logs().closures(log.id()).next().is_some());
            if let Break(agent, _) = step {
                let after = heads(watched.relay.logs());
                let all = heads(watched.agents[agent].replica.logs());
                broken += u32::from(after != before && after != all);
            }
        }
        let logs = watched.relay.logs();
        assert_eq!(logs.logs().filter(|log| logs.evidence(log.id()).is_some()).count(), 2);
        assert!(logs.logs().any(|log| log.base() > 0 && log.opening().kind == LogKind::Event));
        assert!(compacted > 0 && broken > 0 && closed, "seed {seed}: {compacted}, {broken}");
    }
}

#[test]
fn what_a_relay_had_not_synced_may_be_gone_or_be_there() {
    crate::records::all_or_none::<Watched>();
}

#[test]
fn what_a_relay_had_not_synced_may_be_there_in_part_and_in_any_order() {
    crate::records::in_part::<Watched>();
}

#[test]
fn the_last_record_of_a_relay_may_be_torn_at_every_byte() {
    crate::records::torn::<Watched>();
}

#[test]
fn a_flipped_bit_of_a_relay_is_told_where_it_was_confirmed_and_cut_elsewhere() {
    crate::records::flipped::<Watched>();
}

#[test]
fn after_a_failed_sync_a_relay_loses_nothing_confirmed() {
    crate::records::failed_sync::<Watched>();
}

#[cfg(feature = "file-store")]
#[test]
fn power_lost_at_any_effect_of_a_relays_file_store_loses_nothing_confirmed_and_damages_no_log() {
    crate::files::lost::<Watched>(16);
}

#[cfg(feature = "file-store")]
#[test]
fn power_lost_again_and_again_under_a_relay_loses_nothing_confirmed() {
    crate::files::lost_again::<Watched>();
}

#[cfg(feature = "file-store")]
#[test]
fn a_flipped_bit_in_any_file_of_a_relay_is_told_or_harmless() {
    crate::files::flipped::<Watched>();
}
