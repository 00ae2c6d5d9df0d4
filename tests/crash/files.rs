//! The file store on a simulated disk, under a replica: power is lost before or after any effect.

use consilience::store::{Disk as _, FileStore, StoreError};

use crate::simulated::{Loss, Simulated};
use crate::workload::{Aftermath, STEPS, Step, Watched};
use crate::world::{Dice, Disk, at};

/// What the store gives back of a folder.
fn read(disk: &Simulated) -> Result<Disk, StoreError> {
    let (_, stored) = FileStore::open_on(Box::new(disk.handle()))?;
    Ok(Disk { snapshot: stored.snapshot, records: stored.records })
}

/// Runs the workload on a disk until an effect fails; whether one did.
fn run(disk: &Simulated, watched: &mut Watched) -> bool {
    steps(disk, watched).is_err()
}

fn steps(disk: &Simulated, watched: &mut Watched) -> Result<(), StoreError> {
    let (mut store, _) = FileStore::open_on(Box::new(disk.handle()))?;
    for step in STEPS {
        watched.act(step);
        watched.leak();
        match step {
            Step::Write => {
                for record in watched.poll() {
                    store.append(&record)?;
                    watched.leak();
                }
            }
            Step::Sync => {
                if let Some(id) = store.sync()? {
                    watched.leak();
                    watched.confirm(id);
                }
            }
            Step::Snapshot => {
                let snapshot = watched.snapshot();
                store.install_snapshot(&snapshot)?;
                watched.leak();
                watched.confirm_snapshot(snapshot.covers());
            }
            Step::Resume | Step::Restore => {
                drop(store);
                let (again, stored) = FileStore::open_on(Box::new(disk.handle()))?;
                store = again;
                let stored = Disk { snapshot: stored.snapshot, records: stored.records };
                watched.open_again(&stored, matches!(step, Step::Restore));
            }
            _ => {}
        }
        watched.leak();
    }
    Ok(())
}

fn effects(seed: u64) -> usize {
    let disk = Simulated::default();
    assert!(!run(&disk, &mut Watched::new(seed)));
    disk.state().effects
}

/// Every loss that is worth a look at where an effect failed.
fn losses(disk: &Simulated, number: usize, every: usize) -> Vec<Loss> {
    let mut losses = vec![Loss::All, Loss::None];
    losses.extend((0..6).map(|seed| Loss::Some((number * 6 + seed) as u64)));
    let last = disk.state().last_write_len();
    losses.extend((0..last).step_by(every).map(Loss::Torn));
    losses
}

/// The power is back, and what survived goes on through a store.
fn survive(disk: &Simulated, after: &Aftermath, name: &str) {
    let stored = read(disk).unwrap_or_else(|error| panic!("{name}: {error}"));
    after.survive(&stored, false, name);
}

#[test]
fn power_lost_at_any_effect_of_a_file_store_loses_nothing_confirmed_and_forks_nothing() {
    for seed in [2, 3] {
        for number in 0..effects(seed) {
            for done in [false, true] {
                let disk = Simulated::default();
                disk.state().fail = Some((number, done));
                let mut watched = Watched::new(seed);
                assert!(run(&disk, &mut watched), "effect {number}");
                let (after, state) = (watched.aftermath(), disk.state().clone());
                // Every byte where the write itself is what was torn.
                let every = if done { 1 } else { 29 };
                for loss in losses(&disk, number, every) {
                    *disk.state() = state.clone();
                    disk.lose_power(loss);
                    survive(&disk, &after, &format!("seed {seed}, effect {number}, done {done}, {loss:?}"));
                }
            }
        }
    }
}

/// As a host does it: the store is opened, the replica comes back, writes, and the power fails again.
#[test]
fn power_lost_again_and_again_under_a_replica_loses_nothing_confirmed() {
    let effects = effects(2);
    for seed in 0..40_u64 {
        let mut dice = Dice::new(seed);
        let disk = Simulated::default();
        disk.state().fail = Some((dice.index(effects), dice.one_in(2)));
        let mut watched = Watched::new(2);
        assert!(run(&disk, &mut watched));
        for round in 0..4_u64 {
            let name = format!("seed {seed}, round {round}");
            disk.lose_power([Loss::All, Loss::None, Loss::Some(dice.roll(1 << 40))][dice.index(3)]);
            let (store, stored) = FileStore::open_on(Box::new(disk.handle())).unwrap();
            let stored = Disk { snapshot: stored.snapshot, records: stored.records };
            watched.aftermath().survive(&stored, false, &name);
            let restores = watched.restores;
            watched.ms += 1_000;
            watched.seed += 10_000;
            watched.open_torn(&stored, restores);
            let done = disk.state().effects;
            disk.state().fail = Some((done + dice.index(30), dice.one_in(2)));
            let _ = go_on(store, &mut watched, &mut dice);
        }
    }
}

fn go_on(mut store: FileStore, watched: &mut Watched, dice: &mut Dice) -> Result<(), StoreError> {
    for _ in 0..12 {
        let steps = [Step::Set("a"), Step::Remove("b"), Step::Event, Step::Hear, Step::Fill(1)];
        watched.act(steps[dice.index(5)]);
        for record in watched.poll() {
            store.append(&record)?;
        }
        watched.leak();
        match dice.roll(4) {
            0 => {
                let snapshot = watched.snapshot();
                store.install_snapshot(&snapshot)?;
                watched.confirm_snapshot(snapshot.covers());
            }
            1 | 2 => {
                if let Some(id) = store.sync()? {
                    watched.confirm(id);
                }
            }
            _ => {}
        }
        watched.leak();
    }
    Ok(())
}

/// A flipped bit anywhere: the store or the journal says so, or what is left forks nothing.
#[test]
fn a_flipped_bit_in_any_file_is_told_or_forks_nothing() {
    for until in [14, 34, 45, 60] {
        let disk = Simulated::default();
        let mut watched = Watched::new(2);
        let effects = {
            let count = Simulated::default();
            assert!(!run(&count, &mut Watched::new(2)));
            count.state().effects
        };
        disk.state().fail = Some((effects * until / 60 - 1, true));
        run(&disk, &mut watched);
        disk.lose_power(Loss::None);
        let (after, all) = (watched.aftermath(), disk.state().clone());
        let mut dice = Dice::new(until as u64);
        let (mut told, mut harmless) = (0, 0);
        for name in all.names() {
            let len = disk.handle().read(&name).unwrap().len();
            for byte in 0..len {
                let bit = dice.index(8);
                *disk.state() = all.clone();
                disk.state().damage(&name, |bytes| bytes[byte] ^= 1 << bit);
                let name = format!("until {until}, byte {byte} of {name}");
                let Ok(stored) = read(&disk) else {
                    told += 1;
                    continue;
                };
                harmless += 1;
                after.survive(&stored, true, &name);
            }
        }
        assert!(told > 0 && harmless > 0);
        assert!(after.confirmed > 0 && at(0) < at(1));
    }
}
