//! What storage may do to the bytes of records and snapshots.

use consilience_sync::journal::{
    Area, ConfirmError, Damage, Journal, JournalItem, Record, RecordId, SnapshotWriter, recover,
};
use consilience_sync::{LogId, MeshId};

use crate::world::{Dice, mesh, seeds};

/// Records, each with one note, and what was confirmed when it was written.
fn journal(confirmed: &[u64]) -> Vec<Record> {
    let mut journal = Journal::new(&mesh());
    confirmed.iter().map(|&mark| record(&mut journal, mark)).collect()
}

fn record(journal: &mut Journal, mark: u64) -> Record {
    journal.confirm(RecordId::from_u64(mark)).unwrap();
    let number = journal.open_id().as_u64();
    // Some have what a record begins with in them.
    let body = [number as u8, 0xf5, 0x63, 0x4a, 0xe7, 0xf5, 0x63, 0x4a];
    let len = if number.is_multiple_of(2) { 8 } else { 1 };
    journal.push(&JournalItem::Note { kind: 1, bytes: &body[..len] });
    assert_eq!(journal.seal(), Some(RecordId::from_u64(number)));
    journal.poll().unwrap()
}

fn joined(records: &[Record]) -> Vec<u8> {
    records.iter().flat_map(|record| record.as_bytes().to_vec()).collect()
}

/// The notes that come back, by their first byte; and whether the end was cut.
fn notes(snapshot: Option<&[u8]>, bytes: &[u8]) -> Result<(Vec<u8>, bool), (Area, Damage)> {
    let recovered = recover(&mesh(), snapshot, bytes).map_err(|error| (error.part, error.damage))?;
    let notes = recovered.items().map(|item| match item {
        JournalItem::Note { kind: 1, bytes } => bytes[0],
        other => panic!("{other:?}"),
    });
    let notes: Vec<u8> = notes.collect();
    assert_eq!(recovered.cut().map_or(bytes.len(), |cut| cut.offset), recovered.good_to());
    let again = recover(&mesh(), snapshot, &bytes[..recovered.good_to()]).unwrap();
    assert_eq!((again.items().count(), again.last()), (notes.len(), recovered.last()));
    assert_eq!(recovered.journal().open_id(), recovered.last().next());
    Ok((notes, recovered.cut().is_some()))
}

const LOST: Result<(Vec<u8>, bool), (Area, Damage)> = Err((Area::Records, Damage::Lost));

/// What has to come of it if record `gone` (from 1) cannot be read, and those of `later` can.
fn expected(gone: usize, later: &[Record], marks: &[u64]) -> Result<(Vec<u8>, bool), (Area, Damage)> {
    let known = later.iter().any(|record| marks[record.id().as_u64() as usize - 1] >= gone as u64);
    if known { LOST } else { Ok(((1..gone as u8).collect(), true)) }
}

const MARKS: [&[u64]; 4] = [&[0, 0, 0, 0, 0], &[0, 1, 2, 3, 4], &[0, 0, 1, 1, 3], &[0, 0, 0, 2, 2]];

#[test]
fn a_journal_that_is_torn_at_any_byte_gives_the_records_before() {
    for marks in MARKS {
        let records = journal(marks);
        let bytes = joined(&records);
        for cut in 0..=bytes.len() {
            let mut end = 0;
            let whole = records.iter().take_while(|record| {
                end += record.as_bytes().len();
                end <= cut
            });
            let whole = whole.count();
            let boundary = joined(&records[..whole]).len() == cut;
            assert_eq!(notes(None, &bytes[..cut]), Ok(((1..=whole as u8).collect(), !boundary)), "{cut}");
            // Zeros where the rest should be, as file systems leave them.
            let mut zeros = bytes[..cut].to_vec();
            zeros.resize(bytes.len() + 1, 0);
            assert!(notes(None, &zeros).unwrap().1);
        }
    }
}

#[test]
fn one_flipped_bit_is_corruption_where_a_later_record_knows_better_and_a_cut_where_none_does() {
    for marks in MARKS {
        let records = journal(marks);
        let bytes = joined(&records);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut end = 0;
            let hit = records.iter().position(|record| {
                end += record.as_bytes().len();
                bit / 8 < end
            });
            let hit = hit.unwrap();
            let found = notes(None, &flipped);
            assert_eq!(found, expected(hit + 1, &records[hit + 1..], marks), "bit {bit} of {marks:?}");
        }
    }
}

#[test]
fn missing_doubled_and_reordered_records_follow_the_same_rule() {
    for marks in MARKS {
        let records = journal(marks);
        for gone in 0..records.len() {
            let mut left = records.clone();
            left.remove(gone);
            let last = gone + 1 == records.len();
            let wanted = if last {
                Ok(((1..=gone as u8).collect(), false))
            } else {
                expected(gone + 1, &left[gone..], marks)
            };
            assert_eq!(notes(None, &joined(&left)), wanted, "without {gone}");

            let mut twice = records.clone();
            twice.insert(gone, records[gone].clone());
            assert_eq!(notes(None, &joined(&twice)), Ok((vec![1, 2, 3, 4, 5], false)));
            twice.push(records[gone].clone());
            assert_eq!(notes(None, &joined(&twice)), Ok((vec![1, 2, 3, 4, 5], false)));
        }
        for at in 1..records.len() {
            let mut swapped = records.clone();
            swapped.swap(at - 1, at);
            assert_eq!(
                notes(None, &joined(&swapped)),
                expected(at, &swapped[at - 1..], marks),
                "{at} {marks:?}"
            );
        }
    }
}

#[test]
fn a_failed_attempt_before_the_record_itself_does_no_harm() {
    let records = journal(MARKS[1]);
    for torn in 1..records[2].as_bytes().len() {
        let bytes =
            [&joined(&records[..2])[..], &records[2].as_bytes()[..torn], &joined(&records[2..])].concat();
        assert_eq!(notes(None, &bytes), Ok((vec![1, 2, 3, 4, 5], false)));
    }
}

#[test]
fn another_record_under_a_known_id_is_not_taken() {
    let records = journal(MARKS[0]);
    let mut other = Journal::new(&mesh());
    other.push(&JournalItem::Note { kind: 1, bytes: b"x" });
    other.seal();
    let other = other.poll().unwrap();
    let bytes = [&joined(&records)[..], other.as_bytes()].concat();
    assert_eq!(notes(None, &bytes), Ok((vec![1, 2, 3, 4, 5], true)));
}

#[test]
fn another_mesh_is_told_from_damage() {
    let bytes = joined(&journal(MARKS[1]));
    let other = MeshId::from_bytes([8; 32]);
    let error = recover(&other, None, &bytes).unwrap_err();
    assert_eq!((error.part, error.offset, error.damage), (Area::Records, 0, Damage::OtherMesh));
    let snapshot = SnapshotWriter::new(&mesh(), RecordId::NONE).finish();
    let error = recover(&other, Some(snapshot.as_bytes()), &[]).unwrap_err();
    assert_eq!((error.part, error.damage), (Area::Snapshot, Damage::OtherMesh));
}

#[test]
fn a_snapshot_takes_the_place_of_what_it_covers() {
    let records = journal(MARKS[1]);
    for covers in 0..=5 {
        let mut writer = SnapshotWriter::new(&mesh(), RecordId::from_u64(covers));
        writer.push(&JournalItem::Note { kind: 1, bytes: b"s" });
        let snapshot = writer.finish();
        for from in 0..=covers as usize {
            let wanted: Vec<u8> = core::iter::once(b's').chain(covers as u8 + 1..=5).collect();
            let found = notes(Some(snapshot.as_bytes()), &joined(&records[from..]));
            assert_eq!(found, Ok((wanted, false)));
        }
        if covers < 3 {
            let missing = joined(&records[covers as usize + 1..]);
            assert_eq!(notes(Some(snapshot.as_bytes()), &missing), LOST, "{covers}");
        }
        // What is covered may be damaged.
        let mut bytes = joined(&records);
        bytes[6] ^= 1;
        let found = notes(Some(snapshot.as_bytes()), &bytes);
        assert_eq!(found.is_ok_and(|(_, cut)| !cut), covers >= 1, "{covers}");
    }
}

#[test]
fn a_snapshot_with_any_bit_flipped_or_byte_missing_is_refused() {
    let mut writer = SnapshotWriter::new(&mesh(), RecordId::from_u64(300));
    writer.push(&JournalItem::Forgotten { log: LogId::from_bytes([3; 32]) });
    writer.push(&JournalItem::Note { kind: 1, bytes: b"note" });
    let bytes = writer.finish().into_bytes();
    assert_eq!(recover(&mesh(), Some(&bytes), &[]).unwrap().last().as_u64(), 300);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(recover(&mesh(), Some(&flipped), &[]).unwrap_err().part, Area::Snapshot, "{bit}");
    }
    for cut in 0..bytes.len() {
        assert_eq!(recover(&mesh(), Some(&bytes[..cut]), &[]).unwrap_err().damage, Damage::Lost, "{cut}");
    }
}

#[test]
fn random_damage_never_panics_and_never_invents_anything() {
    seeds(2_000, |seed| {
        let mut dice = Dice::new(seed);
        let records = journal(MARKS[dice.index(4)]);
        let mut bytes = joined(&records);
        for _ in 0..1 + dice.roll(4) {
            let at = dice.index(bytes.len());
            let to = (at + dice.index(40)).min(bytes.len());
            match dice.roll(4) {
                0 => drop(bytes.drain(at..to)),
                1 => bytes[at] = dice.roll(256) as u8,
                2 => drop(bytes.splice(at..at, [0xf5, 0x63, 0x4a, 0xe7])),
                _ => {
                    let copy = bytes[at..to].to_vec();
                    let there = dice.index(bytes.len());
                    drop(bytes.splice(there..there, copy));
                }
            }
            if bytes.is_empty() {
                return;
            }
        }
        if let Ok((found, _)) = notes(None, &bytes) {
            assert_eq!(found, (1..=found.len() as u8).collect::<Vec<_>>());
        }
    });
}

#[test]
fn bytes_that_are_all_beginnings_take_linear_time() {
    // A length that reaches to the end behind each magic: hashing each would be 10¹³ bytes.
    let piece = [0xf5, 0x63, 0x4a, 0xe7, 0xff, 0xff, 0xff, 0x07];
    let bytes = piece.repeat(1 << 20);
    let recovered = recover(&mesh(), None, &bytes).unwrap();
    assert_eq!((recovered.good_to(), recovered.last()), (0, RecordId::NONE));
}

#[test]
fn only_what_was_polled_can_be_confirmed() {
    let mut journal = Journal::new(&mesh());
    let id = RecordId::from_u64;
    assert_eq!(journal.seal(), None);
    let refused = |journal: &mut Journal, number| {
        matches!(journal.confirm(id(number)), Err(ConfirmError::NotPolled { .. }))
    };
    for _ in 0..3 {
        journal.push(&JournalItem::Note { kind: 1, bytes: b"n" });
        journal.seal();
    }
    assert!(refused(&mut journal, 1));
    let (one, two) = (journal.poll().unwrap(), journal.poll().unwrap());
    assert_eq!((one.id(), two.id(), journal.last_sealed()), (id(1), id(2), id(3)));
    assert!(!one.is_own());
    assert!(refused(&mut journal, 3));
    assert_eq!(journal.confirm(id(2)), Ok(()));
    assert_eq!(journal.confirm(id(1)), Ok(()));
    assert_eq!(journal.confirmed(), id(2));
    assert!(journal.confirm_snapshot(id(4)).is_err());
    assert_eq!(journal.confirm_snapshot(id(3)), Ok(()));
    assert_eq!(journal.poll(), None);
    assert_eq!((journal.confirmed(), journal.waiting_bytes()), (id(3), 0));
    journal.push(&JournalItem::Append { log: LogId::from_bytes([1; 32]), seq: 0, entry: b"" });
    assert_eq!(journal.seal(), Some(id(4)));
    assert!(journal.poll().unwrap().is_own());
    assert_eq!(journal.last_own(), id(4));
}
