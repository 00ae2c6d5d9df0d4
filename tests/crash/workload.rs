//! What a replica does while its storage is watched, and what has to hold when it comes back.

use std::collections::BTreeMap;

use consilience::crdts::Units;
use consilience::journal::{JournalCorrupt, Record, RecordId, Snapshot, recover};
use consilience::{EventRef, Opened, Replica, ReplicaError, Stored, Writer};

use crate::watch::{Effect, Left, Seen, Survive, Watch, left};
use crate::world::{Disk, How, Node, TOPIC, at, config, keys, mesh, schema, topic};

/// One thing that the host does.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Set(&'static str),
    Remove(&'static str),
    /// Values that make the log carry.
    Fill(u8),
    Strengthen,
    Event,
    Erase,
    Prune,
    /// What the other member has written meanwhile comes in.
    Hear,
    /// Hands what is to be stored to storage.
    Write,
    /// Makes it durable, and confirms it.
    Sync,
    /// Puts a snapshot in the place of the records.
    Snapshot,
    /// Ends, and comes back from what is stored.
    Resume,
    /// The same, as if from a backup.
    Restore,
}

use Step::*;

pub const STEPS: [Step; 60] = [
    Set("a"),
    Write,
    Sync,
    Set("b"),
    Write,
    Set("c"),
    Event,
    Write,
    Sync,
    Hear,
    Remove("a"),
    Write,
    Strengthen,
    Write,
    Sync,
    Fill(1),
    Write,
    Sync,
    Snapshot,
    Set("d"),
    Event,
    Write,
    Sync,
    Hear,
    Write,
    Erase,
    Set("b"),
    Write,
    Sync,
    Resume,
    Set("e"),
    Write,
    Fill(2),
    Write,
    Sync,
    // Some of what it covers was never written.
    Set("f"),
    Snapshot,
    Set("g"),
    Write,
    Set("h"),
    Write,
    Sync,
    Prune,
    Write,
    Sync,
    Hear,
    Restore,
    Write,
    Set("i"),
    Write,
    Sync,
    Remove("b"),
    Hear,
    Write,
    Sync,
    Snapshot,
    Event,
    Fill(3),
    Write,
    Sync,
];

/// What can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    digest: [u8; 32],
    live: BTreeMap<String, String>,
    events: usize,
}

fn view(replica: &Replica) -> View {
    let there = replica.topic(TOPIC).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let live = there.map("tasks").iter().map(|live| (text(live.key), text(live.value))).collect();
    View { digest: replica.digest(&topic()), live, events: there.events().len() }
}

/// The replica that is watched, one that writes beside it, and one that got everything that could leave.
#[derive(Debug)]
pub struct Watched {
    replica: Replica,
    writer: Writer,
    event: Option<EventRef>,
    bob: Node,
    peer: Node,
    /// What could be read when a record was the last.
    views: BTreeMap<u64, View>,
    /// The last record that was confirmed.
    confirmed: u64,
    /// It was opened as from a backup, and that is not stored yet.
    restores: bool,
    ms: u64,
    opened: u64,
    seed: u64,
}

fn open(seed: u64, opened: Opened<'_>, ms: u64) -> (Replica, Writer) {
    let mut replica = Replica::open(config(seed), opened, at(ms)).unwrap();
    let writer = replica.add_writer(keys(0)).unwrap();
    (replica, writer)
}

impl Watched {
    /// Comes back from what is stored, perhaps without what was torn.
    fn open_torn(&mut self, disk: &Disk, restores: bool) {
        self.opened += 1;
        let stored = Stored { snapshot: disk.snapshot.as_deref(), records: &disk.records };
        let opened = if restores { Opened::Restored(stored) } else { Opened::Resumed(stored) };
        (self.replica, self.writer) = open(self.seed + 100 * self.opened, opened, self.ms);
        self.restores = restores;
        let recovered = recover(&mesh(), disk.snapshot.as_deref(), &disk.records).unwrap();
        // What came back is durable, and what did not come back never happened.
        self.confirmed = recovered.last().as_u64();
        self.views.retain(|id, _| *id <= self.confirmed);
    }

    fn set(&mut self, key: &str, value: &str) {
        let mut tx = self.replica.transact(self.writer, TOPIC, at(self.ms)).unwrap();
        tx.map("tasks").set(key, value).unwrap();
        tx.commit().unwrap();
    }
}

impl Watch for Watched {
    type Step = Step;
    type Aftermath = Aftermath;
    const STEPS: &'static [Step] = &STEPS;
    const GOES_ON: &'static [Step] = &[Set("a"), Remove("b"), Event, Hear, Fill(1)];

    fn new(seed: u64) -> Self {
        let (replica, writer) = open(seed, Opened::Fresh, 0);
        let mut views = BTreeMap::new();
        views.insert(0, view(&replica));
        let (bob, peer) = (Node::fresh(1, seed + 1_000), Node::fresh(2, seed + 2_000));
        Self {
            replica,
            writer,
            event: None,
            bob,
            peer,
            views,
            confirmed: 0,
            restores: false,
            ms: 1,
            opened: 0,
            seed,
        }
    }

    fn effect(&self, step: Step) -> Effect {
        match step {
            Write => Effect::Write,
            Sync => Effect::Sync,
            Snapshot => Effect::Snapshot,
            Resume => Effect::Resume,
            Restore => Effect::Restore,
            _ => Effect::Nothing,
        }
    }

    fn open_again(&mut self, disk: &Disk, restores: bool) {
        self.open_torn(disk, restores);
        assert!(self.replica.cut().is_none());
    }

    fn come_back(&mut self, disk: &Disk) {
        self.ms += 1_000;
        self.seed += 10_000;
        self.open_torn(disk, self.restores);
    }

    fn refusal(disk: &Disk) -> Option<JournalCorrupt> {
        let stored = Stored { snapshot: disk.snapshot.as_deref(), records: &disk.records };
        match Replica::open(config(9), Opened::Resumed(stored), at(0)) {
            Err(ReplicaError::Corrupt(corrupt)) => Some(corrupt),
            _ => None,
        }
    }

    fn act(&mut self, step: Step) {
        self.ms += 10;
        let now = at(self.ms);
        let value = format!("at {}", self.ms);
        match step {
            Set(key) => self.set(key, &value),
            Remove(key) => {
                let mut tx = self.replica.transact(self.writer, TOPIC, now).unwrap();
                tx.map("tasks").remove(key).unwrap();
                tx.set("gone").insert(key).unwrap();
                tx.commit().unwrap();
            }
            Fill(number) => {
                for round in 0..6 {
                    self.set("fill", &format!("{number} {round} {}", "x".repeat(60)));
                }
            }
            Strengthen => {
                let mut tx = self.replica.transact(self.writer, TOPIC, now).unwrap();
                tx.coupling("trust", schema()).strengthen("bob", Units::new(5)).unwrap();
                tx.commit().unwrap();
            }
            Event => {
                let name = self.replica.append_event(self.writer, TOPIC, value.as_bytes(), now).unwrap().0;
                self.event = Some(name);
            }
            Erase => {
                self.replica.erase_event(&self.event.unwrap()).unwrap();
            }
            Prune => {
                self.replica.append_event_pruning(self.writer, TOPIC, b"pruned", 1, now).unwrap();
            }
            Hear => {
                self.bob.set("from bob", &value, now);
                self.bob.set("d", &value, now);
                let since = self.replica.summary();
                let bundle = self.bob.replica.export_bundle(|_| true, Some(&since), now).unwrap();
                assert_eq!(self.replica.import_bundle(&bundle, now).unwrap().refused, 0);
            }
            Write | Sync | Snapshot | Resume | Restore => {}
        }
        assert!(self.replica.verify());
    }

    fn poll(&mut self) -> Vec<Record> {
        let records: Vec<Record> = std::iter::from_fn(|| self.replica.poll_record()).collect();
        if let Some(last) = records.last() {
            // What can be read now is what they say in the end.
            self.views.insert(last.id().as_u64(), view(&self.replica));
        }
        records
    }

    fn snapshot(&mut self) -> Snapshot {
        let snapshot = self.replica.snapshot();
        self.views.insert(snapshot.covers().as_u64(), view(&self.replica));
        snapshot
    }

    fn confirmed(&self) -> u64 {
        self.confirmed
    }

    fn confirm(&mut self, id: RecordId) {
        self.replica.confirm(id).unwrap();
        self.confirmed = self.confirmed.max(id.as_u64());
        self.restores = false;
    }

    fn confirm_snapshot(&mut self, covers: RecordId) {
        self.replica.confirm_snapshot(covers).unwrap();
        self.confirmed = self.confirmed.max(covers.as_u64());
        self.restores = false;
    }

    fn leak(&mut self) {
        let now = at(self.ms);
        let since = self.peer.replica.summary();
        let bundle = self.replica.export_bundle(|_| true, Some(&since), now).unwrap();
        assert_eq!(self.peer.take(&bundle, now).refused, 0);
    }

    fn aftermath(&self) -> Aftermath {
        Aftermath {
            views: self.views.clone(),
            confirmed: self.confirmed,
            restores: self.restores,
            bob: self.bob.disk(),
            peer: self.peer.disk(),
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
    confirmed: u64,
    restores: bool,
    bob: Disk,
    peer: Disk,
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

    /// It says what it should, goes on, and forks nothing.
    fn survive(&self, disk: &Disk, damaged: bool, name: &str) {
        let Some(Left { last, .. }) = left(disk, (damaged, self.confirmed), &self.seen, name) else { return };
        let how = if self.restores { How::Restored } else { How::Resumed };
        let now = at(self.ms + 1_000);
        let mut ada = Node::open(0, self.seed + 50_000, disk.clone(), how, now);
        assert!(ada.replica.verify(), "{name}");
        if let Some(expected) = self.views.get(&last) {
            assert_eq!(view(&ada.replica), *expected, "{name}: after record {last}");
        }
        // What is torn is cut where something takes its place.
        ada.records.truncate(ada.replica.good_to());
        ada.set("after", "the crash", now);
        ada.replica.append_event(ada.writer, TOPIC, b"after the crash", now).unwrap();
        ada.store();
        let mut peer = Node::open(2, self.seed + 60_000, self.peer.clone(), How::Resumed, now);
        let mut bob = Node::open(1, self.seed + 70_000, self.bob.clone(), How::Resumed, now);
        peer.tell(&mut ada, now);
        bob.tell(&mut ada, now);
        ada.set("met", "again", now);
        ada.store();
        ada.tell(&mut peer, now);
        ada.tell(&mut bob, now);
        let again = Node::open(0, self.seed + 80_000, ada.disk(), How::Resumed, now);
        for node in [&ada, &peer, &bob, &again] {
            let logs = node.replica.logs();
            assert!(logs.logs().all(|log| logs.evidence(log.id()).is_none()), "{name}: a log is forked");
            assert!(node.replica.verify(), "{name}");
            assert_eq!(
                (node.get("after").as_deref(), node.get("met").as_deref()),
                (Some("the crash"), Some("again"))
            );
            assert_eq!(
                node.replica.digest(&topic()),
                ada.replica.digest(&topic()),
                "{name}: agent {}",
                node.agent
            );
        }
    }
}
