//! The file store on a simulated disk, under whoever is watched: power is lost before or after any effect. The tests here
//! are those of a replica.

use consilience::store::{Disk, FileStore, StoreError};

use crate::simulated::{Loss, Simulated};
use crate::watch::{Effect, Survive, Watch};
use crate::workload::Watched;
use crate::world::{Dice, Disk as Stored};

/// What the store gives back of a folder.
fn read(disk: &Simulated) -> Result<Stored, StoreError> {
    let (_, stored) = FileStore::open_on(Box::new(disk.handle()))?;
    Ok(Stored { snapshot: stored.snapshot, records: stored.records })
}

/// Runs the workload on a disk until an effect fails; whether one did.
fn run<W: Watch>(disk: &Simulated, watched: &mut W) -> bool {
    steps(disk, watched, W::STEPS, || Box::new(disk.handle()), |_| ()).is_err()
}

/// Does these steps through a store; `handle` gives a handle of the disk, and `knows` is told before each call of the store.
pub fn steps<W: Watch>(
    disk: &Simulated,
    watched: &mut W,
    steps: &[W::Step],
    handle: impl Fn() -> Box<dyn Disk>,
    mut knows: impl FnMut(&W),
) -> Result<(), StoreError> {
    knows(watched);
    let (mut store, _) = FileStore::open_on(handle())?;
    for step in steps.iter().copied() {
        let effect = watched.effect(step);
        watched.act(step);
        watched.leak();
        knows(watched);
        match effect {
            Effect::Write => {
                for record in watched.poll() {
                    knows(watched);
                    store.append(&record)?;
                    watched.leak();
                }
            }
            Effect::Sync => {
                if let Some(id) = store.sync()? {
                    watched.leak();
                    watched.confirm(id);
                }
            }
            Effect::Snapshot => {
                let snapshot = watched.snapshot();
                knows(watched);
                store.install_snapshot(&snapshot)?;
                watched.leak();
                watched.confirm_snapshot(snapshot.covers());
            }
            Effect::Resume | Effect::Restore => {
                drop(store);
                let (again, stored) = FileStore::open_on(handle())?;
                store = again;
                let stored = Stored { snapshot: stored.snapshot, records: stored.records };
                watched.open_again(&stored, effect == Effect::Restore);
            }
            Effect::Copy => {
                let copy = Simulated::default();
                *copy.state() = disk.state().clone();
                copy.lose_power(Loss::None);
                watched.copy(&read(&copy)?);
            }
            Effect::Lose => {
                drop(store);
                disk.state().lose_all();
                watched.start_over();
                knows(watched);
                (store, _) = FileStore::open_on(handle())?;
            }
            Effect::Nothing => {}
        }
        watched.leak();
    }
    knows(watched);
    Ok(())
}

fn effects<W: Watch>(seed: u64) -> usize {
    let disk = Simulated::default();
    assert!(!run(&disk, &mut W::new(seed)));
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
fn survive(disk: &Simulated, after: &impl Survive, name: &str) {
    let stored = read(disk).unwrap_or_else(|error| panic!("{name}: {error}"));
    after.survive(&stored, false, name);
}

/// Power is lost before or after each effect, and any part of what was not synced with it. Of a write that was torn, it
/// is torn after each `torn` bytes.
pub fn lost<W: Watch>(torn: usize) {
    for seed in [2, 3] {
        for number in 0..effects::<W>(seed) {
            for done in [false, true] {
                let disk = Simulated::default();
                disk.state().fail = Some((number, done));
                let mut watched = W::new(seed);
                assert!(run(&disk, &mut watched), "effect {number}");
                let (after, state) = (watched.aftermath(), disk.state().clone());
                // More often where the write itself is what was torn.
                let every = if done { torn } else { 29 * torn };
                for loss in losses(&disk, number, every) {
                    *disk.state() = state.clone();
                    disk.lose_power(loss);
                    survive(&disk, &after, &format!("seed {seed}, effect {number}, done {done}, {loss:?}"));
                }
            }
        }
    }
}

/// As a host does it: the store is opened, whoever stores comes back, goes on, and the power fails again.
pub fn lost_again<W: Watch>() {
    let effects = effects::<W>(2);
    for seed in 0..40_u64 {
        let mut dice = Dice::new(seed);
        let disk = Simulated::default();
        disk.state().fail = Some((dice.index(effects), dice.one_in(2)));
        let mut watched = W::new(2);
        assert!(run(&disk, &mut watched));
        for round in 0..4_u64 {
            let name = format!("seed {seed}, round {round}");
            disk.lose_power([Loss::All, Loss::None, Loss::Some(dice.roll(1 << 40))][dice.index(3)]);
            let (store, stored) = FileStore::open_on(Box::new(disk.handle())).unwrap();
            let stored = Stored { snapshot: stored.snapshot, records: stored.records };
            watched.aftermath().survive(&stored, false, &name);
            watched.come_back(&stored);
            let done = disk.state().effects;
            disk.state().fail = Some((done + dice.index(30), dice.one_in(2)));
            let _ = go_on(store, &mut watched, &mut dice);
        }
    }
}

fn go_on(mut store: FileStore, watched: &mut impl Watch, dice: &mut Dice) -> Result<(), StoreError> {
    for _ in 0..12 {
        watched.go_on(dice);
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

/// A flipped bit anywhere: the store or the journal says so, or what is left survives.
pub fn flipped<W: Watch>() {
    // At one time all that is there may be known to be durable, at another none of it.
    let (mut told, mut harmless) = (0, 0);
    for until in [14, 34, 45, 60] {
        let disk = Simulated::default();
        let mut watched = W::new(2);
        disk.state().fail = Some((effects::<W>(2) * until / 60 - 1, true));
        run(&disk, &mut watched);
        disk.lose_power(Loss::None);
        let (after, all) = (watched.aftermath(), disk.state().clone());
        let mut dice = Dice::new(until as u64);
        for name in all.names() {
            *disk.state() = all.clone();
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
        println!("until {until}: {told} told and {harmless} harmless so far");
        assert!(after.has_confirmed());
    }
    assert!(told > 0 && harmless > 0);
}

#[test]
fn power_lost_at_any_effect_of_a_file_store_loses_nothing_confirmed_and_forks_nothing() {
    lost::<Watched>(1);
}

#[test]
fn power_lost_again_and_again_under_a_replica_loses_nothing_confirmed() {
    lost_again::<Watched>();
}

#[test]
fn a_flipped_bit_in_any_file_is_told_or_forks_nothing() {
    flipped::<Watched>();
}
