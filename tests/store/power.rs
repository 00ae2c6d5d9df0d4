//! Nothing that a sync has answered for is lost, whatever the power does.

use consilience::journal::{Journal, JournalItem, Record, RecordId, Snapshot, SnapshotWriter, recover};
use consilience::store::{FileStore, Finding, StoreError};

use crate::simulated::{Loss, Simulated};
use crate::world::{Dice, mesh, seeds};

/// A host that writes down the numbers of its records.
struct Host {
    disk: Simulated,
    store: FileStore,
    journal: Journal,
    /// What a sync has answered for.
    promised: u64,
    /// What was handed to the store.
    written: u64,
    covered: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append,
    Sync,
    /// Of all records but so many.
    Snapshot(u64),
    Reopen,
}

const STEPS: [Step; 16] = [
    Step::Append,
    Step::Append,
    Step::Sync,
    Step::Append,
    Step::Sync,
    Step::Snapshot(0),
    Step::Append,
    Step::Append,
    Step::Sync,
    Step::Reopen,
    Step::Append,
    Step::Snapshot(2),
    Step::Append,
    Step::Sync,
    Step::Reopen,
    Step::Append,
];

fn record(journal: &mut Journal) -> Record {
    let id = journal.open_id().as_u64();
    journal.push(&JournalItem::Note { kind: 1, bytes: &id.to_le_bytes() });
    journal.seal();
    journal.poll().unwrap()
}

/// A snapshot that says which records it stands for.
fn snapshot(covers: u64) -> Snapshot {
    let mut writer = SnapshotWriter::new(&mesh(), RecordId::from_u64(covers));
    (1..=covers).for_each(|id| writer.push(&JournalItem::Note { kind: 1, bytes: &id.to_le_bytes() }));
    writer.finish()
}

impl Host {
    fn open(disk: &Simulated, promised: u64) -> Result<Self, StoreError> {
        let (store, stored) = FileStore::open_on(Box::new(disk.handle()))?;
        let recovered = recover(&mesh(), stored.snapshot.as_deref(), &stored.records).unwrap();
        let numbers: Vec<u64> = recovered
            .items()
            .map(|item| match item {
                JournalItem::Note { kind: 1, bytes } => u64::from_le_bytes(bytes.try_into().unwrap()),
                other => panic!("{other:?}"),
            })
            .collect();
        let last = recovered.last().as_u64();
        assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
        assert!(last >= promised, "{promised} was promised, and {last} is there");
        let covered = recovered.covers().as_u64();
        // What is given back is durable.
        Ok(Self {
            disk: disk.handle(),
            store,
            journal: recovered.journal(),
            promised: last,
            written: last,
            covered,
        })
    }

    fn step(&mut self, step: Step) -> Result<(), StoreError> {
        match step {
            Step::Append => {
                let record = record(&mut self.journal);
                self.store.append(&record)?;
                self.written = record.id().as_u64();
            }
            Step::Sync => {
                if let Some(id) = self.store.sync()? {
                    assert_eq!(id.as_u64(), self.written);
                    self.journal.confirm(id).unwrap();
                    self.promised = id.as_u64();
                }
            }
            Step::Snapshot(but) => {
                let covers = self.written.saturating_sub(but).max(self.covered);
                self.store.install_snapshot(&snapshot(covers))?;
                self.journal.confirm_snapshot(RecordId::from_u64(covers)).unwrap();
                self.covered = covers;
                self.promised = self.written;
            }
            Step::Reopen => {
                let Self { disk, store, promised, .. } = self;
                // The old one lets go first.
                let (closed, _) = FileStore::open_on(Box::new(Simulated::default())).unwrap();
                drop(std::mem::replace(store, closed));
                *self = Self::open(&disk.handle(), *promised)?;
            }
        }
        Ok(())
    }
}

/// Runs the steps until an effect fails or they are done; then what was promised.
fn run(disk: &Simulated, steps: &[Step]) -> (u64, bool) {
    let Ok(mut host) = Host::open(disk, 0) else { return (0, true) };
    for step in steps {
        let before = host.promised;
        if host.step(*step).is_err() {
            if !matches!(step, Step::Reopen) {
                assert!(host.store.is_poisoned());
                assert!(matches!(host.store.sync(), Err(StoreError::Poisoned)));
                let record = record(&mut host.journal);
                assert!(matches!(host.store.append(&record), Err(StoreError::Poisoned)));
            }
            return (before, true);
        }
    }
    (host.promised, false)
}

fn effects() -> usize {
    let disk = Simulated::default();
    run(&disk, &STEPS);
    disk.state().effects
}

fn check(at: usize, after: bool, loss: Loss, again: Option<usize>) {
    let disk = Simulated::default();
    disk.state().fail = Some((at, after));
    let (mut promised, failed) = run(&disk, &STEPS);
    assert!(failed, "effect {at}");
    disk.lose_power(loss);
    if let Some(again) = again {
        // The power fails while the store is opened, or goes on.
        let effects = disk.state().effects;
        disk.state().fail = Some((effects + again, after));
        if let Ok(mut host) = Host::open(&disk, promised) {
            promised = host.promised;
            if host.step(Step::Append).is_ok() && host.step(Step::Sync).is_ok() {
                promised = host.promised;
            }
        }
        disk.lose_power(loss);
    }
    let mut host = Host::open(&disk, promised)
        .unwrap_or_else(|error| panic!("effect {at}, {after}, {loss:?}, {again:?}: {error:?}"));
    for step in [Step::Append, Step::Sync, Step::Snapshot(1), Step::Append, Step::Sync, Step::Reopen] {
        host.step(step).unwrap();
    }
}

#[test]
fn power_lost_at_any_effect_loses_nothing_that_was_promised() {
    for at in 0..effects() {
        for after in [false, true] {
            for loss in [Loss::All, Loss::None] {
                check(at, after, loss, None);
                (0..8).for_each(|again| check(at, after, loss, Some(again)));
            }
            (0..40).for_each(|seed| check(at, after, Loss::Some(seed), None));
            (0..40).for_each(|seed| check(at, after, Loss::Some(seed), Some(seed as usize % 8)));
            (0..120).for_each(|keep| check(at, after, Loss::Torn(keep), None));
        }
    }
}

#[test]
fn power_lost_again_and_again_loses_nothing_that_was_promised() {
    seeds(1_500, |seed| {
        let mut dice = Dice::new(seed);
        let disk = Simulated::default();
        let mut promised = 0;
        for _ in 0..6 {
            let effects = disk.state().effects;
            disk.state().fail = Some((effects + dice.index(50), dice.one_in(2)));
            let opened = Host::open(&disk, promised);
            if let Ok(mut host) = opened {
                promised = host.promised;
                for _ in 0..dice.index(20) {
                    let step = match dice.roll(8) {
                        0..=3 => Step::Append,
                        4..=5 => Step::Sync,
                        6 => Step::Snapshot(dice.roll(4)),
                        _ => Step::Reopen,
                    };
                    if host.step(step).is_err() {
                        break;
                    }
                    promised = host.promised;
                }
            }
            let loss = [Loss::All, Loss::None, Loss::Some(dice.roll(1 << 40)), Loss::Torn(dice.index(80))];
            disk.lose_power(loss[dice.index(4)]);
        }
        Host::open(&disk, promised).unwrap();
    });
}

/// The cut is told at every opening until something was written in its place.
#[test]
fn a_torn_end_is_told_until_something_takes_its_place() {
    let disk = Simulated::default();
    run(&disk, &STEPS[..4]);
    disk.lose_power(Loss::Torn(20));
    for _ in 0..3 {
        let (_, stored) = FileStore::open_on(Box::new(disk.handle())).unwrap();
        assert!(matches!(&stored.findings[..], [Finding::Torn { cut, .. }] if cut.bytes == 20));
        let recovered = recover(&mesh(), None, &stored.records).unwrap();
        assert_eq!((recovered.last().as_u64(), recovered.cut().is_some()), (2, true));
    }
    let mut host = Host::open(&disk, 0).unwrap();
    host.step(Step::Append).unwrap();
    host.step(Step::Sync).unwrap();
    drop(host);
    let (_, stored) = FileStore::open_on(Box::new(disk.handle())).unwrap();
    assert_eq!(stored.findings, []);
    let recovered = recover(&mesh(), None, &stored.records).unwrap();
    assert_eq!((recovered.last().as_u64(), recovered.cut()), (3, None));
}

#[test]
fn a_flipped_bit_anywhere_is_never_taken_for_something_else() {
    let disk = Simulated::default();
    let (promised, _) = run(&disk, &STEPS);
    disk.lose_power(Loss::None);
    let all = disk.state().clone();
    for name in all.names() {
        let mut whole = disk.handle();
        let len = consilience::store::Disk::read(&mut whole, &name).unwrap().len();
        for bit in 0..len * 8 {
            *disk.state() = all.clone();
            disk.state().damage(&name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let Ok((_, stored)) = FileStore::open_on(Box::new(disk.handle())) else { continue };
            let recovered = recover(&mesh(), stored.snapshot.as_deref(), &stored.records).unwrap();
            assert!(recovered.last().as_u64() >= promised, "bit {bit} of {name}");
        }
    }
}

#[test]
fn a_second_store_is_refused_while_the_first_lives() {
    let disk = Simulated::default();
    let first = Host::open(&disk, 0).unwrap();
    assert!(matches!(Host::open(&disk, 0), Err(StoreError::InUse)));
    drop(first);
    assert!(Host::open(&disk, 0).is_ok());
}

#[test]
fn records_out_of_order_are_refused() {
    let disk = Simulated::default();
    let mut host = Host::open(&disk, 0).unwrap();
    let (one, two) = (record(&mut host.journal), record(&mut host.journal));
    assert!(
        matches!(host.store.append(&two), Err(StoreError::OutOfOrder { expected }) if expected == one.id())
    );
    host.store.append(&one).unwrap();
    assert!(matches!(host.store.append(&one), Err(StoreError::OutOfOrder { .. })));
    host.store.append(&two).unwrap();
    host.store.install_snapshot(&snapshot(2)).unwrap();
    assert!(matches!(host.store.install_snapshot(&snapshot(1)), Err(StoreError::OutOfOrder { .. })));
    assert!(!host.store.is_poisoned());
}
