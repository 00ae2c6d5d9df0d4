//! Replicas that stopped, on simulated disks, and what becomes of them there.

use std::collections::BTreeMap;

use consilience::store::{FileStore, Loaded, StoreError};
use consilience::{Notice, Replica, Writer};

use crate::replicas::{self as world, Disk, How, Node, TOPIC, at, keys, topic};
use crate::simulated::{Simulated, State};

/// What can be read: the topic's digest, its keys with their values, and its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub digest: [u8; 32],
    pub live: BTreeMap<String, String>,
    pub events: Vec<String>,
}

pub fn view(replica: &Replica) -> View {
    let there = replica.topic(TOPIC).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    View {
        digest: replica.digest(&topic()),
        live: there.map("tasks").iter().map(|live| (text(live.key), text(live.value))).collect(),
        events: there.events().iter().map(|event| event.payload.map_or("erased".into(), text)).collect(),
    }
}

/// A replica whose host keeps it in a file store.
pub struct Host {
    pub store: FileStore,
    pub replica: Replica,
    pub writer: Writer,
    pub ms: u64,
}

impl Host {
    pub fn open(disk: &Simulated, ms: u64) -> Result<Self, StoreError> {
        let (store, loaded) = FileStore::open_on(Box::new(disk.handle()))?;
        Ok(Self::on(store, &loaded, ms))
    }

    pub fn on(store: FileStore, loaded: &Loaded, ms: u64) -> Self {
        let mut replica = Replica::open(world::config(ms + 2), loaded.opened(), at(ms)).unwrap();
        let writer = replica.add_writer(keys(0)).unwrap();
        Self { store, replica, writer, ms }
    }

    pub fn set(&mut self, key: &str, value: &str) {
        self.ms += 1;
        let mut tx = self.replica.transact(self.writer, TOPIC, at(self.ms)).unwrap();
        tx.map("tasks").set(key, value).unwrap();
        tx.commit().unwrap();
    }

    pub fn event(&mut self, payload: &str) {
        self.ms += 1;
        self.replica.append_event(self.writer, TOPIC, payload.as_bytes(), at(self.ms)).unwrap();
    }

    /// Stores everything, as one batch, and confirms it.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        while let Some(record) = self.replica.poll_record() {
            self.store.append(&record)?;
        }
        if let Some(last) = self.store.sync()? {
            self.replica.confirm(last).unwrap();
        }
        Ok(())
    }

    pub fn snapshot(&mut self) -> Result<(), StoreError> {
        let snapshot = self.replica.snapshot();
        self.store.install_snapshot(&snapshot)?;
        self.replica.confirm_snapshot(snapshot.covers()).unwrap();
        Ok(())
    }

    /// Everything that may leave goes to a peer.
    pub fn tell(&mut self, peer: &mut Node) {
        let since = peer.replica.summary();
        let bundle = self.replica.export_bundle(|_| true, Some(&since), at(self.ms)).unwrap();
        assert_eq!(peer.take(&bundle, at(self.ms)).refused, 0);
    }

    /// Everything that a peer has comes.
    pub fn hear(&mut self, peer: &mut Node) {
        let since = self.replica.summary();
        let bundle = peer.replica.export_bundle(|_| true, Some(&since), at(self.ms)).unwrap();
        assert_eq!(self.replica.import_bundle(&bundle, at(self.ms)).unwrap().refused, 0);
    }

    pub fn notices(&mut self) -> Vec<Notice> {
        world::notices(&mut self.replica)
    }
}

/// A store that was stopped, what could be read in it, and a peer that has everything that left.
pub struct Stopped {
    pub name: &'static str,
    pub disk: State,
    pub view: View,
    pub peer: Disk,
    pub ms: u64,
}

impl Stopped {
    /// A store in each of the states in which one can stop.
    pub fn all() -> Vec<Self> {
        let records: &[&[Step]] = &[&[Batch(1), Batch(4)]];
        let all: [(&str, &[&[Step]]); 5] = [
            ("records alone", records),
            ("a snapshot alone", &[&[Batch(2), Snapshot]]),
            ("records after a snapshot", &[&[Batch(2), Snapshot, Batch(1), Batch(3)]]),
            ("two runs", &[&[Batch(2), Batch(2)], &[Batch(3)]]),
            (
                "runs with two snapshots",
                &[&[Batch(2), Snapshot, Batch(1)], &[Batch(1), Snapshot], &[Batch(2)]],
            ),
        ];
        all.into_iter().map(|(name, runs)| Self::after(name, runs)).collect()
    }

    pub fn after(name: &'static str, runs: &[&[Step]]) -> Self {
        let disk = Simulated::default();
        let mut peer = Node::fresh(2, 1_000);
        let (mut ms, mut seen) = (0, None);
        for run in runs {
            let mut host = Host::open(&disk, ms + 10).unwrap();
            for step in *run {
                host.step(*step);
            }
            host.tell(&mut peer);
            (ms, seen) = (host.ms, Some(view(&host.replica)));
            host.store.close().unwrap();
        }
        let view = seen.unwrap();
        let state = disk.state().clone();
        Self { name, disk: state, view, peer: peer.disk(), ms }
    }

    /// The names of its files, and their lengths.
    pub fn files(&self) -> Vec<(String, usize)> {
        let disk = Simulated::default();
        *disk.state() = self.disk.clone();
        let len = |name: &String| consilience::store::Disk::read(&mut disk.handle(), name).unwrap().len();
        self.disk.names().into_iter().map(|name| (name.clone(), len(&name))).collect()
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// So many entries of each kind, made durable together.
    Batch(u8),
    Snapshot,
}

use Step::*;

impl Host {
    fn step(&mut self, step: Step) {
        match step {
            Batch(entries) => {
                for number in 0..entries {
                    let (ms, key) = (self.ms, format!("key {}", u64::from(number) + self.ms % 3));
                    self.set(&key, &format!("at {ms}"));
                    self.event(&format!("event at {ms}"));
                }
                self.sync().unwrap();
            }
            Snapshot => self.snapshot().unwrap(),
        }
    }
}

/// What became of a store whose disk was damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is there.
    Equal,
    /// Something is missing, and this was said.
    Told(String),
}

/// Opens a damaged store, and checks that what is missing is told and that nothing forks.
pub fn outcome(disk: &Simulated, stopped: &Stopped, name: &str, seen: &mut Vec<Disk>) -> Outcome {
    let ms = stopped.ms + 1_000;
    match FileStore::open_on(Box::new(disk.handle())) {
        Ok((store, loaded)) => {
            let told: Vec<String> = loaded.findings.iter().map(ToString::to_string).collect();
            let mut host = Host::on(store, &loaded, ms);
            let told =
                told.into_iter().chain(host.notices().iter().map(ToString::to_string)).collect::<Vec<_>>();
            let left = Disk { snapshot: loaded.snapshot.clone(), records: loaded.records.clone() };
            if view(&host.replica) == stopped.view {
                if seen.contains(&left) {
                    drop(host);
                    let (_, loaded) = FileStore::open_on(Box::new(disk.handle())).unwrap();
                    assert_eq!(loaded.findings, [], "{name}: it is mended");
                } else {
                    seen.push(left);
                    survive(host, stopped, disk, name);
                }
                return Outcome::Equal;
            }
            assert!(!told.is_empty(), "{name}: not a word, and {:?} is left", view(&host.replica));
            survive(host, stopped, disk, name);
            Outcome::Told(told.join("; "))
        }
        Err(error) => {
            assert!(matches!(error, StoreError::Damaged { .. }), "{name}: {error}");
            // It says so again, until something takes the place of what is lost.
            for _ in 0..2 {
                let again = FileStore::open_on(Box::new(disk.handle())).unwrap_err();
                assert_eq!(again.to_string(), error.to_string(), "{name}");
                let (_, loaded) = FileStore::open_rest_on(Box::new(disk.handle())).unwrap();
                assert!(!loaded.findings.is_empty(), "{name}");
            }
            let (store, loaded) = FileStore::open_rest_on(Box::new(disk.handle())).unwrap();
            let left = Disk { snapshot: loaded.snapshot.clone(), records: loaded.records.clone() };
            if !seen.contains(&left) {
                seen.push(left);
                survive(Host::on(store, &loaded, ms), stopped, disk, name);
            }
            Outcome::Told(error.to_string())
        }
    }
}

/// It goes on, meets the peer that has what left, forks nothing, and opens again without a word.
fn survive(mut host: Host, stopped: &Stopped, disk: &Simulated, name: &str) {
    assert!(host.replica.verify(), "{name}");
    let mut peer = Node::open(2, 2_000, stopped.peer.clone(), How::Resumed, at(host.ms));
    host.set("after", "the damage");
    host.event("after the damage");
    host.sync().unwrap();
    host.hear(&mut peer);
    host.sync().unwrap();
    host.set("met", "again");
    host.sync().unwrap();
    host.tell(&mut peer);
    let was = view(&host.replica);
    for (key, value) in &stopped.view.live {
        assert_eq!(was.live.get(key), Some(value), "{name}: the peer has it");
    }
    for event in &stopped.view.events {
        assert!(was.events.contains(event), "{name}: the peer has {event:?}");
    }
    let ms = host.ms + 10;
    host.store.close().unwrap();
    let (store, loaded) = FileStore::open_on(Box::new(disk.handle())).unwrap();
    assert_eq!(loaded.findings, [], "{name}");
    let mut again = Host::on(store, &loaded, ms);
    assert_eq!(again.notices(), [], "{name}");
    for replica in [&again.replica, &peer.replica] {
        assert_eq!(view(replica), was, "{name}");
        let logs = replica.logs();
        assert!(logs.logs().all(|log| logs.evidence(log.id()).is_none()), "{name}: a log is forked");
    }
}
