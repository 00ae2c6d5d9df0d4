//! Records in a row of bytes, and a snapshot beside them that is replaced at once, under whoever is watched. The tests
//! here are those of a replica.

use consilience::journal::{Area, Damage, RecordId, recover};

use crate::watch::{Effect, Survive as _, Watch};
use crate::workload::Watched;
use crate::world::{Dice, Disk, mesh};

/// A record as it is on storage.
#[derive(Clone, Debug)]
struct Stays {
    id: u64,
    /// What was confirmed when it was written.
    mark: u64,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Storage {
    snapshot: Option<Vec<u8>>,
    covers: u64,
    durable: Vec<Stays>,
    /// Written, and not synced.
    pending: Vec<Stays>,
}

impl Storage {
    fn disk(&self, kept: impl IntoIterator<Item = Vec<u8>>) -> Disk {
        let durable = self.durable.iter().flat_map(|record| &record.bytes);
        let records = durable.copied().chain(kept.into_iter().flatten()).collect();
        Disk { snapshot: self.snapshot.clone(), records }
    }

    fn all(&self) -> impl Iterator<Item = &Stays> {
        self.durable.iter().chain(&self.pending)
    }

    fn sync(&mut self) {
        self.durable.append(&mut self.pending);
    }
}

/// What is on storage, what is known, and where, between two effects.
type Boundary<W> = (Storage, <W as Watch>::Aftermath, String);

/// The workload, with what is on storage and known between any two effects. From step `fails` on no sync succeeds.
fn boundaries<W: Watch>(seed: u64, fails: usize) -> Vec<Boundary<W>> {
    let mut watched = W::new(seed);
    let mut storage = Storage::default();
    let mut all = Vec::new();
    let mut note = |watched: &mut W, storage: &Storage, what: String| {
        watched.leak();
        all.push((storage.clone(), watched.aftermath(), what));
    };
    for (number, step) in W::STEPS.iter().copied().enumerate() {
        let (failed, effect) = (number >= fails, watched.effect(step));
        if failed && matches!(effect, Effect::Snapshot | Effect::Resume | Effect::Restore | Effect::Lose) {
            break;
        }
        watched.act(step);
        match effect {
            Effect::Sync if failed => note(&mut watched, &storage, format!("step {number}, a sync failed")),
            Effect::Nothing if failed => {
                note(&mut watched, &storage, format!("step {number}, {step:?} unsynced"));
            }
            Effect::Write => {
                let mark = watched.confirmed();
                for record in watched.poll() {
                    storage.pending.push(Stays {
                        id: record.id().as_u64(),
                        mark,
                        bytes: record.into_bytes(),
                    });
                    note(&mut watched, &storage, format!("step {number}, a record was written"));
                }
            }
            Effect::Sync => {
                storage.sync();
                note(&mut watched, &storage, format!("step {number}, synced and not confirmed"));
                let last = storage.durable.last().map(|record| record.id);
                if let Some(last) = last {
                    watched.confirm(RecordId::from_u64(last));
                }
                note(&mut watched, &storage, format!("step {number}, confirmed"));
            }
            Effect::Snapshot => {
                let snapshot = watched.snapshot();
                storage.sync();
                note(&mut watched, &storage, format!("step {number}, synced for a snapshot"));
                let covers = snapshot.covers();
                storage.covers = covers.as_u64();
                storage.snapshot = Some(snapshot.into_bytes());
                note(&mut watched, &storage, format!("step {number}, a snapshot is there"));
                watched.confirm_snapshot(covers);
                note(&mut watched, &storage, format!("step {number}, a snapshot is confirmed"));
                storage.durable.retain(|record| record.id > covers.as_u64());
                note(&mut watched, &storage, format!("step {number}, records are dropped"));
            }
            Effect::Resume | Effect::Restore => {
                assert!(storage.pending.is_empty());
                watched.open_again(&storage.disk([]), effect == Effect::Restore);
                note(&mut watched, &storage, format!("step {number}, opened again"));
            }
            Effect::Copy => {
                watched.copy(&storage.disk([]));
                note(&mut watched, &storage, format!("step {number}, copied"));
            }
            Effect::Lose => {
                storage = Storage::default();
                watched.start_over();
                note(&mut watched, &storage, format!("step {number}, storage is lost"));
            }
            Effect::Nothing => note(&mut watched, &storage, format!("step {number}, {step:?}")),
        }
    }
    all
}

fn cases() -> u64 {
    std::env::var("CONSILIENCE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

fn runs<W: Watch>() -> impl Iterator<Item = Boundary<W>> {
    // One writer carries as soon as it can, the other late.
    [2, 3].into_iter().flat_map(|seed| boundaries::<W>(seed, usize::MAX))
}

/// Of what was not synced, all is gone, or all is there.
pub fn all_or_none<W: Watch>() {
    for (storage, after, name) in runs::<W>() {
        after.survive(&storage.disk([]), false, &format!("{name}: all unsynced is gone"));
        let kept = storage.pending.iter().map(|record| record.bytes.clone());
        after.survive(&storage.disk(kept), false, &format!("{name}: all is there"));
    }
}

/// Of what was not synced, some is there, in any order.
pub fn in_part<W: Watch>() {
    for (storage, after, name) in runs::<W>() {
        if storage.pending.is_empty() {
            continue;
        }
        for seed in 0..cases() {
            let mut dice = Dice::new(seed);
            let mut kept: Vec<Vec<u8>> = storage
                .pending
                .iter()
                .map(|record| record.bytes.clone())
                .filter(|_| !dice.one_in(3))
                .collect();
            for at in (1..kept.len()).rev() {
                kept.swap(at, dice.index(at + 1));
            }
            for record in &mut kept {
                if dice.one_in(3) {
                    // Blocks that were never written read as zeros.
                    let from = dice.index(record.len());
                    record[from..].fill(0);
                }
            }
            after.survive(&storage.disk(kept), false, &format!("{name}: subset {seed}"));
        }
    }
}

/// The last record is torn, at every byte.
pub fn torn<W: Watch>() {
    for (storage, after, name) in runs::<W>() {
        let Some((last, before)) = storage.pending.split_last() else { continue };
        if !name.contains("written") {
            continue;
        }
        for end in 0..last.bytes.len() {
            let kept = before.iter().map(|record| record.bytes.clone()).chain([last.bytes[..end].to_vec()]);
            after.survive(&storage.disk(kept), false, &format!("{name}: torn at {end}"));
        }
    }
}

/// Damage is told exactly where a later record knows that what is damaged had been confirmed. Elsewhere it is cut, and
/// a writer goes on in its next incarnation.
pub fn flipped<W: Watch>() {
    for (number, (storage, after, name)) in runs::<W>().enumerate() {
        let all: Vec<&Stays> = storage.all().collect();
        let mut dice = Dice::new(number as u64);
        let mut start = 0;
        for (place, record) in all.iter().enumerate() {
            for _ in 0..4 {
                let bit = dice.index(record.bytes.len() * 8);
                let mut disk = storage.disk(storage.pending.iter().map(|record| record.bytes.clone()));
                disk.records[start + bit / 8] ^= 1 << (bit % 8);
                let later = &all[place + 1..];
                let vouched = record.id > storage.covers && later.iter().any(|later| later.mark >= record.id);
                let name = format!("{name}: bit {bit} of record {}", record.id);
                let recovered = recover(&mesh(), disk.snapshot.as_deref(), &disk.records);
                match recovered {
                    Err(corrupt) => {
                        assert!(vouched, "{name}: {corrupt}");
                        assert_eq!((corrupt.part, corrupt.offset), (Area::Records, start), "{name}");
                        assert_eq!(corrupt.damage, Damage::Lost, "{name}");
                        assert_eq!(W::refusal(&disk), Some(corrupt), "{name}");
                        // The good part serves as a backup.
                        disk.records.truncate(start);
                        after.as_backup().survive(&disk, true, &name);
                    }
                    Ok(recovered) => {
                        assert!(!vouched, "{name}: a record knows that it was confirmed");
                        if record.id > storage.covers {
                            assert_eq!(recovered.last().as_u64(), record.id - 1, "{name}");
                            assert_eq!(recovered.cut().map(|cut| cut.offset), Some(start), "{name}");
                        } else {
                            assert_eq!(recovered.cut().is_some(), later.is_empty(), "{name}");
                        }
                        after.survive(&disk, true, &name);
                    }
                }
            }
            start += record.bytes.len();
        }
        if let Some(snapshot) = &storage.snapshot {
            for _ in 0..4 {
                let mut snapshot = snapshot.clone();
                let bit = dice.index(snapshot.len() * 8);
                snapshot[bit / 8] ^= 1 << (bit % 8);
                let corrupt = recover(&mesh(), Some(&snapshot), &[]).unwrap_err();
                assert_eq!((corrupt.part, corrupt.damage), (Area::Snapshot, Damage::Lost), "{name}");
            }
        }
    }
}

/// A sync fails, and the host goes on without a confirmation until the power fails.
pub fn failed_sync<W: Watch>() {
    let watched = W::new(2);
    let syncs = W::STEPS.iter().enumerate().filter(|(_, step)| watched.effect(**step) == Effect::Sync);
    for (fails, _) in syncs {
        for seed in [2, 3] {
            for (storage, after, name) in boundaries::<W>(seed, fails) {
                if name.contains("failed") || name.contains("unsynced") {
                    after.survive(&storage.disk([]), false, &format!("{name}: all is gone"));
                    let kept = storage.pending.iter().map(|record| record.bytes.clone());
                    after.survive(&storage.disk(kept), false, &format!("{name}: all is there"));
                }
            }
        }
    }
}

#[test]
fn what_was_not_synced_may_be_gone_or_be_there() {
    all_or_none::<Watched>();
}

#[test]
fn what_was_not_synced_may_be_there_in_part_and_in_any_order() {
    in_part::<Watched>();
}

#[test]
fn the_last_record_may_be_torn_at_every_byte() {
    torn::<Watched>();
}

#[test]
fn a_flipped_bit_is_told_where_it_was_confirmed_and_cut_elsewhere() {
    flipped::<Watched>();
}

/// A host that goes on writing must not confirm; then nothing leaves, and when the power fails nothing that left is lost.
#[test]
fn after_a_failed_sync_nothing_leaves_any_more() {
    failed_sync::<Watched>();
}
