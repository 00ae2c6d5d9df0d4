//! A replica among others while its storage is watched, and what has to hold when it comes back: it hears bundles, meets
//! a relay, is copied and forked by its copy, loses its storage and starts without it, purges its topic and has it again
//! from others, and prunes events.
//!
//! Only what is written once is looked for in the end: each write that was acknowledged has a key of its own, which
//! nobody writes again, so it has to be there whatever became of the log that it was in.
//!
//! Two things are not asked for, because nobody promises them. A fork of a log ends all logs of lower incarnations
//! (`docs/decisions/succession.md`), so the storage is copied only after what they said was taken over. And what a forked log
//! said is written again by who wrote it, so the topic is not forgotten, nor the storage lost, between a copy and the fork.

use std::collections::{BTreeMap, BTreeSet};

use consilience::journal::{JournalCorrupt, Record, RecordId, Snapshot, recover};
use consilience::sync::session::{SessionEvent, SessionOptions};
use consilience::sync::{Limits, Relay, Signer as _};
use consilience::{Opened, Replica, ReplicaError, Stored, Writer};

use crate::meetings::meet;
use crate::watch::{Effect, Left, Seen, Survive, Watch, left};
use crate::world::{Dice, Disk, How, Node, TOPIC, at, config, converge, keys, mesh, secret, topic};

/// So many copies of the storage are made at most.
const COPIES_MAX: usize = 2;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A key that many write.
    Set(&'static str),
    Remove(&'static str),
    /// A key that nobody else writes.
    Keep,
    /// Values that make the log carry.
    Fill,
    Event,
    /// An event that takes those below out.
    Prune,
    /// A bundle with what Bob has written meanwhile.
    Hear,
    /// A session with the relay, and one of Bob's before it.
    Relay,
    /// What is stored is copied, and the copy goes on. Only where it has taken over what it wrote in earlier incarnations:
    /// a fork ends those below it.
    Copy,
    /// The copies write.
    CopyWrites,
    /// What the copies and all others have said comes here by way of somebody who has all of it.
    HearAll,
    /// The topic is forgotten. Not between a copy and the fork: nobody else writes again what the forked log said.
    Purge,
    /// All that is stored is gone; it starts without. Neither between a copy and the fork.
    Lose,
    Write,
    Sync,
    Snapshot,
    Resume,
    Restore,
}

use Step::*;

const STEPS: &[Step] = &[
    Keep,
    Set("a"),
    Write,
    Sync,
    Event,
    Hear,
    Write,
    Sync,
    Relay,
    Write,
    Sync,
    // Whoever starts without storage closes what it wrote before, once it has heard of that.
    Lose,
    Hear,
    Write,
    Keep,
    Set("a"),
    Event,
    Write,
    Sync,
    Relay,
    Write,
    Sync,
    Fill,
    Write,
    Sync,
    Snapshot,
    Event,
    Prune,
    Write,
    Sync,
    Purge,
    Write,
    Sync,
    // It writes before it has anything back.
    Keep,
    Write,
    Hear,
    Write,
    Sync,
    Set("b"),
    Write,
    Sync,
    Resume,
    HearAll,
    Write,
    Sync,
    Copy,
    Keep,
    Event,
    Write,
    Sync,
    CopyWrites,
    Keep,
    // The fork is found out, and what the log said is written again.
    HearAll,
    Write,
    Sync,
    Keep,
    Write,
    Sync,
    Snapshot,
    Relay,
    Write,
    Remove("a"),
    Keep,
    Write,
    Sync,
    Restore,
    Keep,
    Write,
    Sync,
    Hear,
    Write,
    Sync,
    Purge,
    Hear,
    Write,
    Snapshot,
    Keep,
    Write,
    Sync,
    Lose,
    Keep,
    Write,
    Sync,
    HearAll,
    Write,
    Keep,
    Write,
    Sync,
];

/// What can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    digest: [u8; 32],
    live: BTreeMap<String, BTreeSet<Vec<u8>>>,
    events: usize,
}

fn view(replica: &Replica) -> View {
    let there = replica.topic(TOPIC).unwrap();
    let tasks = there.map("tasks");
    let live = tasks.iter().map(|live| {
        let values = tasks.conflicts(live.key).iter().map(|live| live.value.to_vec()).collect();
        (String::from_utf8(live.key.to_vec()).unwrap(), values)
    });
    View { digest: replica.digest(&topic()), live: live.collect(), events: there.events().len() }
}

/// The replica that is watched, and all that it has to do with. Their own storage loses nothing.
#[derive(Debug)]
pub struct Watched {
    replica: Replica,
    writer: Writer,
    bob: Node,
    /// Who got everything that could leave.
    peer: Node,
    copies: Vec<Node>,
    relay: Relay,
    relay_disk: Disk,
    /// What could be read when a record was the last.
    views: BTreeMap<u64, View>,
    /// Keys that nobody else writes, by the record after which they are acknowledged.
    waits: Vec<(u64, String)>,
    /// Those that are acknowledged.
    kept: Vec<String>,
    /// The last record that was confirmed.
    confirmed: u64,
    /// It was opened as from a backup, and that is not stored yet.
    restores: bool,
    /// It has heard from somebody who has all, since it lost something; and has stored what it wrote then.
    heard: bool,
    settled: bool,
    /// There is a copy of which it has not heard yet.
    contested: bool,
    ms: u64,
    opened: u64,
    seed: u64,
}

fn open(seed: u64, opened: Opened<'_>, ms: u64) -> (Replica, Writer) {
    let mut replica = Replica::open(config(seed), opened, at(ms)).unwrap();
    let writer = replica.add_writer(keys(0)).unwrap();
    (replica, writer)
}

fn open_relay(seed: u64, opened: Opened<'_>, ms: u64) -> Relay {
    let mut entropy = [6; 32];
    entropy[..8].copy_from_slice(&seed.to_le_bytes());
    Relay::open(secret(), Limits::default(), keys(9), entropy, opened, at(ms)).unwrap()
}

fn stored(disk: &Disk) -> Stored<'_> {
    Stored { snapshot: disk.snapshot.as_deref(), records: &disk.records }
}

/// The relay's host stores everything.
fn store(relay: &mut Relay, disk: &mut Disk) {
    while let Some(record) = relay.poll_record() {
        disk.records.extend(record.as_bytes());
        relay.confirm(record.id()).unwrap();
    }
}

/// A session, of which the replica stores nothing yet.
fn session(replica: &mut Replica, writer: Writer, relay: &mut Relay, ms: u64) {
    let now = at(ms);
    let calls = replica.connect(writer, SessionOptions::dial(), now).unwrap();
    let called = relay.connect(SessionOptions::listen(), now);
    let mut frame = Vec::new();
    loop {
        let mut quiet = true;
        while replica.poll_transmit(calls, now, &mut frame) {
            relay.handle_input(called, &frame, now).unwrap();
            frame.clear();
            quiet = false;
        }
        while relay.poll_transmit(called, now, &mut frame) {
            replica.handle_input(calls, &frame, now).unwrap();
            frame.clear();
            quiet = false;
        }
        if quiet {
            break;
        }
    }
    replica.disconnect(calls);
    relay.disconnect(called);
    while replica.poll_transmit(calls, now, &mut frame) || relay.poll_transmit(called, now, &mut frame) {}
    while let Some((_, event)) = replica.poll_event() {
        assert!(!matches!(event, SessionEvent::Fault(_)), "{event}");
    }
    while relay.poll_event().is_some() {}
}

impl Watched {
    fn set(&mut self, key: &str, value: &str) -> Option<RecordId> {
        let mut tx = self.replica.transact(self.writer, TOPIC, at(self.ms)).unwrap();
        tx.map("tasks").set(key, value).unwrap();
        tx.commit().unwrap()
    }

    fn come_again(&mut self, disk: &Disk, restores: bool) {
        self.opened += 1;
        let opened = if restores { Opened::Restored(stored(disk)) } else { Opened::Resumed(stored(disk)) };
        (self.replica, self.writer) = open(self.seed + 100 * self.opened, opened, self.ms);
        self.restores = restores;
        let recovered = recover(&mesh(), disk.snapshot.as_deref(), &disk.records).unwrap();
        // What came back is durable, and what did not come back never happened.
        self.acknowledge(recovered.last().as_u64());
        self.confirmed = recovered.last().as_u64();
        self.waits.clear();
        self.views.retain(|id, _| *id <= self.confirmed);
        if restores {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.waits.clear();
        (self.heard, self.settled) = (false, false);
    }

    fn acknowledge(&mut self, id: u64) {
        if self.heard && self.replica.blocked().is_none() {
            (self.settled, self.contested) = (true, false);
        }
        self.confirmed = self.confirmed.max(id);
        let done = self.waits.extract_if(.., |(waits, _)| *waits <= id);
        self.kept.extend(done.map(|(_, key)| key));
    }

    fn may_be_copied(&self) -> bool {
        let stored = self.settled && self.replica.blocked().is_none();
        stored && !self.contested && self.copies.len() < COPIES_MAX
    }

    fn hear(&mut self, from_peer: bool) {
        let now = at(self.ms);
        let node = if from_peer { &mut self.peer } else { &mut self.bob };
        let since = self.replica.summary();
        let bundle = node.replica.export_bundle(|_| true, Some(&since), now).unwrap();
        let refused = self.replica.import_bundle(&bundle, now).unwrap().refused;
        assert!(refused == 0 || !self.copies.is_empty(), "{refused} parts of an honest bundle");
        if refused > 0 {
            // What follows on another history than the one that is here shows that only as a whole.
            let bundle = node.replica.export_bundle(|_| true, None, now).unwrap();
            self.replica.import_bundle(&bundle, now).unwrap();
        }
    }
}

impl Watch for Watched {
    type Step = Step;
    type Aftermath = Aftermath;
    const STEPS: &'static [Step] = STEPS;
    const GOES_ON: &'static [Step] = &[Set("a"), Remove("b"), Keep, Event, Hear, Relay, CopyWrites, HearAll];

    fn new(seed: u64) -> Self {
        let (replica, writer) = open(seed, Opened::Fresh, 0);
        let views = BTreeMap::from([(0, view(&replica))]);
        Self {
            replica,
            writer,
            bob: Node::fresh(1, seed + 1_000),
            peer: Node::fresh(2, seed + 2_000),
            copies: Vec::new(),
            relay: open_relay(seed, Opened::Fresh, 0),
            relay_disk: Disk::default(),
            views,
            waits: Vec::new(),
            kept: Vec::new(),
            confirmed: 0,
            restores: false,
            heard: false,
            settled: false,
            contested: false,
            ms: 1,
            opened: 0,
            seed,
        }
    }

    /// The first two do what is written above, the others whatever comes.
    fn steps(seed: u64) -> Vec<Step> {
        const OFTEN: [Step; 24] = [
            Set("a"),
            Set("b"),
            Remove("a"),
            Keep,
            Keep,
            Keep,
            Fill,
            Event,
            Event,
            Prune,
            Hear,
            Hear,
            Relay,
            Copy,
            CopyWrites,
            CopyWrites,
            HearAll,
            Purge,
            Lose,
            Snapshot,
            Snapshot,
            Resume,
            Restore,
            Remove("b"),
        ];
        if seed < 4 {
            return STEPS.to_vec();
        }
        let mut dice = Dice::new(seed);
        let mut steps = Vec::new();
        while steps.len() < STEPS.len() {
            let step = OFTEN[dice.index(OFTEN.len())];
            // A process that ends has stored what it wrote.
            if matches!(step, Resume | Restore) {
                steps.extend([Write, Sync]);
            }
            steps.push(step);
            if dice.one_in(2) {
                steps.push(Write);
            }
            if dice.one_in(3) {
                steps.extend([Write, Sync]);
            }
        }
        steps
    }

    fn effect(&self, step: Step) -> Effect {
        match step {
            Write => Effect::Write,
            Sync => Effect::Sync,
            Snapshot => Effect::Snapshot,
            Resume => Effect::Resume,
            Restore => Effect::Restore,
            Copy if self.may_be_copied() => Effect::Copy,
            Lose if !self.contested => Effect::Lose,
            _ => Effect::Nothing,
        }
    }

    fn act(&mut self, step: Step) {
        self.ms += 10;
        let (ms, now) = (self.ms, at(self.ms));
        let value = format!("at {ms}");
        match step {
            Set(key) => drop(self.set(key, &value)),
            Remove(key) => {
                let mut tx = self.replica.transact(self.writer, TOPIC, now).unwrap();
                tx.map("tasks").remove(key).unwrap();
                tx.commit().unwrap();
            }
            Keep => {
                let key = format!("kept {ms}");
                let record = self.set(&key, &value).unwrap();
                self.waits.push((record.as_u64(), key));
            }
            Fill => {
                for round in 0..6 {
                    self.set("fill", &format!("{value} {round} {}", "x".repeat(60)));
                }
            }
            Event => {
                self.replica.append_event(self.writer, TOPIC, value.as_bytes(), now).unwrap();
            }
            Prune => {
                self.replica.append_event_pruning(self.writer, TOPIC, b"pruned", 1, now).unwrap();
            }
            Hear => {
                let key = format!("kept {ms} by bob");
                self.bob.set(&key, &value, now);
                self.bob.set("b", &value, now);
                self.kept.push(key);
                self.hear(false);
            }
            Relay => {
                meet(&mut self.bob, &mut self.relay, ms, usize::MAX, |_| ());
                session(&mut self.replica, self.writer, &mut self.relay, ms);
                store(&mut self.relay, &mut self.relay_disk);
            }
            CopyWrites => {
                for (number, copy) in self.copies.iter_mut().enumerate() {
                    let key = format!("kept {ms} by copy {number}");
                    copy.set(&key, &value, now);
                    copy.event(&value, ms);
                    self.kept.push(key);
                }
            }
            HearAll => {
                for copy in &mut self.copies {
                    copy.tell(&mut self.peer, now);
                }
                self.hear(true);
                self.heard = true;
            }
            Purge if !self.contested => {
                // What nobody else has is gone, and was not acknowledged.
                self.forget();
                self.replica.purge(&topic());
            }
            Purge | Copy | Lose | Write | Sync | Snapshot | Resume | Restore => {}
        }
        assert!(self.replica.verify());
    }

    fn leak(&mut self) {
        let now = at(self.ms);
        let since = self.peer.replica.summary();
        let bundle = self.replica.export_bundle(|_| true, Some(&since), now).unwrap();
        let refused = self.peer.take(&bundle, now).refused;
        assert!(refused == 0 || !self.copies.is_empty(), "{refused} parts of an honest bundle");
        if refused > 0 {
            let bundle = self.replica.export_bundle(|_| true, None, now).unwrap();
            self.peer.take(&bundle, now);
        }
    }

    fn poll(&mut self) -> Vec<Record> {
        let records: Vec<Record> = std::iter::from_fn(|| self.replica.poll_record()).collect();
        if let Some(last) = records.last() {
            // What can be read now is what they say in the end.
            self.views.insert(last.id().as_u64(), view(&self.replica));
        }
        records
    }

    fn confirmed(&self) -> u64 {
        self.confirmed
    }

    fn confirm(&mut self, id: RecordId) {
        self.replica.confirm(id).unwrap();
        self.acknowledge(id.as_u64());
        self.restores = false;
    }

    fn snapshot(&mut self) -> Snapshot {
        let snapshot = self.replica.snapshot();
        self.views.insert(snapshot.covers().as_u64(), view(&self.replica));
        snapshot
    }

    fn confirm_snapshot(&mut self, covers: RecordId) {
        self.replica.confirm_snapshot(covers).unwrap();
        self.acknowledge(covers.as_u64());
        self.restores = false;
    }

    fn open_again(&mut self, disk: &Disk, restores: bool) {
        self.come_again(disk, restores);
        assert!(self.replica.cut().is_none());
    }

    fn come_back(&mut self, disk: &Disk) {
        self.ms += 1_000;
        self.seed += 10_000;
        self.come_again(disk, self.restores);
    }

    fn copy(&mut self, disk: &Disk) {
        let seed = self.seed + 9_000 + self.copies.len() as u64;
        self.copies.push(Node::open(0, seed, disk.clone(), How::Resumed, at(self.ms)));
        (self.contested, self.heard) = (true, false);
    }

    fn start_over(&mut self) {
        self.opened += 1;
        (self.replica, self.writer) = open(self.seed + 100 * self.opened, Opened::Fresh, self.ms);
        self.views = BTreeMap::from([(0, view(&self.replica))]);
        self.forget();
        (self.confirmed, self.restores) = (0, false);
    }

    fn refusal(disk: &Disk) -> Option<JournalCorrupt> {
        match Replica::open(config(9), Opened::Resumed(stored(disk)), at(0)) {
            Err(ReplicaError::Corrupt(corrupt)) => Some(corrupt),
            _ => None,
        }
    }

    fn aftermath(&self) -> Aftermath {
        Aftermath {
            views: self.views.clone(),
            waits: self.waits.clone(),
            kept: self.kept.clone(),
            confirmed: self.confirmed,
            restores: self.restores,
            bob: self.bob.disk(),
            peer: self.peer.disk(),
            copies: self.copies.iter().map(Node::disk).collect(),
            relay: self.relay_disk.clone(),
            ms: self.ms,
            seed: self.seed,
            seen: Seen::default(),
        }
    }
}

/// What is known where the power failed.
#[derive(Clone, Debug)]
pub struct Aftermath {
    views: BTreeMap<u64, View>,
    waits: Vec<(u64, String)>,
    kept: Vec<String>,
    confirmed: u64,
    restores: bool,
    bob: Disk,
    peer: Disk,
    copies: Vec<Disk>,
    relay: Disk,
    ms: u64,
    seed: u64,
    /// What survived already: whether something was cut, and what was left.
    seen: Seen,
}

impl Survive for Aftermath {
    fn as_backup(&self) -> Self {
        // What survived already did so otherwise.
        Self { restores: true, seen: Seen::default(), ..self.clone() }
    }

    fn has_confirmed(&self) -> bool {
        self.confirmed > 0
    }

    /// It says what its last record says and goes on; it meets the relay; all become equal, and nothing that anybody was
    /// told is stored is missing; and nobody is forked who was not copied.
    fn survive(&self, disk: &Disk, damaged: bool, name: &str) {
        let Some(Left { last, .. }) = left(disk, (damaged, self.confirmed), &self.seen, name) else { return };
        let how = if self.restores { How::Restored } else { How::Resumed };
        let mut ms = self.ms + 1_000;
        let mut ada = Node::open(0, self.seed + 50_000, disk.clone(), how, at(ms));
        assert!(ada.replica.verify(), "{name}");
        if let Some(expected) = self.views.get(&last) {
            assert_eq!(view(&ada.replica), *expected, "{name}: after record {last}");
        }
        // What is torn is cut where something takes its place.
        ada.records.truncate(ada.replica.good_to());
        ada.set("after", "the crash", at(ms));
        ada.event("after the crash", ms);
        ms += 10;
        let mut relay = open_relay(self.seed + 90, Opened::Resumed(stored(&self.relay)), ms);
        let met = meet(&mut ada, &mut relay, ms, usize::MAX, |_| ());
        assert!(met.in_sync(), "{name}: the relay, {met:?}");
        assert_eq!(ada.replica.heads_root(), relay.heads_root(), "{name}: the relay");
        ada.set("met", "again", at(ms));
        let mut all = vec![ada];
        let others =
            [(1, &self.bob), (2, &self.peer)].into_iter().chain(self.copies.iter().map(|disk| (0, disk)));
        for ((agent, disk), number) in others.zip(0_u64..) {
            let seed = self.seed + 60_000 + 1_000 * number;
            all.push(Node::open(agent, seed, disk.clone(), How::Resumed, at(ms)));
        }
        converge(&mut all, at(ms + 10));
        let disk = all[0].disk();
        all.push(Node::open(0, self.seed + 80_000, disk, How::Resumed, at(ms + 20)));
        let kept =
            self.kept.iter().chain(self.waits.iter().filter(|(id, _)| *id <= last).map(|(_, key)| key));
        let kept: Vec<&String> = kept.collect();
        let digest = all[0].state();
        for node in &all {
            let name = format!("{name}: agent {}", node.agent);
            let logs = node.replica.logs();
            for log in logs.logs().filter(|log| logs.evidence(log.id()).is_some()) {
                let copied = log.opening().agent == keys(0).agent() && !self.copies.is_empty();
                assert!(copied, "{name}: a log is forked");
            }
            assert_eq!(node.state(), digest, "{name}");
            for (key, value) in [("after", "the crash"), ("met", "again")] {
                assert_eq!(node.get(key).as_deref(), Some(value), "{name}: {key}");
            }
            for key in kept.iter().filter(|_| !damaged) {
                assert!(node.get(key).is_some(), "{name}: {key} is gone");
            }
            assert!(node.events().contains(&"after the crash".to_owned()), "{name}: the event is gone");
        }
    }
}

/// Else the other tests would say less than they seem to.
#[test]
fn the_replica_that_is_watched_is_forked_succeeds_itself_and_has_its_topic_again() {
    let mut watched = Watched::new(2);
    let mut disk = Disk::default();
    let (mut forked, mut closed, mut emptied, mut pruned) = (false, false, 0, false);
    for step in STEPS.iter().copied() {
        let effect = watched.effect(step);
        watched.act(step);
        match effect {
            Effect::Write | Effect::Sync => {
                watched.poll().iter().for_each(|record| disk.records.extend(record.as_bytes()));
                let last = recover(&mesh(), disk.snapshot.as_deref(), &disk.records).unwrap().last();
                if last.as_u64() > 0 {
                    watched.confirm(last);
                }
            }
            Effect::Snapshot => {
                let snapshot = watched.snapshot();
                watched.confirm_snapshot(snapshot.covers());
                disk = Disk { snapshot: Some(snapshot.into_bytes()), records: Vec::new() };
            }
            Effect::Resume | Effect::Restore => watched.open_again(&disk, effect == Effect::Restore),
            Effect::Copy => watched.copy(&disk),
            Effect::Lose => {
                disk = Disk::default();
                watched.start_over();
            }
            Effect::Nothing => {}
        }
        watched.leak();
        let logs = watched.replica.logs();
        forked |= logs.logs().any(|log| logs.evidence(log.id()).is_some());
        closed |= logs.logs().any(|log| logs.closures(log.id()).next().is_some());
        pruned |= logs
            .logs()
            .any(|log| log.base() > 0 && !watched.replica.topic(TOPIC).unwrap().events().is_empty());
        emptied += u32::from(matches!(step, Purge) && watched.replica.topics().next().is_none());
    }
    assert!(forked && closed && pruned && emptied == 2, "{forked} {closed} {pruned} {emptied}");
}

#[test]
fn what_a_replica_among_others_had_not_synced_may_be_gone_or_be_there() {
    crate::records::all_or_none::<Watched>();
}

#[test]
fn what_a_replica_among_others_had_not_synced_may_be_there_in_part_and_in_any_order() {
    crate::records::in_part::<Watched>();
}

#[test]
fn after_a_failed_sync_nothing_of_a_replica_among_others_is_lost() {
    crate::records::failed_sync::<Watched>();
}
