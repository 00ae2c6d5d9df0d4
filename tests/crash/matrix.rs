//! The crash matrix: a workload runs once on a disk whose effects are recorded; then for the state of the disk between any two
//! effects, images are made of everything that a loss of power may leave of what was not synced, and whoever stored comes back
//! from each of them.
//!
//! Of each image: the store opens it, what was confirmed is there, and the store goes on and opens once more. Whoever stored
//! comes back from each content that an image gives, beside all that was known then: images that differ in torn bytes give
//! the same, and how often that was checked is printed too. An image that was there before, by its hash, is not counted again.
//!
//! ```sh
//! cargo test --features file-store --test crash -- --ignored --nocapture --exact matrix::the_crash_matrix
//! ```
//!
//! `CONSILIENCE_CASES` sets the number of random subsets, and of rotten images, of each state of the disk.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the matrix says how long it took")]

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use consilience::journal::{JournalItem, recover};
use consilience::store::{Disk, FileStore};

use crate::simulated::{Loss, Simulated, State};
use crate::watch::{Survive, Watch};
use crate::world::{Disk as Stored, mesh};
use crate::{agents, files, relay, workload};

/// After so many faults the others are not looked for.
const BAD_MAX: usize = 20;
/// A write is torn at each of its first and last bytes, and at some between.
const TORN_ENDS: usize = 48;

/// A disk that notes how it was before each effect.
#[derive(Debug)]
struct Recorder {
    disk: Simulated,
    states: Arc<Mutex<Vec<State>>>,
}

impl Recorder {
    fn note(&self) {
        let mut state = self.disk.state();
        state.forget();
        self.states.lock().unwrap().push(state.clone());
    }
}

impl Disk for Recorder {
    fn lock(&mut self) -> io::Result<bool> {
        self.disk.lock()
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read(name)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.note();
        self.disk.create(name)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.note();
        self.disk.append(name, bytes)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.note();
        self.disk.write(name, bytes)
    }

    fn sync_file(&mut self, name: &str) -> io::Result<()> {
        self.note();
        self.disk.sync_file(name)
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        self.note();
        self.disk.sync_folder()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.note();
        self.disk.remove(name)
    }
}

/// What was known for a while, and the states of the disk in that time.
struct Moment<A> {
    name: String,
    confirmed: u64,
    after: A,
    states: Vec<State>,
}

/// Runs a workload once.
fn record<W: Watch>(what: &str, seed: u64) -> Vec<Moment<W::Aftermath>> {
    let (disk, states) = (Simulated::default(), Arc::new(Mutex::new(Vec::new())));
    let mut moments: Vec<Moment<W::Aftermath>> = Vec::new();
    // Before and after a call something else is known; the disk is the same.
    let mut turn = |watched: &W| {
        let mut state = disk.state();
        state.forget();
        let mut states = std::mem::take(&mut *states.lock().unwrap());
        // An empty disk is another one: the one before is lost with all that was on it.
        if !state.names().is_empty() || moments.len() == 1 {
            states.push(state.clone());
        }
        if let Some(last) = moments.last_mut() {
            last.states = states;
        }
        let name = format!("{what}, seed {seed}, call {}", moments.len());
        let confirmed = watched.confirmed();
        moments.push(Moment { name, confirmed, after: watched.aftermath(), states: Vec::new() });
    };
    let mut watched = W::new(seed);
    let recorder = || -> Box<dyn Disk> { Box::new(Recorder { disk: disk.handle(), states: states.clone() }) };
    files::steps(&disk, &mut watched, &W::steps(seed), recorder, &mut turn).unwrap();
    turn(&watched);
    moments.pop();
    moments
}

/// What may be left of a state of the disk.
fn losses(state: &State, number: u64, cases: u64) -> Vec<Loss> {
    let mut losses = vec![Loss::None];
    if !state.is_unsynced() {
        return losses;
    }
    losses.push(Loss::All);
    losses.extend((0..cases).map(|case| Loss::Some(number * 1_000 + case)));
    losses.extend((0..cases).map(|case| Loss::Rotten(number * 1_000 + case)));
    let last = state.last_write_len();
    let step = (last / 64).max(1);
    let ends = |byte: &usize| *byte < TORN_ENDS || *byte + TORN_ENDS >= last || byte.is_multiple_of(step);
    losses.extend((0..last).filter(ends).map(Loss::Torn));
    losses
}

fn hash(state: &State) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (name, bytes) in state.files() {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    *hasher.finalize().as_bytes()
}

/// The numbers of a run.
#[derive(Debug, Default)]
struct Count {
    images: HashSet<[u8; 32]>,
    /// By the kind of loss; an image is of the first that gave it.
    kinds: BTreeMap<&'static str, usize>,
    /// How many effects the workloads had, and how often whoever stored came back.
    effects: usize,
    returns: usize,
    bad: usize,
}

const fn kind(loss: Loss) -> &'static str {
    match loss {
        Loss::All => "all gone",
        Loss::None => "all there",
        Loss::Some(_) => "in part",
        Loss::Torn(_) => "torn",
        Loss::Rotten(_) => "rotten",
    }
}

/// The store goes on from an image, and what it stores then is there after it all, with all that was there before.
fn store_goes_on(disk: &Simulated, name: &str) -> Stored {
    let (mut store, loaded) =
        FileStore::open_on(Box::new(disk.handle())).unwrap_or_else(|error| panic!("{name}: {error}"));
    let stored = Stored { snapshot: loaded.snapshot, records: loaded.records };
    let recovered = recover(&mesh(), stored.snapshot.as_deref(), &stored.records)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut journal = recovered.journal();
    journal.push(&JournalItem::Note { kind: 200, bytes: b"after the crash" });
    journal.seal();
    let record = journal.poll().unwrap();
    store.append(&record).unwrap();
    assert_eq!(store.sync().unwrap(), Some(record.id()), "{name}");
    drop(store);
    disk.lose_power(Loss::All);
    let (_, again) =
        FileStore::open_on(Box::new(disk.handle())).unwrap_or_else(|error| panic!("{name}, again: {error}"));
    let good = [&stored.records[..recovered.good_to()], record.as_bytes()].concat();
    assert!(again.snapshot == stored.snapshot && again.records == good, "{name}: it does not go on");
    stored
}

/// What a moment has to do with its images.
struct Images<'a, A> {
    moment: &'a Moment<A>,
    cases: u64,
    count: &'a Mutex<Count>,
    /// The images of this moment, and what they gave.
    seen: HashSet<[u8; 32]>,
    given: HashSet<[u8; 32]>,
}

impl<A: Survive> Images<'_, A> {
    /// True if whoever looks for faults has enough of them.
    fn all(&mut self) -> bool {
        let disk = Simulated::default();
        for (number, state) in self.moment.states.iter().enumerate() {
            for loss in losses(state, number as u64, self.cases) {
                *disk.state() = state.clone();
                disk.lose_power(loss);
                let image = disk.state().clone();
                let name = format!("{}, effect {number}, {loss:?}", self.moment.name);
                if self.image(&disk, kind(loss), &name) && matches!(loss, Loss::All | Loss::None) {
                    self.again(image, &name);
                }
            }
        }
        self.count.lock().unwrap().bad >= BAD_MAX
    }

    /// The power fails once more while the store is opened.
    fn again(&mut self, image: State, name: &str) {
        let (disk, states) = (Simulated::default(), Arc::new(Mutex::new(Vec::new())));
        *disk.state() = image;
        let recorder = Recorder { disk: disk.handle(), states: states.clone() };
        let opened = FileStore::open_on(Box::new(recorder));
        drop(opened);
        let states = std::mem::take(&mut *states.lock().unwrap());
        for (number, state) in states.iter().enumerate() {
            for loss in [Loss::All, Loss::None, Loss::Some(number as u64), Loss::Rotten(number as u64)] {
                *disk.state() = state.clone();
                disk.lose_power(loss);
                let name = format!("{name}, and effect {number} of the next start, {loss:?}");
                self.image(&disk, "at the next start", &name);
            }
        }
    }

    /// Whoever stored comes back from an image, if it was not there before.
    fn image(&mut self, disk: &Simulated, kind: &'static str, name: &str) -> bool {
        let hash = hash(&disk.state());
        if !self.seen.insert(hash) {
            return false;
        }
        let came_back = catch_unwind(AssertUnwindSafe(|| {
            let stored = store_goes_on(disk, name);
            let recovered = recover(&mesh(), stored.snapshot.as_deref(), &stored.records).unwrap();
            assert!(
                recovered.last().as_u64() >= self.moment.confirmed,
                "{name}: {} was confirmed, {:?} is there",
                self.moment.confirmed,
                recovered.last()
            );
            // The same content needs one look, however the end of it is torn.
            let good = &stored.records[..recovered.good_to()];
            let mut hasher = blake3::Hasher::new();
            hasher.update(&[u8::from(recovered.cut().is_some()), u8::from(stored.snapshot.is_some())]);
            hasher.update(stored.snapshot.as_deref().unwrap_or_default());
            hasher.update(blake3::hash(good).as_bytes());
            let new = self.given.insert(*hasher.finalize().as_bytes());
            if new {
                self.moment.after.survive(&stored, false, name);
            }
            new
        }));
        let mut count = self.count.lock().unwrap();
        match came_back {
            Ok(new) => count.returns += usize::from(new),
            Err(_) => {
                eprintln!("bad: {name}");
                count.bad += 1;
            }
        }
        if count.images.insert(hash) {
            *count.kinds.entry(kind).or_default() += 1;
        }
        true
    }
}

/// All images of a workload, on so many threads.
fn play<W: Watch>(what: &str, seed: u64, cases: u64, threads: usize, count: &Mutex<Count>)
where
    W::Aftermath: Send,
{
    let moments = record::<W>(what, seed);
    count.lock().unwrap().effects +=
        moments.iter().map(|moment| moment.states.len().saturating_sub(1)).sum::<usize>();
    let moments = Mutex::new(moments.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(moment) = moments.lock().unwrap().next() else { return };
                    let (seen, given) = (HashSet::new(), HashSet::new());
                    if (Images { moment: &moment, cases, count, seen, given }).all() {
                        return;
                    }
                }
            });
        }
    });
}

/// Plays these seeds of each workload; the first two are what is written down, and others are of the replica among
/// others alone.
fn matrix(seeds: core::ops::Range<u64>, cases: u64) -> Count {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let count = Mutex::default();
    for seed in seeds {
        if seed < 4 {
            play::<workload::Watched>("a replica", seed, cases, threads, &count);
            play::<relay::Watched>("a relay", seed, cases, threads, &count);
        }
        play::<agents::Watched>("a replica among others", seed, cases, threads, &count);
    }
    count.into_inner().unwrap()
}

fn cases(unless: u64) -> u64 {
    std::env::var("CONSILIENCE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(unless)
}

/// A part of what the whole matrix does.
#[test]
fn a_crash_at_any_effect_loses_nothing_acknowledged_and_the_next_start_goes_on() {
    let count = matrix(2..3, cases(1).min(4));
    println!("{} images of {} effects, {} returns", count.images.len(), count.effects, count.returns);
    assert_eq!(count.bad, 0);
    assert!(count.images.len() > 5_000 && count.returns > 500, "{} {}", count.images.len(), count.returns);
}

#[test]
#[ignore = "minutes; its first comment has the command"]
fn the_crash_matrix() {
    let started = Instant::now();
    let count = matrix(2..20, cases(40));
    println!("{} effects, {} returns, images by kind: {:?}", count.effects, count.returns, count.kinds);
    let (images, seconds) = (count.images.len(), started.elapsed().as_secs_f64());
    println!("{{\"crash_images\":{images},\"seconds\":{seconds:.1},\"bad\":{}}}", count.bad);
    assert_eq!(count.bad, 0);
    assert!(images >= 100_000, "{images}");
}
